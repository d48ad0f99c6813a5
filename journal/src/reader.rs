//! Followers: read what is durable, from any thread, while the journal is written.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::error::JournalError;
use crate::ledger::Position;
use crate::scan::Scanner;
use crate::segment;
use crate::storage::Storage;

/// What the writer tells its followers.
#[derive(Debug, Default)]
pub(crate) struct View {
    segments: VecDeque<Visible>,
    /// Every record below is durable.
    durable_end: u64,
    closed: bool,
}

/// The durable part of a segment.
#[derive(Debug, Clone, Copy)]
struct Visible {
    number: u64,
    first_ordinal: u64,
    /// Bytes that may be read.
    limit: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Shared {
    view: Mutex<View>,
    changed: Condvar,
}

impl Shared {
    fn view(&self) -> MutexGuard<'_, View> {
        // Nothing panics while it holds the lock, and a view is whole after every statement.
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This much of the segment is durable now, and with it every record below `durable_end`.
    pub(crate) fn show(&self, number: u64, first_ordinal: u64, limit: u64, durable_end: u64) {
        let mut view = self.view();
        match view.segments.back_mut() {
            Some(last) if last.number == number => last.limit = limit,
            _ => view.segments.push_back(Visible {
                number,
                first_ordinal,
                limit,
            }),
        }
        view.durable_end = view.durable_end.max(durable_end);
        drop(view);
        self.changed.notify_all();
    }

    /// For a journal that was just opened.
    pub(crate) fn set_durable_end(&self, ordinal: u64) {
        self.view().durable_end = ordinal;
    }

    /// The segment and all before it are gone.
    pub(crate) fn hide_through(&self, number: u64) {
        let mut view = self.view();
        while view
            .segments
            .front()
            .is_some_and(|first| first.number <= number)
        {
            view.segments.pop_front();
        }
    }

    pub(crate) fn close(&self) {
        self.view().closed = true;
        self.changed.notify_all();
    }
}

/// An independent cursor over the durable records, oldest first.
///
/// It follows into new segments by itself. Records that were dropped or damaged before it came to them are passed over
/// and counted in [`Reader::missed`].
#[derive(Debug)]
pub struct Reader {
    storage: Arc<dyn Storage>,
    shared: Arc<Shared>,
    /// Ordinal of the next record.
    next: u64,
    /// The segment that is open, or the last one that was looked at.
    segment: Option<u64>,
    scanner: Option<Scanner>,
    missed: u64,
    found: bool,
}

impl Reader {
    pub(crate) fn new(
        storage: Arc<dyn Storage>,
        shared: Arc<Shared>,
        next: u64,
        found: bool,
    ) -> Self {
        Self {
            storage,
            shared,
            next,
            segment: None,
            scanner: None,
            missed: 0,
            found,
        }
    }

    /// Whether the journal knew the place that the cursor named. When it did not, reading starts with the oldest
    /// record.
    pub fn found(&self) -> bool {
        self.found
    }

    /// Records that were passed over because they were dropped or damaged.
    pub fn missed(&self) -> u64 {
        self.missed
    }

    /// Durable records that are still to be read.
    pub fn lag(&self) -> u64 {
        self.shared.view().durable_end.saturating_sub(self.next)
    }

    /// The next durable record; `None` when there is none yet.
    ///
    /// # Errors
    /// When a file cannot be opened or read. The same call may be tried again.
    #[expect(
        clippy::should_implement_trait,
        reason = "fallible, and None is not the end"
    )]
    pub fn next(&mut self) -> Result<Option<(Position, Vec<u8>)>, JournalError> {
        loop {
            if let Some(record) = self.next_here()? {
                return Ok(Some(record));
            }
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// The next record of the segment that is open.
    fn next_here(&mut self) -> Result<Option<(Position, Vec<u8>)>, JournalError> {
        let (Some(number), Some(scanner)) = (self.segment, &mut self.scanner) else {
            return Ok(None);
        };
        loop {
            let record = scanner.next_record().map_err(|source| {
                let path = self.storage.path(&segment::name(number));
                JournalError::io("read", path)(source)
            })?;
            match record {
                None => return Ok(None),
                Some(frame) if frame.ordinal < self.next => {}
                Some(frame) => {
                    self.missed += frame.ordinal - self.next;
                    self.next = frame.ordinal + 1;
                    let position = Position {
                        incarnation: frame.incarnation,
                        sequence: frame.sequence,
                    };
                    return Ok(Some((position, frame.payload.to_vec())));
                }
            }
        }
    }

    /// Waits until there is something to read. False when the time is over or the journal was closed before.
    pub fn wait(&self, timeout: Duration) -> bool {
        let (view, _) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.view(), timeout, |view| {
                view.durable_end <= self.next && !view.closed
            })
            .unwrap_or_else(PoisonError::into_inner);
        view.durable_end > self.next
    }

    /// Whether the journal was closed: nothing will follow what is durable now.
    pub fn is_closed(&self) -> bool {
        self.shared.view().closed
    }

    /// Finds more to read: the rest of the current segment or the next one.
    fn go_on(&mut self) -> Result<bool, JournalError> {
        let view = self.shared.view();
        let candidate = match self.segment {
            // The last segment that begins at or before the wanted record.
            None => {
                let later = view
                    .segments
                    .partition_point(|s| s.first_ordinal <= self.next);
                later.saturating_sub(1)
            }
            Some(number) => {
                let at = view.segments.partition_point(|s| s.number < number);
                let same = view.segments.get(at).filter(|s| s.number == number);
                if let (Some(same), Some(scanner)) = (same, &mut self.scanner)
                    && !scanner.finished()
                    && scanner.limit() < same.limit
                {
                    scanner.set_limit(same.limit);
                    return Ok(true);
                }
                at + usize::from(same.is_some())
            }
        };
        let found = view.segments.get(candidate).copied();
        let durable_end = view.durable_end;
        drop(view);
        let Some(found) = found else {
            // What the end of the last segment did not give is damaged: it is not waited for.
            self.pass_over(durable_end);
            return Ok(false);
        };
        self.pass_over(found.first_ordinal);
        let name = segment::name(found.number);
        let opened = match self.storage.open(&name, false) {
            Ok(file) => Scanner::open(file, found.limit),
            // Dropped a moment ago, or taken away by somebody: either way what it held is missed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        self.scanner = opened.map_err(JournalError::io("open", self.storage.path(&name)))?;
        self.segment = Some(found.number);
        Ok(true)
    }

    fn pass_over(&mut self, ordinal: u64) {
        self.missed += ordinal.saturating_sub(self.next);
        self.next = self.next.max(ordinal);
    }
}
