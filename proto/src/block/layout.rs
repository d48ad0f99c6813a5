//! Where the values of the results stand: encoder and decoder derive the same columns from shapes, checks and order.

use std::collections::HashMap;
use std::hash::Hash;

use super::column::{NONE, Neighbours};
use crate::id::ObjectId;
use crate::metric::Metric;

/// What each value of a result is, in order.
pub(super) type Shape = Vec<(Metric, ObjectId)>;

/// The values of all results in one array, result after result, and the columns that run through it.
pub(super) struct Layout {
    /// Number of values.
    pub(super) len: usize,
    /// Indices of the values of one metric, growing; a column for each metric, in order of first appearance in the
    /// shapes.
    pub(super) columns: Vec<Vec<u32>>,
    /// From which earlier value each can be foretold.
    pub(super) near: Neighbours,
}

impl Layout {
    /// Lays out results given as (check, index of the shape). The caller has checked the indices and that there are at
    /// most [`crate::limits::BLOCK_VALUES`] values.
    pub(super) fn new(shapes: &[Shape], results: &[(u64, u32)]) -> Self {
        let mut ranks: HashMap<Metric, u32> = HashMap::new();
        let shape_ranks: Vec<Vec<u32>> = shapes
            .iter()
            .map(|shape| {
                let rank = |(metric, _): &(Metric, ObjectId)| {
                    let next = index(ranks.len());
                    *ranks.entry(*metric).or_insert(next)
                };
                shape.iter().map(rank).collect()
            })
            .collect();
        let mut layout = Self {
            len: 0,
            columns: vec![Vec::new(); ranks.len()],
            near: Neighbours::default(),
        };
        let mut last_start: HashMap<(u64, u32), usize> = HashMap::new();
        for result in results {
            let before = last_start.insert(*result, layout.len);
            layout.add(&shape_ranks[result.1 as usize], before);
        }
        layout
    }

    /// Appends a result whose values have these columns; `before` is where the previous result of the same check and
    /// shape starts.
    fn add(&mut self, ranks: &[u32], before: Option<usize>) {
        for (place, rank) in ranks.iter().enumerate() {
            self.columns[*rank as usize].push(index(self.len + place));
            self.near
                .slot_before
                .push(before.map_or(NONE, |start| index(start + place)));
            // A column can look left only at itself and at columns that are decoded before it.
            let has_left = place > 0 && ranks[place - 1] <= *rank;
            self.near.has_left.push(has_left);
        }
        self.len += ranks.len();
    }
}

/// Positions and neighbours of columns with one number per record, whose slots are the records with the same key.
pub(super) fn scalars(keys: &[u64]) -> (Vec<u32>, Neighbours) {
    let near = Neighbours {
        slot_before: previous_equal(keys),
        has_left: Vec::new(),
    };
    (positions(keys.len()), near)
}

/// For each key the index of the equal one before it.
fn previous_equal<K: Hash + Eq + Copy>(keys: &[K]) -> Vec<u32> {
    let mut last: HashMap<K, u32> = HashMap::new();
    keys.iter()
        .enumerate()
        .map(|(i, key)| last.insert(*key, index(i)).unwrap_or(NONE))
        .collect()
}

/// The positions of a column that stands alone.
pub(super) fn positions(len: usize) -> Vec<u32> {
    (0..index(len)).collect()
}

/// Indices are kept in 32 bits: [`crate::limits::BLOCK_VALUES`] is far below.
pub(super) fn index(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(values: &[(u16, u32)]) -> Shape {
        values
            .iter()
            .map(|(metric, object)| (Metric(*metric), ObjectId(*object)))
            .collect()
    }

    #[test]
    fn columns_follow_metrics_and_slots_follow_checks() {
        let shapes = [shape(&[(3, 0), (4, 0)]), shape(&[(4, 1), (3, 1)])];
        let layout = Layout::new(&shapes, &[(7, 0), (8, 1), (7, 0), (8, 0)]);
        assert_eq!(layout.len, 8);
        assert_eq!(layout.columns, [vec![0, 3, 4, 6], vec![1, 2, 5, 7]]);
        assert_eq!(
            layout.near.slot_before,
            [NONE, NONE, NONE, NONE, 0, 1, NONE, NONE]
        );
        assert_eq!(
            layout.near.has_left,
            [false, true, false, false, false, true, false, true],
            "metric 3 is decoded before metric 4, so it cannot look at it"
        );
    }

    #[test]
    fn scalars_know_their_key_before() {
        let (positions, near) = scalars(&[5, 6, 5, 5]);
        assert_eq!(positions, [0, 1, 2, 3]);
        assert_eq!(near.slot_before, [NONE, NONE, 0, 2]);
    }
}
