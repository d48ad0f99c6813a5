//! What this machine's own tables say about IPv6: addresses, default route, gateway (checks A1 to A4, B1, H2). Needs
//! no privilege.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};
use std::time::Duration;

use extranet_proto::assignment::Prefix6;
use tokio::time::{Instant, sleep};

use super::report::Report;
use super::score::Verdict;
use crate::measure::Targets;
use crate::net::netlink::Netlink;
use crate::packet::rtnetlink::{
    Address, Dump, Entry, Link, Neighbour, Route, SCOPE_UNIVERSE, address_flag, link,
    neighbour_state,
};

/// Routing tables that ordinary traffic uses: main and default (linux/rtnetlink.h).
const ORDINARY_TABLES: [u32; 2] = [254, 253];
/// Ticks of the user clock in a second (`USER_HZ`), fixed on all supported machines.
const TICKS_PER_SECOND: u32 = 100;
/// V6-B1: how long the gateway may take from the kernel's question to its answer.
const GATEWAY_TIME: Duration = Duration::from_secs(3);
/// A neighbour that was known waits in the state DELAY before the kernel asks again (RFC 4861 section 10,
/// `DELAY_FIRST_PROBE_TIME`): its answer cannot come earlier.
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
/// How often the table of neighbours is read meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// The discard port: nobody need listen, the packet only makes the kernel ask for the gateway.
const DISCARD: u16 = 9;

/// The tables of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Host {
    /// Interfaces.
    pub links: Vec<Link>,
    /// IPv6 addresses.
    pub addresses: Vec<Address>,
    /// IPv6 routes.
    pub routes: Vec<Route>,
}

impl Host {
    /// Reads the tables of the network namespace of this thread.
    pub fn read() -> io::Result<Self> {
        let mut netlink = Netlink::open()?;
        let mut host = Self::default();
        for dump in [Dump::Links, Dump::Addresses, Dump::Routes] {
            for entry in netlink.dump(dump)? {
                match entry {
                    Entry::Link(link) => host.links.push(link),
                    Entry::Address(address) => host.addresses.push(address),
                    Entry::Route(route) => host.routes.push(route),
                    _ => {}
                }
            }
        }
        Ok(host)
    }

    fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    fn name(&self, index: u32) -> &str {
        self.link(index).map_or("?", |link| link.name.as_str())
    }

    /// The default route with the lowest metric.
    pub fn default_route(&self) -> Option<&Route> {
        self.routes
            .iter()
            .filter(|route| route.prefix_length == 0 && ORDINARY_TABLES.contains(&route.table))
            .filter(|route| {
                self.link(route.link)
                    .is_none_or(|link| link.flags & link::UP != 0)
            })
            .filter(|route| !self.is_loopback(route.link))
            .min_by_key(|route| route.metric)
    }

    fn is_loopback(&self, index: u32) -> bool {
        self.link(index)
            .is_some_and(|link| link.flags & link::LOOPBACK != 0)
    }

    /// Addresses of the uplink: the interface of the default route, or any but loopback where there is none.
    fn uplink_addresses(&self) -> impl Iterator<Item = &Address> {
        let uplink = self.default_route().map(|route| route.link);
        self.addresses.iter().filter(move |address| {
            uplink.map_or(!self.is_loopback(address.link), |uplink| {
                address.link == uplink
            })
        })
    }

    /// Whether there is an address and a way out: without them whatever fails over IPv6 fails for that reason.
    pub fn can_reach_out(&self) -> bool {
        self.uplink_addresses().any(is_usable) && self.default_route().is_some()
    }

    /// Enters everything that follows from the tables alone.
    pub fn judge(&self, allotted: Option<Prefix6>, report: &mut Report) {
        let usable: Vec<&Address> = self.uplink_addresses().filter(|a| is_usable(a)).collect();
        report.decide(
            "V6-A1",
            !usable.is_empty(),
            thousandths(usable.len()),
            listed(usable.iter().map(|address| address.address)),
        );
        match (allotted, usable.is_empty()) {
            (None, _) => report.untested("V6-A2", "no prefix is known for this access point"),
            (_, true) => report.enter("V6-A2", Verdict::NotApplicable, None, "no address"),
            (Some(prefix), false) => {
                let outside = |address: &&&Address| !prefix.contains(address.address);
                let outside: Vec<_> = usable.iter().filter(outside).collect();
                let note = listed(outside.iter().map(|address| address.address));
                report.decide(
                    "V6-A2",
                    outside.is_empty(),
                    thousandths(outside.len()),
                    note,
                );
            }
        }
        match self.default_route() {
            None => report.enter("V6-A3", Verdict::Fail, None, "no default route"),
            Some(route) => {
                let way = match route.gateway {
                    Some(gateway) => format!("via {gateway} dev {}", self.name(route.link)),
                    None => format!("dev {}", self.name(route.link)),
                };
                let left = route.expires_ticks.map(|ticks| ticks / TICKS_PER_SECOND);
                let seconds = left.map_or(-1, i64::from);
                report.decide("V6-A3", true, seconds * 1_000, way);
            }
        }
        self.judge_duplicates(report);
        self.judge_tunnels(report);
    }

