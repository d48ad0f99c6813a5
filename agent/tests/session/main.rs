//! The whole agent against a collector that misbehaves on order: nothing measured is lost, nothing is sent twice
//! without need, and measuring goes on whatever the collector does.

#![expect(
    clippy::unwrap_used,
    reason = "a test says by panicking what went wrong"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use extranet_agent::clock::{Clock, SteppedClock};
use extranet_agent::config::Config;
use extranet_agent::identity::IdentityError;
use extranet_agent::run::{RunError, run};
use extranet_agent::shell::{ShutdownTrigger, Stage, shutdown, spawn_named};
use extranet_proto::record::{EventKind, Outcome, Reason};
use extranet_proto::session::{Batch, CollectorMessage, Lane};
use extranet_proto::wire;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;

mod fake_collector;

use fake_collector::{AGENT_ID, FakeCollector, Orders};

/// An agent that runs in this process.
struct Agent {
    trigger: ShutdownTrigger,
    task: JoinHandle<Result<(), RunError>>,
}

impl Agent {
    fn start(config: Config, clock: Clock) -> Self {
        let (trigger, stop) = shutdown();
        let task = spawn_named("agent", run(config, clock, stop));
        Self { trigger, task }
    }

    async fn stop(self) {
        self.trigger.advance(Stage::NoNewWork);
        self.task.await.unwrap().unwrap();
    }

    /// As if killed: without a last word to the collector.
    async fn stop_at_once(self) {
        self.trigger.advance(Stage::Stop);
        self.task.await.unwrap().unwrap();
    }
}

/// A TCP check of 127.0.0.1 ten times a second, and one of an address that no agent of these tests may probe.
fn assignment(version: u32, port: u16) -> wire::Assignment {
    let target = |target_id, address: &str| wire::Target {
        target_id,
        vrf: String::new(),
        address: address.to_owned(),
    };
    wire::Assignment {
        version,
        ap_id: "540121-001".to_owned(),
        targets: vec![target(1, "127.0.0.1"), target(2, "192.0.2.1")],
        checks: vec![tcp_check(1, 1, port), tcp_check(2, 2, port)],
        flush_interval_ms: 0,
        link_class: wire::LinkClass::Fibre.into(),
        security: None,
        daily_budget_bytes: 0,
        snmp_modules: Vec::new(),
    }
}

fn tcp_check(check_id: u32, target_id: u32, port: u16) -> wire::Check {
    wire::Check {
        stretch_last: false,
        check_id,
        target_id,
        name: format!("tcp-{check_id}"),
        family: wire::Family::Ipv4.into(),
        interval_ms: 100,
        timeout_ms: 1_000,
        probe: Some(wire::check::Probe::Tcp(wire::TcpProbe {
            port: port.into(),
            ..Default::default()
        })),
    }
}

/// "Connect to this now."
fn measurement(request_id: u64, address: &str, port: u16) -> CollectorMessage {
    CollectorMessage::MeasurementRequest(Box::new(wire::MeasurementRequest {
        request_id,
        target: Some(wire::Target {
            target_id: 9,
            vrf: String::new(),
            address: address.to_owned(),
        }),
        check: Some(tcp_check(99, 9, port)),
    }))
}

/// Something to connect to.
async fn target() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn quick(port: u16) -> Orders {
    Orders {
        flush_interval: Duration::from_millis(100),
        assignment: Some(assignment(1, port)),
        ..Orders::default()
    }
}

fn state_dir(folder: &tempfile::TempDir) -> &Path {
    folder.path()
}

