//! Feeds the state machine: collects evidence, judges slots as time passes, judges again what late records changed.
//!
//! Paths
//! - a record of an agent: its evidence is added to that of its slot ([`Watch::results`], [`Watch::heartbeat`]); a slot
//!   that was judged already becomes dirty;
//! - time passes ([`Watch::time`]; every log record carries it): once a slot and its grace are over, all access points
//!   are judged for it, dirty slots are judged again, alerts follow. Nothing else changes states, so that the outcome
//!   depends on the log only, not on how its records were grouped into transactions.
//!
//! An access point is in service from its first slot with evidence of life (or, when it is watched from outside only,
//! with any verdict): a site that waits for its technician is not down.

mod evidence;
mod judge;
mod runs;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use extranet_proto::record::CheckResult;
use extranet_proto::wire;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use self::evidence::{EvidenceCache, Role};
use super::catalogue::Doing;
use super::{StoreError, StoreSettings};
use crate::alert::life::Alerts;
use crate::inventory::Inventory;
use crate::self_stats::{Stats, count};
use crate::state::{Evidence, Interval, Probes, Rule, Run, Slot, State};

/// Late records older than this no longer change anything: the settlement period of AV-02.
const KEEP_MS: i64 = 35 * 86_400_000;
/// Settled evidence is forgotten after this long: what is still on its way then was cut off, and a slot that was cut
/// off is not settled.
const FOLD_MS: i64 = 6 * 3_600_000;

/// Settings in milliseconds and slots.
#[derive(Debug, Clone, Copy)]
struct Times {
    slot_ms: i64,
    /// How long after its end a slot is judged: live results of vantages are on their way for a few seconds.
    grace_ms: i64,
    /// This long without any log record, and the collector was away (or its clock jumped).
    away_ms: i64,
    rule: Rule,
}

impl Times {
    fn new(settings: &StoreSettings) -> Self {
        let ms = |duration: std::time::Duration| {
            i64::try_from(duration.as_millis())
                .unwrap_or(i64::MAX)
                .max(1)
        };
        let slot_ms = ms(settings.slot);
        Self {
            slot_ms,
            grace_ms: (slot_ms / 6).min(10_000),
            away_ms: ms(settings.tick).max(slot_ms).saturating_mul(3),
            rule: Rule {
                bad_slots: settings.bad_slots.max(1).into(),
                good_slots: settings.good_slots.max(1).into(),
                silent_slots: (ms(settings.silent_after) / slot_ms).max(1),
            },
        }
    }

    fn slot(&self, ms: i64) -> Slot {
        ms.div_euclid(self.slot_ms)
    }
}

/// What is known of an access point in service without asking the database.
#[derive(Debug, Clone)]
struct Head {
    /// The open run.
    run: Run,
    /// The open interval.
    interval: Interval,
}

/// Watches over all access points.
pub(super) struct Watch {
    times: Times,
    stats: Arc<Stats>,
    /// Slots before this one have been judged.
    judged_before: Option<Slot>,
    folded_before: Slot,
    last_ms: i64,
    evidence: EvidenceCache,
    dirty: BTreeMap<String, BTreeSet<Slot>>,
    heads: BTreeMap<String, Head>,
    known: BTreeMap<String, State>,
    alerts: Alerts,
    inventory: Inventory,
    roles: HashMap<(String, u32), Option<Role>>,
    sites: HashMap<String, Option<String>>,
    probers: HashMap<String, usize>,
}

