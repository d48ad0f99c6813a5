//! Sends results to metrics engines by Prometheus remote write, out of the ingest log.
//!
//! Constraints
//! 1. A target that is away or slow delays nobody else: each has a thread, a reader of the log and a cursor of its own.
//! 2. What was acknowledged may still be lost: `VictoriaMetrics` answers seconds before data is durable. The durable
//!    cursor therefore stays `cursor_lag` behind what was acknowledged, and a restart sends that part again (run the
//!    engine with `-dedup.minScrapeInterval=1ms`).
//! 3. A sample's time is the time it was measured, frozen in the log, so that a re-send can never land beside its first
//!    copy.
//! 4. Transient failures (5xx, 429, no connection) are tried again for ever; what the engine refuses (4xx) is split
//!    until the refused series stand alone, and those are counted and left out.
//!
//! Path: reader -> (catalogue holds the record) -> [`samples`] -> [`remote_write`] -> [`sender`] -> cursor.

pub mod remote_write;
mod samples;
mod sender;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::shell::{Shutdown, Stage, error_chain, spawn_thread_named};
use extranet_proto::wire;
use tokio::runtime::Handle;

use self::remote_write::Collected;
use self::samples::Sampler;
pub(crate) use self::samples::{CheckLabels, Definitions};
use self::sender::{Sender, Sent};
use crate::config::RemoteWriteConfig;
use crate::self_stats::{Stats, count};
use crate::store::{LogReader, Position, Store, StoreError, decode_log_record};

/// Most samples in one request: 500 series with ten samples, what the engines were measured to like.
const REQUEST_SAMPLES: usize = 5_000;
/// How often the log is looked at when it has nothing new.
const IDLE: Duration = Duration::from_millis(100);
/// How often the lag is counted again while an engine does not answer.
const SHOW_LAG: Duration = Duration::from_secs(1);
/// How long the catalogue may take to come to a record before this is said.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is known about an exporter from outside.
#[derive(Debug, Default, Clone)]
struct Shown {
    lag_records: u64,
    samples_sent: u64,
    last_error: String,
}

