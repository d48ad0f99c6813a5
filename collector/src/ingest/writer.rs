//! The thread that owns the log.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use extranet_agent::clock::Clock;
use extranet_agent::shell::error_chain;
use extranet_journal::{AppendError, Journal, Now};
use extranet_proto::id::{AgentId, Incarnation};
use extranet_proto::session::{IncarnationRange, Lane};
use extranet_proto::wire::{self, log_record::Input};
use tokio::sync::{mpsc, oneshot};

use super::held::{Held, Noted};
use super::{BatchReply, Command, NewBatch, NotDurable, Size, Verdict};
use crate::self_stats::{Stats, count, count_many};
use crate::store::{Position, Store, encode_log_record};

/// Most commands between two syncs, so that the first of them does not wait for ever.
const GROUP: usize = 1_024;

pub(super) struct Writer {
    journal: Journal,
    held: Held,
    store: Store,
    clock: Clock,
    stats: Arc<Stats>,
    size: Arc<Size>,
    /// So that a full disk is one line in the text log, not one per batch.
    failing: bool,
}

/// What waits for the next sync.
enum Pending {
    Batch {
        reply: BatchReply,
        to: mpsc::Sender<BatchReply>,
        counts: Counts,
    },
    Input {
        position: Position,
        to: oneshot::Sender<Result<Position, NotDurable>>,
    },
    Held {
        agent: AgentId,
        ranges: Vec<IncarnationRange>,
        to: oneshot::Sender<Vec<IncarnationRange>>,
    },
}

/// What a batch adds to the statistics once it is durable.
struct Counts {
    records: u64,
    new: u64,
    samples: u64,
    bytes: u64,
}

