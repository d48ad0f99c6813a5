//! The catalogue and the state: SQLite, filled by a thread that follows the ingest log.
//!
//! Constraints
//! 1. Everything here is a function of a prefix of the log: each transaction stores the position of the last record it
//!    holds, so a crash at any moment repeats nothing and forgets nothing.
//! 2. One thread writes what follows from the log ([`apply`]); the alert sender and the exporters write only their own
//!    tables (what a receiver was told, where a cursor stands). Readers never wait for writers (WAL).
//! 3. Checks that a change needs (does the parent exist, does the plan parse) happen before it is logged; applying a
//!    logged record cannot fail for its content, at worst it changes nothing and is counted.
//!
//! Paths: `start` hands over a follower of the log; `wait_applied` lets a caller see its own change; queries open a
//! read connection from a small pool.

mod apply;
mod assignments;
pub(crate) mod catalogue;
mod enrolment;
mod exports;
pub(crate) mod readiness;
mod results;
mod security;
mod slots;
mod status;
mod traffic;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use extranet_proto::id::{AgentId, ApId, Incarnation};
use extranet_proto::ranges::RangeSet;
use extranet_proto::record::SecurityRule;
use extranet_proto::wire;
use rusqlite::Connection;
use tokio::sync::watch;

use self::readiness::Known;
use crate::alert::Alert;
use crate::export::{CheckLabels, Definitions};
use crate::inventory::import::Files;
use crate::inventory::{Inventory, villages};
use crate::seal::Sealer;
use crate::self_stats::Stats;
use crate::state::State;

pub use apply::{Follower, LogError, LogReader, decode_log_record, encode_log_record};
pub use extranet_journal::Position;
pub(crate) use results::new_records;
pub(crate) use security::{LogEntry, OpenCount, pairs_of};

/// How the store judges; all durations positive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Length of a slot. Slots are aligned to 1970-01-01 UTC.
    pub slot: Duration,
    /// How many consecutive bad slots make an access point down.
    pub bad_slots: u32,
    /// How many consecutive good slots make it up again.
    pub good_slots: u32,
    /// How long an access point may be silent before that counts as down.
    pub silent_after: Duration,
    /// How often the log gets a tick. Three ticks without any record prove that the collector itself was away.
    pub tick: Duration,
    /// How long a security event must be over before it is closed (SEC-G3).
    pub security_hold_down: Duration,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self {
            slot: Duration::from_mins(1),
            bad_slots: 3,
            good_slots: 3,
            silent_after: Duration::from_mins(15),
            tick: Duration::from_mins(1),
            security_hold_down: Duration::from_mins(5),
        }
    }
}

/// Why the catalogue could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file was written by a newer release.
    #[error(
        "catalogue {path} has schema {found}, this release knows {known}: start the newer release, or restore the \
         backup taken before the upgrade"
    )]
    NewerSchema {
        /// The database.
        path: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The file was written by an older release, and this process may not migrate it.
    #[error(
        "catalogue {path} has schema {found}, this release needs {known}: start its service once"
    )]
    OlderSchema {
        /// The database.
        path: String,
        /// Its version.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// The database refused.
    #[error("catalogue: {operation}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// Why.
        source: rusqlite::Error,
    },
    /// A file could not be made or read.
    #[error("catalogue: {operation}")]
    File {
        /// What was being done.
        operation: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// The log could not be read.
    #[error("catalogue: reading the ingest log")]
    Log(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Something stored here cannot be read back.
    #[error("catalogue: stored {what} is not readable")]
    Damaged {
        /// What.
        what: &'static str,
    },
    /// The follower has ended, so what was waited for will not come.
    #[error("catalogue: the follower of the log has stopped")]
    Stopped,
}

/// What is known about a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketInfo {
    /// The access point it was issued for.
    pub ap_id: ApId,
    /// Until when it can be used, µs since 1970.
    pub expires_wall_us: i64,
    /// By whom it has been used up.
    pub used: Option<UsedTicket>,
}

/// Who used up a ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedTicket {
    /// The agent it became.
    pub agent: AgentId,
    /// SHA-256 of its public key; `None` when an earlier release enrolled it.
    pub key_digest: Option<Vec<u8>>,
}