#[tokio::test]
async fn an_agent_enrols_measures_and_says_goodbye() {
    let (_listener, port) = target().await;
    let collector = FakeCollector::start(quick(port)).await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(collector.config(state_dir(&folder)), Clock::system());
    let status = collector
        .until("an assignment status", |seen| {
            seen.statuses.first().cloned()
        })
        .await;
    assert!(status.applied);
    assert_eq!(status.version.0, 1);
    assert_eq!(status.problems.len(), 1, "{status:?}");
    assert!(status.problems[0].contains("192.0.2.1"), "{status:?}");
    collector
        .until("three results", |seen| {
            (seen.results().count() >= 3).then_some(())
        })
        .await;
    agent.stop().await;
    collector.look(|seen| {
        assert!(
            seen.results()
                .all(|(_, result)| result.outcome == Outcome::Ok
                    && result.check.0 == 1
                    && result.assignment.0 == 1)
        );
        let kinds: Vec<EventKind> = seen.events().map(|event| event.kind).collect();
        assert_eq!(kinds.first(), Some(&EventKind::Started));
        assert!(kinds.contains(&EventKind::AssignmentApplied));
        assert_eq!(
            kinds.last(),
            Some(&EventKind::Stopping),
            "sent before the end"
        );
        let ledger = seen.batches[0].1.ledger.clone();
        assert!(
            ledger.unwrap().balances(),
            "the first batch carries the ledger"
        );
        assert!(seen.batches[0].1.clock.is_some());
        let sequences: Vec<u64> = seen.records.keys().map(|(_, sequence)| *sequence).collect();
        let all: Vec<u64> = (0..sequences.len() as u64).collect();
        assert_eq!(sequences, all, "no gap");
        assert_eq!(seen.resent, []);
        assert_eq!(seen.hellos[0].1.agent_version, env!("CARGO_PKG_VERSION"));
    });
    assert!(folder.path().join("identity").try_exists().unwrap());
    let identity = extranet_agent::identity::Identity::load(folder.path());
    assert_eq!(identity.unwrap().unwrap().agent_id.as_str(), AGENT_ID);
}

