//! Plans: which access points are measured how. A file of the planner becomes a versioned assignment for every agent.
//!
//! ```toml
//! [[plan]]                    # what an agent measures from its own access point
//! name = "villages"
//! levels = ["village"]        # absent = all; likewise media
//! flush_interval = "60s"
//! [[plan.check]]
//! name = "anchor-icmp"
//! probe = "icmp"              # icmp, tcp, udp, ntp, dns, http, tls, snmp, path, ipv6
//! target = "anchor"           # anchor, gateway, resolver, router, service, ntp, echo; self (ipv6)
//!
//! [[inbound]]                 # what vantages measure of an access point's routers, from outside
//! name = "reachability"
//! monitoring = ["agent", "remote"]
//! from = ["centre", "parent"] # or the level of an ancestor: county, prefecture, ...
//! [[inbound.check]]
//! name = "inbound-icmp"
//! probe = "icmp"
//! ```
//!
//! All plans that match an access point's level and medium apply together, in the order of the file; the first of them
//! that names a flush interval sets it.

pub mod application;
pub mod compile;
pub mod cost;
mod datagram;
mod icmp;
pub mod modules;
mod names;
pub mod path;
mod web;

use std::net::{Ipv6Addr, SocketAddrV6};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use extranet_agent::config::reader::{Problems, Reader, read};
use extranet_agent::ipv6::subjects::ServiceUrl;
use extranet_proto::assignment::{Ipv6Probe, PathProbe};
use extranet_proto::id::CheckName;
use extranet_proto::{limits, wire};

use application::ApplicationPlan;
use extranet_agent::probe::snmp::module::NAMES;
use modules::PlanModule;

use crate::inventory::import::check_word;
use crate::inventory::{LEVELS, MEDIA, MONITORING};

/// The plan that holds until another one is applied; also the example for planners.
pub const BUILT_IN: &str = include_str!("../../deploy/examples/plan.toml");

/// How long live results wait when no matching plan says: the village and satellite figure of the design.
pub const FLUSH_INTERVAL: Duration = Duration::from_mins(1);

/// What a daily budget may be: 100 KiB carry a stream that says little but "alive", 1 TiB is no limit any more (guesses).
const DAILY_BUDGET: RangeInclusive<u64> = 100 << 10..=1 << 40;

/// A plan file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Plan {
    /// Measurements of agents from their own access points.
    pub own: Vec<OwnPlan>,
    /// Measurements of access points from outside.
    pub inbound: Vec<InboundPlan>,
    /// SNMP modules of the operator.
    pub snmp_modules: Vec<PlanModule>,
}

/// Which access points a plan is for; an empty list means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Scope {
    /// Words of [`LEVELS`].
    pub levels: Vec<String>,
    /// Words of [`MEDIA`].
    pub media: Vec<String>,
}

impl Scope {
    /// Whether an access point is meant.
    pub fn matches(&self, level: &str, medium: &str) -> bool {
        let holds = |list: &[String], word: &str| list.is_empty() || list.iter().any(|w| w == word);
        holds(&self.levels, level) && holds(&self.media, medium)
    }
}

/// A section `[[plan]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnPlan {
    /// For people.
    pub name: String,
    /// For which access points.
    pub scope: Scope,
    /// How long live results wait before they are sent.
    pub flush_interval: Option<Duration>,
    /// What the uplink may carry for us in 24 hours, bytes of IP packets in both directions.
    pub daily_budget: Option<u64>,
    /// What is measured.
    pub checks: Vec<CheckPlan>,
}

/// A section `[[inbound]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct InboundPlan {
    /// For people.
    pub name: String,
    /// For which access points.
    pub scope: Scope,
    /// For access points monitored in one of these ways.
    pub monitoring: Vec<String>,
    /// What is measured, each with its vantages.
    pub checks: Vec<CheckPlan>,
}

