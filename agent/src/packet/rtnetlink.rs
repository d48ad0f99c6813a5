//! Messages of the kernel's routing netlink (rtnetlink(7)): requests for dumps, and what the dumps say about links,
//! IPv6 addresses, routes and neighbours. Bytes only; numbers are in the machine's byte order.
//!
//! A message is a header of 16 bytes, a fixed part by its type, and attributes (length, type, value), each aligned to
//! 4 bytes. Attributes that this build does not know are skipped; a message too short for its fixed part is skipped.

use std::net::Ipv6Addr;

pub mod segment;

/// Kind of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dump {
    /// Interfaces.
    Links,
    /// IPv6 addresses.
    Addresses,
    /// IPv6 routes.
    Routes,
    /// IPv6 neighbours.
    Neighbours,
}

/// Message types (linux/rtnetlink.h) and the types of a dump's end (linux/netlink.h).
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const REQUEST_DUMP: u16 = 0x001 | 0x300;
const AF_UNSPEC: u8 = 0;
const AF_INET6: u8 = 10;
const HEADER_BYTES: usize = 16;

/// Flags of an address (`linux/if_addr.h`): what keeps it from being used.
pub mod address_flag {
    /// Failed duplicate address detection.
    pub const DADFAILED: u32 = 0x08;
    /// Beyond its preferred lifetime.
    pub const DEPRECATED: u32 = 0x20;
    /// Duplicate address detection still runs.
    pub const TENTATIVE: u32 = 0x40;
}

/// Flags and types of an interface (linux/if.h, `linux/if_arp.h`).
pub mod link {
    /// Administratively up.
    pub const UP: u32 = 0x1;
    /// The loopback device.
    pub const LOOPBACK: u32 = 0x8;
    /// IPv6 in IPv4 (protocol 41): 6in4, 6to4, ISATAP.
    pub const TYPE_SIT: u16 = 776;
}

/// States of a neighbour (linux/neighbour.h).
pub mod neighbour_state {
    /// Known to be there now.
    pub const REACHABLE: u16 = 0x02;
    /// Was asked, no answer.
    pub const FAILED: u16 = 0x20;
    /// No resolution on this link.
    pub const NOARP: u16 = 0x40;
    /// Entered by hand.
    pub const PERMANENT: u16 = 0x80;
}

/// Scope of an address or a route that is not limited to a link (`RT_SCOPE_UNIVERSE`).
pub const SCOPE_UNIVERSE: u8 = 0;
/// A route that forwards (`RTN_UNICAST`), not one that refuses.
const RTN_UNICAST: u8 = 1;

/// One thing that a dump says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An interface.
    Link(Link),
    /// An IPv6 address.
    Address(Address),
    /// A way of a unicast IPv6 route; a route with several next hops gives several.
    Route(Route),
    /// An IPv6 neighbour.
    Neighbour(Neighbour),
    /// The dump is complete.
    Done,
    /// The kernel refuses, with an error number.
    Error(i32),
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Number.
    pub index: u32,
    /// Name.
    pub name: String,
    /// [`link`] flags.
    pub flags: u32,
    /// Hardware type.
    pub hardware: u16,
}

/// An IPv6 address of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Interface.
    pub link: u32,
    /// The address.
    pub address: Ipv6Addr,
    /// Length of the on-link prefix.
    pub prefix_length: u8,
    /// Scope, 0 = universe.
    pub scope: u8,
    /// [`address_flag`] flags.
    pub flags: u32,
}

/// A way to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Length of the destination prefix; 0 = the default route.
    pub prefix_length: u8,
    /// Next hop, `None` = on the link.
    pub gateway: Option<Ipv6Addr>,
    /// Outgoing interface.
    pub link: u32,
    /// The lowest wins.
    pub metric: u32,
    /// Routing table.
    pub table: u32,
    /// Time left, in ticks of the user clock (1/100 s); `None` = for ever.
    pub expires_ticks: Option<u32>,
}

/// A neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Interface.
    pub link: u32,
    /// Its address.
    pub address: Ipv6Addr,
    /// [`neighbour_state`] flag.
    pub state: u16,
}

/// The request for a dump of IPv6 things, or of all links.
pub fn request(dump: Dump, sequence: u32) -> Vec<u8> {
    let family = match dump {
        Dump::Links => AF_UNSPEC,
        Dump::Addresses | Dump::Routes | Dump::Neighbours => AF_INET6,
    };
    request_for(dump, family, sequence)
}

/// The request for a dump of an address family; 0 = of all families.
pub fn request_for(dump: Dump, family: u8, sequence: u32) -> Vec<u8> {
    let (kind, fixed_bytes) = match dump {
        Dump::Links => (RTM_GETLINK, 16),
        Dump::Addresses => (RTM_GETADDR, 8),
        Dump::Routes => (RTM_GETROUTE, 12),
        Dump::Neighbours => (RTM_GETNEIGH, 12),
    };
    let length = HEADER_BYTES + fixed_bytes;
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&REQUEST_DUMP.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.push(family);
    bytes.resize(length, 0);
    bytes
}

