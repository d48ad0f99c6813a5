//! Opening: puts segments and account together and ends up balanced, whatever the last power cut left.
//!
//! 1. Take the lock; read the account.
//! 2. Load the segments in order. Sealed ones tell their contents by their footer, the last one is read frame by
//!    frame. One without a readable header is set aside.
//! 3. Walk along the ordinals: what is missing between segments, within a scanned one or at the end (as far as the
//!    account knows of it) is damaged, unless it was settled before.
//! 4. Cut off what follows the last whole frame of the last segment and go on there.

use std::io;
use std::sync::Arc;

use crate::account::Account;
use crate::active::Active;
use crate::error::JournalError;
use crate::frame::{COUNT_MAX, HEADER_LEN};
use crate::incarnations::Incarnations;
use crate::journal::Journal;
use crate::ledger::DropReason;
use crate::marks::Mark;
use crate::options::{Now, Options, Recovery};
use crate::reader::Shared;
use crate::segment::{self, DAMAGED_SUFFIX, Loaded, Sealed};
use crate::storage::Storage;

/// Time switched off counts as at most this: the clock of a machine that just booted may be years wrong, ms.
const OFF_MS_MAX: i64 = 86_400_000;
/// Files that were set aside are kept for an inspection, the newest of them.
const SET_ASIDE_KEPT: usize = 4;

impl Journal {
    /// As [`Journal::open`], on any storage.
    ///
    /// # Errors
    /// When another process has it or a file call fails. Damage is no error: see [`Recovery`].
    pub fn open_on(
        storage: Arc<dyn Storage>,
        options: Options,
        now: Now,
    ) -> Result<(Self, Recovery), JournalError> {
        let folder = storage.path("");
        let lock = storage.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => JournalError::Locked {
                folder: folder.clone(),
            },
            _ => JournalError::io("lock", folder.clone())(error),
        })?;
        let account = Account::load(storage.as_ref())
            .map_err(JournalError::io("read account of", folder.clone()))?;
        let mut opening = Opening {
            storage,
            account,
            recovery: Recovery::default(),
        };
        let (numbers, mut aside_bytes) = opening.list()?;
        let next_number = numbers.last().map_or(0, |last| last + 1);
        let (mut segments, set_aside_bytes) = opening.load(numbers)?;
        aside_bytes += set_aside_bytes;
        let next = opening.settle_gaps(&segments);
        let active = opening.take_active(&mut segments, next)?;
        let incarnation = draw_incarnation()?;
        let Opening {
            storage,
            account,
            mut recovery,
        } = opening;

        let mut incarnations = Incarnations::default();
        for (incarnation, start) in segments.iter().flat_map(|loaded| &loaded.incarnations) {
            incarnations.push(*incarnation, *start);
        }
        if let Some(active) = &active {
            for (incarnation, start) in active.incarnations() {
                incarnations.push(incarnation, start);
            }
        }
        incarnations.push(incarnation, next);
        let (age_ms, wall_ms) = last_known_time(&account, &segments, active.as_ref());
        let off_ms = now.wall_ms.saturating_sub(wall_ms).clamp(0, OFF_MS_MAX);
        let is_new = next == 0;

        let shared = Arc::new(Shared::default());
        for sealed in segments.iter().map(|loaded| &loaded.sealed) {
            shared.show(sealed.number, sealed.first_ordinal, sealed.bytes, next);
        }
        if let Some(active) = &active {
            let header = &active.header;
            shared.show(
                header.number,
                header.first_ordinal,
                active.durable_len,
                next,
            );
        }
        shared.set_durable_end(next);
        recovery.segments = segments.len() + usize::from(active.is_some());
        recovery.records = next - account.first_live;

        let mut journal = Self {
            storage,
            incarnation,
            incarnations,
            account,
            sealed_bytes: segments.iter().map(|loaded| loaded.sealed.bytes).sum(),
            sealed: segments.into_iter().map(|loaded| loaded.sealed).collect(),
            active,
            next,
            durable_end: next,
            opened_at: next,
            next_number,
            age_ms: (age_ms + if is_new { 0 } else { off_ms.unsigned_abs() }).min(COUNT_MAX),
            wall_ms: now.wall_ms,
            aside_bytes,
            shared,
            hint: None,
            options,
            _lock: lock,
        };
        journal.account.set_rewrite_bytes(journal.options.max_bytes);
        if recovery.damaged_records > 0 {
            journal.save_account(true);
        }
        journal.drop_expired();
        Ok((journal, recovery))
    }
}

