//! One of everything that goes over the wire or stays on disk, with what it must be read as.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use extranet_proto::assignment::{
    ApprovedRouter, Assignment, Check, DnsProbe, DnsTransport, DnsType, Family, HttpProbe,
    HttpVersion, IcmpProbe, Ipv6Probe, Ipv6Service, LinkClass, NtpProbe, PathProbe, PathTransport,
    Probe, Security, SnmpCredential, SnmpProbe, Symbol, Target, TargetAddress, TcpProbe, TlsProbe,
    UdpProbe,
};
use extranet_proto::id::{
    ApId, AssignmentVersion, BootId, CheckId, CheckName, Incarnation, ObjectId, TargetId,
};
use extranet_proto::mac::MacAddress;
use extranet_proto::ranges::RangeSet;
use extranet_proto::record::{
    AgentEvent, Body, CheckResult, Definition, DropReason, DroppedRange, EventKind, ObjectKind,
    Outcome, Reason, Record, RecordTime, SecurityAction, SecurityEvent, SecurityRule, Severity,
    Value,
};
use extranet_proto::session::{
    Ack, AgentMessage, AssignmentStatus, Batch, ClockReading, CollectorMessage, Hello,
    IncarnationRange, Lane, Ledger, MeasurementAnswer, MeasurementRequest, Wait, Welcome,
};
use extranet_proto::{block, metric, wire};
use prost::Message;

use crate::workload;

/// How the bytes of a sample are read.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Form {
    Block,
    Ranges,
    FromAgent,
    FromCollector,
}

/// Reads bytes of the given form, today's way, and says what they are.
pub(crate) fn read(form: Form, bytes: &[u8]) -> String {
    match form {
        Form::Block => {
            let records = block::decode(bytes).expect("a sample is valid");
            let lines: Vec<String> = records.iter().map(|r| format!("{r:?}")).collect();
            lines.join(
                "
",
            ) + "
"
        }
        Form::Ranges => format!(
            "{:#?}\n",
            RangeSet::decode(bytes).expect("a sample is valid")
        ),
        Form::FromAgent => {
            let message = wire::AgentMessage::decode(bytes).expect("a sample is valid");
            format!(
                "{:#?}\n",
                AgentMessage::try_from(message).expect("a sample is valid")
            )
        }
        Form::FromCollector => {
            let message = wire::CollectorMessage::decode(bytes).expect("a sample is valid");
            match CollectorMessage::try_from(message).expect("a sample is valid") {
                CollectorMessage::Assignment(assignment) => {
                    format!(
                        "{:#?}\n",
                        Assignment::from_wire(assignment).expect("a sample is valid")
                    )
                }
                CollectorMessage::MeasurementRequest(request) => {
                    format!(
                        "{:#?}\n",
                        MeasurementRequest::try_from(*request).expect("a sample is valid")
                    )
                }
                other => format!("{other:#?}\n"),
            }
        }
    }
}

/// File name without extension, and how the file is read.
pub(crate) const NAMES: [(&str, Form); 15] = [
    ("block-live", Form::Block),
    ("block-every-kind", Form::Block),
    ("block-packed", Form::Block),
    ("ranges", Form::Ranges),
    ("hello", Form::FromAgent),
    ("batch", Form::FromAgent),
    ("heartbeat", Form::FromAgent),
    ("assignment-status", Form::FromAgent),
    ("measurement-answer", Form::FromAgent),
    ("measurement-refusal", Form::FromAgent),
    ("welcome", Form::FromCollector),
    ("ack", Form::FromCollector),
    ("assignment", Form::FromCollector),
    ("measurement-request", Form::FromCollector),
    ("wait", Form::FromCollector),
];

