//! Addresses of the generated inventory.
//!
//! IPv6: `2001:db8::/32` and behind it fields on nibble boundaries
//!
//! ```text
//! 2001:0db8 : R P CC : TT SS :: /64     R region (1), P prefecture, C county, T township, S site; 0 = the division's own
//! ```
//!
//! IPv4: 198.18.0.0/15, a /30 for each site. A division gets the smallest power of two that holds its own sites and the
//! blocks of the divisions in it; larger blocks come first, so that none is wasted.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use extranet_proto::wire;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::CENTRE_AP;

const IPV4_BASE: u32 = u32::from_be_bytes([198, 18, 0, 0]);
const IPV4_LENGTH: u8 = 15;
/// A link: router and agent.
const SITE_LENGTH: u8 = 30;
const IPV6_BASE: u128 = 0x2001_0db8 << 96;
/// Region field of Tibet.
const REGION: u128 = 1;

/// Place of a site in the plan; a field of 0 means the division above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SiteKey {
    pub(super) prefecture: u8,
    pub(super) county: u8,
    pub(super) township: u8,
    pub(super) site: u8,
}

/// The address plan has no room, or would be wrong.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// Too many sites.
    #[error("the IPv4 plan needs {needed} sites, {IPV4_LENGTH} bits leave room for {room}")]
    Full {
        /// Rounded up to powers of two.
        needed: u32,
        /// What there is.
        room: u32,
    },
    /// A site that is not in the plan.
    #[error("no address for site {0:?}")]
    Unknown(String),
    /// The proof failed.
    #[error("{ap_id}: {problem}")]
    Wrong {
        /// Of which access point.
        ap_id: String,
        /// What is wrong.
        problem: String,
    },
}

/// Who has which prefix.
pub(super) struct AddressPlan {
    /// IPv4 block of each division: (prefecture, county, township), zeros behind.
    blocks: BTreeMap<[u8; 3], Ipv4Net>,
    sites: HashMap<SiteKey, Ipv4Net>,
}

/// A division with what it holds: its own sites and the divisions below.
#[derive(Default)]
struct Node {
    own: Vec<SiteKey>,
    inner: BTreeMap<u8, Node>,
}

impl Node {
    /// Sites of /30 that fit, always a power of two.
    fn size(&self) -> u32 {
        let own = u32::try_from(self.own.len()).unwrap_or(u32::MAX);
        let inner: u32 = self.inner.values().map(Node::size).sum();
        (own.next_power_of_two() + inner).next_power_of_two()
    }
}

impl AddressPlan {
    pub(super) fn new(keys: impl Iterator<Item = SiteKey>) -> Result<Self, AddressError> {
        let mut region = Node::default();
        for key in keys {
            let mut node = &mut region;
            for field in [key.prefecture, key.county, key.township] {
                if field == 0 {
                    break;
                }
                node = node.inner.entry(field).or_default();
            }
            node.own.push(key);
        }
        let room = 1 << (SITE_LENGTH - IPV4_LENGTH);
        let needed = region.size();
        if needed > room {
            return Err(AddressError::Full { needed, room });
        }
        let mut plan = Self {
            blocks: BTreeMap::new(),
            sites: HashMap::new(),
        };
        plan.place(&region, [0; 3], 0, 0);
        Ok(plan)
    }

    fn place(&mut self, node: &Node, division: [u8; 3], depth: usize, first: u32) {
        self.blocks.insert(division, block(first, node.size()));
        // Sizes are powers of two: in descending order each is aligned to itself.
        let mut parts: Vec<(u32, Option<u8>)> = node
            .inner
            .iter()
            .map(|(field, inner)| (inner.size(), Some(*field)))
            .collect();
        let own = u32::try_from(node.own.len()).unwrap_or(u32::MAX);
        parts.push((own.next_power_of_two(), None));
        parts.sort_by_key(|(size, field)| (std::cmp::Reverse(*size), *field));
        let mut at = first;
        for (size, field) in parts {
            match field {
                None => {
                    for (key, site) in node.own.iter().zip(at..) {
                        self.sites.insert(*key, block(site, 1));
                    }
                }
                Some(field) => {
                    let mut inner = division;
                    inner[depth] = field;
                    if let Some(node) = node.inner.get(&field) {
                        self.place(node, inner, depth + 1, at);
                    }
                }
            }
            at += size;
        }
    }

