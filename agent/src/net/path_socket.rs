//! A socket whose packets all belong to one flow: addresses, protocol, and ports or identifier never change.
//!
//! None of its forms needs a capability: datagrams of UDP, echo requests over datagram ICMP (a raw socket stands in
//! where only `CAP_NET_RAW` is there), and the SYN of a TCP connection. Answers of routers come through the error queue.
//! With UDP the kernel hands over what a router quoted *behind* the UDP header, so that of a quote of eight bytes
//! nothing is left; with ICMP and TCP it begins at their headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use extranet_proto::assignment::{Family, PathTransport};
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::icmp_socket::{Access, IcmpSocket, forbid_fragments};
use super::receive::{self, Packet, QueuedError, ReceiveBuffer, Received};
use super::refusal::{Refusal, errno_of};

/// Why a socket was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotOpened {
    /// Somebody else has the source port or identifier.
    PortTaken,
    /// This machine may not, or knows no way to the target.
    Refused(Refusal),
}

/// A non-blocking socket for one destination.
#[derive(Debug)]
pub struct PathSocket {
    socket: Socket,
    family: Family,
    /// Whether ICMP messages come with the header of IP and unverified.
    raw_v4: bool,
}

impl PathSocket {
    /// Opens a socket to `target` (its port does not matter to ICMP) in the routing table of `vrf` (empty = the default).
    ///
    /// `flow_port` becomes the source port or the identifier. TCP is not connected yet.
    pub fn open(
        transport: PathTransport,
        target: SocketAddr,
        flow_port: u16,
        vrf: &str,
    ) -> Result<Self, NotOpened> {
        let socket =
            Self::bound(transport, target, flow_port, vrf).map_err(|errno| match errno {
                Errno::EADDRINUSE => NotOpened::PortTaken,
                errno => NotOpened::Refused(Refusal::of_open(errno)),
            })?;
        if transport != PathTransport::Tcp {
            // Only what concerns this destination is delivered. Connecting asks for a route: what is wrong with it is
            // about the target.
            let connected = socket.socket.connect(&SockAddr::from(target));
            connected.map_err(|error| NotOpened::Refused(Refusal::of(errno_of(&error))))?;
        }
        Ok(socket)
    }

    fn bound(
        transport: PathTransport,
        target: SocketAddr,
        flow_port: u16,
        vrf: &str,
    ) -> Result<Self, Errno> {
        let family = Family::of(target.ip());
        let io = |result: std::io::Result<()>| result.map_err(|error| errno_of(&error));
        let (socket, access) = Self::socket(transport, family)?;
        io(socket.set_nonblocking(true))?;
        if !vrf.is_empty() {
            io(socket.bind_device(Some(vrf.as_bytes())))?;
        }
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        match family {
            Family::V4 => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
            Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
        }
        if transport == PathTransport::Tcp {
            // One connection follows the other from the same port.
            io(socket.set_reuse_address(true))?;
            // Whatever opens is closed by a reset at once: nothing is left behind, here or there.
            io(socket.set_linger(Some(Duration::ZERO)))?;
        }
        let unspecified: IpAddr = match family {
            Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        if access != Access::Raw {
            io(socket.bind(&SockAddr::from(SocketAddr::new(unspecified, flow_port))))?;
        }
        Ok(Self {
            raw_v4: access == Access::Raw && family == Family::V4,
            socket,
            family,
        })
    }

    fn socket(transport: PathTransport, family: Family) -> Result<(Socket, Access), Errno> {
        let domain = match family {
            Family::V4 => Domain::IPV4,
            Family::V6 => Domain::IPV6,
        };
        let (kind, protocol) = match transport {
            PathTransport::Icmp => {
                return IcmpSocket::open_with(family, Access::Datagram)
                    .or_else(|_| IcmpSocket::open_with(family, Access::Raw))
                    .map(IcmpSocket::into_parts);
            }
            PathTransport::Udp => (Type::DGRAM, Protocol::UDP),
            PathTransport::Tcp => (Type::STREAM, Protocol::TCP),
        };
        Socket::new(domain, kind, Some(protocol))
            .map(|socket| (socket, Access::Datagram))
            .map_err(|error| errno_of(&error))
    }

    /// IP version.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Whether received messages come with the header of IP and unverified: raw ICMP over IPv4.
    pub const fn delivers_unverified(&self) -> bool {
        self.raw_v4
    }

    /// The address that packets to the destination leave from, once the socket is connected.
    pub fn own_address(&self) -> Option<IpAddr> {
        let local = self.socket.local_addr().ok()?.as_socket()?;
        Some(local.ip())
    }

    /// Time to live or hop limit of the packets that follow.
    pub fn set_hop_limit(&self, hops: u8) -> Result<(), Errno> {
        match self.family {
            Family::V4 => self.socket.set_ttl_v4(hops.into()),
            Family::V6 => self.socket.set_unicast_hops_v6(hops.into()),
        }
        .map_err(|error| errno_of(&error))
    }

    /// No packet that follows may be fragmented, here or on the way, whatever the kernel remembers of the path.
    pub fn forbid_fragments(&self) -> Result<(), Errno> {
        forbid_fragments(&self.socket, self.family)
    }

    /// Sends a datagram or an ICMP message.
    ///
    /// An error may be one that another packet caused: see [`PathSocket::kept_error`].
    pub fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        match self.socket.send(bytes) {
            Ok(_) => Ok(()),
            Err(error) => Err(errno_of(&error)),
        }
    }

    /// Sends the SYN of a connection.
    pub fn start_connecting(&self, target: SocketAddr) -> Result<(), Errno> {
        match self.socket.connect(&SockAddr::from(target)) {
            Ok(()) => Ok(()),
            Err(error) => match errno_of(&error) {
                Errno::EINPROGRESS => Ok(()),
                errno => Err(errno),
            },
        }
    }

    /// Takes the error that the kernel keeps for the next call, whatever that is for.
    pub fn kept_error(&self) -> Option<Errno> {
        let kept = self.socket.take_error().ok().flatten();
        kept.map(|error| errno_of(&error))
    }

    /// Takes the next packet from the receive queue.
    pub fn receive<'b>(
        &self,
        buffer: &'b mut ReceiveBuffer,
    ) -> Result<Received<Packet<'b>>, Errno> {
        receive::receive(self.as_raw_fd(), buffer)
    }

    /// Takes the next entry from the error queue.
    pub fn receive_error<'b>(
        &self,
        buffer: &'b mut ReceiveBuffer,
    ) -> Result<Received<QueuedError<'b>>, Errno> {
        receive::receive_error(self.as_raw_fd(), buffer)
    }
}

impl AsRawFd for PathSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
