//! The datagrams of a UDP echo check, which the target sends back as they are (RFC 862):
//!
//! ```text
//! 0        nonce of the run (8 bytes)
//! 8        "extr"
//! 12       index of the datagram, big endian
//! 16       filling, made of nonce and index, so that an altered byte anywhere is noticed
//! ```

/// Bytes of nonce, mark and index.
pub const HEAD_BYTES: usize = 16;
/// Told apart from whatever else a broken server may send.
const MARK: [u8; 4] = *b"extr";

/// What came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Echo {
    /// The datagram of this index, as it was sent.
    Whole(u32),
    /// The datagram of this index, but longer, shorter or with other bytes.
    Altered(u32),
    /// None of this run's datagrams.
    Foreign,
}

/// Writes a datagram of `len` bytes, at least [`HEAD_BYTES`].
pub fn build(nonce: [u8; 8], index: u32, len: usize, datagram: &mut Vec<u8>) {
    datagram.clear();
    datagram.extend_from_slice(&nonce);
    datagram.extend_from_slice(&MARK);
    datagram.extend_from_slice(&index.to_be_bytes());
    let filling = filling(nonce, index);
    datagram.extend(filling.take(len.saturating_sub(HEAD_BYTES)));
}

/// Reads what came back of a run with datagrams of `len` bytes.
pub fn read(nonce: [u8; 8], len: usize, datagram: &[u8]) -> Echo {
    let Some(index) = index(nonce, datagram) else {
        return Echo::Foreign;
    };
    let rest = datagram.get(HEAD_BYTES..).unwrap_or_default();
    let whole = datagram.len() == len
        && rest
            .iter()
            .copied()
            .eq(filling(nonce, index).take(rest.len()));
    if whole {
        Echo::Whole(index)
    } else {
        Echo::Altered(index)
    }
}

/// The index in the head of a datagram; all that an ICMP error may quote.
pub fn index(nonce: [u8; 8], datagram: &[u8]) -> Option<u32> {
    let (head, _) = datagram.split_first_chunk::<HEAD_BYTES>()?;
    let (found, rest) = head.split_first_chunk::<8>()?;
    let (mark, index) = rest.split_first_chunk::<4>()?;
    if *found != nonce || *mark != MARK {
        return None;
    }
    Some(u32::from_be_bytes(index.try_into().ok()?))
}

/// Without end: bytes of a linear congruential generator, which hold no zeroes and no patterns that a link compresses.
fn filling(nonce: [u8; 8], index: u32) -> impl Iterator<Item = u8> {
    let mut state = u64::from_be_bytes(nonce) ^ u64::from(index);
    std::iter::repeat_with(move || {
        // Constants of Knuth's MMIX.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: [u8; 8] = *b"12345678";

    fn built(index: u32, len: usize) -> Vec<u8> {
        let mut datagram = Vec::new();
        build(NONCE, index, len, &mut datagram);
        assert_eq!(datagram.len(), len);
        datagram
    }

    #[test]
    fn what_comes_back_whole_is_told_from_what_does_not() {
        for len in [16, 17, 56, 1_400] {
            let sent = built(7, len);
            assert_eq!(read(NONCE, len, &sent), Echo::Whole(7));
            assert_eq!(read(*b"another!", len, &sent), Echo::Foreign);
            for at in 0..len {
                let mut altered = sent.clone();
                altered[at] ^= 1;
                let found = read(NONCE, len, &altered);
                match at {
                    0..12 => assert_eq!(found, Echo::Foreign, "byte {at}"),
                    // An index that another datagram has, with this one's filling.
                    12..16 if len == 16 => assert!(matches!(found, Echo::Whole(_))),
                    12..16 => assert!(matches!(found, Echo::Altered(_)), "byte {at}"),
                    _ => assert_eq!(found, Echo::Altered(7), "byte {at}"),
                }
            }
            let longer = [&sent[..], b"x"].concat();
            assert_eq!(read(NONCE, len, &longer), Echo::Altered(7));
        }
        assert_eq!(read(NONCE, 56, &built(7, 16)), Echo::Altered(7));
        assert_eq!(read(NONCE, 56, b"short"), Echo::Foreign);
        assert_eq!(index(NONCE, &built(9, 56)[..28]), Some(9));
    }
}
