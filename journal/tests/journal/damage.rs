//! Every byte of the last segments and of the account is flipped, and every file is cut at every byte. What is left must
//! be right, complete but for what was hit, accounted for, and usable.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use extranet_journal::{Cursor, Journal, Now, Options, Recovery, WhenFull};

use crate::rig::Rig;

const NOW: Now = Now {
    wall_ms: 1_790_000_000_000,
};

type Files = BTreeMap<String, Vec<u8>>;
type Records = BTreeMap<(u64, u64), Vec<u8>>;

fn options() -> Options {
    Options {
        segment_bytes: 1 << 10,
        max_bytes: 1 << 20,
        max_age: None,
        keep_acknowledged: true,
        when_full: WhenFull::DropOldest,
    }
}

fn open(rig: &Rig) -> (Journal, Recovery) {
    Journal::open_on(rig.storage(), options(), NOW).unwrap()
}

/// What a journal looks like after a few openings, and what is in it.
struct Sample {
    files: Files,
    records: Records,
    acknowledged: BTreeSet<(u64, u64)>,
}

/// Four segments; the last one holds records of three incarnations.
fn sample() -> Sample {
    let rig = Rig::default();
    let mut records = Records::new();
    let mut acknowledged = BTreeSet::new();
    for count in [50u64, 5, 6] {
        let (mut journal, _) = open(&rig);
        for n in 0..count {
            let payload = format!(
                "{count}/{n} {}",
                "x".repeat(usize::try_from(n % 7).unwrap() * 9)
            );
            let position = journal.append(payload.as_bytes(), NOW).unwrap();
            records.insert(
                (position.incarnation, position.sequence),
                payload.into_bytes(),
            );
        }
        journal.sync().unwrap();
        let incarnation = journal.incarnation();
        for settled in [1..3, count - 2..count - 1] {
            journal.acknowledge(incarnation, settled.clone());
            acknowledged.extend(settled.map(|sequence| (incarnation, sequence)));
        }
        journal.close().unwrap();
    }
    let files = rig.files();
    assert!(segments(&files).len() >= 4);
    Sample {
        files,
        records,
        acknowledged,
    }
}

/// What is waiting, with contents as `read_range` gives them.
fn read_waiting(journal: &mut Journal) -> Records {
    let mut records = Records::new();
    for (incarnation, range) in journal.waiting() {
        for (sequence, payload) in journal.read_range(incarnation, range, 1 << 20).unwrap() {
            records.insert((incarnation, sequence), payload);
        }
    }
    records
}

/// Everything, as a follower sees it.
fn follow(journal: &Journal) -> Records {
    let mut reader = journal.reader(Cursor::oldest());
    let mut records = Records::new();
    while let Some((position, payload)) = reader.next().unwrap() {
        let known = records.insert((position.incarnation, position.sequence), payload);
        assert_eq!(known, None, "seen twice");
    }
    assert_eq!(reader.lag(), 0);
    records
}

/// Opens damaged files and checks what must hold whatever happened. Returns the positions that are lost.
fn inspect(sample: &Sample, files: &Files, what: &str) -> BTreeSet<(u64, u64)> {
    let rig = Rig::with_files(files);
    let (mut journal, _) = open(&rig);
    let followed = follow(&journal);
    for (position, payload) in &followed {
        assert_eq!(
            sample.records.get(position),
            Some(payload),
            "{what}: {position:?}"
        );
    }
    let waiting = read_waiting(&mut journal);
    for (position, payload) in &waiting {
        assert_eq!(
            followed.get(position),
            Some(payload),
            "{what}: {position:?}"
        );
    }
    let ledger = journal.ledger();
    assert!(ledger.balances(), "{what}: {ledger:?}");
    // What could not be read is known to be damaged by now.
    assert_eq!(ledger.waiting, waiting.len() as u64, "{what}: {ledger:?}");
    let missed = |position: &&(u64, u64)| !followed.contains_key(*position);
    let lost: BTreeSet<_> = sample.records.keys().filter(missed).copied().collect();
    let unsettled = lost.difference(&sample.acknowledged).count() as u64;
    assert!(
        ledger.damaged <= lost.len() as u64,
        "{what}: {ledger:?}, lost {lost:?}"
    );
    let all_known = ledger.produced == sample.records.len() as u64;
    assert!(
        !all_known || ledger.damaged >= unsettled,
        "{what}: {ledger:?}, lost {lost:?}"
    );

    // It goes on as if nothing had been.
    let new = journal.append(b"after", NOW).unwrap();
    journal.sync().unwrap();
    journal.close().unwrap();
    let (mut journal, recovery) = open(&rig);
    assert_eq!(recovery.damaged_records, 0, "{what}: counted once");
    let mut expected = waiting;
    expected.insert((new.incarnation, new.sequence), b"after".to_vec());
    assert_eq!(read_waiting(&mut journal), expected, "{what}");
    assert_eq!(journal.ledger().damaged, ledger.damaged, "{what}");
    lost
}

