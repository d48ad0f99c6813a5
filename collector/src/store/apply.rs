//! The follower: a thread that applies the ingest log to the catalogue, a group of records in one transaction.
//!
//! Paths
//! - read as many records as there are (at most [`GROUP_RECORDS`]), apply them in one transaction that also stores the
//!   position of the last one, publish, again; nothing to read: sleep until woken;
//! - a transaction that fails (disk full, another writer too slow) is rolled back, everything derived in memory is
//!   forgotten, and the same group is tried again: the follower may fall behind, it never skips;
//! - a record that cannot be decoded is skipped and counted: it was checked before it was logged, so it comes from a
//!   newer release.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use extranet_agent::shell::{error_chain, spawn_thread_named};
use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use tokio::sync::watch;

use super::catalogue::Doing;
use super::{
    Position, Store, StoreError, assignments, enrolment, readiness, results, security, slots,
};
use crate::self_stats::count;

/// Most records in one transaction: enough to spread its cost, few enough that readers see news within milliseconds.
const GROUP_RECORDS: usize = 2_000;
/// How often the follower looks for new records when nobody wakes it.
const IDLE: Duration = Duration::from_millis(50);
/// Pause after a failed transaction or an unreadable log.
const RETRY: Duration = Duration::from_secs(1);
/// First byte of the payload of a log record; a protobuf `LogRecord` follows.
const LOG_VERSION: u8 = 1;

/// Why the log cannot be read.
pub type LogError = Box<dyn Error + Send + Sync>;

/// Something that gives the durable records of the ingest log in order.
pub trait LogReader: Send {
    /// The next record, or `None` when there is none yet.
    fn next(&mut self) -> Result<Option<(Position, Vec<u8>)>, LogError>;

    /// How many durable records are still to be read, where that is known.
    fn lag(&self) -> Option<u64> {
        None
    }
}

impl LogReader for extranet_journal::Reader {
    fn next(&mut self) -> Result<Option<(Position, Vec<u8>)>, LogError> {
        Ok(extranet_journal::Reader::next(self)?)
    }

    fn lag(&self) -> Option<u64> {
        Some(extranet_journal::Reader::lag(self))
    }
}

/// Payload of a log record.
pub fn encode_log_record(record: &wire::LogRecord) -> Vec<u8> {
    [vec![LOG_VERSION], record.encode_to_vec()].concat()
}

/// Record in a payload; `Err` says why it cannot be read.
pub fn decode_log_record(payload: &[u8]) -> Result<wire::LogRecord, &'static str> {
    match payload.split_first() {
        Some((&LOG_VERSION, record)) => {
            wire::LogRecord::decode(record).map_err(|_| "undecodable_record")
        }
        Some(_) => Err("unknown_record_version"),
        None => Err("empty_record"),
    }
}

/// How far the follower is, shared with everybody who waits for it.
pub(super) struct Progress {
    state: Mutex<ProgressState>,
    records: watch::Sender<u64>,
    thread: Mutex<Option<Thread>>,
    stopped: AtomicBool,
}

#[derive(Default, Clone)]
struct ProgressState {
    applied: Option<Position>,
    records: u64,
    /// Order of the incarnations of the log: positions can only be compared with it.
    ordinals: HashMap<u64, i64>,
}

