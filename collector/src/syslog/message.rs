//! One entry as one message of RFC 5424.
//!
//! ```text
//! <PRI>1 TIME HOST APP PID SEC-09 [extranet@32473 seq="7" event="3" action="raised" ...][evidence@32473 ...] BOM text
//! ```
//!
//! 32473 is the enterprise number that RFC 5612 sets aside for examples: the project has none of its own. Evidence was
//! written by whoever attacks: names are reduced to what RFC 5424 section 6.3.3 allows, values are escaped as it says,
//! and control characters, with which a receiver could be made to see two lines, are replaced.

use std::fmt::Write as _;

use extranet_proto::record::Severity;
use time::OffsetDateTime;
use time::macros::format_description;

use crate::config::SyslogConfig;
use crate::security::{known_severity, names};
use crate::store::LogEntry;
use crate::texts::{Facts, Text};

/// Longest SD-NAME, bytes (RFC 5424 section 6).
const NAME_BYTES: usize = 32;
/// Longest text behind the structured data, bytes: both languages with the longest names fit.
const TEXT_BYTES: usize = 900;

/// Who sends.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    facility: u8,
    hostname: String,
    app_name: String,
    process_id: u32,
}

impl Origin {
    /// This process, as the configuration calls it.
    pub(super) fn here(config: &SyslogConfig) -> Self {
        let hostname = config.hostname.clone().or_else(|| {
            // The kernel's own name; a machine without one says so.
            std::fs::read_to_string("/proc/sys/kernel/hostname").ok()
        });
        Self {
            facility: config.facility,
            hostname: header(hostname.as_deref().unwrap_or_default().trim(), 255),
            app_name: header(&config.app_name, 48),
            process_id: std::process::id(),
        }
    }
}

/// The message, at most so many bytes long: evidence that does not fit is left out and counted.
pub(super) fn encode(origin: &Origin, entry: &LogEntry, most: usize) -> Vec<u8> {
    let over = entry.action == "over";
    let priority = u16::from(origin.facility) * 8 + u16::from(syslog_severity(entry, over));
    let mut out = format!(
        "<{priority}>1 {} {} {} {} {} ",
        timestamp(entry.at_ms),
        origin.hostname,
        origin.app_name,
        origin.process_id,
        entry.rule.label()
    );
    out.push_str("[extranet@32473");
    for (name, value) in [
        ("seq", entry.id.to_string()),
        ("event", entry.event_id.to_string()),
        ("action", entry.action.to_owned()),
        ("rule", entry.rule.label().to_owned()),
        ("name", names(entry.rule).0.to_owned()),
        ("severity", entry.severity.label().to_owned()),
        ("ap_id", entry.ap_id.clone()),
        ("ap_name", entry.ap_name.clone()),
        ("object", entry.object.clone()),
        ("agent", entry.agent.clone()),
        ("since", timestamp(entry.starts_ms)),
        ("late", if entry.late { "yes" } else { "no" }.to_owned()),
        ("reason", entry.reason.clone()),
    ] {
        if !value.is_empty() {
            out.push_str(&parameter(name, &value));
        }
    }
    out.push(']');
    let text = text(entry, over);
    evidence(&mut out, entry, most.saturating_sub(text.len()));
    for character in text.chars() {
        // The longest names, every character of them escaped, leave less room than the text wants.
        if out.len() + character.len_utf8() > most {
            break;
        }
        out.push(character);
    }
    out.into_bytes()
}

/// Adds as many pieces of evidence as there is room for, and how many there was no room for.
fn evidence(out: &mut String, entry: &LogEntry, most: usize) {
    if entry.evidence.is_empty() {
        return;
    }
    out.push_str("[evidence@32473");
    // Room for the last parameter and the bracket.
    let most = most.saturating_sub(r#" left_out="32"]"#.len());
    let mut left_out = 0;
    for (name, value) in &entry.evidence {
        let piece = parameter(name, value);
        if out.len() + piece.len() > most {
            left_out += 1;
        } else {
            out.push_str(&piece);
        }
    }
    if left_out > 0 {
        write!(out, r#" left_out="{left_out}""#).expect("writing into a string cannot fail");
    }
    out.push(']');
}

fn parameter(name: &str, value: &str) -> String {
    let mut out = String::with_capacity(name.len() + value.len() + 4);
    out.push(' ');
    out.push_str(&sd_name(name));
    out.push_str("=\"");
    for character in value.chars() {
        if matches!(character, '"' | '\\' | ']') {
            out.push('\\');
        }
        out.push(plain(character));
    }
    out.push('"');
    out
}

/// SD-NAME: printable ASCII but `=`, space, `]` and `"`.
fn sd_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_graphic() && !matches!(c, '=' | ']' | '"');
    let reduced: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .take(NAME_BYTES)
        .collect();
    if reduced.is_empty() {
        "_".to_owned()
    } else {
        reduced
    }
}

/// HOSTNAME and APP-NAME: printable ASCII; a dash when there is nothing.
fn header(text: &str, most: usize) -> String {
    let reduced: String = text
        .chars()
        .filter(char::is_ascii_graphic)
        .take(most)
        .collect();
    if reduced.is_empty() {
        "-".to_owned()
    } else {
        reduced
    }
}

fn plain(character: char) -> char {
    // Unicode's line ends too: a viewer may break lines at them.
    if character.is_control() || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}') {
        '\u{fffd}'
    } else {
        character
    }
}

