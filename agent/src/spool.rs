//! The spool: every record goes to disk before it goes anywhere else. A thread owns the journal; everybody else talks
//! to it through a [`Spool`].
//!
//! - Nothing here ever stalls probing: [`Spool::append`] returns at once; when the thread cannot keep up (a disk that
//!   hangs), records are let go and counted.
//! - A record is forced to disk every `sync_interval`, and before it is sent.
//! - Definitions are repeated so often that every segment of the journal holds all of them: newest-first sending and
//!   oldest-first dropping then never separate a definition from the values that use it.
//! - What the journal drops becomes a record itself.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use extranet_journal::{Journal, JournalError, Now, Options, WhenFull};
use extranet_proto::id::{BootId, Incarnation};
use extranet_proto::record::Record;
use extranet_proto::session::{IncarnationRange, Ledger};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, boot_id};
use crate::config::Config;
use crate::self_stats::{Stats, count};
use crate::shell::spawn_thread_named;

mod boots;
mod definitions;
mod keeper;

use boots::Boots;
use keeper::Keeper;

/// Commands waiting for the thread, most of them a record or two. A guess: ten seconds of a hanging disk at 400 checks
/// a second.
const QUEUE: usize = 4_096;
/// How soon a question is put again when the queue is full.
const QUEUE_RETRY: Duration = Duration::from_millis(20);
/// Largest segment. Dropping one loses at most this much; definitions are repeated once for each half of it.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Segments that a full spool has at least.
const SEGMENTS: u64 = 16;

/// Why the spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// The journal in the state folder.
    #[error("cannot open the spool in {}", path.display())]
    Journal {
        /// Which folder.
        path: std::path::PathBuf,
        /// Why.
        source: JournalError,
    },
    /// The kernel does not say which boot this is.
    #[error("cannot read the boot id")]
    BootId(#[source] std::io::Error),
    /// No thread.
    #[error("cannot start the spool's thread")]
    Thread(#[source] std::io::Error),
}

/// Where the spool stands; followed by the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tip {
    /// Sequence that the next record of this incarnation gets.
    pub next_sequence: u64,
    /// Grows with every record that should be sent at once.
    pub urgent: u64,
    /// Grows with every drop.
    pub drops: u64,
}

/// What a stream begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Durable records without an acknowledgement, oldest first.
    pub waiting: Vec<IncarnationRange>,
    /// The balance.
    pub ledger: Ledger,
    /// First sequence of this incarnation that is not among `waiting`.
    pub next_sequence: u64,
}

/// What to read for one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// Which records; the first of them are returned.
    pub range: IncarnationRange,
    /// At most so many.
    pub max_records: u64,
    /// The block is at most this long, unless a single record is longer.
    pub max_block_bytes: usize,
}

/// Consecutive records, packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// The records in the block; empty when there are none in the range any more.
    pub range: IncarnationRange,
    /// Everything wanted below this is in the block or gone.
    pub covered_to_exclusive: u64,
    /// The packed records.
    pub block: Vec<u8>,
    /// The boot they were measured in, when it is another than this one; all zeroes when it is not known any more.
    pub boot_id: Option<BootId>,
}

/// What the thread is asked to do.
#[derive(Debug)]
enum Command {
    Append {
        records: Vec<Record>,
        urgent: bool,
    },
    Snapshot(oneshot::Sender<Snapshot>),
    Ledger(oneshot::Sender<Ledger>),
    Read(Want, oneshot::Sender<Option<Chunk>>),
    Settle {
        acknowledged: Vec<IncarnationRange>,
        refused: Vec<IncarnationRange>,
    },
    Close(oneshot::Sender<()>),
}

/// Handle of the spool; cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool {
    commands: SyncSender<Command>,
    tip: watch::Receiver<Tip>,
    incarnation: Incarnation,
    boot_id: BootId,
    stats: Arc<Stats>,
}

/// The thread is gone: it panicked, or the spool was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the spool is closed")]
pub struct Closed;

