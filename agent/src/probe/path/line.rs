//! The socket of a run with all that belongs to it: what was sent when, what comes back, what it costs.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use extranet_proto::assignment::{Family, PathProbe, PathTransport};
use extranet_proto::record::Reason;
use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::flow;
use crate::net::path_socket::PathSocket;
use crate::net::receive::{Origin, ReceiveBuffer, Received};
use crate::net::refusal::Refusal;
use crate::net::stamp::{ClockOffset, real_ns};
use crate::packet::answer::{Answer, Flow, Said, Trouble};
use crate::packet::icmp::{self, Echo};
use crate::packet::ipv4;
use crate::packet::mark::{MARK_BYTES, Mark, add_words};
use crate::probe::{Run, Traffic};

/// Bytes of the header of IP, without options and extensions.
pub(super) const fn header_bytes(family: Family) -> u16 {
    match family {
        Family::V4 => 20,
        Family::V6 => 40,
    }
}

/// Bytes of the header of ICMP echo, of UDP, and of an ICMP error message.
pub(super) const INNER_HEADER_BYTES: u16 = 8;
/// Packets read in one go, so that a flood does not keep the thread from its other tasks.
const DRAIN_LIMIT: usize = 256;
/// Errors of reading that are passed over in one go: the kernel tells each one it kept once.
const KEPT_ERRORS: usize = 16;
/// How often a packet is tried: an error of the call may be what the kernel kept of another packet's ICMP error.
const SEND_ATTEMPTS: usize = 4;
/// How often a full send queue is waited for, and how long each time.
const FULL_QUEUE_WAITS: usize = 20;
const FULL_QUEUE_WAIT: Duration = Duration::from_millis(1);

/// Something that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Event {
    /// Which packet it is about; `None` = it does not tell.
    pub(super) index: Option<u16>,
    /// Who sent it; `None` = this machine.
    pub(super) from: Option<IpAddr>,
    pub(super) said: Said,
    /// When the kernel had it, ns since 1970, and the clocks when it was looked at.
    arrival: (i64, ClockOffset),
}

/// Why a packet was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotSent {
    /// It is larger than the MTU of the device, bytes; `None` = the kernel did not say how large that is.
    TooLarge(Option<u16>),
    /// For good.
    Refused(Refusal),
}

/// A socket in use.
#[derive(Debug)]
pub(super) struct Line {
    socket: AsyncFd<PathSocket>,
    flow: Flow,
    own: Option<IpAddr>,
    departures: Vec<Option<(i64, ClockOffset)>>,
    buffer: ReceiveBuffer,
    payload: Vec<u8>,
    packet: Vec<u8>,
    traffic: Traffic,
    /// Read while something was sent.
    early: Vec<Event>,
    /// What this machine said it can send, bytes.
    refused_above: Option<u16>,
}

