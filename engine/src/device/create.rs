//! A new file that gets its name only when it is complete.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use tempfile::TempPath;

use super::{Access, Device, FileDevice, refused};
use crate::{Error, Result};

/// End of every temporary name. A new file `backup.ar7` is called `.backup.ar7.XXXXXX.incomplete` at first.
const SUFFIX: &str = ".incomplete";

/// Number of random characters in a temporary name.
const RANDOM_CHARACTERS: usize = 6;

/// Number of bytes of the final name that a temporary one repeats at most. The longest name has 255.
const REPEATED_MAX: usize = 200;

/// Number of temporary names to try, should other processes remove them.
const NAMES_MAX: u32 = 64;

/// A file under a temporary name, to be renamed to its final name.
///
/// It lies in the final directory and only its owner can read it. It is locked for writing before its first byte is
/// written, and stays locked through the rename. Dropping it before [`persist`](NewFile::persist) deletes it. If the
/// process is killed, it stays; [`remove_abandoned`] removes it.
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
        for _ in 0..NAMES_MAX {
            let (file, temporary) = tempfile::Builder::new()
                .prefix(&prefix_of(&target))
                .suffix(SUFFIX)
                .rand_bytes(RANDOM_CHARACTERS)
                .tempfile_in(&parent)
                .map_err(failed)?
                .into_parts();
            let directory = Directory::open(&parent, &file).map_err(failed)?;
            let device = FileDevice::from_file(file).map_err(|error| error.at_path(path))?;
            let device = device.named(path);
            if lock_new(&device, &temporary)? {
                return Ok((NewFile { temporary, target, directory }, device));
            }
        }
        Err(failed(io::ErrorKind::ResourceBusy.into()))
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

/// Removes the files that killed processes left under temporary names for `path`: nobody has locked them. What cannot be
/// removed stays, and costs nothing but space.
pub fn remove_abandoned(path: &Path) {
    let Ok(target) = std::path::absolute(path) else { return };
    let entries = target.parent().and_then(|parent| fs::read_dir(parent).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if !is_file || !is_temporary_name(&entry.file_name(), &target) {
            continue;
        }
        let Ok(file) = FileDevice::open(entry.path(), Access::ReadWrite) else { continue };
        // The lock is held until the name is gone, so that its owner notices.
        if file.lock_writer().is_ok() {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Locks a new file. Returns false if another process took it for an abandoned one, because it was not locked yet.
pub(super) fn lock_new(device: &FileDevice, temporary: &Path) -> Result<bool> {
    match device.lock_writer() {
        Err(Error::Locked { .. }) => return Ok(false),
        outcome => outcome?,
    }
    let own = device.file().metadata().map_err(|error| Error::io("stat", error))?;
    let is_own = |found: fs::Metadata| (found.dev(), found.ino()) == (own.dev(), own.ino());
    Ok(fs::symlink_metadata(temporary).is_ok_and(is_own))
}

/// Returns how the temporary names for a file begin.
fn prefix_of(target: &Path) -> OsString {
    let name = target.file_name().unwrap_or_default().as_bytes();
    let name = name.get(..REPEATED_MAX).unwrap_or(name);
    OsStr::from_bytes(&[b".", name, b"."].concat()).to_owned()
}

fn is_temporary_name(name: &OsStr, target: &Path) -> bool {
    let random = name.as_bytes().strip_prefix(prefix_of(target).as_bytes());
    let random = random.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    random.is_some_and(|random| {
        random.len() == RANDOM_CHARACTERS && random.iter().all(u8::is_ascii_alphanumeric)
    })
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
