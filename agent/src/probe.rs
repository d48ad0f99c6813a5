//! The probe seam: one run of a check goes in, what was measured comes out.
//!
//! - [`icmp`]: echo over one socket per family and VRF, for all targets together;
//! - [`tcp`]: a connection opened and closed at once;
//! - [`udp`]: datagrams that come back as they are;
//! - [`ntp`]: one exchange with a time server;
//! - [`snmp`]: scrapes of SNMP modules;
//! - [`dns`]: one query to a name server;
//! - [`tls`]: one handshake, and what the server showed;
//! - [`http`]: one GET, with or without TLS.
//!
//! A probe never fails: whatever goes wrong is an [`Outcome`] with a [`Reason`]. [`Outcome::Failed`] is a verdict on
//! the target or the path, [`Outcome::NotMeasured`] says that this machine could not measure.

pub mod dns;
mod endpoint;
pub mod http;
pub mod icmp;
mod label;
mod meter;
pub mod ntp;
pub mod path;
mod round_trips;
pub mod snmp;
pub mod tcp;
pub mod tls;
pub mod udp;

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use extranet_proto::assignment::{Check, Probe, SnmpModule};
use extranet_proto::id::ObjectId;
use extranet_proto::metric::Metric;
use extranet_proto::record::{Definition, EventKind, Outcome, Reason, Value};
use extranet_proto::wire;
use tokio::time::Instant;

use crate::account::Account;
use crate::clock::Clock;
use crate::identity::tls::CertificateTime;
use crate::measure::Targets;
use crate::net::refusal::Refusal;
use crate::net::stamp::PacketClock;
use crate::result::Recorder;
use crate::self_stats::Stats;
use crate::shell::Shutdown;

/// What a probe gets for one run.
#[derive(Debug, Clone, Copy)]
pub struct Run<'a> {
    /// The check.
    pub check: &'a Check,
    /// Its target: resolved, allowed, and of the check's family.
    pub address: IpAddr,
    /// Name of the VRF device; empty = the default routing table.
    pub vrf: &'a str,
    /// When the run must be over.
    pub deadline: Instant,
}

/// What one run gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measured {
    /// The verdict.
    pub outcome: Outcome,
    /// Why the outcome is not [`Outcome::Ok`].
    pub reason: Reason,
    /// How long the run took.
    pub duration: Duration,
    /// What was measured, in the order of the metric numbers.
    pub values: Vec<Value>,
    /// What the run discovered for the first time, or found changed.
    pub definitions: Vec<Definition>,
    /// What the run cost on the network.
    pub traffic: Traffic,
    /// What else is worth an event of the agent: kind, value, text. Makes the result urgent.
    pub notes: Vec<(EventKind, i64, String)>,
}

/// What one run put on the network and got from it: bytes of IP packets, headers of IP and above included, of the link
/// layer not. Exact where the probe builds its own packets, an estimate from payloads and handshakes where the kernel does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent, bytes.
    pub sent: u64,
    /// Received, bytes.
    pub received: u64,
}

impl Traffic {
    /// Adds what another run cost.
    pub fn add(&mut self, other: Self) {
        self.sent = self.sent.saturating_add(other.sent);
        self.received = self.received.saturating_add(other.received);
    }
}

impl Measured {
    /// The same run, with what it cost.
    #[must_use]
    pub fn costing(mut self, traffic: Traffic) -> Self {
        self.traffic = traffic;
        self
    }

    /// A run that ended well.
    pub fn ok(duration: Duration, values: Vec<Value>) -> Self {
        Self {
            outcome: Outcome::Ok,
            reason: Reason::None,
            duration,
            values,
            definitions: Vec::new(),
            traffic: Traffic::default(),
            notes: Vec::new(),
        }
    }

