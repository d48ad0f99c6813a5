//! SEC-09: whether what a TLS server shows is what it should show. Pure: from what is remembered, what was shown, when,
//! and which windows were registered.
//!
//! The first certificate of a service is learned, as SSH does with host keys. What comes later is judged in this order:
//!
//! 1. measured before the first one was: says nothing;
//! 2. known, and not replaced longer ago than [`OVERLAP_MS`]: the same;
//! 3. another certificate for the same key, by the same issuer: renewed;
//! 4. another key by the same issuer, within a registered window: renewed;
//! 5. another key by the same issuer, shortly before the known one expires, and the chain leads to a trusted root:
//!    renewed. The name of an issuer alone proves nothing: anybody can write it into a certificate;
//! 6. anything else: changed.

use extranet_proto::record::Severity;
use serde::{Deserialize, Serialize};

/// What stands behind the service in the name of each object: its certificate, the end of it, the name in it.
pub const CHANGE: &str = " certificate";
/// See [`CHANGE`].
pub const EXPIRY: &str = " expiry";
/// See [`CHANGE`].
pub const NAME: &str = " name";

const DAY_MS: i64 = 86_400_000;
/// A renewal without a window is expected this long before the end.
const RENEWAL_MS: i64 = 30 * DAY_MS;
/// How long a replaced certificate may still be seen: servers behind one name are not exchanged at once (guess).
pub const OVERLAP_MS: i64 = 7 * DAY_MS;
/// Most certificates that are known of a service (guess: servers behind one name, each with its own).
const KNOWN: usize = 8;

/// What a server showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// SHA-256 of the certificate, hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of the public key, hexadecimal.
    pub key: String,
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// When it ends, ms since 1970; `None` when that cannot be read.
    pub not_after_ms: Option<i64>,
    /// SHA-256 of the chain as it was shown, hexadecimal; empty when an older agent did not say. For evidence only: with
    /// the same certificate at its end, a chain proves the same with one intermediate more or less.
    #[serde(default)]
    pub chain: String,
    /// Whether its chain leads to a trusted root and is in force.
    pub trusted: bool,
}

/// A certificate that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// As it was shown.
    pub shown: Shown,
    /// Since when it is accepted, ms since 1970.
    pub since_ms: i64,
    /// When another one took its place.
    pub until_ms: Option<i64>,
}

/// What is remembered of a service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// What was accepted, oldest first.
    pub known: Vec<Known>,
    /// What is shown and was not accepted, and since when.
    pub pending: Option<(Shown, i64)>,
}

/// A registered time of work, ms since 1970, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Begin.
    pub from_ms: i64,
    /// End.
    pub to_ms: i64,
}

/// Why a certificate may take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The key stayed.
    SameKey,
    /// Somebody registered the work.
    Window,
    /// The old one ends soon.
    NearExpiry,
}

/// What became another without permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The key, by the same issuer.
    Key,
    /// The issuer.
    Issuer,
    /// A certificate that was replaced long ago is back.
    Returned,
    /// The key is not one that the plan pinned.
    Pin,
}

impl Change {
    /// For evidence.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Issuer => "issuer",
            Self::Returned => "returned",
            Self::Pin => "pin",
        }
    }
}

/// The judgement of what was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first one.
    Learned,
    /// As known.
    Same,
    /// Another one, as it should be.
    Renewed(Renewal),
    /// Older than all that is known.
    Before,
    /// Another one, and nobody said so.
    Changed(Change),
}

impl Memory {
    /// Judges what was shown at a time, see the module.
    pub fn judge(&self, shown: &Shown, at_ms: i64, windows: &[Window]) -> Verdict {
        let Some(first_ms) = self.known.iter().map(|known| known.since_ms).min() else {
            return Verdict::Learned;
        };
        // 1.
        if at_ms < first_ms {
            return Verdict::Before;
        }
        // 2.
        let same = |known: &&Known| known.shown.fingerprint == shown.fingerprint;
        if let Some(known) = self.known.iter().rfind(same) {
            let replaced_long_ago = known
                .until_ms
                .is_some_and(|until| at_ms.saturating_sub(until) > OVERLAP_MS);
            return if replaced_long_ago {
                Verdict::Changed(Change::Returned)
            } else {
                Verdict::Same
            };
        }
        let now = || self.known.iter().filter(|known| known.until_ms.is_none());
        let issued_alike =
            |known: &&Known| !shown.issuer.is_empty() && known.shown.issuer == shown.issuer;
        // 3.
        if now()
            .filter(issued_alike)
            .any(|known| known.shown.key == shown.key)
        {
            return Verdict::Renewed(Renewal::SameKey);
        }
        // 4. to 6.
        if now().find(issued_alike).is_none() {
            return Verdict::Changed(Change::Issuer);
        }
        if windows
            .iter()
            .any(|window| (window.from_ms..=window.to_ms).contains(&at_ms))
        {
            return Verdict::Renewed(Renewal::Window);
        }
        let ends_soon = |known: &Known| {
            let ends = known.shown.not_after_ms;
            ends.is_some_and(|ends| at_ms >= ends.saturating_sub(RENEWAL_MS))
        };
        if shown.trusted && now().filter(issued_alike).any(ends_soon) {
            return Verdict::Renewed(Renewal::NearExpiry);
        }
        Verdict::Changed(Change::Key)
    }

