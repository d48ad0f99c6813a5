//! The result of a run. Values that are not known are not there: no reply, no round trip.

use std::time::Duration;

use extranet_proto::metric::{self, Metric};
use extranet_proto::record::{Outcome, Value};

use super::super::{Measured, micros, own_value};
use super::burst::Summary;
use super::histogram::Histogram;

/// Percentiles in thousandths, and how many round trips each of them needs: with fewer it would be the longest one.
const PERCENTILES: [(Metric, usize, usize); 4] = [
    (metric::ICMP_RTT_P50, 500, 3),
    (metric::ICMP_RTT_P90, 900, 10),
    (metric::ICMP_RTT_P95, 950, 20),
    (metric::ICMP_RTT_P99, 990, 100),
];

/// Outcome, reason and values; `errors` is the one of the object that stands for error messages.
pub(super) fn measured(
    summary: &Summary,
    histogram: Option<&Histogram>,
    errors: Option<Value>,
    duration: Duration,
) -> Measured {
    if summary.received == 0 && summary.refusal.outcome == Outcome::NotMeasured {
        return Measured::not_measured(summary.refusal.reason, duration);
    }
    let stragglers = summary.stragglers;
    let mut values = vec![
        own_value(metric::ICMP_SENT, summary.sent),
        own_value(metric::ICMP_RECEIVED, summary.received),
    ];
    values.extend(round_trip_values(&summary.round_trips));
    if let Some(hop_limit) = summary.hop_limit {
        values.push(own_value(metric::ICMP_HOP_LIMIT, u64::from(hop_limit)));
    }
    values.push(own_value(metric::ICMP_DUPLICATES, stragglers.duplicates));
    // A series each for what hardly ever happens would cost more than all it says.
    for (metric, count) in [
        (metric::ICMP_LATE, stragglers.late),
        (metric::ICMP_REORDERED, summary.reordered),
    ] {
        if count > 0 {
            values.push(own_value(metric, count));
        }
    }
    values.extend(percentiles(&summary.round_trips));
    match histogram.map(Histogram::values) {
        Some((counters, buckets)) => {
            values.extend(counters);
            values.extend(errors);
            values.extend(buckets);
        }
        None => values.extend(errors),
    }
    if summary.received > 0 {
        Measured::ok(duration, values)
    } else {
        Measured::failed(summary.refusal.reason, duration, values)
    }
}

/// Minimum, mean, maximum and jitter: the mean absolute difference of the round trips of consecutive requests, both of
/// which were answered (RFC 3393 section 4.5); a single round trip has none.
fn round_trip_values(round_trips: &[Option<Duration>]) -> Vec<Value> {
    let known = || round_trips.iter().flatten().copied();
    let mut values = Vec::new();
    let (Some(min), Some(avg), Some(max)) = (known().min(), mean(known()), known().max()) else {
        return values;
    };
    values.push(own_value(metric::ICMP_RTT_MIN, micros(min)));
    values.push(own_value(metric::ICMP_RTT_AVG, micros(avg)));
    values.push(own_value(metric::ICMP_RTT_MAX, micros(max)));
    let differences = round_trips.windows(2).filter_map(|pair| match pair {
        [Some(before), Some(after)] => Some(before.abs_diff(*after)),
        _ => None,
    });
    if let Some(jitter) = mean(differences) {
        values.push(own_value(metric::ICMP_JITTER, micros(jitter)));
    }
    values
}

/// Nearest rank: the smallest round trip that so many are not longer than.
fn percentiles(round_trips: &[Option<Duration>]) -> Vec<Value> {
    let mut known: Vec<_> = round_trips.iter().flatten().copied().collect();
    known.sort_unstable();
    let enough = PERCENTILES
        .into_iter()
        .filter(|(_, _, needed)| known.len() >= *needed);
    enough
        .filter_map(|(metric, thousandths, _)| {
            let rank = (known.len() * thousandths).div_ceil(1_000);
            let round_trip = known.get(rank.checked_sub(1)?)?;
            Some(own_value(metric, micros(*round_trip)))
        })
        .collect()
}

fn mean(durations: impl Iterator<Item = Duration>) -> Option<Duration> {
    let (sum, count) = durations.fold((Duration::ZERO, 0_u32), |(sum, count), duration| {
        (sum + duration, count + 1)
    });
    sum.checked_div(count)
}

