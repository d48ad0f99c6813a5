//! SEC-09 in the catalogue: what TLS servers showed, as agents define it, becomes reports about three objects of a
//! service: its certificate, the end of it, and the name in it.

use extranet_proto::metric::{
    HTTP_REDIRECTS, TLS_CHAIN_VALID, TLS_CHANGED, TLS_EARLIEST_EXPIRY, TLS_NAME_VALID,
};
use extranet_proto::record::{
    CheckResult, Outcome, Reason, SecurityAction, SecurityRule, Severity,
};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Context, Report, windows};
use crate::security::certificate::{CHANGE, Change, EXPIRY, Memory, NAME, Shown, Verdict, expiry};
use crate::store::StoreError;
use crate::store::catalogue::Doing;

/// What a result says, that was measured at `wall_ms`, with the labels of the endpoint that it is about.
pub(super) fn judge(
    transaction: &Transaction<'_>,
    context: &Context<'_>,
    wall_ms: i64,
    result: &CheckResult,
    labels: &[(String, String)],
) -> Result<Vec<Report>, StoreError> {
    let Some(check) = check(transaction, context.agent, result.check.0)? else {
        return Ok(Vec::new());
    };
    let value = |metric| {
        let mut values = result.values.iter();
        values
            .find(|value| value.metric == metric)
            .map(|value| value.raw)
    };
    let shown = shown(labels, value(TLS_CHAIN_VALID) == Some(1));
    // Behind a redirect it is the certificate of somebody else.
    if shown.fingerprint.is_empty() || value(HTTP_REDIRECTS).is_some_and(|many| many > 0) {
        return Ok(Vec::new());
    }
    let service = if check.vrf.is_empty() {
        check.instance.clone()
    } else {
        format!("{} vrf {}", check.instance, check.vrf)
    };
    let at_ms = context.time(wall_ms);
    let report = |what: &str, raised: Option<(Severity, Vec<(String, String)>)>| {
        let (action, severity, evidence) = match raised {
            Some((severity, evidence)) => (SecurityAction::Raised, severity, evidence),
            None => (SecurityAction::Cleared, Severity::Info, Vec::new()),
        };
        Report {
            ap_id: check.ap_id.clone(),
            agent: context.agent.to_owned(),
            rule: SecurityRule::Certificate,
            object: format!("{service}{what}"),
            action,
            severity,
            at_ms,
            first_ms: at_ms,
            backlog: context.backlog,
            instance: check.instance.clone(),
            evidence,
        }
    };
    let mut memory = memory(transaction, &check.ap_id, &service)?;
    let registered = windows::of_service(transaction, &check.ap_id, &check.instance, at_ms)?;
    // The agent says "changed" of a key that the plan did not pin, also in the first run and in every one after it.
    let changed = result.reason == Reason::CertificateChanged;
    let verdict = if changed && value(TLS_CHANGED) != Some(1) {
        Verdict::Changed(Change::Pin)
    } else {
        memory.judge(&shown, at_ms, &registered)
    };
    let mut reports = Vec::with_capacity(3);
    match verdict {
        Verdict::Before => {}
        Verdict::Learned | Verdict::Same | Verdict::Renewed(_) => {
            reports.push(report(CHANGE, None));
        }
        Verdict::Changed(change) => {
            let mut evidence = vec![pair("change", change.label())];
            evidence.extend(facts("", &check.name, &service, &shown));
            if let Some(known) = memory.current() {
                evidence.extend(facts("known_", "", "", &known.shown));
            }
            reports.push(report(CHANGE, Some((Severity::Major, evidence))));
        }
    }
    let earliest = value(TLS_EARLIEST_EXPIRY).map(|s| s.cast_signed().saturating_mul(1_000));
    if let Some(ends_ms) = earliest.or(shown.not_after_ms) {
        let step = expiry(ends_ms, at_ms).map(|(severity, days)| {
            let left = ends_ms.saturating_sub(at_ms).div_euclid(86_400_000);
            let mut evidence = vec![
                pair("step_days", &days.to_string()),
                pair("days_left", &left.to_string()),
                pair("ends", &rfc3339(ends_ms)),
            ];
            evidence.extend(facts("", &check.name, &service, &shown));
            (severity, evidence)
        });
        reports.push(report(EXPIRY, step));
    }
    // A check that does not verify, or an HTTP check, asks for no name.
    let verifies = result.outcome == Outcome::Failed
        && matches!(
            result.reason,
            Reason::CertificateName | Reason::CertificateExpired | Reason::CertificateUntrusted
        );
    let misnamed = verifies && value(TLS_NAME_VALID) == Some(0);
    let evidence = || facts("", &check.name, &service, &shown);
    // Where the key decided, nothing was said about the name.
    if !changed {
        let raised = misnamed.then(|| (Severity::Major, evidence()));
        reports.push(report(NAME, raised));
    }
    if memory.remember(&shown, at_ms, verdict) {
        store(transaction, &check.ap_id, &service, &memory)?;
    }
    Ok(reports)
}

/// A check that decides about a service.
struct Check {
    ap_id: String,
    name: String,
    instance: String,
    vrf: String,
}

