//! The departure time of a packet, and whether the system clock stepped since.
//!
//! Kernel receive timestamps are `CLOCK_REALTIME`, so the departure must be read from the same clock, which may be
//! stepped in between (NTP, an operator). `CLOCK_BOOTTIME` is never stepped and is slewed alike, so the difference of
//! the two moves with a step and with nothing else: it is taken with each packet, and a sample across a step is
//! discarded.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// A difference of more than this is a step, ns: well below the 50 µs within which a round trip must be right. What is
/// smaller passes and does as little harm.
const STEP_NS: i64 = 20_000;
/// Reading is repeated until it took no longer than this, so that a preempted thread does not look like a step.
const GOOD_READING_NS: i64 = 5_000;
/// Most repetitions: on a machine so busy that none succeeds the wide reading is used, and says how wide it is.
const READINGS: usize = 5;

/// `CLOCK_REALTIME` minus `CLOCK_BOOTTIME`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockOffset {
    /// The difference, ns.
    pub offset_ns: i64,
    /// The true difference lies within this of `offset_ns`, ns.
    pub uncertainty_ns: i64,
}

impl ClockOffset {
    /// Reads both clocks.
    pub fn now() -> Self {
        let mut best = Self::read();
        for _ in 1..READINGS {
            if best.uncertainty_ns <= GOOD_READING_NS {
                break;
            }
            let again = Self::read();
            if again.uncertainty_ns < best.uncertainty_ns {
                best = again;
            }
        }
        best
    }

    fn read() -> Self {
        let before_ns = clock_ns(ClockId::CLOCK_BOOTTIME);
        let real_ns = clock_ns(ClockId::CLOCK_REALTIME);
        let after_ns = clock_ns(ClockId::CLOCK_BOOTTIME);
        Self {
            offset_ns: real_ns - before_ns.midpoint(after_ns),
            uncertainty_ns: (after_ns - before_ns) / 2 + 1,
        }
    }

    /// Whether the system clock was stepped between the two readings.
    pub const fn stepped_until(self, later: Self) -> bool {
        let tolerance_ns = STEP_NS + self.uncertainty_ns + later.uncertainty_ns;
        (later.offset_ns - self.offset_ns).abs() > tolerance_ns
    }
}

/// The clock that packets are stamped by. A test may shift it as if somebody set the clock of the machine; clones are
/// shifted together.
#[derive(Debug, Clone, Default)]
pub struct PacketClock(Arc<AtomicI64>);

impl PacketClock {
    /// Somebody sets the clock, by so many ns.
    pub fn step(&self, by_ns: i64) {
        self.0.fetch_add(by_ns, Ordering::Relaxed);
    }

    /// The system clock, ns since 1970.
    pub fn real_ns(&self) -> i64 {
        self.shifted(real_ns())
    }

    /// The system clock against the boot clock.
    pub fn offset(&self) -> ClockOffset {
        let now = ClockOffset::now();
        ClockOffset {
            offset_ns: self.shifted(now.offset_ns),
            ..now
        }
    }

    /// A time stamp of the kernel, ns since 1970.
    pub fn shifted(&self, ns: i64) -> i64 {
        ns.saturating_add(self.0.load(Ordering::Relaxed))
    }
}

/// The system clock, ns since 1970: the clock of the kernel's packet timestamps.
pub fn real_ns() -> i64 {
    clock_ns(ClockId::CLOCK_REALTIME)
}

/// A kernel timestamp in the same form.
pub fn timestamp_ns(stamp: TimeSpec) -> i64 {
    #[expect(
        clippy::useless_conversion,
        reason = "time_t and long have 32 bits on some of our targets"
    )]
    let (seconds, nanoseconds) = (i64::from(stamp.tv_sec()), i64::from(stamp.tv_nsec()));
    // 2^63 ns end in the year 2262; a clock set beyond gives a useless sample, not an overflow.
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(nanoseconds)
}

fn clock_ns(clock: ClockId) -> i64 {
    // Both clocks exist since Linux 2.6.39 and the pointer is the library's own: there is nothing left to fail.
    clock_gettime(clock).map_or(0, timestamp_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn offset(offset_ns: i64, uncertainty_ns: i64) -> ClockOffset {
        ClockOffset {
            offset_ns,
            uncertainty_ns,
        }
    }

    #[test]
    fn a_step_either_way_is_seen() {
        let before = offset(1_000_000_000, 100);
        assert!(!before.stepped_until(before));
        assert!(!before.stepped_until(offset(1_000_010_000, 100)));
        assert!(before.stepped_until(offset(1_001_000_000, 100)));
        assert!(before.stepped_until(offset(999_000_000, 100)));
        assert!(before.stepped_until(offset(0, 100)));
    }

    #[test]
    fn a_slow_reading_is_no_step() {
        let before = offset(0, 3_000_000);
        assert!(!before.stepped_until(offset(3_010_000, 100)));
        assert!(before.stepped_until(offset(3_030_000, 100)));
    }

    #[test]
    fn two_readings_of_a_steady_clock_agree() {
        // The clock of the machine may be stepped while tests run, but not ten times in a row.
        let steady = (0..10).any(|_| {
            let first = ClockOffset::now();
            !first.stepped_until(ClockOffset::now())
        });
        assert!(steady);
    }
}