/// RFC 5424 section 6.2.1: 2 critical, 3 error, 4 warning, 5 notice, 6 informational.
fn syslog_severity(entry: &LogEntry, over: bool) -> u8 {
    match known_severity(entry.severity) {
        _ if over => 5,
        Severity::Critical => 2,
        Severity::Major | Severity::Other => 3,
        Severity::Minor => 4,
        Severity::Info => 6,
    }
}

/// RFC 3339 with milliseconds, UTC.
fn timestamp(ms: i64) -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&format).ok())
        .unwrap_or_else(|| "-".to_owned())
}

/// Space, byte order mark and text.
fn text(entry: &LogEntry, over: bool) -> String {
    let (rule, late) = (entry.rule, entry.late);
    let text = match entry.reason.as_str() {
        "not_monitored" => Text::SecurityNotMonitored(rule),
        "by_hand" => Text::SecurityByHand(rule),
        _ if over => Text::SecurityOver { rule, late },
        _ => Text::Security { rule, late },
    };
    let filled = text.fill(&Facts {
        name: &entry.ap_name,
        check: &entry.object,
        since_ms: entry.starts_ms,
        until_ms: entry.at_ms,
    });
    let mut out = " \u{feff}".to_owned();
    for character in format!("{} / {}", filled.zh, filled.en).chars().map(plain) {
        if out.len() + character.len_utf8() > TEXT_BYTES {
            break;
        }
        out.push(character);
    }
    out
}

#[cfg(test)]
mod tests {
    use extranet_proto::limits;
    use extranet_proto::record::SecurityRule;

    use super::*;

    fn origin() -> Origin {
        Origin {
            facility: 20,
            hostname: "centre-1".to_owned(),
            app_name: "extranet-collector".to_owned(),
            process_id: 42,
        }
    }

    fn entry(evidence: &[(&str, &str)]) -> LogEntry {
        LogEntry {
            id: 7,
            event_id: 3,
            at_ms: 1_790_000_000_123,
            action: "raised",
            ap_id: "v1".to_owned(),
            ap_name: "阿朗乡".to_owned(),
            rule: SecurityRule::GatewayMac,
            object: "gateway 10.0.0.1".to_owned(),
            severity: Severity::Critical,
            starts_ms: 1_790_000_000_000,
            late: false,
            agent: "v1-00c0ffee".to_owned(),
            reason: String::new(),
            evidence: evidence
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        }
    }

