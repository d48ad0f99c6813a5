//! From a plan and the inventory to what each agent should measure. Pure: the same input gives the same checks in the
//! same order; ids and versions are given out by the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use extranet_proto::assignment::{Family, Ipv6Probe, Ipv6Service};
use extranet_proto::wire::check::Probe;
use extranet_proto::{limits, wire};
use prost::Message;
use ring::digest::{SHA256, digest};

use super::{CheckPlan, FLUSH_INTERVAL, Plan, ProbePlan, TargetPlan, modules};
use crate::inventory::{CENTRE_AP, Inventory};

/// Role of a check whose target is looked at from outside.
pub const INBOUND: &str = "inbound";

/// What one agent should measure.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// How long live results may wait.
    pub flush_interval: Duration,
    /// What the uplink may carry for us in 24 hours, bytes; 0 = no limit.
    pub daily_budget: u64,
    /// Medium of the access point.
    pub link_class: wire::LinkClass,
    /// Routers that belong to the access point; absent = the inventory names none.
    pub security: Option<wire::Security>,
    /// Without duplicates.
    pub checks: Vec<DesiredCheck>,
    /// SNMP modules that the checks name.
    pub snmp_modules: Vec<wire::SnmpModule>,
    /// What cannot be measured as the plan and inventory say.
    pub problems: Vec<String>,
}

/// A check without its ids.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredCheck {
    /// anchor, gateway, resolver, router, service, ntp, echo, self, inbound
    pub role: &'static str,
    /// The access point that the result is about.
    pub ap_id: String,
    /// The agent, where several measure the same; empty otherwise.
    pub vantage: String,
    /// Label `instance`.
    pub instance: String,
    /// VRF of the target.
    pub vrf: String,
    /// Address of the target.
    pub address: String,
    /// The check with ids of 0.
    pub check: wire::Check,
}

impl DesiredCheck {
    /// SHA-256 of everything that makes the check what it is: the same digest keeps the same check id for ever.
    pub fn digest(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [
            self.role,
            &self.ap_id,
            &self.vantage,
            &self.instance,
            &self.vrf,
            &self.address,
        ] {
            bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        bytes.extend(self.check.encode_to_vec());
        digest(&SHA256, &bytes).as_ref().to_vec()
    }
}

/// Agents that are enrolled and not revoked, by access point, oldest first.
pub type AgentsByAp = BTreeMap<String, Vec<String>>;

/// A plan laid over an inventory.
pub struct Compiled<'a> {
    plan: &'a Plan,
    inventory: &'a Inventory,
    anchors: Vec<&'a wire::TargetRow>,
    /// Vantage access point -> what it measures of others.
    inbound: HashMap<&'a str, Vec<(&'a wire::AccessPointRow, &'a CheckPlan)>>,
}

impl<'a> Compiled<'a> {
    /// Works out once what is the same for all agents.
    pub fn new(plan: &'a Plan, inventory: &'a Inventory) -> Self {
        let mut inbound: HashMap<&str, Vec<_>> = HashMap::new();
        for site in inventory.access_points() {
            for outer in &plan.inbound {
                let meant = outer.scope.matches(&site.level, &site.medium)
                    && outer.monitoring.contains(&site.monitoring);
                if !meant {
                    continue;
                }
                for check in &outer.checks {
                    for vantage in vantages(inventory, site, &check.from) {
                        inbound.entry(vantage).or_default().push((site, check));
                    }
                }
            }
        }
        Self {
            plan,
            inventory,
            anchors: inventory
                .targets()
                .filter(|target| target.kind == "anchor")
                .collect(),
            inbound,
        }
    }

