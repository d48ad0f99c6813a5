//! Any bytes as a message of the collector: what an agent reads from the network, and from its disk (the last good
//! assignment).
#![no_main]

use extranet_proto::assignment::Assignment;
use extranet_proto::session::{CollectorMessage, MeasurementRequest};
use extranet_proto::wire;
use libfuzzer_sys::fuzz_target;
use prost::Message as _;

fuzz_target!(|bytes: &[u8]| {
    let Ok(message) = wire::CollectorMessage::decode(bytes) else {
        return;
    };
    let message = match CollectorMessage::try_from(message) {
        Ok(message) => message,
        Err(error) => {
            let _text = error.to_string();
            return;
        }
    };
    match &message {
        CollectorMessage::Assignment(message) => assignment(message),
        CollectorMessage::MeasurementRequest(message) => measurement_request(message),
        CollectorMessage::Welcome(_)
        | CollectorMessage::Ack(_)
        | CollectorMessage::Wait(_)
        | CollectorMessage::Unknown => {}
    }
    let written = wire::CollectorMessage::from(message.clone()).encode_to_vec();
    let read = wire::CollectorMessage::decode(written.as_slice()).expect("was just written");
    assert_eq!(
        CollectorMessage::try_from(read),
        Ok(message),
        "written and read"
    );
});

fn assignment(message: &wire::Assignment) {
    let Ok((valid, problems)) = Assignment::from_wire(message.clone()) else {
        return;
    };
    assert_eq!(
        valid.checks.len() + problems.len(),
        message.checks.len(),
        "no check gets lost"
    );
    for problem in problems {
        let _text = problem.to_string();
    }
    let again = Assignment::try_from(wire::Assignment::from(&valid));
    assert_eq!(again, Ok(valid), "written and read");
}

fn measurement_request(message: &wire::MeasurementRequest) {
    if let Ok(valid) = MeasurementRequest::try_from(message.clone()) {
        let again = MeasurementRequest::try_from(wire::MeasurementRequest::from(valid.clone()));
        assert_eq!(again, Ok(valid), "written and read");
    }
}
