//! How long to wait for a device, learnt from how long it took (RFC 6298, with other bounds).
//!
//! A device across the room is asked again after [`SHORTEST`], one behind a satellite after its own second or so. Each
//! wait without an answer doubles the next ones, each answer halves them again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Shortest wait: small routers stop answering for that long while they write their configuration.
pub(super) const SHORTEST: Duration = Duration::from_millis(500);
/// Longest wait.
pub(super) const LONGEST: Duration = Duration::from_secs(5);
/// A run may wait this often for a device that never answers, with doubled waits.
const WAITS_IN_A_RUN: u32 = 6;
/// Most doublings.
const DOUBLINGS_MAX: u32 = 4;

/// What was learnt about one device.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Smoothed round trip and its deviation; `None` before the first answer.
    smoothed: Option<(Duration, Duration)>,
    /// The wait while nothing is known.
    first: Duration,
    doublings: u32,
}

impl Pace {
    /// `timeout` is that of a run.
    pub(super) fn new(timeout: Duration) -> Self {
        Self(Mutex::new(State {
            smoothed: None,
            first: (timeout / WAITS_IN_A_RUN).clamp(Duration::from_millis(50), LONGEST),
            doublings: 0,
        }))
    }

    /// How long to wait for the next answer.
    pub(super) fn patience(&self) -> Duration {
        let state = self.state();
        let wait = match state.smoothed {
            Some((mean, deviation)) => (mean + 4 * deviation).max(SHORTEST),
            None => state.first,
        };
        wait.saturating_mul(1 << state.doublings).min(LONGEST)
    }

    /// An answer came `round_trip` after the latest transmission. It may be the answer to an earlier one, so that the
    /// wait is shortened step by step only (Karn).
    pub(super) fn answered(&self, round_trip: Duration) {
        let mut state = self.state();
        state.doublings = state.doublings.saturating_sub(1);
        state.smoothed = Some(match state.smoothed {
            None => (round_trip, round_trip / 2),
            Some((mean, deviation)) => (
                (mean * 7 + round_trip) / 8,
                (deviation * 3 + mean.abs_diff(round_trip)) / 4,
            ),
        });
    }

    /// Nothing came.
    pub(super) fn lost(&self) {
        let mut state = self.state();
        state.doublings = (state.doublings + 1).min(DOUBLINGS_MAX);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn patience_follows_the_device() {
        let near = Pace::new(20_000 * MS);
        assert_eq!(near.patience(), Duration::from_secs(20) / 6);
        for _ in 0..20 {
            near.answered(2 * MS);
        }
        assert_eq!(near.patience(), SHORTEST);
        let far = Pace::new(20_000 * MS);
        for _ in 0..20 {
            far.answered(620 * MS);
        }
        assert!((620 * MS..700 * MS).contains(&far.patience()), "{far:?}");
        far.answered(1_200 * MS);
        assert!(
            far.patience() > 1_200 * MS,
            "a longer trip is believed at once"
        );
    }

    #[test]
    fn silence_doubles_the_wait_until_an_answer() {
        let pace = Pace::new(6_000 * MS);
        let waits: Vec<u128> = (0..5)
            .map(|_| {
                let wait = pace.patience().as_millis();
                pace.lost();
                wait
            })
            .collect();
        assert_eq!(waits, [1_000, 2_000, 4_000, 5_000, 5_000]);
        for _ in 0..4 {
            pace.answered(MS);
        }
        assert_eq!(pace.patience(), SHORTEST);
    }
}
