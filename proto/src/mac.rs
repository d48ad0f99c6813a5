//! MAC addresses, and which of them say that a router is a virtual one.

use std::fmt;
use std::str::FromStr;

/// An IEEE 802 MAC address of 48 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// Whether the address belongs to a redundancy protocol of routers: it moves between machines by design.
    /// VRRP: 00:00:5e:00:01:xx for IPv4, 00:00:5e:00:02:xx for IPv6 (RFC 9568 section 7.3). HSRP: 00:00:0c:07:ac:xx
    /// (version 1, RFC 2281 section 5.1), 00:00:0c:9f:fx:xx and 00:05:73:a0:0x:xx (version 2, IPv4 and IPv6). GLBP:
    /// 00:07:b4:00:xx:xx.
    pub const fn is_virtual_router(self) -> bool {
        matches!(
            self.0,
            [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _]
                | [0x00, 0x00, 0x0c, 0x07, 0xac, _]
                | [0x00, 0x00, 0x0c, 0x9f, 0xf0..=0xff, _]
                | [0x00, 0x05, 0x73, 0xa0, 0x00..=0x0f, _]
                | [0x00, 0x07, 0xb4, 0x00, _, _]
        )
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{octet:02x}")?;
        }
        Ok(())
    }
}

/// A text is no MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be six bytes in hexadecimal, as 00:11:22:aa:bb:cc")]
pub struct InvalidMac;

impl FromStr for MacAddress {
    type Err = InvalidMac;

    /// Six pairs of hexadecimal digits, all separated by ':' or all by '-', in either case.
    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; 6];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().ok_or(InvalidMac)?;
            let digits = part.bytes().all(|byte| byte.is_ascii_hexdigit());
            if part.len() != 2 || !digits {
                return Err(InvalidMac);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| InvalidMac)?;
        }
        match parts.next() {
            None => Ok(Self(octets)),
            Some(_) => Err(InvalidMac),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_usual_forms_are_read_and_one_is_shown() {
        for text in ["00:1a:2B:3c:4d:ff", "00-1A-2b-3C-4D-FF"] {
            assert_eq!(
                text.parse::<MacAddress>().unwrap().to_string(),
                "00:1a:2b:3c:4d:ff"
            );
        }
        for text in [
            "",
            "00:1a:2b:3c:4d",
            "00:1a:2b:3c:4d:ff:00",
            "00:1a:2b:3c:4d:+f",
            "00:1a-2b:3c:4d:ff",
            "001a2b3c4dff",
        ] {
            assert_eq!(text.parse::<MacAddress>(), Err(InvalidMac), "{text}");
        }
    }

    #[test]
    fn virtual_routers_are_known_by_their_blocks() {
        let virtual_router = |text: &str| text.parse::<MacAddress>().unwrap().is_virtual_router();
        for text in [
            "00:00:5e:00:01:0a",
            "00:00:5e:00:02:ff",
            "00:00:0c:07:ac:01",
            "00:00:0c:9f:f1:02",
            "00:05:73:a0:0f:ff",
            "00:07:b4:00:01:01",
        ] {
            assert!(virtual_router(text), "{text}");
        }
        for text in [
            "00:00:5e:00:03:0a",
            "00:00:0c:07:ad:01",
            "00:05:73:a0:10:00",
            "02:00:00:00:00:01",
        ] {
            assert!(!virtual_router(text), "{text}");
        }
    }
}
