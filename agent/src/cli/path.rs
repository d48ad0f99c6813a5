//! `extranet-agent path`: one look at the way to a target, from this machine and now.

use std::net::IpAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use extranet_proto::assignment::{Check, Family, PathProbe, PathTransport, Probe};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_proto::limits;
use extranet_proto::record::Outcome;
use tokio::time::Instant;

use crate::config::Config;
use crate::measure::Targets;
use crate::probe::path::shown;
use crate::probe::{Measured, ObjectIds, Probes, Run};

/// What the packets are.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Transport {
    Icmp,
    Udp,
    Tcp,
}

/// What to look at.
#[derive(Debug, Args)]
pub(super) struct PathArgs {
    /// The target; within the allowed prefixes of the configuration.
    #[arg(value_name = "ADDRESS")]
    target: IpAddr,
    /// What the packets are.
    #[arg(long, value_enum, default_value = "icmp")]
    transport: Transport,
    /// Destination port of UDP and TCP [default: 33434, 443].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Source port of UDP and TCP, identifier of ICMP [default: derived from the target].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1_024..))]
    flow_port: Option<u16>,
    /// Highest hop.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u8).range(1..=i64::from(limits::PATH_HOPS)))]
    max_hop: u8,
    /// Packets to each hop.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(limits::PATH_ATTEMPTS)))]
    attempts: u8,
    /// Look for the path MTU too (not by TCP).
    #[arg(long)]
    mtu: bool,
    /// VRF device.
    #[arg(long, default_value = "")]
    vrf: String,
    /// What it may take, seconds.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=300))]
    time: u64,
}

/// Looks, and gives the table; an error when nothing could be measured.
pub(super) async fn look(config: &Config, args: &PathArgs) -> Result<String, String> {
    let targets = Targets::new(&config.allowed_prefixes);
    if !targets.allows(args.target) {
        return Err(format!("{} lies outside the allowed prefixes", args.target));
    }
    let transport = match args.transport {
        Transport::Icmp => PathTransport::Icmp,
        Transport::Udp => PathTransport::Udp,
        Transport::Tcp => PathTransport::Tcp,
    };
    let probe = PathProbe {
        transport,
        port: args.port.unwrap_or(transport.usual_port()),
        flow_port: args.flow_port.unwrap_or(0),
        max_hop: args.max_hop,
        attempts: args.attempts,
        path_mtu: args.mtu,
        ..PathProbe::default()
    };
    // The rules of assignments.
    let probe = PathProbe::try_from(extranet_proto::wire::PathProbe::from(&probe))
        .map_err(|error| error.to_string())?;
    let time = Duration::from_secs(args.time);
    let check = Check {
        id: CheckId(0),
        target: TargetId(0),
        name: CheckName::new("path").expect("a valid name"),
        family: Family::of(args.target),
        interval: time,
        timeout: time,
        stretch_last: false,
        probe: Probe::Path(probe),
    };
    let run = Run {
        check: &check,
        address: args.target,
        vrf: &args.vrf,
        deadline: Instant::now() + time,
    };
    let measured = Probes::new(ObjectIds::new()).run(run).await;
    if measured.outcome == Outcome::NotMeasured {
        return Err(format!("cannot measure: {}", measured.reason));
    }
    Ok(table(args, transport, &measured))
}

fn table(args: &PathArgs, transport: PathTransport, measured: &Measured) -> String {
    let (values, definitions) = (&measured.values, &measured.definitions);
    let mut lines = vec![format!("{} by {}", args.target, transport.text())];
    let hops = shown::hops(values, definitions);
    let width = hops
        .iter()
        .map(|(hop, _)| hop.len())
        .max()
        .unwrap_or(0)
        .max(18);
    if !hops.is_empty() {
        lines.push(format!("{:<width$}  {}", "Host", shown::COLUMNS));
    }
    lines.extend(
        hops.iter()
            .map(|(hop, columns)| format!("{hop:<width$}  {columns}")),
    );
    lines.extend(shown::summary(values, definitions, measured.reason));
    if measured.outcome != Outcome::Ok {
        lines.push(format!("{}: {}", measured.outcome, measured.reason));
    }
    let traffic = measured.traffic;
    lines.push(format!(
        "{} ms; {} bytes sent, {} received",
        measured.duration.as_millis(),
        traffic.sent,
        traffic.received
    ));
    lines.push(String::new());
    lines.join("\n")
}