    /// What an agent at an access point should measure; `peers` are all agents there. `None` when the access point is
    /// not in the inventory.
    pub fn desired(&self, agent: &str, ap_id: &str, peers: &[String]) -> Option<Desired> {
        let ap = self.inventory.access_point(ap_id)?;
        let matching = || {
            let meant = |own: &&super::OwnPlan| own.scope.matches(&ap.level, &ap.medium);
            self.plan.own.iter().filter(meant)
        };
        // The first agent of an access point has the plain series; a second one beside it must not write into them.
        let vantage = if peers.first().is_some_and(|first| first != agent) {
            agent
        } else {
            ""
        };
        let mut checks = Checks::default();
        if ap.monitoring != "none" {
            for check in matching().flat_map(|own| &own.checks) {
                self.own(ap, check, vantage, &mut checks);
            }
        }
        for (site, check) in self.inbound.get(ap_id).into_iter().flatten() {
            for target in self.inventory.targets_of(&site.ap_id) {
                if target.kind == "router" {
                    checks.target(INBOUND, &site.ap_id, agent, check, target);
                }
            }
        }
        let mut problems = Vec::new();
        let probes = checks.list.iter_mut();
        let snmp_modules = modules::resolve(
            &self.plan.snmp_modules,
            probes.filter_map(|check| check.check.probe.as_mut()),
            &mut problems,
        );
        checks.list.retain(|check| {
            !matches!(&check.check.probe, Some(Probe::Snmp(snmp)) if snmp.modules.is_empty())
        });
        Some(Desired {
            flush_interval: matching()
                .find_map(|own| own.flush_interval)
                .unwrap_or(FLUSH_INTERVAL),
            daily_budget: matching().find_map(|own| own.daily_budget).unwrap_or(0),
            link_class: link_class(&ap.medium),
            security: self.security(ap_id),
            checks: checks.list,
            snmp_modules,
            problems,
        })
    }

    fn own(
        &self,
        ap: &wire::AccessPointRow,
        check: &CheckPlan,
        vantage: &str,
        checks: &mut Checks,
    ) {
        let of_kind = |kind: &'static str| {
            let targets = self.inventory.targets_of(&ap.ap_id);
            targets.filter(move |target| target.kind == kind)
        };
        match check.target {
            TargetPlan::Anchor => {
                for target in &self.anchors {
                    checks.target("anchor", &ap.ap_id, vantage, check, target);
                }
            }
            TargetPlan::Router => {
                for target in of_kind("router") {
                    checks.target("router", &ap.ap_id, vantage, check, target);
                }
            }
            TargetPlan::Service => {
                for target in of_kind("service") {
                    checks.target("service", &ap.ap_id, vantage, check, target);
                }
            }
            TargetPlan::Gateway => checks.symbolic("gateway", "@gateway", ap, vantage, check),
            TargetPlan::Ntp => {
                for target in self.nearest(ap, "ntp") {
                    checks.target("ntp", &ap.ap_id, vantage, check, target);
                }
            }
            TargetPlan::Echo => {
                for target in self.nearest(ap, "echo") {
                    checks.target("echo", &ap.ap_id, vantage, check, target);
                }
            }
            TargetPlan::Resolver => {
                let registered = self.nearest(ap, "resolver");
                for target in &registered {
                    checks.target("resolver", &ap.ap_id, vantage, check, target);
                }
                if registered.is_empty() {
                    checks.symbolic("resolver", "@resolver", ap, vantage, check);
                }
            }
            TargetPlan::Itself => {
                let mut check = check.clone();
                if let ProbePlan::Ipv6(probe) = &mut check.probe {
                    self.anchors_of(probe);
                    probe.allotted_prefix = ap.ipv6_prefix.parse().ok();
                    self.names_of(ap, probe);
                }
                checks.symbolic("self", "@self", ap, vantage, &check);
            }
        }
    }
}

