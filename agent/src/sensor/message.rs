//! Messages from the sensor to the agent: one datagram each, version byte first, bounded. The agent trusts nothing in
//! them: a sensor that was taken over can lie about advertisements and no more.
//!
//! ```text
//! version (1) | kind (1) | fields in network byte order
//! hello  = length (1) name of the release
//! advert = interface (4) source (16) flags (1: M 0x80, O 0x40, preference 0x18, incomplete 0x01) lifetime (2)
//!          has MAC (1) [MAC (6)] has MTU (1) [MTU (4)]
//!          prefixes (1) each: address (16) length (1) flags (1: L 0x80, A 0x40) valid (4) preferred (4)
//!          name servers (1) each: address (16)
//! counts = entries (1) each: reason (1) total since the sensor started (8)
//! ```

use std::net::Ipv6Addr;

use extranet_proto::mac::MacAddress;

use crate::packet::router_advert::{
    AdvertisedPrefix, NAME_SERVERS, PREFIXES, Preference, RouterAdvert,
};

/// Of the layout above.
pub const VERSION: u8 = 1;
/// Largest message, bytes: an advertisement with all prefixes and name servers that are looked at has 580.
pub const MESSAGE_BYTES: usize = 1_024;
/// Longest name of a release, bytes.
const RELEASE_BYTES: usize = 64;

const HELLO: u8 = 1;
const ADVERT: u8 = 2;
const COUNTS: u8 = 3;

const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
const PREFERENCE_SHIFT: u32 = 3;
const INCOMPLETE: u8 = 0x01;
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;

/// What the sensor says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// First on every connection.
    Hello {
        /// Release of the sensor.
        release: String,
    },
    /// A router advertisement was received.
    Advert(Received),
    /// How many advertisements were not passed on since the sensor started.
    Counts(Vec<(Loss, u64)>),
}

/// A router advertisement with where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Number of the interface.
    pub link: u32,
    /// Source of the packet: always a link-local address.
    pub source: Ipv6Addr,
    /// What it says.
    pub advert: RouterAdvert,
}

/// Why an advertisement was not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Loss {
    /// Not a router advertisement, or too short to be one.
    Malformed,
    /// Hop limit other than 255: it crossed a router, and hosts drop it (RFC 4861 section 6.1.2).
    HopLimit,
    /// Its source is not a link-local address; hosts drop it (RFC 4861 section 6.1.2).
    Source,
    /// More than the pace allows.
    Pace,
    /// No agent was connected.
    NoAgent,
    /// The agent did not read fast enough.
    AgentBusy,
}

impl Loss {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Malformed,
        Self::HopLimit,
        Self::Source,
        Self::Pace,
        Self::NoAgent,
        Self::AgentBusy,
    ];

    /// Number in messages.
    pub const fn number(self) -> u8 {
        match self {
            Self::Malformed => 1,
            Self::HopLimit => 2,
            Self::Source => 3,
            Self::Pace => 4,
            Self::NoAgent => 5,
            Self::AgentBusy => 6,
        }
    }

    /// Label form.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::HopLimit => "hop_limit",
            Self::Source => "source",
            Self::Pace => "pace",
            Self::NoAgent => "no_agent",
            Self::AgentBusy => "agent_busy",
        }
    }
}

/// Why a message cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// From a sensor of another release.
    #[error("version {0} is not known")]
    Version(u8),
    /// From a sensor of another release.
    #[error("kind {0} is not known")]
    Kind(u8),
    /// Too short, too long, or against the bounds.
    #[error("is damaged")]
    Damaged,
}

