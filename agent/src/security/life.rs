//! The life of security events (SEC-G3): one event for each rule and object, raised when it is found, cleared when it has
//! been quiet for the hold-down, and collapsed when it comes and goes. No clock inside.
//!
//! ```text
//!            found: Raised                      quiet for the hold-down: Cleared
//! (unknown) --------------> open (lasting / quiet) ------------------------> past
//!                             ^  |found with other evidence: Raised again      |
//!                             |  +------------------------------------------+  | found within the hour: Raised,
//!                             +------------------------------------------------+ with twice the hold-down
//! ```

use std::collections::BTreeMap;

use extranet_proto::limits;
use extranet_proto::record::{RecordTime, SecurityAction, SecurityEvent, SecurityRule, Severity};

use super::{Evidence, Finding};

/// Open events of one rule; further objects share one event, so that a flood of them stays one alert. A guess.
const OBJECTS: usize = 16;
/// The object of those.
const FURTHER: &str = "further ones";
/// An event that comes back within this time after it was cleared goes on with a longer hold-down, ms.
const FLAP_MS: u64 = 3_600_000;
/// The hold-down is doubled at most this often: a minute becomes 16.
const DOUBLINGS: u32 = 4;
/// Other evidence is told at most this often, ms.
const UPDATE_MS: u64 = 60_000;
/// Past events that are remembered; beyond, flaps are not collapsed.
const PAST: usize = 64;

/// What identifies an event at its access point.
pub type Key = (SecurityRule, String);

/// An event that was raised and not cleared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// How bad it is.
    pub severity: Severity,
    /// When it was first seen.
    pub first_seen: RecordTime,
    /// What proves it.
    pub evidence: Evidence,
    /// How often it was raised within the time that flaps are collapsed in.
    pub times: u32,
    /// It holds until it is over.
    lasting: bool,
    /// When it was seen last, ms since boot.
    seen_ms: u64,
    /// When it was last told about.
    told_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Past {
    times: u32,
    cleared_ms: u64,
}

/// All events of this agent.
#[derive(Debug)]
pub struct Life {
    hold_down_ms: u64,
    open: BTreeMap<Key, Open>,
    past: BTreeMap<Key, Past>,
}

impl Life {
    /// With the events that were open when the process ended: quiet from `now` on, until they are seen again.
    pub fn new(hold_down_ms: u64, open: BTreeMap<Key, Open>, now: RecordTime) -> Self {
        let mut this = Self {
            hold_down_ms,
            open,
            past: BTreeMap::new(),
        };
        for event in this.open.values_mut() {
            event.lasting = false;
            event.seen_ms = now.boottime_ms;
            event.told_ms = now.boottime_ms;
        }
        this
    }

    /// Open events.
    pub fn open(&self) -> &BTreeMap<Key, Open> {
        &self.open
    }

    /// Something was found.
    pub fn found(&mut self, mut finding: Finding, now: RecordTime) -> Option<SecurityEvent> {
        finding
            .object
            .truncate(finding.object.floor_char_boundary(limits::TEXT_BYTES));
        let mut key = (finding.rule, std::mem::take(&mut finding.object));
        if !self.open.contains_key(&key) && self.is_full(finding.rule) {
            FURTHER.clone_into(&mut key.1);
            // Each has its own facts; the first ones stand for all.
            finding.lasting = false;
        }
        let Some(event) = self.open.get_mut(&key) else {
            return Some(self.begin(key, finding, now));
        };
        event.seen_ms = now.boottime_ms;
        event.lasting = finding.lasting;
        let worse = finding.severity < event.severity;
        let news = worse || finding.evidence != event.evidence;
        let due = worse || now.boottime_ms.saturating_sub(event.told_ms) >= UPDATE_MS;
        if key.1 == FURTHER || !news || !due {
            return None;
        }
        event.severity = event.severity.min(finding.severity);
        event.evidence = finding.evidence;
        event.told_ms = now.boottime_ms;
        Some(event.tell(&key, SecurityAction::Raised))
    }

    fn begin(&mut self, key: Key, finding: Finding, now: RecordTime) -> SecurityEvent {
        let before = self.past.remove(&key);
        let event = Open {
            severity: finding.severity,
            first_seen: now,
            evidence: finding.evidence,
            times: before.map_or(1, |past| past.times.saturating_add(1)),
            lasting: finding.lasting,
            seen_ms: now.boottime_ms,
            told_ms: now.boottime_ms,
        };
        let told = event.tell(&key, SecurityAction::Raised);
        self.open.insert(key, event);
        told
    }

    fn is_full(&self, rule: SecurityRule) -> bool {
        self.open.keys().filter(|(of, _)| *of == rule).count() >= OBJECTS
    }

