//! Walks a tree using the descriptors of its directories.
//!
//! A directory is one object, [`Directory`]: where it is in the file system, its descriptor, and its number in the
//! archive. Every entry carries the directory that it is in, so no failure and no race can attach it to another.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use ar7_registry::records::InodeNumber;
use rustix::process::{Resource, getrlimit};

use super::roots::{Exclusions, Root};
use super::source::Source;
use super::status::{FileId, Status};

/// The maximum number of directories kept open. A closed one is reopened when needed, and must be the same directory.
const OPEN_MAX: u64 = 64;

/// The share of the process's descriptors that open directories may use.
const OPEN_SHARE: u64 = 4;

/// A directory of the source.
pub(super) struct Directory {
    /// The parent directory, and the name in it. `None` for a path that the user typed.
    parent: Option<(Arc<Directory>, OsString)>,
    /// The path for messages.
    pub(super) path: PathBuf,
    /// The depth of its entries in the archive.
    pub(super) depth: usize,
    id: FileId,
    open: Mutex<Weak<OwnedFd>>,
    /// Its inode number in the archive before this run, if it existed.
    pub(super) known: Option<InodeNumber>,
    /// Its inode number in the archive once the writer has stored it. Unset if storing failed.
    pub(super) stored: OnceLock<InodeNumber>,
}

impl Directory {
    fn opened(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.open).upgrade()
    }
}

/// The source and its open directories.
pub(super) struct Tree<'a> {
    source: &'a dyn Source,
    /// The most recently opened directories.
    open: Mutex<VecDeque<Arc<OwnedFd>>>,
    open_max: usize,
}

impl<'a> Tree<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Tree<'a> {
        let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let open_max = (descriptors / OPEN_SHARE).clamp(1, OPEN_MAX);
        let open_max = usize::try_from(open_max).unwrap_or(1);
        Tree { source, open: Mutex::default(), open_max }
    }

    /// A directory that the user typed, which is stored as `stored`.
    pub(super) fn location(
        &self,
        path: &Path,
        depth: usize,
        known: Option<InodeNumber>,
        stored: Option<InodeNumber>,
    ) -> io::Result<Arc<Directory>> {
        let descriptor = self.source.open_location(typed(path))?;
        let id = self.source.status_of(descriptor.as_fd())?.id;
        let stored = stored.map_or_else(OnceLock::new, OnceLock::from);
        let open = Mutex::new(Arc::downgrade(&self.keep(descriptor)));
        Ok(Arc::new(Directory {
            parent: None,
            path: path.to_owned(),
            depth,
            id,
            open,
            known,
            stored,
        }))
    }

    /// Opens the directory that was found under `name` with this status, and lists it.
    pub(super) fn enter(
        &self,
        parent: &Arc<Directory>,
        name: &OsStr,
        status: &Status,
        known: Option<InodeNumber>,
    ) -> io::Result<(Arc<Directory>, Vec<OsString>)> {
        let directory = Arc::new(Directory {
            parent: Some((Arc::clone(parent), name.to_owned())),
            path: parent.path.join(name),
            depth: parent.depth + 1,
            id: status.id,
            open: Mutex::default(),
            known,
            stored: OnceLock::new(),
        });
        let names = self.names(&directory)?;
        Ok((directory, names))
    }

    /// Returns the names in a directory, in order.
    pub(super) fn names(&self, directory: &Directory) -> io::Result<Vec<OsString>> {
        self.with(directory, |source, descriptor| {
            if directory.parent.is_some() {
                return source.names(descriptor.as_fd());
            }
            // A location was opened by path only, which cannot be read.
            let readable = source.open_directory(descriptor.as_fd(), OsStr::new("."))?;
            source.names(readable.as_fd())
        })
    }

    /// Runs `work` with the descriptor of a directory. If the process is out of descriptors, closes the open
    /// directories and tries once more.
    pub(super) fn with<T>(
        &self,
        directory: &Directory,
        work: impl Fn(&dyn Source, &OwnedFd) -> io::Result<T>,
    ) -> io::Result<T> {
        let attempt = || work(self.source, &*self.descriptor(directory)?);
        match attempt() {
            Err(error) if is_out_of_descriptors(&error) => {
                lock(&self.open).clear();
                attempt()
            }
            outcome => outcome,
        }
    }

    /// Returns the status of an open file.
    pub(super) fn status_of(&self, file: &File) -> io::Result<Status> {
        self.source.status_of(file.as_fd())
    }

    /// Returns the descriptor of a directory. Reopens it from its nearest open ancestor if needed.
    fn descriptor(&self, directory: &Directory) -> io::Result<Arc<OwnedFd>> {
        let mut closed = Vec::new();
        let mut next = Some(directory);
        let mut above = None;
        while let Some(current) = next {
            if let Some(open) = current.opened() {
                above = Some(open);
                break;
            }
            closed.push(current);
            next = current.parent.as_ref().map(|(parent, _)| &**parent);
        }
        while let Some(current) = closed.pop() {
            let descriptor = match (&above, &current.parent) {
                (Some(above), Some((_, name))) => {
                    self.source.open_directory(above.as_fd(), name)?
                }
                _ => self.source.open_location(typed(&current.path))?,
            };
            // The name may refer to another directory by now, whose entries must not be mixed with these.
            if self.source.status_of(descriptor.as_fd())?.id != current.id {
                return Err(replaced());
            }
            let descriptor = self.keep(descriptor);
            *lock(&current.open) = Arc::downgrade(&descriptor);
            above = Some(descriptor);
        }
        above.ok_or_else(replaced)
    }

    /// Keeps a descriptor open until others are opened.
    fn keep(&self, descriptor: OwnedFd) -> Arc<OwnedFd> {
        let descriptor = Arc::new(descriptor);
        let mut open = lock(&self.open);
        open.push_back(Arc::clone(&descriptor));
        while open.len() > self.open_max {
            open.pop_front();
        }
        descriptor
    }
}

