//! What several round trips of one run say together.

use std::time::Duration;

/// Round trips of a run in the order in which the packets were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoundTrips {
    pub(super) min: Duration,
    pub(super) avg: Duration,
    pub(super) max: Duration,
    /// Mean absolute difference of the round trips of consecutive packets, both of which came back (RFC 3393 section
    /// 4.5); a single round trip has none.
    pub(super) jitter: Option<Duration>,
}

impl RoundTrips {
    /// `None` of a packet = lost, or no round trip known; `None` without a single round trip.
    pub(super) fn of(all: &[Option<Duration>]) -> Option<Self> {
        let known = || all.iter().flatten().copied();
        let differences = all.windows(2).filter_map(|pair| match pair {
            [Some(before), Some(after)] => Some(before.abs_diff(*after)),
            _ => None,
        });
        Some(Self {
            min: known().min()?,
            avg: mean(known())?,
            max: known().max()?,
            jitter: mean(differences),
        })
    }
}

fn mean(durations: impl Iterator<Item = Duration>) -> Option<Duration> {
    let (sum, count) = durations.fold((Duration::ZERO, 0_u32), |(sum, count), duration| {
        (sum + duration, count + 1)
    });
    sum.checked_div(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_between_neighbours_only() {
        let us = Duration::from_micros;
        let all = [100, 140, 0, 50, 60].map(|n| (n > 0).then(|| us(n)));
        let found = RoundTrips::of(&all).unwrap();
        let expected = RoundTrips {
            min: us(50),
            avg: Duration::from_nanos(87_500),
            max: us(140),
            jitter: Some(us(25)),
        };
        assert_eq!(found, expected);
        assert_eq!(RoundTrips::of(&[Some(us(9))]).unwrap().jitter, None);
        assert_eq!(RoundTrips::of(&[None, None]), None);
    }
}
