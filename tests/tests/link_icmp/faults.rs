//! Loss, copies, order, families, sizes.

use std::time::Duration;

use extranet_agent::probe::Traffic;
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};
use extranet_tests::forwarder::Faults;

use super::{AMPLE, FAR, Rig, echoes, measure, quiet, value, verdict};

const TIMEOUT: (Outcome, Reason) = (Outcome::Failed, Reason::Timeout);
const GOOD: (Outcome, Reason) = (Outcome::Ok, Reason::None);
const SHORT: Duration = Duration::from_millis(300);

#[test]
fn loss_is_what_the_link_counted_in_each_direction() {
    Rig::new().with_both_tiers(async |probes, link| {
        for address in FAR {
            link.forget_counts();
            link.forth(Faults {
                loss_per_mille: 200,
                ..Faults::default()
            });
            link.back(Faults {
                loss_per_mille: 100,
                ..Faults::default()
            });
            let measured = measure(probes, &echoes(200, 2), address, Duration::from_secs(1)).await;
            let counts = quiet(link).await;
            let (sent, received) = (
                value(&measured, metric::ICMP_SENT),
                value(&measured, metric::ICMP_RECEIVED),
            );
            assert_eq!((sent, counts.forth.received), (200, 200));
            assert_eq!(received, counts.back.forwarded);
            assert_eq!(sent - received, counts.forth.lost + counts.back.lost);
            assert!(counts.forth.lost > 0 && counts.back.lost > 0, "{counts:?}");
            let traffic = Traffic {
                sent: counts.forth.received_bytes,
                received: counts.back.forwarded_bytes,
            };
            assert_eq!(measured.traffic, traffic, "{address}");
        }
    });
}

#[test]
fn loss_of_one_direction_is_silence_and_the_link_knows_which() {
    Rig::new().with_both_tiers(async |probes, link| {
        for address in FAR {
            link.both(Faults::default());
            link.forth(Faults::all_lost());
            link.forget_counts();
            let measured = measure(probes, &echoes(3, 2), address, SHORT).await;
            assert_eq!(verdict(&measured), TIMEOUT);
            let counts = link.counts();
            assert_eq!((counts.forth.lost, counts.back.received), (3, 0));

            link.forth(Faults::default());
            link.back(Faults::all_lost());
            link.forget_counts();
            let measured = measure(probes, &echoes(3, 2), address, SHORT).await;
            assert_eq!(verdict(&measured), TIMEOUT);
            let counts = link.counts();
            assert_eq!((counts.forth.forwarded, counts.back.lost), (3, 3));
        }
    });
}

#[test]
fn copies_are_counted_whenever_they_come() {
    Rig::new().with_both_tiers(async |probes, link| {
        for address in FAR {
            let faults = Faults {
                duplicate_per_mille: 300,
                ..Faults::default()
            };
            link.both(faults);
            link.forget_counts();
            let first = measure(probes, &echoes(100, 2), address, AMPLE).await;
            quiet(link).await;
            link.both(Faults::default());
            // What came behind the end of the first run is told here.
            let second = measure(probes, &echoes(5, 2), address, AMPLE).await;
            let counts = quiet(link).await;
            let told = |metric| value(&first, metric) + value(&second, metric);
            assert_eq!(told(metric::ICMP_SENT), 105);
            assert_eq!(told(metric::ICMP_RECEIVED), 105, "a copy is no reply");
            let copies = counts.back.forwarded - 105;
            assert_eq!(told(metric::ICMP_DUPLICATES), copies, "{counts:?}");
            assert!(copies > counts.forth.duplicated && counts.forth.duplicated > 0);
            let received = first.traffic.received + second.traffic.received;
            assert_eq!(received, counts.back.forwarded_bytes);
        }
    });
}

