//! Makes every input durable, once: the collector's ingest log and the account of what it holds.
//!
//! Constraints
//! 1. Nothing is acknowledged before the log holds it on disk (`fdatasync`).
//! 2. A record is logged once, however often and on however many streams it is sent: it is recognised by (agent,
//!    incarnation, sequence) in sets of ranges that are built at the start from the catalogue and from the part of the
//!    log that the catalogue has not taken over yet.
//! 3. Memory is bounded: senders wait for room in the queue, counted in commands and in bytes.
//! 4. A disk that is full or fails is an answer ("not durable"), never an end: agents keep what is not acknowledged.
//!
//! Layout: one thread owns the log ([`writer`]); everybody else holds an [`Ingest`] and sends commands. The thread
//! takes whatever has gathered while it was syncing, appends all of it, syncs once, and answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use extranet_agent::clock::Clock;
use extranet_agent::shell::spawn_thread_named;
use extranet_journal::Journal;
use extranet_proto::id::{AgentId, BootId, Incarnation};
use extranet_proto::session::{IncarnationRange, Lane};
use extranet_proto::wire::log_record::Input;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::self_stats::Stats;
use crate::store::{Position, Store};

pub mod held;
mod writer;

use held::Held;

/// Commands that wait for the thread. Live batches are a few hundred bytes, so the whole fleet fits; large ones are
/// bounded by [`QUEUED_KIB`].
const QUEUED: usize = 8_192;
/// Blocks that wait for the thread, KiB: a quarter of a second of a slow disk (guess).
const QUEUED_KIB: u32 = 64 << 10;
/// Most replies of one stream that can be under way; see [`Ingest::batch`].
pub const WINDOW: usize = 64;

/// Why an input is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotDurable {
    /// The disk or the log's limit leaves no room.
    #[error("the ingest log is full")]
    Full,
    /// The disk failed.
    #[error("the ingest log cannot be written")]
    Disk,
    /// One record alone is larger than the log takes.
    #[error("the record is larger than the ingest log takes")]
    TooLarge,
    /// The collector stops.
    #[error("the ingest log is closed")]
    Closed,
}

impl NotDurable {
    /// Label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Disk => "disk",
            Self::TooLarge => "too_large",
            Self::Closed => "closed",
        }
    }
}

/// A batch whose block was decoded once, so that the log holds only readable blocks.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Who sent it, by certificate.
    pub agent: AgentId,
    /// Whose numbers.
    pub incarnation: Incarnation,
    /// The boot in which the records were measured.
    pub boot_id: BootId,
    /// Number of the first record.
    pub first_sequence: u64,
    /// Records in the block, at least 1.
    pub count: u64,
    /// Values in the block.
    pub samples: u64,
    /// Frozen: measured at = `boottime_ms` + this.
    pub boot_to_wall_ms: i64,
    /// Whether that is more than the agent's own word.
    pub time_certain: bool,
    /// The records.
    pub block: Vec<u8>,
    /// How it came.
    pub lane: Lane,
}

/// The answer to a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchReply {
    /// The records.
    pub range: IncarnationRange,
    /// Whether the log holds all of them now. If not, nothing of the batch is to be acknowledged.
    pub verdict: Verdict,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// All records are durable, whether they are new or came before.
    Durable,
    /// The log could not take them now. The sender keeps them and tries later.
    NotDurable,
    /// The agent's numbers have more gaps than the collector accounts for.
    TooManyGaps,
}

enum Command {
    Batch(
        Box<NewBatch>,
        mpsc::Sender<BatchReply>,
        OwnedSemaphorePermit,
    ),
    Input(Box<Input>, oneshot::Sender<Result<Position, NotDurable>>),
    Held(
        AgentId,
        Vec<IncarnationRange>,
        oneshot::Sender<Vec<IncarnationRange>>,
    ),
    Stop,
}

/// Handle to the ingest log; clones share it.
#[derive(Debug, Clone)]
pub struct Ingest {
    commands: mpsc::Sender<Command>,
    room: Arc<Semaphore>,
    size: Arc<Size>,
    stats: Arc<Stats>,
}

/// Size of the log, for the status page.
#[derive(Debug, Default)]
struct Size {
    records: AtomicU64,
    bytes: AtomicU64,
}

/// The thread behind [`Ingest`].
#[derive(Debug)]
pub struct IngestThread(std::thread::JoinHandle<()>);

impl IngestThread {
    /// Waits until the log is closed; [`Ingest::stop`] makes it happen.
    pub fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the ingest thread panicked");
        }
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Batch(..) => "Batch",
            Self::Input(..) => "Input",
            Self::Held(..) => "Held",
            Self::Stop => "Stop",
        })
    }
}

impl Ingest {
    /// Starts the thread that owns the log. `held` says what log and catalogue contain already.
    pub fn start(
        journal: Journal,
        held: Held,
        store: Store,
        clock: Clock,
        stats: Arc<Stats>,
    ) -> std::io::Result<(Self, IngestThread)> {
        let (commands, receiver) = mpsc::channel(QUEUED);
        let size = Arc::new(Size::default());
        let writer = writer::Writer::new(
            journal,
            held,
            store,
            clock,
            Arc::clone(&stats),
            Arc::clone(&size),
        );
        let thread = spawn_thread_named("ingest", move || writer.run(receiver))?;
        let room = Arc::new(Semaphore::new(QUEUED_KIB as usize));
        Ok((
            Self {
                commands,
                room,
                size,
                stats,
            },
            IngestThread(thread),
        ))
    }

    /// Hands over a batch, waiting for room. The answer comes through `reply`, which must have room for it: a stream
    /// keeps at most [`WINDOW`] batches under way and gives a channel of that size.
    pub async fn batch(
        &self,
        batch: NewBatch,
        reply: mpsc::Sender<BatchReply>,
    ) -> Result<(), NotDurable> {
        let kib = u32::try_from(batch.block.len().div_ceil(1024)).unwrap_or(u32::MAX);
        let kib = kib.min(QUEUED_KIB);
        let room = Arc::clone(&self.room)
            .acquire_many_owned(kib)
            .await
            .map_err(|_| NotDurable::Closed)?;
        self.send(Command::Batch(Box::new(batch), reply, room))
            .await
    }

    /// Logs anything else and returns when it is durable. After [`NotDurable::Disk`] it may still take effect, when
    /// the disk recovers.
    pub async fn log(&self, input: Input) -> Result<Position, NotDurable> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Input(Box::new(input), reply)).await?;
        answer.await.map_err(|_| NotDurable::Closed)?
    }

    /// Which of the given records the log holds already.
    pub async fn held(
        &self,
        agent: AgentId,
        ranges: Vec<IncarnationRange>,
    ) -> Result<Vec<IncarnationRange>, NotDurable> {
        let (reply, answer) = oneshot::channel();
        self.send(Command::Held(agent, ranges, reply)).await?;
        answer.await.map_err(|_| NotDurable::Closed)
    }

    /// Closes the log behind everything that was handed over before.
    pub async fn stop(&self) {
        // An error means that it is closed already.
        drop(self.send(Command::Stop).await);
    }

    /// Records logged since the log was created, and its bytes on disk.
    pub fn size(&self) -> (u64, u64) {
        (
            self.size.records.load(Ordering::Relaxed),
            self.size.bytes.load(Ordering::Relaxed),
        )
    }

    async fn send(&self, command: Command) -> Result<(), NotDurable> {
        self.stats.ingest_waiting.inc();
        let sent = self.commands.send(command).await;
        if sent.is_err() {
            self.stats.ingest_waiting.dec();
        }
        sent.map_err(|_| NotDurable::Closed)
    }
}
