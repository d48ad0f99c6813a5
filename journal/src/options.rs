//! What the owner says when it opens a journal, and what it is told then.

use std::path::PathBuf;
use std::time::Duration;

/// What the journal may use and what it does at its limits.
#[derive(Debug, Clone)]
pub struct Options {
    /// Length at which a segment is sealed, bytes. At most a quarter of `max_bytes` is used.
    pub segment_bytes: u64,
    /// Bytes on disk that are not exceeded, everything included.
    pub max_bytes: u64,
    /// Records older than this are dropped; counted from the running owner's clock, so that a machine which boots in
    /// 1970 and then learns the time loses nothing. Time switched off counts as at most one day.
    pub max_age: Option<Duration>,
    /// Keep acknowledged records while there is room, for a receiver that lost them.
    pub keep_acknowledged: bool,
    /// What happens at `max_bytes`.
    pub when_full: WhenFull,
}

/// What a full journal does. Segments without a waiting record go first in either case, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// Drop the oldest segment: the agent's spool. Also when the disk is full before `max_bytes` is reached.
    DropOldest,
    /// Refuse new records: the collector's ingest log.
    Refuse,
}

/// The owner's clock. The journal reads none itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970; may jump.
    pub wall_ms: i64,
}

/// What opening found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments in use.
    pub segments: usize,
    /// Records in them, settled or not.
    pub records: u64,
    /// Bytes after the last whole record that were cut off.
    pub torn_bytes: u64,
    /// Records newly found to be damaged.
    pub damaged_records: u64,
    /// Unreadable segments, now under these names.
    pub set_aside: Vec<PathBuf>,
}
