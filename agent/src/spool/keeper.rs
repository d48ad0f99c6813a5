//! The thread that owns the journal.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use extranet_journal::{AppendError, Journal, Now};
use extranet_proto::block;
use extranet_proto::id::Incarnation;
use extranet_proto::limits;
use extranet_proto::record::{Body, DropReason, DroppedRange, Record};
use extranet_proto::session::{IncarnationRange, Ledger};
use tokio::sync::{oneshot, watch};

use super::boots::Boots;
use super::definitions::Definitions;
use super::{Chunk, Command, Snapshot, Tip, Want};
use crate::clock::Clock;
use crate::self_stats::{Stats, count};
use crate::shell::error_chain;

/// Bytes that the journal adds to a record, roughly.
const FRAME_BYTES: u64 = 24;
/// Errors of the disk are logged at most this often; they are all counted.
const LOG_INTERVAL: Duration = Duration::from_mins(1);

/// How often things are done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    pub(super) sync_interval: Duration,
    /// Definitions are repeated after so many bytes of records...
    pub(super) definition_bytes: u64,
    /// ... and after so much time.
    pub(super) definition_age: Duration,
}

/// Owns the journal.
#[derive(Debug)]
pub(super) struct Keeper {
    journal: Journal,
    incarnation: Incarnation,
    boots: Boots,
    clock: Clock,
    stats: Arc<Stats>,
    tip: watch::Sender<Tip>,
    definitions: Definitions,
    sync_interval: Duration,
    /// Boot clock, µs.
    last_sync_us: u64,
    unsynced: bool,
    last_logged_us: Option<u64>,
}

impl Keeper {
    pub(super) fn new(
        journal: Journal,
        boots: Boots,
        clock: Clock,
        stats: Arc<Stats>,
        tip: watch::Sender<Tip>,
        pace: Pace,
    ) -> Self {
        let age_ms = u64::try_from(pace.definition_age.as_millis()).unwrap_or(u64::MAX);
        Self {
            incarnation: Incarnation(journal.incarnation()),
            journal,
            boots,
            stats,
            tip,
            definitions: Definitions::new(pace.definition_bytes, age_ms),
            sync_interval: pace.sync_interval,
            last_sync_us: clock.read().boottime_us,
            clock,
            unsynced: false,
            last_logged_us: None,
        }
    }