    /// A verdict on the target or the path.
    pub fn failed(reason: Reason, duration: Duration, values: Vec<Value>) -> Self {
        Self {
            outcome: Outcome::Failed,
            reason,
            duration,
            values,
            definitions: Vec::new(),
            traffic: Traffic::default(),
            notes: Vec::new(),
        }
    }

    /// A run that ended with a refusal; what was measured until then counts if the target is to blame.
    pub(crate) fn refused(refusal: Refusal, duration: Duration, values: Vec<Value>) -> Self {
        match refusal.outcome {
            Outcome::NotMeasured => Self::not_measured(refusal.reason, duration),
            Outcome::Ok | Outcome::Failed => Self::failed(refusal.reason, duration, values),
        }
    }

    /// The agent could not measure: says nothing about the target.
    pub fn not_measured(reason: Reason, duration: Duration) -> Self {
        Self {
            outcome: Outcome::NotMeasured,
            reason,
            duration,
            values: Vec::new(),
            definitions: Vec::new(),
            traffic: Traffic::default(),
            notes: Vec::new(),
        }
    }
}

/// A value of the target itself, not of an object on it.
pub(crate) const fn own_value(metric: Metric, raw: u64) -> Value {
    Value {
        metric,
        object: ObjectId(0),
        raw,
    }
}

/// Whole microseconds of a duration; saturates after 584,000 years.
pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Hands out the ids of what the probes discover: from 1, unique for the process and so for its incarnation.
#[derive(Debug, Clone)]
pub struct ObjectIds(Arc<AtomicU32>);

