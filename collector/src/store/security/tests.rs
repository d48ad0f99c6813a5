//! Life cycles and alerts as functions of the log: replayed, cut anywhere, in any order of arrival.

use extranet_proto::record::{Body, Record, RecordTime};
use extranet_proto::wire::log_record::Input;

use super::*;
use crate::store::Store;
use crate::store::tests::{Agents, BEGIN, Log, MINUTE, apply, dump, network, whole};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;

/// A word of an agent about the gateway, said so many µs after the beginning.
fn word(at: i64, action: SecurityAction, object: &str) -> Record {
    let time = RecordTime {
        boottime_ms: u64::try_from(at / 1_000).unwrap(),
        wall_ms: (BEGIN + at) / 1_000,
    };
    Record {
        time,
        body: Body::Security(SecurityEvent {
            rule: SecurityRule::GatewayMac,
            action,
            severity: Severity::Critical,
            object: object.to_owned(),
            first_seen: time,
            evidence: vec![(
                "mac".to_owned(),
                format!("02:00:00:00:00:{:02x}", at / MINUTE % 256),
            )],
        }),
    }
}

fn raised(at: i64) -> Record {
    word(at, SecurityAction::Raised, "gateway 10.3.0.1 on eth0")
}

fn cleared(at: i64) -> Record {
    word(at, SecurityAction::Cleared, "gateway 10.3.0.1 on eth0")
}

/// The network with what its agents say.
struct Bench {
    log: Log,
    agents: Agents,
}

impl Bench {
    fn new() -> Self {
        Self {
            log: network(),
            agents: Agents::default(),
        }
    }

    /// Records that arrive so many µs after the beginning.
    fn arrive(&mut self, at: i64, agent: &str, records: &[Record]) {
        let batch = self.agents.batch(agent, records);
        self.log.push(BEGIN + at, batch);
    }

    fn tick(&self, at: i64) {
        self.log.push(BEGIN + at, Input::Tick(wire::Tick {}));
    }

    /// Events as "object state reason flaps late raised", oldest first.
    fn events(&self) -> Vec<wire::SecurityEventStatus> {
        let (_folder, store) = whole(&self.log);
        listed(&store)
    }

    /// Alerts as "severity since until reason", in seconds from the beginning.
    fn alerts(&self) -> Vec<String> {
        let (_folder, store) = whole(&self.log);
        alerts_of(&store)
    }

    /// However the log is cut into transactions, and wherever a crash comes, the tables are the same.
    fn must_replay(&self) {
        let (_folder, expected) = whole(&self.log);
        let expected = dump(&expected);
        for group in [1, 3] {
            let folder = tempfile::tempdir().unwrap();
            for to in (1..=self.log.len()).step_by(group) {
                drop(apply(folder.path(), &self.log, to, group));
            }
            let store = apply(folder.path(), &self.log, self.log.len(), group);
            assert_eq!(dump(&store), expected, "groups of {group}");
        }
    }
}

fn listed(store: &Store) -> Vec<wire::SecurityEventStatus> {
    let mut events = store
        .security_events(&wire::SecurityEventsRequest::default())
        .unwrap();
    events.reverse();
    events
}

