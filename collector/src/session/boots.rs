//! Where the boots of the fleet lie on the wall clock.
//!
//! An agent dates its records by its boot clock, which only grows; its wall clock may be wrong. For each boot the
//! collector estimates once where boot time zero lies on the wall clock, and keeps to that estimate, so that records of
//! one boot never change their order or distance. What was used for a batch is frozen in the log beside it.
//!
//! The estimate, in this order:
//! 1. the agent's wall clock, when it is within two seconds of ours: it is disciplined better than a one-way delay over
//!    a satellite link can be corrected;
//! 2. else our wall clock at the moment of receipt;
//! 3. for a boot that was never seen alive: what the log says about it;
//! 4. else the agent's own wall clock of each batch, marked as uncertain.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use extranet_agent::clock::Reading;
use extranet_proto::id::{AgentId, BootId};
use extranet_proto::record::RecordTime;

/// How far an agent's wall clock may be from ours to be believed, and how far an estimate may move before a new one
/// replaces it, ms. A second is too near to the delay of a slow link, a minute would misplace slots.
const TOLERANCE_MS: i64 = 2_000;
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

/// Latest boots last.
type ByAgent = HashMap<AgentId, VecDeque<(BootId, BootTime)>>;

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

/// Rules 1 and 2: estimates from an agent's reading that has just arrived, and ours.
pub fn estimate(agent: &Reading, ours: &Reading) -> BootTime {
    let believed = (agent.wall_us.saturating_sub(ours.wall_us)).abs() <= TOLERANCE_MS * 1_000;
    let wall_us = if believed {
        agent.wall_us
    } else {
        ours.wall_us
    };
    let boottime_us = i64::try_from(agent.boottime_us).unwrap_or(i64::MAX);
    BootTime {
        boot_to_wall_ms: wall_us.saturating_sub(boottime_us).div_euclid(1_000),
        certain: true,
    }
}

/// Rule 4: the agent's own word, from the first record of a batch.
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

    /// Settles a fresh estimate against what is known of the boot.
    pub fn settle(&self, agent: &AgentId, boot: BootId, fresh: BootTime) -> Settled {
        let known = self.known(agent, boot);
        let moved = match known {
            Some(known) if known.certain => {
                let by_ms = known
                    .boot_to_wall_ms
                    .saturating_sub(fresh.boot_to_wall_ms)
                    .abs();
                if by_ms <= TOLERANCE_MS {
                    return Settled::Kept(known);
                }
                true
            }
            _ => false,
        };
        self.remember(agent, boot, fresh);
        if moved {
            Settled::Moved(fresh)
        } else {
            Settled::Kept(fresh)
        }
    }

    /// Rule 3: what is known of a boot.
    pub fn known(&self, agent: &AgentId, boot: BootId) -> Option<BootTime> {
        let all = self.lock();
        let boots = all.get(agent)?;
        boots
            .iter()
            .find(|(known, _)| *known == boot)
            .map(|(_, time)| *time)
    }

    /// Takes a boot's time as given, in place of what was known.
    pub fn remember(&self, agent: &AgentId, boot: BootId, time: BootTime) {
        let mut all = self.lock();
        let boots = all.entry(agent.clone()).or_default();
        boots.retain(|(known, _)| *known != boot);
        boots.push_back((boot, time));
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

    #[test]
    fn a_good_clock_is_believed_and_a_wrong_one_is_not() {
        let ours = reading(1_000 * DAY_US, 5);
        let good = estimate(&reading(1_000 * DAY_US + 1_500_000, 60_000_000), &ours);
        assert_eq!(good.boot_to_wall_ms, 1_000 * 86_400_000 + 1_500 - 60_000);
        // A machine without RTC thinks it is 1970; one that is a day ahead is no better.
        for wrong in [60_000_000, 1_001 * DAY_US] {
            let estimated = estimate(&reading(wrong, 60_000_000), &ours);
            assert_eq!(estimated.boot_to_wall_ms, 1_000 * 86_400_000 - 60_000);
        }
    }

    #[test]
    fn an_estimate_is_kept_until_a_clock_was_set() {
        let boots = Boots::default();
        let (agent, boot) = (AgentId::new("a").unwrap(), BootId([1; 16]));
        let time = |boot_to_wall_ms, certain| BootTime {
            boot_to_wall_ms,
            certain,
        };
        // From the log, on the agent's word only: the first sight of the living boot replaces it.
        boots.remember(&agent, boot, time(5, false));
        assert_eq!(
            boots.settle(&agent, boot, time(90_000, true)),
            Settled::Kept(time(90_000, true))
        );
        assert_eq!(
            boots.settle(&agent, boot, time(91_999, true)),
            Settled::Kept(time(90_000, true))
        );
        assert_eq!(
            boots.settle(&agent, boot, time(99_000, true)),
            Settled::Moved(time(99_000, true))
        );
        assert_eq!(boots.known(&agent, boot), Some(time(99_000, true)));
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
