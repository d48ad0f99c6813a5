//! Security events for the operator's security platform, as RFC 5424 syslog.
//!
//! Constraints
//! 1. Nothing is lost across a restart or while a receiver is away: each receiver has a cursor in the catalogue, and
//!    the entries behind it wait there (the newest 100,000; what was forgotten is counted).
//! 2. Syslog has no acknowledgements. Over TCP the cursor follows [`CONFIRM`] behind what was written, and data that
//!    the receiver's kernel does not acknowledge within [`GIVE_UP_AFTER`], which is shorter, ends the connection: what
//!    may be missing is sent again. So an entry may come twice; its `seq` tells.
//! 3. A receiver that is away delays no other: each has a task of its own.
//!
//! Path: entries behind the cursor -> [`message`] -> [`link`] -> cursor.

mod link;
mod message;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::shell::{Shutdown, Stage, error_chain, spawn_named};
use extranet_proto::wire;
use tokio::task::JoinHandle;

use self::link::{Link, LinkError};
use self::message::Origin;
use crate::config::{SyslogConfig, Transport};
use crate::lookup;
use crate::self_stats::Stats;
use crate::store::{LogEntry, Store, StoreError};

/// Most entries that are read and written at once.
const ENTRIES: usize = 200;
/// How long an entry must have been written before its receiver has it.
const CONFIRM: Duration = Duration::from_secs(10);
/// How long written data may stay without an acknowledgement by the receiver's kernel.
const GIVE_UP_AFTER: Duration = Duration::from_secs(5);
/// First and longest pause after a failure.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long a receiver may take to close its side when we stop: then it has everything.
const GOODBYE: Duration = Duration::from_secs(2);
/// A receiver that is new gets what happened within this time, µs: a day.
const HISTORY_US: i64 = 86_400_000_000;
/// How often it is looked whether something can be confirmed.
const LOOK: Duration = Duration::from_secs(1);

/// What is known about an export from outside.
#[derive(Debug, Default, Clone)]
struct Shown {
    sent: u64,
    waiting: u64,
    last_error: String,
}

/// All syslog exports of a collector; clones share them.
#[derive(Clone, Default)]
pub struct Exports(Arc<[(String, Arc<Mutex<Shown>>)]>);

impl Exports {
    /// For `status`.
    pub fn status(&self) -> Vec<wire::SyslogStatus> {
        let one = |(target, shown): &(String, Arc<Mutex<Shown>>)| {
            let shown = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
            wire::SyslogStatus {
                target: target.clone(),
                sent: shown.sent,
                waiting: shown.waiting,
                last_error: shown.last_error,
            }
        };
        self.0.iter().map(one).collect()
    }
}