    /// What the service is known by at this time: the newest one.
    pub fn current(&self) -> Option<&Known> {
        self.known.iter().rfind(|known| known.until_ms.is_none())
    }

    /// Remembers a judgement; whether anything is remembered now that was not before.
    pub fn remember(&mut self, shown: &Shown, at_ms: i64, verdict: Verdict) -> bool {
        match verdict {
            Verdict::Before => false,
            Verdict::Same => {
                let newer = self
                    .pending
                    .as_ref()
                    .is_some_and(|(_, since)| at_ms >= *since);
                if newer {
                    self.pending = None;
                }
                newer
            }
            Verdict::Learned => {
                self.accept(shown, at_ms, None);
                true
            }
            Verdict::Renewed(_) => {
                self.accept(shown, at_ms, Some(at_ms));
                true
            }
            Verdict::Changed(_) => {
                let as_before = self
                    .pending
                    .as_ref()
                    .is_some_and(|(pending, _)| pending == shown);
                if !as_before {
                    self.pending = Some((shown.clone(), at_ms));
                }
                !as_before
            }
        }
    }

    /// Somebody says that what is shown now is right; beside the others, because servers behind one name may show
    /// different ones. Whether there was anything to accept.
    pub fn accept_pending(&mut self, at_ms: i64) -> bool {
        match self.pending.take() {
            Some((shown, since_ms)) => {
                self.accept(&shown, since_ms.min(at_ms), None);
                true
            }
            None => false,
        }
    }

    /// `replaces_ms`: since when it stands in the place of those by the same issuer.
    fn accept(&mut self, shown: &Shown, at_ms: i64, replaces_ms: Option<i64>) {
        if let Some(until) = replaces_ms {
            let open = |known: &&mut Known| known.until_ms.is_none();
            for known in self.known.iter_mut().filter(open) {
                if known.shown.issuer == shown.issuer {
                    known.until_ms = Some(until);
                }
            }
        }
        self.known
            .retain(|known| known.shown.fingerprint != shown.fingerprint);
        self.known.push(Known {
            shown: shown.clone(),
            since_ms: at_ms,
            until_ms: None,
        });
        if self.known.len() > KNOWN {
            // What was replaced goes first, else the oldest.
            let replaced = self.known.iter().position(|known| known.until_ms.is_some());
            self.known.remove(replaced.unwrap_or(0));
        }
        self.pending = None;
    }
}

