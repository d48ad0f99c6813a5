//! What the routing netlink tells about the segment this machine stands on, in both families: neighbours with their MAC
//! addresses, and default routes. The same messages come as answers to dumps and, unasked, whenever something changes.

use std::net::IpAddr;

use extranet_proto::mac::MacAddress;

use super::{
    AF_INET6, Link, RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWROUTE, RTN_UNICAST, attributes, link_entry,
    messages, neighbour_state, next_hop_attributes, u16_at, u32_at,
};

/// What the kernel says when something is gone (linux/rtnetlink.h).
const RTM_DELLINK: u16 = 17;
const RTM_DELROUTE: u16 = 25;
const RTM_DELNEIGH: u16 = 29;
const AF_INET: u8 = 2;
/// The kernel made the route from a router advertisement (`RTPROT_RA`).
const RTPROT_RA: u8 = 9;
/// Table of the machine's own addresses (`RT_TABLE_LOCAL`).
const TABLE_LOCAL: u32 = 255;
/// States in which a neighbour's MAC address is in use: reachable, stale, delay, probe, and those entered by hand.
const VALID: u16 = neighbour_state::REACHABLE | 0x04 | 0x08 | 0x10 | neighbour_state::PERMANENT;

/// One thing that is there, or no longer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// An interface.
    Link {
        /// Which.
        link: Link,
        /// It is gone.
        gone: bool,
    },
    /// A neighbour.
    Neighbour(Neighbour),
    /// A default route.
    DefaultRoute {
        /// Which.
        route: DefaultRoute,
        /// It is gone.
        gone: bool,
    },
}

/// A neighbour with what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Number of the interface.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Where packets for it go now; `None` while nobody knows.
    pub mac: Option<MacAddress>,
}

/// A default route through a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DefaultRoute {
    /// Number of the interface.
    pub link: u32,
    /// Next hop.
    pub gateway: IpAddr,
    /// The kernel learnt it from a router advertisement.
    pub by_advert: bool,
}

/// What a datagram says, in its order. With a sequence: only what answers that dump; what comes unasked has the sequence
/// of whatever changed the table. Whatever is malformed ends the reading.
pub fn news(datagram: &[u8], sequence: Option<u32>) -> Vec<News> {
    let mut found = Vec::new();
    let wanted = |found: u32| sequence.is_none_or(|sequence| sequence == found);
    for message in messages(datagram).filter(|message| wanted(message.sequence)) {
        let body = message.body;
        let gone = matches!(message.kind, RTM_DELLINK | RTM_DELROUTE | RTM_DELNEIGH);
        match message.kind {
            RTM_NEWLINK | RTM_DELLINK => {
                found.extend(link_entry(body).map(|link| News::Link { link, gone }));
            }
            RTM_NEWNEIGH | RTM_DELNEIGH => {
                found.extend(neighbour(body, gone).map(News::Neighbour));
            }
            RTM_NEWROUTE | RTM_DELROUTE => {
                let routes = default_routes(body).unwrap_or_default();
                found.extend(
                    routes
                        .into_iter()
                        .map(|route| News::DefaultRoute { route, gone }),
                );
            }
            _ => {}
        }
    }
    found
}

/// struct ndmsg: family, pad, pad, index, state u16, flags, type. `NDA_DST` = 1, `NDA_LLADDR` = 2.
fn neighbour(body: &[u8], gone: bool) -> Option<Neighbour> {
    let family = *body.first()?;
    let mut address = None;
    let mut mac = None;
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            1 => address = ip(family, value),
            2 => mac = value.try_into().ok().map(MacAddress),
            _ => {}
        }
    }
    let valid = u16_at(body, 8)? & VALID != 0 && !gone;
    Some(Neighbour {
        link: u32_at(body, 4)?,
        address: address?,
        mac: mac.filter(|_| valid),
    })
}

/// struct rtmsg: family, destination length, source length, tos, table, protocol, scope, type, flags. `RTA_OIF` = 4,
/// `RTA_GATEWAY` = 5, `RTA_MULTIPATH` = 9, `RTA_TABLE` = 15. Nothing for a route to anywhere else.
fn default_routes(body: &[u8]) -> Option<Vec<DefaultRoute>> {
    let &[family, 0, _, _, table, protocol, _, RTN_UNICAST, ..] = body else {
        return None;
    };
    let mut table = u32::from(table);
    let mut link = 0;
    let mut gateway = None;
    let mut several = Vec::new();
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            4 => link = u32_at(value, 0)?,
            5 => gateway = ip(family, value),
            9 => several = next_hop_attributes(value),
            15 => table = u32_at(value, 0)?,
            _ => {}
        }
    }
    if table == TABLE_LOCAL {
        return None;
    }
    let mut ways = vec![(link, gateway)];
    ways.extend(several.into_iter().map(|(link, own)| {
        let gateway = attributes(own).find(|(kind, _)| *kind == 5);
        (link, gateway.and_then(|(_, value)| ip(family, value)))
    }));
    let routes = ways.into_iter().filter_map(|(link, gateway)| {
        Some(DefaultRoute {
            link,
            gateway: gateway?,
            by_advert: protocol == RTPROT_RA,
        })
    });
    Some(routes.collect())
}

