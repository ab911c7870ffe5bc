//! The file system as the walk and the readers see it: every call goes through [`Source`], so that a test can fail
//! any of them or change the tree between two of them.
//!
//! All calls are relative to the descriptor of a directory, and none follows a symbolic link below a path that the
//! user typed. A directory that is renamed or replaced during the walk therefore cannot lead into another one.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ar7_engine::format::Timestamp;
use rustix::buffer::spare_capacity;
use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, SeekFrom, fstat, openat, readlinkat, seek, statat,
};
use rustix::io::Errno;
use xattr::FileExt;

use super::status::Status;
use crate::fs::system::{DIRECTORY_FLAGS, FILE_FLAGS};

/// Names of a directory.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// In ascending order of their bytes.
    pub(crate) names: Vec<OsString>,
    /// Whether the directory has no name above them.
    pub(crate) is_last: bool,
}

/// The calls that read the file system.
pub(crate) trait Source: Sync {
    /// Opens the directory that a typed path leads to. Symbolic links are followed.
    fn open_location(&self, path: &Path) -> io::Result<OwnedFd>;

    /// Opens a directory by its name in another, and never through a symbolic link.
    fn open_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd>;

    /// Returns the lowest names above `after` in a directory, without `.` and `..`: all of them, or as many as take
    /// about `budget` bytes of memory.
    fn names(
        &self,
        directory: BorrowedFd<'_>,
        after: Option<&OsStr>,
        budget: usize,
    ) -> io::Result<Names>;

