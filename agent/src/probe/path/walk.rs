//! Which hop is asked next, and when a trace is over. No clock and no socket in here: times are since its start.
//!
//! ```text
//! Discover --(end known)--> Repeat --(silent tail)--> Far --> done
//!    ^  |                     |                                 ^
//!    |  +--(quotes too short) +---------------------------------+
//!    +-----one by one
//! ```
//!
//! - *Discover* asks each hop once, some at a time, until something says where the path ends: the target answers, a
//!   router refuses, a router answers at three distances (a loop), a row of hops is silent, or there is no higher hop.
//!   The next few hops are only asked when the last few are settled, so that the target gets at most
//!   `parallel` packets for nothing; those count as attempts at the target, which they are.
//! - *Repeat* asks each hop up to the end until it has its attempts, never twice at a time: routers tell about a few
//!   packets and then about one a second.
//! - *Far* asks, behind a silent tail, whether the target itself is there.
//!
//! A packet is lost when it was waited for ([`Walk::patience`]); an answer that comes later still counts. Packets that
//! were not waited for to the end count neither as sent nor as lost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use extranet_proto::record::Reason;

use crate::packet::answer::Said;

/// So many silent hops in a row are a silent tail, as at RIPE Atlas.
const SILENT_TAIL: usize = 5;
/// A router that answers at so many distances forwards in circles.
const LOOP_SIGHTINGS: usize = 3;
/// The time to live with which the target is looked for behind a silent tail; above every hop that can be asked for.
const FAR: u8 = 255;
/// How long the first answer of a run may take: a satellite there and back takes 600 ms, and the kernel asks 3 s for a
/// neighbour before it says that nobody is there.
const FIRST_PATIENCE: Duration = Duration::from_millis(3_500);
/// Once round trips are known: three times the longest and a quarter of a second, since routers answer when they have
/// time; within these limits.
const PATIENCE_MIN: Duration = Duration::from_millis(500);
const PATIENCE_MAX: Duration = Duration::from_secs(3);
const PATIENCE_EXTRA: Duration = Duration::from_millis(250);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    pub(super) first_hop: u8,
    pub(super) max_hop: u8,
    pub(super) attempts: u8,
    /// 1 = one after the other.
    pub(super) parallel: u8,
}

/// An answer to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answer {
    /// Who gave it; `None` = this machine itself, for a neighbour that cannot be found.
    pub(super) from: Option<IpAddr>,
    pub(super) said: Said,
    /// `None` = not known, because the system clock was stepped.
    pub(super) round_trip: Option<Duration>,
}

/// How a trace ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The target answered.
    Arrived,
    /// A router refused.
    Refused(Reason),
    /// Routers answer in circles.
    Loop,
    /// Nobody answers any more, the target neither.
    Silent,
    /// Nobody answers from some hop on, but the target does.
    ArrivedBehindSilence,
    /// The highest hop is a router.
    TooFar,
    /// There was no time left.
    Cut,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A packet is to be sent with this time to live; it is to be known by this index.
    Ask { index: u16, hop: u8 },
    /// Nothing before this time.
    Wait(Duration),
    /// It is over.
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting {
        since: Duration,
    },
    Answered(Answer),
    Lost,
    /// Of a parallel round that told nothing: see [`Walk::go_one_by_one`].
    Void,
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    hop: u8,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Discover { next: u8, last: u8 },
    Repeat,
    Far { left: u8 },
    Over,
}

/// A trace in the making.
#[derive(Debug)]
pub(super) struct Walk {
    extent: Extent,
    packets: Vec<Packet>,
    phase: Phase,
    end: End,
    slowest: Option<Duration>,
    /// Answers that quote too little to say which packet they are about.
    unidentified: usize,
}

/// One hop of a finished trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) hop: u8,
    /// Packets that were answered or waited for.
    pub(super) sent: u64,
    /// Who answered, most answers first.
    pub(super) responders: Vec<Responder>,
}

/// Somebody who answers at a hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Responder {
    pub(super) address: IpAddr,
    pub(super) received: u64,
    pub(super) round_trips: Vec<Duration>,
}

