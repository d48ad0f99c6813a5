//! The whole agent, connected to a collector: schedule, probes, spool and uplink together.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use extranet_tests::place::Place;
use extranet_tests::sandbox::{Sandbox, Settings};

use crate::cost;

/// First runs, definitions and the assignment are over.
const WARM_UP: Duration = Duration::from_secs(40);
const COUNTED: Duration = Duration::from_mins(2);

const PLAN: &str = r#"
[[plan]]
name = "village: 4 ICMP and 3 TCP checks a minute"
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
name = "49 checks: ICMP and TCP, 8.5 runs a second"
levels = ["county"]
flush_interval = "5s"
"#;

/// Kinds of checks of the county; each is done of four (ICMP) or three (TCP) anchors.
const KINDS: usize = 7;

const THOUSAND: &str = r#"
[[plan]]
name = "1,000 ICMP targets every 10 s"
levels = ["township"]
flush_interval = "5s"
[[plan.check]]
name = "many"
probe = "icmp"
target = "service"
families = [4]
interval = "10s"
packets = 1
"#;

pub(crate) fn run() {
    let sandbox = Sandbox::start(Settings {
        place: Place::Host,
        vantage: false,
        ..Settings::default()
    });
    let sites = [("v", "village"), ("k", "county"), ("t", "township")];
    let mut access_points = "ap_id,name,level,parent,medium\n".to_owned();
    for (name, level) in sites {
        writeln!(access_points, "{name},{name},{level},centre,fibre").expect("a string");
    }
    let mut targets = "ap_id,name,kind,address,tcp_port\ncentre,one,anchor,127.0.0.1,9\n\
         centre,two,anchor,127.0.0.2,9\ncentre,three,anchor,127.0.0.3,9\ncentre,six,anchor,::1,\n"
        .to_owned();
    for number in 0..1_000 {
        let address = Ipv4Addr::from_bits(0x7f01_0001 + number);
        writeln!(targets, "t,s{number},service,{address},").expect("a string");
    }
    sandbox.import(&access_points, &targets);
    let mut plan = PLAN.to_owned();
    for kind in 0..KINDS {
        for probe in ["icmp", "tcp"] {
            write!(
                plan,
                "[[plan.check]]\nname = '{probe}-{kind}'\nprobe = '{probe}'\ntarget = 'anchor'\ninterval = '{}s'\n",
                5 + kind % 3
            )
            .expect("a string");
        }
    }
    plan.push_str(THOUSAND);
    sandbox.apply_plan(&plan);
    let mut agents = sites.map(|(name, _)| {
        let mut agent = sandbox.agent(name, &Place::Host, sandbox.address(), "");
        let pid = agent.process().id();
        (agent, pid)
    });
    std::thread::sleep(WARM_UP);
    let runs = |agent: &extranet_tests::sandbox::Agent| {
        let statistics = agent.statistics().expect("the agent serves statistics");
        statistics.sum("extranet_agent_schedule_runs_total")
    };
    let before = agents
        .each_ref()
        .map(|(agent, pid)| (cost::cpu_of(*pid), runs(agent)));
    std::thread::sleep(COUNTED);
    println!(
        "{:<12} {:>12} {:>12} {:>14} {:>14} {:>16}",
        "agent", "runs/s", "CPU, % core", "VmHWM, KiB", "VmRSS, KiB", "anonymous, KiB"
    );
    for ((name, level), ((agent, pid), (cpu, ran))) in
        sites.into_iter().zip(agents.iter_mut().zip(before))
    {
        let seconds = COUNTED.as_secs_f64();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1))
                .unwrap_or("?")
                .to_owned()
        };
        println!(
            "{:<12} {:>12.2} {:>12.2} {:>14} {:>14} {:>16}",
            format!("{name} {level}"),
            (runs(agent) - ran) / seconds,
            (cost::cpu_of(*pid) - cpu) / seconds * 100.0,
            cost::memory_kib(&pid.to_string()),
            field("VmRSS:"),
            field("RssAnon:"),
        );
    }
}
