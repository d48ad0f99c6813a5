//! Uplinks: what they carried, day by day (AV-30, AV-31), and what SNMP devices told.
//!
//! An agent gives rates of every interface; only uplinks are added up here, since only they are reported. The uplink of a
//! router is the interface that the inventory names (`snmp_uplink`: its ifName, ifDescr or ifAlias), else each whose name or
//! alias says so ("uplink", "上联").

use extranet_proto::metric::{IF_IN_RATE, IF_OUT_RATE, IF_RATE_SPAN, Metric};
use extranet_proto::record::{AgentEvent, CheckResult, Definition, ObjectKind};
use extranet_proto::wire;
use prost::Message;
use rusqlite::{OptionalExtension, Transaction, params};

use super::StoreError;
use super::catalogue::Doing;
use crate::sketch::Sketch;

/// Length of the windows that agents report.
const WINDOW_MS: i64 = 300_000;
/// Days begin at midnight in Asia/Shanghai, which has no daylight saving.
const ZONE_MS: i64 = 8 * 3_600_000;
const DAY_MS: i64 = 86_400_000;
/// Most rates that wait for a definition; more are given up: their series are exported all the same.
const WAITING_MAX: i64 = 50_000;
/// Notifications kept of an agent.
const NOTIFICATIONS_MAX: i64 = 1_000;

/// Rates of one interface over one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    object: u32,
    check: u32,
    wall_ms: i64,
    span_ms: i64,
    in_rate: i64,
    out_rate: i64,
}

/// The windows in a result.
fn windows(wall_ms: i64, result: &CheckResult) -> Vec<Window> {
    let spans = result
        .values
        .iter()
        .filter(|value| value.metric == IF_RATE_SPAN);
    spans
        .map(|span| {
            let of = |metric: Metric| {
                let mut values = result.values.iter();
                let found =
                    values.find(|value| value.metric == metric && value.object == span.object);
                found.map_or(0, |value| i64::try_from(value.raw).unwrap_or(i64::MAX))
            };
            Window {
                object: span.object.0,
                check: result.check.0,
                wall_ms,
                span_ms: i64::try_from(span.raw).unwrap_or(i64::MAX).min(DAY_MS),
                in_rate: of(IF_IN_RATE),
                out_rate: of(IF_OUT_RATE),
            }
        })
        .collect()
}

/// Adds the rates of a result.
pub(super) fn result(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    wall_ms: i64,
    result: &CheckResult,
) -> Result<(), StoreError> {
    for window in windows(wall_ms, result) {
        match labels(transaction, batch, window.object)? {
            Some(labels) => add(transaction, batch, &labels, window)?,
            None => wait(transaction, batch, window)?,
        }
    }
    Ok(())
}

/// Adds what waited for this definition.
pub(super) fn defined(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    definition: &Definition,
) -> Result<(), StoreError> {
    if definition.kind != ObjectKind::Interface {
        return Ok(());
    }
    let key = params![
        batch.agent_id,
        batch.incarnation.cast_signed(),
        definition.object.0
    ];
    let read = || -> Result<Vec<Window>, rusqlite::Error> {
        transaction
            .prepare_cached(
                "DELETE FROM traffic_waiting WHERE agent_id = ?1 AND incarnation = ?2 AND object = ?3 \
                 RETURNING object, check_id, wall_ms, span_ms, in_rate, out_rate",
            )?
            .query_map(key, |row| {
                Ok(Window {
                    object: row.get(0)?,
                    check: row.get(1)?,
                    wall_ms: row.get(2)?,
                    span_ms: row.get(3)?,
                    in_rate: row.get(4)?,
                    out_rate: row.get(5)?,
                })
            })?
            .collect()
    };
    for window in read().doing("reading rates that wait")? {
        add(transaction, batch, &definition.labels, window)?;
    }
    Ok(())
}

fn wait(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    window: Window,
) -> Result<(), StoreError> {
    transaction
        .prepare_cached(
            "INSERT INTO traffic_waiting (agent_id, incarnation, object, check_id, wall_ms, span_ms, in_rate, out_rate) \
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE (SELECT count(*) FROM traffic_waiting) < ?9",
        )
        .and_then(|mut statement| {
            statement.execute(params![
                batch.agent_id,
                batch.incarnation.cast_signed(),
                window.object,
                window.check,
                window.wall_ms,
                window.span_ms,
                window.in_rate,
                window.out_rate,
                WAITING_MAX
            ])
        })
        .doing("storing a rate that waits")?;
    Ok(())
}

/// The labels of an interface in its incarnation. A renamed one has several; the newest say what it is.
fn labels(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    object: u32,
) -> Result<Option<Vec<(String, String)>>, StoreError> {
    let json: Option<String> = transaction
        .prepare_cached(
            "SELECT labels FROM definitions WHERE agent_id = ?1 AND incarnation = ?2 AND object = ?3 AND kind = ?4 \
             ORDER BY from_sequence DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            let kind = ObjectKind::Interface.number();
            let key = params![batch.agent_id, batch.incarnation.cast_signed(), object, kind];
            statement.query_row(key, |row| row.get(0)).optional()
        })
        .doing("reading a definition")?;
    json.map(|json| serde_json::from_str(&json))
        .transpose()
        .map_err(|_| StoreError::Damaged { what: "definition" })
}