/// A walk through one root that visits entries in order, and each directory before its entries.
pub(super) struct Walk<'a> {
    tree: &'a Tree<'a>,
    root: &'a Root,
    exclusions: &'a Exclusions,
    levels: Vec<Level>,
}

struct Level {
    directory: Arc<Directory>,
    names: std::vec::IntoIter<OsString>,
}

/// An entry and its status in the file system.
pub(super) struct Found {
    pub(super) directory: Arc<Directory>,
    pub(super) name: OsString,
    pub(super) status: io::Result<Status>,
}

impl Found {
    /// Returns the path for messages.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path.join(&self.name)
    }
}

impl<'a> Walk<'a> {
    /// A walk that begins in the directory of [`Root::location`].
    pub(super) fn new(
        tree: &'a Tree<'a>,
        root: &'a Root,
        exclusions: &'a Exclusions,
        location: Arc<Directory>,
    ) -> io::Result<Walk<'a>> {
        let names = match &root.name {
            Some(name) => vec![name.clone()],
            None => tree.names(&location)?,
        };
        let mut walk = Walk { tree, root, exclusions, levels: Vec::new() };
        walk.enter(location, names);
        Ok(walk)
    }

    /// Continues with the entries of a directory.
    pub(super) fn enter(&mut self, directory: Arc<Directory>, names: Vec<OsString>) {
        self.levels.push(Level { directory, names: names.into_iter() });
    }

    /// Returns the next entry that no pattern excludes.
    pub(super) fn next(&mut self) -> Option<Found> {
        loop {
            let level = self.levels.last_mut()?;
            let Some(name) = level.names.next() else {
                self.levels.pop();
                continue;
            };
            let directory = Arc::clone(&level.directory);
            if self.exclusions.exclude(self.root, &directory.path, &name) {
                continue;
            }
            let status = self.tree.with(&directory, |source, at| source.status(at.as_fd(), &name));
            return Some(Found { directory, name, status });
        }
    }
}

/// Returns the path to open. An empty path stands for the working directory.
fn typed(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn replaced() -> io::Error {
    io::Error::other("the directory was replaced while it was read")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
