//! Round trips in the buckets of `smokeping_prober`, since the agent started.

use std::time::Duration;

use extranet_proto::metric::{self, SMOKEPING_BOUNDS_US};
use extranet_proto::record::Value;

use super::super::{micros, own_value};

/// Counters that only grow; they begin at zero when the agent starts, as `rate()` expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Histogram {
    requests: u64,
    round_trips: u64,
    sum_us: u64,
    /// By bound, each with those of the smaller bounds.
    buckets: [u64; SMOKEPING_BOUNDS_US.len()],
}

impl Histogram {
    /// Adds a run.
    pub(super) fn add(&mut self, requests: u64, round_trips: impl Iterator<Item = Duration>) {
        self.requests += requests;
        for round_trip in round_trips {
            let round_trip_us = micros(round_trip);
            self.round_trips += 1;
            self.sum_us = self.sum_us.saturating_add(round_trip_us);
            for (bucket, bound_us) in self.buckets.iter_mut().zip(SMOKEPING_BOUNDS_US) {
                *bucket += u64::from(round_trip_us <= bound_us);
            }
        }
    }

    /// In the order of the metric numbers: the counters, and the buckets.
    pub(super) fn values(&self) -> ([Value; 4], impl Iterator<Item = Value>) {
        let counters = [
            own_value(metric::SMOKEPING_REQUESTS, self.requests),
            own_value(metric::SMOKEPING_SUM, self.sum_us),
            own_value(metric::SMOKEPING_COUNT, self.round_trips),
            own_value(metric::SMOKEPING_BUCKET_INF, self.round_trips),
        ];
        let buckets = metric::smokeping_buckets()
            .zip(self.buckets)
            .map(|(metric, count)| own_value(metric, count));
        (counters, buckets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_those_of_the_smaller_bounds() {
        let mut histogram = Histogram::default();
        let round_trips = [50, 51, 30_000_000].map(Duration::from_micros);
        histogram.add(4, round_trips.into_iter());
        histogram.add(1, std::iter::empty());
        let (counters, buckets) = histogram.values();
        assert_eq!(counters.map(|value| value.raw), [5, 30_000_101, 3, 3]);
        let buckets: Vec<_> = buckets.collect();
        let bound = |value: &Value| value.metric.info().unwrap().label.unwrap().1;
        assert_eq!((bound(&buckets[0]), buckets[0].raw), ("5e-05", 1));
        assert_eq!((bound(&buckets[1]), buckets[1].raw), ("0.0001", 2));
        assert_eq!((bound(&buckets[19]), buckets[19].raw), ("26.2144", 2));
    }
}
