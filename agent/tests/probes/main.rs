//! The probes against real kernels: network namespaces with a router and a far host between which everything can be
//! broken. Needs root; nothing leaves the namespaces.

#![expect(clippy::unwrap_used, reason = "a test ends where its laboratory fails")]

mod icmp;
mod icmp_answers;
mod namespace;
mod responder;
mod tcp;

use std::net::IpAddr;
use std::time::Duration;

use extranet_agent::probe::{Measured, ObjectIds, Probes, Run};
use extranet_proto::assignment::{Check, Family, IcmpProbe, Probe, TcpProbe};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_proto::metric::Metric;
use tokio::time::Instant;

/// Longer than anything here takes that is meant to end by itself.
const AMPLE: Duration = Duration::from_secs(20);

/// Like what an assignment would hold.
fn check_of(probe: Probe, address: IpAddr, timeout: Duration) -> Check {
    Check {
        stretch_last: false,
        id: CheckId(1),
        target: TargetId(1),
        name: CheckName::new("test").unwrap(),
        family: Family::of(address),
        interval: Duration::from_mins(1),
        timeout,
        probe,
    }
}

fn echoes(packets: u16) -> Probe {
    Probe::Icmp(IcmpProbe {
        packets,
        packet_interval: Duration::from_millis(20),
        payload_bytes: 56,
        ..IcmpProbe::default()
    })
}

fn connect(port: u16) -> Probe {
    Probe::Tcp(TcpProbe::to(port))
}

fn probes() -> Probes {
    Probes::new(ObjectIds::new())
}

/// One run in the default routing table.
async fn measure(probes: &Probes, probe: Probe, address: &str, timeout: Duration) -> Measured {
    measure_in(probes, probe, address, "", timeout).await
}

/// One run in the routing table of a device.
async fn measure_in(
    probes: &Probes,
    probe: Probe,
    address: &str,
    vrf: &str,
    timeout: Duration,
) -> Measured {
    let address: IpAddr = address.parse().unwrap();
    let check = check_of(probe, address, timeout);
    let run = Run {
        check: &check,
        address,
        vrf,
        deadline: Instant::now() + timeout,
    };
    probes.run(run).await
}

/// Runs a future to its end on a runtime of the current thread, so that its sockets belong to the thread's namespace.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn value(measured: &Measured, metric: Metric) -> Option<u64> {
    let mut found = measured
        .values
        .iter()
        .filter(|value| value.metric == metric);
    let first = found.next().map(|value| value.raw);
    assert_eq!(found.next(), None, "{metric:?} is there twice");
    first
}

/// Waits until `condition` holds; panics with what `state` says when it takes too long.
async fn eventually(condition: impl Fn() -> bool, state: impl Fn() -> String) {
    let deadline = Instant::now() + AMPLE;
    while !condition() {
        assert!(Instant::now() < deadline, "still not so: {}", state());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
