//! One ICMP socket for all targets of a family and VRF.
//!
//! Datagram sockets (`SOCK_DGRAM`, `IPPROTO_ICMP`) need no capability, only a group within
//! `net.ipv4.ping_group_range`; the kernel chooses the identifier, delivers only replies to it and drops what is
//! damaged. Raw sockets need `CAP_NET_RAW` and see every ICMP message of the machine. The datagram form is tried first:
//! it is the cheaper one even for those who may do both.
//!
//! Received from the kernel with each packet: the time of arrival (`SO_TIMESTAMPNS`), the time to live, and how many
//! packets the receive queue had to drop (`SO_RXQ_OVFL`). ICMP errors come through the error queue (`IP_RECVERR`),
//! each with the request it is about.
//!
//! The kernel begins to stamp arrivals some milliseconds after the first socket of the machine asked for it, and until
//! then stamps when a packet is read. A socket is therefore kept, not opened for each run.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use extranet_proto::assignment::Family;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::departure::Departing;
use super::receive::{self, Origin};
pub use super::receive::{ReceiveBuffer, Received};
use super::refusal::{Refusal, errno_of};
use crate::packet::ipv4;

/// Wanted receive buffer, bytes. 1,000 replies at one instant overflow the default of 208 KiB (evidence: 24 to 29 %
/// false loss), none were lost with this; the kernel takes memory only for what is queued.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Wanted send buffer, bytes: a burst to a neighbour that is still being resolved waits there.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// How a socket was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Datagram ICMP.
    Datagram,
    /// Raw ICMP, which needs `CAP_NET_RAW`.
    Raw,
}

/// What all packets of a socket have in common.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Way {
    /// The device of a VRF, or an interface; empty = the default routing table.
    pub device: String,
    /// No fragment anywhere: `IP_PMTUDISC_PROBE`, `IPV6_PMTUDISC_PROBE` (ip(7)).
    pub dont_fragment: bool,
}

/// A non-blocking ICMP socket.
#[derive(Debug)]
pub struct IcmpSocket {
    socket: Socket,
    family: Family,
    access: Access,
}

/// A received ICMP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// Who sent it.
    pub from: IpAddr,
    /// From the ICMP header on.
    pub message: &'a [u8],
    /// When the kernel received it, ns since 1970 by the system clock.
    pub real_ns: Option<i64>,
    /// Time to live or hop limit as received.
    pub hop_limit: Option<u8>,
    /// How many packets the receive queue has dropped since the socket was opened.
    pub overflow: Option<u32>,
}

/// An ICMP error from the error queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorReport<'a> {
    /// Where the request was sent to.
    pub destination: IpAddr,
    /// Who sent the error message.
    pub offender: IpAddr,
    /// Type of the error message.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The request as the error message quotes it, from its ICMP header on.
    pub quoted: &'a [u8],
}

impl IcmpSocket {
    /// Opens a datagram socket or, where that is not allowed, a raw one.
    pub fn open(family: Family, way: &Way) -> Result<Self, Refusal> {
        let socket = Self::open_with(family, Access::Datagram)
            .or_else(|_| Self::open_with(family, Access::Raw))
            .map_err(Refusal::of_open)?;
        socket.set_up(way).map_err(Refusal::of_open)?;
        Ok(socket)
    }

    /// Opens one kind of socket, not yet set up for receiving.
    pub fn open_with(family: Family, access: Access) -> Result<Self, Errno> {
        let (domain, protocol) = match family {
            Family::V4 => (Domain::IPV4, Protocol::ICMPV4),
            Family::V6 => (Domain::IPV6, Protocol::ICMPV6),
        };
        let kind = match access {
            Access::Datagram => Type::DGRAM,
            Access::Raw => Type::RAW,
        };
        let socket = Socket::new(domain, kind, Some(protocol)).map_err(|error| errno_of(&error))?;
        Ok(Self {
            socket,
            family,
            access,
        })
    }

