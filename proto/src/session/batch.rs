//! Records up, acknowledgements down.

use super::hello::{self, ClockReading};
use super::ledger::{self, IncarnationRange, Ledger};
use crate::error::ProtoError;
use crate::id::{BootId, Incarnation};
use crate::{block, limits, wire};

/// How urgent a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Measured since the stream began: shown and judged at once.
    Live,
    /// From an outage, or of a lane that this build does not know.
    Backlog,
}

/// Consecutive records of one incarnation; without any it is a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Whose records; `None` = the incarnation of the hello.
    pub incarnation: Option<Incarnation>,
    /// Sequence of the first record.
    pub first_sequence: u64,
    /// Encoded records, see [`crate::block`]. Only the header has been looked at.
    pub block: Vec<u8>,
    /// How many records the block says it holds.
    pub count: usize,
    /// How urgent it is.
    pub lane: Lane,
    /// The agent's clocks, when the collector should estimate its offset again.
    pub clock: Option<ClockReading>,
    /// The balance of the spool, when it is due.
    pub ledger: Option<Ledger>,
    /// In which boot the records were measured, when it is not the boot of the hello.
    pub boot_id: Option<BootId>,
}

impl Batch {
    /// Which records these are, given the incarnation of the stream's hello.
    pub fn range(&self, of_hello: Incarnation) -> IncarnationRange {
        IncarnationRange {
            incarnation: self.incarnation.unwrap_or(of_hello),
            from_inclusive: self.first_sequence,
            to_exclusive: self.first_sequence.saturating_add(self.count as u64),
        }
    }
}

impl TryFrom<wire::Batch> for Batch {
    type Error = ProtoError;

    fn try_from(batch: wire::Batch) -> Result<Self, ProtoError> {
        const BLOCK: &str = "batch.block";
        ProtoError::check_len(BLOCK, batch.block.len(), limits::MESSAGE_BYTES)?;
        let count = block::count(&batch.block).map_err(|source| ProtoError::Block {
            field: BLOCK,
            source,
        })?;
        if batch.first_sequence.checked_add(count as u64).is_none() {
            return Err(ProtoError::Invalid {
                field: "batch.first_sequence",
                rule: "the last record's number must fit into 64 bits",
            });
        }
        let boot_id = match batch.boot_id.as_slice() {
            [] => None,
            bytes => Some(hello::read_boot_id("batch.boot_id", bytes)?),
        };
        Ok(Self {
            incarnation: Some(Incarnation(batch.incarnation)).filter(|i| i.0 != 0),
            first_sequence: batch.first_sequence,
            block: batch.block,
            count,
            lane: match wire::Lane::try_from(batch.lane) {
                Ok(wire::Lane::Live) => Lane::Live,
                Ok(wire::Lane::Backlog | wire::Lane::Unspecified) | Err(_) => Lane::Backlog,
            },
            clock: batch.clock.map(Into::into),
            ledger: batch.ledger.map(TryInto::try_into).transpose()?,
            boot_id,
        })
    }
}

impl From<Batch> for wire::Batch {
    fn from(batch: Batch) -> Self {
        let lane = match batch.lane {
            Lane::Live => wire::Lane::Live,
            Lane::Backlog => wire::Lane::Backlog,
        };
        Self {
            incarnation: batch.incarnation.map_or(0, |incarnation| incarnation.0),
            first_sequence: batch.first_sequence,
            block: batch.block,
            lane: lane.into(),
            clock: batch.clock.map(Into::into),
            ledger: batch.ledger.map(Into::into),
            boot_id: batch.boot_id.map(|id| id.0.to_vec()).unwrap_or_default(),
        }
    }
}

/// Records that are durable in the collector's log, and those it can never use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ack {
    /// Durable.
    pub ranges: Vec<IncarnationRange>,
    /// Unreadable: the agent counts them as dropped.
    pub refused: Vec<IncarnationRange>,
}

impl TryFrom<wire::Ack> for Ack {
    type Error = ProtoError;

    fn try_from(ack: wire::Ack) -> Result<Self, ProtoError> {
        Ok(Self {
            ranges: ledger::read_ranges("ack.ranges", ack.ranges)?,
            refused: ledger::read_ranges("ack.refused", ack.refused)?,
        })
    }
}

impl From<Ack> for wire::Ack {
    fn from(ack: Ack) -> Self {
        Self {
            ranges: ledger::write_ranges(ack.ranges),
            refused: ledger::write_ranges(ack.refused),
        }
    }
}
