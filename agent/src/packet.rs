//! Bytes only: packets built and parsed. No sockets, no clocks, no state; whatever comes in, nothing here panics.
//!
//! - [`icmp`]: echo requests and replies, and the start of a request that an error message quotes;
//! - [`mark`]: what a packet of a trace carries so that it is known again;
//! - [`answer`]: what an answer to a packet of a trace says;
//! - [`trouble`]: what the type and code of an ICMP error say about the target or the path;
//! - [`ipv4`]: the header that raw sockets put in front of what they deliver;
//! - [`router_advert`]: router advertisements and their options;
//! - [`certificate`]: what a certificate says about itself;
//! - [`checksum`]: the Internet checksum;
//! - [`dns`]: queries to name servers and their answers;
//! - [`http`]: where a redirect leads, and whether a text is in a body;
//! - [`ntp`]: requests to time servers and their answers;
//! - [`udp_echo`]: datagrams that come back as they are, and those that do not;
//! - [`recording`]: packets as text, and what must come of them, for tests;
//! - [`rtnetlink`]: requests to the kernel's routing netlink, and its answers;
//! - [`route_lookup`]: which way the kernel sends a destination.

pub mod answer;
pub mod certificate;
pub mod checksum;
pub mod dns;
pub mod http;
pub mod icmp;
pub mod ipv4;
pub mod mark;
pub mod ntp;
pub mod recording;
pub mod route_lookup;
pub mod router_advert;
pub mod rtnetlink;
pub mod trouble;
pub mod udp_echo;

#[cfg(test)]
mod tests {
    use extranet_proto::assignment::Family;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::{icmp, ipv4};

    /// A change of a packet on its way.
    #[derive(Debug, Clone)]
    enum Mutation {
        Flip(Index, u8),
        Cut(Index),
        Repeat(Index),
        Insert(Index, u8),
    }

    impl Mutation {
        fn apply(&self, packet: &mut Vec<u8>) {
            let length = packet.len();
            if length == 0 {
                return;
            }
            match self {
                Self::Flip(at, bits) => packet[at.index(length)] ^= bits,
                Self::Cut(at) => packet.truncate(at.index(length)),
                Self::Repeat(from) => packet.extend_from_within(from.index(length)..),
                Self::Insert(at, byte) => packet.insert(at.index(length), *byte),
            }
        }
    }

    fn mutation() -> impl Strategy<Value = Mutation> {
        prop_oneof![
            4 => (any::<Index>(), 1..=u8::MAX).prop_map(|(at, bits)| Mutation::Flip(at, bits)),
            1 => any::<Index>().prop_map(Mutation::Cut),
            1 => any::<Index>().prop_map(Mutation::Repeat),
            1 => any::<(Index, u8)>().prop_map(|(at, byte)| Mutation::Insert(at, byte)),
        ]
    }

    /// What a raw socket would deliver.
    fn whole_packet(family: Family) -> Vec<u8> {
        let echo = icmp::Echo {
            identifier: 1,
            sequence: 2,
            payload: &[7; 56],
        };
        let mut message = Vec::new();
        icmp::build_request(family, &echo, &mut message);
        let mut packet = vec![0x45, 0, 0, 84, 0, 0, 0, 0, 64, 1, 0, 0];
        packet.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend_from_slice(&message);
        packet
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        /// Nothing panics, and nothing that is read is longer than what came.
        #[test]
        fn mutated_packets_are_read_or_refused(
            mutations in prop::collection::vec(mutation(), 1..6),
            v6: bool,
        ) {
            let family = if v6 { Family::V6 } else { Family::V4 };
            let mut packet = whole_packet(family);
            for mutation in &mutations {
                mutation.apply(&mut packet);
            }
            if let Some(inner) = ipv4::parse(&packet) {
                prop_assert!(inner.payload.len() + 20 <= packet.len());
                for verify in [false, true] {
                    if let Ok(icmp::Message::Request(echo) | icmp::Message::Reply(echo)) =
                        icmp::parse(family, inner.payload, verify)
                    {
                        prop_assert_eq!(echo.payload.len() + icmp::HEADER_BYTES, inner.payload.len());
                    }
                }
            }
            if let Some(echo) = icmp::parse_quoted(family, &packet) {
                prop_assert_eq!(echo.payload.len() + icmp::HEADER_BYTES, packet.len());
            }
        }
    }
}
