//! The command line of extranet-agent.

mod ipv6;
mod path;
mod security;
pub mod sensor;
mod snmp;

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};

use crate::clock::Clock;
use crate::config::{Config, ConfigError, DEFAULT_PATH};
use crate::identity::ticket::{Ticket, TicketError};
use crate::identity::{AGENT_VERSION, Identity, enrol_here};
use crate::run::{RunError, certificate_time, prepare_state_dir, read_ticket, run};
use crate::shell::{
    Stage, error_chain, exit, shutdown, spawn_named, start_logging, stop_requested,
};

/// What a stop may take, everything together, before the process just ends. systemd's own limit is 90 s.
const STOP_TIME: Duration = Duration::from_secs(15);

/// Measures a site and tells its collector.
#[derive(Debug, Parser)]
#[command(name = "extranet-agent", version = AGENT_VERSION)]
struct Cli {
    /// The configuration file.
    #[arg(long, global = true, default_value = DEFAULT_PATH, value_name = "FILE")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure and send, until SIGTERM.
    Run {
        /// Enrol with this ticket first, if this agent is not enrolled yet.
        #[arg(long, value_name = "FILE")]
        ticket_file: Option<PathBuf>,
    },
    /// Turn a ticket into a certificate. Root does it as the owner of the state folder.
    Enrol(EnrolArgs),
    /// Check the configuration and list every problem.
    CheckConfig,
    /// IPv6 readiness of this machine.
    #[command(subcommand)]
    Ipv6(ipv6::Ipv6Command),
    /// What the security watch has learnt about routers and gateways, and its open events.
    Security,
    /// Ask an SNMP device: get, walk, or what a module gives.
    #[command(subcommand)]
    Snmp(snmp::SnmpCommand),
    /// The way to a target, hop by hop, and its MTU.
    Path(path::PathArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false, id = "source")]
struct EnrolArgs {
    /// The ticket is in this file.
    #[arg(long, value_name = "FILE", group = "source")]
    ticket_file: Option<PathBuf>,
    /// The ticket comes on standard input. A ticket is a secret and is not accepted on the command line.
    #[arg(long, value_name = "-", group = "source")]
    ticket: Option<String>,
    /// Replace the identity of an agent that is enrolled already.
    #[arg(long)]
    replace: bool,
}

/// What went wrong, and the exit status for it.
struct Failure {
    status: u8,
    text: String,
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self {
            status: exit::BAD_CONFIGURATION,
            text: error_chain(&error),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        Self {
            status: error.exit_status(),
            text: error_chain(&error),
        }
    }
}

impl Failure {
    fn other(error: &(dyn std::error::Error + 'static)) -> Self {
        Self {
            status: exit::FAILURE,
            text: error_chain(error),
        }
    }
}

/// The whole program.
#[expect(clippy::print_stderr, reason = "the command line's own output")]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Printing help fails where nobody reads it.
            drop(error.print());
            let status = if error.use_stderr() {
                exit::BAD_CONFIGURATION
            } else {
                0
            };
            return ExitCode::from(status);
        }
    };
    match execute(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("extranet-agent: {}", failure.text);
            ExitCode::from(failure.status)
        }
    }
}

#[expect(clippy::print_stdout, reason = "the command line's own output")]
fn execute(cli: &Cli) -> Result<(), Failure> {
    let mut config = configuration(cli)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other(&error))?;
    match &cli.command {
        Command::CheckConfig => {
            println!("{}: no problems", cli.config.display());
            Ok(())
        }
        Command::Security => security::show(&config),
        Command::Enrol(args) => runtime.block_on(enrol_once(&config, args)),
        Command::Ipv6(ipv6::Ipv6Command::Check(args)) => {
            let text = runtime
                .block_on(ipv6::check(&config, args))
                .map_err(|error| Failure::other(&error))?;
            print!("{text}");
            Ok(())
        }
        Command::Snmp(command) => runtime
            .block_on(snmp::ask(&config, command, |line| println!("{line}")))
            .map_err(|text| Failure {
                status: exit::FAILURE,
                text,
            }),
        Command::Path(args) => {
            let text = runtime
                .block_on(path::look(&config, args))
                .map_err(|text| Failure {
                    status: exit::FAILURE,
                    text,
                })?;
            print!("{text}");
            Ok(())
        }
        Command::Run { ticket_file } => {
            start_logging(&config.log_filter).map_err(|error| Failure {
                status: exit::FAILURE,
                text: error.to_string(),
            })?;
            if ticket_file.is_some() {
                config.ticket_file.clone_from(ticket_file);
            }
            let result = runtime.block_on(run_until_stopped(config));
            // A name lookup that hangs must not hold up the end.
            runtime.shutdown_background();
            result
        }
    }
}