/// What this build writes for a name of [`NAMES`].
pub(crate) fn write(name: &str) -> Vec<u8> {
    match name {
        "block-live" => block::encode(&[icmp_result(), failed_result()]),
        "block-every-kind" => block::encode(&every_kind()),
        "block-packed" => block::encode(&packed()),
        "ranges" => RangeSet::from_iter([0..7, 9..1_000_000, (1 << 40)..(1 << 41)]).encode(),
        "hello" => agent(AgentMessage::Hello(Box::new(hello()))),
        "batch" => agent(AgentMessage::Batch(batch())),
        "heartbeat" => agent(AgentMessage::Batch(heartbeat())),
        "assignment-status" => agent(AgentMessage::AssignmentStatus(AssignmentStatus {
            version: AssignmentVersion(12),
            applied: true,
            problems: vec!["check 9 (gateway-4): target.address: outside".to_owned()],
        })),
        "measurement-answer" => agent(AgentMessage::MeasurementAnswer(MeasurementAnswer {
            request_id: 77,
            answer: Ok(vec![icmp_result()]),
        })),
        "measurement-refusal" => agent(AgentMessage::MeasurementAnswer(MeasurementAnswer {
            request_id: 78,
            answer: Err("target not allowed".to_owned()),
        })),
        "welcome" => collector(CollectorMessage::Welcome(Welcome {
            protocol: 1,
            collector_version: "0.1.0".to_owned(),
            collector_wall_us: 1_790_000_000_000_000,
            flush_interval: Duration::from_mins(1),
            already_held: vec![range(1, 0, 400)],
        })),
        "ack" => collector(CollectorMessage::Ack(Ack {
            ranges: vec![range(2, 400, 406), range(1, 0, 9)],
            refused: vec![range(1, 9, 10)],
        })),
        "assignment" => collector(CollectorMessage::Assignment((&assignment()).into())),
        "measurement-request" => {
            let assignment = assignment();
            let request = MeasurementRequest {
                request_id: 77,
                target: assignment.targets[0].clone(),
                check: assignment.checks[0].clone(),
            };
            collector(CollectorMessage::MeasurementRequest(Box::new(
                request.into(),
            )))
        }
        "wait" => collector(CollectorMessage::Wait(Wait {
            delay: Duration::from_secs(30),
            reason: "too many agents at once".to_owned(),
        })),
        other => panic!("no sample is called {other}"),
    }
}

fn agent(message: AgentMessage) -> Vec<u8> {
    wire::AgentMessage::from(message).encode_to_vec()
}

fn collector(message: CollectorMessage) -> Vec<u8> {
    wire::CollectorMessage::from(message).encode_to_vec()
}

fn range(incarnation: u64, from_inclusive: u64, to_exclusive: u64) -> IncarnationRange {
    IncarnationRange {
        incarnation: Incarnation(incarnation),
        from_inclusive,
        to_exclusive,
    }
}

fn at(boottime_ms: u64, body: Body) -> Record {
    Record {
        time: RecordTime {
            boottime_ms,
            wall_ms: 1_790_000_000_000 + boottime_ms.cast_signed(),
        },
        body,
    }
}

fn icmp_result() -> Record {
    let raw = [
        (metric::ICMP_SENT, 5),
        (metric::ICMP_RECEIVED, 5),
        (metric::ICMP_RTT_MIN, 2_101),
        (metric::ICMP_RTT_AVG, 2_190),
        (metric::ICMP_RTT_MAX, 2_404),
        (metric::ICMP_JITTER, 88),
        (metric::ICMP_HOP_LIMIT, 61),
        (metric::ICMP_DUPLICATES, 0),
    ];
    let value = |(metric, raw)| Value {
        metric,
        object: ObjectId(0),
        raw,
    };
    at(
        86_404_211,
        Body::Result(CheckResult {
            assignment: AssignmentVersion(12),
            check: CheckId(1),
            outcome: Outcome::Ok,
            reason: Reason::None,
            duration_us: 4_002_310,
            values: raw.into_iter().map(value).collect(),
        }),
    )
}

fn failed_result() -> Record {
    at(
        86_409_000,
        Body::Result(CheckResult {
            assignment: AssignmentVersion(12),
            check: CheckId(2),
            outcome: Outcome::Failed,
            reason: Reason::Timeout,
            duration_us: 5_000_000,
            values: vec![Value {
                metric: metric::TCP_CONNECT,
                object: ObjectId(0),
                raw: (-1_i64).cast_unsigned(),
            }],
        }),
    )
}

fn every_kind() -> Vec<Record> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        at(
            5,
            Body::Event(AgentEvent {
                kind: EventKind::Started,
                value: 0,
                text: String::new(),
            }),
        ),
        icmp_result(),
        at(
            86_404_300,
            Body::Definition(Definition {
                object: ObjectId(1),
                check: CheckId(7),
                kind: ObjectKind::Interface,
                labels: vec![
                    label("ifIndex", "1"),
                    label("ifName", "Gi1/0/1"),
                    label("ifAlias", "上联 county"),
                ],
            }),
        ),
        at(
            86_405_000,
            Body::Dropped(DroppedRange {
                incarnation: Incarnation(0xfeed_beef),
                from_inclusive: 100,
                to_exclusive: 4_000,
                reason: DropReason::SpoolBytes,
            }),
        ),
        at(
            86_406_000,
            Body::Event(AgentEvent {
                kind: EventKind::ClockStepped,
                value: -3_600_000,
                text: "时钟 stepped back".to_owned(),
            }),
        ),
        at(86_407_000, Body::Unknown { kind: 200 }),
        at(
            86_407_500,
            Body::Security(SecurityEvent {
                rule: SecurityRule::GatewayMac,
                action: SecurityAction::Raised,
                severity: Severity::Critical,
                object: "gateway fe80::1 on eth0".to_owned(),
                first_seen: RecordTime {
                    boottime_ms: 86_407_100,
                    wall_ms: 1_790_086_407_100,
                },
                evidence: vec![
                    label("mac_before", "02:00:00:00:00:01"),
                    label("mac_now", "02:00:00:00:00:02"),
                ],
            }),
        ),
        at(
            86_408_000,
            Body::Definition(Definition {
                object: ObjectId(2),
                check: CheckId(11),
                kind: ObjectKind::TlsEndpoint,
                labels: vec![
                    label("version", "TLSv1.3"),
                    label("not_after", "2027-01-01T00:00:00Z"),
                ],
            }),
        ),
        failed_result(),
    ]
}

