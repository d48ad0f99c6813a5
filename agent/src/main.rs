//! The agent of Extranet Monitor.

fn main() -> std::process::ExitCode {
    extranet_agent::cli::main()
}
