//! Promise 2: a full spool drops the oldest and says how many and why; probing never stalls.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use extranet_proto::record::{Body, DropReason};
use extranet_tests::clock::wait_until;
use extranet_tests::oracle::{self, Logged, RecordId, Spooled};
use extranet_tests::place::Place;
use extranet_tests::proxy::{Fault, Proxy};
use extranet_tests::sandbox::{Agent, Sandbox, Settings};

/// Anchors, each pinged ten times a second: the smallest spool is full in less than a minute.
const ANCHORS: u32 = 60;
const RUNS_PER_SECOND: f64 = 10.0 * ANCHORS as f64;

const PLAN: &str = r#"
[[plan]]
name = "as much as there can be"
flush_interval = "500ms"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
packets = 1
interval = "100ms"
timeout = "90ms"
"#;

#[test]
fn a_full_spool_drops_the_oldest_and_probing_goes_on() {
    let mut sandbox = Sandbox::start(Settings {
        vantage: false,
        ..Settings::default()
    });
    let mut targets = "ap_id,name,kind,address\n".to_owned();
    for number in 1..=ANCHORS {
        writeln!(targets, "centre,a{number},anchor,127.0.1.{number}").unwrap();
    }
    sandbox.import(
        "ap_id,name,level,parent,medium\nvillage,Village 村,village,centre,satellite\n",
        &targets,
    );
    sandbox.apply_plan(PLAN);
    let proxy = Proxy::start(sandbox.address());
    let spool = "[spool]\nmax_bytes = \"1MiB\"";
    let mut agent = sandbox.agent("village", &Place::Host, proxy.address(), spool);
    wait_until(
        "some results to be acknowledged",
        Duration::from_secs(30),
        || {
            let acknowledged = agent
                .statistics()?
                .sum("extranet_agent_uplink_acknowledged_total");
            if acknowledged > 500.0 {
                Ok(())
            } else {
                Err(format!("{acknowledged}"))
            }
        },
    );

    proxy.set(Fault::Cut);
    wait_until("the spool to drop", Duration::from_secs(90), || {
        let dropped = dropped(&agent)?;
        if dropped > 2_000.0 {
            Ok(())
        } else {
            Err(format!("{dropped} dropped"))
        }
    });

    // Probing goes on while the spool is full.
    let span = Duration::from_secs(5);
    let (runs, drops) = (runs(&agent), dropped(&agent).unwrap());
    std::thread::sleep(span);
    let rate = (self::runs(&agent) - runs) / span.as_secs_f64();
    assert!(
        rate > 0.9 * RUNS_PER_SECOND,
        "{rate} runs a second of {RUNS_PER_SECOND}"
    );
    assert!(dropped(&agent).unwrap() > drops, "the spool was not full");

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, far below 2^52"
    )]
    let dropped_while_cut = dropped(&agent).unwrap() as usize;
    proxy.set(Fault::Pass);
    // Live results keep coming in; what waited is what drains.
    wait_until("the backlog to be sent", Duration::from_mins(1), || {
        let waiting = agent
            .statistics()?
            .sum("extranet_agent_spool_waiting_records");
        if waiting < 3.0 * RUNS_PER_SECOND {
            Ok(())
        } else {
            Err(format!("{waiting} wait"))
        }
    });
    let status = agent.stop();
    assert!(status.success(), "the agent stopped with {status}");
    sandbox.must_not_have_panicked();
    let status = sandbox.stop_collector();
    assert!(status.success(), "the collector stopped with {status}");

    everything_is_accounted_for(
        &oracle::spooled(&agent.state()),
        &oracle::logged(&sandbox.collector_state()),
        dropped_while_cut,
    );
}

/// What was dropped is told as records: how many, which, why.
fn everything_is_accounted_for(spooled: &Spooled, logged: &Logged, dropped_while_cut: usize) {
    let ledger = &spooled.ledger;
    assert!(ledger.balances(), "{ledger:?}");
    let mut told = BTreeSet::new();
    for logged in logged.records.values() {
        if let Body::Dropped(range) = &logged.record.body {
            assert_eq!(range.reason, DropReason::SpoolBytes);
            for sequence in range.from_inclusive..range.to_exclusive {
                let id = RecordId {
                    incarnation: range.incarnation.0,
                    sequence,
                };
                assert!(told.insert(id), "{id:?} was reported twice as dropped");
            }
        }
    }
    let counted: u64 = ledger.dropped.values().sum();
    assert_eq!(
        told.len() as u64,
        counted,
        "told of drops and counted drops differ"
    );

    // Together with what arrived and what waits, that is everything that was produced, and nothing else went.
    let arrived = logged
        .records
        .keys()
        .filter(|id| !told.contains(id))
        .count();
    let also_arrived = logged.records.len() - arrived;
    let waiting = spooled.waiting.len();
    assert_eq!(
        told.len() + arrived + waiting,
        usize::try_from(ledger.produced).expect("fits"),
        "{ledger:?}; {also_arrived} of the dropped had arrived before"
    );
    // The oldest went: each drop took what lay behind the one before, and whatever still waits is newer.
    let mut end = 0;
    for logged in logged.records.values() {
        if let Body::Dropped(range) = &logged.record.body {
            assert!(range.from_inclusive >= end, "{range:?} was dropped late");
            end = range.to_exclusive;
        }
    }
    let newest_dropped = told.iter().next_back().expect("something was dropped");
    assert!(spooled.waiting.iter().all(|id| id > newest_dropped));
    // While the line was cut nothing could arrive, so hardly anything lies between what was dropped then. (Afterwards
    // the line empties the spool while it is still full: what lies between those drops has arrived.)
    let first_dropped = told.iter().next().expect("something was dropped");
    let newest_of_cut = told
        .iter()
        .nth(dropped_while_cut - 1)
        .expect("all were told");
    let kept_between = logged.records.range(first_dropped..newest_of_cut).count();
    assert!(
        kept_between < dropped_while_cut / 10,
        "{kept_between} records between the first and the last that the cut made drop were kept"
    );
}

fn dropped(agent: &Agent) -> Result<f64, String> {
    Ok(agent
        .statistics()?
        .sum("extranet_agent_spool_dropped_total"))
}

fn runs(agent: &Agent) -> f64 {
    let statistics = agent.statistics().expect("the agent runs");
    statistics.sum("extranet_agent_schedule_runs_total")
}