#[cfg(test)]
mod tests {
    use extranet_proto::record::Reason;

    use super::super::burst::Stragglers;
    use super::*;
    use crate::net::refusal::Refusal;

    fn summary(round_trips_us: &[Option<u64>]) -> Summary {
        let received = round_trips_us.iter().flatten().count() as u64;
        let sent = round_trips_us.len() as u64;
        Summary {
            sent,
            handed_over: sent,
            silent: sent - received,
            received,
            errors: 0,
            trouble: None,
            reordered: 0,
            stragglers: Stragglers {
                duplicates: 2,
                ..Stragglers::default()
            },
            hop_limit: (received > 0).then_some(61),
            round_trips: round_trips_us
                .iter()
                .map(|us| us.map(Duration::from_micros))
                .collect(),
            refusal: Refusal::failed(Reason::Timeout),
        }
    }

    fn values(measured: &Measured) -> Vec<(Metric, u64)> {
        measured
            .values
            .iter()
            .map(|value| (value.metric, value.raw))
            .collect()
    }

    #[test]
    fn a_burst_becomes_values_in_the_order_of_their_numbers() {
        let mut summary = summary(&[Some(100), Some(140), None, Some(50), Some(60)]);
        summary.stragglers.late = 1;
        summary.reordered = 3;
        let run = measured(&summary, None, None, Duration::from_millis(7));
        assert_eq!(run.outcome, Outcome::Ok);
        assert_eq!(run.duration, Duration::from_millis(7));
        // Jitter over (100, 140) and (50, 60) only.
        let expected = [
            (metric::ICMP_SENT, 5),
            (metric::ICMP_RECEIVED, 4),
            (metric::ICMP_RTT_MIN, 50),
            (metric::ICMP_RTT_AVG, 87),
            (metric::ICMP_RTT_MAX, 140),
            (metric::ICMP_JITTER, 25),
            (metric::ICMP_HOP_LIMIT, 61),
            (metric::ICMP_DUPLICATES, 2),
            (metric::ICMP_LATE, 1),
            (metric::ICMP_REORDERED, 3),
            (metric::ICMP_RTT_P50, 60),
        ];
        assert_eq!(values(&run), expected);

        let mut histogram = Histogram::default();
        histogram.add(5, summary.round_trips.iter().flatten().copied());
        let errors = own_value(metric::ICMP_ERRORS, 1);
        let run = measured(&summary, Some(&histogram), Some(errors), Duration::ZERO);
        assert_eq!(run.values.len(), expected.len() + 25);
        assert!(run.values.is_sorted_by_key(|value| value.metric));
    }

    #[test]
    fn what_is_not_known_is_not_there() {
        let lost = measured(&summary(&[None, None]), None, None, Duration::ZERO);
        assert_eq!(
            (lost.outcome, lost.reason),
            (Outcome::Failed, Reason::Timeout)
        );
        let expected = [
            (metric::ICMP_SENT, 2),
            (metric::ICMP_RECEIVED, 0),
            (metric::ICMP_DUPLICATES, 2),
        ];
        assert_eq!(values(&lost), expected);

        let single = measured(&summary(&[Some(9)]), None, None, Duration::ZERO);
        assert!(single.values.iter().all(|value| {
            value.metric != metric::ICMP_JITTER && value.metric != metric::ICMP_RTT_P50
        }));
    }

    #[test]
    fn percentiles_are_nearest_ranks_of_enough_round_trips() {
        let upwards = |many: u64| (1..=many).map(Some).collect::<Vec<_>>();
        for (many, expected) in [
            (2, vec![]),
            (3, vec![2]),
            (10, vec![5, 9]),
            (20, vec![10, 18, 19]),
            (100, vec![50, 90, 95, 99]),
        ] {
            let found = percentiles(&summary(&upwards(many)).round_trips);
            let found: Vec<_> = found.iter().map(|value| value.raw).collect();
            assert_eq!(found, expected, "of {many}");
        }
    }

    #[test]
    fn what_could_not_be_sent_has_no_values() {
        let mut summary = summary(&[None]);
        summary.refusal = Refusal::not_measured(Reason::NoAddress);
        let run = measured(&summary, None, None, Duration::ZERO);
        assert_eq!(run.outcome, Outcome::NotMeasured);
        assert!(run.values.is_empty());
    }
}