/// A section `[[plan.check]]` or `[[inbound.check]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckPlan {
    /// The label `check`.
    pub name: String,
    /// What is measured.
    pub target: TargetPlan,
    /// From where; only for inbound checks: `centre`, `parent`, or a level of an ancestor.
    pub from: Vec<String>,
    /// IP versions, where the target does not settle it: 4, 6.
    pub families: Vec<u8>,
    /// Time between two runs.
    pub interval: Duration,
    /// Deadline of a run.
    pub timeout: Duration,
    /// Whether the interval is stretched last when the budget runs short.
    pub stretch_last: bool,
    /// How.
    pub probe: ProbePlan,
}

/// What a check measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetPlan {
    /// Every target of kind anchor in the inventory.
    Anchor,
    /// The next hop of the agent's default route.
    Gateway,
    /// The agent's first name server.
    Resolver,
    /// The access point's own routers.
    Router,
    /// The access point's services.
    Service,
    /// The time servers that the access point uses.
    Ntp,
    /// The UDP echo servers that the access point uses.
    Echo,
    /// The agent's own machine: IPv6 readiness.
    Itself,
}

impl FromStr for TargetPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "anchor" => Self::Anchor,
            "gateway" => Self::Gateway,
            "resolver" => Self::Resolver,
            "router" => Self::Router,
            "service" => Self::Service,
            "ntp" => Self::Ntp,
            "echo" => Self::Echo,
            "self" => Self::Itself,
            _ => {
                return Err(
                    "use anchor, gateway, resolver, router, service, ntp, echo, self".to_owned(),
                );
            }
        })
    }
}

/// How a check measures.
#[derive(Debug, Clone, PartialEq)]
pub enum ProbePlan {
    /// ICMP echo.
    Icmp(wire::IcmpProbe),
    /// SNMP scrape of targets that have a credential.
    Snmp {
        /// Modules; empty = those of the target.
        modules: Vec<String>,
    },
    /// The rubric of IPv6 readiness; the anchors come from the inventory.
    Ipv6(Box<Ipv6Probe>),
    /// What measuring and reporting cost.
    Traffic,
    /// Traceroute, path MTU.
    Path(PathProbe),
    /// TCP, UDP echo, NTP, DNS, HTTP, TLS.
    Application(ApplicationPlan),
}

/// An IP version as it is written in plans.
struct FamilyWord(u8);

impl FromStr for FamilyWord {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "4" => Ok(Self(4)),
            "6" => Ok(Self(6)),
            _ => Err("use 4, 6".to_owned()),
        }
    }
}

impl Plan {
    /// The plan that holds until another one is applied.
    ///
    /// # Panics
    /// Never: a test parses it.
    pub fn built_in() -> Self {
        Self::parse("built-in plan", BUILT_IN).expect("a test parses it")
    }

    /// Reads a plan file; every problem is reported with its line.
    pub fn parse(origin: &str, text: &str) -> Result<Self, Problems> {
        read(origin, text, |top| {
            let plan = Self {
                own: top.sections("plan", own_plan),
                inbound: top.sections("inbound", inbound_plan),
                snmp_modules: top.sections("snmp_module", modules::section),
            };
            plan.check_modules(top);
            if plan.own.is_empty() && plan.inbound.is_empty() {
                top.problem(
                    "",
                    "has no [[plan]] and no [[inbound]]: nothing would be measured",
                );
            }
            plan
        })
    }
}

impl Plan {
    /// Reports SNMP modules that are named and nowhere defined, or twice.
    fn check_modules(&self, top: &mut Reader<'_>) {
        let own: Vec<&str> = self
            .snmp_modules
            .iter()
            .map(|module| module.name.as_str())
            .collect();
        for (i, name) in own.iter().enumerate() {
            if own.iter().take(i).any(|other| other == name) {
                top.problem("snmp_module", format!("two modules are called '{name}'"));
            }
        }
        if own.len() > limits::ASSIGNMENT_SNMP_MODULES {
            let most = limits::ASSIGNMENT_SNMP_MODULES;
            top.problem("snmp_module", format!("at most {most} are possible"));
        }
        let of_own = self.own.iter().flat_map(|plan| &plan.checks);
        let of_inbound = self.inbound.iter().flat_map(|plan| &plan.checks);
        for check in of_own.chain(of_inbound) {
            let ProbePlan::Snmp { modules } = &check.probe else {
                continue;
            };
            for name in modules {
                if !NAMES.contains(&name.as_str()) && !own.contains(&name.as_str()) {
                    let known = NAMES
                        .iter()
                        .chain(&own)
                        .copied()
                        .collect::<Vec<_>>()
                        .join(", ");
                    let problem = format!(
                        "check '{}': unknown module '{name}' (use {known})",
                        check.name
                    );
                    top.problem("", problem);
                }
            }
        }
    }
}

