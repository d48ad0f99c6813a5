//! Spreads the packets of all runs, so that many runs that start at one instant do not become one burst that overflows
//! a queue on the way.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::locked;

/// Time between two packets when there is a queue of them: 50,000 a second, five times the figure of the engine
/// (10,000 targets a second), and a burst that a 100 Mbit/s port forwards without queueing.
const GAP: Duration = Duration::from_micros(20);
/// Packets may leave this much ahead of their slot: the timers of the runtime tick once a millisecond, so one wake-up
/// has to send what falls into it.
const AHEAD: Duration = Duration::from_millis(1);

/// Hands out the slots. A virtual schedule (GCRA, ITU-T I.371): each packet moves the next slot by [`GAP`].
#[derive(Debug, Default)]
pub(super) struct Pacer {
    next: Mutex<Option<Instant>>,
}

impl Pacer {
    /// Takes a slot; `Some` = wait until then before sending.
    pub(super) fn take(&self, now: Instant) -> Option<Instant> {
        let mut next = locked(&self.next);
        let slot = next.map_or(now, |next| next.max(now));
        *next = Some(slot + GAP);
        (slot > now + AHEAD).then_some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_spread_and_a_steady_stream_is_not_delayed() {
        let pacer = Pacer::default();
        let start = Instant::now();
        let waits: Vec<_> = (0..10_000).map(|_| pacer.take(start)).collect();
        assert!(waits[..50].iter().all(Option::is_none));
        assert_eq!(waits[9_999], Some(start + GAP * 9_999));

        let later = start + Duration::from_secs(1);
        for second in 0..100 {
            assert_eq!(pacer.take(later + Duration::from_millis(second)), None);
        }
    }
}