/// `None` when the check is not known, or when one of TLS alone speaks for the service: a page may be asked for under
/// another name.
fn check(connection: &Connection, agent: &str, id: u32) -> Result<Option<Check>, StoreError> {
    connection
        .prepare_cached(
            "SELECT ap_id, name, instance, vrf FROM checks c WHERE agent_id = ?1 AND check_id = ?2 \
             AND (probe = 'tls' OR NOT EXISTS (SELECT 1 FROM checks t WHERE t.agent_id = c.agent_id \
             AND t.ap_id = c.ap_id AND t.instance = c.instance AND t.vrf = c.vrf AND t.probe = 'tls' AND t.active))",
        )
        .and_then(|mut statement| {
            let read = |row: &rusqlite::Row<'_>| {
                Ok(Check {
                    ap_id: row.get(0)?,
                    name: row.get(1)?,
                    instance: row.get(2)?,
                    vrf: row.get(3)?,
                })
            };
            statement.query_row(params![agent, id], read).optional()
        })
        .doing("reading a check of a service")
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// What was shown, as evidence. Empty facts are left out.
fn facts(prefix: &str, check: &str, service: &str, shown: &Shown) -> Vec<(String, String)> {
    let ends = shown.not_after_ms.map(rfc3339).unwrap_or_default();
    [
        ("service", service),
        ("check", check),
        ("subject", &shown.subject),
        ("issuer", &shown.issuer),
        ("not_after", &ends),
        ("fingerprint_sha256", &shown.fingerprint),
        ("key_sha256", &shown.key),
        ("chain_sha256", &shown.chain),
        ("chain_trusted", if shown.trusted { "yes" } else { "no" }),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(name, value)| (format!("{prefix}{name}"), value.to_owned()))
    .collect()
}

fn rfc3339(ms: i64) -> String {
    let time = OffsetDateTime::from_unix_timestamp(ms.div_euclid(1_000)).ok();
    time.and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_default()
}

fn shown(labels: &[(String, String)], trusted: bool) -> Shown {
    let label = |wanted: &str| {
        let found = labels.iter().find(|(name, _)| name == wanted);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let ends = OffsetDateTime::parse(&label("not_after"), &Rfc3339).ok();
    Shown {
        fingerprint: label("fingerprint_sha256"),
        key: label("key_sha256"),
        chain: label("chain_sha256"),
        subject: label("subject"),
        issuer: label("issuer"),
        not_after_ms: ends.map(|time| time.unix_timestamp().saturating_mul(1_000)),
        trusted,
    }
}

fn memory(connection: &Connection, ap_id: &str, service: &str) -> Result<Memory, StoreError> {
    let json: Option<String> = connection
        .prepare_cached("SELECT memory FROM tls_endpoints WHERE ap_id = ?1 AND service = ?2")
        .and_then(|mut statement| {
            statement
                .query_row([ap_id, service], |row| row.get(0))
                .optional()
        })
        .doing("reading known certificates")?;
    match json {
        None => Ok(Memory::default()),
        Some(json) => serde_json::from_str(&json).map_err(|_| StoreError::Damaged {
            what: "certificates of a service",
        }),
    }
}

fn store(
    transaction: &Transaction<'_>,
    ap_id: &str,
    service: &str,
    memory: &Memory,
) -> Result<(), StoreError> {
    let json = serde_json::to_string(memory).expect("texts and numbers are always JSON");
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO tls_endpoints (ap_id, service, memory, pending_ms) VALUES (?1, ?2, ?3, ?4)",
        )
        .and_then(|mut statement| {
            let pending = memory.pending.as_ref().map(|(_, since)| *since);
            statement.execute(params![ap_id, service, json, pending])
        })
        .doing("storing known certificates")?;
    Ok(())
}

/// An operator accepts what the service of an object shows.
pub(super) fn accept(
    transaction: &Transaction<'_>,
    ap_id: &str,
    object: &str,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Some(service) = object.strip_suffix(CHANGE) else {
        return Ok(());
    };
    let mut memory = memory(transaction, ap_id, service)?;
    if memory.accept_pending(now_ms) {
        store(transaction, ap_id, service, &memory)?;
    }
    Ok(())
}

/// Takes over what services show since a time that lies in a window by now; access point and object of each.
pub(super) fn allowed_by_windows(
    transaction: &Transaction<'_>,
) -> Result<Vec<(String, String)>, StoreError> {
    let waiting: Vec<(String, String)> = transaction
        .prepare_cached(
            "SELECT ap_id, service FROM tls_endpoints WHERE pending_ms IS NOT NULL ORDER BY ap_id, service",
        )
        .and_then(|mut statement| {
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect()
        })
        .doing("reading changed certificates")?;
    let mut allowed = Vec::new();
    for (ap_id, service) in waiting {
        let mut memory = memory(transaction, &ap_id, &service)?;
        let instance = service.split(" vrf ").next().unwrap_or(&service);
        let Some((shown, since_ms)) = memory.pending.clone() else {
            continue;
        };
        let registered = windows::of_service(transaction, &ap_id, instance, since_ms)?;
        let verdict = memory.judge(&shown, since_ms, &registered);
        if matches!(verdict, Verdict::Renewed(_)) {
            memory.remember(&shown, since_ms, verdict);
            store(transaction, &ap_id, &service, &memory)?;
            allowed.push((ap_id, format!("{service}{CHANGE}")));
        }
    }
    Ok(allowed)
}
