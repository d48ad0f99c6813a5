//! IPv6 readiness in the catalogue: from the runs of agents to level, score, changes and the alert about a fall.
//!
//! Only runs that are newer than the newest one change anything, by the time they were measured: history that arrives
//! after an outage says how it was, not how it is. The first agent of an access point speaks for it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use extranet_agent::ipv6::report::findings_of;
use extranet_agent::ipv6::rubric::{Level, rubric};
use extranet_agent::ipv6::score::{Context, Score, score};
use extranet_proto::record::{CheckResult, Outcome};
use extranet_proto::wire;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::StoreError;
use super::catalogue::Doing;
use crate::ipv6::{Change, Steady};
use crate::self_stats::{Stats, count};

/// Name of the alert about a level that fell.
pub(crate) const IPV6_LEVEL_FELL: &str = "Ipv6LevelFell";
/// A row of `ipv6_known` at least this often, µs, so that an access point that went silent can be told from one whose
/// level does not change.
const KNOWN_AGAIN_US: i64 = 6 * 3_600_000_000;
/// What was known this long ago is not exported any more, µs: V6-S1 speaks of the last 24 h, and a row may be six hours
/// younger than the run it stands for.
const KNOWN_FOR_US: i64 = 30 * 3_600_000_000;
/// Rows of `ipv6_known` are kept as long as an export may lag behind, µs.
const KEEP_KNOWN_US: i64 = 35 * 86_400_000_000;

/// What is exported of an access point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) level: u8,
    pub(crate) possible: u8,
    pub(crate) hundredths: Option<u32>,
    pub(crate) sufficient: bool,
}

/// Applies runs.
pub(super) struct Readiness {
    stats: Arc<Stats>,
    /// Access point of a check, for the checks that run the rubric; a check never changes its meaning.
    checks: HashMap<(String, u32), Option<String>>,
    alerts_changed: bool,
}

struct Site {
    wall_ms: i64,
    since_ms: i64,
    steady: Steady,
    fell_from: Option<Level>,
}

