//! Any bytes as a message of the sensor: what the agent reads from a process that may have been taken over.
#![no_main]

use extranet_agent::packet::router_advert::{NAME_SERVERS, PREFIXES};
use extranet_agent::sensor::message::{MESSAGE_BYTES, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    assert!(bytes.len() <= MESSAGE_BYTES);
    match &message {
        Message::Advert(received) => {
            assert!(received.source.is_unicast_link_local());
            assert!(received.advert.prefixes.len() <= PREFIXES);
            assert!(received.advert.name_servers.len() <= NAME_SERVERS);
        }
        Message::Hello { release } => assert!(release.len() <= bytes.len()),
        Message::Counts(counts) => assert!(counts.len() <= bytes.len()),
    }
    assert_eq!(
        Message::decode(&message.encode()),
        Ok(message),
        "written and read"
    );
});
