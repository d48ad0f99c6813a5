//! The way to a target, through routers that are kernels of their own.
//!
//! ```text
//!                      .-- upper --.
//! site ------ first --<             >-- last ------ far
//!  10.70.1.x           '-- lower --'          10.70.6.x
//! ```
//!
//! Between `first` and `last` lie two ways. In each network the side of the site is .1, the other .2; IPv6 alike in
//! `fd70:N::/64`.

#[path = "link_path/network.rs"]
mod network;
#[path = "link_path/shape.rs"]
mod shape;

use extranet_proto::assignment::{PathProbe, PathTransport};
use extranet_proto::metric;
use extranet_proto::record::{EventKind, Outcome, Reason};
use network::{FAMILIES, Network, Way, hops, hush, make_terse, probes, speak};
use shape::{Seen, probe, value};

#[test]
fn every_transport_finds_exactly_the_routers_that_are_there() {
    let network = Network::new();
    for far in FAMILIES {
        for transport in PathTransport::ALL {
            let before = network.counted(far);
            let measured = network.measure(&probes(), &probe(transport), far);
            let after = network.counted(far);
            let seen = Seen::of(&measured);
            assert_eq!(measured.outcome, Outcome::Ok, "{seen}");
            assert_eq!(seen.addresses(), hops(far, Way::Upper), "{seen}");
            for hop in &seen.hops {
                assert_eq!((hop.sent, hop.received), (Some(3), 3), "{seen}");
                assert!(hop.min_us.is_some(), "{seen}");
            }
            assert_eq!(value(&measured, metric::PATH_HOPS), Some(4));
            assert_eq!(value(&measured, metric::PATH_SILENT_HOPS), Some(0));
            // What the run says it cost is what the kernel counted.
            let cost = (measured.traffic.sent, measured.traffic.received);
            assert_eq!(cost, (after.0 - before.0, after.1 - before.1), "{seen}");
        }
    }
}

#[test]
fn a_silent_router_is_a_gap_and_no_other_way() {
    let network = Network::new();
    let agent = probes();
    for far in FAMILIES {
        let whole = network.measure(&agent, &probe(PathTransport::Udp), far);
        let known = value(&whole, metric::PATH_FINGERPRINT);
        hush(&network.upper);
        let measured = network.measure(&agent, &probe(PathTransport::Udp), far);
        speak(&network.upper);
        let seen = Seen::of(&measured);
        assert_eq!(measured.outcome, Outcome::Ok, "{seen}");
        let mut expected = hops(far, Way::Upper);
        expected[1] = String::new();
        assert_eq!(seen.addresses(), expected, "{seen}");
        assert_eq!((seen.hops[1].sent, seen.hops[1].received), (Some(3), 0));
        assert_eq!(value(&measured, metric::PATH_SILENT_HOPS), Some(1));
        assert_eq!(value(&measured, metric::PATH_FINGERPRINT), known);
        assert_eq!(value(&measured, metric::PATH_CHANGES), Some(0));
    }
}

#[test]
fn a_flow_stays_on_its_way_where_load_is_shared_and_flows_differ() {
    let network = Network::new();
    network.share_load();
    for far in FAMILIES {
        for transport in [PathTransport::Udp, PathTransport::Tcp] {
            let mut ways = [0, 0];
            for flow_port in 61_000..61_012 {
                let probe = PathProbe {
                    flow_port,
                    ..probe(transport)
                };
                // A new agent each time, and six packets to each hop: they all take one way.
                let probe = PathProbe {
                    attempts: 6,
                    ..probe
                };
                let measured = network.measure(&probes(), &probe, far);
                let seen = Seen::of(&measured);
                let way = [Way::Upper, Way::Lower]
                    .iter()
                    .position(|way| hops(far, *way)[1] == seen.addresses()[1]);
                assert_eq!(seen.hops.len(), 4, "one who answers at each hop: {seen}");
                ways[way.expect("one of the two ways")] += 1;
            }
            assert!(ways[0] > 0 && ways[1] > 0, "load is not shared: {ways:?}");
        }
        // The port that an agent derives is the same after a restart.
        let again = || {
            let measured = network.measure(&probes(), &probe(PathTransport::Udp), far);
            value(&measured, metric::PATH_FINGERPRINT)
        };
        let first = again();
        assert!((0..4).all(|_| again() == first));
    }
}

