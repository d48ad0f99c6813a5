//! Readings of counters: which of them are samples, and by how much a counter grew (AV-34).
//!
//! Rules, in the order in which the code applies them:
//!
//! 1. The first reading is a sample; it says nothing about growth.
//! 2. The device restarted, or the interface says that its counters began anew (`ifCounterDiscontinuityTime`): the reading
//!    is a sample and a new start.
//! 3. It grew: a sample, unless it grew faster than the port can carry. Such a reading is no sample.
//! 4. It fell, has 32 bits, and a wrap would be growth that rule 3 accepts: a sample; it grew across the wrap.
//! 5. It fell otherwise: no sample. One wrong reading is forgotten when the next continues the right ones; when the next
//!    continues the wrong one, the device began anew without saying so, and that reading is a new start.
//!
//! Time is the agent's boot clock: a step of the wall clock changes nothing here. `sysUpTime` has 32 bits of hundredths of
//! a second and wraps after 497 days, which is no restart ([`UpTime`]).

use std::time::Duration;

use tokio::time::Instant;

/// Values that fit 32 bits.
const WRAP: u64 = 1 << 32;
/// A port may seem to carry more than its speed: counters of line cards are read at other moments than ours.
const SPEED_MARGIN: f64 = 2.0;
/// How far `sysUpTime` after a wrap may lie from where it is expected, hundredths of a second: two minutes.
const UP_TIME_MARGIN: u64 = 12_000;

/// What is known beside the number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Circumstances {
    /// Whether it is a Counter64.
    pub(super) is_wide: bool,
    /// Restarts of the device so far.
    pub(super) restarts: u64,
    /// `ifCounterDiscontinuityTime` of the interface, where it has one.
    pub(super) discontinuity: Option<u64>,
    /// What it can grow by in a second, where that is known.
    pub(super) most_per_second: Option<f64>,
}

/// What a reading says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A sample and a start.
    Start,
    /// A sample; it grew by so much in so much time.
    Grew(u64, Duration),
    /// No sample.
    Refused,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    raw: u64,
    at: Instant,
    restarts: u64,
    discontinuity: Option<u64>,
}

/// A counter of one object.
#[derive(Debug, Default)]
pub(super) struct Counter {
    /// The last sample.
    last: Option<Reading>,
    /// The last refused reading, if it came after that.
    refused: Option<Reading>,
}

impl Counter {
    /// Judges a reading.
    pub(super) fn read(&mut self, raw: u64, at: Instant, now: Circumstances) -> Verdict {
        let reading = Reading {
            raw,
            at,
            restarts: now.restarts,
            discontinuity: now.discontinuity,
        };
        let Some(last) = self.last else {
            return self.accept(reading, Verdict::Start);
        };
        let began_anew = last.restarts != now.restarts || last.discontinuity != now.discontinuity;
        if began_anew {
            return self.accept(reading, Verdict::Start);
        }
        if let Some(growth) = growth(last, reading, now) {
            let elapsed = at.saturating_duration_since(last.at);
            return self.accept(reading, Verdict::Grew(growth, elapsed));
        }
        let continues = self
            .refused
            .is_some_and(|refused| growth(refused, reading, now).is_some());
        if continues {
            return self.accept(reading, Verdict::Start);
        }
        self.refused = Some(reading);
        Verdict::Refused
    }

    fn accept(&mut self, reading: Reading, verdict: Verdict) -> Verdict {
        self.last = Some(reading);
        self.refused = None;
        verdict
    }
}

/// By how much a counter grew, if it can have.
fn growth(from: Reading, to: Reading, now: Circumstances) -> Option<u64> {
    let elapsed = to.at.saturating_duration_since(from.at).as_secs_f64();
    let possible = |growth: u64| match now.most_per_second {
        Some(most) => growth as f64 <= most * SPEED_MARGIN * elapsed.max(1.0),
        None => true,
    };
    if to.raw >= from.raw {
        return Some(to.raw - from.raw).filter(|growth| possible(*growth));
    }
    if now.is_wide || from.raw >= WRAP {
        return None;
    }
    let growth = to.raw + WRAP - from.raw;
    // Without a speed to judge by: half the range, as for serial numbers (RFC 1982).
    let likely = now.most_per_second.is_some() || growth < WRAP / 2;
    Some(growth).filter(|growth| likely && possible(*growth))
}

/// The device's own clock, and how often it began anew.
#[derive(Debug, Default)]
pub(super) struct UpTime {
    last: Option<(u64, Instant)>,
    restarts: u64,
}

impl UpTime {
    /// Takes a reading of `sysUpTime`.
    pub(super) fn read(&mut self, ticks: u64, at: Instant) {
        if let Some((before, then)) = self.last
            && ticks < before
        {
            let elapsed = at.saturating_duration_since(then).as_millis() / 10;
            let expected = before.saturating_add(u64::try_from(elapsed).unwrap_or(u64::MAX));
            // What it shows if it has wrapped; a little less than that when it is just about to.
            let wrapped = expected + UP_TIME_MARGIN >= WRAP
                && expected.saturating_sub(WRAP).abs_diff(ticks) <= UP_TIME_MARGIN;
            if !wrapped {
                self.restarts += 1;
            }
        }
        self.last = Some((ticks, at));
    }

    /// Restarts that were noticed.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts
    }
}

#[cfg(test)]
mod tests;
