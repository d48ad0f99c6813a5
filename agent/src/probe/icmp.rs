//! ICMP echo: one engine for all targets.
//!
//! One socket per family and VRF, never one per target or packet. What matters, and where it is done:
//!
//! - times: departure read just before the packet is handed to the kernel, arrival stamped by the kernel, so that a
//!   busy runtime does not lengthen a round trip ([`crate::net::stamp`], `port`);
//! - identity: a token in the payload, not the 16 bits of the header (`token`);
//! - errors: "unreachable" and the like come through the socket's error queue with the packet they are about, and make
//!   an outcome at once, where others wait for the timeout (`port`, [`crate::packet::trouble`]);
//! - what became of each request of a run (`burst`), and all that came to nothing, counted (`counts`);
//! - pace: the packets of all runs together keep a minimum distance (`pacer`).
//!
//! A run ends when every request was answered or failed, at its deadline at the latest. It is [`Outcome::Ok`] if there
//! was any reply: how much loss is too much is for the collector to say.

mod burst;
mod counts;
mod pacer;
mod port;
mod token;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use extranet_proto::assignment::{Family, IcmpProbe};
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Value};
use extranet_proto::wire;
use tokio::sync::watch;
use tokio::time::Instant;

use self::burst::{Burst, Summary};
use self::counts::Counters;
pub use self::counts::Counts;
use self::pacer::Pacer;
use self::port::{Port, Scratch};
use super::{Measured, Run, micros, own_value};
use crate::net::icmp_socket::{Access, IcmpSocket};
use crate::net::refusal::Refusal;
use crate::shell::spawn_named;

/// The echo engine; cheap to clone. Its sockets are closed with the last clone.
#[derive(Debug, Clone, Default)]
pub struct Engine(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: Mutex<Vec<OpenPort>>,
    pacer: Pacer,
    counters: Arc<Counters>,
}

/// A port in use. Few: two for each VRF, so a list is searched.
#[derive(Debug)]
struct OpenPort {
    family: Family,
    vrf: String,
    /// The index of the VRF device when the socket was bound to it: a device that was made again has another.
    device: Option<u32>,
    port: Arc<Port>,
    /// Dropping it ends the task that reads the socket.
    _keeps_open: watch::Sender<()>,
}

impl Engine {
    /// Opens nothing yet: a socket is opened by the first run that needs it.
    pub fn new() -> Self {
        Self::default()
    }

    /// One burst of echo requests.
    pub async fn run(&self, run: &Run<'_>, probe: &IcmpProbe) -> Measured {
        let started = Instant::now();
        let port = match self.port(Family::of(run.address), run.vrf) {
            Ok(port) => port,
            Err(refusal) => {
                return Measured::not_measured(refusal.reason, started.elapsed());
            }
        };
        let burst = Arc::new(Burst::new(run.address, probe.packets, probe.payload_bytes));
        let registered = port.register(Arc::clone(&burst));
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
            registered.send(index, run.deadline, &mut scratch).await;
        }
        if tokio::time::timeout_at(run.deadline, burst.settled())
            .await
            .is_err()
        {
            // Where the runtime is late with everything, replies that were in time wait in the socket.
            registered.catch_up();
        }
        drop(registered);
        measured(&burst.summary(), started.elapsed())
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
        self.0.counters.read()
    }

    /// The port of a family and VRF, opened if need be.
    fn port(&self, family: Family, vrf: &str) -> Result<Arc<Port>, Refusal> {
        let device = device_of(vrf);
        let mut open = locked(&self.0.open);
        let known = open
            .iter()
            .position(|entry| entry.family == family && entry.vrf == vrf);
        if let Some(position) = known {
            if let Some(entry) = open.get(position).filter(|entry| entry.device == device) {
                return Ok(Arc::clone(&entry.port));
            }
            // The device is gone or another one now: so is the socket that was bound to it.
            open.swap_remove(position);
        }
        let port = Arc::new(Port::open(family, vrf, Arc::clone(&self.0.counters))?);
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
            vrf: vrf.to_owned(),
            device,
            port: Arc::clone(&port),
            _keeps_open: keeps_open,
        });
        Ok(port)
    }
}

/// Sleeps unless the moment has come: a timer costs a tick of a millisecond even then.
async fn wait_until(moment: Instant) {
    if moment > Instant::now() {
        tokio::time::sleep_until(moment).await;
    }
}