#[test]
fn another_way_is_an_event_and_counted() {
    let network = Network::new();
    let agent = probes();
    for far in FAMILIES {
        let measure = || network.measure(&agent, &probe(PathTransport::Icmp), far);
        let before = measure();
        assert_eq!(before.notes, []);
        network.lead(Way::Lower);
        let after = measure();
        let seen = Seen::of(&after);
        assert_eq!(seen.addresses(), hops(far, Way::Lower), "{seen}");
        assert_eq!(after.outcome, Outcome::Ok);
        assert_eq!(value(&after, metric::PATH_CHANGES), Some(1));
        assert_ne!(
            value(&after, metric::PATH_FINGERPRINT),
            value(&before, metric::PATH_FINGERPRINT)
        );
        let [(kind, fingerprint, text)] = after.notes.as_slice() else {
            panic!("{:?}", after.notes);
        };
        assert_eq!(*kind, EventKind::PathChanged);
        assert_eq!(
            u64::try_from(*fingerprint).ok(),
            value(&after, metric::PATH_FINGERPRINT)
        );
        for way in [Way::Upper, Way::Lower] {
            let shown = hops(far, way).join(" > ");
            assert!(text.contains(&shown), "{shown} in {text}");
        }
        network.lead(Way::Upper);
        let back = measure();
        assert_eq!(value(&back, metric::PATH_CHANGES), Some(2));
        assert_eq!(
            value(&back, metric::PATH_FINGERPRINT),
            value(&before, metric::PATH_FINGERPRINT)
        );
    }
}

#[test]
fn what_ends_a_path_is_told_apart() {
    let network = Network::new();
    for far in FAMILIES {
        for transport in PathTransport::ALL {
            // Silence costs its time with each attempt.
            let once = PathProbe {
                attempts: 1,
                ..probe(transport)
            };
            let look = || network.measure(&probes(), &once, far);
            let (upper, last) = (&network.upper, &network.last);
            let host = if far.v6 {
                "addr-unreachable"
            } else {
                "host-unreachable"
            };
            let net = if far.v6 {
                "no-route"
            } else {
                "net-unreachable"
            };
            let cases = [
                (host, Reason::HostUnreachable, 2),
                (net, Reason::NetworkUnreachable, 2),
                ("admin-prohibited", Reason::Prohibited, 2),
                ("loop", Reason::RoutingLoop, 0),
                ("drop", Reason::Timeout, 2),
            ];
            for (how, reason, distance) in cases {
                network.spoil(how, far);
                let measured = look();
                network.mend(far);
                let seen = Seen::of(&measured);
                assert_eq!(
                    (measured.outcome, measured.reason),
                    (Outcome::Failed, reason),
                    "{how}: {seen}"
                );
                if distance > 0 {
                    let found = value(&measured, metric::PATH_HOPS);
                    assert_eq!(found, Some(distance), "{how}: {seen}");
                }
                assert_eq!(value(&measured, metric::PATH_REACHED), Some(0), "{how}");
            }
            // Behind routers that say nothing the target is found, if not its distance.
            for router in [upper, last] {
                hush(router);
            }
            let measured = look();
            for router in [upper, last] {
                speak(router);
            }
            assert_eq!(measured.outcome, Outcome::Ok, "{}", Seen::of(&measured));
        }
    }
}

#[test]
fn routers_that_quote_only_eight_bytes_are_asked_one_by_one() {
    let network = Network::new();
    let _terse = make_terse(&network.first);
    let far = FAMILIES[0];
    for transport in PathTransport::ALL {
        let measured = network.measure(&probes(), &probe(transport), far);
        let seen = Seen::of(&measured);
        assert_eq!(measured.outcome, Outcome::Ok, "{seen}");
        assert_eq!(seen.addresses(), hops(far, Way::Upper), "{seen}");
        assert!(
            seen.hops.iter().all(|hop| hop.received == 3),
            "{transport:?}: {seen}"
        );
    }
}

