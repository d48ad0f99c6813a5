//! Transport: TCP connect, UDP echo, and NTP, which is one datagram each way.

use std::net::IpAddr;
use std::time::Duration;

use super::Family;
use super::read::{narrow, port};
use super::write::milliseconds;
use crate::error::ProtoError;
use crate::{limits, wire};

/// A connection that is opened and closed at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpProbe {
    /// Port of the target.
    pub port: u16,
    /// Address of the agent's machine to connect from; `None` = the kernel's choice.
    pub source: Option<IpAddr>,
}

impl TcpProbe {
    /// From whatever address the kernel chooses.
    pub const fn to(port: u16) -> Self {
        Self { port, source: None }
    }
}

/// Datagrams that the target sends back as they are (RFC 862).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpProbe {
    /// Port of the target.
    pub port: u16,
    /// Datagrams in one run, at least 1.
    pub packets: u16,
    /// Time between two datagrams.
    pub packet_interval: Duration,
    /// Bytes behind the UDP header.
    pub payload_bytes: u16,
    /// Address of the agent's machine to send from; `None` = the kernel's choice.
    pub source: Option<IpAddr>,
}

/// Five small datagrams to the port of RFC 862.
impl Default for UdpProbe {
    fn default() -> Self {
        Self {
            port: 7,
            packets: 5,
            packet_interval: Duration::from_millis(200),
            payload_bytes: 56,
            source: None,
        }
    }
}

/// One exchange with a time server as a client (RFC 5905), which sets no clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NtpProbe {
    /// Port of the target.
    pub port: u16,
    /// Version of the request: 3 or 4.
    pub version: u8,
    /// Requests before the run gives up, at least 1.
    pub tries: u16,
}

impl Default for NtpProbe {
    fn default() -> Self {
        Self {
            port: 123,
            version: 4,
            tries: 1,
        }
    }
}

/// 0 = one.
pub(super) fn tries(field: &'static str, tries: u32) -> Result<u16, ProtoError> {
    narrow(
        field,
        ProtoError::check_span(field, tries, 0, limits::TRIES)?.max(1),
    )
}

fn source(field: &'static str, text: &str, family: Family) -> Result<Option<IpAddr>, ProtoError> {
    if text.is_empty() {
        return Ok(None);
    }
    match text.parse() {
        Ok(address) if Family::of(address) == family => Ok(Some(address)),
        _ => Err(ProtoError::Invalid {
            field,
            rule: "must be an address of the check's family",
        }),
    }
}

impl TcpProbe {
    pub(super) fn read(tcp: &wire::TcpProbe, family: Family) -> Result<Self, ProtoError> {
        Ok(Self {
            port: port("tcp.port", tcp.port)?,
            source: source("tcp.source", &tcp.source, family)?,
        })
    }
}

impl From<&TcpProbe> for wire::TcpProbe {
    fn from(tcp: &TcpProbe) -> Self {
        Self {
            port: tcp.port.into(),
            source: tcp.source.map_or_else(String::new, |ip| ip.to_string()),
        }
    }
}

impl UdpProbe {
    pub(super) fn read(
        udp: &wire::UdpProbe,
        family: Family,
        timeout_ms: u32,
    ) -> Result<Self, ProtoError> {
        let packets = ProtoError::check_span("udp.packets", udp.packets, 1, limits::UDP_PACKETS)?;
        let gaps = u64::from(packets - 1);
        if gaps > 0 && udp.packet_interval_ms == 0 {
            return Err(ProtoError::Invalid {
                field: "udp.packet_interval_ms",
                rule: "packets may not leave all at once",
            });
        }
        if gaps * u64::from(udp.packet_interval_ms) >= u64::from(timeout_ms) {
            return Err(ProtoError::Invalid {
                field: "udp.packet_interval_ms",
                rule: "the last packet must leave before the timeout of the check",
            });
        }
        let payload = ProtoError::check_span(
            "udp.payload_bytes",
            udp.payload_bytes,
            limits::UDP_PAYLOAD_BYTES_MIN,
            limits::UDP_PAYLOAD_BYTES,
        )?;
        Ok(Self {
            port: port("udp.port", udp.port)?,
            packets: narrow("udp.packets", packets)?,
            packet_interval: Duration::from_millis(udp.packet_interval_ms.into()),
            payload_bytes: narrow("udp.payload_bytes", payload)?,
            source: source("udp.source", &udp.source, family)?,
        })
    }
}

impl From<&UdpProbe> for wire::UdpProbe {
    fn from(udp: &UdpProbe) -> Self {
        Self {
            port: udp.port.into(),
            packets: udp.packets.into(),
            packet_interval_ms: milliseconds(udp.packet_interval),
            payload_bytes: udp.payload_bytes.into(),
            source: udp.source.map_or_else(String::new, |ip| ip.to_string()),
        }
    }
}

impl TryFrom<wire::NtpProbe> for NtpProbe {
    type Error = ProtoError;

    fn try_from(ntp: wire::NtpProbe) -> Result<Self, ProtoError> {
        let version = match ntp.version {
            0 | 4 => 4,
            3 => 3,
            found => {
                return Err(ProtoError::OutOfRange {
                    field: "ntp.version",
                    found: found.into(),
                    min: 3,
                    max: 4,
                });
            }
        };
        Ok(Self {
            port: port("ntp.port", ntp.port)?,
            version,
            tries: tries("ntp.tries", ntp.tries)?,
        })
    }
}

impl From<&NtpProbe> for wire::NtpProbe {
    fn from(ntp: &NtpProbe) -> Self {
        Self {
            port: ntp.port.into(),
            version: ntp.version.into(),
            tries: ntp.tries.into(),
        }
    }
}
