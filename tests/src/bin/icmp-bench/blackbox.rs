//! 1,000 targets every 10 s: `blackbox_exporter`, asked like a Prometheus would, and the engine.

use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::Duration;

use extranet_agent::shell::spawn_named;
use extranet_tests::namespace::Namespace;
use tokio::time::{Instant, sleep_until};

use crate::{cost, own_path};

const TARGETS: u32 = 1_000;
const INTERVAL: Duration = Duration::from_secs(10);
const ROUNDS: u32 = 6;

const MODULES: &str = "modules:\n  icmp:\n    prober: icmp\n    timeout: 5s\n    icmp:\n      preferred_ip_protocol: ip4\n";

/// Killed when this goes.
struct Exporter(Child);

impl Drop for Exporter {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub(crate) fn run() {
    let alone = Namespace::new("bench");
    alone.sysctl("net/ipv4/ping_group_range", "0 2147483647");
    println!(
        "{TARGETS} ICMP targets every {} s for {} s",
        INTERVAL.as_secs(),
        INTERVAL.as_secs() * u64::from(ROUNDS)
    );
    println!(
        "{:<20} {:>12} {:>10} {:>10} {:>12}",
        "", "CPU, % core", "probes", "failed", "memory, KiB"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let configuration = folder.path().join("blackbox.yml");
    std::fs::write(&configuration, MODULES).expect("a file can be written");
    let mut command = alone.place().command("prometheus-blackbox-exporter");
    command
        .arg(format!("--config.file={}", configuration.display()))
        .arg("--web.listen-address=127.0.0.1:9115")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let exporter = Exporter(command.spawn().expect("blackbox_exporter is installed"));
    let pid = exporter.0.id();
    let (before, good) = alone.enter(|| {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime can be built")
            .block_on(scrape(pid))
    });
    let probes = TARGETS * ROUNDS;
    line(
        "blackbox_exporter",
        cost::cpu_of(pid) - before,
        probes,
        probes - good,
        cost::memory_kib(&pid.to_string()),
    );
    drop(exporter);

    let mut own = alone.place().command(&own_path());
    let seconds = INTERVAL.as_secs() * u64::from(ROUNDS);
    own.args(["many", &TARGETS.to_string(), "10000", &seconds.to_string()]);
    let ran = cost::watch(own);
    let text = ran.stdout();
    let counts: Vec<u32> = text
        .split_whitespace()
        .take(2)
        .filter_map(|n| n.parse().ok())
        .collect();
    line(
        "this engine",
        ran.cpu,
        counts[0],
        counts[0] - counts[1],
        ran.memory_kib,
    );
}

/// Asks for every target in every interval; returns the exporter's CPU seconds before, and the good probes.
async fn scrape(pid: u32) -> (f64, u32) {
    let client = reqwest::Client::new();
    let ask = |client: reqwest::Client, address: String| async move {
        let url = format!("http://127.0.0.1:9115/probe?module=icmp&target={address}");
        let answer = client.get(url).send().await.ok()?.text().await.ok()?;
        answer
            .lines()
            .any(|line| line == "probe_success 1")
            .then_some(())
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(client.clone(), "127.0.0.1".to_owned()).await.is_none() {
        assert!(
            Instant::now() < deadline,
            "blackbox_exporter never answered"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let before = cost::cpu_of(pid);
    let gap = INTERVAL / TARGETS;
    let started = Instant::now();
    let mut runs = Vec::new();
    for turn in 0..TARGETS * ROUNDS {
        sleep_until(started + gap * turn).await;
        let address = Ipv4Addr::from_bits(0x7f01_0001 + turn % TARGETS).to_string();
        runs.push(spawn_named("scrape", ask(client.clone(), address)));
    }
    let mut good = 0;
    for run in runs {
        good += u32::from(matches!(run.await, Ok(Some(()))));
    }
    (before, good)
}

fn line(name: &str, cpu: f64, probes: u32, failed: u32, memory_kib: u64) {
    let seconds = INTERVAL.as_secs_f64() * f64::from(ROUNDS);
    println!(
        "{name:<20} {:>12.2} {probes:>10} {failed:>10} {memory_kib:>12}",
        cpu / seconds * 100.0
    );
}
