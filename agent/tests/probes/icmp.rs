//! ICMP: what comes of a run on good and broken paths, with both kinds of socket.

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use extranet_agent::probe::Traffic;
use extranet_agent::shell::spawn_named;
use extranet_proto::assignment::{IcmpProbe, Probe};
use extranet_proto::metric;
use extranet_proto::record::{Outcome, Reason};
use extranet_proto::wire::Capability;
use tokio::time::Instant;

use crate::namespace::{Laboratory, Namespace};
use crate::{AMPLE, block_on, echoes, measure, measure_in, probes, value};

const SHORT: Duration = Duration::from_millis(400);

/// Runs the same with datagram and with raw sockets.
fn with_both_tiers(site: &Namespace, test: impl Fn() + Copy + Send + 'static) {
    for datagram in [true, false] {
        site.allow_datagram_icmp(datagram);
        site.run(move || {
            let capabilities = probes().capabilities();
            assert_eq!(capabilities.contains(&Capability::IcmpDatagram), datagram);
            test();
        });
    }
}

fn assert_all_answered(measured: &extranet_agent::probe::Measured, packets: u64) {
    assert_eq!(measured.outcome, Outcome::Ok, "{measured:?}");
    assert_eq!(measured.reason, Reason::None);
    assert_eq!(value(measured, metric::ICMP_SENT), Some(packets));
    assert_eq!(
        value(measured, metric::ICMP_RECEIVED),
        Some(packets),
        "{measured:?}"
    );
    let of = |metric| value(measured, metric).expect("known when there was a reply");
    let (min, avg, max) = (
        of(metric::ICMP_RTT_MIN),
        of(metric::ICMP_RTT_AVG),
        of(metric::ICMP_RTT_MAX),
    );
    assert!(min <= avg && avg <= max, "{measured:?}");
    assert!(u128::from(max) <= measured.duration.as_micros());
    if packets > 1 {
        assert!(of(metric::ICMP_JITTER) <= max - min, "{measured:?}");
    }
}

#[test]
fn loopback_of_the_machine_answers() {
    block_on(async {
        let probes = probes();
        for address in ["127.0.0.1", "::1"] {
            let measured = measure(&probes, echoes(3), address, AMPLE).await;
            assert_all_answered(&measured, 3);
            assert_eq!(value(&measured, metric::ICMP_HOP_LIMIT), Some(64));
            assert_eq!(value(&measured, metric::ICMP_DUPLICATES), Some(0));
            assert_eq!(measured.values.len(), 9);
            let packet = if address == "::1" {
                40 + 8 + 56
            } else {
                20 + 8 + 56
            };
            let traffic = Traffic {
                sent: 3 * packet,
                received: 3 * packet,
            };
            assert_eq!(measured.traffic, traffic);
        }
    });
}

#[test]
fn a_host_behind_a_router_answers() {
    let laboratory = Laboratory::new();
    with_both_tiers(&laboratory.site, || {
        block_on(async {
            let probes = probes();
            for address in ["10.78.0.2", "fd78::2"] {
                let measured = measure(&probes, echoes(5), address, AMPLE).await;
                assert_all_answered(&measured, 5);
                assert_eq!(
                    value(&measured, metric::ICMP_HOP_LIMIT),
                    Some(63),
                    "one hop"
                );
            }
            assert_eq!(
                (probes.icmp_counts().sent, probes.icmp_counts().received),
                (10, 10)
            );
        });
    });
}