fn words(reader: &mut Reader<'_>, key: &str, default: &[&str], allowed: &[&str]) -> Vec<String> {
    let list = reader.list(key, default.iter().map(ToString::to_string).collect());
    for word in &list {
        if let Err(problem) = check_word(key, word, allowed) {
            reader.problem(key, problem);
        }
    }
    list
}

fn scope(reader: &mut Reader<'_>) -> Scope {
    Scope {
        levels: words(reader, "levels", &[], &LEVELS),
        media: words(reader, "media", &[], &MEDIA),
    }
}

fn own_plan(reader: &mut Reader<'_>) -> OwnPlan {
    let name = reader.required_string("name");
    let scope = scope(reader);
    let flush_interval = reader.has("flush_interval").then(|| {
        let allowed = Duration::from_millis(100)..=Duration::from_hours(1);
        reader.duration("flush_interval", FLUSH_INTERVAL, allowed)
    });
    let daily_budget = reader
        .has("daily_budget")
        .then(|| reader.bytes("daily_budget", 0, DAILY_BUDGET));
    let checks = reader.sections("check", |check| check_plan(check, None));
    names_once(reader, &checks);
    OwnPlan {
        name,
        scope,
        flush_interval,
        daily_budget,
        checks,
    }
}

fn inbound_plan(reader: &mut Reader<'_>) -> InboundPlan {
    let name = reader.required_string("name");
    let scope = scope(reader);
    let monitoring = words(reader, "monitoring", &["agent", "remote"], &MONITORING);
    let from = vantages(reader, &["centre", "parent"]);
    let default: Vec<&str> = from.iter().map(String::as_str).collect();
    let checks = reader.sections("check", |check| check_plan(check, Some(&default)));
    names_once(reader, &checks);
    InboundPlan {
        name,
        scope,
        monitoring,
        checks,
    }
}

fn vantages(reader: &mut Reader<'_>, default: &[&str]) -> Vec<String> {
    let allowed = [&["centre", "parent"], &LEVELS[..]].concat();
    words(reader, "from", default, &allowed)
}

fn names_once(reader: &mut Reader<'_>, checks: &[CheckPlan]) {
    for (i, check) in checks.iter().enumerate() {
        let twice = checks.iter().take(i).any(|other| other.name == check.name);
        if twice && !check.name.is_empty() {
            reader.problem("check", format!("two checks are called '{}'", check.name));
        }
    }
}

