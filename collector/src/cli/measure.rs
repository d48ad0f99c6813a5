//! `measure`: one measurement by one agent, now.

mod echo;
mod probe;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use extranet_agent::config::reader::parse_duration;
use extranet_proto::assignment::{Check, Family, Symbol, Target, TargetAddress};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_proto::wire;
use extranet_proto::wire::admin_client::AdminClient;
use tonic::transport::Channel;

use self::probe::ProbeArgs;
use super::{CliError, actor, say};

#[derive(Debug, Args)]
pub(super) struct MeasureArgs {
    /// The agent, see `status`; the collector's own is `centre`
    #[arg(long, value_name = "ID")]
    agent: String,
    /// Address, host name, @gateway or @resolver; must be allowed on the agent
    #[arg(long, value_name = "ADDRESS")]
    target: String,
    /// IP version for names [default: that of the address, else 4]
    #[arg(long, value_parser = ["4", "6"])]
    family: Option<String>,
    /// VRF device
    #[arg(long, default_value = "")]
    vrf: String,
    /// Deadline of the measurement
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    timeout: Duration,
    #[command(flatten)]
    probe: ProbeArgs,
}

/// What to ask for. The id numbers are not those of any assignment: the answer is not stored.
fn asked(args: &MeasureArgs) -> Result<(Target, Check), CliError> {
    let id = TargetId(1);
    let address = match (args.target.as_str(), args.target.parse::<IpAddr>()) {
        ("@gateway", _) => TargetAddress::Symbolic(Symbol::Gateway),
        ("@resolver", _) => TargetAddress::Symbolic(Symbol::Resolver),
        (_, Ok(address)) => TargetAddress::Ip(address),
        (name, Err(_)) => TargetAddress::Name(name.to_owned()),
    };
    let family = match (&address, args.family.as_deref()) {
        (TargetAddress::Ip(address), None) => Family::of(*address),
        (_, Some("6")) => Family::V6,
        _ => Family::V4,
    };
    let check = Check {
        stretch_last: false,
        id: CheckId(1),
        target: id,
        name: CheckName::new("on-demand").expect("made of allowed characters"),
        family,
        interval: args.timeout.max(Duration::from_mins(1)),
        timeout: args.timeout,
        probe: args.probe.probe(&args.target)?,
    };
    let target = Target {
        id,
        vrf: args.vrf.clone(),
        address,
    };
    Ok((target, check))
}

pub(super) async fn run(
    client: &mut AdminClient<Channel>,
    args: MeasureArgs,
) -> Result<(), CliError> {
    let (target, check) = asked(&args)?;
    let request = wire::MeasureRequest {
        agent_id: args.agent.clone(),
        target: Some((&target).into()),
        check: Some((&check).into()),
        timeout_ms: 0,
        actor: actor(),
    };
    let reply = client.measure(request).await?.into_inner();
    let Some(measured) = reply.measurement else {
        return Err(CliError::Problems(format!(
            "{} did not measure: {}",
            args.agent, reply.refusal
        )));
    };
    let mut text = format!(
        "{} from {}: {}",
        measured.instance, measured.vantage, measured.outcome
    );
    if measured.reason != "none" {
        write!(text, " ({})", measured.reason).expect("writing into a string cannot fail");
    }
    for value in &measured.values {
        write!(text, "\n  {:<40} {}", value.name, value.value)
            .expect("writing into a string cannot fail");
    }
    say(&text);
    Ok(())
}
