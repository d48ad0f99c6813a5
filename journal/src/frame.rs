//! Bytes of headers and frames. No files here.
//!
//! ```text
//! file    = header header frame* [trailer]         the header twice, so that no single flipped bit hides a segment
//! header  = version u8 = 1, "xjl", crc u32, salt u64, number u64, first_ordinal u64,
//!           incarnation u64, incarnation_start u64, age_ms u64, wall_ms i64           64 bytes, little-endian
//! frame   = crc u32, kind u4 << 28 | length u28, index u32, age u32, payload          16 bytes + payload
//! trailer = offset of the footer frame u64                                            only in a sealed segment
//! ```
//!
//! The CRC of a frame starts from a seed made of the file's random salt and, for records, of the incarnation. A record
//! can so not be taken for one of another incarnation, stale blocks of a deleted file are no records, and a hostile
//! payload that contains frames cannot be taken for records when damage is skipped.

use crc32fast::Hasher;

/// Largest payload, bytes: twice the largest import file that the collector takes.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 64 << 20;
pub(crate) const FRAME_LEN: usize = 16;
pub(crate) const HEADER_LEN: usize = 2 * HEADER_COPY_LEN;
pub(crate) const TRAILER_LEN: usize = 8;
/// Ordinals, counts of records and ages in milliseconds beyond this were never written: no journal lives long enough.
/// A file that names one is unreadable, so that sums of what is read do not overflow.
pub(crate) const COUNT_MAX: u64 = 1 << 60;
const HEADER_COPY_LEN: usize = 64;
const VERSION: u8 = 1;
const MAGIC: &[u8; 3] = b"xjl";
const LENGTH_BITS: u32 = 28;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    /// Random; see the seed of frames.
    pub(crate) salt: u64,
    /// Position of the segment among all segments, also its file name.
    pub(crate) number: u64,
    /// Ordinal of the first record of the segment.
    pub(crate) first_ordinal: u64,
    /// Incarnation of the first record ...
    pub(crate) incarnation: u64,
    /// ... and the ordinal with which it began.
    pub(crate) incarnation_start: u64,
    /// Journal's age at creation; ages of frames count from here.
    pub(crate) age_ms: u64,
    /// Owner's wall clock at creation.
    pub(crate) wall_ms: i64,
}

impl Header {
    pub(crate) fn encode(&self) -> [u8; HEADER_LEN] {
        let mut copy = [0; HEADER_COPY_LEN];
        copy[0] = VERSION;
        copy[1..4].copy_from_slice(MAGIC);
        let fields = [
            self.salt,
            self.number,
            self.first_ordinal,
            self.incarnation,
            self.incarnation_start,
            self.age_ms,
            self.wall_ms.cast_unsigned(),
        ];
        for (place, field) in copy[8..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = header_crc(&copy);
        copy[4..8].copy_from_slice(&crc.to_le_bytes());
        let mut both = [0; HEADER_LEN];
        both[..HEADER_COPY_LEN].copy_from_slice(&copy);
        both[HEADER_COPY_LEN..].copy_from_slice(&copy);
        both
    }

    /// From the first bytes of a file; either copy will do.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        bytes
            .chunks_exact(HEADER_COPY_LEN)
            .take(2)
            .find_map(Self::decode_copy)
    }

    fn decode_copy(copy: &[u8]) -> Option<Self> {
        let good =
            copy[0] == VERSION && copy[1..4] == *MAGIC && u32_at(copy, 4) == header_crc(copy);
        good.then(|| Self {
            salt: u64_at(copy, 8),
            number: u64_at(copy, 16),
            first_ordinal: u64_at(copy, 24),
            incarnation: u64_at(copy, 32),
            incarnation_start: u64_at(copy, 40),
            age_ms: u64_at(copy, 48),
            wall_ms: u64_at(copy, 56).cast_signed(),
        })
        .filter(Self::is_possible)
    }

    fn is_possible(&self) -> bool {
        self.incarnation_start <= self.first_ordinal
            && self.first_ordinal <= COUNT_MAX
            && self.age_ms <= COUNT_MAX
    }
}

fn header_crc(copy: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&copy[..4]);
    hasher.update(&copy[8..]);
    hasher.finalize()
}

/// What a frame holds. The number is the stored form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// A record of the owner.
    Record = 1,
    /// The records that follow belong to another incarnation (u64). Written twice.
    Incarnation = 2,
    /// Last frame of a sealed segment: where incarnations change within it.
    Footer = 3,
    /// Account: the sums over all retired segments.
    Totals = 4,
    /// Account: records that got a mark.
    Marks = 5,
}

