//! A full disk on either side loses nothing that was acknowledged, stalls no probing, and passes.

use std::time::Duration;

use extranet_tests::clock::wait_until;
use extranet_tests::oracle;
use extranet_tests::place::Place;
use extranet_tests::sandbox::{Agent, Sandbox, Settings};
use extranet_tests::small_disk::SmallDisk;

const PATIENCE: Duration = Duration::from_mins(1);

const PLAN: &str = r#"
[[plan]]
name = "some"
flush_interval = "300ms"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
packets = 1
interval = "100ms"
timeout = "90ms"
"#;

fn prepare(sandbox: &Sandbox) {
    sandbox.import(
        "ap_id,name,level,parent,medium\nvillage,Village,village,centre,fibre\n",
        "ap_id,name,kind,address\ncentre,four,anchor,127.0.0.1\ncentre,six,anchor,::1\n",
    );
    sandbox.apply_plan(PLAN);
}

fn number(agent: &Agent, sample: &str) -> Result<f64, String> {
    Ok(agent.statistics()?.sum(sample))
}

fn more_than(least: f64, number: Result<f64, String>) -> Result<(), String> {
    let number = number?;
    if number > least {
        Ok(())
    } else {
        Err(format!("{number}, not above {least}"))
    }
}

#[test]
fn a_collector_without_room_acknowledges_nothing_and_catches_up_later() {
    let mut sandbox = Sandbox::prepare(Settings {
        vantage: false,
        ..Settings::default()
    });
    let disk = SmallDisk::mount(&sandbox.collector_state().join("ingest"), 8 * 1024);
    sandbox.start_collector();
    prepare(&sandbox);
    let mut agent = sandbox.agent("village", &Place::Host, sandbox.address(), "");
    let acknowledged = "extranet_agent_uplink_acknowledged_total";
    wait_until("acknowledgements", PATIENCE, || {
        more_than(50.0, number(&agent, acknowledged))
    });

    disk.fill();
    wait_until("the collector to say so", PATIENCE, || {
        more_than(
            0.5,
            Ok(sandbox
                .statistics()?
                .sum("extranet_collector_ingest_failed_total")),
        )
    });
    let waiting = "extranet_agent_spool_waiting_records";
    wait_until("results to wait at the agent", PATIENCE, || {
        more_than(60.0, number(&agent, waiting))
    });
    sandbox.must_not_have_panicked();

    disk.free();
    let before = number(&agent, acknowledged).unwrap();
    wait_until("acknowledgements again", PATIENCE, || {
        more_than(before + 60.0, number(&agent, acknowledged))
    });
    agent.wait_drained(30, PATIENCE);
    let status = agent.stop();
    assert!(status.success(), "the agent stopped with {status}");
    let status = sandbox.stop_collector();
    assert!(status.success(), "the collector stopped with {status}");
    let spooled = oracle::spooled(&agent.state());
    assert_eq!(
        spooled.ledger.dropped.values().sum::<u64>(),
        0,
        "{:?}",
        spooled.ledger
    );
    oracle::logged(&sandbox.collector_state()).must_hold_what_was_acknowledged(&spooled);
}

#[test]
fn an_agent_without_room_goes_on_probing_and_counts_what_it_loses() {
    let mut sandbox = Sandbox::start(Settings {
        vantage: false,
        ..Settings::default()
    });
    prepare(&sandbox);
    let disk = SmallDisk::mount(&sandbox.agent_state("village"), 4 * 1024);
    let mut agent = sandbox.agent("village", &Place::Host, sandbox.address(), "");
    let acknowledged = "extranet_agent_uplink_acknowledged_total";
    wait_until("acknowledgements", PATIENCE, || {
        more_than(50.0, number(&agent, acknowledged))
    });

    disk.fill();
    let lost = "extranet_agent_spool_dropped_total";
    let failed = "extranet_agent_spool_errors_total";
    wait_until("the agent to count the disk's errors", PATIENCE, || {
        more_than(0.5, number(&agent, failed))
    });
    let runs = "extranet_agent_schedule_runs_total";
    let before = number(&agent, runs).unwrap();
    wait_until("probing to go on", PATIENCE, || {
        more_than(before + 100.0, number(&agent, runs))
    });

    disk.free();
    let before = number(&agent, acknowledged).unwrap();
    wait_until("acknowledgements again", PATIENCE, || {
        more_than(before + 60.0, number(&agent, acknowledged))
    });
    let lost = number(&agent, lost).unwrap();
    agent.wait_drained(30, PATIENCE);
    let status = agent.stop();
    assert!(status.success(), "the agent stopped with {status}");
    sandbox.must_not_have_panicked();
    let status = sandbox.stop_collector();
    assert!(status.success(), "the collector stopped with {status}");
    let spooled = oracle::spooled(&agent.state());
    let dropped = spooled.ledger.dropped.values().sum::<u64>();
    assert!(
        (dropped as f64 - lost).abs() < 0.5,
        "{lost} counted, {:?} in the ledger",
        spooled.ledger
    );
    oracle::logged(&sandbox.collector_state()).must_hold_what_was_acknowledged(&spooled);
}
