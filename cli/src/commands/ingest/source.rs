//! The file system as the walk and the readers see it: every call goes through [`Source`], so that a test can fail
//! any of them or change the tree between two of them.
//!
//! All calls are relative to the descriptor of a directory, and none follows a symbolic link below a path that the
//! user typed. A directory that is renamed or replaced during the walk therefore cannot lead into another one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, fstat, openat, readlinkat, statat};

use super::status::Status;

/// The calls that read the file system.
pub(crate) trait Source: Sync {
    /// Opens the directory that a typed path leads to. Symbolic links are followed.
    fn open_location(&self, path: &Path) -> io::Result<OwnedFd>;

    /// Opens a directory by its name in another, and never through a symbolic link.
    fn open_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd>;

    /// Returns the names in a directory, sorted by bytes, without `.` and `..`.
    fn names(&self, directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>>;

    /// Returns the status of an entry. Symbolic links are not followed.
    fn status(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Status>;

    /// Opens a file for reading. Does not block on a fifo, and refuses a symbolic link.
    fn open_file(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<File>;

    /// Returns the target of a symbolic link.
    fn target(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>>;

    /// Returns the status of an open file or directory.
    fn status_of(&self, file: BorrowedFd<'_>) -> io::Result<Status>;
}

/// The file system of the operating system.
pub(crate) struct System;

/// Opening a directory with this flag needs no permission to read it.
#[cfg(target_os = "linux")]
const LOCATION_ONLY: OFlags = OFlags::PATH;
#[cfg(target_vendor = "apple")]
const LOCATION_ONLY: OFlags = OFlags::from_bits_retain(libc::O_SEARCH.cast_unsigned());
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
const LOCATION_ONLY: OFlags = OFlags::RDONLY;

const LOCATION_FLAGS: OFlags = LOCATION_ONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

const DIRECTORY_FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

const FILE_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

impl Source for System {
    fn open_location(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(openat(CWD, path, LOCATION_FLAGS, Mode::empty())?)
    }

    fn open_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
        Ok(openat(parent, name, DIRECTORY_FLAGS, Mode::empty())?)
    }

    fn names(&self, directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort_unstable();
        // Some file systems list an entry twice if it is replaced during the listing.
        names.dedup();
        Ok(names)
    }

    fn status(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Status> {
        Ok(Status::new(&statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    fn open_file(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
        Ok(openat(parent, name, FILE_FLAGS, Mode::empty())?.into())
    }

    fn target(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>> {
        let target = readlinkat(parent, name, Vec::new())?;
        Ok(OsString::from_vec(target.into_bytes()).into_vec())
    }

    fn status_of(&self, file: BorrowedFd<'_>) -> io::Result<Status> {
        Ok(Status::new(&fstat(file.as_fd())?))
    }
}
