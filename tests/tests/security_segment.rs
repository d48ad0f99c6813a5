//! Attacks on the segment of a site, and what looks like one: each with the real sensor, real router daemons and a real
//! Alertmanager (SEC-01, SEC-04; SEC-30: a scenario that must alert, and a benign one beside it that must not).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use extranet_tests::binary;
use extranet_tests::clock::wait_until;
use extranet_tests::process::Process;
use extranet_tests::sandbox::{Agent, Sandbox, Settings};
use extranet_tests::segment::{ROGUE_MAC, ROUTER_MAC, Segment, set_mac};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Requirement SEC-34: an event-driven detection alerts within this time.
const TIME_TO_ALERT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_mins(1);
/// Of a virtual router (RFC 9568 section 7.3).
const VRRP_MAC: &str = "00:00:5e:00:01:0a";
/// Of the rogue, before it announces anything.
const OTHER_MAC: &str = "02:00:00:00:00:77";

/// Where agents reach the collector.
const CENTRE: [u8; 4] = [10, 60, 9, 1];

const PLAN: &str = r#"
[[plan]]
name = "everywhere"
flush_interval = "10s"
[[plan.check]]
name = "gateway-icmp"
probe = "icmp"
target = "gateway"
packets = 1
interval = "500ms"
timeout = "400ms"
"#;

const ACCESS_POINTS: &str =
    "ap_id,name,level,medium,monitoring\nsite,Site 站点,village,fibre,agent\n";
/// The inventory knows the router, so that nothing has to be learnt.
const APPROVED: &str = "ap_id,name,kind,address,mac,link_local,prefixes\n\
    site,ce,router,10.60.1.1,02:00:00:00:00:01,fe80::1,fd60:1::/48\n";
const NOT_APPROVED: &str = "ap_id,name,kind,address\nsite,ce,router,10.60.1.1\n";

/// radvd's options of a router that means well.
const GOOD: &str = "AdvDefaultLifetime 1800;";
/// Before every other router.
const GREEDY: &str = "AdvDefaultLifetime 1800; AdvDefaultPreference high; AdvManagedFlag on; \
    RDNSS fd66::53 { AdvRDNSSLifetime 600; };";

struct Laboratory {
    sandbox: Sandbox,
    segment: Segment,
    agent: Agent,
    sensor: Option<Process>,
}

impl Laboratory {
    fn new(targets: &str) -> Self {
        let segment = Segment::new();
        let sandbox = Sandbox::start(Settings {
            place: segment.centre.place(),
            listen: CENTRE.into(),
            vantage: false,
            extra: "[security]\nhold_down = \"1s\"\n".to_owned(),
            ..Settings::default()
        });
        sandbox.import(ACCESS_POINTS, targets);
        sandbox.apply_plan(PLAN);
        let uplink = SocketAddr::new(CENTRE.into(), sandbox.address().port());
        let extra = format!(
            "[security]\nhold_down = \"2s\"\nlearn_after = \"3s\"\nsensor_socket = '{}'\n",
            sandbox.folder().join("sensor.sock").display()
        );
        let agent = sandbox.agent("site", &segment.site.place(), uplink, &extra);
        wait_until("the assignment", PATIENCE, || {
            let version = agent
                .statistics()?
                .value("extranet_agent_control_assignment_version")?;
            if version > 0.5 {
                Ok(())
            } else {
                Err("none yet".to_owned())
            }
        });
        Self {
            sandbox,
            segment,
            agent,
            sensor: None,
        }
    }

    fn start_sensor(&mut self) {
        let program = binary::path("extranet-sensor");
        let mut command = self
            .segment
            .site
            .place()
            .command(&program.to_string_lossy());
        command
            .arg("--socket")
            .arg(self.sandbox.folder().join("sensor.sock"));
        self.sensor = Some(Process::start("sensor", command, self.sandbox.folder()));
        wait_until("the sensor", PATIENCE, || {
            let connected = self
                .agent
                .statistics()?
                .value("extranet_agent_sensor_connected")?;
            if connected > 0.5 {
                Ok(())
            } else {
                Err(self.sensor_log())
            }
        });
    }

    fn sensor_log(&self) -> String {
        self.sensor.as_ref().map(Process::log).unwrap_or_default()
    }

    /// radvd of the site's own router.
    fn own_router(&self) -> Process {
        let Segment { router, .. } = &self.segment;
        let folder = self.sandbox.folder();
        self.segment
            .advertise(router, "fe80::1", "fd60:1::/64", GOOD, folder)
    }

