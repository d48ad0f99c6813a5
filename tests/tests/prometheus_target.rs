//! Prometheus as a second target of remote write: it gets the same results, those of an outage at their own times.

use std::time::Duration;

use extranet_tests::clock::{wait_until, wall_ms};
use extranet_tests::engine::Prometheus;
use extranet_tests::place::Place;
use extranet_tests::proxy::{Fault, Proxy};
use extranet_tests::sandbox::{Sandbox, Settings};

const PATIENCE: Duration = Duration::from_secs(30);
const OUTAGE: Duration = Duration::from_secs(6);

const PLAN: &str = r#"
[[plan]]
name = "a little"
flush_interval = "300ms"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
packets = 1
interval = "500ms"
"#;

#[test]
fn prometheus_takes_live_and_late_results() {
    let folder = tempfile::tempdir().unwrap();
    let prometheus = Prometheus::start(&Place::Host, folder.path());
    let second = format!(
        "[[remote_write]]\nname = \"prometheus\"\nurl = \"{}\"\nflush = \"500ms\"\n",
        prometheus.write_url()
    );
    let mut sandbox = Sandbox::start(Settings {
        vantage: false,
        extra: second,
        ..Settings::default()
    });
    sandbox.import(
        "ap_id,name,level,parent,medium\nvillage,Village,village,centre,satellite\n",
        "ap_id,name,kind,address\ncentre,four,anchor,127.0.0.1\n",
    );
    sandbox.apply_plan(PLAN);
    let proxy = Proxy::start(sandbox.address());
    let mut agent = sandbox.agent("village", &Place::Host, proxy.address(), "");
    wait_until("live results", PATIENCE, || {
        let rows =
            prometheus.query("probe_success{ap_id=\"village\",check=\"icmp\",family=\"4\"}")?;
        if rows.len() == 1 {
            Ok(())
        } else {
            Err(format!("{rows:?}"))
        }
    });

    proxy.set(Fault::Cut);
    let cut_ms = wall_ms();
    std::thread::sleep(OUTAGE);
    proxy.set(Fault::Pass);
    let healed_ms = wall_ms();
    // A result from after the outage first, so that those of the outage are late for Prometheus too.
    agent.wait_drained(3, PATIENCE);
    wait_until("the results of the outage", PATIENCE, || {
        let until = |ms: i64| {
            let seconds = ms as f64 / 1_000.0;
            let query =
                format!("count_over_time(probe_success{{ap_id=\"village\"}}[60s] @ {seconds})");
            count(&prometheus.query(&query)?)
        };
        let during = until(healed_ms)? - until(cut_ms)?;
        let expected = OUTAGE.as_secs_f64() * 2.0;
        if during > expected - 2.5 {
            Ok(())
        } else {
            Err(format!("{during} of {expected}"))
        }
    });
    sandbox.must_not_have_panicked();
    for status in [agent.stop(), sandbox.stop_collector()] {
        assert!(status.success(), "{status}");
    }
}

fn count(rows: &[serde_json::Value]) -> Result<f64, String> {
    let value = rows
        .first()
        .and_then(|row| row["value"][1].as_str()?.parse().ok());
    value.ok_or_else(|| format!("{rows:?}"))
}