fn ip(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?)),
        AF_INET6 => Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{attribute, message};
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x66];

    fn neighbour_body(family: u8, state: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![family, 0, 0, 0];
        body.extend(7_u32.to_ne_bytes());
        body.extend(state.to_ne_bytes());
        body.extend([0, 1]);
        body.extend(attributes.concat());
        body
    }

    fn route_body(family: u8, prefix: u8, protocol: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = vec![
            family,
            prefix,
            0,
            0,
            254,
            protocol,
            0,
            RTN_UNICAST,
            0,
            0,
            0,
            0,
        ];
        body.extend(attributes.concat());
        body
    }

    #[test]
    fn neighbours_of_both_families_have_their_mac_while_it_is_in_use() {
        let v4 = attribute(1, &[10, 0, 0, 1]);
        let v6: std::net::Ipv6Addr = "fe80::1".parse().unwrap();
        let mac = attribute(2, &MAC);
        let one = |kind, body: &[u8]| news(&message(kind, 9, body), None);
        let expected = |address: IpAddr, mac: Option<[u8; 6]>| {
            vec![News::Neighbour(Neighbour {
                link: 7,
                address,
                mac: mac.map(MacAddress),
            })]
        };
        let four = neighbour_body(AF_INET, 0x04, &[v4.clone(), mac.clone()]);
        let four_ip = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(one(RTM_NEWNEIGH, &four), expected(four_ip, Some(MAC)));
        assert_eq!(one(RTM_DELNEIGH, &four), expected(four_ip, None));
        let failed = neighbour_body(AF_INET, neighbour_state::FAILED, &[v4, mac.clone()]);
        assert_eq!(one(RTM_NEWNEIGH, &failed), expected(four_ip, None));
        let six = neighbour_body(AF_INET6, 0x02, &[attribute(1, &v6.octets()), mac]);
        assert_eq!(one(RTM_NEWNEIGH, &six), expected(v6.into(), Some(MAC)));
        assert_eq!(
            news(&message(RTM_NEWNEIGH, 3, &six), Some(4)),
            [],
            "an answer to somebody"
        );
    }

    #[test]
    fn default_routes_are_found_and_others_are_not() {
        let gateway: std::net::Ipv6Addr = "fe80::66".parse().unwrap();
        let ways = [
            attribute(4, &7_u32.to_ne_bytes()),
            attribute(5, &gateway.octets()),
        ];
        let one = |kind, body: &[u8]| news(&message(kind, 5, body), Some(5));
        let route = DefaultRoute {
            link: 7,
            gateway: gateway.into(),
            by_advert: true,
        };
        let body = route_body(AF_INET6, 0, RTPROT_RA, &ways);
        let there = News::DefaultRoute { route, gone: false };
        let gone = News::DefaultRoute { route, gone: true };
        assert_eq!(one(RTM_NEWROUTE, &body), [there]);
        assert_eq!(one(RTM_DELROUTE, &body), [gone]);
        assert_eq!(
            one(RTM_NEWROUTE, &route_body(AF_INET6, 64, RTPROT_RA, &ways)),
            []
        );
        let local = [&ways[..], &[attribute(15, &TABLE_LOCAL.to_ne_bytes())]].concat();
        assert_eq!(one(RTM_NEWROUTE, &route_body(AF_INET6, 0, 3, &local)), []);

        // Two next hops of an IPv4 route.
        let hop = |link: u32, last: u8| {
            let own = attribute(5, &[10, 0, 0, last]);
            let length = u16::try_from(8 + own.len()).unwrap();
            let mut bytes = length.to_ne_bytes().to_vec();
            bytes.extend([0, 0]);
            bytes.extend(link.to_ne_bytes());
            bytes.extend(own);
            bytes
        };
        let several = [attribute(9, &[hop(1, 1), hop(2, 2)].concat())];
        let found = one(RTM_NEWROUTE, &route_body(AF_INET, 0, 3, &several));
        let expected = [(1, 1), (2, 2)].map(|(link, last)| News::DefaultRoute {
            route: DefaultRoute {
                link,
                gateway: [10, 0, 0, last].into(),
                by_advert: false,
            },
            gone: false,
        });
        assert_eq!(found, expected);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..256), kind in 16_u16..32) {
            let mut datagram = message(kind, 0, &bytes);
            datagram.extend(bytes);
            prop_assert!(news(&datagram, None).len() <= datagram.len() / 8);
        }
    }
}