    /// radvd of somebody else.
    fn rogue_router(&self) -> Process {
        let Segment { rogue, .. } = &self.segment;
        let folder = self.sandbox.folder();
        self.segment
            .advertise(rogue, "fe80::66", "fd66::/64", GREEDY, folder)
    }

    /// Advertisements that the agent took from the sensor.
    fn adverts(&self) -> Result<f64, String> {
        let taken = "extranet_agent_sensor_adverts_total{reason=\"taken\"}";
        Ok(self.agent.statistics()?.value(taken).unwrap_or_default())
    }

    /// Waits until the agent has heard so many more advertisements.
    fn hear(&self, more: f64) {
        let before = self.adverts().unwrap_or_else(|error| panic!("{error}"));
        wait_until("advertisements", PATIENCE, || {
            let now = self.adverts()?;
            if now >= before + more {
                Ok(())
            } else {
                Err(format!("{now}\n{}", self.sensor_log()))
            }
        });
    }

    /// Security records that the agent ever made.
    fn raised(&self) -> f64 {
        self.agent
            .statistics()
            .unwrap_or_else(|error| panic!("{error}"))
            .sum("extranet_agent_security_events_total")
    }

    /// Waits until one alert of the name is active, no longer than the requirement gives it: its labels and evidence.
    fn alert(&self, name: &str) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
        let texts = |value: &Value| -> BTreeMap<String, String> {
            let pairs = value.as_object().into_iter().flatten();
            pairs
                .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
                .collect()
        };
        let alert = wait_until(&format!("the alert {name}"), TIME_TO_ALERT, || {
            let active = self.sandbox.alertmanager.active()?;
            let named: Vec<&Value> = active
                .iter()
                .filter(|alert| alert["labels"]["alertname"] == name)
                .collect();
            match named.as_slice() {
                [one] => Ok((*one).clone()),
                _ => Err(format!("{active:?}\n{}", self.sensor_log())),
            }
        });
        let annotations = texts(&alert["annotations"]);
        let evidence = annotations
            .get("evidence")
            .unwrap_or_else(|| panic!("{annotations:?}"));
        let facts = evidence.lines().filter_map(|line| {
            line.split_once(": ")
                .or(line.strip_suffix(':').map(|name| (name, "")))
        });
        let facts = facts
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        (texts(&alert["labels"]), facts)
    }

    fn wait_resolved(&self) {
        wait_until("no alert any more", PATIENCE, || {
            let active = self.sandbox.alertmanager.active()?;
            if active.is_empty() {
                Ok(())
            } else {
                Err(format!("{active:?}"))
            }
        });
    }

    /// Waits until the agent has told the collector so often that its sensor came or went. (Its tier says nothing here:
    /// whoever runs as root has the highest one anyway; `packages.rs` looks at it.)
    fn wait_told(&self, times: f64) {
        wait_until("the agent to tell", PATIENCE, || {
            let told = "extranet_agent_uplink_closed_total{reason=\"changed\"}";
            let statistics = self.agent.statistics()?;
            let connected = statistics.value("extranet_agent_uplink_connected")?;
            match statistics.value(told) {
                Ok(told) if told > times - 0.5 && connected > 0.5 => Ok(()),
                other => Err(format!("{other:?}, connected {connected}")),
            }
        });
    }
}

fn must_say(facts: &BTreeMap<String, String>, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(
            facts.get(*name).map(String::as_str),
            Some(*value),
            "{name} in {facts:?}"
        );
    }
}

