//! What the ICMP engine measures, where users look for it: percentiles, buckets that Prometheus' functions understand,
//! trains, the sender of an error.

use std::time::Duration;

use extranet_tests::clock::wait_until;
use extranet_tests::place::Place;
use extranet_tests::sandbox::{Sandbox, Settings};

const PATIENCE: Duration = Duration::from_secs(40);

/// Loopback answers within 26 s, the last bucket; a hop limit of 1 is enough there.
const PLAN: &str = r#"
[[plan]]
name = "echoes"
flush_interval = "500ms"
[[plan.check]]
name = "burst"
probe = "icmp"
target = "anchor"
interval = "1s"
timeout = "800ms"
packets = 10
packet_interval = "5ms"
histogram = true
hop_limit = 1
dscp = 46
[[plan.check]]
name = "train"
probe = "icmp"
target = "anchor"
interval = "2s"
timeout = "150ms"
packets = 10
steady = true
"#;

#[test]
fn buckets_percentiles_and_trains_arrive_under_their_names() {
    let sandbox = Sandbox::start(Settings {
        vantage: false,
        ..Settings::default()
    });
    sandbox.import(
        "ap_id,name,level,parent,medium\nvillage,Village,village,centre,fibre\n",
        "ap_id,name,kind,address\ncentre,four,anchor,127.0.0.1\n",
    );
    sandbox.apply_plan(PLAN);
    let _agent = sandbox.agent("village", &Place::Host, sandbox.address(), "");
    let one = |query: &str, least: f64| {
        wait_until(query, PATIENCE, || {
            let found = sandbox.victoria.query(query)?;
            match found.as_slice() {
                [point] if point.value >= least => Ok(()),
                _ => Err(format!("{found:?}")),
            }
        });
    };
    let of = |name: &str, labels: &str| {
        format!("{name}{{ap_id=\"village\",instance=\"127.0.0.1\",family=\"4\"{labels}}}")
    };
    one(&of("smokeping_requests_total", ",check=\"burst\""), 30.0);
    let bucket = "smokeping_response_duration_seconds_bucket";
    one(&of(bucket, ",le=\"26.2144\",check=\"burst\""), 30.0);
    one(&of(bucket, ",le=\"+Inf\""), 30.0);
    one(
        &format!(
            "histogram_quantile(0.5, sum by (le) (rate({}[30s])))",
            of(bucket, "")
        ),
        0.0,
    );
    one(
        &of(
            "extranet_icmp_rtt_seconds",
            ",quantile=\"0.9\",check=\"burst\"",
        ),
        0.0,
    );
    // Ten requests in two seconds, and no bucket that nobody asked for.
    one(
        &of("extranet_icmp_packets_received", ",check=\"train\""),
        10.0,
    );
    let unasked = sandbox.victoria.query(&of(bucket, ",check=\"train\""));
    assert!(unasked.is_ok_and(|found| found.is_empty()));
    let shown = sandbox.tell(&["status", "--ap", "village"]);
    assert!(shown.contains("rtt median"), "{shown}");
    assert!(
        !shown.contains("smokeping"),
        "counters are for engines: {shown}"
    );
}
