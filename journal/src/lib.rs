//! The durable, bounded, segmented log of Extranet Monitor: the agent's spool and the collector's ingest log.
//!
//! # Constraints
//!
//! 1. A record that a successful [`Journal::sync`] covered survives kill -9 and power cuts.
//! 2. Damage is never a reason not to start. One flipped bit costs one record at most; a torn tail costs nothing that
//!    was durable.
//! 3. The journal stays below its limits in bytes and age; what has to go is the oldest, counted by reason.
//! 4. The [`Ledger`] balances at every moment: `produced = acknowledged + waiting + dropped + damaged`.
//! 5. No number is used twice: a record is named by incarnation (64 random bits for each opening) and sequence, so
//!    that a tail which a power cut took cannot come back under the name of other records.
//! 6. A full disk is an outcome. What was accepted before stays accepted, and appends work again once there is room.
//! 7. Thousands of openings cost neither files nor time: an opening that appends nothing writes nothing.
//! 8. Payloads may come from a hostile agent: none can pass for a record of its own when damage is stepped over.
//! 9. No clock is read in here, no thread is started, and all file calls go through [`storage::Storage`].
//!
//! # Layout
//!
//! ```text
//! folder/
//!   lock                          held by the process that has the journal
//!   account                       what became of the records, see `account.rs`
//!   0000000000000000.seg          sealed: header, frames, footer, trailer
//!   0000000000000001.seg          active: header, frames, perhaps a torn tail
//!   0000000000000000.seg.damaged  set aside: its header was unreadable
//! ```
//!
//! The bytes of headers and frames are described in `frame.rs`. Every record has an *ordinal*, its position among all
//! records since the folder was created. A segment's header says with which ordinal it begins, so that records which
//! are missing between two segments are known by number even when nothing else is left of them. Ordinals stay inside;
//! an incarnation is a run of them, and outside a record is (incarnation, sequence), sequence being its place in the
//! run. An incarnation begins where the one before stopped, in the same segment if that has room: a frame says so.
//!
//! # Paths
//!
//! *Append* puts a frame into memory. *Sync* writes what is in memory behind what is durable and calls fdatasync. If
//! either fails, the same bytes are written to the same place by the next sync; that holds for a failed fdatasync too,
//! after which the kernel may have forgotten pages that it never wrote. *Roll*: a segment that is long or old enough
//! gets a footer, is synced and never written again. *Drop*: the account is synced with the new sums, then the
//! segment's file is removed. *Open*: `recover.rs`. *Follow*: a [`Reader`] opens the files on its own and learns from
//! the writer, under a short lock, up to which byte they are durable.
//!
//! A frame whose CRC is wrong is stepped over by looking for the next good one (`scan.rs`); the index in each frame
//! tells how many records are lost between. Only at the end of the last segment, where a crash leaves half a frame,
//! bad bytes are cut off without counting: what was there was never durable, as far as the account knows.

mod account;
mod active;
mod error;
mod frame;
mod incarnations;
mod journal;
mod ledger;
mod marks;
mod options;
mod read;
mod reader;
mod recover;
mod room;
mod scan;
mod segment;
pub mod storage;

pub use error::{AppendError, JournalError};
pub use journal::Journal;
pub use ledger::{Cursor, Drop, DropReason, Ledger, Position};
pub use options::{Now, Options, Recovery, WhenFull};
pub use reader::Reader;

fn random_u64() -> std::io::Result<u64> {
    getrandom::u64().map_err(|error| std::io::Error::other(error.to_string()))
}