impl Line {
    /// Opens the socket of a run. Must be called within a Tokio runtime.
    pub(super) fn open(run: &Run<'_>, probe: &PathProbe) -> Result<Self, Refusal> {
        let mark = Mark::new();
        let (socket, port) = flow::open(run, probe)?;
        let own = socket.own_address();
        #[expect(
            deprecated,
            reason = "its successor is unsafe and asks for what `PathSocket` is: the owner of one descriptor that \
                      never changes"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE | Interest::ERROR)
            .map_err(|_| Refusal::not_measured(Reason::LocalError))?;
        Ok(Self {
            socket,
            flow: Flow {
                transport: probe.transport,
                target: run.address,
                port,
                target_port: probe.port,
                mark,
            },
            own,
            departures: Vec::new(),
            buffer: ReceiveBuffer::new(),
            payload: Vec::new(),
            packet: Vec::new(),
            traffic: Traffic::default(),
            early: Vec::new(),
            refused_above: None,
        })
    }

    pub(super) const fn family(&self) -> Family {
        self.flow.family()
    }

    /// What the run has cost so far.
    pub(super) const fn traffic(&self) -> Traffic {
        self.traffic
    }

    pub(super) fn forbid_fragments(&self) -> Result<(), Refusal> {
        let result = self.socket.get_ref().forbid_fragments();
        result.map_err(Refusal::of_open)
    }

    pub(super) fn set_hop_limit(&self, hops: u8) -> Result<(), Refusal> {
        let result = self.socket.get_ref().set_hop_limit(hops);
        result.map_err(Refusal::of_open)
    }

    /// Sends packet `index`, `bytes` long with all headers (at least those and the mark).
    pub(super) async fn send(&mut self, index: u16, bytes: u16) -> Result<(), NotSent> {
        self.build(index, bytes);
        let (mut attempts, mut waits) = (0, 0);
        loop {
            match self.try_send(index) {
                Ok(()) => {
                    self.traffic.sent += u64::from(bytes);
                    return Ok(());
                }
                Err(Errno::EAGAIN | Errno::ENOBUFS) if waits < FULL_QUEUE_WAITS => {
                    waits += 1;
                    tokio::time::sleep(FULL_QUEUE_WAIT).await;
                }
                Err(errno) => {
                    attempts += 1;
                    if errno == Errno::EMSGSIZE
                        && let Some(mtu) = self.own_mtu()
                    {
                        return Err(NotSent::TooLarge(Some(mtu)));
                    }
                    if attempts == SEND_ATTEMPTS {
                        return Err(match errno {
                            Errno::EMSGSIZE => NotSent::TooLarge(None),
                            errno => NotSent::Refused(Refusal::of(errno)),
                        });
                    }
                }
            }
        }
    }

    fn build(&mut self, index: u16, bytes: u16) {
        let payload_bytes = bytes
            .saturating_sub(header_bytes(self.family()) + INNER_HEADER_BYTES)
            .max(u16::try_from(MARK_BYTES).unwrap_or(u16::MAX));
        let with_header = payload_bytes.saturating_add(INNER_HEADER_BYTES);
        // What the checksum covers beside the payload and differs from packet to packet.
        let header_sum = match (self.flow.transport, self.family()) {
            (PathTransport::Icmp, Family::V4) => index,
            // The pseudo-header has the length (RFC 8200 section 8.1).
            (PathTransport::Icmp, Family::V6) => add_words(index, with_header),
            // In the header and in the pseudo-header.
            _ => add_words(with_header, with_header),
        };
        let length = usize::from(payload_bytes);
        self.flow
            .mark
            .write(index, header_sum, length, &mut self.payload);
        if self.flow.transport == PathTransport::Icmp {
            let echo = Echo {
                identifier: self.flow.port,
                sequence: index,
                payload: &self.payload,
            };
            icmp::build_request(self.flow.family(), &echo, &mut self.packet);
        } else {
            self.packet.clone_from(&self.payload);
        }
    }

    fn try_send(&mut self, index: u16) -> Result<(), Errno> {
        let place = usize::from(index);
        if self.departures.len() <= place {
            self.departures.resize(place + 1, None);
        }
        let socket = self.socket.get_ref();
        // An ICMP error of an earlier packet, whose message is in the error queue, would fail this call.
        socket.kept_error();
        let clock = ClockOffset::now();
        // The very last thing before the packet is handed over is to read the time.
        if let Some(departure) = self.departures.get_mut(place) {
            *departure = Some((real_ns(), clock));
        }
        socket.send(&self.packet)
    }

    /// How large a packet may be here, if it was this machine that refused one: the kernel says so in the error queue.
    /// Otherwise it told what a router had said of an earlier packet. What routers said is kept.
    fn own_mtu(&mut self) -> Option<u16> {
        self.refused_above = None;
        let events = self.read();
        self.early.extend(events);
        self.refused_above.take()
    }

    /// Waits until something came back. Cancel safe.
    pub(super) async fn readable(&self) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::ERROR;
        let mut ready = self.socket.ready(interest).await?;
        // All is read before this is called again; what comes meanwhile makes it ready anew.
        ready.clear_ready();
        Ok(())
    }

    /// Reads what came back.
    pub(super) fn read(&mut self) -> Vec<Event> {
        let mut events = std::mem::take(&mut self.early);
        let mut kept = 0;
        for _ in 0..DRAIN_LIMIT {
            match self.read_error() {
                Ok(Received::Item(event)) => events.push(event),
                Ok(Received::Skipped) => {}
                Ok(Received::Empty) => break,
                Err(_) if kept == KEPT_ERRORS => break,
                Err(_) => kept += 1,
            }
        }
        for _ in 0..DRAIN_LIMIT {
            match self.read_reply() {
                Ok(Received::Item(event)) => events.push(event),
                Ok(Received::Skipped) => {}
                Ok(Received::Empty) => break,
                Err(_) if kept == KEPT_ERRORS => break,
                Err(_) => kept += 1,
            }
        }
        events
    }

    fn read_error(&mut self) -> Result<Received<Event>, Errno> {
        let error = match self.socket.get_ref().receive_error(&mut self.buffer)? {
            Received::Item(error) => error,
            Received::Skipped => return Ok(Received::Skipped),
            Received::Empty => return Ok(Received::Empty),
        };
        let clock = ClockOffset::now();
        let (kind, code, offender, destination) = match error.origin {
            Origin::Network {
                kind,
                code,
                offender,
                destination,
            } => (kind, code, offender, destination),
            Origin::Local { errno } => {
                if errno == Errno::EMSGSIZE {
                    self.refused_above = u16::try_from(error.info).ok();
                }
                return Ok(Received::Skipped);
            }
        };
        let trouble = Trouble {
            kind,
            code,
            info: error.info,
            offender,
            quoted: error.quoted,
        };
        let answer = self.flow.read_trouble(&trouble);
        let Some(Answer { index, said }) = answer.filter(|_| destination == self.flow.target)
        else {
            return Ok(Received::Skipped);
        };
        let own = Some(offender) == self.own;
        if !own {
            // Two headers of IP, that of the message, and what the kernel took off: the header of UDP.
            let headers = 2 * header_bytes(self.flow.family()) + INNER_HEADER_BYTES;
            let udp = match self.flow.transport {
                PathTransport::Udp => INNER_HEADER_BYTES,
                PathTransport::Icmp | PathTransport::Tcp => 0,
            };
            self.traffic.received += u64::from(headers + udp) + error.quoted.len() as u64;
        }
        Ok(Received::Item(Event {
            index,
            from: (!own).then_some(offender),
            said,
            arrival: (error.real_ns.unwrap_or_else(real_ns), clock),
        }))
    }

    fn read_reply(&mut self) -> Result<Received<Event>, Errno> {
        let socket = self.socket.get_ref();
        let unverified = socket.delivers_unverified();
        let packet = match socket.receive(&mut self.buffer)? {
            Received::Item(packet) => packet,
            Received::Skipped => return Ok(Received::Skipped),
            Received::Empty => return Ok(Received::Empty),
        };
        let clock = ClockOffset::now();
        let bytes = if unverified {
            let Some(inner) = ipv4::parse(packet.bytes) else {
                return Ok(Received::Skipped);
            };
            inner.payload
        } else {
            packet.bytes
        };
        let Some(answer) = self.flow.read_reply(packet.from, bytes, unverified) else {
            return Ok(Received::Skipped);
        };
        let udp = match self.flow.transport {
            PathTransport::Udp => INNER_HEADER_BYTES,
            PathTransport::Icmp | PathTransport::Tcp => 0,
        };
        let headers = header_bytes(self.flow.family()) + udp;
        self.traffic.received += u64::from(headers) + bytes.len() as u64;
        Ok(Received::Item(Event {
            index: answer.index,
            from: Some(packet.from),
            said: answer.said,
            arrival: (packet.real_ns.unwrap_or_else(real_ns), clock),
        }))
    }

    /// From the departure of a packet to an arrival; `None` across a step of the system clock.
    pub(super) fn round_trip(&self, index: u16, event: &Event) -> Option<Duration> {
        let departure = self.departures.get(usize::from(index)).copied().flatten();
        departure.and_then(|departure| round_trip(departure, event.arrival))
    }
}

/// The time between two moments of the system clock; `None` if it was stepped in between.
pub(super) fn round_trip(
    departure: (i64, ClockOffset),
    arrival: (i64, ClockOffset),
) -> Option<Duration> {
    if departure.1.stepped_until(arrival.1) {
        return None;
    }
    u64::try_from(arrival.0.saturating_sub(departure.0))
        .ok()
        .map(Duration::from_nanos)
}

impl Mark {
    /// Of random bytes.
    fn new() -> Self {
        use std::hash::{BuildHasher, RandomState};
        let key = RandomState::new();
        let (one, other) = (key.hash_one(1_u8), key.hash_one(2_u8));
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&one.to_be_bytes());
        bytes[8..].copy_from_slice(&other.to_be_bytes()[..4]);
        Self(bytes)
    }
}

/// Where packets go.
pub(super) fn destination(run: &Run<'_>, probe: &PathProbe) -> SocketAddr {
    SocketAddr::new(run.address, probe.port)
}