/// A running exporter.
pub struct Exporter {
    name: String,
    shown: Arc<Mutex<Shown>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Exporter {
    /// Starts sending to one target what `reader` gives, which must start behind [`Store::export_cursor`].
    pub fn start(
        config: RemoteWriteConfig,
        reader: impl LogReader + 'static,
        parts: &Parts<'_>,
    ) -> Result<Self, StoreError> {
        let shown: Arc<Mutex<Shown>> = Arc::default();
        let name = config.name.clone();
        let (store, stats) = (parts.store.clone(), Arc::clone(parts.stats));
        let last = store.export_cursor(&name)?;
        let work = Work {
            sampler: Sampler::new(store.clone(), Arc::clone(&stats), last),
            sender: Sender::new(
                &config,
                parts.client.clone(),
                Arc::clone(&stats),
                parts.shutdown.clone(),
            ),
            reader: Box::new(reader),
            pending: None,
            store,
            clock: parts.clock.clone(),
            stats,
            shutdown: parts.shutdown.clone(),
            shown: Arc::clone(&shown),
            runtime: Handle::current(),
            collected: Collected::default(),
            held_records: 0,
            collecting_since: None,
            sent: VecDeque::new(),
            config,
        };
        let thread = spawn_thread_named("export", move || work.run()).map_err(|source| {
            StoreError::File {
                operation: "starting an exporter",
                source,
            }
        })?;
        Ok(Self {
            name,
            shown,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// For `status`.
    pub fn status(&self) -> wire::ExportStatus {
        let shown = self
            .shown
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        wire::ExportStatus {
            target: self.name.clone(),
            lag_records: shown.lag_records,
            samples_sent: shown.samples_sent,
            last_error: shown.last_error,
        }
    }

    /// Waits until it has stopped. Blocks.
    pub fn join(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            // A panic was reported by the thread already.
            drop(thread.join());
        }
    }
}

/// All exporters of a collector; clones share them.
#[derive(Clone, Default)]
pub struct Exporters(Arc<[Exporter]>);

impl Exporters {
    /// Starts one for each target; `reader_behind` opens the log behind a position.
    pub fn start<R: LogReader + 'static>(
        targets: &[RemoteWriteConfig],
        reader_behind: impl Fn(Option<Position>) -> R,
        parts: &Parts<'_>,
    ) -> Result<Self, StoreError> {
        targets
            .iter()
            .map(|target| {
                let reader = reader_behind(parts.store.export_cursor(&target.name)?);
                Exporter::start(target.clone(), reader, parts)
            })
            .collect::<Result<Arc<[Exporter]>, _>>()
            .map(Self)
    }

    /// For `status`.
    pub fn status(&self) -> Vec<wire::ExportStatus> {
        self.0.iter().map(Exporter::status).collect()
    }

    /// Waits until all have stopped. Blocks.
    pub fn join(&self) {
        self.0.iter().for_each(Exporter::join);
    }
}

/// What exporters share.
pub struct Parts<'a> {
    /// Labels and cursors.
    pub store: &'a Store,
    /// Connections to the engines.
    pub client: &'a reqwest::Client,
    /// For waiting times.
    pub clock: &'a Clock,
    /// Statistics.
    pub stats: &'a Arc<Stats>,
    /// They stop in [`Stage::Flush`] after one last attempt.
    pub shutdown: &'a Shutdown,
}

struct Work {
    config: RemoteWriteConfig,
    reader: Box<dyn LogReader>,
    /// Read and not used yet, because something it needs failed.
    pending: Option<(Position, Vec<u8>)>,
    store: Store,
    sampler: Sampler,
    sender: Sender,
    clock: Clock,
    stats: Arc<Stats>,
    shutdown: Shutdown,
    shown: Arc<Mutex<Shown>>,
    runtime: Handle,
    collected: Collected,
    /// Records that were read and have samples among the collected ones, or in front of them.
    held_records: u64,
    /// Boot time at which the oldest collected sample came, µs.
    collecting_since: Option<u64>,
    /// What was acknowledged when (boot time, µs), oldest first, and may be passed by the cursor after the lag.
    sent: VecDeque<(u64, Position)>,
}

impl Work {
    fn run(mut self) {
        loop {
            let mut stopping = self.shutdown.stage() >= Stage::Flush;
            let read = match self.fill() {
                Ok(read) => read,
                Err(StoreError::Stopped) => {
                    stopping = true;
                    0
                }
                Err(error) => {
                    tracing::error!(
                        name = self.config.name,
                        error = error_chain(&error),
                        "cannot read, trying again"
                    );
                    0
                }
            };
            self.show_lag();
            if self.is_due() || (stopping && read == 0) {
                let alive = self.flush();
                if !alive {
                    return;
                }
            }
            self.advance_cursor();
            if stopping && read == 0 {
                return;
            }
            if read == 0 {
                std::thread::sleep(IDLE);
            }
        }
    }

    /// Collects until a request is full or the log has nothing more; how many records were read.
    fn fill(&mut self) -> Result<usize, StoreError> {
        let mut read = 0;
        while self.collected.len() < REQUEST_SAMPLES {
            if self.pending.is_none() {
                self.pending = self.reader.next().map_err(StoreError::Log)?;
            }
            let Some((position, payload)) = &self.pending else {
                break;
            };
            self.runtime.block_on(wait(&self.store, *position))?;
            match decode_log_record(payload) {
                Ok(record) => self
                    .sampler
                    .record(*position, &record, &mut self.collected)?,
                Err(reason) => count(&self.stats.export_dropped, reason),
            }
            self.pending = None;
            read += 1;
            // Records without samples are not held: nothing of them is to be sent.
            if !self.collected.is_empty() {
                self.held_records += 1;
            }
        }
        if !self.collected.is_empty() && self.collecting_since.is_none() {
            self.collecting_since = Some(self.clock.read().boottime_us);
        }
        Ok(read)
    }

