//! `extranet-agent snmp`: what a technician on site asks a device. Needs no enrolment and no collector; for devices of the
//! last assignment not even a credential.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use extranet_proto::assignment::{Probe, SnmpCredential, TargetAddress};

use crate::config::Config;
use crate::control::last_plan;
use crate::measure::Targets;
use crate::probe::snmp::by_hand::ByHand;
use crate::probe::snmp::module::{Module, text_of};

/// Longest secret that is read from a file, bytes.
const SECRET_BYTES: usize = 1_024;
/// Most lines of a walk.
const WALK_LINES: usize = 1_000_000;

/// What can be asked.
#[derive(Debug, Subcommand)]
pub(super) enum SnmpCommand {
    /// Show single objects, by number or by name, as sysUpTime or ifDescr.3.
    Get {
        #[command(flatten)]
        device: DeviceArgs,
        /// What to ask for.
        #[arg(required = true)]
        objects: Vec<String>,
    },
    /// Show everything under an object.
    Walk {
        #[command(flatten)]
        device: DeviceArgs,
        /// Where to begin.
        #[arg(default_value = "1.3.6.1.2.1")]
        under: String,
    },
    /// Check a module file, and show what it gives for a device when one is named.
    CheckModule {
        /// A file, or the name of a built-in module.
        module: String,
        #[command(flatten)]
        device: OptionalDeviceArgs,
    },
}

/// Which device, and how.
#[derive(Debug, Args)]
pub(super) struct DeviceArgs {
    /// ADDRESS or ADDRESS:PORT.
    #[arg(value_name = "DEVICE")]
    device: String,
    #[command(flatten)]
    credential: CredentialArgs,
}

/// The same where it may be left out.
#[derive(Debug, Args)]
pub(super) struct OptionalDeviceArgs {
    /// ADDRESS or ADDRESS:PORT.
    #[arg(value_name = "DEVICE")]
    device: Option<String>,
    #[command(flatten)]
    credential: CredentialArgs,
}

/// Absent = that of the last assignment for this address. Secrets come from files: a command line is seen by everybody.
#[derive(Debug, Args)]
struct CredentialArgs {
    /// File with the community of version 2c (or 1, with --v1).
    #[arg(long, value_name = "FILE", conflicts_with = "user")]
    community_file: Option<PathBuf>,
    /// Speak version 1.
    #[arg(long, requires = "community_file")]
    v1: bool,
    /// User of version 3.
    #[arg(long)]
    user: Option<String>,
    /// Authentication protocol, as SHA-256.
    #[arg(long, value_name = "PROTOCOL", requires = "auth_file")]
    auth: Option<String>,
    /// File with the pass phrase of authentication.
    #[arg(long, value_name = "FILE", requires = "auth")]
    auth_file: Option<PathBuf>,
    /// Privacy protocol, as AES-128.
    #[arg(long, value_name = "PROTOCOL", requires = "privacy_file")]
    privacy: Option<String>,
    /// File with the pass phrase of privacy.
    #[arg(long, value_name = "FILE", requires = "privacy")]
    privacy_file: Option<PathBuf>,
    /// What an answer may take, seconds.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    time: u64,
}

/// Asks, and gives `line` what comes back.
pub(super) async fn ask(
    config: &Config,
    command: &SnmpCommand,
    mut line: impl FnMut(&str),
) -> Result<(), String> {
    match command {
        SnmpCommand::Get { device, objects } => {
            let device = open(config, &device.device, &device.credential)?;
            line(device.get(objects).await?.trim_end());
        }
        SnmpCommand::Walk { device, under } => {
            let device = open(config, &device.device, &device.credential)?;
            device.walk(under, WALK_LINES, line).await?;
        }
        SnmpCommand::CheckModule { module, device } => {
            let text = module_text(module)?;
            let name = Path::new(module)
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy();
            Module::parse(module, &text).map_err(|problems| problems.to_string())?;
            match &device.device {
                None => line(&format!("{module}: no problems")),
                Some(address) => {
                    let device = open(config, address, &device.credential)?;
                    line(device.module(&name, &text).await?.trim_end());
                }
            }
        }
    }
    Ok(())
}

fn module_text(module: &str) -> Result<String, String> {
    match text_of(module) {
        Some(text) => Ok(text.to_owned()),
        None => std::fs::read_to_string(module)
            .map_err(|error| format!("cannot read {module}: {error}")),
    }
}

fn open(config: &Config, device: &str, args: &CredentialArgs) -> Result<ByHand, String> {
    let address = address(device)?;
    let targets = Targets::new(&config.allowed_prefixes);
    if !targets.allows(address.ip()) {
        return Err(format!(
            "{} lies outside the allowed prefixes",
            address.ip()
        ));
    }
    let credential = match given(args)? {
        Some(credential) => credential,
        None => assigned(config, &targets, address.ip()).ok_or(
            "the last assignment has no credential for this device: use --community-file or --user",
        )?,
    };
    ByHand::new(address, &credential, Duration::from_secs(args.time))
}

fn address(device: &str) -> Result<SocketAddr, String> {
    let plain: Result<IpAddr, _> = device.trim_matches(['[', ']']).parse();
    match plain {
        Ok(ip) => Ok(SocketAddr::new(ip, 161)),
        Err(_) => device
            .parse()
            .map_err(|_| format!("'{device}' is neither ADDRESS nor ADDRESS:PORT")),
    }
}

fn given(args: &CredentialArgs) -> Result<Option<SnmpCredential>, String> {
    let protected = |protocol: &Option<String>, file: &Option<PathBuf>| match (protocol, file) {
        (Some(protocol), Some(file)) => Ok(Some((protocol.clone(), secret(file)?))),
        _ => Ok::<_, String>(None),
    };
    if let Some(file) = &args.community_file {
        let community = secret(file)?;
        return Ok(Some(if args.v1 {
            SnmpCredential::V1 { community }
        } else {
            SnmpCredential::V2c { community }
        }));
    }
    let Some(user) = &args.user else {
        return Ok(None);
    };
    Ok(Some(SnmpCredential::V3 {
        user: user.clone(),
        auth: protected(&args.auth, &args.auth_file)?,
        privacy: protected(&args.privacy, &args.privacy_file)?,
        context: String::new(),
    }))
}

fn secret(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > SECRET_BYTES {
        return Err(format!("{} holds no secret", file.display()));
    }
    Ok(text.to_owned())
}

/// The credential with which the last assignment polls a device.
fn assigned(config: &Config, targets: &Targets, address: IpAddr) -> Option<SnmpCredential> {
    let plan = last_plan(&config.state_dir, targets)?;
    plan.checks
        .iter()
        .find_map(|planned| match &planned.check.probe {
            Probe::Snmp(probe) if planned.target.address == TargetAddress::Ip(address) => {
                Some(probe.credential.clone())
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_addresses_with_or_without_a_port() {
        for (text, shown) in [
            ("10.0.0.1", Some("10.0.0.1:161")),
            ("10.0.0.1:1161", Some("10.0.0.1:1161")),
            ("fd00::1", Some("[fd00::1]:161")),
            ("[fd00::1]", Some("[fd00::1]:161")),
            ("[fd00::1]:1161", Some("[fd00::1]:1161")),
            ("router", None),
        ] {
            assert_eq!(
                address(text).ok().map(|a| a.to_string()).as_deref(),
                shown,
                "{text}"
            );
        }
    }
}