impl Watch {
    pub(super) fn load(
        connection: &Connection,
        settings: &StoreSettings,
        stats: Arc<Stats>,
    ) -> Result<Self, StoreError> {
        let times = Times::new(settings);
        let stored: Option<(i64, Slot, Slot, i64)> = connection
            .query_row(
                "SELECT slot_ms, judged_before, folded_before, last_ms FROM state_progress",
                [],
                |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
            )
            .optional()
            .doing("reading the progress of judging")?;
        let mut watch = Self {
            times,
            alerts: Alerts::load(connection, Arc::clone(&stats))?,
            stats,
            judged_before: None,
            folded_before: 0,
            last_ms: 0,
            evidence: EvidenceCache::default(),
            dirty: BTreeMap::new(),
            heads: BTreeMap::new(),
            known: runs::known(connection)?,
            inventory: Inventory::load(connection)?,
            roles: HashMap::new(),
            sites: HashMap::new(),
            probers: HashMap::new(),
        };
        if let Some((slot_ms, judged_before, folded_before, last_ms)) = stored {
            let convert = |slot: Slot| runs::convert(slot, slot_ms, times.slot_ms);
            if slot_ms != times.slot_ms {
                runs::convert_all(connection, slot_ms, times.slot_ms)?;
            }
            watch.judged_before = Some(convert(judged_before));
            watch.folded_before = convert(folded_before);
            watch.last_ms = last_ms;
        }
        watch.heads = runs::heads(connection)?;
        watch.dirty = evidence::stored_dirty(connection)?;
        Ok(watch)
    }

    /// The inventory, an assignment or the set of agents changed.
    pub(super) fn catalogue_changed(
        &mut self,
        connection: &Connection,
        inventory: bool,
    ) -> Result<(), StoreError> {
        self.probers.clear();
        self.sites.clear();
        if inventory {
            self.inventory = Inventory::load(connection)?;
        }
        Ok(())
    }

    /// Whether an alert opened or closed since the last call.
    pub(super) fn take_alerts_changed(&mut self) -> bool {
        self.alerts.take_changed()
    }

    /// Results of a batch, with the time at which each was measured.
    pub(super) fn results(
        &mut self,
        transaction: &Transaction<'_>,
        batch: &wire::LoggedBatch,
        results: &[(i64, CheckResult)],
    ) -> Result<(), StoreError> {
        let new = results.len() as u64;
        if !batch.time_certain {
            crate::self_stats::count_many(&self.stats.store_skipped, "time_uncertain", new);
            return Ok(());
        }
        for (wall_ms, result) in results {
            let slot = self.times.slot(*wall_ms);
            if *wall_ms > self.last_ms + self.times.slot_ms {
                count(&self.stats.store_skipped, "measured_in_the_future");
                continue;
            }
            if *wall_ms < self.last_ms - KEEP_MS {
                count(&self.stats.store_skipped, "measured_too_long_ago");
                continue;
            }
            let Some(role) = self.role(transaction, &batch.agent_id, result.check.0)? else {
                continue;
            };
            if let Some(part) = role.evidence(&batch.agent_id, result) {
                self.add(transaction, &role.ap_id.clone(), slot, &part)?;
            }
        }
        Ok(())
    }

    /// Something arrived from an agent now.
    pub(super) fn heartbeat(
        &mut self,
        transaction: &Transaction<'_>,
        agent: &str,
    ) -> Result<(), StoreError> {
        let Some(site) = self.site(transaction, agent)? else {
            return Ok(());
        };
        let part = Evidence {
            heartbeat: true,
            ..Evidence::default()
        };
        self.add(transaction, &site, self.times.slot(self.last_ms), &part)
    }

    /// Adds to the evidence of a slot; a slot that was judged already will be judged again.
    fn add(
        &mut self,
        transaction: &Transaction<'_>,
        ap_id: &str,
        slot: Slot,
        part: &Evidence,
    ) -> Result<(), StoreError> {
        let judged = self.judged_before.is_some_and(|before| slot < before);
        let held = self.evidence.get(transaction, ap_id, slot)?;
        if *held == Evidence::default()
            && slot < self.folded_before
            && runs::is_good(transaction, ap_id, slot)?
        {
            count(&self.stats.store_skipped, "slot_settled");
            return Ok(());
        }
        let blind_before = held.out() == Some(false);
        let mut sum = held.clone();
        sum.add(part);
        if sum == *held {
            return Ok(());
        }
        let blind_changed = (sum.out() == Some(false)) != blind_before;
        self.evidence.set(ap_id, slot, sum);
        if judged {
            self.dirty.entry(ap_id.to_owned()).or_default().insert(slot);
            // Whether a prober was cut off itself decides what its measurements of others are worth.
            if blind_changed {
                for site in evidence::seen_from(transaction, ap_id)? {
                    self.dirty.entry(site).or_default().insert(slot);
                }
            }
        }
        Ok(())
    }

