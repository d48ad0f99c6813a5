//! What `status` shows: access points, their latest measurements in words and units, alerts.

use std::collections::HashMap;

use extranet_proto::metric::{IF_HC_IN_OCTETS, IF_HC_OUT_OCTETS, IF_OPER_STATUS, Metric};
use extranet_proto::record::{Outcome, Reason};
use extranet_proto::wire;
use prost::Message;
use rusqlite::{Connection, OptionalExtension, Row, params};

use self::display::display;
use super::StoreError;
use super::catalogue::Doing;
use crate::state::State;

mod display;

/// Most measurements shown of one access point when the request does not say.
const MEASUREMENTS: u32 = 20;

pub(super) fn status(
    connection: &Connection,
    request: &wire::StatusRequest,
) -> Result<wire::StatusReply, StoreError> {
    let mut reply = wire::StatusReply::default();
    let mut statement = connection
        .prepare_cached(
            "SELECT a.ap_id, a.name, a.level, a.monitoring, s.state, s.from_inclusive, p.slot_ms \
             FROM access_points a LEFT JOIN state_progress p ON p.one = 1 \
             LEFT JOIN state_intervals s ON s.ap_id = a.ap_id AND s.from_inclusive = \
             (SELECT max(from_inclusive) FROM state_intervals WHERE ap_id = a.ap_id) \
             WHERE a.valid_to_us IS NULL AND (?1 = '' OR a.ap_id = ?1) ORDER BY a.ap_id",
        )
        .doing("reading access points")?;
    let rows = statement
        .query_map([&request.ap_id], access_point)
        .doing("reading access points")?;
    for row in rows {
        let mut ap = row.doing("reading access points")?;
        ap.agents = agents(connection, &ap.ap_id)?;
        ap.measurements = measurements(connection, &ap.ap_id, request.measurements)?;
        ap.notifications = notifications(connection, &ap.ap_id)?;
        ap.ipv6 = super::readiness::status(connection, &ap.ap_id)?;
        reply.access_points.push(ap);
    }
    reply.alerts = crate::alert::status(connection, &request.ap_id)?;
    let open = wire::SecurityEventsRequest {
        ap_id: request.ap_id.clone(),
        only_open: true,
        limit: 0,
    };
    reply.security_events = super::security::events(connection, &open)?;
    Ok(reply)
}

fn access_point(row: &Row<'_>) -> Result<wire::AccessPointStatus, rusqlite::Error> {
    let state: Option<u8> = row.get(4)?;
    let from: Option<i64> = row.get(5)?;
    let slot_ms: Option<i64> = row.get(6)?;
    let since = from
        .zip(slot_ms)
        .map_or(0, |(slot, ms)| slot.saturating_mul(ms) * 1_000);
    Ok(wire::AccessPointStatus {
        ap_id: row.get(0)?,
        name: row.get(1)?,
        level: row.get(2)?,
        monitoring: row.get(3)?,
        state: state
            .and_then(State::from_number)
            .unwrap_or(State::NotInService)
            .label()
            .to_owned(),
        state_since_wall_us: since,
        ..Default::default()
    })
}

fn agents(connection: &Connection, ap_id: &str) -> Result<Vec<wire::AgentStatus>, StoreError> {
    let read = || -> Result<Vec<wire::AgentStatus>, rusqlite::Error> {
        connection
            .prepare_cached(
                "SELECT a.agent_id, a.last_result_ms, a.assignment_version, s.agent_version, s.privilege_tier, \
                 s.clock_offset_us, t.version, t.applied, l.ledger FROM agents a \
                 LEFT JOIN sessions s USING (agent_id) LEFT JOIN assignment_status t USING (agent_id) \
                 LEFT JOIN ledgers l USING (agent_id) \
                 WHERE a.ap_id = ?1 AND a.revoked_us IS NULL ORDER BY a.enrolled_us, a.agent_id",
            )?
            .query_map([ap_id], |row| {
                let version: u32 = row.get(2)?;
                let seen: Option<u32> = row.get(6)?;
                let ledger: Option<Vec<u8>> = row.get(8)?;
                Ok(wire::AgentStatus {
                    agent_id: row.get(0)?,
                    last_result_wall_us: row.get::<_, Option<i64>>(1)?.unwrap_or(0) * 1_000,
                    assignment_version: version,
                    version: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
                    privilege_tier: row.get::<_, Option<u32>>(4)?.unwrap_or_default(),
                    clock_offset_us: row.get::<_, Option<i64>>(5)?.unwrap_or_default(),
                    assignment_applied: seen == Some(version)
                        && row.get::<_, Option<bool>>(7)? == Some(true),
                    ledger: ledger.and_then(|bytes| wire::Ledger::decode(bytes.as_slice()).ok()),
                    connected: false,
                })
            })?
            .collect()
    };
    read().doing("reading agents")
}

