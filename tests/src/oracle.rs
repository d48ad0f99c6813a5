//! What must be true once faults have stopped and both sides are at rest: every acknowledgement is an obligation.
//!
//! 1. The agent's spool says which records were acknowledged to it, and its ledger balances.
//! 2. Each of them is in the collector's ingest log, with the same content, exactly once.
//! 3. Each result in the log is in the time series exactly once, at the time that the log froze for it.
//!
//! The oracle reads the files of both sides, which must have stopped, with as little of their own code as possible.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use extranet_journal::{Cursor, Journal, Ledger, Now, Options, WhenFull};
use extranet_proto::block;
use extranet_proto::record::{Body, Record};
use extranet_proto::wire::log_record::Input;
use extranet_proto::wire::{LogRecord, LoggedBatch};
use prost::Message as _;

use crate::clock::wall_ms;
use crate::engine::Victoria;

/// Metric that every result becomes, whatever its probe and verdict.
const EVERY_RESULT: &str = "{__name__=\"probe_duration_seconds\"}";

/// Name of a record across the whole system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordId {
    /// Which opening of which spool.
    pub incarnation: u64,
    /// Its number there.
    pub sequence: u64,
}

/// What a spool holds.
#[derive(Debug)]
pub struct Spooled {
    /// Its balance.
    pub ledger: Ledger,
    /// Records that are still in its files, acknowledged or not.
    pub records: BTreeMap<RecordId, Record>,
    /// Those without an acknowledgement.
    pub waiting: BTreeSet<RecordId>,
}

/// Reads the spool in the state folder of an agent that has stopped.
pub fn spooled(agent_state: &Path) -> Spooled {
    let (journal, records) = read(&agent_state.join("spool"));
    let records = records
        .into_iter()
        .map(|(id, payload)| {
            let mut one = block::decode(&payload)
                .unwrap_or_else(|error| panic!("{id:?} in the spool is unreadable: {error}"));
            assert_eq!(one.len(), 1, "{id:?} in the spool is not one record");
            (id, one.remove(0))
        })
        .collect();
    let waiting = journal
        .waiting()
        .into_iter()
        .flat_map(|(incarnation, range)| {
            range.map(move |sequence| RecordId {
                incarnation,
                sequence,
            })
        });
    Spooled {
        ledger: journal.ledger(),
        records,
        waiting: waiting.collect(),
    }
}

/// A record in the ingest log.
#[derive(Debug)]
pub struct LoggedRecord {
    /// Who measured it.
    pub agent: String,
    /// When it was measured, as the log froze it.
    pub wall_ms: i64,
    /// What it says.
    pub record: Record,
}

/// Everything the ingest log holds from agents.
#[derive(Debug)]
pub struct Logged {
    /// Each record once.
    pub records: BTreeMap<RecordId, LoggedRecord>,
}

/// Reads the log in the state folder of a collector that has stopped. A record that is there twice fails the test.
pub fn logged(collector_state: &Path) -> Logged {
    let (_, entries) = read(&collector_state.join("ingest"));
    let mut records = BTreeMap::new();
    for (id, payload) in entries {
        let (version, message) = payload.split_first().expect("a logged record is not empty");
        assert_eq!(*version, 1, "{id:?} in the log has an unknown version");
        let entry = LogRecord::decode(message)
            .unwrap_or_else(|error| panic!("{id:?} in the log is unreadable: {error}"));
        if let Some(Input::Batch(batch)) = entry.input {
            add(&mut records, &batch);
        }
    }
    Logged { records }
}

fn add(records: &mut BTreeMap<RecordId, LoggedRecord>, batch: &LoggedBatch) {
    let block = block::decode(&batch.block).expect("the log holds only blocks that were decoded");
    for range in &batch.new_ranges {
        for sequence in range.from_inclusive..range.to_exclusive {
            let id = RecordId {
                incarnation: batch.incarnation,
                sequence,
            };
            let place = usize::try_from(sequence - batch.first_sequence).expect("fits");
            let record = block
                .get(place)
                .expect("new ranges lie within their block")
                .clone();
            let boottime_ms = i64::try_from(record.time.boottime_ms).expect("fits");
            let wall_ms = boottime_ms + batch.boot_to_wall_ms;
            let logged = LoggedRecord {
                agent: batch.agent_id.clone(),
                wall_ms,
                record,
            };
            let twice = records.insert(id, logged);
            assert!(twice.is_none(), "{id:?} is in the log twice");
        }
    }
}