/// The index of a VRF's device; `None` for the default routing table, or if it is not there.
fn device_of(vrf: &str) -> Option<u32> {
    if vrf.is_empty() {
        return None;
    }
    nix::net::if_::if_nametoindex(vrf).ok()
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

/// The result of a run. Values that are not known are not there: no reply, no round trip.
fn measured(summary: &Summary, duration: Duration) -> Measured {
    if summary.received == 0 && summary.refusal.outcome == Outcome::NotMeasured {
        return Measured::not_measured(summary.refusal.reason, duration);
    }
    let mut values = vec![
        own_value(metric::ICMP_SENT, summary.sent),
        own_value(metric::ICMP_RECEIVED, summary.received),
    ];
    values.extend(round_trip_values(&summary.round_trips));
    if let Some(hop_limit) = summary.hop_limit {
        values.push(own_value(metric::ICMP_HOP_LIMIT, u64::from(hop_limit)));
    }
    values.push(own_value(metric::ICMP_DUPLICATES, summary.duplicates));
    if summary.received > 0 {
        Measured::ok(duration, values)
    } else {
        Measured::failed(summary.refusal.reason, duration, values)
    }
}

/// Minimum, mean, maximum and jitter: the mean absolute difference of the round trips of consecutive requests, both of
/// which were answered (RFC 3393 section 4.5); a single round trip has none.
fn round_trip_values(round_trips: &[Option<Duration>]) -> Vec<Value> {
    let known = || round_trips.iter().flatten().copied();
    let mut values = Vec::new();
    let (Some(min), Some(avg), Some(max)) = (known().min(), mean(known()), known().max()) else {
        return values;
    };
    values.push(own_value(metric::ICMP_RTT_MIN, micros(min)));
    values.push(own_value(metric::ICMP_RTT_AVG, micros(avg)));
    values.push(own_value(metric::ICMP_RTT_MAX, micros(max)));
    let differences = round_trips.windows(2).filter_map(|pair| match pair {
        [Some(before), Some(after)] => Some(before.abs_diff(*after)),
        _ => None,
    });
    if let Some(jitter) = mean(differences) {
        values.push(own_value(metric::ICMP_JITTER, micros(jitter)));
    }
    values
}

fn mean(durations: impl Iterator<Item = Duration>) -> Option<Duration> {
    let (sum, count) = durations.fold((Duration::ZERO, 0_u32), |(sum, count), duration| {
        (sum + duration, count + 1)
    });
    sum.checked_div(count)
}

/// Locks a mutex. What they guard here is whole between any two statements, so a panic of another holder leaves
/// nothing half done.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use extranet_proto::metric::Metric;
    use extranet_proto::record::Reason;

    use super::*;

    fn summary(round_trips_us: &[Option<u64>]) -> Summary {
        let received = round_trips_us.iter().flatten().count();
        Summary {
            sent: round_trips_us.len() as u64,
            received: received as u64,
            duplicates: 2,
            hop_limit: (received > 0).then_some(61),
            round_trips: round_trips_us
                .iter()
                .map(|us| us.map(Duration::from_micros))
                .collect(),
            refusal: Refusal::failed(Reason::Timeout),
        }
    }

    fn values(measured: &Measured) -> Vec<(Metric, u64)> {
        measured
            .values
            .iter()
            .map(|value| (value.metric, value.raw))
            .collect()
    }

    #[test]
    fn a_burst_becomes_eight_values() {
        let summary = summary(&[Some(100), Some(140), None, Some(50), Some(60)]);
        let measured = measured(&summary, Duration::from_millis(7));
        assert_eq!(measured.outcome, Outcome::Ok);
        assert_eq!(measured.duration, Duration::from_millis(7));
        // Jitter over (100, 140) and (50, 60) only.
        let expected = [
            (metric::ICMP_SENT, 5),
            (metric::ICMP_RECEIVED, 4),
            (metric::ICMP_RTT_MIN, 50),
            (metric::ICMP_RTT_AVG, 87),
            (metric::ICMP_RTT_MAX, 140),
            (metric::ICMP_JITTER, 25),
            (metric::ICMP_HOP_LIMIT, 61),
            (metric::ICMP_DUPLICATES, 2),
        ];
        assert_eq!(values(&measured), expected);
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let lost = measured(&summary(&[None, None]), Duration::ZERO);
        assert_eq!(
            (lost.outcome, lost.reason),
            (Outcome::Failed, Reason::Timeout)
        );
        let expected = [
            (metric::ICMP_SENT, 2),
            (metric::ICMP_RECEIVED, 0),
            (metric::ICMP_DUPLICATES, 2),
        ];
        assert_eq!(values(&lost), expected);

        let single = measured(&summary(&[Some(9)]), Duration::ZERO);
        assert!(
            single
                .values
                .iter()
                .all(|value| value.metric != metric::ICMP_JITTER)
        );
    }

    #[test]
    fn what_could_not_be_sent_has_no_values() {
        let mut summary = summary(&[None]);
        summary.refusal = Refusal::not_measured(Reason::NoAddress);
        let measured = measured(&summary, Duration::ZERO);
        assert_eq!(measured.outcome, Outcome::NotMeasured);
        assert!(measured.values.is_empty());
    }
}