    /// Time has come to `wall_us` by the log; called before each record is applied.
    pub(super) fn time(
        &mut self,
        transaction: &Transaction<'_>,
        wall_us: i64,
    ) -> Result<(), StoreError> {
        let now_ms = wall_us.div_euclid(1_000);
        let slot = self.times.slot(now_ms);
        let Some(judged_before) = self.judged_before else {
            (self.judged_before, self.folded_before) = (Some(slot), slot);
            self.last_ms = now_ms;
            return Ok(());
        };
        if now_ms > self.last_ms.saturating_add(self.times.away_ms) {
            tracing::warn!(
                from_ms = self.last_ms,
                to_ms = now_ms,
                "the collector did not watch, or its clock jumped"
            );
            transaction
                .execute(
                    "INSERT OR REPLACE INTO own_gaps (from_ms, to_ms) VALUES (?1, ?2)",
                    params![self.last_ms, now_ms],
                )
                .doing("storing a gap")?;
        }
        self.last_ms = now_ms;
        if slot + 1 < judged_before {
            self.rewind(transaction, slot, now_ms)?;
        }
        let complete_before = self.times.slot(now_ms - self.times.grace_ms);
        if self
            .judged_before
            .is_some_and(|judged| complete_before > judged)
        {
            self.judge(transaction, complete_before, wall_us)?;
        }
        Ok(())
    }

    /// The clock was set back: what was judged about a future that has not come is forgotten.
    fn rewind(
        &mut self,
        transaction: &Transaction<'_>,
        slot: Slot,
        now_ms: i64,
    ) -> Result<(), StoreError> {
        tracing::warn!(slot, "the collector's clock was set back");
        self.flush(transaction)?;
        runs::forget_from(transaction, slot, now_ms)?;
        self.heads = runs::heads(transaction)?;
        for slots in self.dirty.values_mut() {
            slots.split_off(&slot);
        }
        self.judged_before = Some(slot);
        self.folded_before = self.folded_before.min(slot);
        Ok(())
    }

    /// Writes everything that is only in memory.
    pub(super) fn finish(&mut self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        self.flush(transaction)?;
        evidence::store_dirty(transaction, &self.dirty)?;
        if let Some(judged_before) = self.judged_before {
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO state_progress (one, slot_ms, judged_before, folded_before, last_ms) \
                     VALUES (1, ?1, ?2, ?3, ?4)",
                )
                .and_then(|mut statement| {
                    statement.execute(params![
                        self.times.slot_ms,
                        judged_before,
                        self.folded_before,
                        self.last_ms
                    ])
                })
                .doing("storing the progress of judging")?;
        }
        Ok(())
    }

    fn flush(&mut self, transaction: &Transaction<'_>) -> Result<(), StoreError> {
        let inventory = &self.inventory;
        let owes = |ap_id: &str| {
            inventory
                .access_point(ap_id)
                .is_none_or(|ap| ap.monitoring != "remote")
        };
        self.evidence.flush(transaction, owes)
    }

    fn role(
        &mut self,
        connection: &Connection,
        agent: &str,
        check: u32,
    ) -> Result<Option<Role>, StoreError> {
        let key = (agent.to_owned(), check);
        if let Some(role) = self.roles.get(&key) {
            return Ok(role.clone());
        }
        let role = Role::load(connection, agent, check)?;
        if role.is_none() {
            count(&self.stats.store_skipped, "unknown_check");
            return Ok(None);
        }
        // A check never changes its meaning, so this can be kept.
        self.roles.insert(key, role.clone());
        Ok(role)
    }

    fn site(&mut self, connection: &Connection, agent: &str) -> Result<Option<String>, StoreError> {
        if let Some(site) = self.sites.get(agent) {
            return Ok(site.clone());
        }
        let site: Option<String> = connection
            .query_row(
                "SELECT ap_id FROM agents WHERE agent_id = ?1 AND revoked_us IS NULL",
                [agent],
                |row| row.get(0),
            )
            .optional()
            .doing("reading an agent's access point")?;
        self.sites.insert(agent.to_owned(), site.clone());
        Ok(site)
    }
}

/// Probes that a connection attempt counts for: the kernel sends its SYN again several times (a guess).
const PROBES_PER_CONNECTION: Probes = Probes {
    sent: 5,
    answered: 5,
};
