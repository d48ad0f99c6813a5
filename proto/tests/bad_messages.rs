//! A table of messages that break one rule each, with the complaint they must cause.

use extranet_proto::ProtoError;
use extranet_proto::assignment::{Assignment, Check, Target};
use extranet_proto::limits;
use extranet_proto::session::{
    Ack, AssignmentStatus, Batch, Hello, MeasurementAnswer, MeasurementRequest, Wait, Welcome,
    negotiate,
};
use extranet_proto::wire;

/// What breaks a good message, and how the complaint begins.
type Case<M> = (fn(&mut M), &'static str);

fn complaint<T: std::fmt::Debug>(read: Result<T, ProtoError>) -> String {
    read.expect_err("the message breaks a rule").to_string()
}

fn icmp_check() -> wire::Check {
    wire::Check {
        stretch_last: false,
        check_id: 1,
        target_id: 1,
        name: "centre-4".to_owned(),
        family: wire::Family::Ipv4.into(),
        interval_ms: 60_000,
        timeout_ms: 10_000,
        probe: Some(wire::check::Probe::Icmp(wire::IcmpProbe {
            packets: 5,
            packet_interval_ms: 1_000,
            payload_bytes: 56,
            ..wire::IcmpProbe::default()
        })),
    }
}

fn snmp_check(snmp: wire::SnmpProbe) -> wire::Check {
    wire::Check {
        probe: Some(wire::check::Probe::Snmp(snmp)),
        ..icmp_check()
    }
}

fn snmp_v3() -> wire::SnmpProbe {
    wire::SnmpProbe {
        port: 161,
        version: wire::SnmpVersion::SnmpVersion3.into(),
        credential: Some(wire::SnmpCredential {
            user: "noc".to_owned(),
            auth_protocol: "SHA-256".to_owned(),
            auth_password: "long enough".to_owned(),
            ..wire::SnmpCredential::default()
        }),
        modules: vec!["if_mib".to_owned()],
        uplink: String::new(),
    }
}

fn target(address: &str) -> wire::Target {
    wire::Target {
        target_id: 1,
        vrf: String::new(),
        address: address.to_owned(),
    }
}

fn assignment() -> wire::Assignment {
    wire::Assignment {
        version: 4,
        ap_id: "540121-001".to_owned(),
        targets: vec![target("10.0.0.1")],
        checks: vec![icmp_check()],
        flush_interval_ms: 60_000,
        link_class: wire::LinkClass::Fibre.into(),
        security: None,
        daily_budget_bytes: 0,
        snmp_modules: Vec::new(),
    }
}

#[test]
fn snmp_modules_of_an_assignment_are_bounded() {
    let module = |name: &str, text: &str| wire::SnmpModule {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    let good = wire::Assignment {
        snmp_modules: vec![module("acme.0123456789abcdef", "mibs = []")],
        ..assignment()
    };
    let read = Assignment::try_from(good.clone()).unwrap();
    assert_eq!(
        wire::Assignment::from(&read).snmp_modules,
        good.snmp_modules
    );
    for (modules, expected) in [
        (vec![module("a b", "")], "snmp_module.name: must have"),
        (vec![module("", "")], "snmp_module.name: must have"),
        (vec![module("a", &"x".repeat(16_385))], "snmp_module.text"),
        (vec![module("a", ""); 33], "assignment.snmp_modules"),
    ] {
        let bad = wire::Assignment {
            snmp_modules: modules,
            ..assignment()
        };
        let found = complaint(Assignment::try_from(bad));
        assert!(found.starts_with(expected), "{found} / {expected}");
    }
}

#[test]
fn checks_are_held_to_their_rules() {
    let icmp = |change: fn(&mut wire::IcmpProbe)| {
        let mut check = icmp_check();
        if let Some(wire::check::Probe::Icmp(icmp)) = &mut check.probe {
            change(icmp);
        }
        complaint(Check::try_from(check))
    };
    let snmp = |change: fn(&mut wire::SnmpProbe)| {
        let mut probe = snmp_v3();
        change(&mut probe);
        complaint(Check::try_from(snmp_check(probe)))
    };
    let table: [Case<wire::Check>; 8] = [
        (|c| c.check_id = 0, "check.check_id is 0"),
        (|c| c.name = "a b".to_owned(), "check.name is not valid"),
        (|c| c.family = 5, "check.family has the unknown value 5"),
        (|c| c.interval_ms = 99, "check.interval_ms is 99"),
        (|c| c.interval_ms = u32::MAX, "check.interval_ms is"),
        (|c| c.timeout_ms = 0, "check.timeout_ms is 0"),
        (|c| c.timeout_ms = 300_001, "check.timeout_ms is 300001"),
        (|c| c.probe = None, "check.probe: is missing or of a kind"),
    ];
    for (change, expected) in table {
        let mut check = icmp_check();
        change(&mut check);
        let found = complaint(Check::try_from(check));
        assert!(found.starts_with(expected), "{found} / {expected}");
    }
    let found = [
        icmp(|i| i.packets = 0),
        icmp(|i| i.packets = 1_001),
        icmp(|i| i.packet_interval_ms = 2_500),
        icmp(|i| i.packet_interval_ms = 0),
        icmp(|i| i.payload_bytes = 15),
        icmp(|i| i.dscp = 64),
        icmp(|i| i.hop_limit = 256),
        icmp(|i| i.source_address = "fd00::1".to_owned()),
        icmp(|i| i.source_address = "eth0".to_owned()),
        icmp(|i| i.interface = "../eth0".to_owned()),
        icmp(|i| i.interface = "e".repeat(16)),
        icmp(|i| i.steady = true),
        icmp(|i| (i.steady, i.packet_interval_ms, i.packets) = (true, 0, 6)),
        snmp(|s| s.port = 0),
        snmp(|s| s.port = 65_536),
        snmp(|s| s.version = 9),
        snmp(|s| s.credential = None),
        snmp(|s| s.modules.clear()),
        snmp(|s| s.modules = vec!["../etc".to_owned()]),
        snmp(|s| s.modules = vec!["m".to_owned(); 33]),
    ];
    let expected = [
        "icmp.packets is 0, allowed is 1 to 1000",
        "icmp.packets is 1001, allowed is 1 to 1000",
        "icmp.packet_interval_ms: the last packet must leave before the timeout of the check",
        "icmp.packet_interval_ms: packets may not leave all at once",
        "icmp.payload_bytes is 15, allowed is 16 to 65000",
        "icmp.dscp is 64, allowed is 0 to 63",
        "icmp.hop_limit is 256, allowed is 0 to 255",
        "icmp.source_address: must be an address of the check's family",
        "icmp.source_address: must be an address of the check's family",
        "icmp.interface: must be the name of a network device",
        "icmp.interface has length 16, the limit is 15",
        "icmp.packet_interval_ms: must be 0 in a train: the interval of the check gives it",
        "icmp.steady: the timeout must be shorter than the interval of the check divided by its requests",
        "snmp.port is 0, allowed is 1 to 65535",
        "snmp.port is 65536, allowed is 1 to 65535",
        "snmp.version has the unknown value 9",
        "snmp.credential is missing",
        "snmp.modules: must be one or more names of ASCII letters, digits, '-', '_' and '.'",
        "snmp.modules: must be one or more names of ASCII letters, digits, '-', '_' and '.'",
        "snmp.modules has length 33, the limit is 32",
    ];
    assert_eq!(found, expected);
}

fn complaint_about(probe: wire::check::Probe) -> String {
    complaint(Check::try_from(wire::Check {
        probe: Some(probe),
        ..icmp_check()
    }))
}

#[test]
fn checks_of_name_servers_are_held_to_their_rules() {
    use wire::check::Probe;

    let dns = |change: fn(&mut wire::DnsProbe)| {
        let mut dns = wire::DnsProbe {
            transport: wire::DnsTransport::Udp.into(),
            port: 53,
            query_name: "portal.example".to_owned(),
            query_type: wire::DnsType::A.into(),
            expected: vec!["10.0.0.1".to_owned()],
            ..wire::DnsProbe::default()
        };
        change(&mut dns);
        complaint_about(Probe::Dns(dns))
    };
    let found = [
        dns(|d| d.transport = 3),
        dns(|d| d.query_type = 255),
        dns(|d| d.port = 0),
        dns(|d| d.query_name.clear()),
        dns(|d| d.expected = vec!["::1".to_owned()]),
        dns(|d| d.expected = vec!["10.0.0.1".to_owned(); 65]),
        dns(|d| d.expected_rcode = 4_096),
        dns(|d| d.edns_bytes = 511),
        dns(|d| d.tries = 11),
        dns(|d| {
            d.canary = true;
            d.query_name = format!("{0}.{0}.{0}.{0}", "x".repeat(62));
        }),
    ];
    let expected = [
        "dns.transport has the unknown value 3",
        "dns.query_type has the unknown value 255",
        "dns.port is 0, allowed is 1 to 65535",
        "dns.query_name: must be a domain name",
        "dns.expected: must be addresses of the family of the query type",
        "dns.expected has length 65, the limit is 64",
        "dns.expected_rcode is 4096, allowed is 0 to 4095",
        "dns.edns_bytes is 511, allowed is 512 to 65535",
        "dns.tries is 11, allowed is 0 to 10",
        "dns.query_name: leaves no room for the random label of a canary",
    ];
    assert_eq!(found, expected);
}

#[test]
fn checks_of_pages_and_certificates_are_held_to_their_rules() {
    use wire::check::Probe;

    let http = |change: fn(&mut wire::HttpProbe)| {
        let mut http = wire::HttpProbe {
            port: 80,
            tls: false,
            host: "portal.example".to_owned(),
            path: "/".to_owned(),
            expected_status_min: 200,
            expected_status_max: 399,
            ..wire::HttpProbe::default()
        };
        change(&mut http);
        complaint_about(Probe::Http(http))
    };
    let tls = |roots| {
        complaint_about(Probe::Tls(wire::TlsProbe {
            port: 443,
            roots,
            ..wire::TlsProbe::default()
        }))
    };
    let keys = |key_sha256| {
        complaint_about(Probe::Tls(wire::TlsProbe {
            port: 443,
            key_sha256,
            ..wire::TlsProbe::default()
        }))
    };
    let found = [
        http(|h| h.path = "index.html".to_owned()),
        http(|h| h.path = "/a b".to_owned()),
        http(|h| h.path = "/a\r\nHost: x".to_owned()),
        http(|h| h.host = "a\r\nb".to_owned()),
        http(|h| h.expected_status_min = 400),
        http(|h| h.expected_status_max = 1_000),
        http(|h| h.body_contains = "x".repeat(256)),
        tls(vec![Vec::new(); 17]),
        tls(vec![vec![0; 8_193]]),
        http(|h| h.body_lacks = "x".repeat(256)),
        http(|h| h.redirects_max = 11),
        http(|h| h.body_bytes_max = (16 << 20) + 1),
        http(|h| h.version = 3),
        http(|h| h.expected_headers = vec![wire::HttpHeader::default()]),
        http(|h| h.roots = vec![Vec::new(); 17]),
        keys(vec![vec![0; 31]]),
        keys(vec![vec![0; 32]; 17]),
    ];
    let expected = [
        "http.path: must start with '/' and have no spaces and no letters outside of ASCII",
        "http.path: must start with '/' and have no spaces and no letters outside of ASCII",
        "http.path: must start with '/' and have no spaces and no letters outside of ASCII",
        "http.host: must be a domain name",
        "http.expected_status_min is 400, allowed is 100 to 399",
        "http.expected_status_max is 1000, allowed is 100 to 999",
        "http.body_contains has length 256, the limit is 255",
        "tls.roots has length 17, the limit is 16",
        "tls.roots has length 8193, the limit is 8192",
        "http.body_lacks has length 256, the limit is 255",
        "http.redirects_max is 11, allowed is 0 to 10",
        "http.body_bytes_max is 16777217, allowed is 1 to 16777216",
        "http.version has the unknown value 3",
        "http.expected_headers: must have names of headers",
        "http.roots has length 17, the limit is 16",
        "tls.key_sha256: must be SHA-256 digests of 32 bytes",
        "tls.key_sha256 has length 17, the limit is 16",
    ];
    assert_eq!(found, expected);
}

#[test]
fn checks_by_tcp_udp_and_ntp_are_held_to_their_rules() {
    use wire::check::Probe;

    let udp = |change: fn(&mut wire::UdpProbe)| {
        let mut udp = wire::UdpProbe {
            port: 7,
            packets: 5,
            packet_interval_ms: 200,
            payload_bytes: 56,
            source: String::new(),
        };
        change(&mut udp);
        complaint_about(Probe::Udp(udp))
    };
    let ntp = |version, tries| {
        complaint_about(Probe::Ntp(wire::NtpProbe {
            port: 123,
            version,
            tries,
        }))
    };
    let found = [
        complaint_about(Probe::Tcp(wire::TcpProbe {
            port: 80,
            source: "::1".to_owned(),
        })),
        udp(|u| u.packets = 0),
        udp(|u| u.packet_interval_ms = 0),
        udp(|u| u.packet_interval_ms = 2_500),
        udp(|u| u.payload_bytes = 15),
        udp(|u| u.source = "eth0".to_owned()),
        ntp(5, 1),
        ntp(4, 11),
    ];
    let expected = [
        "tcp.source: must be an address of the check's family",
        "udp.packets is 0, allowed is 1 to 1000",
        "udp.packet_interval_ms: packets may not leave all at once",
        "udp.packet_interval_ms: the last packet must leave before the timeout of the check",
        "udp.payload_bytes is 15, allowed is 16 to 65000",
        "udp.source: must be an address of the check's family",
        "ntp.version is 5, allowed is 3 to 4",
        "ntp.tries is 11, allowed is 0 to 10",
    ];
    assert_eq!(found, expected);
}

#[test]
fn checks_of_ipv6_readiness_are_held_to_their_rules() {
    use wire::check::Probe;

    let ipv6 = |change: fn(&mut wire::Ipv6Probe)| {
        let mut ipv6 = wire::Ipv6Probe::default();
        change(&mut ipv6);
        complaint_about(Probe::Ipv6(ipv6))
    };
    let found = [
        ipv6(|i| i.allotted_prefix = "10.0.0.0/8".to_owned()),
        ipv6(|i| i.anchors4 = vec!["::1".to_owned()]),
        ipv6(|i| i.anchors6 = vec!["::1".to_owned(); 17]),
        ipv6(|i| i.collector6 = "2001:db8::1".to_owned()),
        ipv6(|i| i.services = vec![wire::Ipv6Service::default()]),
        ipv6(|i| i.resolver6 = "dns.example".to_owned()),
        ipv6(|i| i.expected_path_mtu = 1_279),
    ];
    let expected = [
        "ipv6.allotted_prefix: must be a prefix such as 2001:db8::/48",
        "ipv6.anchors4: must be addresses of the family",
        "ipv6.anchors6 has length 17, the limit is 16",
        "ipv6.collector6: must be an address with port such as [2001:db8::1]:8443",
        "ipv6.services.host: must be a domain name",
        "ipv6.resolver6: must be an IPv6 address",
        "ipv6.expected_path_mtu is 1279, allowed is 1280 to 65535",
    ];
    assert_eq!(found, expected);
}

#[test]
fn credentials_are_checked_and_never_repeated() {
    let table: [Case<wire::SnmpCredential>; 4] = [
        (|c| c.user.clear(), "credential.user is missing"),
        (
            |c| c.auth_password = "short".to_owned(),
            "credential.auth_password: must have at least 8 bytes (RFC 3414 section 11.2)",
        ),
        (
            |c| {
                c.privacy_protocol = "AES-128".to_owned();
                c.privacy_password = "long enough".to_owned();
                c.auth_protocol.clear();
            },
            "credential.privacy_protocol: privacy needs authentication",
        ),
        (
            |c| c.context = "x".repeat(256),
            "credential.context has length 256, the limit is 255",
        ),
    ];
    for (change, expected) in table {
        let mut probe = snmp_v3();
        probe.credential.iter_mut().for_each(change);
        assert_eq!(complaint(Check::try_from(snmp_check(probe))), expected);
    }
}

#[test]
fn targets_are_held_to_their_rules() {
    for address in [
        "",
        "-rf",
        "a b",
        "林周",
        "fe80::1%eth0",
        "http://x",
        "@moon",
    ] {
        let found = complaint(Target::try_from(target(address)));
        assert!(found.starts_with("target.address: "), "{address}: {found}");
    }
    let long = complaint(Target::try_from(target(&"a".repeat(256))));
    assert_eq!(long, "target.address has length 256, the limit is 255");
    for (vrf, expected) in [
        (
            "../eth0",
            "target.vrf: must be the name of a network device",
        ),
        ("a vrf", "target.vrf: must be the name of a network device"),
        (
            "0123456789abcdef",
            "target.vrf has length 16, the limit is 15",
        ),
    ] {
        let target = wire::Target {
            vrf: vrf.to_owned(),
            ..target("::1")
        };
        assert_eq!(complaint(Target::try_from(target)), expected);
    }
}

#[test]
fn a_bad_check_does_not_stop_the_others() {
    let mut wire = assignment();
    wire.targets.push(wire::Target {
        target_id: 2,
        ..target("@moon")
    });
    let named = |check_id, name: &str| wire::Check {
        check_id,
        name: name.to_owned(),
        ..icmp_check()
    };
    wire.checks.push(named(1, "twice"));
    wire.checks.push(wire::Check {
        probe: None,
        ..named(2, "from-the-future")
    });
    wire.checks.push(wire::Check {
        family: wire::Family::Ipv6.into(),
        ..named(3, "wrong-family")
    });
    wire.checks.push(wire::Check {
        target_id: 2,
        ..named(4, "bad-target")
    });
    wire.checks.push(wire::Check {
        target_id: 9,
        ..named(5, "no-target")
    });
    wire.checks.push(named(6, "good"));
    let (read, problems) = Assignment::from_wire(wire.clone()).unwrap();
    let ids: Vec<u32> = read.checks.iter().map(|check| check.id.0).collect();
    assert_eq!(ids, [1, 6]);
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "check 1 (twice): check.check_id: each check id may be used once",
            "check 2 (from-the-future): check.probe: is missing or of a kind that this build does not know",
            "check 3 (wrong-family): check.family: must be the family of the target's address",
            "check 4 (bad-target): target.address: this build knows no such symbolic target",
            "check 5 (no-target): check.target_id: must name a target of the assignment",
        ]
    );
    assert!(
        Assignment::try_from(wire).is_err(),
        "not all of it is valid"
    );
}

