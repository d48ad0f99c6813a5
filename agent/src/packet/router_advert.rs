//! Router advertisements (RFC 4861 section 4.2) with the options that security detections look at. Bytes only.
//!
//! Hosts skip an option they cannot use and take the rest, so an advertisement is never refused for its options: what
//! could not be read, or did not fit, is told by [`RouterAdvert::incomplete`].

use std::fmt;
use std::net::Ipv6Addr;

use etherparse::Icmpv6Slice;
use etherparse::icmpv6::{
    NdpOptionSlice, NdpOptionType, NdpOptionsIterator, RouterAdvertisementHeader,
    RouterAdvertisementPayloadSlice, TYPE_ROUTER_ADVERTISEMENT,
};
use extranet_proto::mac::MacAddress;

/// Most prefixes that are looked at: routers have one or two for each segment.
pub const PREFIXES: usize = 16;
/// Most name servers that are looked at: RFC 8106 section 5.3.1 lets hosts keep three.
pub const NAME_SERVERS: usize = 8;
/// Recursive DNS Server option (RFC 8106 section 5.1).
const RDNSS: NdpOptionType = NdpOptionType(25);
/// Kind, length, reserved, lifetime.
const RDNSS_HEADER_BYTES: usize = 8;
/// Where the preference stands in the byte of the flags (RFC 4191 section 2.2).
const PREFERENCE_SHIFT: u32 = 3;

/// What a router says about itself and its segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterAdvert {
    /// Addresses come from `DHCPv6` (flag M).
    pub managed: bool,
    /// Other configuration comes from `DHCPv6` (flag O).
    pub other: bool,
    /// Against other default routers.
    pub preference: Preference,
    /// For how long it is a default router, s; 0 = it is none.
    pub lifetime_s: u16,
    /// Source link-layer address option.
    pub mac: Option<MacAddress>,
    /// MTU option, bytes.
    pub mtu: Option<u32>,
    /// Prefix information options, at most [`PREFIXES`].
    pub prefixes: Vec<AdvertisedPrefix>,
    /// Recursive name servers, at most [`NAME_SERVERS`].
    pub name_servers: Vec<Ipv6Addr>,
    /// Options were damaged, or more than fit.
    pub incomplete: bool,
}

/// A prefix information option (RFC 4861 section 4.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertisedPrefix {
    /// As advertised: bits behind the length are the router's own affair.
    pub address: Ipv6Addr,
    /// Up to 128.
    pub length: u8,
    /// On the link (flag L).
    pub on_link: bool,
    /// For addresses that hosts make themselves (flag A).
    pub autonomous: bool,
    /// s
    pub valid_s: u32,
    /// s
    pub preferred_s: u32,
}

