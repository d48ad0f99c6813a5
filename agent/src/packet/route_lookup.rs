//! Asking the kernel which way a destination takes (rtnetlink(7), `RTM_GETROUTE`): the request, and what the answer says.
//! Bytes only; numbers are in the machine's byte order.

use std::net::IpAddr;

use super::rtnetlink::{aligned, attributes, u16_at, u32_at};

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
/// Answer with the entry of the table that matched, not with a route made for this destination (linux/rtnetlink.h).
const RTM_F_FIB_MATCH: u32 = 0x2000;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const HEADER_BYTES: usize = 16;
/// Types of routes (linux/rtnetlink.h): to this machine itself.
const RTN_LOCAL: u8 = 2;
/// `RTPROT_KERNEL`: the route of a prefix that an interface has an address in.
const RTPROT_KERNEL: u8 = 2;

/// The entry of the routing table that a destination takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Outgoing interface.
    pub link: u32,
    /// Whether the destination is this machine, or in a prefix that an interface of it has an address in: nothing of
    /// it passes an uplink.
    pub local: bool,
}

/// The question for one destination; `vrf` is the number of the VRF's device, 0 for the default table.
pub fn request(destination: IpAddr, vrf: u32, sequence: u32) -> Vec<u8> {
    let (family, address): (u8, Vec<u8>) = match destination {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    };
    let bits = u8::try_from(address.len() * 8).unwrap_or(0);
    let mut body = vec![family, bits, 0, 0, 0, 0, 0, 0];
    body.extend_from_slice(&RTM_F_FIB_MATCH.to_ne_bytes());
    // RTA_DST = 1, RTA_OIF = 4.
    attribute(&mut body, 1, &address);
    if vrf != 0 {
        attribute(&mut body, 4, &vrf.to_ne_bytes());
    }
    let length = u32::try_from(HEADER_BYTES + body.len()).unwrap_or(0);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&RTM_GETROUTE.to_ne_bytes());
    bytes.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0_u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend_from_slice(&length.to_ne_bytes());
    body.extend_from_slice(&kind.to_ne_bytes());
    body.extend_from_slice(value);
    body.resize(aligned(body.len()), 0);
}

/// What the datagram answers to `sequence`: a way, or the kernel's error number. `None`: it is no answer to it.
pub fn answer(datagram: &[u8], sequence: u32) -> Option<Result<Way, i32>> {
    let length = usize::try_from(u32_at(datagram, 0)?).ok()?;
    let body = datagram.get(HEADER_BYTES..length)?;
    if u32_at(datagram, 8)? != sequence {
        return None;
    }
    match u16_at(datagram, 4)? {
        RTM_NEWROUTE => way(body).map(Ok),
        NLMSG_ERROR => Some(Err(u32_at(body, 0)?.cast_signed().saturating_neg())),
        _ => None,
    }
}

/// struct rtmsg: family, destination length, source length, tos, table, protocol, scope, type, flags. `RTA_OIF` = 4,
/// `RTA_GATEWAY` = 5, `RTA_MULTIPATH` = 9 (its first way counts), `RTA_VIA` = 18.
fn way(body: &[u8]) -> Option<Way> {
    let &[_, prefix_length, _, _, _, protocol, _, kind, ..] = body else {
        return None;
    };
    let (mut link, mut through_gateway) = (0, false);
    for (kind, value) in attributes(body.get(12..)?) {
        match kind {
            4 => link = u32_at(value, 0)?,
            5 | 18 => through_gateway = true,
            // struct rtnexthop: length u16, flags, hops, index. Several ways are ways to routers.
            9 => (link, through_gateway) = (u32_at(value, 4)?, true),
            _ => {}
        }
    }
    // A default route without a gateway is that of a dial-up or mobile device: an uplink.
    let connected = protocol == RTPROT_KERNEL && prefix_length > 0 && !through_gateway;
    Some(Way {
        link,
        local: kind == RTN_LOCAL || connected,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(sequence: u32, fixed: [u8; 12], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = fixed.to_vec();
        for (kind, value) in attributes {
            attribute(&mut body, *kind, value);
        }
        let mut bytes = u32::try_from(HEADER_BYTES + body.len())
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend_from_slice(&RTM_NEWROUTE.to_ne_bytes());
        bytes.extend_from_slice(&[0, 0]);
        bytes.extend_from_slice(&sequence.to_ne_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn only_own_prefixes_and_own_addresses_are_local() {
        let eth = 3_u32.to_ne_bytes();
        let rtmsg =
            |prefix, protocol, kind| [AF_INET, prefix, 0, 0, 254, protocol, 0, kind, 0, 0, 0, 0];
        let of = |fixed, attributes: &[(u16, &[u8])]| {
            let way = answer(&reply(7, fixed, attributes), 7).unwrap().unwrap();
            (way.link, way.local)
        };
        let via: (u16, &[u8]) = (5, &[10, 0, 0, 1]);
        assert_eq!(of(rtmsg(24, 2, 1), &[(4, &eth)]), (3, true), "connected");
        assert_eq!(of(rtmsg(32, 2, 2), &[(4, &eth)]), (3, true), "own address");
        assert_eq!(of(rtmsg(0, 4, 1), &[via, (4, &eth)]), (3, false), "default");
        assert_eq!(of(rtmsg(0, 2, 1), &[(4, &eth)]), (3, false), "dial-up");
        assert_eq!(of(rtmsg(16, 4, 1), &[(4, &eth)]), (3, false), "static");
        let hops: Vec<u8> = [&8_u16.to_ne_bytes()[..], &[0, 0], &9_u32.to_ne_bytes()].concat();
        assert_eq!(of(rtmsg(0, 4, 1), &[(9, &hops)]), (9, false), "multipath");
        assert_eq!(answer(&reply(7, rtmsg(0, 4, 1), &[]), 8), None);
    }

    proptest! {
        #[test]
        fn no_bytes_can_hurt(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = answer(&bytes, 0);
            let _ = way(&bytes);
        }
    }
}
