//! What a plan will cost on an uplink, before anybody has measured it: bytes of IP packets in both directions in 24
//! hours. Estimates for a target that answers at once; the agent's own account is the truth. What a plan shows here is
//! whether a budget can be kept without stretching intervals.

use std::time::Duration;

use extranet_proto::wire;
use extranet_proto::wire::check::Probe;

use super::compile::{Desired, DesiredCheck};

/// Milliseconds of a day.
const DAY_MS: u64 = 86_400_000;
/// Headers of IP, bytes.
const fn ip_header(family: i32) -> u64 {
    if family == wire::Family::Ipv6 as i32 {
        40
    } else {
        20
    }
}
/// TCP header with time stamps, bytes.
const TCP_HEADER: u64 = 32;
/// Packets of a connection that is opened and closed: SYN, SYN-ACK, ACK, FIN, ACK, FIN, ACK.
const CONNECTION_PACKETS: u64 = 7;
/// Payload of a TLS handshake with a chain of two certificates, bytes, and the packets it takes.
const HANDSHAKE: (u64, u64) = (4_500, 8);
/// Payload of a small page with its request, and the packets it takes. A guess.
const PAGE: (u64, u64) = (3_000, 6);
/// Question and answer of the DNS, payload.
const DNS_PAYLOAD: u64 = 200;
/// A run of the rubric of IPv6 readiness: some thirty small exchanges. A guess.
const READINESS: u64 = 20_000;
/// A scrape of a router with eight interfaces, payload and headers. A guess; a switch costs several times as much.
const SCRAPE: u64 = 6_000;
/// One batch of a village and its acknowledgement on the stream, TLS and HTTP/2 included: 64 bit/s at a flush of 60 s
/// (docs/performance.md).
const BATCH: u64 = 480;

