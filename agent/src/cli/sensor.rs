//! The command line of extranet-sensor.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::identity::AGENT_VERSION;
use crate::sensor::{DEFAULT_SOCKET, run};
use crate::shell::{error_chain, exit, start_logging};

/// Listens for router advertisements and tells the agent of this machine. Needs the capability to open raw sockets when it
/// starts, and gives it up.
#[derive(Debug, Parser)]
#[command(name = "extranet-sensor", version = AGENT_VERSION)]
struct Cli {
    /// Where the agent listens.
    #[arg(long, default_value = DEFAULT_SOCKET, value_name = "PATH")]
    socket: PathBuf,
    /// What is logged.
    #[arg(long, default_value = "info", value_name = "FILTER")]
    log: String,
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
    if let Err(error) = start_logging(&cli.log) {
        eprintln!("extranet-sensor: --log: {error}");
        return ExitCode::from(exit::BAD_CONFIGURATION);
    }
    match run::run(&cli.socket) {
        Err(error) => {
            eprintln!("extranet-sensor: {}", error_chain(&error));
            ExitCode::from(exit::FAILURE)
        }
        Ok(never) => match never {},
    }
}
