//! Alerts: when they open and close ([`life`]), and how receivers hear of them.
//!
//! Constraints
//! 1. An alert opens and closes as part of applying the log; that is the outbox. What each receiver was told of it
//!    stands beside it, so that a crash or a receiver that is away loses nothing: it is told later.
//! 2. A receiver that is away delays no other: each has a task of its own.
//! 3. Alertmanager forgets what is not repeated: firing alerts are sent again every `resend`, resolved ones until they
//!    were taken once.
//! 4. The labels of an alert come from the inventory as it was when the alert opened; a site that is renamed during its
//!    outage would otherwise open a second alert and never close the first.

mod alertmanager;
pub(crate) mod life;

use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::shell::{Shutdown, Stage, error_chain, spawn_named};
use extranet_proto::record::SecurityRule;
use extranet_proto::wire;
use rusqlite::{Connection, Row, params};
use tokio::task::JoinHandle;

use crate::config::AlertmanagerConfig;
use crate::lookup;
use crate::self_stats::{Stats, count};
use crate::state::Cause;
use crate::store::catalogue::Doing;
use crate::store::readiness::{IPV6_LEVEL_FELL, levels_of};
use crate::store::{Store, StoreError, pairs_of};
use crate::texts::{Bilingual, Facts, Text};

/// Most alerts in one post: Alertmanager takes more, but one bad moment of the network must not build one huge body.
const POST_ALERTS: usize = 500;
/// First pause after a failed post.
const BACKOFF_MIN: Duration = Duration::from_millis(500);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How long a closed alert that a receiver never heard of is worth telling, µs: a day, so that a receiver configured
/// later does not get the history of the network.
const WORTH_TELLING_US: i64 = 86_400_000_000;

/// An alert as receivers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alert {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) ap_id: String,
    pub(crate) severity: String,
    pub(crate) level: String,
    pub(crate) division: String,
    pub(crate) starts_ms: i64,
    /// `None` while it fires.
    pub(crate) ends_ms: Option<i64>,
    pub(crate) text: Bilingual,
    /// Of a security event.
    pub(crate) security: Option<Security>,
}

/// What an alert about a security event says besides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Security {
    pub(crate) event_id: i64,
    /// SEC-01
    pub(crate) rule: &'static str,
    pub(crate) object: String,
    pub(crate) agent: String,
    /// Reported afterwards (补报).
    pub(crate) late: bool,
    pub(crate) evidence: Vec<(String, String)>,
}

/// Columns of [`Alert`], with the inventory as it was when the alert opened.
const COLUMNS: &str = "a.alert_id, a.name, a.ap_id, a.severity, a.cause, a.starts_ms, a.ends_ms, a.close_reason, \
     coalesce(p.name, a.ap_id), coalesce(p.level, ''), coalesce(p.division_code, ''), \
     coalesce((SELECT c.cause FROM ipv6_changes c WHERE a.name = 'Ipv6LevelFell' AND c.ap_id = a.ap_id \
     AND c.wall_ms >= a.starts_ms AND c.to_level < c.from_level ORDER BY c.wall_ms DESC LIMIT 1), ''), \
     a.object, a.event_id, coalesce(e.late, 0) AS late, coalesce(e.agent_id, '') AS agent_id, \
     coalesce(e.evidence, '[]') AS evidence FROM alerts a LEFT JOIN security_events e ON e.event_id = a.event_id \
     LEFT JOIN access_points p ON p.ap_id = a.ap_id AND p.valid_from_us <= a.opened_us \
     AND (p.valid_to_us IS NULL OR p.valid_to_us > a.opened_us)";