#[test]
fn an_assignment_that_is_wrong_as_a_whole_is_refused() {
    let table: [Case<wire::Assignment>; 6] = [
        (
            |a| a.version = 0,
            "assignment.version is 0, allowed is 1 to 4294967295",
        ),
        (|a| a.ap_id.clear(), "assignment.ap_id is not valid"),
        (
            |a| a.flush_interval_ms = 3_600_001,
            "assignment.flush_interval_ms is 3600001, allowed is 0 to 3600000",
        ),
        (
            |a| a.checks = vec![icmp_check(); 4_097],
            "assignment.checks has length 4097, the limit is 4096",
        ),
        (
            |a| a.targets = vec![target("::1"); 4_097],
            "assignment.targets has length 4097, the limit is 4096",
        ),
        (
            |a| a.targets = vec![target("::1"); 2],
            "assignment.targets: each target id may be used once",
        ),
    ];
    for (change, expected) in table {
        let mut wire = assignment();
        change(&mut wire);
        assert_eq!(complaint(Assignment::from_wire(wire)), expected);
    }
}

fn hello() -> wire::Hello {
    wire::Hello {
        protocol_min: 1,
        protocol_max: 2,
        boot_id: vec![1; 16],
        incarnation: 9,
        clock: Some(wire::Clock::default()),
        ledger: Some(wire::Ledger::default()),
        ..wire::Hello::default()
    }
}

