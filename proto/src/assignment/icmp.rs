//! ICMP echo: what can be asked for, and its wire form in both directions.

use std::net::IpAddr;
use std::time::Duration;

use super::Family;
use super::read::{device_name, narrow};
use crate::error::ProtoError;
use crate::{limits, wire};

/// A burst or a train of echo requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IcmpProbe {
    /// Requests in one run, at least 1.
    pub packets: u16,
    /// Time between two requests; in a train the interval of the check divided by the number of requests.
    pub packet_interval: Duration,
    /// Whether the run is a train: its requests are spread evenly over the interval of the check, and the timeout of
    /// the check is how long each of them is waited for.
    pub steady: bool,
    /// Bytes behind the ICMP header.
    pub payload_bytes: u16,
    /// Differentiated services code point, 0 to 63 (RFC 2474).
    pub dscp: u8,
    /// No fragment anywhere on the way, whatever the kernel remembers of the path's MTU.
    pub dont_fragment: bool,
    /// Time to live or hop limit of the requests; `None` = the default of the machine.
    pub hop_limit: Option<u8>,
    /// Source address; `None` = the kernel chooses.
    pub source: Option<IpAddr>,
    /// Interface to leave by; empty = the device of the VRF, or what the routes say.
    pub interface: String,
    /// Whether round trips are also counted in the buckets of `smokeping_prober`.
    pub histogram: bool,
}

/// What plans say when they say nothing: five requests in 0.8 s.
impl Default for IcmpProbe {
    fn default() -> Self {
        Self {
            packets: 5,
            packet_interval: Duration::from_millis(200),
            steady: false,
            payload_bytes: 56,
            dscp: 0,
            dont_fragment: false,
            hop_limit: None,
            source: None,
            interface: String::new(),
            histogram: false,
        }
    }
}

impl IcmpProbe {
    /// From the first request to the last.
    pub fn sending_time(&self) -> Duration {
        let gaps = u32::from(self.packets.saturating_sub(1));
        self.packet_interval.saturating_mul(gaps)
    }

    /// Reads the wire form as part of a check.
    pub(super) fn read(
        icmp: &wire::IcmpProbe,
        family: Family,
        interval: Duration,
        timeout: Duration,
    ) -> Result<Self, ProtoError> {
        let packets =
            ProtoError::check_span("icmp.packets", icmp.packets, 1, limits::ICMP_PACKETS)?;
        let payload = ProtoError::check_span(
            "icmp.payload_bytes",
            icmp.payload_bytes,
            limits::ICMP_PAYLOAD_BYTES_MIN,
            limits::ICMP_PAYLOAD_BYTES,
        )?;
        let dscp = ProtoError::check_span("icmp.dscp", icmp.dscp, 0, limits::DSCP_MAX)?;
        let hop_limit = ProtoError::check_span("icmp.hop_limit", icmp.hop_limit, 0, 255)?;
        let probe = Self {
            packets: narrow("icmp.packets", packets)?,
            packet_interval: if icmp.steady {
                interval / packets
            } else {
                Duration::from_millis(icmp.packet_interval_ms.into())
            },
            steady: icmp.steady,
            payload_bytes: narrow("icmp.payload_bytes", payload)?,
            dscp: u8::try_from(dscp).unwrap_or_default(),
            dont_fragment: icmp.dont_fragment,
            hop_limit: u8::try_from(hop_limit).ok().filter(|limit| *limit > 0),
            source: read_source(&icmp.source_address, family)?,
            interface: device_name("icmp.interface", icmp.interface.clone())?,
            histogram: icmp.histogram,
        };
        probe.check_pace(icmp.packet_interval_ms, timeout)?;
        Ok(probe)
    }

    fn check_pace(&self, packet_interval_ms: u32, timeout: Duration) -> Result<(), ProtoError> {
        let invalid = |field, rule| Err(ProtoError::Invalid { field, rule });
        if self.steady {
            if packet_interval_ms != 0 {
                return invalid(
                    "icmp.packet_interval_ms",
                    "must be 0 in a train: the interval of the check gives it",
                );
            }
            if timeout >= self.packet_interval {
                return invalid(
                    "icmp.steady",
                    "the timeout must be shorter than the interval of the check divided by its requests",
                );
            }
        }
        if self.packets > 1 && self.packet_interval < Duration::from_millis(1) {
            return invalid(
                "icmp.packet_interval_ms",
                "packets may not leave all at once",
            );
        }
        if !self.steady && self.packets > 1 && self.sending_time() >= timeout {
            return invalid(
                "icmp.packet_interval_ms",
                "the last packet must leave before the timeout of the check",
            );
        }
        Ok(())
    }
}

fn read_source(text: &str, family: Family) -> Result<Option<IpAddr>, ProtoError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .ok()
        .filter(|source: &IpAddr| Family::of(*source) == family && !source.is_unspecified())
        .map(Some)
        .ok_or(ProtoError::Invalid {
            field: "icmp.source_address",
            rule: "must be an address of the check's family",
        })
}

impl From<&IcmpProbe> for wire::IcmpProbe {
    fn from(icmp: &IcmpProbe) -> Self {
        let gap_ms = u32::try_from(icmp.packet_interval.as_millis()).unwrap_or(u32::MAX);
        Self {
            packets: icmp.packets.into(),
            packet_interval_ms: if icmp.steady { 0 } else { gap_ms },
            payload_bytes: icmp.payload_bytes.into(),
            dscp: icmp.dscp.into(),
            dont_fragment: icmp.dont_fragment,
            source_address: icmp.source.map_or_else(String::new, |ip| ip.to_string()),
            interface: icmp.interface.clone(),
            steady: icmp.steady,
            histogram: icmp.histogram,
            hop_limit: icmp.hop_limit.map_or(0, u32::from),
        }
    }
}
