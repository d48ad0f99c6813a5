//! Alertmanager's API v2: one post with the alerts that fire or have ended.

use std::time::Duration;

use reqwest::{Client, StatusCode};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Alert;

/// An answer must come within this time (guess: Alertmanager only stores in memory).
const ANSWER: Duration = Duration::from_secs(15);
/// A firing alert that is not repeated for this long is resolved by Alertmanager itself: longer than a restart or an
/// upgrade of the collector takes, so that an incident closes once.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(1);

/// Why a post failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostError {
    #[error("post to {url}")]
    Connection { url: String, source: reqwest::Error },
    #[error("{url} answered {status}: {text}")]
    Answer {
        url: String,
        status: StatusCode,
        text: String,
    },
}

impl PostError {
    /// Label of the counter.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Connection { source, .. } if source.is_timeout() => "timeout",
            Self::Connection { .. } => "connection",
            Self::Answer { status, .. } if status.is_client_error() => "refused",
            Self::Answer { .. } => "server_error",
        }
    }
}

/// Most evidence in an annotation, bytes: notifications go out by mail and chat; `security list` shows all of it.
const EVIDENCE_BYTES: usize = 2_048;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PostedAlert<'a> {
    labels: Labels<'a>,
    annotations: Annotations<'a>,
    starts_at: String,
    ends_at: String,
}

#[derive(Serialize)]
struct Labels<'a> {
    alertname: &'a str,
    ap_id: &'a str,
    level: &'a str,
    /// Alertmanager refuses empty values.
    #[serde(skip_serializing_if = "str::is_empty")]
    division: &'a str,
    severity: &'a str,
    /// SEC-01, of a security event.
    #[serde(skip_serializing_if = "str::is_empty")]
    rule: &'a str,
    /// What a security event is about.
    #[serde(skip_serializing_if = "str::is_empty")]
    object: &'a str,
}

#[derive(Serialize)]
struct Annotations<'a> {
    summary_zh: &'a str,
    summary_en: &'a str,
    /// One line for each piece: "name: value".
    #[serde(skip_serializing_if = "String::is_empty")]
    evidence: String,
    /// Number of the security event, for `security list` and `security close`.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "str::is_empty")]
    agent: &'a str,
    /// "yes" when it was reported afterwards (补报).
    #[serde(skip_serializing_if = "str::is_empty")]
    late: &'static str,
}

impl<'a> Annotations<'a> {
    fn of(alert: &'a Alert) -> Self {
        let security = alert.security.as_ref();
        Self {
            summary_zh: &alert.text.zh,
            summary_en: &alert.text.en,
            evidence: security.map_or_else(String::new, |event| evidence(&event.evidence)),
            event: security.map(|event| event.event_id.to_string()),
            agent: security.map_or("", |event| &event.agent),
            late: if security.is_some_and(|event| event.late) {
                "yes"
            } else {
                ""
            },
        }
    }
}

/// One line for each piece, at most [`EVIDENCE_BYTES`] together. Control characters would make lines of their own.
fn evidence(pairs: &[(String, String)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let line: String = format!("{name}: {value}")
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        if text.len() + line.len() + 1 > EVIDENCE_BYTES {
            text.push_str("\n…");
            break;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&line);
    }
    text
}

/// Posts alerts; a success means that Alertmanager has all of them.
pub(super) async fn post(
    client: &Client,
    url: &str,
    alerts: &[Alert],
    now_us: i64,
    resend: Duration,
) -> Result<(), PostError> {
    let lives = FORGOTTEN_AFTER.max(resend * 10);
    let lives_ms = i64::try_from(lives.as_millis()).unwrap_or(i64::MAX);
    let body: Vec<PostedAlert<'_>> = alerts
        .iter()
        .map(|alert| PostedAlert {
            labels: Labels {
                alertname: &alert.name,
                ap_id: &alert.ap_id,
                level: &alert.level,
                division: &alert.division,
                severity: &alert.severity,
                rule: alert.security.as_ref().map_or("", |event| event.rule),
                object: alert.security.as_ref().map_or("", |event| &event.object),
            },
            annotations: Annotations::of(alert),
            starts_at: rfc3339(alert.starts_ms),
            ends_at: rfc3339(alert.ends_ms.unwrap_or(now_us / 1_000 + lives_ms)),
        })
        .collect();
    let failed = |source| PostError::Connection {
        url: url.to_owned(),
        source,
    };
    let mut response = client
        .post(format!("{url}/api/v2/alerts"))
        .timeout(ANSWER)
        .json(&body)
        .send()
        .await
        .map_err(failed)?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let text = response.chunk().await.ok().flatten().unwrap_or_default();
    Err(PostError::Answer {
        url: url.to_owned(),
        status,
        text: String::from_utf8_lossy(&text)
            .trim()
            .chars()
            .take(200)
            .collect(),
    })
}

fn rfc3339(ms: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(&Rfc3339).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_bounded_and_one_line_each() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let text = evidence(&[pair("mac", "02:00\nforged: yes"), pair("on", "eth0")]);
        assert_eq!(text, "mac: 02:00\u{fffd}forged: yes\non: eth0");
        let long = evidence(&vec![pair("x", &"y".repeat(1_000)); 8]);
        assert!(
            long.len() <= EVIDENCE_BYTES + 8 && long.ends_with('…'),
            "{}",
            long.len()
        );
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(1_790_000_000_123), "2026-09-21T14:13:20.123Z");
    }
}
