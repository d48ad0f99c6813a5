//! What an agent says about itself (its ledger, what became of an assignment) enters the log when it has changed, but
//! not too often: an agent must not be able to fill the log with it. The last word is late at worst, never lost.

use std::time::Duration;

use tokio::time::Instant;

/// Least time between two words of one kind in the log.
const INTERVAL: Duration = Duration::from_secs(1);

/// One kind of word of one agent.
#[derive(Debug)]
pub(super) struct Rationed<T> {
    logged: Option<T>,
    logged_at: Option<Instant>,
    waiting: Option<T>,
}

impl<T: PartialEq + Clone> Rationed<T> {
    /// `logged` was logged before, by others.
    pub(super) const fn new(logged: Option<T>) -> Self {
        Self {
            logged,
            logged_at: None,
            waiting: None,
        }
    }

    /// Takes a word and gives it back when it is to be logged now.
    pub(super) fn offer(&mut self, word: T, now: Instant) -> Option<T> {
        self.waiting = (self.logged.as_ref() != Some(&word)).then_some(word);
        self.take_due(now)
    }

    /// When the word that waits is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.as_ref()?;
        self.logged_at.map(|at| at + INTERVAL)
    }

    /// The word that waits, once it is due.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<T> {
        if self.due().is_some_and(|due| now < due) {
            None
        } else {
            self.take(now)
        }
    }

    /// The word that waits, due or not: nothing comes after it.
    pub(super) fn take(&mut self, now: Instant) -> Option<T> {
        let word = self.waiting.take()?;
        self.logged = Some(word.clone());
        self.logged_at = Some(now);
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_is_late_at_worst() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut words = Rationed::new(Some("hello"));
        assert_eq!(words.offer("hello", start), None);
        assert_eq!(words.offer("one", start), Some("one"));
        assert_eq!(words.offer("two", after(10)), None);
        assert_eq!(words.offer("three", after(20)), None);
        assert_eq!(words.due(), Some(after(1_000)));
        assert_eq!(words.take_due(after(999)), None);
        assert_eq!(words.take_due(after(1_000)), Some("three"));
        assert_eq!((words.due(), words.take_due(after(9_000))), (None, None));
        // What was said again meanwhile need not be logged.
        assert_eq!(words.offer("four", after(1_100)), None);
        assert_eq!(words.offer("three", after(1_200)), None);
        assert_eq!(words.take(after(1_300)), None);
    }
}