/// Where a check looks, and which interface is the uplink there.
struct Router {
    ap_id: String,
    instance: String,
    uplink: String,
}

fn router(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    check: u32,
) -> Result<Option<Router>, StoreError> {
    let read = || {
        transaction
            .prepare_cached(
                "SELECT c.ap_id, c.instance, t.snmp FROM checks c LEFT JOIN targets t ON t.ap_id = c.ap_id \
                 AND t.address = c.instance AND t.vrf = c.vrf AND t.kind = 'router' AND t.valid_to_us IS NULL \
                 WHERE c.agent_id = ?1 AND c.check_id = ?2 AND c.role IN ('router', 'inbound') LIMIT 1",
            )?
            .query_row(params![batch.agent_id, check], |row| {
                let snmp: Option<Vec<u8>> = row.get(2)?;
                let snmp = snmp.and_then(|bytes| wire::SnmpProbe::decode(bytes.as_slice()).ok());
                Ok(Router {
                    ap_id: row.get(0)?,
                    instance: row.get(1)?,
                    uplink: snmp.map(|snmp| snmp.uplink).unwrap_or_default(),
                })
            })
            .optional()
    };
    read().doing("reading the router of a check")
}

/// Whether labels are those of the uplink.
fn is_uplink(router: &Router, labels: &[(String, String)]) -> bool {
    let names = ["ifName", "ifDescr", "ifAlias"];
    let mut texts = labels
        .iter()
        .filter(|(name, _)| names.contains(&name.as_str()))
        .map(|(_, text)| text);
    if router.uplink.is_empty() {
        texts.any(|text| text.to_lowercase().contains("uplink") || text.contains("上联"))
    } else {
        texts.any(|text| *text == router.uplink)
    }
}

fn add(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    labels: &[(String, String)],
    window: Window,
) -> Result<(), StoreError> {
    let Some(router) = router(transaction, batch, window.check)? else {
        return Ok(());
    };
    if !is_uplink(&router, labels) {
        return Ok(());
    }
    let named = ["ifName", "ifDescr", "ifIndex"].iter().find_map(|wanted| {
        let found = labels
            .iter()
            .find(|(name, text)| name == wanted && !text.is_empty());
        found.map(|(_, text)| text.as_str())
    });
    let if_name = named.unwrap_or_default();
    // A window that ends just after midnight belongs to the day before.
    let day = (window.wall_ms - window.span_ms / 2 + ZONE_MS).div_euclid(DAY_MS);
    let write = || -> Result<(), rusqlite::Error> {
        let known: Option<(Vec<u8>, Vec<u8>)> = transaction
            .prepare_cached(
                "SELECT in_rates, out_rates FROM traffic_days WHERE ap_id = ?1 AND day = ?2 AND instance = ?3 \
                 AND if_name = ?4 AND agent_id = ?5",
            )?
            .query_row(
                params![router.ap_id, day, router.instance, if_name, batch.agent_id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()?;
        let (in_rates, out_rates) = known.unwrap_or_default();
        let times = ((window.span_ms + WINDOW_MS / 2) / WINDOW_MS)
            .max(1)
            .cast_unsigned();
        let added = |bytes: &[u8], rate: i64| {
            let mut sketch = Sketch::decode(bytes);
            sketch.add(rate.cast_unsigned(), times);
            sketch.encode()
        };
        let octets = |rate: i64| rate.saturating_mul(window.span_ms) / 8_000;
        transaction
            .prepare_cached(
                "INSERT INTO traffic_days (ap_id, instance, if_name, agent_id, day, span_ms, in_octets, out_octets, \
                 in_rates, out_rates) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
                 ON CONFLICT DO UPDATE SET span_ms = span_ms + ?6, in_octets = in_octets + ?7, \
                 out_octets = out_octets + ?8, in_rates = ?9, out_rates = ?10",
            )?
            .execute(params![
                router.ap_id,
                router.instance,
                if_name,
                batch.agent_id,
                day,
                window.span_ms,
                octets(window.in_rate),
                octets(window.out_rate),
                added(&in_rates, window.in_rate),
                added(&out_rates, window.out_rate)
            ])?;
        Ok(())
    };
    write().doing("storing the traffic of an uplink")
}

/// Keeps a notification of a device.
pub(super) fn notification(
    transaction: &Transaction<'_>,
    batch: &wire::LoggedBatch,
    sequence: u64,
    wall_ms: i64,
    event: &AgentEvent,
) -> Result<(), StoreError> {
    let write = || -> Result<(), rusqlite::Error> {
        transaction
            .prepare_cached(
                "INSERT OR IGNORE INTO notifications (agent_id, wall_ms, incarnation, sequence, many, text) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                batch.agent_id,
                wall_ms,
                batch.incarnation.cast_signed(),
                sequence.cast_signed(),
                event.value,
                event.text
            ])?;
        transaction
            .prepare_cached(
                "DELETE FROM notifications WHERE agent_id = ?1 AND wall_ms < (SELECT wall_ms FROM notifications \
                 WHERE agent_id = ?1 ORDER BY wall_ms DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute(params![batch.agent_id, NOTIFICATIONS_MAX])?;
        Ok(())
    };
    write().doing("storing a notification")
}
