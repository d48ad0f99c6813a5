//! Where the boots of the fleet lie on the wall clock.
//!
//! An agent dates its records by its boot clock, which only grows; its wall clock may be wrong. For each boot the
//! collector estimates where boot time zero lies on the wall clock, and keeps to that estimate, so that records of one
//! boot never change their order or distance. What was used for a batch is frozen in the log beside it.
//!
//! A reading of the agent's clocks can arrive late: on a stream that survives a cut, the kernel delivers it when the
//! line is back. So "our wall clock at receipt minus their boot clock" is never too early and may be too late by the
//! delay. The first estimate of a boot is, in this order:
//! 1. the agent's wall clock, when it is within two seconds of ours: it is disciplined better than a one-way delay over
//!    a satellite link can be corrected;
//! 2. the agent's wall clock, when the kernel there says that it is synchronised and it seems late by no more than a
//!    delay can explain;
//! 3. else our wall clock at the moment of receipt;
//! 4. for a boot that was never seen alive: what the log says about it;
//! 5. else the agent's own wall clock of each batch, marked as uncertain.
//!
//! Afterwards a reading moves the estimate only when no delay explains it: when it puts the boot earlier, or later by
//! more than a message can be under way. Drift and small steps show in the least delayed reading of a while.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use extranet_agent::clock::Reading;
use extranet_proto::id::{AgentId, BootId};
use extranet_proto::record::RecordTime;

/// How far an agent's wall clock may be from ours to be believed, and how far an estimate may move before a new one
/// replaces it, ms. A second is too near to the delay of a slow link, a minute would misplace slots.
const TOLERANCE_MS: i64 = 2_000;
/// How long a reading can be under way, ms: the agent gives a connection up when nothing it sent is acknowledged for
/// 30 s (its `keepalive_timeout`); twice that allows for a configured longer one.
const DELAY_MAX_MS: i64 = 60_000;
/// The least delayed reading of this time shows drift, µs: a boot clock that nobody disciplines drifts 50 ppm, 30 ms in
/// this time.
const WINDOW_US: u64 = 600_000_000;
/// And of at least so many readings, so that one cut does not delay them all (a guess).
const WINDOW_READINGS: u32 = 4;
/// Boots remembered for each agent: a site that reboots more often within the reach of its spool has other problems.
const BOOTS: usize = 8;

/// A boot's place on the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootTime {
    /// Wall clock = boot clock + this, ms.
    pub boot_to_wall_ms: i64,
    /// Whether that is more than the agent's own word.
    pub certain: bool,
}

/// What is known of one boot.
#[derive(Debug, Clone)]
struct Known {
    boot: BootId,
    time: BootTime,
    /// Since when (our boot clock, µs) readings are compared, how many came, and the earliest place of the boot among
    /// them, ms.
    window: Option<(u64, u32, i64)>,
}

/// Latest boots last.
type ByAgent = HashMap<AgentId, VecDeque<Known>>;

/// Known boots of all agents; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Boots {
    by_agent: Arc<Mutex<ByAgent>>,
}

/// What became of an estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is the first for this boot, or agrees with the one before, which stays.
    Kept(BootTime),
    /// It contradicts the one before: one of the clocks was set. The new one holds from now on.
    Moved(BootTime),
}

impl Settled {
    /// What to use from now on.
    pub const fn time(self) -> BootTime {
        match self {
            Self::Kept(time) | Self::Moved(time) => time,
        }
    }
}

/// Where a reading puts the boot by the agent's wall clock and by ours, ms. The second is never too early.
fn places(agent: &Reading, ours: &Reading) -> (i64, i64) {
    let boottime_us = i64::try_from(agent.boottime_us).unwrap_or(i64::MAX);
    let place = |wall_us: i64| wall_us.saturating_sub(boottime_us).div_euclid(1_000);
    (place(agent.wall_us), place(ours.wall_us))
}