/// What one datagram of an answer to `sequence` says. Whatever is malformed ends the reading.
pub fn entries(datagram: &[u8], sequence: u32) -> Vec<Entry> {
    let mut found = Vec::new();
    for message in messages(datagram).filter(|message| message.sequence == sequence) {
        body_entries(message.kind, message.body, &mut found);
    }
    found
}

/// A message of a datagram.
struct Message<'a> {
    kind: u16,
    sequence: u32,
    body: &'a [u8],
}

/// The messages of a datagram, up to the first malformed one.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    std::iter::from_fn(move || {
        let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
        let message = datagram.get(..length)?;
        let found = Message {
            kind: u16_at(message, 4)?,
            sequence: u32_at(message, 8)?,
            body: message.get(HEADER_BYTES..)?,
        };
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
        Some(found)
    })
}

fn body_entries(kind: u16, body: &[u8], found: &mut Vec<Entry>) {
    match kind {
        RTM_NEWLINK => found.extend(link_entry(body).map(Entry::Link)),
        RTM_NEWADDR => found.extend(address_entry(body).map(Entry::Address)),
        RTM_NEWROUTE => found.extend(route_entries(body).into_iter().flatten().map(Entry::Route)),
        RTM_NEWNEIGH => found.extend(neighbour_entry(body).map(Entry::Neighbour)),
        NLMSG_DONE => found.push(Entry::Done),
        // An error of 0 acknowledges.
        NLMSG_ERROR => found.extend(
            u32_at(body, 0)
                .map(u32::cast_signed)
                .filter(|error| *error != 0)
                .map(|error| Entry::Error(error.saturating_neg())),
        ),
        _ => {}
    }
}

/// struct ifinfomsg: family, pad, type u16, index, flags, change. `IFLA_IFNAME` = 3.
fn link_entry(body: &[u8]) -> Option<Link> {
    let name = attributes(body.get(16..)?)
        .find(|(kind, _)| *kind == 3)
        .map(|(_, value)| {
            String::from_utf8_lossy(value)
                .trim_end_matches('\0')
                .to_owned()
        })?;
    Some(Link {
        index: u32_at(body, 4)?,
        name,
        flags: u32_at(body, 8)?,
        hardware: u16_at(body, 2)?,
    })
}

/// struct ifaddrmsg: family, prefix length, flags, scope, index. `IFA_ADDRESS` = 1, `IFA_LOCAL` = 2 (the own end of a
/// point-to-point link), `IFA_FLAGS` = 8 (flags that do not fit into 8 bits).
fn address_entry(body: &[u8]) -> Option<Address> {
    let &[family, prefix_length, flags, scope, ..] = body else {
        return None;
    };
    let mut address = None;
    let mut local = None;
    let mut all_flags = u32::from(flags);
    for (kind, value) in attributes(body.get(8..)?) {
        match kind {
            1 => address = v6(value),
            2 => local = v6(value),
            8 => all_flags = u32_at(value, 0)?,
            _ => {}
        }
    }
    (family == AF_INET6).then_some(())?;
    Some(Address {
        link: u32_at(body, 4)?,
        address: local.or(address)?,
        prefix_length,
        scope,
        flags: all_flags,
    })
}

/// struct rtmsg: family, destination length, source length, tos, table, protocol, scope, type, flags. `RTA_OIF` = 4,
/// `RTA_GATEWAY` = 5, `RTA_PRIORITY` = 6, `RTA_MULTIPATH` = 9, `RTA_CACHEINFO` = 12, `RTA_TABLE` = 15.
fn route_entries(body: &[u8]) -> Option<Vec<Route>> {
    let &[AF_INET6, prefix_length, _, _, table, _, _, RTN_UNICAST, ..] = body else {
        return None;
    };
    let mut route = Route {
        prefix_length,
        gateway: None,
        link: 0,
        metric: 0,
        table: table.into(),
        expires_ticks: None,
    };
    let mut several = Vec::new();
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            4 => route.link = u32_at(value, 0)?,
            5 => route.gateway = v6(value),
            6 => route.metric = u32_at(value, 0)?,
            9 => several = next_hops(value),
            // struct rta_cacheinfo: the third number is the time left, 0 = for ever.
            12 => route.expires_ticks = u32_at(value, 8).filter(|ticks| *ticks != 0),
            15 => route.table = u32_at(value, 0)?,
            _ => {}
        }
    }
    if several.is_empty() {
        return Some(vec![route]);
    }
    let ways = several.into_iter().map(|(link, gateway)| Route {
        gateway,
        link,
        ..route
    });
    Some(ways.collect())
}

