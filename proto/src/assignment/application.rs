//! Probes above the transport layer and the IPv6 readiness run: DNS, HTTP, TLS. Their domain forms and both conversions
//! stand together here, because each is little more than its fields.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::str::FromStr;

use super::read::{narrow, port};
use crate::error::ProtoError;
use crate::{limits, wire};

/// One query to a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsProbe {
    /// How the query travels.
    pub transport: DnsTransport,
    /// Port of the name server.
    pub port: u16,
    /// What is asked for: a name without the final dot, or "." for the root.
    pub query_name: String,
    /// The type asked for.
    pub query_type: DnsType,
    /// The answers that must come, all of them and no others, in any order; empty = any answer of the type. Addresses
    /// are in their usual form, names in lower case without the final dot.
    pub expected: Vec<String>,
    /// Response code that counts as success.
    pub expected_rcode: u16,
}

/// How a DNS query travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DnsTransport {
    /// One datagram each way (RFC 1035 section 4.2.1).
    Udp,
    /// A connection (RFC 1035 section 4.2.2, RFC 7766).
    Tcp,
}

/// Type of a DNS query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DnsType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Name servers of a zone.
    Ns,
    /// Start of authority.
    Soa,
}

/// One GET over HTTP/1.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpProbe {
    /// Port of the target.
    pub port: u16,
    /// Whether the request goes through TLS.
    pub tls: bool,
    /// Header `Host` and TLS server name; empty = the address of the target.
    pub host: String,
    /// Path with query, starts with '/'.
    pub path: String,
    /// Lowest status that counts as success.
    pub expected_status_min: u16,
    /// Highest status that counts as success.
    pub expected_status_max: u16,
    /// Text that the body must contain; empty = any body.
    pub body_contains: String,
}

/// One TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsProbe {
    /// Port of the target.
    pub port: u16,
    /// Name for SNI and against the certificate; empty = the address of the target.
    pub server_name: String,
    /// Whether an untrusted, expired or wrongly named certificate fails the check.
    pub verify_chain: bool,
    /// Trust anchors besides those of the system, DER.
    pub roots: Vec<Vec<u8>>,
}

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

impl DnsType {
    /// Label and log form, as in zone files.
    pub const fn text(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ns => "NS",
            Self::Soa => "SOA",
        }
    }
}

impl TryFrom<wire::DnsProbe> for DnsProbe {
    type Error = ProtoError;

    fn try_from(dns: wire::DnsProbe) -> Result<Self, ProtoError> {
        let transport = match wire::DnsTransport::try_from(dns.transport) {
            Ok(wire::DnsTransport::Udp) => DnsTransport::Udp,
            Ok(wire::DnsTransport::Tcp) => DnsTransport::Tcp,
            Ok(wire::DnsTransport::Unspecified) | Err(_) => {
                return Err(ProtoError::Unknown {
                    field: "dns.transport",
                    found: dns.transport,
                });
            }
        };
        let query_type = match wire::DnsType::try_from(dns.query_type) {
            Ok(wire::DnsType::A) => DnsType::A,
            Ok(wire::DnsType::Aaaa) => DnsType::Aaaa,
            Ok(wire::DnsType::Ns) => DnsType::Ns,
            Ok(wire::DnsType::Soa) => DnsType::Soa,
            Ok(wire::DnsType::Unspecified) | Err(_) => {
                return Err(ProtoError::Unknown {
                    field: "dns.query_type",
                    found: dns.query_type,
                });
            }
        };
        let found = dns.expected.len();
        ProtoError::check_len("dns.expected", found, limits::DNS_EXPECTED)?;
        let mut expected = Vec::with_capacity(found);
        for text in &dns.expected {
            expected.push(expected_answer(query_type, text)?);
        }
        // The header of DNS has four bits for it; EDNS makes them twelve (RFC 6891 section 6.1.3).
        let rcode = ProtoError::check_span("dns.expected_rcode", dns.expected_rcode, 0, 0xfff)?;
        Ok(Self {
            transport,
            port: port("dns.port", dns.port)?,
            query_name: dns_name("dns.query_name", &dns.query_name)?,
            query_type,
            expected,
            expected_rcode: narrow("dns.expected_rcode", rcode)?,
        })
    }
}

/// An expected answer in the one form that the probe compares with.
fn expected_answer(query_type: DnsType, text: &str) -> Result<String, ProtoError> {
    const FIELD: &str = "dns.expected";
    let ip = match query_type {
        DnsType::A => text.parse::<Ipv4Addr>().map(IpAddr::V4),
        DnsType::Aaaa => text.parse::<Ipv6Addr>().map(IpAddr::V6),
        DnsType::Ns | DnsType::Soa => return dns_name(FIELD, text),
    };
    ip.map(|ip| ip.to_string())
        .map_err(|_| ProtoError::Invalid {
            field: FIELD,
            rule: "must be addresses of the family of the query type",
        })
}