/// What is known about an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentInfo {
    /// The access point it stands at.
    pub ap_id: ApId,
    /// Whether its certificates are void.
    pub revoked: bool,
    /// Version of its latest assignment; 0 = none.
    pub assignment_version: u32,
}

/// The outcome of checking an inventory change: what to log, if anything, and what to answer.
#[derive(Debug, Clone)]
pub struct Planned {
    /// To be logged; `None` when there are problems or nothing changes.
    pub record: Option<wire::InventoryChanged>,
    /// The answer for the caller.
    pub reply: wire::ImportReply,
}

/// Handle to the catalogue; clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    pool: catalogue::Pool,
    sealer: Sealer,
    settings: StoreSettings,
    progress: apply::Progress,
    changes: watch::Sender<u64>,
    alert_changes: watch::Sender<u64>,
    security_entries: watch::Sender<u64>,
    stats: Arc<Stats>,
}

impl Store {
    /// Opens (and where needed creates or migrates) `state_dir/catalogue.sqlite`.
    pub fn open(
        state_dir: &Path,
        settings: StoreSettings,
        stats: Arc<Stats>,
    ) -> Result<Self, StoreError> {
        let pool = catalogue::Pool::open(&state_dir.join("catalogue.sqlite"))?;
        let sealer = Sealer::open(&state_dir.join("secrets.key")).map_err(|source| {
            let operation = "opening the key of SNMP secrets";
            StoreError::File { operation, source }
        })?;
        let connection = pool.get()?;
        let progress = apply::Progress::load(&connection)?;
        let change = assignments::latest_change(&connection)?;
        drop(connection);
        Ok(Self {
            inner: Arc::new(Inner {
                pool,
                sealer,
                settings,
                progress,
                changes: watch::Sender::new(change),
                alert_changes: watch::Sender::new(0),
                security_entries: watch::Sender::new(0),
                stats,
            }),
        })
    }

    /// How the store judges.
    pub fn settings(&self) -> &StoreSettings {
        &self.inner.settings
    }

    /// Position of the last log record that the catalogue holds; `None` before the first. Follow the log from behind it.
    pub fn applied(&self) -> Option<Position> {
        self.inner.progress.applied()
    }

    /// How many log records have been applied since the catalogue was created.
    pub fn applied_records(&self) -> u64 {
        self.inner.progress.records()
    }

    /// Starts the thread that applies what `reader` gives, which must start behind [`Store::applied`].
    pub fn start(&self, reader: impl LogReader + 'static) -> Result<Follower, StoreError> {
        apply::start(self.clone(), Box::new(reader))
    }

    /// Tells the follower that the log has grown; it looks by itself a few times a second.
    pub fn wake(&self) {
        self.inner.progress.wake();
    }

    /// Waits until the catalogue holds the record at `position`.
    pub async fn wait_applied(&self, position: Position) -> Result<(), StoreError> {
        self.inner.progress.wait(position).await
    }

    /// Which records of which agent's incarnation are in the applied part of the log.
    pub fn received(&self) -> Result<HashMap<(AgentId, Incarnation), RangeSet>, StoreError> {
        results::received(&*self.read()?)
    }

    /// The ticket with this digest of its secret.
    pub fn ticket(&self, digest: &[u8; 32]) -> Result<Option<TicketInfo>, StoreError> {
        enrolment::ticket(&*self.read()?, digest)
    }

    /// An enrolled agent.
    pub fn agent(&self, agent: &AgentId) -> Result<Option<AgentInfo>, StoreError> {
        enrolment::agent(&*self.read()?, agent)
    }

    /// Whether the inventory holds this access point now.
    pub fn access_point_exists(&self, ap_id: &ApId) -> Result<bool, StoreError> {
        Ok(Inventory::load(&*self.read()?)?
            .access_point(ap_id.as_str())
            .is_some())
    }

    /// The latest assignment of an agent.
    pub fn assignment_for(&self, agent: &AgentId) -> Result<Option<wire::Assignment>, StoreError> {
        let mut assignment = assignments::latest(&*self.read()?, agent)?;
        if let Some(assignment) = &mut assignment {
            self.inner.sealer.unseal_assignment(assignment);
        }
        Ok(assignment)
    }

