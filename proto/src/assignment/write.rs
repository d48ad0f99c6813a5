//! To the wire. Durations that do not fit are cut to the largest number of milliseconds that does.

use std::fmt;
use std::time::Duration;

use super::{
    Assignment, Check, Family, LinkClass, Probe, SnmpCredential, Symbol, Target, TargetAddress,
};
use crate::wire;

impl From<&Assignment> for wire::Assignment {
    fn from(assignment: &Assignment) -> Self {
        Self {
            version: assignment.version.0,
            ap_id: assignment.ap_id.as_str().to_owned(),
            targets: assignment.targets.iter().map(Into::into).collect(),
            checks: assignment.checks.iter().map(Into::into).collect(),
            flush_interval_ms: milliseconds(assignment.flush_interval),
            link_class: wire::LinkClass::from(assignment.link_class).into(),
            // Absent rather than empty: what nobody asked for costs nothing on the wire.
            security: (!assignment.security.routers.is_empty())
                .then(|| (&assignment.security).into()),
            daily_budget_bytes: assignment.daily_budget,
            snmp_modules: assignment
                .snmp_modules
                .iter()
                .map(|module| wire::SnmpModule {
                    name: module.name.clone(),
                    text: module.text.clone(),
                })
                .collect(),
        }
    }
}

impl From<LinkClass> for wire::LinkClass {
    fn from(class: LinkClass) -> Self {
        match class {
            LinkClass::Fibre => Self::Fibre,
            LinkClass::Mobile => Self::Mobile,
            LinkClass::Satellite => Self::Satellite,
            LinkClass::Microwave => Self::Microwave,
            LinkClass::Other => Self::Other,
        }
    }
}

impl From<&Target> for wire::Target {
    fn from(target: &Target) -> Self {
        Self {
            target_id: target.id.0,
            vrf: target.vrf.clone(),
            address: target.address.to_string(),
        }
    }
}

/// The form on the wire, in plans and in logs.
impl fmt::Display for TargetAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => ip.fmt(f),
            Self::Name(name) => f.write_str(name),
            Self::Symbolic(symbol) => f.write_str(symbol.text()),
        }
    }
}

impl Symbol {
    /// Every symbol.
    pub const ALL: [Self; 3] = [Self::Gateway, Self::Resolver, Self::Itself];

    /// The form on the wire, in plans and in logs.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Gateway => "@gateway",
            Self::Resolver => "@resolver",
            Self::Itself => "@self",
        }
    }
}

impl From<&Check> for wire::Check {
    fn from(check: &Check) -> Self {
        let family = match check.family {
            Family::V4 => wire::Family::Ipv4,
            Family::V6 => wire::Family::Ipv6,
        };
        Self {
            check_id: check.id.0,
            target_id: check.target.0,
            name: check.name.as_str().to_owned(),
            family: family.into(),
            interval_ms: milliseconds(check.interval),
            timeout_ms: milliseconds(check.timeout),
            stretch_last: check.stretch_last,
            probe: Some((&check.probe).into()),
        }
    }
}

impl From<&Probe> for wire::check::Probe {
    fn from(probe: &Probe) -> Self {
        match probe {
            Probe::Icmp(icmp) => Self::Icmp(icmp.into()),
            Probe::Tcp(tcp) => Self::Tcp(tcp.into()),
            Probe::Snmp(snmp) => {
                let (version, credential) = write_credential(&snmp.credential);
                Self::Snmp(wire::SnmpProbe {
                    port: snmp.port.into(),
                    version: version.into(),
                    credential: Some(credential),
                    modules: snmp.modules.clone(),
                    uplink: String::new(),
                })
            }
            Probe::Dns(dns) => Self::Dns(dns.into()),
            Probe::Http(http) => Self::Http(http.into()),
            Probe::Tls(tls) => Self::Tls(tls.into()),
            Probe::Ipv6(ipv6) => Self::Ipv6(ipv6.as_ref().into()),
            Probe::Traffic => Self::Traffic(wire::TrafficProbe {}),
            Probe::Path(path) => Self::Path(path.into()),
            Probe::Udp(udp) => Self::Udp(udp.into()),
            Probe::Ntp(ntp) => Self::Ntp(ntp.into()),
        }
    }
}

fn write_credential(credential: &SnmpCredential) -> (wire::SnmpVersion, wire::SnmpCredential) {
    let with_community = |community: &String| wire::SnmpCredential {
        community: community.clone(),
        ..wire::SnmpCredential::default()
    };
    match credential {
        SnmpCredential::V1 { community } => {
            (wire::SnmpVersion::SnmpVersion1, with_community(community))
        }
        SnmpCredential::V2c { community } => {
            (wire::SnmpVersion::SnmpVersion2c, with_community(community))
        }
        SnmpCredential::V3 {
            user,
            auth,
            privacy,
            context,
        } => {
            let (auth_protocol, auth_password) = auth.clone().unwrap_or_default();
            let (privacy_protocol, privacy_password) = privacy.clone().unwrap_or_default();
            let credential = wire::SnmpCredential {
                community: String::new(),
                user: user.clone(),
                auth_protocol,
                auth_password,
                privacy_protocol,
                privacy_password,
                context: context.clone(),
            };
            (wire::SnmpVersion::SnmpVersion3, credential)
        }
    }
}

pub(super) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
