//! Random operations against a simple model: a list of all records and what may have become of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use extranet_journal::{
    AppendError, Cursor, Journal, Ledger, Now, Options, Position, Reader, WhenFull,
};
use proptest::prelude::*;

use crate::rig::Rig;

#[derive(Debug, Clone)]
enum Op {
    Append {
        count: u8,
        len: u16,
    },
    Sync,
    Flush,
    /// Of all records so far: from this part on, this many.
    Acknowledge {
        part: u8,
        count: u8,
    },
    Refuse {
        part: u8,
        count: u8,
    },
    Follow {
        count: u8,
    },
    Reopen,
    Kill,
    CutPower {
        coins: u64,
    },
    Hours(u8),
    DiskFull {
        room: u16,
    },
    DiskFree,
    FailSyncs(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => (1u8..20, 0u16..300).prop_map(|(count, len)| Op::Append { count, len }),
        8 => Just(Op::Sync),
        2 => Just(Op::Flush),
        4 => (any::<u8>(), any::<u8>()).prop_map(|(part, count)| Op::Acknowledge { part, count }),
        1 => (any::<u8>(), 0u8..5).prop_map(|(part, count)| Op::Refuse { part, count }),
        3 => (1u8..60).prop_map(|count| Op::Follow { count }),
        2 => Just(Op::Reopen),
        2 => Just(Op::Kill),
        2 => any::<u64>().prop_map(|coins| Op::CutPower { coins }),
        1 => (0u8..20).prop_map(Op::Hours),
        1 => (0u16..3_000).prop_map(|room| Op::DiskFull { room }),
        2 => Just(Op::DiskFree),
        1 => (1u8..3).prop_map(Op::FailSyncs),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Appended, not synced.
    Pending,
    Durable,
    Settled,
    Dropped,
    /// As dropped, but the disk did not take the note of it: a crash may bring it back.
    DroppedUnwritten,
    /// Not there after a crash, which is allowed for what was pending.
    Lost,
}

#[derive(Debug)]
struct Record {
    position: Position,
    payload: Vec<u8>,
    fate: Fate,
}

struct Pair {
    rig: Rig,
    options: Options,
    wall_ms: i64,
    journal: Option<Journal>,
    reader: Option<Reader>,
    records: Vec<Record>,
    by_position: BTreeMap<(u64, u64), usize>,
    /// Index in `records` below which the follower saw everything that can still be seen.
    followed: usize,
    appended: u32,
    power_was_cut: bool,
    disk_is_bad: bool,
}

impl Pair {
    fn new(options: Options) -> Self {
        let mut pair = Self {
            rig: Rig::default(),
            options,
            wall_ms: 1_790_000_000_000,
            journal: None,
            reader: None,
            records: Vec::new(),
            by_position: BTreeMap::new(),
            followed: 0,
            appended: 0,
            power_was_cut: false,
            disk_is_bad: false,
        };
        pair.open();
        pair
    }

    fn journal(&mut self) -> &mut Journal {
        self.journal.as_mut().unwrap()
    }

    fn open(&mut self) {
        let now = Now {
            wall_ms: self.wall_ms,
        };
        let opened = Journal::open_on(self.rig.storage(), self.options.clone(), now);
        let (journal, recovery) = opened.unwrap();
        // A power cut may take the header of a segment that never was synced and leave the rest.
        assert!(
            recovery.set_aside.is_empty() || self.power_was_cut,
            "{recovery:?}"
        );
        self.reader = Some(journal.reader(Cursor::oldest()));
        self.followed = 0;
        self.journal = Some(journal);
    }

    /// After a crash: what was durable must be there, what was pending may be, nothing else may.
    fn reopen_after_crash(&mut self) {
        self.journal = None;
        self.mend_disk();
        self.open();
        self.learn_drops();
        let waiting = self.waiting();
        for record in &mut self.records {
            let there = waiting.contains(&(record.position.incarnation, record.position.sequence));
            record.fate = match (record.fate, there) {
                (Fate::Durable, false) => panic!("lost {:?}", record.position),
                (Fate::Dropped | Fate::Lost, true) => panic!("came back: {:?}", record.position),
                // The acknowledgement was not durable: the record will be sent once more.
                (_, true) => Fate::Durable,
                (Fate::Pending, false) => Fate::Lost,
                (fate, false) => fate,
            };
        }
        self.check();
    }