/// `inbound` gives the vantages of an inbound plan.
fn check_plan(reader: &mut Reader<'_>, inbound: Option<&[&str]>) -> CheckPlan {
    let name = reader.required_string("name");
    if let Err(error) = CheckName::new(name.as_str())
        && !name.is_empty()
    {
        reader.problem("name", format!("'{name}': {}", error.rule));
    }
    let kind = reader.required_string("probe");
    let (target, from) = match inbound {
        None => {
            if !reader.has("target") {
                reader.problem(
                    "target",
                    "is missing (use anchor, gateway, resolver, router, service, ntp, echo, self)",
                );
            }
            (reader.parsed("target", TargetPlan::Anchor), Vec::new())
        }
        Some(default) => (TargetPlan::Router, vantages(reader, default)),
    };
    let families = vec![FamilyWord(4), FamilyWord(6)];
    let families: Vec<u8> = reader
        .list("families", families)
        .into_iter()
        .map(|word| word.0)
        .collect();
    let longest = Duration::from_millis(limits::CHECK_INTERVAL_MS_MAX.into());
    let shortest = Duration::from_millis(limits::CHECK_INTERVAL_MS_MIN.into());
    let interval = reader.duration("interval", Duration::from_mins(1), shortest..=longest);
    let longest = Duration::from_millis(limits::CHECK_TIMEOUT_MS_MAX.into());
    // A run that lasts until the next one is due would make the schedule skip every second run of a dead target.
    let pace = (kind == "icmp").then(|| icmp::Pace::read(reader));
    let span = pace.map_or(interval, |pace| pace.span(interval));
    let usual = match kind.as_str() {
        "snmp" => 10,
        // Silent hops are waited for.
        "path" => 30,
        _ => 5,
    };
    let usual = Duration::from_secs(usual).min(span * 4 / 5);
    let timeout = reader.duration("timeout", usual, Duration::from_millis(10)..=longest);
    if timeout >= interval {
        reader.problem("timeout", "must be shorter than the interval");
    }
    let of_itself = matches!(kind.as_str(), "ipv6" | "traffic");
    if inbound.is_none() && of_itself != (target == TargetPlan::Itself) {
        reader.problem(
            "target",
            "the probes ipv6 and traffic and the target self belong together",
        );
    }
    let probe = match pace {
        Some(pace) => ProbePlan::Icmp(icmp::read(reader, pace, &families, interval, timeout)),
        None => probe_plan(reader, &kind, &families, timeout),
    };
    CheckPlan {
        name,
        target,
        from,
        families,
        interval,
        timeout,
        stretch_last: reader.boolean("stretch_last", false),
        probe,
    }
}

fn probe_plan(
    reader: &mut Reader<'_>,
    kind: &str,
    families: &[u8],
    timeout: Duration,
) -> ProbePlan {
    match kind {
        "snmp" => ProbePlan::Snmp {
            modules: reader.list("modules", Vec::new()),
        },
        "traffic" => ProbePlan::Traffic,
        "path" => ProbePlan::Path(path::read(reader)),
        "ipv6" => ProbePlan::Ipv6(Box::new(ipv6_plan(reader))),
        kind if application::KINDS.contains(&kind) => {
            ProbePlan::Application(ApplicationPlan::read(reader, kind, families, timeout))
        }
        other => {
            if !other.is_empty() {
                reader.problem(
                    "probe",
                    format!(
                        "unknown probe '{other}' (use icmp, tcp, udp, ntp, dns, http, tls, snmp, path, ipv6, traffic)"
                    ),
                );
            }
            ProbePlan::Snmp {
                modules: Vec::new(),
            }
        }
    }
}