/// Rules 1 to 3: the first estimate of a boot, from an agent's reading that has just arrived, and ours.
fn first_estimate(agent: &Reading, ours: &Reading) -> BootTime {
    let (own, at_receipt) = places(agent, ours);
    let late_by = at_receipt.saturating_sub(own);
    let believed = late_by.abs() <= TOLERANCE_MS
        || (agent.synchronised && (0..=DELAY_MAX_MS).contains(&late_by));
    BootTime {
        boot_to_wall_ms: if believed { own } else { at_receipt },
        certain: true,
    }
}

/// Rule 5: the agent's own word, from the first record of a batch.
pub fn own_word(first: RecordTime) -> BootTime {
    let boottime_ms = i64::try_from(first.boottime_ms).unwrap_or(i64::MAX);
    BootTime {
        boot_to_wall_ms: first.wall_ms.saturating_sub(boottime_ms),
        certain: false,
    }
}

impl Boots {
    fn lock(&self) -> MutexGuard<'_, ByAgent> {
        self.by_agent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Settles a reading that has just arrived against what is known of the boot.
    pub fn settle(
        &self,
        agent: &AgentId,
        boot: BootId,
        theirs: &Reading,
        ours: &Reading,
    ) -> Settled {
        let mut all = self.lock();
        let known = all
            .get_mut(agent)
            .and_then(|boots| boots.iter_mut().find(|known| known.boot == boot))
            .filter(|known| known.time.certain);
        let Some(known) = known else {
            drop(all);
            let fresh = first_estimate(theirs, ours);
            self.remember(agent, boot, fresh);
            return Settled::Kept(fresh);
        };
        let (_, at_receipt) = places(theirs, ours);
        let later_by = at_receipt.saturating_sub(known.time.boot_to_wall_ms);
        // Condition 1: no delay makes a boot look earlier. Condition 2: nor later by so much.
        let mut moved = !(-TOLERANCE_MS..=DELAY_MAX_MS).contains(&later_by);
        let mut place = at_receipt;
        // Condition 3: even the least delayed reading of a while is late.
        let (since_us, readings, earliest) =
            known.window.unwrap_or((ours.boottime_us, 0, at_receipt));
        let (readings, earliest) = (readings + 1, earliest.min(at_receipt));
        let over =
            ours.boottime_us.saturating_sub(since_us) >= WINDOW_US && readings >= WINDOW_READINGS;
        if over && earliest.saturating_sub(known.time.boot_to_wall_ms) > TOLERANCE_MS {
            moved = true;
            place = earliest;
        }
        known.window = (!over && !moved).then_some((since_us, readings, earliest));
        if moved {
            known.time.boot_to_wall_ms = place;
            Settled::Moved(known.time)
        } else {
            Settled::Kept(known.time)
        }
    }

    /// Rule 4: what is known of a boot.
    pub fn known(&self, agent: &AgentId, boot: BootId) -> Option<BootTime> {
        let all = self.lock();
        let boots = all.get(agent)?;
        boots
            .iter()
            .find(|known| known.boot == boot)
            .map(|known| known.time)
    }

