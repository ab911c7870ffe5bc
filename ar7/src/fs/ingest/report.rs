//! What an ingest reports: events while it runs, and a report at its end.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::walk::Directory;
use crate::error::Error;
use crate::path::to_path;

/// An event of an ingest.
#[derive(Debug)]
#[non_exhaustive]
pub enum IngestEvent<'a> {
    /// An entry was handled.
    Entry {
        /// The entry.
        path: SourcePath<'a>,
        /// What happened to it.
        outcome: Outcome<'a>,
    },
    /// Content was read, or the archive already has it.
    Read {
        /// The number of bytes since the last such event.
        bytes: u64,
    },
    /// All bytes of the source were counted. See [`Ingest::count`](super::Ingest::count).
    Counted {
        /// The number of bytes.
        bytes: u64,
    },
    /// Everything so far is committed.
    Checkpoint {
        /// The number of checkpoints in this run.
        number: u64,
        /// The number of entries of the source that are in the archive now.
        entries: u64,
        /// The number of bytes in them.
        bytes: u64,
    },
    /// Nothing has happened for a moment. Sent so that the callback can stop the run.
    Waiting,
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// It was new, and is stored.
    Added,
    /// It differed from what was stored, and replaced it.
    Changed,
    /// It differed from what was stored, and replaced it, but it kept changing while it was read: it is stored as it
    /// was read. Each byte is one that the file had at that place at some moment.
    ChangedWhileRead,
    /// It was stored already.
    Unchanged,
    /// It is not in the source any more, and was removed from the archive, with everything in it.
    Removed,
    /// It was left out, with everything in it.
    LeftOut(SkipReason),
    /// It could not be read.
    Unread(&'a Error),
    /// It is stored, but an extended attribute could not be read. See [`IngestReport::attributes`].
    Attributes(&'a Error),
}

impl Outcome<'_> {
    /// Returns the name of the outcome, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Added => "added",
            Outcome::Changed => "changed",
            Outcome::ChangedWhileRead => "changed while it was read",
            Outcome::Unchanged => "unchanged",
            Outcome::Removed => "removed",
            Outcome::LeftOut(_) => "left out",
            Outcome::Unread(_) => "not read",
            Outcome::Attributes(_) => "attribute not read",
        }
    }
}

/// Why an entry was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SkipReason {
    /// A pattern excludes it.
    Excluded,
    /// It is the archive that is written.
    IsArchive,
    /// It is a directory of another file system. It is stored without what is in it.
    OtherFileSystem,
    /// It is a directory tagged as a cache. It is stored with its tag, but without anything else in it.
    Cache,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            SkipReason::Excluded => "excluded",
            SkipReason::IsArchive => "is the archive itself",
            SkipReason::OtherFileSystem => "on another file system",
            SkipReason::Cache => "tagged as a cache",
        })
    }
}

/// The path of an entry. It is put together only when it is asked for.
#[derive(Clone, Copy)]
pub struct SourcePath<'a> {
    inner: Inner<'a>,
}

#[derive(Clone, Copy)]
enum Inner<'a> {
    Below { directory: &'a Arc<Directory>, name: &'a OsStr },
    Typed(&'a PathBuf),
}

impl<'a> SourcePath<'a> {
    pub(super) fn new(directory: &'a Arc<Directory>, name: &'a OsStr) -> SourcePath<'a> {
        SourcePath { inner: Inner::Below { directory, name } }
    }

    pub(super) fn typed(path: &'a PathBuf) -> SourcePath<'a> {
        SourcePath { inner: Inner::Typed(path) }
    }

    /// Returns the path in the source, beginning with the path that was passed to [`Ingest::path`].
    ///
    /// [`Ingest::path`]: super::Ingest::path
    pub fn to_path(&self) -> PathBuf {
        match self.inner {
            Inner::Below { directory, name } => directory.shown_path_of(name),
            Inner::Typed(path) => path.clone(),
        }
    }

    /// Returns the path in the archive, below the directory of [`Ingest::into`](super::Ingest::into). `None` for a path
    /// that was passed to [`Ingest::path`](super::Ingest::path) and does not exist.
    pub fn stored(&self) -> Option<PathBuf> {
        match self.inner {
            Inner::Below { directory, name } => Some(to_path(directory.path_of(name.as_bytes()))),
            Inner::Typed(_) => None,
        }
    }
}

impl fmt::Debug for SourcePath<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_path().fmt(formatter)
    }
}

/// What an ingest did. Entries and bytes count everything visited that is now in the archive, whether this run or an
/// earlier one stored it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct IngestReport {
    /// Number of entries of the source that are in the archive.
    pub entries: u64,
    /// Number of bytes in them.
    pub bytes: u64,
    /// Number of entries, except directories, that this run stored.
    pub stored_files: u64,
    /// Number of bytes in them.
    pub stored_bytes: u64,
    /// Number of entries, except directories, that were stored already.
    pub unchanged: u64,
    /// Number of names removed from the archive because of [`Ingest::delete`](super::Ingest::delete).
    pub removed: u64,
    /// Number of checkpoints.
    pub checkpoints: u64,
    /// The entries that were left out, except those that a pattern excludes.
    pub left_out: Vec<LeftOut>,
    /// The files that kept changing while they were read. They are stored as they were read.
    pub changed: Vec<PathBuf>,
    /// What could not be read. An older version of it stays in the archive.
    pub unread: Vec<Unread>,
    /// The entries with extended attributes that could not be read or stored, and why the first of them could not: one
    /// of the source, which is missing in the archive then, or one of the archive, which that of the source replaced.
    pub attributes: Vec<Unread>,
    /// The paths passed to [`Ingest::path`](super::Ingest::path) that are symbolic links to directories. They are stored
    /// as links; their path followed by `/.` stores the entries of the directory.
    pub links: Vec<PathBuf>,
    /// The patterns of [`Ingest::exclude`](super::Ingest::exclude) that matched nothing.
    pub unmatched: Vec<OsString>,
}

impl IngestReport {
    /// Returns whether everything was read, and nothing changed while it was read.
    pub fn is_complete(&self) -> bool {
        self.unread.is_empty() && self.changed.is_empty() && self.attributes.is_empty()
    }
}

/// An entry that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// Its path in the source.
    pub path: PathBuf,
    /// Why it was left out.
    pub reason: SkipReason,
}

/// An entry that could not be read, or not completely.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Unread {
    /// Its path in the source.
    pub path: PathBuf,
    /// Why it could not be read.
    pub error: Error,
}

impl Unread {
    pub(super) fn new(path: PathBuf, operation: &'static str, error: io::Error) -> Unread {
        let error = failed(path.clone(), operation, error);
        Unread { path, error }
    }
}

/// Returns the error of an operation on an entry of the source.
pub(super) fn failed(path: PathBuf, operation: &'static str, error: io::Error) -> Error {
    Error::Io { operation, path: Some(path), source: Arc::new(error) }
}
