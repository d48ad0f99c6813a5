//! A folder in memory that loses power, fills up and fails to sync on demand.
//!
//! What a power cut leaves is as bad as a disk may make it: of what was written since a file's last sync, any 512-byte
//! sector may be there or not, and of the changes to the folder since its last sync any prefix.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use extranet_journal::storage::{File, Lock, Storage};

const SECTOR: usize = 512;

#[derive(Debug, Default, Clone)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug, Clone)]
enum Change {
    Link(String, usize),
    Unlink(String),
}

#[derive(Debug, Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    unsynced_changes: Vec<Change>,
    /// Handles of earlier generations belong to processes that are dead.
    generation: u64,
    /// Bytes that all files together may have.
    capacity: Option<usize>,
    /// So many syncs of files will fail.
    failing_syncs: u32,
    /// Bytes of a file that cannot be read.
    unreadable: Option<(usize, Range<usize>)>,
}

/// The disk, whatever process uses it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Rig(Arc<Mutex<State>>);

impl Rig {
    pub(crate) fn with_files(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let rig = Self::default();
        let mut state = rig.state();
        for (name, bytes) in files {
            let inode = Inode {
                now: bytes.clone(),
                durable: bytes.clone(),
            };
            state.inodes.push(inode);
            let id = state.inodes.len() - 1;
            state.names.insert(name.clone(), id);
            state.durable_names.insert(name.clone(), id);
        }
        drop(state);
        rig
    }

    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.state();
        state
            .names
            .iter()
            .map(|(name, id)| (name.clone(), state.inodes[*id].now.clone()))
            .collect()
    }

    /// The folder as a new process sees it.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        Arc::new(Handle {
            rig: self.clone(),
            generation: self.state().generation,
        })
    }

    /// Ends the process that uses the folder: nothing that it still does has an effect.
    pub(crate) fn kill(&self) {
        self.state().generation += 1;
    }

    /// Ends it by a power cut; `coin` decides about everything that was not synced.
    pub(crate) fn cut_power(&self, mut coin: impl FnMut() -> bool) {
        let mut state = self.state();
        state.generation += 1;
        let mut names = state.durable_names.clone();
        for change in std::mem::take(&mut state.unsynced_changes) {
            if coin() {
                break;
            }
            apply(&mut names, change);
        }
        state.names.clone_from(&names);
        state.durable_names = names;
        for inode in &mut state.inodes {
            let longer = inode.now.len().max(inode.durable.len());
            let mut left = Vec::with_capacity(longer);
            for at in (0..longer).step_by(SECTOR) {
                let end = (at + SECTOR).min(longer);
                let source = if coin() { &inode.now } else { &inode.durable };
                let sector: Vec<u8> = (at..end)
                    .map(|byte| source.get(byte).copied().unwrap_or(0))
                    .collect();
                left.extend_from_slice(&sector);
            }
            left.truncate(if coin() {
                inode.now.len()
            } else {
                inode.durable.len()
            });
            inode.now.clone_from(&left);
            inode.durable = left;
        }
    }

    pub(crate) fn set_capacity(&self, capacity: Option<usize>) {
        self.state().capacity = capacity;
    }

    pub(crate) fn fail_syncs(&self, count: u32) {
        self.state().failing_syncs = count;
    }

    pub(crate) fn set_unreadable(&self, name: &str, bytes: Range<usize>) {
        let mut state = self.state();
        state.unreadable = Some((state.names[name], bytes));
    }

    pub(crate) fn used(&self) -> usize {
        self.state().used()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn apply(names: &mut BTreeMap<String, usize>, change: Change) {
    match change {
        Change::Link(name, id) => {
            names.insert(name, id);
        }
        Change::Unlink(name) => {
            names.remove(&name);
        }
    }
}

impl State {
    fn used(&self) -> usize {
        self.names
            .values()
            .map(|id| self.inodes[*id].now.len())
            .sum()
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, change.clone());
        self.unsynced_changes.push(change);
    }
}

#[derive(Debug)]
struct Handle {
    rig: Rig,
    generation: u64,
}

impl Handle {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.rig.state();
        if state.generation == self.generation {
            Ok(state)
        } else {
            Err(io::Error::other("the process is dead"))
        }
    }
}

#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

impl Storage for Handle {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(NoLock))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let state = self.state()?;
        let len = |id: &usize| state.inodes[*id].now.len() as u64;
        Ok(state
            .names
            .iter()
            .map(|(name, id)| (name.clone(), len(id)))
            .collect())
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn File>> {
        let mut state = self.state()?;
        let id = match state.names.get(name) {
            Some(id) => *id,
            None if create => {
                state.inodes.push(Inode::default());
                let id = state.inodes.len() - 1;
                state.change(Change::Link(name.to_owned(), id));
                id
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        let handle = Self {
            rig: self.rig.clone(),
            generation: self.generation,
        };
        Ok(Box::new(OpenFile { handle, id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state()?;
        let id = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        // One step on a real disk; a cut between the two leaves both names, which is worse.
        state.change(Change::Link(to.to_owned(), id));
        state.change(Change::Unlink(from.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state()?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change(Change::Unlink(name.to_owned()));
        Ok(())
    }

    fn sync_folder(&self) -> io::Result<()> {
        let mut state = self.state()?;
        state.unsynced_changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("/rig").join(name)
    }
}

#[derive(Debug)]
struct OpenFile {
    handle: Handle,
    id: usize,
}

impl File for OpenFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.handle.state()?.inodes[self.id].now.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.handle.state()?;
        let data = &state.inodes[self.id].now;
        let start = usize::try_from(offset).unwrap().min(data.len());
        let mut len = buffer.len().min(data.len() - start);
        if let Some((id, bad)) = &state.unreadable
            && *id == self.id
            && start < bad.end
            && start + len > bad.start
        {
            // The kernel gives what comes before, and the error with the next call.
            len = bad.start.saturating_sub(start);
            if len == 0 {
                return Err(io::Error::from_raw_os_error(5));
            }
        }
        buffer[..len].copy_from_slice(&data[start..start + len]);
        Ok(len)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.handle.state()?;
        let start = usize::try_from(offset).unwrap();
        let room = state
            .capacity
            .map_or(usize::MAX, |all| all.saturating_sub(state.used()));
        let data = &mut state.inodes[self.id].now;
        let growth = (start + bytes.len()).saturating_sub(data.len());
        // A real disk writes what it has room for and fails with the rest.
        let len = bytes.len() - growth.saturating_sub(room).min(bytes.len());
        if data.len() < start + len {
            data.resize(start + len, 0);
        }
        data[start..start + len].copy_from_slice(&bytes[..len]);
        if len < bytes.len() {
            Err(io::ErrorKind::StorageFull.into())
        } else {
            Ok(())
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.handle.state()?;
        let failing = state.failing_syncs > 0;
        let inode = &mut state.inodes[self.id];
        if failing {
            // The kernel forgets what it could not write and calls it clean.
            inode.now.truncate(inode.durable.len());
            let kept = inode.now.len();
            inode.now.copy_from_slice(&inode.durable[..kept]);
            state.failing_syncs -= 1;
            return Err(io::Error::other("bad block"));
        }
        inode.durable.clone_from(&inode.now);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.handle.state()?;
        state.inodes[self.id]
            .now
            .resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
}
