//! Checks below the application: TCP connect, UDP echo, NTP.

use std::net::IpAddr;
use std::time::Duration;

use extranet_agent::config::reader::Reader;
use extranet_proto::{limits, wire};

use super::application::{number, port};

/// Port of UDP echo (RFC 862).
const ECHO_PORT: u32 = 7;
/// Port of NTP: not shown in `instance`.
pub(super) const NTP_PORT: u32 = 123;

/// The keys of a TCP check; a port of 0 = the one of the target.
pub(super) fn read_tcp(reader: &mut Reader<'_>, families: &[u8]) -> wire::TcpProbe {
    wire::TcpProbe {
        port: port(reader).unwrap_or(0),
        source: source(reader, families),
    }
}

/// The keys of a UDP echo check.
pub(super) fn read_udp(
    reader: &mut Reader<'_>,
    families: &[u8],
    timeout: Duration,
) -> wire::UdpProbe {
    let packets = number(reader.integer("packets", 5, 1..=u64::from(limits::UDP_PACKETS)));
    let shortest = Duration::from_millis(1);
    let packet_interval = reader.duration(
        "packet_interval",
        Duration::from_millis(200),
        shortest..=Duration::from_mins(1),
    );
    if packet_interval.saturating_mul(packets.saturating_sub(1)) >= timeout {
        reader.problem(
            "packet_interval",
            "the last packet would be sent behind the timeout",
        );
    }
    let payload = u64::from(limits::UDP_PAYLOAD_BYTES_MIN)..=u64::from(limits::UDP_PAYLOAD_BYTES);
    wire::UdpProbe {
        port: port(reader).unwrap_or(ECHO_PORT),
        packets,
        packet_interval_ms: u32::try_from(packet_interval.as_millis()).unwrap_or(u32::MAX),
        payload_bytes: number(reader.integer("payload_bytes", 56, payload)),
        source: source(reader, families),
    }
}

/// The keys of an NTP check.
pub(super) fn read_ntp(reader: &mut Reader<'_>) -> wire::NtpProbe {
    wire::NtpProbe {
        port: port(reader).unwrap_or(NTP_PORT),
        version: number(reader.integer("version", 4, 3..=4)),
        tries: tries(reader),
    }
}

/// Twice, as resolvers do: what was sent is reported, so that a retry hides no loss.
pub(super) fn tries(reader: &mut Reader<'_>) -> u32 {
    number(reader.integer("tries", 2, 1..=u64::from(limits::TRIES)))
}

fn source(reader: &mut Reader<'_>, families: &[u8]) -> String {
    let source = reader.optional_string("source_address").unwrap_or_default();
    let family = match source.parse() {
        Ok(IpAddr::V4(_)) => Some(4),
        Ok(IpAddr::V6(_)) => Some(6),
        Err(_) => None,
    };
    if !source.is_empty() && !families.iter().all(|own| Some(*own) == family) {
        reader.problem(
            "source_address",
            "must be an address, and the only one of families its own",
        );
    }
    source
}
