//! One segment: its name, its footer, and the active one that takes records.

use std::io;
use std::ops::Range;

use crate::frame::{self, FRAME_LEN, FrameHead, HEADER_LEN, Header, Kind, TRAILER_LEN};
use crate::scan::Scanner;
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
#[derive(Debug)]
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
    pub(crate) file: Box<dyn File>,
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
        file: storage.open(&name(number), false)?,
        header,
    };
    if let Some((head, footer)) = footer
        && head.matches(frame::seed(loaded.header.salt, 0), &footer)
    {
        loaded.sealed.end_ordinal += u64::from(head.index);
        loaded.sealed.last_age_ms += u64::from(head.age);
        for pair in footer[FRAME_LEN..].chunks_exact(16) {
            loaded
                .incarnations
                .push((frame::u64_at(pair, 0), frame::u64_at(pair, 8)));
        }
        loaded.has_footer = true;
        return Ok(Some(loaded));
    }
    scan(&mut scanner, &mut loaded)?;
    Ok(Some(loaded))
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
    let plausible = footer_at >= HEADER_LEN as u64 && footer_at + (FRAME_LEN as u64) <= trailer_at;
    let len = trailer_at.wrapping_sub(footer_at);
    if !plausible || len > frame::PAYLOAD_BYTES_MAX as u64 {
        return Ok(None);
    }
    let mut footer = vec![0; usize::try_from(len).unwrap_or(0)];
    if !read_exact_at(file, &mut footer, footer_at)? {
        return Ok(None);
    }
    let head = FrameHead::decode(&footer);
    Ok(head
        .filter(|head| head.kind == Kind::Footer && FRAME_LEN + head.len == footer.len())
        .map(|head| (head, footer)))
}

/// False at the end of the file or where the disk cannot read: both mean that there is no footer to go by.
fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset + have as u64) {
            Ok(0) => return Ok(false),
            Ok(more) => have += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(crate::scan::EIO) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

/// The segment that takes records.
///
/// `unsynced` holds every byte after `durable_len` until a sync succeeds: whatever a failed write or fdatasync left in
/// the file is written once more at the same place.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) header: Header,
    pub(crate) end_ordinal: u64,
    pub(crate) last_age_ms: u64,
    /// Incarnation of the next record as far as the file says.
    pub(crate) incarnation: u64,
    record_seed: u32,
    /// Changes of incarnation after the header's.
    switches: Vec<(u64, u64)>,
    /// `None` until the first write.
    file: Option<Box<dyn File>>,
    pub(crate) durable_len: u64,
    /// How much of `unsynced` was written.
    written: usize,
    unsynced: Vec<u8>,
    /// The file's entry in the folder is not durable yet.
    fresh: bool,
}

impl Active {
    /// A segment without a file: that is made with the first write.
    pub(crate) fn create(header: Header) -> Self {
        Self {
            end_ordinal: header.first_ordinal,
            last_age_ms: header.age_ms,
            incarnation: header.incarnation,
            record_seed: frame::seed(header.salt, header.incarnation),
            switches: Vec::new(),
            file: None,
            durable_len: 0,
            written: 0,
            unsynced: header.encode().to_vec(),
            fresh: true,
            header,
        }
    }

    /// Goes on in a segment that an earlier process left without a footer.
    pub(crate) fn resume(loaded: Loaded) -> Self {
        let (incarnation, _) = *loaded.incarnations.last().expect("the header's at least");
        Self {
            end_ordinal: loaded.sealed.end_ordinal,
            last_age_ms: loaded.sealed.last_age_ms,
            incarnation,
            record_seed: frame::seed(loaded.header.salt, incarnation),
            switches: loaded.incarnations[1..].to_vec(),
            file: Some(loaded.file),
            durable_len: loaded.good_end,
            written: 0,
            unsynced: Vec::new(),
            fresh: false,
            header: loaded.header,
        }
    }

    /// Incarnations with records in it, each with the ordinal with which it began.
    pub(crate) fn incarnations(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let first = (self.header.incarnation, self.header.incarnation_start);
        std::iter::once(first).chain(self.switches.iter().copied())
    }

    /// Length that the file will have.
    pub(crate) fn bytes(&self) -> u64 {
        self.durable_len + self.unsynced.len() as u64
    }

