//! The account: which records are settled and what became of those whose segments are gone.
//!
//! It is a file of the same form as a segment (`account`), holding two kinds of frames. *Totals* carries the sums over
//! all retired segments and replaces the ones before; *marks* adds settled records. Every mark frame alone is small
//! and written without a sync: losing it means that the records are sent once more. Totals are synced before a segment
//! is removed. When the file has grown to several times its content it is written anew beside the old one and renamed.
//!
//! The state balances by construction: retired records are counted once and for all when their segment goes, and the
//! others are in `marks` or waiting. What files and account contradict each other about is `damaged`.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::frame::{self, COUNT_MAX, Header, Kind};
use crate::ledger::{Drop, DropReason};
use crate::marks::{Mark, Marks};
use crate::scan::Scanner;
use crate::storage::{File, Storage};

pub(crate) const ACCOUNT_NAME: &str = "account";
const ACCOUNT_NEW_NAME: &str = "account.new";
/// `number` in the header, which no segment reaches.
const ACCOUNT_NUMBER: u64 = u64::MAX;
/// The file is written anew when it is larger than this and than four times its content, bytes (guess).
const REWRITE_BYTES: u64 = 64 << 10;
/// Ranges in one frame of marks, so that one flipped bit forgets few.
const RANGES_PER_FRAME: usize = 64;
/// Drops that wait to be told to the owner; beyond, only the counters know them.
const DROPS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Records below this ordinal are retired: their segments are gone.
    pub(crate) first_live: u64,
    /// Retired records by what became of them. Their sum is `first_live`.
    pub(crate) acknowledged: u64,
    pub(crate) dropped: [u64; 4],
    pub(crate) damaged: u64,
    /// Records that the disk refused before they had an ordinal.
    pub(crate) unsequenced: u64,
    /// Settled records that are still in a segment.
    pub(crate) marks: Marks,
    /// Drops that the owner was not told yet, and those it was told since the last sync.
    pub(crate) drops: Vec<Drop>,
    pub(crate) drops_told: usize,
    /// Every ordinal below was produced at some time, whatever the segments say.
    pub(crate) floor: u64,
    /// Journal's age and the owner's clock when totals were last written, milliseconds.
    pub(crate) age_ms: u64,
    pub(crate) wall_ms: i64,
    file: AccountFile,
}

#[derive(Debug, Default)]
struct AccountFile {
    file: Option<Box<dyn File>>,
    seed: u32,
    len: u64,
    /// Frames that are not in the file yet.
    pending: Vec<u8>,
    /// The file is missing or must not be continued.
    rewrite: bool,
    /// Written anew beyond this length, bytes.
    rewrite_bytes: u64,
    /// Something changed since totals were last put into `pending`.
    changed: bool,
}

impl Account {
    /// Reads the account; an unreadable one is an empty one.
    pub(crate) fn load(storage: &dyn Storage) -> io::Result<Self> {
        let mut account = Self::default();
        account.file.rewrite = true;
        let file = match storage.open(ACCOUNT_NAME, false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(account),
            Err(error) => return Err(error),
        };
        let size = file.size()?;
        let Some(mut scanner) = Scanner::open(file, size)? else {
            tracing::warn!("journal's account is unreadable, counting anew");
            return Ok(account);
        };
        // Frames that no account has: what would be written behind them might not be read.
        let first_ordinal = scanner.header().first_ordinal;
        let mut foreign = false;
        while let Some(frame) = scanner.next_frame()? {
            foreign |= frame.ordinal != first_ordinal;
            match frame.kind {
                Kind::Totals => account.apply_totals(frame.payload),
                Kind::Marks => account.apply_marks(frame.payload),
                _ => foreign = true,
            }
        }
        account.file.len = scanner.offset();
        account.file.seed = frame::seed(scanner.header().salt, 0);
        account.file.rewrite = scanner.offset() != size || foreign;
        account.file.file = Some(scanner.into_file());
        Ok(account)
    }

    /// A small journal has a small account.
    pub(crate) fn set_rewrite_bytes(&mut self, journal_bytes_max: u64) {
        self.file.rewrite_bytes = REWRITE_BYTES.min(journal_bytes_max / 16);
    }

    /// Records that were produced as far as the account knows.
    pub(crate) fn known_end(&self) -> u64 {
        self.floor.max(self.first_live).max(self.marks.end())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.file.len + self.file.pending.len() as u64
    }

