//! Entries of the security log as the syslog export reads them, and where each receiver stands.

use extranet_proto::record::{SecurityRule, Severity};
use rusqlite::{Connection, OptionalExtension, params};

use super::event::{pairs_of, rule_of, severity_of};
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// An entry as the export reads it.
#[derive(Debug, Clone)]
pub(crate) struct LogEntry {
    pub(crate) id: i64,
    pub(crate) event_id: i64,
    pub(crate) at_ms: i64,
    /// raised, worse, over
    pub(crate) action: &'static str,
    pub(crate) ap_id: String,
    /// Name of the access point.
    pub(crate) ap_name: String,
    pub(crate) rule: SecurityRule,
    pub(crate) object: String,
    pub(crate) severity: Severity,
    pub(crate) starts_ms: i64,
    pub(crate) late: bool,
    pub(crate) agent: String,
    pub(crate) reason: String,
    pub(crate) evidence: Vec<(String, String)>,
}

/// Entries behind one, in order.
pub(crate) fn entries_after(
    connection: &Connection,
    after_exclusive: i64,
    most: usize,
) -> Result<Vec<LogEntry>, StoreError> {
    let read = || -> Result<Vec<LogEntry>, rusqlite::Error> {
        connection
            .prepare_cached(
                "SELECT l.entry_id, l.event_id, l.at_ms, l.action, l.ap_id, coalesce(p.name, l.ap_id), l.rule, \
                 l.object, l.severity, l.starts_ms, l.late, l.agent_id, l.reason, l.evidence FROM security_log l \
                 LEFT JOIN access_points p ON p.ap_id = l.ap_id AND p.valid_from_us <= l.wall_us \
                 AND (p.valid_to_us IS NULL OR p.valid_to_us > l.wall_us) \
                 WHERE l.entry_id > ?1 ORDER BY l.entry_id LIMIT ?2",
            )?
            .query_map(
                params![after_exclusive, i64::try_from(most).unwrap_or(i64::MAX)],
                |row| {
                    Ok(LogEntry {
                        id: row.get(0)?,
                        event_id: row.get(1)?,
                        at_ms: row.get(2)?,
                        action: match row.get::<_, u8>(3)? {
                            1 => "raised",
                            2 => "worse",
                            _ => "over",
                        },
                        ap_id: row.get(4)?,
                        ap_name: row.get(5)?,
                        rule: rule_of(row.get(6)?),
                        object: row.get(7)?,
                        severity: severity_of(row.get(8)?),
                        starts_ms: row.get(9)?,
                        late: row.get(10)?,
                        agent: row.get(11)?,
                        reason: row.get(12)?,
                        evidence: pairs_of(&row.get::<_, String>(13)?),
                    })
                },
            )?
            .collect()
    };
    read().doing("reading the security log")
}

/// The first entry that is kept and was logged at `since_us` or later; behind the last one when there is none.
pub(crate) fn first_entry(connection: &Connection, since_us: i64) -> Result<i64, StoreError> {
    connection
        .query_row(
            "SELECT coalesce((SELECT min(entry_id) FROM security_log WHERE wall_us >= ?1), \
             (SELECT max(entry_id) + 1 FROM security_log), 1)",
            [since_us],
            |row| row.get(0),
        )
        .doing("reading the security log")
}

/// The last entry that a receiver has; `None` = it is new here.
pub(crate) fn cursor(connection: &Connection, target: &str) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached("SELECT entry_id FROM syslog_cursors WHERE target = ?1")
        .and_then(|mut statement| statement.query_row([target], |row| row.get(0)).optional())
        .doing("reading a syslog cursor")
}

pub(crate) fn set_cursor(
    connection: &Connection,
    target: &str,
    entry_id: i64,
) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO syslog_cursors (target, entry_id) VALUES (?1, ?2)")
        .and_then(|mut statement| statement.execute(params![target, entry_id]))
        .doing("storing a syslog cursor")?;
    Ok(())
}

/// How many entries are behind one.
pub(crate) fn waiting(connection: &Connection, after_exclusive: i64) -> Result<u64, StoreError> {
    connection
        .prepare_cached("SELECT count(*) FROM security_log WHERE entry_id > ?1")
        .and_then(|mut statement| {
            statement.query_row([after_exclusive], |row| row.get::<_, i64>(0))
        })
        .map(i64::unsigned_abs)
        .doing("counting entries of the security log")
}
