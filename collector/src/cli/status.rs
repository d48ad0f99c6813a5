//! `status` as a table for people, and as JSON for programs.

use std::fmt::Write as _;

use extranet_proto::wire;
use serde::Serialize;
use time::OffsetDateTime;
use time::macros::format_description;

use super::security;

/// Microseconds since 1970 as "2026-11-21 21:40:43Z"; empty for 0 ("never").
pub(super) fn time(wall_us: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    match OffsetDateTime::from_unix_timestamp(wall_us.div_euclid(1_000_000)) {
        Ok(time) if wall_us != 0 => time.format(&format).unwrap_or_default(),
        _ => String::new(),
    }
}

/// "3 s", "12 min", "5 h", "9 d" before `now`.
fn age(now_us: i64, then_us: i64) -> String {
    match now_us.saturating_sub(then_us).max(0) / 1_000_000 {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Lines of cells, padded to the width of their column.
#[derive(Default)]
struct Columns(Vec<Vec<String>>);

impl Columns {
    fn row<const N: usize>(&mut self, cells: [&str; N]) {
        self.0.push(cells.map(str::to_owned).to_vec());
    }

    fn write(self, out: &mut String, indent: &str) {
        let columns = self.0.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let cells = self.0.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.0 {
            let mut line = indent.to_owned();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

macro_rules! line {
    ($out:expr, $($arg:tt)*) => { writeln!($out, $($arg)*).expect("writing into a string cannot fail") };
}

/// The readable form.
pub(super) fn table(reply: &wire::StatusReply) -> String {
    let now = reply.collector_wall_us;
    let mut out = String::new();
    line!(out, "collector {}, {}", reply.collector_version, time(now));
    if let Some(log) = &reply.log {
        let mib = log.bytes as f64 / f64::from(1 << 20);
        line!(
            out,
            "log: {} records, {mib:.1} MiB, catalogue {} behind",
            log.records,
            log.applied_lag_records
        );
    }
    for export in &reply.exports {
        let wire::ExportStatus {
            target,
            lag_records,
            samples_sent,
            last_error,
        } = export;
        let error = if last_error.is_empty() {
            String::new()
        } else {
            format!(", last error: {last_error}")
        };
        line!(
            out,
            "export {target}: {samples_sent} samples sent, {lag_records} records behind{error}"
        );
    }
    for export in &reply.syslog {
        let wire::SyslogStatus {
            target,
            sent,
            waiting,
            last_error,
        } = export;
        let error = if last_error.is_empty() {
            String::new()
        } else {
            format!(", last error: {last_error}")
        };
        line!(
            out,
            "syslog {target}: {sent} messages sent, {waiting} waiting{error}"
        );
    }
    for ap in &reply.access_points {
        access_point(&mut out, ap, now);
    }
    if !reply.security_events.is_empty() {
        line!(out, "\nsecurity events (evidence: security list --open)");
        for event in &reply.security_events {
            security::event(&mut out, event, "  ");
        }
    }
    alerts(&mut out, &reply.alerts, now);
    out
}

fn access_point(out: &mut String, ap: &wire::AccessPointStatus, now: i64) {
    let since = match ap.state_since_wall_us {
        0 => String::new(),
        since => format!(" since {}", time(since)),
    };
    let (name, level, monitoring) = (&ap.name, &ap.level, &ap.monitoring);
    line!(
        out,
        "\n{} {name} ({level}, {monitoring}): {}{since}",
        ap.ap_id,
        ap.state.to_uppercase()
    );
    if let Some(ipv6) = &ap.ipv6 {
        line!(out, "  IPv6: {}", ipv6_level(ipv6));
    }
    for agent in &ap.agents {
        let connected = if agent.connected {
            "connected"
        } else {
            "NOT CONNECTED"
        };
        let applied = if agent.assignment_applied {
            "applied"
        } else {
            "not applied"
        };
        line!(
            out,
            "  agent {}: {connected}, version {}, tier {}, last result {}, assignment {} {applied}, clock {:+.3} s",
            agent.agent_id,
            agent.version,
            agent.privilege_tier,
            match agent.last_result_wall_us {
                0 => "never".to_owned(),
                at => format!("{} ago", age(now, at)),
            },
            agent.assignment_version,
            agent.clock_offset_us as f64 / 1e6,
        );
        if let Some(ledger) = &agent.ledger {
            let dropped: u64 = ledger.dropped.iter().map(|dropped| dropped.records).sum();
            line!(
                out,
                "    spool: {} produced, {} acknowledged, {} waiting, {dropped} dropped, {} damaged",
                ledger.produced,
                ledger.acknowledged,
                ledger.waiting,
                ledger.damaged
            );
        }
    }
    if ap.measurements.is_empty() {
        return;
    }
    let mut columns = Columns::default();
    columns.row([
        "CHECK", "INSTANCE", "IP", "FROM", "OUTCOME", "AGE", "VALUES",
    ]);
    for measured in &ap.measurements {
        let outcome = match measured.reason.as_str() {
            "" | "none" => measured.outcome.clone(),
            reason => format!("{} ({reason})", measured.outcome),
        };
        let values: Vec<String> = measured
            .values
            .iter()
            .map(|value| format!("{} {}", value.name, value.value))
            .collect();
        columns.row([
            &measured.check,
            &measured.instance,
            &measured.family,
            &measured.vantage,
            &outcome,
            &age(now, measured.wall_us),
            &values.join(", "),
        ]);
    }
    columns.write(out, "  ");
    for notification in &ap.notifications {
        let times = if notification.many == 1 {
            String::new()
        } else {
            format!(" ({} times)", notification.many)
        };
        line!(
            out,
            "  {} {}{times}",
            time(notification.wall_us),
            notification.text
        );
    }
}

/// "L2 since 2026-11-21 21:40:43Z, score 61.50 of 100, provisional: at most L4 is possible".
fn ipv6_level(ipv6: &wire::Ipv6Status) -> String {
    let mut text = format!("L{} since {}", ipv6.level, time(ipv6.level_since_wall_us));
    if let Some(score) = ipv6.score_hundredths {
        let points = f64::from(score) / 100.0;
        write!(text, ", score {points:.2} of 100").expect("writing cannot fail");
    }
    if !ipv6.sufficient {
        text.push_str(", provisional: not enough was tested");
    }
    if ipv6.possible > ipv6.level {
        write!(text, ", L{} is not excluded", ipv6.possible).expect("writing cannot fail");
    }
    text
}

fn alerts(out: &mut String, alerts: &[wire::AlertStatus], now: i64) {
    if alerts.is_empty() {
        line!(out, "\nno alerts");
        return;
    }
    line!(out, "\nalerts");
    for alert in alerts {
        let delivered = if alert.delivered {
            "delivered"
        } else {
            "NOT DELIVERED"
        };
        let wire::AlertStatus {
            name,
            ap_id,
            severity,
            state,
            ..
        } = alert;
        let age = age(now, alert.since_wall_us);
        line!(
            out,
            "  {state} {name} {ap_id} ({severity}) for {age}, {delivered}"
        );
        for text in [&alert.text_zh, &alert.text_en] {
            line!(out, "    {text}");
        }
    }
}

/// The form for programs: the same facts, times as microseconds since 1970.
pub(super) fn json(reply: &wire::StatusReply) -> String {
    serde_json::to_string_pretty(&Status::from(reply)).expect("numbers and texts are JSON")
}

#[derive(Serialize)]
struct Status<'a> {
    collector_version: &'a str,
    collector_wall_us: i64,
    log: Option<Log>,
    exports: Vec<Export<'a>>,
    syslog: Vec<Syslog<'a>>,
    access_points: Vec<AccessPoint<'a>>,
    alerts: Vec<Alert<'a>>,
    security_events: Vec<security::Event<'a>>,
}

#[derive(Serialize)]
struct Log {
    records: u64,
    bytes: u64,
    applied_lag_records: u64,
}

#[derive(Serialize)]
struct Export<'a> {
    target: &'a str,
    lag_records: u64,
    samples_sent: u64,
    last_error: &'a str,
}

#[derive(Serialize)]
struct Syslog<'a> {
    target: &'a str,
    sent: u64,
    waiting: u64,
    last_error: &'a str,
}

#[derive(Serialize)]
struct AccessPoint<'a> {
    ap_id: &'a str,
    name: &'a str,
    level: &'a str,
    monitoring: &'a str,
    state: &'a str,
    state_since_wall_us: i64,
    ipv6: Option<Ipv6>,
    agents: Vec<Agent<'a>>,
    measurements: Vec<Measurement<'a>>,
}

#[derive(Serialize)]
struct Ipv6 {
    level: u32,
    possible: u32,
    level_since_wall_us: i64,
    /// `null` when nothing was tested.
    score: Option<f64>,
    sufficient: bool,
    wall_us: i64,
}

#[derive(Serialize)]
struct Agent<'a> {
    #[serde(rename = "agent_id")]
    id: &'a str,
    connected: bool,
    version: &'a str,
    privilege_tier: u32,
    last_result_wall_us: i64,
    assignment_version: u32,
    assignment_applied: bool,
    clock_offset_us: i64,
    ledger: Option<Ledger>,
}

