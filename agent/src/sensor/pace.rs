//! How many advertisements are passed on: a flood must not become work for the agent. A bucket of tokens; the time is
//! passed in.

/// Advertisements that may come at once. A guess: a dozen segments whose routers all answer a solicitation.
const BURST: u64 = 50;
/// Advertisements a second in the long run. Routers send at most one in three seconds each, unsolicited (RFC 4861
/// section 6.2.1).
const PER_SECOND: u64 = 10;
/// Tokens are counted in these.
const PARTS: u64 = 1_000_000;

/// A bucket of tokens.
#[derive(Debug)]
pub struct Pace {
    parts: u64,
    filled_us: u64,
}

impl Pace {
    /// Full.
    pub const fn new(now_us: u64) -> Self {
        Self {
            parts: BURST * PARTS,
            filled_us: now_us,
        }
    }

    /// Whether one more may go.
    pub fn allow(&mut self, now_us: u64) -> bool {
        let passed_us = now_us.saturating_sub(self.filled_us);
        self.filled_us = self.filled_us.max(now_us);
        let filled = self
            .parts
            .saturating_add(passed_us.saturating_mul(PER_SECOND));
        self.parts = filled.min(BURST * PARTS);
        match self.parts.checked_sub(PARTS) {
            Some(rest) => {
                self.parts = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(pace: &mut Pace, now_us: u64, offered: u64) -> u64 {
        (0..offered).filter(|_| pace.allow(now_us)).count() as u64
    }

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let mut pace = Pace::new(5);
        assert_eq!(allowed(&mut pace, 5, 1_000), BURST);
        assert_eq!(allowed(&mut pace, 100_004, 10), 0);
        assert_eq!(allowed(&mut pace, 1_000_005, 1_000), PER_SECOND);
        // A clock that goes back gives nothing, and forgets nothing.
        assert_eq!(allowed(&mut pace, 0, 10), 0);
        assert_eq!(allowed(&mut pace, 1_000_005, 10), 0);
        assert_eq!(allowed(&mut pace, u64::MAX, 1_000), BURST);
    }
}