impl Readiness {
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self {
            stats,
            checks: HashMap::new(),
            alerts_changed: false,
        }
    }

    /// Whether an alert opened, changed or closed since the last call.
    pub(super) fn take_alerts_changed(&mut self) -> bool {
        std::mem::take(&mut self.alerts_changed)
    }

    /// Results of a batch, with the time at which each was measured.
    pub(super) fn results(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        batch: &wire::LoggedBatch,
        results: &[(i64, CheckResult)],
    ) -> Result<(), StoreError> {
        for (wall_ms, result) in results {
            if result.outcome != Outcome::Ok {
                continue;
            }
            let Some(findings) = findings_of(&result.values) else {
                continue;
            };
            let Some(ap_id) = self.site_of(transaction, &batch.agent_id, result.check.0)? else {
                continue;
            };
            if !batch.time_certain {
                count(&self.stats.store_skipped, "time_uncertain");
                continue;
            }
            // V6-S3 asks for availability of IPv6 over 30 d and for open alerts too: not known yet, so L4 is not proven.
            let scored = score(rubric(), &findings, &Context::default());
            self.run(transaction, now_us, &ap_id, *wall_ms, &scored)?;
        }
        Ok(())
    }

    /// The access point that a check of the rubric speaks for.
    fn site_of(
        &mut self,
        connection: &Connection,
        agent: &str,
        check: u32,
    ) -> Result<Option<String>, StoreError> {
        let key = (agent.to_owned(), check);
        if let Some(known) = self.checks.get(&key) {
            return Ok(known.clone());
        }
        let found: Option<String> = connection
            .prepare_cached(
                "SELECT ap_id FROM checks WHERE agent_id = ?1 AND check_id = ?2 AND probe = 'ipv6' AND vantage = ''",
            )
            .and_then(|mut statement| {
                statement
                    .query_row(params![agent, check], |row| row.get(0))
                    .optional()
            })
            .doing("reading a check of IPv6 readiness")?;
        self.checks.insert(key, found.clone());
        Ok(found)
    }

    fn run(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        ap_id: &str,
        wall_ms: i64,
        scored: &Score,
    ) -> Result<(), StoreError> {
        let site = match site(transaction, ap_id)? {
            None => Site {
                wall_ms,
                since_ms: wall_ms,
                steady: Steady::first(scored.level),
                fell_from: None,
            },
            Some(site) if wall_ms <= site.wall_ms => {
                count(&self.stats.store_skipped, "superseded_ipv6_run");
                return Ok(());
            }
            Some(mut site) => {
                let (steady, change) = site.steady.next(scored.level, scored.possible, rubric());
                (site.steady, site.wall_ms) = (steady, wall_ms);
                if let Some(change) = change {
                    site.since_ms = wall_ms;
                    self.changed(transaction, now_us, ap_id, &mut site, change, scored)?;
                }
                site
            }
        };
        store_site(transaction, ap_id, &site)?;
        let known = Known {
            level: site.steady.level.number(),
            possible: scored.possible.max(site.steady.level).number(),
            hundredths: scored.hundredths,
            sufficient: scored.sufficient,
        };
        remember(transaction, now_us, ap_id, known)
    }

    /// Stores a change, and opens, rewords or closes the alert.
    fn changed(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
        ap_id: &str,
        site: &mut Site,
        change: Change,
        scored: &Score,
    ) -> Result<(), StoreError> {
        let fell = change.to < change.from;
        let failed = scored.held_back_by.iter().find(|gate| gate.failed);
        let cause = failed.map_or("", |gate| gate.name.as_str());
        let cause = if fell { cause } else { "" };
        tracing::info!(
            ap_id,
            from = %change.from,
            to = %change.to,
            cause,
            "the IPv6 level of an access point changed"
        );
        transaction
            .execute(
                "INSERT OR REPLACE INTO ipv6_changes (ap_id, wall_ms, from_level, to_level, cause) \
                 VALUES (?1, ?2, ?3, ?4, ?5)",
                params![
                    ap_id,
                    site.wall_ms,
                    change.from.number(),
                    change.to.number(),
                    cause
                ],
            )
            .doing("storing a change of an IPv6 level")?;
        match site.fell_from {
            None if fell => {
                site.fell_from = Some(change.from);
                transaction
                    .execute(
                        "INSERT INTO alerts (name, ap_id, severity, cause, starts_ms, opened_us) \
                         VALUES (?1, ?2, 'warning', ?3, ?4, ?5)",
                        params![IPV6_LEVEL_FELL, ap_id, pair(change), site.wall_ms, now_us],
                    )
                    .doing("opening an alert")?;
                self.stats.alert_opened.inc();
            }
            None => return Ok(()),
            Some(before) if change.to >= before => {
                site.fell_from = None;
                close(transaction, now_us, ap_id, site.wall_ms, "recovered")?;
                self.stats.alert_resolved.inc();
            }
            Some(before) => {
                let since_fall = Change {
                    from: before,
                    to: change.to,
                };
                transaction
                    .execute(
                        "UPDATE alerts SET cause = ?3 WHERE name = ?1 AND ap_id = ?2 AND closed_us IS NULL",
                        params![IPV6_LEVEL_FELL, ap_id, pair(since_fall)],
                    )
                    .doing("rewording an alert")?;
            }
        }
        self.alerts_changed = true;
        Ok(())
    }

    /// The inventory or an assignment changed: where nobody runs the rubric any more, nothing is known and no alert
    /// stays open.
    pub(super) fn catalogue_changed(
        &mut self,
        transaction: &Transaction<'_>,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let read = || -> Result<HashSet<String>, rusqlite::Error> {
            transaction
                .prepare_cached(
                    "SELECT ap_id FROM ipv6_sites s WHERE NOT EXISTS (SELECT 1 FROM checks c WHERE \
                     c.ap_id = s.ap_id AND c.probe = 'ipv6' AND c.active AND EXISTS (SELECT 1 FROM agents a \
                     WHERE a.agent_id = c.agent_id AND a.revoked_us IS NULL))",
                )?
                .query_map([], |row| row.get(0))?
                .collect()
        };
        for ap_id in read().doing("looking for access points without IPv6 runs")? {
            if close(transaction, now_us, &ap_id, now_us / 1_000, "not_monitored")? {
                self.stats.alert_resolved.inc();
                self.alerts_changed = true;
            }
            transaction
                .execute("DELETE FROM ipv6_sites WHERE ap_id = ?1", [&ap_id])
                .doing("forgetting an IPv6 level")?;
        }
        Ok(())
    }
}

/// A fall as the number that alerts have for their cause.
fn pair(change: Change) -> u8 {
    change.from.number() * 10 + change.to.number()
}

/// The fall behind [`pair`].
pub(crate) fn levels_of(cause: u8) -> (Level, Level) {
    let level = |number| Level::from_number(number).unwrap_or(Level::L0);
    (level(cause / 10), level(cause % 10))
}

fn close(
    transaction: &Transaction<'_>,
    now_us: i64,
    ap_id: &str,
    ends_ms: i64,
    reason: &str,
) -> Result<bool, StoreError> {
    let closed = transaction
        .execute(
            "UPDATE alerts SET ends_ms = max(?3, starts_ms), closed_us = ?4, close_reason = ?5 \
             WHERE name = ?1 AND ap_id = ?2 AND closed_us IS NULL",
            params![IPV6_LEVEL_FELL, ap_id, ends_ms, now_us, reason],
        )
        .doing("closing an alert")?;
    Ok(closed > 0)
}

fn site(connection: &Connection, ap_id: &str) -> Result<Option<Site>, StoreError> {
    let row = connection
        .prepare_cached(
            "SELECT wall_ms, level, since_ms, above_runs, above, below_runs, below, fell_from FROM ipv6_sites \
             WHERE ap_id = ?1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([ap_id], |row| {
                    let level = |at: usize| -> Result<Level, rusqlite::Error> {
                        Ok(Level::from_number(row.get(at)?).unwrap_or(Level::L0))
                    };
                    let streak = |at: usize| -> Result<Option<(u32, Level)>, rusqlite::Error> {
                        let runs: u32 = row.get(at)?;
                        Ok((runs > 0).then_some((runs, level(at + 1)?)))
                    };
                    let fell_from: Option<u8> = row.get(7)?;
                    Ok(Site {
                        wall_ms: row.get(0)?,
                        since_ms: row.get(2)?,
                        steady: Steady {
                            level: level(1)?,
                            above: streak(3)?,
                            below: streak(5)?,
                        },
                        fell_from: fell_from.and_then(Level::from_number),
                    })
                })
                .optional()
        });
    row.doing("reading an IPv6 level")
}