fn segments(files: &Files) -> Vec<String> {
    let names = files
        .keys()
        .filter(|name| name.strip_suffix(".seg").is_some());
    names.cloned().collect()
}

#[test]
fn a_flipped_bit_costs_one_record_at_most() {
    let sample = sample();
    let names = segments(&sample.files);
    let mut hits = 0;
    for name in &names[names.len() - 2..] {
        for at in 0..sample.files[name].len() {
            for flip in [1 << (at % 8), 0xff] {
                let mut files = sample.files.clone();
                files.get_mut(name).unwrap()[at] ^= flip;
                let lost = inspect(&sample, &files, &format!("{name} byte {at} ^ {flip:#x}"));
                assert!(
                    lost.len() <= 1,
                    "{name} byte {at} ^ {flip:#x} lost {lost:?}"
                );
                hits += lost.len();
            }
        }
    }
    assert!(hits > 500, "most bytes belong to a record: {hits}");
}

#[test]
fn a_cut_costs_what_was_cut_off() {
    let sample = sample();
    let names = segments(&sample.files);
    for name in &names[names.len() - 2..] {
        let whole = sample.files[name].len();
        let mut lost_before = usize::MAX;
        for len in 0..whole {
            let mut files = sample.files.clone();
            files.get_mut(name).unwrap().truncate(len);
            let lost = inspect(&sample, &files, &format!("{name} cut to {len}"));
            assert!(lost.len() <= lost_before, "a longer file holds no less");
            lost_before = lost.len();
            // A record takes 16 bytes and its payload, so that few can hide in what is missing.
            assert!(
                lost.len() <= 2 + (whole - len) / 20,
                "{name} cut to {len} lost {lost:?}"
            );
        }
    }
}

#[test]
fn a_damaged_account_costs_acknowledgements_only() {
    let sample = sample();
    let whole = sample.files["account"].len();
    let check = |files: &Files, what: &str| {
        let lost = inspect(&sample, files, what);
        assert!(lost.is_empty(), "{what}: lost {lost:?}");
        let (mut journal, _) = open(&Rig::with_files(files));
        let waiting = read_waiting(&mut journal);
        let sent_again = sample
            .acknowledged
            .iter()
            .filter(|p| waiting.contains_key(p))
            .count();
        let unsettled = sample.records.len() - sample.acknowledged.len();
        assert_eq!(
            waiting.len(),
            unsettled + sent_again,
            "{what}: nothing else was settled"
        );
    };
    for at in 0..whole {
        for flip in [1 << (at % 8), 0xff] {
            let mut files = sample.files.clone();
            files.get_mut("account").unwrap()[at] ^= flip;
            check(&files, &format!("account byte {at} ^ {flip:#x}"));
        }
        let mut files = sample.files.clone();
        files.get_mut("account").unwrap().truncate(at);
        check(&files, &format!("account cut to {at}"));
    }
    let mut files = sample.files.clone();
    files.remove("account");
    check(&files, "no account");
}