    pub(super) fn ipv4(&self, key: SiteKey) -> Result<Ipv4Net, AddressError> {
        let known = self.sites.get(&key).copied();
        known.ok_or_else(|| AddressError::Unknown(format!("{key:?}")))
    }

    #[expect(
        clippy::unused_self,
        reason = "the IPv6 plan is a formula, the IPv4 plan a table"
    )]
    pub(super) fn ipv6(&self, key: SiteKey) -> Ipv6Net {
        let fields = [key.prefecture, key.county, key.township];
        let site = u128::from(key.site) << 64;
        net6(ipv6_bits(fields) | site, 64)
    }

    /// Routers are what the centre and the parents look at; the centre has what everybody looks for.
    pub(super) fn targets(
        &self,
        ap_id: &str,
        key: SiteKey,
    ) -> Result<Vec<wire::TargetRow>, AddressError> {
        let v4 = self.ipv4(key)?;
        let first = Ipv4Addr::from_bits(v4.network().to_bits() + 1);
        let target = |name: &str, kind: &str, address: IpAddr| wire::TargetRow {
            ap_id: ap_id.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            address: address.to_string(),
            ..Default::default()
        };
        if ap_id != CENTRE_AP {
            return Ok(vec![target("ce", "router", first.into())]);
        }
        let six = Ipv6Addr::from_bits(self.ipv6(key).network().to_bits() + 1);
        Ok(vec![
            target("core-v4", "anchor", first.into()),
            target("core-v6", "anchor", six.into()),
        ])
    }

    /// GEO-12: no two sites share an address, every prefix lies in those of the divisions around it.
    pub(super) fn prove(&self, rows: &[wire::AccessPointRow]) -> Result<(), AddressError> {
        let mut taken: BTreeSet<(IpAddr, IpAddr)> = BTreeSet::new();
        for row in rows {
            let wrong = |problem: String| AddressError::Wrong {
                ap_id: row.ap_id.clone(),
                problem,
            };
            for text in [&row.ipv4_prefix, &row.ipv6_prefix] {
                let net: IpNet = text
                    .parse()
                    .map_err(|_| wrong(format!("{text} is no prefix")))?;
                taken.insert((net.network(), net.broadcast()));
            }
        }
        if taken.len() != 2 * rows.len() {
            return Err(AddressError::Wrong {
                ap_id: String::new(),
                problem: "a prefix was given out twice".to_owned(),
            });
        }
        for pair in taken.iter().zip(taken.iter().skip(1)) {
            let ((_, end), (start, _)) = pair;
            if end >= start {
                return Err(AddressError::Wrong {
                    ap_id: String::new(),
                    problem: format!("the prefixes that begin at {start} and end at {end} overlap"),
                });
            }
        }
        for (key, net) in &self.sites {
            let division = [key.prefecture, key.county, key.township];
            let site = self.ipv6(*key);
            for depth in 0..=3 {
                let mut around = division;
                around[depth..].fill(0);
                let v6 = division_prefix6(around);
                let inside = self
                    .blocks
                    .get(&around)
                    .is_some_and(|block| block.contains(net))
                    && v6.contains(&site);
                if !inside {
                    return Err(AddressError::Wrong {
                        ap_id: format!("{key:?}"),
                        problem: format!("{net} or {site} is outside {around:?}"),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Prefix of a division: (prefecture, county, township), zeros behind.
pub(super) fn division_prefix6(division: [u8; 3]) -> Ipv6Net {
    let length = match division {
        [0, _, _] => 36,
        [_, 0, _] => 40,
        [_, _, 0] => 48,
        _ => 56,
    };
    net6(ipv6_bits(division), length)
}

fn ipv6_bits([prefecture, county, township]: [u8; 3]) -> u128 {
    let field = |value: u8, shift: u32| u128::from(value) << shift;
    IPV6_BASE | REGION << 92 | field(prefecture, 88) | field(county, 80) | field(township, 72)
}

fn net6(bits: u128, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_bits(bits), length)
}

/// `size` sites of /30 from site `first` on; `size` is a power of two.
fn block(first: u32, size: u32) -> Ipv4Net {
    let address = Ipv4Addr::from_bits(IPV4_BASE + (first << (32 - SITE_LENGTH)));
    let bits = u8::try_from(size.trailing_zeros()).unwrap_or_default();
    Ipv4Net::new_assert(address, SITE_LENGTH - bits)
}
