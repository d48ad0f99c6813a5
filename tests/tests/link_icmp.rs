//! ICMP over a link whose faults are known: what the engine says is what the link counted, to the packet.
//!
//! Each test runs with datagram and with raw sockets unless it says otherwise.

#[path = "link_icmp/faults.rs"]
mod faults;
#[path = "link_icmp/options.rs"]
mod options;
#[path = "link_icmp/time.rs"]
mod time;

use std::net::IpAddr;
use std::time::Duration;

use extranet_agent::probe::{Measured, ObjectIds, Probes, Run};
use extranet_proto::assignment::{Check, Family, IcmpProbe, Probe};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_proto::metric::Metric;
use extranet_proto::record::{Outcome, Reason};
use extranet_tests::forwarder::{Counts, Forwarder};
use extranet_tests::namespace::{End, Namespace};
use tokio::time::{Instant, sleep};

/// The far end of the link, in both families.
const FAR: [&str; 2] = ["10.9.1.1", "fd00:9:1::1"];
/// Longer than anything here takes that is meant to end by itself.
const AMPLE: Duration = Duration::from_secs(10);

/// A site and a far host with the link between them.
struct Rig {
    site: Namespace,
    far: Namespace,
    link: Forwarder,
}

impl Rig {
    fn new() -> Self {
        let (site, far) = (Namespace::new("site"), Namespace::new("far"));
        let link = Forwarder::connect(
            End {
                namespace: &site,
                interface: "up0",
                addresses: &["10.9.1.2/24", "fd00:9:1::2/64"],
            },
            End {
                namespace: &far,
                interface: "down0",
                addresses: &["10.9.1.1/24", "fd00:9:1::1/64"],
            },
            7,
        );
        // Kernels limit their errors: a host gets one a second of most kinds.
        far.sysctl("net/ipv4/icmp_ratelimit", "0");
        far.sysctl("net/ipv6/icmp/ratelimit", "0");
        Self { site, far, link }
    }

    /// Runs something at the site, with an engine of its own, once with each kind of socket.
    fn with_both_tiers(&self, test: impl AsyncFn(&Probes, &Forwarder) + Sync) {
        for groups in ["0 2147483647", "1 0"] {
            self.site.sysctl("net/ipv4/ping_group_range", groups);
            self.link.both(extranet_tests::forwarder::Faults::default());
            self.link.forget_counts();
            self.at_site(&test);
        }
    }

    /// The same, once.
    fn at_site(&self, test: impl AsyncFn(&Probes, &Forwarder) + Sync) {
        self.site.enter(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be built")
                .block_on(test(&Probes::new(ObjectIds::new()), &self.link));
        });
    }
}

/// So many requests, so far apart.
fn echoes(packets: u16, apart_ms: u64) -> IcmpProbe {
    IcmpProbe {
        packets,
        packet_interval: Duration::from_millis(apart_ms),
        ..IcmpProbe::default()
    }
}

async fn measure(probes: &Probes, icmp: &IcmpProbe, address: &str, timeout: Duration) -> Measured {
    let address: IpAddr = address.parse().expect("an address");
    let check = Check {
        id: CheckId(1),
        target: TargetId(1),
        name: CheckName::new("link").expect("a name"),
        family: Family::of(address),
        interval: Duration::from_mins(1),
        timeout,
        stretch_last: false,
        probe: Probe::Icmp(icmp.clone()),
    };
    let run = Run {
        check: &check,
        address,
        vrf: "",
        deadline: Instant::now() + check.longest_run(),
    };
    probes.run(run).await
}

/// The value; 0 if it is not there.
fn value(measured: &Measured, metric: Metric) -> u64 {
    measured
        .values
        .iter()
        .find(|value| value.metric == metric)
        .map_or(0, |value| value.raw)
}

fn verdict(measured: &Measured) -> (Outcome, Reason) {
    (measured.outcome, measured.reason)
}

/// Waits until nothing is on its way any more.
async fn quiet(link: &Forwarder) -> Counts {
    let deadline = Instant::now() + AMPLE;
    loop {
        let before = link.counts();
        sleep(Duration::from_millis(20)).await;
        let counts = link.counts();
        if counts == before && counts.forth.waiting + counts.back.waiting == 0 {
            return counts;
        }
        assert!(Instant::now() < deadline, "never quiet: {counts:?}");
    }
}