/// What the rubric of IPv6 readiness looks at beyond the inventory; checked in the form that agents read.
fn ipv6_plan(reader: &mut Reader<'_>) -> Ipv6Probe {
    let services = reader.list("services", Vec::<ServiceUrl>::new());
    let count = services.len();
    if count > limits::IPV6_SERVICES {
        let most = limits::IPV6_SERVICES;
        reader.problem("services", format!("{count} services, the most are {most}"));
    }
    let unset = (
        Ipv6Addr::UNSPECIFIED,
        SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 1, 0, 0),
    );
    Ipv6Probe {
        resolver6: reader
            .has("resolver6")
            .then(|| reader.parsed("resolver6", unset.0)),
        collector6: reader
            .has("collector6")
            .then(|| reader.parsed("collector6", unset.1)),
        services: services.into_iter().map(|service| service.0).collect(),
        expected_path_mtu: reader
            .has("expected_path_mtu")
            .then(|| reader.integer("expected_path_mtu", 1_500, 1_280..=65_535))
            .and_then(|mtu| u16::try_from(mtu).ok()),
        ..Ipv6Probe::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_plan_is_valid_and_decides_availability() {
        let plan = Plan::built_in();
        let decides = |check: &CheckPlan| {
            // AV-05: fewer than five probes in a slot of 60 s give no verdict.
            check.target == TargetPlan::Anchor
                && check.interval <= Duration::from_mins(1)
                && matches!(&check.probe, ProbePlan::Icmp(icmp) if icmp.packets >= 5)
        };
        let fibre = plan
            .own
            .iter()
            .find(|own| own.flush_interval.is_some() && own.scope.matches("county", "fibre"))
            .expect("a plan for fibre");
        assert_eq!(fibre.flush_interval, Some(Duration::from_secs(5)));
        assert!(plan.own.iter().flat_map(|own| &own.checks).any(decides));
        assert!(
            plan.inbound
                .iter()
                .flat_map(|inbound| &inbound.checks)
                .any(|check| check.from == ["centre", "parent"])
        );
    }

    #[test]
    fn every_problem_is_reported_with_its_line() {
        let text = "[[plan]]\nname = 'x'\nlevels = ['hamlet']\ncolour = 'red'\n[[plan.check]]\nname = 'a b'\nprobe = 'icmp'\ntarget = 'moon'\ninterval = '1s'\ntimeout = '2s'\n[[plan.check]]\nname = 'c'\nprobe = 'telepathy'\ntarget = 'anchor'\nfamilies = [5]\n[[inbound]]\nname = 'y'\nfrom = ['moon']\n[[inbound.check]]\nname = 'd'\nprobe = 'tcp'\npackets = 3\n";
        let problems = Plan::parse("plan.toml", text).unwrap_err().to_string();
        for expected in [
            "plan.toml:3: plan[0].levels: unknown levels 'hamlet' (use region",
            "plan.toml:4: plan[0].colour",
            "plan.toml:6: plan[0].check[0].name: 'a b'",
            "plan.toml:8: plan[0].check[0].target: \"moon\" cannot be used: use anchor",
            "plan.toml:10: plan[0].check[0].timeout: must be shorter",
            "plan[0].check[1].probe: unknown probe 'telepathy' (use icmp, tcp, udp, ntp, dns, http, tls, snmp, path, ipv6, traffic)",
            "families: \"5\" cannot be used: use 4, 6",
            "plan.toml:18: inbound[0].from: unknown from 'moon' (use centre, parent, region",
            "inbound[0].check[0].packets",
        ] {
            assert!(
                problems.contains(expected),
                "missing {expected:?} in:\n{problems}"
            );
        }
        assert!(Plan::parse("plan.toml", "").is_err());
    }

    #[test]
    fn an_ipv6_check_names_what_the_inventory_does_not() {
        let text = "[[plan]]\nname = 'a'\n[[plan.check]]\nname = 'v6'\nprobe = 'ipv6'\ntarget = 'self'\n\
            interval = '15m'\ncollector6 = '[fd00::1]:8443'\nresolver6 = 'fd00::53'\n\
            services = ['https://portal.example', 'tcp://[fd00::9]:25']\nexpected_path_mtu = 1400\n";
        let plan = Plan::parse("plan", text).unwrap();
        let ProbePlan::Ipv6(probe) = &plan.own[0].checks[0].probe else {
            panic!("{plan:?}");
        };
        assert_eq!(probe.collector6, "[fd00::1]:8443".parse().ok());
        assert_eq!(probe.resolver6, "fd00::53".parse().ok());
        assert_eq!(probe.expected_path_mtu, Some(1_400));
        let services: Vec<(&str, u16, bool)> = probe
            .services
            .iter()
            .map(|service| (service.host.as_str(), service.port, service.tls))
            .collect();
        assert_eq!(
            services,
            [("portal.example", 443, true), ("fd00::9", 25, false)]
        );

        let wrong = text
            .replace("'self'", "'anchor'")
            .replace("fd00::53", "10.0.0.1");
        let problems = Plan::parse("plan", &wrong).unwrap_err().to_string();
        for problem in [
            "the probes ipv6 and traffic and the target self belong together",
            "resolver6",
        ] {
            assert!(
                problems.contains(problem),
                "missing {problem} in {problems}"
            );
        }
    }
}