    fn set_up(&self, way: &Way) -> Result<(), Errno> {
        let socket = &self.socket;
        let io = |result: std::io::Result<()>| result.map_err(|error| errno_of(&error));
        io(socket.set_nonblocking(true))?;
        if !way.device.is_empty() {
            io(socket.bind_device(Some(way.device.as_bytes())))?;
        }
        if way.dont_fragment {
            forbid_fragments(socket, self.family)?;
        }
        setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
        match self.family {
            Family::V4 => {
                setsockopt(socket, sockopt::Ipv4RecvErr, &true)?;
                setsockopt(socket, sockopt::Ipv4RecvTtl, &true)?;
            }
            Family::V6 => {
                setsockopt(socket, sockopt::Ipv6RecvErr, &true)?;
                setsockopt(socket, sockopt::Ipv6RecvHopLimit, &true)?;
            }
        }
        setsockopt(socket, sockopt::RxqOvfl, &1)?;
        // As much as the machine gives: the first form ignores net.core.rmem_max but needs CAP_NET_ADMIN.
        if setsockopt(socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            setsockopt(socket, sockopt::RcvBuf, &RECEIVE_BUFFER_BYTES)?;
        }
        setsockopt(socket, sockopt::SndBuf, &SEND_BUFFER_BYTES)
    }

    /// The socket itself, for those who set it up in another way.
    pub(super) fn into_parts(self) -> (Socket, Access) {
        (self.socket, self.access)
    }

    /// IP version.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// How it was opened.
    pub const fn access(&self) -> Access {
        self.access
    }

    /// Whether the checksum of received messages is still to be verified: see [`crate::packet::icmp::parse`].
    pub fn delivers_unverified(&self) -> bool {
        self.access == Access::Raw && self.family == Family::V4
    }

    /// Sends an ICMP message.
    ///
    /// An error may be one that another packet caused: the kernel keeps the last ICMP error of the socket for the next
    /// call, whatever it is for.
    pub fn send(&self, message: &[u8], to: IpAddr, how: &Departing) -> Result<(), Errno> {
        how.send(&self.socket, message, to)
    }

    /// Takes the next message from the receive queue.
    pub fn receive<'b>(
        &self,
        buffer: &'b mut ReceiveBuffer,
    ) -> Result<Received<Arrival<'b>>, Errno> {
        let packet = match receive::receive(self.as_raw_fd(), buffer)? {
            Received::Item(packet) => packet,
            Received::Skipped => return Ok(Received::Skipped),
            Received::Empty => return Ok(Received::Empty),
        };
        let message = if self.delivers_unverified() {
            match ipv4::parse(packet.bytes) {
                Some(packet) => packet.payload,
                None => return Ok(Received::Skipped),
            }
        } else {
            packet.bytes
        };
        Ok(Received::Item(Arrival {
            from: packet.from,
            message,
            real_ns: packet.real_ns,
            hop_limit: packet.hop_limit,
            overflow: packet.overflow,
        }))
    }

    /// Takes the next error from the error queue. Errors of this machine itself are skipped: whoever sent the packet
    /// was told.
    pub fn receive_error<'b>(
        &self,
        buffer: &'b mut ReceiveBuffer,
    ) -> Result<Received<ErrorReport<'b>>, Errno> {
        let error = match receive::receive_error(self.as_raw_fd(), buffer)? {
            Received::Item(error) => error,
            Received::Skipped => return Ok(Received::Skipped),
            Received::Empty => return Ok(Received::Empty),
        };
        Ok(match error.origin {
            Origin::Local { .. } => Received::Skipped,
            Origin::Network {
                kind,
                code,
                offender,
                destination,
            } => Received::Item(ErrorReport {
                destination,
                offender,
                kind,
                code,
                quoted: error.quoted,
            }),
        })
    }
}

impl AsRawFd for IcmpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// "Don't fragment" set, and nothing believed of what the kernel remembers of the path (`IP_PMTUDISC_PROBE`, ip(7)):
/// only a device that is too narrow refuses a packet here.
pub(super) fn forbid_fragments(socket: &Socket, family: Family) -> Result<(), Errno> {
    let own = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    match family {
        Family::V4 => set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE).map_err(own),
        Family::V6 => {
            set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE).map_err(own)?;
            setsockopt(socket, sockopt::Ipv6DontFrag, &true)
        }
    }
}