    /// What was found in another way holds until it is over.
    pub fn lasts(&mut self, rule: SecurityRule, object: &str) {
        if let Some(event) = self.open.get_mut(&(rule, object.to_owned())) {
            event.lasting = true;
        }
    }

    /// What lasted is over: the hold-down begins. What was true for a moment is quiet since that moment.
    pub fn over(&mut self, rule: SecurityRule, object: &str, now: RecordTime) {
        if let Some(event) = self.open.get_mut(&(rule, object.to_owned()))
            && event.lasting
        {
            event.lasting = false;
            event.seen_ms = now.boottime_ms;
        }
    }

    /// Clears what has been quiet for its hold-down.
    pub fn tick(&mut self, now: RecordTime) -> Vec<SecurityEvent> {
        let now_ms = now.boottime_ms;
        self.past
            .retain(|_, past| now_ms.saturating_sub(past.cleared_ms) < FLAP_MS);
        let due = |event: &Open| {
            event
                .ends_ms(self.hold_down_ms)
                .is_some_and(|end| end <= now_ms)
        };
        let cleared: Vec<Key> = self
            .open
            .iter()
            .filter(|(_, event)| due(event))
            .map(|(key, _)| key.clone())
            .collect();
        let mut told = Vec::with_capacity(cleared.len());
        for key in cleared {
            let Some(event) = self.open.remove(&key) else {
                continue;
            };
            told.push(event.tell(&key, SecurityAction::Cleared));
            if self.past.len() < PAST {
                let past = Past {
                    times: event.times,
                    cleared_ms: now_ms,
                };
                self.past.insert(key, past);
            }
        }
        told
    }

    /// When the next event could be cleared, ms since boot.
    pub fn next_ms(&self) -> Option<u64> {
        let ends = self.open.values();
        ends.filter_map(|event| event.ends_ms(self.hold_down_ms))
            .min()
    }
}

impl Open {
    /// An event as it was kept.
    pub fn kept(
        severity: Severity,
        first_seen: RecordTime,
        evidence: Evidence,
        times: u32,
    ) -> Self {
        Self {
            severity,
            first_seen,
            evidence,
            times,
            lasting: false,
            seen_ms: 0,
            told_ms: 0,
        }
    }

    /// Without what means something to the running process only.
    #[must_use]
    pub fn as_kept(&self) -> Self {
        Self::kept(
            self.severity,
            self.first_seen,
            self.evidence.clone(),
            self.times,
        )
    }

    fn ends_ms(&self, hold_down_ms: u64) -> Option<u64> {
        let doublings = self.times.saturating_sub(1).min(DOUBLINGS);
        let quiet_ms = hold_down_ms.saturating_mul(1 << doublings);
        (!self.lasting).then(|| self.seen_ms.saturating_add(quiet_ms))
    }

    fn tell(&self, (rule, object): &Key, action: SecurityAction) -> SecurityEvent {
        let mut evidence = self.evidence.clone();
        if self.times > 1 {
            evidence.push(("times".to_owned(), self.times.to_string()));
        }
        bound(&mut evidence);
        SecurityEvent {
            rule: *rule,
            action,
            severity: self.severity,
            object: object.clone(),
            first_seen: self.first_seen,
            evidence,
        }
    }
}

