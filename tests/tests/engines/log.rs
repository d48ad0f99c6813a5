//! An ingest log that the test writes, and the catalogue that follows it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use extranet_collector::inventory::import::Files;
use extranet_collector::self_stats::Stats;
use extranet_collector::store::{Follower, Position, Store, StoreSettings, encode_log_record};
use extranet_journal::{Cursor, Journal, Now, Options, WhenFull};
use extranet_proto::block;
use extranet_proto::id::{AgentId, AssignmentVersion, CheckId, ObjectId};
use extranet_proto::metric::Metric;
use extranet_proto::record::{
    Body, CheckResult, Definition, ObjectKind, Outcome, Reason, Record, RecordTime, Value,
};
use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;
use extranet_tests::clock::wait_until;

const INCARNATION: u64 = 0x8000_0000_0000_0001;

/// The log with its follower.
pub(crate) struct Log {
    pub(crate) journal: Journal,
    pub(crate) store: Store,
    follower: Option<Follower>,
    wall_ms: i64,
    sequences: HashMap<String, u64>,
}

impl Log {
    /// Opens (again) what is in the folder.
    pub(crate) fn open(folder: &Path) -> Self {
        let options = Options {
            segment_bytes: 1 << 20,
            max_bytes: 64 << 20,
            max_age: None,
            keep_acknowledged: true,
            when_full: WhenFull::Refuse,
        };
        let (journal, _) =
            Journal::open(&folder.join("log"), options, Now { wall_ms: 0 }).expect("a new folder");
        let settings = StoreSettings {
            silent_after: Duration::from_mins(5),
            ..StoreSettings::default()
        };
        let store = Store::open(folder, settings, Arc::new(Stats::new())).expect("a catalogue");
        let reader = journal.reader(store.applied().map_or_else(Cursor::oldest, Cursor::after));
        let follower = store.start(reader).expect("a thread");
        Self {
            journal,
            store,
            follower: Some(follower),
            wall_ms: 0,
            sequences: HashMap::new(),
        }
    }

    /// Appends a record and waits until the catalogue holds it.
    pub(crate) fn push(&mut self, wall_ms: i64, input: Input) -> Position {
        self.wall_ms = wall_ms;
        let record = wire::LogRecord {
            wall_us: wall_ms * 1_000,
            input: Some(input),
        };
        let now = Now { wall_ms };
        let position = self
            .journal
            .append(&encode_log_record(&record), now)
            .expect("room");
        self.journal.sync().expect("a disk");
        self.store.wake();
        wait_until("the catalogue", Duration::from_secs(10), || {
            match self.store.applied() {
                Some(applied) if applied == position => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        position
    }

    /// One anchor, one township with a router and an agent, both called `site`.
    pub(crate) fn site(&mut self, wall_ms: i64) {
        let access_points = b"ap_id,name,level,parent,medium,monitoring,division_code\n\
            site,\xe9\x98\xbf\xe6\x9c\x97\xe4\xb9\xa1,township,centre,fibre,agent,540121201\n";
        let targets = b"ap_id,name,kind,address,snmp_version,snmp_community\n\
            centre,core,anchor,192.0.2.1,,\nsite,ce,router,192.0.2.2,2c,public\n";
        let files = Files {
            access_points,
            targets,
            villages: b"",
        };
        let planned = self
            .store
            .plan_inventory(&files, "test")
            .expect("a catalogue");
        let record = planned
            .record
            .unwrap_or_else(|| panic!("{:?}", planned.reply.problems));
        self.push(wall_ms, Input::InventoryChanged(record));
        let issued = wire::CertificateIssued {
            agent_id: "site".to_owned(),
            ap_id: "site".to_owned(),
            ..Default::default()
        };
        self.push(wall_ms, Input::CertificateIssued(issued));
    }

    /// Id of a check of an agent.
    pub(crate) fn check(&self, agent: &str, name: &str) -> u32 {
        let agent = AgentId::new(agent).expect("a valid id");
        let assignment = self
            .store
            .assignment_for(&agent)
            .expect("a catalogue")
            .expect("an assignment");
        let found = assignment.checks.iter().find(|check| check.name == name);
        found
            .unwrap_or_else(|| panic!("{name} in {assignment:?}"))
            .check_id
    }

    /// Logs records of an agent that were measured at the given times; the batch arrives now.
    pub(crate) fn batch(&mut self, agent: &str, bodies: &[(i64, Body)]) {
        let first = self.sequences.get(agent).copied().unwrap_or_default();
        let end = first + bodies.len() as u64;
        self.sequences.insert(agent.to_owned(), end);
        let records: Vec<Record> = bodies
            .iter()
            .map(|(wall_ms, body)| Record {
                time: RecordTime {
                    boottime_ms: u64::try_from(*wall_ms).expect("after 1970"),
                    wall_ms: *wall_ms,
                },
                body: body.clone(),
            })
            .collect();
        let arrived = bodies
            .iter()
            .map(|(at, _)| *at)
            .max()
            .unwrap_or_default()
            .max(self.wall_ms);
        let batch = wire::LoggedBatch {
            agent_id: agent.to_owned(),
            incarnation: INCARNATION,
            first_sequence: first,
            new_ranges: vec![wire::SequenceRange {
                incarnation: INCARNATION,
                from_inclusive: first,
                to_exclusive: end,
            }],
            boot_to_wall_ms: 0,
            time_certain: true,
            block: block::encode(&records),
            ..Default::default()
        };
        self.push(arrived, Input::Batch(batch));
    }

    /// Stops the follower.
    pub(crate) fn close(mut self) {
        if let Some(follower) = self.follower.take() {
            follower.stop();
        }
    }
}

/// A result with values of (metric, object, raw).
pub(crate) fn result(
    check: u32,
    outcome: Outcome,
    reason: Reason,
    values: &[(Metric, u32, u64)],
) -> Body {
    Body::Result(CheckResult {
        assignment: AssignmentVersion(1),
        check: CheckId(check),
        outcome,
        reason,
        duration_us: 1_500,
        values: values
            .iter()
            .map(|(metric, object, raw)| Value {
                metric: *metric,
                object: ObjectId(*object),
                raw: *raw,
            })
            .collect(),
    })
}

/// An interface with labels.
pub(crate) fn definition(check: u32, object: u32, labels: &[(&str, &str)]) -> Body {
    Body::Definition(Definition {
        object: ObjectId(object),
        check: CheckId(check),
        kind: ObjectKind::Interface,
        labels: labels
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    })
}
