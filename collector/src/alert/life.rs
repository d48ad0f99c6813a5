//! When an alert opens and closes. Part of applying the log: the same log gives the same alerts.
//!
//! ```text
//!            down by the three-slot rule, and bad now;
//!            no access point above is down or about to be
//!   (none) ---------------------------------------------> open
//!     ^                                                     |
//!     +--------- closed: recovered, false_alarm, -----------+
//!                not_monitored
//! ```
//!
//! Late records never open an alert for what is over (`bad now`), and a parent's failure suppresses the opening, never
//! the closing. `false_alarm` is a recovery after which no slot since the alert's beginning is down any more: results
//! that arrived late have shown that the site worked (监测中断).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rusqlite::{Connection, Transaction, params};

use crate::inventory::Inventory;
use crate::self_stats::Stats;
use crate::state::{Cause, State};
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Name of the alert about an access point.
pub(crate) const ACCESS_POINT_DOWN: &str = "AccessPointDown";

/// What the state of an access point means for its alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Situation {
    /// As last decided; unknown times in between do not matter.
    pub(crate) firm_up: Option<bool>,
    /// Whether it is monitored.
    pub(crate) in_service: bool,
    /// Whether the latest slot is a bad one.
    pub(crate) bad_now: bool,
    /// Since when, ms since 1970.
    pub(crate) since_ms: i64,
    /// Why it is down.
    pub(crate) cause: Cause,
}

impl Situation {
    fn is_down(&self) -> bool {
        self.in_service && self.firm_up == Some(false)
    }
}

struct Open {
    alert_id: i64,
    starts_ms: i64,
}

/// The open alerts.
pub(crate) struct Alerts {
    stats: Arc<Stats>,
    open: BTreeMap<String, Open>,
    suppressed: BTreeSet<String>,
    changed: bool,
}

impl Alerts {
    pub(crate) fn load(connection: &Connection, stats: Arc<Stats>) -> Result<Self, StoreError> {
        let open = connection
            .prepare_cached(
                "SELECT ap_id, alert_id, starts_ms FROM alerts WHERE closed_us IS NULL AND name = ?1",
            )
            .and_then(|mut statement| {
                let rows = statement.query_map([ACCESS_POINT_DOWN], |row| {
                    let open = Open {
                        alert_id: row.get(1)?,
                        starts_ms: row.get(2)?,
                    };
                    Ok((row.get(0)?, open))
                })?;
                rows.collect()
            })
            .doing("reading open alerts")?;
        Ok(Self {
            stats,
            open,
            suppressed: BTreeSet::new(),
            changed: false,
        })
    }

    /// Whether an alert opened or closed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Opens and closes what the situations of all access points in service ask for.
    pub(crate) fn judge(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        slot_ms: i64,
        situations: &BTreeMap<&str, Situation>,
        inventory: &Inventory,
    ) -> Result<(), StoreError> {
        let open: Vec<String> = self.open.keys().cloned().collect();
        for ap_id in open {
            let end = match situations.get(ap_id.as_str()) {
                None => Some((now_us / 1_000, "not_monitored")),
                Some(now) if !now.in_service => Some((now.since_ms, "not_monitored")),
                Some(now) if now.firm_up == Some(true) => Some((now.since_ms, "recovered")),
                Some(_) => None,
            };
            if let Some((ends_ms, reason)) = end {
                self.close(transaction, now_us, slot_ms, &ap_id, ends_ms, reason)?;
            }
        }
        for (ap_id, now) in situations {
            if !now.is_down() {
                self.suppressed.remove(*ap_id);
                continue;
            }
            if !now.bad_now || self.open.contains_key(*ap_id) {
                continue;
            }
            let behind_parent = inventory.ancestors(ap_id).iter().any(|above| {
                let above = situations.get(above.ap_id.as_str());
                above.is_some_and(|above| above.is_down() || above.bad_now)
            });
            if behind_parent {
                if self.suppressed.insert((*ap_id).to_owned()) {
                    self.stats.alert_suppressed.inc();
                }
                continue;
            }
            self.suppressed.remove(*ap_id);
            self.open(transaction, now_us, ap_id, now, inventory)?;
        }
        Ok(())
    }

    fn open(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        ap_id: &str,
        now: &Situation,
        inventory: &Inventory,
    ) -> Result<(), StoreError> {
        let level = inventory.access_point(ap_id).map_or("", |ap| &ap.level);
        transaction
            .execute(
                "INSERT INTO alerts (name, ap_id, severity, cause, starts_ms, opened_us) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    ACCESS_POINT_DOWN,
                    ap_id,
                    severity(level),
                    now.cause.number(),
                    now.since_ms,
                    now_us
                ],
            )
            .doing("opening an alert")?;
        let open = Open {
            alert_id: transaction.last_insert_rowid(),
            starts_ms: now.since_ms,
        };
        self.open.insert(ap_id.to_owned(), open);
        self.changed = true;
        self.stats.alert_opened.inc();
        tracing::warn!(ap_id, since_ms = now.since_ms, "alert opened");
        Ok(())
    }

    fn close(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        slot_ms: i64,
        ap_id: &str,
        ends_ms: i64,
        reason: &str,
    ) -> Result<(), StoreError> {
        let Some(open) = self.open.remove(ap_id) else {
            return Ok(());
        };
        let reason = if reason == "recovered"
            && !was_down(
                transaction,
                ap_id,
                open.starts_ms / slot_ms,
                ends_ms / slot_ms,
            )? {
            "false_alarm"
        } else {
            reason
        };
        transaction
            .execute(
                "UPDATE alerts SET ends_ms = ?2, closed_us = ?3, close_reason = ?4 WHERE alert_id = ?1",
                params![open.alert_id, ends_ms.max(open.starts_ms), now_us, reason],
            )
            .doing("closing an alert")?;
        self.changed = true;
        self.stats.alert_resolved.inc();
        tracing::info!(ap_id, reason, "alert closed");
        Ok(())
    }
}

/// Whether any slot of a range is down in the history as it is known now.
fn was_down(
    connection: &Connection,
    ap_id: &str,
    from: i64,
    to_exclusive: i64,
) -> Result<bool, StoreError> {
    connection
        .query_row(
            "SELECT EXISTS (SELECT 1 FROM state_intervals WHERE ap_id = ?1 AND from_inclusive >= ?2 \
             AND from_inclusive < ?3 AND state = ?4) OR ?4 = (SELECT state FROM state_intervals \
             WHERE ap_id = ?1 AND from_inclusive <= ?2 ORDER BY from_inclusive DESC LIMIT 1)",
            params![ap_id, from, to_exclusive, State::Down.number()],
            |row| row.get::<_, Option<bool>>(0),
        )
        .map(Option::unwrap_or_default)
        .doing("looking for down slots")
}

fn severity(level: &str) -> &'static str {
    match level {
        "region" | "prefecture" | "county" => "critical",
        _ => "warning",
    }
}