fn alert(row: &Row<'_>) -> Result<Alert, rusqlite::Error> {
    let starts_ms = row.get(5)?;
    let ends_ms: Option<i64> = row.get(6)?;
    let reason: Option<String> = row.get(7)?;
    let title: String = row.get(1)?;
    let event_id: Option<i64> = row.get(13)?;
    let late: bool = row.get(14)?;
    let security = match event_id {
        None => None,
        Some(event_id) => Some(Security {
            event_id,
            rule: SecurityRule::from_number(row.get(4)?)
                .unwrap_or(SecurityRule::Other)
                .label(),
            object: row.get(12)?,
            agent: row.get(15)?,
            late,
            evidence: pairs_of(&row.get::<_, String>(16)?),
        }),
    };
    let text = if security.is_some() {
        let rule = SecurityRule::from_number(row.get(4)?).unwrap_or(SecurityRule::Other);
        match reason.as_deref() {
            None => Text::Security { rule, late },
            Some("worse") => Text::SecurityWorse(rule),
            Some("not_monitored") => Text::SecurityNotMonitored(rule),
            Some("by_hand") => Text::SecurityByHand(rule),
            Some(_) => Text::SecurityOver { rule, late },
        }
    } else if title == IPV6_LEVEL_FELL {
        let (from, to) = levels_of(row.get(4)?);
        match reason.as_deref() {
            None => Text::Ipv6Fell(from, to),
            Some("not_monitored") => Text::Ipv6NotMonitored,
            Some(_) => Text::Ipv6Recovered(from),
        }
    } else {
        match reason.as_deref() {
            None => Text::Down(Cause::from_number(row.get(4)?)),
            Some("false_alarm") => Text::FalseAlarm,
            Some("not_monitored") => Text::NotMonitored,
            Some(_) => Text::Recovered,
        }
    };
    let check: String = match &security {
        Some(security) => security.object.clone(),
        None => row.get(11)?,
    };
    let name: String = row.get(8)?;
    let facts = Facts {
        name: &name,
        check: &check,
        since_ms: starts_ms,
        until_ms: ends_ms.unwrap_or(starts_ms),
    };
    Ok(Alert {
        id: row.get(0)?,
        name: title,
        ap_id: row.get(2)?,
        severity: row.get(3)?,
        level: row.get(9)?,
        division: row.get(10)?,
        starts_ms,
        ends_ms,
        text: text.fill(&facts),
        security,
    })
}

/// Open alerts, and closed ones that nobody was told of.
pub(crate) fn status(
    connection: &Connection,
    ap_id: &str,
) -> Result<Vec<wire::AlertStatus>, StoreError> {
    let sql = format!(
        "SELECT * FROM (SELECT {COLUMNS}) JOIN (SELECT alert_id AS id, closed_us, EXISTS (SELECT 1 FROM \
         alert_deliveries d WHERE d.alert_id = alerts.alert_id AND d.told >= 1 + (closed_us IS NOT NULL)) AS \
         delivered FROM alerts) ON id = alert_id \
         WHERE (closed_us IS NULL OR NOT delivered) AND (?1 = '' OR ap_id = ?1) ORDER BY alert_id"
    );
    let read = || -> Result<Vec<wire::AlertStatus>, rusqlite::Error> {
        connection
            .prepare_cached(&sql)?
            .query_map([ap_id], |row| {
                let alert = alert(row)?;
                Ok(wire::AlertStatus {
                    name: alert.name,
                    ap_id: alert.ap_id,
                    severity: alert.severity,
                    state: if alert.ends_ms.is_none() {
                        "firing"
                    } else {
                        "resolved"
                    }
                    .to_owned(),
                    since_wall_us: alert.starts_ms * 1_000,
                    delivered: row.get("delivered")?,
                    text_zh: alert.text.zh,
                    text_en: alert.text.en,
                })
            })?
            .collect()
    };
    read().doing("reading alerts")
}

/// What a receiver has to be told now: what it never heard, what it last heard too long ago, what has ended since.
pub(crate) fn due(
    connection: &Connection,
    receiver: &str,
    now_us: i64,
    resend_us: i64,
) -> Result<Vec<Alert>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} LEFT JOIN alert_deliveries d ON d.alert_id = a.alert_id AND d.receiver = ?1 \
         WHERE CASE WHEN a.closed_us IS NULL \
         THEN d.told IS NULL OR d.delivered_us <= ?2 - ?3 OR d.delivered_us > ?2 \
         ELSE d.told = 1 OR (d.told IS NULL AND a.closed_us > ?2 - ?4) END \
         ORDER BY a.alert_id LIMIT ?5"
    );
    let most = i64::try_from(POST_ALERTS).unwrap_or(i64::MAX);
    connection
        .prepare_cached(&sql)
        .and_then(|mut statement| {
            let arguments = params![receiver, now_us, resend_us, WORTH_TELLING_US, most];
            statement.query_map(arguments, alert)?.collect()
        })
        .doing("reading due alerts")
}