impl Walk {
    pub(super) fn new(extent: Extent) -> Self {
        let first = extent.first_hop;
        Self {
            packets: Vec::new(),
            phase: Phase::Discover {
                next: first,
                last: first
                    .saturating_add(extent.parallel - 1)
                    .min(extent.max_hop),
            },
            extent,
            end: End::Cut,
            slowest: None,
            unidentified: 0,
        }
    }

    /// What is to be done at `now`.
    pub(super) fn next(&mut self, now: Duration) -> Step {
        // Patience may have become shorter with the last answers.
        let patience = self.patience();
        for packet in &mut self.packets {
            if matches!(packet.fate, Fate::Waiting { since } if since + patience <= now) {
                packet.fate = Fate::Lost;
            }
        }
        loop {
            let ask = match self.phase {
                Phase::Discover { next, last } => self.discover(next, last),
                Phase::Repeat => self.repeat(),
                Phase::Far { left } => self.look_far(left),
                Phase::Over => return Step::Done,
            };
            match ask {
                Turn::Ask(hop) => return self.ask(hop, now),
                Turn::Wait => {
                    let since = self.packets.iter().filter_map(|packet| match packet.fate {
                        Fate::Waiting { since } => Some(since),
                        _ => None,
                    });
                    // Whoever waits has something to wait for.
                    return Step::Wait(since.min().unwrap_or(now) + patience);
                }
                Turn::Next => {}
            }
        }
    }

    fn ask(&mut self, hop: u8, now: Duration) -> Step {
        let index = self.packets.len();
        self.packets.push(Packet {
            hop,
            fate: Fate::Waiting { since: now },
        });
        Step::Ask {
            // 64 hops, each asked ten times, three times over: far below.
            index: u16::try_from(index).unwrap_or(u16::MAX),
            hop,
        }
    }

    /// How long an answer is waited for.
    pub(super) fn patience(&self) -> Duration {
        self.slowest.map_or(FIRST_PATIENCE, |slowest| {
            (slowest * 3 + PATIENCE_EXTRA).clamp(PATIENCE_MIN, PATIENCE_MAX)
        })
    }

    fn discover(&mut self, next: u8, last: u8) -> Turn {
        if next <= last {
            self.phase = Phase::Discover {
                next: next + 1,
                last,
            };
            // Already answered: a second look because of short quotes.
            if self.answers(next).next().is_some() {
                return Turn::Next;
            }
            return Turn::Ask(next);
        }
        // What was sent beyond the end need not be waited for.
        let end = self.nearest_end().unwrap_or(FAR);
        if self.waiting().any(|packet| packet.hop <= end) {
            return Turn::Wait;
        }
        if self.unidentified > 0 && self.extent.parallel > 1 {
            self.go_one_by_one();
            return Turn::Next;
        }
        self.phase = match self.found_end(last) {
            Some(end) => {
                self.end = end;
                Phase::Repeat
            }
            None => Phase::Discover {
                next,
                last: last
                    .saturating_add(self.extent.parallel)
                    .min(self.extent.max_hop),
            },
        };
        Turn::Next
    }

    /// Asks again, one hop after the other, those whose answers could not be told apart. What was sent to them says
    /// nothing about loss.
    fn go_one_by_one(&mut self) {
        self.extent.parallel = 1;
        self.unidentified = 0;
        for packet in &mut self.packets {
            if matches!(packet.fate, Fate::Lost | Fate::Waiting { .. }) {
                packet.fate = Fate::Void;
            }
        }
        let first = self.extent.first_hop;
        self.phase = Phase::Discover {
            next: first,
            last: first,
        };
    }

    /// Where and how the path ends, if the hops up to `last` tell.
    fn found_end(&self, last: u8) -> Option<End> {
        if let Some(end) = self.told_end(last) {
            return Some(end);
        }
        if self.goes_in_circles() {
            return Some(End::Loop);
        }
        let silent = (self.extent.first_hop..=last)
            .rev()
            .take_while(|hop| self.answers(*hop).next().is_none())
            .count();
        if silent >= SILENT_TAIL {
            return Some(End::Silent);
        }
        (last >= self.extent.max_hop).then_some(if silent > 0 { End::Silent } else { End::TooFar })
    }