impl fmt::Display for AdvertisedPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Default router preference (RFC 4191 section 2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preference {
    /// Chosen before others.
    High,
    /// The usual one; the reserved value counts as it.
    Medium,
    /// Chosen after others.
    Low,
}

impl Preference {
    /// From its two bits.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b01 => Self::High,
            0b11 => Self::Low,
            // RFC 4191 section 2.2: 10 is reserved and must be treated as 00.
            _ => Self::Medium,
        }
    }

    /// Its two bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::High => 0b01,
            Self::Medium => 0b00,
            Self::Low => 0b11,
        }
    }

    /// For evidence.
    pub const fn label(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// Reads an ICMPv6 message. `None`: not a router advertisement, or one that every host drops (RFC 4861 section 6.1.2:
/// code 0, at least 16 bytes). Hop limit, source and checksum are the receiver's to check.
pub fn parse(message: &[u8]) -> Option<RouterAdvert> {
    let icmp = Icmpv6Slice::from_slice(message).ok()?;
    if icmp.type_u8() != TYPE_ROUTER_ADVERTISEMENT || icmp.code_u8() != 0 {
        return None;
    }
    let fixed = icmp.bytes5to8();
    let header = RouterAdvertisementHeader::from_bytes(fixed);
    let payload = RouterAdvertisementPayloadSlice::from_slice(icmp.payload()).ok()?;
    let [_, flags, ..] = fixed;
    let mut advert = RouterAdvert {
        managed: header.managed_address_config,
        other: header.other_config,
        preference: Preference::from_bits(flags >> PREFERENCE_SHIFT),
        lifetime_s: header.router_lifetime,
        mac: None,
        mtu: None,
        prefixes: Vec::new(),
        name_servers: Vec::new(),
        incomplete: false,
    };
    for option in NdpOptionsIterator::from_slice(payload.options()) {
        match option {
            Ok(option) => advert.take(&option),
            Err(_) => advert.incomplete = true,
        }
    }
    Some(advert)
}

impl RouterAdvert {
    fn take(&mut self, option: &NdpOptionSlice<'_>) {
        match option {
            NdpOptionSlice::SourceLinkLayerAddress(address) => {
                // Media with other lengths than Ethernet have nothing that could be approved.
                match address.link_layer_address().try_into() {
                    Ok(octets) if self.mac.is_none() => self.mac = Some(MacAddress(octets)),
                    _ => self.incomplete = true,
                }
            }
            NdpOptionSlice::PrefixInformation(prefix) => {
                if self.prefixes.len() == PREFIXES || prefix.prefix_length() > 128 {
                    self.incomplete = true;
                    return;
                }
                self.prefixes.push(AdvertisedPrefix {
                    address: prefix.prefix().into(),
                    length: prefix.prefix_length(),
                    on_link: prefix.on_link(),
                    autonomous: prefix.autonomous_address_configuration(),
                    valid_s: prefix.valid_lifetime(),
                    preferred_s: prefix.preferred_lifetime(),
                });
            }
            NdpOptionSlice::Mtu(mtu) => self.mtu = Some(mtu.mtu()),
            NdpOptionSlice::Unknown(unknown) if unknown.option_type() == RDNSS => {
                self.take_name_servers(unknown.as_bytes());
            }
            // Routers send no others that matter here; hosts ignore what they do not know.
            _ => {}
        }
    }

    fn take_name_servers(&mut self, option: &[u8]) {
        let (addresses, rest) = option
            .get(RDNSS_HEADER_BYTES..)
            .unwrap_or_default()
            .as_chunks::<16>();
        self.incomplete |= addresses.is_empty() || !rest.is_empty();
        for address in addresses {
            if self.name_servers.len() == NAME_SERVERS {
                self.incomplete = true;
                return;
            }
            self.name_servers.push((*address).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As radvd 2.19 sends it for `AdvDefaultPreference high; AdvOtherConfigFlag on; AdvLinkMTU 1400;` with a prefix and
    /// a name server.
    fn sample() -> Vec<u8> {
        let mut bytes = vec![134, 0, 0xab, 0xcd, 64, 0x48, 0x07, 0x08];
        bytes.extend([0; 8]);
        bytes.extend([
            3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0,
        ]);
        bytes.extend("2001:db8:1::".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend([25, 3, 0, 0, 0, 0, 2, 0x58]);
        bytes.extend("2001:db8:1::53".parse::<Ipv6Addr>().unwrap().octets());
        bytes.extend([5, 1, 0, 0, 0, 0, 5, 0x78]);
        bytes.extend([1, 1, 2, 0, 0, 0, 0, 0x66]);
        bytes
    }

    #[test]
    fn an_advertisement_is_read_with_its_options() {
        let advert = parse(&sample()).unwrap();
        let expected = RouterAdvert {
            managed: false,
            other: true,
            preference: Preference::High,
            lifetime_s: 1_800,
            mac: Some(MacAddress([2, 0, 0, 0, 0, 0x66])),
            mtu: Some(1_400),
            prefixes: vec![AdvertisedPrefix {
                address: "2001:db8:1::".parse().unwrap(),
                length: 64,
                on_link: true,
                autonomous: true,
                valid_s: 86_400,
                preferred_s: 14_400,
            }],
            name_servers: vec!["2001:db8:1::53".parse().unwrap()],
            incomplete: false,
        };
        assert_eq!(advert, expected);
        assert_eq!(advert.prefixes[0].to_string(), "2001:db8:1::/64");
    }

    #[test]
    fn what_hosts_drop_is_dropped_and_what_they_take_is_taken() {
        let good = sample();
        for length in 0..16 {
            assert_eq!(parse(&good[..length]), None, "{length}");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            parse(&bytes)
        };
        assert_eq!(with(0, 133), None, "a solicitation");
        assert_eq!(with(1, 1), None, "a code");
        assert_eq!(with(5, 0x10).unwrap().preference, Preference::Medium);
        assert_eq!(with(5, 0x18).unwrap().preference, Preference::Low);
        // A prefix option without length: everything behind it is lost, the advertisement itself is not.
        let cut = with(17, 0).unwrap();
        assert!(cut.incomplete && cut.prefixes.is_empty() && cut.lifetime_s == 1_800);
        assert!(with(18, 129).unwrap().incomplete, "a prefix of 129 bits");
        assert!(parse(&good[..good.len() - 1]).unwrap().incomplete);

        let mut many = good.clone();
        for _ in 0..PREFIXES {
            many.extend_from_slice(&good[16..48]);
        }
        let many = parse(&many).unwrap();
        assert_eq!((many.prefixes.len(), many.incomplete), (PREFIXES, true));
    }

    #[test]
    fn preferences_keep_their_bits() {
        for preference in [Preference::High, Preference::Medium, Preference::Low] {
            assert_eq!(Preference::from_bits(preference.bits()), preference);
        }
        assert_eq!(Preference::from_bits(0b10), Preference::Medium);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_within_bounds(options in proptest::collection::vec(any::<u8>(), 0..1_500)) {
            let mut message = sample();
            message.truncate(16);
            message.extend(options);
            let advert = parse(&message).unwrap();
            prop_assert!(advert.prefixes.len() <= PREFIXES);
            prop_assert!(advert.name_servers.len() <= NAME_SERVERS);
        }
    }
}
