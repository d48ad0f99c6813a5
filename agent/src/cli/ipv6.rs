//! `extranet-agent ipv6 check`: one run of the IPv6 rubric now, shown as a table. Needs no enrolment and no collector.
//!
//! What is not given on the command line comes from the last assignment of this agent, then from its own
//! configuration: the collector from `collectors`, the resolver from /etc/resolv.conf.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use clap::{Args, Subcommand};
use extranet_proto::assignment::{Ipv6Probe, Prefix6, Probe};
use extranet_proto::id::CheckId;
use tokio::time::Instant;

use crate::config::Config;
use crate::control::last_plan;
use crate::ipv6::rubric::rubric;
use crate::ipv6::run::run;
use crate::ipv6::score::{Context, score};
use crate::ipv6::shown::{Language, table};
use crate::ipv6::subjects::ServiceUrl;
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
    services: Vec<ServiceUrl>,
    /// The prefix that this access point was given.
    #[arg(long, value_name = "PREFIX")]
    prefix: Option<Prefix6>,
    /// The MTU that the path to the anchors should have, bytes.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1_280..))]
    expected_mtu: Option<u16>,
    /// What the run may take, seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=600))]
    time: u64,
    /// Language of the table.
    #[arg(long, value_enum, default_value_t)]
    language: Language,
}

/// Runs the rubric and gives the table.
pub(super) async fn check(config: &Config, args: &CheckArgs) -> std::io::Result<String> {
    let targets = Targets::new(&config.allowed_prefixes);
    let probe = subjects(config, args, &targets).await;
    let probes = Probes::new(ObjectIds::new());
    let deadline = Instant::now() + Duration::from_secs(args.time);
    let report = run(&probes, &targets, CheckId(0), &probe, "", deadline).await?;
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
    probe.expected_path_mtu = args.expected_mtu.or(probe.expected_path_mtu);
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
