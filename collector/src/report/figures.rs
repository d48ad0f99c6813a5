//! Availability in numbers (requirements 4.4): slots are counted, counts are added, and only then divided.

use std::ops::AddAssign;

use super::cell::Cell;

/// Below this coverage, per cent, no single figure is shown (AV-11).
const COVERAGE_PERCENT: u64 = 95;

/// In-service slots outside maintenance, by state. Works for one access point and for sums of many (AV-14).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Slots {
    /// Up, degraded ones included.
    pub up: u64,
    /// Down.
    pub down: u64,
    /// Not known, because we ourselves did not watch.
    pub unknown: u64,
}

impl AddAssign for Slots {
    fn add_assign(&mut self, other: Self) {
        self.up += other.up;
        self.down += other.down;
        self.unknown += other.unknown;
    }
}

impl Slots {
    /// T: all of them.
    pub fn total(&self) -> u64 {
        self.up + self.down + self.unknown
    }

    /// `A_obs` = UP / (UP + DOWN).
    pub fn observed(&self) -> Option<Share> {
        Share::of(self.up, self.up + self.down)
    }

    /// C = (UP + DOWN) / T.
    pub fn coverage(&self) -> Option<Share> {
        Share::of(self.up + self.down, self.total())
    }

    /// `A_low` = UP / T: what is not known counts as down.
    pub fn low(&self) -> Option<Share> {
        Share::of(self.up, self.total())
    }

    /// `A_high` = (UP + UNKNOWN) / T: what is not known counts as up.
    pub fn high(&self) -> Option<Share> {
        Share::of(self.up + self.unknown, self.total())
    }

    /// Whether coverage carries a single figure.
    pub fn is_sufficient(&self) -> bool {
        self.total() > 0 && (self.up + self.down) * 100 >= self.total() * COVERAGE_PERCENT
    }

    /// What the column 保通率 shows: the figure, or the bounds, or nothing.
    pub fn availability(&self) -> Cell {
        match (self.low(), self.high()) {
            (Some(low), Some(high)) if !self.is_sufficient() => Cell::Insufficient {
                low: low.millionths(),
                high: high.millionths(),
            },
            _ => Cell::share(self.observed()),
        }
    }
}

/// A part of a whole that is not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    part: u64,
    whole: u64,
}

impl Share {
    /// `None` when there is no whole.
    pub fn of(part: u64, whole: u64) -> Option<Self> {
        (whole > 0).then_some(Self { part, whole })
    }

    /// Rounded half up to six decimals: four decimals of a per cent.
    pub fn millionths(&self) -> u64 {
        let doubled = u128::from(self.part) * 2_000_000 + u128::from(self.whole);
        u64::try_from(doubled / (2 * u128::from(self.whole))).unwrap_or(u64::MAX)
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        let (left, right) = (
            u128::from(self.part) * u128::from(other.whole),
            u128::from(other.part) * u128::from(self.whole),
        );
        Some(left.cmp(&right))
    }
}

/// Interruptions of the service in a period; one that reaches over its edge counts with the part inside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outages {
    /// How many.
    pub number: u64,
    /// Slots of all together.
    pub slots: u64,
    /// Slots of the longest.
    pub longest: u64,
}

impl Outages {
    /// One more.
    pub fn add(&mut self, slots: u64) {
        self.number += 1;
        self.slots += slots;
        self.longest = self.longest.max(slots);
    }
}

impl AddAssign for Outages {
    fn add_assign(&mut self, other: Self) {
        self.number += other.number;
        self.slots += other.slots;
        self.longest = self.longest.max(other.longest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn per_cent(share: Option<Share>) -> String {
        let millionths = share.expect("a whole").millionths();
        format!("{}.{:04}", millionths / 10_000, millionths % 10_000)
    }

    #[test]
    fn the_worked_example_of_av_16() {
        // 43,200 slots of which 120 are maintenance.
        let slots = Slots {
            up: 42_720,
            down: 60,
            unknown: 300,
        };
        assert_eq!(slots.total(), 43_200 - 120);
        assert_eq!(per_cent(slots.observed()), "99.8597");
        assert_eq!(per_cent(slots.coverage()), "99.3036");
        assert_eq!(per_cent(slots.low()), "99.1643");
        assert_eq!(per_cent(slots.high()), "99.8607");
        assert_eq!(slots.availability(), Cell::Share(998_597));
    }

    #[test]
    fn below_95_per_cent_coverage_the_bounds_stand_in_place_of_the_figure() {
        let slots = |up, down, unknown| Slots { up, down, unknown };
        assert_eq!(slots(94, 1, 5).availability(), Cell::Share(989_474));
        let insufficient = Cell::Insufficient {
            low: 930_000,
            high: 990_000,
        };
        assert_eq!(slots(93, 1, 6).availability(), insufficient);
        assert_eq!(slots(0, 0, 0).availability(), Cell::NotApplicable);
        let nothing_known = Cell::Insufficient {
            low: 0,
            high: 1_000_000,
        };
        assert_eq!(slots(0, 0, 9).availability(), nothing_known);
    }

    proptest! {
        #[test]
        fn bounds_enclose_the_figure_and_up_slots_never_lower_it(up in 0_u64..1 << 32, down in 0_u64..1 << 32, unknown in 0_u64..1 << 32) {
            let slots = Slots { up, down, unknown };
            if let (Some(low), Some(observed), Some(high)) = (slots.low(), slots.observed(), slots.high()) {
                prop_assert!(low <= observed && observed <= high);
                prop_assert!(unknown > 0 || (low == observed && observed == high));
                let more = Slots { up: up + 1, ..slots };
                prop_assert!(more.low() >= Some(low) && more.observed() >= Some(observed) && more.high() >= Some(high));
            }
        }

        #[test]
        fn a_period_is_the_sum_of_its_parts(parts in proptest::collection::vec((0_u64..9_000, 0_u64..9_000, 0_u64..9_000), 0..9)) {
            let mut sum = Slots::default();
            for (up, down, unknown) in &parts {
                sum += Slots { up: *up, down: *down, unknown: *unknown };
            }
            prop_assert_eq!(sum.total(), parts.iter().map(|(up, down, unknown)| up + down + unknown).sum::<u64>());
        }
    }
}
