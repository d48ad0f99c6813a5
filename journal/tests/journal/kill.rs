//! kill -9 in a loop: a child process writes and tells what the journal promised it, the parent kills it at a random
//! moment and compares.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use extranet_journal::{Journal, Now, Options, WhenFull};

/// Set for the child: the folder.
const FOLDER_VARIABLE: &str = "EXTRANET_JOURNAL_KILL_FOLDER";
const KILLS: u64 = 200;
const NOW: Now = Now {
    wall_ms: 1_790_000_000_000,
};

/// Small, so that segments roll and drop all the time.
fn options() -> Options {
    Options {
        segment_bytes: 16 << 10,
        max_bytes: 256 << 10,
        max_age: None,
        keep_acknowledged: true,
        when_full: WhenFull::DropOldest,
    }
}

/// The record of this name; readers can tell whether it is the right one.
fn payload(incarnation: u64, sequence: u64) -> Vec<u8> {
    let len = 20 + usize::try_from((incarnation ^ sequence) % 400).unwrap();
    let mut payload = vec![sequence.to_le_bytes()[0]; len];
    payload[..8].copy_from_slice(&incarnation.to_le_bytes());
    payload[8..16].copy_from_slice(&sequence.to_le_bytes());
    payload
}

/// Appends, syncs and acknowledges until it is killed. A line on stdout is a promise.
fn write_forever(folder: &Path) -> ! {
    let (mut journal, recovery) = Journal::open(folder, options(), NOW).unwrap();
    assert_eq!(recovery.damaged_records, 0);
    let incarnation = journal.incarnation();
    let mut out = std::io::stdout();
    let mut sequence = 0;
    let mut acknowledged = 0;
    loop {
        for _ in 0..=sequence % 30 {
            let position = journal
                .append(&payload(incarnation, sequence), NOW)
                .unwrap();
            assert_eq!(position.sequence, sequence);
            sequence += 1;
        }
        if sequence % 3 == 0 {
            let until = acknowledged + (sequence - acknowledged) / 3;
            journal.acknowledge(incarnation, acknowledged..until);
            acknowledged = until;
        }
        journal.sync().unwrap();
        // One write, so that half a line is all that a kill can leave.
        let line = format!("promise {incarnation:016x} {sequence} {acknowledged}\n");
        out.write_all(line.as_bytes()).unwrap();
        out.flush().unwrap();
    }
}

/// What the child said last: incarnation, durable records, acknowledged records.
#[derive(Debug, Clone, Copy, Default)]
struct Promise {
    incarnation: u64,
    durable: u64,
    acknowledged: u64,
}

fn last_promise(output: &str) -> Option<Promise> {
    // A line without its end was cut short by the kill.
    let whole = output.rfind('\n').map(|end| output.split_at(end).0)?;
    let line = whole
        .lines()
        .rev()
        .find(|line| line.starts_with("promise "))?;
    let mut words = line.split(' ').skip(1);
    Some(Promise {
        incarnation: u64::from_str_radix(words.next()?, 16).unwrap(),
        durable: words.next()?.parse().unwrap(),
        acknowledged: words.next()?.parse().unwrap(),
    })
}

/// Runs a child, kills it some time after its first promise and returns its last one.
fn run_and_kill(folder: &Path, after: Duration) -> Promise {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([
            "kill::synced_records_survive_kill_9",
            "--exact",
            "--nocapture",
        ])
        .env(FOLDER_VARIABLE, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut output = String::new();
    while last_promise(&output).is_none() {
        if stdout.read_line(&mut output).unwrap() == 0 {
            let mut errors = String::new();
            child
                .stderr
                .take()
                .unwrap()
                .read_to_string(&mut errors)
                .unwrap();
            panic!(
                "the child ended by itself: {}\n{output}\n{errors}",
                child.wait().unwrap()
            );
        }
    }
    // Reads along, so that the child is not stopped by a full pipe, and kills it by its id.
    let killer = std::thread::spawn(move || {
        std::thread::sleep(after);
        child.kill().unwrap();
        child.wait().unwrap()
    });
    stdout.read_to_string(&mut output).unwrap();
    let status = killer.join().unwrap();
    assert!(!status.success(), "killed, not ended");
    last_promise(&output).unwrap()
}

fn contains(ranges: &[Range<u64>], sequence: u64) -> bool {
    ranges.iter().any(|range| range.contains(&sequence))
}

/// Opens the journal after a kill and compares it with the promise.
fn compare(folder: &Path, promise: Promise, produced_before: u64) -> u64 {
    let (mut journal, recovery) = Journal::open(folder, options(), NOW).unwrap();
    assert_eq!(recovery.damaged_records, 0, "{recovery:?}");
    assert!(recovery.set_aside.is_empty(), "{recovery:?}");
    let ledger = journal.ledger();
    assert!(ledger.balances(), "{ledger:?}");
    assert!(
        ledger.produced >= produced_before + promise.durable,
        "{ledger:?} {promise:?}"
    );
    assert_eq!(ledger.damaged, 0);

    let mut waiting: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
    let mut dropped: BTreeMap<u64, Vec<Range<u64>>> = BTreeMap::new();
    for (incarnation, range) in journal.waiting() {
        let records = journal
            .read_range(incarnation, range.clone(), usize::MAX)
            .unwrap();
        assert!(
            records
                .iter()
                .map(|(sequence, _)| *sequence)
                .eq(range.clone())
        );
        for (sequence, bytes) in records {
            assert_eq!(bytes, payload(incarnation, sequence));
        }
        waiting.entry(incarnation).or_default().push(range);
    }
    for drop in journal.take_drops() {
        dropped
            .entry(drop.incarnation)
            .or_default()
            .push(drop.range);
    }
    let waiting = waiting.remove(&promise.incarnation).unwrap_or_default();
    let dropped = dropped.remove(&promise.incarnation).unwrap_or_default();
    for sequence in 0..promise.durable {
        let waits = contains(&waiting, sequence);
        if sequence < promise.acknowledged {
            assert!(!waits, "{sequence} was acknowledged: {promise:?}");
        } else {
            // An acknowledgement may be further than the last promise, never the other way round.
            let acknowledged = waiting.first().is_some_and(|first| sequence < first.start);
            assert!(
                waits || contains(&dropped, sequence) || acknowledged,
                "lost {sequence}"
            );
        }
    }
    journal.close().unwrap();
    ledger.produced
}

#[test]
fn synced_records_survive_kill_9() {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE) {
        write_forever(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let mut produced = 0;
    let mut promised = 0;
    for kill in 0..KILLS {
        // Spread over appends, syncs, rolls and drops by a step that has no common factor with any of them.
        let after = Duration::from_micros(kill * 7_919 % 15_000);
        let promise = run_and_kill(folder.path(), after);
        produced = compare(folder.path(), promise, produced);
        promised += promise.durable;
    }
    assert!(
        produced >= promised,
        "{produced} produced, {promised} promised"
    );
    assert!(
        promised > KILLS * 10,
        "the children did some work: {promised}"
    );
}
