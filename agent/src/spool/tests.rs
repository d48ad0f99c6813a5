//! The spool with a real journal on a real disk, full ones included.

use std::ops::Range;
use std::path::PathBuf;

use extranet_proto::block;
use extranet_proto::id::{AssignmentVersion, CheckId, ObjectId};
use extranet_proto::metric;
use extranet_proto::record::{
    Body, CheckResult, Definition, DropReason, ObjectKind, Outcome, Reason, RecordTime, Value,
};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::*;

/// A configuration with its state in `folder` and a spool of the given size.
pub(crate) fn config_in(folder: &Path, max_bytes: u64) -> Config {
    let mut config = Config {
        state_dir: folder.to_owned(),
        ..Config::default()
    };
    config.spool.max_bytes = max_bytes;
    config.spool.sync_interval = Duration::from_millis(50);
    config
}

fn open(folder: &Path, max_bytes: u64) -> (Spool, Arc<Stats>) {
    let stats = Arc::new(Stats::new());
    let config = config_in(folder, max_bytes);
    let spool = Spool::open(&config, Clock::system(), Arc::clone(&stats)).unwrap();
    (spool, stats)
}

fn time(boottime_ms: u64) -> RecordTime {
    RecordTime {
        boottime_ms,
        wall_ms: 0,
    }
}

/// A result that does not pack well.
fn result(number: u64, values: u64) -> Record {
    // splitmix64
    let scrambled = |i: u64| {
        let z = (number * 1_000 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z ^ (z >> 27)
    };
    Record {
        time: time(number),
        body: Body::Result(CheckResult {
            assignment: AssignmentVersion(1),
            check: CheckId(1),
            outcome: Outcome::Ok,
            reason: Reason::None,
            duration_us: number,
            values: (0..values)
                .map(|i| Value {
                    metric: metric::IF_HC_IN_OCTETS,
                    object: ObjectId(u32::try_from(i).unwrap()),
                    raw: scrambled(i),
                })
                .collect(),
        }),
    }
}

fn definition(object: u32) -> Record {
    Record {
        time: time(0),
        body: Body::Definition(Definition {
            object: ObjectId(object),
            check: CheckId(1),
            kind: ObjectKind::Interface,
            labels: vec![("ifName".to_owned(), format!("eth{object}"))],
        }),
    }
}

/// Everything that is waiting, in order, by chunks of at most `max_block_bytes`.
async fn read_waiting(spool: &Spool, max_block_bytes: usize) -> Vec<(u64, Record)> {
    let mut all = Vec::new();
    for mut range in spool.snapshot().await.unwrap().waiting {
        while range.count() > 0 {
            let want = Want {
                range,
                max_records: 1_000,
                max_block_bytes,
            };
            let chunk = spool.read(want).await.unwrap().unwrap();
            let records = block::decode(&chunk.block).unwrap();
            assert!(chunk.block.len() <= max_block_bytes || records.len() == 1);
            assert_eq!(records.len() as u64, chunk.range.count());
            assert!(
                chunk.covered_to_exclusive > range.from_inclusive,
                "it gets on"
            );
            all.extend((chunk.range.from_inclusive..).zip(records));
            range.from_inclusive = chunk.covered_to_exclusive;
        }
    }
    all
}

#[tokio::test]
async fn what_is_appended_can_be_read_acknowledged_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, stats) = open(folder.path(), 1 << 24);
    let records: Vec<Record> = (0..500).map(|number| result(number, 8)).collect();
    for record in &records {
        spool.append(vec![record.clone()], false);
    }
    spool.append(Vec::new(), true);
    for max_block_bytes in [500, 4_096, 1 << 20] {
        let read = read_waiting(&spool, max_block_bytes).await;
        let expected: Vec<(u64, Record)> = (0..).zip(records.clone()).collect();
        assert_eq!(read, expected);
    }
    let tip = *spool.tip().borrow();
    assert_eq!((tip.next_sequence, tip.urgent, tip.drops), (500, 1, 0));
    let range = |from_inclusive, to_exclusive| IncarnationRange {
        incarnation: spool.incarnation(),
        from_inclusive,
        to_exclusive,
    };
    spool
        .settle(vec![range(0, 400)], vec![range(490, 500)])
        .await
        .unwrap();
    let snapshot = spool.snapshot().await.unwrap();
    assert_eq!(snapshot.waiting, [range(400, 490)]);
    assert_eq!(snapshot.ledger.acknowledged, 400);
    assert_eq!(snapshot.ledger.dropped[&DropReason::Refused], 10);
    assert!(snapshot.ledger.balances());
    assert_eq!(stats.uplink_acknowledged.get(), 400);
    spool.close().await.unwrap();
    assert_eq!(spool.ledger().await, Err(Closed));

    let (spool, _) = open(folder.path(), 1 << 24);
    let again = spool.snapshot().await.unwrap();
    assert_eq!(
        again.waiting,
        [IncarnationRange {
            ..range_of(&snapshot)
        }]
    );
    assert_eq!(again.next_sequence, 0, "a new incarnation counts from 0");
}

