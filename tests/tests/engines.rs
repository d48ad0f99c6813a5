//! The collector's senders against the real engines: every value under its name and time and none twice, every alert
//! told once when it opens and once when it closes, whatever is away or restarts.

#[path = "engines/log.rs"]
mod log;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use extranet_agent::clock::Clock;
use extranet_agent::shell::{ShutdownTrigger, Stage, shutdown};
use extranet_collector::alert;
use extranet_collector::config::{AlertmanagerConfig, RemoteWriteConfig};
use extranet_collector::export::{Exporter, Parts};
use extranet_collector::self_stats::Stats;
use extranet_journal::Cursor;
use extranet_proto::metric::{ICMP_RECEIVED, ICMP_RTT_AVG, ICMP_SENT, IF_HC_IN_OCTETS};
use extranet_proto::record::{Outcome, Reason};
use extranet_proto::wire;
use extranet_proto::wire::log_record::Input;
use extranet_tests::clock::{wait_until, wall_ms};
use extranet_tests::engine::victoria::Series;
use extranet_tests::engine::{Alertmanager, Prometheus, Victoria};
use extranet_tests::place::Place;
use extranet_tests::proxy::{Fault, Proxy};
use extranet_tests::webhook::Webhook;

use tokio::runtime::Runtime;

use crate::log::{Log, definition, result};

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    exporter: Exporter,
    trigger: ShutdownTrigger,
    stats: Arc<Stats>,
}

impl Running {
    fn start(log: &Log, url: &str, cursor_lag: Duration) -> Self {
        let config = RemoteWriteConfig {
            name: "engine".to_owned(),
            url: url.to_owned(),
            cursor_lag,
            flush: Duration::from_millis(100),
        };
        let (trigger, stages) = shutdown();
        let stats = Arc::new(Stats::new());
        let cursor = log.store.export_cursor("engine").expect("a catalogue");
        let reader = log
            .journal
            .reader(cursor.map_or_else(Cursor::oldest, Cursor::after));
        let parts = Parts {
            store: &log.store,
            client: &reqwest::Client::new(),
            clock: &Clock::system(),
            stats: &stats,
            shutdown: &stages,
        };
        let exporter = Exporter::start(config, reader, &parts);
        Self {
            exporter: exporter.expect("a thread"),
            trigger,
            stats,
        }
    }

    fn stop(self) {
        self.trigger.advance(Stage::Flush);
        self.exporter.join();
    }
}

/// A site whose results of five minutes are in the log, an interface counter before its definition among them.
fn filled(folder: &std::path::Path) -> (Log, i64) {
    let mut log = Log::open(folder);
    let begin = wall_ms() - 300_000;
    log.site(begin);
    let ping = log.check("site", "anchor-icmp");
    let snmp = log.check("site", "router-snmp");
    for (minute, at) in (0..5_u64).zip((begin..).step_by(60_000)) {
        let ok = result(
            ping,
            Outcome::Ok,
            Reason::None,
            &[
                (ICMP_SENT, 0, 5),
                (ICMP_RECEIVED, 0, 5),
                (ICMP_RTT_AVG, 0, 1_000 + minute),
            ],
        );
        let octets = result(
            snmp,
            Outcome::Ok,
            Reason::None,
            &[(IF_HC_IN_OCTETS, 7, 1_000 * minute)],
        );
        log.batch("site", &[(at, ok), (at, octets)]);
    }
    let lost = result(
        ping,
        Outcome::Failed,
        Reason::Timeout,
        &[(ICMP_SENT, 0, 5), (ICMP_RECEIVED, 0, 0)],
    );
    log.batch("site", &[(begin + 290_000, lost)]);
    // The live results above overtook the backlog with the definition they need.
    let named = definition(snmp, 7, &[("ifName", "ge-0/0/1"), ("ap_id", "forged")]);
    log.batch("site", &[(begin, named)]);
    log.push(begin + 300_000, Input::Tick(wire::Tick {}));
    (log, begin)
}

fn one<'a>(found: &'a [Series], name: &str) -> Result<&'a Series, String> {
    let mut named = found
        .iter()
        .filter(|series| series.label("__name__") == name);
    match (named.next(), named.next()) {
        (Some(series), None) => Ok(series),
        _ => Err(format!("not exactly one {name} in {found:?}")),
    }
}

