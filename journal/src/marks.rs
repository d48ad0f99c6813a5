//! Which records are settled and how: disjoint ranges of ordinals, each with one mark.
//!
//! A record gets one mark in its life; the first one stays. Neighbouring ranges with the same mark are merged, so that
//! a receiver which acknowledges everything costs one range.

use std::collections::BTreeMap;
use std::ops::Range;

/// How a record was settled. The number is the stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mark {
    Acknowledged = 0,
    Refused = 1,
    Damaged = 2,
}

impl Mark {
    pub(crate) fn from_stored(byte: u8) -> Option<Self> {
        [Self::Acknowledged, Self::Refused, Self::Damaged]
            .into_iter()
            .find(|mark| *mark as u8 == byte)
    }
}

/// Records per mark, indexed by the mark's number.
pub(crate) type Counts = [u64; 3];

#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Start -> end and mark. Disjoint, never empty.
    ranges: BTreeMap<u64, (u64, Mark)>,
    counts: Counts,
}

impl Marks {
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Records with any mark.
    pub(crate) fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// One past the last marked ordinal, 0 when there is none.
    pub(crate) fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, (end, _))| *end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range<u64>, Mark)> + '_ {
        self.ranges
            .iter()
            .map(|(start, (end, mark))| (*start..*end, *mark))
    }

    /// The parts of the range without a mark.
    pub(crate) fn gaps(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        if let Some((_, (end, _))) = self.ranges.range(..=at).next_back() {
            at = at.max(*end);
        }
        if at >= range.end {
            return gaps;
        }
        for (start, (end, _)) in self.ranges.range(at..range.end) {
            if *start > at {
                gaps.push(at..*start);
            }
            at = *end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Marks what has no mark yet within the range and returns these parts.
    pub(crate) fn fill(&mut self, range: Range<u64>, mark: Mark) -> Vec<Range<u64>> {
        let gaps = self.gaps(range);
        for gap in &gaps {
            self.insert(gap.clone(), mark);
        }
        gaps
    }

    /// The range has no mark yet.
    fn insert(&mut self, range: Range<u64>, mark: Mark) {
        self.counts[mark as usize] += range.end - range.start;
        let mut merged = range.clone();
        if let Some((start, (end, before))) = self.ranges.range(..range.start).next_back()
            && *end == range.start
            && *before == mark
        {
            merged.start = *start;
        }
        if let Some((end, after)) = self.ranges.get(&range.end).copied()
            && after == mark
        {
            merged.end = end;
            self.ranges.remove(&range.end);
        }
        self.ranges.insert(merged.start, (merged.end, mark));
    }

    /// Forgets everything below the ordinal and says how many records of each mark that were.
    pub(crate) fn trim_before(&mut self, ordinal: u64) -> Counts {
        let mut removed = Counts::default();
        while let Some(entry) = self.ranges.first_entry() {
            let start = *entry.key();
            let (end, mark) = *entry.get();
            if start >= ordinal {
                break;
            }
            entry.remove();
            removed[mark as usize] += end.min(ordinal) - start;
            if end > ordinal {
                self.ranges.insert(ordinal, (end, mark));
                break;
            }
        }
        for (count, gone) in self.counts.iter_mut().zip(removed) {
            *count -= gone;
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn slots(range: Range<u64>) -> Range<usize> {
        usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()
    }

    proptest! {
        #[test]
        fn agrees_with_an_array(ops in prop::collection::vec((0u64..64, 0u64..20, 0u8..4), 0..60)) {
            let mut marks = Marks::default();
            let mut model: [Option<Mark>; 96] = [None; 96];
            let mut floor = 0;
            for (start, len, what) in ops {
                if let Some(mark) = Mark::from_stored(what) {
                    let range = start.max(floor)..(start + len).max(floor);
                    let mut new: u64 = 0;
                    for slot in &mut model[slots(range.clone())] {
                        if slot.is_none() {
                            *slot = Some(mark);
                            new += 1;
                        }
                    }
                    let filled = marks.fill(range, mark);
                    prop_assert_eq!(filled.iter().map(|r| r.end - r.start).sum::<u64>(), new);
                } else {
                    floor = floor.max(start);
                    let removed = marks.trim_before(start);
                    let mut expected = Counts::default();
                    for slot in &mut model[slots(0..start)] {
                        if let Some(mark) = slot.take() {
                            expected[mark as usize] += 1;
                        }
                    }
                    prop_assert_eq!(removed, expected);
                }
            }
            let mut flat: [Option<Mark>; 96] = [None; 96];
            let mut last: Option<(u64, Mark)> = None;
            for (range, mark) in marks.iter() {
                prop_assert!(range.start < range.end);
                prop_assert_ne!(last, Some((range.start, mark)), "neighbours are merged");
                last = Some((range.end, mark));
                flat[slots(range)].fill(Some(mark));
            }
            prop_assert_eq!(flat, model);
            prop_assert_eq!(marks.total(), model.iter().flatten().count() as u64);
            let unmarked: u64 = marks.gaps(0..96).iter().map(|r| r.end - r.start).sum();
            prop_assert_eq!(unmarked, 96 - marks.total());
        }
    }
}
