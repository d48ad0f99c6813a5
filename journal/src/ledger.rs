//! What became of every record: the types in which the journal answers for its contents.

use std::collections::BTreeMap;
use std::ops::Range;

/// Why a record was given up without an acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// The journal reached its limit in bytes.
    Bytes,
    /// The record grew older than the journal keeps.
    Age,
    /// The disk was full or failing.
    Disk,
    /// The receiver said that it can never use the record.
    Refused,
}

impl DropReason {
    /// All reasons, in the order in which they are stored.
    pub const ALL: [Self; 4] = [Self::Bytes, Self::Age, Self::Disk, Self::Refused];

    /// Label value in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Age => "age",
            Self::Disk => "disk",
            Self::Refused => "refused",
        }
    }
}

/// Balance since the journal's folder was created: `produced = acknowledged + waiting + dropped + damaged`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledger {
    /// Records that were handed to the journal.
    pub produced: u64,
    /// Records that the receiver has.
    pub acknowledged: u64,
    /// Records that are neither acknowledged nor given up, synced or not.
    pub waiting: u64,
    /// Records given up, by reason; reasons without a record are left out.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Records that the disk did not give back.
    pub damaged: u64,
}

impl Ledger {
    /// Whether every record is accounted for. Always true for a ledger of [`crate::Journal::ledger`].
    pub fn balances(&self) -> bool {
        let dropped: u64 = self.dropped.values().sum();
        self.produced == self.acknowledged + self.waiting + dropped + self.damaged
    }
}

/// Consecutive records of one incarnation that were dropped before they were acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drop {
    /// Which incarnation.
    pub incarnation: u64,
    /// Their sequence numbers.
    pub range: Range<u64>,
    /// Why.
    pub reason: DropReason,
}

/// Where a record is. Sequences order records within an incarnation only; incarnations are in the order in which the
/// journal was opened, which their random numbers do not show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Position {
    /// The opening of the journal that wrote the record; never 0.
    pub incarnation: u64,
    /// Counts from 0 within the incarnation.
    pub sequence: u64,
}

/// The next record that a follower wants; what it stores to go on after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Incarnation of the record; 0 stands for the oldest record there is.
    pub incarnation: u64,
    /// Its sequence. May be one past the last of the incarnation: the next incarnation's first is meant then.
    pub sequence: u64,
}

impl Cursor {
    /// From the oldest record there is.
    pub fn oldest() -> Self {
        Self {
            incarnation: 0,
            sequence: 0,
        }
    }

    /// The record after this one.
    pub fn after(position: Position) -> Self {
        Self {
            incarnation: position.incarnation,
            sequence: position.sequence + 1,
        }
    }
}