    /// Bytes that it may take before the next append: a file that is due to be written anew, and what is pending then.
    pub(crate) fn bytes_soon(&self) -> u64 {
        self.bytes().max(2 * self.file.rewrite_bytes)
    }

    /// Settles records that are not settled yet; returns these.
    pub(crate) fn mark(&mut self, range: Range<u64>, mark: Mark) -> Vec<Range<u64>> {
        let new = self
            .marks
            .fill(range.start.max(self.first_live)..range.end, mark);
        if !new.is_empty() && !self.file.rewrite {
            for ranges in new.chunks(RANGES_PER_FRAME) {
                self.file.push(Kind::Marks, &encode_marks(mark, ranges));
            }
        }
        if self.file.pending.len() as u64 > self.file.rewrite_bytes {
            self.file.rewrite = true;
            self.file.pending = Vec::new();
        }
        new
    }

    /// Retires everything below the ordinal. What was not settled is dropped for this reason; returns these records.
    pub(crate) fn retire(&mut self, end: u64, reason: DropReason) -> Vec<Range<u64>> {
        let unsettled = self.marks.gaps(self.first_live..end);
        let [acknowledged, refused, damaged] = self.marks.trim_before(end);
        self.acknowledged += acknowledged;
        self.dropped[DropReason::Refused as usize] += refused;
        self.damaged += damaged;
        let dropped: u64 = unsettled.iter().map(|range| range.end - range.start).sum();
        self.dropped[reason as usize] += dropped;
        self.first_live = self.first_live.max(end);
        self.file.changed = true;
        unsettled
    }

    /// Remembers a drop until the owner was told.
    pub(crate) fn remember_drop(&mut self, drop: Drop) {
        if let Some(last) = self.drops[self.drops_told..].last_mut()
            && last.incarnation == drop.incarnation
            && last.reason == drop.reason
            && last.range.end == drop.range.start
        {
            last.range.end = drop.range.end;
        } else if self.drops.len() - self.drops_told < DROPS_MAX {
            self.drops.push(drop);
        }
        self.file.changed = true;
    }

    /// Drops not told yet. They are told again after a crash unless `confirm_drops` came first.
    pub(crate) fn take_drops(&mut self) -> Vec<Drop> {
        let new = self.drops[self.drops_told..].to_vec();
        self.drops_told = self.drops.len();
        new
    }

    /// What the owner wrote about drops that it was told is durable now.
    pub(crate) fn confirm_drops(&mut self) {
        if self.drops_told > 0 {
            self.drops.drain(..self.drops_told);
            self.drops_told = 0;
            self.file.changed = true;
        }
    }

    /// A record that the disk refused: produced and dropped at once.
    pub(crate) fn count_refused_by_disk(&mut self) {
        self.unsequenced += 1;
        self.file.changed = true;
    }

    /// Totals are to be written with the next `save`.
    pub(crate) fn touch(&mut self) {
        self.file.changed = true;
    }

    /// Writes what changed; with `durable`, waits for the disk. After an error the state in memory is whole and the
    /// next call writes the file anew.
    pub(crate) fn save(&mut self, storage: &Arc<dyn Storage>, durable: bool) -> io::Result<()> {
        let has_content = self.file.changed || self.known_end() > 0 || self.unsequenced > 0;
        if !has_content {
            return Ok(());
        }
        if self.file.changed {
            let totals = self.encode_totals();
            self.file.push(Kind::Totals, &totals);
            self.file.changed = false;
        }
        let worth = 4 * self.marks.iter().count() as u64 * 24;
        if self.file.len > self.file.rewrite_bytes.max(worth) {
            self.file.rewrite = true;
        }
        let result = if self.file.rewrite {
            self.rewrite(storage)
        } else {
            self.file.write(durable)
        };
        if result.is_err() {
            self.file.rewrite = true;
        }
        result
    }

