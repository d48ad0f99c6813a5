//! Round trips that tools report, less those that the kernel saw on the interface, for the same packets.

use std::process::Command;
use std::time::Duration;

use extranet_tests::forwarder::{Faults, Forwarder};
use extranet_tests::namespace::{End, Namespace};

use crate::{cost, own_path, surge_path, wire};

const FAR: &str = "10.9.1.1";
const COUNT: u16 = 300;

pub(crate) fn run() {
    let folder = tempfile::tempdir().expect("a folder");
    let (site, far) = (Namespace::new("site"), Namespace::new("far"));
    let link = Forwarder::connect(
        End {
            namespace: &site,
            interface: "up0",
            addresses: &["10.9.1.2/30"],
        },
        End {
            namespace: &far,
            interface: "down0",
            addresses: &["10.9.1.1/30"],
        },
        7,
    );
    site.sysctl("net/ipv4/ping_group_range", "0 2147483647");
    // Short enough for three digits behind the decimal point of a millisecond in the output of ping and fping.
    link.both(Faults::delay(Duration::from_micros(250)));
    println!("reported round trip less that on the wire, µs, {COUNT} requests 20 ms apart");
    println!(
        "{:<34} {:>8} {:>8} {:>8} {:>8}",
        "", "p50", "p99", "max", "wire p50"
    );
    let own = |busy: &str| {
        let mut command = site.place().command(&own_path());
        command.args(["one-by-one", FAR, &COUNT.to_string(), busy]);
        command
    };
    let surge = |busy: &str| {
        surge_path().map(|path| {
            let mut command = site.place().command(&path);
            command.args(["one-by-one", FAR, &COUNT.to_string(), busy]);
            command
        })
    };
    let ping = {
        let mut command = site.place().command("ping");
        command.args(["-n", "-c", &COUNT.to_string(), "-i", "0.02", FAR]);
        command
    };
    let fping = {
        let mut command = site.place().command("fping");
        command.args(["-C", &COUNT.to_string(), "-p", "20", "-t", "500", "-q", FAR]);
        command
    };
    let measured = |name: &str, command: Command, first: u16, read: fn(&cost::Ran) -> Vec<f64>| {
        let watch = wire::watch(&site, "up0", folder.path());
        let ran = cost::watch(command);
        show(name, &read(&ran), &watch.round_trips(first, COUNT));
    };
    measured("this engine, idle runtime", own("idle"), 0, lines);
    measured("this engine, busy runtime", own("busy"), 0, lines);
    if let (Some(idle), Some(busy)) = (surge("idle"), surge("busy")) {
        measured("surge-ping, idle runtime", idle, 0, lines);
        measured("surge-ping, busy runtime", busy, 0, lines);
    }
    measured("ping (iputils)", ping, 1, ping_times);
    measured("fping", fping, 0, fping_times);
}

fn lines(ran: &cost::Ran) -> Vec<f64> {
    let text = ran.stdout();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// `64 bytes from 10.9.1.1: icmp_seq=1 ttl=64 time=0.598 ms`
fn ping_times(ran: &cost::Ran) -> Vec<f64> {
    let text = ran.stdout();
    let times = text.lines().filter_map(|line| {
        let (_, behind) = line.split_once("time=")?;
        behind.split_whitespace().next()?.parse::<f64>().ok()
    });
    times.map(|ms| ms * 1e3).collect()
}

/// `10.9.1.1 : 0.598 0.612 - 0.601`
fn fping_times(ran: &cost::Ran) -> Vec<f64> {
    let text = ran.stderr();
    let times = text.rsplit(" : ").next().unwrap_or_default();
    times
        .split_whitespace()
        .map(|time| time.parse::<f64>().map_or(-1.0, |ms| ms * 1e3))
        .collect()
}

fn show(name: &str, reported: &[f64], wire: &[Option<f64>]) {
    assert_eq!(reported.len(), usize::from(COUNT), "{name}");
    let pairs = reported.iter().zip(wire).filter(|(told, _)| **told >= 0.0);
    let mut errors: Vec<f64> = pairs
        .filter_map(|(told, seen)| Some(told - (*seen)?))
        .collect();
    assert!(
        errors.len() + 5 > usize::from(COUNT),
        "{name}: {}",
        errors.len()
    );
    let mut wire: Vec<f64> = wire.iter().flatten().copied().collect();
    errors.sort_by(f64::total_cmp);
    wire.sort_by(f64::total_cmp);
    let at = |list: &[f64], per_cent: usize| list[(list.len() - 1) * per_cent / 100];
    println!(
        "{name:<34} {:>8.0} {:>8.0} {:>8.0} {:>8.0}",
        at(&errors, 50),
        at(&errors, 99),
        at(&errors, 100),
        at(&wire, 50),
    );
}