/// The next hops of a route: interface and gateway.
fn next_hops(bytes: &[u8]) -> Vec<(u32, Option<Ipv6Addr>)> {
    let hops = next_hop_attributes(bytes).into_iter();
    hops.map(|(link, own)| {
        let gateway = attributes(own).find(|(kind, _)| *kind == 5);
        (link, gateway.and_then(|(_, value)| v6(value)))
    })
    .collect()
}

/// struct rtnexthop: length u16, flags, hops, index; then attributes.
fn next_hop_attributes(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
    let mut hops = Vec::new();
    while let (Some(length), Some(link)) = (u16_at(bytes, 0).map(usize::from), u32_at(bytes, 4)) {
        let Some(own) = bytes.get(8..length) else {
            break;
        };
        hops.push((link, own));
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
    }
    hops
}

/// struct ndmsg: family, pad, pad, index, state u16, flags, type. `NDA_DST` = 1.
fn neighbour_entry(body: &[u8]) -> Option<Neighbour> {
    let (_, address) = attributes(body.get(12..)?).find(|(kind, _)| *kind == 1)?;
    (body.first() == Some(&AF_INET6)).then_some(())?;
    Some(Neighbour {
        link: u32_at(body, 4)?,
        address: v6(address)?,
        state: u16_at(body, 8)?,
    })
}

/// Attributes as (type without its flag bits, value).
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(aligned(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Rounded up to the 4 bytes of `NLMSG_ALIGN` and `RTA_ALIGN`.
pub(super) const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u16::from_ne_bytes(*field))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let field = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_ne_bytes(*field))
}

fn v6(value: &[u8]) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = value.try_into().ok()?;
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(value.len() + 4)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    pub(super) fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER_BYTES + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(&2_u16.to_ne_bytes());
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(body);
        bytes.resize(aligned(bytes.len()), 0);
        bytes
    }

    fn route_body(kind: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![AF_INET6, 0, 0, 0, 254, 9, 0, kind, 0, 0, 0, 0];
        body.extend(attributes.concat());
        body
    }

    #[test]
    fn a_default_route_from_a_router_advertisement_is_read() {
        let gateway: Ipv6Addr = "fe80::1".parse().unwrap();
        let cache_info = [0_u32, 0, 179_800, 0, 0, 0, 0, 0]
            .map(u32::to_ne_bytes)
            .concat();
        let body = route_body(
            RTN_UNICAST,
            &[
                attribute(6, &1024_u32.to_ne_bytes()),
                attribute(5, &gateway.octets()),
                attribute(4, &7_u32.to_ne_bytes()),
                attribute(12, &cache_info),
                attribute(15, &254_u32.to_ne_bytes()),
            ],
        );
        let mut datagram = message(RTM_NEWROUTE, 5, &body);
        datagram.extend(message(RTM_NEWROUTE, 5, &route_body(7, &[])));
        datagram.extend(message(NLMSG_DONE, 5, &[0; 4]));
        let route = Route {
            prefix_length: 0,
            gateway: Some(gateway),
            link: 7,
            metric: 1024,
            table: 254,
            expires_ticks: Some(179_800),
        };
        // The route of type 7 (unreachable) leads nowhere.
        assert_eq!(entries(&datagram, 5), [Entry::Route(route), Entry::Done]);
        assert_eq!(entries(&datagram, 6), [], "an answer to somebody else");
    }

    #[test]
    fn each_next_hop_of_a_route_is_a_way() {
        let hop = |link: u32, gateway: &str| {
            let gateway: Ipv6Addr = gateway.parse().unwrap();
            let mut bytes = 28_u16.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&[0, 0]);
            bytes.extend_from_slice(&link.to_ne_bytes());
            bytes.extend(attribute(5, &gateway.octets()));
            bytes
        };
        let hops = [hop(2, "fe80::a"), hop(3, "fe80::b")].concat();
        let body = route_body(RTN_UNICAST, &[attribute(9, &hops)]);
        let ways: Vec<(u32, Option<Ipv6Addr>)> = entries(&message(RTM_NEWROUTE, 1, &body), 1)
            .into_iter()
            .filter_map(|entry| match entry {
                Entry::Route(route) => Some((route.link, route.gateway)),
                _ => None,
            })
            .collect();
        let wanted = [(2, "fe80::a".parse().ok()), (3, "fe80::b".parse().ok())];
        assert_eq!(ways, wanted);
    }

    #[test]
    fn an_error_is_told_as_a_positive_number() {
        let datagram = message(NLMSG_ERROR, 1, &(-1_i32).to_ne_bytes());
        assert_eq!(entries(&datagram, 1), [Entry::Error(1)]);
    }

    proptest! {
        #[test]
        fn no_bytes_can_hurt(bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 16_u16..32) {
            entries(&bytes, 0);
            let found = entries(&message(kind, 1, &bytes), 1);
            prop_assert!(found.len() <= 30);
        }
    }
}
