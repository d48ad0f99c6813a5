//! From the wire: every rule that an assignment, a target and a check must keep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::{
    Assignment, Check, Family, IcmpProbe, LinkClass, Probe, SnmpCredential, SnmpModule, SnmpProbe,
    Symbol, Target, TargetAddress, TcpProbe, UdpProbe,
};
use crate::error::ProtoError;
use crate::id::{ApId, AssignmentVersion, CheckId, CheckName, TargetId};
use crate::{limits, wire};

/// A check that this build cannot measure. The others of its assignment go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The refused check, as the wire had it.
    pub check: CheckId,
    /// Its name, cut to what a name may have.
    pub name: String,
    /// Why it was refused.
    pub error: ProtoError,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "check {} ({}): {}", self.check, self.name, self.error)
    }
}

impl Assignment {
    /// Validates an assignment. A check that is invalid or of a kind that this build does not know is left out and
    /// reported; what concerns the assignment as a whole is an error, and nothing of it may be used.
    pub fn from_wire(assignment: wire::Assignment) -> Result<(Self, Vec<Problem>), ProtoError> {
        let flush_interval_ms = ProtoError::check_span(
            "assignment.flush_interval_ms",
            assignment.flush_interval_ms,
            0,
            limits::FLUSH_INTERVAL_MS_MAX,
        )?;
        let found = assignment.checks.len();
        ProtoError::check_len("assignment.checks", found, limits::ASSIGNMENT_CHECKS)?;
        let found = assignment.targets.len();
        ProtoError::check_len("assignment.targets", found, limits::ASSIGNMENT_TARGETS)?;

        let mut targets = BTreeMap::new();
        for target in assignment.targets {
            let id = target.target_id;
            if targets.insert(id, Target::try_from(target)).is_some() {
                return Err(ProtoError::Invalid {
                    field: "assignment.targets",
                    rule: "each target id may be used once",
                });
            }
        }
        let mut checks = Vec::new();
        let mut problems = Vec::new();
        let mut seen = BTreeSet::new();
        for check in assignment.checks {
            let id = check.check_id;
            let name: String = check.name.chars().take(64).collect();
            let read = read_check(check, &targets, !seen.insert(id));
            match read {
                Ok(check) => checks.push(check),
                Err(error) => problems.push(Problem {
                    check: CheckId(id),
                    name,
                    error,
                }),
            }
        }
        let valid = Self {
            version: read_version("assignment.version", assignment.version)?,
            ap_id: ApId::new(assignment.ap_id)
                .map_err(|source| name_error("assignment.ap_id", source))?,
            flush_interval: milliseconds(flush_interval_ms),
            link_class: link_class(assignment.link_class),
            daily_budget: assignment.daily_budget_bytes,
            targets: targets.into_values().filter_map(Result::ok).collect(),
            checks,
            security: assignment.security.unwrap_or_default().try_into()?,
            snmp_modules: read_modules(assignment.snmp_modules)?,
        };
        Ok((valid, problems))
    }
}

/// Accepts an assignment only when all of it is valid.
impl TryFrom<wire::Assignment> for Assignment {
    type Error = ProtoError;

    fn try_from(assignment: wire::Assignment) -> Result<Self, ProtoError> {
        let (assignment, mut problems) = Self::from_wire(assignment)?;
        match problems.pop() {
            Some(problem) => Err(problem.error),
            None => Ok(assignment),
        }
    }
}

fn read_check(
    check: wire::Check,
    targets: &BTreeMap<u32, Result<Target, ProtoError>>,
    repeated: bool,
) -> Result<Check, ProtoError> {
    if repeated {
        return Err(ProtoError::Invalid {
            field: "check.check_id",
            rule: "each check id may be used once",
        });
    }
    let check = Check::try_from(check)?;
    match targets.get(&check.target.0) {
        Some(Ok(target)) => check.fits(target).map(|()| check),
        Some(Err(error)) => Err(error.clone()),
        None => Err(ProtoError::Invalid {
            field: "check.target_id",
            rule: "must name a target of the assignment",
        }),
    }
}

impl Check {
    /// Whether the check can be done at the target: a literal address must be of the check's family.
    pub fn fits(&self, target: &Target) -> Result<(), ProtoError> {
        match target.address {
            TargetAddress::Ip(ip) if Family::of(ip) != self.family => Err(ProtoError::Invalid {
                field: "check.family",
                rule: "must be the family of the target's address",
            }),
            _ => Ok(()),
        }
    }
}

/// Version 0 means "none".
fn read_version(field: &'static str, version: u32) -> Result<AssignmentVersion, ProtoError> {
    ProtoError::check_span(field, version, 1, u32::MAX).map(AssignmentVersion)
}

