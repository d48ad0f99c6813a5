//! The cable of a site is pulled and put back: centre -- parent -- site, each in a network namespace of its own.
//!
//! Both vantages lose the site, the alert comes in the real Alertmanager and goes again, nobody else is paged, and the
//! results that the site measured during the outage are in VictoriaMetrics at their own timestamps.

use std::net::SocketAddr;
use std::time::Duration;

use extranet_tests::clock::{wait_until, wall_ms};
use extranet_tests::namespace::{End, Namespace, connect};
use extranet_tests::sandbox::{Sandbox, Settings};
use extranet_tests::webhook::Webhook;

/// Seven probes a slot: fewer than five give no verdict.
const PLAN: &str = r#"
[[plan]]
name = "everywhere"
flush_interval = "500ms"
[[plan.check]]
name = "anchor-icmp"
probe = "icmp"
target = "anchor"
packets = 3
packet_interval = "20ms"
interval = "400ms"
timeout = "300ms"

[[inbound]]
name = "from outside"
from = ["centre", "parent"]
[[inbound.check]]
name = "inbound-icmp"
probe = "icmp"
packets = 3
packet_interval = "20ms"
interval = "400ms"
timeout = "300ms"
"#;

const ACCESS_POINTS: &str = "ap_id,name,level,parent,medium,monitoring,division_code\n\
    county,County 县,county,centre,fibre,agent,540121\n\
    village,Village 村,village,county,satellite,agent,540121201201\n";

const TARGETS: &str = "ap_id,name,kind,address\n\
    centre,core,anchor,10.77.0.1\n\
    centre,core-v6,anchor,fd77::1\n\
    county,ce,router,10.77.0.2\n\
    village,ce,router,10.77.1.2\n";

/// Between two results of one check, by the plan.
const INTERVAL_MS: i64 = 400;

/// How long the cable is out after the alert has come.
const OUTAGE_AFTER_ALERT: Duration = Duration::from_secs(6);

const PATIENCE: Duration = Duration::from_mins(1);

struct Network {
    centre: Namespace,
    parent: Namespace,
    site: Namespace,
}

fn network() -> Network {
    let centre = Namespace::new("centre");
    let parent = Namespace::new("parent");
    let site = Namespace::new("site");
    connect(
        End {
            namespace: &centre,
            interface: "down0",
            addresses: &["10.77.0.1/30", "fd77::1/64"],
        },
        End {
            namespace: &parent,
            interface: "up0",
            addresses: &["10.77.0.2/30", "fd77::2/64"],
        },
    );
    connect(
        End {
            namespace: &parent,
            interface: "down0",
            addresses: &["10.77.1.1/30", "fd77:1::1/64"],
        },
        End {
            namespace: &site,
            interface: "up0",
            addresses: &["10.77.1.2/30", "fd77:1::2/64"],
        },
    );
    parent.forward();
    for (namespace, v4, v6) in [
        (&centre, "10.77.0.2", "fd77::2"),
        (&site, "10.77.1.1", "fd77:1::1"),
    ] {
        namespace.ip(&["route", "add", "default", "via", v4]);
        namespace.ip(&["-6", "route", "add", "default", "via", v6]);
    }
    Network {
        centre,
        parent,
        site,
    }
}

