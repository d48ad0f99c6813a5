//! The requests of one run and what became of each.
//!
//! ```text
//! Planned -> Sent -> Answered
//!    |        |         ^
//!    |        v         |
//!    |      Failed -----+   (an error message may be forged or outdated: a reply has the last word)
//!    v
//!  Unsent                   (this machine refused)
//! ```
//!
//! What comes after the run has ended is still written in here, and is told with the next run of the check.
//!
//! No clock and no socket in here: times come with the packets.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use extranet_proto::record::{Outcome, Reason};
use tokio::sync::Notify;

use super::locked;
use crate::net::departure::Departing;
use crate::net::refusal::Refusal;
use crate::net::stamp::ClockOffset;

/// When a request left.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure {
    /// By the system clock, ns since 1970, read just before the packet was handed to the kernel.
    pub(super) real_ns: i64,
    /// The system clock against the boot clock at that moment.
    pub(super) clock: ClockOffset,
    /// From here to the deadline of the run: a reply that took longer is late, whenever it is looked at.
    pub(super) allowed: Duration,
}

/// When and how a reply arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    /// By the system clock, ns since 1970, from the kernel.
    pub(super) real_ns: i64,
    /// The system clock against the boot clock when the reply was looked at.
    pub(super) clock: ClockOffset,
    /// Time to live or hop limit of the reply.
    pub(super) hop_limit: Option<u8>,
}

/// What a reply was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// First and in time.
    Received,
    /// First and in time, but the system clock stepped: no round trip.
    ReceivedAcrossStep,
    /// Not the first.
    Duplicate,
    /// After the deadline.
    Late,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Planned,
    Sent,
    Failed(Reason),
    Answered { round_trip: Option<Duration> },
    Unsent(Refusal),
}

#[derive(Debug, Clone, Copy)]
struct Packet {
    departure: Option<Departure>,
    fate: Fate,
    /// Whether a reply came too late.
    late: bool,
}

#[derive(Debug)]
struct State {
    packets: Vec<Packet>,
    /// The run is over: whatever comes now is late.
    ended: bool,
    reordered: u64,
    /// Highest request that was answered.
    highest: Option<u16>,
    hop_limit: Option<u8>,
    errors: u64,
    trouble: Option<Trouble>,
    stragglers: Stragglers,
}

/// What may come at any time, also after the end of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stragglers {
    /// Replies that came again.
    pub(super) duplicates: u64,
    /// Replies that came too late, once each.
    pub(super) late: u64,
    /// All that was received, bytes of IP packets.
    pub(super) received_bytes: u64,
}

impl Stragglers {
    fn and(self, other: Self) -> Self {
        Self {
            duplicates: self.duplicates + other.duplicates,
            late: self.late + other.late,
            received_bytes: self.received_bytes + other.received_bytes,
        }
    }
}

/// An error message about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trouble {
    /// Who sent it.
    pub(super) offender: IpAddr,
    /// Its type.
    pub(super) kind: u8,
    /// Its code.
    pub(super) code: u8,
}

/// The requests of one run. The run writes departures, whoever reads the socket writes what came back.
#[derive(Debug)]
pub(super) struct Burst {
    /// Where they go.
    pub(super) destination: IpAddr,
    /// How long the payload is, bytes.
    pub(super) payload_bytes: usize,
    /// How the requests leave.
    pub(super) departing: Departing,
    packets: u16,
    state: Mutex<State>,
    changed: Notify,
}

/// What became of a burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    /// Requests sent, or refused for a reason that lies with the path: like ping, which counts those as sent.
    pub(super) sent: u64,
    /// Requests that the kernel took.
    pub(super) handed_over: u64,
    /// Requests of which nothing was heard, not even too late.
    pub(super) silent: u64,
    /// Replies in time, duplicates not counted.
    pub(super) received: u64,
    /// Requests that an error message was about.
    pub(super) errors: u64,
    /// The last one.
    pub(super) trouble: Option<Trouble>,
    /// Replies that came after one to a later request (RFC 4737 section 3.3: duplicates do not count).
    pub(super) reordered: u64,
    /// Of this run until now, and of the one before since it was told of.
    pub(super) stragglers: Stragglers,
    /// Of the last reply.
    pub(super) hop_limit: Option<u8>,
    /// By request; `None` = no reply, or no round trip known.
    pub(super) round_trips: Vec<Option<Duration>>,
    /// Why nothing came back: of the last request that says why. For a burst without any reply.
    pub(super) refusal: Refusal,
}