/// How bad the end of a certificate is, and the step: 30, 14, 7, 1 or 0 days. `None` while it is far.
pub fn expiry(not_after_ms: i64, at_ms: i64) -> Option<(Severity, u32)> {
    let left = not_after_ms.saturating_sub(at_ms);
    [
        (0, 0, Severity::Critical),
        (DAY_MS, 1, Severity::Critical),
        (7 * DAY_MS, 7, Severity::Major),
        (14 * DAY_MS, 14, Severity::Minor),
        (30 * DAY_MS, 30, Severity::Minor),
    ]
    .into_iter()
    .find(|(limit, ..)| left <= *limit)
    .map(|(_, days, severity)| (severity, days))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_790_000_000_000;

    fn shown(name: &str, issuer: &str, days_left: i64) -> Shown {
        Shown {
            fingerprint: format!("certificate {name}"),
            key: format!("key {}", name.split('.').next().unwrap()),
            subject: "CN=portal".to_owned(),
            issuer: issuer.to_owned(),
            not_after_ms: Some(NOW + days_left * DAY_MS),
            chain: String::new(),
            trusted: false,
        }
    }

    /// After the first certificate of issuer `a`, which has so many days left.
    fn learned(days_left: i64) -> Memory {
        let mut memory = Memory::default();
        let first = shown("one", "a", days_left);
        assert_eq!(memory.judge(&first, NOW, &[]), Verdict::Learned);
        memory.remember(&first, NOW, Verdict::Learned);
        memory
    }

    #[test]
    fn the_first_is_learned_and_another_key_is_a_change() {
        let memory = learned(300);
        let judge = |shown: &Shown| memory.judge(shown, NOW + 1, &[]);
        assert_eq!(judge(&shown("one", "a", 300)), Verdict::Same);
        assert_eq!(
            judge(&shown("two", "a", 300)),
            Verdict::Changed(Change::Key)
        );
        assert_eq!(
            judge(&shown("two", "b", 300)),
            Verdict::Changed(Change::Issuer)
        );
        // The same key certified by somebody else is a change of the chain.
        assert_eq!(
            judge(&shown("one.b", "b", 300)),
            Verdict::Changed(Change::Issuer)
        );
        assert_eq!(
            judge(&shown("one.again", "a", 600)),
            Verdict::Renewed(Renewal::SameKey)
        );
    }

    #[test]
    fn planned_renewals_are_silent() {
        let memory = learned(300);
        let window = |from, to| {
            [Window {
                from_ms: NOW + from,
                to_ms: NOW + to,
            }]
        };
        let two = shown("two", "a", 600);
        let renewed = Verdict::Renewed(Renewal::Window);
        assert_eq!(memory.judge(&two, NOW + 5, &window(5, 5)), renewed);
        let changed = Verdict::Changed(Change::Key);
        assert_eq!(memory.judge(&two, NOW + 6, &window(0, 5)), changed);
        // A window is no permission for another issuer.
        let foreign = shown("two", "b", 600);
        let issuer = Verdict::Changed(Change::Issuer);
        assert_eq!(memory.judge(&foreign, NOW + 5, &window(0, 9)), issuer);
    }

    #[test]
    fn near_the_end_the_same_issuer_may_renew_if_he_is_trusted() {
        let memory = learned(29);
        let mut two = shown("two", "a", 400);
        let changed = Verdict::Changed(Change::Key);
        assert_eq!(
            memory.judge(&two, NOW, &[]),
            changed,
            "anybody can write that name"
        );
        two.trusted = true;
        assert_eq!(
            memory.judge(&two, NOW, &[]),
            Verdict::Renewed(Renewal::NearExpiry)
        );
        assert_eq!(learned(31).judge(&two, NOW, &[]), changed, "too early");
        assert_eq!(
            learned(-3).judge(&two, NOW, &[]),
            Verdict::Renewed(Renewal::NearExpiry),
            "late is near too"
        );
    }

    #[test]
    fn what_was_replaced_is_known_for_a_while_and_then_a_change() {
        let mut memory = learned(20);
        let (one, mut two) = (shown("one", "a", 20), shown("two", "a", 400));
        two.trusted = true;
        let verdict = memory.judge(&two, NOW + 10, &[]);
        assert!(memory.remember(&two, NOW + 10, verdict));
        // A result from before the renewal arrives late, and one server behind the name is exchanged later.
        assert_eq!(memory.judge(&one, NOW + 9, &[]), Verdict::Same);
        assert_eq!(
            memory.judge(&one, NOW + 10 + OVERLAP_MS, &[]),
            Verdict::Same
        );
        let back = memory.judge(&one, NOW + 11 + OVERLAP_MS, &[]);
        assert_eq!(back, Verdict::Changed(Change::Returned));
        assert_eq!(memory.current().unwrap().shown, two);
        // Nothing is said about times before the first one.
        assert_eq!(
            memory.judge(&shown("zero", "a", 1), NOW - 1, &[]),
            Verdict::Before
        );
    }

    #[test]
    fn what_somebody_accepts_stands_beside_the_others() {
        let mut memory = learned(300);
        let (one, two) = (shown("one", "a", 300), shown("two", "b", 300));
        let changed = memory.judge(&two, NOW + 1, &[]);
        assert!(memory.remember(&two, NOW + 1, changed));
        assert!(!memory.remember(&two, NOW + 2, changed), "nothing new");
        assert!(memory.accept_pending(NOW + 3));
        assert!(!memory.accept_pending(NOW + 3));
        for shown in [&one, &two] {
            assert_eq!(memory.judge(shown, NOW + 4, &[]), Verdict::Same);
        }
        // Back to the known one before anybody looked: nothing is pending.
        let three = shown("three", "c", 300);
        memory.remember(&three, NOW + 5, Verdict::Changed(Change::Issuer));
        assert!(
            !memory.remember(&one, NOW + 4, Verdict::Same),
            "older than the change"
        );
        assert!(memory.remember(&one, NOW + 6, Verdict::Same));
        assert_eq!(memory.pending, None);
    }

    #[test]
    fn a_service_cannot_fill_the_memory() {
        let mut memory = learned(300);
        for i in 0..100 {
            memory.remember(
                &shown(&format!("n{i}"), &format!("i{i}"), 1),
                NOW + i,
                Verdict::Learned,
            );
        }
        assert_eq!(memory.known.len(), KNOWN);
        assert_eq!(memory.current().unwrap().shown.key, "key n99");
    }

    #[test]
    fn the_end_comes_in_steps() {
        let at = |days: i64, more: i64| expiry(NOW + days * DAY_MS + more, NOW);
        assert_eq!(at(30, 1), None);
        assert_eq!(at(30, 0), Some((Severity::Minor, 30)));
        assert_eq!(at(14, 0), Some((Severity::Minor, 14)));
        assert_eq!(at(7, 0), Some((Severity::Major, 7)));
        assert_eq!(at(1, 0), Some((Severity::Critical, 1)));
        assert_eq!(at(0, 1), Some((Severity::Critical, 1)));
        assert_eq!(at(0, 0), Some((Severity::Critical, 0)));
        assert_eq!(at(-400, 0), Some((Severity::Critical, 0)));
    }
}