impl Progress {
    /// Reads where the catalogue stands.
    pub(super) fn load(connection: &Connection) -> Result<Self, StoreError> {
        let mut state = ProgressState::default();
        if let Some((incarnation, sequence, records)) = connection
            .query_row(
                "SELECT incarnation, sequence, records FROM log_position",
                [],
                |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get::<_, i64>(1)?,
                        row.get::<_, i64>(2)?,
                    ))
                },
            )
            .optional()
            .doing("reading the log position")?
        {
            state.applied = Some(Position {
                incarnation: incarnation.cast_unsigned(),
                sequence: sequence.cast_unsigned(),
            });
            state.records = records.cast_unsigned();
        }
        let mut statement = connection
            .prepare("SELECT incarnation, ordinal FROM log_incarnations")
            .doing("reading incarnations")?;
        state.ordinals = statement
            .query_map([], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get(1)?))
            })
            .doing("reading incarnations")?
            .collect::<Result<_, _>>()
            .doing("reading incarnations")?;
        Ok(Self {
            records: watch::Sender::new(state.records),
            state: Mutex::new(state),
            thread: Mutex::new(None),
            stopped: AtomicBool::new(false),
        })
    }

    fn state(&self) -> MutexGuard<'_, ProgressState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn applied(&self) -> Option<Position> {
        self.state().applied
    }

    pub(super) fn records(&self) -> u64 {
        self.state().records
    }

    /// Whether the catalogue holds the record at `position`.
    pub(super) fn holds(&self, position: Position) -> bool {
        let state = self.state();
        let Some(applied) = state.applied else {
            return false;
        };
        let ordinal = |incarnation: u64| state.ordinals.get(&incarnation);
        match (ordinal(position.incarnation), ordinal(applied.incarnation)) {
            (Some(wanted), Some(reached)) => {
                (*wanted, position.sequence) <= (*reached, applied.sequence)
            }
            _ => false,
        }
    }

    pub(super) fn wake(&self) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = thread.as_ref() {
            thread.unpark();
        }
    }

    pub(super) async fn wait(&self, position: Position) -> Result<(), StoreError> {
        let mut news = self.records.subscribe();
        self.wake();
        loop {
            if self.holds(position) {
                return Ok(());
            }
            if self.stopped.load(Ordering::SeqCst) || news.changed().await.is_err() {
                return Err(StoreError::Stopped);
            }
        }
    }
}

/// The running follower. Dropping it stops the thread after the transaction in hand.
pub struct Follower {
    store: Store,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Applies what the log holds now, then stops the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.store.wake();
        if let Some(thread) = self.thread.take() {
            // A panic of the follower was reported by its thread already.
            drop(thread.join());
        }
    }
}

pub(super) fn start(store: Store, reader: Box<dyn LogReader>) -> Result<Follower, StoreError> {
    let stop = Arc::new(AtomicBool::new(false));
    let (follower, stopping) = (store.clone(), Arc::clone(&stop));
    store.inner.progress.stopped.store(false, Ordering::SeqCst);
    let thread = spawn_thread_named("store", move || {
        follow(&follower, reader, &stopping);
        let progress = &follower.inner.progress;
        progress.stopped.store(true, Ordering::SeqCst);
        // Wakes those who wait, so that they see the end.
        progress.records.send_modify(|_| ());
    })
    .map_err(|source| StoreError::File {
        operation: "starting the follower of the log",
        source,
    })?;
    *store
        .inner
        .progress
        .thread
        .lock()
        .unwrap_or_else(PoisonError::into_inner) = Some(thread.thread().clone());
    Ok(Follower {
        store,
        stop,
        thread: Some(thread),
    })
}

fn follow(store: &Store, mut reader: Box<dyn LogReader>, stop: &AtomicBool) {
    let mut applier = None;
    let mut group = Vec::new();
    loop {
        if group.is_empty()
            && let Err(error) = read_group(&mut *reader, &mut group)
        {
            tracing::error!(
                error = error_chain(&error),
                "the ingest log cannot be read, trying again"
            );
        }
        let stopping = stop.load(Ordering::SeqCst);
        if group.is_empty() {
            if stopping {
                return;
            }
            std::thread::park_timeout(IDLE);
            continue;
        }
        match apply_group(store, &mut applier, &group) {
            Ok(()) => group.clear(),
            Err(error) => {
                // What was derived in memory may be ahead of what was rolled back.
                applier = None;
                store.inner.stats.store_failed.inc();
                tracing::error!(
                    error = error_chain(&error),
                    "a transaction failed, trying again"
                );
                if stopping {
                    return;
                }
                std::thread::park_timeout(RETRY);
            }
        }
    }
}

fn read_group(
    reader: &mut dyn LogReader,
    group: &mut Vec<(Position, Vec<u8>)>,
) -> Result<(), StoreError> {
    while group.len() < GROUP_RECORDS {
        match reader.next().map_err(StoreError::Log)? {
            Some(record) => group.push(record),
            None => break,
        }
    }
    Ok(())
}