#[test]
fn every_refusal_on_the_way_has_its_reason_at_once() {
    for datagram in [true, false] {
        // A router of its own each time: Linux sends one host at most five such errors in a row.
        let laboratory = Laboratory::new();
        laboratory.site.allow_datagram_icmp(datagram);
        let quick = "50";
        let router = &laboratory.router;
        router.sysctl("ipv4/neigh/r1/retrans_time_ms", quick);
        router.sysctl("ipv6/neigh/r1/retrans_time_ms", quick);
        let expected = [
            ("10.79.0.1", Reason::HostUnreachable, "10.77.0.254"),
            ("10.79.0.2", Reason::Prohibited, "10.77.0.254"),
            ("10.80.0.1", Reason::NetworkUnreachable, "10.77.0.254"),
            ("10.78.0.99", Reason::HostUnreachable, "10.77.0.254"),
            ("10.81.0.1", Reason::TimeExceeded, "10.78.0.2"),
            ("fd79::1", Reason::NetworkUnreachable, "fd77::fe"),
            ("fd79::2", Reason::Prohibited, "fd77::fe"),
            ("fd80::1", Reason::NetworkUnreachable, "fd77::fe"),
            ("fd78::99", Reason::HostUnreachable, "fd77::fe"),
            ("fd81::1", Reason::TimeExceeded, "fd78::2"),
        ];
        laboratory.site.run(move || {
            block_on(async {
                let probes = probes();
                for (address, reason, offender) in expected {
                    let measured = measure(&probes, echoes(1), address, AMPLE).await;
                    assert_eq!(
                        (measured.outcome, measured.reason),
                        (Outcome::Failed, reason),
                        "{address}: {measured:?}"
                    );
                    assert_eq!(value(&measured, metric::ICMP_SENT), Some(1));
                    assert_eq!(value(&measured, metric::ICMP_RECEIVED), Some(0));
                    assert_eq!(value(&measured, metric::ICMP_RTT_AVG), None);
                    assert_eq!(value(&measured, metric::ICMP_ERRORS), Some(1));
                    let offender = ("offender".to_owned(), offender.to_owned());
                    assert_eq!(measured.definitions[0].labels[0], offender, "{address}");
                    assert!(
                        measured.duration < AMPLE / 2,
                        "{address} waited for nothing"
                    );
                }
                assert_eq!(probes.icmp_counts().errors, 10);
            });
        });
    }
}

#[test]
fn silence_is_a_timeout_at_the_deadline() {
    let laboratory = Laboratory::new();
    with_both_tiers(&laboratory.site, || {
        block_on(async {
            let probes = probes();
            for address in ["10.79.0.3", "fd79::3"] {
                let measured = measure(&probes, echoes(3), address, SHORT).await;
                assert_eq!(
                    (measured.outcome, measured.reason),
                    (Outcome::Failed, Reason::Timeout)
                );
                assert_eq!(value(&measured, metric::ICMP_SENT), Some(3));
                assert!(measured.duration >= SHORT);
            }
        });
    });
}

#[test]
fn a_packet_too_big_for_the_path_says_so_until_the_kernel_knows_the_path() {
    for datagram in [true, false] {
        let laboratory = Laboratory::new();
        laboratory.site.allow_datagram_icmp(datagram);
        laboratory.router.ip("link set r1 mtu 1300");
        laboratory.far.ip("link set b0 mtu 1300");
        laboratory.site.run(|| {
            block_on(async {
                let big = || {
                    Probe::Icmp(IcmpProbe {
                        packets: 1,
                        packet_interval: Duration::ZERO,
                        payload_bytes: 1_400,
                        ..IcmpProbe::default()
                    })
                };
                let probes = probes();
                for address in ["10.78.0.2", "fd78::2"] {
                    let first = measure(&probes, big(), address, AMPLE).await;
                    assert_eq!(
                        (first.outcome, first.reason),
                        (Outcome::Failed, Reason::PacketTooBig),
                        "{address}"
                    );
                    let second = measure(&probes, big(), address, AMPLE).await;
                    assert_all_answered(&second, 1);
                }
            });
        });
    }
}

#[test]
fn with_dont_fragment_a_packet_too_big_says_so_each_time() {
    for datagram in [true, false] {
        let laboratory = Laboratory::new();
        laboratory.site.allow_datagram_icmp(datagram);
        laboratory.router.ip("link set r1 mtu 1300");
        laboratory.far.ip("link set b0 mtu 1300");
        laboratory.site.run(|| {
            block_on(async {
                let whole = |bytes: u16| {
                    Probe::Icmp(IcmpProbe {
                        packets: 1,
                        payload_bytes: bytes,
                        dont_fragment: true,
                        ..IcmpProbe::default()
                    })
                };
                let probes = probes();
                for (address, header) in [("10.78.0.2", 28), ("fd78::2", 48)] {
                    for _ in 0..3 {
                        let big = measure(&probes, whole(1_301 - header), address, AMPLE).await;
                        assert_eq!(
                            (big.outcome, big.reason),
                            (Outcome::Failed, Reason::PacketTooBig),
                            "{address}"
                        );
                    }
                    let fits = measure(&probes, whole(1_300 - header), address, AMPLE).await;
                    assert_all_answered(&fits, 1);
                }
            });
        });
    }
}