fn range_of(snapshot: &Snapshot) -> IncarnationRange {
    snapshot.waiting[0]
}

#[tokio::test]
async fn definitions_are_repeated_for_every_segment() {
    let folder = tempfile::tempdir().unwrap();
    let max_bytes = 4 << 20;
    let (spool, _) = open(folder.path(), max_bytes);
    spool.append(vec![definition(1), definition(2)], false);
    for number in 0..2_000 {
        spool.append(vec![result(number, 30)], false);
        // Never more than the queue holds.
        if number % 500 == 0 {
            spool.ledger().await.unwrap();
        }
    }
    let segment_bytes = usize::try_from(max_bytes / SEGMENTS).unwrap();
    let (mut bytes_since, mut repeated) = (0, 0);
    for (_, record) in read_waiting(&spool, 1 << 20).await {
        match &record.body {
            Body::Definition(definition) if definition.object.0 == 1 => {
                bytes_since = 0;
                repeated += 1;
            }
            Body::Definition(_) => {}
            _ => bytes_since += block::encode(&[record]).len(),
        }
        assert!(
            bytes_since <= segment_bytes,
            "a segment without definitions"
        );
    }
    assert!(repeated >= 4, "{repeated}");
}

#[tokio::test]
async fn a_full_spool_drops_the_oldest_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, stats) = open(folder.path(), 1 << 20);
    for number in 0..8_000 {
        spool.append(vec![result(number, 20)], false);
        if number % 500 == 0 {
            spool.ledger().await.unwrap();
        }
    }
    let snapshot = spool.snapshot().await.unwrap();
    let dropped = snapshot.ledger.dropped[&DropReason::SpoolBytes];
    assert!(dropped > 1_000, "{dropped}");
    assert!(snapshot.ledger.balances(), "{:?}", snapshot.ledger);
    assert!(spool.tip().borrow().drops > 0, "the uplink hears of it");
    let counted = stats
        .spool_dropped
        .get_or_create(&[("reason", "spool_bytes")])
        .get();
    assert_eq!(counted, dropped);

    let read = read_waiting(&spool, 1 << 20).await;
    let newest = read
        .iter()
        .rev()
        .find_map(|(_, record)| match &record.body {
            Body::Result(result) => Some(result.duration_us),
            _ => None,
        });
    assert_eq!(newest, Some(7_999), "the newest is kept");
    let told: Vec<Range<u64>> = read
        .iter()
        .filter_map(|(_, record)| match &record.body {
            Body::Dropped(range) => {
                assert_eq!(range.incarnation, spool.incarnation());
                assert_eq!(range.reason, DropReason::SpoolBytes);
                Some(range.from_inclusive..range.to_exclusive)
            }
            _ => None,
        })
        .collect();
    let last_told = told.iter().map(|range| range.end).max().unwrap();
    assert_eq!(
        last_told, read[0].0,
        "what is missing is told up to the oldest that is left"
    );
}

