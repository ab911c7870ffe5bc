//! The readers: they open a file, check its status again, and read small files completely.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use ar7_registry::records::{EntryType, InodeNumber};
use crossbeam::channel::{Receiver, Sender};

use super::status::{Kind, Status};
use super::walk::{Directory, Tree};
use crate::exit::Failure;

/// The largest file, in bytes, that a reader reads completely.
pub(super) const WHOLE_MAX: u64 = 1 << 20;

/// An entry of a directory of the source.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) directory: Arc<Directory>,
    pub(super) name: OsString,
    /// The status that the walk saw.
    pub(super) status: Status,
}

/// An entry, and where to send its content.
pub(super) struct Job {
    pub(super) entry: Entry,
    pub(super) answer: Sender<ReadOutcome>,
}

/// The result of a job.
pub(super) type ReadOutcome = Result<(Status, Content), Failure>;

/// The content of an entry.
pub(super) enum Content {
    /// A whole file.
    Whole(Vec<u8>),
    /// A large file. The writer opens it and reads it while storing it, which limits the number of open files.
    Large,
    /// The target of a symbolic link.
    Target(Vec<u8>),
}

/// Processes jobs until the channel closes.
pub(super) fn read_all(tree: &Tree<'_>, jobs: &Receiver<Job>) {
    for job in jobs {
        let outcome = job.entry.read(tree);
        // If the writer has stopped, nobody receives the answer.
        let _ = job.answer.send(outcome);
    }
}

impl Entry {
    /// Returns the path for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }

    /// The name in the archive refers to an inode that does not exist.
    pub(super) fn without_inode(&self, inode: InodeNumber) -> Failure {
        let path = self.path().into_os_string().into_vec();
        Failure::EntryWithoutInode { path, inode: inode.0 }
    }

    /// Reads the entry as it is now.
    pub(super) fn read(&self, tree: &Tree<'_>) -> ReadOutcome {
        let failed = |error| Failure::file(self.path(), "read", error);
        if self.status.kind == Kind::Stored(EntryType::Symlink) {
            let target =
                tree.with(&self.directory, |source, at| source.target(at.as_fd(), &self.name));
            return Ok((self.status, Content::Target(target.map_err(failed)?)));
        }
        if self.status.size > WHOLE_MAX {
            return Ok((self.status, Content::Large));
        }
        let (mut file, status) = self.open(tree)?;
        if status.size > WHOLE_MAX {
            return Ok((status, Content::Large));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(status.size).unwrap_or_default());
        // Ask for one more byte, to detect a file that is longer than reported, such as those in /proc.
        let most = status.size.saturating_add(1);
        (&mut file).take(most).read_to_end(&mut bytes).map_err(failed)?;
        check_unchanged(tree, &file, &status, bytes.len() as u64).map_err(failed)?;
        Ok((status, Content::Whole(bytes)))
    }

    /// Opens the file that currently has the name, and returns its status.
    pub(super) fn open(&self, tree: &Tree<'_>) -> Result<(File, Status), Failure> {
        let opened = tree.with(&self.directory, |source, at| {
            let file = source.open_file(at.as_fd(), &self.name)?;
            let status = source.status_of(file.as_fd())?;
            if status.kind == self.status.kind { Ok((file, status)) } else { Err(changed()) }
        });
        opened.map_err(|error| Failure::file(self.path(), "read", error))
    }
}

/// Checks that the file did not change while it was read. Otherwise the content may match neither its old nor its new
/// version.
pub(super) fn check_unchanged(
    tree: &Tree<'_>,
    file: &File,
    status: &Status,
    read_bytes: u64,
) -> io::Result<()> {
    if read_bytes == status.size && tree.status_of(file)?.is_same_version(status) {
        Ok(())
    } else {
        Err(changed())
    }
}

fn changed() -> io::Error {
    io::Error::other("it changed while it was read")
}
