//! Checks of what runs above the transport layer: DNS, HTTP, TLS. What a plan leaves open comes from the target.

use std::str::FromStr;

use extranet_agent::config::reader::Reader;
use extranet_proto::assignment::{DnsProbe, HttpProbe, TlsProbe};
use extranet_proto::wire;
use extranet_proto::wire::check::Probe;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// The probes that are read here.
pub const KINDS: [&str; 3] = ["dns", "http", "tls"];

/// Port of name servers: not shown in `instance`.
const DNS_PORT: u32 = 53;

/// How a check measures an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApplicationPlan {
    /// DNS query; the target is a name server.
    Dns(wire::DnsProbe),
    /// HTTP request to targets that have a path, here or in the inventory.
    Http {
        /// `None` = the one of the target, else 80 or 443.
        port: Option<u32>,
        /// `None` = as the target.
        tls: Option<bool>,
        /// `None` = the one of the target.
        host: Option<String>,
        /// `None` = the one of the target.
        path: Option<String>,
        /// Lowest and highest good status.
        status: (u32, u32),
        /// Text of the body; empty = any.
        contains: String,
    },
    /// TLS handshake with targets that speak TLS, or with any on a port given here.
    Tls {
        /// `None` = the one of the target, else 443.
        port: Option<u32>,
        /// `None` = the host of the target.
        server_name: Option<String>,
        /// Whether a bad certificate fails the check.
        verify: bool,
        /// Trust anchors besides those of the agent's machine, DER.
        roots: Vec<Vec<u8>>,
    },
}

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
            _ => return Err("use A, AAAA, NS, SOA".to_owned()),
        };
        Ok(Self(Word(query_type.into())))
    }
}

impl ApplicationPlan {
    /// Reads the keys of a check of one of [`KINDS`]; everything is checked by the rules that agents apply.
    pub fn read(reader: &mut Reader<'_>, kind: &str) -> Self {
        let plan = match kind {
            "dns" => Self::read_dns(reader),
            "http" => Self::read_http(reader),
            _ => Self::read_tls(reader),
        };
        // A target that offers everything; what inventory rows hold is checked when they are imported.
        let target = wire::TargetRow {
            tcp_port: 443,
            service: Some(wire::TargetService {
                host: String::new(),
                path: "/".to_owned(),
                tls: true,
            }),
            ..Default::default()
        };
        let refused = match plan.probe(&target) {
            Some((Probe::Dns(dns), _)) => DnsProbe::try_from(dns).err(),
            Some((Probe::Http(http), _)) => HttpProbe::try_from(http).err(),
            Some((Probe::Tls(tls), _)) => TlsProbe::try_from(tls).err(),
            _ => None,
        };
        if let Some(error) = refused {
            reader.problem("", error.to_string());
        }
        plan
    }

    fn read_dns(reader: &mut Reader<'_>) -> Self {
        Self::Dns(wire::DnsProbe {
            transport: reader
                .parsed("transport", Transport(Word(wire::DnsTransport::Udp.into())))
                .0
                .0,
            port: port(reader).unwrap_or(DNS_PORT),
            query_name: reader.required_string("query"),
            query_type: reader
                .parsed("type", QueryType(Word(wire::DnsType::A.into())))
                .0
                .0,
            expected: reader.list("expected", Vec::new()),
            expected_rcode: number(reader.integer("rcode", 0, 0..=4_095)),
            ..wire::DnsProbe::default()
        })
    }

    fn read_http(reader: &mut Reader<'_>) -> Self {
        Self::Http {
            port: port(reader),
            tls: reader.has("tls").then(|| reader.boolean("tls", false)),
            host: reader.optional_string("host"),
            path: reader.optional_string("path"),
            status: (
                number(reader.integer("status_min", 200, 100..=999)),
                number(reader.integer("status_max", 399, 100..=999)),
            ),
            contains: reader.string("contains", ""),
        }
    }

    fn read_tls(reader: &mut Reader<'_>) -> Self {
        let pem = reader.string("roots", "");
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
        let roots = match roots {
            Ok(roots) if pem.is_empty() || !roots.is_empty() => roots,
            _ => {
                reader.problem(
                    "roots",
                    "use certificates in PEM form, one behind the other",
                );
                Vec::new()
            }
        };
        Self::Tls {
            port: port(reader),
            server_name: reader.optional_string("server_name"),
            verify: reader.boolean("verify", true),
            roots: roots.into_iter().map(|root| root.to_vec()).collect(),
        }
    }

    /// The probe for a target, and the port that belongs into `instance`; `None` when the target does not offer it.
    pub fn probe(&self, target: &wire::TargetRow) -> Option<(Probe, Option<u32>)> {
        let own_port = (target.tcp_port > 0).then_some(target.tcp_port);
        let service = target.service.clone().unwrap_or_default();
        match self {
            Self::Dns(dns) => {
                let shown = (dns.port != DNS_PORT).then_some(dns.port);
                Some((Probe::Dns(dns.clone()), shown))
            }
            Self::Http {
                port,
                tls,
                host,
                path,
                status,
                contains,
            } => {
                let path = path.clone().unwrap_or(service.path);
                if path.is_empty() {
                    return None;
                }
                let tls = tls.unwrap_or(service.tls);
                let port = port.or(own_port).unwrap_or(if tls { 443 } else { 80 });
                let http = wire::HttpProbe {
                    port,
                    tls,
                    host: host.clone().unwrap_or_else(|| host_of(target)),
                    path,
                    expected_status_min: status.0,
                    expected_status_max: status.1,
                    body_contains: contains.clone(),
                    ..wire::HttpProbe::default()
                };
                Some((Probe::Http(http), Some(port)))
            }
            Self::Tls {
                port,
                server_name,
                verify,
                roots,
            } => {
                if port.is_none() && !service.tls {
                    return None;
                }
                let port = port.or(own_port).unwrap_or(443);
                let tls = wire::TlsProbe {
                    port,
                    server_name: server_name.clone().unwrap_or_else(|| host_of(target)),
                    verify_chain: *verify,
                    roots: roots.clone(),
                    ..wire::TlsProbe::default()
                };
                Some((Probe::Tls(tls), Some(port)))
            }
        }
    }
}

