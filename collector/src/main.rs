//! The collector of Extranet Monitor; everything is in the library.

fn main() -> std::process::ExitCode {
    extranet_collector::cli::main()
}
