//! Reading by name, for the uplink: records of one incarnation from one sequence to another.

use std::io;
use std::ops::Range;

use crate::error::JournalError;
use crate::journal::Journal;
use crate::marks::Mark;
use crate::scan::Scanner;
use crate::segment::{self, Sealed};

impl Journal {
    /// Durable records of one incarnation in order, with their sequences: as many as fit into `max_bytes` of payload,
    /// but at least one. Records that are gone or unreadable are left out, so that sequences may jump; the unreadable
    /// ones are counted as damaged from then on.
    ///
    /// # Errors
    /// When a file cannot be opened or read.
    pub fn read_range(
        &mut self,
        incarnation: u64,
        range: Range<u64>,
        max_bytes: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, JournalError> {
        let mut records = Vec::new();
        let mut bytes = 0;
        let wanted = self.live_ordinals(incarnation, range);
        let mut at = wanted.start;
        while at < wanted.end {
            let Some(place) = self.segment_at_or_after(at) else {
                break;
            };
            let number = place.number;
            at = at.max(place.first_ordinal);
            let stop = place.end_ordinal.min(wanted.end);
            let Some(mut scanner) = self.scanner_at(&place, at)? else {
                self.account.mark(at..stop, Mark::Damaged);
                at = stop;
                continue;
            };
            while at < stop {
                let name = segment::name(number);
                let failed = JournalError::io("read", self.storage.path(&name));
                let Some(frame) = scanner.next_record().map_err(failed)? else {
                    self.account.mark(at..stop, Mark::Damaged);
                    at = stop;
                    break;
                };
                if frame.ordinal < at {
                    continue;
                }
                self.account
                    .mark(at..frame.ordinal.min(stop), Mark::Damaged);
                at = frame.ordinal;
                if at >= stop {
                    break;
                }
                at += 1;
                bytes += frame.payload.len();
                records.push((frame.sequence, frame.payload.to_vec()));
                if bytes >= max_bytes {
                    break;
                }
            }
            self.hint = Some((number, scanner));
            if bytes >= max_bytes {
                break;
            }
        }
        Ok(records)
    }

    /// The durable part of the first segment that ends after the ordinal.
    fn segment_at_or_after(&self, ordinal: u64) -> Option<Sealed> {
        let at = self
            .sealed
            .partition_point(|segment| segment.end_ordinal <= ordinal);
        if let Some(sealed) = self.sealed.get(at) {
            return Some(sealed.clone());
        }
        let active = self
            .active
            .as_ref()
            .filter(|_| ordinal < self.durable_end)?;
        Some(Sealed {
            number: active.header.number,
            first_ordinal: active.header.first_ordinal,
            end_ordinal: self.durable_end,
            bytes: active.durable_len,
            last_age_ms: active.last_age_ms,
        })
    }

    /// A scanner that has not passed the ordinal; `None` when the segment cannot be read any more.
    fn scanner_at(
        &mut self,
        place: &Sealed,
        ordinal: u64,
    ) -> Result<Option<Scanner>, JournalError> {
        if let Some((number, mut scanner)) = self.hint.take()
            && number == place.number
            && scanner.next_ordinal() <= ordinal
        {
            scanner.set_limit(place.bytes);
            return Ok(Some(scanner));
        }
        let name = segment::name(place.number);
        let opened = match self.storage.open(&name, false) {
            Ok(file) => Scanner::open(file, place.bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        opened.map_err(JournalError::io("open", self.storage.path(&name)))
    }
}
