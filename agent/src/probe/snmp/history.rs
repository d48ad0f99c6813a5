//! What is remembered of one object of a device from run to run: its id, its counters, its rates.

use std::time::Duration;

use extranet_proto::id::ObjectId;
use extranet_proto::metric::{self, Metric};
use extranet_proto::record::ObjectKind;
use tokio::time::Instant;

use super::counters::{Circumstances, Counter, Verdict};
use super::rates::{Rates, Seen};

/// Smallest Ethernet frame with its gap, bytes: no port carries more packets than its speed divided by this.
const FRAME_BYTES: f64 = 64.0;
/// ifSpeed of everything faster (RFC 2863): look at ifHighSpeed.
const SPEED_UNKNOWN: u64 = u32::MAX as u64;

/// One object.
#[derive(Debug)]
pub(super) struct History {
    pub(super) id: ObjectId,
    counters: Vec<(Metric, Counter)>,
    rates: Rates,
    restarts: u64,
}

/// What a module says about a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nature {
    Gauge,
    Counter32,
    Counter64,
}

/// What a run knows beside the values of the object.
pub(super) struct Moment<'a> {
    pub(super) at: Instant,
    /// Restarts of the device so far.
    pub(super) restarts: u64,
    pub(super) nature: &'a dyn Fn(Metric) -> Nature,
}

impl History {
    pub(super) fn new(id: ObjectId) -> Self {
        Self {
            id,
            counters: Vec::new(),
            rates: Rates::default(),
            restarts: 0,
        }
    }

    /// Takes out readings that are no samples, adds rates when they are due, and says how many were taken out.
    pub(super) fn judge(
        &mut self,
        kind: ObjectKind,
        values: &mut Vec<(Metric, u64)>,
        moment: &Moment<'_>,
    ) -> u64 {
        let of = |wanted: Metric| {
            let found = values.iter().find(|(metric, _)| *metric == wanted);
            found.map(|(_, raw)| *raw)
        };
        let speed = octets_per_second(of);
        let discontinuity = of(metric::IF_COUNTER_DISCONTINUITY_TIME);
        let (oper_status, last_change) = (of(metric::IF_OPER_STATUS), of(metric::IF_LAST_CHANGE));
        let mut grown: Vec<(Metric, u64, Duration)> = Vec::new();
        let mut refused = 0;
        values.retain(|(metric, raw)| {
            let nature = (moment.nature)(*metric);
            if nature == Nature::Gauge {
                return true;
            }
            let now = Circumstances {
                is_wide: nature == Nature::Counter64,
                restarts: moment.restarts,
                discontinuity,
                most_per_second: speed.and_then(|speed| most_per_second(*metric, speed)),
            };
            match self.counter(*metric).read(*raw, moment.at, now) {
                Verdict::Start => true,
                Verdict::Grew(by, elapsed) => {
                    grown.push((*metric, by, elapsed));
                    true
                }
                Verdict::Refused => {
                    refused += 1;
                    false
                }
            }
        });
        if kind == ObjectKind::Interface {
            values.extend(self.rates.add(&Seen {
                at: moment.at,
                grown: &grown,
                oper_status,
                last_change,
                restarted: self.restarts != moment.restarts,
            }));
        }
        self.restarts = moment.restarts;
        refused
    }

    fn counter(&mut self, metric: Metric) -> &mut Counter {
        let at = match self
            .counters
            .binary_search_by_key(&metric, |(known, _)| *known)
        {
            Ok(at) => at,
            Err(at) => {
                self.counters.insert(at, (metric, Counter::default()));
                at
            }
        };
        &mut self.counters[at].1
    }
}

/// What a port can carry, octets per second.
fn octets_per_second(of: impl Fn(Metric) -> Option<u64>) -> Option<f64> {
    let high = of(metric::IF_HIGH_SPEED)
        .filter(|mega| *mega > 0)
        .map(|mega| mega as f64 * 1e6);
    let low = of(metric::IF_SPEED)
        .filter(|speed| *speed > 0 && *speed < SPEED_UNKNOWN)
        .map(|speed| speed as f64);
    high.or(low).map(|bits| bits / 8.0)
}

/// What a counter of a port can grow by in a second; `None` for those that the speed does not bound.
fn most_per_second(metric: Metric, octets_per_second: f64) -> Option<f64> {
    match metric {
        metric::IF_IN_OCTETS
        | metric::IF_OUT_OCTETS
        | metric::IF_HC_IN_OCTETS
        | metric::IF_HC_OUT_OCTETS => Some(octets_per_second),
        metric::IF_IN_UCAST_PKTS
        | metric::IF_OUT_UCAST_PKTS
        | metric::IF_HC_IN_UCAST_PKTS
        | metric::IF_HC_OUT_UCAST_PKTS => Some(octets_per_second / FRAME_BYTES),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nature(metric: Metric) -> Nature {
        match metric {
            metric::IF_HC_IN_OCTETS => Nature::Counter64,
            metric::IF_IN_ERRORS => Nature::Counter32,
            _ => Nature::Gauge,
        }
    }

    fn judge(
        history: &mut History,
        at: Instant,
        values: &[(Metric, u64)],
    ) -> (Vec<(Metric, u64)>, u64) {
        let mut values = values.to_vec();
        let moment = Moment {
            at,
            restarts: 0,
            nature: &nature,
        };
        let refused = history.judge(ObjectKind::Interface, &mut values, &moment);
        (values, refused)
    }

    #[tokio::test]
    async fn a_reading_that_cannot_be_right_is_no_sample_and_no_rate() {
        let zero = Instant::now();
        let mut history = History::new(ObjectId(1));
        let run = |second: u64, octets: u64| {
            let at = zero + Duration::from_secs(second);
            let values = [
                (metric::IF_HIGH_SPEED, 100),
                (metric::IF_HC_IN_OCTETS, octets),
                (metric::IF_IN_ERRORS, 0),
            ];
            (at, values)
        };
        let mut rate = None;
        for (second, octets, kept) in [
            (0, 1_000_000, true),
            (60, 2_000_000, true),
            (120, 17, false),
            (180, 4_000_000, true),
            (240, 1 << 60, false),
            (300, 6_000_000, true),
        ] {
            let (at, values) = run(second, octets);
            let (values, refused) = judge(&mut history, at, &values);
            let has = values
                .iter()
                .any(|(metric, _)| *metric == metric::IF_HC_IN_OCTETS);
            assert_eq!((has, refused), (kept, u64::from(!kept)), "at {second} s");
            rate = values
                .iter()
                .find(|(m, _)| *m == metric::IF_IN_RATE)
                .map(|(_, raw)| *raw);
        }
        // 5,000,000 octets in 300 s: the refused readings left no gap and no spike.
        assert_eq!(rate, Some(5_000_000 * 8 / 300));
    }

    #[test]
    fn the_speed_is_the_wide_one_if_there_is_one() {
        let speed = |low: u64, high: u64| {
            octets_per_second(|metric| match metric {
                metric::IF_SPEED => Some(low),
                metric::IF_HIGH_SPEED => Some(high),
                _ => None,
            })
        };
        assert_eq!(speed(8_000, 0), Some(1_000.0));
        assert_eq!(speed(SPEED_UNKNOWN, 10_000), Some(1.25e9));
        assert_eq!(speed(SPEED_UNKNOWN, 0), None);
        assert_eq!(speed(0, 0), None);
    }
}
