//! What polling SNMP devices costs: time, CPU, memory and bytes of the agent's own poller against a device that exists.
//!
//! ```text
//! snmp-bench walk ADDRESS:PORT RUNS        if_mib of one device, again and again
//! snmp-bench fleet PORT DEVICES SECONDS    if_mib of so many loopback addresses, each once a minute
//! ```
//! `tests/snmp-bench.sh` makes the devices and runs the peers beside it.
#![expect(clippy::print_stdout, reason = "a command's own output")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use extranet_agent::probe::snmp::Poller;
use extranet_agent::probe::{Measured, ObjectIds, Run};
use extranet_proto::assignment::{Check, Family, Probe, SnmpCredential, SnmpProbe};
use extranet_proto::id::{CheckId, CheckName, TargetId};
use extranet_proto::record::Outcome;
use tokio::time::Instant;

const TIMEOUT: Duration = Duration::from_secs(20);
const MINUTE: Duration = Duration::from_mins(1);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be made");
    match words.as_slice() {
        ["walk", device, runs] => {
            let device: SocketAddr = device.parse().expect("ADDRESS:PORT");
            runtime.block_on(walk(device, runs.parse().expect("a number of runs")));
        }
        ["fleet", port, devices, seconds] => runtime.block_on(fleet(
            port.parse().expect("a port"),
            devices.parse().expect("a number of devices"),
            Duration::from_secs(seconds.parse().expect("seconds")),
        )),
        _ => println!("use: snmp-bench walk ADDRESS:PORT RUNS | fleet PORT DEVICES SECONDS"),
    }
}

fn check(id: u32, port: u16) -> Check {
    let probe = SnmpProbe {
        port,
        credential: SnmpCredential::V2c {
            community: "public".to_owned(),
        },
        modules: vec!["if_mib".to_owned()],
    };
    Check {
        id: CheckId(id),
        target: TargetId(1),
        name: CheckName::new("bench").expect("a name"),
        family: Family::V4,
        interval: MINUTE,
        timeout: TIMEOUT,
        stretch_last: false,
        probe: Probe::Snmp(probe),
    }
}

async fn run(poller: &Poller, check: &Check, address: IpAddr) -> Measured {
    let Probe::Snmp(probe) = &check.probe else {
        unreachable!("made above");
    };
    let run = Run {
        check,
        address,
        vrf: "",
        deadline: Instant::now() + TIMEOUT,
    };
    poller.run(&run, probe).await
}

async fn walk(device: SocketAddr, runs: u32) {
    let poller = Poller::new(ObjectIds::new());
    let check = check(1, device.port());
    let first = run(&poller, &check, device.ip()).await;
    println!(
        "first run: {} {} {} values, {:.1} ms, {:?}",
        first.outcome,
        first.reason,
        first.values.len(),
        first.duration.as_secs_f64() * 1e3,
        first.traffic
    );
    let (began, cpu) = (Instant::now(), cpu());
    let mut last = first;
    for _ in 0..runs {
        last = run(&poller, &check, device.ip()).await;
        assert_eq!(last.outcome, Outcome::Ok, "{:?}", last.reason);
    }
    let each = |total: Duration| total.as_secs_f64() * 1e3 / f64::from(runs);
    println!(
        "each of {runs} runs: {} values, {:.2} ms wall, {:.2} ms CPU, {:?}, {:.1} B per value",
        last.values.len(),
        each(began.elapsed()),
        each(self::cpu().saturating_sub(cpu)),
        last.traffic,
        (last.traffic.sent + last.traffic.received) as f64 / last.values.len() as f64
    );
}

/// Spread over the minute, as the schedule spreads them.
async fn fleet(port: u16, devices: u32, length: Duration) {
    let poller = Poller::new(ObjectIds::new());
    let (began, cpu) = (Instant::now(), cpu());
    let mut tasks = tokio::task::JoinSet::new();
    for device in 0..devices {
        let poller = poller.clone();
        tasks.spawn(async move {
            let check = check(device + 1, port);
            let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + device);
            let phase = MINUTE * device / devices;
            let mut due = Instant::now() + phase;
            let (mut good, mut missed, mut values) = (0_u64, 0_u64, 0_u64);
            loop {
                tokio::time::sleep_until(due).await;
                let measured = run(&poller, &check, address.into()).await;
                if measured.outcome == Outcome::Ok {
                    good += 1;
                } else {
                    missed += 1;
                }
                values += measured.values.len() as u64;
                due += MINUTE;
                if due > began + length {
                    break;
                }
            }
            (good, missed, values)
        });
    }
    let (mut good, mut missed, mut values) = (0, 0, 0);
    while let Some(ended) = tasks.join_next().await {
        let (a, b, c) = ended.expect("a task ends in order");
        good += a;
        missed += b;
        values += c;
    }
    let wall = began.elapsed().as_secs_f64();
    println!(
        "{devices} devices, {wall:.0} s: {good} polls, {missed} missed, {:.1} values each, {:.2} % of a core, {} KiB RSS",
        values as f64 / (good + missed).max(1) as f64,
        (self::cpu().saturating_sub(cpu)).as_secs_f64() / wall * 100.0,
        resident_kib()
    );
}

/// User and system time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(") ").next().unwrap_or_default();
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    // 100 ticks a second on every Linux that we know.
    Duration::from_millis(ticks * 10)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}
