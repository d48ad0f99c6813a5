//! Puts a simulated fleet on one collector and prints what that costs: enrolment, everybody connecting, steady load, a
//! restart of the collector, and whether everything that was acknowledged is there.
//!
//! `cargo build --release --workspace --bins && EXTRANET_TEST_BINARIES=target/release target/release/fleet
//! --agents 6918 --minutes 5`. The collector gets its inventory from `inventory generate` (profile A, every access point
//! with an agent) and the built-in plan; time series go to a real VictoriaMetrics beside it. Needs as many file
//! descriptors as agents and some more (`ulimit -n`).
//!
//! The fleet itself takes part of the same two cores: CPU seconds of the collector are what to read, wall times are an
//! upper bound.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use extranet_tests::clock::{now, wait_until};
use extranet_tests::fleet::{Counts, Fleet, Ticketed, percentile};
use extranet_tests::sandbox::{Sandbox, Settings};

/// Longest for anything that the whole fleet does together.
const PATIENCE: Duration = Duration::from_mins(10);
/// Over which the first connections are spread.
const RAMP: Duration = Duration::from_secs(30);
/// Clock ticks of /proc/PID/stat in a second (`USER_HZ`, the same on every Linux).
const TICKS: f64 = 100.0;

/// What a process has used.
#[derive(Debug, Clone, Copy)]
struct Usage {
    cpu_s: f64,
    rss_mib: f64,
}

fn usage(pid: u32) -> Usage {
    let read = |file: &str| {
        std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process lives")
    };
    let stat = read("stat");
    // Behind the name, which may hold anything: state is field 3, utime 14, stime 15.
    let (_, fields) = stat.rsplit_once(')').expect("a name in parentheses");
    let ticks = |field: usize| -> f64 {
        let text = fields.split_whitespace().nth(field - 3);
        text.and_then(|text| text.parse().ok()).unwrap_or(0.0)
    };
    let status = read("status");
    let rss = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
    let rss: f64 = rss.and_then(|text| text.parse().ok()).unwrap_or(0.0);
    Usage {
        cpu_s: (ticks(14) + ticks(15)) / TICKS,
        rss_mib: rss / 1_024.0,
    }
}

/// What the command line says.
#[derive(Debug, Clone, Copy)]
struct Wish {
    agents: usize,
    minutes: u64,
}

fn wish() -> Option<Wish> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut wish = Wish {
        agents: 500,
        minutes: 2,
    };
    let mut words = arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--agents" => wish.agents = words.next()?.parse().ok().filter(|n| *n > 0)?,
            "--minutes" => wish.minutes = words.next()?.parse().ok().filter(|n| *n > 0)?,
            _ => return None,
        }
    }
    Some(wish)
}

/// Imports the generated inventory, every access point with an agent, and gives their ids.
fn inventory(sandbox: &Sandbox) -> Vec<String> {
    let folder = sandbox.folder().join("inventory");
    let out = folder.to_string_lossy().into_owned();
    sandbox.tell(&["inventory", "generate", "--profile", "A", "--out", &out]);
    let read = |name: &str| {
        std::fs::read_to_string(folder.join(name)).expect("the generator writes its files")
    };
    let access_points = read("access-points.csv");
    let mut lines = access_points.lines();
    let header = lines.next().expect("a header");
    let column = |name: &str| {
        let found = header.split(',').position(|column| column == name);
        found.unwrap_or_else(|| panic!("no column {name} in {header}"))
    };
    let (ap_id, monitoring) = (column("ap_id"), column("monitoring"));
    let mut ids = Vec::new();
    let mut text = format!("{header}\n");
    for line in lines {
        let mut cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), header.split(',').count(), "a comma in {line}");
        cells[monitoring] = "agent";
        ids.push(cells[ap_id].to_owned());
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    sandbox.import(&text, &read("targets.csv"));
    ids
}

