//! The segment that takes records, and its write buffer.

use std::io;

use crate::frame::{self, Header, Kind};
use crate::segment::{Loaded, Sealed, name};
use crate::storage::{File, Storage};

/// Memory of the write buffer that is kept between syncs, bytes.
const UNSYNCED_BYTES_KEPT: usize = 64 << 10;

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
    pub(crate) fn resume(loaded: Loaded, file: Box<dyn File>) -> Self {
        let (incarnation, _) = *loaded.incarnations.last().expect("the header's at least");
        Self {
            end_ordinal: loaded.sealed.end_ordinal,
            last_age_ms: loaded.sealed.last_age_ms,
            incarnation,
            record_seed: frame::seed(loaded.header.salt, incarnation),
            switches: loaded.incarnations[1..].to_vec(),
            file: Some(file),
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
