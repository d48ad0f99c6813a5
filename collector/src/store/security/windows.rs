//! Registered times of work.

use extranet_proto::record::{SecurityRule, Severity};
use extranet_proto::wire;
use rusqlite::{Connection, Transaction, params};

use super::Report;
use crate::security::certificate::Window;
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// Longest window, µs: 92 days. What is allowed for ever is not watched.
const LONGEST_US: i64 = 92 * 86_400_000_000;
/// Longest reason, characters.
const REASON: usize = 200;

pub(super) fn store(
    transaction: &Transaction<'_>,
    now_us: i64,
    window: &wire::SecurityWindowAdded,
) -> Result<(), StoreError> {
    transaction
        .execute(
            "INSERT INTO security_windows (ap_id, service, from_ms, to_ms, reason, actor, added_us) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                window.ap_id,
                window.service,
                window.from_wall_us.div_euclid(1_000),
                window.to_wall_us.div_euclid(1_000),
                window.reason,
                window.actor,
                now_us
            ],
        )
        .doing("storing a window")?;
    Ok(())
}

/// Windows for a service of an access point that hold at a time.
pub(super) fn of_service(
    connection: &Connection,
    ap_id: &str,
    instance: &str,
    at_ms: i64,
) -> Result<Vec<Window>, StoreError> {
    connection
        .prepare_cached(
            "SELECT from_ms, to_ms FROM security_windows WHERE ap_id IN ('', ?1) AND service IN ('', ?2) \
             AND from_ms <= ?3 AND to_ms >= ?3",
        )
        .and_then(|mut statement| {
            let rows = statement.query_map(params![ap_id, instance, at_ms], |row| {
                Ok(Window {
                    from_ms: row.get(0)?,
                    to_ms: row.get(1)?,
                })
            })?;
            rows.collect()
        })
        .doing("reading windows")
}

/// How bad a report is: a gateway that is exchanged while somebody works there is expected, and still worth a look
/// (SEC-04).
pub(super) fn severity(connection: &Connection, report: &Report) -> Result<Severity, StoreError> {
    if report.rule != SecurityRule::GatewayMac || report.severity != Severity::Critical {
        return Ok(report.severity);
    }
    let inside: bool = connection
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM security_windows WHERE ap_id IN ('', ?1) AND service = '' \
             AND from_ms <= ?2 AND to_ms >= ?2)",
        )
        .and_then(|mut statement| {
            statement.query_row(params![report.ap_id, report.at_ms], |row| row.get(0))
        })
        .doing("reading windows")?;
    Ok(if inside {
        Severity::Major
    } else {
        report.severity
    })
}

/// Checks a window; the record to log, or what is wrong.
pub(in crate::store) fn plan_window(
    connection: &Connection,
    request: &wire::AddSecurityWindowRequest,
) -> Result<Result<wire::SecurityWindowAdded, Vec<String>>, StoreError> {
    let wire::AddSecurityWindowRequest {
        ap_id,
        service,
        from_wall_us,
        to_wall_us,
        reason,
        actor,
    } = request;
    let mut problems = Vec::new();
    if ap_id.is_empty() && service.is_empty() {
        problems.push("say for which access point or which service".to_owned());
    }
    if to_wall_us < from_wall_us || to_wall_us.saturating_sub(*from_wall_us) > LONGEST_US {
        problems.push("it must end after it begins, within 92 days".to_owned());
    }
    let reason = reason.trim();
    if reason.is_empty() || reason.chars().count() > REASON {
        problems.push(format!(
            "a reason is needed, of at most {REASON} characters"
        ));
    }
    let known = |sql: &'static str, arguments: &[&str]| -> Result<Vec<String>, StoreError> {
        connection
            .prepare_cached(sql)
            .and_then(|mut statement| {
                let arguments = rusqlite::params_from_iter(arguments);
                statement.query_map(arguments, |row| row.get(0))?.collect()
            })
            .doing("looking for what a window is for")
    };
    let access_point = "SELECT ap_id FROM access_points WHERE ap_id = ?1 AND valid_to_us IS NULL";
    if !ap_id.is_empty() && known(access_point, &[ap_id])?.is_empty() {
        problems.push(format!("no access point {ap_id} in the inventory"));
    }
    let mut instance = String::new();
    if !service.is_empty() {
        let mut found = known(
            "SELECT DISTINCT instance FROM checks WHERE ?2 IN ('', ap_id) AND instance = ?1 AND probe IN ('tls', 'http') \
             AND active",
            &[service, ap_id],
        )?;
        if found.is_empty() {
            // By its name in the inventory: the checks that were compiled for its address and port.
            found = known(
                "SELECT DISTINCT c.instance FROM targets t JOIN checks c ON c.ap_id = t.ap_id AND c.active \
                 AND c.probe IN ('tls', 'http') AND c.instance IN (t.address || ':' || t.tcp_port, \
                 '[' || t.address || ']:' || t.tcp_port) \
                 WHERE ?2 IN ('', t.ap_id) AND t.name = ?1 AND t.kind = 'service' AND t.valid_to_us IS NULL",
                &[service, ap_id],
            )?;
        }
        match found.as_slice() {
            [one] => instance.clone_from(one),
            [] => problems.push(format!(
                "nobody looks at the certificate of a service {service}: use its name or its address with port, as \
                 in `status`"
            )),
            [first, second, ..] => problems.push(format!(
                "several services are called {service} ({first}, {second}): say which access point or address"
            )),
        }
    }
    if !problems.is_empty() {
        return Ok(Err(problems));
    }
    Ok(Ok(wire::SecurityWindowAdded {
        actor: actor.clone(),
        ap_id: ap_id.clone(),
        service: instance,
        from_wall_us: *from_wall_us,
        to_wall_us: *to_wall_us,
        reason: reason.to_owned(),
    }))
}

/// All windows, newest first.
pub(in crate::store) fn windows(
    connection: &Connection,
) -> Result<Vec<wire::SecurityWindow>, StoreError> {
    connection
        .prepare_cached(
            "SELECT ap_id, service, from_ms, to_ms, reason, actor FROM security_windows ORDER BY from_ms DESC, \
             window_id DESC LIMIT 1000",
        )
        .and_then(|mut statement| {
            let rows = statement.query_map([], |row| {
                Ok(wire::SecurityWindow {
                    ap_id: row.get(0)?,
                    service: row.get(1)?,
                    from_wall_us: row.get::<_, i64>(2)?.saturating_mul(1_000),
                    to_wall_us: row.get::<_, i64>(3)?.saturating_mul(1_000),
                    reason: row.get(4)?,
                    actor: row.get(5)?,
                })
            })?;
            rows.collect()
        })
        .doing("reading windows")
}
