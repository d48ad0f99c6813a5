//! What the log holds, by agent, incarnation and sequence.

use std::collections::HashMap;

use extranet_journal::{Cursor, Journal};
use extranet_proto::id::{AgentId, BootId, Incarnation};
use extranet_proto::ranges::RangeSet;
use extranet_proto::session::IncarnationRange;
use extranet_proto::wire::{LoggedBatch, log_record::Input};

use crate::session::boots::{BootTime, Boots};
use crate::store::{Store, decode_log_record};

/// Most gaps in the numbers of one incarnation. An agent sends its backlog newest first and may have dropped segments:
/// tens of gaps. Thousands are an attack on our memory.
const SPANS: usize = 4_096;

/// The account of what the log holds.
#[derive(Debug, Default)]
pub struct Held {
    sets: HashMap<(AgentId, Incarnation), RangeSet>,
}

/// Numbers that were not held before, or that there are too many gaps.
pub(super) enum Noted {
    New(Vec<std::ops::Range<u64>>),
    TooManyGaps,
}

impl Held {
    /// Builds the account from the catalogue and from what the log holds behind it, where the times of recent boots
    /// are found too.
    pub fn load(
        store: &Store,
        journal: &Journal,
    ) -> Result<(Self, Boots), Box<dyn std::error::Error + Send + Sync>> {
        let mut held = Self {
            sets: store.received()?,
        };
        let boots = Boots::default();
        let cursor = store.applied().map_or_else(Cursor::oldest, Cursor::after);
        let mut reader = journal.reader(cursor);
        let mut records: u64 = 0;
        while let Some((_, payload)) = reader.next()? {
            records += 1;
            // What cannot be read is counted where it is applied.
            if let Ok(Some(Input::Batch(batch))) =
                decode_log_record(&payload).map(|record| record.input)
            {
                held.remember(&batch, &boots);
            }
        }
        tracing::info!(
            incarnations = held.sets.len(),
            records_behind_catalogue = records,
            "log accounted for"
        );
        Ok((held, boots))
    }

    fn remember(&mut self, batch: &LoggedBatch, boots: &Boots) {
        let Ok(agent) = AgentId::new(batch.agent_id.clone()) else {
            return;
        };
        if let Ok(boot_id) = <[u8; 16]>::try_from(batch.boot_id.as_slice()) {
            let time = BootTime {
                boot_to_wall_ms: batch.boot_to_wall_ms,
                certain: batch.time_certain,
            };
            boots.remember(&agent, BootId(boot_id), time);
        }
        for range in &batch.new_ranges {
            let set = self
                .sets
                .entry((agent.clone(), Incarnation(range.incarnation)))
                .or_default();
            set.insert(range.from_inclusive, range.to_exclusive);
        }
    }

    /// Notes that the log is about to hold these records.
    pub(super) fn note(
        &mut self,
        agent: &AgentId,
        incarnation: Incarnation,
        from: u64,
        to: u64,
    ) -> Noted {
        let set = self.sets.entry((agent.clone(), incarnation)).or_default();
        if set.span_count() >= SPANS && wholly_new(set, from, to) && !touches(set, from, to) {
            return Noted::TooManyGaps;
        }
        Noted::New(set.insert(from, to))
    }

    /// Takes back what [`Held::note`] said was new, because the log did not take it.
    pub(super) fn forget(
        &mut self,
        agent: &AgentId,
        incarnation: Incarnation,
        new: &[std::ops::Range<u64>],
    ) {
        if let Some(set) = self.sets.get_mut(&(agent.clone(), incarnation)) {
            for range in new {
                set.remove(range.start, range.end);
            }
        }
    }

    /// The part of `ranges` that is held.
    pub(super) fn within(
        &self,
        agent: &AgentId,
        ranges: &[IncarnationRange],
    ) -> Vec<IncarnationRange> {
        let mut held = Vec::new();
        for range in ranges {
            let Some(set) = self.sets.get(&(agent.clone(), range.incarnation)) else {
                continue;
            };
            let mut from = range.from_inclusive;
            let mut push = |from_inclusive, to_exclusive| {
                if from_inclusive < to_exclusive {
                    held.push(IncarnationRange {
                        from_inclusive,
                        to_exclusive,
                        ..*range
                    });
                }
            };
            for missing in set.missing(range.from_inclusive, range.to_exclusive) {
                push(from, missing.start);
                from = missing.end;
            }
            push(from, range.to_exclusive);
        }
        held
    }
}

/// Whether the set holds nothing of the range.
fn wholly_new(set: &RangeSet, from: u64, to: u64) -> bool {
    let missing: u64 = set
        .missing(from, to)
        .iter()
        .map(|range| range.end - range.start)
        .sum();
    missing == to - from
}

/// Whether the set has a neighbour of the range, so that inserting it makes no new span.
fn touches(set: &RangeSet, from: u64, to: u64) -> bool {
    from.checked_sub(1)
        .is_some_and(|before| set.contains(before))
        || set.contains(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> AgentId {
        AgentId::new("a").unwrap()
    }

    fn range(incarnation: u64, from_inclusive: u64, to_exclusive: u64) -> IncarnationRange {
        IncarnationRange {
            incarnation: Incarnation(incarnation),
            from_inclusive,
            to_exclusive,
        }
    }

    fn note(held: &mut Held, from: u64, to: u64) -> Vec<(u64, u64)> {
        match held.note(&agent(), Incarnation(1), from, to) {
            Noted::New(new) => new.iter().map(|range| (range.start, range.end)).collect(),
            Noted::TooManyGaps => panic!("too many gaps"),
        }
    }

    #[test]
    fn only_what_is_missing_is_new() {
        let mut held = Held::default();
        assert_eq!(note(&mut held, 10, 20), [(10, 20)]);
        assert_eq!(note(&mut held, 5, 25), [(5, 10), (20, 25)]);
        assert_eq!(note(&mut held, 5, 25), []);
        held.forget(&agent(), Incarnation(1), &[5..10, 20..25]);
        assert_eq!(note(&mut held, 0, 30), [(0, 10), (20, 30)]);
    }

    #[test]
    fn what_is_held_of_a_hello_is_told_range_by_range() {
        let mut held = Held::default();
        note(&mut held, 0, 10);
        note(&mut held, 20, 30);
        let asked = [range(1, 5, 25), range(1, 12, 15), range(2, 0, 9)];
        assert_eq!(
            held.within(&agent(), &asked),
            [range(1, 5, 10), range(1, 20, 25)]
        );
        assert_eq!(held.within(&AgentId::new("b").unwrap(), &asked), []);
    }

    #[test]
    fn gaps_are_bounded_but_can_still_be_filled() {
        let mut held = Held::default();
        for n in 0..SPANS as u64 {
            note(&mut held, 2 * n, 2 * n + 1);
        }
        let far = 10 * SPANS as u64;
        let refused = held.note(&agent(), Incarnation(1), far, far + 1);
        assert!(matches!(refused, Noted::TooManyGaps));
        assert_eq!(note(&mut held, 1, 2), [(1, 2)]);
    }
}