#[test]
fn victoria_metrics_holds_every_value_at_its_time_and_none_twice() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let (log, begin) = filled(folder.path());
    let mut victoria = Victoria::start(&Place::Host, folder.path());
    let minutes = |value: fn(f64) -> f64| -> Vec<(i64, f64)> {
        (0..5_i32)
            .map(|m| (begin + i64::from(m) * 60_000, value(f64::from(m))))
            .collect()
    };
    let look = |victoria: &Victoria| {
        let found = victoria.export("{ap_id=\"site\"}")?;
        let rtt = one(&found, "probe_icmp_duration_seconds")?;
        if rtt.samples != minutes(|m| (1_000.0 + m) / 1e6) {
            return Err(format!("{rtt:?}"));
        }
        for (label, expected) in [
            ("phase", "rtt"),
            ("instance", "192.0.2.1"),
            ("check", "anchor-icmp"),
            ("family", "4"),
            ("vantage", ""),
        ] {
            if rtt.label(label) != expected {
                return Err(format!("{label}: {rtt:?}"));
            }
        }
        let octets = one(&found, "ifHCInOctets")?;
        if octets.samples != minutes(|m| 1_000.0 * m)
            || octets.label("ifName") != "ge-0/0/1"
            || octets.label("ap_id") != "site"
        {
            return Err(format!("{octets:?}"));
        }
        let failed = one(&found, "extranet_probe_failed")?;
        if failed.label("reason") != "timeout" {
            return Err(format!("{failed:?}"));
        }
        let success: Vec<&Series> = found
            .iter()
            .filter(|series| series.label("__name__") == "probe_success")
            .collect();
        let samples: usize = success.iter().map(|series| series.samples.len()).sum();
        if samples != 11 {
            return Err(format!("{samples} of 11 successes: {success:?}"));
        }
        let state = one(&found, "extranet_ap_state")?;
        let info = one(&found, "extranet_ap_info")?;
        if state.samples.len() != 1 || info.label("name") != "阿朗乡" {
            return Err(format!("{state:?} {info:?}"));
        }
        Ok(())
    };

    let running = Running::start(&log, &victoria.write_url(), Duration::from_hours(1));
    wait_until("all values", PATIENCE, || look(&victoria));
    assert!(running.exporter.status().samples_sent > 20);
    running.stop();
    assert_eq!(
        log.store.export_cursor("engine").unwrap(),
        None,
        "nothing is old enough to be safe"
    );

    // An engine that loses what it acknowledged gets it again, one that did not lose it counts nothing twice.
    victoria.restart();
    let running = Running::start(&log, &victoria.write_url(), Duration::ZERO);
    wait_until("everything acknowledged", PATIENCE, || {
        match log.store.export_cursor("engine") {
            Ok(Some(position)) if Some(position) == log.store.applied() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    look(&victoria).unwrap();
    running.stop();
    log.close();
}

#[test]
fn an_engine_that_is_away_gets_everything_when_it_comes() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let (log, begin) = filled(folder.path());
    let mut victoria = Victoria::start(&Place::Host, folder.path());
    victoria.kill();
    let running = Running::start(&log, &victoria.write_url(), Duration::ZERO);
    wait_until("a failed attempt", PATIENCE, || {
        let page = running.stats.page();
        if page.contains("extranet_collector_export_retries_total{target=\"engine\"}") {
            Ok(())
        } else {
            Err(page)
        }
    });
    assert_eq!(log.store.export_cursor("engine").unwrap(), None);
    // What the sender holds is behind too, however much of it was read.
    let behind = running.exporter.status().lag_records;
    assert!(behind >= 5, "{behind} records behind");
    victoria.restart();
    wait_until("all values", PATIENCE, || {
        let found = victoria.export("{__name__=\"probe_icmp_duration_seconds\"}")?;
        match found.first() {
            Some(series) if series.samples.len() == 5 && series.samples[0].0 == begin => Ok(()),
            _ => Err(format!("{found:?}")),
        }
    });
    running.stop();
    log.close();
}

#[test]
fn prometheus_takes_the_same() {
    let runtime = Runtime::new().unwrap();
    let _entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let (log, _) = filled(folder.path());
    let prometheus = Prometheus::start(&Place::Host, folder.path());
    let look = || {
        let rows = prometheus.query("count_over_time(probe_icmp_duration_seconds[1h])")?;
        match rows.as_slice() {
            [row] if row["value"][1] == "5" && row["metric"]["phase"] == "rtt" => Ok(()),
            _ => Err(format!("{rows:?}")),
        }
    };
    for lag in [Duration::from_hours(1), Duration::ZERO] {
        let running = Running::start(&log, &prometheus.write_url(), lag);
        wait_until("everything acknowledged", PATIENCE, || {
            let status = running.exporter.status();
            match (status.lag_records, status.samples_sent, look()) {
                (0, 20.., Ok(())) => Ok(()),
                other => Err(format!("{other:?} {}", status.last_error)),
            }
        });
        let page = running.stats.page();
        assert!(!page.contains("export_dropped_total{"), "{page}");
        running.stop();
    }
    log.close();
}

/// Senders to two Alertmanagers, until they are stopped.
fn tell(log: &Log, urls: &[String]) -> (ShutdownTrigger, Vec<tokio::task::JoinHandle<()>>) {
    let config = AlertmanagerConfig {
        urls: urls.to_vec(),
        resend: Duration::from_secs(1),
    };
    let (trigger, stages) = shutdown();
    let client = reqwest::Client::new();
    let stats = Arc::new(Stats::new());
    let tasks = alert::start(
        &config,
        &log.store,
        &client,
        &Clock::system(),
        &stats,
        &stages,
    );
    (trigger, tasks)
}

fn stop(runtime: &Runtime, (trigger, tasks): (ShutdownTrigger, Vec<tokio::task::JoinHandle<()>>)) {
    trigger.advance(Stage::Flush);
    for task in tasks {
        runtime
            .block_on(task)
            .expect("a sender that does not panic");
    }
}

/// So many minutes of pings behind `minute`; the last one.
fn pings(log: &mut Log, check: u32, mut minute: i64, minutes: i64, answered: u64) -> i64 {
    let outcome = if answered > 0 {
        Outcome::Ok
    } else {
        Outcome::Failed
    };
    for _ in 0..minutes {
        minute += 60_000;
        let values = [(ICMP_SENT, 0, 5), (ICMP_RECEIVED, 0, answered)];
        let body = result(check, outcome, Reason::None, &values);
        log.batch("site", &[(minute, body)]);
    }
    minute
}

#[test]
fn an_incident_is_told_once_when_it_opens_and_once_when_it_closes() {
    let runtime = Runtime::new().unwrap();
    let entered = runtime.enter();
    let folder = tempfile::tempdir().unwrap();
    let folders = [folder.path().join("one"), folder.path().join("two")];
    for folder in &folders {
        std::fs::create_dir(folder).unwrap();
    }
    let webhooks = [Webhook::start(&Place::Host), Webhook::start(&Place::Host)];
    let mut alertmanagers =
        [0, 1].map(|i| Alertmanager::start(&Place::Host, &folders[i], &webhooks[i].url()));
    // Alertmanager writes down what it notified only now and then, so the first one is cut off rather than killed.
    let port = alertmanagers[0]
        .url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], port)));
    let urls = [
        format!("http://{}", proxy.address()),
        alertmanagers[1].url(),
    ];
    let heard = |webhook: usize, statuses: &[&str]| {
        wait_until("notifications", PATIENCE, || {
            let received = webhooks[webhook].received();
            let seen: Vec<String> = received
                .iter()
                .map(|n| n["status"].as_str().unwrap().to_owned())
                .collect();
            if seen == statuses {
                Ok(())
            } else {
                Err(format!("{received:?}"))
            }
        });
    };

    // The second Alertmanager is away when the site goes down.
    alertmanagers[1].kill();
    let mut log = Log::open(folder.path());
    let begin = wall_ms() - 3_600_000;
    log.site(begin);
    let ping = log.check("site", "anchor-icmp");
    let mut minute = begin;
    minute = pings(&mut log, ping, minute, 3, 5);
    minute = pings(&mut log, ping, minute, 10, 0);
    let telling = tell(&log, &urls);
    heard(0, &["firing"]);
    let active = alertmanagers[0].active().unwrap();
    let labels = &active[0]["labels"];
    for (label, expected) in [
        ("alertname", "AccessPointDown"),
        ("ap_id", "site"),
        ("level", "township"),
        ("division", "540121201"),
        ("severity", "warning"),
    ] {
        assert_eq!(labels[label], expected, "{active:?}");
    }
    let zh = active[0]["annotations"]["summary_zh"].as_str().unwrap();
    assert!(zh.starts_with("阿朗乡 中断"), "{zh}");

    // The collector restarts; the second Alertmanager comes: it hears of the incident, the first one not again.
    stop(&runtime, telling);
    log.close();
    let mut log = Log::open(folder.path());
    let telling = tell(&log, &urls);
    alertmanagers[1].restart();
    heard(1, &["firing"]);
    heard(0, &["firing"]);

    // The site comes back while the first one is away.
    proxy.set(Fault::Cut);
    pings(&mut log, ping, minute, 5, 5);
    heard(1, &["firing", "resolved"]);
    proxy.set(Fault::Pass);
    heard(0, &["firing", "resolved"]);
    wait_until("a delivered alert to leave the status", PATIENCE, || {
        let alerts = log
            .store
            .status(&wire::StatusRequest::default())
            .unwrap()
            .alerts;
        if alerts.is_empty() {
            Ok(())
        } else {
            Err(format!("{alerts:?}"))
        }
    });
    stop(&runtime, telling);
    log.close();
    drop(entered);
}
