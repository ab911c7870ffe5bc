//! Walks a tree using the descriptors of its directories.
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

use super::roots::Root;
use super::source::{Names, Source};
use super::status::Status;
use crate::fs::system::FileId;
use crate::fs::tree::{self, Opens};

/// The memory in bytes that the names of all directories on the way may take. A larger directory is listed in several
/// passes.
const NAMES_BYTES: usize = 12 << 20;

/// A directory of the source.
pub(super) type Directory = tree::Directory<Own>;

/// What an ingest keeps of a directory.
pub(super) struct Own {
    /// The path that the user typed, at the top.
    typed: PathBuf,
    /// The depth of its entries in the archive.
    pub(super) depth: usize,
    /// Its inode number in the archive before this run, if it existed.
    pub(super) known: Option<InodeNumber>,
    /// Its inode number in the archive once the writer has stored it. Unset if storing failed.
    pub(super) stored: OnceLock<InodeNumber>,
}

impl Directory {
    /// Returns the number of the file system.
    pub(super) fn device(&self) -> Dev {
        self.id.0
    }

    /// Returns the path of the directory itself for messages.
    pub(super) fn own_path(&self) -> PathBuf {
        match self.place() {
            Some((parent, name)) => parent.shown_path_of(OsStr::from_bytes(name)),
            None => self.own.typed.clone(),
        }
    }

