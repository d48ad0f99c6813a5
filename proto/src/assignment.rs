//! What an agent is told to measure, validated. The wire form is [`crate::wire::Assignment`]; the conversions in both
//! directions stand in `assignment/{read,write}.rs`.

mod application;
mod datagram;
mod dns;
mod icmp;
mod path;
mod read;
mod security;
mod web;
mod write;

pub use application::{Ipv6Probe, Ipv6Service, Prefix6};
pub use datagram::{NtpProbe, TcpProbe, UdpProbe};
pub use dns::{DnsProbe, DnsTransport, DnsType};
pub use icmp::IcmpProbe;
pub use path::{PathProbe, PathTransport};
pub use read::Problem;
pub use security::{ApprovedRouter, Security};
pub use web::{HttpProbe, HttpVersion, TlsProbe};

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::id::{ApId, AssignmentVersion, CheckId, CheckName, TargetId};

/// Everything one agent measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Never reused for another content.
    pub version: AssignmentVersion,
    /// The access point the agent stands at.
    pub ap_id: ApId,
    /// How long live results may be collected before they are sent.
    pub flush_interval: Duration,
    /// The medium of the uplink.
    pub link_class: LinkClass,
    /// What the uplink may carry for us in 24 hours, bytes of IP packets in both directions; 0 = no limit.
    pub daily_budget: u64,
    /// What can be measured, each id once.
    pub targets: Vec<Target>,
    /// What is measured; each names a target above.
    pub checks: Vec<Check>,
    /// What the access point may look like.
    pub security: Security,
    /// SNMP modules that the checks name and that are not built into the agent.
    pub snmp_modules: Vec<SnmpModule>,
}

/// What is read from a device, as data (docs/snmp.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnmpModule {
    /// As the checks name it.
    pub name: String,
    /// TOML; whether it is a module is the agent's business.
    pub text: String,
}

/// Medium of an uplink (接入方式).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkClass {
    /// 光纤
    Fibre,
    /// 4G/5G
    Mobile,
    /// 卫星
    Satellite,
    /// 微波
    Microwave,
    /// 其他
    Other,
}

/// Something that can be measured: (vrf, address). An address alone identifies nothing where VPNs overlap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Id within the assignment.
    pub id: TargetId,
    /// Name of the VRF device; empty = the default routing table.
    pub vrf: String,
    /// Where it is.
    pub address: TargetAddress,
}

/// Where a target is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TargetAddress {
    /// A literal address.
    Ip(IpAddr),
    /// A host name, resolved on the agent in the family of the check.
    Name(String),
    /// Resolved on the agent from its own state, so that one plan serves thousands of sites.
    Symbolic(Symbol),
}

/// Targets that the agent resolves from its own state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Symbol {
    /// Next hop of the default route of the check's family.
    Gateway,
    /// First name server of /etc/resolv.conf in the check's family.
    Resolver,
    /// The agent's own machine, for checks that bring their own addresses.
    Itself,
}

/// IP version of a probe: forced by the socket, never a hope (V6-S7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Label form: `4` or `6`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V6 => "6",
        }
    }

    /// Family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// One check: a probe of one target, again and again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Unique for the agent for all time.
    pub id: CheckId,
    /// A target of the same assignment.
    pub target: TargetId,
    /// Stable name, the label `check`.
    pub name: CheckName,
    /// IP version.
    pub family: Family,
    /// Time between the starts of two runs.
    pub interval: Duration,
    /// Deadline of a run, counted from its start; of each request in a train of ICMP requests.
    pub timeout: Duration,
    /// Whether the interval is the last one to be stretched when the daily budget runs short.
    pub stretch_last: bool,
    /// What is done.
    pub probe: Probe,
}

impl Check {
    /// The longest that a run may take.
    pub fn longest_run(&self) -> Duration {
        match &self.probe {
            Probe::Icmp(icmp) if icmp.steady => icmp.sending_time() + self.timeout,
            _ => self.timeout,
        }
    }
}

/// What a check does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// ICMP echo.
    Icmp(IcmpProbe),
    /// TCP connect.
    Tcp(TcpProbe),
    /// SNMP scrape.
    Snmp(SnmpProbe),
    /// DNS query.
    Dns(DnsProbe),
    /// HTTP request.
    Http(HttpProbe),
    /// TLS handshake.
    Tls(TlsProbe),
    /// IPv6 readiness.
    Ipv6(Box<Ipv6Probe>),
    /// What measuring and reporting cost: sends nothing.
    Traffic,
    /// Traceroute, path MTU.
    Path(PathProbe),
    /// UDP echo.
    Udp(UdpProbe),
    /// NTP exchange.
    Ntp(NtpProbe),
}

impl Probe {
    /// Label and log form of the kind.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Icmp(_) => "icmp",
            Self::Tcp(_) => "tcp",
            Self::Snmp(_) => "snmp",
            Self::Dns(_) => "dns",
            Self::Http(_) => "http",
            Self::Tls(_) => "tls",
            Self::Ipv6(_) => "ipv6",
            Self::Traffic => "traffic",
            Self::Path(_) => "path",
            Self::Udp(_) => "udp",
            Self::Ntp(_) => "ntp",
        }
    }
}

/// A scrape of SNMP modules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnmpProbe {
    /// UDP port of the target.
    pub port: u16,
    /// Version and secrets.
    pub credential: SnmpCredential,
    /// Modules by name.
    pub modules: Vec<String>,
}

/// Version and secrets of an SNMP check. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub enum SnmpCredential {
    /// `SNMPv1`.
    V1 {
        /// Secret.
        community: String,
    },
    /// `SNMPv2c`.
    V2c {
        /// Secret.
        community: String,
    },
    /// `SNMPv3` with the user-based security model (RFC 3414).
    V3 {
        /// User name.
        user: String,
        /// Authentication protocol by its usual name ("SHA-256") and pass phrase; `None` = noAuth.
        auth: Option<(String, String)>,
        /// Privacy protocol by its usual name ("AES-128") and pass phrase; `None` = noPriv.
        privacy: Option<(String, String)>,
        /// Context name, empty = default.
        context: String,
    },
}

impl fmt::Debug for SnmpCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 { .. } => "SnmpCredential::V1(<secret>)",
            Self::V2c { .. } => "SnmpCredential::V2c(<secret>)",
            Self::V3 { .. } => "SnmpCredential::V3(<secret>)",
        })
    }
}
