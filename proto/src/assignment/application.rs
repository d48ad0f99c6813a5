//! The IPv6 readiness run, and what names must look like. Like in the files beside it (DNS, HTTP and TLS, datagrams),
//! the domain form of a probe and both conversions stand together, because each is little more than its fields.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::str::FromStr;

use super::read::{narrow, port};
use crate::error::ProtoError;
use crate::{limits, wire};

/// A run of the IPv6 readiness rubric. What is absent leaves its checks not tested.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ipv6Probe {
    /// Prefix that the access point was given.
    pub allotted_prefix: Option<Prefix6>,
    /// Addresses that answer echo requests.
    pub anchors4: Vec<Ipv4Addr>,
    /// Addresses that answer echo requests.
    pub anchors6: Vec<Ipv6Addr>,
    /// The collector's own address.
    pub collector6: Option<SocketAddrV6>,
    /// What the site must reach.
    pub services: Vec<Ipv6Service>,
    /// Name server.
    pub resolver6: Option<Ipv6Addr>,
    /// MTU that the path to the anchors should have, bytes.
    pub expected_path_mtu: Option<u16>,
}

/// A service that a site must reach over IPv6.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipv6Service {
    /// For people.
    pub name: String,
    /// Host name.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether TLS is spoken on it.
    pub tls: bool,
}

/// An IPv6 prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix6 {
    address: Ipv6Addr,
    length: u8,
}

impl Prefix6 {
    /// Whether an address lies within.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        let shift = 128 - u32::from(self.length);
        let differing = address.to_bits() ^ self.address.to_bits();
        differing.checked_shr(shift).unwrap_or(0) == 0
    }

    /// Whether another prefix lies within, or is the same.
    pub fn covers(self, address: Ipv6Addr, length: u8) -> bool {
        length >= self.length && self.contains(address)
    }
}

impl fmt::Display for Prefix6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl FromStr for Prefix6 {
    type Err = ProtoError;

    fn from_str(text: &str) -> Result<Self, ProtoError> {
        let read = || {
            let (address, length) = text.split_once('/')?;
            let (address, length) = (address.parse().ok()?, length.parse().ok()?);
            (length <= 128).then_some(Self { address, length })
        };
        read().ok_or(ProtoError::Invalid {
            field: "ipv6.allotted_prefix",
            rule: "must be a prefix such as 2001:db8::/48",
        })
    }
}

/// Lower case, without the final dot; labels of 1 to 63 bytes (RFC 1035 section 2.3.4).
pub(super) fn dns_name(field: &'static str, text: &str) -> Result<String, ProtoError> {
    ProtoError::check_len(field, text.len(), limits::TEXT_BYTES)?;
    if text == "." {
        return Ok(text.to_owned());
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let label = |label: &str| (1..=63).contains(&label.len()) && label.chars().all(allowed);
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(ProtoError::Invalid {
            field,
            rule: "must be a domain name",
        });
    }
    Ok(name)
}

/// Empty, an address or a host name.
pub(super) fn host(field: &'static str, host: String) -> Result<String, ProtoError> {
    if host.is_empty() || host.parse::<IpAddr>().is_ok() {
        return Ok(host);
    }
    dns_name(field, &host)
}

impl TryFrom<wire::Ipv6Probe> for Ipv6Probe {
    type Error = ProtoError;

    fn try_from(ipv6: wire::Ipv6Probe) -> Result<Self, ProtoError> {
        let found = ipv6.services.len();
        ProtoError::check_len("ipv6.services", found, limits::IPV6_SERVICES)?;
        let services = ipv6.services.into_iter().map(Ipv6Service::try_from);
        let mtu = ipv6.expected_path_mtu;
        Ok(Self {
            allotted_prefix: optional(&ipv6.allotted_prefix, str::parse)?,
            anchors4: anchors("ipv6.anchors4", &ipv6.anchors4)?,
            anchors6: anchors("ipv6.anchors6", &ipv6.anchors6)?,
            collector6: optional(&ipv6.collector6, |text| {
                let rule = "must be an address with port such as [2001:db8::1]:8443";
                parsed("ipv6.collector6", text, rule)
            })?,
            services: services.collect::<Result<_, _>>()?,
            resolver6: optional(&ipv6.resolver6, |text| {
                parsed("ipv6.resolver6", text, "must be an IPv6 address")
            })?,
            expected_path_mtu: match mtu {
                0 => None,
                // RFC 8200 section 5: no link of IPv6 has a smaller one.
                mtu => Some(narrow(
                    "ipv6.expected_path_mtu",
                    ProtoError::check_span("ipv6.expected_path_mtu", mtu, 1_280, 65_535)?,
                )?),
            },
        })
    }
}

