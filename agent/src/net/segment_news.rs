//! News of the segment as the kernel multicasts them (rtnetlink(7)): neighbours, routes, links. Needs no privilege.
//!
//! News can be lost when more come than are read: the socket says so (`ENOBUFS`), and whoever follows asks for the
//! whole state again.

use std::io;
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::sys::socket::{NetlinkAddr, bind, recvfrom};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use super::watched::watched;
use crate::packet::rtnetlink::segment::{News, news};

/// `AF_NETLINK` (linux/socket.h) and `NETLINK_ROUTE` (linux/netlink.h).
const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
/// `RTMGRP_LINK`, `RTMGRP_NEIGH`, `RTMGRP_IPV4_ROUTE`, `RTMGRP_IPV6_ROUTE` (linux/rtnetlink.h).
const GROUPS: u32 = 0x1 | 0x4 | 0x40 | 0x400;
/// The kernel's own number as a sender.
const KERNEL: u32 = 0;
/// Messages of news are far smaller.
const DATAGRAM_BYTES: usize = 32_768;
/// Datagrams read before somebody else gets a turn.
const DATAGRAMS: usize = 256;

/// A socket that hears news.
#[derive(Debug)]
pub struct SegmentNews {
    socket: AsyncFd<Socket>,
    datagram: Vec<u8>,
}

/// What was heard.
#[derive(Debug, PartialEq, Eq)]
pub enum Told {
    /// In order.
    News(Vec<News>),
    /// Some were lost.
    Lost,
}

impl SegmentNews {
    /// Listens from now on, in the network namespace of this thread.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(NETLINK_ROUTE)),
        )?;
        socket.set_nonblocking(true)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
        Ok(Self {
            socket: watched(socket)?,
            datagram: vec![0; DATAGRAM_BYTES],
        })
    }

    /// Waits for the next news. Cancel safe.
    pub async fn next(&mut self) -> io::Result<Told> {
        loop {
            let mut ready = self.socket.readable().await?;
            let fd = ready.get_inner().as_raw_fd();
            let mut found = Vec::new();
            for _ in 0..DATAGRAMS {
                match recvfrom::<NetlinkAddr>(fd, &mut self.datagram) {
                    Ok((length, from)) if from.is_some_and(|from| from.pid() == KERNEL) => {
                        let datagram = self.datagram.get(..length).unwrap_or_default();
                        found.extend(news(datagram, None));
                    }
                    // Nobody else has anything to say here.
                    Ok(_) => {}
                    Err(Errno::ENOBUFS) => return Ok(Told::Lost),
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(errno) => return Err(errno.into()),
                }
            }
            if !found.is_empty() {
                return Ok(Told::News(found));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_can_be_opened_without_privilege_and_waits() {
        let mut news = SegmentNews::open().unwrap();
        let soon = std::time::Duration::from_millis(10);
        // Quiet or not: other tests of this machine may make news.
        if let Ok(told) = tokio::time::timeout(soon, news.next()).await {
            told.unwrap();
        }
    }
}