impl Burst {
    /// A burst of which nothing was sent yet.
    pub(super) fn new(
        destination: IpAddr,
        packets: u16,
        payload_bytes: u16,
        departing: Departing,
    ) -> Self {
        let planned = Packet {
            departure: None,
            fate: Fate::Planned,
            late: false,
        };
        Self {
            destination,
            payload_bytes: usize::from(payload_bytes),
            departing,
            packets,
            state: Mutex::new(State {
                packets: vec![planned; usize::from(packets)],
                ended: false,
                reordered: 0,
                highest: None,
                hop_limit: None,
                errors: 0,
                trouble: None,
                stragglers: Stragglers::default(),
            }),
            changed: Notify::new(),
        }
    }

    /// How many requests it is planned to have.
    pub(super) const fn packets(&self) -> u16 {
        self.packets
    }

    /// To be called before the packet is handed to the kernel: the reply may be there before the call returns.
    pub(super) fn leaving(&self, index: u16, departure: Departure) {
        self.with(index, |packet, _| {
            packet.departure = Some(departure);
            packet.fate = Fate::Sent;
        });
    }

    /// The machine refused to send a request.
    pub(super) fn refused(&self, index: u16, refusal: Refusal) {
        self.with(index, |packet, _| packet.fate = Fate::Unsent(refusal));
        self.changed.notify_one();
    }

    /// A reply to a request came.
    pub(super) fn answered(&self, index: u16, answer: Answer) -> Verdict {
        let verdict = self.with(index, |packet, state| {
            let verdict = state.judge(packet, answer);
            match verdict {
                Verdict::Received | Verdict::ReceivedAcrossStep => {
                    if state.highest.is_some_and(|highest| highest > index) {
                        state.reordered += 1;
                    } else {
                        state.highest = Some(index);
                    }
                    state.hop_limit = answer.hop_limit.or(state.hop_limit);
                }
                Verdict::Duplicate => state.stragglers.duplicates += 1,
                Verdict::Late => state.stragglers.late += 1,
            }
            verdict
        });
        self.changed.notify_one();
        verdict.unwrap_or(Verdict::Late)
    }

    /// Bytes of IP packets were received because of this burst.
    pub(super) fn received_bytes(&self, bytes: u64) {
        locked(&self.state).stragglers.received_bytes += bytes;
    }

    /// A reply came that does not count. Returns whether its request was still waiting.
    pub(super) fn failed(&self, index: u16, reason: Reason) -> bool {
        let news = self.with(index, |packet, _| {
            let waiting = matches!(packet.fate, Fate::Sent);
            if waiting {
                packet.fate = Fate::Failed(reason);
            }
            waiting
        });
        self.changed.notify_one();
        news.unwrap_or(false)
    }

    /// An error message about a request came. Returns whether its request was still waiting.
    pub(super) fn troubled(&self, index: u16, reason: Reason, trouble: Trouble) -> bool {
        let news = self.failed(index, reason);
        if news {
            let mut state = locked(&self.state);
            state.errors += 1;
            state.trouble = Some(trouble);
        }
        news
    }

    /// The run is over: what came since it was told of last. To be called once, with [`Burst::summary`] before.
    pub(super) fn take_stragglers(&self) -> Stragglers {
        std::mem::take(&mut locked(&self.state).stragglers)
    }

    /// Returns when nothing more is to come: every request was answered, failed or refused. Cancel safe.
    pub(super) async fn settled(&self) {
        while !self.is_settled() {
            self.changed.notified().await;
        }
    }