    /// Grows whenever the assignment of any agent has changed.
    pub fn assignment_changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Changes whenever an alert opened or closed.
    pub fn alert_changes(&self) -> watch::Receiver<u64> {
        self.inner.alert_changes.subscribe()
    }

    /// Changes whenever something happened to a security event.
    pub fn security_changes(&self) -> watch::Receiver<u64> {
        self.inner.security_entries.subscribe()
    }

    /// Agents whose assignment changed after the given value of [`Store::assignment_changes`].
    pub fn changed_since(&self, change_exclusive: u64) -> Result<Vec<AgentId>, StoreError> {
        assignments::changed_since(&*self.read()?, change_exclusive)
    }

    /// Access points, latest measurements, states and alerts. Live connections, the log and the exports are not known
    /// here and stay empty.
    pub fn status(&self, request: &wire::StatusRequest) -> Result<wire::StatusReply, StoreError> {
        status::status(&*self.read()?, request)
    }

    /// Checks CSV files (any of them may be empty) against the catalogue and says what importing them would change.
    pub fn plan_inventory(&self, files: &Files<'_>, actor: &str) -> Result<Planned, StoreError> {
        let mut connection = self.read()?;
        let now = self.opened_inventory(&connection)?;
        let register = villages::at(&connection, i64::MAX)?;
        let planned = crate::inventory::import::plan(&now, &register, files, actor);
        rehearsed(&mut connection, self.sealed(planned))
    }

    /// Checks the request to watch one more router and says what it would change.
    pub fn plan_add_ap(
        &self,
        request: &wire::AddAccessPointRequest,
    ) -> Result<Planned, StoreError> {
        let mut connection = self.read()?;
        let now = self.opened_inventory(&connection)?;
        let planned = crate::inventory::add::plan(&now, request);
        rehearsed(&mut connection, self.sealed(planned))
    }

    /// The inventory with its secrets, to compare with what comes.
    fn opened_inventory(&self, connection: &Connection) -> Result<Inventory, StoreError> {
        let mut inventory = Inventory::load(connection)?;
        let targets: Vec<wire::TargetRow> = inventory.targets().cloned().collect();
        for mut target in targets {
            let credential = target
                .snmp
                .as_mut()
                .and_then(|snmp| snmp.credential.as_mut());
            if let Some(credential) = credential {
                self.inner.sealer.unseal(credential);
                inventory.insert_target(target);
            }
        }
        Ok(inventory)
    }

    /// What enters the log holds no secret that can be read.
    fn sealed(&self, mut planned: Planned) -> Planned {
        if let Some(record) = &mut planned.record {
            self.inner.sealer.seal_targets(&mut record.targets);
        }
        planned
    }

    /// Checks a plan and says how many agents it would change.
    pub fn plan_plan(
        &self,
        toml: &str,
        actor: &str,
    ) -> Result<(Option<wire::PlanChanged>, wire::ApplyPlanReply), StoreError> {
        assignments::plan_plan(&mut *self.read()?, toml, actor)
    }

    /// The last log record that this export target need not be sent again; `None` = everything.
    pub fn export_cursor(&self, target: &str) -> Result<Option<Position>, StoreError> {
        exports::cursor(&*self.read()?, target)
    }

    pub(crate) fn set_export_cursor(
        &self,
        target: &str,
        position: Position,
    ) -> Result<(), StoreError> {
        exports::set_cursor(&*self.read()?, target, position)
    }

    pub(crate) fn check_labels(
        &self,
        agent: &str,
        check: u32,
    ) -> Result<Option<CheckLabels>, StoreError> {
        exports::check_labels(&*self.read()?, agent, check)
    }

    pub(crate) fn definitions(
        &self,
        agent: &str,
        incarnation: u64,
    ) -> Result<Definitions, StoreError> {
        exports::definitions(&*self.read()?, agent, incarnation)
    }

    /// All access points as they were valid at a time, with their live state as it was known then.
    pub(crate) fn states_at(
        &self,
        wall_us: i64,
    ) -> Result<Vec<(wire::AccessPointRow, State)>, StoreError> {
        exports::states_at(&*self.read()?, wall_us)
    }

