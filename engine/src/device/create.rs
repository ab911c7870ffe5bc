//! A new file that gets its name only when it is complete.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::TempPath;

use super::{Device, FileDevice, refused};
use crate::Result;

/// A file under a temporary name, to be renamed to its final name.
///
/// It lies in the final directory and only its owner can read it. It is locked for writing before its first byte is
/// written, and stays locked through the rename. Dropping it before
/// [`persist`](NewFile::persist) deletes it.
#[derive(Debug)]
pub struct NewFile {
    temporary: TempPath,
    target: PathBuf,
    directory: Directory,
}

/// The descriptor whose sync makes the new name durable.
#[derive(Debug)]
enum Directory {
    /// The directory itself.
    Open(File),
    /// A directory without read permission cannot be opened. The new file's descriptor, to sync its whole file system.
    Unreadable(File),
}

impl NewFile {
    /// Creates an empty file to be named `path`, and a device for it.
    ///
    /// Nothing may exist at `path`. This is checked here, to fail early, and again by [`persist`](NewFile::persist).
    pub fn create(path: impl AsRef<Path>) -> Result<(NewFile, FileDevice)> {
        let path = path.as_ref();
        let failed = |error| refused("create", Some(path), 1, error);
        // Absolute, so that a later change of the working directory does not change the target.
        let target = std::path::absolute(path).map_err(failed)?;
        let parent = target.parent().ok_or_else(|| failed(Errno::ISDIR.into()))?.to_owned();
        if fs::symlink_metadata(&target).is_ok() {
            return Err(failed(io::ErrorKind::AlreadyExists.into()));
        }
        let (file, temporary) = tempfile::Builder::new()
            .prefix(".ar7-")
            .suffix(".new")
            .tempfile_in(&parent)
            .map_err(failed)?
            .into_parts();
        let directory = Directory::open(&parent, &file).map_err(failed)?;
        let device = FileDevice::from_file(file).map_err(|error| error.at_path(path))?.named(path);
        device.lock_writer()?;
        Ok((NewFile { temporary, target, directory }, device))
    }

    /// Syncs `device`, renames the file, and syncs the directory. It never replaces a file that has taken the name
    /// meanwhile: that is an error of kind [`AlreadyExists`](io::ErrorKind::AlreadyExists).
    ///
    /// If the last step fails, the file has its name but may lose it in a crash.
    pub fn persist(self, device: &dyn Device) -> Result<()> {
        device.sync()?;
        let NewFile { temporary, target, directory } = self;
        rename_without_replacing(temporary, &target)
            .map_err(|error| refused("create", Some(&target), 1, error))?;
        directory.sync().map_err(|error| refused("sync directory", target.parent(), 1, error))
    }
}

impl Directory {
    fn open(directory: &Path, file: &File) -> io::Result<Directory> {
        match File::open(directory) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Ok(Directory::Unreadable(file.try_clone()?))
            }
            opened => opened.map(Directory::Open),
        }
    }

    fn sync(&self) -> io::Result<()> {
        match self {
            Directory::Open(directory) => match directory.sync_all() {
                // Some network file systems cannot sync a directory and write it through.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                answer => answer,
            },
            Directory::Unreadable(file) => sync_file_system(file),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn sync_file_system(file: &File) -> io::Result<()> {
    Ok(rustix::fs::syncfs(file)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn sync_file_system(_file: &File) -> io::Result<()> {
    rustix::fs::sync();
    Ok(())
}

/// Renames with `renameat2`, else with a hard link, else over an empty placeholder file.
fn rename_without_replacing(temporary: TempPath, target: &Path) -> io::Result<()> {
    let refusal = match temporary.persist_noclobber(target) {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    match refusal.error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::OPNOTSUPP | Errno::NOSYS | Errno::MLINK) => {
            rename_over_placeholder(refusal.path, target)
        }
        _ => Err(refusal.error),
    }
}

/// Creates an empty file under the name, which fails if the name exists, then renames over it. A crash between the two
/// leaves the empty file, which does not open as an archive.
pub(super) fn rename_over_placeholder(temporary: TempPath, target: &Path) -> io::Result<()> {
    drop(File::create_new(target)?);
    temporary.persist(target).map_err(|refusal| {
        // The placeholder is ours. If it cannot be removed either, the first error is the useful one.
        let _ = fs::remove_file(target);
        refusal.error
    })
}
