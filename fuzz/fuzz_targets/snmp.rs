//! What SNMP devices send: answers to a scrape, notifications; and the files that modules are.
#![no_main]

use extranet_agent::probe::snmp::module::{Module, NAMES};
use extranet_agent::probe::snmp::replay::replay;
use extranet_agent::probe::snmp::trap;
use extranet_proto::assignment::SnmpCredential;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    match kind % 3 {
        0 => {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let name = NAMES[usize::from(*kind) / 3 % NAMES.len()];
            drop(runtime.map(|runtime| runtime.block_on(replay(name, rest))));
        }
        1 => {
            let community = SnmpCredential::V2c {
                community: "public".to_owned(),
            };
            let user = SnmpCredential::V3 {
                user: "u".to_owned(),
                auth: None,
                privacy: None,
                context: String::new(),
            };
            let (text, answer) = trap::read(rest, &[community, user]);
            if let Some(text) = text {
                assert!(text.len() <= extranet_proto::limits::EVENT_TEXT_BYTES);
            }
            assert!(answer.is_none_or(|answer| answer.len() <= 70_000));
        }
        _ => {
            if let Ok(text) = std::str::from_utf8(rest) {
                drop(Module::parse("fuzz", text));
            }
        }
    }
});