/// Long and repetitive enough that it goes through zstd.
fn packed() -> Vec<Record> {
    let mut records = workload::port_definitions(&mut workload::Dice(5));
    records.extend(workload::village_block(2, workload::FIBRE_RTT_US));
    records
}

fn clock() -> ClockReading {
    ClockReading {
        wall_us: 1_790_000_086_400_000,
        boottime_us: 86_400_000,
        synchronised: true,
    }
}

fn ledger() -> Ledger {
    Ledger {
        produced: 10_000,
        acknowledged: 6_000,
        waiting: 100,
        dropped: BTreeMap::from([(DropReason::SpoolBytes, 3_897), (DropReason::Disk, 1)]),
        damaged: 2,
    }
}

fn hello() -> Hello {
    Hello {
        protocol: 1..=1,
        agent_version: "0.1.0".to_owned(),
        boot_id: BootId(*b"0123456789abcdef"),
        incarnation: Incarnation(0x0123_4567_89ab_cdef),
        clock: clock(),
        capabilities: vec![
            wire::Capability::IcmpDatagram,
            wire::Capability::Ipv4,
            wire::Capability::Ipv6,
            wire::Capability::SnmpV3,
        ],
        privilege_tier: 0,
        assignment: AssignmentVersion(11),
        waiting: vec![range(1, 0, 400), range(2, 10, 20)],
        ledger: ledger(),
    }
}

fn batch() -> Batch {
    let block = block::encode(&[icmp_result(), failed_result()]);
    Batch {
        incarnation: Some(Incarnation(2)),
        first_sequence: 400,
        count: block::count(&block).expect("a sample is valid"),
        block,
        lane: Lane::Backlog,
        clock: Some(clock()),
        ledger: Some(ledger()),
        boot_id: Some(BootId([7; 16])),
    }
}

fn heartbeat() -> Batch {
    Batch {
        incarnation: None,
        first_sequence: 406,
        block: Vec::new(),
        count: 0,
        lane: Lane::Live,
        clock: None,
        ledger: None,
        boot_id: None,
    }
}

fn assignment() -> Assignment {
    let target = |id, vrf: &str, address| Target {
        id: TargetId(id),
        vrf: vrf.to_owned(),
        address,
    };
    let v4 = IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3));
    let v6 = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
    Assignment {
        version: AssignmentVersion(12),
        ap_id: ApId::new("540121-001").expect("a sample is valid"),
        flush_interval: Duration::from_mins(1),
        link_class: LinkClass::Satellite,
        daily_budget: 10_000_000,
        targets: vec![
            target(1, "", TargetAddress::Ip(v4)),
            target(2, "vpn-gov", TargetAddress::Ip(v6)),
            target(
                3,
                "",
                TargetAddress::Name("portal.example.gov.cn".to_owned()),
            ),
            target(4, "", TargetAddress::Symbolic(Symbol::Gateway)),
            target(5, "", TargetAddress::Symbolic(Symbol::Resolver)),
        ],
        checks: vec![
            check(1, 1, "centre-4", Family::V4, icmp()),
            check(2, 3, "portal-6", Family::V6, Probe::Tcp(TcpProbe::to(443))),
            check(3, 4, "gateway-4", Family::V4, icmp()),
            check(7, 1, "router", Family::V4, snmp_v2c()),
            check(8, 2, "router-6", Family::V6, snmp_v3()),
            check(9, 5, "resolver-4", Family::V4, dns()),
            check(10, 3, "portal-home", Family::V6, http()),
            check(11, 3, "portal-tls", Family::V6, tls()),
            check(12, 4, "ipv6", Family::V6, ipv6()),
            check(13, 1, "path-4", Family::V4, path()),
            Check {
                timeout: Duration::from_secs(2),
                ..check(20, 3, "portal-train", Family::V6, icmp_train())
            },
            check(
                23,
                2,
                "echo-6",
                Family::V6,
                Probe::Udp(UdpProbe {
                    source: Some(v6),
                    ..UdpProbe::default()
                }),
            ),
            check(21, 1, "ntp-4", Family::V4, Probe::Ntp(NtpProbe::default())),
            check(22, 5, "canary-4", Family::V4, canary()),
        ],
        security: Security {
            routers: vec![ApprovedRouter {
                name: "ce".to_owned(),
                macs: vec![
                    MacAddress([2, 0, 0, 0, 0, 1]),
                    MacAddress([0, 0, 0x5e, 0, 2, 7]),
                ],
                link_locals: vec![Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1)],
                prefixes: vec!["2001:db8:21::/48".parse().expect("a sample is valid")],
            }],
        },
        snmp_modules: Vec::new(),
    }
}