/// The name under which a target is asked: its own one, or its address when that is a name.
fn host_of(target: &wire::TargetRow) -> String {
    let host = target.service.as_ref().map_or("", |service| &service.host);
    let symbolic = target.address.starts_with('@');
    let literal = target.address.parse::<std::net::IpAddr>().is_ok();
    if host.is_empty() && !symbolic && !literal {
        return target.address.clone();
    }
    host.to_owned()
}

fn port(reader: &mut Reader<'_>) -> Option<u32> {
    reader
        .has("port")
        .then(|| number(reader.integer("port", 1, 1..=65_535)))
}

fn number(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Plan, ProbePlan};

    fn read(keys: &str) -> Result<ApplicationPlan, String> {
        let text = format!(
            "[[plan]]\nname = 'p'\n[[plan.check]]\nname = 'c'\ntarget = 'service'\n{keys}\n"
        );
        let plan = Plan::parse("plan.toml", &text).map_err(|problems| problems.to_string())?;
        match plan.own[0].checks[0].probe.clone() {
            ProbePlan::Application(application) => Ok(application),
            other => panic!("{other:?}"),
        }
    }

    fn service(host: &str, path: &str, tls: bool, tcp_port: u32) -> wire::TargetRow {
        wire::TargetRow {
            address: "10.0.0.1".to_owned(),
            tcp_port,
            service: Some(wire::TargetService {
                host: host.to_owned(),
                path: path.to_owned(),
                tls,
            }),
            ..Default::default()
        }
    }

    #[test]
    fn what_the_plan_leaves_open_comes_from_the_target() {
        let http = read("probe = 'http'").unwrap();
        let probe = |target| match http.probe(target) {
            Some((Probe::Http(http), port)) => {
                assert_eq!(port, Some(http.port));
                Some((http.port, http.tls, http.host, http.path))
            }
            None => None,
            other => panic!("{other:?}"),
        };
        let portal = service("portal.example", "/login", true, 0);
        let expected = (443, true, "portal.example".to_owned(), "/login".to_owned());
        assert_eq!(probe(&portal), Some(expected));
        let plain = service("", "/", false, 8080);
        assert_eq!(
            probe(&plain),
            Some((8080, false, String::new(), "/".to_owned()))
        );
        let named = wire::TargetRow {
            address: "www.example".to_owned(),
            ..service("", "/", false, 0)
        };
        let expected = (80, false, "www.example".to_owned(), "/".to_owned());
        assert_eq!(probe(&named), Some(expected));
        assert_eq!(probe(&service("", "", true, 443)), None, "no path, no page");
    }

    #[test]
    fn tls_is_for_targets_that_speak_it_or_a_port_that_is_named() {
        let any = read("probe = 'tls'").unwrap();
        assert!(any.probe(&service("", "/", false, 443)).is_none());
        assert!(any.probe(&service("", "", true, 0)).is_some());
        let on_port = read("probe = 'tls'\nport = 8443\nverify = false").unwrap();
        match on_port.probe(&service("a.example", "", false, 0)) {
            Some((Probe::Tls(tls), Some(8443))) => {
                assert_eq!(
                    (tls.server_name.as_str(), tls.verify_chain),
                    ("a.example", false)
                );
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_usual_port_of_dns_is_not_part_of_the_instance() {
        let target = service("", "", false, 0);
        for (keys, shown) in [("", None), ("port = 5353", Some(5353))] {
            let plan = format!(
                "probe = 'dns'\nquery = 'portal.example'\ntype = 'AAAA'\nexpected = ['2001:db8::1']\n{keys}"
            );
            let (_, port) = read(&plan).unwrap().probe(&target).unwrap();
            assert_eq!(port, shown);
        }
    }

    #[test]
    fn problems_are_those_an_agent_would_have() {
        for (keys, expected) in [
            ("probe = 'dns'", "query"),
            (
                "probe = 'dns'\nquery = 'a b'",
                "dns.query_name: must be a domain name",
            ),
            (
                "probe = 'dns'\nquery = 'a'\ntype = 'MX'",
                "use A, AAAA, NS, SOA",
            ),
            (
                "probe = 'dns'\nquery = 'a'\ntransport = 'dot'",
                "use udp, tcp",
            ),
            (
                "probe = 'dns'\nquery = 'a'\nexpected = ['::1']",
                "dns.expected: must be addresses",
            ),
            (
                "probe = 'http'\npath = 'x'",
                "http.path: must start with '/'",
            ),
            (
                "probe = 'http'\nstatus_min = 500",
                "http.expected_status_min is 500",
            ),
            (
                "probe = 'http'\nhost = 'a b'",
                "http.host: must be a domain name",
            ),
            (
                "probe = 'tls'\nroots = 'no certificate'",
                "roots: use certificates in PEM form",
            ),
            ("probe = 'tls'\nport = 0", "port"),
        ] {
            let problems = read(keys).unwrap_err();
            assert!(problems.contains(expected), "{keys}: {problems}");
        }
    }
}
