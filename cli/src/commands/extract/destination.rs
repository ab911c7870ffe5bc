//! The directories that an extraction writes to. Every call is relative to an open directory and follows no symbolic
//! link, so no name or link in the archive can lead outside.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use ar7_engine::format::Timestamp;
use rustix::fs::{
    AtFlags, CWD, Dev, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    chownat, fchmod, linkat, mkdirat, openat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::exit::Failure;

/// An open directory. Clones share the descriptor.
#[derive(Clone)]
pub(super) struct Directory(Arc<OwnedFd>);

/// The identity of a file: its device and its inode number.
pub(super) type FileId = (Dev, u64);

const DIRECTORY_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Directory {
    /// Opens the destination, which may be a symbolic link, or creates it.
    pub(super) fn make(path: &Path) -> Result<Directory, Failure> {
        std::fs::create_dir_all(path).map_err(|error| Failure::file(path, "create", error))?;
        let flags = DIRECTORY_FLAGS.difference(OFlags::NOFOLLOW);
        let opened = openat(CWD, path, flags, Mode::empty());
        opened.map(Directory::new).map_err(|error| Failure::file(path, "open", error))
    }

    fn new(descriptor: OwnedFd) -> Directory {
        Directory(Arc::new(descriptor))
    }

    /// Returns whether the name exists.
    pub(super) fn has(&self, name: &[u8]) -> bool {
        self.look(name).is_ok()
    }

    fn look(&self, name: &[u8]) -> io::Result<Stat> {
        Ok(statat(&*self.0, OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Returns the identity of the file of this name.
    pub(super) fn id(&self, name: &[u8]) -> io::Result<FileId> {
        Ok(file_id(&self.look(name)?))
    }

    /// Opens a subdirectory; fails if the name is a symbolic link.
    pub(super) fn open(&self, name: &[u8]) -> io::Result<Directory> {
        let opened = openat(&*self.0, OsStr::from_bytes(name), DIRECTORY_FLAGS, Mode::empty())?;
        Ok(Directory::new(opened))
    }

    /// Creates a directory that only its owner may enter until it is complete. With `merge`, uses an existing
    /// directory.
    pub(super) fn make_directory(&self, name: &[u8], merge: bool) -> io::Result<Directory> {
        match mkdirat(&*self.0, OsStr::from_bytes(name), Mode::RWXU) {
            Err(Errno::EXIST) if merge => {
                if file_type(&self.look(name)?) != FileType::Directory {
                    self.remove(name)?;
                    mkdirat(&*self.0, OsStr::from_bytes(name), Mode::RWXU)?;
                }
            }
            made => made?,
        }
        self.open(name)
    }

    /// Creates a file; fails if the name exists.
    pub(super) fn make_file(&self, name: &[u8]) -> io::Result<File> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&*self.0, OsStr::from_bytes(name), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(File::from(made))
    }

    /// Creates a symbolic link.
    pub(super) fn make_symlink(&self, name: &[u8], target: &[u8]) -> io::Result<()> {
        Ok(symlinkat(OsStr::from_bytes(target), &*self.0, OsStr::from_bytes(name))?)
    }

    /// Creates a hard link.
    pub(super) fn make_link(
        &self,
        name: &[u8],
        directory: &Directory,
        first: &[u8],
    ) -> io::Result<()> {
        let (first, name) = (OsStr::from_bytes(first), OsStr::from_bytes(name));
        Ok(linkat(&*directory.0, first, &*self.0, name, AtFlags::empty())?)
    }

    /// Removes a name, unless it is a directory.
    pub(super) fn remove(&self, name: &[u8]) -> io::Result<()> {
        Ok(unlinkat(&*self.0, OsStr::from_bytes(name), AtFlags::empty())?)
    }

    /// Removes a name if it exists and is not a directory.
    pub(super) fn remove_if_there(&self, name: &[u8]) -> io::Result<()> {
        match unlinkat(&*self.0, OsStr::from_bytes(name), AtFlags::empty()) {
            Err(Errno::NOENT) => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    /// Sets the mtime of the file or symbolic link of this name.
    pub(super) fn set_time(&self, name: &[u8], modified: Timestamp) -> io::Result<()> {
        let times = times(modified);
        Ok(utimensat(&*self.0, OsStr::from_bytes(name), &times, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the owner of the file or symbolic link of this name.
    pub(super) fn set_owner(&self, name: &[u8], uid: u32, gid: u32) -> io::Result<()> {
        let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        let name = OsStr::from_bytes(name);
        Ok(chownat(&*self.0, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Sets the permissions of this directory.
    pub(super) fn set_mode(&self, mode: u32) -> io::Result<()> {
        set_mode(&*self.0, mode)
    }
}

/// Sets the permissions of an open file.
pub(super) fn set_mode(file: impl AsFd, mode: u32) -> io::Result<()> {
    Ok(fchmod(file, Mode::from_raw_mode(raw_mode(mode)?))?)
}

/// Converts permissions to the type of the system, which has 16 bits on macOS.
fn raw_mode<T: TryFrom<u32>>(mode: u32) -> io::Result<T> {
    T::try_from(mode).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Returns the timestamps that set the mtime and leave the atime as it is.
fn times(modified: Timestamp) -> Timestamps {
    let modified = Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.into() };
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: modified,
    }
}

fn file_id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// Raises the soft limit on open files to the hard limit: the extraction holds one directory open for each level.
pub(super) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // If this fails, a deep tree fails later, when the limit is reached.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