    /// Takes a boot's time as given, in place of what was known.
    pub fn remember(&self, agent: &AgentId, boot: BootId, time: BootTime) {
        let mut all = self.lock();
        let boots = all.entry(agent.clone()).or_default();
        boots.retain(|known| known.boot != boot);
        boots.push_back(Known {
            boot,
            time,
            window: None,
        });
        if boots.len() > BOOTS {
            boots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn reading(wall_us: i64, boottime_us: u64) -> Reading {
        Reading {
            wall_us,
            boottime_us,
            synchronised: false,
        }
    }

    /// Our clocks `seconds` after an arbitrary start.
    fn ours(seconds: u64) -> Reading {
        let us = seconds * 1_000_000;
        reading(1_000 * DAY_US + i64::try_from(us).unwrap(), us)
    }

    #[test]
    fn a_good_clock_is_believed_and_a_wrong_one_is_not() {
        let good = first_estimate(&reading(1_000 * DAY_US + 1_500_000, 60_000_000), &ours(0));
        assert_eq!(good.boot_to_wall_ms, 1_000 * 86_400_000 + 1_500 - 60_000);
        // A machine without RTC thinks it is 1970; one that is a day ahead is no better.
        for wrong in [60_000_000, 1_001 * DAY_US] {
            let estimated = first_estimate(&reading(wrong, 60_000_000), &ours(0));
            assert_eq!(estimated.boot_to_wall_ms, 1_000 * 86_400_000 - 60_000);
        }
        // Eight seconds late: a slow message of a synchronised clock, or an unsynchronised clock that is wrong.
        let late = reading(1_000 * DAY_US - 8_000_000, 60_000_000);
        let synchronised = Reading {
            synchronised: true,
            ..late
        };
        let place = |agent: &Reading| first_estimate(agent, &ours(0)).boot_to_wall_ms;
        assert_eq!(place(&synchronised), 1_000 * 86_400_000 - 8_000 - 60_000);
        assert_eq!(place(&late), 1_000 * 86_400_000 - 60_000);
    }

    /// An agent's reading `seconds` after the start, its boot having begun then; its wall clock is always wrong.
    fn theirs(seconds: u64) -> Reading {
        reading(0, seconds * 1_000_000)
    }

    const TRUTH: i64 = 1_000 * 86_400_000;

    #[test]
    fn a_delayed_reading_moves_nothing() {
        let boots = Boots::default();
        let (agent, boot) = (AgentId::new("a").unwrap(), BootId([1; 16]));
        let settle = |sent, received| boots.settle(&agent, boot, &theirs(sent), &ours(received));
        let kept = |place| {
            Settled::Kept(BootTime {
                boot_to_wall_ms: place,
                certain: true,
            })
        };
        assert_eq!(settle(10, 10), kept(TRUTH));
        // Readings of a cut of 40 s, delivered when the line is back.
        for sent in [20, 30, 40, 50] {
            assert_eq!(settle(sent, 60), kept(TRUTH));
        }
        assert_eq!(settle(70, 70), kept(TRUTH));
    }

    #[test]
    fn a_first_reading_that_was_delayed_is_corrected_by_the_next() {
        let boots = Boots::default();
        let (agent, boot) = (AgentId::new("a").unwrap(), BootId([1; 16]));
        let settle = |sent, received| boots.settle(&agent, boot, &theirs(sent), &ours(received));
        assert_eq!(settle(10, 19).time().boot_to_wall_ms, TRUTH + 9_000);
        assert!(matches!(settle(20, 20), Settled::Moved(time) if time.boot_to_wall_ms == TRUTH));
    }

    #[test]
    fn a_clock_that_was_set_or_drifts_moves_the_estimate() {
        let boots = Boots::default();
        let (agent, boot) = (AgentId::new("a").unwrap(), BootId([1; 16]));
        // From the log, on the agent's word only: the first sight of the living boot replaces it.
        let own_word = BootTime {
            boot_to_wall_ms: 5,
            certain: false,
        };
        boots.remember(&agent, boot, own_word);
        let settle =
            |sent, received: u64| boots.settle(&agent, boot, &theirs(sent), &ours(received));
        assert_eq!(settle(0, 0).time().boot_to_wall_ms, TRUTH);
        // Our clock was set an hour ahead.
        assert!(
            matches!(settle(10, 3_610), Settled::Moved(time) if time.boot_to_wall_ms == TRUTH + 3_600_000)
        );
        // Three seconds of drift: known once the least delayed reading of ten minutes says so.
        let mut moved = Vec::new();
        for minute in 1..=12 {
            let (sent, received) = (10 + minute * 60, 3_613 + minute * 60);
            if let Settled::Moved(time) = settle(sent, received) {
                moved.push((minute, time.boot_to_wall_ms));
            }
        }
        assert_eq!(moved, [(11, TRUTH + 3_603_000)]);
    }

    #[test]
    fn old_boots_are_forgotten() {
        let boots = Boots::default();
        let agent = AgentId::new("a").unwrap();
        for boot in 0..=u8::try_from(BOOTS).unwrap() {
            boots.remember(
                &agent,
                BootId([boot; 16]),
                own_word(RecordTime {
                    boottime_ms: 1,
                    wall_ms: 2,
                }),
            );
        }
        assert_eq!(boots.known(&agent, BootId([0; 16])), None);
        assert!(boots.known(&agent, BootId([1; 16])).is_some());
    }
}