impl Message {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        match self {
            Self::Hello { release } => {
                let end = release.floor_char_boundary(RELEASE_BYTES);
                let release = release.as_bytes().get(..end).unwrap_or_default();
                bytes.extend([HELLO, small(release.len())]);
                bytes.extend_from_slice(release);
            }
            Self::Advert(received) => {
                bytes.push(ADVERT);
                encode_received(received, &mut bytes);
            }
            Self::Counts(counts) => {
                bytes.extend([COUNTS, small(counts.len())]);
                for (reason, total) in counts {
                    bytes.push(reason.number());
                    bytes.extend(total.to_be_bytes());
                }
            }
        }
        bytes
    }

    /// Reads a datagram. What this build does not know among the reasons of losses is left out.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_BYTES {
            return Err(MessageError::Damaged);
        }
        let mut fields = Fields(bytes);
        let version = fields.byte()?;
        if version != VERSION {
            return Err(MessageError::Version(version));
        }
        let message = match fields.byte()? {
            HELLO => Self::Hello {
                release: fields.release()?,
            },
            ADVERT => Self::Advert(fields.received()?),
            COUNTS => Self::Counts(fields.counts()?),
            kind => return Err(MessageError::Kind(kind)),
        };
        if fields.0.is_empty() {
            Ok(message)
        } else {
            Err(MessageError::Damaged)
        }
    }
}

