//! Any bytes as an answer of the kernel's routing netlink.
#![no_main]

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
});
