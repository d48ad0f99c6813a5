//! The ordinary life of a journal on a real folder.

use std::path::Path;
use std::time::Duration;

use extranet_journal::{
    AppendError, Cursor, DropReason, Journal, JournalError, Now, Options, Position, WhenFull,
};

fn options() -> Options {
    Options {
        segment_bytes: 1 << 20,
        max_bytes: 64 << 20,
        max_age: None,
        keep_acknowledged: true,
        when_full: WhenFull::DropOldest,
    }
}

fn at(seconds: i64) -> Now {
    Now {
        wall_ms: 1_790_000_000_000 + seconds * 1_000,
    }
}

fn open(folder: &Path, options: Options) -> Journal {
    let (journal, recovery) = Journal::open(folder, options, at(0)).unwrap();
    assert_eq!(recovery.damaged_records, 0);
    journal
}

fn append(journal: &mut Journal, texts: &[&str]) {
    for text in texts {
        journal.append(text.as_bytes(), at(0)).unwrap();
    }
}

fn texts(records: Vec<(u64, Vec<u8>)>) -> Vec<(u64, String)> {
    records
        .into_iter()
        .map(|(n, bytes)| (n, String::from_utf8(bytes).unwrap()))
        .collect()
}

#[test]
fn records_come_back_in_order_across_openings() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), options());
    let first = journal.incarnation();
    append(&mut journal, &["a", "b", "c"]);
    assert_eq!(
        journal.waiting(),
        vec![],
        "not durable yet, so nobody may have it"
    );
    assert_eq!(journal.ledger().waiting, 3);
    assert_eq!(
        journal.sync().unwrap(),
        Some(Position {
            incarnation: first,
            sequence: 2
        })
    );
    assert_eq!(journal.waiting(), vec![(first, 0..3)]);
    assert_eq!(journal.acknowledge(first, 1..2), 1);
    assert_eq!(journal.acknowledge(first, 0..99), 2);
    assert_eq!(journal.refuse(first, 0..99), 0);
    journal.close().unwrap();

    let mut journal = open(folder.path(), options());
    let second = journal.incarnation();
    assert_ne!(first, second);
    append(&mut journal, &["d", "e"]);
    journal.sync().unwrap();
    assert_eq!(journal.waiting(), vec![(second, 0..2)]);
    assert_eq!(journal.refuse(second, 0..1), 1);
    assert_eq!(texts(journal.read_range(first, 1..9, 99).unwrap()).len(), 2);
    assert_eq!(
        texts(journal.read_range(second, 0..2, 1).unwrap()),
        vec![(0, "d".to_owned())],
        "at least one record, whatever the limit"
    );
    let ledger = journal.ledger();
    assert!(ledger.balances());
    assert_eq!(
        (ledger.produced, ledger.acknowledged, ledger.waiting),
        (5, 3, 1)
    );
    assert_eq!(ledger.dropped.get(&DropReason::Refused), Some(&1));
}

#[test]
fn a_second_process_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let journal = open(folder.path(), options());
    let second = Journal::open(folder.path(), options(), at(0));
    assert!(matches!(second, Err(JournalError::Locked { .. })));
    drop(journal);
    open(folder.path(), options());
}

#[test]
fn openings_without_records_write_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..50 {
        open(folder.path(), options());
    }
    let names = |folder: &Path| -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(folder.path()), ["lock"]);
    for _ in 0..300 {
        let mut journal = open(folder.path(), options());
        append(&mut journal, &["x"]);
    }
    assert_eq!(
        names(folder.path()),
        ["0000000000000000.seg", "account", "lock"]
    );
    let journal = open(folder.path(), options());
    assert_eq!(
        journal.waiting().len(),
        300,
        "one record in each incarnation"
    );
    assert!(journal.bytes() < 64 << 10);
}

