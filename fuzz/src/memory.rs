//! A journal's folder in memory: thousands of openings per second, and its files can be damaged at will.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use extranet_journal::storage::{File, Lock, Storage};

type Bytes = Arc<Mutex<Vec<u8>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic ends the fuzz target anyway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder. Clones are the same folder.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    files: Arc<Mutex<BTreeMap<String, Bytes>>>,
}

impl Memory {
    /// Makes or replaces a file.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        lock(&self.files).insert(name.to_owned(), Arc::new(Mutex::new(bytes)));
    }

    /// A copy of everything in it.
    #[must_use]
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        for (name, bytes) in lock(&self.files).iter() {
            copy.put(name, lock(bytes).clone());
        }
        copy
    }

    /// Names of all files, in order.
    pub fn names(&self) -> Vec<String> {
        lock(&self.files).keys().cloned().collect()
    }

    /// Changes a file's bytes in place; does nothing when there is no such file.
    pub fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        if let Ok(bytes) = self.get(name) {
            change(&mut lock(&bytes));
        }
    }

    /// Removes a file if it is there.
    pub fn forget(&self, name: &str) {
        lock(&self.files).remove(name);
    }

    fn get(&self, name: &str) -> io::Result<Bytes> {
        lock(&self.files)
            .get(name)
            .map(Arc::clone)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

#[derive(Debug)]
struct NoLock;

impl Lock for NoLock {}

impl Storage for Memory {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        Ok(Box::new(NoLock))
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let files = lock(&self.files);
        let with_len = |(name, bytes): (&String, &Bytes)| (name.clone(), lock(bytes).len() as u64);
        Ok(files.iter().map(with_len).collect())
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn File>> {
        if create {
            let mut files = lock(&self.files);
            return Ok(Box::new(MemoryFile(Arc::clone(
                files.entry(name.to_owned()).or_default(),
            ))));
        }
        Ok(Box::new(MemoryFile(self.get(name)?)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = lock(&self.files);
        let bytes = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = lock(&self.files).remove(name);
        removed
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("memory").join(name)
    }
}

#[derive(Debug)]
struct MemoryFile(Bytes);

impl File for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = lock(&self.0);
        let start = usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        let len = buffer.len().min(bytes.len() - start);
        buffer[..len].copy_from_slice(&bytes[start..start + len]);
        Ok(len)
    }

    fn write_all_at(&self, new: &[u8], offset: u64) -> io::Result<()> {
        let mut bytes = lock(&self.0);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let end = start + new.len();
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(new);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        lock(&self.0).resize(len, 0);
        Ok(())
    }
}