impl ObjectIds {
    /// An allocator whose first id is 1.
    pub fn new() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }

    /// An id that was never given before.
    ///
    /// Four billion objects are out of reach within one process: even a new id each second lasts 136 years.
    pub fn allocate(&self) -> ObjectId {
        ObjectId(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

impl Default for ObjectIds {
    fn default() -> Self {
        Self::new()
    }
}

/// All probes of an agent: one per process, cheap to clone.
#[derive(Clone)]
pub struct Probes {
    icmp: icmp::Engine,
    snmp: snmp::Poller,
    endpoints: endpoint::Endpoints,
    paths: path::Tracer,
    objects: ObjectIds,
    account: Option<Account>,
    /// Where redirects may lead besides the target itself.
    targets: Option<Targets>,
}

impl Probes {
    /// Opens nothing yet: sockets come with the first run that needs them.
    pub fn new(objects: ObjectIds) -> Self {
        Self {
            icmp: icmp::Engine::new(objects.clone()),
            snmp: snmp::Poller::new(objects.clone()),
            paths: path::Tracer::new(objects.clone()),
            endpoints: endpoint::Endpoints::new(
                objects.clone(),
                CertificateTime::new(Clock::system(), 0),
            ),
            objects,
            account: None,
            targets: None,
        }
    }

    /// The same, but what probes send and receive is charged to an account.
    #[must_use]
    pub fn with_account(mut self, account: Account) -> Self {
        self.account = Some(account);
        self
    }

    /// The same, but redirects are followed to these targets. Without, only on the target itself.
    #[must_use]
    pub fn within(mut self, targets: Targets) -> Self {
        self.targets = Some(targets);
        self
    }

    /// The same, but certificates are judged at the time that the agent learnt from its collector.
    #[must_use]
    pub fn with_certificate_time(mut self, time: CertificateTime) -> Self {
        self.endpoints.set_time(time);
        self
    }

    /// Starts to take notifications of the devices that are polled.
    pub fn serve_traps(
        &self,
        sockets: Vec<tokio::net::UdpSocket>,
        recorder: &Recorder,
        stats: &Arc<Stats>,
        stop: &Shutdown,
    ) {
        snmp::trap::serve(sockets, &self.snmp, recorder, stats, stop);
    }

    /// Takes the SNMP modules of the assignment that follows.
    pub fn use_snmp_modules(&self, modules: &[SnmpModule]) {
        self.snmp.use_modules(modules);
    }

    /// Runs one check, at the latest until its deadline. Needs a Tokio runtime with I/O and time.
    pub async fn run(&self, run: Run<'_>) -> Measured {
        let measured = self.run_uncharged(run).await;
        if let Some(account) = &self.account {
            account.charge_probe(run.check.id, run.vrf, run.address, measured.traffic);
        }
        measured
    }

    async fn run_uncharged(&self, run: Run<'_>) -> Measured {
        match &run.check.probe {
            Probe::Icmp(probe) => self.icmp.run(&run, probe).await,
            Probe::Tcp(probe) => tcp::run(&run, probe).await,
            // Boxed: a run of any kind would else take the memory of the largest one, echo requests too.
            Probe::Snmp(probe) => Box::pin(self.snmp.run(&run, probe)).await,
            Probe::Dns(probe) => Box::pin(dns::run(&run, probe)).await,
            Probe::Http(probe) => {
                let targets = self.targets.as_ref();
                Box::pin(http::run(&self.endpoints, targets, &run, probe)).await
            }
            Probe::Tls(probe) => Box::pin(tls::run(&self.endpoints, &run, probe)).await,
            Probe::Udp(probe) => Box::pin(udp::run(&run, probe)).await,
            Probe::Ntp(probe) => Box::pin(ntp::run(&run, probe)).await,
            Probe::Path(probe) => Box::pin(self.paths.run(&run, probe)).await,
            Probe::Traffic => match &self.account {
                Some(account) => account.measured(run.check.id, &self.objects),
                None => Measured::not_measured(Reason::Other, Duration::ZERO),
            },
            // Has many targets; `ipv6` runs it.
            Probe::Ipv6(_) => Measured::not_measured(Reason::Other, Duration::ZERO),
        }
    }

    /// What this agent can do on this machine, for the hello.
    pub fn capabilities(&self) -> Vec<wire::Capability> {
        let mut all = self.icmp.capabilities();
        all.push(wire::Capability::SnmpV1V2c);
        all.push(wire::Capability::SnmpV3);
        all
    }

    /// What the ICMP engine counted since the process started, for self-statistics.
    pub fn icmp_counts(&self) -> icmp::Counts {
        self.icmp.counts()
    }

    /// The clock that stamps the packets of the ICMP engine.
    pub fn packet_clock(&self) -> &PacketClock {
        self.icmp.clock()
    }

    /// Privilege tier (SEC-G0): 0 = ordinary sockets, 1 = datagram ICMP, 2 = raw sockets.
    pub fn privilege_tier(&self) -> u8 {
        self.icmp.privilege_tier()
    }
}

#[cfg(test)]
mod tests {
    use extranet_proto::assignment::{Family, IcmpProbe};
    use extranet_proto::id::{CheckId, CheckName, TargetId};

    use super::*;

    /// A thousand targets are measured at the same time: what each of them takes counts.
    #[tokio::test]
    async fn a_run_of_a_small_probe_is_small() {
        let check = Check {
            id: CheckId(1),
            target: TargetId(1),
            name: CheckName::new("small").unwrap(),
            family: Family::V4,
            interval: Duration::from_mins(1),
            timeout: Duration::from_secs(1),
            stretch_last: false,
            probe: Probe::Icmp(IcmpProbe::default()),
        };
        let probes = Probes::new(ObjectIds::new());
        let run = probes.run(Run {
            check: &check,
            address: IpAddr::from([127, 0, 0, 1]),
            vrf: "",
            deadline: Instant::now(),
        });
        let bytes = size_of_val(&run);
        assert!(bytes <= 4_096, "{bytes} bytes");
    }

    #[test]
    fn object_ids_start_at_one_and_are_shared_by_clones() {
        let ids = ObjectIds::new();
        let clone = ids.clone();
        assert_eq!(ids.allocate(), ObjectId(1));
        assert_eq!(clone.allocate(), ObjectId(2));
        assert_eq!(ids.allocate(), ObjectId(3));
    }
}
