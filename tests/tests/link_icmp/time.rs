//! Delay, trains, late replies, clocks that are set, and replies that this machine loses itself.

use std::time::Duration;

use extranet_agent::probe::{ObjectIds, Probes};
use extranet_proto::assignment::IcmpProbe;
use extranet_proto::metric::{self, SMOKEPING_BOUNDS_US, smokeping_buckets};
use extranet_proto::record::{Outcome, Reason};
use extranet_tests::forwarder::Faults;
use tokio::time::{Instant, sleep};

use super::{AMPLE, FAR, Rig, echoes, measure, quiet, value, verdict};

const TIMEOUT: (Outcome, Reason) = (Outcome::Failed, Reason::Timeout);
const GOOD: (Outcome, Reason) = (Outcome::Ok, Reason::None);
const DAY_NS: i64 = 86_400_000_000_000;

#[test]
fn a_satellite_is_slow_and_healthy() {
    Rig::new().with_both_tiers(async |probes, link| {
        link.both(Faults {
            jitter: Duration::from_millis(20),
            ..Faults::delay(Duration::from_millis(300))
        });
        for address in FAR {
            let measured = measure(probes, &echoes(10, 50), address, AMPLE).await;
            assert_eq!(verdict(&measured), GOOD);
            assert_eq!(value(&measured, metric::ICMP_RECEIVED), 10);
            let of = |metric| value(&measured, metric);
            assert!(of(metric::ICMP_RTT_MIN) >= 600_000, "{measured:?}");
            assert!(of(metric::ICMP_JITTER) > 0);
            assert!(of(metric::ICMP_RTT_P50) <= of(metric::ICMP_RTT_P90));
            assert!(of(metric::ICMP_RTT_P90) <= of(metric::ICMP_RTT_MAX));
        }
    });
}

#[test]
fn what_comes_after_the_deadline_is_late_and_told_later() {
    Rig::new().with_both_tiers(async |probes, link| {
        for address in FAR {
            link.back(Faults::delay(Duration::from_millis(400)));
            let silent = measure(probes, &echoes(4, 5), address, Duration::from_millis(200)).await;
            assert_eq!(verdict(&silent), TIMEOUT);
            assert_eq!(value(&silent, metric::ICMP_LATE), 0, "not known yet");
            quiet(link).await;
            link.back(Faults::default());
            let next = measure(probes, &echoes(2, 5), address, AMPLE).await;
            assert_eq!(verdict(&next), GOOD);
            assert_eq!(value(&next, metric::ICMP_LATE), 4);
            assert_eq!(value(&next, metric::ICMP_RECEIVED), 2);
            let again = measure(probes, &echoes(2, 5), address, AMPLE).await;
            assert_eq!(value(&again, metric::ICMP_LATE), 0, "told once");
        }
    });
}

#[test]
fn a_train_is_spread_over_its_interval_and_each_request_has_its_own_deadline() {
    Rig::new().at_site(async |probes, link| {
        let gap = Duration::from_millis(100);
        let train = IcmpProbe {
            packets: 20,
            packet_interval: gap,
            steady: true,
            ..IcmpProbe::default()
        };
        link.capture(100);
        let started = Instant::now();
        let measured = measure(probes, &train, FAR[0], gap * 9 / 10).await;
        assert!(started.elapsed() >= gap * 19);
        assert_eq!(value(&measured, metric::ICMP_RECEIVED), 20);
        let left: Vec<_> = link
            .captured()
            .into_iter()
            .filter(|captured| captured.forth && captured.packet[0] == 0x45)
            .map(|captured| captured.at)
            .collect();
        assert_eq!(left.len(), 20);
        let [first, .., last] = left[..] else {
            panic!("too few");
        };
        assert!(last.saturating_sub(first) >= gap * 18, "{left:?}");

        // Later than its own deadline, though the train goes on for long.
        link.forget_counts();
        link.back(Faults {
            hold_per_mille: 300,
            hold: gap * 3 / 2,
            ..Faults::default()
        });
        let slow = measure(probes, &train, FAR[0], gap * 9 / 10).await;
        quiet(link).await;
        link.back(Faults::default());
        let next = measure(probes, &echoes(1, 1), FAR[0], AMPLE).await;
        let late = value(&slow, metric::ICMP_LATE) + value(&next, metric::ICMP_LATE);
        let received = value(&slow, metric::ICMP_RECEIVED);
        assert_eq!((received + late, value(&slow, metric::ICMP_SENT)), (20, 20));
        assert!(late > 0 && received > 0, "{slow:?}");
    });
}