fn span(from_inclusive: u64, to_exclusive: u64) -> wire::SequenceRange {
    wire::SequenceRange {
        incarnation: 1,
        from_inclusive,
        to_exclusive,
    }
}

#[test]
fn a_hello_is_held_to_its_rules() {
    let table: [Case<wire::Hello>; 11] = [
        (
            |h| h.protocol_min = 3,
            "hello.protocol_max is 2, allowed is 3 to 4294967295",
        ),
        (
            |h| h.agent_version = "v".repeat(256),
            "hello.agent_version has length 256, the limit is 255",
        ),
        (
            |h| h.boot_id.truncate(15),
            "hello.boot_id: must have 16 bytes",
        ),
        (|h| h.incarnation = 0, "hello.incarnation is missing"),
        (|h| h.clock = None, "hello.clock is missing"),
        (|h| h.ledger = None, "hello.ledger is missing"),
        (
            |h| h.capabilities = vec![1; 65],
            "hello.capabilities has length 65, the limit is 64",
        ),
        (
            |h| h.privilege_tier = 3,
            "hello.privilege_tier is 3, allowed is 0 to 2",
        ),
        (
            |h| h.waiting = vec![span(0, 1); 1_025],
            "hello.waiting has length 1025, the limit is 1024",
        ),
        (
            |h| h.waiting = vec![span(5, 5)],
            "hello.waiting: a range must begin before it ends",
        ),
        (
            |h| {
                let count = wire::DroppedCount::default();
                h.ledger.iter_mut().for_each(|l| l.dropped = vec![count; 6]);
            },
            "ledger.dropped has length 6, the limit is 5",
        ),
    ];
    for (change, expected) in table {
        let mut wire = hello();
        change(&mut wire);
        assert_eq!(complaint(Hello::try_from(wire)), expected);
    }
}

