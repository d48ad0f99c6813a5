//! The engine as a process of its own, so that its cost can be told from that of the benchmark.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use extranet_agent::probe::{Measured, ObjectIds, Probes, Run};
use extranet_agent::shell::spawn_named;
use extranet_proto::assignment::{Check, Family, IcmpProbe, Probe};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_proto::metric;
use extranet_proto::record::Outcome;
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep, sleep_until};

use crate::cost;

/// Between two requests of `one_by_one`.
const GAP: Duration = Duration::from_millis(20);

/// The runtime of the agent: one thread.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
}

fn check(number: u32, address: IpAddr, timeout: Duration) -> Check {
    Check {
        id: CheckId(number + 1),
        target: TargetId(1),
        name: CheckName::new("bench").expect("a name"),
        family: Family::of(address),
        interval: Duration::from_mins(1),
        timeout,
        stretch_last: false,
        probe: Probe::Icmp(IcmpProbe {
            packets: 1,
            ..IcmpProbe::default()
        }),
    }
}

async fn measure(probes: &Probes, check: &Check, address: IpAddr) -> Measured {
    let run = Run {
        check,
        address,
        vrf: "",
        deadline: Instant::now() + check.timeout,
    };
    probes.run(run).await
}

/// Prints the round trip of each request, µs. A busy runtime is blocked 8 of every 23 ms.
pub(crate) fn one_by_one(address: &str, count: u32, busy: bool) {
    let address: IpAddr = address.parse().expect("an address");
    runtime().block_on(async {
        let probes = Probes::new(ObjectIds::new());
        if busy {
            drop(spawn_named("busy", async {
                loop {
                    std::thread::sleep(Duration::from_millis(8));
                    sleep(Duration::from_millis(15)).await;
                }
            }));
        }
        let check = check(0, address, Duration::from_secs(1));
        let started = Instant::now();
        for number in 0..count {
            sleep_until(started + GAP * number).await;
            let measured = measure(&probes, &check, address).await;
            let found = measured
                .values
                .iter()
                .find(|value| value.metric == metric::ICMP_RTT_MIN);
            println!("{}", found.map_or(-1, |value| value.raw.cast_signed()));
        }
    });
}

/// So many targets on loopback, each once in an interval, evenly spread. Prints requests, replies, CPU seconds and the
/// largest memory.
pub(crate) fn many(targets: u32, interval_ms: u32, seconds: u32) {
    let before = cost::own_cpu();
    let (sent, received) = runtime().block_on(async {
        let probes = Probes::new(ObjectIds::new());
        let checks: Vec<_> = (0..targets)
            .map(|number| {
                let address = IpAddr::V4(Ipv4Addr::from_bits(0x7f01_0001 + number));
                Arc::new((check(number, address, Duration::from_millis(500)), address))
            })
            .collect();
        let gap = Duration::from_millis(interval_ms.into()) / targets;
        let total = seconds * 1_000 / interval_ms * targets;
        let started = Instant::now() + Duration::from_millis(50);
        let (received, over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        for (turn, check) in (0..total).zip(checks.iter().cycle()) {
            let due = started + gap * turn;
            if due > Instant::now() {
                sleep_until(due).await;
            }
            let (probes, check) = (probes.clone(), Arc::clone(check));
            let (received, over) = (Arc::clone(&received), Arc::clone(&over));
            // Nobody waits for the handle: 200,000 of them would be most of the memory.
            drop(spawn_named("run", async move {
                if measure(&probes, &check.0, check.1).await.outcome == Outcome::Ok {
                    received.fetch_add(1, Ordering::Relaxed);
                }
                over.fetch_add(1, Ordering::Relaxed);
            }));
        }
        while over.load(Ordering::Relaxed) < total {
            sleep(Duration::from_millis(10)).await;
        }
        (total, received.load(Ordering::Relaxed))
    });
    let cpu = cost::own_cpu() - before;
    println!("{sent} {received} {cpu:.2} {}", cost::memory_kib("self"));
}