#[test]
fn a_pulled_cable_is_seen_alerted_resolved_and_filled_in() {
    let network = network();
    let mut sandbox = Sandbox::start(Settings {
        place: network.centre.place(),
        listen: "10.77.0.1".parse().unwrap(),
        slot: Duration::from_secs(1),
        ..Settings::default()
    });
    sandbox.import(ACCESS_POINTS, TARGETS);
    sandbox.apply_plan(PLAN);
    let uplink = SocketAddr::new("10.77.0.1".parse().unwrap(), sandbox.address().port());
    let mut county = sandbox.agent("county", &network.parent.place(), uplink, "");
    let mut village = sandbox.agent("village", &network.site.place(), uplink, "");
    for ap in ["county", "village"] {
        wait_until(&format!("{ap} to be up"), PATIENCE, || {
            state_is(&sandbox, ap, 1.0)
        });
    }

    network.parent.link_down("down0");
    let pulled_ms = wall_ms();
    wait_until("both vantages to lose the site", PATIENCE, || {
        let query = "count(probe_success{ap_id=\"village\",check=\"inbound-icmp\"} == 0)";
        match sandbox.victoria.query(query)?.first() {
            Some(row) if row.value > 1.5 => Ok(()),
            rows => Err(format!("{rows:?}")),
        }
    });
    wait_until("the alert", PATIENCE, || {
        let active = sandbox.alertmanager.active()?;
        let ours = |alert: &&serde_json::Value| {
            let labels = &alert["labels"];
            labels["alertname"] == "AccessPointDown" && labels["ap_id"] == "village"
        };
        let alert = active
            .iter()
            .find(ours)
            .ok_or_else(|| format!("{active:?}"))?;
        for language in ["zh", "en"] {
            let annotations = alert["annotations"].as_object().ok_or("no annotations")?;
            if !annotations.keys().any(|key| key.ends_with(language)) {
                return Err(format!("no text in {language}: {annotations:?}"));
            }
        }
        Ok(())
    });
    wait_until("the state in the time series", PATIENCE, || {
        state_is(&sandbox, "village", 0.0)
    });
    std::thread::sleep(OUTAGE_AFTER_ALERT);

    let restored_ms = wall_ms();
    network.parent.link_up("down0");
    wait_until(
        "the alert to be resolved",
        PATIENCE,
        || match notifications(&sandbox.webhook, "village").as_slice() {
            [opened, closed] if opened == "firing" && closed == "resolved" => Ok(()),
            other => Err(format!("{other:?}")),
        },
    );
    wait_until("village to be up again", PATIENCE, || {
        state_is(&sandbox, "village", 1.0)
    });
    village.wait_drained(20, PATIENCE);
    for family in ["4", "6"] {
        wait_until(
            &format!("what was measured meanwhile, family {family}"),
            PATIENCE,
            || filled_in(&sandbox, family, pulled_ms, restored_ms),
        );
    }

    // One open, one close; nobody else was paged.
    assert_eq!(
        notifications(&sandbox.webhook, "village"),
        ["firing", "resolved"]
    );
    assert_eq!(
        sandbox.webhook.received().len(),
        2,
        "{:?}",
        sandbox.webhook.received()
    );
    sandbox.must_not_have_panicked();
    for agent in [&mut county, &mut village] {
        let status = agent.stop();
        assert!(status.success(), "an agent stopped with {status}");
    }
    let status = sandbox.stop_collector();
    assert!(status.success(), "the collector stopped with {status}");
}

fn state_is(sandbox: &Sandbox, ap: &str, wanted: f64) -> Result<(), String> {
    let rows = sandbox
        .victoria
        .query(&format!("extranet_ap_state{{ap_id=\"{ap}\"}}"))?;
    match rows.as_slice() {
        [row] if (row.value - wanted).abs() < 0.5 => Ok(()),
        _ => Err(format!("{rows:?}")),
    }
}

/// Statuses of the notifications about an access point, in order.
fn notifications(webhook: &Webhook, ap: &str) -> Vec<String> {
    let about = |body: &serde_json::Value| {
        body["commonLabels"]["ap_id"] == ap
            && body["commonLabels"]["alertname"] == "AccessPointDown"
    };
    let received = webhook.received();
    let statuses = received
        .iter()
        .filter(|body| about(body))
        .filter_map(|body| body["status"].as_str());
    statuses.map(str::to_owned).collect()
}

/// The site's own failed checks are in the time series at the times of the outage, without gaps.
fn filled_in(sandbox: &Sandbox, family: &str, from_ms: i64, to_ms: i64) -> Result<(), String> {
    let selector = format!(
        "{{__name__=\"probe_success\",ap_id=\"village\",check=\"anchor-icmp\",family=\"{family}\"}}"
    );
    let series = sandbox.victoria.export(&selector)?;
    let [series] = series.as_slice() else {
        return Err(format!("{} series", series.len()));
    };
    // Results near the ends may belong to either side.
    let inside = (from_ms + 2 * INTERVAL_MS)..(to_ms - 2 * INTERVAL_MS);
    let during: Vec<_> = series
        .samples
        .iter()
        .filter(|(time, _)| inside.contains(time))
        .collect();
    let expected = (inside.end - inside.start) / INTERVAL_MS;
    let failed = during.iter().filter(|(_, success)| *success < 0.5).count();
    let enough = usize::try_from(expected * 9 / 10).unwrap_or(usize::MAX);
    let gap = during
        .windows(2)
        .map(|pair| pair[1].0 - pair[0].0)
        .max()
        .unwrap_or(i64::MAX);
    if failed == during.len() && failed >= enough && gap < 4 * INTERVAL_MS {
        Ok(())
    } else {
        Err(format!(
            "{} results of {expected} expected, {failed} of them failed, longest gap {gap} ms",
            during.len()
        ))
    }
}
