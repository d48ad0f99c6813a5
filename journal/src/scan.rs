//! Reads the frames of one file in order and steps over damage.
//!
//! Where a frame is not what its CRC says, the scanner looks at every later offset for the next frame that is: with
//! the right seed, an index that is possible there and a matching CRC. Whole records between are lost, no others; the
//! jump of the index says how many.

use std::io;

use crate::frame::{self, FRAME_LEN, FrameHead, HEADER_LEN, Header, Kind};
use crate::storage::File;

/// Least read from a file at once, bytes (guess: a few hundred records).
const WINDOW_BYTES: usize = 64 << 10;
/// A window that a large record made grow is given back above this, bytes.
const WINDOW_BYTES_KEPT: usize = 1 << 20;
/// Bytes whose CRC is computed while looking for the end of one damaged place. Damage that looks like ever new long
/// frames must not cost hours; what follows it then counts as damaged too.
const SEARCH_BYTES_MAX: usize = 256 << 20;
/// The kernel's number for an unreadable block, on every Linux.
const EIO: i32 = 5;
/// Granularity of unreadable places, bytes.
const BLOCK_BYTES: u64 = 4096;

/// A frame that was read whole.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) kind: Kind,
    /// Of a record: its ordinal. Of others: that of the record to come.
    pub(crate) ordinal: u64,
    /// Incarnation in force.
    pub(crate) incarnation: u64,
    /// Of a record: its sequence.
    pub(crate) sequence: u64,
    /// Journal's age when it was written, milliseconds.
    pub(crate) age_ms: u64,
    pub(crate) payload: &'a [u8],
}

#[derive(Debug)]
pub(crate) struct Scanner {
    file: Box<dyn File>,
    header: Header,
    /// Nothing is read from here on.
    limit: u64,
    /// After the last good frame.
    offset: u64,
    /// Least index that a frame may have.
    index: u32,
    incarnation: u64,
    incarnation_start: u64,
    /// Seeds of frames that are records, and of others.
    record_seed: u32,
    other_seed: u32,
    /// A footer was met: nothing follows.
    finished: bool,
    window: Vec<u8>,
    window_offset: u64,
}

