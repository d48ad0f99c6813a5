//! Any bytes as what came back from a name server; the first byte chooses the type that was asked for.
#![no_main]

use extranet_agent::packet::dns::{Answer, Query};
use extranet_proto::assignment::DnsType;
use extranet_proto::limits;
use libfuzzer_sys::fuzz_target;

const TYPES: [DnsType; 6] = [
    DnsType::A,
    DnsType::Aaaa,
    DnsType::Ns,
    DnsType::Soa,
    DnsType::Ptr,
    DnsType::Txt,
];

fuzz_target!(|bytes: &[u8]| {
    let Some((which, message)) = bytes.split_first() else {
        return;
    };
    let wanted = TYPES[usize::from(*which) % TYPES.len()];
    if let Some(answer) = Answer::read(message, wanted) {
        assert!(answer.found.len() <= limits::DNS_EXPECTED + 1);
        // A record has at least eleven bytes.
        let records: u64 = answer.counts.iter().sum();
        assert!(records * 11 <= message.len() as u64);
    }
    // With the id of the message, so that more than the id is compared.
    let id = match message {
        [high, low, ..] => u16::from_be_bytes([*high, *low]),
        _ => 0,
    };
    let query = Query::new(id, "portal.example", wanted, 1_232).expect("a name");
    if query.is_answered_by(message) {
        assert!(message.len() >= 12 && message[2] & 0x80 != 0);
    }
});
