//! Checks of what runs above the network layer, except ICMP: TCP, UDP echo, NTP, DNS, HTTP, TLS. What a plan leaves
//! open comes from the target.

use std::time::Duration;

use extranet_agent::config::reader::Reader;
use extranet_proto::assignment::Check;
use extranet_proto::wire;
use extranet_proto::wire::check::Probe;

use super::{datagram, names, web};

/// The probes that are read here.
pub const KINDS: [&str; 6] = ["tcp", "udp", "ntp", "dns", "http", "tls"];

/// How a check measures an application.
#[derive(Debug, Clone, PartialEq)]
pub enum ApplicationPlan {
    /// TCP connect; without a port here, to targets that have one.
    Tcp(wire::TcpProbe),
    /// UDP echo.
    Udp(wire::UdpProbe),
    /// NTP; the target is a time server.
    Ntp(wire::NtpProbe),
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
        /// Everything else.
        rest: wire::HttpProbe,
    },
    /// TLS handshake with targets that speak TLS, or with any on a port given here.
    Tls {
        /// `None` = the one of the target, else 443.
        port: Option<u32>,
        /// `None` = the host of the target.
        server_name: Option<String>,
        /// Everything else.
        rest: wire::TlsProbe,
    },
}

impl ApplicationPlan {
    /// Reads the keys of a check of one of [`KINDS`]; everything is checked by the rules that agents apply.
    pub fn read(reader: &mut Reader<'_>, kind: &str, families: &[u8], timeout: Duration) -> Self {
        let plan = match kind {
            "tcp" => Self::Tcp(datagram::read_tcp(reader, families)),
            "udp" => Self::Udp(datagram::read_udp(reader, families, timeout)),
            "ntp" => Self::Ntp(datagram::read_ntp(reader)),
            "dns" => Self::Dns(names::read(reader)),
            "http" => Self::Http {
                port: port(reader),
                tls: reader.has("tls").then(|| reader.boolean("tls", false)),
                host: reader.optional_string("host"),
                path: reader.optional_string("path"),
                rest: web::read_http(reader),
            },
            _ => Self::Tls {
                port: port(reader),
                server_name: reader.optional_string("server_name"),
                rest: web::read_tls(reader),
            },
        };
        if let Some(problem) = plan.refusal(families, timeout) {
            reader.problem("", problem);
        }
        plan
    }

    /// Why an agent would refuse the check, at a target that offers everything; what inventory rows hold is checked
    /// when they are imported.
    fn refusal(&self, families: &[u8], timeout: Duration) -> Option<String> {
        let target = wire::TargetRow {
            tcp_port: 443,
            service: Some(wire::TargetService {
                host: String::new(),
                path: "/".to_owned(),
                tls: true,
            }),
            ..Default::default()
        };
        let (probe, _) = self.probe(&target)?;
        let family = match families.first() {
            Some(6) => wire::Family::Ipv6,
            _ => wire::Family::Ipv4,
        };
        let check = wire::Check {
            check_id: 1,
            name: "check".to_owned(),
            family: family.into(),
            interval_ms: 60_000,
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            probe: Some(probe),
            ..wire::Check::default()
        };
        Check::try_from(check).err().map(|error| error.to_string())
    }

