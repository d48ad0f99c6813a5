//! What `measure` can do: the kinds of probes and their options. What is not said has the value that plans have.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use extranet_proto::assignment::{
    DnsProbe, DnsTransport, DnsType, HttpProbe, NtpProbe, PathProbe, PathTransport, Probe,
    TcpProbe, TlsProbe, UdpProbe,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::super::CliError;
use super::echo::EchoArgs;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Icmp,
    Tcp,
    Udp,
    Ntp,
    Dns,
    Http,
    Https,
    Tls,
    Path,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Transport {
    Udp,
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Icmp,
    Udp,
    Tcp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum QueryType {
    A,
    Aaaa,
    Ns,
    Soa,
    Ptr,
    Txt,
}

#[derive(Debug, Args)]
pub(super) struct ProbeArgs {
    /// What to do
    #[arg(long, value_enum)]
    probe: Kind,
    /// Port [default: the usual one; tcp has none]
    #[arg(long, required_if_eq("probe", "tcp"), value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// icmp, udp: packets
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    packets: u16,
    #[command(flatten)]
    echo: EchoArgs,
    /// dns: the name to ask for
    #[arg(long, value_name = "NAME", required_if_eq("probe", "dns"))]
    query: Option<String>,
    /// dns: the type to ask for
    #[arg(
        long = "type",
        value_name = "TYPE",
        value_enum,
        default_value = "A",
        ignore_case = true
    )]
    query_type: QueryType,
    /// dns: how the query travels
    #[arg(long, value_enum, default_value = "udp")]
    transport: Transport,
    /// path: what the packets are; silent hops take time, so give --timeout 30s
    #[arg(long, value_enum, default_value = "icmp")]
    by: By,
    /// path: look for the path MTU too (not by tcp)
    #[arg(long)]
    mtu: bool,
    /// dns: ask for a random name below NAME, which must not exist
    #[arg(long)]
    canary: bool,
    /// dns: an answer that must come; may be repeated
    #[arg(long, value_name = "ANSWER")]
    expect: Vec<String>,
    /// http, https, tls: the name of the server [default: the target]
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// http, https: path with query
    #[arg(long, default_value = "/")]
    path: String,
    /// http, https: text that the body must contain
    #[arg(long, value_name = "TEXT", default_value = "")]
    contains: String,
    /// http, https: redirects that are followed
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=10))]
    redirects: u16,
    /// https, tls: certificates that are trusted besides those of the agent's machine, PEM
    #[arg(long, value_name = "FILE")]
    roots: Option<PathBuf>,
}

impl ProbeArgs {
    /// `target` as it was written: the name of the server where no other one is said.
    pub(super) fn probe(&self, target: &str) -> Result<Probe, CliError> {
        let port = |usual| self.port.unwrap_or(usual);
        let is_name = !target.starts_with('@') && target.parse::<std::net::IpAddr>().is_err();
        let host = self.host.clone().unwrap_or_else(|| {
            let name = if is_name { target } else { "" };
            name.to_owned()
        });
        Ok(match self.probe {
            Kind::Icmp => Probe::Icmp(self.echo.probe(self.packets)),
            Kind::Tcp => Probe::Tcp(TcpProbe::to(port(0))),
            Kind::Udp => Probe::Udp(UdpProbe {
                port: port(7),
                packets: self.packets,
                ..UdpProbe::default()
            }),
            Kind::Ntp => Probe::Ntp(NtpProbe {
                port: port(123),
                tries: 2,
                ..NtpProbe::default()
            }),
            Kind::Dns => Probe::Dns(self.dns(port(53))),
            Kind::Http | Kind::Https => {
                let tls = self.probe == Kind::Https;
                Probe::Http(HttpProbe {
                    port: port(if tls { 443 } else { 80 }),
                    tls,
                    host,
                    path: self.path.clone(),
                    body_contains: self.contains.clone(),
                    redirects_max: self.redirects,
                    verify_chain: tls,
                    roots: self.roots()?,
                    ..HttpProbe::default()
                })
            }
            Kind::Path => Probe::Path(self.way()),
            Kind::Tls => Probe::Tls(TlsProbe {
                port: port(443),
                server_name: host,
                roots: self.roots()?,
                ..TlsProbe::default()
            }),
        })
    }

    fn dns(&self, port: u16) -> DnsProbe {
        DnsProbe {
            transport: match self.transport {
                Transport::Udp => DnsTransport::Udp,
                Transport::Tcp => DnsTransport::Tcp,
            },
            port,
            query_name: self.query.clone().unwrap_or_default(),
            query_type: match self.query_type {
                QueryType::A => DnsType::A,
                QueryType::Aaaa => DnsType::Aaaa,
                QueryType::Ns => DnsType::Ns,
                QueryType::Soa => DnsType::Soa,
                QueryType::Ptr => DnsType::Ptr,
                QueryType::Txt => DnsType::Txt,
            },
            expected: self.expect.clone(),
            tries: 2,
            canary: self.canary,
            ..DnsProbe::default()
        }
    }

    fn way(&self) -> PathProbe {
        let transport = match self.by {
            By::Icmp => PathTransport::Icmp,
            By::Udp => PathTransport::Udp,
            By::Tcp => PathTransport::Tcp,
        };
        PathProbe {
            transport,
            port: self.port.unwrap_or(transport.usual_port()),
            path_mtu: self.mtu,
            ..PathProbe::default()
        }
    }

    fn roots(&self) -> Result<Vec<Vec<u8>>, CliError> {
        let Some(file) = &self.roots else {
            return Ok(Vec::new());
        };
        let certificates: Result<Vec<CertificateDer<'_>>, _> =
            CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
        let certificates = certificates
            .map_err(|error| CliError::Problems(format!("{}: {error}", file.display())))?;
        Ok(certificates.iter().map(|der| der.to_vec()).collect())
    }
}
