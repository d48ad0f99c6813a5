//! Limits: bytes, age, the disk itself; and what is dropped for them.

use std::sync::Arc;

use crate::active::Active;
use crate::error::{AppendError, JournalError, is_disk_full};
use crate::frame::{COUNT_MAX, HEADER_LEN, Header};
use crate::journal::Journal;
use crate::ledger::{Drop, DropReason};
use crate::options::{Now, WhenFull};
use crate::segment::{self, DAMAGED_SUFFIX};

/// Most bytes held in memory between two syncs; `append` syncs by itself beyond (guess: well above what a busy second
/// brings, well below what hurts).
const UNSYNCED_BYTES_MAX: usize = 1 << 20;
/// A full journal has at least this many segments, so that dropping one loses a small part.
const SEGMENTS_MIN: u64 = 4;
/// A segment spans at most this part of the greatest age.
const SEGMENTS_PER_AGE: u64 = 8;
/// Longest step of the owner's clock that counts as time gone by; a longer one is a clock that was corrected, ms.
const AGE_STEP_MS_MAX: i64 = 3_600_000;

impl Journal {
    pub(crate) fn advance_age(&mut self, now: Now) {
        let step = now
            .wall_ms
            .saturating_sub(self.wall_ms)
            .clamp(0, AGE_STEP_MS_MAX);
        self.age_ms = (self.age_ms + step.unsigned_abs()).min(COUNT_MAX);
        self.wall_ms = now.wall_ms;
    }

    fn max_age_ms(&self) -> Option<u64> {
        self.options
            .max_age
            .map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
    }

    /// Drops segments whose newest record is too old.
    pub(crate) fn drop_expired(&mut self) {
        let Some(max_age_ms) = self.max_age_ms() else {
            return;
        };
        while let Some(oldest) = self.sealed.front()
            && self.age_ms.saturating_sub(oldest.last_age_ms) > max_age_ms
        {
            self.drop_oldest(DropReason::Age);
        }
    }

    /// Sees to it that there is an active segment with room for a frame of this size, on disk and in memory.
    pub(crate) fn make_ready(&mut self, frame_bytes: u64) -> Result<(), AppendError> {
        if self
            .active
            .as_ref()
            .is_some_and(|active| self.must_roll(active, frame_bytes))
        {
            self.roll().map_err(AppendError::Disk)?;
        }
        self.make_room(frame_bytes)?;
        if self
            .active
            .as_ref()
            .is_some_and(|a| a.unsynced_bytes() >= UNSYNCED_BYTES_MAX)
        {
            self.sync_active().map_err(AppendError::Disk)?;
        }
        if self.active.is_none() {
            let header = self.next_header().map_err(AppendError::Disk)?;
            self.active = Some(Active::create(header));
        }
        Ok(())
    }

    fn must_roll(&self, active: &Active, frame_bytes: u64) -> bool {
        if !active.can_express(self.age_ms) {
            return true;
        }
        let segment_bytes = self
            .options
            .segment_bytes
            .min(self.options.max_bytes / SEGMENTS_MIN);
        let too_long = active.bytes() + frame_bytes > segment_bytes;
        let span_ms = self.age_ms.saturating_sub(active.header.age_ms);
        let too_old = self
            .max_age_ms()
            .is_some_and(|most| span_ms > most / SEGMENTS_PER_AGE);
        !active.is_empty() && (too_long || too_old)
    }

    /// Drops until the frame fits into `max_bytes`.
    fn make_room(&mut self, frame_bytes: u64) -> Result<(), AppendError> {
        let max_bytes = self.options.max_bytes;
        // A header for a new segment, and the totals that a drop writes.
        let needed = frame_bytes + HEADER_LEN as u64;
        while self.bytes_soon() + needed > max_bytes {
            if self.aside_bytes > 0 {
                self.remove_set_aside();
            } else if self.may_drop_oldest() {
                self.drop_oldest(DropReason::Bytes);
            } else if self.may_drop_active() {
                self.roll().map_err(AppendError::Disk)?;
            } else {
                return Err(AppendError::Full {
                    bytes: self.bytes(),
                    max_bytes,
                });
            }
        }
        Ok(())
    }

    /// With the account as large as acknowledgements may make it until the next append.
    fn bytes_soon(&self) -> u64 {
        self.bytes() - self.account.bytes() + self.account.bytes_soon()
    }

    /// The account grew more than was foreseen: its marks are scattered.
    pub(crate) fn keep_limit(&mut self) {
        while self.bytes() > self.options.max_bytes && self.may_drop_oldest() {
            self.drop_oldest(DropReason::Bytes);
        }
    }

    fn may_drop_oldest(&self) -> bool {
        let drops = self.options.when_full == WhenFull::DropOldest;
        !self.sealed.is_empty() && (drops || self.oldest_is_settled())
    }

    /// With no other segment left, the active one is sealed and becomes the oldest.
    fn may_drop_active(&self) -> bool {
        let Some(active) = self.active.as_ref().filter(|active| !active.is_empty()) else {
            return false;
        };
        let settled = || {
            let records = active.header.first_ordinal..active.end_ordinal;
            self.account.marks.gaps(records).is_empty()
        };
        self.sealed.is_empty() && (self.options.when_full == WhenFull::DropOldest || settled())
    }