    /// The probe for a target, and the port that belongs into `instance`; `None` when the target does not offer it.
    pub fn probe(&self, target: &wire::TargetRow) -> Option<(Probe, Option<u32>)> {
        let own_port = (target.tcp_port > 0).then_some(target.tcp_port);
        let service = target.service.clone().unwrap_or_default();
        let unusual = |port: u32, usual: u32| (port != usual).then_some(port);
        match self {
            Self::Tcp(tcp) => {
                let port = (tcp.port > 0).then_some(tcp.port).or(own_port)?;
                let source = tcp.source.clone();
                Some((Probe::Tcp(wire::TcpProbe { port, source }), Some(port)))
            }
            Self::Udp(udp) => Some((Probe::Udp(udp.clone()), Some(udp.port))),
            Self::Ntp(ntp) => {
                let shown = unusual(ntp.port, datagram::NTP_PORT);
                Some((Probe::Ntp(*ntp), shown))
            }
            Self::Dns(dns) => {
                let shown = unusual(dns.port, names::DNS_PORT);
                Some((Probe::Dns(dns.clone()), shown))
            }
            Self::Http {
                port,
                tls,
                host,
                path,
                rest,
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
                    ..rest.clone()
                };
                Some((Probe::Http(http), Some(port)))
            }
            Self::Tls {
                port,
                server_name,
                rest,
            } => {
                if port.is_none() && !service.tls {
                    return None;
                }
                let port = port.or(own_port).unwrap_or(443);
                let tls = wire::TlsProbe {
                    port,
                    server_name: server_name.clone().unwrap_or_else(|| host_of(target)),
                    ..rest.clone()
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

/// A port that the plan names.
pub(super) fn port(reader: &mut Reader<'_>) -> Option<u32> {
    reader
        .has("port")
        .then(|| number(reader.integer("port", 1, 1..=65_535)))
}

pub(super) fn number(number: u64) -> u32 {
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
    fn every_key_reaches_the_probe() {
        let target = service("portal.example", "/", true, 8443);
        let of = |keys: &str| read(keys).unwrap().probe(&target).unwrap().0;
        let digest = "0123456789abcdef".repeat(4);
        let Probe::Tls(tls) = of(&format!(
            "probe = 'tls'\nfail_on_change = true\nkeys = ['{digest}']"
        )) else {
            panic!("no TLS");
        };
        assert!(tls.fail_on_change);
        assert_eq!(
            tls.key_sha256,
            [[1, 35, 69, 103, 137, 171, 205, 239].repeat(4)]
        );
        let Probe::Http(http) = of(
            "probe = 'http'\nredirects = 3\nlacks = 'x'\nversion = '2'\n\
             headers = ['Server: nginx', 'date']\nbody_max = '2MiB'\nverify = true",
        ) else {
            panic!("no HTTP");
        };
        let header = |name: &str, contains: &str| wire::HttpHeader {
            name: name.to_owned(),
            contains: contains.to_owned(),
        };
        let expected = wire::HttpProbe {
            port: 8443,
            tls: true,
            host: "portal.example".to_owned(),
            path: "/".to_owned(),
            expected_status_min: 200,
            expected_status_max: 399,
            body_lacks: "x".to_owned(),
            redirects_max: 3,
            body_bytes_max: 2 << 20,
            version: wire::HttpVersion::HttpVersion2.into(),
            expected_headers: vec![header("Server", "nginx"), header("date", "")],
            verify_chain: true,
            ..wire::HttpProbe::default()
        };
        assert_eq!(http, expected);
        let Probe::Dns(dns) = of(
            "probe = 'dns'\nquery = '10.0.0.1'\ntype = 'PTR'\nsubset = true\n\
             expected = ['a.example']\nedns_bytes = 4096\ntries = 3\ntcp_fallback = false\nauthenticated = true",
        ) else {
            panic!("no DNS");
        };
        assert_eq!(dns.query_name, "1.0.0.10.in-addr.arpa");
        assert!(dns.expected_subset && dns.without_tcp && dns.require_authenticated);
        assert_eq!((dns.edns_bytes, dns.tries), (4_096, 3));
        let Probe::Udp(udp) = of("probe = 'udp'\nport = 4007\npackets = 2\npayload_bytes = 100")
        else {
            panic!("no UDP");
        };
        assert_eq!((udp.port, udp.packets, udp.payload_bytes), (4_007, 2, 100));
        let Probe::Tcp(tcp) = of("probe = 'tcp'\nfamilies = [4]\nsource_address = '10.0.0.1'")
        else {
            panic!("no TCP");
        };
        assert_eq!((tcp.port, tcp.source.as_str()), (8_443, "10.0.0.1"));
        let ntp = read("probe = 'ntp'").unwrap().probe(&target).unwrap();
        let expected = wire::NtpProbe {
            port: 123,
            version: 4,
            tries: 2,
        };
        assert_eq!(ntp, (Probe::Ntp(expected), None));
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
                "use A, AAAA, NS, SOA, PTR, TXT",
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
            (
                "probe = 'dns'\nquery = 'a'\ncanary = true\nrcode = 3",
                "canary: excludes expected, rcode and authenticated",
            ),
            ("probe = 'dns'\nquery = 'a'\ntries = 11", "tries"),
            ("probe = 'http'\nversion = '3'", "use any, 1.1, 2"),
            ("probe = 'http'\nheaders = ['a b: c']", "names of headers"),
            ("probe = 'http'\nbody_max = '1GiB'", "body_max"),
            (
                "probe = 'tls'\nkeys = ['xy']",
                "use SHA-256 digests: 64 hexadecimal digits",
            ),
            (
                "probe = 'tcp'\nsource_address = '10.0.0.1'",
                "source_address: must be an address, and the only one of families",
            ),
            (
                "probe = 'udp'\npackets = 100",
                "packet_interval: the last packet would be sent behind",
            ),
            ("probe = 'ntp'\nversion = 2", "version"),
        ] {
            let problems = read(keys).unwrap_err();
            assert!(problems.contains(expected), "{keys}: {problems}");
        }
    }
}
