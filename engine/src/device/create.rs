//! A new file that appears under its name whole, or not at all.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::TempPath;

use super::{Device, FileDevice, refused};
use crate::Result;

/// A file under a temporary name, on its way to the name that was asked for.
///
/// It lies in the directory it is going to, readable by its owner only, and is locked
/// exclusively from before its first byte; the lock stays through the renaming, so nobody ever
/// opens it half made. Dropped before [`persist`](NewFile::persist), it is deleted.
#[derive(Debug)]
pub struct NewFile {
    temporary: TempPath,
    target: PathBuf,
    directory: Directory,
}

/// What is synced for the new name to be durable.
#[derive(Debug)]
enum Directory {
    /// The directory itself.
    Open(File),
    /// A directory that may be written to but not read cannot be opened: the whole file system
    /// of the new file is synced.
    Unreadable(File),
}

impl NewFile {
    /// Makes an empty file that will be named `path`, and the device in it.
    ///
    /// There must be nothing at `path`; that is checked here, to be told early, and once
    /// more by [`persist`](NewFile::persist).
    pub fn create(path: impl AsRef<Path>) -> Result<(NewFile, FileDevice)> {
        let path = path.as_ref();
        let failed = |error| refused("create", Some(path), 1, error);
        // A later change of the working directory must not change what the path means.
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
        device.lock_exclusive()?;
        Ok((NewFile { temporary, target, directory }, device))
    }

    /// Syncs `device`, gives the file its name, and syncs the directory. A file that has come
    /// to the name meanwhile is left alone: an error of kind
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists).
    ///
    /// After an error of the last step the file has its name, but may lose it in a crash.
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
                // Some network file systems know no sync of a directory, and write it at once.
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

/// Renames by `renameat2`, or by a hard link where that is refused, or else by taking the name
/// with an empty file first.
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

/// Takes the name with an empty file, which fails if there is one already, then renames over
/// it. A crash between the two leaves the empty file, which no opening takes for an archive.
pub(super) fn rename_over_placeholder(temporary: TempPath, target: &Path) -> io::Result<()> {
    drop(File::create_new(target)?);
    temporary.persist(target).map_err(|refusal| {
        // The placeholder is ours; if it cannot be removed either, the first error says more.
        let _ = fs::remove_file(target);
        refusal.error
    })
}
