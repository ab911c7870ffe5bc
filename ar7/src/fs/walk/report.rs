//! What a walk through the file system reports.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use super::directories::Directory;
use crate::error::Error;
use crate::path::to_path;

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
    pub(crate) fn new(directory: &'a Arc<Directory>, name: &'a OsStr) -> SourcePath<'a> {
        SourcePath { inner: Inner::Below { directory, name } }
    }

    pub(crate) fn typed(path: &'a PathBuf) -> SourcePath<'a> {
        SourcePath { inner: Inner::Typed(path) }
    }

    /// Returns the path in the source, beginning with the path that was passed to [`Walk::path`](super::Walk::path) or
    /// [`Ingest::path`](crate::fs::Ingest::path).
    pub fn to_path(&self) -> PathBuf {
        match self.inner {
            Inner::Below { directory, name } => directory.shown_path_of(name),
            Inner::Typed(path) => path.clone(),
        }
    }

    /// Returns the path in the archive, below the directory of [`Ingest::into`](crate::fs::Ingest::into). `None` for a
    /// path that was passed to an ingest and does not exist.
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
    pub(crate) fn new(path: PathBuf, operation: &'static str, error: io::Error) -> Unread {
        let error = failed(path.clone(), operation, error);
        Unread { path, error }
    }
}

/// Returns the error of an operation on an entry of the source.
pub(crate) fn failed(path: PathBuf, operation: &'static str, error: io::Error) -> Error {
    Error::Io { operation, path: Some(path), source: Arc::new(error) }
}
