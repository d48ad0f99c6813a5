//! The journal itself: append, sync, acknowledge, account.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::account::Account;
use crate::active::Active;
use crate::error::{AppendError, JournalError};
use crate::frame::{FRAME_LEN, HEADER_LEN, PAYLOAD_BYTES_MAX};
use crate::incarnations::Incarnations;
use crate::ledger::{Cursor, Drop, DropReason, Ledger, Position};
use crate::marks::Mark;
use crate::options::{Now, Options, Recovery, WhenFull};
use crate::reader::{Reader, Shared};
use crate::scan::Scanner;
use crate::segment::{self, Sealed};
use crate::storage::{Disk, Lock, Storage};

/// A durable, bounded log with an account. See the crate's documentation.
#[derive(Debug)]
pub struct Journal {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) options: Options,
    pub(crate) incarnation: u64,
    pub(crate) incarnations: Incarnations,
    pub(crate) account: Account,
    pub(crate) sealed: VecDeque<Sealed>,
    /// Their lengths together.
    pub(crate) sealed_bytes: u64,
    pub(crate) active: Option<Active>,
    /// Ordinal of the next record.
    pub(crate) next: u64,
    /// Every record below is durable.
    pub(crate) durable_end: u64,
    /// `next` when the journal was opened.
    pub(crate) opened_at: u64,
    pub(crate) next_number: u64,
    /// Milliseconds that passed for the owner since the journal was created.
    pub(crate) age_ms: u64,
    pub(crate) wall_ms: i64,
    /// Bytes of files that were set aside.
    pub(crate) aside_bytes: u64,
    pub(crate) shared: Arc<Shared>,
    /// Where the last `read_range` ended: the next one usually goes on there.
    pub(crate) hint: Option<(u64, Scanner)>,
    pub(crate) _lock: Box<dyn Lock>,
}

impl Journal {
    /// Opens the journal of a folder, which is created where missing, as a new incarnation.
    ///
    /// # Errors
    /// When another process has it or a file call fails. Damage is no error: see [`Recovery`].
    pub fn open(
        folder: &Path,
        options: Options,
        now: Now,
    ) -> Result<(Self, Recovery), JournalError> {
        let disk = Disk::new(folder)
            .map_err(JournalError::io("create journal folder", folder.to_owned()))?;
        Self::open_on(Arc::new(disk), options, now)
    }

    /// The incarnation of the records appended through this value.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Takes a record. It is durable after the next successful [`Journal::sync`].
    ///
    /// # Errors
    /// See [`AppendError`]; the record was not taken then. Under [`WhenFull::DropOldest`] a record that the disk
    /// refused is counted in the ledger as produced and dropped.
    pub fn append(&mut self, payload: &[u8], now: Now) -> Result<Position, AppendError> {
        let max_bytes = self.payload_bytes_max();
        if payload.len() > max_bytes {
            return Err(AppendError::TooLarge {
                bytes: payload.len(),
                max_bytes,
            });
        }
        self.advance_age(now);
        self.drop_expired();
        let result = self.put(payload);
        if matches!(result, Err(AppendError::Disk(_)))
            && self.options.when_full == WhenFull::DropOldest
        {
            self.account.count_refused_by_disk();
        }
        result
    }

    fn put(&mut self, payload: &[u8]) -> Result<Position, AppendError> {
        // Two incarnation frames at most come with the record.
        self.make_ready((FRAME_LEN + payload.len() + 2 * (FRAME_LEN + 8)) as u64)?;
        let active = self.active.as_mut().expect("make_ready made one");
        active.append(self.incarnation, self.age_ms, payload);
        let position = self
            .incarnations
            .position(self.next)
            .expect("the current incarnation");
        self.next += 1;
        Ok(position)
    }