fn alerts_of(store: &Store) -> Vec<String> {
    let connection = store.read().unwrap();
    let mut statement = connection
        .prepare(
            "SELECT severity, starts_ms, ends_ms, close_reason FROM alerts WHERE event_id IS NOT NULL ORDER BY alert_id",
        )
        .unwrap();
    let seconds = |ms: i64| (ms - BEGIN / 1_000) / 1_000;
    let rows = statement
        .query_map([], |row| {
            let severity: String = row.get(0)?;
            let since = seconds(row.get(1)?);
            let until = row.get::<_, Option<i64>>(2)?.map(seconds);
            let reason: Option<String> = row.get(3)?;
            Ok(match until {
                None => format!("{severity} {since}"),
                Some(until) => format!("{severity} {since} {until} {}", reason.unwrap()),
            })
        })
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn an_event_opens_one_alert_however_often_it_is_raised_and_closes_after_its_hold_down() {
    let mut bench = Bench::new();
    bench.arrive(10 * SECOND, "v1", &[raised(10 * SECOND)]);
    bench.arrive(70 * SECOND, "v1", &[raised(70 * SECOND)]);
    let open = bench.events();
    assert_eq!(open.len(), 1);
    assert_eq!(
        (open[0].state.as_str(), open[0].times_raised),
        ("active", 2)
    );
    assert_eq!(open[0].evidence[0].value, "02:00:00:00:00:01", "the newest");
    assert!(
        open[0].text_zh.contains("网关MAC地址变化"),
        "{}",
        open[0].text_zh
    );

    bench.arrive(100 * SECOND, "v1", &[cleared(100 * SECOND)]);
    bench.tick(399 * SECOND);
    assert_eq!(bench.events()[0].state, "clearing");
    assert_eq!(bench.alerts(), ["critical 10"]);
    bench.tick(400 * SECOND);
    let closed = bench.events();
    assert_eq!(closed[0].state, "closed");
    assert_eq!(
        closed[0].until_wall_us,
        BEGIN + 100 * SECOND,
        "when it was over, not when that was sure"
    );
    assert_eq!(bench.alerts(), ["critical 10 100 recovered"]);
    bench.must_replay();
}

#[test]
fn what_comes_back_within_its_hold_down_stays_one_event() {
    let mut bench = Bench::new();
    for round in 0..5 {
        let at = 10 * SECOND + round * 4 * MINUTE;
        bench.arrive(at, "v1", &[raised(at)]);
        bench.arrive(at + MINUTE, "v1", &[cleared(at + MINUTE)]);
    }
    assert_eq!(bench.events()[0].flaps, 4);
    // What flaps must be quiet for six times as long.
    bench.tick(10 * SECOND + 17 * MINUTE + 29 * MINUTE);
    assert_eq!(bench.alerts(), ["critical 10"]);
    bench.tick(10 * SECOND + 17 * MINUTE + 30 * MINUTE);
    assert_eq!(bench.alerts(), ["critical 10 1030 recovered"]);
    bench.must_replay();
}

#[test]
fn what_comes_back_soon_after_it_closed_is_collapsed_in_the_end() {
    let mut bench = Bench::new();
    for round in 0..8 {
        let at = 10 * SECOND + round * 10 * MINUTE;
        bench.arrive(at, "v1", &[raised(at)]);
        bench.arrive(at + MINUTE, "v1", &[cleared(at + MINUTE)]);
        bench.tick(at + 7 * MINUTE);
    }
    let flaps: Vec<u32> = bench.events().iter().map(|event| event.flaps).collect();
    assert_eq!(flaps, [0, 1, 2, 7], "the fourth takes all that follow");
    assert_eq!(bench.alerts().len(), 4);
    bench.must_replay();
}

#[test]
fn what_happened_during_an_outage_keeps_its_times_and_pages_only_if_it_lasts() {
    let gateway = |times: &[(i64, SecurityAction)]| -> Vec<Record> {
        let object = "gateway 10.3.0.1 on eth0";
        times
            .iter()
            .map(|(at, action)| word(at * SECOND, *action, object))
            .collect()
    };
    let (raise, clear) = (SecurityAction::Raised, SecurityAction::Cleared);
    // Raised and over within an hour's outage: in one batch, and newest first in two.
    let mut one = Bench::new();
    one.arrive(
        3_600 * SECOND,
        "v1",
        &gateway(&[(100, raise), (200, clear)]),
    );
    let mut two = Bench::new();
    two.arrive(3_600 * SECOND, "v1", &gateway(&[(200, clear)]));
    two.arrive(3_601 * SECOND, "v1", &gateway(&[(100, raise)]));
    for bench in [&one, &two] {
        let events = bench.events();
        assert_eq!(events.len(), 1);
        let event = &events[0];
        assert_eq!((event.state.as_str(), event.late), ("closed", true));
        assert_eq!(event.since_wall_us, BEGIN + 100 * SECOND);
        assert_eq!(event.until_wall_us, BEGIN + 200 * SECOND);
        assert!(event.text_zh.starts_with("【补报】"), "{}", event.text_zh);
        assert_eq!(bench.alerts(), [""; 0]);
        bench.must_replay();
    }
    // It lasts: one alert, with the time at which it began.
    let mut lasting = Bench::new();
    lasting.arrive(3_600 * SECOND, "v1", &gateway(&[(300, raise)]));
    lasting.arrive(
        3_601 * SECOND,
        "v1",
        &gateway(&[(100, raise), (200, clear)]),
    );
    let events: Vec<_> = lasting
        .events()
        .into_iter()
        .map(|event| (event.state, event.since_wall_us, event.late))
        .collect();
    assert_eq!(
        events,
        [
            ("active".to_owned(), BEGIN + 300 * SECOND, true),
            ("closed".to_owned(), BEGIN + 100 * SECOND, true)
        ]
    );
    assert_eq!(lasting.alerts(), ["critical 300"]);
    // An older word about the same beginning moves it back.
    lasting.arrive(3_602 * SECOND, "v1", &gateway(&[(250, raise)]));
    assert_eq!(lasting.events()[0].since_wall_us, BEGIN + 250 * SECOND);
    // Over by the newest word, whatever else arrives late.
    lasting.arrive(3_700 * SECOND, "v1", &gateway(&[(3_700, clear)]));
    lasting.tick(4_000 * SECOND);
    assert_eq!(lasting.alerts(), ["critical 300 3700 recovered"]);
    lasting.must_replay();
}

#[test]
fn it_is_over_when_no_agent_sees_it() {
    let mut bench = Bench::new();
    // The agents of two access points are two events; two agents of one are one.
    bench.log.push(
        BEGIN,
        Input::CertificateIssued(wire::CertificateIssued {
            agent_id: "v2".to_owned(),
            ap_id: "village".to_owned(),
            certificate_digest: vec![2; 32],
            ..Default::default()
        }),
    );
    bench.arrive(10 * SECOND, "v1", &[raised(10 * SECOND)]);
    bench.arrive(20 * SECOND, "v2", &[raised(20 * SECOND)]);
    bench.arrive(20 * SECOND, "k1", &[raised(20 * SECOND)]);
    bench.arrive(30 * SECOND, "v1", &[cleared(30 * SECOND)]);
    let events = bench.events();
    let states: Vec<_> = events
        .iter()
        .map(|event| (event.ap_id.as_str(), event.state.as_str()))
        .collect();
    assert_eq!(states, [("village", "active"), ("county", "active")]);
    assert_eq!(events[0].agents, ["v2"]);
    // An agent that is revoked sees nothing any more.
    for agent in ["v2", "k1"] {
        let revoked = wire::AgentRevoked {
            agent_id: agent.to_owned(),
            actor: "t".to_owned(),
        };
        bench
            .log
            .push(BEGIN + 60 * SECOND, Input::AgentRevoked(revoked));
    }
    assert_eq!(
        bench.alerts(),
        [
            "critical 10 60 not_monitored",
            "critical 20 60 not_monitored"
        ]
    );
    bench.must_replay();
}

#[test]
fn a_gateway_that_is_exchanged_within_a_window_is_less_bad() {
    let mut bench = Bench::new();
    let window = wire::SecurityWindowAdded {
        ap_id: "village".to_owned(),
        from_wall_us: BEGIN,
        to_wall_us: BEGIN + MINUTE,
        reason: "new router".to_owned(),
        ..Default::default()
    };
    bench.log.push(BEGIN, Input::SecurityWindowAdded(window));
    bench.arrive(10 * SECOND, "v1", &[raised(10 * SECOND)]);
    bench.arrive(10 * SECOND, "k1", &[raised(10 * SECOND)]);
    let severities: Vec<_> = bench.events().iter().map(|e| e.severity.clone()).collect();
    assert_eq!(severities, ["major", "critical"]);
    // It goes on behind the window.
    bench.arrive(70 * SECOND, "v1", &[raised(70 * SECOND)]);
    assert_eq!(
        bench.alerts(),
        ["major 10 70 worse", "critical 10", "critical 10"]
    );
    bench.must_replay();
}

#[test]
fn a_storm_is_kept_whole_and_its_alerts_come_in_turn() {
    let mut bench = Bench::new();
    let flood = |agent: &str| -> Vec<Record> {
        let object = |i: i64| format!("gateway {agent} {i}");
        (0..150)
            .map(|i| word(i, SecurityAction::Raised, &object(i)))
            .collect()
    };
    for agent in ["v1", "k1"] {
        bench.arrive(SECOND, agent, &flood(agent));
    }
    assert_eq!(bench.events().len(), 300);
    assert_eq!(
        bench.alerts().len(),
        40,
        "twenty a minute for each access point"
    );
    let waiting = bench
        .events()
        .iter()
        .filter(|event| event.suppressed)
        .count();
    assert_eq!(waiting, 260);
    bench.tick(62 * SECOND);
    assert_eq!(bench.alerts().len(), 80);
    let (_folder, store) = whole(&bench.log);
    assert_eq!(store.security_at(BEGIN + 62 * SECOND).unwrap()[0].open, 150);
    bench.must_replay();
}

#[test]
fn nobody_can_fill_the_catalogue() {
    let mut bench = Bench::new();
    for round in 0..3_i64 {
        let at = (round + 1) * 10 * MINUTE;
        let mut words = Vec::new();
        for i in 0..1_000 {
            let object = format!("gateway {round} {i}");
            words.push(word(at, SecurityAction::Raised, &object));
            words.push(word(at + 1_000, SecurityAction::Cleared, &object));
        }
        bench.arrive(at + 1_000, "v1", &words);
        bench.tick(at + 6 * MINUTE);
    }
    let (_folder, store) = whole(&bench.log);
    let connection = store.read().unwrap();
    let rows = |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
    assert_eq!(rows("SELECT count(*) FROM security_events"), CLOSED_EVENTS);
    assert_eq!(rows("SELECT count(*) FROM security_log"), 6_000);
}

mod certificates;