    /// V6-A4, as far as this moment goes: link-local addresses count too.
    fn judge_duplicates(&self, report: &mut Report) {
        let own: Vec<&Address> = self.uplink_addresses().collect();
        let failed = |address: &&&Address| address.flags & address_flag::DADFAILED != 0;
        let failed: Vec<_> = own.iter().filter(failed).collect();
        if own.is_empty() {
            report.enter("V6-A4", Verdict::NotApplicable, None, "no address");
        } else {
            let note = listed(failed.iter().map(|address| address.address));
            report.decide("V6-A4", failed.is_empty(), thousandths(failed.len()), note);
        }
    }

    /// V6-H2: interfaces of protocol 41 that are up, and addresses of 6to4, Teredo and ISATAP.
    fn judge_tunnels(&self, report: &mut Report) {
        let devices = self
            .links
            .iter()
            .filter(|link| link.hardware == link::TYPE_SIT && link.flags & link::UP != 0)
            .map(|link| link.name.clone());
        let addresses = self
            .addresses
            .iter()
            .filter(|address| is_transition(address.address))
            .map(|address| address.address.to_string());
        let found: Vec<String> = devices.chain(addresses).collect();
        report.decide(
            "V6-H2",
            found.is_empty(),
            thousandths(found.len()),
            found.join(", "),
        );
    }
}

/// V6-A1: of global scope, of no transition mechanism, and not kept from use.
fn is_usable(address: &Address) -> bool {
    let hindered = address_flag::DADFAILED | address_flag::DEPRECATED | address_flag::TENTATIVE;
    let ip = address.address;
    address.scope == SCOPE_UNIVERSE
        && address.flags & hindered == 0
        && !ip.is_loopback()
        && !ip.is_unicast_link_local()
        && !ip.is_multicast()
        && !is_transition(ip)
}

/// 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214 section 6.1).
fn is_transition(address: Ipv6Addr) -> bool {
    matches!(
        address.segments(),
        [0x2002, ..] | [0x2001, 0, ..] | [_, _, _, _, 0x0000 | 0x0200, 0x5efe, _, _]
    )
}

fn listed(addresses: impl Iterator<Item = Ipv6Addr>) -> String {
    let texts: Vec<String> = addresses.map(|address| address.to_string()).collect();
    texts.join(", ")
}

fn thousandths(count: usize) -> i64 {
    i64::try_from(count)
        .unwrap_or(i64::MAX)
        .saturating_mul(1_000)
}

/// V6-B1: makes the kernel ask for the gateway, and waits for what it learns.
pub async fn gateway(host: &Host, targets: &Targets, deadline: Instant, report: &mut Report) {
    const ID: &str = "V6-B1";
    let Some(route) = host.default_route() else {
        return report.enter(ID, Verdict::Fail, None, "no default route");
    };
    let Some(gateway) = route.gateway else {
        return report.enter(ID, Verdict::NotApplicable, None, "a link without gateway");
    };
    if !targets.allows(IpAddr::V6(gateway)) {
        return report.untested(ID, format!("{gateway} lies outside the allowed prefixes"));
    }
    let started = Instant::now();
    let deadline = deadline.min(started + DELAY_FIRST_PROBE + GATEWAY_TIME);
    let zone = if gateway.is_unicast_link_local() {
        route.link
    } else {
        0
    };
    let mut asked_at = started;
    let mut state = neighbour(route.link, gateway).await;
    loop {
        let took = started.elapsed();
        let ms = |time: Duration| i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        let known =
            neighbour_state::REACHABLE | neighbour_state::PERMANENT | neighbour_state::NOARP;
        match &state {
            Err(error) => return report.untested(ID, format!("cannot read neighbours: {error}")),
            Ok(Some(entry)) if entry.state & known != 0 => {
                return report.decide(ID, true, ms(took), gateway.to_string());
            }
            Ok(_) if Instant::now() >= deadline => {
                return report.decide(ID, false, ms(took), format!("{gateway} does not answer"));
            }
            Ok(Some(entry))
                if entry.state & neighbour_state::FAILED != 0 && took >= GATEWAY_TIME =>
            {
                return report.decide(ID, false, ms(took), format!("{gateway} does not answer"));
            }
            // The kernel gives up after three questions, a second apart; a new packet makes it begin again.
            Ok(_) => asked_at = poke(gateway, zone, asked_at, started),
        }
        sleep(LOOK_AGAIN).await;
        state = neighbour(route.link, gateway).await;
    }
}

/// Sends a packet towards the gateway, at most once a second; gives back when the last one was sent.
fn poke(gateway: Ipv6Addr, zone: u32, last: Instant, started: Instant) -> Instant {
    let now = Instant::now();
    if last != started && now < last + Duration::from_secs(1) {
        return last;
    }
    // What becomes of the packet does not matter, only whom the kernel asks for it.
    let sent = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))
        .and_then(|socket| socket.send_to(&[], SocketAddrV6::new(gateway, DISCARD, 0, zone)));
    if let Err(error) = sent {
        tracing::debug!(%gateway, %error, "cannot send to the gateway");
    }
    now
}

