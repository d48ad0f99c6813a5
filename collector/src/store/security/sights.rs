//! What each agent says about each object: the newest word counts, whatever the order of arrival.

use extranet_proto::record::{SecurityAction, SecurityRule};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::Report;
use crate::self_stats::{Stats, count};
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Most objects that are remembered of one agent: three for each check that an assignment may have, and room for others.
const SIGHTS: i64 = 16_384;

/// Remembers the word of an agent; false when it said something newer before, or says too much.
pub(super) fn remember(
    transaction: &Transaction<'_>,
    report: &Report,
    stats: &Stats,
) -> Result<bool, StoreError> {
    let raised = report.action == SecurityAction::Raised;
    let write = || -> Result<usize, rusqlite::Error> {
        transaction
            .prepare_cached(
                "INSERT INTO security_sights (ap_id, rule, object, agent_id, active, newest_ms, cleared_ms, \
                 instance) SELECT ?1, ?2, ?3, ?4, ?5, ?6, CASE WHEN ?5 THEN NULL ELSE ?6 END, ?7 \
                 WHERE EXISTS (SELECT 1 FROM security_sights WHERE ap_id = ?1 AND rule = ?2 AND object = ?3 \
                 AND agent_id = ?4) OR (SELECT count(*) FROM security_sights WHERE agent_id = ?4) < ?8 \
                 ON CONFLICT (ap_id, rule, object, agent_id) DO UPDATE SET \
                 active = CASE WHEN ?6 >= newest_ms THEN ?5 ELSE active END, \
                 newest_ms = max(newest_ms, ?6), \
                 cleared_ms = CASE WHEN ?5 THEN cleared_ms ELSE max(coalesce(cleared_ms, ?6), ?6) END, \
                 instance = ?7",
            )?
            .execute(params![
                report.ap_id,
                report.rule.number(),
                report.object,
                report.agent,
                raised,
                report.at_ms,
                report.instance,
                SIGHTS
            ])
    };
    if write().doing("storing a sight")? == 0 {
        // The oldest that is not there any more makes room for the next one.
        transaction
            .prepare_cached(
                "DELETE FROM security_sights WHERE agent_id = ?1 AND NOT active AND newest_ms = (SELECT \
                 min(newest_ms) FROM security_sights WHERE agent_id = ?1 AND NOT active)",
            )
            .and_then(|mut statement| statement.execute([&report.agent]))
            .doing("forgetting a sight")?;
        if write().doing("storing a sight")? == 0 {
            count(&stats.store_skipped, "too_many_security_events");
            return Ok(false);
        }
    }
    transaction
        .prepare_cached(
            "SELECT active = ?5 AND newest_ms = ?6 FROM security_sights WHERE ap_id = ?1 AND rule = ?2 \
             AND object = ?3 AND agent_id = ?4",
        )
        .and_then(|mut statement| {
            statement.query_row(
                params![
                    report.ap_id,
                    report.rule.number(),
                    report.object,
                    report.agent,
                    raised,
                    report.at_ms
                ],
                |row| row.get(0),
            )
        })
        .doing("reading a sight")
}

/// Until when an agent is known not to have seen the object.
pub(super) fn cleared_ms(
    connection: &Connection,
    report: &Report,
) -> Result<Option<i64>, StoreError> {
    connection
        .prepare_cached(
            "SELECT cleared_ms FROM security_sights WHERE ap_id = ?1 AND rule = ?2 AND object = ?3 AND agent_id = ?4",
        )
        .and_then(|mut statement| {
            let key = params![report.ap_id, report.rule.number(), report.object, report.agent];
            statement.query_row(key, |row| row.get(0)).optional()
        })
        .map(Option::flatten)
        .doing("reading a sight")
}

/// Whether any agent sees the object.
pub(super) fn is_seen(connection: &Connection, report: &Report) -> Result<bool, StoreError> {
    connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM security_sights WHERE ap_id = ?1 AND rule = ?2 AND object = ?3 AND active)",
        )
        .and_then(|mut statement| {
            let key = params![report.ap_id, report.rule.number(), report.object];
            statement.query_row(key, |row| row.get(0))
        })
        .doing("reading sights")
}

/// Forgets what was said about an object.
pub(super) fn forget(
    transaction: &Transaction<'_>,
    ap_id: &str,
    rule: SecurityRule,
    object: &str,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "DELETE FROM security_sights WHERE ap_id = ?1 AND rule = ?2 AND object = ?3",
            params![ap_id, rule.number(), object],
        )
        .doing("forgetting sights")?;
    Ok(())
}

/// Forgets what agents said that are revoked or elsewhere now, and what was said about services that nobody looks at any
/// more; of one access point and its agents, or (empty) of all.
pub(super) fn forget_unwatched(
    transaction: &Transaction<'_>,
    ap_id: &str,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "DELETE FROM security_sights AS s WHERE (?1 = '' OR s.ap_id = ?1 OR s.agent_id IN (SELECT agent_id \
             FROM agents WHERE ap_id = ?1)) AND (NOT EXISTS (SELECT 1 FROM agents a WHERE \
             a.agent_id = s.agent_id AND a.revoked_us IS NULL AND (s.instance <> '' OR a.ap_id = s.ap_id)) \
             OR NOT EXISTS (SELECT 1 FROM access_points p WHERE p.ap_id = s.ap_id AND p.valid_to_us IS NULL) \
             OR (s.instance <> '' AND NOT EXISTS (SELECT 1 FROM checks c WHERE c.agent_id = s.agent_id \
             AND c.ap_id = s.ap_id AND c.instance = s.instance AND c.probe IN ('tls', 'http') AND c.active)))",
            [ap_id],
        )
        .doing("forgetting sights")?;
    Ok(())
}
