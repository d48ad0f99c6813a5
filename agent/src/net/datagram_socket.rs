//! A UDP socket for one run of a check: connected, so that the kernel lets nobody else's datagrams through and tells
//! of ICMP errors (`IP_RECVERR`), each with the datagram it is about. Arrivals bear the kernel's time stamps.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use extranet_proto::assignment::Family;
use extranet_proto::record::Reason;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use super::refusal::{Refusal, errno_of};
use super::stamp::{real_ns, timestamp_ns};
use crate::packet::trouble;

/// No datagram is larger.
const DATAGRAM_BYTES: usize = 65_535;

/// A connected UDP socket.
#[derive(Debug)]
pub struct DatagramSocket {
    socket: UdpSocket,
    family: Family,
}

/// Where datagrams and their control messages are received, used again and again.
#[derive(Debug)]
pub struct DatagramBuffer {
    data: Vec<u8>,
    control: Vec<u8>,
}

impl DatagramBuffer {
    /// Room for any datagram.
    pub fn new() -> Self {
        Self {
            data: vec![0; DATAGRAM_BYTES],
            control: nix::cmsg_space!(TimeSpec, libc::sock_extended_err, libc::sockaddr_in6),
        }
    }
}

impl DatagramBuffer {
    fn show(&self, taken: Taken) -> Arrival<'_> {
        let read = |len| self.data.get(..len).unwrap_or_default();
        match taken {
            Taken::Datagram(len, real_ns) => Arrival::Datagram {
                payload: read(len),
                real_ns,
            },
            Taken::Error(len, reason) => Arrival::Error {
                reason,
                payload: read(len),
            },
        }
    }
}

impl Default for DatagramBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Something that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival<'a> {
    /// A datagram of the target.
    Datagram {
        /// What it holds.
        payload: &'a [u8],
        /// When the kernel received it, ns since 1970 by the system clock.
        real_ns: i64,
    },
    /// An ICMP error about one of ours.
    Error {
        /// What it says.
        reason: Reason,
        /// The beginning of our datagram, as far as the error quotes it.
        payload: &'a [u8],
    },
}

/// What a reading of one of the two queues gave, without the bytes.
#[derive(Clone, Copy)]
enum Taken {
    Datagram(usize, i64),
    Error(usize, Reason),
}

impl DatagramSocket {
    /// Opens a socket in the routing table of `vrf` (empty = the default) on a random port of the kernel's, and
    /// connects it. Must be called within a Tokio runtime.
    pub fn connect(target: SocketAddr, vrf: &str, source: Option<IpAddr>) -> Result<Self, Refusal> {
        let family = Family::of(target.ip());
        let opened = |error: io::Error| Refusal::of_open(errno_of(&error));
        let socket = open(family, vrf).map_err(opened)?;
        let any = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let wrong = |error: io::Error| Refusal::of(errno_of(&error));
        let from = SocketAddr::new(source.unwrap_or(any), 0);
        socket.bind(&from.into()).map_err(wrong)?;
        socket.connect(&target.into()).map_err(wrong)?;
        let socket = UdpSocket::from_std(socket.into()).map_err(opened)?;
        Ok(Self { socket, family })
    }

    /// Sends a datagram, whole or not at all.
    pub fn send(&self, payload: &[u8]) -> Result<(), Refusal> {
        // The kernel reports an ICMP error about an earlier datagram to whoever calls next. The error queue holds it
        // as well, so here it is only in the way.
        let result = self.try_send(payload).or_else(|_| self.try_send(payload));
        result
            .map(drop)
            .map_err(|error| Refusal::of(errno_of(&error)))
    }

    /// Not by Tokio's readiness, which a fresh socket does not have yet.
    fn try_send(&self, payload: &[u8]) -> io::Result<usize> {
        Ok(nix::sys::socket::send(
            self.socket.as_raw_fd(),
            payload,
            MsgFlags::empty(),
        )?)
    }

