//! Any bytes as a packet that an ICMP socket delivers. The first byte says which kind of socket.
#![no_main]

use extranet_agent::packet::{icmp, ipv4, trouble};
use extranet_proto::assignment::Family;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((socket, packet)) = bytes.split_first() else {
        return;
    };
    let family = if socket & 1 == 0 {
        Family::V4
    } else {
        Family::V6
    };
    let verify_checksum = socket & 2 != 0;
    message(family, packet, verify_checksum);
    if let Some(inner) = ipv4::parse(packet) {
        assert!(inner.payload.len() + 20 <= packet.len());
        message(Family::V4, inner.payload, verify_checksum);
    }
    if let Some(echo) = icmp::parse_quoted(family, packet) {
        assert_eq!(echo.payload.len() + icmp::HEADER_BYTES, packet.len());
    }
});

fn message(family: Family, packet: &[u8], verify_checksum: bool) {
    match icmp::parse(family, packet, verify_checksum) {
        Ok(icmp::Message::Request(echo) | icmp::Message::Reply(echo)) => {
            assert_eq!(echo.payload, &packet[icmp::HEADER_BYTES..]);
            let mut again = Vec::new();
            icmp::build_request(family, &echo, &mut again);
            let read = icmp::parse(family, &again, family == Family::V4);
            assert_eq!(read, Ok(icmp::Message::Request(echo)), "built and read");
        }
        Ok(icmp::Message::Other { kind, code }) => {
            let _reason = trouble::reason(family, kind, code);
        }
        Err(icmp::ParseError::Truncated(len)) => assert!(len < icmp::HEADER_BYTES),
        Err(icmp::ParseError::Checksum) => assert!(verify_checksum),
    }
}
