//! The command line: `serve`, and the subcommands that ask the running service over its admin socket.
//!
//! Standard output carries answers, standard error everything else. Secrets come from files or standard input, never
//! from the command line, where every user of the machine could read them.

use std::fmt::Write as _;
use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use extranet_agent::clock::Clock;
use extranet_agent::config::reader::parse_duration;
use extranet_agent::shell::{error_chain, exit, start_logging};
use extranet_proto::wire::admin_client::AdminClient;
use extranet_proto::{limits, wire};
use tonic::transport::Channel;

use crate::config::{self, Config, ConfigError};
use crate::plan::modules::with_folder;
use crate::{admin, serve};

mod inventory;
mod measure;
mod report;
mod security;
mod status;

/// Collector of Extranet Monitor.
#[derive(Debug, Parser)]
#[command(name = "extranet-collector", version)]
struct Cli {
    /// Configuration file [default: /etc/extranet/collector.toml, or the defaults when that does not exist]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service until SIGTERM or SIGINT
    Serve,
    /// Say what is wrong with the configuration, without opening anything
    CheckConfig,
    /// Tickets with which agents enrol
    #[command(subcommand)]
    Ticket(TicketCommand),
    /// Import access points and targets from CSV: all of it, or nothing and every problem
    Import(ImportArgs),
    /// Inventories
    #[command(subcommand)]
    Inventory(inventory::InventoryCommand),
    /// Reports for network planners
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Access points
    #[command(subcommand)]
    Ap(ApCommand),
    /// Plans: what is measured where
    #[command(subcommand)]
    Plan(PlanCommand),
    /// Show access points, agents, latest measurements and alerts
    Status(StatusArgs),
    /// Let an agent measure something now
    Measure(measure::MeasureArgs),
    /// Agents
    #[command(subcommand)]
    Agent(AgentCommand),
    /// Security events
    #[command(subcommand)]
    Security(security::SecurityCommand),
}

#[derive(Debug, Subcommand)]
enum TicketCommand {
    /// Make a ticket for one agent at an access point. It is shown once
    New(TicketArgs),
}