    /// Returns the status of an entry. Symbolic links are not followed.
    fn status(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Status>;

    /// Opens a file for reading. Does not block on a fifo, and refuses a symbolic link. Fails with
    /// [`io::ErrorKind::WouldBlock`] while another process has a lease of it.
    fn open_file(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<File>;

    /// Returns the target of a symbolic link.
    fn target(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>>;

    /// Returns the status of an open file or directory.
    fn status_of(&self, file: BorrowedFd<'_>) -> io::Result<Status>;

    /// Reads from an offset of an open file into the spare capacity of a buffer. Returns the number of bytes, 0 at the
    /// end of the file.
    fn read_at(&self, file: BorrowedFd<'_>, offset: u64, buffer: &mut Vec<u8>)
    -> io::Result<usize>;

    /// Returns the next range of an open file, from an offset on, that is not a hole. `None` if the rest is a hole.
    fn data_from(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<Option<Range<u64>>>;

    /// Returns the names of the extended attributes of an entry.
    fn attribute_names(&self, entry: Attributed<'_>) -> io::Result<Vec<OsString>>;

    /// Returns an extended attribute of an entry, if it has this one.
    fn attribute(&self, entry: Attributed<'_>, name: &OsStr) -> io::Result<Option<Vec<u8>>>;
}

/// An entry with extended attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attributed<'a> {
    /// An open file or directory.
    Open(BorrowedFd<'a>),
    /// An entry of a directory that cannot be opened without an effect, such as a device.
    Named(BorrowedFd<'a>, &'a OsStr),
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

/// The memory that a name takes besides its bytes.
const NAME_OVERHEAD: usize = size_of::<OsString>() + 2 * size_of::<usize>();

impl Source for System {
    fn open_location(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(openat(CWD, path, LOCATION_FLAGS, Mode::empty())?)
    }

    fn open_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
        Ok(openat(parent, name, DIRECTORY_FLAGS, Mode::empty())?)
    }

    fn names(
        &self,
        directory: BorrowedFd<'_>,
        after: Option<&OsStr>,
        budget: usize,
    ) -> io::Result<Names> {
        let mut lowest = Lowest { names: Vec::new(), bytes: 0, budget, bound: None };
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name != "." && name != ".." && after.is_none_or(|after| name > after) {
                lowest.add(name);
            }
        }
        Ok(lowest.finish())
    }

    fn status(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Status> {
        let now = Timestamp::now();
        Ok(Status::new(&statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?, now))
    }

    fn open_file(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
        Ok(openat(parent, name, FILE_FLAGS, Mode::empty())?.into())
    }

    fn target(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>> {
        Ok(readlinkat(parent, name, Vec::new())?.into_bytes())
    }

    fn status_of(&self, file: BorrowedFd<'_>) -> io::Result<Status> {
        let now = Timestamp::now();
        Ok(Status::new(&fstat(file.as_fd())?, now))
    }

    fn read_at(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        loop {
            match rustix::io::pread(file, spare_capacity(buffer), offset) {
                Err(Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    fn data_from(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<Option<Range<u64>>> {
        let start = match seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(None),
            // The file system does not know holes.
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(Some(offset..u64::MAX)),
            Err(error) => return Err(error.into()),
        };
        match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => Ok(Some(start..end)),
            // The file became shorter in between.
            Err(Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn attribute_names(&self, entry: Attributed<'_>) -> io::Result<Vec<OsString>> {
        Ok(match entry {
            Attributed::Open(file) => Descriptor(file).list_xattr()?.collect(),
            Attributed::Named(parent, name) => xattr::list(path_of(parent, name))?.collect(),
        })
    }

    fn attribute(&self, entry: Attributed<'_>, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
        match entry {
            Attributed::Open(file) => Descriptor(file).get_xattr(name),
            Attributed::Named(parent, entry) => xattr::get(path_of(parent, entry), name),
        }
    }
}

/// Returns a path for calls that take no directory and name. Where it does not exist, such entries have no attributes.
fn path_of(parent: BorrowedFd<'_>, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name)
}

/// A borrowed descriptor with the calls for extended attributes.
struct Descriptor<'a>(BorrowedFd<'a>);

impl AsRawFd for Descriptor<'_> {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl FileExt for Descriptor<'_> {}

/// Collects the lowest names of a directory within a budget of memory.
struct Lowest {
    names: Vec<OsString>,
    bytes: usize,
    budget: usize,
    /// The highest name that still belongs to the lowest ones, once some were dropped.
    bound: Option<OsString>,
}

impl Lowest {
    fn add(&mut self, name: &OsStr) {
        if self.bound.as_deref().is_some_and(|bound| name > bound) {
            return;
        }
        self.bytes += name.len() + NAME_OVERHEAD;
        self.names.push(name.to_owned());
        // Sorting only when twice the budget is reached keeps the cost of sorting in proportion to that of reading.
        if self.bytes > 2 * self.budget {
            self.trim();
        }
    }

    fn sort(&mut self) {
        self.names.sort_unstable();
        // Some file systems list an entry twice if it is replaced during the listing.
        self.names.dedup();
    }

    /// Drops the highest names beyond the budget, but never the lowest name.
    fn trim(&mut self) {
        self.sort();
        let mut bytes = 0;
        let within = self.names.iter().take_while(|name| {
            bytes += name.len() + NAME_OVERHEAD;
            bytes <= self.budget
        });
        let count = within.count().max(1);
        if count < self.names.len() {
            self.names.truncate(count);
            self.bound = self.names.last().cloned();
        }
        self.bytes = self.names.iter().map(|name| name.len() + NAME_OVERHEAD).sum();
    }

    fn finish(mut self) -> Names {
        if self.bytes > self.budget {
            self.trim();
        } else {
            self.sort();
        }
        Names { names: self.names, is_last: self.bound.is_none() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_passes_list_every_name_once_in_ascending_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut expected: Vec<OsString> =
            (0..500).map(|n| format!("{}", n * 7919 % 500).into()).collect();
        for name in &expected {
            File::create(folder.path().join(name)).unwrap();
        }
        expected.sort();
        let directory = File::open(folder.path()).unwrap();
        for budget in [1, 100, 5000, 1 << 20] {
            let (mut listed, mut passes): (Vec<OsString>, usize) = (Vec::new(), 0);
            loop {
                let after = listed.last().cloned();
                let page = System.names(directory.as_fd(), after.as_deref(), budget).unwrap();
                let bytes: usize = page.names.iter().map(|name| name.len() + NAME_OVERHEAD).sum();
                assert!(bytes <= budget || page.names.len() == 1, "{bytes} bytes of {budget}");
                listed.extend(page.names);
                passes += 1;
                if page.is_last {
                    break;
                }
            }
            assert_eq!(listed, expected, "budget {budget}");
            assert_eq!(passes == 1, budget == 1 << 20, "{passes} passes for {budget}");
        }
    }
}