fn store_site(transaction: &Transaction<'_>, ap_id: &str, site: &Site) -> Result<(), StoreError> {
    let streak =
        |row: Option<(u32, Level)>| row.map_or((0, 0), |(runs, level)| (runs, level.number()));
    let (above, below) = (streak(site.steady.above), streak(site.steady.below));
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO ipv6_sites (ap_id, wall_ms, level, since_ms, above_runs, above, below_runs, \
             below, fell_from) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                ap_id,
                site.wall_ms,
                site.steady.level.number(),
                site.since_ms,
                above.0,
                above.1,
                below.0,
                below.1,
                site.fell_from.map(Level::number)
            ])
        })
        .doing("storing an IPv6 level")?;
    Ok(())
}

fn known_row(row: &rusqlite::Row<'_>, first: usize) -> Result<Known, rusqlite::Error> {
    Ok(Known {
        level: row.get(first)?,
        possible: row.get(first + 1)?,
        hundredths: row.get(first + 2)?,
        sufficient: row.get(first + 3)?,
    })
}

/// Adds to what is exported, where there is news.
fn remember(
    transaction: &Transaction<'_>,
    now_us: i64,
    ap_id: &str,
    known: Known,
) -> Result<(), StoreError> {
    let last: Option<(i64, Known)> = transaction
        .prepare_cached(
            "SELECT wall_us, level, possible, hundredths, sufficient FROM ipv6_known WHERE ap_id = ?1 \
             ORDER BY wall_us DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row([ap_id], |row| Ok((row.get(0)?, known_row(row, 1)?)))
                .optional()
        })
        .doing("reading a known IPv6 level")?;
    let fresh = |at: i64| now_us.saturating_sub(at) < KNOWN_AGAIN_US;
    if last.is_some_and(|(at, last)| last == known && fresh(at)) {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO ipv6_known (ap_id, wall_us, level, possible, hundredths, sufficient) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                ap_id,
                now_us,
                known.level,
                known.possible,
                known.hundredths,
                known.sufficient
            ])
        })
        .doing("storing a known IPv6 level")?;
    transaction
        .prepare_cached("DELETE FROM ipv6_known WHERE ap_id = ?1 AND wall_us < ?2")
        .and_then(|mut statement| {
            statement.execute(params![ap_id, now_us.saturating_sub(KEEP_KNOWN_US)])
        })
        .doing("forgetting known IPv6 levels")?;
    Ok(())
}

/// For `status`; `None` where nobody has looked.
pub(super) fn status(
    connection: &Connection,
    ap_id: &str,
) -> Result<Option<wire::Ipv6Status>, StoreError> {
    connection
        .prepare_cached(
            "SELECT s.level, s.since_ms, s.wall_ms, k.possible, k.hundredths, k.sufficient FROM ipv6_sites s \
             JOIN ipv6_known k ON k.ap_id = s.ap_id AND k.wall_us = (SELECT max(wall_us) FROM ipv6_known n \
             WHERE n.ap_id = s.ap_id) WHERE s.ap_id = ?1",
        )
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok(wire::Ipv6Status {
                    level: row.get(0)?,
                    level_since_wall_us: row.get::<_, i64>(1)?.saturating_mul(1_000),
                    wall_us: row.get::<_, i64>(2)?.saturating_mul(1_000),
                    possible: row.get(3)?,
                    score_hundredths: row.get(4)?,
                    sufficient: row.get(5)?,
                })
            };
            statement.query_row([ap_id], read).optional()
        })
        .doing("reading an IPv6 level")
}

/// What was known at a moment, of every access point that was heard of not too long before it.
pub(super) fn known_at(
    connection: &Connection,
    wall_us: i64,
) -> Result<Vec<(String, Known)>, StoreError> {
    let read = || -> Result<Vec<(String, Known)>, rusqlite::Error> {
        connection
            .prepare_cached(
                "SELECT ap_id, level, possible, hundredths, sufficient FROM ipv6_known k WHERE wall_us <= ?1 \
                 AND wall_us > ?2 AND wall_us = (SELECT max(wall_us) FROM ipv6_known n WHERE n.ap_id = k.ap_id \
                 AND n.wall_us <= ?1) ORDER BY ap_id",
            )?
            .query_map(params![wall_us, wall_us.saturating_sub(KNOWN_FOR_US)], |row| {
                Ok((row.get(0)?, known_row(row, 1)?))
            })?
            .collect()
    };
    read().doing("reading known IPv6 levels")
}

#[cfg(test)]
mod tests;
