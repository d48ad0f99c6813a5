//! A TCP connection and, where there is none, why: `connect` knows one error for "host unreachable", "administratively
//! prohibited" and others, but the error queue of the socket has the ICMP message itself (Linux 5.10 and later).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use extranet_proto::assignment::Family;
use extranet_proto::record::Reason;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::datagram_socket::reason_of;
use super::refusal::{Refusal, errno_of};

/// The queue quotes our SYN.
const QUOTED_BYTES: usize = 128;

/// Connects within the routing table of `vrf` (empty = the default). Whoever calls sets the limit in time.
pub async fn connect(
    target: SocketAddr,
    vrf: &str,
    source: Option<IpAddr>,
) -> Result<TcpStream, Refusal> {
    let family = Family::of(target.ip());
    let opened = |error: io::Error| Refusal::of_open(errno_of(&error));
    let socket = open(family, vrf).map_err(opened)?;
    if let Some(source) = source {
        let from = SocketAddr::new(source, 0).into();
        let bound = socket.bind(&from);
        bound.map_err(|error| Refusal::of(errno_of(&error)))?;
    }
    let watched = socket.try_clone().map_err(opened)?;
    let connecting = TcpSocket::from_std_stream(socket.into()).connect(target);
    match connecting.await {
        // On its own machine a connection to a free port of the ephemeral range may meet itself (RFC 9293 section
        // 3.5, simultaneous open): nobody listens there.
        Ok(stream) if stream.local_addr().is_ok_and(|local| local == target) => {
            Err(Refusal::failed(Reason::Refused))
        }
        Ok(stream) => {
            // From now on an ICMP error is a hint again, not the end (RFC 5461).
            tell_errors(&watched, family, false).map_err(Refusal::of_open)?;
            Ok(stream)
        }
        Err(error) => Err(match reported(&watched, family) {
            Some(reason) => Refusal::failed(reason),
            None => Refusal::of(errno_of(&error)),
        }),
    }
}

fn open(family: Family, vrf: &str) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if family == Family::V6 {
        socket.set_only_v6(true)?;
    }
    if !vrf.is_empty() {
        socket.bind_device(Some(vrf.as_bytes()))?;
    }
    tell_errors(&socket, family, true)?;
    Ok(socket)
}

fn tell_errors(socket: &Socket, family: Family, tell: bool) -> Result<(), Errno> {
    match family {
        Family::V4 => setsockopt(socket, sockopt::Ipv4RecvErr, &tell),
        Family::V6 => setsockopt(socket, sockopt::Ipv6RecvErr, &tell),
    }
}

/// What an ICMP error in the queue says; `None` if there is none.
fn reported(socket: &Socket, family: Family) -> Option<Reason> {
    let mut data = [0; QUOTED_BYTES];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let mut slices = [IoSliceMut::new(&mut data)];
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let received =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags)
            .ok()?;
    received
        .cmsgs()
        .ok()?
        .find_map(|message| reason_of(family, &message))
}
