//! One measurement from target to result: resolve, check against the allowed prefixes, probe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use extranet_proto::assignment::{Family, Probe, Symbol, Target, TargetAddress};
use extranet_proto::record::Reason;
use ipnet::IpNet;
use tokio::time::{Instant, timeout_at};

use crate::control::{Plan, PlannedCheck};
use crate::ipv6;
use crate::probe::{Measured, Probes, Run};
use crate::schedule::Prober;

mod symbol;

/// Where this agent may measure (OPS-13), and how it finds targets that have no address of their own.
#[derive(Debug, Clone)]
pub struct Targets {
    allowed: Arc<[IpNet]>,
}

impl Targets {
    /// Only addresses inside these prefixes are ever probed.
    pub fn new(allowed: &[IpNet]) -> Self {
        Self {
            allowed: allowed.into(),
        }
    }

    /// Whether the address may be probed. An IPv4 address written as IPv6 counts as what it is.
    pub fn allows(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.allowed.iter().any(|prefix| prefix.contains(&address))
    }

    /// What can be said about a target before it is resolved: why a check of it can never run.
    pub fn refusal(&self, target: &Target, family: Family) -> Option<String> {
        match target.address {
            TargetAddress::Ip(address) if !self.allows(address) => {
                Some(format!("{address} lies outside the allowed prefixes"))
            }
            TargetAddress::Ip(address) if Family::of(address) != family => {
                Some(format!("{address} has no IPv{} form", family.label()))
            }
            _ => None,
        }
    }

    /// The address to probe now, in the given family.
    pub(crate) async fn resolve(&self, target: &Target, family: Family) -> Result<IpAddr, Reason> {
        let address = match &target.address {
            TargetAddress::Ip(address) => Some(*address),
            TargetAddress::Name(name) => tokio::net::lookup_host((name.as_str(), 0))
                .await
                .map_err(|_| Reason::NameNotResolved)?
                .map(|found| found.ip())
                .find(|found| Family::of(*found) == family),
            TargetAddress::Symbolic(Symbol::Gateway) => symbol::gateway(family),
            TargetAddress::Symbolic(Symbol::Resolver) => symbol::resolver(family),
            TargetAddress::Symbolic(Symbol::Itself) => Some(match family {
                Family::V4 => Ipv4Addr::LOCALHOST.into(),
                Family::V6 => Ipv6Addr::LOCALHOST.into(),
            }),
        };
        let address = address
            .filter(|address| Family::of(*address) == family)
            .ok_or(Reason::NameNotResolved)?;
        if self.allows(address) {
            Ok(address)
        } else {
            Err(Reason::TargetNotAllowed)
        }
    }
}

/// The first name server of this machine that has an IPv6 address.
pub fn first_resolver_v6() -> Option<Ipv6Addr> {
    match symbol::resolver(Family::V6) {
        Some(IpAddr::V6(address)) => Some(address),
        _ => None,
    }
}

/// Measures for real.
#[derive(Clone)]
pub struct Measurer {
    targets: Targets,
    probes: Probes,
}

impl Measurer {
    /// Within `targets`, by `probes`.
    pub fn new(targets: Targets, probes: Probes) -> Self {
        let probes = probes.within(targets.clone());
        Self { targets, probes }
    }
}

impl Prober for Measurer {
    fn prepare(&self, plan: &Plan) {
        self.probes.use_snmp_modules(&plan.snmp_modules);
    }

    async fn run(&self, planned: &PlannedCheck, deadline: Instant) -> Measured {
        let check = &planned.check;
        let start = Instant::now();
        // Looks at what the agent counted itself.
        if matches!(check.probe, Probe::Traffic) {
            let address = Ipv4Addr::LOCALHOST.into();
            let vrf = &planned.target.vrf;
            let run = Run {
                check,
                address,
                vrf,
                deadline,
            };
            return self.probes.run(run).await;
        }
        // Looks at many addresses, each of which it checks against the allowed prefixes itself.
        if let Probe::Ipv6(probe) = &check.probe {
            let vrf = &planned.target.vrf;
            // Boxed: it is the largest run by far, and every run of a check has room for it else.
            let rubric =
                ipv6::run::measure(&self.probes, &self.targets, check.id, probe, vrf, deadline);
            return Box::pin(rubric).await;
        }
        let resolved = timeout_at(
            deadline,
            self.targets.resolve(&planned.target, check.family),
        )
        .await
        .unwrap_or(Err(Reason::NameNotResolved));
        match resolved {
            Ok(address) => {
                let run = Run {
                    check,
                    address,
                    vrf: &planned.target.vrf,
                    deadline,
                };
                self.probes.run(run).await
            }
            // A name that does not resolve is a fault the user of the service would see too; a symbol that this
            // machine cannot resolve, or a forbidden address, says nothing about a target.
            Err(Reason::NameNotResolved)
                if matches!(planned.target.address, TargetAddress::Name(_)) =>
            {
                Measured::failed(Reason::NameNotResolved, start.elapsed(), Vec::new())
            }
            Err(reason) => Measured::not_measured(reason, start.elapsed()),
        }
    }
}

#[cfg(test)]
mod tests {
    use extranet_proto::id::TargetId;

    use super::*;

    fn target(address: TargetAddress) -> Target {
        Target {
            id: TargetId(1),
            vrf: String::new(),
            address,
        }
    }

    #[tokio::test]
    async fn only_allowed_addresses_are_ever_resolved_to() {
        let targets = Targets::new(&["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let good = target(TargetAddress::Ip("127.0.0.7".parse().unwrap()));
        assert_eq!(targets.refusal(&good, Family::V4), None);
        assert_eq!(
            targets.resolve(&good, Family::V4).await,
            Ok("127.0.0.7".parse().unwrap())
        );
        assert!(targets.refusal(&good, Family::V6).is_some());

        let bad = target(TargetAddress::Ip("192.0.2.1".parse().unwrap()));
        assert!(
            targets
                .refusal(&bad, Family::V4)
                .unwrap()
                .contains("192.0.2.1")
        );
        assert_eq!(
            targets.resolve(&bad, Family::V4).await,
            Err(Reason::TargetNotAllowed)
        );
        assert!(
            targets.allows("::ffff:127.0.0.1".parse().unwrap()),
            "mapped addresses are IPv4"
        );
        assert!(!targets.allows("::ffff:192.0.2.1".parse().unwrap()));

        let name = target(TargetAddress::Name("localhost".to_owned()));
        assert_eq!(
            targets.resolve(&name, Family::V4).await,
            Ok("127.0.0.1".parse().unwrap())
        );
    }
}
