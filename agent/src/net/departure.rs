//! How a packet leaves: what one packet may differ in from the others of its socket (ip(7), ipv6(7), RFC 3542).

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};

/// Options of one packet; the default leaves everything to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Departing {
    /// Differentiated services code point, 0 to 63.
    pub dscp: u8,
    /// Time to live or hop limit.
    pub hop_limit: Option<u8>,
    /// Source address, of this machine.
    pub source: Option<IpAddr>,
}

/// Bits of the congestion notification (RFC 3168) below the code point.
const ECN_BITS: u8 = 2;

impl Departing {
    /// Sends a packet whole or not at all.
    pub(super) fn send(
        &self,
        socket: &impl AsRawFd,
        packet: &[u8],
        to: IpAddr,
    ) -> Result<(), Errno> {
        let socket = socket.as_raw_fd();
        match to {
            IpAddr::V4(_) => self.send_v4(socket, packet, to),
            IpAddr::V6(_) => self.send_v6(socket, packet, to),
        }
    }

    fn send_v4(&self, socket: RawFd, packet: &[u8], to: IpAddr) -> Result<(), Errno> {
        let field = self.dscp << ECN_BITS;
        let limit = self.hop_limit.map(libc::c_int::from);
        let source = match self.source {
            Some(IpAddr::V4(source)) => Some(libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from(source).to_be(),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            }),
            _ => None,
        };
        let mut options = Vec::new();
        if self.dscp > 0 {
            options.push(ControlMessage::Ipv4Tos(&field));
        }
        options.extend(limit.as_ref().map(ControlMessage::Ipv4Ttl));
        options.extend(source.as_ref().map(ControlMessage::Ipv4PacketInfo));
        hand_over(socket, packet, &options, to)
    }

    fn send_v6(&self, socket: RawFd, packet: &[u8], to: IpAddr) -> Result<(), Errno> {
        let field = libc::c_int::from(self.dscp << ECN_BITS);
        let limit = self.hop_limit.map(libc::c_int::from);
        let source = match self.source {
            Some(IpAddr::V6(source)) => Some(libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            }),
            _ => None,
        };
        let mut options = Vec::new();
        if self.dscp > 0 {
            options.push(ControlMessage::Ipv6TClass(&field));
        }
        options.extend(limit.as_ref().map(ControlMessage::Ipv6HopLimit));
        options.extend(source.as_ref().map(ControlMessage::Ipv6PacketInfo));
        hand_over(socket, packet, &options, to)
    }
}

fn hand_over(
    socket: RawFd,
    packet: &[u8],
    options: &[ControlMessage<'_>],
    to: IpAddr,
) -> Result<(), Errno> {
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    let slices = [IoSlice::new(packet)];
    sendmsg(socket, &slices, options, MsgFlags::empty(), Some(&to)).map(drop)
}
