//! A trace by TCP: the SYN of a connection with a small time to live.
//!
//! Each packet is a connection of its own, and two connections cannot share addresses and ports: with a constant flow
//! there is one at a time. What answers is told apart by the kernel: a router's error ends the attempt and waits in the
//! error queue (Linux since 5.10), SYN-ACK opens the connection, RST refuses it. An open connection is reset at once.
//!
//! Without `CAP_NET_RAW` the size of a SYN cannot be chosen, nor whether options are in it; and over IPv6 the kernel
//! draws a new flow label for each connection where `net.ipv6.auto_flowlabels` says so.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use extranet_proto::assignment::{PathProbe, PathTransport};
use extranet_proto::record::Reason;
use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout_at};

use super::flow;
use super::line::{destination, header_bytes, round_trip};
use super::walk::{Answer, Walk};
use crate::net::path_socket::{NotOpened, PathSocket};
use crate::net::receive::{Origin, ReceiveBuffer, Received};
use crate::net::refusal::Refusal;
use crate::net::stamp::{ClockOffset, real_ns};
use crate::packet::answer::{Flow, Said, Trouble};
use crate::packet::mark::Mark;
use crate::probe::{Run, Traffic};

/// What Linux puts into a SYN: 20 bytes and options of 20 (maximum segment, selective acknowledgement, time stamps,
/// window scale). A SYN-ACK has as much; an acknowledgement 32, a reset 20.
const SYN_BYTES: u64 = 40;
const ACK_BYTES: u64 = 32;
const RST_BYTES: u64 = 20;
/// The kernel sends the SYN again after a second: an attempt ends before.
const ATTEMPT_TIME: Duration = Duration::from_millis(950);

/// One attempt after the other.
pub(super) struct Connections<'a> {
    run: &'a Run<'a>,
    probe: &'a PathProbe,
    flow: Flow,
    traffic: Traffic,
    buffer: ReceiveBuffer,
}

impl<'a> Connections<'a> {
    /// Finds a free source port. Must be called within a Tokio runtime.
    pub(super) fn new(run: &'a Run<'a>, probe: &'a PathProbe) -> Result<Self, Refusal> {
        let (_, port) = flow::open(run, probe)?;
        Ok(Self {
            run,
            probe,
            flow: Flow {
                transport: PathTransport::Tcp,
                target: run.address,
                port,
                target_port: probe.port,
                mark: Mark([0; 12]),
            },
            traffic: Traffic::default(),
            buffer: ReceiveBuffer::new(),
        })
    }

    /// What the run has cost so far.
    pub(super) const fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// Sends packet `index` of a walk with this time to live and waits for what comes, at the latest until `until`.
    pub(super) async fn attempt(
        &mut self,
        walk: &mut Walk,
        index: u16,
        hops: u8,
        until: Instant,
    ) -> Result<(), Refusal> {
        let socket = self.open()?;
        socket.set_hop_limit(hops).map_err(Refusal::of_open)?;
        let target = destination(self.run, self.probe);
        let until = until.min(Instant::now() + ATTEMPT_TIME);
        let clock = ClockOffset::now();
        let departure = (real_ns(), clock);
        socket.start_connecting(target).map_err(Refusal::of)?;
        let header = u64::from(header_bytes(self.flow.family()));
        self.traffic.sent += header + SYN_BYTES;
        #[expect(
            deprecated,
            reason = "its successor is unsafe and asks for what `PathSocket` is: the owner of one descriptor that \
                      never changes"
        )]
        let socket = AsyncFd::with_interest(socket, Interest::WRITABLE | Interest::ERROR)
            .map_err(|_| Refusal::not_measured(Reason::LocalError))?;
        let ready = timeout_at(until, socket.ready(Interest::WRITABLE | Interest::ERROR)).await;
        if ready.is_err() {
            walk.lost(index);
            return Ok(());
        }
        let (from, said, arrival) = self.outcome(socket.get_ref(), target);
        let answer = Answer {
            from,
            said,
            round_trip: round_trip(departure, arrival),
        };
        walk.answered(index, answer);
        Ok(())
    }

    fn open(&self) -> Result<PathSocket, Refusal> {
        let target = destination(self.run, self.probe);
        let socket = PathSocket::open(PathTransport::Tcp, target, self.flow.port, self.run.vrf);
        socket.map_err(|error| match error {
            NotOpened::PortTaken => Refusal::not_measured(Reason::LocalError),
            NotOpened::Refused(refusal) => refusal,
        })
    }

    /// What became of an attempt that is decided.
    fn outcome(
        &mut self,
        socket: &PathSocket,
        target: SocketAddr,
    ) -> (Option<IpAddr>, Said, (i64, ClockOffset)) {
        let now = (real_ns(), ClockOffset::now());
        let header = u64::from(header_bytes(self.flow.family()));
        let own = socket.own_address();
        // A router's error first: it also ended the connection.
        while let Ok(Received::Item(error)) = socket.receive_error(&mut self.buffer) {
            let Origin::Network {
                kind,
                code,
                offender,
                ..
            } = error.origin
            else {
                continue;
            };
            let trouble = Trouble {
                kind,
                code,
                info: error.info,
                offender,
                quoted: error.quoted,
            };
            if let Some(answer) = self.flow.read_trouble(&trouble) {
                let own = own == Some(offender);
                if !own {
                    self.traffic.received += 2 * header + 8 + error.quoted.len() as u64;
                }
                let arrival = (error.real_ns.unwrap_or(now.0), now.1);
                return ((!own).then_some(offender), answer.said, arrival);
            }
        }
        match socket.kept_error() {
            None => {
                self.traffic.received += header + SYN_BYTES;
                self.traffic.sent += 2 * header + ACK_BYTES + RST_BYTES;
                (Some(target.ip()), Said::Arrived, now)
            }
            Some(Errno::ECONNREFUSED | Errno::ECONNRESET) => {
                self.traffic.received += header + RST_BYTES;
                (Some(target.ip()), Said::Arrived, now)
            }
            Some(errno) => {
                let refusal = Refusal::of(errno);
                (None, Said::Refused(refusal.reason), now)
            }
        }
    }
}