#[derive(Serialize)]
struct Ledger {
    produced: u64,
    acknowledged: u64,
    waiting: u64,
    dropped: u64,
    damaged: u64,
}

#[derive(Serialize)]
struct Measurement<'a> {
    check: &'a str,
    instance: &'a str,
    family: &'a str,
    vantage: &'a str,
    outcome: &'a str,
    reason: &'a str,
    wall_us: i64,
    values: Vec<Value<'a>>,
}

#[derive(Serialize)]
struct Value<'a> {
    name: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct Alert<'a> {
    name: &'a str,
    ap_id: &'a str,
    severity: &'a str,
    state: &'a str,
    since_wall_us: i64,
    delivered: bool,
    text_zh: &'a str,
    text_en: &'a str,
}

impl<'a> From<&'a wire::StatusReply> for Status<'a> {
    fn from(reply: &'a wire::StatusReply) -> Self {
        let log = reply.log.as_ref().map(|log| Log {
            records: log.records,
            bytes: log.bytes,
            applied_lag_records: log.applied_lag_records,
        });
        let export = |export: &'a wire::ExportStatus| Export {
            target: &export.target,
            lag_records: export.lag_records,
            samples_sent: export.samples_sent,
            last_error: &export.last_error,
        };
        let syslog = |export: &'a wire::SyslogStatus| Syslog {
            target: &export.target,
            sent: export.sent,
            waiting: export.waiting,
            last_error: &export.last_error,
        };
        let alert = |alert: &'a wire::AlertStatus| Alert {
            name: &alert.name,
            ap_id: &alert.ap_id,
            severity: &alert.severity,
            state: &alert.state,
            since_wall_us: alert.since_wall_us,
            delivered: alert.delivered,
            text_zh: &alert.text_zh,
            text_en: &alert.text_en,
        };
        Self {
            collector_version: &reply.collector_version,
            collector_wall_us: reply.collector_wall_us,
            log,
            exports: reply.exports.iter().map(export).collect(),
            syslog: reply.syslog.iter().map(syslog).collect(),
            access_points: reply.access_points.iter().map(AccessPoint::from).collect(),
            alerts: reply.alerts.iter().map(alert).collect(),
            security_events: reply
                .security_events
                .iter()
                .map(security::Event::from)
                .collect(),
        }
    }
}

