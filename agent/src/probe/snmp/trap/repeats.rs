//! The same notification again and again: the first is told at once, the others as a number.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// For so long a notification counts as the same; a flapping port sends one of each kind a second.
pub(super) const PERIOD: Duration = Duration::from_mins(1);
/// Most notifications that are remembered; beyond, each is told. A device that makes up texts costs only itself.
const REMEMBERED_MAX: usize = 1_024;

/// What was told lately.
#[derive(Debug, Default)]
pub(super) struct Repeats(HashMap<String, (Instant, u64)>);

impl Repeats {
    /// Adds a notification; gives it back if it is to be told now.
    pub(super) fn add(&mut self, text: String, now: Instant) -> Option<String> {
        if let Some((_, many)) = self.0.get_mut(&text) {
            *many += 1;
            return None;
        }
        if self.0.len() < REMEMBERED_MAX {
            self.0.insert(text.clone(), (now, 0));
        }
        Some(text)
    }

    /// What came again in a period that is over, with how often; what did not is forgotten.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(String, u64)> {
        let mut told = Vec::new();
        self.0.retain(|text, (since, many)| {
            if now.saturating_duration_since(*since) < PERIOD {
                return true;
            }
            if *many > 0 {
                told.push((text.clone(), *many));
            }
            false
        });
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn repetitions_are_counted_and_told_once() {
        let mut repeats = Repeats::default();
        let zero = Instant::now();
        assert_eq!(repeats.add("a".to_owned(), zero), Some("a".to_owned()));
        assert_eq!(repeats.add("a".to_owned(), zero), None);
        assert_eq!(repeats.add("a".to_owned(), zero), None);
        assert_eq!(repeats.add("b".to_owned(), zero), Some("b".to_owned()));
        assert_eq!(repeats.due(zero + PERIOD / 2), []);
        assert_eq!(repeats.due(zero + PERIOD), [("a".to_owned(), 2)]);
        assert_eq!(
            repeats.add("a".to_owned(), zero + PERIOD),
            Some("a".to_owned())
        );
    }

    #[tokio::test]
    async fn memory_is_bounded() {
        let mut repeats = Repeats::default();
        let zero = Instant::now();
        for number in 0..2 * REMEMBERED_MAX {
            assert!(repeats.add(number.to_string(), zero).is_some());
        }
        assert_eq!(repeats.0.len(), REMEMBERED_MAX);
    }
}