    fn waiting(&self) -> BTreeSet<(u64, u64)> {
        let ranges = self.journal.as_ref().unwrap().waiting();
        ranges
            .into_iter()
            .flat_map(|(inc, range)| range.map(move |seq| (inc, seq)))
            .collect()
    }

    fn learn_drops(&mut self) {
        for drop in self.journal().take_drops() {
            for sequence in drop.range {
                // A drop of a record that never was durable may be the first that is heard of it.
                if let Some(index) = self.by_position.get(&(drop.incarnation, sequence)) {
                    self.records[*index].fate = if self.disk_is_bad {
                        Fate::DroppedUnwritten
                    } else {
                        Fate::Dropped
                    };
                }
            }
        }
    }

    fn check(&mut self) {
        self.learn_drops();
        let ledger: Ledger = self.journal().ledger();
        assert!(ledger.balances(), "{ledger:?}");
        let expected: BTreeSet<_> = self
            .records
            .iter()
            .filter(|record| record.fate == Fate::Durable)
            .map(|record| (record.position.incarnation, record.position.sequence))
            .collect();
        assert_eq!(self.waiting(), expected);
        let pending = self
            .records
            .iter()
            .filter(|record| record.fate == Fate::Pending)
            .count();
        assert_eq!(ledger.waiting, (expected.len() + pending) as u64);
        for (incarnation, range) in self.journal().waiting() {
            let records = self
                .journal()
                .read_range(incarnation, range.clone(), 1 << 20)
                .unwrap();
            assert!(records.iter().map(|(sequence, _)| *sequence).eq(range));
            for (sequence, payload) in records {
                let index = self.by_position[&(incarnation, sequence)];
                assert_eq!(payload, self.records[index].payload);
            }
        }
    }

    fn mend_disk(&mut self) {
        self.rig.set_capacity(None);
        // A sync that fails later would make a drop that never was durable look like one that was.
        self.rig.fail_syncs(0);
        self.disk_is_bad = false;
    }

    /// Acknowledgements that nothing was synced after may stand above the limit.
    fn check_bytes(&mut self) {
        let bytes = self.journal().bytes();
        assert!(bytes <= self.options.max_bytes, "{bytes} bytes");
    }

    fn append(&mut self, len: u16) {
        self.appended += 1;
        let mut payload = vec![self.appended.to_le_bytes()[0]; usize::from(len)];
        payload.extend_from_slice(&self.appended.to_le_bytes());
        let now = Now {
            wall_ms: self.wall_ms,
        };
        // An append may sync by itself, when it begins a new segment.
        match self.journal().append(&payload, now) {
            Ok(position) => {
                let key = (position.incarnation, position.sequence);
                let known = self.by_position.insert(key, self.records.len());
                assert_eq!(known, None, "a position was used twice");
                self.records.push(Record {
                    position,
                    payload,
                    fate: Fate::Pending,
                });
            }
            Err(AppendError::Full { .. } | AppendError::Disk(_)) => {}
            Err(error) => panic!("{error}"),
        }
        self.learn_durable();
    }

    /// Takes over how far the journal says it is durable.
    fn learn_durable(&mut self) {
        let Some(last) = self.journal().durable_position() else {
            return;
        };
        let Some(index) = self.by_position.get(&(last.incarnation, last.sequence)) else {
            return;
        };
        for record in &mut self.records[..=*index] {
            if record.fate == Fate::Pending {
                record.fate = Fate::Durable;
            }
        }
    }

    fn settle(&mut self, part: u8, count: u8, refuse: bool) {
        let start = self.records.len() * usize::from(part) / 256;
        let end = (start + usize::from(count)).min(self.records.len());
        let mut expected = 0;
        let mut settled = 0;
        for index in start..end {
            let position = self.records[index].position;
            let range = position.sequence..position.sequence + 1;
            settled += if refuse {
                self.journal().refuse(position.incarnation, range)
            } else {
                self.journal().acknowledge(position.incarnation, range)
            };
            if self.records[index].fate == Fate::Durable {
                self.records[index].fate = Fate::Settled;
                expected += 1;
            }
        }
        assert_eq!(settled, expected);
    }