    /// Returns the path of an entry for messages. Its length is not limited.
    pub(super) fn shown_path_of(&self, name: &OsStr) -> PathBuf {
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

/// The source and its open directories.
pub(super) struct Tree<'a> {
    pub(super) source: &'a dyn Source,
    directories: tree::Tree<Opened<'a>>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Tree<'a> {
        Tree { source, directories: tree::Tree::new(Opened(source)) }
    }

    /// A directory that the user typed, which is stored as `stored`.
    pub(super) fn location(
        &self,
        path: &Path,
        depth: usize,
        known: Option<InodeNumber>,
        stored: Option<InodeNumber>,
    ) -> io::Result<Arc<Directory>> {
        let descriptor = self.source.open_location(or_working_directory(path))?;
        let stored = stored.map_or_else(OnceLock::new, OnceLock::from);
        let own = Own { typed: path.to_owned(), depth, known, stored };
        self.directories.top(&self.directories.keep(descriptor), own)
    }

    /// The directory that was found under `name` with this status.
    pub(super) fn directory(
        parent: &Arc<Directory>,
        name: &OsStr,
        status: &Status,
        known: Option<InodeNumber>,
    ) -> Arc<Directory> {
        let (typed, depth, stored) = (PathBuf::new(), parent.own.depth + 1, OnceLock::new());
        let own = Own { typed, depth, known, stored };
        tree::found(parent, name.as_bytes().to_vec(), status.id, own)
    }

    /// Returns the lowest names above `after` in a directory.
    pub(super) fn names(
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
    pub(super) fn with<T>(
        &self,
        directory: &Directory,
        work: impl Fn(&dyn Source, BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.directories
            .with_descriptors(|| work(self.source, self.directories.descriptor(directory)?.as_fd()))
    }

    /// Opens the parent of an open directory through it, if it was closed. The nearest open ancestor may be far away.
    fn open_parent(&self, directory: &Directory) {
        let is_below_top = directory.place().is_some_and(|(parent, _)| parent.place().is_some());
        if let Some(open) = directory.opened().filter(|_| is_below_top) {
            // If this fails, the parent is opened when it is needed.
            let _ = self.directories.parent_of(directory, &open);
        }
    }
}

/// A walk through one root that visits entries in order, and each directory before its entries.
pub(super) struct Walk<'a> {
    tree: &'a Tree<'a>,
    levels: Vec<Level>,
    names_bytes: usize,
    names_bytes_max: usize,
}

/// A directory on the way, and its names that were not visited yet.
struct Level {
    directory: Arc<Directory>,
    names: std::vec::IntoIter<OsString>,
    bytes: usize,
    /// The last visited name.
    last: Option<OsString>,
    /// Whether the directory has no name above these.
    is_last: bool,
}

/// A step of a walk.
pub(super) enum Step {
    /// An entry and its status in the file system.
    Entry { directory: Arc<Directory>, name: OsString, status: io::Result<Status> },
    /// The end of the directory that was entered last. With an error, its other names could not be listed.
    End { directory: Arc<Directory>, outcome: io::Result<()> },
}

impl<'a> Walk<'a> {
    /// A walk that begins in the directory of [`Root::location`].
    pub(super) fn new(
        tree: &'a Tree<'a>,
        root: &Root,
        location: Arc<Directory>,
    ) -> io::Result<Walk<'a>> {
        let names = match &root.name {
            Some(name) => Names { names: vec![name.clone()], is_last: true },
            None => tree.names(&location, None, NAMES_BYTES)?,
        };
        let mut walk =
            Walk { tree, levels: Vec::new(), names_bytes: 0, names_bytes_max: NAMES_BYTES };
        walk.enter(location, names);
        Ok(walk)
    }

    /// Continues with the entries of a directory, of which these are the first ones.
    pub(super) fn enter(&mut self, directory: Arc<Directory>, names: Names) {
        self.levels.push(Level {
            directory,
            names: Vec::new().into_iter(),
            bytes: 0,
            last: None,
            is_last: false,
        });
        self.fill(names);
    }

    /// Lists a directory for [`Walk::enter`].
    pub(super) fn list(&self, directory: &Directory) -> io::Result<Names> {
        self.tree.names(directory, None, self.names_bytes_max)
    }

    /// Returns the next step, or `None` at the end.
    pub(super) fn next(&mut self) -> Option<Step> {
        loop {
            let level = self.levels.last_mut()?;
            if let Some(name) = level.names.next() {
                let bytes = memory_of(&name);
                level.bytes -= bytes;
                self.names_bytes -= bytes;
                level.last = Some(name.clone());
                let directory = Arc::clone(&level.directory);
                let status = self.tree.with(&directory, |source, at| source.status(at, &name));
                return Some(Step::Entry { directory, name, status });
            }
            let outcome = if level.is_last { Ok(None) } else { self.list_more().map(Some) };
            match outcome {
                Ok(Some(names)) => self.fill(names),
                Ok(None) => return self.leave(Ok(())),
                Err(error) => return self.leave(Err(error)),
            }
        }
    }

    fn list_more(&self) -> io::Result<Names> {
        let Some(level) = self.levels.last() else { return Ok(Names::default()) };
        self.tree.names(&level.directory, level.last.as_deref(), self.names_bytes_max)
    }

    fn leave(&mut self, outcome: io::Result<()>) -> Option<Step> {
        let Level { directory, .. } = self.levels.pop()?;
        self.tree.open_parent(&directory);
        Some(Step::End { directory, outcome })
    }

    /// Puts names into the deepest level. If the names take too much memory then, forgets those of the outermost
    /// levels, which are listed again when the walk returns to them.
    fn fill(&mut self, names: Names) {
        let Some(level) = self.levels.last_mut() else { return };
        level.bytes = names.names.iter().map(memory_of).sum();
        level.is_last = names.is_last;
        self.names_bytes += level.bytes;
        level.names = names.names.into_iter();
        let deepest = self.levels.len() - 1;
        for level in self.levels.iter_mut().take(deepest) {
            if self.names_bytes <= 2 * self.names_bytes_max {
                break;
            }
            if level.names.as_slice().is_empty() {
                continue;
            }
            level.is_last = false;
            self.names_bytes -= level.bytes;
            level.bytes = 0;
            level.names = Vec::new().into_iter();
        }
    }
}

fn memory_of(name: &OsString) -> usize {
    name.len() + size_of::<OsString>()
}

/// Returns the path to open. An empty path stands for the working directory.
fn or_working_directory(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}
