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
//! No clock and no socket in here: times come with the packets.

use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Duration;

use extranet_proto::record::{Outcome, Reason};
use tokio::sync::Notify;

use super::locked;
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
}

#[derive(Debug)]
struct State {
    packets: Vec<Packet>,
    duplicates: u64,
    hop_limit: Option<u8>,
}

/// The requests of one run. The run writes departures, whoever reads the socket writes what came back.
#[derive(Debug)]
pub(super) struct Burst {
    /// Where they go.
    pub(super) destination: IpAddr,
    /// How long the payload is, bytes.
    pub(super) payload_bytes: usize,
    packets: u16,
    state: Mutex<State>,
    changed: Notify,
}

/// What became of a burst.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    /// Requests sent, or refused for a reason that lies with the path: like ping, which counts those as sent.
    pub(super) sent: u64,
    /// Replies in time, duplicates not counted.
    pub(super) received: u64,
    /// Replies that came again.
    pub(super) duplicates: u64,
    /// Of the last reply.
    pub(super) hop_limit: Option<u8>,
    /// By request; `None` = no reply, or no round trip known.
    pub(super) round_trips: Vec<Option<Duration>>,
    /// Why nothing came back: of the last request that says why. For a burst without any reply.
    pub(super) refusal: Refusal,
}

impl Burst {
    /// A burst of which nothing was sent yet.
    pub(super) fn new(destination: IpAddr, packets: u16, payload_bytes: u16) -> Self {
        let planned = Packet {
            departure: None,
            fate: Fate::Planned,
        };
        Self {
            destination,
            payload_bytes: usize::from(payload_bytes),
            packets,
            state: Mutex::new(State {
                packets: vec![planned; usize::from(packets)],
                duplicates: 0,
                hop_limit: None,
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
            if let Fate::Answered { .. } = packet.fate {
                state.duplicates += 1;
                return Verdict::Duplicate;
            }
            let Some(departure) = packet.departure else {
                // A reply to what was never sent: its token was guessed or copied.
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
                return Verdict::Late;
            }
            packet.fate = Fate::Answered { round_trip };
            state.hop_limit = answer.hop_limit.or(state.hop_limit);
            match round_trip {
                Some(_) => Verdict::Received,
                None => Verdict::ReceivedAcrossStep,
            }
        });
        self.changed.notify_one();
        verdict.unwrap_or(Verdict::Late)
    }

    /// An error message about a request came, or a reply that does not count. Returns whether it was news.
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

    /// What became of it, as far as is known now.
    pub(super) fn summary(&self) -> Summary {
        let state = locked(&self.state);
        let mut summary = Summary {
            sent: 0,
            received: 0,
            duplicates: state.duplicates,
            hop_limit: state.hop_limit,
            round_trips: Vec::with_capacity(state.packets.len()),
            refusal: Refusal::failed(Reason::Timeout),
        };
        let mut unsent = None;
        for packet in &state.packets {
            let mut sample = None;
            match packet.fate {
                Fate::Planned => {}
                Fate::Sent => summary.sent += 1,
                Fate::Failed(reason) => {
                    summary.sent += 1;
                    summary.refusal = Refusal::failed(reason);
                }
                Fate::Answered { round_trip } => {
                    summary.sent += 1;
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const STEADY: ClockOffset = ClockOffset {
        offset_ns: 5,
        uncertainty_ns: 1,
    };

    fn burst(packets: u16) -> Burst {
        Burst::new(IpAddr::V4(Ipv4Addr::LOCALHOST), packets, 56)
    }

    fn leave(burst: &Burst, index: u16) {
        burst.leaving(
            index,
            Departure {
                real_ns: 1_000_000,
                clock: STEADY,
                allowed: Duration::from_millis(10),
            },
        );
    }

    fn answer(after_us: i64) -> Answer {
        Answer {
            real_ns: 1_000_000 + after_us * 1_000,
            clock: STEADY,
            hop_limit: Some(64),
        }
    }

    #[test]
    fn replies_are_received_duplicate_or_late() {
        let burst = burst(2);
        leave(&burst, 0);
        leave(&burst, 1);
        assert_eq!(burst.answered(0, answer(250)), Verdict::Received);
        assert_eq!(burst.answered(0, answer(300)), Verdict::Duplicate);
        assert_eq!(burst.answered(1, answer(10_001)), Verdict::Late);
        assert_eq!(burst.answered(7, answer(1)), Verdict::Late, "never planned");
        let summary = burst.summary();
        assert_eq!(
            (summary.sent, summary.received, summary.duplicates),
            (2, 1, 1)
        );
        assert_eq!(
            summary.round_trips,
            [Some(Duration::from_micros(250)), None]
        );
        assert_eq!(summary.refusal, Refusal::failed(Reason::Timeout));
        assert_eq!(summary.hop_limit, Some(64));
    }

    #[test]
    fn a_round_trip_across_a_clock_step_is_discarded_but_the_reply_counts() {
        for step_ns in [
            86_400_000_000_000,
            -86_400_000_000_000,
            1_000_000,
            -1_000_000,
        ] {
            let burst = burst(1);
            leave(&burst, 0);
            let mut stepped = answer(250);
            stepped.real_ns += step_ns;
            stepped.clock.offset_ns += step_ns;
            assert_eq!(burst.answered(0, stepped), Verdict::ReceivedAcrossStep);
            let summary = burst.summary();
            assert_eq!(
                (summary.received, &summary.round_trips[..]),
                (1, &[None][..])
            );
        }
    }

    #[test]
    fn a_reply_has_the_last_word() {
        let burst = burst(1);
        leave(&burst, 0);
        assert!(burst.failed(0, Reason::HostUnreachable));
        assert!(
            !burst.failed(0, Reason::Prohibited),
            "the first error stays"
        );
        assert_eq!(
            burst.summary().refusal,
            Refusal::failed(Reason::HostUnreachable)
        );
        assert_eq!(burst.answered(0, answer(9)), Verdict::Received);
        assert!(!burst.failed(0, Reason::HostUnreachable));
        assert_eq!(burst.summary().received, 1);
    }

    #[test]
    fn what_this_machine_refuses_blames_the_target_only_for_the_path() {
        let burst = burst(2);
        burst.refused(0, Refusal::not_measured(Reason::NoAddress));
        let summary = burst.summary();
        assert_eq!(summary.sent, 0);
        assert_eq!(summary.refusal, Refusal::not_measured(Reason::NoAddress));
        burst.refused(1, Refusal::failed(Reason::NetworkUnreachable));
        let summary = burst.summary();
        assert_eq!(summary.sent, 1);
        assert_eq!(summary.refusal, Refusal::failed(Reason::NetworkUnreachable));
    }

    #[tokio::test]
    async fn it_is_settled_when_nothing_more_can_come() {
        let burst = burst(3);
        leave(&burst, 0);
        leave(&burst, 1);
        burst.answered(0, answer(1));
        burst.failed(1, Reason::TimeExceeded);
        assert!(!burst.is_settled(), "the third is still to be sent");
        burst.refused(2, Refusal::failed(Reason::Prohibited));
        burst.settled().await;
    }
}
