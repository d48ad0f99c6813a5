//! The catalogue as a function of the log: replayed, cut anywhere, in other groups.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use extranet_proto::block;
use extranet_proto::id::{AssignmentVersion, CheckId, ObjectId};
use extranet_proto::metric::{ICMP_RECEIVED, ICMP_RTT_AVG, ICMP_SENT};
use extranet_proto::record::{
    Body, CheckResult, Definition, ObjectKind, Outcome, Reason, Record, RecordTime, Value,
};
use extranet_proto::wire::log_record::Input;

use super::*;

mod secrets;
mod traffic;

pub(super) const MINUTE: i64 = 60_000_000;
/// Some minute, µs since 1970.
pub(super) const BEGIN: i64 = 1_790_000_040_000_000;

/// A log that is written in the test and read by any number of followers.
#[derive(Default, Clone)]
pub(super) struct Log(Arc<Mutex<Vec<Entry>>>);

type Entry = (Position, Vec<u8>);

impl Log {
    pub(super) fn push(&self, wall_us: i64, input: Input) {
        let mut records = self.0.lock().unwrap();
        let sequence = records.len() as u64;
        let position = Position {
            incarnation: 7,
            sequence,
        };
        let record = wire::LogRecord {
            wall_us,
            input: Some(input),
        };
        records.push((position, encode_log_record(&record)));
    }

    fn last(&self) -> Position {
        self.0.lock().unwrap().last().unwrap().0
    }

