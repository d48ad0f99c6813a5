//! The daily budget as a token bucket, and how far intervals are stretched to stay inside it. Pure: time comes in as
//! boot time in µs.
//!
//! A tenth of the budget may be spent at once and nine tenths flow back over 24 hours, so that no window of 24 hours
//! sees more than the budget as long as the bucket does not run dry. What is stretched aims at a bucket that is half
//! full: after a quiet time there is something to spend, after a burst (a backlog, a measurement on demand) intervals
//! grow until it is made up for.
//!
//! The stream itself is never held back here: results that were measured are worth more than new ones. Intervals are
//! stretched at most [`LADDER`]'s last step; a budget that even this exceeds is too small for its plan.

use std::time::Duration;

/// Seconds of a day.
const DAY_S: f64 = 86_400.0;
/// What of the budget may be spent at once.
const BURST_SHARE: f64 = 0.1;
/// Time in which a bucket that is not half full gets back there, s. A guess: shorter than a working day, far longer
/// than a burst of retries.
const CORRECTION_S: f64 = 3_600.0;
/// Steps of a stretch, thousandths. Few, so that phases of a fleet are not shuffled every minute.
pub const LADDER: [u32; 13] = [
    1_000, 1_250, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000, 6_000, 8_000, 10_000, 12_000, 16_000,
];
/// Nothing is stretched.
pub const UNSTRETCHED: u32 = LADDER[0];
/// The most that anything is stretched, as a factor.
const MOST: f64 = 16.0;
/// A step down the ladder needs this margin, so that a load between two steps does not swing.
const STEP_DOWN: f64 = 0.85;

/// How far intervals are stretched, thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Ordinary checks.
    pub first: u32,
    /// Checks that are stretched last.
    pub last: u32,
}

impl Stretch {
    /// Every check at its own interval.
    pub const NONE: Self = Self {
        first: UNSTRETCHED,
        last: UNSTRETCHED,
    };
}

/// What would be spent without any stretch, bytes a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// By ordinary checks.
    pub first: f64,
    /// By checks that are stretched last.
    pub last: f64,
    /// By the stream to the collector, as it is now.
    pub stream: f64,
}

/// A budget and what is left of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    daily: u64,
    left: f64,
    filled_us: u64,
}

impl Bucket {
    /// A full bucket. `daily` is in bytes of 24 hours; 0 = no limit.
    pub fn new(daily: u64, now_us: u64) -> Self {
        Self {
            daily,
            left: size(daily),
            filled_us: now_us,
        }
    }

    /// The budget, bytes of 24 hours; 0 = no limit.
    pub fn daily(&self) -> u64 {
        self.daily
    }

    /// Bytes that may be spent at once.
    pub fn left(&self) -> u64 {
        whole(self.left)
    }

    /// Takes over another budget; the same share of the bucket stays filled.
    pub fn resize(&mut self, daily: u64, now_us: u64) {
        if daily == self.daily {
            return;
        }
        self.fill(now_us);
        let share = if self.daily == 0 {
            1.0
        } else {
            self.left / size(self.daily)
        };
        self.daily = daily;
        self.left = size(daily) * share;
    }

    /// What an earlier process left, when it had less.
    pub fn resume(&mut self, left: u64) {
        self.left = self.left.min(bytes(left));
    }

    /// What flowed back between two moments of the past.
    pub fn filled_since(&mut self, from_us: u64, until_us: u64) {
        let passed = Duration::from_micros(until_us.saturating_sub(from_us)).as_secs_f64();
        self.left = (self.left + self.refill() * passed).min(size(self.daily));
    }

    /// Something was spent. The bucket does not go below empty: what is beyond the budget is past and shows in the
    /// totals, and making up for it for hours would be silence.
    pub fn spend(&mut self, spent: u64, now_us: u64) {
        self.fill(now_us);
        self.left = (self.left - bytes(spent)).max(0.0);
    }

    fn fill(&mut self, now_us: u64) {
        self.filled_since(self.filled_us, now_us);
        self.filled_us = self.filled_us.max(now_us);
    }

    /// Bytes a second that flow back.
    fn refill(&self) -> f64 {
        bytes(self.daily) * (1.0 - BURST_SHARE) / DAY_S
    }

    /// How far to stretch now; `before` is the stretch until now.
    pub fn stretch(&mut self, load: Load, before: Stretch, now_us: u64) -> Stretch {
        if self.daily == 0 {
            return Stretch::NONE;
        }
        self.fill(now_us);
        let correction = (self.left - size(self.daily) / 2.0) / CORRECTION_S;
        let allowed = (self.refill() - load.stream + correction).max(0.0);
        let first = step(factor(load.first, allowed - load.last), before.first);
        let rest = allowed - load.first * 1_000.0 / f64::from(first);
        Stretch {
            first,
            last: step(factor(load.last, rest), before.last),
        }
    }
}

/// By how much a load must shrink to fit; below 1 when it may grow.
fn factor(load: f64, allowed: f64) -> f64 {
    if load > 0.0 && allowed * MOST <= load {
        MOST
    } else if load > 0.0 {
        load / allowed
    } else {
        0.0
    }
}

/// The first step of the ladder that is enough; down from `before` only with some margin.
fn step(wanted: f64, before: u32) -> u32 {
    let enough = |wanted: f64| {
        let fits = |step: &u32| f64::from(*step) >= wanted * 1_000.0;
        LADDER.into_iter().find(fits).unwrap_or(LADDER[12])
    };
    let step = enough(wanted);
    if step < before {
        enough(wanted / STEP_DOWN).min(before)
    } else {
        step
    }
}