/// What everything that an agent should measure, and the stream, cost in a day.
pub fn daily_bytes(desired: &Desired) -> u64 {
    let checks: u64 = desired.checks.iter().map(check_bytes).sum();
    let flush = desired.flush_interval.max(Duration::from_secs(1));
    checks + DAY_MS / millis(flush).max(1) * BATCH
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Nothing for what stands at the access point itself: its gateway and its routers.
fn check_bytes(desired: &DesiredCheck) -> u64 {
    if matches!(desired.role, "gateway" | "router") {
        return 0;
    }
    let runs = DAY_MS / u64::from(desired.check.interval_ms.max(1));
    runs.saturating_mul(run_bytes(&desired.check))
}

fn run_bytes(check: &wire::Check) -> u64 {
    let ip = ip_header(check.family);
    let segment = ip + TCP_HEADER;
    let connection = CONNECTION_PACKETS * segment;
    let exchange = |(payload, packets): (u64, u64)| payload + packets * segment;
    match &check.probe {
        Some(Probe::Icmp(icmp)) => {
            u64::from(icmp.packets) * 2 * (ip + 8 + u64::from(icmp.payload_bytes))
        }
        Some(Probe::Tcp(_)) => connection,
        Some(Probe::Udp(udp)) => {
            u64::from(udp.packets) * 2 * (ip + 8 + u64::from(udp.payload_bytes))
        }
        Some(Probe::Ntp(_)) => 2 * (ip + 8 + 48),
        Some(Probe::Dns(dns)) if dns.transport == i32::from(wire::DnsTransport::Tcp) => {
            connection + exchange((DNS_PAYLOAD, 4))
        }
        Some(Probe::Dns(_)) => 2 * (ip + 8) + DNS_PAYLOAD,
        Some(Probe::Tls(_)) => connection + exchange(HANDSHAKE),
        Some(Probe::Http(http)) => {
            let tls = if http.tls { exchange(HANDSHAKE) } else { 0 };
            connection + tls + exchange(PAGE)
        }
        Some(Probe::Snmp(_)) => SCRAPE,
        Some(Probe::Ipv6(_)) => READINESS,
        Some(Probe::Path(path)) => {
            let hops = u64::from(path.max_hop.min(10)) * u64::from(path.attempts);
            // An error message quotes what it answers.
            let trace = hops * 2 * (ip + 8 + u64::from(path.payload_bytes) + 28);
            // A search between 1,280 and 1,500 takes about eight packets of that size.
            trace + if path.path_mtu { 8 * 2 * 1_400 } else { 0 }
        }
        Some(Probe::Traffic(_)) | None => 0,
    }
}

/// What the planner should hear when the budget cannot be kept without stretching; `None` when it can.
pub fn warning(agent: &str, ap_id: &str, desired: &Desired) -> Option<String> {
    let cost = daily_bytes(desired);
    let budget = desired.daily_budget;
    (budget > 0 && cost > budget).then(|| {
        let percent = u128::from(cost) * 100 / u128::from(budget);
        format!(
            "agent {agent} at {ap_id}: about {cost} bytes a day, {percent} % of the daily budget of {budget}; it will \
             stretch its intervals"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::Inventory;
    use crate::plan::Plan;
    use crate::plan::compile::Compiled;

    fn ap(ap_id: &str, level: &str, medium: &str, parent: &str) -> wire::AccessPointRow {
        wire::AccessPointRow {
            ap_id: ap_id.to_owned(),
            name: ap_id.to_owned(),
            level: level.to_owned(),
            parent: parent.to_owned(),
            medium: medium.to_owned(),
            monitoring: "agent".to_owned(),
            ..Default::default()
        }
    }

    fn target(ap_id: &str, name: &str, kind: &str, address: &str) -> wire::TargetRow {
        wire::TargetRow {
            ap_id: ap_id.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            address: address.to_owned(),
            tcp_port: 443,
            ..Default::default()
        }
    }

    /// A region with two anchors in both families, and a village below it.
    fn village(plan: &str, medium: &str) -> Desired {
        let plan = Plan::parse("plan", plan).unwrap();
        let mut inventory = Inventory::default();
        inventory.insert_access_point(ap("centre", "region", "fibre", ""));
        inventory.insert_access_point(ap("v", "village", medium, "centre"));
        for (name, address) in [
            ("a4", "10.0.0.1"),
            ("a6", "fd00::1"),
            ("b4", "10.0.0.2"),
            ("b6", "fd00::2"),
        ] {
            inventory.insert_target(target("centre", name, "anchor", address));
        }
        inventory.insert_target(target("v", "ce", "router", "10.9.0.1"));
        inventory.insert_target(target("v", "portal", "service", "portal.example"));
        Compiled::new(&plan, &inventory)
            .desired("agent", "v", &["agent".to_owned()])
            .unwrap()
    }

    #[test]
    fn a_village_on_satellite_stays_below_one_kilobit_a_second_with_the_built_in_plan() {
        let desired = village(crate::plan::BUILT_IN, "satellite");
        let bits_a_second = daily_bytes(&desired) * 8 / 86_400;
        assert!((300..1_000).contains(&bits_a_second), "{bits_a_second}");
        assert_eq!(warning("agent", "v", &desired), None);
        assert!(desired.daily_budget * 8 / 86_400 < 1_000);
        let fibre = village(crate::plan::BUILT_IN, "fibre");
        assert_eq!(fibre.daily_budget, 0);
        let times = daily_bytes(&fibre) * 100 / daily_bytes(&desired);
        assert!(times > 150, "fibre costs {times} %");
    }

    #[test]
    fn a_budget_that_is_too_small_is_told() {
        let plan = "[[plan]]\nname = 'all'\ndaily_budget = '200KiB'\n[[plan.check]]\nname = 'anchor'\nprobe = 'icmp'\n\
                    target = 'anchor'\npackets = 5\npayload_bytes = 56\n";
        let desired = village(plan, "satellite");
        // 2 anchors x 5 packets x 2 directions x (84 + 104) bytes a minute, and a batch.
        assert_eq!(
            daily_bytes(&desired),
            1_440 * (2 * 5 * 2 * (84 + 104) + 480)
        );
        let told = warning("a1", "v", &desired).unwrap();
        assert!(
            told.contains("agent a1 at v") && told.contains("2981 % of the daily budget of 204800"),
            "{told}"
        );
    }
}