    /// The end that the target or a router told, if it is not beyond `last`.
    fn told_end(&self, last: u8) -> Option<End> {
        if let Some(end) = self.nearest_end().filter(|end| *end <= last) {
            let refusal = self.answers(end).find_map(|answer| match answer.said {
                Said::Refused(reason) => Some(reason),
                Said::Passing | Said::Arrived | Said::TooBig { .. } => None,
            });
            let arrived = self.answers(end).any(|answer| answer.said == Said::Arrived);
            return Some(match refusal {
                Some(reason) if !arrived => End::Refused(reason),
                _ => End::Arrived,
            });
        }
        None
    }

    fn goes_in_circles(&self) -> bool {
        let mut distances: BTreeMap<IpAddr, Vec<u8>> = BTreeMap::new();
        for packet in &self.packets {
            if let Fate::Answered(Answer {
                from: Some(from),
                said: Said::Passing,
                ..
            }) = packet.fate
            {
                let seen = distances.entry(from).or_default();
                if !seen.contains(&packet.hop) {
                    seen.push(packet.hop);
                }
            }
        }
        distances.values().any(|seen| seen.len() >= LOOP_SIGHTINGS)
    }

    fn repeat(&mut self) -> Turn {
        let last = self.last_hop();
        let attempts = usize::from(self.extent.attempts);
        let is_out = |packet: &&Packet| matches!(packet.fate, Fate::Waiting { .. });
        let mut wanted = 0;
        let mut due = None;
        for hop in self.extent.first_hop..=last {
            let of_hop = || self.packets_of(hop, last).filter(|p| p.fate != Fate::Void);
            let (asked, out) = (of_hop().count(), of_hop().filter(is_out).count());
            // Of what went beyond the end no more is waited for than is missing.
            wanted += out.min(attempts.saturating_sub(asked - out));
            if due.is_none() && out == 0 && asked < attempts {
                due = Some(hop);
            }
        }
        match due {
            Some(hop) if wanted < usize::from(self.extent.parallel) => return Turn::Ask(hop),
            _ if wanted > 0 => return Turn::Wait,
            _ => {}
        }
        // What was lost at first may have told now where the path ends.
        if let Some(end) = self.told_end(last) {
            self.end = end;
        }
        self.phase = match self.end {
            End::Silent => Phase::Far {
                left: self.extent.attempts,
            },
            _ => Phase::Over,
        };
        Turn::Next
    }

    fn look_far(&mut self, left: u8) -> Turn {
        if self.hop_saying(|said| said == Said::Arrived).is_some() {
            // A hop that was silent at first may have been the target.
            self.end = match self.nearest_end() {
                Some(_) => End::Arrived,
                None => End::ArrivedBehindSilence,
            };
            self.phase = Phase::Over;
            return Turn::Next;
        }
        let out = self.waiting().any(|packet| packet.hop == FAR);
        let refused = self
            .answers(FAR)
            .any(|answer| matches!(answer.said, Said::Refused(_)));
        match left {
            _ if out => Turn::Wait,
            0 => {
                self.phase = Phase::Over;
                Turn::Next
            }
            _ if refused => {
                self.phase = Phase::Over;
                Turn::Next
            }
            left => {
                self.phase = Phase::Far { left: left - 1 };
                Turn::Ask(FAR)
            }
        }
    }

    /// An answer to a packet of ours came. The first one of each packet counts.
    pub(super) fn answered(&mut self, index: u16, answer: Answer) {
        let Some(packet) = self.packets.get_mut(usize::from(index)) else {
            return;
        };
        if matches!(packet.fate, Fate::Answered(_)) {
            return;
        }
        packet.fate = Fate::Answered(answer);
        self.slowest = self.slowest.max(answer.round_trip);
    }

    /// A packet of ours was waited for elsewhere, and nothing came.
    pub(super) fn lost(&mut self, index: u16) {
        if let Some(packet) = self.packets.get_mut(usize::from(index))
            && matches!(packet.fate, Fate::Waiting { .. })
        {
            packet.fate = Fate::Lost;
        }
    }

