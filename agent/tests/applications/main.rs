//! The DNS, TLS and HTTP probes against servers on loopback that do what they are told, good and bad.

#![expect(clippy::unwrap_used, reason = "a test ends where its laboratory fails")]

mod dns;
mod http;
mod http2;
mod server;
mod tls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use extranet_agent::probe::{Measured, ObjectIds, Probes, Run};
use extranet_proto::assignment::{Check, Family, Probe};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_proto::metric::Metric;
use extranet_proto::record::{Outcome, Reason};
use tokio::time::Instant;

/// Longer than anything here takes that is meant to end by itself.
const AMPLE: Duration = Duration::from_secs(20);
/// For what is meant to run into its deadline.
const SHORT: Duration = Duration::from_millis(400);

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

fn probes() -> Probes {
    Probes::new(ObjectIds::new())
}

/// One run; it must be over at its deadline.
fn measure(probes: &Probes, probe: Probe, address: IpAddr, timeout: Duration) -> Measured {
    let check = Check {
        stretch_last: false,
        id: CheckId(1),
        target: TargetId(1),
        name: CheckName::new("test").unwrap(),
        family: Family::of(address),
        interval: Duration::from_mins(1),
        timeout,
        probe,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let run = Run {
            check: &check,
            address,
            vrf: "",
            deadline: Instant::now() + timeout,
        };
        let measured = probes.run(run).await;
        // A busy machine may wake up late, but not this late.
        assert!(measured.duration < timeout + AMPLE / 2, "{measured:?}");
        measured
    })
}

fn verdict(measured: &Measured) -> (Outcome, Reason) {
    (measured.outcome, measured.reason)
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

/// Values come in the order of their metrics, which is what keeps blocks small.
fn assert_in_order(measured: &Measured) {
    assert!(
        measured
            .values
            .is_sorted_by_key(|value| (value.metric, value.object)),
        "{measured:?}"
    );
}