/// What is at hand while a journal is put together.
struct Opening {
    storage: Arc<dyn Storage>,
    account: Account,
    recovery: Recovery,
}

impl Opening {
    fn failed(
        &self,
        operation: &'static str,
        name: &str,
    ) -> impl FnOnce(io::Error) -> JournalError + use<> {
        JournalError::io(operation, self.storage.path(name))
    }

    /// Numbers of the segments in order, and the bytes of files set aside earlier.
    fn list(&self) -> Result<(Vec<u64>, u64), JournalError> {
        let files = self.storage.list().map_err(self.failed("list", ""))?;
        let mut numbers: Vec<u64> = files
            .iter()
            .filter_map(|(name, _)| segment::number(name))
            .collect();
        numbers.sort_unstable();
        let mut aside: Vec<_> = files
            .into_iter()
            .filter(|(name, _)| name.ends_with(DAMAGED_SUFFIX))
            .collect();
        aside.sort();
        let surplus = aside.len().saturating_sub(SET_ASIDE_KEPT);
        for (name, _) in aside.drain(..surplus) {
            self.storage
                .remove(&name)
                .map_err(self.failed("remove", &name))?;
        }
        Ok((numbers, aside.iter().map(|(_, bytes)| bytes).sum()))
    }

    /// Loads the segments; sets unreadable ones aside and returns the bytes of these.
    fn load(&mut self, numbers: Vec<u64>) -> Result<(Vec<Loaded>, u64), JournalError> {
        let mut segments: Vec<Loaded> = Vec::new();
        let mut aside_bytes = 0;
        for number in numbers {
            let name = segment::name(number);
            let loaded =
                segment::load(self.storage.as_ref(), number).map_err(self.failed("read", &name))?;
            let end = segments.last().map_or(0, |last| last.sealed.end_ordinal);
            match loaded {
                // Retired before the last crash, which came before the file was removed.
                Some(loaded)
                    if loaded.sealed.end_ordinal <= self.account.first_live
                        && loaded.has_footer =>
                {
                    self.storage
                        .remove(&name)
                        .map_err(self.failed("remove", &name))?;
                }
                Some(loaded) if loaded.header.first_ordinal >= end => segments.push(loaded),
                _ => aside_bytes += self.set_aside(&name)?,
            }
        }
        Ok((segments, aside_bytes))
    }

    fn set_aside(&mut self, name: &str) -> Result<u64, JournalError> {
        let file = self
            .storage
            .open(name, false)
            .map_err(self.failed("open", name))?;
        let bytes = file.size().map_err(self.failed("read", name))?;
        if bytes <= HEADER_LEN as u64 {
            // Its creation was cut short: it never held a record.
            self.recovery.torn_bytes += bytes;
            self.storage
                .remove(name)
                .map_err(self.failed("remove", name))?;
            return Ok(0);
        }
        let aside = format!("{name}{DAMAGED_SUFFIX}");
        self.storage
            .rename(name, &aside)
            .map_err(self.failed("set aside", name))?;
        tracing::error!(
            name,
            bytes,
            "segment of the journal is unreadable, set aside"
        );
        self.recovery.set_aside.push(self.storage.path(&aside));
        Ok(bytes)
    }