/// `None` for an empty text.
fn optional<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, ProtoError>,
) -> Result<Option<T>, ProtoError> {
    if text.is_empty() {
        return Ok(None);
    }
    read(text).map(Some)
}

fn anchors<T: FromStr>(field: &'static str, texts: &[String]) -> Result<Vec<T>, ProtoError> {
    ProtoError::check_len(field, texts.len(), limits::IPV6_ANCHORS)?;
    let rule = "must be addresses of the family";
    texts.iter().map(|text| parsed(field, text, rule)).collect()
}

fn parsed<T: FromStr>(
    field: &'static str,
    text: &str,
    rule: &'static str,
) -> Result<T, ProtoError> {
    text.parse()
        .map_err(|_| ProtoError::Invalid { field, rule })
}

impl TryFrom<wire::Ipv6Service> for Ipv6Service {
    type Error = ProtoError;

    fn try_from(service: wire::Ipv6Service) -> Result<Self, ProtoError> {
        let len = service.name.len();
        ProtoError::check_len("ipv6.services.name", len, limits::TEXT_BYTES)?;
        Ok(Self {
            name: service.name,
            host: dns_name("ipv6.services.host", &service.host)?,
            port: port("ipv6.services.port", service.port)?,
            tls: service.tls,
        })
    }
}

impl From<&Ipv6Probe> for wire::Ipv6Probe {
    fn from(ipv6: &Ipv6Probe) -> Self {
        let service = |service: &Ipv6Service| wire::Ipv6Service {
            name: service.name.clone(),
            host: service.host.clone(),
            port: service.port.into(),
            tls: service.tls,
        };
        Self {
            allotted_prefix: text(ipv6.allotted_prefix),
            anchors4: ipv6.anchors4.iter().map(ToString::to_string).collect(),
            anchors6: ipv6.anchors6.iter().map(ToString::to_string).collect(),
            collector6: text(ipv6.collector6),
            services: ipv6.services.iter().map(service).collect(),
            resolver6: text(ipv6.resolver6),
            expected_path_mtu: ipv6.expected_path_mtu.unwrap_or(0).into(),
        }
    }
}

/// Empty for `None`.
fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_contains_what_begins_like_it() {
        let holds = |prefix: &str, address: &str| {
            let prefix: Prefix6 = prefix.parse().unwrap();
            prefix.contains(address.parse().unwrap())
        };
        assert!(holds("2001:db8:7::/48", "2001:db8:7:ffff::1"));
        assert!(!holds("2001:db8:7::/48", "2001:db8:8::1"));
        assert!(holds("2001:db8::1/128", "2001:db8::1"));
        assert!(!holds("2001:db8::1/128", "2001:db8::2"));
        assert!(holds("::/0", "ffff::"));
        for wrong in ["", "::1", "::/129", "10.0.0.0/8", "x/3", "::/-1"] {
            wrong.parse::<Prefix6>().unwrap_err();
        }
    }

    #[test]
    fn names_are_compared_in_one_form() {
        assert_eq!(
            dns_name("f", "WWW.Example.CN."),
            Ok("www.example.cn".to_owned())
        );
        assert_eq!(dns_name("f", "."), Ok(".".to_owned()));
        for wrong in ["", "..", "a..b", "a b", "断.cn", &"a".repeat(64)] {
            dns_name("f", wrong).unwrap_err();
        }
    }
}
