//! What measuring costs on an uplink: the agent's account against the counters of the interface, and a budget that is
//! kept by longer intervals.
//!
//! ```text
//! outside 10.77.0.1 (anchor), 10.77.0.2 (way to the collector) --- 10.66.0.1 / 10.66.0.2 --- site
//! ```

use std::time::Duration;

use extranet_tests::clock::wait_until;
use extranet_tests::namespace::{End, Namespace, connect};
use extranet_tests::place::Place;
use extranet_tests::proxy::Proxy;
use extranet_tests::sandbox::{Agent, Sandbox, Settings};

const PATIENCE: Duration = Duration::from_mins(1);

/// Two echo requests a second are 29 MB a day, three times the budget.
const PLAN: &str = r#"
[[plan]]
name = "paid by the byte"
daily_budget = "10MiB"
flush_interval = "1s"

[[plan.check]]
name = "anchor-icmp"
probe = "icmp"
target = "anchor"
interval = "1s"
timeout = "500ms"
packets = 2
packet_interval = "20ms"

[[plan.check]]
name = "important"
probe = "icmp"
target = "anchor"
interval = "2s"
timeout = "500ms"
packets = 1
stretch_last = true

[[plan.check]]
name = "traffic"
probe = "traffic"
target = "self"
families = [4]
interval = "2s"
timeout = "1s"
"#;

const ACCESS_POINTS: &str =
    "ap_id,name,level,parent,medium\nvillage,village,village,centre,satellite\n";
const TARGETS: &str = "ap_id,name,kind,address\ncentre,one,anchor,10.77.0.1\n";

/// What the agent's account says, both directions, probes and stream.
fn accounted(agent: &Agent) -> f64 {
    let statistics = agent.statistics().expect("the agent answers");
    statistics.sum("extranet_agent_account_traffic_bytes_total")
}

#[test]
fn an_account_agrees_with_the_interface_and_a_budget_stretches_intervals() {
    let outside = Namespace::new("outside");
    let site = Namespace::new("site");
    connect(
        End {
            namespace: &outside,
            interface: "down0",
            addresses: &["10.66.0.1/30"],
        },
        End {
            namespace: &site,
            interface: "up0",
            addresses: &["10.66.0.2/30"],
        },
    );
    for address in ["10.77.0.1/32", "10.77.0.2/32"] {
        outside.ip(&["address", "add", address, "dev", "lo"]);
    }
    site.ip(&["route", "add", "default", "via", "10.66.0.1"]);
    let sandbox = Sandbox::start(Settings {
        place: Place::Host,
        vantage: false,
        ..Settings::default()
    });
    sandbox.import(ACCESS_POINTS, TARGETS);
    sandbox.apply_plan(PLAN);
    let proxy = Proxy::start_at(&outside.place(), "10.77.0.2:8443", sandbox.address());
    let agent = sandbox.agent("village", &site.place(), proxy.address(), "");
    let stretch = |order: &str| {
        let series = sandbox
            .victoria
            .export(&format!(
                "extranet_check_stretch_ratio{{order=\"{order}\"}}"
            ))
            .ok()?;
        let (_, value) = *series.first()?.samples.last()?;
        Some(value)
    };
    wait_until("the first figures", PATIENCE, || {
        stretch("first").ok_or_else(|| "no stretch was exported yet".to_owned())
    });

    // Enrolment is not in the account: differences, over a time in which everything happens many times.
    let before = (site.ip_bytes("up0"), accounted(&agent));
    wait_until("stretched intervals", PATIENCE, || {
        let first = stretch("first").unwrap_or(1.0);
        (first >= 1.25)
            .then_some(())
            .ok_or_else(|| "not stretched yet".to_owned())
    });
    assert_eq!(stretch("last"), Some(1.0), "the important check can wait");
    let after = (site.ip_bytes("up0"), accounted(&agent));
    let wire = (after.0 - before.0) as f64;
    let account = after.1 - before.1;
    let ratio = account / wire;
    assert!(
        (0.85..1.15).contains(&ratio),
        "the account says {account} bytes, the interface {wire}"
    );

    let device = sandbox
        .victoria
        .export("extranet_uplink_sent_bytes_total{purpose=\"probes\"}")
        .expect("VictoriaMetrics answers");
    assert_eq!(device[0].label("device"), "up0");
    sandbox.must_not_have_panicked();
}
