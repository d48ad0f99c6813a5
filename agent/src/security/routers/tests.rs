//! What is approved stays silent, what is not is told apart.

use super::*;
use crate::packet::router_advert::{AdvertisedPrefix, Preference};

const LEARN_MS: u64 = 600_000;
const ROUTER: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const PARTNER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const VRRP: MacAddress = MacAddress([0, 0, 0x5e, 0, 2, 7]);
const STRANGER: MacAddress = MacAddress([2, 0, 0, 0, 0, 0x66]);

fn advert(lifetime_s: u16, prefixes: &[&str]) -> RouterAdvert {
    let prefix = |text: &&str| {
        let (address, length) = text.split_once('/').unwrap();
        AdvertisedPrefix {
            address: address.parse().unwrap(),
            length: length.parse().unwrap(),
            on_link: true,
            autonomous: true,
            valid_s: 86_400,
            preferred_s: 14_400,
        }
    };
    RouterAdvert {
        managed: false,
        other: false,
        preference: Preference::Medium,
        lifetime_s,
        mac: None,
        mtu: None,
        prefixes: prefixes.iter().map(prefix).collect(),
        name_servers: Vec::new(),
        incomplete: false,
    }
}

fn sighting(source: &str, mac: MacAddress, advert: RouterAdvert) -> Sighting {
    Sighting {
        link: "eth0".to_owned(),
        source: source.parse().unwrap(),
        mac: Some(mac),
        advert: Some(advert),
        in_use: false,
    }
}

fn inventory() -> Security {
    Security {
        routers: vec![ApprovedRouter {
            name: "ce".to_owned(),
            macs: vec![ROUTER, VRRP],
            link_locals: vec!["fe80::1".parse().unwrap()],
            prefixes: vec!["2001:db8:1::/48".parse().unwrap()],
        }],
    }
}

/// What each advertisement is, in a site whose inventory names its router.
#[test]
fn each_deviation_is_told_by_its_name_and_severity() {
    use Deviation::*;
    use Severity::{Critical, Major};
    let good = advert(1_800, &["2001:db8:1:5::/64"]);
    let elsewhere = advert(1_800, &["2001:db8:66::/64"]);
    let wider = advert(1_800, &["2001:db8::/32"]);
    let hidden = RouterAdvert {
        incomplete: true,
        ..good.clone()
    };
    let only_prefix = advert(0, &["2001:db8:66::/64"]);
    let cases: Vec<(&str, MacAddress, &RouterAdvert, Vec<Deviation>, Severity)> = vec![
        ("fe80::1", ROUTER, &good, vec![], Major),
        ("fe80::1", VRRP, &good, vec![], Major),
        ("fe80::66", STRANGER, &good, vec![Sender], Critical),
        ("fe80::66", STRANGER, &only_prefix, vec![Sender], Major),
        ("fe80::1", STRANGER, &good, vec![Mac], Critical),
        ("fe80::66", ROUTER, &good, vec![Address], Critical),
        ("fe80::1", ROUTER, &elsewhere, vec![Prefix], Major),
        ("fe80::1", ROUTER, &wider, vec![Prefix], Major),
        ("fe80::1", STRANGER, &elsewhere, vec![Mac, Prefix], Critical),
        ("fe80::1", ROUTER, &hidden, vec![Unreadable], Major),
    ];
    for (source, mac, advert, expected, severity) in cases {
        let mut routers = Routers::new(LEARN_MS, BTreeMap::new());
        let sighting = sighting(source, mac, advert.clone());
        let verdict = routers.seen(&sighting, &inventory(), 0);
        let object = format!("router {source} on eth0");
        if expected.is_empty() {
            let over = vec![object.clone(), format!("withdrawal of {object}")];
            assert_eq!(verdict, Verdict::Over(SecurityRule::RogueRa, over));
            continue;
        }
        let Verdict::Found(finding) = verdict else {
            panic!("{source} {mac}: {verdict:?}");
        };
        assert_eq!(
            (finding.object, finding.severity),
            (object, severity),
            "{mac}"
        );
        let names: Vec<&str> = expected.iter().map(|one| one.label()).collect();
        assert!(
            finding
                .evidence
                .contains(&("deviations".to_owned(), names.join(" ")))
        );
    }
}