fn link_class(number: i32) -> LinkClass {
    match wire::LinkClass::try_from(number) {
        Ok(wire::LinkClass::Fibre) => LinkClass::Fibre,
        Ok(wire::LinkClass::Mobile) => LinkClass::Mobile,
        Ok(wire::LinkClass::Satellite) => LinkClass::Satellite,
        Ok(wire::LinkClass::Microwave) => LinkClass::Microwave,
        Ok(wire::LinkClass::Other | wire::LinkClass::Unspecified) | Err(_) => LinkClass::Other,
    }
}

impl TryFrom<wire::Target> for Target {
    type Error = ProtoError;

    fn try_from(target: wire::Target) -> Result<Self, ProtoError> {
        Ok(Self {
            id: TargetId(target.target_id),
            vrf: device_name("target.vrf", target.vrf)?,
            address: target.address.parse()?,
        })
    }
}

/// The name of a network device, or nothing.
pub(super) fn device_name(field: &'static str, name: String) -> Result<String, ProtoError> {
    ProtoError::check_len(field, name.len(), limits::VRF_NAME_BYTES)?;
    let device = |c: char| c.is_ascii_graphic() && c != '/' && c != ':';
    if !name.chars().all(device) || matches!(name.as_str(), "." | "..") {
        return Err(ProtoError::Invalid {
            field,
            rule: "must be the name of a network device",
        });
    }
    Ok(name)
}

impl std::str::FromStr for TargetAddress {
    type Err = ProtoError;

    fn from_str(text: &str) -> Result<Self, ProtoError> {
        const FIELD: &str = "target.address";
        ProtoError::check_len(FIELD, text.len(), limits::TEXT_BYTES)?;
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Ip(ip));
        }
        if text.starts_with('@') {
            return Symbol::ALL
                .into_iter()
                .find(|symbol| symbol.text() == text)
                .map(Self::Symbolic)
                .ok_or(ProtoError::Invalid {
                    field: FIELD,
                    rule: "this build knows no such symbolic target",
                });
        }
        let host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.starts_with(['-', '.']) || !text.chars().all(host) {
            return Err(ProtoError::Invalid {
                field: FIELD,
                rule: "must be an IP address, a host name or a symbolic target",
            });
        }
        Ok(Self::Name(text.to_owned()))
    }
}

impl TryFrom<wire::Check> for Check {
    type Error = ProtoError;

    fn try_from(check: wire::Check) -> Result<Self, ProtoError> {
        let id = ProtoError::check_span("check.check_id", check.check_id, 1, u32::MAX)?;
        let family = match wire::Family::try_from(check.family) {
            Ok(wire::Family::Ipv4) => Family::V4,
            Ok(wire::Family::Ipv6) => Family::V6,
            Ok(wire::Family::Unspecified) | Err(_) => {
                return Err(ProtoError::Unknown {
                    field: "check.family",
                    found: check.family,
                });
            }
        };
        let interval = ProtoError::check_span(
            "check.interval_ms",
            check.interval_ms,
            limits::CHECK_INTERVAL_MS_MIN,
            limits::CHECK_INTERVAL_MS_MAX,
        )?;
        let timeout = ProtoError::check_span(
            "check.timeout_ms",
            check.timeout_ms,
            1,
            limits::CHECK_TIMEOUT_MS_MAX,
        )?;
        // A kind of probe of a newer collector reads as absent too.
        let probe = match check.probe.ok_or(ProtoError::Invalid {
            field: "check.probe",
            rule: "is missing or of a kind that this build does not know",
        })? {
            wire::check::Probe::Icmp(icmp) => Probe::Icmp(IcmpProbe::read(
                &icmp,
                family,
                milliseconds(interval),
                milliseconds(timeout),
            )?),
            wire::check::Probe::Tcp(tcp) => Probe::Tcp(TcpProbe::read(&tcp, family)?),
            wire::check::Probe::Snmp(snmp) => Probe::Snmp(read_snmp(snmp)?),
            wire::check::Probe::Dns(dns) => Probe::Dns(dns.try_into()?),
            wire::check::Probe::Http(http) => Probe::Http(http.try_into()?),
            wire::check::Probe::Tls(tls) => Probe::Tls(tls.try_into()?),
            wire::check::Probe::Ipv6(ipv6) => Probe::Ipv6(Box::new(ipv6.try_into()?)),
            wire::check::Probe::Traffic(wire::TrafficProbe {}) => Probe::Traffic,
            wire::check::Probe::Path(path) => Probe::Path(path.try_into()?),
            wire::check::Probe::Udp(udp) => Probe::Udp(UdpProbe::read(&udp, family, timeout)?),
            wire::check::Probe::Ntp(ntp) => Probe::Ntp(ntp.try_into()?),
        };
        Ok(Self {
            id: CheckId(id),
            target: TargetId(check.target_id),
            name: CheckName::new(check.name).map_err(|source| name_error("check.name", source))?,
            family,
            interval: milliseconds(interval),
            timeout: milliseconds(timeout),
            stretch_last: check.stretch_last,
            probe,
        })
    }
}

fn is_module_name(name: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=64).contains(&name.len()) && name.chars().all(word)
}