impl Writer {
    pub(super) fn new(
        journal: Journal,
        held: Held,
        store: Store,
        clock: Clock,
        stats: Arc<Stats>,
        size: Arc<Size>,
    ) -> Self {
        let this = Self {
            journal,
            held,
            store,
            clock,
            stats,
            size,
            failing: false,
        };
        this.publish_size();
        this
    }

    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut pending = Vec::new();
        let mut open = true;
        while open {
            let Some(first) = commands.blocking_recv() else {
                break;
            };
            open = self.take(first, &mut pending);
            // Whatever gathered during the last sync shares the next one.
            while open && pending.len() < GROUP {
                let Ok(next) = commands.try_recv() else { break };
                open = self.take(next, &mut pending);
            }
            self.commit(&mut pending);
        }
        if let Err(error) = self.journal.close() {
            tracing::error!(
                error = error_chain(&error),
                "ingest log closed with records that are not durable"
            );
        }
        tracing::info!("ingest log closed");
    }

    /// Appends what a command brings; false = stop.
    fn take(&mut self, command: Command, pending: &mut Vec<Pending>) -> bool {
        self.stats.ingest_waiting.dec();
        match command {
            Command::Batch(batch, to, _room) => self.take_batch(*batch, to, pending),
            Command::Input(input, to) => self.take_input(*input, to, pending),
            // Answered behind the sync: what is only appended is not held yet.
            Command::Held(agent, ranges, to) => pending.push(Pending::Held { agent, ranges, to }),
            Command::Stop => return false,
        }
        true
    }

    fn take_batch(
        &mut self,
        batch: NewBatch,
        to: mpsc::Sender<BatchReply>,
        pending: &mut Vec<Pending>,
    ) {
        let NewBatch {
            agent,
            incarnation,
            first_sequence,
            count: records,
            ..
        } = &batch;
        let (agent, incarnation, from, records) =
            (agent.clone(), *incarnation, *first_sequence, *records);
        let end = from.saturating_add(records);
        let range = IncarnationRange {
            incarnation,
            from_inclusive: from,
            to_exclusive: end,
        };
        let mut reply = BatchReply {
            range,
            verdict: Verdict::Durable,
        };
        let new = match self.held.note(&agent, incarnation, from, end) {
            Noted::New(new) => new,
            Noted::TooManyGaps => {
                reply.verdict = Verdict::TooManyGaps;
                count_many(&self.stats.ingest_records, "too_many_gaps", records);
                answer(&to, reply);
                return;
            }
        };
        let new_records: u64 = new.iter().map(|range| range.end - range.start).sum();
        let counts = Counts {
            records,
            new: new_records,
            // Exact but for a batch that is partly known, which happens only around a cut.
            samples: batch
                .samples
                .saturating_mul(new_records)
                .checked_div(records)
                .unwrap_or(0),
            bytes: if new_records > 0 {
                batch.block.len() as u64
            } else {
                0
            },
        };
        if new_records > 0 {
            let logged = Input::Batch(logged_batch(batch, &new));
            if let Err(error) = self.append(logged) {
                self.held.forget(&agent, incarnation, &new);
                count_many(&self.stats.ingest_records, error.label(), new_records);
                reply.verdict = Verdict::NotDurable;
                answer(&to, reply);
                return;
            }
        }
        pending.push(Pending::Batch { reply, to, counts });
    }

    fn take_input(
        &mut self,
        input: Input,
        to: oneshot::Sender<Result<Position, NotDurable>>,
        pending: &mut Vec<Pending>,
    ) {
        if matches!(input, Input::Tick(_)) {
            self.release();
        }
        match self.append(input) {
            Ok(position) => pending.push(Pending::Input { position, to }),
            // The asker may be gone, which changes nothing.
            Err(error) => drop(to.send(Err(error))),
        }
    }

    fn append(&mut self, input: Input) -> Result<Position, NotDurable> {
        let now = self.clock.read();
        let record = wire::LogRecord {
            wall_us: now.wall_us,
            input: Some(input),
        };
        let appended = self.journal.append(
            &encode_log_record(&record),
            Now {
                wall_ms: now.wall_ms(),
            },
        );
        appended.map_err(|error| {
            let reason = match &error {
                AppendError::Full { .. } => NotDurable::Full,
                AppendError::TooLarge { .. } => NotDurable::TooLarge,
                AppendError::Disk(_) => NotDurable::Disk,
            };
            self.failed(reason.label(), &error);
            reason
        })
    }

    fn failed(&mut self, reason: &'static str, error: &(dyn std::error::Error + 'static)) {
        count(&self.stats.ingest_failed, reason);
        if !self.failing {
            tracing::error!(
                error = error_chain(error),
                "ingest log cannot be written, nothing is acknowledged"
            );
        }
        self.failing = true;
    }

    /// Makes everything that was appended durable, then says so.
    fn commit(&mut self, pending: &mut Vec<Pending>) {
        if pending.is_empty() {
            return;
        }
        let synced = self.journal.sync();
        match synced {
            Ok(_) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("ingest log can be written again");
                }
                self.stats.ingest_commits.inc();
            }
            Err(ref error) => self.failed("sync", error),
        }
        // What was appended stays appended when the sync fails: the next sync that succeeds makes it durable, so it
        // stays in the account, and whoever sends it again is answered by then.
        let durable = synced.is_ok();
        for pending in pending.drain(..) {
            match pending {
                Pending::Batch {
                    mut reply,
                    to,
                    counts,
                } => {
                    if durable {
                        self.count_batch(&counts);
                    } else {
                        reply.verdict = Verdict::NotDurable;
                    }
                    answer(&to, reply);
                }
                Pending::Input { position, to } => {
                    self.stats.ingest_logged.inc_by(u64::from(durable));
                    // The asker may be gone, which changes nothing.
                    drop(to.send(if durable {
                        Ok(position)
                    } else {
                        Err(NotDurable::Disk)
                    }));
                }
                Pending::Held { agent, ranges, to } => {
                    let held = if durable {
                        self.held.within(&agent, &ranges)
                    } else {
                        Vec::new()
                    };
                    // The asker may be gone, which changes nothing.
                    drop(to.send(held));
                }
            }
        }
        self.publish_size();
        self.store.wake();
    }

    fn count_batch(&self, counts: &Counts) {
        count_many(&self.stats.ingest_records, "new", counts.new);
        count_many(
            &self.stats.ingest_records,
            "resent",
            counts.records - counts.new,
        );
        self.stats.ingest_samples.inc_by(counts.samples);
        self.stats.ingest_blocks.inc_by(counts.bytes);
        self.stats.ingest_logged.inc_by(u64::from(counts.new > 0));
    }

    /// What the catalogue has taken over may make room. Exports that are further behind than the log reaches back lose
    /// what was dropped, and count it: a dead metrics engine must not stop the accounting.
    fn release(&mut self) {
        let Some(applied) = self.store.applied() else {
            return;
        };
        for (incarnation, range) in self.journal.waiting() {
            if incarnation == applied.incarnation {
                self.journal.acknowledge(
                    incarnation,
                    range.start..range.end.min(applied.sequence + 1),
                );
                break;
            }
            self.journal.acknowledge(incarnation, range);
        }
    }

    fn publish_size(&self) {
        let bytes = self.journal.bytes();
        let records = self.journal.ledger().produced;
        self.size.bytes.store(bytes, Ordering::Relaxed);
        self.size.records.store(records, Ordering::Relaxed);
        let gauge = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.stats.ingest_log.set(gauge(bytes));
        let lag = records.saturating_sub(self.store.applied_records());
        self.stats.store_lag.set(gauge(lag));
    }
}

fn logged_batch(batch: NewBatch, new: &[Range<u64>]) -> wire::LoggedBatch {
    let Incarnation(incarnation) = batch.incarnation;
    let range = |range: &Range<u64>| wire::SequenceRange {
        incarnation,
        from_inclusive: range.start,
        to_exclusive: range.end,
    };
    wire::LoggedBatch {
        agent_id: batch.agent.as_str().to_owned(),
        incarnation,
        boot_id: batch.boot_id.0.to_vec(),
        first_sequence: batch.first_sequence,
        new_ranges: new.iter().map(range).collect(),
        boot_to_wall_ms: batch.boot_to_wall_ms,
        time_certain: batch.time_certain,
        block: batch.block,
        lane: match batch.lane {
            Lane::Live => wire::Lane::Live,
            Lane::Backlog => wire::Lane::Backlog,
        }
        .into(),
    }
}

/// Streams keep their channel wide enough; a stream that is gone needs no answer.
fn answer(to: &mpsc::Sender<BatchReply>, reply: BatchReply) {
    if let Err(mpsc::error::TrySendError::Full(_)) = to.try_send(reply) {
        tracing::error!("a stream had more batches under way than its window");
    }
}
