//! Runs become levels, changes and alerts.

use extranet_agent::ipv6::report::Report;
use extranet_proto::id::{AssignmentVersion, CheckId};
use extranet_proto::record::Reason;

use super::*;
use crate::store::catalogue::Pool;

struct Bench {
    _folder: tempfile::TempDir,
    pool: Pool,
    readiness: Readiness,
}

const MINUTE_MS: i64 = 60_000;

/// A run: everything of the first form passes but what is listed.
fn run(failing: &[&str]) -> CheckResult {
    let mut report = Report::default();
    let first_form = [
        "A1", "A3", "A4", "B1", "C1", "C2", "D1", "D3", "E1", "E3", "F1", "G1", "G2",
    ];
    for id in first_form {
        report.decide(&format!("V6-{id}"), !failing.contains(&id), 0, "");
    }
    CheckResult {
        assignment: AssignmentVersion(1),
        check: CheckId(7),
        outcome: Outcome::Ok,
        reason: Reason::None,
        duration_us: 1,
        values: report.values(),
    }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pool = Pool::open(&folder.path().join("c.sqlite")).unwrap();
        pool.get()
            .unwrap()
            .execute_batch(
                "INSERT INTO agents (agent_id, ap_id, enrolled_us) VALUES ('agent', 'site', 0), ('second', 'site', 1);
                 INSERT INTO checks (agent_id, check_id, digest, name, family, instance, vrf, probe, role, ap_id, vantage,
                 active) VALUES ('agent', 7, x'07', 'ipv6', 6, '@self', '', 'ipv6', 'self', 'site', '', 1),
                 ('second', 7, x'07', 'ipv6', 6, '@self', '', 'ipv6', 'self', 'site', 'second', 1);",
            )
            .unwrap();
        Self {
            _folder: folder,
            pool,
            readiness: Readiness::new(Arc::new(Stats::new())),
        }
    }

    /// Applies a run of an agent measured at a minute; the log's time is the same.
    fn apply(&mut self, agent: &str, minute: i64, failing: &[&str]) {
        let batch = wire::LoggedBatch {
            agent_id: agent.to_owned(),
            time_certain: true,
            ..Default::default()
        };
        let mut connection = self.pool.get().unwrap();
        let transaction = connection.transaction().unwrap();
        let wall_ms = minute * MINUTE_MS;
        self.readiness
            .results(
                &transaction,
                wall_ms * 1_000,
                &batch,
                &[(wall_ms, run(failing))],
            )
            .unwrap();
        transaction.commit().unwrap();
    }

    fn level(&self) -> u8 {
        let connection = self.pool.get().unwrap();
        let level = "SELECT level FROM ipv6_sites WHERE ap_id = 'site'";
        connection.query_row(level, [], |row| row.get(0)).unwrap()
    }

    /// Alerts as (cause, minute of the start, close reason).
    fn alerts(&self) -> Vec<(u8, i64, Option<String>)> {
        let connection = self.pool.get().unwrap();
        let sql = "SELECT cause, starts_ms, close_reason FROM alerts WHERE name = 'Ipv6LevelFell' ORDER BY alert_id";
        let mut statement = connection.prepare(sql).unwrap();
        let rows = statement
            .query_map([], |row| {
                Ok((row.get(0)?, row.get::<_, i64>(1)? / MINUTE_MS, row.get(2)?))
            })
            .unwrap();
        rows.map(Result::unwrap).collect()
    }

    fn known_at(&self, minute: i64) -> Vec<(String, Known)> {
        let connection = self.pool.get().unwrap();
        known_at(&connection, minute * MINUTE_MS * 1_000).unwrap()
    }
}