    fn is_settled(&self) -> bool {
        locked(&self.state)
            .packets
            .iter()
            .all(|packet| !matches!(packet.fate, Fate::Planned | Fate::Sent))
    }

    /// What became of it. Ends the run; `before` is what came of the run before this one since its end.
    pub(super) fn summary(&self, before: Stragglers) -> Summary {
        let stragglers = self.take_stragglers().and(before);
        let mut state = locked(&self.state);
        state.ended = true;
        let mut summary = Summary {
            sent: 0,
            handed_over: 0,
            silent: 0,
            received: 0,
            errors: state.errors,
            trouble: state.trouble,
            reordered: state.reordered,
            stragglers,
            hop_limit: state.hop_limit,
            round_trips: Vec::with_capacity(state.packets.len()),
            refusal: Refusal::failed(Reason::Timeout),
        };
        let mut unsent = None;
        for packet in &state.packets {
            let mut sample = None;
            match packet.fate {
                Fate::Planned => {}
                Fate::Sent => {
                    summary.handed_over += 1;
                    summary.silent += u64::from(!packet.late);
                }
                Fate::Failed(reason) => {
                    summary.handed_over += 1;
                    summary.refusal = Refusal::failed(reason);
                }
                Fate::Answered { round_trip } => {
                    summary.handed_over += 1;
                    summary.received += 1;
                    sample = round_trip;
                }
                Fate::Unsent(refusal) if refusal.outcome == Outcome::Failed => {
                    summary.sent += 1;
                    summary.refusal = refusal;
                }
                Fate::Unsent(refusal) => unsent = Some(refusal),
            }
            summary.round_trips.push(sample);
        }
        summary.sent += summary.handed_over;
        // Only a burst of which nothing at all could be sent says nothing about the target.
        if summary.sent == 0 {
            summary.refusal = unsent.unwrap_or(Refusal::not_measured(Reason::LocalError));
        }
        summary
    }

    fn with<T>(&self, index: u16, change: impl FnOnce(&mut Packet, &mut State) -> T) -> Option<T> {
        let mut state = locked(&self.state);
        let mut packet = *state.packets.get(usize::from(index))?;
        let result = change(&mut packet, &mut state);
        if let Some(place) = state.packets.get_mut(usize::from(index)) {
            *place = packet;
        }
        Some(result)
    }
}

impl State {
    fn judge(&self, packet: &mut Packet, answer: Answer) -> Verdict {
        if packet.late || matches!(packet.fate, Fate::Answered { .. }) {
            return Verdict::Duplicate;
        }
        let Some(departure) = packet.departure.filter(|_| !self.ended) else {
            // Without a departure it is a reply to what was never sent: its token was guessed or copied.
            packet.late = packet.departure.is_some();
            return Verdict::Late;
        };
        let stepped = departure.clock.stepped_until(answer.clock);
        // The kernel's clock and ours are one, so without a step a negative round trip cannot be; it would be no
        // measurement either.
        let round_trip = u64::try_from(answer.real_ns.saturating_sub(departure.real_ns))
            .ok()
            .filter(|_| !stepped)
            .map(Duration::from_nanos);
        if round_trip.is_some_and(|round_trip| round_trip > departure.allowed) {
            packet.late = true;
            return Verdict::Late;
        }
        packet.fate = Fate::Answered { round_trip };
        match round_trip {
            Some(_) => Verdict::Received,
            None => Verdict::ReceivedAcrossStep,
        }
    }
}

impl Summary {
    /// Takes back what this machine may have lost itself: so many packets were dropped by the receive queue while the
    /// run was going on, and any of them may have been a reply to it. The path is not blamed for those.
    pub(super) fn forgive(&mut self, dropped: u64) {
        let forgiven = dropped.min(self.silent);
        self.silent -= forgiven;
        self.sent -= forgiven;
        if self.sent == 0 && forgiven > 0 {
            self.refusal = Refusal::not_measured(Reason::LocalError);
        }
    }
}

#[cfg(test)]
mod tests;
