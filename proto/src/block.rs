//! Records packed column by column, the form on the wire and on disk.
//!
//! Constraints
//! - A live batch of a village has six records, a sealed block of backlog hundreds to thousands: both must be small, so
//!   nothing is written per record that can be said once.
//! - A block stands alone: definitions and values are lost or kept together, whatever arrives in which order.
//! - A reader of an older version skips kinds of records that it does not know and still counts them.
//! - A hostile block costs its reader a bounded amount of memory ([`crate::limits`]) and never a panic.
//!
//! Layout (numbers are LEB128 varints unless said otherwise)
//! ```text
//! block    = version byte (1), packing byte (0 plain, 1 zstd), number of records, [length of the body if packed], body
//! body     = column of kinds, then for each kind in order of first appearance: length, section
//! section  = column of keys, column of boot times, column of wall times minus boot times, columns of the kind
//! results  = (key: check) assignment, outcome, reason, duration, index of the shape; number of shapes, their lengths,
//!            metrics of all shapes, objects of all shapes; then one column per metric with the values of all results
//! definitions = (key: object) check, kind, number of labels; string table; names, values (indices into the table)
//! dropped  = (key: reason) incarnation, first sequence, length
//! events   = (key: kind) value, length of the text; texts
//! security = (key: rule) action, severity, boot time minus the one first seen, wall time minus boot time first seen,
//!            number of pieces of evidence; lengths and texts of the objects, of the names, of the values
//! ```
//! A *shape* is the list of (metric, object) of a result: a check has the same one run after run. A column says in its
//! first byte how its values are foretold from earlier ones and how the differences are written; the encoder tries what
//! there is and keeps the shortest (see `block/column.rs`). Sections may grow columns at their end: readers ignore what
//! follows the columns they know. An empty slice is a block without records.

mod bits;
mod column;
mod decode;
mod encode;
mod layout;

use crate::limits;
use crate::record::Record;
use crate::varint::{self, Reader};
use column::Style;

/// First byte of every block.
const VERSION: u8 = 1;
/// The body is as it is.
const PACKING_PLAIN: u8 = 0;
/// The body is one zstd frame.
const PACKING_ZSTD: u8 = 1;
/// Level of zstd: higher ones gained below 2 % on blocks of 15 rounds.
const ZSTD_LEVEL: i32 = 3;
/// Bodies below this many bytes are not offered to zstd: its frame costs more than it finds in them.
const ZSTD_WORTHWHILE_BYTES: usize = 512;

/// Numbers of the kinds of records on the wire; never reused.
mod kind {
    pub(super) const UNKNOWN: u8 = 0;
    pub(super) const RESULT: u8 = 1;
    pub(super) const DEFINITION: u8 = 2;
    pub(super) const DROPPED: u8 = 3;
    pub(super) const EVENT: u8 = 4;
    pub(super) const SECURITY: u8 = 6;

    /// Whether this build writes and reads columns for the kind.
    pub(super) const fn is_known(kind: u8) -> bool {
        matches!(kind, RESULT | DEFINITION | DROPPED | EVENT | SECURITY)
    }
}

/// Why bytes are not a block that this build can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Written in a newer form.
    #[error("unknown version {0} of a block")]
    Version(u8),
    /// Packed by a method of a newer form.
    #[error("unknown packing {0} of a block")]
    Packing(u8),
    /// Cut short or damaged.
    #[error("malformed block: {0}")]
    Malformed(&'static str),
    /// Larger than [`crate::limits`] allows.
    #[error("block with too many {what}: the limit is {limit}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// Packs records in their order. The caller keeps within [`crate::limits`] (`BLOCK_*`, `RESULT_VALUES`, lengths of
/// labels and texts): [`decode()`] refuses what exceeds them. Of a [`crate::record::Body::Unknown`] only kind and time
/// are kept.
pub fn encode(records: &[Record]) -> Vec<u8> {
    if records.is_empty() {
        return Vec::new();
    }
    let plain = encode::body(records, Style::Bits);
    let mut block = vec![VERSION];
    // Columns of whole bytes are longer, but leave more for zstd to find; which of the two wins depends on the data.
    let packed = if plain.len() < ZSTD_WORTHWHILE_BYTES {
        None
    } else {
        let bytewise = encode::body(records, Style::Bytes);
        [&plain, &bytewise]
            .into_iter()
            .filter_map(|body| Some((body.len(), zstd::bulk::compress(body, ZSTD_LEVEL).ok()?)))
            .min_by_key(|(_, packed)| packed.len())
            .filter(|(_, packed)| packed.len() + 3 < plain.len())
    };
    let (packing, body) = match &packed {
        Some((_, packed)) => (PACKING_ZSTD, packed),
        None => (PACKING_PLAIN, &plain),
    };
    block.push(packing);
    varint::put(&mut block, records.len() as u64);
    if let Some((unpacked_len, _)) = &packed {
        varint::put(&mut block, *unpacked_len as u64);
    }
    block.extend_from_slice(body);
    block
}

/// Unpacks what [`encode()`] packed.
pub fn decode(block: &[u8]) -> Result<Vec<Record>, BlockError> {
    let Some(header) = Header::read(block)? else {
        return Ok(Vec::new());
    };
    match header.packing {
        PACKING_PLAIN => decode::body(header.rest, header.count),
        PACKING_ZSTD => decode::body(&unpack(header.rest)?, header.count),
        other => Err(BlockError::Packing(other)),
    }
}

/// How many records a block holds, without unpacking it.
pub fn count(block: &[u8]) -> Result<usize, BlockError> {
    Ok(Header::read(block)?.map_or(0, |header| header.count))
}

/// What stands before the body.
struct Header<'a> {
    packing: u8,
    count: usize,
    rest: &'a [u8],
}