impl<'a> From<&'a wire::AccessPointStatus> for AccessPoint<'a> {
    fn from(ap: &'a wire::AccessPointStatus) -> Self {
        Self {
            ap_id: &ap.ap_id,
            name: &ap.name,
            level: &ap.level,
            monitoring: &ap.monitoring,
            state: &ap.state,
            state_since_wall_us: ap.state_since_wall_us,
            ipv6: ap.ipv6.as_ref().map(|ipv6| Ipv6 {
                level: ipv6.level,
                possible: ipv6.possible,
                level_since_wall_us: ipv6.level_since_wall_us,
                score: ipv6.score_hundredths.map(|score| f64::from(score) / 100.0),
                sufficient: ipv6.sufficient,
                wall_us: ipv6.wall_us,
            }),
            agents: ap.agents.iter().map(Agent::from).collect(),
            measurements: ap.measurements.iter().map(Measurement::from).collect(),
        }
    }
}

impl<'a> From<&'a wire::AgentStatus> for Agent<'a> {
    fn from(agent: &'a wire::AgentStatus) -> Self {
        let ledger = agent.ledger.as_ref().map(|ledger| Ledger {
            produced: ledger.produced,
            acknowledged: ledger.acknowledged,
            waiting: ledger.waiting,
            dropped: ledger.dropped.iter().map(|dropped| dropped.records).sum(),
            damaged: ledger.damaged,
        });
        Self {
            id: &agent.agent_id,
            connected: agent.connected,
            version: &agent.version,
            privilege_tier: agent.privilege_tier,
            last_result_wall_us: agent.last_result_wall_us,
            assignment_version: agent.assignment_version,
            assignment_applied: agent.assignment_applied,
            clock_offset_us: agent.clock_offset_us,
            ledger,
        }
    }
}

