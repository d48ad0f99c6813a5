//! Any bytes as a block of records.
#![no_main]

use extranet_proto::block;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let count = block::count(bytes);
    let Ok(records) = block::decode(bytes) else {
        return;
    };
    assert_eq!(count, Ok(records.len()), "the header says how many");
    let again = block::encode(&records);
    assert_eq!(block::count(&again), Ok(records.len()));
    assert_eq!(block::decode(&again), Ok(records), "packed and unpacked");
});