    pub(crate) fn unsynced_bytes(&self) -> usize {
        self.unsynced.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.end_ordinal == self.header.first_ordinal
    }

    /// Whether frames can express this age and one more record.
    pub(crate) fn can_express(&self, age_ms: u64) -> bool {
        let records = self.end_ordinal - self.header.first_ordinal;
        u32::try_from(records + 1).is_ok() && self.age_of_frame(age_ms).is_some()
    }

    fn age_of_frame(&self, age_ms: u64) -> Option<u32> {
        u32::try_from(age_ms.saturating_sub(self.header.age_ms)).ok()
    }

    fn push(&mut self, kind: Kind, seed: u32, payload: &[u8]) {
        let index = u32::try_from(self.end_ordinal - self.header.first_ordinal);
        let age = self.age_of_frame(self.last_age_ms);
        let (index, age) = index.ok().zip(age).expect("append asked can_express");
        frame::encode(&mut self.unsynced, seed, kind, index, age, payload);
    }

    /// Appends a record; `can_express` was asked.
    pub(crate) fn append(&mut self, incarnation: u64, age_ms: u64, payload: &[u8]) {
        self.last_age_ms = age_ms;
        if self.incarnation != incarnation {
            self.incarnation = incarnation;
            self.record_seed = frame::seed(self.header.salt, incarnation);
            self.switches.push((incarnation, self.end_ordinal));
            let seed = frame::seed(self.header.salt, 0);
            // Twice, as the header: everything after it depends on it.
            self.push(Kind::Incarnation, seed, &incarnation.to_le_bytes());
            self.push(Kind::Incarnation, seed, &incarnation.to_le_bytes());
        }
        self.push(Kind::Record, self.record_seed, payload);
        self.end_ordinal += 1;
    }

    /// Hands everything to the operating system, without waiting for the disk.
    pub(crate) fn write(&mut self, storage: &dyn Storage) -> io::Result<()> {
        if self.written == self.unsynced.len() {
            return Ok(());
        }
        let file = match &self.file {
            Some(file) => file,
            None => self
                .file
                .insert(storage.open(&name(self.header.number), true)?),
        };
        let offset = self.durable_len + self.written as u64;
        file.write_all_at(&self.unsynced[self.written..], offset)?;
        self.written = self.unsynced.len();
        Ok(())
    }

    /// Makes everything durable.
    pub(crate) fn sync(&mut self, storage: &dyn Storage) -> io::Result<()> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.write(storage)?;
        let file = self.file.as_ref().expect("write opened it");
        if let Err(error) = file.sync_data() {
            // The kernel may have thrown the pages away and forgotten about it: write them again.
            self.written = 0;
            return Err(error);
        }
        if self.fresh {
            storage.sync_folder()?;
            self.fresh = false;
        }
        self.durable_len += self.unsynced.len() as u64;
        self.written = 0;
        self.unsynced.clear();
        self.unsynced.shrink_to(UNSYNCED_BYTES_KEPT);
        Ok(())
    }

    /// Writes the footer and makes everything durable. After an error the segment is as before.
    pub(crate) fn seal(&mut self, storage: &dyn Storage) -> io::Result<Sealed> {
        let without_footer = self.unsynced.len();
        let footer_at = self.bytes();
        let mut payload = Vec::with_capacity(self.switches.len() * 16);
        for (incarnation, start) in &self.switches {
            payload.extend_from_slice(&incarnation.to_le_bytes());
            payload.extend_from_slice(&start.to_le_bytes());
        }
        self.push(Kind::Footer, frame::seed(self.header.salt, 0), &payload);
        self.unsynced.extend_from_slice(&footer_at.to_le_bytes());
        if let Err(error) = self.sync(storage) {
            self.unsynced.truncate(without_footer);
            self.written = self.written.min(without_footer);
            return Err(error);
        }
        Ok(Sealed {
            number: self.header.number,
            first_ordinal: self.header.first_ordinal,
            end_ordinal: self.end_ordinal,
            bytes: self.bytes(),
            last_age_ms: self.last_age_ms,
        })
    }
}

/// Memory of the write buffer that is kept between syncs, bytes.
const UNSYNCED_BYTES_KEPT: usize = 64 << 10;