    /// An answer came that does not say which packet it is about: known if only one can be meant.
    pub(super) fn answered_unidentified(&mut self) -> Option<u16> {
        let mut waiting = (0_u16..)
            .zip(&self.packets)
            .filter(|(_, packet)| matches!(packet.fate, Fate::Waiting { .. }));
        if let (Some((index, _)), None) = (waiting.next(), waiting.next()) {
            return Some(index);
        }
        self.unidentified += 1;
        None
    }

    /// How it ended.
    pub(super) fn end(&self) -> End {
        if self.phase == Phase::Over || self.end == End::Arrived {
            self.end
        } else {
            End::Cut
        }
    }

    /// The distance of the last hop that answered; 0 = none did.
    pub(super) fn distance(&self) -> u8 {
        let end = self.nearest_end().unwrap_or(FAR);
        let passing = self.packets.iter().filter(|packet| {
            matches!(packet.fate, Fate::Answered(answer) if answer.from.is_some())
                && packet.hop <= end
                && packet.hop <= self.extent.max_hop
        });
        passing.map(|packet| packet.hop).max().unwrap_or(0)
    }

    /// Hop by hop up to the last one that answered, or one more where nobody does from there on.
    pub(super) fn rows(&self) -> Vec<Row> {
        let last = self.last_hop();
        (self.extent.first_hop..=last)
            .map(|hop| {
                let mut row = Row {
                    hop,
                    sent: 0,
                    responders: Vec::new(),
                };
                for packet in self.packets_of(hop, last) {
                    match packet.fate {
                        Fate::Lost => row.sent += 1,
                        Fate::Answered(answer) => {
                            row.sent += 1;
                            row.add(answer);
                        }
                        Fate::Waiting { .. } | Fate::Void => {}
                    }
                }
                row.responders.sort_by_key(|responder| {
                    (std::cmp::Reverse(responder.received), responder.address)
                });
                row
            })
            .collect()
    }

    /// The last hop of interest.
    fn last_hop(&self) -> u8 {
        if let Some(end) = self.nearest_end() {
            return end;
        }
        // One more, to show the silence; not in a circle, where there is always one more.
        let beyond = u8::from(!matches!(self.end, End::TooFar | End::Loop));
        let last = self.distance().max(self.extent.first_hop.saturating_sub(1));
        (last + beyond).min(self.extent.max_hop)
    }

    /// The hop at which the target answered, or else a router refused.
    fn nearest_end(&self) -> Option<u8> {
        self.hop_saying(|said| said == Said::Arrived)
            .or_else(|| self.hop_saying(|said| matches!(said, Said::Refused(_))))
            .filter(|hop| *hop <= self.extent.max_hop)
    }

    fn hop_saying(&self, wanted: impl Fn(Said) -> bool) -> Option<u8> {
        let saying = self
            .packets
            .iter()
            .filter(|packet| matches!(packet.fate, Fate::Answered(answer) if wanted(answer.said)));
        saying.map(|packet| packet.hop).min()
    }

    fn waiting(&self) -> impl Iterator<Item = &Packet> {
        self.packets
            .iter()
            .filter(|packet| matches!(packet.fate, Fate::Waiting { .. }))
    }

    fn answers(&self, hop: u8) -> impl Iterator<Item = Answer> {
        self.packets
            .iter()
            .filter_map(move |packet| match packet.fate {
                Fate::Answered(answer) if packet.hop == hop => Some(answer),
                _ => None,
            })
    }

    /// The packets that were sent to a hop. What went beyond the end of the path ended there.
    fn packets_of(&self, hop: u8, last: u8) -> impl Iterator<Item = &Packet> {
        let beyond = self.nearest_end() == Some(last) && hop == last;
        self.packets
            .iter()
            .filter(move |packet| packet.hop == hop || (beyond && packet.hop > last))
    }
}

enum Turn {
    Ask(u8),
    Wait,
    Next,
}

impl Row {
    fn add(&mut self, answer: Answer) {
        let Some(address) = answer.from else {
            return;
        };
        let known = self
            .responders
            .iter_mut()
            .find(|responder| responder.address == address);
        match known {
            Some(responder) => {
                responder.received += 1;
                responder.round_trips.extend(answer.round_trip);
            }
            None => self.responders.push(Responder {
                address,
                received: 1,
                round_trips: answer.round_trip.into_iter().collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
