//! A datagram of ours that was changed on the way, or any bytes, as what came back from an echo server.
#![no_main]

use extranet_agent::packet::udp_echo::{self, Echo, HEAD_BYTES};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: ([u8; 8], u32, u8, Vec<(u8, u8)>, &[u8])| {
    let (nonce, index, more, flips, bytes) = input;
    let len = HEAD_BYTES + usize::from(more);
    let _whatever = udp_echo::read(nonce, len, bytes);
    let mut datagram = Vec::new();
    udp_echo::build(nonce, index, len, &mut datagram);
    assert_eq!(datagram.len(), len);
    let sent = datagram.clone();
    assert_eq!(udp_echo::read(nonce, len, &sent), Echo::Whole(index));
    for (at, bits) in flips {
        if let Some(byte) = datagram.get_mut(usize::from(at)) {
            *byte ^= bits;
        }
    }
    datagram.extend_from_slice(bytes);
    if let Echo::Whole(found) = udp_echo::read(nonce, len, &datagram) {
        // Only a datagram that was made just so is whole.
        let mut same = Vec::new();
        udp_echo::build(nonce, found, len, &mut same);
        assert_eq!(same, datagram);
    }
});
