//! `extranet-agent ipv6 check`: one run of the IPv6 rubric now, shown as a table. Needs no enrolment and no collector.
//!
//! What is not given on the command line comes from the last assignment of this agent, then from its own
//! configuration: the collector from `collectors`, the resolver from /etc/resolv.conf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use extranet_proto::assignment::{Ipv6Probe, Ipv6Service, Prefix6, Probe};
use tokio::time::Instant;

use crate::config::Config;
use crate::control::last_plan;
use crate::ipv6::rubric::rubric;
use crate::ipv6::run::run;
use crate::ipv6::score::{Context, score};
use crate::ipv6::shown::{Language, table};
use crate::measure::{Targets, first_resolver_v6};
use crate::probe::{ObjectIds, Probes};

/// What can be asked about IPv6.
#[derive(Debug, Subcommand)]
pub(super) enum Ipv6Command {
    /// Run the rubric of IPv6 readiness now; show level, score and every check.
    Check(CheckArgs),
}

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    /// An address that answers echo requests over IPv6; may be repeated.
    #[arg(long = "anchor6", value_name = "ADDRESS")]
    anchors6: Vec<Ipv6Addr>,
    /// The same over IPv4, to compare with; may be repeated.
    #[arg(long = "anchor4", value_name = "ADDRESS")]
    anchors4: Vec<Ipv4Addr>,
    /// The collector's IPv6 address.
    #[arg(long, value_name = "[ADDRESS]:PORT")]
    collector: Option<SocketAddrV6>,
    /// A name server's IPv6 address.
    #[arg(long, value_name = "ADDRESS")]
    resolver: Option<Ipv6Addr>,
    /// A service that must be reached; may be repeated.
    #[arg(long = "service", value_name = "http[s]://HOST[:PORT]|tcp://HOST:PORT")]
    services: Vec<ServiceArg>,
    /// The prefix that this access point was given.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<Prefix6>,
    /// What the run may take, seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    time: u64,
    /// Language of the table.
    #[arg(long, value_enum, default_value_t)]
    language: Language,
}

#[derive(Debug, Clone)]
struct ServiceArg(Ipv6Service);

impl FromStr for ServiceArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or("begins with http://, https:// or tcp://")?;
        let (tls, usual) = match scheme {
            "http" => (false, Some(80)),
            "https" => (true, Some(443)),
            "tcp" => (false, None),
            _ => return Err("begins with http://, https:// or tcp://"),
        };
        let rest = rest.trim_end_matches('/');
        let bracket_end = rest.rfind(']').unwrap_or(0);
        let (host, port) = match rest.rfind(':').filter(|colon| *colon > bracket_end) {
            Some(colon) => {
                let (host, port) = rest.split_at(colon);
                let port = port
                    .trim_start_matches(':')
                    .parse()
                    .map_err(|_| "has a bad port")?;
                (host, port)
            }
            None => (rest, usual.ok_or("needs a port")?),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || port == 0 {
            return Err("needs a host and a port");
        }
        Ok(Self(Ipv6Service {
            name: host.to_owned(),
            host: host.to_owned(),
            port,
            tls,
        }))
    }
}

/// Runs the rubric and gives the table.
pub(super) async fn check(config: &Config, args: &CheckArgs) -> std::io::Result<String> {
    let targets = Targets::new(&config.allowed_prefixes);
    let probe = subjects(config, args, &targets).await;
    let probes = Probes::new(ObjectIds::new());
    let deadline = Instant::now() + Duration::from_secs(args.time);
    let report = run(&probes, &targets, &probe, "", deadline).await?;
    let scored = score(rubric(), report.findings(), &Context::default());
    Ok(table(rubric(), &report, &scored, args.language))
}

async fn subjects(config: &Config, args: &CheckArgs, targets: &Targets) -> Ipv6Probe {
    let assigned = last_plan(&config.state_dir, targets).and_then(|plan| {
        plan.checks
            .iter()
            .find_map(|planned| match &planned.check.probe {
                Probe::Ipv6(probe) => Some(probe.as_ref().clone()),
                _ => None,
            })
    });
    let mut probe = assigned.unwrap_or_default();
    if !args.anchors6.is_empty() {
        probe.anchors6.clone_from(&args.anchors6);
    }
    if !args.anchors4.is_empty() {
        probe.anchors4.clone_from(&args.anchors4);
    }
    if !args.services.is_empty() {
        probe.services = args
            .services
            .iter()
            .map(|service| service.0.clone())
            .collect();
    }
    probe.allotted_prefix = args.prefix.or(probe.allotted_prefix);
    probe.resolver6 = args.resolver.or(probe.resolver6).or_else(first_resolver_v6);
    probe.collector6 = args.collector.or(probe.collector6);
    if probe.collector6.is_none() {
        probe.collector6 = own_collector(config).await;
    }
    probe
}

/// The first IPv6 address of the collectors in the configuration.
async fn own_collector(config: &Config) -> Option<SocketAddrV6> {
    for collector in &config.collectors {
        let found = tokio::net::lookup_host((collector.host.as_str(), collector.port)).await;
        let v6 = found
            .into_iter()
            .flatten()
            .find_map(|address| match address {
                SocketAddr::V6(v6) if IpAddr::V6(*v6.ip()).to_canonical().is_ipv6() => Some(v6),
                _ => None,
            });
        if v6.is_some() {
            return v6;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_written_as_urls() {
        let service = |text: &str| {
            let parsed: Result<ServiceArg, _> = text.parse();
            parsed.map(|ServiceArg(service)| (service.host, service.port, service.tls))
        };
        let ok = |host: &str, port, tls| Ok((host.to_owned(), port, tls));
        assert_eq!(
            service("https://portal.example"),
            ok("portal.example", 443, true)
        );
        assert_eq!(
            service("http://portal.example:8080/"),
            ok("portal.example", 8080, false)
        );
        assert_eq!(service("tcp://[fd00::1]:53"), ok("fd00::1", 53, false));
        assert_eq!(service("http://[fd00::1]"), ok("fd00::1", 80, false));
        for bad in [
            "portal.example",
            "tcp://host",
            "ftp://host",
            "http://",
            "http://h:x",
            "tcp://h:0",
        ] {
            assert!(service(bad).is_err(), "{bad}");
        }
    }
}
