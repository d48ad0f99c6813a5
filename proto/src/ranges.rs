//! Sets of sequence numbers, with which both sides account for every record.
//!
//! Numbers arrive nearly in order, so a set that stands for millions of records is usually one or two spans: a sorted
//! vector of disjoint half-open spans that do not touch. Adding at the end costs nothing; a span in the middle moves
//! those behind it.

use std::ops::Range;

use crate::varint::{self, Reader};

/// First byte of the encoded form.
const FORMAT: u8 = 1;

/// A set of `u64` as sorted, disjoint, non-adjacent half-open ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RangeSet {
    spans: Vec<Range<u64>>,
}

/// Why bytes are not an encoded [`RangeSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RangesError {
    /// Written by a newer version.
    #[error("unknown format {0} of a range set")]
    Format(u8),
    /// Cut short, or the ranges are not sorted and disjoint.
    #[error("malformed range set")]
    Malformed,
}

impl From<varint::Malformed> for RangesError {
    fn from(_: varint::Malformed) -> Self {
        Self::Malformed
    }
}

impl RangeSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self { spans: Vec::new() }
    }

    /// Adds `from_inclusive..to_exclusive` and returns the parts that were not in the set before, in order. Nothing
    /// happens when the range is empty or reversed.
    pub fn insert(&mut self, from_inclusive: u64, to_exclusive: u64) -> Vec<Range<u64>> {
        let added = self.missing(from_inclusive, to_exclusive);
        if added.is_empty() {
            return added;
        }
        // Spans that overlap or touch the new one become one span with it.
        let first = self.spans.partition_point(|s| s.end < from_inclusive);
        let behind = self.spans.partition_point(|s| s.start <= to_exclusive);
        let merged = match self.spans.get(first..behind) {
            Some([only]) => only.start.min(from_inclusive)..only.end.max(to_exclusive),
            Some([head, .., tail]) => head.start.min(from_inclusive)..tail.end.max(to_exclusive),
            _ => from_inclusive..to_exclusive,
        };
        self.spans.splice(first..behind, [merged]);
        added
    }

    /// Takes `from_inclusive..to_exclusive` out and returns the parts that were in the set, in order.
    pub fn remove(&mut self, from_inclusive: u64, to_exclusive: u64) -> Vec<Range<u64>> {
        if from_inclusive >= to_exclusive {
            return Vec::new();
        }
        let touched = self.overlapping(from_inclusive, to_exclusive);
        let hit: Vec<Range<u64>> = self.spans.get(touched.clone()).unwrap_or_default().to_vec();
        let mut kept = Vec::new();
        if let Some(head) = hit.first().filter(|s| s.start < from_inclusive) {
            kept.push(head.start..from_inclusive);
        }
        if let Some(tail) = hit.last().filter(|s| s.end > to_exclusive) {
            kept.push(to_exclusive..tail.end);
        }
        self.spans.splice(touched, kept);
        hit.into_iter()
            .map(|s| s.start.max(from_inclusive)..s.end.min(to_exclusive))
            .collect()
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        let at = self.spans.partition_point(|s| s.end <= number);
        self.spans.get(at).is_some_and(|s| s.start <= number)
    }

    /// The parts of `from_inclusive..to_exclusive` that are not in the set, in order.
    pub fn missing(&self, from_inclusive: u64, to_exclusive: u64) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = from_inclusive;
        let touched = self.overlapping(from_inclusive, to_exclusive);
        for span in self.spans.get(touched).unwrap_or_default() {
            if at < span.start {
                gaps.push(at..span.start);
            }
            at = span.end;
        }
        if at < to_exclusive {
            gaps.push(at..to_exclusive);
        }
        gaps
    }

    /// Indices of the spans that share a number with the range.
    fn overlapping(&self, from_inclusive: u64, to_exclusive: u64) -> Range<usize> {
        let first = self.spans.partition_point(|s| s.end <= from_inclusive);
        let behind = self.spans.partition_point(|s| s.start < to_exclusive);
        first..behind.max(first)
    }

    /// The spans in order, as short as they can be.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.spans.iter().cloned()
    }

    /// How many numbers are in the set.
    pub fn count(&self) -> u64 {
        self.spans.iter().map(|s| s.end - s.start).sum()
    }

    /// Whether there is no number in the set.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many spans the set needs.
    pub fn span_count(&self) -> usize {
        self.spans.len()
    }

    /// Form for disk: format byte, then for each span the gap before it and its length as variable-length integers.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT];
        let mut at = 0;
        for span in &self.spans {
            varint::put(&mut bytes, span.start - at);
            varint::put(&mut bytes, span.end - span.start);
            at = span.end;
        }
        bytes
    }

    /// Undoes [`RangeSet::encode`]. The result is never larger than 8 times the input.
    pub fn decode(bytes: &[u8]) -> Result<Self, RangesError> {
        let mut reader = Reader::new(bytes);
        match reader.byte()? {
            FORMAT => {}
            other => return Err(RangesError::Format(other)),
        }
        let mut spans: Vec<Range<u64>> = Vec::new();
        let mut at = 0_u64;
        while !reader.is_empty() {
            let gap = reader.varint()?;
            let len = reader.varint()?;
            let touches_the_one_before = gap == 0 && !spans.is_empty();
            let start = at.checked_add(gap).ok_or(RangesError::Malformed)?;
            let end = start.checked_add(len).ok_or(RangesError::Malformed)?;
            if len == 0 || touches_the_one_before {
                return Err(RangesError::Malformed);
            }
            spans.push(start..end);
            at = end;
        }
        Ok(Self { spans })
    }
}

