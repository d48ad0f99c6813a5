//! The Internet checksum (RFC 1071).

/// One's complement of the one's complement sum of all 16-bit words; an odd last byte is padded with zero.
///
/// Over a packet that contains its own right checksum the result is 0.
pub fn internet_checksum(bytes: &[u8]) -> u16 {
    let (words, rest) = bytes.as_chunks::<2>();
    let mut sum: u64 = words
        .iter()
        .map(|word| u64::from(u16::from_be_bytes(*word)))
        .sum();
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    // 65,535 bytes sum to less than 2^32: three folds bring any such sum below 2^16, the loop needs no bound.
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    #[expect(clippy::cast_possible_truncation, reason = "folded to 16 bits above")]
    let folded = sum as u16;
    !folded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(internet_checksum(&bytes), !0xddf2);
    }

    #[test]
    fn odd_lengths_are_padded_and_nothing_sums_to_nothing() {
        assert_eq!(internet_checksum(&[0x12]), !0x1200);
        assert_eq!(internet_checksum(&[]), 0xffff);
        assert_eq!(internet_checksum(&vec![0xff; 65_535]), 0x00ff);
    }
}
