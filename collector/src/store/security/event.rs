//! Rows of `security_events`, and the entries about them that the syslog export follows.

use extranet_proto::record::{SecurityRule, Severity};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::Report;
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Most entries that are kept for receivers that are away: a storm of 5,000 events (SEC-33) ten times over.
const ENTRIES: i64 = 100_000;

/// An event that is not closed.
#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) id: i64,
    pub(super) ap_id: String,
    pub(super) rule: SecurityRule,
    pub(super) object: String,
    pub(super) severity: Severity,
    pub(super) starts_ms: i64,
    pub(super) last_seen_ms: i64,
    pub(super) over_ms: Option<i64>,
    pub(super) flaps: u32,
    pub(super) late: bool,
    pub(super) agent: String,
    pub(super) evidence: Vec<(String, String)>,
}

const COLUMNS: &str = "event_id, ap_id, rule, object, severity, starts_ms, last_seen_ms, over_ms, flaps, late, \
     agent_id, evidence";

fn row(row: &Row<'_>) -> Result<Open, rusqlite::Error> {
    Ok(Open {
        id: row.get(0)?,
        ap_id: row.get(1)?,
        rule: rule_of(row.get(2)?),
        object: row.get(3)?,
        severity: severity_of(row.get(4)?),
        starts_ms: row.get(5)?,
        last_seen_ms: row.get(6)?,
        over_ms: row.get(7)?,
        flaps: row.get(8)?,
        late: row.get(9)?,
        agent: row.get(10)?,
        evidence: pairs_of(&row.get::<_, String>(11)?),
    })
}

/// The rule with this number; one from a newer release has no name here.
pub(super) fn rule_of(number: u8) -> SecurityRule {
    SecurityRule::from_number(number).unwrap_or(SecurityRule::Other)
}

pub(super) fn severity_of(number: u8) -> Severity {
    Severity::from_number(number).unwrap_or(Severity::Major)
}

/// Evidence as it is stored.
pub(crate) fn pairs_of(json: &str) -> Vec<(String, String)> {
    serde_json::from_str(json).unwrap_or_default()
}

fn json(evidence: &[(String, String)]) -> String {
    serde_json::to_string(evidence).expect("texts are always JSON")
}

fn list(connection: &Connection, condition: &str) -> Result<Vec<Open>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM security_events e WHERE closed_us IS NULL AND {condition} ORDER BY event_id"
    );
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| statement.query_map([], row)?.collect())
        .doing("reading security events")
}

/// Those that nobody sees any more.
pub(super) fn over(connection: &Connection) -> Result<Vec<Open>, StoreError> {
    list(connection, "over_ms IS NOT NULL")
}

/// Those whose last sight was forgotten.
pub(super) fn unseen(connection: &Connection) -> Result<Vec<Open>, StoreError> {
    list(
        connection,
        "over_ms IS NULL AND NOT EXISTS (SELECT 1 FROM security_sights s WHERE s.ap_id = e.ap_id \
         AND s.rule = e.rule AND s.object = e.object AND s.active)",
    )
}

/// The open event about an object.
pub(super) fn open(
    connection: &Connection,
    ap_id: &str,
    rule: SecurityRule,
    object: &str,
) -> Result<Option<Open>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM security_events WHERE ap_id = ?1 AND rule = ?2 AND object = ?3 AND closed_us IS NULL"
    );
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            statement
                .query_row(params![ap_id, rule.number(), object], row)
                .optional()
        })
        .doing("reading a security event")
}

/// Since when the last closed event of the object is over, and its flaps.
pub(super) fn last_closed(
    connection: &Connection,
    report: &Report,
) -> Result<Option<(i64, u32)>, StoreError> {
    connection
        .prepare_cached(
            "SELECT over_ms, flaps FROM security_events WHERE ap_id = ?1 AND rule = ?2 AND object = ?3 \
             AND close_reason = 'recovered' ORDER BY starts_ms DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row(
                    params![report.ap_id, report.rule.number(), report.object],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .optional()
        })
        .doing("reading a closed security event")
}

/// Whether an event of the object holds at the time of the report.
pub(super) fn covers(connection: &Connection, report: &Report) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM security_events WHERE ap_id = ?1 AND rule = ?2 AND object = ?3 \
             AND starts_ms <= ?4 AND (over_ms IS NULL OR over_ms >= ?4))",
        )
        .and_then(|mut statement| {
            let key = params![report.ap_id, report.rule.number(), report.object, report.at_ms];
            statement.query_row(key, |row| row.get(0))
        })
        .doing("reading security events")
}

/// When the next event of the object began, behind the report.
pub(super) fn next_start(
    connection: &Connection,
    report: &Report,
) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached(
            "SELECT min(starts_ms) FROM security_events WHERE ap_id = ?1 AND rule = ?2 AND object = ?3 \
             AND starts_ms > ?4",
        )
        .and_then(|mut statement| {
            let key = params![report.ap_id, report.rule.number(), report.object, report.at_ms];
            statement.query_row(key, |row| row.get(0))
        })
        .doing("reading security events")
}

/// A new event.
pub(super) fn insert(
    transaction: &Transaction<'_>,
    now_us: i64,
    report: &Report,
    severity: Severity,
    flaps: u32,
    late: bool,
) -> Result<Open, StoreError> {
    let mut open = Open {
        id: 0,
        ap_id: report.ap_id.clone(),
        rule: report.rule,
        object: report.object.clone(),
        severity,
        starts_ms: report.first_ms,
        last_seen_ms: report.at_ms,
        over_ms: None,
        flaps,
        late,
        agent: report.agent.clone(),
        evidence: report.evidence.clone(),
    };
    store_new(transaction, now_us, &mut open, None)?;
    Ok(open)
}