    /// Whether nothing in the oldest sealed segment waits for anybody.
    pub(crate) fn oldest_is_settled(&self) -> bool {
        self.sealed.front().is_some_and(|oldest| {
            let records = self.account.first_live..oldest.end_ordinal;
            self.account.marks.gaps(records).is_empty()
        })
    }

    /// Retires the oldest sealed segment: account first, then the file.
    pub(crate) fn drop_oldest(&mut self, reason: DropReason) {
        let Some(oldest) = self.sealed.pop_front() else {
            return;
        };
        self.sealed_bytes -= oldest.bytes;
        for ordinals in self.account.retire(oldest.end_ordinal, reason) {
            for (incarnation, range) in self.incarnations.split(ordinals) {
                tracing::warn!(
                    incarnation,
                    from = range.start,
                    to = range.end,
                    reason = reason.as_str(),
                    "dropped records"
                );
                self.account.remember_drop(Drop {
                    incarnation,
                    range,
                    reason,
                });
            }
        }
        self.incarnations.trim_before(oldest.end_ordinal);
        // Should the disk be too full even for this, the file goes all the same: that is what makes room. A crash
        // before the next attempt would count its records as damaged.
        self.save_account(true);
        self.shared.hide_through(oldest.number);
        self.hint = self
            .hint
            .take()
            .filter(|(number, _)| *number != oldest.number);
        self.remove_file(&segment::name(oldest.number));
    }

    fn remove_set_aside(&mut self) {
        self.aside_bytes = 0;
        let files = self.storage.list().unwrap_or_default();
        for (name, _) in files
            .iter()
            .filter(|(name, _)| name.ends_with(DAMAGED_SUFFIX))
        {
            self.remove_file(name);
        }
    }

    fn remove_file(&self, name: &str) {
        if let Err(error) = self.storage.remove(name) {
            // It is gone from the account; the next opening tries again.
            tracing::warn!(error = %error, name, "cannot remove a file of the journal");
        }
    }

    /// Seals the active segment.
    pub(crate) fn roll(&mut self) -> Result<(), JournalError> {
        let sealed = self.on_disk("seal", |active, storage| active.seal(storage))?;
        let Some(sealed) = sealed else {
            return Ok(());
        };
        self.durable_end = sealed.end_ordinal;
        self.shared.show(
            sealed.number,
            sealed.first_ordinal,
            sealed.bytes,
            self.durable_end,
        );
        self.sealed_bytes += sealed.bytes;
        self.sealed.push_back(sealed);
        self.active = None;
        Ok(())
    }

    /// Makes the active segment durable.
    pub(crate) fn sync_active(&mut self) -> Result<(), JournalError> {
        if self
            .active
            .as_ref()
            .is_none_or(|active| active.unsynced_bytes() == 0)
        {
            return Ok(());
        }
        self.on_disk("sync", |active, storage| active.sync(storage))?;
        if let Some(active) = &self.active {
            self.durable_end = active.end_ordinal;
            let header = &active.header;
            self.shared.show(
                header.number,
                header.first_ordinal,
                active.durable_len,
                self.durable_end,
            );
        }
        Ok(())
    }

    /// Does something with the active segment; when the disk is full, once more after a segment was dropped for it.
    fn on_disk<T>(
        &mut self,
        operation: &'static str,
        mut action: impl FnMut(&mut Active, &dyn crate::storage::Storage) -> std::io::Result<T>,
    ) -> Result<Option<T>, JournalError> {
        let storage = Arc::clone(&self.storage);
        let Some(active) = &mut self.active else {
            return Ok(None);
        };
        let path = storage.path(&segment::name(active.header.number));
        let mut result = action(active, storage.as_ref());
        if matches!(&result, Err(error) if is_disk_full(error)) && self.relieve_disk() {
            let active = self
                .active
                .as_mut()
                .expect("only sealed segments were dropped");
            result = action(active, storage.as_ref());
        }
        result.map(Some).map_err(JournalError::io(operation, path))
    }

    /// Gives the disk some room back. One segment at a time: others may fill the disk faster than we empty it.
    fn relieve_disk(&mut self) -> bool {
        if self.aside_bytes > 0 {
            self.remove_set_aside();
            return true;
        }
        let may = self.may_drop_oldest();
        if may {
            self.drop_oldest(DropReason::Disk);
        }
        may
    }

    /// Writes the account. What cannot be written now is written later: acknowledgements lost by a crash until then
    /// mean that records are sent once more.
    pub(crate) fn save_account(&mut self, durable: bool) {
        self.account.floor = self.account.floor.max(self.durable_end);
        self.account.age_ms = self.age_ms;
        self.account.wall_ms = self.wall_ms;
        if let Err(error) = self.account.save(&self.storage, durable) {
            tracing::warn!(error = %error, "cannot write the journal's account");
        }
    }

    fn next_header(&mut self) -> Result<Header, JournalError> {
        let salt = crate::random_u64().map_err(JournalError::Random)?;
        let current = self.incarnations.ordinals(self.incarnation, self.next);
        let number = self.next_number;
        self.next_number += 1;
        Ok(Header {
            salt,
            number,
            first_ordinal: self.next,
            incarnation: self.incarnation,
            incarnation_start: current.expect("entered when the journal was opened").start,
            age_ms: self.age_ms,
            wall_ms: self.wall_ms,
        })
    }
}
