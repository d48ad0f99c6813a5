//! Promise 5: after faults stop and the stream is back, a fresh result on a fibre link reaches a dashboard query within
//! 15 s, whatever history has to be sent as well.

use std::time::Duration;

use extranet_tests::clock::{now, wait_until, wall_ms};
use extranet_tests::place::Place;
use extranet_tests::proxy::{Fault, Proxy};
use extranet_tests::sandbox::{Sandbox, Settings};

const PROMISE: Duration = Duration::from_secs(15);

/// Flushes as the built-in plan does on fibre.
const PLAN: &str = r#"
[[plan]]
name = "fibre"
flush_interval = "5s"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
packets = 1
interval = "1s"
[[plan.check]]
name = "history"
probe = "icmp"
target = "anchor"
packets = 1
interval = "100ms"
timeout = "90ms"
"#;

#[test]
fn a_fresh_result_shows_within_15_s_of_the_streams_return() {
    let sandbox = Sandbox::start(Settings {
        vantage: false,
        ..Settings::default()
    });
    sandbox.import(
        "ap_id,name,level,parent,medium\ncounty,County 县,county,centre,fibre\n",
        "ap_id,name,kind,address\ncentre,four,anchor,127.0.0.1\ncentre,six,anchor,::1\n",
    );
    sandbox.apply_plan(PLAN);
    let proxy = Proxy::start(sandbox.address());
    let agent = sandbox.agent("county", &Place::Host, proxy.address(), "");
    // A dashboard: it asks for the latest value and its time, and sees what VictoriaMetrics shows.
    let newest = || {
        let query = "max(timestamp(probe_success{ap_id=\"county\",check=\"icmp\"}))";
        let rows = sandbox.victoria.query(query)?;
        rows.first()
            .map(|row| row.value)
            .ok_or_else(|| "no value yet".to_owned())
    };
    wait_until("the first result", Duration::from_secs(45), newest);

    for fault in [Fault::Cut, Fault::Blackhole] {
        proxy.set(fault);
        std::thread::sleep(Duration::from_secs(12));
        proxy.set(Fault::Pass);
        wait_until("the stream to be back", Duration::from_mins(1), || {
            let connected = agent
                .statistics()?
                .value("extranet_agent_uplink_connected")?;
            if connected > 0.5 {
                Ok(())
            } else {
                Err("not connected".to_owned())
            }
        });
        let back = now();
        let fresh = wall_ms() as f64 / 1_000.0;
        wait_until(&format!("a result from after {fault:?}"), PROMISE, || {
            let newest = newest()?;
            if newest > fresh {
                Ok(())
            } else {
                Err(format!(
                    "the newest is {:.1} s older than that",
                    fresh - newest
                ))
            }
        });
        assert!(back.elapsed() <= PROMISE);
    }
    sandbox.must_not_have_panicked();
}
