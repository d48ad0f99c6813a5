//! Any bytes as an answer of the kernel's routing netlink, and as news of it that come unasked.
#![no_main]

use extranet_agent::packet::rtnetlink::segment::{News, news};
use extranet_agent::packet::rtnetlink::{Entry, entries};
use libfuzzer_sys::fuzz_target;

/// Of the request that is answered.
const SEQUENCE: u32 = 7;

fuzz_target!(|bytes: &[u8]| {
    let found = entries(bytes, SEQUENCE);
    // The least that says something is a next hop of eight bytes.
    assert!(found.len() <= bytes.len() / 8);
    for entry in &found {
        if let Entry::Link(link) = entry {
            // A byte that is no UTF-8 becomes a character of three.
            assert!(link.name.len() <= 3 * bytes.len());
        }
    }
    let unasked = news(bytes, None);
    assert!(unasked.len() <= bytes.len() / 8);
    let answers = news(bytes, Some(SEQUENCE));
    assert!(answers.len() <= unasked.len());
    for one in &unasked {
        if let News::Neighbour(neighbour) = one {
            let _text = neighbour.mac.map(|mac| mac.to_string());
        }
    }
});