/// Most notifications shown of an access point.
const NOTIFICATIONS_SHOWN: i64 = 10;

fn notifications(
    connection: &Connection,
    ap_id: &str,
) -> Result<Vec<wire::NotificationStatus>, StoreError> {
    let read = || -> Result<Vec<wire::NotificationStatus>, rusqlite::Error> {
        connection
            .prepare_cached(
                "SELECT n.wall_ms, n.many, n.text FROM notifications n JOIN agents a USING (agent_id) \
                 WHERE a.ap_id = ?1 ORDER BY n.wall_ms DESC, n.sequence DESC LIMIT ?2",
            )?
            .query_map(params![ap_id, NOTIFICATIONS_SHOWN], |row| {
                Ok(wire::NotificationStatus {
                    wall_us: row.get::<_, i64>(0)?.saturating_mul(1_000),
                    many: row.get(1)?,
                    text: row.get(2)?,
                })
            })?
            .collect()
    };
    read().doing("reading notifications")
}

/// A stored latest result, before it is put into words.
struct Latest {
    agent: String,
    incarnation: i64,
    status: wire::MeasurementStatus,
    outcome: Outcome,
    duration_us: u64,
    shown: Vec<u8>,
}

fn measurements(
    connection: &Connection,
    ap_id: &str,
    most: u32,
) -> Result<Vec<wire::MeasurementStatus>, StoreError> {
    let most = if most == 0 { MEASUREMENTS } else { most };
    let read = || -> Result<Vec<Latest>, rusqlite::Error> {
        connection
            .prepare_cached(
                "SELECT l.agent_id, l.check_id, l.incarnation, c.name, c.instance, c.family, c.vantage, l.outcome, \
                 l.reason, l.wall_ms, l.duration_us, l.shown FROM checks c JOIN latest l USING (agent_id, check_id) \
                 WHERE c.ap_id = ?1 ORDER BY c.name, c.instance, c.family, c.vantage, l.wall_ms DESC",
            )?
            .query_map([ap_id], |row| {
                let outcome = Outcome::from_number(row.get(7)?).unwrap_or(Outcome::NotMeasured);
                let reason = Reason::from_number(row.get(8)?).unwrap_or(Reason::Other);
                let family: i64 = row.get(5)?;
                Ok(Latest {
                    agent: row.get(0)?,
                    incarnation: row.get(2)?,
                    status: wire::MeasurementStatus {
                        check: row.get(3)?,
                        instance: row.get(4)?,
                        family: family.to_string(),
                        vantage: row.get(6)?,
                        outcome: outcome.label().to_owned(),
                        reason: reason.label().to_owned(),
                        wall_us: row.get::<_, i64>(9)? * 1_000,
                        values: Vec::new(),
                    },
                    outcome,
                    duration_us: row.get::<_, i64>(10)?.cast_unsigned(),
                    shown: row.get(11)?,
                })
            })?
            .collect()
    };
    let mut all = read().doing("reading latest results")?;
    // A changed check has a new id and the same labels: only its newest result is of interest.
    all.dedup_by(|later, first| {
        let labels = |l: &Latest| {
            let s = &l.status;
            (
                s.check.clone(),
                s.instance.clone(),
                s.family.clone(),
                s.vantage.clone(),
            )
        };
        labels(later) == labels(first)
    });
    all.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    all.into_iter()
        .map(|mut latest| {
            latest.status.values = values(connection, &latest)?;
            Ok(latest.status)
        })
        .collect()
}