#[test]
fn a_rogue_router_is_alerted_with_what_it_advertised_and_the_own_router_is_not() {
    let mut lab = Laboratory::new(APPROVED);
    lab.start_sensor();
    lab.wait_told(1.0);

    // Nothing is left of the capability, and nothing but the loop's system calls is possible.
    let sensor = lab.sensor.as_ref().expect("it runs").id();
    let status = std::fs::read_to_string(format!("/proc/{sensor}/status")).unwrap();
    for line in [
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }

    let own = lab.own_router();
    lab.hear(3.0);
    assert!(
        lab.raised() < 0.5,
        "{:?}",
        lab.sandbox.alertmanager.active()
    );

    let rogue = lab.rogue_router();
    let (labels, facts) = lab.alert("RogueRouterAdvertisement");
    must_say(&labels, &[("ap_id", "site"), ("severity", "critical")]);
    must_say(
        &facts,
        &[
            ("interface", "up0"),
            ("source", "fe80::66"),
            ("mac", ROGUE_MAC),
            ("deviations", "sender"),
            ("router_lifetime_s", "1800"),
            ("preference", "high"),
            ("prefixes", "fd66::/64"),
            ("name_servers", "fd66::53"),
            ("managed", "true"),
            ("seen_by", "sensor"),
            ("compared_with", "inventory"),
            ("known_routers", &format!("ce(fe80::1,{ROUTER_MAC})")),
        ],
    );
    // radvd withdraws what it advertised, and nobody uses it any more.
    rogue.stop(PATIENCE);
    lab.wait_resolved();

    // The own router says that it is none: hosts lose their default route (a denial, or a mistake).
    own.stop(PATIENCE);
    let (labels, facts) = lab.alert("RogueRouterAdvertisement");
    must_say(&labels, &[("severity", "critical")]);
    must_say(
        &facts,
        &[
            ("source", "fe80::1"),
            ("deviations", "withdrawn"),
            ("router_lifetime_s", "0"),
        ],
    );
    let _own = lab.own_router();
    lab.wait_resolved();

    // Without its sensor the agent goes on, and says that it can do less.
    let mut sensor = lab.sensor.take().expect("it runs");
    sensor.signal(Signal::SIGKILL);
    sensor.wait(PATIENCE);
    lab.wait_told(2.0);
    lab.sandbox.must_not_have_panicked();
}

#[test]
fn without_sensor_and_inventory_a_strange_default_route_is_alerted() {
    let lab = Laboratory::new(NOT_APPROVED);
    let _own = lab.own_router();
    wait_until("the router to be learnt", PATIENCE, || {
        let shown = lab.learnt()?;
        if shown.contains("fe80::1") {
            Ok(())
        } else {
            Err(shown)
        }
    });
    assert!(
        lab.raised() < 0.5,
        "{:?}",
        lab.sandbox.alertmanager.active()
    );
    let rogue = lab.rogue_router();
    let (_, facts) = lab.alert("RogueRouterAdvertisement");
    must_say(
        &facts,
        &[
            ("source", "fe80::66"),
            ("mac", ROGUE_MAC),
            ("deviations", "sender"),
            ("in_use_here", "true"),
            ("seen_by", "routes"),
            ("compared_with", "learnt"),
        ],
    );
    rogue.stop(PATIENCE);
    lab.wait_resolved();
}

#[test]
fn a_forged_gateway_is_alerted_and_a_failover_of_virtual_routers_is_not() {
    let lab = Laboratory::new(NOT_APPROVED);
    wait_until("the gateway to be learnt", PATIENCE, || {
        let shown = lab.learnt()?;
        if shown.contains(ROUTER_MAC) {
            Ok(())
        } else {
            Err(shown)
        }
    });

    // The router takes the address of a virtual one over, and gives it back.
    for mac in [VRRP_MAC, ROUTER_MAC] {
        set_mac(&lab.segment.router, mac);
        wait_until("the neighbour table to follow", PATIENCE, || {
            lab.gateway_is(mac)
        });
    }
    assert!(
        lab.raised() < 0.5,
        "{:?}",
        lab.sandbox.alertmanager.active()
    );

    // Somebody announces the gateway's address as its own.
    let rogue = &lab.segment.rogue;
    set_mac(rogue, OTHER_MAC);
    rogue.ip(&["address", "add", "10.60.1.1/24", "dev", "down0"]);
    set_mac(rogue, ROGUE_MAC);
    let (labels, facts) = lab.alert("GatewayMacChanged");
    must_say(&labels, &[("ap_id", "site"), ("severity", "critical")]);
    must_say(
        &facts,
        &[
            ("interface", "up0"),
            ("gateway", "10.60.1.1"),
            ("mac_before", ROUTER_MAC),
            ("mac_now", ROGUE_MAC),
        ],
    );

    rogue.ip(&["address", "delete", "10.60.1.1/24", "dev", "down0"]);
    for mac in [VRRP_MAC, ROUTER_MAC] {
        set_mac(&lab.segment.router, mac);
    }
    lab.wait_resolved();
}

impl Laboratory {
    /// What the agent has learnt, as its command shows it.
    fn learnt(&self) -> Result<String, String> {
        let program = binary::path("extranet-agent");
        let output = self
            .segment
            .site
            .place()
            .command(&program.to_string_lossy())
            .arg("security")
            .arg("--config")
            .arg(self.sandbox.folder().join("agent-site/agent.toml"))
            .output()
            .map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn gateway_is(&self, mac: &str) -> Result<(), String> {
        let neighbours = self.segment.site.ip(&["neigh", "show", "10.60.1.1"]);
        if neighbours.contains(mac) {
            Ok(())
        } else {
            Err(neighbours)
        }
    }
}
