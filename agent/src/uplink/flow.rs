//! What has to be sent on one stream and what was: bookkeeping without I/O.
//!
//! Live records are those of this process since the stream began; they go in their order. Everything older that waits
//! is backlog and goes newest first, in chunks that adapt to the size of a message. Both lanes have a window of
//! batches without an acknowledgement, so that a collector that does not keep up holds neither memory nor the line.

use std::collections::VecDeque;
use std::time::Duration;

use extranet_proto::id::Incarnation;
use extranet_proto::ranges::RangeSet;
use extranet_proto::session::{IncarnationRange, Lane};
use tokio::time::Instant;

/// Live batches without an acknowledgement. A guess: half an hour of a village's flushes.
const LIVE_WINDOW: usize = 32;
/// Backlog batches without an acknowledgement: hides the round trip of a satellite link at 8 KiB each.
const BACKLOG_WINDOW: usize = 8;
/// Records of the first backlog chunk; adapts from there.
const BACKLOG_RECORDS: u64 = 256;
/// Most records of a backlog chunk.
const BACKLOG_RECORDS_MAX: u64 = 8_192;

/// A batch that was sent.
#[derive(Debug)]
struct InFlight {
    lane: Lane,
    incarnation: Incarnation,
    /// What of it is still without an acknowledgement.
    open: RangeSet,
    sent: Instant,
}

/// The state of one stream.
#[derive(Debug)]
pub(super) struct Flow {
    incarnation: Incarnation,
    /// Next live record to send.
    live_next: u64,
    /// Oldest incarnation first.
    backlog: Vec<(Incarnation, RangeSet)>,
    backlog_records: u64,
    in_flight: VecDeque<InFlight>,
}

impl Flow {
    /// A stream begins: `waiting` is backlog, everything from `live_next` on is live.
    pub(super) fn new(
        incarnation: Incarnation,
        live_next: u64,
        waiting: &[IncarnationRange],
    ) -> Self {
        let mut backlog: Vec<(Incarnation, RangeSet)> = Vec::new();
        for range in waiting {
            match backlog.last_mut() {
                Some((last, set)) if *last == range.incarnation => {
                    set.insert(range.from_inclusive, range.to_exclusive);
                }
                _ => {
                    let mut set = RangeSet::default();
                    set.insert(range.from_inclusive, range.to_exclusive);
                    backlog.push((range.incarnation, set));
                }
            }
        }
        Self {
            incarnation,
            live_next,
            backlog,
            backlog_records: BACKLOG_RECORDS,
            in_flight: VecDeque::new(),
        }
    }

    /// Nobody needs these any more.
    pub(super) fn forget(&mut self, range: &IncarnationRange) {
        for (incarnation, set) in &mut self.backlog {
            if *incarnation == range.incarnation {
                set.remove(range.from_inclusive, range.to_exclusive);
            }
        }
        self.backlog.retain(|(_, set)| !set.is_empty());
    }

    /// Live records up to `to_exclusive` that may be sent now.
    pub(super) fn live(&self, to_exclusive: u64) -> Option<IncarnationRange> {
        let open = self.in_flight_in(Lane::Live) < LIVE_WINDOW;
        (open && self.live_next < to_exclusive).then_some(IncarnationRange {
            incarnation: self.incarnation,
            from_inclusive: self.live_next,
            to_exclusive,
        })
    }

    /// Backlog that may be sent now: the newest chunk.
    pub(super) fn backlog(&self) -> Option<IncarnationRange> {
        if self.in_flight_in(Lane::Backlog) >= BACKLOG_WINDOW {
            return None;
        }
        let (incarnation, set) = self.backlog.last()?;
        let newest = set.iter().last()?;
        Some(IncarnationRange {
            incarnation: *incarnation,
            from_inclusive: newest
                .start
                .max(newest.end.saturating_sub(self.backlog_records)),
            to_exclusive: newest.end,
        })
    }

