//! One socket with its desk, and the task that reads what comes back.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use extranet_proto::assignment::Family;
use extranet_proto::record::{Outcome, Reason};
use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

use super::burst::{Answer, Burst, Departure, Stragglers};
use super::counts::Counters;
use super::desk::{Desk, Scratch};
use super::locked;
use super::token::Tokens;
use crate::net::icmp_socket::{IcmpSocket, ReceiveBuffer, Received, Way};
use crate::net::refusal::Refusal;
use crate::net::stamp::PacketClock;

/// Messages read in one go, so that a flood does not keep the thread from its other tasks.
const DRAIN_LIMIT: usize = 512;
/// Errors of reading that are passed over in one go: the kernel tells each one it kept once, so more than these few mean
/// a socket that is broken for good, which must not be read in a circle.
const KEPT_ERRORS: usize = 16;
/// How often a request is tried: an error of the call may be what the kernel kept of another packet's ICMP error.
/// It is gone once told, and with the error queue read in between, a second one needs another such packet just then.
const SEND_ATTEMPTS: usize = 4;
/// How often a full send queue is waited for, and how long each time.
const FULL_QUEUE_WAITS: usize = 20;
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(1);

/// A socket with everything that belongs to it.
#[derive(Debug)]
pub(super) struct Port {
    socket: AsyncFd<IcmpSocket>,
    desk: Desk,
    inbox: Mutex<Inbox>,
    /// How many packets the kernel has dropped from the receive queue, as far as it told.
    overflowed: AtomicU64,
    clock: PacketClock,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Inbox {
    buffer: ReceiveBuffer,
    /// Last reading of the kernel's counter, which wraps.
    overflow: u32,
}

/// A burst in the table; out of it again when this is dropped, also when the run is cancelled. It is kept beyond the
/// end of its run, for what comes late.
#[derive(Debug)]
pub(super) struct Registered {
    port: Arc<Port>,
    burst: Arc<Burst>,
    first_id: u64,
    overflowed_before: u64,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.port.desk.forget(self.first_id);
    }
}

impl Port {
    /// Opens the socket. Must be called within a Tokio runtime.
    pub(super) fn open(
        family: Family,
        way: &Way,
        clock: PacketClock,
        counters: Arc<Counters>,
    ) -> Result<Self, Refusal> {
        let socket = IcmpSocket::open(family, way)?;
        let interest = Interest::READABLE | Interest::ERROR;
        #[expect(
            deprecated,
            reason = "its successor is unsafe and asks for what `IcmpSocket` is: the owner of one descriptor that \
                      never changes"
        )]
        let socket = AsyncFd::with_interest(socket, interest)
            .map_err(|_| Refusal::not_measured(Reason::LocalError))?;
        let unverified = socket.get_ref().delivers_unverified();
        Ok(Self {
            socket,
            desk: Desk::new(family, unverified, Tokens::new(), Arc::clone(&counters)),
            inbox: Mutex::new(Inbox {
                buffer: ReceiveBuffer::new(),
                overflow: 0,
            }),
            overflowed: AtomicU64::new(0),
            clock,
            counters,
        })
    }

    /// Reads what comes back until the other end of `open` is dropped.
    pub(super) async fn read_until_closed(
        self: Arc<Self>,
        mut open: watch::Receiver<()>,
    ) -> io::Result<()> {
        loop {
            let mut ready = tokio::select! {
                ready = self.socket.ready(Interest::READABLE | Interest::ERROR) => ready?,
                // Nothing is ever sent: this returns when the sender is gone.
                _ = open.changed() => return Ok(()),
            };
            if self.drain() {
                tokio::task::yield_now().await;
            } else {
                ready.clear_ready();
            }
        }
    }

    /// Puts a burst into the table and gives its packets their ids.
    pub(super) fn register(self: &Arc<Self>, burst: Arc<Burst>) -> Registered {
        let first_id = self.desk.register(&burst);
        Registered {
            port: Arc::clone(self),
            burst,
            first_id,
            overflowed_before: self.overflowed.load(Ordering::Relaxed),
        }
    }

    /// Reads both queues of the socket. Returns whether there may be more.
    pub(super) fn drain(&self) -> bool {
        let mut inbox = locked(&self.inbox);
        // Errors first: reading them also clears the error that the kernel keeps for the next call.
        let more_errors = self.drain_errors(&mut inbox);
        self.drain_messages(&mut inbox) || more_errors
    }

    fn drain_errors(&self, inbox: &mut Inbox) -> bool {
        let mut kept = 0;
        for _ in 0..DRAIN_LIMIT {
            match self.socket.get_ref().receive_error(&mut inbox.buffer) {
                Ok(Received::Item(report)) => self.desk.error(&report),
                Ok(Received::Skipped) => {}
                Ok(Received::Empty) => return false,
                Err(_) if kept == KEPT_ERRORS => return false,
                Err(_) => kept += 1,
            }
        }
        true
    }

    fn drain_messages(&self, inbox: &mut Inbox) -> bool {
        let mut kept = 0;
        for _ in 0..DRAIN_LIMIT {
            let arrival = match self.socket.get_ref().receive(&mut inbox.buffer) {
                Ok(Received::Item(arrival)) => arrival,
                Ok(Received::Skipped) => {
                    self.counters.malformed.one();
                    continue;
                }
                Ok(Received::Empty) => return false,
                Err(_) if kept == KEPT_ERRORS => return false,
                Err(_) => {
                    kept += 1;
                    continue;
                }
            };
            if let Some(overflow) = arrival.overflow {
                let dropped = overflow.wrapping_sub(inbox.overflow);
                inbox.overflow = overflow;
                self.overflowed.fetch_add(dropped.into(), Ordering::Relaxed);
                self.counters.overflowed.add(dropped.into());
            }
            // Read after the kernel's timestamp: a step in between is seen here.
            let clock = self.clock.offset();
            let real_ns = arrival
                .real_ns
                .map_or_else(|| self.clock.real_ns(), |ns| self.clock.shifted(ns));
            let answer = Answer {
                real_ns,
                clock,
                hop_limit: arrival.hop_limit,
            };
            self.desk.message(arrival.from, arrival.message, answer);
        }
        true
    }

    fn try_send(&self, packet: &[u8], burst: &Burst, index: u16, patience: Patience) -> Attempt {
        let allowed = patience.from(Instant::now());
        let clock = self.clock.offset();
        // The very last thing before the packet is handed over is to read the time.
        let departure = Departure {
            real_ns: self.clock.real_ns(),
            clock,
            allowed,
        };
        burst.leaving(index, departure);
        let socket = self.socket.get_ref();
        match socket.send(packet, burst.destination, &burst.departing) {
            Ok(()) => Attempt::Sent,
            Err(Errno::EAGAIN | Errno::ENOBUFS) => Attempt::QueueFull,
            Err(errno) => Attempt::Refused(errno),
        }
    }
}