fn check(id: u32, target: u32, name: &str, family: Family, probe: Probe) -> Check {
    Check {
        stretch_last: false,
        id: CheckId(id),
        target: TargetId(target),
        name: CheckName::new(name).expect("a sample is valid"),
        family,
        interval: Duration::from_mins(1),
        timeout: Duration::from_secs(10),
        probe,
    }
}

fn icmp() -> Probe {
    Probe::Icmp(IcmpProbe {
        packet_interval: Duration::from_secs(1),
        ..IcmpProbe::default()
    })
}

/// 20 requests spread over a minute, with every option.
fn icmp_train() -> Probe {
    Probe::Icmp(IcmpProbe {
        packets: 20,
        packet_interval: Duration::from_secs(3),
        steady: true,
        payload_bytes: 1_232,
        dscp: 46,
        dont_fragment: true,
        hop_limit: Some(32),
        source: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        interface: "eth0".to_owned(),
        histogram: true,
    })
}

fn snmp_v2c() -> Probe {
    Probe::Snmp(SnmpProbe {
        port: 161,
        credential: SnmpCredential::V2c {
            community: "public".to_owned(),
        },
        modules: vec!["system".to_owned(), "if_mib".to_owned()],
    })
}

fn snmp_v3() -> Probe {
    let secret = |protocol: &str| Some((protocol.to_owned(), "only a sample".to_owned()));
    Probe::Snmp(SnmpProbe {
        port: 161,
        credential: SnmpCredential::V3 {
            user: "noc".to_owned(),
            auth: secret("SHA-256"),
            privacy: secret("AES-128"),
            context: String::new(),
        },
        modules: vec!["system".to_owned()],
    })
}

fn dns() -> Probe {
    Probe::Dns(DnsProbe {
        transport: DnsTransport::Udp,
        port: 53,
        query_name: "portal.example.gov.cn".to_owned(),
        query_type: DnsType::Aaaa,
        expected: vec!["2001:db8::80".to_owned()],
        expected_subset: true,
        require_authenticated: true,
        ..DnsProbe::default()
    })
}

fn canary() -> Probe {
    Probe::Dns(DnsProbe {
        query_name: "example.gov.cn".to_owned(),
        edns_bytes: 4_096,
        tries: 3,
        tcp_fallback: false,
        canary: true,
        ..DnsProbe::default()
    })
}

fn http() -> Probe {
    Probe::Http(HttpProbe {
        port: 443,
        tls: true,
        host: "portal.example.gov.cn".to_owned(),
        path: "/index.html?lang=zh".to_owned(),
        body_contains: "政务".to_owned(),
        body_lacks: "维护".to_owned(),
        redirects_max: 3,
        version: HttpVersion::Http2,
        expected_headers: vec![("server".to_owned(), "nginx".to_owned())],
        verify_chain: true,
        ..HttpProbe::default()
    })
}

fn tls() -> Probe {
    Probe::Tls(TlsProbe {
        port: 443,
        roots: vec![vec![0x30, 0x03, 0x02, 0x01, 0x00]],
        fail_on_change: true,
        key_sha256: vec![[7; 32]],
        ..TlsProbe::default()
    })
}

fn ipv6() -> Probe {
    let address = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    Probe::Ipv6(Box::new(Ipv6Probe {
        allotted_prefix: Some("2001:db8:7::/48".parse().expect("a sample is valid")),
        anchors4: vec![Ipv4Addr::new(10, 1, 2, 3)],
        anchors6: vec![address(1), address(2)],
        collector6: Some(SocketAddrV6::new(address(3), 8443, 0, 0)),
        services: vec![Ipv6Service {
            name: "门户".to_owned(),
            host: "portal.example.gov.cn".to_owned(),
            port: 443,
            tls: true,
        }],
        resolver6: Some(address(53)),
        expected_path_mtu: Some(1_400),
    }))
}

fn path() -> Probe {
    Probe::Path(PathProbe {
        transport: PathTransport::Udp,
        port: 33_434,
        flow_port: 0,
        first_hop: 1,
        max_hop: 30,
        attempts: 3,
        parallel: 6,
        payload_bytes: 32,
        trace: true,
        path_mtu: true,
        expected_path_mtu: Some(1_500),
    })
}
