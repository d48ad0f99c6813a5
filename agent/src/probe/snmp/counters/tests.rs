//! The golden test of AV-34: readings as a device gives them, and what is made of each.

use super::*;

/// Seconds, number, `sysUpTime` in seconds, `ifCounterDiscontinuityTime`.
type Step = (u64, u64, u64, Option<u64>);

struct Case {
    name: &'static str,
    is_wide: bool,
    most_per_second: Option<f64>,
    steps: &'static [(Step, &'static str)],
}

const GIGABIT: Option<f64> = Some(125_000_000.0);
const TOP: u64 = u32::MAX as u64;

const CASES: &[Case] = &[
    Case {
        name: "a counter that grows",
        is_wide: true,
        most_per_second: GIGABIT,
        steps: &[
            ((0, 1_000, 50, Some(0)), "start"),
            ((60, 7_000, 110, Some(0)), "+6000 in 60"),
            ((120, 7_000, 170, Some(0)), "+0 in 60"),
            ((180, 8_000, 230, Some(0)), "+1000 in 60"),
        ],
    },
    Case {
        name: "backwards without a discontinuity: one wrong reading is no sample and no spike",
        is_wide: true,
        most_per_second: None,
        steps: &[
            ((0, 1_000_000, 50, Some(0)), "start"),
            ((60, 5, 110, Some(0)), "none"),
            ((120, 1_000_600, 170, Some(0)), "+600 in 120"),
        ],
    },
    Case {
        name: "backwards without a discontinuity, for good: a new start, no spike",
        is_wide: true,
        most_per_second: None,
        steps: &[
            ((0, 1_000_000, 50, Some(0)), "start"),
            ((60, 5, 110, Some(0)), "none"),
            ((120, 600, 170, Some(0)), "start"),
            ((180, 700, 230, Some(0)), "+100 in 60"),
        ],
    },
    Case {
        name: "a wrong reading far ahead",
        is_wide: true,
        most_per_second: GIGABIT,
        steps: &[
            ((0, 1_000, 50, None), "start"),
            ((60, 1 << 62, 110, None), "none"),
            ((120, 2_000, 170, None), "+1000 in 120"),
        ],
    },
    Case {
        name: "discontinuity of one interface: a card was changed",
        is_wide: true,
        most_per_second: None,
        steps: &[
            ((0, 1_000_000, 50, Some(0)), "start"),
            ((60, 10, 110, Some(9_000)), "start"),
            ((120, 70, 170, Some(9_000)), "+60 in 60"),
            // Also when the new count is higher than the old one.
            ((180, 5_000_000, 230, Some(20_000)), "start"),
        ],
    },
    Case {
        name: "the device restarts",
        is_wide: true,
        most_per_second: GIGABIT,
        steps: &[
            ((0, 1_000_000, 5_000, Some(0)), "start"),
            ((60, 40, 20, Some(0)), "start"),
            ((120, 100, 80, Some(0)), "+60 in 60"),
            // Restarted, and already counted further than before.
            ((180, 900, 10, Some(0)), "start"),
        ],
    },
    Case {
        name: "32 bits wrap",
        is_wide: false,
        most_per_second: GIGABIT,
        steps: &[
            ((0, TOP - 999, 50, Some(0)), "start"),
            ((60, 500, 110, Some(0)), "+1500 in 60"),
        ],
    },
    Case {
        name: "32 bits that fall too far for a wrap at 10 Mbit/s",
        is_wide: false,
        most_per_second: Some(1_250_000.0),
        steps: &[
            ((0, TOP / 2, 50, Some(0)), "start"),
            ((60, 500, 110, Some(0)), "none"),
            ((120, TOP / 2 + 100, 170, Some(0)), "+100 in 120"),
        ],
    },
    Case {
        name: "32 bits of an unknown speed: half the range at most",
        is_wide: false,
        most_per_second: None,
        steps: &[
            ((0, 1_000, 50, None), "start"),
            ((60, 900, 110, None), "none"),
            ((120, 950, 170, None), "start"),
            ((180, TOP - 5, 230, None), "+4294966340 in 60"),
            ((240, 4, 290, None), "+10 in 60"),
        ],
    },
    Case {
        name: "64 bits never wrap",
        is_wide: true,
        most_per_second: None,
        steps: &[
            ((0, u64::MAX - 10, 50, None), "start"),
            ((60, 5, 110, None), "none"),
        ],
    },
    Case {
        name: "sysUpTime wraps after 497 days: the device did not restart",
        is_wide: true,
        most_per_second: None,
        steps: &[
            ((0, 1_000, TOP / 100 - 30, Some(0)), "start"),
            ((60, 1_600, 30, Some(0)), "+600 in 60"),
        ],
    },
    Case {
        name: "polled again after a day",
        is_wide: true,
        most_per_second: GIGABIT,
        steps: &[
            ((0, 1_000, 50, Some(0)), "start"),
            (
                (86_400, 10_000_000_000, 86_450, Some(0)),
                "+9999999000 in 86400",
            ),
        ],
    },
];

#[tokio::test]
async fn counters_are_read_as_av_34_says() {
    let zero = Instant::now();
    for case in CASES {
        let (mut counter, mut up_time) = (Counter::default(), UpTime::default());
        for ((second, raw, up, discontinuity), expected) in case.steps {
            let at = zero + Duration::from_secs(*second);
            up_time.read(up * 100, at);
            let verdict = counter.read(
                *raw,
                at,
                Circumstances {
                    is_wide: case.is_wide,
                    restarts: up_time.restarts(),
                    discontinuity: *discontinuity,
                    most_per_second: case.most_per_second,
                },
            );
            let shown = match verdict {
                Verdict::Start => "start".to_owned(),
                Verdict::Grew(by, elapsed) => format!("+{by} in {}", elapsed.as_secs()),
                Verdict::Refused => "none".to_owned(),
            };
            assert_eq!(shown, *expected, "{} at {second} s", case.name);
        }
    }
}

#[tokio::test]
async fn a_clock_of_the_device_that_jumps_back_a_little_near_its_end_is_no_wrap() {
    let zero = Instant::now();
    let mut up_time = UpTime::default();
    up_time.read(TOP - 3_000, zero);
    up_time.read(1_000_000, zero + Duration::from_mins(1));
    assert_eq!(up_time.restarts(), 1);
}
