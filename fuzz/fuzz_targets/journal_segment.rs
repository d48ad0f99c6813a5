//! Any bytes as the last segment of a journal, or as its account.
//!
//! The first byte says which file and whether its checksums are made right first: without that no fuzzer gets past
//! the first header.
#![no_main]

use std::collections::HashSet;
use std::sync::{Arc, LazyLock};

use extranet_fuzz::{form, memory::Memory};
use extranet_journal::{Cursor, Journal, Now, Options, WhenFull};
use libfuzzer_sys::fuzz_target;

const NOW: Now = Now {
    wall_ms: 1_790_000_000_000,
};
/// Where ordinals come near the greatest that the journal believes (2^60), new ones may exceed it. Only right checksums
/// around wrong numbers lead there.
const FORGED: u64 = 1 << 59;
/// Sealed records that come before the fuzzed segment.
const SEALED: usize = 4;

fn open(folder: &Memory, when_full: WhenFull) -> (Journal, extranet_journal::Recovery) {
    let options = Options {
        segment_bytes: 512,
        max_bytes: 1 << 20,
        max_age: None,
        keep_acknowledged: true,
        when_full,
    };
    Journal::open_on(Arc::new(folder.clone()), options, NOW).expect("damage is no error")
}

/// A folder with one sealed segment and an account.
static FOLDER: LazyLock<Memory> = LazyLock::new(|| {
    let folder = Memory::default();
    let (mut journal, _) = open(&folder, WhenFull::Refuse);
    for _ in 0..SEALED {
        journal.append(&[7; 60], NOW).expect("there is room");
    }
    // Begins the second segment, which the fuzzed one replaces.
    journal.append(&[7; 60], NOW).expect("there is room");
    let incarnation = journal.incarnation();
    journal.sync().expect("memory does not fail");
    journal.acknowledge(incarnation, 0..1);
    journal.close().expect("memory does not fail");
    let segments = folder.names();
    assert_eq!(
        segments,
        ["0000000000000000.seg", "0000000000000001.seg", "account"]
    );
    folder
});

fuzz_target!(|bytes: &[u8]| {
    let Some((how, bytes)) = bytes.split_first() else {
        return;
    };
    let folder = FOLDER.copy();
    let mut bytes = bytes.to_vec();
    let (name, number) = if how & 1 == 0 {
        ("0000000000000001.seg", 1)
    } else {
        ("account", u64::MAX)
    };
    if how & 2 == 0 {
        form::repair(&mut bytes, number);
    }
    folder.put(name, bytes);
    let when_full = if how & 4 == 0 {
        WhenFull::DropOldest
    } else {
        WhenFull::Refuse
    };

    let (mut journal, _) = open(&folder, when_full);
    assert!(journal.ledger().balances(), "{:?}", journal.ledger());
    let mut reader = journal.reader(Cursor::oldest());
    let mut seen = HashSet::new();
    while let Some((position, _)) = reader.next().expect("memory does not fail") {
        assert!(seen.insert(position), "{position:?} twice");
    }
    for (incarnation, range) in journal.waiting() {
        journal
            .read_range(incarnation, range.clone(), 1 << 20)
            .expect("memory does not fail");
        journal.acknowledge(incarnation, range.start..range.start.saturating_add(1));
    }
    assert!(journal.ledger().balances(), "{:?}", journal.ledger());

    if journal.ledger().produced > FORGED {
        return;
    }
    // Whatever was there, records can be added and come back.
    let position = journal.append(b"later", NOW).expect("there is room");
    journal.sync().expect("memory does not fail");
    let before = journal.ledger();
    assert!(before.balances(), "{before:?}");
    drop(journal);
    let (mut journal, recovery) = open(&folder, when_full);
    assert_eq!(
        recovery.damaged_records, 0,
        "all damage was known: {recovery:?}"
    );
    assert_eq!(recovery.torn_bytes, 0);
    assert_eq!(journal.ledger(), before);
    let sequence = position.sequence;
    let records = journal.read_range(position.incarnation, sequence..sequence + 1, 1);
    let records = records.expect("memory does not fail");
    assert_eq!(records, [(sequence, b"later".to_vec())]);
});