#[test]
fn capabilities_and_versions_of_a_newer_agent_are_skipped() {
    let read = Hello::try_from(wire::Hello {
        capabilities: vec![3, 1_000, -1],
        ..hello()
    })
    .unwrap();
    assert_eq!(read.capabilities, [wire::Capability::Ipv4]);
    assert_eq!(negotiate(&read.protocol), Some(1));
    assert_eq!(negotiate(&(2..=7)), None);
}

#[test]
fn batches_are_held_to_their_rules() {
    let refuse = |batch| complaint(Batch::try_from(batch));
    let batch = wire::Batch::default;
    let future_block = vec![2, 0, 0];
    assert_eq!(
        refuse(wire::Batch {
            block: future_block,
            ..batch()
        }),
        "batch.block is not a readable block"
    );
    assert_eq!(
        refuse(wire::Batch {
            block: vec![0; limits::MESSAGE_BYTES + 1],
            ..batch()
        }),
        "batch.block has length 1048577, the limit is 1048576"
    );
    assert_eq!(
        refuse(wire::Batch {
            first_sequence: u64::MAX,
            block: vec![1, 0, 2],
            ..batch()
        }),
        "batch.first_sequence: the last record's number must fit into 64 bits"
    );
    assert_eq!(
        refuse(wire::Batch {
            boot_id: vec![0; 3],
            ..batch()
        }),
        "batch.boot_id: must have 16 bytes"
    );
}