/// Remembers what a receiver has taken.
pub(crate) fn told(
    connection: &mut Connection,
    receiver: &str,
    now_us: i64,
    alerts: &[Alert],
) -> Result<(), StoreError> {
    let write = |connection: &mut Connection| -> Result<(), rusqlite::Error> {
        let transaction =
            connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for alert in alerts {
            let told = if alert.ends_ms.is_none() { 1 } else { 2 };
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO alert_deliveries (alert_id, receiver, told, delivered_us) \
                     VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![alert.id, receiver, told, now_us])?;
        }
        transaction.commit()
    };
    write(connection).doing("storing a delivery")
}

/// Starts one sender for each Alertmanager; they stop in [`Stage::Flush`] after one last attempt.
pub fn start(
    config: &AlertmanagerConfig,
    store: &Store,
    client: &reqwest::Client,
    clock: &Clock,
    stats: &Arc<Stats>,
    shutdown: &Shutdown,
) -> Vec<JoinHandle<()>> {
    config
        .urls
        .iter()
        .map(|url| {
            let teller = Teller {
                url: url.trim_end_matches('/').to_owned(),
                resend: config.resend,
                store: store.clone(),
                client: client.clone(),
                clock: clock.clone(),
                stats: Arc::clone(stats),
            };
            spawn_named("alert", teller.run(shutdown.clone()))
        })
        .collect()
}

/// Tells one receiver.
struct Teller {
    url: String,
    resend: Duration,
    store: Store,
    client: reqwest::Client,
    clock: Clock,
    stats: Arc<Stats>,
}

impl Teller {
    async fn run(self, shutdown: Shutdown) {
        let mut changes = self.store.alert_changes();
        let mut backoff = BACKOFF_MIN;
        loop {
            let stopping = shutdown.stage() >= Stage::Flush;
            changes.mark_unchanged();
            let round = tokio::select! {
                round = self.round() => round,
                () = shutdown.reached(Stage::Stop) => return,
            };
            let pause = match round {
                // There may be more than one post can hold.
                Ok(sent) if sent == POST_ALERTS => continue,
                Ok(_) => {
                    backoff = BACKOFF_MIN;
                    self.resend / 4
                }
                Err(error) => {
                    tracing::warn!(
                        url = self.url,
                        error,
                        "cannot tell a receiver, trying again"
                    );
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                    backoff
                }
            };
            if stopping {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // A failed post waits its pause out even if there is news: the receiver is away.
                news = changes.changed(), if backoff == BACKOFF_MIN => {
                    if news.is_err() {
                        return;
                    }
                }
                () = shutdown.reached(Stage::Flush) => {}
            }
        }
    }

