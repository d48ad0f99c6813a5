//! Rates of an interface over five minutes, from the growth of its counters (AV-30), and how often it went up or down.
//!
//! The five minutes are those of the agent's boot clock since the device was first polled. They end with the first run
//! behind them; what the rates cover is said with them, so that half a window, after a loss or a restart, weighs half.

use std::time::Duration;

use extranet_proto::metric::{self, Metric};
use tokio::time::Instant;

/// Length of a window.
pub(super) const WINDOW: Duration = Duration::from_mins(5);
/// ifOperStatus of an interface that works.
const UP: u64 = 1;

/// The counters that rates are made of: the one to prefer, the one with 32 bits, the rate.
const RATES: [(Option<Metric>, Metric, Metric); 6] = [
    (
        Some(metric::IF_HC_IN_OCTETS),
        metric::IF_IN_OCTETS,
        metric::IF_IN_RATE,
    ),
    (
        Some(metric::IF_HC_OUT_OCTETS),
        metric::IF_OUT_OCTETS,
        metric::IF_OUT_RATE,
    ),
    (None, metric::IF_IN_ERRORS, metric::IF_IN_ERROR_RATE),
    (None, metric::IF_OUT_ERRORS, metric::IF_OUT_ERROR_RATE),
    (None, metric::IF_IN_DISCARDS, metric::IF_IN_DISCARD_RATE),
    (None, metric::IF_OUT_DISCARDS, metric::IF_OUT_DISCARD_RATE),
];

/// Growth of one counter within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    growth: u64,
    span: Duration,
}

/// What one interface did since its window began.
#[derive(Debug, Default)]
pub(super) struct Rates {
    began: Option<Instant>,
    sums: [Sum; RATES.len()],
    flaps: u64,
    /// ifOperStatus and ifLastChange of the last run.
    status: Option<(u64, Option<u64>)>,
}

/// What a run found on an interface.
pub(super) struct Seen<'a> {
    pub(super) at: Instant,
    /// Growth of the counters that grew.
    pub(super) grown: &'a [(Metric, u64, Duration)],
    pub(super) oper_status: Option<u64>,
    pub(super) last_change: Option<u64>,
    /// Whether the device restarted since the last run: its times began anew, which is no flap.
    pub(super) restarted: bool,
}

impl Rates {
    /// Adds a run; gives the values of the window if it ended.
    pub(super) fn add(&mut self, seen: &Seen<'_>) -> Vec<(Metric, u64)> {
        for (sum, (preferred, narrow, _)) in self.sums.iter_mut().zip(RATES) {
            let of = |wanted: Metric| seen.grown.iter().find(|(metric, ..)| *metric == wanted);
            if let Some((_, growth, span)) = preferred.and_then(of).or_else(|| of(narrow)) {
                sum.growth = sum.growth.saturating_add(*growth);
                sum.span += *span;
            }
        }
        self.flap(seen);
        let began = *self.began.get_or_insert(seen.at);
        if seen.at.saturating_duration_since(began) < WINDOW {
            return Vec::new();
        }
        let values = self.values();
        self.began = Some(seen.at);
        self.sums = Default::default();
        self.flaps = 0;
        values
    }

    /// A change of the status counts once; one of ifLastChange with the same status was there and back.
    fn flap(&mut self, seen: &Seen<'_>) {
        let Some(status) = seen.oper_status else {
            return;
        };
        if let Some((before, changed_before)) = self.status
            && !seen.restarted
        {
            if (before == UP) != (status == UP) {
                self.flaps += 1;
            } else if changed_before != seen.last_change && before == status {
                self.flaps += 2;
            }
        }
        self.status = Some((status, seen.last_change));
    }

    fn values(&self) -> Vec<(Metric, u64)> {
        let mut values = Vec::with_capacity(RATES.len() + 2);
        for (sum, (preferred, _, rate)) in self.sums.iter().zip(RATES) {
            let millis = sum.span.as_millis();
            if millis == 0 {
                continue;
            }
            // Octets become bit/s; errors and discards thousandths of one per second.
            let factor: u128 = if preferred.is_some() {
                8 * 1_000
            } else {
                1_000 * 1_000
            };
            let value = u128::from(sum.growth) * factor / millis;
            values.push((rate, u64::try_from(value).unwrap_or(u64::MAX)));
        }
        let span = self.sums.first().map_or(Duration::ZERO, |sum| sum.span);
        if !span.is_zero() {
            let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            values.push((metric::IF_RATE_SPAN, millis));
        }
        values.push((metric::IF_FLAPS, self.flaps));
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Interface {
        rates: Rates,
        zero: Instant,
    }

    impl Interface {
        fn run(
            &mut self,
            second: u64,
            octets: u64,
            status: u64,
            change: u64,
        ) -> Vec<(Metric, u64)> {
            let minute = Duration::from_mins(1);
            let grown = [
                (metric::IF_HC_IN_OCTETS, octets, minute),
                (metric::IF_IN_OCTETS, octets % 7, minute),
                (metric::IF_IN_ERRORS, 3, minute),
            ];
            self.rates.add(&Seen {
                at: self.zero + Duration::from_secs(second),
                grown: if second == 0 { &[] } else { &grown },
                oper_status: Some(status),
                last_change: Some(change),
                restarted: false,
            })
        }
    }

    #[tokio::test]
    async fn five_minutes_give_one_value_of_each_kind() {
        let (rates, zero) = (Rates::default(), Instant::now());
        let mut interface = Interface { rates, zero };
        for second in [0, 60, 120, 180, 240] {
            assert_eq!(interface.run(second, 7_500_000, 1, 9), []);
        }
        let expected = [
            (metric::IF_IN_RATE, 1_000_000),
            (metric::IF_IN_ERROR_RATE, 50),
            (metric::IF_RATE_SPAN, 300_000),
            (metric::IF_FLAPS, 0),
        ];
        assert_eq!(interface.run(300, 7_500_000, 1, 9), expected);
        assert_eq!(interface.run(360, 0, 1, 9), [], "the next window");
    }

    #[tokio::test]
    async fn changes_of_status_are_flaps() {
        let (rates, zero) = (Rates::default(), Instant::now());
        let mut interface = Interface { rates, zero };
        for (second, status, change) in [(0, 1, 5), (60, 2, 70), (120, 1, 130), (180, 1, 190)] {
            interface.run(second, 0, status, change);
        }
        let values = interface.run(300, 0, 1, 190);
        assert!(values.contains(&(metric::IF_FLAPS, 4)), "{values:?}");
    }

    #[tokio::test]
    async fn nothing_is_said_about_what_was_not_seen() {
        let mut rates = Rates::default();
        let zero = Instant::now();
        let seen = |at| Seen {
            at,
            grown: &[],
            oper_status: None,
            last_change: None,
            restarted: false,
        };
        assert_eq!(rates.add(&seen(zero)), []);
        let values = rates.add(&seen(zero + WINDOW));
        assert_eq!(values, [(metric::IF_FLAPS, 0)]);
    }
}