fn values(connection: &Connection, latest: &Latest) -> Result<Vec<wire::DisplayValue>, StoreError> {
    let stored: Vec<(Metric, u32, u64)> = latest
        .shown
        .chunks_exact(14)
        .filter_map(|bytes| {
            let metric = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
            let object = u32::from_le_bytes(bytes.get(2..6)?.try_into().ok()?);
            let raw = u64::from_le_bytes(bytes.get(6..14)?.try_into().ok()?);
            Some((Metric(metric), object, raw))
        })
        .collect();
    let mut list = Vec::new();
    let plain: Vec<(Metric, u64)> = stored
        .iter()
        .filter(|(_, object, _)| *object == 0)
        .map(|(metric, _, raw)| (*metric, *raw))
        .collect();
    if latest.outcome == Outcome::Ok && plain.is_empty() {
        list.push(show("duration", display::milliseconds(latest.duration_us)));
    }
    for (metric, raw) in plain {
        list.extend(display(metric, raw).map(|(name, value)| show(name, value)));
    }
    interfaces(connection, latest, &stored, &mut list)?;
    Ok(list)
}

fn show(name: impl Into<String>, value: impl Into<String>) -> wire::DisplayValue {
    wire::DisplayValue {
        name: name.into(),
        value: value.into(),
    }
}

/// "interfaces up 3 of 4", then the counters of the first interfaces that are up and count something.
fn interfaces(
    connection: &Connection,
    latest: &Latest,
    stored: &[(Metric, u32, u64)],
    list: &mut Vec<wire::DisplayValue>,
) -> Result<(), StoreError> {
    /// Interfaces whose counters are shown.
    const SHOWN: usize = 3;
    let states: Vec<(u32, u64)> = stored
        .iter()
        .filter(|(metric, ..)| *metric == IF_OPER_STATUS)
        .map(|(_, object, raw)| (*object, *raw))
        .collect();
    if states.is_empty() {
        return Ok(());
    }
    // ifOperStatus: 1 is up.
    let up: Vec<u32> = states
        .iter()
        .filter(|(_, raw)| *raw == 1)
        .map(|(object, _)| *object)
        .collect();
    list.push(show(
        "interfaces up",
        format!("{} of {}", up.len(), states.len()),
    ));
    let counters: HashMap<(Metric, u32), u64> = stored
        .iter()
        .map(|(metric, object, raw)| ((*metric, *object), *raw))
        .collect();
    for object in up.into_iter().take(SHOWN) {
        let name = interface_name(connection, latest, object)?;
        for (metric, word) in [(IF_HC_IN_OCTETS, "in"), (IF_HC_OUT_OCTETS, "out")] {
            if let Some(raw) = counters.get(&(metric, object)) {
                list.push(show(format!("{name} {word}"), display::octets(*raw)));
            }
        }
    }
    Ok(())
}

fn interface_name(
    connection: &Connection,
    latest: &Latest,
    object: u32,
) -> Result<String, StoreError> {
    let labels: Option<String> = connection
        .prepare_cached(
            "SELECT labels FROM definitions WHERE agent_id = ?1 AND incarnation = ?2 AND object = ?3 \
             ORDER BY from_sequence DESC LIMIT 1",
        )
        .and_then(|mut statement| {
            statement
                .query_row(params![latest.agent, latest.incarnation, object], |row| row.get(0))
                .optional()
        })
        .doing("reading a definition")?;
    let labels: Vec<(String, String)> = labels
        .and_then(|json| serde_json::from_str(&json).ok())
        .unwrap_or_default();
    let named = ["ifName", "ifDescr", "ifIndex"].iter().find_map(|wanted| {
        let found = labels
            .iter()
            .find(|(name, value)| name == wanted && !value.is_empty());
        found.map(|(_, value)| value.clone())
    });
    Ok(named.unwrap_or_else(|| format!("object {object}")))
}