impl Kind {
    fn from_stored(number: u32) -> Option<Self> {
        [
            Self::Record,
            Self::Incarnation,
            Self::Footer,
            Self::Totals,
            Self::Marks,
        ]
        .into_iter()
        .find(|kind| *kind as u32 == number)
    }
}

/// The fixed part of a frame, not yet checked against its CRC.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FrameHead {
    crc: u32,
    pub(crate) kind: Kind,
    pub(crate) len: usize,
    /// Of a record: its ordinal minus the segment's first. Of others: that of the record to come.
    pub(crate) index: u32,
    /// Milliseconds of journal age since the segment's header.
    pub(crate) age: u32,
}

impl FrameHead {
    /// `None` when these bytes cannot be the head of a frame.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let word = u32_at(bytes, 4);
        let len = (word & ((1 << LENGTH_BITS) - 1)) as usize;
        let kind = Kind::from_stored(word >> LENGTH_BITS)?;
        (len <= PAYLOAD_BYTES_MAX).then(|| Self {
            crc: u32_at(bytes, 0),
            kind,
            len,
            index: u32_at(bytes, 8),
            age: u32_at(bytes, 12),
        })
    }

    /// `frame` is the whole frame, head included.
    pub(crate) fn matches(&self, seed: u32, frame: &[u8]) -> bool {
        frame_crc(seed, &frame[4..]) == self.crc
    }
}

/// Appends a frame.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    seed: u32,
    kind: Kind,
    index: u32,
    age: u32,
    payload: &[u8],
) {
    debug_assert!(payload.len() <= PAYLOAD_BYTES_MAX, "checked by append");
    let start = out.len();
    let length = u32::try_from(payload.len()).expect("at most PAYLOAD_BYTES_MAX");
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(((kind as u32) << LENGTH_BITS) | length).to_le_bytes());
    out.extend_from_slice(&index.to_le_bytes());
    out.extend_from_slice(&age.to_le_bytes());
    out.extend_from_slice(payload);
    let crc = frame_crc(seed, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

/// Seed of the CRCs of frames; incarnation 0 for all but records.
pub(crate) fn seed(salt: u64, incarnation: u64) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(&incarnation.to_le_bytes());
    hasher.finalize()
}

fn frame_crc(seed: u32, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new_with_initial(seed);
    hasher.update(bytes);
    hasher.finalize()
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            salt: 0x0123_4567_89ab_cdef,
            number: 7,
            first_ordinal: 1_000,
            incarnation: 99,
            incarnation_start: 900,
            age_ms: 5,
            wall_ms: -1,
        }
    }

    #[test]
    fn one_damaged_copy_of_the_header_is_survived() {
        let good = header().encode();
        assert_eq!(Header::decode(&good), Some(header()));
        for bit in 0..good.len() * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&bad), Some(header()), "bit {bit}");
        }
        let mut bad = good;
        bad[20] ^= 1;
        bad[100] ^= 1;
        assert_eq!(Header::decode(&bad), None);
        assert_eq!(Header::decode(&good[..40]), None);
    }

    #[test]
    fn a_header_with_impossible_numbers_is_unreadable() {
        let possible = header();
        for impossible in [
            Header {
                incarnation_start: 1_001,
                ..possible.clone()
            },
            Header {
                first_ordinal: COUNT_MAX + 1,
                ..possible.clone()
            },
            Header {
                age_ms: COUNT_MAX + 1,
                ..possible
            },
        ] {
            assert_eq!(Header::decode(&impossible.encode()), None);
        }
    }

    #[test]
    fn a_frame_belongs_to_its_file_and_incarnation() {
        let mut bytes = Vec::new();
        encode(&mut bytes, seed(1, 2), Kind::Record, 3, 4, b"payload");
        let head = FrameHead::decode(&bytes).unwrap();
        assert_eq!(
            (head.kind, head.len, head.index, head.age),
            (Kind::Record, 7, 3, 4)
        );
        assert!(head.matches(seed(1, 2), &bytes));
        assert!(!head.matches(seed(1, 3), &bytes));
        assert!(!head.matches(seed(2, 2), &bytes));
        for bit in 32..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!head.matches(seed(1, 2), &bad), "bit {bit}");
        }
    }
}