/// The configuration; the defaults, for a look at a machine on which the agent was never set up.
fn configuration(cli: &Cli) -> Result<Config, Failure> {
    match Config::load(&cli.config) {
        Err(ConfigError::Read { path, source })
            if matches!(cli.command, Command::Ipv6(_) | Command::Path(_))
                && path == Path::new(DEFAULT_PATH)
                && source.kind() == ErrorKind::NotFound =>
        {
            Ok(Config::default())
        }
        loaded => Ok(loaded?),
    }
}

async fn run_until_stopped(config: Config) -> Result<(), Failure> {
    let (trigger, stages) = shutdown();
    spawn_named("signals", async move {
        if let Err(error) = stop_requested().await {
            tracing::error!(%error, "cannot receive signals");
            std::future::pending::<()>().await;
        }
        tracing::info!("stopping");
        trigger.advance(Stage::NoNewWork);
        // A second signal, or too much time, ends it at once.
        drop(tokio::time::timeout(STOP_TIME, stop_requested()).await);
        trigger.advance(Stage::Stop);
    });
    Ok(run(config, Clock::system(), stages).await?)
}

#[expect(clippy::print_stdout, reason = "the command line's own output")]
async fn enrol_once(config: &Config, args: &EnrolArgs) -> Result<(), Failure> {
    // The ticket first: it may be readable for root only.
    let ticket = ticket_of(args)?;
    become_owner(&config.state_dir)?;
    prepare_state_dir(&config.state_dir)?;
    if !args.replace
        && let Some(identity) = Identity::load(&config.state_dir).map_err(RunError::from)?
    {
        return Err(Failure {
            status: exit::FAILURE,
            text: format!(
                "this agent is enrolled already, as {}; use --replace for a new identity",
                identity.agent_id
            ),
        });
    }
    let time = certificate_time(&config.state_dir, Clock::system());
    let identity = enrol_here(config, &ticket, time)
        .await
        .map_err(|error| Failure {
            status: exit::NOT_ENROLLED,
            text: error_chain(&error),
        })?;
    println!("enrolled as {}", identity.agent_id);
    Ok(())
}

/// Root enrols for the service: from here on as the owner of the state folder, so that the service can read what is
/// written there. Where there is no folder yet, whoever runs this will own it.
fn become_owner(state_dir: &Path) -> Result<(), Failure> {
    let Ok(folder) = std::fs::metadata(state_dir) else {
        return Ok(());
    };
    let (user, group) = (Uid::from_raw(folder.uid()), Gid::from_raw(folder.gid()));
    if !Uid::effective().is_root() || user.is_root() {
        return Ok(());
    }
    setgroups(&[group])
        .and_then(|()| setgid(group))
        .and_then(|()| setuid(user))
        .map_err(|errno| Failure {
            status: exit::BAD_STATE,
            text: format!(
                "cannot become user {user}, the owner of {}: {errno}",
                state_dir.display()
            ),
        })
}

fn ticket_of(args: &EnrolArgs) -> Result<Ticket, Failure> {
    if let Some(path) = &args.ticket_file {
        return Ok(read_ticket(path)?);
    }
    if args.ticket.as_deref() != Some("-") {
        return Err(Failure {
            status: exit::BAD_CONFIGURATION,
            text: "everybody on this machine can read a command line: use --ticket-file FILE, or --ticket - and \
                   standard input"
                .to_owned(),
        });
    }
    let mut text = String::new();
    std::io::stdin()
        .take(4_096)
        .read_to_string(&mut text)
        .map_err(|error| Failure::other(&error))?;
    text.parse().map_err(|error: TicketError| Failure {
        status: exit::NOT_ENROLLED,
        text: error_chain(&error),
    })
}