impl<'a> From<&'a wire::MeasurementStatus> for Measurement<'a> {
    fn from(measured: &'a wire::MeasurementStatus) -> Self {
        let value = |value: &'a wire::DisplayValue| Value {
            name: &value.name,
            value: &value.value,
        };
        Self {
            check: &measured.check,
            instance: &measured.instance,
            family: &measured.family,
            vantage: &measured.vantage,
            outcome: &measured.outcome,
            reason: &measured.reason,
            wall_us: measured.wall_us,
            values: measured.values.iter().map(value).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply() -> wire::StatusReply {
        let now = 1_800_000_000_000_000;
        let measurement = wire::MeasurementStatus {
            check: "gateway-icmp".to_owned(),
            instance: "192.0.2.1".to_owned(),
            family: "4".to_owned(),
            outcome: "failed".to_owned(),
            reason: "timeout".to_owned(),
            wall_us: now - 3_000_000,
            values: vec![wire::DisplayValue {
                name: "rtt avg".to_owned(),
                value: "0.061 ms".to_owned(),
            }],
            ..Default::default()
        };
        let agent = wire::AgentStatus {
            agent_id: "v1-00c0ffee".to_owned(),
            connected: true,
            clock_offset_us: -1_500,
            ..Default::default()
        };
        wire::StatusReply {
            collector_wall_us: now,
            access_points: vec![wire::AccessPointStatus {
                ap_id: "v1".to_owned(),
                name: "村".to_owned(),
                state: "up".to_owned(),
                state_since_wall_us: now - 60_000_000,
                agents: vec![agent],
                ipv6: Some(wire::Ipv6Status {
                    level: 2,
                    possible: 4,
                    level_since_wall_us: now - 60_000_000,
                    score_hundredths: Some(6_150),
                    ..Default::default()
                }),
                measurements: vec![measurement],
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn the_table_shows_values_and_ages() {
        let table = table(&reply());
        for part in [
            "v1 村 (, ): UP since 2027-01-15 07:59:00Z",
            "v1-00c0ffee: connected",
            "last result never",
            "IPv6: L2 since 2027-01-15 07:59:00Z, score 61.50 of 100, provisional: not enough was tested, L4 is not excluded",
            "clock -0.002 s",
            "failed (timeout)  3 s  rtt avg 0.061 ms",
            "no alerts",
        ] {
            assert!(table.contains(part), "{part:?} is not in:\n{table}");
        }
    }

    #[test]
    fn json_says_the_same() {
        let json: serde_json::Value = serde_json::from_str(&json(&reply())).unwrap();
        let ap = &json["access_points"][0];
        assert_eq!(ap["measurements"][0]["values"][0]["value"], "0.061 ms");
        assert_eq!(ap["agents"][0]["connected"], true);
    }
}