    /// Reads records `from..to`, at most `group` before each pretended end.
    fn reader(&self, from: usize, to: usize, group: usize) -> Records {
        let records = self.0.lock().unwrap();
        Records {
            left: records[from..to].iter().cloned().collect(),
            group,
            given: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

struct Records {
    left: VecDeque<Entry>,
    group: usize,
    given: usize,
}

impl LogReader for Records {
    fn next(
        &mut self,
    ) -> Result<Option<(Position, Vec<u8>)>, Box<dyn std::error::Error + Send + Sync>> {
        if self.given == self.group {
            self.given = 0;
            return Ok(None);
        }
        self.given += 1;
        Ok(self.left.pop_front())
    }
}

fn settings() -> StoreSettings {
    StoreSettings {
        silent_after: Duration::from_mins(5),
        ..StoreSettings::default()
    }
}

fn open(folder: &Path) -> Store {
    Store::open(folder, settings(), Arc::default()).unwrap()
}

/// Applies records of the log from where the catalogue stands to `to`.
pub(super) fn apply(folder: &Path, log: &Log, to: usize, group: usize) -> Store {
    let store = open(folder);
    let from = usize::try_from(store.applied_records()).unwrap();
    let follower = store.start(log.reader(from, to, group)).unwrap();
    wait(&store, to);
    follower.stop();
    store
}

fn wait(store: &Store, records: usize) {
    let deadline = extranet_agent::clock::boottime_us() + 20_000_000;
    while store.applied_records() < records as u64 {
        assert!(
            extranet_agent::clock::boottime_us() < deadline,
            "applied {} of {records}",
            store.applied_records()
        );
        store.wake();
        std::thread::yield_now();
    }
}

pub(super) fn whole(log: &Log) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = apply(folder.path(), log, log.len(), 1_000);
    (folder, store)
}

/// All rows of all tables that follow from the log.
pub(super) fn dump(store: &Store) -> Vec<String> {
    let connection = store.read().unwrap();
    let tables: Vec<String> = connection
        .prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut lines = Vec::new();
    for table in tables {
        let mut statement = connection
            .prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2, 3"))
            .or_else(|_| connection.prepare(&format!("SELECT * FROM {table} ORDER BY 1, 2")))
            .unwrap();
        let columns = statement.column_count();
        let rows = statement
            .query_map([], |row| {
                let values: Vec<String> = (0..columns)
                    .map(|i| format!("{:?}", row.get_ref(i).unwrap()))
                    .collect();
                Ok(values.join(" "))
            })
            .unwrap();
        for row in rows {
            lines.push(format!("{table}: {}", row.unwrap()));
        }
    }
    lines
}

fn inventory() -> wire::InventoryChanged {
    let access_points = "ap_id,name,level,parent,medium,monitoring\n\
        county,林周县,county,centre,fibre,agent\n\
        village,阿朗乡一村,village,county,fibre,agent\n";
    let targets = "ap_id,name,kind,address,snmp_version,snmp_community\n\
        centre,core,anchor,10.0.0.1,,\n\
        village,ce,router,10.3.0.1,2c,secret\n";
    let mut now = crate::inventory::Inventory::default();
    now.insert_access_point(wire::AccessPointRow {
        ap_id: "centre".to_owned(),
        level: "region".to_owned(),
        ..Default::default()
    });
    let files = Files {
        access_points: access_points.as_bytes(),
        targets: targets.as_bytes(),
        villages: b"",
    };
    let planned = crate::inventory::import::plan(&now, &BTreeMap::new(), &files, "t");
    planned.record.expect("valid rows")
}

fn enrolled(agent: &str, ap_id: &str) -> Input {
    Input::CertificateIssued(wire::CertificateIssued {
        agent_id: agent.to_owned(),
        ap_id: ap_id.to_owned(),
        secret_digest: vec![1; 32],
        certificate_digest: agent.as_bytes().to_vec(),
        not_after_wall_us: BEGIN + 1_000_000 * MINUTE,
        renewal: false,
        public_key_digest: Vec::new(),
    })
}

/// Three agents: the centre, a county and a village below it.
pub(super) fn network() -> Log {
    let log = Log::default();
    log.push(
        BEGIN,
        Input::CollectorStarted(wire::CollectorStarted::default()),
    );
    log.push(BEGIN, Input::InventoryChanged(inventory()));
    log.push(
        BEGIN,
        Input::TicketIssued(wire::TicketIssued {
            secret_digest: vec![1; 32],
            ap_id: "village".to_owned(),
            expires_wall_us: BEGIN + MINUTE,
        }),
    );
    log.push(BEGIN, enrolled("centre", "centre"));
    log.push(BEGIN, enrolled("k1", "county"));
    log.push(BEGIN, enrolled("v1", "village"));
    log
}

/// Check ids by agent, role and access point, as the built-in plan gives them.
pub(super) fn check(store: &Store, agent: &str, role: &str, name: &str, ap_id: &str) -> u32 {
    store
        .read()
        .unwrap()
        .query_row(
            "SELECT check_id FROM checks WHERE agent_id = ?1 AND role = ?2 AND name = ?3 AND ap_id = ?4 LIMIT 1",
            [agent, role, name, ap_id],
            |row| row.get(0),
        )
        .unwrap()
}

fn ping(wall_us: i64, check: u32, answered: u64) -> Record {
    let value = |metric, raw| Value {
        metric,
        object: ObjectId(0),
        raw,
    };
    Record {
        time: RecordTime {
            boottime_ms: u64::try_from((wall_us - BEGIN) / 1_000).unwrap(),
            wall_ms: wall_us / 1_000,
        },
        body: Body::Result(CheckResult {
            assignment: AssignmentVersion(1),
            check: CheckId(check),
            outcome: if answered > 0 {
                Outcome::Ok
            } else {
                Outcome::Failed
            },
            reason: if answered > 0 {
                Reason::None
            } else {
                Reason::Timeout
            },
            duration_us: 61,
            values: vec![
                value(ICMP_SENT, 5),
                value(ICMP_RECEIVED, answered),
                value(ICMP_RTT_AVG, 61),
            ],
        }),
    }
}

/// Numbers the records of each agent.
#[derive(Default)]
pub(super) struct Agents(HashMap<String, u64>);

impl Agents {
    pub(super) fn batch(&mut self, agent: &str, records: &[Record]) -> Input {
        let next = self.0.entry(agent.to_owned()).or_default();
        let first_sequence = *next;
        *next += records.len() as u64;
        Input::Batch(wire::LoggedBatch {
            agent_id: agent.to_owned(),
            incarnation: 0xffff_0000_0000_0001,
            boot_id: vec![0; 16],
            first_sequence,
            new_ranges: vec![wire::SequenceRange {
                incarnation: 0xffff_0000_0000_0001,
                from_inclusive: first_sequence,
                to_exclusive: *next,
            }],
            boot_to_wall_ms: BEGIN / 1_000,
            time_certain: true,
            block: block::encode(records),
            lane: wire::Lane::Live.into(),
        })
    }
}

/// One agent that reaches the anchor each minute; the village's link is cut for `cut` and its results come at the end.
fn outage(cut: std::ops::Range<i64>, minutes: i64, backfill: u64) -> Log {
    let log = network();
    let (_folder, store) = whole(&log);
    let own = check(&store, "v1", "anchor", "anchor-icmp", "village");
    let centre = check(&store, "centre", "anchor", "anchor-icmp", "centre");
    let county = check(&store, "k1", "anchor", "anchor-icmp", "county");
    let from_centre = check(&store, "centre", "inbound", "inbound-icmp", "village");
    let from_county = check(&store, "k1", "inbound", "inbound-icmp", "village");
    let mut agents = Agents::default();
    let mut waiting = Vec::new();
    for minute in 1..minutes {
        let at = BEGIN + minute * MINUTE + 10_000_000;
        let lost = cut.contains(&minute);
        let seen = if lost { 0 } else { 5 };
        let batch = agents.batch(
            "centre",
            &[ping(at, centre, 5), ping(at, from_centre, seen)],
        );
        log.push(at, batch);
        let batch = agents.batch("k1", &[ping(at, county, 5), ping(at, from_county, seen)]);
        log.push(at, batch);
        if lost {
            waiting.push(ping(at, own, backfill));
        } else {
            if !waiting.is_empty() {
                let batch = agents.batch("v1", &std::mem::take(&mut waiting));
                log.push(at, batch);
            }
            let batch = agents.batch("v1", &[ping(at, own, 5)]);
            log.push(at, batch);
        }
        log.push(at + 30_000_000, Input::Tick(wire::Tick {}));
    }
    log
}

fn states(store: &Store, ap_id: &str) -> Vec<(i64, String)> {
    let connection = store.read().unwrap();
    let mut statement = connection
        .prepare("SELECT from_inclusive, state FROM state_intervals WHERE ap_id = ?1 ORDER BY 1")
        .unwrap();
    let rows = statement
        .query_map([ap_id], |row| {
            let minute = row.get::<_, i64>(0)? - BEGIN / MINUTE;
            let state = crate::state::State::from_number(row.get(1)?).unwrap();
            Ok((minute, state.label().to_owned()))
        })
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

fn alerts(store: &Store) -> Vec<(String, i64, Option<i64>, Option<String>)> {
    let connection = store.read().unwrap();
    let mut statement = connection
        .prepare("SELECT ap_id, starts_ms, ends_ms, close_reason FROM alerts ORDER BY alert_id")
        .unwrap();
    let minute = |ms: i64| ms / 60_000 - BEGIN / MINUTE;
    let rows = statement
        .query_map([], |row| {
            Ok((
                row.get(0)?,
                minute(row.get(1)?),
                row.get::<_, Option<i64>>(2)?.map(minute),
                row.get(3)?,
            ))
        })
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

#[test]
fn an_outage_opens_one_alert_and_closes_it() {
    let log = outage(5..15, 25, 0);
    let (_folder, store) = whole(&log);
    let expected = [
        (1, "up".to_owned()),
        (5, "down".to_owned()),
        (15, "up".to_owned()),
    ];
    assert_eq!(states(&store, "village"), expected);
    assert_eq!(states(&store, "county"), [(1, "up".to_owned())]);
    assert_eq!(
        alerts(&store),
        [(
            "village".to_owned(),
            5,
            Some(15),
            Some("recovered".to_owned())
        )]
    );
}

#[test]
fn results_that_arrive_late_show_that_the_site_worked() {
    let log = outage(5..15, 25, 5);
    let (_folder, store) = whole(&log);
    assert_eq!(states(&store, "village"), [(1, "up".to_owned())]);
    let alerts = alerts(&store);
    assert_eq!(alerts.len(), 1);
    assert_eq!(alerts[0].3.as_deref(), Some("false_alarm"));
}

#[test]
fn a_short_outage_and_late_bad_results_page_nobody() {
    // Two bad slots are too few.
    let (_folder, store) = whole(&outage(5..7, 25, 0));
    assert_eq!(alerts(&store), []);
    // An hour of bad results arrives when everything is over.
    let log = network();
    let (_folder, store) = whole(&log);
    let own = check(&store, "v1", "anchor", "anchor-icmp", "village");
    let mut agents = Agents::default();
    for minute in 1..90 {
        let at = BEGIN + minute * MINUTE + 10_000_000;
        let batch = if (10..70).contains(&minute) {
            // Only heartbeats: an event of the agent.
            agents.batch("v1", &[])
        } else {
            agents.batch("v1", &[ping(at, own, 5)])
        };
        log.push(at, batch);
    }
    let late: Vec<Record> = (10..70)
        .map(|minute| ping(BEGIN + minute * MINUTE + 20_000_000, own, 0))
        .collect();
    let batch = agents.batch("v1", &late);
    log.push(BEGIN + 90 * MINUTE, batch);
    for minute in 90..100 {
        let at = BEGIN + minute * MINUTE + 10_000_000;
        let batch = agents.batch("v1", &[ping(at, own, 5)]);
        log.push(at, batch);
    }
    let (_folder, store) = whole(&log);
    assert_eq!(alerts(&store), []);
    assert_eq!(
        states(&store, "village"),
        [
            (1, "up".to_owned()),
            (10, "down".to_owned()),
            (70, "up".to_owned())
        ]
    );
}

#[test]
fn a_failed_parent_takes_the_page() {
    let log = network();
    let (_folder, store) = whole(&log);
    let own = check(&store, "v1", "anchor", "anchor-icmp", "village");
    let county = check(&store, "k1", "anchor", "anchor-icmp", "county");
    let mut agents = Agents::default();
    for minute in 1..30 {
        let at = BEGIN + minute * MINUTE + 10_000_000;
        let seen = if (5..20).contains(&minute) { 0 } else { 5 };
        let batch = agents.batch("v1", &[ping(at, own, seen)]);
        log.push(at, batch);
        let batch = agents.batch("k1", &[ping(at, county, seen)]);
        log.push(at, batch);
    }
    let (_folder, store) = whole(&log);
    assert_eq!(states(&store, "village").len(), 3, "the child was down too");
    let paged: Vec<String> = alerts(&store).into_iter().map(|alert| alert.0).collect();
    assert_eq!(paged, ["county"]);
}

#[test]
fn silence_counts_as_down_but_our_own_absence_does_not() {
    let run = |away: bool| {
        let log = network();
        let (_folder, store) = whole(&log);
        let own = check(&store, "v1", "anchor", "anchor-icmp", "village");
        let mut agents = Agents::default();
        for minute in 1..30 {
            let at = BEGIN + minute * MINUTE + 10_000_000;
            if (8..20).contains(&minute) {
                if !away {
                    log.push(at, Input::Tick(wire::Tick {}));
                }
                continue;
            }
            let batch = agents.batch("v1", &[ping(at, own, 5)]);
            log.push(at, batch);
        }
        whole(&log)
    };
    let (_folder, store) = run(false);
    assert_eq!(
        states(&store, "village"),
        [
            (1, "up".to_owned()),
            (8, "down".to_owned()),
            (20, "up".to_owned())
        ]
    );
    assert_eq!(alerts(&store).len(), 1);
    let (_folder, store) = run(true);
    assert_eq!(
        states(&store, "village"),
        [
            (1, "up".to_owned()),
            (8, "unknown".to_owned()),
            (20, "up".to_owned())
        ]
    );
    assert_eq!(alerts(&store), []);
}

#[test]
fn a_clock_that_jumps_a_day_and_back_pages_nobody() {
    let log = network();
    let (_folder, store) = whole(&log);
    let own = check(&store, "v1", "anchor", "anchor-icmp", "village");
    let mut agents = Agents::default();
    for minute in 1..40 {
        let at = BEGIN + minute * MINUTE + 10_000_000;
        let batch = agents.batch("v1", &[ping(at, own, 5)]);
        let jump = if (10..20).contains(&minute) {
            24 * 60 * MINUTE
        } else {
            0
        };
        log.push(at + jump, batch);
    }
    let (_folder, store) = whole(&log);
    assert_eq!(alerts(&store), []);
    assert_eq!(states(&store, "village").last().unwrap().1, "up");
}

#[test]
fn the_whole_log_twice_gives_the_same_tables() {
    let log = outage(5..12, 20, 0);
    let (_one, first) = whole(&log);
    let (_two, second) = whole(&log);
    assert_eq!(dump(&first), dump(&second));
}

#[test]
fn a_crash_between_any_two_records_changes_nothing() {
    let log = outage(3..8, 14, 0);
    let (_folder, expected) = whole(&log);
    let expected = dump(&expected);
    for group in [1, 3] {
        let folder = tempfile::tempdir().unwrap();
        let mut store = None;
        for to in (1..=log.len()).step_by(group) {
            drop(store);
            store = Some(apply(folder.path(), &log, to, group));
        }
        let store = apply(folder.path(), &log, log.len(), group);
        assert_eq!(dump(&store), expected, "groups of {group}");
    }
}

#[test]
fn what_the_front_asks_for() {
    let log = network();
    let (_folder, store) = whole(&log);
    let agent = AgentId::new("v1").unwrap();
    let info = store.agent(&agent).unwrap().expect("is enrolled");
    assert_eq!((info.ap_id.as_str(), info.revoked), ("village", false));
    let ticket = store.ticket(&[1; 32]).unwrap().expect("was issued");
    assert!(ticket.used.is_some());
    assert_eq!(store.ticket(&[2; 32]).unwrap(), None);
    let assignment = store.assignment_for(&agent).unwrap().expect("was compiled");
    assert_eq!(assignment.version, 1);
    let (valid, problems) =
        extranet_proto::assignment::Assignment::from_wire(assignment.clone()).unwrap();
    assert_eq!(
        (problems.len(), valid.checks.len()),
        (0, assignment.checks.len())
    );
    assert_eq!(store.changed_since(0).unwrap().len(), 3);

    log.push(
        BEGIN,
        Input::AgentRevoked(wire::AgentRevoked {
            agent_id: "v1".to_owned(),
            actor: "t".to_owned(),
        }),
    );
    let (_folder, store) = whole(&log);
    assert!(
        store
            .agent(&agent)
            .unwrap()
            .expect("is still known")
            .revoked
    );
    assert_eq!(store.assignment_for(&agent).unwrap(), None);
}

#[test]
fn versions_change_only_with_their_content_and_check_ids_are_never_reused() {
    let log = network();
    let plan = |toml: &str| {
        Input::PlanChanged(wire::PlanChanged {
            actor: "t".to_owned(),
            plan_toml: toml.to_owned(),
        })
    };
    let with = |interval: &str| {
        format!(
            "[[plan]]\nname = 'a'\n[[plan.check]]\nname = 'c'\nprobe = 'icmp'\ntarget = 'anchor'\ninterval = '{interval}'\n"
        )
    };
    let agent = AgentId::new("v1").unwrap();
    let look = || {
        let (_folder, store) = whole(&log);
        let assignment = store.assignment_for(&agent).unwrap().unwrap();
        let ids: Vec<u32> = assignment
            .checks
            .iter()
            .map(|check| check.check_id)
            .collect();
        (assignment.version, ids)
    };
    let (_, built_in) = look();
    log.push(BEGIN + 1, plan(&with("30s")));
    let (version, first) = look();
    assert_eq!(version, 2);
    assert!(
        first.iter().all(|id| !built_in.contains(id)),
        "{first:?} {built_in:?}"
    );
    // The same plan in other words, and a new import of the same inventory: nothing changes.
    log.push(BEGIN + 2, plan(&format!("# a comment\n{}", with("30s"))));
    log.push(BEGIN + 3, Input::InventoryChanged(inventory()));
    assert_eq!(look(), (2, first.clone()));
    // Another interval is another check.
    log.push(BEGIN + 4, plan(&with("40s")));
    let (version, second) = look();
    assert_eq!(version, 3);
    assert!(second.iter().all(|id| !first.contains(id)));
    // What it was at first keeps its meaning, so its id may come back.
    log.push(BEGIN + 5, plan(&with("30s")));
    assert_eq!(look(), (4, first));
}

#[test]
fn plans_and_imports_are_rehearsed_before_they_are_logged() {
    let (_folder, store) = whole(&network());
    let (record, reply) = store.plan_plan("[[plan]]\nname = 'x'\n", "t").unwrap();
    assert!(record.is_some());
    assert_eq!((reply.agents_changed, reply.agents_total), (3, 3));
    let (record, reply) = store.plan_plan("[[plan]]\nnme = 'x'\n", "t").unwrap();
    assert!(record.is_none());
    assert!(reply.problems[0].contains("plan:1"), "{:?}", reply.problems);

    let before = dump(&store);
    let planned = store
        .plan_inventory(
            &Files {
                access_points: b"ap_id,name,level,parent\nnew,x,village,county\n",
                ..Files::default()
            },
            "t",
        )
        .unwrap();
    assert_eq!(planned.reply.added, 1);
    let mut rows = String::from("ap_id,name,kind,address\n");
    for i in 0..extranet_proto::limits::ASSIGNMENT_CHECKS {
        let row = format!("village,r{i},router,10.3.{}.{}\n", i / 250, i % 250 + 2);
        rows.push_str(&row);
    }
    let planned = store
        .plan_inventory(
            &Files {
                targets: rows.as_bytes(),
                ..Files::default()
            },
            "t",
        )
        .unwrap();
    assert!(planned.record.is_none());
    assert!(
        planned.reply.problems[0].contains("agent centre would get"),
        "{:?}",
        planned.reply.problems
    );
    assert_eq!(dump(&store), before, "a rehearsal leaves nothing behind");
}

#[test]
fn received_ranges_and_definitions_come_back() {
    let log = network();
    let mut agents = Agents::default();
    let definition = |name: &str| Record {
        time: RecordTime {
            boottime_ms: 0,
            wall_ms: 0,
        },
        body: Body::Definition(Definition {
            object: ObjectId(3),
            check: CheckId(1),
            kind: ObjectKind::Interface,
            labels: vec![("ifName".to_owned(), name.to_owned())],
        }),
    };
    let batch = agents.batch(
        "v1",
        &[definition("eth0"), definition("eth0"), definition("wan")],
    );
    log.push(BEGIN, batch);
    let (_folder, store) = whole(&log);
    let received = store.received().unwrap();
    let ranges = &received[&(
        AgentId::new("v1").unwrap(),
        Incarnation(0xffff_0000_0000_0001),
    )];
    assert_eq!(ranges.count(), 3);
    let rows: Vec<String> = dump(&store)
        .into_iter()
        .filter(|line| line.starts_with("definitions"))
        .collect();
    assert_eq!(rows.len(), 2, "{rows:?}");
}

#[test]
fn status_speaks_in_words_and_units() {
    let (_folder, store) = whole(&outage(40..41, 6, 0));
    let reply = store
        .status(&wire::StatusRequest {
            ap_id: "village".to_owned(),
            measurements: 0,
        })
        .unwrap();
    let village = &reply.access_points[0];
    assert_eq!(
        (village.state.as_str(), village.name.as_str()),
        ("up", "阿朗乡一村")
    );
    assert_eq!(village.agents[0].agent_id, "v1");
    let own = village
        .measurements
        .iter()
        .find(|m| m.check == "anchor-icmp")
        .expect("was measured");
    assert_eq!(
        (own.instance.as_str(), own.family.as_str()),
        ("10.0.0.1", "4")
    );
    let values: Vec<String> = own
        .values
        .iter()
        .map(|v| format!("{} {}", v.name, v.value))
        .collect();
    assert_eq!(values, ["sent 5", "received 5", "rtt avg 0.061 ms"]);
    assert!(village.measurements.iter().any(|m| m.vantage == "centre"));
}

#[tokio::test]
async fn waiting_ends_with_the_record_or_with_the_follower() {
    let folder = tempfile::tempdir().unwrap();
    let log = network();
    let store = open(folder.path());
    let follower = store.start(log.reader(0, log.len(), 100)).unwrap();
    store.wait_applied(log.last()).await.unwrap();
    let never = Position {
        incarnation: 8,
        sequence: 0,
    };
    let waiting = extranet_agent::shell::spawn_named("waiting", {
        let store = store.clone();
        async move { store.wait_applied(never).await }
    });
    tokio::task::spawn_blocking(move || follower.stop())
        .await
        .unwrap();
    assert!(matches!(waiting.await.unwrap(), Err(StoreError::Stopped)));
}