impl Spool {
    /// Opens the journal in `<state_dir>/spool` and starts the thread.
    pub fn open(config: &Config, clock: Clock, stats: Arc<Stats>) -> Result<Self, SpoolError> {
        let path = config.state_dir.join("spool");
        let segment_bytes = SEGMENT_BYTES.min(config.spool.max_bytes / SEGMENTS);
        let options = Options {
            segment_bytes,
            max_bytes: config.spool.max_bytes,
            max_age: Some(config.spool.max_age),
            keep_acknowledged: true,
            when_full: WhenFull::DropOldest,
        };
        let now = Now {
            wall_ms: clock.read().wall_ms(),
        };
        let (journal, recovery) =
            Journal::open(&path, options, now).map_err(|source| SpoolError::Journal {
                path: path.clone(),
                source,
            })?;
        tracing::info!(
            ?recovery,
            waiting = journal.ledger().waiting,
            "spool opened"
        );
        let incarnation = Incarnation(journal.incarnation());
        let boot_id = boot_id().map_err(SpoolError::BootId)?;
        let boots = Boots::open(
            &boots_path(&config.state_dir),
            incarnation,
            boot_id,
            &journal,
        );
        let (commands, queue) = sync_channel(QUEUE);
        let (tip_sender, tip) = watch::channel(Tip::default());
        let keeper = Keeper::new(
            journal,
            boots,
            clock,
            Arc::clone(&stats),
            tip_sender,
            keeper::Pace {
                sync_interval: config.spool.sync_interval,
                definition_bytes: segment_bytes / 2,
                definition_age: config.spool.max_age / 16,
            },
        );
        let thread = move || {
            let asked_to_close = keeper.run(&queue);
            if asked_to_close.is_some_and(|reply| reply.send(()).is_err()) {
                tracing::debug!("nobody waited for the spool to close");
            }
        };
        spawn_thread_named("spool", thread).map_err(SpoolError::Thread)?;
        Ok(Self {
            commands,
            tip,
            incarnation,
            boot_id,
            stats,
        })
    }

    /// Under which records are appended now.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The running boot.
    pub fn boot_id(&self) -> BootId {
        self.boot_id
    }

    /// Follows where the spool stands.
    pub fn tip(&self) -> watch::Receiver<Tip> {
        self.tip.clone()
    }

    /// Hands over records. Never blocks: when the queue is full, they are let go and counted.
    pub fn append(&self, records: Vec<Record>, urgent: bool) {
        let many = records.len() as u64;
        match self.commands.try_send(Command::Append { records, urgent }) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => count(&self.stats.spool_dropped, "busy", many),
            Err(TrySendError::Disconnected(_)) => count(&self.stats.spool_dropped, "closed", many),
        }
    }

    /// What a stream begins with; everything appended before is on disk.
    pub async fn snapshot(&self) -> Result<Snapshot, Closed> {
        self.ask(Command::Snapshot).await
    }

    /// The balance.
    pub async fn ledger(&self) -> Result<Ledger, Closed> {
        self.ask(Command::Ledger).await
    }

    /// Reads records for one batch; they are on disk. `None`: the disk does not give them now.
    pub async fn read(&self, want: Want) -> Result<Option<Chunk>, Closed> {
        self.ask(|reply| Command::Read(want, reply)).await
    }

    /// Records that nobody needs to send again.
    pub async fn settle(
        &self,
        acknowledged: Vec<IncarnationRange>,
        refused: Vec<IncarnationRange>,
    ) -> Result<(), Closed> {
        self.send(Command::Settle {
            acknowledged,
            refused,
        })
        .await
    }

    /// Writes everything, lets go of the journal and ends the thread.
    pub async fn close(&self) -> Result<(), Closed> {
        self.ask(Command::Close).await
    }

    async fn ask<T>(
        &self,
        question: impl FnOnce(oneshot::Sender<T>) -> Command,
    ) -> Result<T, Closed> {
        let (reply, answer) = oneshot::channel();
        self.send(question(reply)).await?;
        answer.await.map_err(|_| Closed)
    }

    /// Waits for room in the queue, without blocking the runtime.
    async fn send(&self, mut command: Command) -> Result<(), Closed> {
        loop {
            match self.commands.try_send(command) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(_)) => return Err(Closed),
                Err(TrySendError::Full(back)) => {
                    command = back;
                    tokio::time::sleep(QUEUE_RETRY).await;
                }
            }
        }
    }
}

fn boots_path(state_dir: &Path) -> std::path::PathBuf {
    state_dir.join("boots")
}

#[cfg(test)]
pub(crate) mod tests;
