//! What a check says when things go wrong: the table `tests/data/link-outcomes.toml`, each row in both families, from
//! the words of a plan to the outcome, over a link whose faults are known and against servers that behave as badly as
//! real ones do. Good answers come from real programs too: dnsmasq, chronyd, openssl.

#[path = "link_outcomes/certificates.rs"]
mod certificates;
#[path = "link_outcomes/datagrams.rs"]
mod datagrams;
#[path = "link_outcomes/names.rs"]
mod names;
#[path = "link_outcomes/real.rs"]
mod real;
#[path = "link_outcomes/streams.rs"]
mod streams;
#[path = "link_outcomes/table.rs"]
mod table;

use std::net::IpAddr;
use std::time::Duration;

use extranet_agent::control::PlannedCheck;
use extranet_agent::measure::{Measurer, Targets};
use extranet_agent::probe::{Measured, ObjectIds, Probes};
use extranet_agent::schedule::Prober as _;
use extranet_collector::plan::{Plan, ProbePlan};
use extranet_proto::assignment::{Check, Target};
use extranet_proto::id::AssignmentVersion;
use extranet_proto::record::Outcome;
use extranet_proto::wire;
use extranet_tests::forwarder::{Faults, Forwarder};
use extranet_tests::namespace::{End, Namespace};
use tokio::time::Instant;

use self::certificates::{Authority, HOST};

/// The far end of the link, in both families.
const FAR: [&str; 2] = ["10.9.1.1", "fd00:9:1::1"];

/// A site and a far host with the link between them.
struct Rig {
    site: Namespace,
    far: Namespace,
    link: Forwarder,
    authority: Authority,
}

impl Rig {
    fn new() -> Self {
        let (site, far) = (Namespace::new("site"), Namespace::new("far"));
        let link = Forwarder::connect(
            End {
                namespace: &site,
                interface: "up0",
                addresses: &["10.9.1.2/24", "fd00:9:1::2/64"],
            },
            End {
                namespace: &far,
                interface: "down0",
                addresses: &["10.9.1.1/24", "fd00:9:1::1/64"],
            },
            7,
        );
        for sysctl in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
            // Kernels limit their errors: a host gets one a second of most kinds.
            far.sysctl(sysctl, "0");
        }
        site.ip(&["route", "add", "default", "dev", "up0"]);
        site.ip(&["-6", "route", "add", "default", "dev", "up0"]);
        // What a router says about networks that it does not reach. By nft: route types have a limit of their own on
        // errors, which no namespace can lift.
        far.forward();
        far.nft("add table inet lab");
        far.nft("add chain inet lab forward { type filter hook forward priority 0; }");
        for (net, verdict) in [
            (2, "reject with icmpx type no-route"),
            (3, "reject with icmpx type host-unreachable"),
            (4, "reject with icmpx type admin-prohibited"),
            (5, "drop"),
        ] {
            let (v4, v6) = (format!("10.9.{net}.0/24"), format!("fd00:9:{net}::/64"));
            far.ip(&["route", "add", &v4, "dev", "down0"]);
            far.ip(&["-6", "route", "add", &v6, "dev", "down0"]);
            far.nft(&format!(
                "add rule inet lab forward ip daddr {v4} {verdict}"
            ));
            far.nft(&format!(
                "add rule inet lab forward ip6 daddr {v6} {verdict}"
            ));
        }
        Self {
            site,
            far,
            link,
            authority: Authority::new("Laboratory CA"),
        }
    }

    /// Starts the hostile servers at the far end, by the ports that the table names.
    fn with_servers(self) -> Self {
        let stranger = Authority::new("Stranger CA");
        for address in FAR.map(|text| text.parse::<IpAddr>().expect("an address")) {
            self.far.enter(|| {
                streams::serve(address, 2001, streams::silent);
                streams::serve(address, 2002, streams::reset);
                streams::serve(address, 2003, streams::garbage);
                streams::serve(address, 8080, streams::page);
                names::serve(address, 53);
                datagrams::serve(address, 7, datagrams::echo);
                datagrams::serve(address, 7001, |_| Vec::new());
                datagrams::serve(address, 7002, datagrams::double);
                datagrams::serve(address, 7003, datagrams::alter);
                datagrams::serve(address, 7004, datagrams::something_else);
                datagrams::serve(address, 7005, datagrams::every_second());
                datagrams::serve(address, 123, datagrams::time(|_| {}));
                datagrams::serve(address, 1231, datagrams::time(datagrams::kiss));
                datagrams::serve(address, 1232, datagrams::time(datagrams::unset));
                datagrams::serve(address, 1233, datagrams::time(datagrams::other_origin));
                datagrams::serve(address, 1234, datagrams::time(datagrams::backwards));
                datagrams::serve(address, 1235, datagrams::time(datagrams::ahead));
                let ours = &self.authority;
                for (port, certificates) in [
                    (4430, vec![ours.issue(HOST, 2090)]),
                    (4431, vec![ours.issue(HOST, 2021)]),
                    (4432, vec![ours.issue("other.test", 2090)]),
                    (4433, vec![stranger.issue(HOST, 2090)]),
                    (4434, vec![ours.issue(HOST, 2090), ours.issue(HOST, 2090)]),
                ] {
                    certificates::serve(address, port, certificates);
                }
            });
        }
        self
    }

    /// Runs something at the site on one thread, as an agent does.
    fn at_site<T: Send>(&self, test: impl AsyncFnOnce() -> T + Send) -> T {
        self.site.enter(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be built")
                .block_on(test())
        })
    }
}

