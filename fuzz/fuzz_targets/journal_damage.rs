//! A journal is written, damaged and opened, as the bytes say, several times over. What comes back is only what was
//! written, under its own name, and the account balances.
#![no_main]

use std::collections::HashMap;
use std::sync::Arc;

use extranet_fuzz::memory::Memory;
use extranet_journal::{Cursor, Journal, Now, Options, Position, WhenFull};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

/// One step; places are taken modulo what there is.
#[derive(Debug, Arbitrary)]
enum Step {
    Append { len: u8, times: u8 },
    Sync,
    Acknowledge { from: u8, len: u8 },
    Refuse { from: u8, len: u8 },
    Reopen { seconds: u16 },
    Crash { damage: Vec<Damage> },
}

/// What happened to a file while nobody had it open.
#[derive(Debug, Arbitrary)]
enum Damage {
    Flip {
        file: u8,
        at: u16,
        mask: u8,
    },
    Cut {
        file: u8,
        at: u16,
    },
    Zero {
        file: u8,
        at: u16,
        len: u16,
    },
    /// Blocks of this file, or of another, show up at a wrong place.
    Stray {
        from: u8,
        at: u16,
        len: u16,
        to: u8,
        place: u16,
    },
    Remove {
        file: u8,
    },
}

#[derive(Debug, Arbitrary)]
struct Script {
    drop_oldest: bool,
    keep_acknowledged: bool,
    steps: Vec<Step>,
}

struct Rig {
    folder: Memory,
    options: Options,
    now: Now,
    journal: Option<Journal>,
    /// Everything that was ever accepted.
    written: HashMap<Position, Vec<u8>>,
}

impl Rig {
    fn new(script: &Script) -> Self {
        let options = Options {
            segment_bytes: 1 << 10,
            max_bytes: 16 << 10,
            max_age: None,
            keep_acknowledged: script.keep_acknowledged,
            when_full: if script.drop_oldest {
                WhenFull::DropOldest
            } else {
                WhenFull::Refuse
            },
        };
        Self {
            folder: Memory::default(),
            options,
            now: Now {
                wall_ms: 1_790_000_000_000,
            },
            journal: None,
            written: HashMap::new(),
        }
    }

    fn open(&mut self) -> &mut Journal {
        self.journal.get_or_insert_with(|| {
            let storage = Arc::new(self.folder.clone());
            let (journal, _) = Journal::open_on(storage, self.options.clone(), self.now)
                .expect("damage is no error");
            journal
        })
    }

    fn step(&mut self, step: &Step) {
        let now = self.now;
        match step {
            Step::Append { len, times } => {
                for time in 0..*times % 16 {
                    let payload = vec![time; usize::from(*len)];
                    if let Ok(position) = self.open().append(&payload, now) {
                        let earlier = self.written.insert(position, payload);
                        assert_eq!(earlier, None, "a number is used once");
                    }
                }
            }
            Step::Sync => {
                self.open().sync().expect("memory does not fail");
            }
            Step::Acknowledge { from, len } => {
                let from = u64::from(*from);
                for (incarnation, _) in self.open().waiting() {
                    self.open()
                        .acknowledge(incarnation, from..from + u64::from(*len));
                }
            }
            Step::Refuse { from, len } => {
                let journal = self.open();
                let (incarnation, from) = (journal.incarnation(), u64::from(*from));
                journal.refuse(incarnation, from..from + u64::from(*len));
            }
            Step::Reopen { seconds } => {
                let before = self.open().ledger();
                self.journal = None;
                self.now.wall_ms += i64::from(*seconds) * 1_000;
                let after = self.open().ledger();
                assert_eq!(after, before, "a journal that was closed");
            }
            Step::Crash { damage } => {
                // A dropped journal writes what it has: the copy is what a crash leaves.
                let left = self.folder.copy();
                self.journal = None;
                self.folder = left;
                for damage in damage.iter().take(8) {
                    self.damage(damage);
                }
            }
        }
        let ledger = self.open().ledger();
        assert!(ledger.balances(), "{ledger:?}");
    }

    fn damage(&self, damage: &Damage) {
        let names = self.folder.names();
        let name = |number: u8| names.get(usize::from(number) % names.len().max(1));
        match *damage {
            Damage::Flip { file, at, mask } => self.change(name(file), |bytes| {
                let at = usize::from(at) % bytes.len();
                bytes[at] ^= mask;
            }),
            Damage::Cut { file, at } => self.change(name(file), |bytes| {
                bytes.truncate(usize::from(at) % bytes.len());
            }),
            Damage::Zero { file, at, len } => self.change(name(file), |bytes| {
                let at = usize::from(at) % bytes.len();
                let end = (at + usize::from(len)).min(bytes.len());
                bytes[at..end].fill(0);
            }),
            Damage::Stray {
                from,
                at,
                len,
                to,
                place,
            } => {
                let mut stray = Vec::new();
                self.change(name(from), |bytes| {
                    let at = usize::from(at) % bytes.len();
                    let end = (at + usize::from(len)).min(bytes.len());
                    stray = bytes[at..end].to_vec();
                });
                self.change(name(to), |bytes| {
                    let place = usize::from(place) % bytes.len();
                    let end = bytes.len().min(place + stray.len());
                    bytes.splice(place..end, stray);
                });
            }
            Damage::Remove { file } => {
                if let Some(name) = name(file) {
                    self.folder.forget(name);
                }
            }
        }
    }

    fn change(&self, name: Option<&String>, change: impl FnOnce(&mut Vec<u8>)) {
        if let Some(name) = name {
            self.folder.change(name, |bytes| {
                if !bytes.is_empty() {
                    change(bytes);
                }
            });
        }
    }

    fn read_all(&mut self) {
        self.open().sync().expect("memory does not fail");
        let mut reader = self.open().reader(Cursor::oldest());
        while let Some((position, payload)) = reader.next().expect("memory does not fail") {
            assert_eq!(self.written.get(&position), Some(&payload), "{position:?}");
        }
    }
}

fuzz_target!(|script: Script| {
    let mut rig = Rig::new(&script);
    for step in script.steps.iter().take(64) {
        rig.step(step);
    }
    rig.read_all();
});