impl FromIterator<Range<u64>> for RangeSet {
    fn from_iter<T: IntoIterator<Item = Range<u64>>>(ranges: T) -> Self {
        let mut set = Self::new();
        for range in ranges {
            set.insert(range.start, range.end);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn pairs(ranges: &[Range<u64>]) -> Vec<(u64, u64)> {
        ranges.iter().map(|r| (r.start, r.end)).collect()
    }

    fn spans(set: &RangeSet) -> Vec<(u64, u64)> {
        set.iter().map(|s| (s.start, s.end)).collect()
    }

    #[test]
    fn insert_returns_only_what_is_new() {
        let mut set = RangeSet::new();
        assert_eq!(pairs(&set.insert(10, 20)), [(10, 20)]);
        assert_eq!(pairs(&set.insert(30, 40)), [(30, 40)]);
        assert_eq!(set.insert(5, 35), [5..10, 20..30]);
        assert_eq!(set.insert(5, 40), []);
        assert_eq!(pairs(&set.insert(40, 41)), [(40, 41)]);
        assert_eq!(set.insert(9, 3), []);
        assert_eq!(spans(&set), [(5, 41)]);
        assert_eq!(set.count(), 36);
    }

    #[test]
    fn remove_cuts_a_span_in_two() {
        let mut set = RangeSet::from_iter([0..10, 20..30]);
        assert_eq!(pairs(&set.remove(4, 6)), [(4, 6)]);
        assert_eq!(set.remove(8, 25), [8..10, 20..25]);
        assert_eq!(spans(&set), [(0, 4), (6, 8), (25, 30)]);
        assert_eq!(set.remove(4, 6), []);
    }

    #[test]
    fn the_whole_number_line_fits() {
        let mut set = RangeSet::new();
        set.insert(0, u64::MAX);
        assert_eq!(set.count(), u64::MAX);
        assert_eq!(RangeSet::decode(&set.encode()), Ok(set));
    }

    #[test]
    fn malformed_bytes_are_refused() {
        assert_eq!(RangeSet::decode(&[]), Err(RangesError::Malformed));
        assert_eq!(RangeSet::decode(&[2]), Err(RangesError::Format(2)));
        for bad in [&[1, 5][..], &[1, 5, 0], &[1, 5, 1, 0, 1], &[1, 0x80, 1]] {
            assert_eq!(RangeSet::decode(bad), Err(RangesError::Malformed));
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Insert(u64, u64),
        Remove(u64, u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let ends = (0_u64..64, 0_u64..64);
        prop_oneof![
            ends.clone().prop_map(|(a, b)| Step::Insert(a, b)),
            ends.prop_map(|(a, b)| Step::Remove(a, b)),
        ]
    }

    fn numbers(ranges: &[Range<u64>]) -> Vec<u64> {
        ranges.iter().cloned().flatten().collect()
    }

    proptest! {
        #[test]
        fn behaves_like_a_set_of_numbers(steps in prop::collection::vec(step(), 0..40)) {
            let mut set = RangeSet::new();
            let mut model = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Insert(from, to) => {
                        let new: Vec<u64> = (from..to).filter(|n| !model.contains(n)).collect();
                        prop_assert_eq!(numbers(&set.missing(from, to)), new.clone());
                        prop_assert_eq!(numbers(&set.insert(from, to)), new);
                        model.extend(from..to);
                    }
                    Step::Remove(from, to) => {
                        let old: Vec<u64> = (from..to).filter(|n| model.remove(n)).collect();
                        prop_assert_eq!(numbers(&set.remove(from, to)), old);
                    }
                }
                let spans: Vec<_> = set.iter().collect();
                prop_assert!(spans.windows(2).all(|pair| pair[0].end < pair[1].start));
                prop_assert_eq!(numbers(&spans), model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(set.count(), model.len() as u64);
                prop_assert_eq!(set.span_count(), spans.len());
                prop_assert_eq!(set.is_empty(), model.is_empty());
                prop_assert!((0..64).all(|n| set.contains(n) == model.contains(&n)));
                prop_assert_eq!(RangeSet::decode(&set.encode()), Ok(set.clone()));
            }
        }

        #[test]
        fn decoding_anything_is_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(set) = RangeSet::decode(&bytes) {
                prop_assert_eq!(RangeSet::decode(&set.encode()), Ok(set));
            }
        }
    }
}