/// Lower case, without the final dot; labels of 1 to 63 bytes (RFC 1035 section 2.3.4).
fn dns_name(field: &'static str, text: &str) -> Result<String, ProtoError> {
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

impl From<&DnsProbe> for wire::DnsProbe {
    fn from(dns: &DnsProbe) -> Self {
        let transport = match dns.transport {
            DnsTransport::Udp => wire::DnsTransport::Udp,
            DnsTransport::Tcp => wire::DnsTransport::Tcp,
        };
        let query_type = match dns.query_type {
            DnsType::A => wire::DnsType::A,
            DnsType::Aaaa => wire::DnsType::Aaaa,
            DnsType::Ns => wire::DnsType::Ns,
            DnsType::Soa => wire::DnsType::Soa,
        };
        Self {
            transport: transport.into(),
            port: dns.port.into(),
            query_name: dns.query_name.clone(),
            query_type: query_type.into(),
            expected: dns.expected.clone(),
            expected_rcode: dns.expected_rcode.into(),
        }
    }
}

impl TryFrom<wire::HttpProbe> for HttpProbe {
    type Error = ProtoError;

    fn try_from(http: wire::HttpProbe) -> Result<Self, ProtoError> {
        ProtoError::check_len("http.path", http.path.len(), limits::HTTP_PATH_BYTES)?;
        if !http.path.starts_with('/') || !http.path.chars().all(|c| c.is_ascii_graphic()) {
            return Err(ProtoError::Invalid {
                field: "http.path",
                rule: "must start with '/' and have no spaces and no letters outside of ASCII",
            });
        }
        let text = http.body_contains.len();
        ProtoError::check_len("http.body_contains", text, limits::TEXT_BYTES)?;
        let (min, max) = (http.expected_status_min, http.expected_status_max);
        let max = ProtoError::check_span("http.expected_status_max", max, 100, 999)?;
        let min = ProtoError::check_span("http.expected_status_min", min, 100, max)?;
        Ok(Self {
            port: port("http.port", http.port)?,
            tls: http.tls,
            host: host("http.host", http.host)?,
            path: http.path,
            expected_status_min: narrow("http.expected_status_min", min)?,
            expected_status_max: narrow("http.expected_status_max", max)?,
            body_contains: http.body_contains,
        })
    }
}

/// Empty, an address or a host name.
fn host(field: &'static str, host: String) -> Result<String, ProtoError> {
    if host.is_empty() || host.parse::<IpAddr>().is_ok() {
        return Ok(host);
    }
    dns_name(field, &host)
}

impl From<&HttpProbe> for wire::HttpProbe {
    fn from(http: &HttpProbe) -> Self {
        Self {
            port: http.port.into(),
            tls: http.tls,
            host: http.host.clone(),
            path: http.path.clone(),
            expected_status_min: http.expected_status_min.into(),
            expected_status_max: http.expected_status_max.into(),
            body_contains: http.body_contains.clone(),
        }
    }
}

impl TryFrom<wire::TlsProbe> for TlsProbe {
    type Error = ProtoError;

    fn try_from(tls: wire::TlsProbe) -> Result<Self, ProtoError> {
        ProtoError::check_len("tls.roots", tls.roots.len(), limits::TLS_ROOTS)?;
        for root in &tls.roots {
            ProtoError::check_len("tls.roots", root.len(), limits::CERTIFICATE_BYTES)?;
        }
        Ok(Self {
            port: port("tls.port", tls.port)?,
            server_name: host("tls.server_name", tls.server_name)?,
            verify_chain: tls.verify_chain,
            roots: tls.roots,
        })
    }
}

impl From<&TlsProbe> for wire::TlsProbe {
    fn from(tls: &TlsProbe) -> Self {
        Self {
            port: tls.port.into(),
            server_name: tls.server_name.clone(),
            verify_chain: tls.verify_chain,
            roots: tls.roots.clone(),
        }
    }
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
        assert_eq!(
            expected_answer(DnsType::Aaaa, "2001:DB8:0::1"),
            Ok("2001:db8::1".to_owned())
        );
        for wrong in ["", "..", "a..b", "a b", "断.cn", &"a".repeat(64)] {
            dns_name("f", wrong).unwrap_err();
        }
    }
}
