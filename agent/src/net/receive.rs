//! Reading a socket with everything the kernel tells about a packet: its receive queue and its error queue.
//!
//! ICMP errors come through the error queue (`IP_RECVERR`, ip(7)), each with the packet it is about as far as the
//! message quotes it, who sent it and, where `SO_TIMESTAMPNS` is on, when it arrived.

use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, recvmsg};
use nix::sys::time::TimeSpec;

use super::stamp::timestamp_ns;

/// No IP packet is larger.
const PACKET_BYTES: usize = 65_535;

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

/// One reading of a queue of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<T> {
    /// Something to look at.
    Item(T),
    /// Something that is of no interest here.
    Skipped,
    /// Nothing more for now.
    Empty,
}

/// A packet of the receive queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Who sent it.
    pub from: IpAddr,
    /// What the socket delivers.
    pub bytes: &'a [u8],
    /// When the kernel received it, ns since 1970 by the system clock.
    pub real_ns: Option<i64>,
    /// Time to live or hop limit as received.
    pub hop_limit: Option<u8>,
    /// How many packets the receive queue has dropped since the socket was opened.
    pub overflow: Option<u32>,
}

/// An entry of the error queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuedError<'a> {
    /// Who found the error.
    pub origin: Origin,
    /// The value that comes with it: the MTU with "packet too big" and with a local `EMSGSIZE`.
    pub info: u32,
    /// When the message arrived, ns since 1970 by the system clock.
    pub real_ns: Option<i64>,
    /// Of the packet that failed what is known, without the header of IP; on UDP sockets without that of UDP too.
    pub quoted: &'a [u8],
}

/// Who found an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// This machine: whoever sent the packet was told by the call too.
    Local {
        /// Its number.
        errno: Errno,
    },
    /// A router or the target, by an ICMP message.
    Network {
        /// Type of the message.
        kind: u8,
        /// Its code.
        code: u8,
        /// Who sent it.
        offender: IpAddr,
        /// Where the packet was sent to.
        destination: IpAddr,
    },
}

/// Takes the next packet from the receive queue of a socket.
pub(super) fn receive(
    socket: RawFd,
    buffer: &mut ReceiveBuffer,
) -> Result<Received<Packet<'_>>, Errno> {
    let ReceiveBuffer { data, control } = buffer;
    let mut slices = [IoSliceMut::new(data)];
    let received = match read(socket, &mut slices, control, MsgFlags::empty()) {
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
    Ok(match from.zip(data.get(..bytes)) {
        Some((from, bytes)) => Received::Item(Packet {
            from,
            bytes,
            real_ns,
            hop_limit,
            overflow,
        }),
        None => Received::Skipped,
    })
}

/// Takes the next entry from the error queue of a socket.
pub(super) fn receive_error(
    socket: RawFd,
    buffer: &mut ReceiveBuffer,
) -> Result<Received<QueuedError<'_>>, Errno> {
    let ReceiveBuffer { data, control } = buffer;
    let mut slices = [IoSliceMut::new(data)];
    let received = match read(socket, &mut slices, control, MsgFlags::MSG_ERRQUEUE) {
        Ok(received) => received,
        Err(Errno::EAGAIN) => return Ok(Received::Empty),
        Err(errno) => return Err(errno),
    };
    let mut real_ns = None;
    let mut error = None;
    for message in received.cmsgs()? {
        match message {
            ControlMessageOwned::ScmTimestampns(stamp) => real_ns = Some(timestamp_ns(stamp)),
            ControlMessageOwned::Ipv4RecvErr(extended, offender) => {
                let offender = offender.map(|address| {
                    IpAddr::from(u32::from_be(address.sin_addr.s_addr).to_be_bytes())
                });
                error = Some((extended, offender));
            }
            ControlMessageOwned::Ipv6RecvErr(extended, offender) => {
                let offender = offender.map(|address| IpAddr::from(address.sin6_addr.s6_addr));
                error = Some((extended, offender));
            }
            _ => {}
        }
    }
    let Some((error, offender)) = error else {
        return Ok(Received::Skipped);
    };
    let origin = match error.ee_origin {
        libc::SO_EE_ORIGIN_LOCAL => Origin::Local {
            errno: i32::try_from(error.ee_errno).map_or(Errno::EIO, Errno::from_raw),
        },
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => {
            // Only an error from the network carries the destination, so the address is looked at only then.
            let destination = received.address.as_ref().and_then(ip_of);
            let Some((offender, destination)) = offender.zip(destination) else {
                return Ok(Received::Skipped);
            };
            Origin::Network {
                kind: error.ee_type,
                code: error.ee_code,
                offender,
                destination,
            }
        }
        _ => return Ok(Received::Skipped),
    };
    let bytes = received.bytes;
    Ok(data.get(..bytes).map_or(Received::Skipped, |quoted| {
        Received::Item(QueuedError {
            origin,
            info: error.ee_info,
            real_ns,
            quoted,
        })
    }))
}

/// One packet of a queue.
fn read<'c, 'o, 'i>(
    socket: RawFd,
    slices: &'o mut [IoSliceMut<'i>],
    control: &'c mut [u8],
    flags: MsgFlags,
) -> Result<RecvMsg<'c, 'o, SockaddrStorage>, Errno>
where
    'i: 'o,
{
    recvmsg(socket, slices, Some(control), flags)
}

/// The address of a socket address, without its port.
fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(IpAddr::V4(v4.ip()));
    }
    address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()))
}