/// Length of a list that is bounded far below.
fn small(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn encode_received(received: &Received, bytes: &mut Vec<u8>) {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let advert = &received.advert;
    bytes.extend(received.link.to_be_bytes());
    bytes.extend(received.source.octets());
    bytes.push(
        flag(advert.managed, MANAGED)
            | flag(advert.other, OTHER)
            | advert.preference.bits() << PREFERENCE_SHIFT
            | flag(advert.incomplete, INCOMPLETE),
    );
    bytes.extend(advert.lifetime_s.to_be_bytes());
    bytes.push(u8::from(advert.mac.is_some()));
    bytes.extend(advert.mac.iter().flat_map(|mac| mac.0));
    bytes.push(u8::from(advert.mtu.is_some()));
    bytes.extend(advert.mtu.iter().flat_map(|mtu| mtu.to_be_bytes()));
    bytes.push(small(advert.prefixes.len().min(PREFIXES)));
    for prefix in advert.prefixes.iter().take(PREFIXES) {
        bytes.extend(prefix.address.octets());
        bytes.push(prefix.length);
        bytes.push(flag(prefix.on_link, ON_LINK) | flag(prefix.autonomous, AUTONOMOUS));
        bytes.extend(prefix.valid_s.to_be_bytes());
        bytes.extend(prefix.preferred_s.to_be_bytes());
    }
    bytes.push(small(advert.name_servers.len().min(NAME_SERVERS)));
    let servers = advert.name_servers.iter().take(NAME_SERVERS);
    bytes.extend(servers.flat_map(Ipv6Addr::octets));
}

/// What is left of a message.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let (field, rest) = self.0.split_first_chunk().ok_or(MessageError::Damaged)?;
        self.0 = rest;
        Ok(*field)
    }

    fn byte(&mut self) -> Result<u8, MessageError> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u32, MessageError> {
        self.take().map(u32::from_be_bytes)
    }

    fn address(&mut self) -> Result<Ipv6Addr, MessageError> {
        self.take::<16>().map(Ipv6Addr::from)
    }

    /// A number of elements up to `most`.
    fn many(&mut self, most: usize) -> Result<usize, MessageError> {
        let many = usize::from(self.byte()?);
        (many <= most).then_some(many).ok_or(MessageError::Damaged)
    }

    /// Whether something follows.
    fn present(&mut self) -> Result<bool, MessageError> {
        self.many(1).map(|many| many == 1)
    }

    fn release(&mut self) -> Result<String, MessageError> {
        let length = self.many(RELEASE_BYTES)?;
        let (text, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(MessageError::Damaged)?;
        self.0 = rest;
        let text = std::str::from_utf8(text).map_err(|_| MessageError::Damaged)?;
        Ok(text.to_owned())
    }

    fn received(&mut self) -> Result<Received, MessageError> {
        let link = self.number()?;
        let source = self.address()?;
        let flags = self.byte()?;
        let lifetime_s = self.take().map(u16::from_be_bytes)?;
        let mac = self.present()?.then(|| self.take().map(MacAddress));
        let mac = mac.transpose()?;
        let mtu = self.present()?.then(|| self.number()).transpose()?;
        let prefixes = self.many(PREFIXES)?;
        let prefixes = (0..prefixes).map(|_| self.prefix());
        let prefixes = prefixes.collect::<Result<_, _>>()?;
        let servers = self.many(NAME_SERVERS)?;
        let servers = (0..servers).map(|_| self.address());
        let name_servers = servers.collect::<Result<_, _>>()?;
        if !source.is_unicast_link_local() {
            return Err(MessageError::Damaged);
        }
        Ok(Received {
            link,
            source,
            advert: RouterAdvert {
                managed: flags & MANAGED != 0,
                other: flags & OTHER != 0,
                preference: Preference::from_bits(flags >> PREFERENCE_SHIFT),
                lifetime_s,
                mac,
                mtu,
                prefixes,
                name_servers,
                incomplete: flags & INCOMPLETE != 0,
            },
        })
    }

    fn prefix(&mut self) -> Result<AdvertisedPrefix, MessageError> {
        let address = self.address()?;
        let length = self.byte()?;
        let flags = self.byte()?;
        if length > 128 {
            return Err(MessageError::Damaged);
        }
        Ok(AdvertisedPrefix {
            address,
            length,
            on_link: flags & ON_LINK != 0,
            autonomous: flags & AUTONOMOUS != 0,
            valid_s: self.number()?,
            preferred_s: self.number()?,
        })
    }

    fn counts(&mut self) -> Result<Vec<(Loss, u64)>, MessageError> {
        let many = usize::from(self.byte()?);
        let mut counts = Vec::new();
        for _ in 0..many {
            let number = self.byte()?;
            let total = self.take().map(u64::from_be_bytes)?;
            let known = Loss::ALL.into_iter().find(|loss| loss.number() == number);
            counts.extend(known.map(|loss| (loss, total)));
        }
        Ok(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert() -> Message {
        Message::Advert(Received {
            link: 3,
            source: "fe80::66".parse().unwrap(),
            advert: RouterAdvert {
                managed: true,
                other: false,
                preference: Preference::Low,
                lifetime_s: 1_800,
                mac: Some(MacAddress([2, 0, 0, 0, 0, 0x66])),
                mtu: Some(1_280),
                prefixes: vec![
                    AdvertisedPrefix {
                        address: "2001:db8:66::".parse().unwrap(),
                        length: 64,
                        on_link: true,
                        autonomous: false,
                        valid_s: u32::MAX,
                        preferred_s: 7,
                    };
                    PREFIXES
                ],
                name_servers: vec!["2001:db8::53".parse().unwrap(); NAME_SERVERS],
                incomplete: true,
            },
        })
    }

    #[test]
    fn messages_are_read_as_they_were_written_and_fit() {
        for message in [
            Message::Hello {
                release: "0.1.0".to_owned(),
            },
            advert(),
            Message::Counts(
                Loss::ALL
                    .map(|loss| (loss, u64::from(loss.number())))
                    .to_vec(),
            ),
        ] {
            let bytes = message.encode();
            assert!(bytes.len() <= MESSAGE_BYTES, "{}", bytes.len());
            assert_eq!(Message::decode(&bytes), Ok(message));
            for length in 0..bytes.len() {
                assert!(Message::decode(&bytes[..length]).is_err(), "{length}");
            }
            assert!(Message::decode(&[bytes, vec![0]].concat()).is_err());
        }
    }

    #[test]
    fn another_version_or_kind_is_told_from_damage() {
        assert_eq!(Message::decode(&[2, 1, 0]), Err(MessageError::Version(2)));
        assert_eq!(Message::decode(&[1, 9, 0]), Err(MessageError::Kind(9)));
        // A reason of a newer sensor.
        let counts = [vec![1, 3, 2, 200], vec![0; 8], vec![1], vec![0; 7], vec![5]].concat();
        let known = vec![(Loss::Malformed, 5)];
        assert_eq!(Message::decode(&counts), Ok(Message::Counts(known)));
        let mut foreign = advert().encode();
        foreign[6] = 0x20;
        assert_eq!(Message::decode(&foreign), Err(MessageError::Damaged));
    }
}