#[test]
fn a_full_spool_drops_the_oldest_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        segment_bytes: 4 << 10,
        max_bytes: 32 << 10,
        ..options()
    };
    let mut journal = open(folder.path(), small.clone());
    let incarnation = journal.incarnation();
    for _ in 0..1_000 {
        journal.append(&[7; 100], at(0)).unwrap();
        assert!(journal.bytes() <= 32 << 10);
        assert!(journal.ledger().balances());
    }
    journal.sync().unwrap();
    let drops = journal.take_drops();
    assert_eq!(drops.len(), 1, "neighbouring drops are one: {drops:?}");
    assert_eq!(
        (drops[0].incarnation, drops[0].reason),
        (incarnation, DropReason::Bytes)
    );
    assert_eq!(drops[0].range.start, 0);
    assert_eq!(
        journal.waiting(),
        vec![(incarnation, drops[0].range.end..1_000)]
    );
    assert_eq!(journal.take_drops(), vec![]);
    let ledger = journal.ledger();
    assert_eq!(ledger.dropped[&DropReason::Bytes], drops[0].range.end);
    journal.close().unwrap();

    let mut journal = open(folder.path(), small);
    assert_eq!(journal.ledger(), ledger);
    assert_eq!(
        journal.take_drops(),
        vec![],
        "the owner was told before the last sync"
    );
}

#[test]
fn dropping_acknowledged_records_is_no_loss() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        segment_bytes: 4 << 10,
        max_bytes: 32 << 10,
        ..options()
    };
    let mut journal = open(folder.path(), small);
    let incarnation = journal.incarnation();
    for n in 0..1_000 {
        journal.append(&[7; 100], at(0)).unwrap();
        if n % 10 == 9 {
            journal.sync().unwrap();
            assert_eq!(journal.acknowledge(incarnation, 0..n + 1), 10);
        }
    }
    assert_eq!(journal.take_drops(), vec![]);
    let ledger = journal.ledger();
    assert_eq!((ledger.produced, ledger.acknowledged), (1_000, 1_000));
    assert!(ledger.balances() && ledger.dropped.is_empty());
}

#[test]
fn an_ingest_log_refuses_when_it_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        segment_bytes: 4 << 10,
        max_bytes: 32 << 10,
        max_age: Some(Duration::from_secs(1_000)),
        when_full: WhenFull::Refuse,
        ..options()
    };
    let mut journal = open(folder.path(), small);
    let refused = loop {
        if let Err(error) = journal.append(&[7; 100], at(0)) {
            break error;
        }
    };
    assert!(matches!(refused, AppendError::Full { .. }), "{refused}");
    journal.sync().unwrap();
    let ledger = journal.ledger();
    assert!(ledger.produced > 200 && ledger.waiting == ledger.produced);
    // Time makes room.
    journal.append(&[7; 100], at(2_000)).unwrap();
    assert!(journal.ledger().dropped[&DropReason::Age] > 100);
    assert!(matches!(
        journal.append(&vec![0; 17 << 10], at(2_000)),
        Err(AppendError::TooLarge { .. })
    ));
}

#[test]
fn a_clock_that_is_set_right_expires_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Options {
        segment_bytes: 1 << 10,
        max_age: Some(Duration::from_hours(30 * 24)),
        ..options()
    };
    let in_1970 = Now { wall_ms: 5_000 };
    let (mut journal, _) = Journal::open(folder.path(), spool.clone(), in_1970).unwrap();
    for n in 0..100 {
        journal
            .append(&[1; 100], Now { wall_ms: 5_000 + n })
            .unwrap();
    }
    for n in 0..100 {
        journal.append(&[1; 100], at(n)).unwrap();
    }
    journal
        .append(
            &[1; 100],
            Now {
                wall_ms: 4_000_000_000_000,
            },
        )
        .unwrap();
    journal.close().unwrap();
    let (mut journal, _) = Journal::open(folder.path(), spool, at(300)).unwrap();
    journal.append(&[1; 100], at(400)).unwrap();
    assert_eq!(journal.ledger().waiting, 202);
    // Real time, hour by hour, does expire them.
    for hour in 0..31 * 24 {
        journal.append(&[1], at(400 + hour * 3_600)).unwrap();
    }
    let ledger = journal.ledger();
    assert!(
        ledger.dropped[&DropReason::Age] >= 202 && ledger.balances(),
        "{ledger:?}"
    );
}

#[test]
fn acknowledged_segments_go_at_once_if_nobody_wants_them() {
    let folder = tempfile::tempdir().unwrap();
    let lean = Options {
        segment_bytes: 4 << 10,
        keep_acknowledged: false,
        ..options()
    };
    let mut journal = open(folder.path(), lean);
    let incarnation = journal.incarnation();
    for _ in 0..500 {
        journal.append(&[7; 100], at(0)).unwrap();
    }
    journal.sync().unwrap();
    let before = journal.bytes();
    journal.acknowledge(incarnation, 0..500);
    journal.sync().unwrap();
    assert!(journal.bytes() < before / 5);
    assert_eq!(journal.ledger().acknowledged, 500);
}

