//! The kernel's own tables of links, IPv6 addresses, routes and neighbours, asked for over a netlink socket. Needs no
//! privilege. /proc has no IPv6 neighbours and no lifetimes of routes.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::packet::route_lookup::{self, Way};
use crate::packet::rtnetlink::segment::{News, news};
use crate::packet::rtnetlink::{Dump, Entry, entries, request, request_for};

/// `AF_NETLINK` (linux/socket.h) and `NETLINK_ROUTE` (linux/netlink.h).
const AF_NETLINK: i32 = 16;
const NETLINK_ROUTE: i32 = 0;
/// `AF_UNSPEC`: of every family.
const ALL_FAMILIES: u8 = 0;
/// Answers come from the kernel at once; more means that something is broken.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The kernel sends dumps in datagrams of at most 32 KiB.
const DATAGRAM_BYTES: usize = 32_768;

/// A netlink socket.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens it, in the network namespace of this thread.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(
            Domain::from(AF_NETLINK),
            Type::RAW,
            Some(Protocol::from(NETLINK_ROUTE)),
        )?;
        socket.set_read_timeout(Some(ANSWER_TIME))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// The entry of the routing table that a destination takes; `vrf` is the number of a VRF's device, 0 = none.
    pub fn way_to(&mut self, destination: IpAddr, vrf: u32) -> io::Result<Way> {
        self.sequence = self.sequence.wrapping_add(1);
        let question = route_lookup::request(destination, vrf, self.sequence);
        self.socket.send(&question)?;
        let mut datagram = vec![0; DATAGRAM_BYTES];
        loop {
            let length = self.socket.read(&mut datagram)?;
            let datagram = datagram.get(..length).unwrap_or_default();
            match route_lookup::answer(datagram, self.sequence) {
                Some(Ok(way)) => return Ok(way),
                Some(Err(number)) => return Err(io::Error::from_raw_os_error(number)),
                // What is left of an answer that was given up.
                None => {}
            }
        }
    }

    /// Everything of one kind. Blocks for the time the kernel needs, far below a millisecond on an access point.
    pub fn dump(&mut self, dump: Dump) -> io::Result<Vec<Entry>> {
        let mut all = Vec::new();
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.answer(&request(dump, sequence), |datagram| {
            let entries = entries(datagram, sequence).into_iter();
            all.extend(entries.filter(|entry| *entry != Entry::Done));
        })?;
        Ok(all)
    }

    /// What the kernel would have told about one kind, in both families, had anybody listened from the beginning.
    pub fn state(&mut self, dump: Dump) -> io::Result<Vec<News>> {
        let mut all = Vec::new();
        self.sequence = self.sequence.wrapping_add(1);
        let sequence = self.sequence;
        self.answer(&request_for(dump, ALL_FAMILIES, sequence), |datagram| {
            all.extend(news(datagram, Some(sequence)));
        })?;
        Ok(all)
    }

    /// Sends a request for a dump and passes on the datagrams of the answer.
    fn answer(&mut self, request: &[u8], mut take: impl FnMut(&[u8])) -> io::Result<()> {
        self.socket.send(request)?;
        let mut datagram = vec![0; DATAGRAM_BYTES];
        loop {
            let length = self.socket.read(&mut datagram)?;
            let datagram = datagram.get(..length).unwrap_or_default();
            take(datagram);
            for entry in entries(datagram, self.sequence) {
                match entry {
                    Entry::Done => return Ok(()),
                    Entry::Error(number) => return Err(io::Error::from_raw_os_error(number)),
                    _ => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::rtnetlink::link;

    #[test]
    fn this_machine_has_a_loopback_device_and_its_tables_can_be_read() {
        let mut netlink = Netlink::open().unwrap();
        let links = netlink.dump(Dump::Links).unwrap();
        let loopback = |entry: &Entry| matches!(entry, Entry::Link(found) if found.name == "lo" && found.flags & link::LOOPBACK != 0);
        assert!(links.iter().any(loopback), "{links:?}");
        for dump in [Dump::Addresses, Dump::Routes, Dump::Neighbours] {
            netlink.dump(dump).unwrap();
            netlink.state(dump).unwrap();
        }
        for own in ["127.0.0.1", "::1"] {
            let way = netlink.way_to(own.parse().unwrap(), 0).unwrap();
            assert!(way.local, "{own}: {way:?}");
        }
    }
}