#[tokio::test]
async fn an_unreadable_record_is_given_up_alone() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        max_bytes: 1 << 24,
        max_age: None,
        keep_acknowledged: true,
        when_full: WhenFull::DropOldest,
    };
    let now = Now { wall_ms: 0 };
    let path = folder.path().join("spool");
    let (mut journal, _) = Journal::open(&path, options, now).unwrap();
    for number in 0..9 {
        let good = block::encode(&[result(number, 3)]);
        let payload = if number % 4 == 0 {
            b"\xffnewer".to_vec()
        } else {
            good
        };
        journal.append(&payload, now).unwrap();
    }
    journal.close().unwrap();

    let (spool, _) = open(folder.path(), 1 << 24);
    let read: Vec<u64> = read_waiting(&spool, 1 << 20)
        .await
        .iter()
        .map(|(s, _)| *s)
        .collect();
    assert_eq!(read, [1, 2, 3, 5, 6, 7]);
    let ledger = spool.ledger().await.unwrap();
    assert_eq!(ledger.dropped[&DropReason::Refused], 3);
    assert_eq!((ledger.waiting, ledger.balances()), (6, true));
}

#[tokio::test]
async fn a_second_process_is_told_clearly() {
    let folder = tempfile::tempdir().unwrap();
    let (_spool, stats) = open(folder.path(), 1 << 24);
    let config = config_in(folder.path(), 1 << 24);
    let error = Spool::open(&config, Clock::system(), stats).unwrap_err();
    let shown = crate::shell::error_chain(&error);
    assert!(shown.contains("in use by another process"), "{shown}");
}

/// A small file system of its own, gone with the value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, bytes: u64) -> Self {
        std::fs::create_dir(&at).unwrap();
        let size = format!("size={bytes}");
        mount(
            Some("tmpfs"),
            &at,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .expect("tests run as root");
        Self(at)
    }

    /// Uses up what is left.
    fn fill(&self) {
        use std::io::Write as _;
        let mut file = std::fs::File::create(self.0.join("ballast")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).expect("it was mounted here");
    }
}

#[tokio::test]
async fn a_full_disk_is_counted_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(folder.path().join("disk"), 2 << 20);
    let (spool, stats) = open(&disk.0, 16 << 20);
    spool.append(vec![result(0, 20)], false);
    assert_eq!(spool.snapshot().await.unwrap().waiting.len(), 1);

    disk.fill();
    for number in 1..12_000 {
        spool.append(vec![result(number, 20)], false);
        if number % 500 == 0 {
            spool.ledger().await.unwrap();
        }
    }
    let full = spool.snapshot().await.unwrap();
    assert!(full.ledger.balances(), "{:?}", full.ledger);
    let lost: u64 = full.ledger.dropped.values().sum();
    assert!(lost > 1_000, "{:?}", full.ledger);
    let errors = |operation| {
        stats
            .spool_errors
            .get_or_create(&[("reason", operation)])
            .get()
    };
    assert!(errors("append") + errors("sync") > 0);

    disk.free();
    spool.append(vec![result(99_999, 20)], false);
    let after = read_waiting(&spool, 1 << 20).await;
    let newest = &after.last().unwrap().1;
    assert!(
        after
            .iter()
            .any(|(_, record)| record == &result(99_999, 20)),
        "works again; the newest is {newest:?}"
    );
    let ledger = spool.ledger().await.unwrap();
    assert!(ledger.balances(), "{ledger:?}");
    spool.close().await.unwrap();
}

#[test]
fn the_boot_of_every_incarnation_is_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("boots");
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        max_bytes: 1 << 24,
        max_age: None,
        keep_acknowledged: true,
        when_full: WhenFull::DropOldest,
    };
    let now = Now { wall_ms: 0 };
    let (journal, _) = Journal::open(&folder.path().join("spool"), options, now).unwrap();
    let (yesterday, today) = (BootId([1; 16]), BootId([2; 16]));
    Boots::open(&path, Incarnation(10), yesterday, &journal);
    Boots::open(&path, Incarnation(11), today, &journal);
    let boots = Boots::open(&path, Incarnation(12), today, &journal);
    assert_eq!(boots.other_than_current(Incarnation(10)), Some(yesterday));
    assert_eq!(boots.other_than_current(Incarnation(11)), None);
    assert_eq!(boots.other_than_current(Incarnation(12)), None);
    let unknown = Some(BootId([0; 16]));
    assert_eq!(boots.other_than_current(Incarnation(13)), unknown);

    std::fs::write(&path, b"damaged").unwrap();
    let boots = Boots::open(&path, Incarnation(14), today, &journal);
    assert_eq!(boots.other_than_current(Incarnation(10)), unknown);
}