    /// Until the spool is closed, or the last handle is gone. Returns whom to tell, once the journal is let go.
    pub(super) fn run(mut self, queue: &Receiver<Command>) -> Option<oneshot::Sender<()>> {
        // What opening dropped, by age or by a smaller limit, is told first.
        self.record_drops();
        self.sync();
        loop {
            let command = match queue.recv_timeout(self.until_sync()) {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            match command {
                Some(Command::Close(reply)) => {
                    self.sync();
                    return Some(reply);
                }
                Some(command) => self.handle(command),
                None => {}
            }
            if self.until_sync().is_zero() {
                self.sync();
            }
            self.record_drops();
        }
        self.sync();
        None
    }

    fn until_sync(&self) -> Duration {
        let since = self
            .clock
            .read()
            .boottime_us
            .saturating_sub(self.last_sync_us);
        self.sync_interval
            .saturating_sub(Duration::from_micros(since))
    }

    fn handle(&mut self, command: Command) {
        // An answer that nobody waits for any more is no fault.
        match command {
            Command::Append { records, urgent } => {
                for record in records {
                    let (repeated, is_news) = self.definitions.before(&record);
                    for definition in repeated {
                        self.append(&definition);
                    }
                    if is_news {
                        self.append(&record);
                    }
                }
                if urgent {
                    self.tip.send_modify(|tip| tip.urgent += 1);
                }
            }
            Command::Snapshot(reply) => {
                self.sync();
                drop(reply.send(self.snapshot()));
            }
            Command::Ledger(reply) => drop(reply.send(self.ledger())),
            Command::Read(want, reply) => drop(reply.send(self.read(want))),
            Command::Settle {
                acknowledged,
                refused,
            } => self.settle(&acknowledged, &refused),
            Command::Close(_) => unreachable!("handled by run"),
        }
    }

    fn now(&self) -> Now {
        Now {
            wall_ms: self.clock.read().wall_ms(),
        }
    }

    fn append(&mut self, record: &Record) {
        let payload = block::encode(std::slice::from_ref(record));
        match self.journal.append(&payload, self.now()) {
            Ok(position) => {
                self.unsynced = true;
                self.stats.spool_appended.inc();
                self.definitions
                    .appended(payload.len() as u64 + FRAME_BYTES);
                self.tip
                    .send_modify(|tip| tip.next_sequence = position.sequence + 1);
            }
            Err(error) => {
                let reason = match &error {
                    AppendError::TooLarge { .. } => "too_large",
                    AppendError::Full { .. } => DropReason::SpoolBytes.label(),
                    AppendError::Disk(_) => DropReason::Disk.label(),
                };
                count(&self.stats.spool_dropped, reason, 1);
                self.failed("append", &error);
            }
        }
    }

    /// Counts a failed disk operation, and logs it unless another was logged just now.
    fn failed(&mut self, operation: &'static str, error: &(dyn std::error::Error + 'static)) {
        count(&self.stats.spool_errors, operation, 1);
        let now_us = self.clock.read().boottime_us;
        let again = self
            .last_logged_us
            .is_none_or(|at| now_us.saturating_sub(at) >= micros(LOG_INTERVAL));
        if again {
            self.last_logged_us = Some(now_us);
            tracing::error!(
                operation,
                error = error_chain(error),
                "the spool's disk fails"
            );
        }
    }

    fn sync(&mut self) {
        self.last_sync_us = self.clock.read().boottime_us;
        match self.journal.sync() {
            Ok(_) => self.unsynced = false,
            Err(error) => self.failed("sync", &error),
        }
        self.publish();
    }

    /// What the journal gave up becomes records, and news for the uplink.
    fn record_drops(&mut self) {
        let drops = self.journal.take_drops();
        if drops.is_empty() {
            return;
        }
        let time = self.clock.read().record_time();
        for drop in drops {
            let reason = reason_of(drop.reason);
            let many = drop.range.end.saturating_sub(drop.range.start);
            count(&self.stats.spool_dropped, reason.label(), many);
            tracing::warn!(records = many, %reason, "the spool dropped records");
            self.append(&Record {
                time,
                body: Body::Dropped(DroppedRange {
                    incarnation: Incarnation(drop.incarnation),
                    from_inclusive: drop.range.start,
                    to_exclusive: drop.range.end,
                    reason,
                }),
            });
        }
        self.tip.send_modify(|tip| tip.drops += 1);
    }

    fn publish(&self) {
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.stats.spool_size.set(gauge(self.journal.bytes()));
        let waiting = self.journal.ledger().waiting;
        self.stats.spool_waiting.set(gauge(waiting));
    }

    /// Sequence after the last durable record of this incarnation.
    fn durable_end(&self) -> u64 {
        match self.journal.durable_position() {
            Some(position) if position.incarnation == self.incarnation.0 => position.sequence + 1,
            _ => 0,
        }
    }

    fn snapshot(&self) -> Snapshot {
        let waiting = self.journal.waiting().into_iter();
        Snapshot {
            waiting: waiting
                .map(|(incarnation, range)| IncarnationRange {
                    incarnation: Incarnation(incarnation),
                    from_inclusive: range.start,
                    to_exclusive: range.end,
                })
                .collect(),
            ledger: self.ledger(),
            next_sequence: self.durable_end(),
        }
    }

    fn ledger(&self) -> Ledger {
        let ledger = self.journal.ledger();
        Ledger {
            produced: ledger.produced,
            acknowledged: ledger.acknowledged,
            waiting: ledger.waiting,
            dropped: ledger
                .dropped
                .into_iter()
                .map(|(reason, many)| (reason_of(reason), many))
                .collect(),
            damaged: ledger.damaged,
        }
    }

