//! Any bytes as an ICMPv6 message that the sensor hears; what it makes of it, through its socket to the agent's rule.
#![no_main]

use std::collections::BTreeMap;

use extranet_agent::packet::router_advert::{NAME_SERVERS, PREFIXES, parse};
use extranet_agent::security::Verdict;
use extranet_agent::security::routers::{Routers, Sighting};
use extranet_agent::sensor::message::{MESSAGE_BYTES, Message, Received};
use extranet_proto::assignment::{ApprovedRouter, Security};
use extranet_proto::limits;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(advert) = parse(bytes) else {
        return;
    };
    assert!(advert.prefixes.len() <= PREFIXES && advert.name_servers.len() <= NAME_SERVERS);
    let received = Received {
        link: 2,
        source: "fe80::66".parse().expect("an address"),
        advert,
    };
    let datagram = Message::Advert(received.clone()).encode();
    assert!(datagram.len() <= MESSAGE_BYTES);
    assert_eq!(
        Message::decode(&datagram),
        Ok(Message::Advert(received.clone())),
        "written and read"
    );

    let sighting = Sighting {
        link: "eth0".to_owned(),
        source: received.source,
        mac: received.advert.mac,
        advert: Some(received.advert),
        in_use: false,
    };
    let security = Security {
        routers: vec![ApprovedRouter {
            name: "ce".to_owned(),
            macs: Vec::new(),
            link_locals: vec![sighting.source],
            prefixes: vec!["2001:db8::/32".parse().expect("a prefix")],
        }],
    };
    for security in [security, Security::default()] {
        let mut routers = Routers::new(1_000, BTreeMap::new());
        for now_ms in [0, 1_000, 2_000] {
            if let Verdict::Found(finding) = routers.seen(&sighting, &security, now_ms) {
                assert!(finding.object.len() <= limits::TEXT_BYTES);
                assert!(finding.evidence.len() <= limits::EVIDENCE_PAIRS);
            }
        }
    }
});