/// Size of a bucket.
fn size(daily: u64) -> f64 {
    bytes(daily) * BURST_SHARE
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a budget of more than 2^53 bytes is none"
)]
pub(super) fn bytes(number: u64) -> f64 {
    number as f64
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "never negative, and far below 2^63"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE_US: u64 = 60_000_000;
    const DAY_MINUTES: usize = 24 * 60;

    /// What a site with this load spends in each minute, for `days`; `burst` is added in one minute.
    fn spent(daily: u64, load: Load, days: usize, burst: (usize, u64)) -> Vec<(u64, Stretch)> {
        let mut bucket = Bucket::new(daily, 0);
        let mut stretch = Stretch::NONE;
        let minutes = days * DAY_MINUTES;
        let mut all = Vec::with_capacity(minutes);
        for minute in 0..minutes {
            let now = u64::try_from(minute).unwrap() * MINUTE_US;
            stretch = bucket.stretch(load, stretch, now);
            let rate = load.first * 1_000.0 / f64::from(stretch.first)
                + load.last * 1_000.0 / f64::from(stretch.last)
                + load.stream;
            let mut cost = whole(rate * 60.0);
            if minute == burst.0 {
                cost += burst.1;
            }
            bucket.spend(cost, now);
            all.push((cost, stretch));
        }
        all
    }

    fn most_in_a_day(spent: &[(u64, Stretch)]) -> u64 {
        let window = |minutes: &[(u64, Stretch)]| minutes.iter().map(|(cost, _)| cost).sum();
        spent.windows(DAY_MINUTES).map(window).max().unwrap_or(0)
    }

    #[test]
    fn no_day_costs_more_than_the_budget_whenever_it_begins() {
        for (first, last, stream) in [
            (50.0, 50.0, 20.0),
            (400.0, 0.0, 10.0),
            (20.0, 100.0, 50.0),
            (1_000.0, 40.0, 30.0),
        ] {
            let load = Load {
                first,
                last,
                stream,
            };
            // 10 MB a day are 116 bytes a second.
            let spent = spent(10_000_000, load, 4, (0, 0));
            let most = most_in_a_day(&spent);
            assert!(most <= 10_000_000, "{load:?}: {most}");
            // Nor is much of it wasted where it is needed.
            let last_day: u64 = spent[3 * DAY_MINUTES..].iter().map(|(cost, _)| cost).sum();
            assert!(last_day > 6_000_000, "{load:?}: {last_day}");
        }
    }

    #[test]
    fn a_plan_that_fits_is_never_stretched() {
        let load = Load {
            first: 40.0,
            last: 40.0,
            stream: 20.0,
        };
        let spent = spent(10_000_000, load, 3, (0, 0));
        assert!(spent.iter().all(|(_, stretch)| *stretch == Stretch::NONE));
    }

    #[test]
    fn the_checks_that_come_last_keep_their_interval_while_the_others_can_give() {
        let load = Load {
            first: 200.0,
            last: 50.0,
            stream: 20.0,
        };
        let spent = spent(10_000_000, load, 3, (0, 0));
        let settled = spent.last().unwrap().1;
        assert_eq!(settled.last, UNSTRETCHED, "{settled:?}");
        assert!((4_000..=8_000).contains(&settled.first), "{settled:?}");
        let changes = spent[DAY_MINUTES..]
            .windows(2)
            .filter(|pair| pair[0].1 != pair[1].1)
            .count();
        assert!(changes < 100, "swings {changes} times in two days");
    }

    #[test]
    fn a_burst_is_made_up_for_and_then_forgotten() {
        let load = Load {
            first: 40.0,
            last: 20.0,
            stream: 10.0,
        };
        let spent = spent(10_000_000, load, 4, (DAY_MINUTES, 2_000_000));
        let stretched = spent
            .iter()
            .skip(DAY_MINUTES)
            .take_while(|(_, stretch)| *stretch == Stretch::NONE)
            .count();
        assert!(stretched < 5, "not stretched behind the burst");
        assert_eq!(spent.last().unwrap().1, Stretch::NONE);
        assert!(most_in_a_day(&spent) <= 10_000_000);
    }

    #[test]
    fn a_budget_that_is_far_too_small_ends_at_the_last_step() {
        let load = Load {
            first: 10_000.0,
            last: 10_000.0,
            stream: 500.0,
        };
        let spent = spent(1_000_000, load, 1, (0, 0));
        let settled = spent.last().unwrap().1;
        assert_eq!((settled.first, settled.last), (16_000, 16_000));
    }

    #[test]
    fn another_budget_keeps_the_share_and_no_budget_stretches_nothing() {
        let mut bucket = Bucket::new(1_000_000, 0);
        bucket.spend(50_000, 0);
        bucket.resize(2_000_000, 0);
        assert_eq!(bucket.left(), 100_000);
        bucket.resume(40_000);
        assert_eq!(bucket.left(), 40_000);
        bucket.resize(0, 0);
        let load = Load {
            first: 1e9,
            last: 1e9,
            stream: 1e9,
        };
        assert_eq!(bucket.stretch(load, Stretch::NONE, 1), Stretch::NONE);
        bucket.resize(1_000_000, 1);
        assert_eq!(bucket.left(), 100_000, "no limit before: nothing was spent");
    }
}
