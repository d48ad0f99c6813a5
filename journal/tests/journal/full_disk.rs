//! A disk that is full is an outcome: errors, no panic, nothing accepted is lost, and all is well once there is room.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use extranet_journal::{AppendError, DropReason, Journal, Now, Options, WhenFull};

const NOW: Now = Now {
    wall_ms: 1_790_000_000_000,
};

/// A tmpfs of 1 MiB, gone when dropped.
struct SmallDisk {
    folder: tempfile::TempDir,
}

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m", "extranet-journal-test"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "mounting a tmpfs needs root");
        Self { folder }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Somebody else takes all the room but this.
    fn fill(&self, leave: usize) -> PathBuf {
        let path = self.path().join("somebody-else");
        let mut file = fs::File::create(&path).unwrap();
        while file.write_all(&[0; 4096]).is_ok() {}
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(leave as u64)).unwrap();
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.folder.path()).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || std::thread::panicking());
    }
}

fn options(when_full: WhenFull) -> Options {
    Options {
        segment_bytes: 64 << 10,
        max_bytes: 64 << 20,
        max_age: None,
        keep_acknowledged: true,
        when_full,
    }
}

fn open(disk: &SmallDisk, when_full: WhenFull) -> Journal {
    let folder = disk.path().join("journal");
    let (journal, recovery) = Journal::open(&folder, options(when_full), NOW).unwrap();
    assert_eq!(recovery.damaged_records, 0);
    journal
}

#[test]
fn an_ingest_log_refuses_and_recovers() {
    let disk = SmallDisk::mount();
    let mut journal = open(&disk, WhenFull::Refuse);
    let incarnation = journal.incarnation();
    for _ in 0..100 {
        journal.append(&[1; 1_000], NOW).unwrap();
    }
    journal.sync().unwrap();
    let other = disk.fill(8 << 10);

    // Refusals come from append or sync, whichever meets the disk first; both are plain errors.
    let mut accepted = 100;
    let mut refused = 0;
    for _ in 0..2_000 {
        match journal.append(&[2; 1_000], NOW) {
            Ok(_) => accepted += 1,
            Err(AppendError::Disk(error)) => {
                assert!(error.is_disk_full(), "{error:?}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 0);
    assert!(journal.sync().unwrap_err().is_disk_full());
    assert_eq!(
        journal.ledger().produced,
        accepted,
        "what is refused here stays with its sender"
    );
    assert!(journal.ledger().balances());
    let durable = journal.durable_position().unwrap();
    assert!(durable.sequence >= 99);

    fs::remove_file(other).unwrap();
    assert_eq!(journal.sync().unwrap().unwrap().sequence + 1, accepted);
    journal.append(&[3; 1_000], NOW).unwrap();
    journal.close().unwrap();
    let mut journal = open(&disk, WhenFull::Refuse);
    assert_eq!(journal.waiting(), vec![(incarnation, 0..accepted + 1)]);
    let records = journal
        .read_range(incarnation, 0..accepted + 1, usize::MAX)
        .unwrap();
    assert_eq!(records.len() as u64, accepted + 1);
    assert!(
        records[100..]
            .iter()
            .rev()
            .skip(1)
            .all(|(_, payload)| payload == &[2; 1_000])
    );
}

#[test]
fn a_spool_gives_up_its_oldest_records_for_new_ones() {
    let disk = SmallDisk::mount();
    let mut journal = open(&disk, WhenFull::DropOldest);
    for _ in 0..500 {
        journal.append(&[1; 1_000], NOW).unwrap();
        journal.sync().unwrap();
    }
    let other = disk.fill(0);
    for _ in 0..500 {
        journal.append(&[2; 1_000], NOW).unwrap();
        journal.sync().unwrap();
        assert!(journal.ledger().balances());
    }
    let ledger = journal.ledger();
    assert!(ledger.dropped[&DropReason::Disk] >= 400, "{ledger:?}");
    assert_eq!(ledger.produced, 1_000);
    let told: u64 = journal
        .take_drops()
        .iter()
        .map(|drop| drop.range.end - drop.range.start)
        .sum();
    assert_eq!(told, ledger.dropped[&DropReason::Disk]);
    fs::remove_file(other).unwrap();
    journal.close().unwrap();
    assert_eq!(open(&disk, WhenFull::DropOldest).ledger(), ledger);
}

#[test]
fn a_spool_without_any_room_counts_what_it_could_not_take() {
    let disk = SmallDisk::mount();
    let mut journal = open(&disk, WhenFull::DropOldest);
    let other = disk.fill(0);
    let mut refused = 0;
    for _ in 0..3_000 {
        if let Err(error) = journal.append(&[1; 1_000], NOW) {
            assert!(matches!(error, AppendError::Disk(_)), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    assert!(journal.sync().is_err());
    assert_eq!(journal.waiting(), vec![], "nothing is durable");
    let ledger = journal.ledger();
    assert_eq!(
        (ledger.produced, ledger.dropped[&DropReason::Disk]),
        (3_000, refused)
    );
    assert!(ledger.balances());
    fs::remove_file(other).unwrap();
    journal.sync().unwrap();
    journal.append(&[2; 1_000], NOW).unwrap();
    journal.close().unwrap();
    let journal = open(&disk, WhenFull::DropOldest);
    let ledger = journal.ledger();
    assert_eq!(ledger.waiting, 3_001 - refused);
    assert_eq!(ledger.dropped[&DropReason::Disk], refused);
}
