//! The way to a target: traceroute and path MTU, as they are asked for.

use super::read::narrow;
use crate::error::ProtoError;
use crate::{limits, wire};

/// What of the way to a target is looked at, and with which packets. At least one of `trace` and `path_mtu` is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathProbe {
    /// What the packets are.
    pub transport: PathTransport,
    /// Destination port of UDP and TCP; 0 with ICMP.
    pub port: u16,
    /// Source port of UDP and TCP, identifier of ICMP; 0 = derived from the check, always the same.
    pub flow_port: u16,
    /// Lowest hop that is asked, at least 1.
    pub first_hop: u8,
    /// Highest hop that is asked.
    pub max_hop: u8,
    /// How often each hop is asked.
    pub attempts: u8,
    /// Hops that are asked at the same time; TCP asks one after the other.
    pub parallel: u8,
    /// Bytes behind the header of ICMP or UDP.
    pub payload_bytes: u16,
    /// Whether every router on the way is looked for.
    pub trace: bool,
    /// Whether the path MTU is looked for.
    pub path_mtu: bool,
    /// What the path MTU must be, bytes; `None` = whatever it is.
    pub expected_path_mtu: Option<u16>,
}

/// What the packets of a trace are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathTransport {
    /// Echo requests.
    Icmp,
    /// Datagrams to a port at which nobody listens.
    Udp,
    /// SYN to a port of a service.
    Tcp,
}

impl PathTransport {
    /// Every transport.
    pub const ALL: [Self; 3] = [Self::Icmp, Self::Udp, Self::Tcp];

    /// The form in plans, on command lines and in logs.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// Where packets go when nobody says otherwise: for UDP the first port of every traceroute (33434), for TCP that
    /// of HTTPS; ICMP has none.
    pub const fn usual_port(self) -> u16 {
        match self {
            Self::Icmp => 0,
            Self::Udp => 33_434,
            Self::Tcp => 443,
        }
    }
}

/// What is usual: a trace by ICMP of up to 30 hops, three attempts each, six hops at a time.
impl Default for PathProbe {
    fn default() -> Self {
        Self {
            transport: PathTransport::Icmp,
            port: 0,
            flow_port: 0,
            first_hop: 1,
            max_hop: 30,
            attempts: 3,
            // Routers tell about a few packets at once and then one a second (Linux: six): what is asked of the target
            // beyond the last router must not be more.
            parallel: 6,
            payload_bytes: 32,
            trace: true,
            path_mtu: false,
            expected_path_mtu: None,
        }
    }
}

impl TryFrom<wire::PathProbe> for PathProbe {
    type Error = ProtoError;

    fn try_from(path: wire::PathProbe) -> Result<Self, ProtoError> {
        let transport = match wire::PathTransport::try_from(path.transport) {
            Ok(wire::PathTransport::Icmp) => PathTransport::Icmp,
            Ok(wire::PathTransport::Udp) => PathTransport::Udp,
            Ok(wire::PathTransport::Tcp) => PathTransport::Tcp,
            Ok(wire::PathTransport::Unspecified) | Err(_) => {
                return Err(ProtoError::Unknown {
                    field: "path.transport",
                    found: path.transport,
                });
            }
        };
        let invalid = |field, rule| Err(ProtoError::Invalid { field, rule });
        let port = match (transport, path.port) {
            (PathTransport::Icmp, 0) => 0,
            (PathTransport::Icmp, _) => {
                return invalid("path.port", "ICMP has no ports");
            }
            (_, port) => within("path.port", port, 1, 65_535)?,
        };
        let flow_port = match path.flow_port {
            0 => 0,
            port => within("path.flow_port", port, limits::PATH_FLOW_PORT_MIN, 65_535)?,
        };
        if !path.trace && !path.path_mtu {
            return invalid(
                "path.trace",
                "neither a trace nor the path MTU is asked for",
            );
        }
        if path.path_mtu && transport == PathTransport::Tcp {
            return invalid(
                "path.path_mtu",
                "SYN segments have no size to choose: use icmp or udp",
            );
        }
        let max_hop = within("path.max_hop", path.max_hop, 1, limits::PATH_HOPS)?;
        let first_hop = within("path.first_hop", path.first_hop, 1, max_hop.into())?;
        let attempts = within("path.attempts", path.attempts, 1, limits::PATH_ATTEMPTS)?;
        let parallel = within("path.parallel", path.parallel, 1, limits::PATH_PARALLEL)?;
        let payload_bytes = within(
            "path.payload_bytes",
            path.payload_bytes,
            limits::PATH_PAYLOAD_BYTES_MIN,
            limits::PATH_PAYLOAD_BYTES,
        )?;
        let expected_path_mtu = match path.expected_path_mtu {
            0 => None,
            _ if !path.path_mtu => {
                return invalid("path.expected_path_mtu", "the path MTU is not asked for");
            }
            mtu => Some(within(
                "path.expected_path_mtu",
                mtu,
                limits::PATH_MTU_MIN,
                limits::PATH_MTU_MAX,
            )?),
        };
        Ok(Self {
            transport,
            port,
            flow_port,
            first_hop: byte(first_hop),
            max_hop: byte(max_hop),
            attempts: byte(attempts),
            parallel: byte(parallel),
            payload_bytes,
            trace: path.trace,
            path_mtu: path.path_mtu,
            expected_path_mtu,
        })
    }
}