#[test]
fn a_missing_or_garbled_segment_is_accounted_for() {
    let sample = sample();
    let names = segments(&sample.files);
    for name in &names {
        let mut files = sample.files.clone();
        files.remove(name);
        let lost = inspect(&sample, &files, &format!("without {name}"));
        assert!(!lost.is_empty());

        let mut files = sample.files.clone();
        files.get_mut(name).unwrap().fill(0x5a);
        let lost_again = inspect(&sample, &files, &format!("{name} garbled"));
        assert_eq!(lost, lost_again);
        let (journal, recovery) = open(&Rig::with_files(&files));
        assert_eq!(recovery.set_aside.len(), 1);
        assert_eq!(recovery.damaged_records, journal.ledger().damaged);
    }
}

/// Flash that was erased and not written reads as ones, a block that was allocated and not written as zeros. Without a
/// look at a checksum, the last eight bytes of such a tail would be the offset of a footer.
#[test]
fn a_tail_that_was_never_written_costs_nothing() {
    let sample = sample();
    for name in segments(&sample.files) {
        for (byte, len) in [(0xff, 8), (0xff, 4_096), (0, 8), (0, 4_096)] {
            let mut files = sample.files.clone();
            let bytes = files.get_mut(&name).unwrap();
            bytes.resize(bytes.len() + len, byte);
            let what = format!("{name} and {len} bytes {byte:#x}");
            assert_eq!(inspect(&sample, &files, &what), BTreeSet::new(), "{what}");
        }
    }
}

/// Frames inside of a payload must not become records when the frame around them is damaged.
#[test]
fn a_payload_cannot_forge_records() {
    let rig = Rig::default();
    let (mut journal, _) = open(&rig);
    for n in 0..4u8 {
        journal.append(&[n; 30], NOW).unwrap();
    }
    journal.close().unwrap();
    // A hostile payload: the frames of another journal, which differ from ours in their salt only.
    let files = rig.files();
    let frames = files["0000000000000000.seg"][128..].to_vec();
    let rig = Rig::default();
    let (mut journal, _) = open(&rig);
    journal.append(&frames, NOW).unwrap();
    journal.append(b"honest", NOW).unwrap();
    journal.close().unwrap();
    let mut files = rig.files();
    let around: Range<usize> = 128..144;
    for at in around {
        let segment = files.get_mut("0000000000000000.seg").unwrap();
        segment[at] ^= 0x10;
        let (journal, recovery) = open(&Rig::with_files(&files));
        let seen: Vec<_> = follow(&journal).into_values().collect();
        assert_eq!(seen, vec![b"honest".to_vec()], "byte {at}");
        assert_eq!(recovery.damaged_records, 1);
        files.get_mut("0000000000000000.seg").unwrap()[at] ^= 0x10;
    }
}

#[test]
fn a_bad_block_costs_the_records_in_it() {
    let rig = Rig::default();
    let big = Options {
        segment_bytes: 64 << 10,
        ..options()
    };
    let (mut journal, _) = Journal::open_on(rig.storage(), big.clone(), NOW).unwrap();
    for n in 0..400u32 {
        journal.append(&[n.to_le_bytes()[0]; 84], NOW).unwrap();
    }
    journal.sync().unwrap();
    let incarnation = journal.incarnation();
    rig.set_unreadable("0000000000000000.seg", 8_192..12_288);
    let seen = follow(&journal);
    let lost = 400 - seen.len() as u64;
    assert!(
        (41..=42).contains(&lost),
        "records of 100 bytes in 4,096: {lost}"
    );
    let read = journal.read_range(incarnation, 0..400, usize::MAX).unwrap();
    assert!(
        read.iter()
            .map(|(sequence, _)| sequence)
            .eq(seen.keys().map(|(_, n)| n))
    );
    let ledger = journal.ledger();
    assert_eq!((ledger.waiting, ledger.damaged), (400 - lost, lost));
    assert!(ledger.balances());
    journal.close().unwrap();
    // Not even the header can be read: no reason not to start.
    rig.set_unreadable("0000000000000000.seg", 0..4_096);
    let (journal, recovery) = Journal::open_on(rig.storage(), big, NOW).unwrap();
    assert_eq!(recovery.set_aside.len(), 1);
    assert_eq!(journal.ledger().damaged, 400);
    assert!(journal.ledger().balances());
}
