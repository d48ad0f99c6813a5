//! The answer to an on-demand measurement, in a form for people.

use std::net::Ipv4Addr;

use extranet_agent::probe::path;
use extranet_proto::assignment::{Check, Family, Target, TargetAddress};
use extranet_proto::id::{AgentId, ObjectId};
use extranet_proto::metric::{self, Defined, Metric, Unit};
use extranet_proto::record::{Body, Definition, Record, Value};
use extranet_proto::wire;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Seconds since 1970, which are shown as times.
const TIMES: [Metric; 3] = [
    metric::TLS_EARLIEST_EXPIRY,
    metric::TLS_NOT_AFTER,
    metric::NTP_REFERENCE_TIME,
];

/// What was asked for, as far as the answer shows it.
pub(super) struct Asked {
    check: String,
    instance: String,
    family: Family,
}

impl Asked {
    pub(super) fn new(target: &Target, check: &Check) -> Self {
        let address = match &target.address {
            TargetAddress::Ip(address) => address.to_string(),
            TargetAddress::Name(name) => name.clone(),
            TargetAddress::Symbolic(symbol) => symbol.text().to_owned(),
        };
        Self {
            check: check.name.as_str().to_owned(),
            instance: address,
            family: check.family,
        }
    }

    /// The reply for a result, with the objects it names.
    pub(super) fn measured(self, agent: &AgentId, records: &[Record]) -> wire::MeasureReply {
        let definitions: Vec<&Definition> = records
            .iter()
            .filter_map(|record| match &record.body {
                Body::Definition(definition) => Some(definition),
                _ => None,
            })
            .collect();
        let result = records.iter().find_map(|record| match &record.body {
            Body::Result(result) => Some((record.time, result)),
            _ => None,
        });
        let Some((time, result)) = result else {
            return wire::MeasureReply {
                measurement: None,
                refusal: "the agent's answer holds no result".to_owned(),
            };
        };
        let duration = wire::DisplayValue {
            name: "duration".to_owned(),
            value: microseconds(result.duration_us as f64),
        };
        // Hops of a trace stand in a table, a line each.
        let hops = path::shown::hops(&result.values, &definitions);
        let header =
            (!hops.is_empty()).then(|| ("Host".to_owned(), path::shown::COLUMNS.to_owned()));
        let table = header.into_iter().chain(hops);
        let table = table.map(|(name, value)| wire::DisplayValue { name, value });
        let single = result.values.iter();
        let single = single.filter(|value| !path::shown::COLUMN_METRICS.contains(&value.metric));
        let values = single
            .map(|value| display(value, &definitions))
            .chain(table);
        let measurement = wire::MeasurementStatus {
            check: self.check,
            instance: self.instance,
            family: self.family.label().to_owned(),
            vantage: agent.as_str().to_owned(),
            outcome: result.outcome.label().to_owned(),
            reason: result.reason.label().to_owned(),
            wall_us: time.wall_ms.saturating_mul(1_000),
            values: std::iter::once(duration).chain(values).collect(),
        };
        wire::MeasureReply {
            measurement: Some(measurement),
            refusal: String::new(),
        }
    }
}

fn display(value: &Value, definitions: &[&Definition]) -> wire::DisplayValue {
    let info = value.metric.info();
    let defined = definitions
        .iter()
        .find(|definition| definition.object == value.metric.definition_object())
        .and_then(|definition| Defined::from_labels(&definition.labels));
    let mut name = match (info, &defined) {
        (Some(info), _) => match info.label {
            Some((_, meaning)) => format!("{} {meaning}", info.name),
            None => info.name.to_owned(),
        },
        (None, Some(defined)) => defined.name.clone(),
        (None, None) => format!("metric {}", value.metric.0),
    };
    if let Some(object) = object_name(value.object, definitions) {
        name = format!("{name} {object}");
    }
    let text = match info {
        Some(info) if info.unit == Unit::Microseconds => {
            microseconds(info.exported(value.raw) * 1e6)
        }
        Some(info) if TIMES.contains(&value.metric) => {
            time_of(value.raw).unwrap_or_else(|| info.exported(value.raw).to_string())
        }
        Some(_) if value.metric == metric::NTP_REFERENCE_ID => reference(value.raw),
        Some(info) => info.exported(value.raw).to_string(),
        None => defined.map_or_else(
            || value.raw.to_string(),
            |defined| defined.exported(value.raw).to_string(),
        ),
    };
    wire::DisplayValue { name, value: text }
}

/// Seconds since 1970 (RFC 3339).
fn time_of(raw: u64) -> Option<String> {
    let time = OffsetDateTime::from_unix_timestamp(raw.cast_signed()).ok()?;
    time.format(&Rfc3339).ok()
}

/// Letters of a reference clock or of a kiss-o'-death, else the IPv4 address of a server or four bytes of a hash
/// (RFC 5905 section 7.3).
fn reference(raw: u64) -> String {
    let bytes = u32::try_from(raw).unwrap_or_default().to_be_bytes();
    let letters: Vec<u8> = bytes.into_iter().take_while(|byte| *byte != 0).collect();
    if letters.len() > 1 && letters.iter().all(u8::is_ascii_graphic) {
        return String::from_utf8_lossy(&letters).into_owned();
    }
    Ipv4Addr::from(bytes).to_string()
}