    fn encoded(entry: &LogEntry, most: usize) -> String {
        let bytes = encode(&origin(), entry, most);
        assert!(bytes.len() <= most, "{}", bytes.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_message_has_every_field_of_rfc_5424() {
        let text = encoded(&entry(&[("mac", "02:00:00:00:00:01")]), 8_000);
        let expected = "<162>1 2026-09-21T14:13:20.123Z centre-1 extranet-collector 42 SEC-04 \
             [extranet@32473 seq=\"7\" event=\"3\" action=\"raised\" rule=\"SEC-04\" name=\"GatewayMacChanged\" \
             severity=\"critical\" ap_id=\"v1\" ap_name=\"阿朗乡\" object=\"gateway 10.0.0.1\" agent=\"v1-00c0ffee\" \
             since=\"2026-09-21T14:13:20.000Z\" late=\"no\"][evidence@32473 mac=\"02:00:00:00:00:01\"] \
             \u{feff}阿朗乡 网关MAC地址变化：gateway 10.0.0.1，自 09-21 22:13 起 / 阿朗乡: the gateway answers with \
             another MAC address: gateway 10.0.0.1, since 09-21 22:13";
        assert_eq!(text, expected);
        let mut over = entry(&[]);
        over.action = "over";
        assert!(encoded(&over, 8_000).starts_with("<165>1 "), "notice");
    }

    #[test]
    fn evidence_cannot_leave_its_place() {
        let bad = "\"][forged@1 a=\"b\"] \u{feff}<0>1 \\ \n<1>1 - - - - - \u{85}\u{2028}\0";
        let mut entry = entry(&[("a b=\"]", bad), ("", "x"), ("键", "值")]);
        entry.object = bad.to_owned();
        let text = encoded(&entry, 8_000);
        assert!(
            !text.contains('\n') && !text.contains(char::is_control),
            "{text}"
        );
        assert!(
            text.contains(r#" a_b___="\"\][forged@1 a=\"b\"\] "#),
            "{text}"
        );
        assert!(text.contains(r#" _="x" _="值"]"#), "{text}");
        // What stands in front of the evidence ends where it should: one unescaped end for each element.
        let ends = text
            .match_indices(']')
            .filter(|(at, _)| at.checked_sub(1).map(|at| text.as_bytes()[at]) != Some(b'\\'));
        let of_data = text.find(" \u{feff}").unwrap();
        assert_eq!(ends.filter(|(at, _)| *at < of_data).count(), 2);
    }

    #[test]
    fn a_message_is_bounded_and_says_what_it_left_out() {
        let long = "]".repeat(1_000);
        let pairs: Vec<(String, &str)> = (0..8).map(|i| (format!("p{i}"), long.as_str())).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let mut entry = entry(&pairs);
        let text = encoded(&entry, 8_000);
        assert!(text.contains(r#"" left_out="5"] "#), "{text}");
        assert!(text.ends_with("since 09-21 22:13"), "{text}");
        // The worst that the limits allow fits too.
        entry.object = "]".repeat(limits::TEXT_BYTES);
        entry.ap_name = "\u{1}".repeat(limits::TEXT_BYTES);
        entry.ap_id = "a".repeat(64);
        let text = encoded(&entry, 2_048);
        assert!(text.contains(r#" left_out="8"]"#), "{text}");
    }

    /// SD-ID and parameters.
    type Element = (String, Vec<(String, String)>);

    /// Structured data by the grammar of RFC 5424 section 6, and what stands behind it.
    fn parsed(message: &str) -> Option<(Vec<Element>, String)> {
        let mut rest = message.splitn(7, ' ').nth(6)?.chars().peekable();
        let mut elements = Vec::new();
        while rest.next_if_eq(&'[').is_some() {
            let mut word = |end: &[char]| {
                let mut word = String::new();
                while let Some(c) = rest.next_if(|c| !end.contains(c)) {
                    let allowed = c.is_ascii_graphic() && !matches!(c, '"' | '=' | ']');
                    word.push(Some(c).filter(|_| allowed)?);
                }
                Some(word).filter(|word| (1..=32).contains(&word.len()))
            };
            let id = word(&[' ', ']'])?;
            let mut parameters = Vec::new();
            while rest.next_if_eq(&' ').is_some() {
                let mut name = String::new();
                while let Some(c) = rest.next_if(|c| *c != '=') {
                    name.push(c);
                }
                (rest.next()? == '=' && rest.next()? == '"').then_some(())?;
                let mut value = String::new();
                loop {
                    match rest.next()? {
                        '"' => break,
                        '\\' => value.push(rest.next().filter(|c| matches!(c, '"' | '\\' | ']'))?),
                        ']' => return None,
                        c => value.push(c),
                    }
                }
                parameters.push((name, value));
            }
            (rest.next()? == ']').then_some(())?;
            elements.push((id, parameters));
        }
        Some((elements, rest.collect()))
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_written_into_evidence_comes_out_as_evidence(
            object in proptest::collection::vec(proptest::prelude::any::<char>(), 0..60),
            pairs in proptest::collection::vec(("[ -~]{0,40}", proptest::collection::vec(
                proptest::prelude::prop_oneof![
                    proptest::prelude::any::<char>(),
                    proptest::sample::select(vec!['"', '\\', ']', '[', '\n', ' ', '=']),
                ], 0..120)), 0..8),
        ) {
            let pairs: Vec<(String, String)> =
                pairs.into_iter().map(|(name, value)| (name, value.into_iter().collect())).collect();
            let mut entry = entry(&[]);
            entry.object = object.into_iter().collect();
            entry.evidence.clone_from(&pairs);
            let message = encoded(&entry, 8_000);
            assert!(!message.contains(char::is_control), "{message:?}");
            let (elements, text) = parsed(&message).expect("by the grammar");
            let ids: Vec<&str> = elements.iter().map(|(id, _)| id.as_str()).collect();
            let expected = if pairs.is_empty() { vec!["extranet@32473"] } else { vec!["extranet@32473", "evidence@32473"] };
            assert_eq!(ids, expected);
            assert!(text.starts_with(" \u{feff}"));
            let clean = |text: &str| text.chars().map(plain).collect::<String>();
            if let Some((_, evidence)) = elements.get(1) {
                for ((name, value), (sent_name, sent)) in pairs.iter().zip(evidence) {
                    assert_eq!((&sd_name(name), &clean(value)), (sent_name, sent));
                }
            }
            let sent = elements[0].1.iter().find(|(name, _)| name == "object");
            assert_eq!(sent.map(|(_, object)| object.clone()).unwrap_or_default(), clean(&entry.object));
        }
    }
}