/// An agent's probes that may measure the laboratory and nothing else.
fn measurer() -> Measurer {
    let allowed = ["10.9.0.0/16", "fd00:9::/32"].map(|prefix| prefix.parse().expect("a prefix"));
    Measurer::new(Targets::new(&allowed), Probes::new(ObjectIds::new()))
}

/// A check as it stands in a plan, for an agent; `id` tells it from others.
fn planned(keys: &str, timeout: &str, family: u8, address: &str, id: u32) -> PlannedCheck {
    let text = format!(
        "[[plan]]\nname = 'p'\n[[plan.check]]\nname = 'c'\ntarget = 'service'\nfamilies = [{family}]\n\
         timeout = '{timeout}'\n{keys}\n"
    );
    let plan = Plan::parse(keys, &text).unwrap_or_else(|problems| panic!("{problems}"));
    let check = &plan.own[0].checks[0];
    let ProbePlan::Application(application) = &check.probe else {
        panic!("{keys}: not for this table");
    };
    let (probe, _) = application
        .probe(&wire::TargetRow::default())
        .unwrap_or_else(|| panic!("{keys}: needs a port"));
    let check = Check::try_from(wire::Check {
        check_id: id,
        target_id: 1,
        name: "check".to_owned(),
        family: family.into(),
        interval_ms: 60_000,
        timeout_ms: u32::try_from(check.timeout.as_millis()).expect("short"),
        probe: Some(probe),
        ..wire::Check::default()
    })
    .unwrap_or_else(|error| panic!("{keys}: {error}"));
    let target = Target {
        id: check.target,
        vrf: String::new(),
        address: address.parse().expect("an address or a name"),
    };
    PlannedCheck {
        assignment: AssignmentVersion(1),
        check,
        target,
    }
}

async fn measure(measurer: &Measurer, planned: &PlannedCheck) -> Measured {
    let deadline = Instant::now() + planned.check.timeout;
    measurer.run(planned, deadline).await
}

/// The value as it is exported, by its name (and the meaning of its label, if it has one).
fn value(measured: &Measured, name: &str) -> Option<f64> {
    measured.values.iter().find_map(|value| {
        let info = value.metric.info()?;
        let full = match info.label {
            Some((_, meaning)) => format!("{}_{meaning}", info.name),
            None => info.name.to_owned(),
        };
        (full == name).then(|| info.exported(value.raw))
    })
}