#[test]
fn a_follower_in_another_thread_sees_each_durable_record_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = Options {
        segment_bytes: 16 << 10,
        when_full: WhenFull::Refuse,
        ..options()
    };
    let mut journal = open(folder.path(), log);
    let incarnation = journal.incarnation();
    let mut reader = journal.reader(Cursor::oldest());
    let follower = std::thread::spawn(move || {
        let mut seen = Vec::new();
        loop {
            match reader.next().unwrap() {
                Some((position, payload)) => {
                    assert_eq!(position.incarnation, incarnation);
                    assert_eq!(position.sequence, seen.len() as u64);
                    seen.push(u64::from_le_bytes(payload[..8].try_into().unwrap()));
                }
                None if reader.is_closed() && reader.lag() == 0 => break,
                None => {
                    reader.wait(Duration::from_secs(10));
                }
            }
        }
        (seen, reader.missed())
    });
    for n in 0..5_000u64 {
        let mut payload = vec![0; 50];
        payload[..8].copy_from_slice(&n.to_le_bytes());
        journal.append(&payload, at(0)).unwrap();
        if n % 50 == 0 {
            journal.sync().unwrap();
        }
    }
    journal.close().unwrap();
    let (seen, missed) = follower.join().unwrap();
    assert_eq!(seen, (0..5_000).collect::<Vec<_>>());
    assert_eq!(missed, 0);
}

#[test]
fn a_follower_sees_synced_records_only_and_goes_on_at_its_cursor() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = open(folder.path(), options());
    let mut reader = journal.reader(Cursor::oldest());
    append(&mut journal, &["a", "b"]);
    journal.flush().unwrap();
    assert_eq!(reader.next().unwrap(), None);
    assert!(!reader.wait(Duration::ZERO));
    journal.sync().unwrap();
    assert!(reader.wait(Duration::ZERO));
    assert_eq!(reader.lag(), 2);
    let (position, payload) = reader.next().unwrap().unwrap();
    assert_eq!(payload, b"a");
    let cursor = Cursor::after(position);
    drop(reader);
    journal.close().unwrap();

    let mut journal = open(folder.path(), options());
    append(&mut journal, &["c"]);
    journal.sync().unwrap();
    let mut reader = journal.reader(cursor);
    assert!(reader.found());
    assert_eq!(reader.next().unwrap().unwrap().1, b"b");
    let (third, payload) = reader.next().unwrap().unwrap();
    assert_eq!((payload.as_slice(), third.sequence), (&b"c"[..], 0));
    assert_eq!(journal.end(), Cursor::after(third));
    assert_eq!(reader.next().unwrap(), None);
    let mut stranger = journal.reader(Cursor {
        incarnation: 12_345,
        sequence: 6,
    });
    assert!(!stranger.found());
    assert_eq!(stranger.next().unwrap().unwrap().1, b"a");
}

#[test]
fn a_follower_that_came_too_late_knows_what_it_missed() {
    let folder = tempfile::tempdir().unwrap();
    let small = Options {
        segment_bytes: 4 << 10,
        max_bytes: 32 << 10,
        ..options()
    };
    let mut journal = open(folder.path(), small);
    let mut early = journal.reader(Cursor::oldest());
    append(&mut journal, &["first"]);
    journal.sync().unwrap();
    let (first, _) = early.next().unwrap().unwrap();
    for _ in 0..1_000 {
        journal.append(&[7; 100], at(0)).unwrap();
    }
    journal.sync().unwrap();
    let dropped: u64 = journal
        .take_drops()
        .iter()
        .map(|d| d.range.end - d.range.start)
        .sum();
    // It still holds the first segment open, so it misses less than was dropped.
    while early.next().unwrap().is_some() {}
    assert!(early.missed() > 0 && early.missed() < dropped);
    let mut late = journal.reader(Cursor::after(first));
    let mut seen = 0;
    while late.next().unwrap().is_some() {
        seen += 1;
    }
    assert_eq!((late.missed(), seen), (dropped - 1, 1_001 - dropped));
}