/// SEC-31: what does not fit is cut or left out, from the end.
fn bound(evidence: &mut Evidence) {
    evidence.truncate(limits::EVIDENCE_PAIRS);
    let mut room = limits::EVIDENCE_BYTES;
    evidence.retain_mut(|(name, value)| {
        name.truncate(name.floor_char_boundary(limits::EVIDENCE_KEY_BYTES));
        let Some(left) = room.checked_sub(name.len()) else {
            return false;
        };
        value.truncate(value.floor_char_boundary(left));
        room = left - value.len();
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLD_DOWN_MS: u64 = 300_000;

    fn at(boottime_ms: u64) -> RecordTime {
        RecordTime {
            boottime_ms,
            wall_ms: 1_790_000_000_000 + boottime_ms.cast_signed(),
        }
    }

    fn finding(object: &str, fact: &str, lasting: bool) -> Finding {
        Finding {
            rule: SecurityRule::RogueRa,
            severity: Severity::Major,
            object: object.to_owned(),
            evidence: vec![("fact".to_owned(), fact.to_owned())],
            lasting,
        }
    }

    fn life() -> Life {
        Life::new(HOLD_DOWN_MS, BTreeMap::new(), at(0))
    }

    fn actions(events: &[SecurityEvent]) -> Vec<SecurityAction> {
        events.iter().map(|event| event.action).collect()
    }

    #[test]
    fn an_event_is_raised_once_and_cleared_after_the_hold_down() {
        let mut life = life();
        let raised = life.found(finding("a", "1", false), at(1_000)).unwrap();
        assert_eq!(raised.action, SecurityAction::Raised);
        assert_eq!(raised.first_seen, at(1_000));
        assert_eq!(life.found(finding("a", "1", false), at(200_000)), None);
        assert_eq!(life.next_ms(), Some(500_000));
        assert_eq!(life.tick(at(499_999)), []);
        let cleared = life.tick(at(500_000));
        assert_eq!(actions(&cleared), [SecurityAction::Cleared]);
        assert_eq!(cleared[0].first_seen, at(1_000));
        assert_eq!((life.next_ms(), life.open().len()), (None, 0));
    }

    #[test]
    fn what_lasts_is_held_until_it_is_over() {
        let mut life = life();
        assert!(life.found(finding("a", "1", true), at(0)).is_some());
        assert_eq!(life.tick(at(1 << 40)), []);
        life.over(SecurityRule::RogueRa, "a", at(10));
        life.over(SecurityRule::RogueRa, "a", at(20));
        assert_eq!(
            life.next_ms(),
            Some(HOLD_DOWN_MS + 10),
            "the first end counts"
        );
        life.lasts(SecurityRule::RogueRa, "a");
        assert_eq!(life.next_ms(), None);
    }

    #[test]
    fn other_evidence_is_told_in_moderation_and_worse_severity_at_once() {
        let mut life = life();
        life.found(finding("a", "1", false), at(0)).unwrap();
        assert_eq!(
            life.found(finding("a", "2", false), at(UPDATE_MS - 1)),
            None
        );
        let told = life.found(finding("a", "3", false), at(UPDATE_MS)).unwrap();
        assert_eq!(told.evidence, [("fact".to_owned(), "3".to_owned())]);
        assert_eq!(told.first_seen, at(0));
        let worse = Finding {
            severity: Severity::Critical,
            ..finding("a", "3", false)
        };
        let told = life.found(worse, at(UPDATE_MS + 1)).unwrap();
        assert_eq!(told.severity, Severity::Critical);
        assert_eq!(
            life.found(finding("a", "3", false), at(UPDATE_MS * 9)),
            None
        );
    }

    #[test]
    fn flaps_are_collapsed_by_a_longer_hold_down() {
        let mut life = life();
        let mut now_ms = 0;
        for times in 1..=7_u32 {
            let raised = life.found(finding("a", "1", false), at(now_ms)).unwrap();
            let told = raised.evidence.iter().find(|(name, _)| name == "times");
            let expected = (times > 1).then(|| times.to_string());
            assert_eq!(told.map(|(_, value)| value.clone()), expected);
            let hold_down_ms = HOLD_DOWN_MS << (times - 1).min(DOUBLINGS);
            assert_eq!(life.tick(at(now_ms + hold_down_ms - 1)), []);
            now_ms += hold_down_ms;
            assert_eq!(life.tick(at(now_ms)).len(), 1);
        }
        now_ms += FLAP_MS;
        life.tick(at(now_ms));
        let raised = life.found(finding("a", "1", false), at(now_ms)).unwrap();
        assert_eq!(raised.evidence.len(), 1, "an hour later it is a new one");
    }

    #[test]
    fn a_flood_of_objects_is_one_event() {
        let mut life = life();
        let mut told = 0;
        for object in 0..1_000 {
            let found = life.found(finding(&object.to_string(), "1", false), at(object));
            told += usize::from(found.is_some());
        }
        assert_eq!((told, life.open().len()), (OBJECTS + 1, OBJECTS + 1));
        let further = life.found(finding("9999", "x", true), at(9_000_000));
        assert_eq!(further, None);
        let cleared = life.tick(at(20_000_000));
        assert_eq!(cleared.len(), OBJECTS + 1);
    }

    #[test]
    fn what_was_open_before_a_restart_is_cleared_when_it_is_not_seen_again() {
        let mut before = life();
        before.found(finding("a", "1", true), at(5)).unwrap();
        let mut life = Life::new(HOLD_DOWN_MS, before.open().clone(), at(1_000));
        assert_eq!(life.found(finding("a", "1", false), at(2_000)), None);
        let cleared = life.tick(at(2_000 + HOLD_DOWN_MS));
        assert_eq!(cleared[0].first_seen, at(5));
    }

    #[test]
    fn evidence_is_bounded() {
        let mut evidence = vec![("n".repeat(100), "字".repeat(3_000)); 40];
        bound(&mut evidence);
        let bytes: usize = evidence
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(
            evidence
                .iter()
                .all(|(name, _)| name.len() <= limits::EVIDENCE_KEY_BYTES)
        );
        assert!(bytes <= limits::EVIDENCE_BYTES, "{bytes}");
        let mut small = vec![("mac".to_owned(), "02:00:00:00:00:66".to_owned())];
        bound(&mut small);
        assert_eq!(small[0].1, "02:00:00:00:00:66");
    }
}