    /// IPv6 levels and scores as they were known at a time.
    pub(crate) fn ipv6_at(&self, wall_us: i64) -> Result<Vec<(String, Known)>, StoreError> {
        readiness::known_at(&*self.read()?, wall_us)
    }

    /// Open security events as they were known at a time.
    pub(crate) fn security_at(&self, wall_us: i64) -> Result<Vec<OpenCount>, StoreError> {
        security::open_at(&*self.read()?, wall_us)
    }

    /// Security events, newest first.
    pub fn security_events(
        &self,
        request: &wire::SecurityEventsRequest,
    ) -> Result<Vec<wire::SecurityEventStatus>, StoreError> {
        security::events(&*self.read()?, request)
    }

    /// A security event and its rule.
    pub fn security_event(
        &self,
        id: u64,
    ) -> Result<Option<(wire::SecurityEventStatus, SecurityRule)>, StoreError> {
        security::by_id(&*self.read()?, id)
    }

    /// Checks a window: the record to log, or what is wrong with it.
    pub fn plan_security_window(
        &self,
        request: &wire::AddSecurityWindowRequest,
    ) -> Result<Result<wire::SecurityWindowAdded, Vec<String>>, StoreError> {
        security::plan_window(&*self.read()?, request)
    }

    /// Registered windows, newest first.
    pub fn security_windows(&self) -> Result<Vec<wire::SecurityWindow>, StoreError> {
        security::windows(&*self.read()?)
    }

    /// Entries of the security log behind one, in order.
    pub(crate) fn security_entries(
        &self,
        after_exclusive: i64,
        most: usize,
    ) -> Result<Vec<LogEntry>, StoreError> {
        security::entries_after(&*self.read()?, after_exclusive, most)
    }

    /// How many entries of the security log are behind one.
    pub(crate) fn security_entries_behind(&self, after_exclusive: i64) -> Result<u64, StoreError> {
        security::waiting(&*self.read()?, after_exclusive)
    }

    /// The first entry of the security log that was written at a time or later; the next one when there is none.
    pub(crate) fn first_security_entry(&self, since_us: i64) -> Result<i64, StoreError> {
        security::first_entry(&*self.read()?, since_us)
    }

    /// The last entry that a syslog receiver has.
    pub fn syslog_cursor(&self, target: &str) -> Result<Option<i64>, StoreError> {
        security::cursor(&*self.read()?, target)
    }

    pub(crate) fn set_syslog_cursor(&self, target: &str, entry: i64) -> Result<(), StoreError> {
        security::set_cursor(&*self.read()?, target, entry)
    }

    pub(crate) fn alerts_due(
        &self,
        receiver: &str,
        now_us: i64,
        resend_us: i64,
    ) -> Result<Vec<Alert>, StoreError> {
        crate::alert::due(&*self.read()?, receiver, now_us, resend_us)
    }

    pub(crate) fn alerts_told(
        &self,
        receiver: &str,
        now_us: i64,
        alerts: &[Alert],
    ) -> Result<(), StoreError> {
        crate::alert::told(&mut *self.read()?, receiver, now_us, alerts)
    }

    /// Number of the plan that holds; 0 = the built-in one, because none was applied.
    pub fn plan_version(&self) -> Result<u32, StoreError> {
        assignments::plan_version(&*self.read()?)
    }

    fn read(&self) -> Result<catalogue::Pooled<'_>, StoreError> {
        self.inner.pool.get()
    }
}

/// Refuses an inventory change that leads to assignments which no agent accepts.
fn rehearsed(
    connection: &mut rusqlite::Connection,
    mut planned: Planned,
) -> Result<Planned, StoreError> {
    if let Some(record) = &planned.record {
        let problems = assignments::rehearse_inventory(connection, record)?.problems;
        if !problems.is_empty() {
            planned = Planned {
                record: None,
                reply: wire::ImportReply {
                    problems,
                    ..Default::default()
                },
            };
        }
    }
    Ok(planned)
}

#[cfg(test)]
mod tests;