    fn rewrite(&mut self, storage: &Arc<dyn Storage>) -> io::Result<()> {
        let salt = crate::random_u64()?;
        let header = Header {
            salt,
            number: ACCOUNT_NUMBER,
            first_ordinal: 0,
            incarnation: 0,
            incarnation_start: 0,
            age_ms: 0,
            wall_ms: self.wall_ms,
        };
        let mut fresh = AccountFile {
            seed: frame::seed(salt, 0),
            rewrite_bytes: self.file.rewrite_bytes,
            ..AccountFile::default()
        };
        fresh.pending.extend_from_slice(&header.encode());
        let totals = self.encode_totals();
        // Twice, as the header: a single flipped bit must not cost the sums.
        fresh.push(Kind::Totals, &totals);
        fresh.push(Kind::Totals, &totals);
        for mark in [Mark::Acknowledged, Mark::Refused, Mark::Damaged] {
            let ranges: Vec<_> = self
                .marks
                .iter()
                .filter(|(_, m)| *m == mark)
                .map(|(range, _)| range)
                .collect();
            for ranges in ranges.chunks(RANGES_PER_FRAME) {
                fresh.push(Kind::Marks, &encode_marks(mark, ranges));
            }
        }
        let file = storage.open(ACCOUNT_NEW_NAME, true)?;
        file.set_len(0)?;
        fresh.file = Some(file);
        if let Err(error) = fresh.write(true) {
            // On a full disk half an account must not take the room that the next attempt needs.
            storage.remove(ACCOUNT_NEW_NAME)?;
            return Err(error);
        }
        storage.rename(ACCOUNT_NEW_NAME, ACCOUNT_NAME)?;
        storage.sync_folder()?;
        self.file = fresh;
        Ok(())
    }

    fn encode_totals(&self) -> Vec<u8> {
        let [bytes, age, disk, refused] = self.dropped;
        let fields = [
            self.first_live,
            self.acknowledged,
            bytes,
            age,
            disk,
            refused,
            self.damaged,
            self.unsequenced,
            self.floor,
            self.age_ms,
            self.wall_ms.cast_unsigned(),
        ];
        let mut payload: Vec<u8> = fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect();
        for drop in &self.drops {
            payload.push(drop.reason as u8);
            for field in [drop.incarnation, drop.range.start, drop.range.end] {
                payload.extend_from_slice(&field.to_le_bytes());
            }
        }
        payload
    }

    fn apply_totals(&mut self, payload: &[u8]) {
        let Some((fixed, drops)) = payload.split_at_checked(11 * 8) else {
            return;
        };
        let field = |n: usize| frame::u64_at(fixed, n * 8);
        // All but the wall clock.
        if (0..10).any(|n| field(n) > COUNT_MAX) {
            return;
        }
        let dropped = [field(2), field(3), field(4), field(5)];
        // Written by an unbalanced or different program: the frames before it are the better account.
        if field(1) + dropped.iter().sum::<u64>() + field(6) != field(0) {
            return;
        }
        self.first_live = field(0);
        self.acknowledged = field(1);
        self.dropped = dropped;
        self.damaged = field(6);
        self.unsequenced = field(7);
        self.floor = self.floor.max(field(8));
        self.age_ms = field(9);
        self.wall_ms = field(10).cast_signed();
        self.marks.trim_before(self.first_live);
        self.drops = drops.chunks_exact(25).filter_map(decode_drop).collect();
    }

    fn apply_marks(&mut self, payload: &[u8]) {
        let Some((mark, ranges)) = payload.split_first() else {
            return;
        };
        let Some(mark) = Mark::from_stored(*mark) else {
            return;
        };
        for range in ranges.chunks_exact(16) {
            let start = frame::u64_at(range, 0).max(self.first_live);
            let end = frame::u64_at(range, 8);
            if end <= COUNT_MAX {
                self.marks.fill(start..end, mark);
            }
        }
    }
}

impl AccountFile {
    fn push(&mut self, kind: Kind, payload: &[u8]) {
        frame::encode(&mut self.pending, self.seed, kind, 0, 0, payload);
    }

    fn write(&mut self, durable: bool) -> io::Result<()> {
        let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
        if !self.pending.is_empty() {
            file.write_all_at(&self.pending, self.len)?;
            self.len += self.pending.len() as u64;
            self.pending = Vec::new();
        }
        if durable { file.sync_data() } else { Ok(()) }
    }
}

fn encode_marks(mark: Mark, ranges: &[Range<u64>]) -> Vec<u8> {
    let mut payload = vec![mark as u8];
    for range in ranges {
        payload.extend_from_slice(&range.start.to_le_bytes());
        payload.extend_from_slice(&range.end.to_le_bytes());
    }
    payload
}

fn decode_drop(bytes: &[u8]) -> Option<Drop> {
    let reason = *DropReason::ALL.get(usize::from(bytes[0]))?;
    let range = frame::u64_at(bytes, 9)..frame::u64_at(bytes, 17);
    (range.start <= range.end).then(|| Drop {
        incarnation: frame::u64_at(bytes, 1),
        range,
        reason,
    })
}