#[test]
fn a_clock_that_is_set_meanwhile_makes_no_round_trip() {
    Rig::new().with_both_tiers(async |probes, link| {
        link.both(Faults::delay(Duration::from_millis(40)));
        for (address, step_ns) in FAR.into_iter().zip([DAY_NS, -DAY_NS]) {
            let mut icmp = echoes(10, 20);
            icmp.histogram = true;
            let before = probes.icmp_counts().clock_steps;
            let (measured, ()) = tokio::join!(measure(probes, &icmp, address, AMPLE), async {
                sleep(Duration::from_millis(100)).await;
                probes.packet_clock().step(step_ns);
            });
            assert_eq!(verdict(&measured), GOOD);
            assert_eq!(value(&measured, metric::ICMP_RECEIVED), 10, "each one came");
            let across = probes.icmp_counts().clock_steps - before;
            assert!((1..10).contains(&across), "{across} across the step");
            let known = value(&measured, metric::SMOKEPING_COUNT);
            assert_eq!(known, 10 - across);
            let longest = value(&measured, metric::ICMP_RTT_MAX);
            assert!((80_000..5_000_000).contains(&longest), "{longest} µs");
        }
    });
}

#[test]
fn buckets_grow_from_run_to_run() {
    Rig::new().at_site(async |probes, link| {
        link.both(Faults::delay(Duration::from_millis(15)));
        let mut icmp = echoes(5, 2);
        icmp.histogram = true;
        for run in 1..=3 {
            let measured = measure(probes, &icmp, FAR[1], AMPLE).await;
            assert_eq!(value(&measured, metric::SMOKEPING_REQUESTS), run * 5);
            assert_eq!(value(&measured, metric::SMOKEPING_COUNT), run * 5);
            assert_eq!(value(&measured, metric::SMOKEPING_BUCKET_INF), run * 5);
            let mut before = 0;
            for (bucket, bound_us) in smokeping_buckets().zip(SMOKEPING_BOUNDS_US) {
                let count = value(&measured, bucket);
                assert!(count >= before, "cumulative");
                assert!(bound_us >= 30_000 || count == 0, "none was so quick");
                before = count;
            }
        }
    });
}

/// Raw sockets see the replies to everybody: another prober of the same namespace fills our queue while our thread is
/// busy, so that the reply to us does not fit any more.
#[test]
fn a_reply_that_our_own_queue_drops_is_not_loss_of_the_path() {
    let rig = Rig::new();
    rig.link.back(Faults::delay(Duration::from_millis(600)));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rig.at_site(async |probes, _| {
                let mut flood = echoes(1_000, 3);
                flood.payload_bytes = 60_000;
                measure(probes, &flood, "127.0.0.1", AMPLE).await;
            });
        });
        rig.site.enter(|| {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime can be built")
                .block_on(async {
                    let probes = Probes::new(ObjectIds::new());
                    let patience = Duration::from_millis(2_500);
                    let one = echoes(1, 1);
                    let (measured, ()) =
                        tokio::join!(measure(&probes, &one, FAR[0], patience), async {
                            std::thread::sleep(Duration::from_millis(1_500));
                        });
                    assert!(probes.icmp_counts().overflowed > 0);
                    let expected = (Outcome::NotMeasured, Reason::LocalError);
                    assert_eq!(verdict(&measured), expected);
                });
        });
    });
}
