//! Many targets, each once a second: CPU and loss of the prober's own making.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;

use extranet_tests::namespace::Namespace;

use crate::{cost, own_path, surge_path};

const SECONDS: u32 = 20;

pub(crate) fn run() {
    let alone = Namespace::new("bench");
    alone.sysctl("net/ipv4/ping_group_range", "0 2147483647");
    let folder = tempfile::tempdir().expect("a folder");
    for targets in [1_000_u32, 10_000] {
        println!("{targets} targets a second for {SECONDS} s, evenly spread");
        println!(
            "{:<16} {:>12} {:>10} {:>10} {:>12}",
            "", "CPU, % core", "sent", "lost", "memory, KiB"
        );
        let own = {
            let mut command = alone.place().command(&own_path());
            command.args(["many", &targets.to_string(), "1000", &SECONDS.to_string()]);
            command
        };
        counted("this engine", own);
        if let Some(path) = surge_path() {
            let mut command = alone.place().command(&path);
            command.args(["many", &targets.to_string(), &SECONDS.to_string()]);
            counted("surge-ping", command);
        }
        let mut list = String::new();
        for number in 0..targets {
            let address = Ipv4Addr::from_bits(0x7f01_0001 + number);
            writeln!(list, "{address}").expect("writing into a string cannot fail");
        }
        let file = folder.path().join("targets");
        std::fs::write(&file, list).expect("a file can be written");
        let gap_ms = 1_000.0 / f64::from(targets);
        let mut fping = alone.place().command("fping");
        fping
            .args(["-q", "-c", &SECONDS.to_string(), "-p", "1000", "-t", "500"])
            .args(["-i", &gap_ms.to_string(), "-f"])
            .arg(&file);
        let ran = cost::watch(fping);
        // `127.1.0.1 : xmt/rcv/%loss = 20/20/0%, min/avg/max = ...`
        let (mut sent, mut received) = (0_u64, 0_u64);
        for line in ran.stderr().lines() {
            let counts = line.split_once("%loss = ").map(|(_, counts)| counts);
            let mut counts = counts.unwrap_or_default().split('/');
            sent += counts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
            received += counts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        }
        line("fping", ran.cpu, sent, received, ran.memory_kib);
    }
}

/// Runs what prints requests, replies, CPU seconds and memory.
fn counted(name: &str, command: Command) {
    let ran = cost::watch(command);
    let text = ran.stdout();
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [sent, received, ..] = fields[..] else {
        panic!("{name}: {text} {}", ran.stderr());
    };
    let count = |text: &str| text.parse().expect("a count");
    line(name, ran.cpu, count(sent), count(received), ran.memory_kib);
}

fn line(name: &str, cpu: f64, sent: u64, received: u64, memory_kib: u64) {
    println!(
        "{name:<16} {:>12.2} {sent:>10} {:>10} {memory_kib:>12}",
        cpu / f64::from(SECONDS) * 100.0,
        sent - received,
    );
}