#[test]
fn order_is_what_the_link_made_of_it() {
    Rig::new().with_both_tiers(async |probes, link| {
        for address in FAR {
            link.back(Faults {
                hold_per_mille: 200,
                hold: Duration::from_millis(12),
                ..Faults::default()
            });
            link.forget_counts();
            let measured = measure(probes, &echoes(100, 3), address, AMPLE).await;
            let counts = quiet(link).await;
            assert_eq!(value(&measured, metric::ICMP_RECEIVED), 100);
            let reordered = value(&measured, metric::ICMP_REORDERED);
            assert_eq!(reordered, counts.back.reordered);
            assert!(reordered > 5, "{counts:?}");
        }
    });
}

#[test]
fn a_family_that_is_dropped_fails_alone() {
    Rig::new().with_both_tiers(async |probes, link| {
        link.both(Faults {
            drop_v6: true,
            ..Faults::default()
        });
        let [v4, v6] = FAR;
        assert_eq!(
            verdict(&measure(probes, &echoes(3, 2), v4, AMPLE).await),
            GOOD
        );
        assert_eq!(
            verdict(&measure(probes, &echoes(3, 2), v6, SHORT).await),
            TIMEOUT
        );
        assert_eq!(link.counts().forth.wrong_family, 3);
    });
}

#[test]
fn an_unreachable_host_is_told_at_once_and_by_whom() {
    let rig = Rig::new();
    rig.far.forward();
    rig.far.ip(&["route", "add", "unreachable", "10.66.0.0/16"]);
    rig.far
        .ip(&["-6", "route", "add", "unreachable", "fd66::/16"]);
    rig.site.ip(&["route", "add", "10.66.0.0/16", "dev", "up0"]);
    rig.site
        .ip(&["-6", "route", "add", "fd66::/16", "dev", "up0"]);
    rig.with_both_tiers(async |probes, link| {
        // Linux answers for an unreachable route of IPv6 with "no route" (RFC 4443: code 0).
        for (address, offender, reason) in [
            ("10.66.0.1", FAR[0], Reason::HostUnreachable),
            ("fd66::1", FAR[1], Reason::NetworkUnreachable),
        ] {
            // One request at a time: Linux sends one host at most five errors about a route in a row.
            link.both(Faults::delay(Duration::from_millis(5)));
            let measured = measure(probes, &echoes(1, 2), address, AMPLE).await;
            assert_eq!(verdict(&measured), (Outcome::Failed, reason), "{address}");
            assert!(measured.duration < AMPLE / 2);
            assert_eq!(value(&measured, metric::ICMP_ERRORS), 1);
            let definition = &measured.definitions[0];
            assert_eq!(definition.labels[0].1, offender);
            // An error that is lost on its way is silence like any other.
            link.back(Faults::all_lost());
            let measured = measure(probes, &echoes(1, 2), address, SHORT).await;
            assert_eq!(verdict(&measured), TIMEOUT);
            assert!(measured.definitions.is_empty());
        }
    });
}

#[test]
fn a_black_hole_swallows_only_what_is_too_big() {
    Rig::new().with_both_tiers(async |probes, link| {
        for (address, header) in [(FAR[0], 28), (FAR[1], 48)] {
            link.forth(Faults {
                black_hole_above: 1_400,
                ..Faults::default()
            });
            link.forget_counts();
            for (packet, expected) in [(1_400, GOOD), (1_401, TIMEOUT), (1_500, TIMEOUT)] {
                let mut icmp = echoes(2, 2);
                icmp.dont_fragment = true;
                icmp.payload_bytes = packet - header;
                let measured = measure(probes, &icmp, address, SHORT).await;
                assert_eq!(verdict(&measured), expected, "{address} {packet}");
            }
            assert_eq!(link.counts().forth.too_big, 4);
            // Wider than our own interface: nothing leaves, and it says so.
            let mut icmp = echoes(1, 2);
            icmp.dont_fragment = true;
            icmp.payload_bytes = 1_501 - header;
            let measured = measure(probes, &icmp, address, AMPLE).await;
            assert_eq!(verdict(&measured), (Outcome::Failed, Reason::PacketTooBig));
        }
    });
}
