//! Packing and unpacking: what an agent sends once a minute, and what it seals after 15 rounds.
//! `cargo bench -p extranet-proto`

#[path = "../tests/shared/workload.rs"]
#[expect(dead_code, reason = "shared with the tests, which use other parts")]
mod workload;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use extranet_proto::block;
use workload::FIBRE_RTT_US;

fn blocks(c: &mut Criterion) {
    let cases = [
        ("live-village", workload::live_batch(FIBRE_RTT_US)),
        (
            "15-rounds-village",
            workload::village_block(15, FIBRE_RTT_US),
        ),
        ("15-rounds-village-and-switch", workload::sealed_block(15)),
    ];
    for (name, records) in cases {
        let block = block::encode(&records);
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(workload::value_count(&records) as u64));
        group.bench_function("encode", |b| b.iter(|| block::encode(black_box(&records))));
        group.bench_function("decode", |b| b.iter(|| block::decode(black_box(&block))));
        group.finish();
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
