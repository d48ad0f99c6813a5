//! What a packet of a trace carries so that it is known again, without changing by what routers tell flows apart.
//!
//! ```text
//!  0..2     2..4      4..16            16..
//! +-------+---------+----------------+----------------+
//! | index | balance | nonce of a run | 16, 17, .. 255 |
//! +-------+---------+----------------+----------------+
//! ```
//!
//! Routers that share load between several ways choose by the flow: addresses, protocol, ports, and some by the first
//! four bytes behind the header of IP whatever they are, which in ICMP include the checksum. A trace whose packets
//! differ there shows a path that no packet ever took (Augustin et al., "Avoiding traceroute anomalies with Paris
//! traceroute", 2006). Here the balance makes up for everything that differs, so that all packets of one length have
//! one checksum.

use super::checksum::internet_checksum;

/// Bytes of the mark; shorter payloads cannot carry it.
pub const MARK_BYTES: usize = 16;

/// The nonce of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub [u8; 12]);

/// What a payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recognised {
    /// A packet of this run, by its index.
    Ours(u16),
    /// A whole mark, but not of this run.
    Foreign,
    /// Cut off before the mark ends: routers need not quote more than eight bytes (RFC 792).
    TooShort,
}

impl Mark {
    /// The payload of a packet, `bytes` long but at least a mark.
    ///
    /// `header_sum` is the sum of those 16-bit words outside of the payload that differ between the packets of a run
    /// and that the checksum covers: the sequence number of ICMP, lengths.
    pub fn write(self, index: u16, header_sum: u16, bytes: usize, payload: &mut Vec<u8>) {
        payload.clear();
        payload.extend_from_slice(&index.to_be_bytes());
        payload.extend_from_slice(&header_sum.to_be_bytes());
        payload.extend_from_slice(&self.0);
        let filling = (0..=u8::MAX).cycle().skip(MARK_BYTES);
        payload.extend(filling.take(bytes.saturating_sub(MARK_BYTES)));
        // In place of the header's words the complement of the sum of all: together they give the same for every packet.
        let balance = internet_checksum(payload);
        if let Some(field) = payload.get_mut(2..4) {
            field.copy_from_slice(&balance.to_be_bytes());
        }
    }

    /// Reads the mark at the start of a payload.
    pub fn recognise(self, payload: &[u8]) -> Recognised {
        let Some(([index_high, index_low, _, _, nonce @ ..], _)) =
            payload.split_first_chunk::<MARK_BYTES>()
        else {
            return Recognised::TooShort;
        };
        if *nonce == self.0 {
            Recognised::Ours(u16::from_be_bytes([*index_high, *index_low]))
        } else {
            Recognised::Foreign
        }
    }
}

/// The sum of two words as the Internet checksum adds them (RFC 1071).
pub const fn add_words(one: u16, other: u16) -> u16 {
    let (sum, carry) = one.overflowing_add(other);
    if carry { sum + 1 } else { sum }
}

#[cfg(test)]
mod tests {
    use extranet_proto::assignment::Family;

    use super::*;
    use crate::packet::icmp::{Echo, build_request};

    const MARK: Mark = Mark(*b"twelve bytes");

    #[test]
    fn every_echo_request_of_a_run_has_the_same_first_four_bytes() {
        for bytes in [16, 17, 32, 1_200] {
            let (mut payload, mut packet) = (Vec::new(), Vec::new());
            let mut starts = std::collections::BTreeSet::new();
            for index in [0, 1, 255, 256, 0x7fff, 0xfffe, 0xffff] {
                MARK.write(index, index, bytes, &mut payload);
                let echo = Echo {
                    identifier: 61_001,
                    sequence: index,
                    payload: &payload,
                };
                build_request(Family::V4, &echo, &mut packet);
                assert_eq!(packet.len(), bytes + 8);
                starts.insert(packet[..4].to_vec());
                assert_eq!(MARK.recognise(&payload), Recognised::Ours(index));
            }
            assert_eq!(starts.len(), 1, "{starts:?}");
        }
    }

    #[test]
    fn every_length_can_be_balanced_too() {
        let checksum = |length: u16| {
            let mut payload = Vec::new();
            // UDP: its own length and that of the pseudo-header (RFC 768).
            let header = add_words(length + 8, length + 8);
            MARK.write(7, header, length.into(), &mut payload);
            if payload.len() % 2 == 1 {
                payload.push(0);
            }
            payload.extend_from_slice(&header.to_be_bytes());
            internet_checksum(&payload)
        };
        let lengths = [16, 17, 100, 1_272, 1_472, 8_972, 60_000];
        assert!(
            lengths
                .map(checksum)
                .windows(2)
                .all(|pair| pair[0] == pair[1])
        );
    }

    #[test]
    fn only_what_a_run_wrote_is_its_own() {
        let mut payload = Vec::new();
        MARK.write(77, 77, 32, &mut payload);
        assert_eq!(MARK.recognise(&payload[..16]), Recognised::Ours(77));
        assert_eq!(MARK.recognise(&payload[..15]), Recognised::TooShort);
        assert_eq!(MARK.recognise(&[]), Recognised::TooShort);
        assert_eq!(Mark([0; 12]).recognise(&payload), Recognised::Foreign);
    }

    #[test]
    fn words_are_added_with_their_carry() {
        assert_eq!(add_words(0xffff, 1), 1);
        assert_eq!(add_words(0x8000, 0x8000), 1);
        assert_eq!(add_words(1, 2), 3);
    }
}
