//! The IPv4 header (RFC 791) that a raw socket puts in front of what it delivers.

/// What is behind the header, and what of the header matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Packet<'a> {
    /// Time to live as received.
    pub ttl: u8,
    /// Protocol number of the payload; 1 = ICMP.
    pub protocol: u8,
    /// The payload, options skipped.
    pub payload: &'a [u8],
}

/// Reads a packet as a raw socket delivers it: already reassembled and its header checksum verified by the kernel.
///
/// `None` if the bytes are no IPv4 packet or end before their header does. The length is that of `bytes`: the kernel
/// has cut off any padding of the link.
pub fn parse(bytes: &[u8]) -> Option<Ipv4Packet<'_>> {
    let version_and_length = *bytes.first()?;
    if version_and_length >> 4 != 4 {
        return None;
    }
    let header_bytes = usize::from(version_and_length & 0x0f) * 4;
    if header_bytes < 20 {
        return None;
    }
    let (header, payload) = bytes.split_at_checked(header_bytes)?;
    Some(Ipv4Packet {
        ttl: *header.get(8)?,
        protocol: *header.get(9)?,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(words: u8) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(words) * 4];
        bytes[0] = 0x40 | words;
        bytes[8] = 64;
        bytes[9] = 1;
        bytes
    }

    #[test]
    fn options_are_skipped() {
        for words in 5..=15 {
            let mut bytes = header(words);
            bytes.extend_from_slice(b"rest");
            let packet = parse(&bytes).unwrap();
            assert_eq!((packet.ttl, packet.protocol), (64, 1));
            assert_eq!(packet.payload, b"rest");
        }
    }

    #[test]
    fn what_is_no_ipv4_packet_is_refused() {
        assert_eq!(parse(&[]), None);
        assert_eq!(parse(&[0x60; 40]), None, "version 6");
        assert_eq!(parse(&[0x44; 40]), None, "a header of 16 bytes");
        let whole = header(6);
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "cut at {end}");
        }
    }
}