#[derive(Debug, Args)]
struct TicketArgs {
    /// Access point of the inventory
    #[arg(long, value_name = "ID")]
    ap: String,
    /// How long it can be used, in whole hours
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    valid: Duration,
    /// Write it to this file (mode 0600) instead of standard output
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ImportArgs {
    /// CSV of access points
    #[arg(long, value_name = "FILE", required_unless_present_any = ["targets", "villages"])]
    access_points: Option<PathBuf>,
    /// CSV of targets
    #[arg(long, value_name = "FILE")]
    targets: Option<PathBuf>,
    /// CSV of the register of villages
    #[arg(long, value_name = "FILE")]
    villages: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ApCommand {
    /// Watch one more router, without an agent, from the collector
    Add(ApAddArgs),
}

#[derive(Debug, Args)]
struct ApAddArgs {
    /// Name of the access point
    name: String,
    /// Address or host name of its router
    #[arg(long, value_name = "ADDRESS")]
    address: String,
    /// Level: region, prefecture, county, township or village
    #[arg(long, default_value = "")]
    level: String,
    /// Access point above
    #[arg(long, value_name = "ID", default_value = "")]
    parent: String,
    /// Uplink: fibre, mobile, satellite, microwave or other
    #[arg(long, default_value = "")]
    medium: String,
    #[command(flatten)]
    snmp: SnmpArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SnmpVersion {
    V1,
    V2c,
    V3,
}

#[derive(Debug, Args)]
struct SnmpArgs {
    /// Scrape it by SNMP too
    #[arg(long, value_name = "VERSION")]
    snmp: Option<SnmpVersion>,
    /// UDP port
    #[arg(long, value_name = "PORT", default_value_t = 161, requires = "snmp")]
    snmp_port: u16,
    /// File with the community of v1 or v2c; - is standard input
    #[arg(
        long,
        value_name = "FILE",
        alias = "snmp-community-file",
        requires = "snmp"
    )]
    community_file: Option<PathBuf>,
    /// User of v3
    #[arg(long, value_name = "NAME", requires = "snmp")]
    snmp_user: Option<String>,
    /// Authentication protocol of v3, as SHA-256
    #[arg(long, value_name = "PROTOCOL", requires = "snmp_auth_file")]
    snmp_auth: Option<String>,
    /// File with the pass phrase of authentication; - is standard input
    #[arg(long, value_name = "FILE", requires = "snmp_auth")]
    snmp_auth_file: Option<PathBuf>,
    /// Privacy protocol of v3, as AES-128
    #[arg(long, value_name = "PROTOCOL", requires = "snmp_privacy_file")]
    snmp_privacy: Option<String>,
    /// File with the pass phrase of privacy; - is standard input
    #[arg(long, value_name = "FILE", requires = "snmp_privacy")]
    snmp_privacy_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum PlanCommand {
    /// Check a plan and put it into force
    Apply {
        /// TOML file
        file: PathBuf,
        /// Folder with SNMP modules; absent = snmp-modules beside the plan, if there is one
        #[arg(long, value_name = "FOLDER")]
        snmp_modules: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// Only this access point
    #[arg(long, value_name = "ID", default_value = "")]
    ap: String,
    /// Most measurements shown for each access point
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    measurements: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Void an agent's certificates and close its stream
    Revoke {
        /// The agent's id, see `status`
        id: String,
    },
}

/// Why a subcommand failed.
#[derive(Debug, thiserror::Error)]
enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the collector is not running: nobody answers on {}", socket.display())]
    NotRunning {
        socket: PathBuf,
        source: tonic::transport::Error,
    },
    #[error("{}", .0.message())]
    Refused(Box<tonic::Status>),
    #[error("cannot {operation} {}", path.display())]
    File {
        operation: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0}")]
    Usage(String),
    /// The answer was printed and is no.
    #[error("{0}")]
    Problems(String),
    #[error(transparent)]
    Generate(#[from] crate::inventory::generate::GenerateError),
    #[error(transparent)]
    Report(#[from] crate::report::ReportError),
    #[error(transparent)]
    Serve(#[from] serve::ServeError),
    #[error("cannot start logging: {0}")]
    Logging(Box<dyn std::error::Error + Send + Sync>),
    #[error("cannot start the runtime")]
    Runtime(#[source] std::io::Error),
}

impl From<tonic::Status> for CliError {
    fn from(status: tonic::Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

impl CliError {
    fn exit(&self) -> u8 {
        match self {
            Self::Config(_) | Self::Usage(_) => exit::BAD_CONFIGURATION,
            Self::Serve(error) => error.exit(),
            _ => exit::FAILURE,
        }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Prints help and version to standard output, mistakes to standard error.
            drop(error.print());
            return if error.use_stderr() {
                ExitCode::from(exit::BAD_CONFIGURATION)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error_chain(&error));
            ExitCode::from(error.exit())
        }
    }
}

fn run(cli: Cli) -> Result<(), CliError> {
    let config = load(cli.config.as_deref())?;
    match cli.command {
        Command::Serve => {
            start_logging(&config.log_filter).map_err(CliError::Logging)?;
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            let runtime = runtime.map_err(CliError::Runtime)?;
            Ok(runtime.block_on(serve::run(&config, Clock::system()))?)
        }
        Command::CheckConfig => {
            say("configuration is valid");
            Ok(())
        }
        Command::Inventory(command) => inventory::run(command),
        Command::Report(command) => report::run(&config, command),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime
                .map_err(CliError::Runtime)?
                .block_on(ask(&config, command))
        }
    }
}

/// A file that was named must be there; the default one need not.
fn load(path: Option<&Path>) -> Result<Config, CliError> {
    let default = Path::new(config::DEFAULT_PATH);
    match path {
        Some(path) => Ok(Config::load(path)?),
        None if matches!(default.try_exists(), Ok(false)) => Ok(Config::default()),
        None => Ok(Config::load(default)?),
    }
}

async fn ask(config: &Config, command: Command) -> Result<(), CliError> {
    let socket = admin::socket_path(&config.state_dir);
    let client = admin::connect(&config.state_dir).await;
    let mut client = client.map_err(|source| CliError::NotRunning { socket, source })?;
    match command {
        // Were answered without the service.
        Command::Serve | Command::CheckConfig | Command::Inventory(_) | Command::Report(_) => {
            Ok(())
        }
        Command::Ticket(TicketCommand::New(args)) => new_ticket(&mut client, args).await,
        Command::Import(args) => import(&mut client, args).await,
        Command::Ap(ApCommand::Add(args)) => add_access_point(&mut client, args).await,
        Command::Plan(PlanCommand::Apply { file, snmp_modules }) => {
            apply_plan(&mut client, &file, snmp_modules).await
        }
        Command::Status(args) => {
            let StatusArgs {
                ap,
                measurements,
                json,
            } = args;
            let request = wire::StatusRequest {
                ap_id: ap,
                measurements,
            };
            let reply = client.status(request).await?.into_inner();
            say(&if json {
                status::json(&reply)
            } else {
                status::table(&reply)
            });
            Ok(())
        }
        Command::Measure(args) => measure::run(&mut client, args).await,
        Command::Security(command) => {
            security::run(&mut client, Clock::system().read().wall_us, command).await
        }
        Command::Agent(AgentCommand::Revoke { id }) => {
            let request = wire::RevokeAgentRequest {
                agent_id: id.clone(),
                actor: actor(),
            };
            let reply = client.revoke_agent(request).await?.into_inner();
            let stream = if reply.was_connected {
                "its stream is closed"
            } else {
                "it was not connected"
            };
            say(&format!("agent {id} is revoked, {stream}"));
            Ok(())
        }
    }
}

async fn new_ticket(client: &mut AdminClient<Channel>, args: TicketArgs) -> Result<(), CliError> {
    let hours = args.valid.as_secs().div_ceil(3_600);
    let request = wire::NewTicketRequest {
        ap_id: args.ap,
        valid_hours: u32::try_from(hours).unwrap_or(u32::MAX),
    };
    let reply = client.new_ticket(request).await?.into_inner();
    match args.out {
        None => say(&reply.ticket),
        Some(path) => {
            write_secret(&path, &reply.ticket).map_err(|source| CliError::File {
                operation: "write",
                path: path.clone(),
                source,
            })?;
            say(&format!(
                "ticket in {}, valid until {}",
                path.display(),
                status::time(reply.expires_wall_us)
            ));
        }
    }
    Ok(())
}

fn write_secret(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    writeln!(file, "{text}")
}

async fn import(client: &mut AdminClient<Channel>, args: ImportArgs) -> Result<(), CliError> {
    let csv = |path: Option<PathBuf>| path.map_or(Ok(Vec::new()), |path| read(&path));
    let request = wire::ImportRequest {
        access_points_csv: csv(args.access_points)?,
        targets_csv: csv(args.targets)?,
        villages_csv: csv(args.villages)?,
        actor: actor(),
    };
    imported(&client.import(request).await?.into_inner())
}

fn imported(reply: &wire::ImportReply) -> Result<(), CliError> {
    if reply.problems.is_empty() {
        let wire::ImportReply {
            added,
            changed,
            unchanged,
            ..
        } = reply;
        say(&format!(
            "{added} added, {changed} changed, {unchanged} unchanged"
        ));
        return Ok(());
    }
    Err(problems("nothing was imported", &reply.problems))
}

fn problems(what: &str, list: &[String]) -> CliError {
    let mut text = format!("{what}, {} problems:", list.len());
    for problem in list {
        write!(text, "\n  {problem}").expect("writing into a string cannot fail");
    }
    CliError::Problems(text)
}

async fn add_access_point(
    client: &mut AdminClient<Channel>,
    args: ApAddArgs,
) -> Result<(), CliError> {
    let snmp = snmp_probe(&args.snmp)?;
    let ApAddArgs {
        name,
        address,
        level,
        parent,
        medium,
        ..
    } = args;
    let request = wire::AddAccessPointRequest {
        name,
        address,
        level,
        parent,
        medium,
        snmp,
        actor: actor(),
    };
    imported(&client.add_access_point(request).await?.into_inner())
}

fn snmp_probe(args: &SnmpArgs) -> Result<Option<wire::SnmpProbe>, CliError> {
    let Some(version) = args.snmp else {
        return Ok(None);
    };
    let usage = |text: &str| CliError::Usage(text.to_owned());
    let mut credential = wire::SnmpCredential::default();
    match version {
        SnmpVersion::V1 | SnmpVersion::V2c => {
            let file = args.community_file.as_ref();
            let file = file.ok_or_else(|| usage("--snmp v1 and v2c need --community-file"))?;
            credential.community = read_secret(file)?;
        }
        SnmpVersion::V3 => {
            let user = args.snmp_user.clone();
            credential.user = user.ok_or_else(|| usage("--snmp v3 needs --snmp-user"))?;
            if let (Some(protocol), Some(file)) = (&args.snmp_auth, &args.snmp_auth_file) {
                protocol.clone_into(&mut credential.auth_protocol);
                credential.auth_password = read_secret(file)?;
            }
            if let (Some(protocol), Some(file)) = (&args.snmp_privacy, &args.snmp_privacy_file) {
                protocol.clone_into(&mut credential.privacy_protocol);
                credential.privacy_password = read_secret(file)?;
            }
        }
    }
    let version = match version {
        SnmpVersion::V1 => wire::SnmpVersion::SnmpVersion1,
        SnmpVersion::V2c => wire::SnmpVersion::SnmpVersion2c,
        SnmpVersion::V3 => wire::SnmpVersion::SnmpVersion3,
    };
    Ok(Some(wire::SnmpProbe {
        port: args.snmp_port.into(),
        version: version.into(),
        credential: Some(credential),
        modules: vec!["system".to_owned(), "if_mib".to_owned()],
        uplink: String::new(),
    }))
}

async fn apply_plan(
    client: &mut AdminClient<Channel>,
    file: &Path,
    snmp_modules: Option<PathBuf>,
) -> Result<(), CliError> {
    let mut plan_toml = String::from_utf8(read(file)?)
        .map_err(|_| CliError::Usage(format!("{} is not UTF-8", file.display())))?;
    let beside = file.with_file_name("snmp-modules");
    if let Some(folder) = snmp_modules.or_else(|| beside.is_dir().then_some(beside)) {
        plan_toml = with_folder(&plan_toml, &folder).map_err(|source| CliError::File {
            operation: "read",
            path: folder,
            source,
        })?;
    }
    let request = wire::ApplyPlanRequest {
        plan_toml,
        actor: actor(),
    };
    let reply = client.apply_plan(request).await?.into_inner();
    if !reply.problems.is_empty() {
        return Err(problems("the plan was not applied", &reply.problems));
    }
    for warning in &reply.warnings {
        say(&format!("warning: {warning}"));
    }
    say(&format!(
        "applied: {} of {} agents get a new assignment",
        reply.agents_changed, reply.agents_total
    ));
    Ok(())
}

/// Reads a file, or standard input for `-`, up to the limit of the admin socket.
fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::File {
        operation: "read",
        path: path.to_owned(),
        source,
    };
    let source: Box<dyn Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(path).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    source
        .take(limits::IMPORT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > limits::IMPORT_BYTES {
        let limit = limits::IMPORT_BYTES;
        return Err(CliError::Usage(format!(
            "{} is larger than {limit} bytes",
            path.display()
        )));
    }
    Ok(bytes)
}

/// The first line of a file.
fn read_secret(path: &Path) -> Result<String, CliError> {
    let bytes = read(path)?;
    let line = bytes
        .split(|byte| *byte == b'\n')
        .next()
        .unwrap_or_default();
    let text = std::str::from_utf8(line)
        .ok()
        .map(|line| line.trim_end_matches('\r'));
    match text {
        Some(text) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err(CliError::Usage(format!(
            "{} holds no secret on its first line",
            path.display()
        ))),
    }
}

/// Who is asking, for the audit trail: the login name that sudo or the shell says.
fn actor() -> String {
    let named = |key| {
        std::env::var(key)
            .ok()
            .filter(|name: &String| !name.is_empty())
    };
    named("SUDO_USER")
        .or_else(|| named("USER"))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Prints the answer. Whoever closes the pipe early, as `head` does, has seen what he wanted to see.
fn say(text: &str) {
    use std::io::Write;
    let text = text.trim_end_matches('\n');
    writeln!(std::io::stdout(), "{text}").ok();
}

#[expect(clippy::print_stderr, reason = "the command failed")]
fn complain(text: &str) {
    let prefix = if std::io::stderr().is_terminal() {
        "\u{1b}[31merror:\u{1b}[0m"
    } else {
        "error:"
    };
    eprintln!("{prefix} {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
        assert!(parse("extranet-collector ticket new --ap a --valid 36h").is_ok());
        assert!(parse("extranet-collector import").is_err());
        assert!(
            parse("extranet-collector ap add r1 --address 192.0.2.1 --community-file f").is_err()
        );
    }

    #[test]
    fn snmp_secrets_come_from_files() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("community");
        std::fs::write(&file, "s3cret\r\nnot this\n").unwrap();
        let line = format!(
            "x ap add r1 --address 192.0.2.1 --snmp v2c --community-file {}",
            file.display()
        );
        let Command::Ap(ApCommand::Add(args)) = parse(&line).unwrap().command else {
            panic!()
        };
        let probe = snmp_probe(&args.snmp).unwrap().unwrap();
        assert_eq!(probe.credential.unwrap().community, "s3cret");
        assert_eq!(probe.port, 161);
        let Command::Ap(ApCommand::Add(args)) = parse("x ap add r1 --address 192.0.2.1 --snmp v2c")
            .unwrap()
            .command
        else {
            panic!()
        };
        assert_eq!(
            snmp_probe(&args.snmp).unwrap_err().exit(),
            exit::BAD_CONFIGURATION
        );
    }
}