#[test]
fn every_fault_has_its_outcome_and_reason() {
    let rig = Rig::new().with_servers();
    let rows = table::read();
    let wrong: Vec<String> = rig.at_site(async || {
        let measurer = measurer();
        let mut wrong = Vec::new();
        for (number, row) in rows.iter().enumerate() {
            let id = u32::try_from(number).expect("a short table") + 1;
            for family in [4, 6] {
                if let Err(problem) = row.run(&rig, &measurer, family, id).await {
                    wrong.push(format!("{} (IPv{family}): {problem}", row.name));
                }
            }
        }
        wrong
    });
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Loss each way: the link's own counts decide, to the packet.
#[test]
fn lost_datagrams_are_those_that_the_link_lost() {
    let rig = Rig::new().with_servers();
    for (family, address) in [(4, FAR[0]), (6, FAR[1])] {
        let lossy = Faults {
            loss_per_mille: 200,
            ..Faults::default()
        };
        rig.link.both(lossy);
        rig.link.forget_counts();
        let keys = "probe = 'udp'\npackets = 100\npacket_interval = '2ms'";
        let planned = planned(keys, "2s", family, address, 1);
        let measured = rig.at_site(async || measure(&measurer(), &planned).await);
        let counts = rig.link.counts();
        let came_back = counts.back.received - counts.back.lost;
        assert!(counts.forth.lost > 0 && counts.back.lost > 0, "{counts:?}");
        assert_eq!(value(&measured, "extranet_udp_packets_sent"), Some(100.0));
        assert_eq!(
            value(&measured, "extranet_udp_packets_received"),
            Some(came_back as f64)
        );
        // What the run says it cost is what was on the wire: nothing else was sent in the meantime.
        let (sent, back) = (counts.forth.received_bytes, counts.back.forwarded_bytes);
        assert_eq!(
            (measured.traffic.sent, measured.traffic.received),
            (sent, back)
        );
    }
}

/// Targets that hang in every way, and one that does not: it is done before any of them, on one thread.
#[test]
fn a_target_that_hangs_delays_no_other() {
    let rig = Rig::new().with_servers();
    let hanging = [
        "probe = 'tcp'\nport = 1",
        "probe = 'udp'\nport = 7001\npackets = 1",
        "probe = 'ntp'\nport = 7001",
        "probe = 'dns'\nquery = 'silent.test'",
        "probe = 'http'\nport = 8080\npath = '/trickle'\nhost = 'x'",
        "probe = 'http'\nport = 2001\npath = '/'\nhost = 'x'",
        "probe = 'tls'\nport = 2001\nserver_name = 'x'",
    ];
    rig.at_site(async || {
        let measurer = measurer();
        let far = |keys: &&str, id| {
            // Whatever is sent there vanishes; the others hang by themselves.
            let address = if keys.contains("port = 1\n") || keys.ends_with("port = 1") {
                "10.9.5.1"
            } else {
                FAR[0]
            };
            planned(keys, "1500ms", 4, address, id)
        };
        let checks: Vec<_> = hanging
            .iter()
            .zip(1..)
            .map(|(keys, id)| far(keys, id))
            .collect();
        let hung = async {
            let mut runs = tokio::task::JoinSet::new();
            for check in checks {
                let measurer = measurer.clone();
                runs.spawn(async move { measure(&measurer, &check).await });
            }
            let first = runs.join_next().await;
            let first = first.expect("there are runs").expect("no panic");
            let mut all = vec![first];
            all.extend(runs.join_all().await);
            all
        };
        let good = planned(
            "probe = 'dns'\nquery = 'good.test'",
            "1500ms",
            4,
            FAR[0],
            99,
        );
        let quick = async {
            let found = measure(&measurer, &good).await;
            (found, Instant::now())
        };
        let slow = async {
            let all = hung.await;
            (all, Instant::now())
        };
        let ((all, slow_end), (good, quick_end)) = tokio::join!(slow, quick);
        assert_eq!(good.outcome, Outcome::Ok, "{good:?}");
        assert!(quick_end < slow_end);
        for found in all {
            assert_eq!(found.reason.label(), "timeout", "{found:?}");
            assert!(found.duration >= Duration::from_millis(1_400), "{found:?}");
        }
    });
}