    /// The follower sees every durable record in order, except dropped ones, and no other.
    fn follow(&mut self, count: u8) {
        for _ in 0..count {
            let Some((position, payload)) = self.reader.as_mut().unwrap().next().unwrap() else {
                let left = &self.records[self.followed..];
                let seen_late = left.iter().find(|record| record.fate == Fate::Durable);
                assert!(
                    seen_late.is_none(),
                    "the follower did not see {seen_late:?}"
                );
                return;
            };
            let index = self.by_position[&(position.incarnation, position.sequence)];
            assert!(index >= self.followed, "seen twice: {position:?}");
            let passed = &self.records[self.followed..index];
            assert!(passed.iter().all(|record| record.fate != Fate::Durable));
            let record = &self.records[index];
            assert_eq!(record.payload, payload);
            assert_ne!(record.fate, Fate::Pending);
            self.followed = index + 1;
        }
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Append { count, len } => {
                for _ in 0..count {
                    self.append(len);
                    self.check_bytes();
                }
            }
            Op::Sync => {
                let before = self
                    .records
                    .iter()
                    .filter(|r| r.fate == Fate::Pending)
                    .count();
                let synced = self.journal().sync();
                self.learn_durable();
                let after = self
                    .records
                    .iter()
                    .filter(|r| r.fate == Fate::Pending)
                    .count();
                assert!(after == if synced.is_ok() { 0 } else { before });
                self.check_bytes();
            }
            Op::Flush => {
                // A full disk is not the end of what was accepted: the next sync shows.
                let _outcome = self.journal().flush();
            }
            Op::Acknowledge { part, count } => self.settle(part, count, false),
            Op::Refuse { part, count } => self.settle(part, count, true),
            Op::Follow { count } => self.follow(count),
            Op::Reopen => {
                self.mend_disk();
                self.journal.take().unwrap().close().unwrap();
                for record in &mut self.records {
                    if record.fate == Fate::Pending {
                        record.fate = Fate::Durable;
                    }
                }
                self.open();
            }
            Op::Kill => {
                self.rig.kill();
                self.reopen_after_crash();
            }
            Op::CutPower { coins } => {
                let mut state = coins | 1;
                self.rig.cut_power(|| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state & 4 == 0
                });
                self.power_was_cut = true;
                self.reopen_after_crash();
                self.power_was_cut = false;
            }
            Op::Hours(hours) => self.wall_ms += i64::from(hours) * 3_600_000 / 4,
            Op::DiskFull { room } => {
                self.disk_is_bad = true;
                self.rig
                    .set_capacity(Some(self.rig.used() + usize::from(room)));
            }
            Op::DiskFree => self.mend_disk(),
            Op::FailSyncs(count) => {
                self.disk_is_bad |= count > 0;
                self.rig.fail_syncs(u32::from(count));
            }
        }
        self.check();
    }
}

fn run(options: Options, ops: &[Op]) {
    let mut pair = Pair::new(options);
    for op in ops {
        pair.apply(op);
    }
    pair.apply(&Op::DiskFree);
    pair.apply(&Op::FailSyncs(0));
    pair.apply(&Op::Sync);
    pair.follow(u8::MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn a_spool_agrees_with_the_model(
        ops in prop::collection::vec(op(), 1..70),
        keep_acknowledged in any::<bool>(),
        max_kib in 12u64..64,
        max_age in prop::option::of(10u64..80),
    ) {
        run(Options {
            segment_bytes: 4 << 10,
            max_bytes: max_kib << 10,
            max_age: max_age.map(Duration::from_hours),
            keep_acknowledged,
            when_full: WhenFull::DropOldest,
        }, &ops);
    }

    #[test]
    fn an_ingest_log_agrees_with_the_model(
        ops in prop::collection::vec(op(), 1..70),
        max_age in prop::option::of(10u64..80),
    ) {
        run(Options {
            segment_bytes: 8 << 10,
            max_bytes: 64 << 10,
            max_age: max_age.map(Duration::from_hours),
            keep_acknowledged: true,
            when_full: WhenFull::Refuse,
        }, &ops);
    }
}
