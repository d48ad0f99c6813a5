//! Segments on disk: their names, and what is in one, from its footer or by reading it.

use std::io;
use std::ops::Range;

use crate::frame::{self, FRAME_LEN, FrameHead, HEADER_LEN, Header, Kind, TRAILER_LEN};
use crate::scan::{Scanner, read_exact_at};
use crate::storage::{File, Storage};

const SUFFIX: &str = ".seg";
/// Suffix of files that could not be read and were set aside.
pub(crate) const DAMAGED_SUFFIX: &str = ".damaged";

pub(crate) fn name(number: u64) -> String {
    format!("{number:016x}{SUFFIX}")
}

/// The number in a segment's file name.
pub(crate) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// A segment that takes no more records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) number: u64,
    pub(crate) first_ordinal: u64,
    pub(crate) end_ordinal: u64,
    /// Length of the file.
    pub(crate) bytes: u64,
    /// Journal's age at its last record, milliseconds.
    pub(crate) last_age_ms: u64,
}

/// What a look at a segment's file gave.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    pub(crate) sealed: Sealed,
    pub(crate) header: Header,
    /// Incarnations within, each with the ordinal with which it began.
    pub(crate) incarnations: Vec<(u64, u64)>,
    /// Records that could not be read; only known after a scan.
    pub(crate) holes: Vec<Range<u64>>,
    /// A good footer is there.
    pub(crate) has_footer: bool,
    /// After the last good frame; what follows is torn.
    pub(crate) good_end: u64,
}

/// Opens a segment and finds out what is in it, from its footer if it has one. `None` when its header is unreadable.
pub(crate) fn load(storage: &dyn Storage, number: u64) -> io::Result<Option<Loaded>> {
    let file = storage.open(&name(number), false)?;
    let size = file.size()?;
    let footer = read_footer(file.as_ref(), size)?;
    let Some(mut scanner) = Scanner::open(file, size)? else {
        return Ok(None);
    };
    let header = scanner.header().clone();
    if header.number != number {
        return Ok(None);
    }
    let mut loaded = Loaded {
        sealed: Sealed {
            number,
            first_ordinal: header.first_ordinal,
            end_ordinal: header.first_ordinal,
            bytes: size,
            last_age_ms: header.age_ms,
        },
        incarnations: vec![(header.incarnation, header.incarnation_start)],
        holes: Vec::new(),
        has_footer: false,
        good_end: size,
        header,
    };
    if let Some((head, footer)) = footer
        && head.matches(frame::seed(loaded.header.salt, 0), &footer)
        && let Some(incarnations) = incarnations_of(&loaded.header, head, &footer)
    {
        loaded.sealed.end_ordinal += u64::from(head.index);
        loaded.sealed.last_age_ms += u64::from(head.age);
        loaded.incarnations = incarnations;
        loaded.has_footer = true;
        return Ok(Some(loaded));
    }
    scan(&mut scanner, &mut loaded)?;
    Ok(Some(loaded))
}

/// Incarnations of a sealed segment; `None` when what the footer says is impossible.
fn incarnations_of(header: &Header, head: FrameHead, footer: &[u8]) -> Option<Vec<(u64, u64)>> {
    let end_ordinal = header.first_ordinal + u64::from(head.index);
    let mut incarnations = vec![(header.incarnation, header.incarnation_start)];
    let mut least = header.first_ordinal;
    for pair in footer[FRAME_LEN..].chunks_exact(16) {
        let start = frame::u64_at(pair, 8);
        if !(least..=end_ordinal).contains(&start) {
            return None;
        }
        incarnations.push((frame::u64_at(pair, 0), start));
        least = start;
    }
    Some(incarnations)
}

fn scan(scanner: &mut Scanner, loaded: &mut Loaded) -> io::Result<()> {
    let mut expected = loaded.header.first_ordinal;
    while let Some(frame) = scanner.next_frame()? {
        if frame.ordinal > expected {
            loaded.holes.push(expected..frame.ordinal);
        }
        expected = frame.ordinal;
        loaded.sealed.last_age_ms = loaded.sealed.last_age_ms.max(frame.age_ms);
        match frame.kind {
            Kind::Record => expected += 1,
            Kind::Incarnation
                if loaded
                    .incarnations
                    .last()
                    .is_none_or(|(last, _)| *last != frame.incarnation) =>
            {
                loaded.incarnations.push((frame.incarnation, frame.ordinal));
            }
            _ => {}
        }
    }
    loaded.sealed.end_ordinal = expected;
    loaded.good_end = scanner.offset();
    // A footer whose trailer is damaged: sealed all the same.
    loaded.has_footer = scanner.finished();
    Ok(())
}

/// The whole footer frame if the trailer leads to one; not checked against its CRC.
fn read_footer(file: &dyn File, size: u64) -> io::Result<Option<(FrameHead, Vec<u8>)>> {
    let Some(trailer_at) = size.checked_sub(TRAILER_LEN as u64) else {
        return Ok(None);
    };
    let mut trailer = [0; TRAILER_LEN];
    if !read_exact_at(file, &mut trailer, trailer_at)? {
        return Ok(None);
    }
    let footer_at = frame::u64_at(&trailer, 0);
    // Any bytes may stand there: a flash block that was erased and not written reads as ones.
    let len = trailer_at
        .checked_sub(footer_at)
        .and_then(|len| usize::try_from(len).ok());
    let Some(len) = len.filter(|len| (FRAME_LEN..=frame::PAYLOAD_BYTES_MAX).contains(len)) else {
        return Ok(None);
    };
    if footer_at < HEADER_LEN as u64 {
        return Ok(None);
    }
    let mut footer = vec![0; len];
    if !read_exact_at(file, &mut footer, footer_at)? {
        return Ok(None);
    }
    let head = FrameHead::decode(&footer);
    Ok(head
        .filter(|head| head.kind == Kind::Footer && FRAME_LEN + head.len == footer.len())
        .map(|head| (head, footer)))
}
