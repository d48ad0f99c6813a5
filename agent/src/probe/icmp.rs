//! ICMP echo: one engine for all targets.
//!
//! One socket per family and way out (VRF or interface, fragments allowed or not), never one per target or packet. What
//! matters, and where it is done:
//!
//! - times: departure read just before the packet is handed to the kernel, arrival stamped by the kernel, so that a
//!   busy runtime does not lengthen a round trip; none across a step of the clock ([`crate::net::stamp`], `port`);
//! - identity: a token in the payload, not the 16 bits of the header (`token`);
//! - errors: "unreachable" and the like come through the socket's error queue with the packet they are about, and make
//!   an outcome at once, where others wait for the timeout (`port`, [`crate::packet::trouble`]);
//! - what became of each request of a run (`burst`), and all that came to nothing, counted (`counts`);
//! - what comes after the end of a run, told with the next one; buckets that grow from run to run (`track`);
//! - what was recorded can be replayed, without socket and clock (`desk`, [`replay`]);
//! - pace: the packets of all runs together keep a minimum distance (`pacer`).
//!
//! A burst ends when every request was answered or failed, at its deadline at the latest; a train lasts as long as its
//! interval. A run is [`Ok`](extranet_proto::record::Outcome::Ok) if there was any reply: how much loss is too much is for the collector to say.
//! Replies that the queue of our own socket dropped are not taken for loss of the path (`burst`, `Summary::forgive`).

mod burst;
mod counts;
mod desk;
mod histogram;
mod pacer;
mod port;
pub mod replay;
mod token;
mod track;
mod values;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use extranet_proto::assignment::{Check, Family, IcmpProbe};
use extranet_proto::id::ObjectId;
use extranet_proto::metric;
use extranet_proto::record::{Definition, ObjectKind, Value};
use extranet_proto::wire;
use tokio::sync::watch;
use tokio::time::Instant;

use self::burst::{Burst, Summary, Trouble};
use self::counts::Counters;
pub use self::counts::Counts;
use self::desk::{Scratch, ip_bytes};
use self::pacer::Pacer;
use self::port::{Patience, Port, Registered};
use self::track::{Track, Tracks};
use super::{Measured, ObjectIds, Run, Traffic};
use crate::net::departure::Departing;
use crate::net::icmp_socket::{Access, IcmpSocket, Way};
use crate::net::kernel_counts::wrong_checksums;
use crate::net::refusal::Refusal;
use crate::net::stamp::PacketClock;
use crate::packet::icmp::HEADER_BYTES;
use crate::shell::spawn_named;

/// The echo engine; cheap to clone. Its sockets are closed with the last clone.
#[derive(Debug, Clone)]
pub struct Engine(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: Mutex<Vec<OpenPort>>,
    pacer: Pacer,
    tracks: Tracks,
    objects: ObjectIds,
    clock: PacketClock,
    counters: Arc<Counters>,
    /// The kernel's count of wrong checksums when this engine was made.
    wrong_checksums_before: u64,
}

/// A port in use. Few: two for each way out, so a list is searched.
#[derive(Debug)]
struct OpenPort {
    family: Family,
    way: Way,
    /// The index of the device when the socket was bound to it: a device that was made again has another.
    device: Option<u32>,
    port: Arc<Port>,
    /// Dropping it ends the task that reads the socket.
    _keeps_open: watch::Sender<()>,
}

impl Engine {
    /// Opens nothing yet: a socket is opened by the first run that needs it.
    pub fn new(objects: ObjectIds) -> Self {
        Self(Arc::new(Inner {
            open: Mutex::default(),
            pacer: Pacer::default(),
            tracks: Tracks::default(),
            objects,
            clock: PacketClock::default(),
            counters: Arc::default(),
            wrong_checksums_before: wrong_checksums(),
        }))
    }

    /// The clock of its packets.
    pub fn clock(&self) -> &PacketClock {
        &self.0.clock
    }

    /// One burst or train of echo requests.
    pub async fn run(&self, run: &Run<'_>, probe: &IcmpProbe) -> Measured {
        let started = Instant::now();
        let family = Family::of(run.address);
        let way = Way {
            device: if probe.interface.is_empty() {
                run.vrf.to_owned()
            } else {
                probe.interface.clone()
            },
            dont_fragment: probe.dont_fragment,
        };
        let port = match self.port(family, &way) {
            Ok(port) => port,
            Err(refusal) => {
                return Measured::not_measured(refusal.reason, started.elapsed());
            }
        };
        let departing = Departing {
            dscp: probe.dscp,
            hop_limit: probe.hop_limit,
            source: probe.source,
        };
        let burst = Burst::new(run.address, probe.packets, probe.payload_bytes, departing);
        let burst = Arc::new(burst);
        let registered = port.register(Arc::clone(&burst));
        self.send_all(run, probe, &registered, started).await;
        if tokio::time::timeout_at(run.deadline, burst.settled())
            .await
            .is_err()
        {
            // Where the runtime is late with everything, replies that were in time wait in the socket.
            registered.catch_up();
        }
        let key = (run.check.id, run.address);
        let mut track = self.0.tracks.take(key);
        let before = track.last.take().map(|last| last.take_stragglers());
        let mut summary = burst.summary(before.unwrap_or_default());
        summary.forgive(registered.overflowed());
        track.last = Some(registered);
        let measured = self.measured(run.check, probe, &summary, &mut track, started.elapsed());
        self.0.tracks.put(key, track);
        let message = HEADER_BYTES + usize::from(probe.payload_bytes);
        measured.costing(Traffic {
            sent: summary.handed_over * ip_bytes(family, message),
            received: summary.stragglers.received_bytes,
        })
    }