impl Compiled<'_> {
    /// What the agent compares router advertisements and gateways with: routers of the access point that the inventory
    /// says how to recognise.
    fn security(&self, ap_id: &str) -> Option<wire::Security> {
        let routers = self
            .inventory
            .targets_of(ap_id)
            .filter(|target| target.kind == "router")
            .filter_map(|target| {
                let router = target.router.clone()?;
                let name = target.name.clone();
                Some(wire::ApprovedRouter { name, ..router })
            });
        let routers: Vec<_> = routers.take(limits::APPROVED_ROUTERS).collect();
        (!routers.is_empty()).then_some(wire::Security { routers })
    }

    /// Resolver and services of an IPv6 check, where the plan names none: the nearest registered name server, and the
    /// access point's own services that have a port and a name. A bare address proves nothing about names (V6-D3).
    fn names_of(&self, ap: &wire::AccessPointRow, probe: &mut Ipv6Probe) {
        if probe.resolver6.is_none() {
            let plain = |target: &&wire::TargetRow| target.vrf.is_empty();
            let mut registered = self.nearest(ap, "resolver").into_iter().filter(plain);
            probe.resolver6 = registered.find_map(|target| target.address.parse().ok());
        }
        if !probe.services.is_empty() {
            return;
        }
        for target in self.inventory.targets_of(&ap.ap_id) {
            let details = target.service.clone().unwrap_or_default();
            let named = !details.host.is_empty();
            let host = if named {
                details.host
            } else {
                target.address.clone()
            };
            let Ok(port @ 1..) = u16::try_from(target.tcp_port) else {
                continue;
            };
            if target.kind == "service" && target.vrf.is_empty() && host.parse::<IpAddr>().is_err()
            {
                probe.services.push(Ipv6Service {
                    name: target.name.clone(),
                    host,
                    port,
                    tls: details.tls,
                });
            }
        }
        probe.services.truncate(limits::IPV6_SERVICES);
    }

    /// The anchors that an IPv6 check compares the families by: those with an address, in the default routing table.
    fn anchors_of(&self, probe: &mut Ipv6Probe) {
        for anchor in self.anchors.iter().filter(|anchor| anchor.vrf.is_empty()) {
            match anchor.address.parse() {
                Ok(IpAddr::V4(v4)) => probe.anchors4.push(v4),
                Ok(IpAddr::V6(v6)) => probe.anchors6.push(v6),
                Err(_) => {}
            }
        }
        probe.anchors4.dedup();
        probe.anchors6.dedup();
        probe.anchors4.truncate(limits::IPV6_ANCHORS);
        probe.anchors6.truncate(limits::IPV6_ANCHORS);
    }
}

impl<'a> Compiled<'a> {
    /// The servers of a kind in the inventory that a site must use: its own ones, else those of the nearest access
    /// point above it that has any.
    fn nearest(&self, ap: &wire::AccessPointRow, kind: &str) -> Vec<&'a wire::TargetRow> {
        let at = self.inventory.access_point(&ap.ap_id).into_iter();
        at.chain(self.inventory.ancestors(&ap.ap_id))
            .map(|ap| {
                let targets = self.inventory.targets_of(&ap.ap_id);
                targets.filter(|target| target.kind == kind).collect()
            })
            .find(|found: &Vec<_>| !found.is_empty())
            .unwrap_or_default()
    }
}

/// The access points from which a site is looked at.
fn vantages<'a>(
    inventory: &'a Inventory,
    site: &'a wire::AccessPointRow,
    from: &[String],
) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for word in from {
        let vantage = match word.as_str() {
            "centre" => Some(CENTRE_AP),
            "parent" => Some(site.parent.as_str()),
            level => inventory
                .ancestors(&site.ap_id)
                .into_iter()
                .find(|above| above.level == level)
                .map(|above| above.ap_id.as_str()),
        };
        if let Some(vantage) = vantage
            && !vantage.is_empty()
            && vantage != site.ap_id
            && !found.contains(&vantage)
        {
            found.push(vantage);
        }
    }
    found
}

fn link_class(medium: &str) -> wire::LinkClass {
    match medium {
        "fibre" => wire::LinkClass::Fibre,
        "mobile" => wire::LinkClass::Mobile,
        "satellite" => wire::LinkClass::Satellite,
        "microwave" => wire::LinkClass::Microwave,
        _ => wire::LinkClass::Other,
    }
}

