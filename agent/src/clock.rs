//! The only place that reads clocks. Everything else gets a [`Clock`] or, better, a [`Reading`].
//!
//! Intervals and identities in time use the boot clock (`CLOCK_BOOTTIME`: monotonic, counts suspended time); the wall
//! clock is carried beside it, right or wrong, because a machine without RTC boots in 1970 and learns the time later.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use extranet_proto::id::BootId;
use extranet_proto::record::RecordTime;
use nix::time::{ClockId, clock_gettime};

mod platform;

/// All clocks of the machine at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Microseconds since 1970-01-01 UTC by the system clock, which may be wrong.
    pub wall_us: i64,
    /// Microseconds since boot, suspended time included.
    pub boottime_us: u64,
    /// Whether the kernel calls the system clock synchronised.
    pub synchronised: bool,
}

impl Reading {
    /// The same moment in the resolution of records.
    pub fn record_time(&self) -> RecordTime {
        RecordTime {
            boottime_ms: self.boottime_us / 1_000,
            wall_ms: self.wall_ms(),
        }
    }

    /// Wall clock, milliseconds since 1970.
    pub fn wall_ms(&self) -> i64 {
        self.wall_us.div_euclid(1_000)
    }

    /// Where the boot lies on the wall clock, µs. Changes only when the wall clock is stepped or slewed.
    pub fn boot_wall_us(&self) -> i64 {
        self.wall_us
            .saturating_sub(i64::try_from(self.boottime_us).unwrap_or(i64::MAX))
    }
}

/// Something that can tell the time.
pub trait Source: Debug + Send + Sync {
    /// Reads all clocks as close together as possible.
    fn read(&self) -> Reading;
}

/// A source of time, cheap to clone.
#[derive(Debug, Clone)]
pub struct Clock(Arc<dyn Source>);

impl Clock {
    /// The clocks of this machine.
    pub fn system() -> Self {
        Self::new(SystemSource)
    }

    /// A clock over another source.
    pub fn new(source: impl Source + 'static) -> Self {
        Self(Arc::new(source))
    }

    /// Reads all clocks.
    pub fn read(&self) -> Reading {
        self.0.read()
    }
}

#[derive(Debug)]
struct SystemSource;

impl Source for SystemSource {
    fn read(&self) -> Reading {
        Reading {
            wall_us: i64::try_from(gettime(ClockId::CLOCK_REALTIME).as_micros())
                .unwrap_or(i64::MAX),
            boottime_us: boottime_us(),
            synchronised: platform::wall_clock_synchronised(),
        }
    }
}

/// Microseconds since boot, suspended time included.
pub fn boottime_us() -> u64 {
    u64::try_from(gettime(ClockId::CLOCK_BOOTTIME).as_micros()).unwrap_or(u64::MAX)
}

/// Time of one of the kernel's clocks; before 1970 counts as 1970.
fn gettime(clock: ClockId) -> Duration {
    let spec = clock_gettime(clock).expect("Linux has had both clocks since 2.6.39");
    let seconds = u64::try_from(spec.tv_sec()).unwrap_or(0);
    let nanoseconds = u32::try_from(spec.tv_nsec()).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// The kernel's id of this boot.
pub fn boot_id() -> std::io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    parse_boot_id(&text).ok_or_else(|| {
        std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "boot_id is not 32 hexadecimal digits",
        )
    })
}

fn parse_boot_id(text: &str) -> Option<BootId> {
    let digits: Vec<u8> = text
        .trim()
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect::<Option<_>>()?;
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
        .collect();
    (digits.len() == 32)
        .then(|| bytes.try_into().ok().map(BootId))
        .flatten()
}

/// A clock that is moved by hand, for tests and replays.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Reading>>);

impl ManualClock {
    /// Starts at the given reading.
    pub fn new(reading: Reading) -> Self {
        Self(Arc::new(Mutex::new(reading)))
    }

    /// The clock to hand out.
    pub fn clock(&self) -> Clock {
        Clock::new(self.clone())
    }

    /// Time passes: both clocks advance.
    pub fn advance(&self, by: Duration) {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let by_us = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
        reading.boottime_us = reading.boottime_us.saturating_add(by_us);
        reading.wall_us = reading.wall_us.saturating_add_unsigned(by_us);
    }

    /// Somebody sets the wall clock; the boot clock goes on undisturbed.
    pub fn step_wall(&self, by_us: i64) {
        let mut reading = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.wall_us = reading.wall_us.saturating_add(by_us);
    }
}

impl Source for ManualClock {
    fn read(&self) -> Reading {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The machine's clocks with a wall clock that can be stepped: time passes by itself, only its name is wrong.
#[derive(Debug, Clone, Default)]
pub struct SteppedClock(Arc<Mutex<i64>>);

impl SteppedClock {
    /// The clock to hand out.
    pub fn clock(&self) -> Clock {
        Clock::new(self.clone())
    }

    /// Somebody sets the wall clock.
    pub fn step_wall(&self, by_us: i64) {
        let mut offset_us = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *offset_us = offset_us.saturating_add(by_us);
    }
}

impl Source for SteppedClock {
    fn read(&self) -> Reading {
        let mut reading = SystemSource.read();
        let offset_us = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        reading.wall_us = reading.wall_us.saturating_add(offset_us);
        reading
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_never_goes_back_and_the_boot_has_an_id() {
        let clock = Clock::system();
        let (first, second) = (clock.read(), clock.read());
        assert!(second.boottime_us >= first.boottime_us);
        assert!(first.wall_us > 0);
        assert_ne!(boot_id().unwrap().0, [0; 16]);
    }

    #[test]
    fn boot_ids_are_parsed_strictly() {
        let good = "0f8fad5b-d9cb-469f-a165-70867728950e\n";
        assert_eq!(
            parse_boot_id(good).unwrap().to_string(),
            "0f8fad5bd9cb469fa16570867728950e"
        );
        assert_eq!(parse_boot_id("0f8fad5b"), None);
        assert_eq!(parse_boot_id(&"g".repeat(32)), None);
    }

    #[test]
    fn a_step_moves_the_wall_clock_only() {
        let manual = ManualClock::new(Reading {
            wall_us: -1,
            boottime_us: 5_000,
            synchronised: false,
        });
        let clock = manual.clock();
        assert_eq!(clock.read().wall_ms(), -1, "rounded down, not to zero");
        manual.step_wall(86_400_000_000);
        manual.advance(Duration::from_millis(2));
        assert_eq!(
            clock.read().record_time(),
            RecordTime {
                boottime_ms: 7,
                wall_ms: 86_400_001
            }
        );
    }
}