    async fn send_all(
        &self,
        run: &Run<'_>,
        probe: &IcmpProbe,
        registered: &Registered,
        started: Instant,
    ) {
        let patience = if probe.steady {
            Patience::For(run.check.timeout)
        } else {
            Patience::Until(run.deadline)
        };
        let mut scratch = Scratch::default();
        for index in 0..probe.packets {
            let planned = started + probe.packet_interval * u32::from(index);
            wait_until(planned.min(run.deadline)).await;
            if let Some(slot) = self.0.pacer.take(Instant::now()) {
                wait_until(slot.min(run.deadline)).await;
            }
            if Instant::now() >= run.deadline {
                break;
            }
            // After a suspend the requests of a train must not leave all at once.
            if probe.steady && Instant::now() >= planned + probe.packet_interval {
                registered.leave_out(index);
                continue;
            }
            registered.send(index, patience, &mut scratch).await;
        }
    }

    /// The result, with what is counted from run to run.
    fn measured(
        &self,
        check: &Check,
        probe: &IcmpProbe,
        summary: &Summary,
        track: &mut Track,
        duration: Duration,
    ) -> Measured {
        if probe.histogram {
            let round_trips = summary.round_trips.iter().flatten().copied();
            track.histogram.add(summary.sent, round_trips);
        }
        let histogram = probe.histogram.then_some(&track.histogram);
        let definition = summary.trouble.map(|trouble| {
            let object = *track
                .trouble
                .get_or_insert_with(|| self.0.objects.allocate());
            definition(check, object, trouble)
        });
        let errors = definition.as_ref().map(|definition| Value {
            metric: metric::ICMP_ERRORS,
            object: definition.object,
            raw: summary.errors,
        });
        let mut measured = values::measured(summary, histogram, errors, duration);
        if errors.is_some_and(|errors| measured.values.contains(&errors)) {
            measured.definitions.extend(definition);
        }
        measured
    }

    /// What the machine allows now.
    pub fn capabilities(&self) -> Vec<wire::Capability> {
        let families = [
            (Family::V4, wire::Capability::Ipv4),
            (Family::V6, wire::Capability::Ipv6),
        ];
        let mut all = Vec::new();
        if may(Access::Datagram) {
            all.push(wire::Capability::IcmpDatagram);
        }
        if may(Access::Raw) {
            all.push(wire::Capability::IcmpRaw);
        }
        let families = families.into_iter().filter(|(family, _)| has(*family));
        all.extend(families.map(|(_, capability)| capability));
        all
    }

    /// Privilege tier (SEC-G0): 2 = raw sockets, 1 = datagram ICMP, 0 = neither.
    pub fn privilege_tier(&self) -> u8 {
        match (may(Access::Raw), may(Access::Datagram)) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        }
    }

    /// What the engine counted since the process started.
    pub fn counts(&self) -> Counts {
        let mut counts = self.0.counters.read();
        counts.bad_checksums = wrong_checksums().saturating_sub(self.0.wrong_checksums_before);
        counts
    }

    /// The port of a family and way out, opened if need be.
    fn port(&self, family: Family, way: &Way) -> Result<Arc<Port>, Refusal> {
        let device = index_of(&way.device);
        let mut open = locked(&self.0.open);
        let known = open
            .iter()
            .position(|entry| entry.family == family && entry.way == *way);
        if let Some(position) = known {
            if let Some(entry) = open.get(position).filter(|entry| entry.device == device) {
                return Ok(Arc::clone(&entry.port));
            }
            // The device is gone or another one now: so is the socket that was bound to it.
            open.swap_remove(position);
        }
        let (clock, counters) = (self.0.clock.clone(), Arc::clone(&self.0.counters));
        let port = Arc::new(Port::open(family, way, clock, counters)?);
        let (keeps_open, is_open) = watch::channel(());
        let reader = Arc::clone(&port);
        // Dropping the handle detaches the task; it ends with `keeps_open`.
        drop(spawn_named("icmp", async move {
            if let Err(error) = reader.read_until_closed(is_open).await {
                tracing::warn!(%error, "reading icmp socket ended");
            }
        }));
        open.push(OpenPort {
            family,
            way: way.clone(),
            device,
            port: Arc::clone(&port),
            _keeps_open: keeps_open,
        });
        Ok(port)
    }
}

/// What stands for the last error message of a run.
fn definition(check: &Check, object: ObjectId, trouble: Trouble) -> Definition {
    let labels = [
        ("offender", trouble.offender.to_string()),
        ("icmp_type", trouble.kind.to_string()),
        ("icmp_code", trouble.code.to_string()),
    ];
    Definition {
        object,
        check: check.id,
        kind: ObjectKind::IcmpError,
        labels: labels
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    }
}

/// Sleeps unless the moment has come: a timer costs a tick of a millisecond even then.
async fn wait_until(moment: Instant) {
    if moment > Instant::now() {
        tokio::time::sleep_until(moment).await;
    }
}

/// The index of a device; `None` for no device, or if it is not there.
fn index_of(device: &str) -> Option<u32> {
    if device.is_empty() {
        return None;
    }
    nix::net::if_::if_nametoindex(device).ok()
}

/// Whether the kernel lets this process open such a socket, in any family.
fn may(access: Access) -> bool {
    [Family::V4, Family::V6]
        .into_iter()
        .any(|family| IcmpSocket::open_with(family, access).is_ok())
}

/// Whether this machine speaks a version of IP.
fn has(family: Family) -> bool {
    let domain = match family {
        Family::V4 => socket2::Domain::IPV4,
        Family::V6 => socket2::Domain::IPV6,
    };
    socket2::Socket::new(domain, socket2::Type::DGRAM, None).is_ok()
}

/// Locks a mutex. What they guard here is whole between any two statements, so a panic of another holder leaves
/// nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
