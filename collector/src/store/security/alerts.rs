//! Alerts about security events: one for each event and severity, not too many at a time (SEC-33).
//!
//! An event that grew worse closes its alert and opens another one, because receivers know an alert by its labels and
//! the severity is one of them. What is over, or was over when it arrived, opens none.

use extranet_proto::record::SecurityRule;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::event::{rule_of, severity_of};
use crate::security::names;
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Most alerts in a minute about one access point, so that one agent cannot take the room of all others.
const OF_ACCESS_POINT: i64 = 20;
/// Most alerts in a minute of one rule: what a shift can look at (guess). The events are kept, shown and exported.
const OF_RULE: i64 = 100;
const MINUTE_US: i64 = 60_000_000;

/// What became of an event that may need an alert.
pub(super) enum Opening {
    NotNeeded,
    Opened {
        /// In place of one of another severity.
        instead: bool,
    },
    /// There were too many of this rule, or at this access point; later.
    TooMany(SecurityRule),
}

/// Condition of events that need an alert.
const NEEDS: &str =
    "closed_us IS NULL AND over_ms IS NULL AND (alerted IS NULL OR severity < alerted)";

/// Events that wait for an alert, oldest first, as many as a tick can look at in a moment (guess).
pub(super) fn waiting(connection: &Connection) -> Result<Vec<i64>, StoreError> {
    let sql =
        format!("SELECT event_id FROM security_events WHERE {NEEDS} ORDER BY event_id LIMIT 5000");
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_map([], |row| row.get(0))?.collect())
        .doing("reading events that wait for an alert")
}

pub(super) fn open_if_needed(
    transaction: &Transaction<'_>,
    now_us: i64,
    event: i64,
) -> Result<Opening, StoreError> {
    let sql = format!(
        "SELECT ap_id, rule, object, severity, starts_ms, alerted IS NOT NULL FROM security_events \
         WHERE event_id = ?1 AND {NEEDS}"
    );
    let needing: Option<(String, u8, String, u8, i64, bool)> = transaction
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get(2)?,
                    row.get(3)?,
                    row.get(4)?,
                    row.get(5)?,
                ))
            };
            statement.query_row([event], read).optional()
        })
        .doing("reading a security event")?;
    let Some((ap_id, rule, object, severity, starts_ms, instead)) = needing else {
        return Ok(Opening::NotNeeded);
    };
    let rule = rule_of(rule);
    let (of_rule, of_access_point): (i64, i64) = transaction
        .prepare_cached(
            "SELECT coalesce(sum(name = ?2), 0), coalesce(sum(ap_id = ?3), 0) FROM alerts \
             WHERE event_id IS NOT NULL AND opened_us > ?1",
        )
        .and_then(|mut statement| {
            let arguments = params![now_us.saturating_sub(MINUTE_US), names(rule).0, ap_id];
            statement.query_row(arguments, |row| Ok((row.get(0)?, row.get(1)?)))
        })
        .doing("counting alerts")?;
    if of_rule >= OF_RULE || of_access_point >= OF_ACCESS_POINT {
        return Ok(Opening::TooMany(rule));
    }
    if instead {
        close(
            transaction,
            now_us,
            event,
            now_us.div_euclid(1_000),
            "worse",
        )?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO alerts (name, ap_id, object, severity, cause, starts_ms, opened_us, event_id) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                names(rule).0,
                ap_id,
                object,
                severity_of(severity).label(),
                rule.number(),
                starts_ms,
                now_us,
                event
            ])
        })
        .doing("opening an alert")?;
    transaction
        .prepare_cached("UPDATE security_events SET alerted = severity WHERE event_id = ?1")
        .and_then(|mut statement| statement.execute([event]))
        .doing("marking a security event as alerted")?;
    Ok(Opening::Opened { instead })
}

/// Closes the alert about an event; whether there was one.
pub(super) fn close(
    transaction: &Transaction<'_>,
    now_us: i64,
    event: i64,
    ends_ms: i64,
    reason: &str,
) -> Result<bool, StoreError> {
    let closed = transaction
        .prepare_cached(
            "UPDATE alerts SET ends_ms = max(?2, starts_ms), closed_us = ?3, close_reason = ?4 \
             WHERE event_id = ?1 AND closed_us IS NULL",
        )
        .and_then(|mut statement| statement.execute(params![event, ends_ms, now_us, reason]))
        .doing("closing an alert")?;
    Ok(closed > 0)
}