/// An event that was over when it was heard of.
pub(super) fn insert_closed(
    transaction: &Transaction<'_>,
    now_us: i64,
    report: &Report,
    severity: Severity,
    ended_ms: i64,
) -> Result<Open, StoreError> {
    let mut closed = Open {
        id: 0,
        ap_id: report.ap_id.clone(),
        rule: report.rule,
        object: report.object.clone(),
        severity,
        starts_ms: report.first_ms,
        last_seen_ms: report.at_ms,
        over_ms: Some(ended_ms),
        flaps: 0,
        late: true,
        agent: report.agent.clone(),
        evidence: report.evidence.clone(),
    };
    store_new(transaction, now_us, &mut closed, Some("late"))?;
    Ok(closed)
}

fn store_new(
    transaction: &Transaction<'_>,
    now_us: i64,
    event: &mut Open,
    closed: Option<&str>,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO security_events (ap_id, rule, object, severity, starts_ms, last_seen_ms, over_ms, opened_us, \
             closed_us, close_reason, raised, flaps, late, agent_id, evidence) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, CASE WHEN ?9 IS NULL THEN NULL ELSE ?8 END, ?9, 1, ?10, ?11, \
             ?12, ?13)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                event.ap_id,
                event.rule.number(),
                event.object,
                event.severity.number(),
                event.starts_ms,
                event.last_seen_ms,
                event.over_ms,
                now_us,
                closed,
                event.flaps,
                event.late,
                event.agent,
                json(&event.evidence)
            ])
        })
        .doing("storing a security event")?;
    event.id = transaction.last_insert_rowid();
    Ok(())
}

/// What another raise changed.
pub(super) fn update(transaction: &Transaction<'_>, open: &Open) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE security_events SET severity = ?2, starts_ms = ?3, last_seen_ms = ?4, over_ms = ?5, flaps = ?6, \
             agent_id = ?7, evidence = ?8, raised = raised + 1 WHERE event_id = ?1",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                open.id,
                open.severity.number(),
                open.starts_ms,
                open.last_seen_ms,
                open.over_ms,
                open.flaps,
                open.agent,
                json(&open.evidence)
            ])
        })
        .doing("updating a security event")?;
    Ok(())
}

/// It began earlier than was known.
pub(super) fn began(
    transaction: &Transaction<'_>,
    id: i64,
    starts_ms: i64,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached("UPDATE security_events SET starts_ms = ?2 WHERE event_id = ?1")
        .and_then(|mut statement| statement.execute(params![id, starts_ms]))
        .doing("updating a security event")?;
    Ok(())
}

pub(super) fn set_over(
    transaction: &Transaction<'_>,
    id: i64,
    over_ms: i64,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached("UPDATE security_events SET over_ms = ?2 WHERE event_id = ?1")
        .and_then(|mut statement| statement.execute(params![id, over_ms]))
        .doing("ending a security event")?;
    Ok(())
}

pub(super) fn close(
    transaction: &Transaction<'_>,
    now_us: i64,
    open: &Open,
    ends_ms: i64,
    reason: &str,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "UPDATE security_events SET over_ms = max(?2, starts_ms), closed_us = ?3, close_reason = ?4 \
             WHERE event_id = ?1",
        )
        .and_then(|mut statement| statement.execute(params![open.id, ends_ms, now_us, reason]))
        .doing("closing a security event")?;
    Ok(())
}

/// Keeps the newest closed events of an access point.
pub(super) fn forget_closed(
    transaction: &Transaction<'_>,
    ap_id: &str,
    keep: i64,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "DELETE FROM security_events WHERE event_id IN (SELECT event_id FROM security_events WHERE ap_id = ?1 \
             AND closed_us IS NOT NULL ORDER BY closed_us DESC, event_id DESC LIMIT -1 OFFSET ?2)",
        )
        .and_then(|mut statement| statement.execute(params![ap_id, keep]))
        .doing("forgetting security events")?;
    Ok(())
}

/// What happened to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    Raised,
    Worse,
    /// Why.
    Over(&'static str),
}

impl Happened {
    const fn number(self) -> u8 {
        match self {
            Self::Raised => 1,
            Self::Worse => 2,
            Self::Over(_) => 3,
        }
    }
}

/// Something that happened, when it was logged and when it took place.
pub(super) struct Entry {
    pub(super) happened: Happened,
    pub(super) now_us: i64,
    pub(super) at_ms: i64,
}

/// Adds an entry for the export.
pub(super) fn log(
    transaction: &Transaction<'_>,
    event: &Open,
    entry: &Entry,
) -> Result<(), StoreError> {
    let reason = match entry.happened {
        Happened::Over(reason) => reason,
        Happened::Raised | Happened::Worse => "",
    };
    transaction
        .prepare_cached(
            "INSERT INTO security_log (event_id, wall_us, at_ms, action, ap_id, rule, object, severity, starts_ms, \
             late, agent_id, reason, evidence) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                event.id,
                entry.now_us,
                entry.at_ms,
                entry.happened.number(),
                event.ap_id,
                event.rule.number(),
                event.object,
                event.severity.number(),
                event.starts_ms,
                event.late,
                event.agent,
                reason,
                json(&event.evidence)
            ])
        })
        .doing("storing an entry of the security log")?;
    let newest = transaction.last_insert_rowid();
    transaction
        .prepare_cached("DELETE FROM security_log WHERE entry_id <= ?1")
        .and_then(|mut statement| statement.execute([newest - ENTRIES]))
        .doing("forgetting entries of the security log")?;
    Ok(())
}