/// Starts one task for each receiver; they stop in [`Stage::Flush`] when what they have is written.
pub fn start(
    targets: &[SyslogConfig],
    store: &Store,
    clock: &Clock,
    stats: &Arc<Stats>,
    shutdown: &Shutdown,
) -> (Exports, Vec<JoinHandle<()>>) {
    let mut exports = Vec::new();
    let mut tasks = Vec::new();
    for config in targets {
        let shown: Arc<Mutex<Shown>> = Arc::default();
        exports.push((config.name.clone(), Arc::clone(&shown)));
        let export = Export {
            origin: Origin::here(config),
            config: config.clone(),
            store: store.clone(),
            clock: clock.clone(),
            stats: Arc::clone(stats),
            shutdown: shutdown.clone(),
            shown,
        };
        tasks.push(spawn_named("syslog", export.run()));
    }
    (Exports(exports.into()), tasks)
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

struct Export {
    config: SyslogConfig,
    origin: Origin,
    store: Store,
    clock: Clock,
    stats: Arc<Stats>,
    shutdown: Shutdown,
    shown: Arc<Mutex<Shown>>,
}

impl Export {
    async fn run(self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let before = self.show(|shown| shown.sent);
            let error = tokio::select! {
                ended = self.connection() => match ended {
                    Ok(()) => return,
                    Err(error) => error,
                },
                () = self.shutdown.reached(Stage::Stop) => return,
            };
            let text = error_chain(&error);
            tracing::warn!(
                name = self.config.name,
                error = text,
                "a syslog receiver is away, trying again"
            );
            self.show(|shown| shown.last_error.clone_from(&text));
            self.named(&self.stats.syslog_lost).inc();
            if self.shutdown.stage() >= Stage::Flush {
                return;
            }
            if self.show(|shown| shown.sent) > before {
                backoff = BACKOFF_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = self.shutdown.reached(Stage::Flush) => {}
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// One connection, from where the receiver stands until the service stops.
    async fn connection(&self) -> Result<(), Lost> {
        let mut news = self.store.security_changes();
        let mut written = self.start_behind().await?;
        let mut link = tokio::select! {
            link = Link::open(&self.config, GIVE_UP_AFTER) => link?,
            // A receiver that is away gets it after the next start.
            () = self.shutdown.reached(Stage::Flush) => return Ok(()),
        };
        let mut unconfirmed: VecDeque<(u64, i64)> = VecDeque::new();
        loop {
            // Before reading: what comes in between wakes us again.
            news.mark_unchanged();
            let stopping = self.shutdown.stage() >= Stage::Flush;
            let entries = self.entries(written).await?;
            if let Some(last) = entries.last() {
                let messages: Vec<Vec<u8>> = entries
                    .iter()
                    .map(|entry| message::encode(&self.origin, entry, link.message_bytes()))
                    .collect();
                link.write(&messages).await?;
                written = last.id;
                unconfirmed.push_back((self.clock.read().boottime_us, written));
                let sent = entries.len() as u64;
                self.named(&self.stats.syslog_sent).inc_by(sent);
                self.show(|shown| {
                    shown.sent += sent;
                    shown.last_error.clear();
                });
            }
            self.confirm(&mut unconfirmed, link.confirm_after(CONFIRM))
                .await?;
            self.count_waiting(written).await?;
            if entries.len() == ENTRIES {
                continue;
            }
            if stopping {
                link.goodbye(GOODBYE).await?;
                return self.set_cursor(written).await;
            }
            let pause = if unconfirmed.is_empty() {
                BACKOFF_MAX
            } else {
                LOOK
            };
            tokio::select! {
                changed = news.changed() => if changed.is_err() {
                    return Ok(());
                },
                error = link.lost() => return Err(error.into()),
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.reached(Stage::Flush) => {}
            }
        }
    }

    /// Where the receiver stands; what was forgotten before it got it is counted.
    async fn start_behind(&self) -> Result<i64, StoreError> {
        let name = self.config.name.clone();
        let since_us = self.clock.read().wall_us.saturating_sub(HISTORY_US);
        let (cursor, oldest, recent) = lookup::read(&self.store, move |store| {
            Ok((
                store.syslog_cursor(&name)?,
                store.first_security_entry(i64::MIN)?,
                store.first_security_entry(since_us)?,
            ))
        })
        .await?;
        let Some(cursor) = cursor else {
            // At once, so that a restart does not move it.
            self.set_cursor(recent - 1).await?;
            return Ok(recent - 1);
        };
        let forgotten = oldest.saturating_sub(1).saturating_sub(cursor);
        if forgotten > 0 {
            tracing::error!(
                name = self.config.name,
                entries = forgotten,
                "a syslog receiver was away for too long: entries were forgotten before it got them"
            );
            self.named(&self.stats.syslog_forgotten)
                .inc_by(forgotten.unsigned_abs());
            self.set_cursor(oldest - 1).await?;
            return Ok(oldest - 1);
        }
        Ok(cursor)
    }

    async fn entries(&self, after_exclusive: i64) -> Result<Vec<LogEntry>, StoreError> {
        lookup::read(&self.store, move |store| {
            store.security_entries(after_exclusive, ENTRIES)
        })
        .await
    }

    /// Moves the cursor to what was written long enough ago.
    async fn confirm(
        &self,
        unconfirmed: &mut VecDeque<(u64, i64)>,
        after: Duration,
    ) -> Result<(), StoreError> {
        let now = self.clock.read().boottime_us;
        let old = |since: u64| u128::from(now.saturating_sub(since)) >= after.as_micros();
        let mut confirmed = None;
        while unconfirmed.front().is_some_and(|(since, _)| old(*since)) {
            confirmed = unconfirmed.pop_front().map(|(_, entry)| entry);
        }
        match confirmed {
            Some(entry) => self.set_cursor(entry).await,
            None => Ok(()),
        }
    }

    async fn set_cursor<E: From<StoreError>>(&self, entry: i64) -> Result<(), E> {
        let name = self.config.name.clone();
        lookup::read(&self.store, move |store| {
            store.set_syslog_cursor(&name, entry)
        })
        .await
        .map_err(E::from)
    }

    async fn count_waiting(&self, written: i64) -> Result<(), StoreError> {
        let waiting = lookup::read(&self.store, move |store| {
            store.security_entries_behind(written)
        })
        .await?;
        self.show(|shown| shown.waiting = waiting);
        let gauge = self.stats.syslog_waiting.get_or_create(&self.label());
        gauge.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        Ok(())
    }

    fn label(&self) -> [(&'static str, String); 1] {
        [("target", self.config.name.clone())]
    }

    fn named(
        &self,
        counters: &crate::self_stats::NamedCounters,
    ) -> prometheus_client::metrics::counter::Counter {
        counters.get_or_create(&self.label()).clone()
    }

    fn show<T>(&self, change: impl FnOnce(&mut Shown) -> T) -> T {
        change(&mut self.shown.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Transport {
    /// Largest message, bytes. TCP: what rsyslog and syslog-ng take as they are delivered (8 KiB). UDP: what every
    /// receiver should take (RFC 5426 section 3.2).
    const fn message_bytes(self) -> usize {
        match self {
            Self::Tcp => 8_000,
            Self::Udp => 2_048,
        }
    }
}