impl Logged {
    /// Every record that was acknowledged to this spool is here, unchanged, and the spool's ledger balances.
    pub fn must_hold_what_was_acknowledged(&self, spooled: &Spooled) {
        assert!(spooled.ledger.balances(), "{:?}", spooled.ledger);
        let mut acknowledged = 0;
        for (id, record) in &spooled.records {
            if spooled.waiting.contains(id) {
                continue;
            }
            acknowledged += 1;
            let logged = self.records.get(id);
            let logged = logged.unwrap_or_else(|| panic!("{id:?} was acknowledged and is lost"));
            assert_eq!(&logged.record, record, "{id:?} changed on its way");
        }
        assert_eq!(
            acknowledged, spooled.ledger.acknowledged,
            "the spool's files and its ledger differ: {:?}",
            spooled.ledger
        );
    }

    /// Results of one agent, or of all: (time in ms, duration in µs).
    pub fn results(&self, agent: Option<&str>) -> Vec<(i64, i64)> {
        let mut results: Vec<_> = self
            .records
            .values()
            .filter(|logged| agent.is_none_or(|agent| logged.agent == agent))
            .filter_map(|logged| match &logged.record.body {
                Body::Result(result) => {
                    let duration = i64::try_from(result.duration_us).expect("fits");
                    Some((logged.wall_ms, duration))
                }
                _ => None,
            })
            .collect();
        results.sort_unstable();
        results
    }

    /// Compares all results with what the engine holds: says what is missing and what is too much.
    pub fn compare(&self, victoria: &Victoria) -> Result<usize, String> {
        let expected = self.results(None);
        let mut found: Vec<(i64, i64)> = Vec::new();
        for series in victoria.export(EVERY_RESULT)? {
            found.extend(
                series
                    .samples
                    .iter()
                    .map(|(time, seconds)| (*time, micros(*seconds))),
            );
        }
        found.sort_unstable();
        let missing = difference(&expected, &found);
        let too_much = difference(&found, &expected);
        if missing.is_empty() && too_much.is_empty() {
            return Ok(expected.len());
        }
        let some = |list: &[(i64, i64)]| {
            format!(
                "{}: {:?}",
                list.len(),
                list.iter().take(5).collect::<Vec<_>>()
            )
        };
        Err(format!(
            "of {} results, missing in the engine {}; there without a record in the log {}",
            expected.len(),
            some(&missing),
            some(&too_much)
        ))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "durations of checks are minutes at most"
)]
fn micros(seconds: f64) -> i64 {
    (seconds * 1e6).round() as i64
}

/// What is in `wanted` more often than in `given`; both sorted.
fn difference<T: Ord + Copy>(wanted: &[T], given: &[T]) -> Vec<T> {
    let mut given = given.iter().peekable();
    let mut left = Vec::new();
    for item in wanted {
        while given.next_if(|other| *other < item).is_some() {}
        if given.next_if(|other| *other == item).is_none() {
            left.push(*item);
        }
    }
    left
}

/// Everything in a journal, oldest first.
fn read(folder: &Path) -> (Journal, Vec<(RecordId, Vec<u8>)>) {
    let options = Options {
        segment_bytes: 1 << 20,
        max_bytes: 1 << 40,
        max_age: None,
        keep_acknowledged: true,
        when_full: WhenFull::Refuse,
    };
    assert!(
        folder.try_exists().unwrap_or(false),
        "there is no journal in {}",
        folder.display()
    );
    let (journal, _) =
        Journal::open(folder, options, Now { wall_ms: wall_ms() }).unwrap_or_else(|error| {
            panic!("cannot open the journal in {}: {error:?}", folder.display())
        });
    let mut reader = journal.reader(Cursor::oldest());
    let mut records = Vec::new();
    while let Some((position, payload)) = reader
        .next()
        .unwrap_or_else(|error| panic!("{}: {error:?}", folder.display()))
    {
        let id = RecordId {
            incarnation: position.incarnation,
            sequence: position.sequence,
        };
        records.push((id, payload));
    }
    (journal, records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_those_of_multisets() {
        assert_eq!(difference(&[1, 2, 2, 3], &[2, 3, 4]), [1, 2]);
        assert_eq!(difference(&[2, 3, 4], &[1, 2, 2, 3]), [4]);
        assert!(difference(&[1, 1], &[1, 1]).is_empty());
    }

    #[test]
    fn a_journal_is_read_from_its_oldest_record_on() {
        let folder = tempfile::tempdir().unwrap();
        for round in 0..2_u8 {
            let (mut journal, before) = read(folder.path());
            assert_eq!(before.len(), 3 * usize::from(round));
            for n in 0..3 {
                journal
                    .append(&[round, n], Now { wall_ms: wall_ms() })
                    .unwrap();
            }
            journal.close().unwrap();
        }
        let (_, records) = read(folder.path());
        let payloads: Vec<_> = records.iter().map(|(_, payload)| payload.clone()).collect();
        assert_eq!(payloads, [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]);
    }
}
