//! How long to stay away: exponential, with full jitter from the first retry on, so that a fleet that lost its
//! collector in one moment does not come back in one.

use std::time::Duration;

/// The delays of one agent.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    ceiling: Duration,
}

impl Backoff {
    /// The first delay is at most `min`, and none is longer than `max`.
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max,
            ceiling: min,
        }
    }

    /// A random time up to a ceiling that doubles.
    pub fn delay(&mut self) -> Duration {
        let delay = random_up_to(self.ceiling);
        self.ceiling = (self.ceiling * 2).min(self.max);
        delay
    }

    /// Things went well: begin anew next time.
    pub fn reset(&mut self) {
        self.ceiling = self.min;
    }

    /// The collector asked to stay away: at least so long, and spread over half as much again.
    pub fn after_wait(&self, asked: Duration) -> Duration {
        asked + random_up_to((asked / 2).max(self.min))
    }
}

/// Uniform between zero and `limit`. Without random numbers, which Linux does not run out of, the limit itself.
pub fn random_up_to(limit: Duration) -> Duration {
    let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    let random = getrandom::u64().unwrap_or(micros);
    Duration::from_micros(random % micros.saturating_add(1).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_spread_below_a_ceiling_that_doubles() {
        let (min, max) = (Duration::from_secs(1), Duration::from_mins(1));
        let mut first = Vec::new();
        for _ in 0..200 {
            let mut backoff = Backoff::new(min, max);
            first.push(backoff.delay());
            for ceiling in [2, 4, 8, 16, 32, 60, 60] {
                assert!(backoff.delay() <= Duration::from_secs(ceiling));
            }
            backoff.reset();
            assert!(backoff.delay() <= min);
        }
        assert!(first.iter().all(|delay| *delay <= min));
        let mean: Duration = first.iter().sum::<Duration>() / 200;
        // Uniform: the mean of 200 lies within 0.5 s +- 0.1 s but for once in a million.
        assert!(mean > min * 2 / 5 && mean < min * 3 / 5, "{mean:?}");
    }

    #[test]
    fn a_wait_is_a_lower_bound() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));
        for _ in 0..100 {
            let delay = backoff.after_wait(Duration::from_secs(10));
            assert!(delay >= Duration::from_secs(10) && delay <= Duration::from_secs(15));
        }
    }
}