    fn is_due(&self) -> bool {
        let waited = |since: u64| self.clock.read().boottime_us.saturating_sub(since);
        self.collected.len() >= REQUEST_SAMPLES
            || self
                .collecting_since
                .is_some_and(|since| u128::from(waited(since)) >= self.config.flush.as_micros())
    }

    /// Sends what was collected; false when the service stops before that was possible.
    fn flush(&mut self) -> bool {
        self.collecting_since = None;
        for request in self.collected.take(REQUEST_SAMPLES) {
            match self.runtime.block_on(self.send(request)) {
                Sent::Done(samples) => self.show(|shown| {
                    shown.samples_sent += samples;
                    shown.last_error.clear();
                }),
                Sent::Refused(samples, error) => self.show(|shown| {
                    shown.samples_sent += samples;
                    shown.last_error.clone_from(&error);
                }),
                Sent::Stopped(error) => {
                    self.show(|shown| shown.last_error.clone_from(&error));
                    return false;
                }
            }
        }
        self.held_records = 0;
        self.show_lag();
        if let Some(position) = self.sampler.done_through() {
            let now = self.clock.read().boottime_us;
            if self.sent.back().is_none_or(|(_, last)| *last != position) {
                self.sent.push_back((now, position));
            }
        }
        true
    }

    /// Sends, and goes on saying how far behind the engine is, which may be away for days.
    async fn send(&self, request: remote_write::WriteRequest) -> Sent {
        let mut sending = std::pin::pin!(self.sender.send(request));
        loop {
            match tokio::time::timeout(SHOW_LAG, &mut sending).await {
                Ok(sent) => return sent,
                Err(_) => self.show_lag(),
            }
        }
    }

    /// Moves the durable cursor to what was acknowledged longer ago than the lag.
    fn advance_cursor(&mut self) {
        // Records without samples need no acknowledgement, but their place must be known before the cursor may pass.
        if self.collected.is_empty()
            && let Some(position) = self.sampler.done_through()
            && self.sent.back().is_none_or(|(_, last)| *last != position)
        {
            self.sent
                .push_back((self.clock.read().boottime_us, position));
        }
        let now = self.clock.read().boottime_us;
        let old = |since: u64| {
            u128::from(now.saturating_sub(since)) >= self.config.cursor_lag.as_micros()
        };
        let mut safe = None;
        while self.sent.front().is_some_and(|(since, _)| old(*since)) {
            safe = self.sent.pop_front().map(|(_, position)| position);
        }
        if let Some(position) = safe
            && let Err(error) = self.store.set_export_cursor(&self.config.name, position)
        {
            // The next one will be stored; until then a restart sends more again.
            tracing::error!(
                name = self.config.name,
                error = error_chain(&error),
                "cannot store the cursor"
            );
        }
    }

    fn show(&self, change: impl FnOnce(&mut Shown)) {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn show_lag(&self) {
        if let Some(unread) = self.reader.lag() {
            let lag = unread + self.held_records;
            self.show(|shown| shown.lag_records = lag);
            let gauge = [("target", self.config.name.clone())];
            let lag = i64::try_from(lag).unwrap_or(i64::MAX);
            self.stats.export_lag.get_or_create(&gauge).set(lag);
        }
    }
}

/// Waits until the catalogue holds a record: its labels may have come with it.
async fn wait(store: &Store, position: Position) -> Result<(), StoreError> {
    loop {
        match tokio::time::timeout(PATIENCE, store.wait_applied(position)).await {
            Ok(done) => return done,
            Err(_) => {
                tracing::warn!(?position, "the catalogue is behind the log");
            }
        }
    }
}