fn within(field: &'static str, number: u32, min: u32, max: u32) -> Result<u16, ProtoError> {
    narrow(field, ProtoError::check_span(field, number, min, max)?)
}

/// A number that was checked against a limit below 256.
fn byte(number: u16) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

impl From<&PathProbe> for wire::PathProbe {
    fn from(path: &PathProbe) -> Self {
        let transport = match path.transport {
            PathTransport::Icmp => wire::PathTransport::Icmp,
            PathTransport::Udp => wire::PathTransport::Udp,
            PathTransport::Tcp => wire::PathTransport::Tcp,
        };
        Self {
            transport: transport.into(),
            port: path.port.into(),
            flow_port: path.flow_port.into(),
            first_hop: path.first_hop.into(),
            max_hop: path.max_hop.into(),
            attempts: path.attempts.into(),
            parallel: path.parallel.into(),
            payload_bytes: path.payload_bytes.into(),
            trace: path.trace,
            path_mtu: path.path_mtu,
            expected_path_mtu: path.expected_path_mtu.unwrap_or(0).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire() -> wire::PathProbe {
        (&PathProbe::default()).into()
    }

    #[test]
    fn what_is_usual_comes_back_from_the_wire() {
        for transport in PathTransport::ALL {
            let probe = PathProbe {
                transport,
                port: transport.usual_port(),
                ..PathProbe::default()
            };
            assert_eq!(
                PathProbe::try_from(wire::PathProbe::from(&probe)),
                Ok(probe)
            );
        }
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        type Change = fn(&mut wire::PathProbe);
        let cases: [(&str, Change); 13] = [
            ("path.transport", |p| p.transport = 9),
            ("path.port", |p| p.port = 7),
            ("path.port", |p| p.transport = 2),
            ("path.flow_port", |p| p.flow_port = 53),
            ("path.first_hop", |p| p.first_hop = 0),
            ("path.first_hop", |p| p.first_hop = 31),
            ("path.max_hop", |p| p.max_hop = 65),
            ("path.attempts", |p| p.attempts = 0),
            ("path.parallel", |p| p.parallel = 65),
            ("path.payload_bytes", |p| p.payload_bytes = 15),
            ("path.trace", |p| p.trace = false),
            ("path.path_mtu", |p| {
                (p.transport, p.port, p.path_mtu) = (3, 443, true);
            }),
            ("path.expected_path_mtu", |p| p.expected_path_mtu = 1_500),
        ];
        for (field, change) in cases {
            let mut path = wire();
            change(&mut path);
            let error = PathProbe::try_from(path).unwrap_err().to_string();
            assert!(error.starts_with(field), "{field}: {error}");
        }
    }
}
