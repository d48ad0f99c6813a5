//! Small files in the state folder: written whole or not at all, and never believed when they are damaged.
//!
//! ```text
//! version (1 byte, 1) | SHA-256 of the payload (32 bytes) | payload
//! ```
//!
//! A file is written beside its name, forced to disk and renamed, so that a power cut leaves the old or the new one.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::identity::ticket::sha256;

/// Version of the frame.
const VERSION: u8 = 1;
/// Largest payload, bytes: an assignment is a gRPC message, everything else is smaller.
const PAYLOAD_BYTES: usize = extranet_proto::limits::MESSAGE_BYTES;
/// Version byte and digest.
const HEADER_BYTES: usize = 33;

/// Why a state file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// The system refused.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The content is not what was written.
    #[error("{} is damaged", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// Written by a newer release.
    #[error("{} has version {version}, this build reads version {VERSION}: was the agent downgraded?", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// What it says.
        version: u8,
    },
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateFileError {
    let path = path.to_owned();
    move |source| StateFileError::Io {
        operation,
        path,
        source,
    }
}

/// The payload, or `None` where there is no file.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, StateFileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let mut content = Vec::new();
    file.take((HEADER_BYTES + PAYLOAD_BYTES + 1) as u64)
        .read_to_end(&mut content)
        .map_err(io_error("read", path))?;
    let damaged = || StateFileError::Damaged {
        path: path.to_owned(),
    };
    match content.first() {
        None => return Err(damaged()),
        Some(&version) if version > VERSION => {
            return Err(StateFileError::Newer {
                path: path.to_owned(),
                version,
            });
        }
        Some(_) => {}
    }
    let (header, payload) = content.split_at_checked(HEADER_BYTES).ok_or_else(damaged)?;
    if payload.len() > PAYLOAD_BYTES || header.get(1..) != Some(sha256(payload).as_slice()) {
        return Err(damaged());
    }
    Ok(Some(payload.to_vec()))
}

/// Replaces the file, readable for its owner only.
pub fn write(path: &Path, payload: &[u8]) -> Result<(), StateFileError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .map_err(io_error("create", &beside))?;
    file.write_all(&[VERSION])
        .and_then(|()| file.write_all(&sha256(payload)))
        .and_then(|()| file.write_all(payload))
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", &beside))?;
    give_to_owner_of_folder(&beside);
    std::fs::rename(&beside, path).map_err(io_error("rename to", path))?;
    if let Some(folder) = path.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(io_error("sync", folder))?;
    }
    Ok(())
}

/// What root writes ("extranet-agent enrol" by a technician) belongs to the service's user, like the folder. Others can
/// only write what is theirs already, so a refusal means nothing.
fn give_to_owner_of_folder(file: &Path) {
    use std::os::unix::fs::MetadataExt as _;
    let folder = file.parent().and_then(|folder| folder.metadata().ok());
    if let Some(folder) = folder {
        drop(std::os::unix::fs::chown(
            file,
            Some(folder.uid()),
            Some(folder.gid()),
        ));
    }
}

/// Puts a damaged file aside as `<name>.damaged`, so that it can be looked at and is not met again.
pub fn set_aside(path: &Path) -> Result<(), StateFileError> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".damaged");
    std::fs::rename(path, aside).map_err(io_error("set aside", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_every_damage_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"second");

        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            std::fs::write(&path, &good[..at]).unwrap();
            assert!(read(&path).is_err(), "cut at {at}");
            let mut flipped = good.clone();
            flipped[at] ^= 0x40;
            std::fs::write(&path, &flipped).unwrap();
            assert!(read(&path).is_err(), "flipped at {at}");
        }
        set_aside(&path).unwrap();
        assert_eq!(read(&path).unwrap(), None);
    }
}
