//! The sensor of Extranet Monitor's agent.

fn main() -> std::process::ExitCode {
    extranet_agent::cli::sensor::main()
}