#[test]
fn evidence_names_everything_that_was_advertised_and_compared() {
    let mut routers = Routers::new(LEARN_MS, BTreeMap::new());
    let rogue = Sighting {
        in_use: true,
        ..sighting("fe80::66", STRANGER, advert(1_800, &["2001:db8:66::/64"]))
    };
    let Verdict::Found(finding) = routers.seen(&rogue, &inventory(), 0) else {
        panic!("a rogue router");
    };
    let expected = [
        ("interface", "eth0"),
        ("source", "fe80::66"),
        ("mac", "02:00:00:00:00:66"),
        ("deviations", "sender"),
        ("router_lifetime_s", "1800"),
        ("preference", "medium"),
        ("prefixes", "2001:db8:66::/64"),
        ("name_servers", ""),
        ("managed", "false"),
        ("other", "false"),
        ("mtu", ""),
        ("in_use_here", "true"),
        ("seen_by", "sensor"),
        ("compared_with", "inventory"),
        (
            "known_routers",
            "ce(fe80::1,02:00:00:00:00:01,00:00:5e:00:02:07)",
        ),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(finding.evidence, expected);
    assert!(finding.lasting, "this machine uses it");
}

#[test]
fn a_gateway_that_says_it_is_none_is_a_denial_until_it_is_back() {
    let mut routers = Routers::new(LEARN_MS, BTreeMap::new());
    let hear = |routers: &mut Routers, lifetime_s| {
        let sighting = sighting("fe80::1", ROUTER, advert(lifetime_s, &[]));
        routers.seen(&sighting, &inventory(), 0)
    };
    // A router that never was a default router may go on saying so.
    assert!(matches!(hear(&mut routers, 0), Verdict::Over(..)));
    assert!(matches!(hear(&mut routers, 1_800), Verdict::Over(..)));
    let Verdict::Found(finding) = hear(&mut routers, 0) else {
        panic!("a withdrawal");
    };
    assert_eq!(
        (finding.severity, finding.lasting),
        (Severity::Critical, true)
    );
    assert!(
        finding
            .evidence
            .contains(&("deviations".to_owned(), "withdrawn".to_owned()))
    );
    // The route goes with it; the withdrawal holds all the same, as an event of its own.
    let withdrawal = "withdrawal of router fe80::1 on eth0".to_owned();
    assert_eq!(finding.object, withdrawal);
    let over = vec!["router fe80::1 on eth0".to_owned(), withdrawal];
    let back = Verdict::Over(SecurityRule::RogueRa, over);
    assert_eq!(hear(&mut routers, 1_800), back);
}

#[test]
fn without_an_inventory_an_interface_learns_before_it_judges() {
    let mut routers = Routers::new(LEARN_MS, BTreeMap::new());
    let nobody = Security::default();
    let own = sighting("fe80::1", ROUTER, advert(1_800, &["2001:db8:1::/64"]));
    let partner = sighting("fe80::2", PARTNER, advert(1_800, &[]));
    let rogue = sighting("fe80::66", STRANGER, advert(1_800, &["2001:db8:66::/64"]));
    let mut hear = |what: &Sighting, now_ms| routers.seen(what, &nobody, now_ms);
    assert_eq!(hear(&own, 5), Verdict::Quiet);
    assert_eq!(hear(&partner, LEARN_MS), Verdict::Quiet);
    let Verdict::Found(finding) = hear(&rogue, LEARN_MS + 5) else {
        panic!("a rogue router");
    };
    assert!(
        finding
            .evidence
            .contains(&("compared_with".to_owned(), "learnt".to_owned()))
    );
    for good in [&own, &partner] {
        assert!(
            matches!(hear(good, LEARN_MS + 6), Verdict::Over(..)),
            "{good:?}"
        );
    }
    // What it said when it was learnt is part of what was learnt.
    let mut changed = own.clone();
    changed.advert = Some(RouterAdvert {
        name_servers: vec!["2001:db8:66::53".parse().unwrap()],
        ..advert(1_800, &["2001:db8:1::/64"])
    });
    let Verdict::Found(finding) = hear(&changed, LEARN_MS + 7) else {
        panic!("other name servers");
    };
    assert_eq!(finding.severity, Severity::Major);
    assert!(
        finding
            .evidence
            .contains(&("deviations".to_owned(), "claims".to_owned()))
    );
    // A failover of VRRP: the same virtual address, now from the virtual MAC.
    let failover = Sighting {
        mac: Some(VRRP),
        ..own.clone()
    };
    assert!(matches!(hear(&failover, LEARN_MS + 8), Verdict::Over(..)));
    // Another interface has learnt nothing yet.
    let elsewhere = Sighting {
        link: "eth1".to_owned(),
        ..rogue
    };
    assert_eq!(hear(&elsewhere, LEARN_MS + 9), Verdict::Quiet);
    assert_eq!(routers.settle(3 * LEARN_MS), ["eth1"]);
}

#[test]
fn routes_alone_tell_a_strange_gateway() {
    let mut routers = Routers::new(LEARN_MS, BTreeMap::new());
    let strange = Sighting {
        advert: None,
        in_use: true,
        ..sighting("fe80::66", STRANGER, advert(0, &[]))
    };
    let Verdict::Found(finding) = routers.seen(&strange, &inventory(), 0) else {
        panic!("a strange gateway");
    };
    assert_eq!(
        (finding.severity, finding.lasting),
        (Severity::Critical, true)
    );
    assert!(
        finding
            .evidence
            .contains(&("seen_by".to_owned(), "routes".to_owned()))
    );
}

#[test]
fn memory_stays_bounded() {
    let mut routers = Routers::new(LEARN_MS, BTreeMap::new());
    for link in 0..1_000 {
        for last in 0..20 {
            let router = Sighting {
                link: format!("eth{link}"),
                source: Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, last),
                ..sighting("fe80::1", ROUTER, advert(1_800, &[]))
            };
            routers.seen(&router, &Security::default(), 0);
        }
    }
    assert_eq!(routers.links().len(), LINKS);
    assert!(routers.defaults.len() <= DEFAULTS);
    let most = routers.links().values().map(|segment| match segment {
        Segment::Learning { routers, .. } | Segment::Settled(routers) => routers.len(),
    });
    assert_eq!(most.max(), Some(ROUTERS));
}