    fn settle(&mut self, acknowledged: &[IncarnationRange], refused: &[IncarnationRange]) {
        for range in acknowledged {
            let sequences = range.from_inclusive..range.to_exclusive;
            let many = self.journal.acknowledge(range.incarnation.0, sequences);
            self.stats.uplink_acknowledged.inc_by(many);
        }
        for range in refused {
            let sequences = range.from_inclusive..range.to_exclusive;
            let many = self.journal.refuse(range.incarnation.0, sequences);
            count(&self.stats.spool_dropped, DropReason::Refused.label(), many);
            tracing::warn!(records = many, "the collector refused records");
        }
    }

    /// The first records of the range, packed. See [`Chunk`].
    fn read(&mut self, want: Want) -> Option<Chunk> {
        let IncarnationRange {
            incarnation,
            from_inclusive,
            to_exclusive,
        } = want.range;
        if self.unsynced && incarnation == self.incarnation {
            self.sync();
        }
        let most = want.max_records.min(limits::BLOCK_RECORDS as u64);
        let to_exclusive = to_exclusive.min(from_inclusive.saturating_add(most));
        let read = self.journal.read_range(
            incarnation.0,
            from_inclusive..to_exclusive,
            limits::MESSAGE_BYTES,
        );
        let found = match read {
            Ok(found) => found,
            Err(error) => {
                self.failed("read", &error);
                return None;
            }
        };
        if found.is_empty() && incarnation == self.incarnation && to_exclusive > self.durable_end()
        {
            // Not gone: the disk refuses to take it. Later.
            return None;
        }
        let mut records = Vec::with_capacity(found.len());
        // Where the block begins, and everything before is gone.
        let mut first = found
            .first()
            .map_or(to_exclusive, |(sequence, _)| *sequence);
        for (sequence, payload) in found {
            if !records.is_empty() && sequence != first + records.len() as u64 {
                break;
            }
            match unpack(&payload) {
                Some(record) => {
                    if records.is_empty() {
                        first = sequence;
                    }
                    records.push(record);
                }
                None if records.is_empty() => {
                    // Written by a newer release, or damaged where no checksum sees it: nobody could use it.
                    count(&self.stats.spool_errors, "unpack", 1);
                    self.journal.refuse(incarnation.0, sequence..sequence + 1);
                    first = sequence + 1;
                }
                None => break,
            }
        }
        let packed = pack(&mut records, want.max_block_bytes);
        let end = first + records.len() as u64;
        Some(Chunk {
            range: IncarnationRange {
                incarnation,
                from_inclusive: first,
                to_exclusive: end,
            },
            covered_to_exclusive: end,
            block: packed,
            boot_id: self.boots.other_than_current(incarnation),
        })
    }
}

/// The one record of a journal's payload.
fn unpack(payload: &[u8]) -> Option<Record> {
    block::decode(payload)
        .ok()
        .and_then(|records| records.into_iter().next())
}

/// Packs as many of the first records as fit; the others are taken out. At least one, whatever its size.
fn pack(records: &mut Vec<Record>, max_bytes: usize) -> Vec<u8> {
    loop {
        let packed = block::encode(records);
        if packed.len() <= max_bytes || records.len() <= 1 {
            return packed;
        }
        // In proportion, with a margin: small blocks pack worse.
        let fits = records.len() * max_bytes / packed.len() * 7 / 8;
        records.truncate(fits.clamp(1, records.len() - 1));
    }
}

fn reason_of(reason: extranet_journal::DropReason) -> DropReason {
    match reason {
        extranet_journal::DropReason::Bytes => DropReason::SpoolBytes,
        extranet_journal::DropReason::Age => DropReason::SpoolAge,
        extranet_journal::DropReason::Disk => DropReason::Disk,
        extranet_journal::DropReason::Refused => DropReason::Refused,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
