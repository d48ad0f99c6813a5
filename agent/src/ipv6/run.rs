//! One run of everything that this machine can do. The rest of the rubric stays not tested, and says so.

use std::net::IpAddr;
use std::time::Duration;

use extranet_proto::assignment::{Check, Family, Ipv6Probe, Probe, TcpProbe};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_proto::record::Reason;
use tokio::time::Instant;

use super::host::{Host, gateway};
use super::report::Report;
use super::{path, service};
use crate::measure::Targets;
use crate::probe::{Measured, Probes, Run};

/// Time for a TCP connection over IPv6.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// What every check of a run needs.
pub(super) struct Surroundings<'a> {
    pub(super) probes: &'a Probes,
    pub(super) targets: &'a Targets,
    /// Whom the bytes are charged to.
    pub(super) check: CheckId,
    pub(super) vrf: &'a str,
    pub(super) deadline: Instant,
    /// Whether the machine has a usable address and a default route.
    pub(super) can_reach_out: bool,
}

impl Surroundings<'_> {
    /// Runs a probe of one address, in the family of the address and no other.
    pub(super) async fn probe(&self, address: IpAddr, probe: Probe, time: Duration) -> Measured {
        let now = Instant::now();
        // What there was no time for says nothing about its target.
        if now >= self.deadline {
            return Measured::not_measured(Reason::LocalError, Duration::ZERO);
        }
        let deadline = self.deadline.min(now + time);
        let check = Check {
            stretch_last: false,
            id: self.check,
            target: TargetId(0),
            name: CheckName::new("ipv6").expect("a valid name"),
            family: Family::of(address),
            interval: time,
            timeout: deadline.saturating_duration_since(now),
            probe,
        };
        let run = Run {
            check: &check,
            address,
            vrf: self.vrf,
            deadline,
        };
        let measured = self.probes.run(run).await;
        // Nor does silence that was cut short.
        if measured.reason == Reason::Timeout && deadline < now + time {
            return Measured::not_measured(Reason::LocalError, measured.duration);
        }
        measured
    }
}

/// One TCP connection.
pub(super) async fn connect(around: &Surroundings<'_>, address: IpAddr, port: u16) -> Measured {
    let probe = Probe::Tcp(TcpProbe::to(port));
    around.probe(address, probe, CONNECT_TIME).await
}

/// Runs the rubric, at the latest until the deadline. An error says why the machine's own tables cannot be read.
pub async fn run(
    probes: &Probes,
    targets: &Targets,
    check: CheckId,
    probe: &Ipv6Probe,
    vrf: &str,
    deadline: Instant,
) -> std::io::Result<Report> {
    let host = tokio::task::spawn_blocking(Host::read)
        .await
        .map_err(std::io::Error::other)??;
    let around = Surroundings {
        probes,
        targets,
        check,
        vrf,
        deadline,
        can_reach_out: host.can_reach_out(),
    };
    let mut report = Report::default();
    host.judge(probe.allotted_prefix, &mut report);
    // Beside the gateway, which may take seconds to be asked (`DELAY_FIRST_PROBE`), everything else goes on.
    let mut gateways = Report::default();
    tokio::join!(gateway(&host, targets, deadline, &mut gateways), async {
        path::anchors(&around, probe, &mut report).await;
        path::collector(&around, probe, &mut report).await;
        service::resolver(&around, probe, &mut report).await;
        service::services(&around, probe, &mut report).await;
    });
    report.take_over("V6-B1", &gateways);
    Ok(report)
}

/// The run as a result of its check.
pub async fn measure(
    probes: &Probes,
    targets: &Targets,
    check: CheckId,
    probe: &Ipv6Probe,
    vrf: &str,
    deadline: Instant,
) -> Measured {
    let started = Instant::now();
    match run(probes, targets, check, probe, vrf, deadline).await {
        Ok(report) => Measured::ok(started.elapsed(), report.values()),
        Err(error) => {
            tracing::warn!(%error, "cannot read the kernel's tables");
            Measured::not_measured(Reason::LocalError, started.elapsed())
        }
    }
}