fn apply_group(
    store: &Store,
    applier: &mut Option<Applier>,
    group: &[(Position, Vec<u8>)],
) -> Result<(), StoreError> {
    let mut connection = store.read()?;
    let transaction = connection
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .doing("beginning a group")?;
    let applier = match applier {
        Some(applier) => applier,
        None => applier.insert(Applier::load(store, &transaction)?),
    };
    let mut progress = store.inner.progress.state().clone();
    for (position, payload) in group {
        advance(&transaction, &mut progress, *position)?;
        match decode_log_record(payload) {
            Ok(record) => applier.apply(&transaction, record)?,
            Err(reason) => count(&store.inner.stats.store_skipped, reason),
        }
    }
    let effects = applier.finish(&transaction)?;
    store_position(&transaction, &progress)?;
    transaction.commit().doing("committing a group")?;
    drop(connection);

    let stats = &store.inner.stats;
    stats
        .store_applied
        .inc_by(u64::try_from(group.len()).unwrap_or(u64::MAX));
    let records = progress.records;
    *store.inner.progress.state() = progress;
    store.inner.progress.records.send_replace(records);
    if let Some(change) = effects.assignment_change {
        store.inner.changes.send_replace(change);
    }
    if effects.alerts_changed {
        store.inner.alert_changes.send_modify(|count| *count += 1);
    }
    if effects.security_entries {
        store
            .inner
            .security_entries
            .send_modify(|count| *count += 1);
    }
    Ok(())
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn advance(
    transaction: &Transaction<'_>,
    progress: &mut ProgressState,
    position: Position,
) -> Result<(), StoreError> {
    if !progress.ordinals.contains_key(&position.incarnation) {
        let ordinal = i64::try_from(progress.ordinals.len()).unwrap_or(i64::MAX);
        transaction
            .execute(
                "INSERT INTO log_incarnations (ordinal, incarnation) VALUES (?1, ?2)",
                params![ordinal, position.incarnation.cast_signed()],
            )
            .doing("storing an incarnation of the log")?;
        progress.ordinals.insert(position.incarnation, ordinal);
    }
    progress.applied = Some(position);
    progress.records += 1;
    Ok(())
}

fn store_position(
    transaction: &Transaction<'_>,
    progress: &ProgressState,
) -> Result<(), StoreError> {
    let Some(position) = progress.applied else {
        return Ok(());
    };
    transaction
        .prepare_cached(
            "INSERT INTO log_position (one, incarnation, sequence, records) VALUES (1, ?1, ?2, ?3) \
             ON CONFLICT (one) DO UPDATE SET incarnation = ?1, sequence = ?2, records = ?3",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                position.incarnation.cast_signed(),
                position.sequence.cast_signed(),
                progress.records.cast_signed()
            ])
        })
        .doing("storing the log position")?;
    Ok(())
}

/// What others have to be told after the commit.
#[derive(Debug, Default)]
struct Effects {
    assignment_change: Option<u64>,
    alerts_changed: bool,
    security_entries: bool,
}

/// Applies records one by one; holds what is too dear to read again for each.
struct Applier {
    results: results::Results,
    assignments: assignments::Compiler,
    watch: slots::Watch,
    readiness: readiness::Readiness,
    security: security::Security,
    effects: Effects,
    stats: Arc<crate::self_stats::Stats>,
}

impl Applier {
    fn load(store: &Store, transaction: &Transaction<'_>) -> Result<Self, StoreError> {
        let stats = Arc::clone(&store.inner.stats);
        Ok(Self {
            results: results::Results::load(transaction, Arc::clone(&stats))?,
            assignments: assignments::Compiler::new(Arc::clone(&stats)),
            watch: slots::Watch::load(transaction, &store.inner.settings, Arc::clone(&stats))?,
            readiness: readiness::Readiness::new(Arc::clone(&stats)),
            security: security::Security::new(
                millis(store.inner.settings.security_hold_down),
                Arc::clone(&stats),
            ),
            effects: Effects::default(),
            stats,
        })
    }

