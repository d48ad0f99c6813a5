//! A small disk of its own (tmpfs), to be filled up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A mounted disk; unmounted when dropped.
#[derive(Debug)]
pub struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// Mounts a disk of so many KiB on a folder, which is created.
    pub fn mount(folder: &Path, kib: u32) -> Self {
        std::fs::create_dir_all(folder)
            .unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
        let size = format!("size={kib}k");
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )
        .unwrap_or_else(|errno| panic!("cannot mount {}: {errno}", folder.display()));
        Self {
            folder: folder.to_owned(),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }

    /// Takes every byte that is left.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("an inode is left");
        while ballast.write_all(&[0; 4096]).is_ok() {}
    }

    /// Gives back what [`Self::fill`] took.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the disk was filled");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process may be on its way out.
        umount2(&self.folder, MntFlags::MNT_DETACH).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_until_it_is_freed() {
        let folder = tempfile::tempdir().unwrap();
        let disk = SmallDisk::mount(folder.path(), 64);
        let file = folder.path().join("file");
        disk.fill();
        let error = std::fs::write(&file, [0; 10]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        disk.free();
        std::fs::write(&file, [0; 10]).unwrap();
        drop(disk);
        assert!(!file.try_exists().unwrap());
    }
}
