//! Translates between what the owner calls a record (incarnation, sequence) and its ordinal.
//!
//! Ordinals count all records since the folder was created. An incarnation is a run of ordinals, so a thousand of them
//! cost a thousand pairs of numbers and no file.

use std::collections::VecDeque;
use std::ops::Range;

use crate::ledger::Position;

/// Incarnations that still have records, and the current one; oldest first, each with its first ordinal.
#[derive(Debug, Default)]
pub(crate) struct Incarnations(VecDeque<(u64, u64)>);

impl Incarnations {
    /// The next incarnation begins here. Naming the last one again changes nothing.
    pub(crate) fn push(&mut self, incarnation: u64, start: u64) {
        match self.0.back() {
            Some((last, _)) if *last == incarnation => {}
            // An incarnation without a record left.
            Some((_, last_start)) if *last_start == start => {
                self.0.pop_back();
                self.push(incarnation, start);
            }
            _ => self.0.push_back((incarnation, start)),
        }
    }

    /// Forgets incarnations that ended at or before the ordinal.
    pub(crate) fn trim_before(&mut self, ordinal: u64) {
        while self.0.get(1).is_some_and(|(_, start)| *start <= ordinal) {
            self.0.pop_front();
        }
    }

    pub(crate) fn position(&self, ordinal: u64) -> Option<Position> {
        let later = self.0.partition_point(|(_, start)| *start <= ordinal);
        let (incarnation, start) = self.0.get(later.checked_sub(1)?)?;
        Some(Position {
            incarnation: *incarnation,
            sequence: ordinal - start,
        })
    }

    /// Ordinals of an incarnation; `end` is where the last one ends.
    pub(crate) fn ordinals(&self, incarnation: u64, end: u64) -> Option<Range<u64>> {
        // Newest first: nearly every question is about the current one.
        let at = self
            .0
            .iter()
            .rposition(|(known, _)| *known == incarnation)?;
        let next_start = self.0.get(at + 1).map_or(end, |(_, start)| *start);
        Some(self.0[at].1..next_start)
    }

    /// Ordinal of a record, or of the first one after it when the incarnation ended before.
    pub(crate) fn ordinal(&self, incarnation: u64, sequence: u64, end: u64) -> Option<u64> {
        let all = self.ordinals(incarnation, end)?;
        Some(all.start.saturating_add(sequence).min(all.end))
    }

    /// A range of ordinals as ranges of sequences.
    pub(crate) fn split(&self, ordinals: Range<u64>) -> Vec<(u64, Range<u64>)> {
        let mut parts = Vec::new();
        let mut at = ordinals.start;
        let first = self
            .0
            .partition_point(|(_, start)| *start <= at)
            .saturating_sub(1);
        for (index, (incarnation, start)) in self.0.iter().enumerate().skip(first) {
            if at >= ordinals.end {
                break;
            }
            let end = self
                .0
                .get(index + 1)
                .map_or(ordinals.end, |(_, next)| *next);
            let end = end.min(ordinals.end);
            if end > at && at >= *start {
                parts.push((*incarnation, at - start..end - start));
                at = end;
            }
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_ordinals_and_sequences() {
        let mut table = Incarnations::default();
        table.push(7, 0);
        table.push(8, 10);
        table.push(9, 10);
        table.push(5, 15);
        assert_eq!(table.ordinals(8, 20), None, "no record was written in it");
        assert_eq!(table.ordinals(9, 20), Some(10..15));
        assert_eq!(table.ordinals(5, 20), Some(15..20));
        assert_eq!(
            table.position(14),
            Some(Position {
                incarnation: 9,
                sequence: 4
            })
        );
        assert_eq!(
            table.position(15),
            Some(Position {
                incarnation: 5,
                sequence: 0
            })
        );
        assert_eq!(table.split(8..17), vec![(7, 8..10), (9, 0..5), (5, 0..2)]);
        assert_eq!(table.split(3..3), vec![]);
        assert_eq!(table.ordinal(9, 5, 20), Some(15));
        assert_eq!(table.ordinal(9, 500, 20), Some(15));
        assert_eq!(table.ordinal(6, 0, 20), None);
        table.trim_before(12);
        assert_eq!(table.position(9), None);
        assert_eq!(table.ordinals(9, 20), Some(10..15));
        table.trim_before(15);
        assert_eq!(table.ordinals(9, 20), None);
    }
}