    /// Marks every record as damaged that should be there and is not; returns the ordinal of the next record.
    fn settle_gaps(&mut self, segments: &[Loaded]) -> u64 {
        let mut at = self.account.first_live;
        for loaded in segments {
            self.damaged(at..loaded.sealed.first_ordinal);
            for hole in &loaded.holes {
                self.damaged(hole.clone());
            }
            at = at.max(loaded.sealed.end_ordinal);
        }
        let next = at.max(self.account.known_end());
        self.damaged(at..next);
        let oldest = segments
            .first()
            .map_or(next, |first| first.sealed.first_ordinal);
        if oldest > self.account.first_live {
            // All marked by now: the reason applies to nothing.
            self.account.retire(oldest, DropReason::Disk);
        }
        if self.recovery.damaged_records > 0 {
            tracing::error!(
                records = self.recovery.damaged_records,
                "records of the journal are damaged"
            );
        }
        next
    }

    fn damaged(&mut self, ordinals: std::ops::Range<u64>) {
        let ordinals = ordinals.start..ordinals.end.max(ordinals.start);
        let new = self.account.mark(ordinals, Mark::Damaged);
        self.recovery.damaged_records +=
            new.iter().map(|range| range.end - range.start).sum::<u64>();
    }

    /// The last segment, if records can go on in it; its torn tail is cut off.
    fn take_active(
        &mut self,
        segments: &mut Vec<Loaded>,
        next: u64,
    ) -> Result<Option<Active>, JournalError> {
        let Some(last) = segments.pop_if(|last| !last.has_footer) else {
            return Ok(None);
        };
        let name = segment::name(last.sealed.number);
        let file = self
            .storage
            .open(&name, false)
            .map_err(self.failed("open", &name))?;
        let torn = last.sealed.bytes - last.good_end;
        if torn > 0 {
            tracing::info!(bytes = torn, "cut off a torn tail");
            self.recovery.torn_bytes += torn;
            file.set_len(last.good_end)
                .map_err(self.failed("cut", &name))?;
        }
        // What an earlier process wrote and did not sync counts as durable from here on.
        file.sync_data().map_err(self.failed("sync", &name))?;
        self.storage
            .sync_folder()
            .map_err(self.failed("sync", ""))?;
        let end = last.sealed.end_ordinal;
        let mut loaded = Loaded {
            sealed: Sealed {
                bytes: last.good_end,
                ..last.sealed
            },
            ..last
        };
        if end == next {
            return Ok(Some(Active::resume(loaded, file)));
        }
        // Records are missing at its end. Ordinals within a segment have no gaps by design, so it ends here.
        let mut active = Active::resume(loaded.clone(), file);
        match active.seal(self.storage.as_ref()) {
            Ok(sealed) => loaded.sealed = sealed,
            // A full disk: without a footer it is read frame by frame next time.
            Err(error) => tracing::warn!(error = %error, name, "cannot seal a segment"),
        }
        segments.push(loaded);
        Ok(None)
    }
}

/// Journal's age and the owner's clock at the last sign of life.
fn last_known_time(account: &Account, segments: &[Loaded], active: Option<&Active>) -> (u64, i64) {
    let of_file = |header: &crate::frame::Header, last_age_ms: u64| {
        let since = last_age_ms.saturating_sub(header.age_ms);
        (last_age_ms, header.wall_ms.saturating_add_unsigned(since))
    };
    let sealed = segments
        .last()
        .map(|last| of_file(&last.header, last.sealed.last_age_ms));
    let active = active.map(|active| of_file(&active.header, active.last_age_ms));
    [Some((account.age_ms, account.wall_ms)), sealed, active]
        .into_iter()
        .flatten()
        .max_by_key(|(age_ms, _)| *age_ms)
        .unwrap_or_default()
}

fn draw_incarnation() -> Result<u64, JournalError> {
    loop {
        // 0 stands for "none" on the wire.
        match crate::random_u64().map_err(JournalError::Random)? {
            0 => {}
            incarnation => return Ok(incarnation),
        }
    }
}
