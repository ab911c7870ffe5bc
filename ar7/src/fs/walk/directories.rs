//! The directories of a walk.
//!
//! A directory is one object, [`Directory`]: where it is in the file system, its descriptor, and its number in the
//! archive. Every entry carries the directory that it is in, so no failure and no race can attach it to another. A
//! directory knows its parent and its name in it, but no path, so that a tree can be of any depth.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use ar7_registry::records::InodeNumber;
use rustix::fs::Dev;

use super::source::{Names, Source};
use super::status::Status;
use crate::fs::patterns::Positions;
use crate::fs::system::FileId;
use crate::fs::tree::{self, Opens};

/// A directory of the source.
pub(crate) type Directory = tree::Directory<Own>;

/// What a walk keeps of a directory, and an ingest adds.
#[derive(Default)]
pub(crate) struct Own {
    /// The path that the user typed, at the top.
    typed: PathBuf,
    /// The number of directories above it.
    pub(crate) depth: usize,
    /// How far the patterns match its path as typed and as stored.
    pub(crate) positions: [Positions; 2],
    /// Its inode number in the archive before this run, if it existed.
    pub(crate) known: OnceLock<InodeNumber>,
    /// Its inode number in the archive once the writer has stored it. Unset if storing failed.
    pub(crate) stored: OnceLock<InodeNumber>,
}

impl Directory {
    /// Returns the number of the file system.
    pub(crate) fn device(&self) -> Dev {
        self.id.0
    }

    /// Returns the path of the directory itself for messages.
    pub(crate) fn own_path(&self) -> PathBuf {
        match self.place() {
            Some((parent, name)) => parent.shown_path_of(OsStr::from_bytes(name)),
            None => self.own.typed.clone(),
        }
    }

    /// Returns the path of an entry for messages. Its length is not limited.
    pub(crate) fn shown_path_of(&self, name: &OsStr) -> PathBuf {
        let mut path = self.path_of(name.as_bytes());
        let typed = self.top().own.typed.as_os_str().as_bytes();
        if !typed.is_empty() {
            let slash: &[u8] = if typed.ends_with(b"/") { b"" } else { b"/" };
            path = [typed, slash, &path].concat();
        }
        OsString::from_vec(path).into()
    }
}

/// The source, as the directories are opened in it.
struct Opened<'a>(&'a dyn Source);

impl Opens<Own> for Opened<'_> {
    fn open(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
        self.0.open_directory(at, OsStr::from_bytes(name))
    }

    fn open_top(&self, top: &Own) -> io::Result<OwnedFd> {
        self.0.open_location(or_working_directory(&top.typed))
    }

    fn id_of(&self, directory: &OwnedFd) -> io::Result<FileId> {
        Ok(self.0.status_of(directory.as_fd())?.id)
    }
}

/// A source and its open directories.
pub(crate) struct Tree<'a> {
    pub(crate) source: &'a dyn Source,
    directories: tree::Tree<Opened<'a>>,
}

impl<'a> Tree<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> Tree<'a> {
        Tree { source, directories: tree::Tree::new(Opened(source)) }
    }

    /// A directory that the user typed.
    pub(crate) fn location(
        &self,
        path: &Path,
        positions: [Positions; 2],
    ) -> io::Result<Arc<Directory>> {
        let descriptor = self.source.open_location(or_working_directory(path))?;
        let own = Own { typed: path.to_owned(), positions, ..Own::default() };
        self.directories.top(&self.directories.keep(descriptor), own)
    }

    /// The directory that was found under `name` with this status.
    pub(crate) fn directory(
        parent: &Arc<Directory>,
        name: &OsStr,
        status: &Status,
        positions: [Positions; 2],
    ) -> Arc<Directory> {
        let own = Own { depth: parent.own.depth + 1, positions, ..Own::default() };
        tree::found(parent, name.as_bytes().to_vec(), status.id, own)
    }

    /// Returns the lowest names above `after` in a directory.
    pub(crate) fn names(
        &self,
        directory: &Directory,
        after: Option<&OsStr>,
        budget: usize,
    ) -> io::Result<Names> {
        self.with(directory, |source, at| {
            if directory.place().is_some() {
                return source.names(at, after, budget);
            }
            // A location was opened by path only, which cannot be read.
            let readable = source.open_directory(at, OsStr::new("."))?;
            source.names(readable.as_fd(), after, budget)
        })
    }

    /// Runs `work` with the descriptor of a directory. If the process is out of descriptors, closes the open
    /// directories and tries once more.
    pub(crate) fn with<T>(
        &self,
        directory: &Directory,
        work: impl Fn(&dyn Source, BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.directories
            .with_descriptors(|| work(self.source, self.directories.descriptor(directory)?.as_fd()))
    }

    /// Returns a descriptor that keeps a deep directory open until an entry of it is read.
    pub(crate) fn lend(&self, directory: &Directory) -> Option<Arc<OwnedFd>> {
        self.directories.lend(directory, directory.own.depth)
    }

    /// Opens the parent of an open directory through it, if it was closed. The nearest open ancestor may be far away.
    pub(super) fn open_parent(&self, directory: &Directory) {
        let is_below_top = directory.place().is_some_and(|(parent, _)| parent.place().is_some());
        if let Some(open) = directory.opened().filter(|_| is_below_top) {
            // If this fails, the parent is opened when it is needed.
            let _ = self.directories.parent_of(directory, &open);
        }
    }
}

/// Returns the path to open. An empty path stands for the working directory.
fn or_working_directory(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
