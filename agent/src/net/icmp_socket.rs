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

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use extranet_proto::assignment::Family;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::refusal::{Refusal, errno_of};
use super::stamp::timestamp_ns;
use crate::packet::ipv4;

/// Wanted receive buffer, bytes. 1,000 replies at one instant overflow the default of 208 KiB (evidence: 24 to 29 %
/// false loss), none were lost with this; the kernel takes memory only for what is queued.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Wanted send buffer, bytes: a burst to a neighbour that is still being resolved waits there.
const SEND_BUFFER_BYTES: usize = 1 << 20;
/// No IP packet is larger.
const PACKET_BYTES: usize = 65_535;

/// How a socket was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Datagram ICMP.
    Datagram,
    /// Raw ICMP, which needs `CAP_NET_RAW`.
    Raw,
}

/// A non-blocking ICMP socket.
#[derive(Debug)]
pub struct IcmpSocket {
    socket: Socket,
    family: Family,
    access: Access,
}

/// Where packets and their control messages are received, used again and again.
#[derive(Debug)]
pub struct ReceiveBuffer {
    data: Vec<u8>,
    control: Vec<u8>,
}

impl ReceiveBuffer {
    /// Room for any packet.
    pub fn new() -> Self {
        Self {
            data: vec![0; PACKET_BYTES],
            control: nix::cmsg_space!(
                TimeSpec,
                libc::c_int,
                u32,
                libc::sock_extended_err,
                libc::sockaddr_in6
            ),
        }
    }
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self::new()
    }
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
    /// Type of the error message.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// The request as the error message quotes it, from its ICMP header on.
    pub quoted: &'a [u8],
}

/// One reading of a queue of the socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<T> {
    /// Something to look at.
    Item(T),
    /// Something that is of no interest here.
    Skipped,
    /// Nothing more for now.
    Empty,
}

impl IcmpSocket {
    /// Opens a datagram socket or, where that is not allowed, a raw one, in the routing table of `vrf` (empty = the
    /// default).
    pub fn open(family: Family, vrf: &str) -> Result<Self, Refusal> {
        let socket = Self::open_with(family, Access::Datagram)
            .or_else(|_| Self::open_with(family, Access::Raw))
            .map_err(Refusal::of_open)?;
        socket.set_up(vrf).map_err(Refusal::of_open)?;
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

    fn set_up(&self, vrf: &str) -> Result<(), Errno> {
        let socket = &self.socket;
        let io = |result: std::io::Result<()>| result.map_err(|error| errno_of(&error));
        io(socket.set_nonblocking(true))?;
        if !vrf.is_empty() {
            io(socket.bind_device(Some(vrf.as_bytes())))?;
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
    pub fn send(&self, message: &[u8], to: IpAddr) -> Result<(), Errno> {
        let to = SockAddr::from(SocketAddr::new(to, 0));
        match self.socket.send_to(message, &to) {
            // ICMP is sent whole or not at all.
            Ok(_) => Ok(()),
            Err(error) => Err(errno_of(&error)),
        }
    }

    /// Takes the next message from the receive queue.
    pub fn receive<'b>(
        &self,
        buffer: &'b mut ReceiveBuffer,
    ) -> Result<Received<Arrival<'b>>, Errno> {
        let ReceiveBuffer { data, control } = buffer;
        let mut slices = [IoSliceMut::new(data)];
        let received = match self.read(&mut slices, control, MsgFlags::empty()) {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Ok(Received::Empty),
            Err(errno) => return Err(errno),
        };
        let mut real_ns = None;
        let mut hop_limit = None;
        let mut overflow = None;
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::ScmTimestampns(stamp) => real_ns = Some(timestamp_ns(stamp)),
                ControlMessageOwned::Ipv4Ttl(ttl) => hop_limit = u8::try_from(ttl).ok(),
                ControlMessageOwned::Ipv6HopLimit(limit) => hop_limit = u8::try_from(limit).ok(),
                ControlMessageOwned::RxqOvfl(dropped) => overflow = Some(dropped),
                _ => {}
            }
        }
        let from = received.address.as_ref().and_then(ip_of);
        let bytes = received.bytes;
        let Some((from, packet)) = from.zip(data.get(..bytes)) else {
            return Ok(Received::Skipped);
        };
        let message = if self.delivers_unverified() {
            match ipv4::parse(packet) {
                Some(packet) => packet.payload,
                None => return Ok(Received::Skipped),
            }
        } else {
            packet
        };
        Ok(Received::Item(Arrival {
            from,
            message,
            real_ns,
            hop_limit,
            overflow,
        }))
    }

    /// Takes the next error from the error queue. Errors of this machine itself are skipped: whoever sent the packet
    /// was told.
    pub fn receive_error<'b>(
        &self,
        buffer: &'b mut ReceiveBuffer,
    ) -> Result<Received<ErrorReport<'b>>, Errno> {
        let ReceiveBuffer { data, control } = buffer;
        let mut slices = [IoSliceMut::new(data)];
        let received = match self.read(&mut slices, control, MsgFlags::MSG_ERRQUEUE) {
            Ok(received) => received,
            Err(Errno::EAGAIN) => return Ok(Received::Empty),
            Err(errno) => return Err(errno),
        };
        let mut error = None;
        for message in received.cmsgs()? {
            match message {
                ControlMessageOwned::Ipv4RecvErr(extended, _)
                    if extended.ee_origin == libc::SO_EE_ORIGIN_ICMP =>
                {
                    error = Some(extended);
                }
                ControlMessageOwned::Ipv6RecvErr(extended, _)
                    if extended.ee_origin == libc::SO_EE_ORIGIN_ICMP6 =>
                {
                    error = Some(extended);
                }
                _ => {}
            }
        }
        // Only an error from the network carries the destination, so the address is looked at only then.
        let Some(error) = error else {
            return Ok(Received::Skipped);
        };
        let destination = received.address.as_ref().and_then(ip_of);
        let bytes = received.bytes;
        let Some((destination, quoted)) = destination.zip(data.get(..bytes)) else {
            return Ok(Received::Skipped);
        };
        Ok(Received::Item(ErrorReport {
            destination,
            kind: error.ee_type,
            code: error.ee_code,
            quoted,
        }))
    }

    fn read<'c, 'o, 'i>(
        &self,
        slices: &'o mut [IoSliceMut<'i>],
        control: &'c mut [u8],
        flags: MsgFlags,
    ) -> Result<RecvMsg<'c, 'o, SockaddrStorage>, Errno>
    where
        'i: 'o,
    {
        recvmsg(self.socket.as_raw_fd(), slices, Some(control), flags)
    }
}

impl AsRawFd for IcmpSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}
