//! Security events for people: `security list`, `status`, and what is exported as metrics.

use extranet_proto::record::{SecurityRule, Severity};
use extranet_proto::wire;
use rusqlite::{Connection, Row, params};

use super::event::{pairs_of, rule_of, severity_of};
use crate::security::names;
use crate::store::StoreError;
use crate::store::catalogue::Doing;
use crate::texts::{Facts, Text};

/// Most events of one answer.
const MOST: u32 = 1_000;
/// A count of zero is exported for so long after an event closed, µs: until every engine has seen it.
const ZERO_FOR_US: i64 = 600_000_000;

const COLUMNS: &str = "e.event_id, e.ap_id, e.rule, e.severity, e.object, e.starts_ms, e.last_seen_ms, e.over_ms, \
     e.closed_us, coalesce(e.close_reason, ''), e.agent_id, e.raised, e.flaps, e.late, e.alerted IS NULL, e.evidence, \
     coalesce((SELECT name FROM access_points p WHERE p.ap_id = e.ap_id AND p.valid_to_us IS NULL), e.ap_id), \
     coalesce((SELECT group_concat(agent_id, ' ') FROM security_sights s WHERE s.ap_id = e.ap_id AND s.rule = e.rule \
     AND s.object = e.object AND s.active), '')";

fn status(row: &Row<'_>) -> Result<wire::SecurityEventStatus, rusqlite::Error> {
    let rule = rule_of(row.get(2)?);
    let severity = severity_of(row.get(3)?);
    let object: String = row.get(4)?;
    let starts_ms: i64 = row.get(5)?;
    let over_ms: Option<i64> = row.get(7)?;
    let closed: Option<i64> = row.get(8)?;
    let last_agent: String = row.get(10)?;
    let late = row.get(13)?;
    let state = match (closed, over_ms) {
        (Some(_), _) => "closed",
        (None, Some(_)) => "clearing",
        (None, None) => "active",
    };
    let evidence: String = row.get(15)?;
    let name: String = row.get(16)?;
    let seeing: String = row.get(17)?;
    let agents: Vec<String> = seeing.split_whitespace().map(str::to_owned).collect();
    let text = match closed {
        None => Text::Security { rule, late },
        Some(_) => Text::SecurityOver { rule, late },
    };
    let text = text.fill(&Facts {
        name: &name,
        check: &object,
        since_ms: starts_ms,
        until_ms: over_ms.unwrap_or(starts_ms),
    });
    Ok(wire::SecurityEventStatus {
        event_id: row.get::<_, i64>(0)?.unsigned_abs(),
        ap_id: row.get(1)?,
        rule: rule.label().to_owned(),
        name: names(rule).0.to_owned(),
        severity: severity.label().to_owned(),
        object,
        state: state.to_owned(),
        since_wall_us: starts_ms.saturating_mul(1_000),
        last_seen_wall_us: row.get::<_, i64>(6)?.saturating_mul(1_000),
        until_wall_us: over_ms.unwrap_or_default().saturating_mul(1_000),
        close_reason: row.get(9)?,
        agents: if agents.is_empty() {
            vec![last_agent]
        } else {
            agents
        },
        times_raised: row.get::<_, i64>(11)?.unsigned_abs(),
        flaps: row.get(12)?,
        late,
        // One that was over when it was heard of needed none.
        suppressed: row.get::<_, bool>(14)? && state == "active",
        evidence: pairs_of(&evidence)
            .into_iter()
            .map(|(name, value)| wire::DisplayValue { name, value })
            .collect(),
        text_zh: text.zh,
        text_en: text.en,
    })
}

/// Events, newest first.
pub(in crate::store) fn events(
    connection: &Connection,
    request: &wire::SecurityEventsRequest,
) -> Result<Vec<wire::SecurityEventStatus>, StoreError> {
    let limit = match request.limit {
        0 => MOST,
        limit => limit.min(MOST),
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM security_events e WHERE (?1 = '' OR e.ap_id = ?1) AND (NOT ?2 OR e.closed_us IS NULL) \
         ORDER BY e.event_id DESC LIMIT ?3"
    );
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            let arguments = params![request.ap_id, request.only_open, limit];
            statement.query_map(arguments, status)?.collect()
        })
        .doing("reading security events")
}

/// One event.
pub(in crate::store) fn by_id(
    connection: &Connection,
    id: u64,
) -> Result<Option<(wire::SecurityEventStatus, SecurityRule)>, StoreError> {
    let sql = format!("SELECT {COLUMNS} FROM security_events e WHERE e.event_id = ?1");
    let found: Vec<_> = connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            let rows = statement.query_map([id.cast_signed()], |row| {
                Ok((status(row)?, rule_of(row.get(2)?)))
            })?;
            rows.collect()
        })
        .doing("reading a security event")?;
    Ok(found.into_iter().next())
}

/// How many events were open, as it was known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OpenCount {
    pub(crate) ap_id: String,
    pub(crate) rule: SecurityRule,
    pub(crate) severity: Severity,
    pub(crate) open: u32,
}

/// Open events of each access point at a time; zeros of those that closed shortly before it.
pub(crate) fn open_at(connection: &Connection, wall_us: i64) -> Result<Vec<OpenCount>, StoreError> {
    connection
        .prepare_cached(
            "SELECT ap_id, rule, severity, sum(open) FROM (SELECT ap_id, rule, severity, 1 AS open \
             FROM security_events WHERE closed_us IS NULL AND opened_us <= ?1 UNION ALL \
             SELECT ap_id, rule, severity, closed_us > ?1 FROM security_events WHERE closed_us > ?1 - ?2 \
             AND opened_us <= ?1) GROUP BY ap_id, rule, severity ORDER BY ap_id, rule, severity",
        )
        .and_then(|mut statement| {
            let rows = statement.query_map(params![wall_us, ZERO_FOR_US], |row| {
                Ok(OpenCount {
                    ap_id: row.get(0)?,
                    rule: rule_of(row.get(1)?),
                    severity: severity_of(row.get(2)?),
                    open: row.get(3)?,
                })
            })?;
            rows.collect()
        })
        .doing("counting security events")
}
