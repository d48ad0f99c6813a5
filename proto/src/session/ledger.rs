//! The balance of a spool, and the ranges of records both sides count with.

use std::collections::BTreeMap;

use crate::error::ProtoError;
use crate::id::Incarnation;
use crate::record::DropReason;
use crate::{limits, wire};

/// Consecutive records of one incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IncarnationRange {
    /// Whose numbers.
    pub incarnation: Incarnation,
    /// First sequence.
    pub from_inclusive: u64,
    /// Sequence after the last one.
    pub to_exclusive: u64,
}

impl IncarnationRange {
    /// How many records.
    pub const fn count(&self) -> u64 {
        self.to_exclusive.saturating_sub(self.from_inclusive)
    }
}

impl From<IncarnationRange> for wire::SequenceRange {
    fn from(range: IncarnationRange) -> Self {
        Self {
            incarnation: range.incarnation.0,
            from_inclusive: range.from_inclusive,
            to_exclusive: range.to_exclusive,
        }
    }
}

/// Reads a list of ranges; none may be empty or reversed.
pub(super) fn read_ranges(
    field: &'static str,
    ranges: Vec<wire::SequenceRange>,
) -> Result<Vec<IncarnationRange>, ProtoError> {
    ProtoError::check_len(field, ranges.len(), limits::RANGES)?;
    ranges
        .into_iter()
        .map(|range| {
            if range.from_inclusive >= range.to_exclusive {
                return Err(ProtoError::Invalid {
                    field,
                    rule: "a range must begin before it ends",
                });
            }
            Ok(IncarnationRange {
                incarnation: read_incarnation(field, range.incarnation)?,
                from_inclusive: range.from_inclusive,
                to_exclusive: range.to_exclusive,
            })
        })
        .collect()
}

/// At most [`limits::RANGES`], the first ones: a peer that says less than it could loses time, not records.
pub(super) fn write_ranges(ranges: Vec<IncarnationRange>) -> Vec<wire::SequenceRange> {
    ranges
        .into_iter()
        .take(limits::RANGES)
        .map(Into::into)
        .collect()
}

/// 0 is kept for "that of the hello".
pub(super) fn read_incarnation(
    field: &'static str,
    incarnation: u64,
) -> Result<Incarnation, ProtoError> {
    if incarnation == 0 {
        return Err(ProtoError::Missing { field });
    }
    Ok(Incarnation(incarnation))
}

/// Balance of a spool since its folder was created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Records appended.
    pub produced: u64,
    /// Records the collector has.
    pub acknowledged: u64,
    /// Records that are to be sent.
    pub waiting: u64,
    /// Records given up, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Records lost in damaged segments.
    pub damaged: u64,
}

impl Ledger {
    /// Whether every record produced is accounted for.
    pub fn balances(&self) -> bool {
        let parts = [self.acknowledged, self.waiting, self.damaged];
        let total = parts
            .into_iter()
            .chain(self.dropped.values().copied())
            .try_fold(0_u64, u64::checked_add);
        total == Some(self.produced)
    }
}

impl TryFrom<wire::Ledger> for Ledger {
    type Error = ProtoError;

    /// A ledger that does not balance is accepted: it is evidence of a fault, to be reported and not hidden.
    fn try_from(ledger: wire::Ledger) -> Result<Self, ProtoError> {
        let found = ledger.dropped.len();
        ProtoError::check_len("ledger.dropped", found, DropReason::ALL.len())?;
        let mut dropped: BTreeMap<DropReason, u64> = BTreeMap::new();
        for count in ledger.dropped {
            let reason = u8::try_from(count.reason)
                .ok()
                .and_then(DropReason::from_number)
                .unwrap_or(DropReason::Other);
            let sum = dropped.entry(reason).or_default();
            *sum = sum.saturating_add(count.records);
        }
        Ok(Self {
            produced: ledger.produced,
            acknowledged: ledger.acknowledged,
            waiting: ledger.waiting,
            dropped,
            damaged: ledger.damaged,
        })
    }
}

impl From<Ledger> for wire::Ledger {
    fn from(ledger: Ledger) -> Self {
        let dropped = ledger.dropped.into_iter();
        Self {
            produced: ledger.produced,
            acknowledged: ledger.acknowledged,
            waiting: ledger.waiting,
            dropped: dropped
                .map(|(reason, records)| wire::DroppedCount {
                    reason: reason.number().into(),
                    records,
                })
                .collect(),
            damaged: ledger.damaged,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_balances_only_when_every_record_is_accounted_for() {
        let mut ledger = Ledger {
            produced: 10,
            acknowledged: 4,
            waiting: 3,
            dropped: BTreeMap::from([(DropReason::SpoolAge, 1), (DropReason::Disk, 1)]),
            damaged: 1,
        };
        assert!(ledger.balances());
        ledger.damaged = 2;
        assert!(!ledger.balances());
        ledger.damaged = u64::MAX;
        assert!(!ledger.balances(), "an overflow is no balance");
    }

    #[test]
    fn drop_reasons_have_the_numbers_of_the_wire() {
        for reason in DropReason::ALL {
            let name = wire::DropReason::try_from(i32::from(reason.number()))
                .map(|reason| reason.as_str_name().to_lowercase());
            match reason {
                DropReason::Other => assert!(name.is_err(), "no number of the wire is taken"),
                known => assert_eq!(name, Ok(format!("drop_reason_{known}"))),
            }
        }
    }

    #[test]
    fn reasons_of_a_newer_agent_are_counted_as_other() {
        let newer = |reason, records| wire::DroppedCount { reason, records };
        let ledger = Ledger::try_from(wire::Ledger {
            dropped: vec![newer(77, 2), newer(-1, 3), newer(3, 4)],
            ..wire::Ledger::default()
        });
        let dropped = BTreeMap::from([(DropReason::Other, 5), (DropReason::Disk, 4)]);
        assert_eq!(ledger.unwrap().dropped, dropped);
    }
}