#[test]
fn a_batch_without_incarnation_belongs_to_the_hello() {
    use extranet_proto::id::Incarnation;
    let batch = Batch::try_from(wire::Batch {
        first_sequence: 40,
        block: vec![1, 0, 2],
        ..wire::Batch::default()
    })
    .unwrap();
    let range = batch.range(Incarnation(7));
    assert_eq!((range.incarnation, range.count()), (Incarnation(7), 2));
    assert_eq!((range.from_inclusive, range.to_exclusive), (40, 42));
}

#[test]
fn the_other_messages_are_held_to_their_rules() {
    let long = || "x".repeat(256);
    let found = [
        complaint(Ack::try_from(wire::Ack {
            ranges: vec![],
            refused: vec![span(2, 1)],
        })),
        complaint(Welcome::try_from(wire::Welcome {
            already_held: vec![span(0, 1); 1_025],
            ..wire::Welcome::default()
        })),
        complaint(Wait::try_from(wire::Wait {
            delay_ms: 0,
            reason: long(),
        })),
        complaint(AssignmentStatus::try_from(wire::AssignmentStatus {
            problems: vec![String::new(); 65],
            ..wire::AssignmentStatus::default()
        })),
        complaint(MeasurementAnswer::try_from(
            wire::MeasurementAnswer::default(),
        )),
        complaint(MeasurementRequest::try_from(wire::MeasurementRequest {
            request_id: 1,
            target: Some(target("::1")),
            check: Some(icmp_check()),
        })),
        complaint(MeasurementRequest::try_from(wire::MeasurementRequest {
            request_id: 1,
            target: Some(target("10.0.0.1")),
            check: Some(wire::Check {
                interval_ms: 600_000,
                probe: Some(wire::check::Probe::Icmp(wire::IcmpProbe {
                    packets: 20,
                    steady: true,
                    payload_bytes: 56,
                    ..wire::IcmpProbe::default()
                })),
                ..icmp_check()
            }),
        })),
    ];
    let expected = [
        "ack.refused: a range must begin before it ends",
        "welcome.already_held has length 1025, the limit is 1024",
        "wait.reason has length 256, the limit is 255",
        "assignment_status.problems has length 65, the limit is 64",
        "measurement_answer.block: must hold one result, or there must be a refusal",
        "check.family: must be the family of the target's address",
        "measurement_request.check: must be over within five minutes",
    ];
    assert_eq!(found, expected);
}

#[test]
fn nobody_can_be_told_to_stay_away_for_long_and_texts_are_cut_between_characters() {
    let wait = Wait::try_from(wire::Wait {
        delay_ms: u32::MAX,
        reason: String::new(),
    });
    assert_eq!(wait.unwrap().delay.as_millis(), 3_600_000);
    let status = wire::AssignmentStatus::from(AssignmentStatus {
        version: extranet_proto::id::AssignmentVersion(1),
        applied: false,
        problems: vec!["断".repeat(100); 70],
    });
    assert_eq!(status.problems.len(), limits::PROBLEMS);
    assert_eq!(status.problems[0].chars().count(), 85, "85 x 3 = 255 bytes");
}
