//! Append with and without syncs, and replay by a follower: the figures of docs/performance.md.

use std::hint::black_box;
use std::path::Path;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use extranet_journal::{Cursor, Journal, Now, Options, WhenFull};

const NOW: Now = Now {
    wall_ms: 1_790_000_000_000,
};
/// One result of a check in the spool takes about as much.
const RECORD_BYTES: usize = 100;
/// A live batch of an agent in the ingest log.
const BATCH_BYTES: usize = 1_000;
const RECORDS: u64 = 10_000;

fn open(folder: &Path) -> Journal {
    let options = Options {
        segment_bytes: 16 << 20,
        max_bytes: 1 << 30,
        max_age: None,
        keep_acknowledged: true,
        when_full: WhenFull::DropOldest,
    };
    Journal::open(folder, options, NOW)
        .expect("a folder of our own")
        .0
}

/// Appends the records of one iteration with a sync after every `per_sync` of them.
fn append(journal: &mut Journal, payload: &[u8], records: u64, per_sync: u64) {
    for n in 1..=records {
        journal
            .append(black_box(payload), NOW)
            .expect("the disk has room");
        if n % per_sync == 0 {
            journal.sync().expect("the disk has room");
        }
    }
}

fn appending(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, bytes, records, per_sync) in [
        ("100 B, no sync", RECORD_BYTES, RECORDS, u64::MAX),
        ("100 B, sync every 1,000", RECORD_BYTES, RECORDS, 1_000),
        ("100 B, sync every record", RECORD_BYTES, 20, 1),
        ("1,000 B, no sync", BATCH_BYTES, RECORDS, u64::MAX),
        ("1,000 B, sync every 100", BATCH_BYTES, RECORDS, 100),
    ] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut journal = open(folder.path());
        let payload = vec![7; bytes];
        group.throughput(Throughput::Elements(records));
        group.bench_function(name, |bencher| {
            bencher.iter(|| append(&mut journal, &payload, records, per_sync));
        });
    }
    group.finish();
}

fn replaying(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    for (name, bytes) in [("100 B", RECORD_BYTES), ("1,000 B", BATCH_BYTES)] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut journal = open(folder.path());
        append(&mut journal, &vec![7; bytes], RECORDS, RECORDS);
        group.throughput(Throughput::Elements(RECORDS));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut reader = journal.reader(Cursor::oldest());
                let mut seen = 0;
                while let Some(record) = reader.next().expect("undamaged") {
                    black_box(record);
                    seen += 1;
                }
                assert_eq!(seen, RECORDS);
            });
        });
    }
    group.finish();
}

/// Opening after a crash reads the last segment whole.
fn opening(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("open");
    let folder = tempfile::tempdir().expect("a temporary folder");
    append(
        &mut open(folder.path()),
        &[7; RECORD_BYTES],
        100_000,
        u64::MAX,
    );
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("100,000 records in the active segment", |bencher| {
        bencher.iter_batched(|| (), |()| open(folder.path()), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, appending, replaying, opening);
criterion_main!(benches);