#[test]
fn a_fall_that_lasts_opens_one_alert_and_the_return_closes_it() {
    let mut bench = Bench::new();
    bench.apply("agent", 0, &[]);
    assert_eq!(bench.level(), 2, "F2 is not tested, so L3 is not proven");
    bench.apply("agent", 15, &["C1"]);
    bench.apply("agent", 30, &["C1"]);
    assert_eq!((bench.level(), bench.alerts().len()), (2, 0));
    bench.apply("agent", 45, &["C1"]);
    assert_eq!(bench.level(), 1);
    assert!(bench.readiness.take_alerts_changed());
    assert_eq!(bench.alerts(), [(21, 45, None)]);
    let due =
        crate::alert::due(&bench.pool.get().unwrap(), "one", 46 * MINUTE_MS * 1_000, 1).unwrap();
    assert!(
        due[0].text.en.contains("fell from L2 to L1"),
        "{}",
        due[0].text.en
    );
    assert!(
        due[0].text.zh.contains("由 L2 降至 L1"),
        "{}",
        due[0].text.zh
    );
    assert!(due[0].text.zh.contains("V6-C1"), "{}", due[0].text.zh);

    // It falls further: the same alert.
    for minute in [60, 75, 90] {
        bench.apply("agent", minute, &["A3"]);
    }
    assert_eq!(bench.alerts(), [(20, 45, None)]);

    // Half the way back closes nothing, all the way does.
    for minute in [105, 120, 135] {
        bench.apply("agent", minute, &["B1"]);
    }
    assert_eq!((bench.level(), bench.alerts()), (1, vec![(21, 45, None)]));
    for minute in [150, 165, 180] {
        bench.apply("agent", minute, &[]);
    }
    assert_eq!(bench.level(), 2);
    assert_eq!(bench.alerts(), [(21, 45, Some("recovered".to_owned()))]);
}

#[test]
fn runs_that_arrive_late_and_those_of_a_second_agent_change_nothing() {
    let mut bench = Bench::new();
    bench.apply("agent", 100, &[]);
    for minute in [10, 20, 30, 100] {
        bench.apply("agent", minute, &["A1"]);
    }
    for minute in [110, 120, 130] {
        bench.apply("second", minute, &["A1"]);
    }
    assert_eq!((bench.level(), bench.alerts()), (2, Vec::new()));
}

#[test]
fn what_is_known_is_exported_for_a_day_and_no_score_that_does_not_count() {
    let mut bench = Bench::new();
    assert_eq!(bench.known_at(0), []);
    bench.apply("agent", 1, &[]);
    let known = Known {
        level: 2,
        possible: 5,
        hundredths: Some(10_000),
        sufficient: false,
    };
    assert_eq!(bench.known_at(0), []);
    assert_eq!(bench.known_at(1), [("site".to_owned(), known)]);
    assert_eq!(bench.known_at(30 * 60), [("site".to_owned(), known)]);
    assert_eq!(bench.known_at(30 * 60 + 1), []);
    bench.apply("agent", 31 * 60, &["G1"]);
    let slower = Known {
        possible: 3,
        hundredths: Some(9_361),
        ..known
    };
    assert_eq!(bench.known_at(31 * 60), [("site".to_owned(), slower)]);
    assert_eq!(
        bench.known_at(2)[0].1,
        known,
        "an export that lags behind sees what held then"
    );
}

#[test]
fn an_alert_ends_when_nobody_runs_the_rubric_any_more() {
    let mut bench = Bench::new();
    for (minute, failing) in [(0, [""]), (1, ["B1"]), (2, ["B1"]), (3, ["B1"])] {
        bench.apply("agent", minute, &failing);
    }
    assert_eq!(bench.alerts(), [(21, 3, None)]);
    let mut connection = bench.pool.get().unwrap();
    let transaction = connection.transaction().unwrap();
    let now_us = 5 * MINUTE_MS * 1_000;
    bench
        .readiness
        .catalogue_changed(&transaction, now_us)
        .unwrap();
    transaction
        .execute("UPDATE checks SET active = 0", [])
        .unwrap();
    bench
        .readiness
        .catalogue_changed(&transaction, now_us)
        .unwrap();
    transaction.commit().unwrap();
    drop(connection);
    assert_eq!(bench.alerts(), [(21, 3, Some("not_monitored".to_owned()))]);
}