    /// Hands what was appended to the operating system without waiting for the disk: it then survives the end of the
    /// process, not that of the machine.
    ///
    /// # Errors
    /// When the write fails. The records stay accepted and are written again by the next call.
    pub fn flush(&mut self) -> Result<(), JournalError> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let path = self.storage.path(&segment::name(active.header.number));
        active
            .write(self.storage.as_ref())
            .map_err(JournalError::io("write", path))
    }

    /// Makes everything that was appended durable and returns the position of the last durable record.
    ///
    /// # Errors
    /// When a write or fdatasync fails. The records stay accepted: a later successful call makes them durable, so they
    /// must not be appended again.
    pub fn sync(&mut self) -> Result<Option<Position>, JournalError> {
        self.sync_active()?;
        self.account.confirm_drops();
        self.save_account(false);
        if !self.options.keep_acknowledged {
            while self.oldest_is_settled() {
                self.drop_oldest(DropReason::Bytes);
            }
        }
        self.keep_limit();
        Ok(self.durable_position())
    }

    /// Position of the last durable record that is still known.
    pub fn durable_position(&self) -> Option<Position> {
        self.durable_end
            .checked_sub(1)
            .and_then(|last| self.incarnations.position(last))
    }

    /// Settles records of one incarnation as acknowledged; returns how many were not settled before. Only durable
    /// records count. Kept over a restart, but a crash may forget the last acknowledgements: the records are waiting
    /// again then.
    pub fn acknowledge(&mut self, incarnation: u64, range: Range<u64>) -> u64 {
        self.settle(incarnation, range, Mark::Acknowledged)
    }

    /// Settles records as dropped because the receiver can never use them; returns how many were not settled before.
    pub fn refuse(&mut self, incarnation: u64, range: Range<u64>) -> u64 {
        self.settle(incarnation, range, Mark::Refused)
    }

    /// Durable records that are not settled, oldest first: incarnation and sequences.
    pub fn waiting(&self) -> Vec<(u64, Range<u64>)> {
        let gaps = self
            .account
            .marks
            .gaps(self.account.first_live..self.durable_end);
        gaps.into_iter()
            .flat_map(|gap| self.incarnations.split(gap))
            .collect()
    }

    /// What became of every record since the folder was created.
    pub fn ledger(&self) -> Ledger {
        let [acknowledged, refused, damaged] = self.account.marks.counts();
        let mut sums = self.account.dropped;
        sums[DropReason::Refused as usize] += refused;
        sums[DropReason::Disk as usize] += self.account.unsequenced;
        let dropped: BTreeMap<_, _> = DropReason::ALL
            .into_iter()
            .zip(sums)
            .filter(|(_, records)| *records > 0)
            .collect();
        Ledger {
            produced: self.next + self.account.unsequenced,
            acknowledged: self.account.acknowledged + acknowledged,
            waiting: self.next - self.account.first_live - self.account.marks.total(),
            dropped,
            damaged: self.account.damaged + damaged,
        }
    }

    /// Records dropped since the last call, for the owner to write down. Told again after a crash unless a sync came
    /// between.
    pub fn take_drops(&mut self) -> Vec<Drop> {
        self.account.take_drops()
    }

    /// Bytes in use, unwritten ones included.
    pub fn bytes(&self) -> u64 {
        let active = self.active.as_ref().map_or(0, Active::bytes);
        self.sealed_bytes + active + self.account.bytes() + self.aside_bytes
    }

    /// Payload bytes that the largest record may have.
    pub fn payload_bytes_max(&self) -> usize {
        let room = self.options.max_bytes / 2;
        usize::try_from(room)
            .unwrap_or(usize::MAX)
            .saturating_sub(HEADER_LEN + 4 * FRAME_LEN)
            .min(PAYLOAD_BYTES_MAX)
    }

    /// A follower that begins with this record. It may go to another thread.
    pub fn reader(&self, from: Cursor) -> Reader {
        let known = self
            .incarnations
            .ordinal(from.incarnation, from.sequence, self.next);
        let next = known.unwrap_or_else(|| self.oldest_ordinal());
        Reader::new(
            Arc::clone(&self.storage),
            Arc::clone(&self.shared),
            next,
            known.is_some(),
        )
    }

    /// Where a follower stands that has read every durable record.
    pub fn end(&self) -> Cursor {
        self.durable_position()
            .map_or_else(Cursor::oldest, Cursor::after)
    }

    /// Syncs and writes the account. Done by dropping the journal too, which cannot tell about errors.
    ///
    /// # Errors
    /// When the sync fails; what was durable stays so.
    pub fn close(mut self) -> Result<(), JournalError> {
        self.sync().map(|_| ())
    }

    fn settle(&mut self, incarnation: u64, range: Range<u64>, mark: Mark) -> u64 {
        let wanted = self.live_ordinals(incarnation, range);
        self.account
            .mark(wanted, mark)
            .iter()
            .map(|new| new.end - new.start)
            .sum()
    }

    /// Ordinals of those records that are durable and whose segments are there.
    pub(crate) fn live_ordinals(&self, incarnation: u64, range: Range<u64>) -> Range<u64> {
        let Some(all) = self.incarnations.ordinals(incarnation, self.next) else {
            return 0..0;
        };
        let oldest = self.account.first_live;
        let newest = all.end.min(self.durable_end);
        let start = all.start.saturating_add(range.start).max(oldest);
        let end = all.start.saturating_add(range.end).min(newest);
        start..end.max(start)
    }

    /// Ordinal of the oldest record there is.
    fn oldest_ordinal(&self) -> u64 {
        let sealed = self.sealed.front().map(|segment| segment.first_ordinal);
        let active = self
            .active
            .as_ref()
            .map(|active| active.header.first_ordinal);
        sealed.or(active).unwrap_or(self.next)
    }
}

impl std::ops::Drop for Journal {
    fn drop(&mut self) {
        if let Err(error) = self.sync_active() {
            tracing::warn!(error = %error, "journal closed with records that are not durable");
        }
        if self.next > self.opened_at {
            self.account.touch();
        }
        self.save_account(true);
        self.shared.close();
    }
}