/// How long a reply is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Patience {
    /// Until the end of the run.
    Until(Instant),
    /// So long after its request left.
    For(Duration),
}

impl Patience {
    fn from(self, now: Instant) -> Duration {
        match self {
            Self::Until(deadline) => deadline.saturating_duration_since(now),
            Self::For(duration) => duration,
        }
    }
}

enum Attempt {
    Sent,
    QueueFull,
    Refused(Errno),
}

impl Registered {
    /// Sends one request of the burst. What comes of it is written into the burst.
    pub(super) async fn send(&self, index: u16, patience: Patience, scratch: &mut Scratch) {
        let port = &self.port;
        let burst = &self.burst;
        let id = self.first_id + u64::from(index);
        port.desk.write_request(id, burst.payload_bytes, scratch);

        let (mut attempts, mut waits) = (0, 0);
        let refusal = loop {
            match port.try_send(&scratch.packet, burst, index, patience) {
                Attempt::Sent => return port.counters.sent.one(),
                Attempt::QueueFull if waits == FULL_QUEUE_WAITS => {
                    break Refusal::not_measured(Reason::LocalError);
                }
                Attempt::QueueFull => {
                    waits += 1;
                    tokio::time::sleep(FULL_QUEUE_WAIT).await;
                }
                Attempt::Refused(errno) => {
                    attempts += 1;
                    if attempts == SEND_ATTEMPTS {
                        break refusal(errno, burst);
                    }
                    port.drain();
                }
            }
        };
        if refusal.outcome == Outcome::NotMeasured {
            port.counters.refused.one();
        }
        burst.refused(index, refusal);
    }

    /// A request is not sent, because its time has passed.
    pub(super) fn leave_out(&self, index: u16) {
        let late = Refusal::not_measured(Reason::LocalError);
        self.port.counters.refused.one();
        self.burst.refused(index, late);
    }

    /// Reads what has arrived but was not looked at yet.
    pub(super) fn catch_up(&self) {
        while self.port.drain() {}
    }

    /// How many packets the receive queue has dropped since this was registered: any of them may have been a reply.
    pub(super) fn overflowed(&self) -> u64 {
        let now = self.port.overflowed.load(Ordering::Relaxed);
        now.saturating_sub(self.overflowed_before)
    }

    /// What has come of the burst since it was told of last.
    pub(super) fn take_stragglers(&self) -> Stragglers {
        self.burst.take_stragglers()
    }
}

/// What the kernel's refusal means for this burst.
fn refusal(errno: Errno, burst: &Burst) -> Refusal {
    match (errno, burst.departing.source) {
        // That the source address is not ours it says in various ways, depending on family and version; who tries to
        // bind it gets a clear answer.
        (Errno::EINVAL | Errno::ENETUNREACH | Errno::EADDRNOTAVAIL, Some(source))
            if UdpSocket::bind((source, 0)).is_err() =>
        {
            Refusal::not_measured(Reason::NoAddress)
        }
        (errno, _) => Refusal::of(errno),
    }
}
