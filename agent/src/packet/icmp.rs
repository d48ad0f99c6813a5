//! ICMP echo (RFC 792, RFC 4443 section 4): requests built, replies and quoted requests parsed.
//!
//! ```text
//!  0      1      2..4       4..6         6..8       8..
//! +------+------+----------+------------+----------+---------+
//! | type | code | checksum | identifier | sequence | payload |
//! +------+------+----------+------------+----------+---------+
//! ```

use extranet_proto::assignment::Family;

use super::checksum::internet_checksum;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 8;

/// Type numbers of echo request and reply.
const fn echo_types(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (8, 0),
        Family::V6 => (128, 129),
    }
}

/// An echo request or reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Echo<'a> {
    /// Which process asked; the kernel sets it on datagram sockets.
    pub identifier: u16,
    /// Which of its requests.
    pub sequence: u16,
    /// Returned unchanged by the target.
    pub payload: &'a [u8],
}

/// What an ICMP message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// An echo request: a raw socket on loopback sees its own.
    Request(Echo<'a>),
    /// An echo reply.
    Reply(Echo<'a>),
    /// Anything else.
    Other {
        /// Type number.
        kind: u8,
        /// Code.
        code: u8,
    },
}

/// Why a message could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// It ends before its header does.
    #[error("an ICMP message of {0} bytes is too short")]
    Truncated(usize),
    /// Its checksum is wrong.
    #[error("the checksum of an ICMP message is wrong")]
    Checksum,
}

/// Writes an echo request over what `packet` held.
///
/// The checksum of ICMPv6 covers addresses that only the kernel knows: it fills it in (RFC 3542 section 3.1).
pub fn build_request(family: Family, echo: &Echo<'_>, packet: &mut Vec<u8>) {
    let (request, _) = echo_types(family);
    packet.clear();
    packet.extend_from_slice(&[request, 0, 0, 0]);
    packet.extend_from_slice(&echo.identifier.to_be_bytes());
    packet.extend_from_slice(&echo.sequence.to_be_bytes());
    packet.extend_from_slice(echo.payload);
    if family == Family::V4 {
        let checksum = internet_checksum(packet);
        if let Some(field) = packet.get_mut(2..4) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
    }
}

/// Reads a received message.
///
/// `verify_checksum` is for raw IPv4 sockets only: in all other cases the kernel has already dropped what is damaged
/// (and an ICMPv6 checksum cannot be checked here, see [`build_request`]).
pub fn parse(
    family: Family,
    bytes: &[u8],
    verify_checksum: bool,
) -> Result<Message<'_>, ParseError> {
    let [
        kind,
        code,
        _,
        _,
        id_high,
        id_low,
        seq_high,
        seq_low,
        payload @ ..,
    ] = bytes
    else {
        return Err(ParseError::Truncated(bytes.len()));
    };
    if verify_checksum && internet_checksum(bytes) != 0 {
        return Err(ParseError::Checksum);
    }
    let echo = Echo {
        identifier: u16::from_be_bytes([*id_high, *id_low]),
        sequence: u16::from_be_bytes([*seq_high, *seq_low]),
        payload,
    };
    let (request, reply) = echo_types(family);
    Ok(match (*kind, *code) {
        (kind, 0) if kind == request => Message::Request(echo),
        (kind, 0) if kind == reply => Message::Reply(echo),
        (kind, code) => Message::Other { kind, code },
    })
}

/// The echo request that an error message quotes. Old routers quote no more than its header (RFC 792 asks for 8 bytes
/// behind the IP header), so the payload may be cut at any byte. `None` if it is no echo request.
pub fn parse_quoted(family: Family, bytes: &[u8]) -> Option<Echo<'_>> {
    match parse(family, bytes, false) {
        Ok(Message::Request(echo)) => Some(echo),
        Ok(_) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

    fn request(family: Family, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0xee; 3];
        let echo = Echo {
            identifier: 0x1234,
            sequence: 0xfffe,
            payload,
        };
        build_request(family, &echo, &mut packet);
        packet
    }

    #[test]
    fn a_request_has_the_bytes_of_the_rfc() {
        assert_eq!(
            request(Family::V4, &[0xab, 0xcd]),
            [8, 0, 0x39, 0xff, 0x12, 0x34, 0xff, 0xfe, 0xab, 0xcd]
        );
        assert_eq!(
            request(Family::V6, &[]),
            [128, 0, 0, 0, 0x12, 0x34, 0xff, 0xfe]
        );
    }

    #[test]
    fn one_flipped_bit_fails_the_checksum() {
        let packet = request(Family::V4, b"0123456789abcdef");
        assert!(parse(Family::V4, &packet, true).is_ok());
        for bit in 0..packet.len() * 8 {
            let mut damaged = packet.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                parse(Family::V4, &damaged, true),
                Err(ParseError::Checksum),
                "bit {bit}"
            );
        }
    }

    #[test]
    fn a_quoted_request_may_end_behind_its_header() {
        for family in FAMILIES {
            let packet = request(family, b"payload");
            for end in 0..packet.len() {
                let quoted = parse_quoted(family, &packet[..end]);
                if end < HEADER_BYTES {
                    assert_eq!(quoted, None, "cut at {end}");
                } else {
                    let echo = quoted.unwrap();
                    assert_eq!((echo.identifier, echo.sequence), (0x1234, 0xfffe));
                    assert_eq!(echo.payload, &packet[HEADER_BYTES..end]);
                }
            }
        }
    }

    #[test]
    fn a_nonzero_code_is_no_echo() {
        let mut packet = request(Family::V4, b"");
        packet[1] = 1;
        assert_eq!(
            parse(Family::V4, &packet, false),
            Ok(Message::Other { kind: 8, code: 1 })
        );
    }

    proptest! {
        #[test]
        fn what_is_built_is_parsed(
            identifier: u16,
            sequence: u16,
            payload in prop::collection::vec(any::<u8>(), 0..2_000),
        ) {
            for family in FAMILIES {
                let echo = Echo { identifier, sequence, payload: &payload };
                let mut packet = Vec::new();
                build_request(family, &echo, &mut packet);
                let parsed = parse(family, &packet, family == Family::V4);
                prop_assert_eq!(parsed, Ok(Message::Request(echo)));
            }
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..128)) {
            for family in FAMILIES {
                for verify in [false, true] {
                    let parsed = parse(family, &bytes, verify);
                    prop_assert_eq!(
                        matches!(parsed, Err(ParseError::Truncated(_))),
                        bytes.len() < HEADER_BYTES
                    );
                }
            }
        }
    }
}
