//! Somebody sets the clock of a site's machine a day forward and two days back: results keep their true times, none is
//! lost, and the jump itself is on record.

use std::time::Duration;

use extranet_agent::clock::SteppedClock;
use extranet_agent::config::Config;
use extranet_agent::run::run;
use extranet_agent::shell::{Stage, shutdown};
use extranet_proto::record::{Body, EventKind};
use extranet_tests::clock::{wait_until, wall_ms};
use extranet_tests::oracle;
use extranet_tests::sandbox::{Sandbox, Settings};

const PATIENCE: Duration = Duration::from_secs(30);
const DAY_US: i64 = 86_400_000_000;

const PLAN: &str = r#"
[[plan]]
name = "a little"
flush_interval = "300ms"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
packets = 1
interval = "200ms"
"#;

#[test]
fn a_clock_that_jumps_a_day_moves_no_result() {
    let mut sandbox = Sandbox::start(Settings {
        vantage: false,
        ..Settings::default()
    });
    sandbox.import(
        "ap_id,name,level,parent,medium\nvillage,Village,village,centre,fibre\n",
        "ap_id,name,kind,address\ncentre,four,anchor,127.0.0.1\n",
    );
    sandbox.apply_plan(PLAN);
    let state = sandbox.agent_state("village");
    let text = format!(
        "collectors = [\"{}\"]\nstate_dir = '{}'\nticket_file = '{}'\n",
        sandbox.address(),
        state.display(),
        sandbox.file("ticket", &sandbox.ticket("village")),
    );
    std::fs::create_dir_all(&state).unwrap();
    let config = Config::parse("agent.toml", &text).unwrap();

    // The agent's own code in this process, so that its clock, and no other, can be set.
    let clock = SteppedClock::default();
    let (trigger, stop) = shutdown();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    let agent = std::thread::spawn({
        let clock = clock.clock();
        move || handle.block_on(run(config, clock, stop))
    });

    let started_ms = wall_ms();
    let arrived = || -> Result<Vec<i64>, String> {
        let series = sandbox
            .victoria
            .export("{__name__=\"probe_success\",ap_id=\"village\"}")?;
        Ok(series
            .iter()
            .flat_map(|series| series.samples.iter().map(|(time, _)| *time))
            .collect())
    };
    let more = |least: usize| {
        wait_until(&format!("{least} results"), PATIENCE, || {
            let count = arrived()?.len();
            if count >= least {
                Ok(count)
            } else {
                Err(format!("{count}"))
            }
        })
    };
    let count = more(10);
    clock.step_wall(DAY_US);
    let count = more(count + 15);
    clock.step_wall(-2 * DAY_US);
    more(count + 15);

    trigger.advance(Stage::NoNewWork);
    agent.join().unwrap().unwrap();
    sandbox.must_not_have_panicked();
    let mut times = arrived().unwrap();
    times.sort_unstable();
    let (first, last) = (times[0], times[times.len() - 1]);
    assert!(
        first >= started_ms - 1_000 && last <= wall_ms() + 1_000,
        "results between {first} and {last}, the test ran from {started_ms} to {}",
        wall_ms()
    );
    sandbox.wait_exported(PATIENCE);
    let status = sandbox.stop_collector();
    assert!(status.success(), "the collector stopped with {status}");
    let logged = oracle::logged(&sandbox.collector_state());
    logged.must_hold_what_was_acknowledged(&oracle::spooled(&state));
    wait_until("each result once in the time series", PATIENCE, || {
        logged.compare(&sandbox.victoria)
    });
    let mut jumps: Vec<i64> = logged
        .records
        .values()
        .filter_map(|logged| match &logged.record.body {
            Body::Event(event) if event.kind == EventKind::ClockStepped => Some(event.value),
            _ => None,
        })
        .collect();
    jumps.sort_unstable();
    let days: Vec<i64> = jumps
        .iter()
        .map(|ms| (ms + 43_200_000).div_euclid(86_400_000))
        .collect();
    assert_eq!(days, [-2, 1], "{jumps:?} ms");
}