    /// The next datagram or error. Cancel safe.
    pub async fn receive<'b>(
        &self,
        buffer: &'b mut DatagramBuffer,
    ) -> Result<Arrival<'b>, Refusal> {
        let interest = Interest::READABLE | Interest::ERROR;
        let taken = self
            .socket
            .async_io(interest, || self.take(buffer).map_err(io::Error::from))
            .await
            .map_err(|error| Refusal::of(errno_of(&error)))?;
        Ok(buffer.show(taken))
    }

    /// What is there already, without waiting; errors of this machine are nothing.
    pub fn receive_now<'b>(&self, buffer: &'b mut DatagramBuffer) -> Option<Arrival<'b>> {
        let taken = self.take(buffer).ok()?;
        Some(buffer.show(taken))
    }

    /// Errors first: what they are about was sent before anything that may still come.
    fn take(&self, buffer: &mut DatagramBuffer) -> Result<Taken, Errno> {
        if let Some(taken) = self.take_errors(buffer)? {
            return Ok(taken);
        }
        match self.take_datagram(buffer) {
            // An error that came in between is told here without saying which datagram it is about; the queue says it.
            Err(errno) if errno != Errno::EAGAIN => self.take_errors(buffer)?.ok_or(errno),
            taken => taken,
        }
    }

    /// The next error that says that something was lost.
    fn take_errors(&self, buffer: &mut DatagramBuffer) -> Result<Option<Taken>, Errno> {
        loop {
            match self.take_error(buffer) {
                Ok(Some(taken)) => return Ok(Some(taken)),
                // Another one may follow.
                Ok(None) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(errno),
            }
        }
    }

    fn take_datagram(&self, buffer: &mut DatagramBuffer) -> Result<Taken, Errno> {
        let DatagramBuffer { data, control } = buffer;
        let mut slices = [IoSliceMut::new(data)];
        let fd = self.socket.as_raw_fd();
        let received =
            recvmsg::<SockaddrStorage>(fd, &mut slices, Some(control), MsgFlags::empty())?;
        let stamp = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(stamp) => Some(timestamp_ns(stamp)),
            _ => None,
        });
        Ok(Taken::Datagram(
            received.bytes,
            stamp.unwrap_or_else(real_ns),
        ))
    }

    /// `None` for an error that does not say that anything was lost.
    fn take_error(&self, buffer: &mut DatagramBuffer) -> Result<Option<Taken>, Errno> {
        let DatagramBuffer { data, control } = buffer;
        let mut slices = [IoSliceMut::new(data)];
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_ERRQUEUE;
        let received = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(control), flags)?;
        let reason = received
            .cmsgs()?
            .find_map(|message| reason_of(self.family, &message));
        Ok(reason.map(|reason| Taken::Error(received.bytes, reason)))
    }
}

/// What a control message of an error queue says about what was sent.
pub(super) fn reason_of(family: Family, message: &ControlMessageOwned) -> Option<Reason> {
    let (ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _)) =
        message
    else {
        return None;
    };
    match error.ee_origin {
        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => {
            trouble::reason(family, error.ee_type, error.ee_code)
        }
        // The path MTU that the kernel remembers: EMSGSIZE of this machine.
        libc::SO_EE_ORIGIN_LOCAL => {
            let errno = i32::try_from(error.ee_errno).unwrap_or_default();
            Some(Refusal::of(Errno::from_raw(errno)).reason)
        }
        _ => None,
    }
}

fn open(family: Family, vrf: &str) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if !vrf.is_empty() {
        socket.bind_device(Some(vrf.as_bytes()))?;
    }
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    match family {
        Family::V4 => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        Family::V6 => {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_closed_port_is_told_with_the_datagram_that_found_it() {
        for ip in [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ] {
            let taken = std::net::UdpSocket::bind(SocketAddr::new(ip, 0)).unwrap();
            let target = taken.local_addr().unwrap();
            drop(taken);
            let socket = DatagramSocket::connect(target, "", None).unwrap();
            for payload in [&b"one"[..], b"two"] {
                socket.send(payload).unwrap();
            }
            let mut buffer = DatagramBuffer::new();
            for payload in [&b"one"[..], b"two"] {
                let reason = Reason::Refused;
                let arrival = socket.receive(&mut buffer).await;
                assert_eq!(arrival, Ok(Arrival::Error { reason, payload }), "{ip}");
            }
        }
    }
}