fn object_name(object: ObjectId, definitions: &[&Definition]) -> Option<String> {
    if object == ObjectId(0) {
        return None;
    }
    let labels = definitions
        .iter()
        .find(|definition| definition.object == object)
        .map(|d| &d.labels);
    let named = labels.and_then(|labels| {
        if let [(hop, number), (_, address)] = labels.as_slice()
            && hop == "hop"
        {
            return Some(format!("{number} {address}"));
        }
        let plain =
            |(name, _): &&(String, String)| matches!(name.as_str(), "ifName" | "sysName" | "cn");
        let telling = |(name, text): &&(String, String)| name.ends_with("Name") && !text.is_empty();
        let found = labels
            .iter()
            .find(plain)
            .or_else(|| labels.iter().find(telling));
        let found = found.or_else(|| labels.first());
        found.map(|(_, text)| text.clone())
    });
    Some(named.unwrap_or_else(|| format!("object {object}")))
}

fn microseconds(us: f64) -> String {
    format!("{:.3} ms", us / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use extranet_proto::metric::{ICMP_RTT_AVG, IF_OPER_STATUS};

    #[test]
    fn hops_of_a_trace_are_a_table_behind_the_other_values() {
        let hop = Definition {
            object: ObjectId(3),
            check: extranet_proto::id::CheckId(1),
            kind: extranet_proto::record::ObjectKind::PathHop,
            labels: vec![
                ("hop".to_owned(), "01".to_owned()),
                ("address".to_owned(), "10.0.0.1".to_owned()),
            ],
        };
        let value = |metric, object, raw| Value {
            metric,
            object: ObjectId(object),
            raw,
        };
        let time = extranet_proto::record::RecordTime {
            boottime_ms: 1,
            wall_ms: 1,
        };
        let result = extranet_proto::record::CheckResult {
            assignment: extranet_proto::id::AssignmentVersion(0),
            check: extranet_proto::id::CheckId(1),
            outcome: extranet_proto::record::Outcome::Ok,
            reason: extranet_proto::record::Reason::None,
            duration_us: 5_000,
            values: vec![
                value(metric::PATH_HOPS, 0, 1),
                value(metric::PATH_HOP_SENT, 3, 3),
                value(metric::PATH_HOP_RECEIVED, 3, 3),
                value(metric::PATH_HOP_RTT_MIN, 3, 250),
                value(metric::PATH_MTU_LIMIT, 3, 1_400),
            ],
        };
        let records =
            [Body::Definition(hop), Body::Result(result)].map(|body| Record { time, body });
        let asked = Asked {
            check: "on-demand".to_owned(),
            instance: "10.0.0.9".to_owned(),
            family: Family::V4,
        };
        let reply = asked.measured(&AgentId::new("a1").unwrap(), &records);
        let shown: Vec<String> = reply
            .measurement
            .unwrap()
            .values
            .iter()
            .map(|value| format!("{}: {}", value.name, value.value))
            .collect();
        assert_eq!(
            shown,
            [
                "duration: 5.000 ms",
                "extranet_path_hops: 1",
                "extranet_path_mtu_limit_bytes 01 10.0.0.1: 1400",
                "Host: Loss%   Snt      Best       Avg      Wrst  (ms)",
                "01 10.0.0.1:   0.0%     3     0.250",
            ]
        );
    }

    #[test]
    fn values_have_names_and_units() {
        let definition = Definition {
            object: ObjectId(3),
            check: extranet_proto::id::CheckId(1),
            kind: extranet_proto::record::ObjectKind::Interface,
            labels: vec![
                ("ifIndex".to_owned(), "2".to_owned()),
                ("ifName".to_owned(), "eth0".to_owned()),
            ],
        };
        let show = |metric, object, raw| {
            let shown = display(
                &Value {
                    metric,
                    object: ObjectId(object),
                    raw,
                },
                &[&definition],
            );
            format!("{} = {}", shown.name, shown.value)
        };
        assert_eq!(
            show(ICMP_RTT_AVG, 0, 61),
            "probe_icmp_duration_seconds rtt = 0.061 ms"
        );
        assert_eq!(
            show(metric::TLS_NOT_AFTER, 0, 1_900_000_000),
            "ssl_cert_not_after = 2030-03-17T17:46:40Z"
        );
        for (id, text) in [
            (*b"GPS\0", "GPS"),
            (*b"RATE", "RATE"),
            ([10, 0, 0, 1], "10.0.0.1"),
        ] {
            let raw = u32::from_be_bytes(id).into();
            let expected = format!("extranet_ntp_reference_id = {text}");
            assert_eq!(show(metric::NTP_REFERENCE_ID, 0, raw), expected);
        }
        assert_eq!(show(IF_OPER_STATUS, 3, 1), "ifOperStatus eth0 = 1");
        assert_eq!(show(Metric(9_999), 4, 5), "metric 9999 object 4 = 5");
    }
}
