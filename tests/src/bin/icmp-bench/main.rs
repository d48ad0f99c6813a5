//! The ICMP engine beside fping, ping, surge-ping and `blackbox_exporter`: how true, how much, at what cost.
//!
//! ```console
//! cargo run --release -p extranet-tests --bin icmp-bench -- accuracy    # round trips against the wire
//! cargo run --release -p extranet-tests --bin icmp-bench -- rate        # 1,000 and 10,000 targets a second
//! cargo run --release -p extranet-tests --bin icmp-bench -- blackbox    # 1,000 targets every 10 s, blackbox_exporter beside it
//! cargo run --release -p extranet-tests --bin icmp-bench -- agent       # the whole agent: a village, 50 checks, 1,000 targets
//! ```
//!
//! Everything stays in namespaces and on loopback. Needs root, and the Debian packages fping, iputils-ping, tcpdump and
//! prometheus-blackbox-exporter; surge-ping is built from `tests/peers/surge` first (see there) and left out where it
//! is not. Figures of a shared machine differ from run to run: read ratios within one run, and medians of several.
#![expect(clippy::print_stdout, reason = "the program's own output")]

mod accuracy;
mod agent;
mod blackbox;
mod cost;
mod engine;
mod rate;
mod wire;

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["accuracy"] => accuracy::run(),
        ["rate"] => rate::run(),
        ["blackbox"] => blackbox::run(),
        ["agent"] => agent::run(),
        // What the parts start as processes of their own.
        ["one-by-one", address, count, busy] => {
            engine::one_by_one(address, number(count), *busy == "busy");
        }
        ["many", targets, interval_ms, seconds] => {
            engine::many(number(targets), number(interval_ms), number(seconds));
        }
        _ => {
            println!("usage: icmp-bench accuracy | rate | blackbox | agent");
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

fn number(text: &str) -> u32 {
    text.parse().expect("a number")
}

/// This program, to start it again inside a namespace.
fn own_path() -> String {
    let path = std::env::current_exe().expect("the kernel knows the running program");
    path.to_str().expect("a path of text").to_owned()
}

/// The peer that measures with surge-ping, if somebody built it.
fn surge_path() -> Option<String> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/surge/target/release/surge-peer");
    path.try_exists()
        .unwrap_or(false)
        .then(|| path.to_string_lossy().into_owned())
}