#[test]
fn the_path_mtu_is_found_to_the_byte_and_a_black_hole_is_told() {
    let network = Network::new();
    for far in FAMILIES {
        for transport in [PathTransport::Icmp, PathTransport::Udp] {
            let look = |expected: Option<u16>| {
                let probe = PathProbe {
                    path_mtu: true,
                    expected_path_mtu: expected,
                    ..probe(transport)
                };
                let before = network.counted(far);
                let measured = network.measure(&probes(), &probe, far);
                let after = network.counted(far);
                let cost = (measured.traffic.sent, measured.traffic.received);
                assert_eq!(cost, (after.0 - before.0, after.1 - before.1));
                let values = [
                    metric::PATH_MTU,
                    metric::PATH_MTU_LOCAL,
                    metric::PATH_MTU_BLACK_HOLE,
                ]
                .map(|metric| value(&measured, metric).expect("the path MTU was found"));
                (measured, values)
            };
            let (measured, values) = look(Some(1_500));
            assert_eq!(values, [1_500, 1_500, 0]);
            assert_eq!(measured.outcome, Outcome::Ok);
            assert_eq!(value(&measured, metric::PATH_MTU_TOO_BIG), Some(0));

            network.narrow(1_300);
            let (measured, values) = look(Some(1_500));
            assert_eq!(values, [1_300, 1_500, 0]);
            assert_eq!(measured.reason, Reason::PathMtuUnexpected);
            assert_eq!(value(&measured, metric::PATH_MTU_TOO_BIG), Some(1));
            let limit = Seen::of(&measured).limit;
            let teller = hops(far, Way::Upper)[0].clone();
            assert_eq!(limit, Some((teller, 1_300)));
            let (measured, _) = look(Some(1_300));
            assert_eq!(measured.outcome, Outcome::Ok);

            network.swallow_too_big();
            let (measured, values) = look(None);
            assert_eq!(values, [1_300, 1_500, 1]);
            assert_eq!(
                (measured.outcome, measured.reason),
                (Outcome::Failed, Reason::PathMtuBlackHole)
            );
            assert_eq!(value(&measured, metric::PATH_MTU_TOO_BIG), Some(0));
            network.tell_too_big();
            network.narrow(1_500);
        }
    }
}

#[test]
fn mtr_sees_the_same_routers() {
    let network = Network::new();
    for far in FAMILIES {
        for (transport, flags) in [
            (PathTransport::Icmp, &[][..]),
            (PathTransport::Udp, &["--udp"][..]),
            (PathTransport::Tcp, &["--tcp", "--port", "443"][..]),
        ] {
            let measured = network.measure(&probes(), &probe(transport), far);
            let peer = network.mtr(far, flags);
            assert_eq!(Seen::of(&measured).addresses(), peer, "{transport:?}");
        }
    }
}

#[test]
fn nobody_needs_no_capability_and_sees_a_table() {
    let network = Network::new();
    network
        .site
        .sysctl("net/ipv4/ping_group_range", "0 2147483647");
    for far in FAMILIES {
        for transport in ["icmp", "udp", "tcp"] {
            let shown = network.agent_as_nobody(&["path", far.address, "--transport", transport]);
            for (hop, address) in (1..).zip(hops(far, Way::Upper)) {
                let line = format!("{hop:02} {address} ");
                let found = shown.lines().find(|shown| shown.starts_with(&line));
                assert!(
                    found.is_some_and(|line| line.contains("0.0%     3")),
                    "{shown}"
                );
            }
            assert!(shown.contains("reached; 4 hops; path "), "{shown}");
        }
        let shown = network.agent_as_nobody(&["path", far.address, "--mtu"]);
        assert!(
            shown.contains("path MTU 1500 bytes, device 1500"),
            "{shown}"
        );
    }
    // Neither a datagram socket nor a raw one.
    network.site.sysctl("net/ipv4/ping_group_range", "1 0");
    let shown = network.agent_as_nobody(&["path", "10.70.6.2"]);
    assert!(shown.contains("cannot measure: no_privilege"), "{shown}");
}