    fn apply(
        &mut self,
        transaction: &Transaction<'_>,
        record: wire::LogRecord,
    ) -> Result<(), StoreError> {
        let now = record.wall_us;
        self.watch.time(transaction, now)?;
        self.security.time(transaction, now)?;
        let Some(input) = record.input else {
            count(&self.stats.store_skipped, "unknown_input");
            return Ok(());
        };
        match input {
            Input::Batch(batch) => {
                let news = self.results.batch(transaction, &batch)?;
                self.watch.results(transaction, &batch, &news.results)?;
                self.readiness
                    .results(transaction, now, &batch, &news.results)?;
                self.security.batch(transaction, now, &batch, &news)?;
                self.watch.heartbeat(transaction, &batch.agent_id)?;
            }
            Input::SessionOpened(opened) => {
                enrolment::session_opened(transaction, now, &opened)?;
                self.watch.heartbeat(transaction, &opened.agent_id)?;
            }
            Input::SessionClosed(closed) => enrolment::session_closed(transaction, now, &closed)?,
            Input::Ledger(ledger) => {
                enrolment::ledger(transaction, now, &ledger)?;
                self.watch.heartbeat(transaction, &ledger.agent_id)?;
            }
            Input::AssignmentStatus(status) => {
                enrolment::assignment_status(transaction, now, &status)?;
            }
            Input::InventoryChanged(changed) => {
                crate::inventory::store(transaction, now, &changed)?;
                self.recompile(transaction, now, &assignments::Scope::Inventory)?;
            }
            Input::PlanChanged(changed) => {
                assignments::store_plan(transaction, now, &changed)?;
                self.recompile(transaction, now, &assignments::Scope::Plan)?;
            }
            Input::TicketIssued(issued) => enrolment::ticket_issued(transaction, now, &issued)?,
            Input::CertificateIssued(issued) => {
                if enrolment::certificate_issued(transaction, now, &issued)? {
                    let scope = assignments::Scope::AccessPoint(issued.ap_id);
                    self.recompile(transaction, now, &scope)?;
                }
            }
            Input::AgentRevoked(revoked) => {
                if let Some(ap_id) = enrolment::agent_revoked(transaction, now, &revoked)? {
                    self.recompile(transaction, now, &assignments::Scope::AccessPoint(ap_id))?;
                }
            }
            Input::SecurityWindowAdded(window) => {
                self.security.window_added(transaction, now, &window)?;
            }
            Input::SecurityEventClosed(closed) => {
                self.security.closed_by_hand(transaction, now, &closed)?;
            }
            Input::Tick(_) => self.security.tick(transaction, now)?,
            Input::CollectorStarted(_) | Input::CollectorStopping(_) => {}
        }
        Ok(())
    }

    fn recompile(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        scope: &assignments::Scope,
    ) -> Result<(), StoreError> {
        let done = self.assignments.compile(transaction, now_us, scope)?;
        if let Some(change) = done.change {
            self.effects.assignment_change = Some(change);
        }
        self.readiness.catalogue_changed(transaction, now_us)?;
        let ap_id = match scope {
            assignments::Scope::AccessPoint(ap_id) => ap_id,
            assignments::Scope::Inventory | assignments::Scope::Plan => "",
        };
        self.security
            .catalogue_changed(transaction, now_us, ap_id)?;
        self.watch
            .catalogue_changed(transaction, *scope == assignments::Scope::Inventory)
    }

    /// Writes what was collected over the group.
    fn finish(&mut self, transaction: &Transaction<'_>) -> Result<Effects, StoreError> {
        self.results.finish(transaction)?;
        self.watch.finish(transaction)?;
        self.effects.alerts_changed |= self.watch.take_alerts_changed();
        self.effects.alerts_changed |= self.readiness.take_alerts_changed();
        self.effects.alerts_changed |= self.security.take_alerts_changed();
        self.effects.security_entries |= self.security.take_entries_added();
        Ok(std::mem::take(&mut self.effects))
    }
}
