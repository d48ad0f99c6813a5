//! Any bytes as a message of an agent: what a collector reads from the network.
#![no_main]

use extranet_proto::id::Incarnation;
use extranet_proto::session::AgentMessage;
use extranet_proto::{block, wire};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = wire::AgentMessage::decode(bytes) else {
        return;
    };
    let message = match AgentMessage::try_from(message) {
        Ok(message) => message,
        Err(error) => {
            let _text = error.to_string();
            return;
        }
    };
    // What a session does with it next.
    match &message {
        AgentMessage::Hello(hello) => {
            let _balances = hello.ledger.balances();
        }
        AgentMessage::Batch(batch) => {
            let range = batch.range(Incarnation(1));
            assert_eq!(
                range.to_exclusive - range.from_inclusive,
                batch.count as u64
            );
            if let Ok(records) = block::decode(&batch.block) {
                assert_eq!(records.len(), batch.count);
            }
            let _balances = batch
                .ledger
                .as_ref()
                .map(extranet_proto::session::Ledger::balances);
        }
        AgentMessage::AssignmentStatus(_)
        | AgentMessage::MeasurementAnswer(_)
        | AgentMessage::Unknown => {}
    }
    let written = wire::AgentMessage::from(message.clone()).encode_to_vec();
    let read = wire::AgentMessage::decode(written.as_slice()).expect("was just written");
    assert_eq!(
        AgentMessage::try_from(read),
        Ok(message),
        "written and read"
    );
});