    /// Tells what is due, at most one post; how many alerts that were.
    async fn round(&self) -> Result<usize, String> {
        let now_us = self.clock.read().wall_us;
        let resend_us = i64::try_from(self.resend.as_micros()).unwrap_or(i64::MAX);
        let receiver = self.url.clone();
        let due = lookup::read(&self.store, move |store| {
            store.alerts_due(&receiver, now_us, resend_us)
        })
        .await
        .map_err(|error| error_chain(&error))?;
        self.stats
            .alert_waiting
            .set(i64::try_from(due.len()).unwrap_or(i64::MAX));
        if due.is_empty() {
            return Ok(0);
        }
        let posted = alertmanager::post(&self.client, &self.url, &due, now_us, self.resend).await;
        match posted {
            Ok(()) => count(&self.stats.alert_posts, "ok"),
            Err(error) => {
                count(&self.stats.alert_posts, error.reason());
                return Err(error_chain(&error));
            }
        }
        let sent = due.len();
        let receiver = self.url.clone();
        lookup::read(&self.store, move |store| {
            store.alerts_told(&receiver, now_us, &due)
        })
        .await
        .map_err(|error| error_chain(&error))?;
        self.stats.alert_waiting.set(0);
        Ok(sent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue() -> (tempfile::TempDir, crate::store::catalogue::Pool) {
        let folder = tempfile::tempdir().unwrap();
        let pool = crate::store::catalogue::Pool::open(&folder.path().join("c.sqlite")).unwrap();
        pool.get()
            .unwrap()
            .execute_batch(
                "INSERT INTO access_points (ap_id, valid_from_us, valid_to_us, name, level, parent, medium, monitoring,
                 division_code) VALUES ('a', 0, 50, '甲', 'county', 'centre', 'fibre', 'agent', '540121'),
                 ('a', 50, NULL, '乙', 'village', 'centre', 'fibre', 'agent', '');
                 INSERT INTO alerts (name, ap_id, severity, cause, starts_ms, opened_us)
                 VALUES ('AccessPointDown', 'a', 'critical', 1, 1790000000000, 40);",
            )
            .unwrap();
        (folder, pool)
    }

    #[test]
    fn an_alert_is_due_until_it_was_told_and_again_after_the_resend_time() {
        let (_folder, pool) = catalogue();
        let mut connection = pool.get().unwrap();
        let count = |connection: &Connection, receiver: &str, now: i64| {
            due(connection, receiver, now, 100).unwrap().len()
        };
        let alerts = due(&connection, "one", 1_000, 100).unwrap();
        assert_eq!(
            (alerts[0].level.as_str(), alerts[0].division.as_str()),
            ("county", "540121")
        );
        assert!(
            alerts[0].text.zh.starts_with("甲 中断：上联链路不通"),
            "{}",
            alerts[0].text.zh
        );
        told(&mut connection, "one", 1_000, &alerts).unwrap();
        assert_eq!(count(&connection, "one", 1_050), 0);
        assert_eq!(
            count(&connection, "two", 1_050),
            1,
            "each receiver for itself"
        );
        assert_eq!(count(&connection, "one", 1_100), 1, "resent");
        assert_eq!(
            count(&connection, "one", 900),
            1,
            "a clock that was set back delays nothing"
        );

        connection
            .execute("UPDATE alerts SET closed_us = 1200, ends_ms = 1790000600000, close_reason = 'recovered'", [])
            .unwrap();
        let alerts = due(&connection, "one", 1_201, 100).unwrap();
        assert!(
            alerts[0].text.zh.contains("已恢复"),
            "{}",
            alerts[0].text.zh
        );
        assert_eq!(alerts[0].level, "county", "the labels it opened with");
        told(&mut connection, "one", 1_201, &alerts).unwrap();
        assert_eq!(count(&connection, "one", 9_999), 0, "resolved once");
        assert_eq!(count(&connection, "two", 9_999), 1);
        assert_eq!(count(&connection, "two", 9_999 + WORTH_TELLING_US), 0);
    }

    #[test]
    fn status_shows_what_is_open_or_untold() {
        let (_folder, pool) = catalogue();
        let mut connection = pool.get().unwrap();
        let open = status(&connection, "").unwrap();
        assert_eq!(
            (open[0].state.as_str(), open[0].delivered),
            ("firing", false)
        );
        assert!(
            open[0].text_en.contains("甲 is down"),
            "{}",
            open[0].text_en
        );
        let alerts = due(&connection, "one", 1_000, 100).unwrap();
        told(&mut connection, "one", 1_000, &alerts).unwrap();
        assert!(status(&connection, "a").unwrap()[0].delivered);
        assert_eq!(status(&connection, "b").unwrap(), []);
        connection
            .execute("UPDATE alerts SET closed_us = 1200, ends_ms = 1790000600000, close_reason = 'recovered'", [])
            .unwrap();
        let untold = status(&connection, "").unwrap();
        assert_eq!(
            (untold[0].state.as_str(), untold[0].delivered),
            ("resolved", false)
        );
        let alerts = due(&connection, "one", 1_300, 100).unwrap();
        told(&mut connection, "one", 1_300, &alerts).unwrap();
        assert_eq!(status(&connection, "").unwrap(), []);
    }
}
