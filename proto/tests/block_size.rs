//! Bytes for a value, on workloads that never change: a change of the encoding that costs bytes must be on purpose.
//! `cargo test -p extranet-proto --test block_size -- --nocapture` prints the figures.

#[path = "shared/workload.rs"]
mod workload;

use extranet_proto::block;
use extranet_proto::record::Record;
use workload::{FIBRE_RTT_US, SATELLITE_RTT_US};

/// Encodes, checks that nothing was lost, and returns bytes for each 1,000 values with a line that says so.
fn bytes_for_1000_values(name: &str, records: &[Record]) -> (usize, String) {
    let block = block::encode(records);
    assert_eq!(block::decode(&block).as_deref(), Ok(records), "{name}");
    assert_eq!(block::count(&block), Ok(records.len()), "{name}");
    let values = workload::value_count(records);
    let milli = block.len() * 1000 / values;
    let line = format!(
        "{name}: {} records, {values} values, {} bytes, {}.{:03} bytes for a value",
        records.len(),
        block.len(),
        milli / 1000,
        milli % 1000
    );
    (milli, line)
}

#[test]
fn blocks_are_as_small_as_promised() {
    let live_fibre = workload::live_batch(FIBRE_RTT_US);
    let live_satellite = workload::live_batch(SATELLITE_RTT_US);
    let switch_live = &workload::sealed_block(1)[48..];
    let village = workload::village_block(15, FIBRE_RTT_US);
    let village_day = workload::village_block(1440, FIBRE_RTT_US);
    let village_satellite = workload::village_block(15, SATELLITE_RTT_US);
    let sealed = workload::sealed_block(15);
    let table: [(&str, &[Record], usize); 7] = [
        ("live batch, village, fibre", &live_fibre, 2_200),
        ("live batch, village, satellite", &live_satellite, 2_550),
        ("live batch, village and switch", switch_live, 1_250),
        ("15 rounds, village, fibre", &village, 1_100),
        ("15 rounds, village, satellite", &village_satellite, 1_700),
        ("a day, village, fibre", &village_day, 850),
        ("15 rounds, village and switch", &sealed, 600),
    ];
    for (name, records, limit) in table {
        let (milli, line) = bytes_for_1000_values(name, records);
        println!("{line}");
        assert!(milli <= limit, "{name}: {milli} bytes for 1,000 values");
    }
}
