//! DNS: one query to a name server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::application::dns_name;
use super::datagram::tries;
use super::read::{narrow, port};
use crate::error::ProtoError;
use crate::{limits, wire};

/// What EDNS offers to take in a datagram where nothing else is said, bytes: the size agreed on DNS flag day 2020,
/// which no usual path fragments.
const EDNS_BYTES: u16 = 1_232;
/// Longest zone of a canary, bytes: its label has 16 and a dot.
const CANARY_ZONE_BYTES: usize = 253 - 17;

/// One query to a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own, and any may go with any"
)]
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
    /// Whether other answers beside the expected ones do no harm.
    pub expected_subset: bool,
    /// Largest answer in a datagram that EDNS offers to take, bytes.
    pub edns_bytes: u16,
    /// Queries by UDP before the run gives up, at least 1.
    pub tries: u16,
    /// Whether an answer by UDP that was cut is asked for again over TCP.
    pub tcp_fallback: bool,
    /// Whether the server must have authenticated the answer (flag AD, RFC 6840 section 5.8).
    pub require_authenticated: bool,
    /// Whether a random name below `query_name` is asked for, which must not exist. The fields about what is expected
    /// do not apply then.
    pub canary: bool,
}

/// One query by UDP for the A records of the root, of which any will do.
impl Default for DnsProbe {
    fn default() -> Self {
        Self {
            transport: DnsTransport::Udp,
            port: 53,
            query_name: ".".to_owned(),
            query_type: DnsType::A,
            expected: Vec::new(),
            expected_rcode: 0,
            expected_subset: false,
            edns_bytes: EDNS_BYTES,
            tries: 1,
            tcp_fallback: true,
            require_authenticated: false,
            canary: false,
        }
    }
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
    /// Names of an address.
    Ptr,
    /// Texts.
    Txt,
}

impl DnsType {
    /// Label and log form, as in zone files.
    pub const fn text(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Ns => "NS",
            Self::Soa => "SOA",
            Self::Ptr => "PTR",
            Self::Txt => "TXT",
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
            Ok(wire::DnsType::Ptr) => DnsType::Ptr,
            Ok(wire::DnsType::Txt) => DnsType::Txt,
            Ok(wire::DnsType::Unspecified) | Err(_) => {
                return Err(ProtoError::Unknown {
                    field: "dns.query_type",
                    found: dns.query_type,
                });
            }
        };
        let query_name = dns_name("dns.query_name", &dns.query_name)?;
        if dns.canary && query_name.len() > CANARY_ZONE_BYTES {
            return Err(ProtoError::Invalid {
                field: "dns.query_name",
                rule: "leaves no room for the random label of a canary",
            });
        }
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
            query_name,
            query_type,
            expected,
            expected_rcode: narrow("dns.expected_rcode", rcode)?,
            expected_subset: dns.expected_subset,
            edns_bytes: match dns.edns_bytes {
                0 => EDNS_BYTES,
                bytes => narrow(
                    "dns.edns_bytes",
                    ProtoError::check_span(
                        "dns.edns_bytes",
                        bytes,
                        limits::DNS_EDNS_BYTES_MIN,
                        u16::MAX.into(),
                    )?,
                )?,
            },
            tries: tries("dns.tries", dns.tries)?,
            tcp_fallback: !dns.without_tcp,
            require_authenticated: dns.require_authenticated,
            canary: dns.canary,
        })
    }
}

/// An expected answer in the one form that the probe compares with.
fn expected_answer(query_type: DnsType, text: &str) -> Result<String, ProtoError> {
    const FIELD: &str = "dns.expected";
    let ip = match query_type {
        DnsType::A => text.parse::<Ipv4Addr>().map(IpAddr::V4),
        DnsType::Aaaa => text.parse::<Ipv6Addr>().map(IpAddr::V6),
        DnsType::Ns | DnsType::Soa | DnsType::Ptr => return dns_name(FIELD, text),
        DnsType::Txt => {
            ProtoError::check_len(FIELD, text.len(), limits::TEXT_BYTES)?;
            return Ok(text.to_owned());
        }
    };
    ip.map(|ip| ip.to_string())
        .map_err(|_| ProtoError::Invalid {
            field: FIELD,
            rule: "must be addresses of the family of the query type",
        })
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
            DnsType::Ptr => wire::DnsType::Ptr,
            DnsType::Txt => wire::DnsType::Txt,
        };
        Self {
            transport: transport.into(),
            port: dns.port.into(),
            query_name: dns.query_name.clone(),
            query_type: query_type.into(),
            expected: dns.expected.clone(),
            expected_rcode: dns.expected_rcode.into(),
            expected_subset: dns.expected_subset,
            edns_bytes: dns.edns_bytes.into(),
            tries: dns.tries.into(),
            without_tcp: !dns.tcp_fallback,
            require_authenticated: dns.require_authenticated,
            canary: dns.canary,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_answers_have_one_form() {
        let form = |query_type, text| expected_answer(query_type, text);
        assert_eq!(
            form(DnsType::Aaaa, "2001:DB8:0::1"),
            Ok("2001:db8::1".to_owned())
        );
        assert_eq!(
            form(DnsType::Ptr, "Host.Example."),
            Ok("host.example".to_owned())
        );
        assert_eq!(
            form(DnsType::Txt, "v=spf1 -all"),
            Ok("v=spf1 -all".to_owned())
        );
        form(DnsType::A, "::1").unwrap_err();
    }
}