#[expect(clippy::print_stderr, reason = "the program's own output")]
fn main() -> ExitCode {
    let Some(wish) = wish() else {
        eprintln!("usage: fleet [--agents N] [--minutes N]   (default 500 agents, 2 minutes)");
        return ExitCode::from(64);
    };
    let mut sandbox = Sandbox::start(Settings {
        vantage: false,
        slot: Duration::from_mins(1),
        tick: Duration::from_mins(1),
        silent_after: Duration::from_mins(15),
        ..Settings::default()
    });
    measure(wish, &mut sandbox);
    ExitCode::SUCCESS
}

#[expect(clippy::print_stdout, reason = "the program's own output")]
fn row(what: &str, figure: &str) {
    println!("{what:<52} {figure}");
}

fn measure(wish: Wish, sandbox: &mut Sandbox) {
    let pid = sandbox.collector().id();
    let before = usage(pid);
    let begin = now();
    let ids = inventory(sandbox);
    row(
        "import of the inventory",
        &format!(
            "{:.1} s, collector {:.1} CPU-s",
            begin.elapsed().as_secs_f64(),
            usage(pid).cpu_s - before.cpu_s
        ),
    );

    let begin = now();
    let chosen = ids.iter().step_by((ids.len() / wish.agents).max(1));
    let tickets: Vec<Ticketed> = chosen
        .take(wish.agents)
        .map(|ap_id| Ticketed {
            ap_id: ap_id.clone(),
            ticket: sandbox.ticket(ap_id),
        })
        .collect();
    row(
        "tickets, one by one",
        &format!(
            "{} in {:.1} s",
            tickets.len(),
            begin.elapsed().as_secs_f64()
        ),
    );

    let (begin, from) = (now(), usage(pid));
    let mut fleet = Fleet::new();
    let identities = fleet
        .enrol(sandbox.address(), tickets)
        .unwrap_or_else(|error| panic!("{error}"));
    let idle = usage(pid);
    row(
        "enrolment",
        &format!(
            "{:.1} s, collector {:.1} CPU-s, then {:.0} MiB",
            begin.elapsed().as_secs_f64(),
            idle.cpu_s - from.cpu_s,
            idle.rss_mib
        ),
    );

    let from = usage(pid);
    fleet.start(sandbox.address(), identities, RAMP);
    let all = fleet.sites() as u64;
    let connected = all_back(&fleet);
    let to = usage(pid);
    row(
        "everybody connects (spread over 30 s)",
        &format!("{connected}, collector {:.1} CPU-s", to.cpu_s - from.cpu_s),
    );

    // Assignments, definitions and first results are through.
    std::thread::sleep(Duration::from_mins(1));
    drop(fleet.latencies());
    let (begin, from) = (now(), usage(pid));
    let samples_before = fleet.counts().samples.load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(60 * wish.minutes));
    let (seconds, to) = (begin.elapsed().as_secs_f64(), usage(pid));
    let samples = fleet.counts().samples.load(Ordering::Relaxed) - samples_before;
    let cpu = to.cpu_s - from.cpu_s;
    row(
        "steady load",
        &format!(
            "{:.0} samples/s, collector {:.1} % of a core, {:.0} samples per CPU-s",
            samples as f64 / seconds,
            cpu / seconds * 100.0,
            samples as f64 / cpu.max(0.01)
        ),
    );
    row(
        "memory of the collector",
        &format!(
            "{:.0} MiB; {:.1} KiB for each stream above {:.0} MiB before they connected",
            to.rss_mib,
            (to.rss_mib - idle.rss_mib) * 1_024.0 / all as f64,
            idle.rss_mib
        ),
    );
    let latencies = fleet.latencies();
    row(
        "from a batch made to its acknowledgement",
        &format!(
            "median {:.0} ms, p99 {:.0} ms, most {:.0} ms ({} batches)",
            percentile(&latencies, 500).as_secs_f64() * 1_000.0,
            percentile(&latencies, 990).as_secs_f64() * 1_000.0,
            percentile(&latencies, 1_000).as_secs_f64() * 1_000.0,
            latencies.len()
        ),
    );

    restart(&fleet, sandbox);
    balance(&fleet, sandbox);
}