#[tokio::test]
async fn a_changed_outcome_does_not_wait_for_the_flush() {
    let (listener, port) = target().await;
    let mut orders = quick(port);
    orders.flush_interval = Duration::from_hours(1);
    let collector = FakeCollector::start(orders).await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(collector.config(state_dir(&folder)), Clock::system());
    collector
        .until("the assignment", |seen| seen.statuses.first().cloned())
        .await;
    drop(listener);
    let refused = collector
        .until("a failed result", |seen| {
            let failed = |(_, result): &(_, &extranet_proto::record::CheckResult)| {
                result.outcome == Outcome::Failed
            };
            seen.results().find(failed).map(|(_, result)| result.reason)
        })
        .await;
    assert_eq!(refused, Reason::Refused);
    agent.stop().await;
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_and_nothing_else() {
    let (_listener, port) = target().await;
    let mut orders = quick(port);
    orders.withhold_acks = true;
    let collector = FakeCollector::start(orders).await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(collector.config(state_dir(&folder)), Clock::system());
    collector
        .until("five results", |seen| {
            (seen.results().count() >= 5).then_some(())
        })
        .await;
    let unacknowledged: BTreeSet<(u64, u64)> =
        collector.look(|seen| seen.records.keys().copied().collect());
    collector.order(|orders| orders.withhold_acks = false);
    collector.cut();
    collector
        .until("everything again", |seen| {
            let resent: BTreeSet<(u64, u64)> = seen.resent.iter().copied().collect();
            resent.is_superset(&unacknowledged).then_some(())
        })
        .await;
    collector.look(|seen| {
        let hello = &seen.hellos.last().unwrap().1;
        let declared: BTreeSet<(u64, u64)> = hello
            .waiting
            .iter()
            .flat_map(|range| {
                (range.from_inclusive..range.to_exclusive)
                    .map(|sequence| (range.incarnation.0, sequence))
            })
            .collect();
        assert!(declared.is_superset(&unacknowledged));
    });
    // The stream keeps its order: whoever answers this has seen the acknowledgements before.
    collector.send(measurement(1, "127.0.0.1", port)).await;
    collector
        .until("an answer", |seen| seen.answers.first().map(|_| ()))
        .await;
    let (resent, hellos) = collector.look(|seen| (seen.resent.len(), seen.hellos.len()));
    collector.cut();
    collector
        .until("another stream with results", |seen| {
            let again = seen.hellos.get(hellos)?.0;
            seen.batches
                .iter()
                .any(|(at, batch)| *at > again && batch.count > 0)
                .then_some(())
        })
        .await;
    agent.stop().await;
    collector.look(|seen| {
        let late = &seen.resent[resent..];
        assert!(
            !late.iter().any(|key| unacknowledged.contains(key)),
            "acknowledged and sent again: {late:?}"
        );
    });
}

#[tokio::test]
async fn what_the_collector_holds_already_is_not_sent() {
    let (_listener, port) = target().await;
    let mut orders = quick(port);
    orders.withhold_acks = true;
    let collector = FakeCollector::start(orders).await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(collector.config(state_dir(&folder)), Clock::system());
    collector
        .until("five results", |seen| {
            (seen.results().count() >= 5).then_some(())
        })
        .await;
    collector.order(|orders| {
        orders.withhold_acks = false;
        orders.claim_all_held = true;
    });
    collector.cut();
    collector
        .until("live results on the second stream", |seen| {
            let again = seen.hellos.get(1)?.0;
            seen.batches
                .iter()
                .any(|(at, batch)| *at > again && batch.count > 0)
                .then_some(())
        })
        .await;
    agent.stop().await;
    collector.look(|seen| {
        assert_eq!(seen.resent, []);
        let second_stream = seen.hellos[1].0;
        let backlog =
            |(at, batch): &&(Instant, Batch)| *at > second_stream && batch.lane == Lane::Backlog;
        assert_eq!(seen.batches.iter().filter(backlog).count(), 0);
    });
}

#[tokio::test]
async fn a_wait_is_honoured() {
    let (_listener, port) = target().await;
    let mut orders = quick(port);
    orders.wait = Some(Duration::from_secs(1));
    let collector = FakeCollector::start(orders).await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(collector.config(state_dir(&folder)), Clock::system());
    let (first, second) = collector
        .until("a second hello", |seen| {
            Some((seen.hellos.first()?.0, seen.hellos.get(1)?.0))
        })
        .await;
    assert!(
        second - first >= Duration::from_secs(1),
        "{:?}",
        second - first
    );
    agent.stop().await;
}

#[tokio::test]
async fn measuring_goes_on_without_a_collector_and_across_restarts() {
    let (_listener, port) = target().await;
    let collector = FakeCollector::start(quick(port)).await;
    let folder = tempfile::tempdir().unwrap();
    let config = collector.config(state_dir(&folder));
    let agent = Agent::start(config.clone(), Clock::system());
    collector
        .until("a result", |seen| {
            (seen.results().count() >= 1).then_some(())
        })
        .await;
    agent.stop().await;
    let before = collector.look(|seen| seen.records.len());

    // The same agent, its collector out of reach, with nothing but its state folder.
    let mut alone = config.clone();
    alone.collectors = vec!["127.0.0.1:1".parse().unwrap()];
    alone.self_listen = Some("127.0.0.1:0".parse().unwrap());
    let agent = Agent::start(alone, Clock::system());
    let spool = folder.path().join("spool");
    let size = |folder: &Path| -> u64 {
        let files = std::fs::read_dir(folder).unwrap();
        files
            .map(|file| file.unwrap().metadata().unwrap().len())
            .sum()
    };
    let (start, size_before) = (Instant::now(), size(&spool));
    while size(&spool) < size_before + 1_000 {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the spool must grow"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    agent.stop_at_once().await;
    assert_eq!(collector.look(|seen| seen.records.len()), before);

    // Back again: history arrives, as history, beside live results.
    let agent = Agent::start(config, Clock::system());
    collector
        .until("history and live results", |seen| {
            let incarnations: BTreeSet<u64> = seen.records.keys().map(|(i, _)| *i).collect();
            let backlog = seen.batches.iter().any(|(_, batch)| {
                batch.lane == Lane::Backlog && batch.count > 0 && batch.incarnation.is_some()
            });
            (incarnations.len() == 3 && backlog).then_some(())
        })
        .await;
    agent.stop().await;
    collector.look(|seen| {
        let from_history =
            |(_, batch): &&(Instant, Batch)| batch.lane == Lane::Backlog && batch.boot_id.is_some();
        assert_eq!(
            seen.batches.iter().filter(from_history).count(),
            0,
            "the same boot"
        );
        assert_eq!(
            seen.hellos.last().unwrap().1.assignment.0,
            1,
            "kept on disk"
        );
    });
}

#[tokio::test]
async fn a_clock_that_jumps_a_day_is_reported_and_disturbs_nothing() {
    let (_listener, port) = target().await;
    let collector = FakeCollector::start(quick(port)).await;
    let folder = tempfile::tempdir().unwrap();
    let clock = SteppedClock::default();
    let agent = Agent::start(collector.config(state_dir(&folder)), clock.clock());
    collector
        .until("two results", |seen| {
            (seen.results().count() >= 2).then_some(())
        })
        .await;
    let day_us = 86_400_000_000;
    clock.step_wall(day_us);
    let (stepped_ms, results) = collector
        .until("a clock event", |seen| {
            let event = seen
                .events()
                .find(|event| event.kind == EventKind::ClockStepped)?;
            Some((event.value, seen.results().count()))
        })
        .await;
    assert!((stepped_ms - 86_400_000).abs() < 1_000, "{stepped_ms}");
    collector
        .until("results and a batch with the new time", |seen| {
            let told = seen
                .batches
                .iter()
                .skip(1)
                .any(|(_, batch)| batch.clock.is_some());
            (told && seen.results().count() >= results + 2).then_some(())
        })
        .await;
    agent.stop().await;
    collector.look(|seen| {
        let times: Vec<_> = seen.results().map(|(record, _)| record.time).collect();
        for pair in times.windows(2) {
            let passed = pair[1].boottime_ms - pair[0].boottime_ms;
            assert!(passed < 5_000, "the boot clock goes on: {passed} ms");
        }
        let whole = times.last().unwrap().wall_ms - times[0].wall_ms;
        assert!(
            whole > 86_000_000,
            "the wall clock is recorded as it was: {whole} ms"
        );
        assert_eq!(seen.hellos.len(), 1, "the stream survived");
    });
}

#[tokio::test]
async fn measurements_on_demand_are_answered_within_the_agents_own_limits() {
    let (_listener, port) = target().await;
    let collector = FakeCollector::start(quick(port)).await;
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(collector.config(state_dir(&folder)), Clock::system());
    collector
        .until("a stream", |seen| (!seen.hellos.is_empty()).then_some(()))
        .await;
    for (request_id, address) in [(7, "127.0.0.1"), (8, "192.0.2.1")] {
        collector.send(measurement(request_id, address, port)).await;
    }
    collector
        .until("two answers", |seen| {
            (seen.answers.len() >= 2).then_some(())
        })
        .await;
    agent.stop().await;
    collector.look(|seen| {
        let answer = |id| {
            seen.answers
                .iter()
                .find(|answer| answer.request_id == id)
                .unwrap()
        };
        assert_eq!(answer(7).answer.as_ref().unwrap().len(), 1);
        let refusal = answer(8).answer.as_ref().unwrap_err();
        assert!(refusal.contains("192.0.2.1"), "{refusal}");
        assert!(
            seen.results().all(|(_, result)| result.check.0 == 1),
            "not spooled"
        );
    });
}

#[tokio::test]
async fn the_next_collector_takes_over() {
    let (_listener, port) = target().await;
    let collector = FakeCollector::start(quick(port)).await;
    let folder = tempfile::tempdir().unwrap();
    let mut config = collector.config(state_dir(&folder));
    config.collectors.insert(0, "127.0.0.1:1".parse().unwrap());
    let agent = Agent::start(config, Clock::system());
    collector
        .until("a result", |seen| {
            (seen.results().count() >= 1).then_some(())
        })
        .await;
    agent.stop().await;
}

#[tokio::test]
async fn another_authority_than_the_tickets_is_refused() {
    let collector = FakeCollector::start(Orders::default()).await;
    let impostor = FakeCollector::start(Orders::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let config = collector.config(state_dir(&folder));
    let (_trigger, stop) = shutdown();
    let mut misled = config.clone();
    misled.collectors = vec![impostor.address.into()];
    let time = extranet_agent::run::certificate_time(folder.path(), Clock::system());
    let error = extranet_agent::identity::enrol(&misled, &collector.ticket(), time)
        .await
        .unwrap_err();
    assert!(matches!(error, IdentityError::Dial(_)), "{error:?}");
    let shown = extranet_agent::shell::error_chain(&error);
    assert!(shown.contains("authority that the ticket names"), "{shown}");

    // Without a ticket there is nothing to try.
    misled.ticket_file = None;
    let error = run(misled, Clock::system(), stop).await.unwrap_err();
    assert!(
        error.to_string().contains("extranet-agent enrol"),
        "{error}"
    );
    assert_eq!(
        error.exit_status(),
        extranet_agent::shell::exit::NOT_ENROLLED
    );
}

#[tokio::test]
async fn a_certificate_is_renewed_with_a_new_key_signed_by_the_old() {
    let collector = FakeCollector::start(Orders::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let config = collector.config(state_dir(&folder));
    let time = extranet_agent::run::certificate_time(folder.path(), Clock::system());
    let first = extranet_agent::identity::enrol(&config, &collector.ticket(), time.clone())
        .await
        .unwrap();
    let second = extranet_agent::identity::renew(&config, &first, time)
        .await
        .unwrap();
    assert_eq!(first.agent_id, second.agent_id);
    assert_ne!(first, second);
}