async fn neighbour(link: u32, address: Ipv6Addr) -> io::Result<Option<Neighbour>> {
    let read = move || -> io::Result<Option<Neighbour>> {
        let all = Netlink::open()?.dump(Dump::Neighbours)?;
        Ok(all.into_iter().find_map(|entry| match entry {
            Entry::Neighbour(found) if found.link == link && found.address == address => {
                Some(found)
            }
            _ => None,
        }))
    };
    tokio::task::spawn_blocking(read)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv6::rubric::rubric;

    fn address(text: &str, flags: u32) -> Address {
        let address: Ipv6Addr = text.parse().unwrap();
        let scope = if address.is_unicast_link_local() {
            253
        } else {
            0
        };
        Address {
            link: 2,
            address,
            prefix_length: 64,
            scope,
            flags,
        }
    }

    fn host(addresses: &[Address]) -> Host {
        let link = |index, name: &str, flags, hardware| Link {
            index,
            name: name.to_owned(),
            flags,
            hardware,
        };
        Host {
            links: vec![
                link(1, "lo", link::UP | link::LOOPBACK, 772),
                link(2, "eth0", link::UP, 1),
                link(3, "sit0", 0, link::TYPE_SIT),
            ],
            addresses: addresses.to_vec(),
            routes: vec![Route {
                prefix_length: 0,
                gateway: "fe80::1".parse().ok(),
                link: 2,
                metric: 1024,
                table: 254,
                expires_ticks: Some(180_000),
            }],
        }
    }

    fn found(host: &Host, allotted: Option<&str>, id: &str) -> (Verdict, Option<i64>) {
        let mut report = Report::default();
        host.judge(allotted.map(|text| text.parse().unwrap()), &mut report);
        let finding = report.findings()[rubric().row(id).unwrap()];
        (finding.verdict, finding.value)
    }

    #[test]
    fn only_a_usable_global_address_counts() {
        let cases = [
            ("2001:db8::2", 0, Verdict::Pass),
            ("fd00::2", 0, Verdict::Pass),
            ("fe80::2", 0, Verdict::Fail),
            ("2001:db8::2", address_flag::TENTATIVE, Verdict::Fail),
            ("2001:db8::2", address_flag::DEPRECATED, Verdict::Fail),
            ("2001:db8::2", address_flag::DADFAILED, Verdict::Fail),
            ("2002:c000:201::1", 0, Verdict::Fail),
            ("2001:0:4136:e378::1", 0, Verdict::Fail),
            ("2001:db8::200:5efe:c000:201", 0, Verdict::Fail),
        ];
        for (text, flags, verdict) in cases {
            let host = host(&[address(text, flags)]);
            assert_eq!(found(&host, None, "V6-A1").0, verdict, "{text} {flags:x}");
        }
        let elsewhere = Address {
            link: 3,
            ..address("2001:db8::2", 0)
        };
        assert_eq!(found(&host(&[elsewhere]), None, "V6-A1").0, Verdict::Fail);
    }

    #[test]
    fn the_plan_holds_addresses_to_their_prefix() {
        let host = host(&[address("2001:db8:1::2", 0), address("2001:db8:2::2", 0)]);
        assert_eq!(found(&host, None, "V6-A2").0, Verdict::NotTested);
        let inside = found(&host, Some("2001:db8::/32"), "V6-A2");
        assert_eq!(inside, (Verdict::Pass, Some(0)));
        let outside = found(&host, Some("2001:db8:1::/48"), "V6-A2");
        assert_eq!(outside, (Verdict::Fail, Some(1_000)));
    }

    #[test]
    fn a_default_route_passes_with_what_is_left_of_it() {
        let mut host = host(&[address("2001:db8::2", 0)]);
        assert_eq!(
            found(&host, None, "V6-A3"),
            (Verdict::Pass, Some(1_800_000))
        );
        host.routes[0].expires_ticks = None;
        assert_eq!(found(&host, None, "V6-A3"), (Verdict::Pass, Some(-1_000)));
        assert!(host.can_reach_out());
        host.routes[0].table = 255;
        assert_eq!(found(&host, None, "V6-A3").0, Verdict::Fail);
        assert!(!host.can_reach_out());
    }

    #[test]
    fn duplicates_and_tunnels_are_found() {
        let mut host = host(&[address("fe80::2", address_flag::DADFAILED)]);
        assert_eq!(found(&host, None, "V6-A4"), (Verdict::Fail, Some(1_000)));
        assert_eq!(
            found(&host, None, "V6-H2"),
            (Verdict::Pass, Some(0)),
            "sit0 is down"
        );
        host.links[2].flags |= link::UP;
        assert_eq!(found(&host, None, "V6-H2"), (Verdict::Fail, Some(1_000)));
        host.addresses.clear();
        assert_eq!(found(&host, None, "V6-A4").0, Verdict::NotApplicable);
    }
}