/// Until every site has a stream and something acknowledged on it.
fn all_back(fleet: &Fleet) -> String {
    let all = fleet.sites() as u64;
    let connected = |counts: &Counts| counts.connected.load(Ordering::Relaxed) == all;
    let fresh = |counts: &Counts| counts.fresh.load(Ordering::Relaxed) == all;
    let begin = now();
    let streams = fleet.wait(PATIENCE, connected);
    let results = match streams {
        Some(_) => fleet.wait(PATIENCE, fresh),
        None => None,
    };
    let counts = fleet.counts();
    match (streams, results) {
        (Some(streams), Some(_)) => format!(
            "all {all} streams after {:.1} s, fresh results of all after {:.1} s, {} failed attempts",
            streams.as_secs_f64(),
            begin.elapsed().as_secs_f64(),
            counts.failed.load(Ordering::Relaxed)
        ),
        _ => format!(
            "NOT all: {} streams, {} with results of {all} after {PATIENCE:?}",
            counts.connected.load(Ordering::Relaxed),
            counts.fresh.load(Ordering::Relaxed)
        ),
    }
}

/// The collector stops and starts under load.
fn restart(fleet: &Fleet, sandbox: &mut Sandbox) {
    fleet.counts().failed.store(0, Ordering::Relaxed);
    let begin = now();
    sandbox.stop_collector();
    // Streams that ended are counted before they are counted again.
    let ended = fleet.wait(PATIENCE, |counts| {
        counts.connected.load(Ordering::Relaxed) == 0
    });
    let stopped = begin.elapsed();
    fleet.forget_freshness();
    sandbox.start_collector();
    let started = begin.elapsed();
    let pid = sandbox.collector().id();
    let back = all_back(fleet);
    let used = usage(pid);
    row(
        "restart of the collector",
        &format!(
            "stopped after {:.1} s ({}), serving after {:.1} s",
            stopped.as_secs_f64(),
            if ended.is_some() {
                "all streams closed"
            } else {
                "NOT all streams closed"
            },
            started.as_secs_f64()
        ),
    );
    row(
        "everybody comes back",
        &format!(
            "{back}, collector {:.1} CPU-s, {:.0} MiB",
            used.cpu_s, used.rss_mib
        ),
    );
    let statistics = sandbox.statistics().expect("the collector answers");
    let resumed = statistics
        .value("extranet_collector_listen_handshakes_total{reason=\"resumed\"}")
        .unwrap_or(0.0);
    let all = statistics.sum("extranet_collector_listen_handshakes_total");
    row(
        "TLS handshakes after the restart",
        &format!("{all:.0}, of them {resumed:.0} resumed"),
    );
}

/// Everything that was made is acknowledged, and the collector's catalogue has seen all of it.
fn balance(fleet: &Fleet, sandbox: &Sandbox) {
    fleet.counts().measuring.store(false, Ordering::Relaxed);
    let settled = fleet.wait(PATIENCE, |counts| {
        counts.produced.load(Ordering::Relaxed) == counts.acknowledged.load(Ordering::Relaxed)
    });
    let begin = now();
    wait_until("the catalogue to catch up", PATIENCE, || {
        let statistics = sandbox.statistics()?;
        match statistics.value("extranet_collector_store_lag_records")? {
            lag if lag < 2.0 => Ok(()),
            lag => Err(format!("{lag} records behind")),
        }
    });
    let counts = fleet.counts();
    row(
        "records made, acknowledged, refused",
        &format!(
            "{}, {}, {} ({}); catalogue caught up after {:.1} s",
            counts.produced.load(Ordering::Relaxed),
            counts.acknowledged.load(Ordering::Relaxed),
            counts.refused.load(Ordering::Relaxed),
            if settled.is_some() {
                "balanced"
            } else {
                "NOT balanced"
            },
            begin.elapsed().as_secs_f64()
        ),
    );
}
