//! The nonce in the payload: which packet of ours a reply answers, and that it is ours at all.
//!
//! ```text
//!  0..8        8..16                16..
//! +-----------+--------------------+---------------------------+
//! | packet id | keyed hash of it   | 16, 17, .. 255, 0, 1, ..  |
//! +-----------+--------------------+---------------------------+
//! ```
//!
//! The identifier of the ICMP header is not enough: raw sockets see the replies to other processes, and two processes
//! may use one identifier (evidence: such a reply was taken for our own, with a wrong round trip). The hash needs no
//! memory of what was sent, so a reply that arrives long after its run is still known as ours, and counted as late.

#[expect(
    deprecated,
    reason = "its successor may change from one compiler to the next; this one is SipHash-2-4 by its documentation"
)]
use std::hash::SipHasher;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// Bytes of the token at the start of the payload; the contract asks for at least as much payload.
pub(super) const TOKEN_BYTES: usize = 16;

/// Makes and recognises tokens; keyed anew for each socket.
#[derive(Debug)]
pub(super) struct Tokens {
    key: [u64; 2],
}

/// What a payload says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recognised {
    /// A packet of ours, by its id.
    Ours(u64),
    /// A whole token, but not of ours.
    Foreign,
    /// Cut off before the token ends: an error message may quote so little.
    TooShort,
}

impl Tokens {
    /// With a random key.
    pub(super) fn new() -> Self {
        let random = RandomState::new();
        Self::with_key([random.hash_one(0_u8), random.hash_one(1_u8)])
    }

    /// With a key that is known, so that what was recorded is recognised again.
    pub(super) const fn with_key(key: [u64; 2]) -> Self {
        Self { key }
    }

    /// 16 bits that stay the same, for the identifier of raw sockets.
    pub(super) fn identifier(&self) -> u16 {
        let [.., high, low] = self.hash(u64::MAX).to_be_bytes();
        u16::from_be_bytes([high, low])
    }

    /// Short, and out of reach of whoever has not seen the packet.
    #[expect(deprecated, reason = "see the import")]
    fn hash(&self, id: u64) -> u64 {
        let [one, other] = self.key;
        let mut hasher = SipHasher::new_with_keys(one, other);
        hasher.write(&id.to_be_bytes());
        hasher.finish()
    }

    /// The payload of a packet, `bytes` long but at least a token.
    pub(super) fn write(&self, id: u64, bytes: usize, payload: &mut Vec<u8>) {
        payload.clear();
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&self.hash(id).to_be_bytes());
        payload.extend(filling().take(bytes.saturating_sub(TOKEN_BYTES)));
    }

    /// Reads the token at the start of a payload.
    pub(super) fn recognise(&self, payload: &[u8]) -> Recognised {
        let (chunks, _) = payload.as_chunks::<8>();
        let [id, hash, ..] = chunks else {
            return Recognised::TooShort;
        };
        let id = u64::from_be_bytes(*id);
        if self.hash(id) == u64::from_be_bytes(*hash) {
            Recognised::Ours(id)
        } else {
            Recognised::Foreign
        }
    }
}

/// Whether a payload that was recognised came back as it was sent: `bytes` long, the filling unchanged.
pub(super) fn came_back_whole(payload: &[u8], bytes: usize) -> bool {
    payload.len() == bytes.max(TOKEN_BYTES)
        && payload
            .iter()
            .skip(TOKEN_BYTES)
            .copied()
            .eq(filling().take(payload.len() - TOKEN_BYTES))
}

/// What follows the token, like ping does it: each byte is its own position.
fn filling() -> impl Iterator<Item = u8> {
    (0..=u8::MAX).cycle().skip(TOKEN_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_we_wrote_is_ours() {
        let tokens = Tokens::new();
        let mut payload = Vec::new();
        tokens.write(77, 56, &mut payload);
        assert_eq!(payload.len(), 56);
        assert_eq!(payload[16..20], [16, 17, 18, 19]);
        assert_eq!(tokens.recognise(&payload), Recognised::Ours(77));
        assert_eq!(tokens.recognise(&payload[..16]), Recognised::Ours(77));
        assert_eq!(tokens.recognise(&payload[..15]), Recognised::TooShort);
        assert_eq!(Tokens::new().recognise(&payload), Recognised::Foreign);
        for bit in 0..TOKEN_BYTES * 8 {
            let mut changed = payload.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(tokens.recognise(&changed), Recognised::Foreign, "bit {bit}");
        }
    }

    #[test]
    fn a_changed_or_cut_filling_is_seen() {
        let tokens = Tokens::new();
        let mut payload = Vec::new();
        tokens.write(1, 600, &mut payload);
        assert!(came_back_whole(&payload, 600));
        assert!(!came_back_whole(&payload[..599], 600));
        payload[599] ^= 1;
        assert!(!came_back_whole(&payload, 600));
    }

    #[test]
    fn a_payload_is_at_least_a_token() {
        let mut payload = Vec::new();
        Tokens::new().write(1, 0, &mut payload);
        assert_eq!(payload.len(), TOKEN_BYTES);
        assert!(came_back_whole(&payload, 0));
    }
}
