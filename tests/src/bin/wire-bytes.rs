//! Prints bytes per sample on the wire between an agent and its collector, measured at the socket.
//!
//! What is counted: TCP payload in both directions, TLS and HTTP/2 included, by the forwarder that every connection
//! goes through; and IP bytes (headers, acknowledgements and handshakes included), by the counters of the interface of
//! the agent's network namespace, through which nothing else goes: its targets are on its own loopback. A sample is a
//! (series, time, value) that VictoriaMetrics holds at the end.
//!
//! Four agents run side by side: a village (4 ICMP and 2 TCP checks a minute) and a site with two samples a second,
//! each with a steady stream and with a stream that is cut every ten minutes. Everything happens in real time, with the
//! real flush of 60 s; `--minutes` says for how long it is counted after a warm-up of three minutes.
//!
//! What differs from a real site: round trips on loopback are short and even, which makes values a little cheaper than
//! those of a long line, and nothing is lost.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use extranet_tests::clock::{now, wait_until, wall_ms};
use extranet_tests::namespace::{End, Namespace, connect};
use extranet_tests::place::Place;
use extranet_tests::proxy::{Count, Proxy};
use extranet_tests::sandbox::{Agent, Sandbox, Settings};

/// Until definitions, assignments and full handshakes are through.
const WARM_UP: Duration = Duration::from_mins(3);

const CUT_EVERY: Duration = Duration::from_mins(10);

/// Between the agents' sending and the samples' being visible.
const SETTLE: Duration = Duration::from_secs(20);

const PLAN: &str = r#"
[[plan]]
name = "village"
levels = ["village"]
flush_interval = "60s"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
interval = "60s"
[[plan.check]]
name = "tcp"
probe = "tcp"
target = "anchor"
interval = "60s"

[[plan]]
name = "two samples a second"
levels = ["county"]
flush_interval = "60s"
[[plan.check]]
name = "icmp"
probe = "icmp"
target = "anchor"
interval = "23s"
timeout = "5s"
[[plan.check]]
name = "tcp"
probe = "tcp"
target = "anchor"
interval = "23s"
timeout = "5s"
"#;

const TARGETS: &str = "ap_id,name,kind,address,tcp_port\n\
    centre,one,anchor,127.0.0.1,9\n\
    centre,two,anchor,127.0.0.2,9\n\
    centre,three,anchor,127.0.0.3,\n\
    centre,six,anchor,::1,\n";

/// (access point, level, whether its stream is cut)
const SITES: [(&str, &str, bool); 4] = [
    ("village-steady", "village", false),
    ("village-cut", "village", true),
    ("county-steady", "county", false),
    ("county-cut", "county", true),
];

struct Site {
    name: &'static str,
    namespace: Namespace,
    proxy: Proxy,
    _agent: Agent,
    // Keeps the other end of the link.
    _outside: Namespace,
}

/// What went over a site's link.
#[derive(Clone, Copy, Default)]
struct Wire {
    tcp: Count,
    ip_bytes: u64,
}

impl Site {
    fn start(sandbox: &Sandbox, name: &'static str) -> Self {
        let outside = Namespace::new("outside");
        let namespace = Namespace::new("site");
        connect(
            End {
                namespace: &outside,
                interface: "down0",
                addresses: &["10.66.0.1/30"],
            },
            End {
                namespace: &namespace,
                interface: "up0",
                addresses: &["10.66.0.2/30"],
            },
        );
        let proxy = Proxy::start_at(&outside.place(), "10.66.0.1:8443", sandbox.address());
        let agent = sandbox.agent(name, &namespace.place(), proxy.address(), "");
        Self {
            name,
            namespace,
            proxy,
            _agent: agent,
            _outside: outside,
        }
    }

    fn wire(&self) -> Wire {
        Wire {
            tcp: self.proxy.count(),
            ip_bytes: self.namespace.ip_bytes("up0"),
        }
    }
}

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the program's own output"
)]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let minutes = match arguments
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .as_slice()
    {
        [] => Some(31),
        ["--minutes", number] => number.parse::<u64>().ok().filter(|minutes| *minutes > 0),
        _ => None,
    };
    let Some(minutes) = minutes else {
        eprintln!("usage: wire-bytes [--minutes N]   (default 31: three cuts)");
        return ExitCode::from(64);
    };
    let sandbox = Sandbox::start(Settings {
        place: Place::Host,
        vantage: false,
        ..Settings::default()
    });
    let rows = SITES.map(|(name, level, _)| format!("{name},{name},{level},centre,satellite"));
    let access_points = format!("ap_id,name,level,parent,medium\n{}\n", rows.join("\n"));
    sandbox.import(&access_points, TARGETS);
    sandbox.apply_plan(PLAN);
    let sites: Vec<Site> = SITES
        .iter()
        .map(|(name, _, _)| Site::start(&sandbox, name))
        .collect();

    std::thread::sleep(WARM_UP);
    let from_ms = wall_ms();
    let before: Vec<Wire> = sites.iter().map(Site::wire).collect();
    for (site, (_, _, cut)) in sites.iter().zip(SITES) {
        if cut {
            site.proxy.cut_every(CUT_EVERY);
        }
    }
    let counting = now();
    std::thread::sleep(Duration::from_secs(60 * minutes));
    let after: Vec<Wire> = sites.iter().map(Site::wire).collect();
    let to_ms = wall_ms();
    let seconds = counting.elapsed().as_secs_f64();
    // What was measured in the last minute is still to be sent, as what was measured in the minute before the count
    // was sent within it.
    std::thread::sleep(SETTLE);
    let samples = samples(&sandbox, from_ms - 60_000, to_ms - 60_000);

    println!("{minutes} minutes; bytes of both directions together");
    println!(
        "{:<16} {:>8} {:>12} {:>10} {:>12} {:>11} {:>10}",
        "site", "samples", "connections", "TCP bytes", "TCP B/sample", "IP B/sample", "IP bit/s"
    );
    for ((site, before), after) in sites.iter().zip(&before).zip(&after) {
        let samples = samples.get(site.name).copied().unwrap_or(0);
        let per_sample = |bytes: u64| bytes as f64 / samples.max(1) as f64;
        let up_and_down = |count: &Count| count.bytes_up + count.bytes_down;
        let tcp = up_and_down(&after.tcp) - up_and_down(&before.tcp);
        let ip = after.ip_bytes - before.ip_bytes;
        println!(
            "{:<16} {:>8} {:>12} {:>10} {:>12.2} {:>11.2} {:>10.0}",
            site.name,
            samples,
            after.tcp.connections - before.tcp.connections,
            tcp,
            per_sample(tcp),
            per_sample(ip),
            ip as f64 * 8.0 / seconds,
        );
    }
    ExitCode::SUCCESS
}

/// Samples of each site's own checks within a span of measurement times.
fn samples(sandbox: &Sandbox, from_ms: i64, to_ms: i64) -> BTreeMap<String, u64> {
    let series = wait_until("the samples", Duration::from_secs(30), || {
        sandbox.victoria.export("{check!=\"\"}")
    });
    let mut samples = BTreeMap::new();
    for series in series {
        let inside = series
            .samples
            .iter()
            .filter(|(time, _)| (from_ms..to_ms).contains(time));
        *samples.entry(series.label("ap_id").to_owned()).or_default() += inside.count() as u64;
    }
    samples
}