    /// What was asked for was read: `sent` went out (possibly nothing), everything wanted below `covered` is dealt
    /// with.
    pub(super) fn sent(
        &mut self,
        lane: Lane,
        wanted: &IncarnationRange,
        sent: &IncarnationRange,
        covered_to_exclusive: u64,
        now: Instant,
    ) {
        match lane {
            Lane::Live => self.live_next = self.live_next.max(covered_to_exclusive),
            Lane::Backlog => self.forget(&IncarnationRange {
                to_exclusive: covered_to_exclusive,
                ..*wanted
            }),
        }
        if sent.count() > 0 {
            let mut open = RangeSet::default();
            open.insert(sent.from_inclusive, sent.to_exclusive);
            self.in_flight.push_back(InFlight {
                lane,
                incarnation: sent.incarnation,
                open,
                sent: now,
            });
        }
    }

    /// Learns from a backlog message: `used` of `limit` bytes for `count` of `wanted` records.
    pub(super) fn adapt(&mut self, used: usize, limit: usize, count: u64, wanted: u64) {
        if count > 0 && count < wanted {
            self.backlog_records = count;
        } else if used < limit / 2 {
            self.backlog_records = (self.backlog_records * 2).min(BACKLOG_RECORDS_MAX);
        }
    }

    /// The collector settled these.
    pub(super) fn settled(&mut self, range: &IncarnationRange) {
        for batch in &mut self.in_flight {
            if batch.incarnation == range.incarnation {
                batch.open.remove(range.from_inclusive, range.to_exclusive);
            }
        }
        self.in_flight.retain(|batch| !batch.open.is_empty());
    }

    /// Whether every batch sent was acknowledged.
    pub(super) fn nothing_in_flight(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// When the oldest batch without an acknowledgement will have waited so long.
    pub(super) fn ack_deadline(&self, timeout: Duration) -> Option<Instant> {
        self.in_flight.front().map(|batch| batch.sent + timeout)
    }

    fn in_flight_in(&self, lane: Lane) -> usize {
        self.in_flight
            .iter()
            .filter(|batch| batch.lane == lane)
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: Incarnation = Incarnation(7);
    const NOW: Incarnation = Incarnation(9);

    fn range(incarnation: Incarnation, from: u64, to: u64) -> IncarnationRange {
        IncarnationRange {
            incarnation,
            from_inclusive: from,
            to_exclusive: to,
        }
    }

    #[tokio::test]
    async fn backlog_goes_newest_first_and_skips_what_is_held() {
        let waiting = [range(OLD, 0, 1_000), range(NOW, 0, 10), range(NOW, 20, 30)];
        let mut flow = Flow::new(NOW, 30, &waiting);
        flow.forget(&range(NOW, 22, 30));
        let mut order = Vec::new();
        while let Some(want) = flow.backlog() {
            order.push((want.incarnation.0, want.from_inclusive, want.to_exclusive));
            flow.sent(
                Lane::Backlog,
                &want,
                &want,
                want.to_exclusive,
                Instant::now(),
            );
            flow.settled(&want);
        }
        assert_eq!(
            order,
            [
                (9, 20, 22),
                (9, 0, 10),
                (7, 744, 1_000),
                (7, 488, 744),
                (7, 232, 488),
                (7, 0, 232)
            ]
        );
        assert!(flow.nothing_in_flight());
    }

    #[tokio::test]
    async fn a_chunk_that_did_not_fit_is_finished_before_older_ones() {
        let mut flow = Flow::new(NOW, 0, &[range(OLD, 0, 1_000)]);
        let want = flow.backlog().unwrap();
        let sent = range(OLD, 744, 800);
        flow.sent(Lane::Backlog, &want, &sent, 800, Instant::now());
        flow.adapt(8_000, 8_192, 56, 256);
        assert_eq!(flow.backlog(), Some(range(OLD, 944, 1_000)));
    }

    #[tokio::test]
    async fn windows_close_and_open_with_acknowledgements() {
        let mut flow = Flow::new(NOW, 0, &[]);
        for i in 0..LIVE_WINDOW as u64 {
            let want = flow.live(i + 1).unwrap();
            flow.sent(Lane::Live, &want, &want, i + 1, Instant::now());
        }
        assert_eq!(flow.live(1_000), None, "the window is closed");
        flow.settled(&range(OLD, 0, 1_000));
        assert_eq!(flow.live(1_000), None, "another incarnation opens nothing");
        flow.settled(&range(NOW, 3, 5));
        assert_eq!(
            flow.live(1_000),
            Some(range(NOW, LIVE_WINDOW as u64, 1_000))
        );
        assert!(flow.ack_deadline(Duration::ZERO).is_some());
    }
}
