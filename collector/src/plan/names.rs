//! Checks of name servers.

use std::net::IpAddr;
use std::str::FromStr;

use extranet_agent::config::reader::Reader;
use extranet_proto::{limits, wire};

use super::application::{number, port};
use super::datagram::tries;

/// Port of name servers: not shown in `instance`.
pub(super) const DNS_PORT: u32 = 53;

/// A word of a plan with its number on the wire.
struct Word(i32);

struct Transport(Word);
struct QueryType(Word);

impl FromStr for Transport {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let transport = match text {
            "udp" => wire::DnsTransport::Udp,
            "tcp" => wire::DnsTransport::Tcp,
            _ => return Err("use udp, tcp".to_owned()),
        };
        Ok(Self(Word(transport.into())))
    }
}

impl FromStr for QueryType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let query_type = match text {
            "A" => wire::DnsType::A,
            "AAAA" => wire::DnsType::Aaaa,
            "NS" => wire::DnsType::Ns,
            "SOA" => wire::DnsType::Soa,
            "PTR" => wire::DnsType::Ptr,
            "TXT" => wire::DnsType::Txt,
            _ => return Err("use A, AAAA, NS, SOA, PTR, TXT".to_owned()),
        };
        Ok(Self(Word(query_type.into())))
    }
}

/// The keys of a DNS check.
pub(super) fn read(reader: &mut Reader<'_>) -> wire::DnsProbe {
    let transport = reader.parsed("transport", Transport(Word(wire::DnsTransport::Udp.into())));
    let query_type = reader.parsed("type", QueryType(Word(wire::DnsType::A.into())));
    let query = reader.required_string("query");
    let is_reverse = query_type.0.0 == i32::from(wire::DnsType::Ptr);
    let edns = u64::from(limits::DNS_EDNS_BYTES_MIN)..=u64::from(u16::MAX);
    let probe = wire::DnsProbe {
        transport: transport.0.0,
        port: port(reader).unwrap_or(DNS_PORT),
        query_name: match query.parse() {
            Ok(address) if is_reverse => reverse_name(address),
            _ => query,
        },
        query_type: query_type.0.0,
        expected: reader.list("expected", Vec::new()),
        expected_rcode: number(reader.integer("rcode", 0, 0..=4_095)),
        expected_subset: reader.boolean("subset", false),
        edns_bytes: number(reader.integer("edns_bytes", 1_232, edns)),
        tries: tries(reader),
        without_tcp: !reader.boolean("tcp_fallback", true),
        require_authenticated: reader.boolean("authenticated", false),
        canary: reader.boolean("canary", false),
    };
    let judged_otherwise =
        !probe.expected.is_empty() || probe.expected_rcode != 0 || probe.require_authenticated;
    if probe.canary && judged_otherwise {
        reader.problem(
            "canary",
            "excludes expected, rcode and authenticated: its name must not exist",
        );
    }
    probe
}

/// The name under which an address is asked for (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn reverse_name(address: IpAddr) -> String {
    use std::fmt::Write as _;
    let mut name = String::new();
    match address {
        IpAddr::V4(v4) => {
            for byte in v4.octets().iter().rev() {
                write!(name, "{byte}.").expect("writing into a string cannot fail");
            }
            name.push_str("in-addr.arpa");
        }
        IpAddr::V6(v6) => {
            for byte in v6.octets().iter().rev() {
                write!(name, "{:x}.{:x}.", byte & 15, byte >> 4)
                    .expect("writing into a string cannot fail");
            }
            name.push_str("ip6.arpa");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_asked_for_backwards() {
        let name = |text: &str| reverse_name(text.parse().unwrap());
        assert_eq!(name("10.0.2.3"), "3.2.0.10.in-addr.arpa");
        assert_eq!(
            name("2001:db8::567:89ab"),
            "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
        );
    }
}