#[test]
fn without_a_route_nothing_is_sent_and_the_path_is_blamed() {
    let alone = Namespace::new();
    with_both_tiers(&alone, || {
        block_on(async {
            for address in ["10.1.1.1", "fd01::1"] {
                let measured = measure(&probes(), echoes(2), address, AMPLE).await;
                assert_eq!(
                    (measured.outcome, measured.reason),
                    (Outcome::Failed, Reason::NetworkUnreachable),
                    "{address}"
                );
                assert_eq!(value(&measured, metric::ICMP_SENT), Some(2));
            }
        });
    });
}

#[test]
fn one_hosts_errors_do_not_touch_the_others() {
    let laboratory = Laboratory::new();
    with_both_tiers(&laboratory.site, || {
        block_on(async {
            let probes = probes();
            // Few enough errors for the 1,000 a second that Linux sends.
            let hosts = [
                ("10.78.0.2", Reason::None, 40),
                ("fd78::2", Reason::None, 40),
                ("10.81.0.1", Reason::TimeExceeded, 4),
                ("fd79::1", Reason::NetworkUnreachable, 4),
                ("fd79::2", Reason::Prohibited, 4),
            ];
            let mut runs = Vec::new();
            for (address, reason, times) in hosts {
                for _ in 0..times {
                    let probes = probes.clone();
                    let run = spawn_named("run", async move {
                        measure(&probes, echoes(5), address, AMPLE).await
                    });
                    runs.push((address, reason, run));
                }
            }
            for (address, reason, run) in runs {
                let measured = run.await.unwrap();
                assert_eq!(measured.reason, reason, "{address}: {measured:?}");
                if reason == Reason::None {
                    assert_all_answered(&measured, 5);
                } else {
                    assert_eq!(value(&measured, metric::ICMP_RECEIVED), Some(0));
                }
            }
            let counts = probes.icmp_counts();
            assert_eq!(
                (counts.received, counts.foreign, counts.malformed),
                (400, 0, 0)
            );
        });
    });
}

#[test]
fn a_thousand_targets_at_one_instant_lose_nothing() {
    let alone = Namespace::new();
    with_both_tiers(&alone, || {
        block_on(async {
            let probes = probes();
            let runs: Vec<_> = (0..1_000)
                .map(|n| {
                    let probes = probes.clone();
                    spawn_named("run", async move {
                        let address = format!("127.1.{}.{}", n / 250, n % 250 + 1);
                        measure(&probes, echoes(1), &address, AMPLE).await
                    })
                })
                .collect();
            for run in runs {
                assert_all_answered(&run.await.unwrap(), 1);
            }
            assert_eq!(probes.icmp_counts().overflowed, 0);
        });
    });
}

#[test]
fn a_runtime_that_is_late_with_everything_still_measures_right() {
    let alone = Namespace::new();
    with_both_tiers(&alone, || {
        for address in ["127.0.0.1", "::1"] {
            block_on(measured_right_beside_a_blocked_thread(address));
        }
    });
}

/// Polled in this order: the request leaves, then the only thread is busy until long after the deadline. Stamped by
/// the process instead of the kernel, the reply would always be late.
///
/// The kernel switches its stamps on in the background when the first socket of the machine asks for them, so the
/// first attempts may go wrong.
async fn measured_right_beside_a_blocked_thread(address: &str) {
    let (timeout, blocked) = (Duration::from_millis(100), Duration::from_millis(200));
    let probes = probes();
    let attempts = 20;
    for _ in 0..attempts {
        let (measured, ()) = tokio::join!(measure(&probes, echoes(1), address, timeout), async {
            std::thread::sleep(blocked);
        });
        assert!(measured.duration >= blocked);
        if measured.outcome == Outcome::Ok {
            assert_all_answered(&measured, 1);
            let rtt = value(&measured, metric::ICMP_RTT_MAX).unwrap();
            assert!(u128::from(rtt) < timeout.as_micros());
            return;
        }
    }
    panic!("{address}: never in time, {:?}", probes.icmp_counts());
}