#[derive(Default)]
struct Checks {
    list: Vec<DesiredCheck>,
    /// Labels of a series: two checks with the same ones would write into each other's.
    taken: HashSet<(String, String, String, i32, String, String)>,
}

impl Checks {
    fn symbolic(
        &mut self,
        role: &'static str,
        symbol: &str,
        ap: &wire::AccessPointRow,
        vantage: &str,
        check: &CheckPlan,
    ) {
        let target = wire::TargetRow {
            ap_id: ap.ap_id.clone(),
            address: symbol.to_owned(),
            ..Default::default()
        };
        self.target(role, &ap.ap_id, vantage, check, &target);
    }

    fn target(
        &mut self,
        role: &'static str,
        ap_id: &str,
        vantage: &str,
        plan: &CheckPlan,
        target: &wire::TargetRow,
    ) {
        let Some((probe, port)) = probe(&plan.probe, target) else {
            return;
        };
        let literal: Option<IpAddr> = target.address.parse().ok();
        let address = literal.map_or_else(|| target.address.clone(), |ip| ip.to_string());
        let instance = match (port, literal) {
            (None, _) => address.clone(),
            (Some(port), Some(IpAddr::V6(ip))) => format!("[{ip}]:{port}"),
            (Some(port), _) => format!("{address}:{port}"),
        };
        for &family in &plan.families {
            let wire_family = if family == 6 {
                wire::Family::Ipv6
            } else {
                wire::Family::Ipv4
            };
            if literal.is_some_and(|ip| (Family::of(ip) == Family::V6) != (family == 6)) {
                continue;
            }
            let labels = (
                plan.name.clone(),
                instance.clone(),
                target.vrf.clone(),
                i32::from(family),
                ap_id.to_owned(),
                vantage.to_owned(),
            );
            if !self.taken.insert(labels) {
                continue;
            }
            self.list.push(DesiredCheck {
                role,
                ap_id: ap_id.to_owned(),
                vantage: vantage.to_owned(),
                instance: instance.clone(),
                vrf: target.vrf.clone(),
                address: address.clone(),
                check: wire::Check {
                    stretch_last: plan.stretch_last,
                    check_id: 0,
                    target_id: 0,
                    name: plan.name.clone(),
                    family: wire_family.into(),
                    interval_ms: millis(plan.interval),
                    timeout_ms: millis(plan.timeout),
                    probe: Some(probe.clone()),
                },
            });
        }
    }
}

/// The probe for a target, and the port that belongs into `instance`; `None` when the target does not offer it.
fn probe(plan: &ProbePlan, target: &wire::TargetRow) -> Option<(Probe, Option<u32>)> {
    match plan {
        ProbePlan::Icmp(icmp) => Some((Probe::Icmp(icmp.clone()), None)),
        ProbePlan::Snmp { modules } => {
            let mut snmp = target.snmp.clone()?;
            // Not what is measured: a check stays the same when the inventory learns its uplink.
            snmp.uplink.clear();
            if !modules.is_empty() {
                snmp.modules.clone_from(modules);
            }
            Some((Probe::Snmp(snmp), None))
        }
        ProbePlan::Traffic => Some((Probe::Traffic(wire::TrafficProbe {}), None)),
        ProbePlan::Ipv6(ipv6) => Some((Probe::Ipv6(ipv6.as_ref().into()), None)),
        // The port belongs to the packets of the trace, not to what is measured: it is not part of `instance`.
        ProbePlan::Path(path) => Some((Probe::Path(path.into()), None)),
        ProbePlan::Application(application) => application.probe(target),
    }
}

