//! The file calls that the journal makes, and nothing else of the operating system.
//!
//! They sit behind two small traits so that a rig which loses, tears or refuses writes can stand beneath the real
//! code. [`Disk`] is the real one.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Name of the lock file in the journal's folder.
const LOCK_NAME: &str = "lock";

/// One folder that belongs to one journal.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Takes the folder for this process until the returned guard is dropped or the process ends, however it ends.
    /// `WouldBlock` when another process holds it.
    fn lock(&self) -> io::Result<Box<dyn Lock>>;
    /// Names and lengths in bytes of all files.
    fn list(&self) -> io::Result<Vec<(String, u64)>>;
    /// Opens a file for reading and writing; with `create`, makes an empty one where none is.
    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn File>>;
    /// Renames a file, replacing the one that has the new name.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_folder(&self) -> io::Result<()>;
    /// Where a file is, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// Holds a folder until it is dropped.
pub trait Lock: Send + Sync + fmt::Debug {}

impl Lock for fs::File {}

/// One open file. Every access names its offset, so that a failed write is repaired by writing the same bytes at the
/// same place again.
pub trait File: Send + fmt::Debug {
    /// Length in bytes.
    fn size(&self) -> io::Result<u64>;
    /// Reads up to the length of the buffer; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of the bytes.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the contents and the length durable (fdatasync).
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts the file.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A folder of the local file system.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Creates the folder where it is missing.
    pub fn new(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }
}

impl Storage for Disk {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        let file = fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path(LOCK_NAME))?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(file)),
            Err(fs::TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn list(&self) -> io::Result<Vec<(String, u64)>> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let metadata = entry.metadata()?;
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, metadata.len()));
            }
        }
        Ok(files)
    }

    fn open(&self, name: &str, create: bool) -> io::Result<Box<dyn File>> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .open(self.path(name))?;
        Ok(Box::new(DiskFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn sync_folder(&self) -> io::Result<()> {
        fs::File::open(&self.folder)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(&self.0, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(&self.0, bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}