fn read_modules(modules: Vec<wire::SnmpModule>) -> Result<Vec<SnmpModule>, ProtoError> {
    ProtoError::check_len(
        "assignment.snmp_modules",
        modules.len(),
        limits::ASSIGNMENT_SNMP_MODULES,
    )?;
    modules
        .into_iter()
        .map(|wire::SnmpModule { name, text }| {
            ProtoError::check_len("snmp_module.text", text.len(), limits::SNMP_MODULE_BYTES)?;
            if is_module_name(&name) {
                Ok(SnmpModule { name, text })
            } else {
                Err(ProtoError::Invalid {
                    field: "snmp_module.name",
                    rule: "must have 1 to 64 ASCII letters, digits, '-', '_' and '.'",
                })
            }
        })
        .collect()
}

fn read_snmp(snmp: wire::SnmpProbe) -> Result<SnmpProbe, ProtoError> {
    let found = snmp.modules.len();
    ProtoError::check_len("snmp.modules", found, limits::SNMP_MODULES)?;
    if snmp.modules.is_empty() || !snmp.modules.iter().all(|name| is_module_name(name)) {
        return Err(ProtoError::Invalid {
            field: "snmp.modules",
            rule: "must be one or more names of ASCII letters, digits, '-', '_' and '.'",
        });
    }
    let credential = snmp.credential.ok_or(ProtoError::Missing {
        field: "snmp.credential",
    })?;
    Ok(SnmpProbe {
        port: port("snmp.port", snmp.port)?,
        credential: read_credential(snmp.version, credential)?,
        modules: snmp.modules,
    })
}

/// Errors never carry a value from here.
fn read_credential(
    version: i32,
    credential: wire::SnmpCredential,
) -> Result<SnmpCredential, ProtoError> {
    for (field, text) in [
        ("credential.community", &credential.community),
        ("credential.user", &credential.user),
        ("credential.auth_protocol", &credential.auth_protocol),
        ("credential.auth_password", &credential.auth_password),
        ("credential.privacy_protocol", &credential.privacy_protocol),
        ("credential.privacy_password", &credential.privacy_password),
        ("credential.context", &credential.context),
    ] {
        ProtoError::check_len(field, text.len(), limits::TEXT_BYTES)?;
    }
    match wire::SnmpVersion::try_from(version) {
        Ok(wire::SnmpVersion::SnmpVersion1) => Ok(SnmpCredential::V1 {
            community: credential.community,
        }),
        Ok(wire::SnmpVersion::SnmpVersion2c) => Ok(SnmpCredential::V2c {
            community: credential.community,
        }),
        Ok(wire::SnmpVersion::SnmpVersion3) => read_v3(credential),
        Ok(wire::SnmpVersion::Unspecified) | Err(_) => Err(ProtoError::Unknown {
            field: "snmp.version",
            found: version,
        }),
    }
}

fn read_v3(credential: wire::SnmpCredential) -> Result<SnmpCredential, ProtoError> {
    if credential.user.is_empty() {
        return Err(ProtoError::Missing {
            field: "credential.user",
        });
    }
    let auth = protected(
        "credential.auth_password",
        credential.auth_protocol,
        credential.auth_password,
    )?;
    let privacy = protected(
        "credential.privacy_password",
        credential.privacy_protocol,
        credential.privacy_password,
    )?;
    if privacy.is_some() && auth.is_none() {
        // RFC 3411 section 3.4.3 knows no level with privacy but without authentication.
        return Err(ProtoError::Invalid {
            field: "credential.privacy_protocol",
            rule: "privacy needs authentication",
        });
    }
    Ok(SnmpCredential::V3 {
        user: credential.user,
        auth,
        privacy,
        context: credential.context,
    })
}

/// A protocol with its pass phrase; no protocol, no protection.
fn protected(
    field: &'static str,
    protocol: String,
    password: String,
) -> Result<Option<(String, String)>, ProtoError> {
    if protocol.is_empty() {
        return Ok(None);
    }
    if password.len() < limits::SNMP_PASSWORD_BYTES_MIN {
        return Err(ProtoError::Invalid {
            field,
            rule: "must have at least 8 bytes (RFC 3414 section 11.2)",
        });
    }
    Ok(Some((protocol, password)))
}

pub(super) fn port(field: &'static str, port: u32) -> Result<u16, ProtoError> {
    narrow(field, ProtoError::check_span(field, port, 1, 65_535)?)
}

pub(super) fn narrow(field: &'static str, number: u32) -> Result<u16, ProtoError> {
    u16::try_from(number).map_err(|_| ProtoError::OutOfRange {
        field,
        found: number.into(),
        min: 0,
        max: u16::MAX.into(),
    })
}

fn milliseconds(number: u32) -> Duration {
    Duration::from_millis(number.into())
}

fn name_error(field: &'static str, source: crate::id::InvalidName) -> ProtoError {
    ProtoError::Name { field, source }
}