impl<'a> Header<'a> {
    /// `None` for an empty slice.
    fn read(block: &'a [u8]) -> Result<Option<Self>, BlockError> {
        let header = BlockError::Malformed("header");
        let mut reader = Reader::new(block);
        match reader.byte() {
            Err(varint::Malformed) => return Ok(None),
            Ok(VERSION) => {}
            Ok(other) => return Err(BlockError::Version(other)),
        }
        let packing = reader.byte().map_err(|_| header)?;
        let count = reader.varint().map_err(|_| header)?;
        let count = within("records", count, limits::BLOCK_RECORDS)?;
        Ok(Some(Self {
            packing,
            count,
            rest: reader.rest(),
        }))
    }
}

/// Decompresses, never into more than [`limits::BLOCK_BYTES_UNPACKED`].
fn unpack(packed: &[u8]) -> Result<Vec<u8>, BlockError> {
    let mut reader = Reader::new(packed);
    let claimed = reader
        .varint()
        .map_err(|_| BlockError::Malformed("header"))?;
    let len = within("bytes", claimed, limits::BLOCK_BYTES_UNPACKED)?;
    let body = zstd::bulk::decompress(reader.rest(), len)
        .map_err(|_| BlockError::Malformed("compressed body"))?;
    if body.len() != len {
        return Err(BlockError::Malformed("compressed body"));
    }
    Ok(body)
}

/// A count that may not exceed its limit.
fn within(what: &'static str, count: u64, limit: usize) -> Result<usize, BlockError> {
    usize::try_from(count)
        .ok()
        .filter(|count| *count <= limit)
        .ok_or(BlockError::TooMany { what, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_slice_is_a_block_without_records() {
        assert_eq!(encode(&[]), []);
        assert_eq!(decode(&[]), Ok(Vec::new()));
        assert_eq!(count(&[]), Ok(0));
    }

    #[test]
    fn headers_are_checked_before_anything_else() {
        assert_eq!(count(&[9, 0, 0]), Err(BlockError::Version(9)));
        assert_eq!(decode(&[1, 7, 1, 0]), Err(BlockError::Packing(7)));
        assert_eq!(decode(&[1]), Err(BlockError::Malformed("header")));
        let too_many = BlockError::TooMany {
            what: "records",
            limit: limits::BLOCK_RECORDS,
        };
        assert_eq!(count(&[1, 0, 0xff, 0xff, 0xff, 0x7f]), Err(too_many));
        let too_long = BlockError::TooMany {
            what: "bytes",
            limit: limits::BLOCK_BYTES_UNPACKED,
        };
        assert_eq!(
            decode(&[1, 1, 1, 0xff, 0xff, 0xff, 0xff, 0x7f]),
            Err(too_long)
        );
    }

    #[test]
    fn a_frame_that_unpacks_to_another_length_is_refused() {
        let zeros = zstd::bulk::compress(&vec![0; 1 << 20], ZSTD_LEVEL).unwrap();
        let mut bomb = vec![VERSION, PACKING_ZSTD, 1, 100];
        bomb.extend_from_slice(&zeros);
        assert_eq!(decode(&bomb), Err(BlockError::Malformed("compressed body")));
    }
}