impl Scanner {
    /// Reads the header; `None` when neither copy is good. Frames are read up to `limit` or the end of the file.
    pub(crate) fn open(file: Box<dyn File>, limit: u64) -> io::Result<Option<Self>> {
        let mut head = [0; HEADER_LEN];
        // With less than both copies there is no record either.
        let whole = read_exact_at(file.as_ref(), &mut head, 0)?;
        let header = if whole { Header::decode(&head) } else { None };
        let Some(header) = header else {
            return Ok(None);
        };
        Ok(Some(Self {
            limit,
            offset: HEADER_LEN as u64,
            index: 0,
            incarnation: header.incarnation,
            incarnation_start: header.incarnation_start,
            record_seed: frame::seed(header.salt, header.incarnation),
            other_seed: frame::seed(header.salt, 0),
            finished: false,
            window: Vec::new(),
            window_offset: 0,
            file,
            header,
        }))
    }

    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// After the last good frame.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn into_file(self) -> Box<dyn File> {
        self.file
    }

    /// Whether the footer was reached.
    pub(crate) fn finished(&self) -> bool {
        self.finished
    }

    /// Least ordinal that the next record can have.
    pub(crate) fn next_ordinal(&self) -> u64 {
        self.header.first_ordinal + u64::from(self.index)
    }

    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// The file grew: frames may be read up to here.
    pub(crate) fn set_limit(&mut self, limit: u64) {
        self.limit = self.limit.max(limit);
    }

    /// The next good frame; `None` when there is none before the limit.
    pub(crate) fn next_frame(&mut self) -> io::Result<Option<Frame<'_>>> {
        let found = self.advance()?;
        Ok(found.map(|(at, head)| self.frame(at, head)))
    }

    /// The next record, skipping other frames.
    pub(crate) fn next_record(&mut self) -> io::Result<Option<Frame<'_>>> {
        loop {
            match self.advance()? {
                None => return Ok(None),
                Some((at, head)) if head.kind == Kind::Record => {
                    return Ok(Some(self.frame(at, head)));
                }
                Some(_) => {}
            }
        }
    }

    /// Steps over the next good frame and leaves it in the window.
    fn advance(&mut self) -> io::Result<Option<(u64, FrameHead)>> {
        if self.finished || self.offset >= self.limit {
            return Ok(None);
        }
        let mut budget = SEARCH_BYTES_MAX;
        let found = match self.frame_at(self.offset, &mut budget)? {
            Some(head) => Some((self.offset, head)),
            None => self.search(&mut budget)?,
        };
        let Some((at, head)) = found else {
            return Ok(None);
        };
        self.offset = at + (FRAME_LEN + head.len) as u64;
        self.index = head.index;
        match head.kind {
            Kind::Record => self.index += 1,
            Kind::Incarnation if head.len == 8 => {
                let payload = self.window_start(at) + FRAME_LEN;
                self.incarnation = frame::u64_at(&self.window, payload);
                self.incarnation_start = self.header.first_ordinal + u64::from(head.index);
                self.record_seed = frame::seed(self.header.salt, self.incarnation);
            }
            Kind::Footer => self.finished = true,
            _ => {}
        }
        Ok(Some((at, head)))
    }

    fn frame(&self, at: u64, head: FrameHead) -> Frame<'_> {
        let ordinal = self.header.first_ordinal + u64::from(head.index);
        let start = self.window_start(at) + FRAME_LEN;
        Frame {
            kind: head.kind,
            ordinal,
            incarnation: self.incarnation,
            sequence: ordinal.saturating_sub(self.incarnation_start),
            age_ms: self.header.age_ms + u64::from(head.age),
            payload: &self.window[start..start + head.len],
        }
    }

    /// Where in the window an offset is that `fill` put there.
    fn window_start(&self, at: u64) -> usize {
        usize::try_from(at - self.window_offset).expect("the window is in memory")
    }

    /// Looks for the next good frame after a bad place.
    fn search(&mut self, budget: &mut usize) -> io::Result<Option<(u64, FrameHead)>> {
        let mut at = self.offset + 1;
        while at + FRAME_LEN as u64 <= self.limit && *budget > 0 {
            if let Some(head) = self.frame_at(at, budget)? {
                return Ok(Some((at, head)));
            }
            at += 1;
        }
        Ok(None)
    }

    /// The frame at an offset if there is a good one; it is in the window then.
    fn frame_at(&mut self, at: u64, budget: &mut usize) -> io::Result<Option<FrameHead>> {
        if !self.fill(at, FRAME_LEN)? {
            return Ok(None);
        }
        let start = self.window_start(at);
        let Some(head) = FrameHead::decode(&self.window[start..start + FRAME_LEN]) else {
            return Ok(None);
        };
        // Between the last good frame and here there is room for so many records only.
        let most = u64::from(self.index) + (at - self.offset) / FRAME_LEN as u64;
        if head.index < self.index || u64::from(head.index) > most {
            return Ok(None);
        }
        let frame_len = FRAME_LEN + head.len;
        *budget = budget.saturating_sub(frame_len);
        if !self.fill(at, frame_len)? {
            return Ok(None);
        }
        let start = self.window_start(at);
        let seed = if head.kind == Kind::Record {
            self.record_seed
        } else {
            self.other_seed
        };
        let good = head.matches(seed, &self.window[start..start + frame_len]);
        Ok(good.then_some(head))
    }

    /// Makes the window hold these bytes; false when they are not all there.
    fn fill(&mut self, at: u64, len: usize) -> io::Result<bool> {
        let end = at + len as u64;
        if end > self.limit {
            return Ok(false);
        }
        if at >= self.window_offset && end <= self.window_offset + self.window.len() as u64 {
            return Ok(true);
        }
        let room = usize::try_from(self.limit - at).unwrap_or(usize::MAX);
        let want = len.max(WINDOW_BYTES).min(room);
        if self.window.capacity() > WINDOW_BYTES_KEPT && want <= WINDOW_BYTES {
            self.window = Vec::new();
        }
        self.window.clear();
        self.window.resize(want, 0);
        self.window_offset = at;
        let mut have = 0;
        while have < want {
            match self
                .file
                .read_at(&mut self.window[have..], at + have as u64)
            {
                Ok(0) => break,
                Ok(more) => have += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // A bad block is damage like any other: the search goes on behind it.
                Err(error) if error.raw_os_error() == Some(EIO) => {
                    let block_end = ((at + have as u64) / BLOCK_BYTES + 1) * BLOCK_BYTES;
                    have = usize::try_from(block_end - at).map_or(want, |next| next.min(want));
                }
                Err(error) => {
                    self.window.clear();
                    return Err(error);
                }
            }
        }
        self.window.truncate(have);
        Ok(have >= len)
    }
}

/// False at the end of the file or where the disk cannot read: both mean that there is nothing to go by.
pub(crate) fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset + have as u64) {
            Ok(0) => return Ok(false),
            Ok(more) => have += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(EIO) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