#[test]
fn a_cancelled_run_leaves_nothing_behind() {
    let laboratory = Laboratory::new();
    laboratory.site.allow_datagram_icmp(true);
    laboratory.site.run(|| {
        block_on(async {
            let probes = probes();
            let cut = Duration::from_millis(50);
            let endless = measure(&probes, echoes(900), "10.78.0.2", AMPLE);
            tokio::time::timeout(cut, endless).await.unwrap_err();
            let sent = probes.icmp_counts().sent;
            assert!(sent < 900);
            assert_all_answered(&measure(&probes, echoes(2), "10.78.0.2", AMPLE).await, 2);
            assert_eq!(probes.icmp_counts().sent, sent + 2);
        });
    });
}

#[test]
fn a_run_stays_within_the_device_of_its_vrf_and_survives_its_return() {
    let laboratory = Laboratory::new();
    laboratory.site.allow_datagram_icmp(true);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map(Arc::new)
        .unwrap();
    let probes = probes();
    let site = &laboratory.site;
    // One engine and one runtime for all of it, always on the site's thread.
    let both = |vrf: &'static str, timeout| {
        let (runtime, probes) = (Arc::clone(&runtime), probes.clone());
        site.run(move || {
            ["10.77.0.254", "fd77::fe"].map(|address| {
                let measured =
                    runtime.block_on(measure_in(&probes, echoes(1), address, vrf, timeout));
                (measured.outcome, measured.reason)
            })
        })
    };
    let good = [(Outcome::Ok, Reason::None); 2];
    let no_device = [(Outcome::NotMeasured, Reason::LocalError); 2];
    assert_eq!(both("a0", AMPLE), good);
    for (outcome, _) in both("lo", SHORT) {
        assert_ne!(outcome, Outcome::Ok, "not reachable by loopback");
    }
    assert_eq!(both("missing", AMPLE), no_device);
    site.ip("link del a0");
    assert_eq!(both("a0", AMPLE), no_device);
    site.connect("a0", &laboratory.router, "r0");
    site.address("a0", "10.77.0.1/24", "fd77::1/64");
    let router = &laboratory.router;
    router.address("r0", "10.77.0.254/24", "fd77::fe/64");
    assert_eq!(both("a0", AMPLE), good);
}

#[test]
fn the_tier_is_what_the_kernel_allows() {
    let alone = Namespace::new();
    with_both_tiers(&alone, || {
        let capabilities = probes().capabilities();
        for capability in [
            Capability::IcmpRaw,
            Capability::Ipv4,
            Capability::Ipv6,
            Capability::SnmpV1V2c,
            Capability::SnmpV3,
        ] {
            assert!(capabilities.contains(&capability), "{capability:?}");
        }
        assert_eq!(probes().privilege_tier(), 2);
    });
}

/// Set for the child process of the test below.
const CHILD: &str = "EXTRANET_TEST_TIER";

/// This test runs itself again without `CAP_NET_RAW`, in namespaces with and without datagram ICMP.
#[test]
fn without_privilege_the_agent_says_that_it_could_not_measure() {
    if let Ok(tier) = std::env::var(CHILD) {
        block_on(async {
            let probes = probes();
            assert_eq!(probes.privilege_tier().to_string(), tier);
            assert!(!probes.capabilities().contains(&Capability::IcmpRaw));
            for address in ["127.0.0.1", "::1"] {
                let started = Instant::now();
                let measured = measure(&probes, echoes(2), address, AMPLE).await;
                if tier == "1" {
                    assert_all_answered(&measured, 2);
                } else {
                    assert_eq!(measured.outcome, Outcome::NotMeasured);
                    assert_eq!(measured.reason, Reason::NoPrivilege);
                    assert!(started.elapsed() < AMPLE / 2);
                }
            }
        });
        return;
    }
    for (tier, datagram) in [("0", false), ("1", true)] {
        let alone = Namespace::new();
        alone.allow_datagram_icmp(datagram);
        let status = alone.run(move || {
            Command::new("setpriv")
                .args(["--bounding-set=-net_raw", "--inh-caps=-net_raw"])
                .arg(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "icmp::without_privilege_the_agent_says_that_it_could_not_measure",
                ])
                .env(CHILD, tier)
                .output()
                .expect("util-linux is installed")
        });
        assert!(status.status.success(), "tier {tier}: {status:?}");
        let text = String::from_utf8_lossy(&status.stdout);
        assert!(text.contains("1 passed"), "the child ran the test: {text}");
    }
}
