//! Any bytes as what came back from a time server, with a request that was or was not answered by them.
#![no_main]

use extranet_agent::packet::ntp::{self, NoAnswer, PACKET_BYTES, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (i64, i64, &[u8])| {
    let (sent_ns, received_ns, bytes) = input;
    match ntp::parse(bytes) {
        Ok(answer) => {
            assert!(bytes.len() >= PACKET_BYTES);
            assert!(answer.leap <= 3 && (3..=7).contains(&answer.version));
            let sent = Timestamp::from_unix_ns(sent_ns);
            let received = Timestamp::from_unix_ns(received_ns);
            let (_offset, _delay) = answer.offset_and_delay_us(sent, received);
            let _set = answer.reference.unix_s_near(received_ns);
            let _unsynchronised = answer.is_unsynchronised();
            assert!(ntp::short_us(answer.root_delay) < 65_536 * 1_000_000);
            assert!(ntp::short_us(answer.root_dispersion) < 65_536 * 1_000_000);
        }
        Err(NoAnswer::Short) => assert!(bytes.len() < PACKET_BYTES),
        Err(NoAnswer::OtherMode) => {}
    }
    let request = ntp::request(4, Timestamp(1));
    assert_eq!(ntp::parse(&request), Err(NoAnswer::OtherMode), "an echo");
});
