//! How an access point's IPv6 level follows from its runs: only what lasts changes it (V6-S4).
//!
//! ```text
//!   runs in a row that prove a higher level  --rise_runs-->  the lowest of them
//!   runs in a row that contradict the level  --fall_runs-->  the highest of what they leave possible
//! ```
//!
//! A run that neither proves more nor contradicts ends both rows. A level does not fall because nobody looked: only a
//! failed gate contradicts.

use extranet_agent::ipv6::rubric::{Level, Rubric};

/// The level of an access point, and the rows of runs that may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steady {
    /// The level.
    pub level: Level,
    /// Runs in a row that proved a higher one, and the lowest they proved.
    pub above: Option<(u32, Level)>,
    /// Runs in a row that contradicted it, and the highest they left possible.
    pub below: Option<(u32, Level)>,
}

/// A level has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: Level,
    /// Now.
    pub to: Level,
}

impl Steady {
    /// After the first run of all, which has nothing to be compared with.
    pub const fn first(proven: Level) -> Self {
        Self {
            level: proven,
            above: None,
            below: None,
        }
    }

    /// After another run.
    #[must_use]
    pub fn next(self, proven: Level, possible: Level, rubric: &Rubric) -> (Self, Option<Change>) {
        let longer = |row: Option<(u32, Level)>, level: Level, pick: fn(Level, Level) -> Level| {
            row.map_or((1, level), |(runs, so_far)| (runs + 1, pick(so_far, level)))
        };
        let mut next = Self::first(self.level);
        if proven > self.level {
            let row = longer(self.above, proven, Ord::min);
            if row.0 < rubric.rise_runs {
                next.above = Some(row);
            } else {
                next.level = row.1;
            }
        } else if possible < self.level {
            let row = longer(self.below, possible, Ord::max);
            if row.0 < rubric.fall_runs {
                next.below = Some(row);
            } else {
                next.level = row.1;
            }
        }
        let change = (next.level != self.level).then_some(Change {
            from: self.level,
            to: next.level,
        });
        (next, change)
    }
}

#[cfg(test)]
mod tests {
    use Level::{L0, L1, L2, L3, L4};
    use extranet_agent::ipv6::rubric::rubric;

    use super::*;

    /// Levels after each run of (proven, possible).
    fn levels(first: Level, runs: &[(Level, Level)]) -> Vec<Level> {
        let mut steady = Steady::first(first);
        let mut seen = Vec::new();
        for (proven, possible) in runs {
            let (next, change) = steady.next(*proven, *possible, rubric());
            assert_eq!(change.is_some(), next.level != steady.level);
            steady = next;
            seen.push(steady.level);
        }
        seen
    }

    #[test]
    fn three_runs_in_a_row_change_a_level_and_fewer_do_not() {
        assert_eq!(levels(L1, &[(L2, L4); 4]), [L1, L1, L2, L2]);
        assert_eq!(levels(L2, &[(L0, L0); 4]), [L2, L2, L0, L0]);
        let interrupted = [(L0, L0), (L0, L0), (L2, L4), (L0, L0), (L0, L0)];
        assert_eq!(levels(L2, &interrupted), [L2; 5]);
    }

    #[test]
    fn a_level_rises_to_the_lowest_and_falls_to_the_highest_of_its_row() {
        assert_eq!(levels(L0, &[(L3, L4), (L1, L4), (L2, L4)]), [L0, L0, L1]);
        assert_eq!(levels(L3, &[(L0, L0), (L2, L2), (L1, L1)]), [L3, L3, L2]);
    }

    #[test]
    fn what_was_not_looked_at_takes_no_level_away() {
        assert_eq!(levels(L2, &[(L1, L4); 5]), [L2; 5]);
    }
}
