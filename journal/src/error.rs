//! What can go wrong, told apart by what the owner can do about it.

use std::io;
use std::path::PathBuf;

/// The journal could not do what was asked. Nothing that was durable before is touched by a failure.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has the folder. Fatal: two writers would destroy each other's records.
    #[error("journal {} is in use by another process", folder.display())]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// A file call failed. Transient when the disk is full; the same call may be tried again later.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried, as a verb.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The system has no random numbers for a new incarnation.
    #[error("cannot draw a random number")]
    Random(#[source] io::Error),
}

impl JournalError {
    pub(crate) fn io(operation: &'static str, path: PathBuf) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            operation,
            path,
            source,
        }
    }

    /// Whether the disk had no room: freeing some cures it.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_disk_full(source))
    }
}

pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Why a record was not taken. It has no position and will not appear later.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The limit in bytes is reached and the journal may not drop anything ([`crate::WhenFull::Refuse`]).
    #[error("journal is full: {bytes} of {max_bytes} bytes")]
    Full {
        /// Bytes in use.
        bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// The disk refused earlier records and no more can be held in memory. Later appends work again once it recovers.
    #[error("the disk does not take records")]
    Disk(#[source] JournalError),
    /// No journal with these options can hold the record.
    #[error("record of {bytes} bytes is too large: at most {max_bytes}")]
    TooLarge {
        /// Length of the payload.
        bytes: usize,
        /// The most that would be taken.
        max_bytes: usize,
    },
}