pub(super) fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::application::ApplicationPlan;

    fn ap(ap_id: &str, level: &str, parent: &str, monitoring: &str) -> wire::AccessPointRow {
        wire::AccessPointRow {
            ap_id: ap_id.to_owned(),
            name: ap_id.to_owned(),
            level: level.to_owned(),
            parent: parent.to_owned(),
            medium: "fibre".to_owned(),
            monitoring: monitoring.to_owned(),
            ..Default::default()
        }
    }

    fn target(ap_id: &str, name: &str, kind: &str, address: &str) -> wire::TargetRow {
        wire::TargetRow {
            ap_id: ap_id.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            address: address.to_owned(),
            ..Default::default()
        }
    }

    fn inventory() -> Inventory {
        let mut inventory = Inventory::default();
        for row in [
            ap("centre", "region", "", "agent"),
            ap("county", "county", "centre", "agent"),
            ap("town", "township", "county", "remote"),
            ap("village", "village", "town", "agent"),
            ap("closed", "village", "town", "none"),
        ] {
            inventory.insert_access_point(row);
        }
        for row in [
            target("centre", "a4", "anchor", "10.0.0.1"),
            target("centre", "a6", "anchor", "fd00:0::1"),
            target("county", "ce", "router", "10.1.0.1"),
            target("town", "ce", "router", "ce.town"),
            target("village", "ce", "router", "10.3.0.1"),
            target("closed", "ce", "router", "10.4.0.1"),
        ] {
            inventory.insert_target(row);
        }
        inventory
    }

    fn plan() -> Plan {
        Plan::parse(
            "plan",
            "[[plan]]\nname = 'all'\n[[plan.check]]\nname = 'anchor'\nprobe = 'icmp'\ntarget = 'anchor'\n\
             [[plan.check]]\nname = 'gw'\nprobe = 'icmp'\ntarget = 'gateway'\nfamilies = [4]\n\
             [[inbound]]\nname = 'in'\nfrom = ['centre', 'parent', 'county']\n[[inbound.check]]\nname = 'in'\nprobe = 'icmp'\n",
        )
        .unwrap()
    }

    fn lines(agent: &str, ap_id: &str, peers: &[&str]) -> Vec<String> {
        let (plan, inventory) = (plan(), inventory());
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let desired = Compiled::new(&plan, &inventory)
            .desired(agent, ap_id, &peers)
            .unwrap();
        desired
            .checks
            .iter()
            .map(|c| {
                let (role, name, at, of, by) =
                    (c.role, &c.check.name, &c.instance, &c.ap_id, &c.vantage);
                format!("{role} {name} {at} v{} of {of} by {by:?}", c.check.family)
            })
            .collect()
    }

    #[test]
    fn an_ipv6_check_asks_for_services_with_names_and_agents_take_it() {
        let mut inventory = inventory();
        for (name, address) in [
            ("by-name", "portal.example"),
            ("by-v4", "10.1.0.9"),
            ("by-v6", "fd00::9"),
        ] {
            inventory.insert_target(wire::TargetRow {
                tcp_port: 443,
                ..target("county", name, "service", address)
            });
        }
        let plan = "[[plan]]\nname = 'all'\n[[plan.check]]\nname = 'v6'\nprobe = 'ipv6'\ntarget = 'self'\n";
        let plan = Plan::parse("plan", plan).unwrap();
        let desired = Compiled::new(&plan, &inventory)
            .desired("k1", "county", &[])
            .unwrap();
        // The rules that the agent applies.
        let check = extranet_proto::assignment::Check::try_from(wire::Check {
            check_id: 1,
            target_id: 1,
            ..desired.checks[0].check.clone()
        })
        .unwrap();
        let extranet_proto::assignment::Probe::Ipv6(probe) = check.probe else {
            panic!("not an IPv6 check: {check:?}");
        };
        let names: Vec<_> = probe.services.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["by-name"]);
    }

    #[test]
    fn an_agent_measures_anchors_gateway_and_what_lies_below_it() {
        assert_eq!(
            lines("k1", "county", &["k1"]),
            [
                "anchor anchor 10.0.0.1 v4 of county by \"\"",
                "anchor anchor fd00::1 v6 of county by \"\"",
                "gateway gw @gateway v4 of county by \"\"",
                "inbound in ce.town v4 of town by \"k1\"",
                "inbound in ce.town v6 of town by \"k1\"",
                "inbound in 10.3.0.1 v4 of village by \"k1\"",
            ]
        );
    }

    #[test]
    fn a_site_uses_the_nearest_name_servers_of_the_inventory_or_its_own() {
        let plan = Plan::parse(
            "plan",
            "[[plan]]\nname = 'all'\n[[plan.check]]\nname = 'dns'\nprobe = 'dns'\nquery = 'portal.example'\n\
             target = 'resolver'\nfamilies = [4]\n",
        )
        .unwrap();
        let mut inventory = inventory();
        let instances = |inventory: &Inventory, ap_id: &str| -> Vec<String> {
            let desired = Compiled::new(&plan, inventory).desired("k", ap_id, &["k".to_owned()]);
            let checks = desired.unwrap().checks;
            checks.into_iter().map(|check| check.instance).collect()
        };
        assert_eq!(instances(&inventory, "village"), ["@resolver"]);
        inventory.insert_target(target("centre", "ns", "resolver", "10.0.0.53"));
        assert_eq!(instances(&inventory, "village"), ["10.0.0.53"]);
        inventory.insert_target(target("county", "ns1", "resolver", "10.1.0.53"));
        inventory.insert_target(target("county", "ns2", "resolver", "10.1.0.54"));
        assert_eq!(instances(&inventory, "village"), ["10.1.0.53", "10.1.0.54"]);
        assert_eq!(instances(&inventory, "centre"), ["10.0.0.53"]);
    }

    #[test]
    fn time_and_echo_servers_are_those_of_the_nearest_site_that_has_any() {
        let plan = Plan::parse(
            "plan",
            "[[plan]]\nname = 'all'\n[[plan.check]]\nname = 'ntp'\nprobe = 'ntp'\ntarget = 'ntp'\n\
             [[plan.check]]\nname = 'echo'\nprobe = 'udp'\ntarget = 'echo'\n",
        )
        .unwrap();
        let mut inventory = inventory();
        for row in [
            target("centre", "clock", "ntp", "fd00::123"),
            target("county", "clock", "ntp", "10.1.0.123"),
            target("centre", "echo", "echo", "10.0.0.7"),
        ] {
            inventory.insert_target(row);
        }
        let desired = Compiled::new(&plan, &inventory).desired("k", "village", &["k".to_owned()]);
        let checks: Vec<_> = desired
            .unwrap()
            .checks
            .into_iter()
            .map(|check| (check.role, check.instance))
            .collect();
        assert_eq!(
            checks,
            [
                ("ntp", "10.1.0.123".to_owned()),
                ("echo", "10.0.0.7:7".to_owned())
            ]
        );
    }

    #[test]
    fn the_centre_looks_at_everyone_but_itself_and_what_is_not_monitored() {
        let inbound: Vec<String> = lines("centre", "centre", &["centre"])
            .into_iter()
            .filter(|line| line.starts_with("inbound"))
            .collect();
        assert_eq!(inbound.len(), 4, "{inbound:?}");
        assert!(!inbound.iter().any(|line| line.contains("10.4.0.1")));
    }

    #[test]
    fn a_second_agent_of_an_access_point_writes_series_of_its_own() {
        let second = lines("v2", "village", &["v1", "v2"]);
        assert!(
            second.iter().all(|line| line.ends_with("by \"v2\"")),
            "{second:?}"
        );
        assert!(
            lines("v1", "village", &["v1", "v2"])
                .iter()
                .all(|line| line.ends_with("by \"\""))
        );
    }

    #[test]
    fn a_check_is_the_same_only_if_everything_is() {
        let (plan, inventory) = (plan(), inventory());
        let compiled = Compiled::new(&plan, &inventory);
        let desired = compiled
            .desired("k1", "county", &["k1".to_owned()])
            .unwrap();
        let first = desired.checks[0].clone();
        let mut digests = vec![first.digest()];
        let mut longer = first.clone();
        longer.check.interval_ms += 1;
        let mut moved = first.clone();
        moved.ap_id.push('x');
        for other in [longer, moved, desired.checks[1].clone()] {
            assert!(!digests.contains(&other.digest()));
            digests.push(other.digest());
        }
        assert_eq!(first.clone().digest(), first.digest());
    }

    #[test]
    fn tcp_needs_a_port_and_snmp_a_credential() {
        let tcp = |port| {
            let source = String::new();
            ProbePlan::Application(ApplicationPlan::Tcp(wire::TcpProbe { port, source }))
        };
        let row = target("a", "b", "service", "10.0.0.1");
        assert!(probe(&tcp(0), &row).is_none());
        assert!(probe(&ProbePlan::Snmp { modules: vec![] }, &row).is_none());
        let mut checks = Checks::default();
        let plan = CheckPlan {
            probe: tcp(443),
            ..plan().own[0].checks[0].clone()
        };
        checks.target(
            "service",
            "a",
            "",
            &plan,
            &target("a", "b", "service", "fd00::2"),
        );
        assert_eq!(checks.list[0].instance, "[fd00::2]:443");
    }

    #[test]
    fn an_agent_hears_which_routers_belong_to_its_access_point() {
        let mut inventory = inventory();
        let (plan, peers) = (plan(), ["a".to_owned()]);
        let security = |inventory: &Inventory| {
            let compiled = Compiled::new(&plan, inventory);
            compiled.desired("a", "village", &peers).unwrap().security
        };
        assert_eq!(security(&inventory), None);
        let router = wire::ApprovedRouter {
            macs: vec![vec![2, 0, 0, 0, 0, 1]],
            ..Default::default()
        };
        for ap_id in ["town", "village"] {
            inventory.insert_target(wire::TargetRow {
                router: Some(router.clone()),
                ..target(ap_id, "ce", "router", "10.3.0.1")
            });
        }
        let expected = wire::ApprovedRouter {
            name: "ce".to_owned(),
            ..router
        };
        assert_eq!(security(&inventory).unwrap().routers, [expected]);
    }

    #[test]
    fn an_ipv6_check_compares_the_families_by_the_anchors_of_the_inventory() {
        let text = "[[plan]]\nname = 'a'\n[[plan.check]]\nname = 'v6'\nprobe = 'ipv6'\ntarget = 'self'\n\
            families = [6]\ninterval = '15m'\n";
        let (plan, mut inventory) = (Plan::parse("plan", text).unwrap(), inventory());
        inventory.insert_access_point(wire::AccessPointRow {
            ipv6_prefix: "fd00:3::/48".to_owned(),
            ..ap("village", "village", "town", "agent")
        });
        inventory.insert_target(target("town", "ns", "resolver", "fd00::53"));
        for (name, address, port) in [
            ("v4", "10.3.0.9", 80),
            ("mail", "mail.example", 25),
            ("none", "x.example", 0),
        ] {
            inventory.insert_target(wire::TargetRow {
                tcp_port: port,
                ..target("village", name, "service", address)
            });
        }
        let compiled = Compiled::new(&plan, &inventory);
        let desired = compiled.desired("a", "village", &["a".to_owned()]).unwrap();
        let [check] = desired.checks.as_slice() else {
            panic!("{desired:?}");
        };
        assert_eq!((check.role, check.address.as_str()), ("self", "@self"));
        let Some(Probe::Ipv6(probe)) = &check.check.probe else {
            panic!("{check:?}");
        };
        assert_eq!(probe.allotted_prefix, "fd00:3::/48");
        assert_eq!(probe.resolver6, "fd00::53");
        let services: Vec<(&str, u32)> = probe
            .services
            .iter()
            .map(|service| (service.host.as_str(), service.port))
            .collect();
        assert_eq!(services, [("mail.example", 25)]);
        assert_eq!(probe.anchors4, ["10.0.0.1"]);
        assert_eq!(probe.anchors6, ["fd00::1"]);
    }
}
