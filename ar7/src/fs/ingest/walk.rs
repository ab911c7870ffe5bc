//! Walks a tree using the descriptors of its directories.
//!
//! A directory is one object, [`Directory`]: where it is in the file system, its descriptor, and its number in the
//! archive. Every entry carries the directory that it is in, so no failure and no race can attach it to another. A
//! directory knows its parent and its name in it, but no path, so that a tree can be of any depth.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use ar7_registry::records::InodeNumber;
use rustix::fs::Dev;
use rustix::process::{Resource, getrlimit};

use super::roots::Root;
use super::source::{Names, Source};
use super::status::{FileId, Status};

/// The maximum number of directories kept open. A closed one is reopened when needed, and must be the same directory.
const OPEN_MAX: u64 = 64;

/// The share of the process's descriptors that open directories may use.
const OPEN_SHARE: u64 = 4;

/// The memory in bytes that the names of all directories on the way may take. A larger directory is listed in several
/// passes.
const NAMES_BYTES: usize = 12 << 20;

/// A directory of the source.
pub(super) struct Directory {
    /// The parent directory, and the name in it. `None` for a path that the user typed.
    parent: Option<(Arc<Directory>, OsString)>,
    /// The path that the user typed.
    typed: PathBuf,
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
    /// Returns the number of the file system.
    pub(super) fn device(&self) -> Dev {
        self.id.0
    }

    /// Returns the path of the directory itself for messages.
    pub(super) fn own_path(&self) -> PathBuf {
        match &self.parent {
            Some((parent, name)) => parent.path_of(name),
            None => self.typed.clone(),
        }
    }

    /// Returns the path of an entry for messages. Its length is not limited.
    pub(super) fn path_of(&self, name: &OsStr) -> PathBuf {
        let (top, mut path) = self.below(name);
        if !top.typed.as_os_str().is_empty() {
            let typed = top.typed.as_os_str().as_bytes();
            let slash: &[u8] = if typed.ends_with(b"/") { b"" } else { b"/" };
            path = [typed, slash, &path].concat();
        }
        OsString::from_vec(path).into()
    }

    /// Returns the path of an entry in the archive, below the destination directory.
    pub(super) fn stored_path_of(&self, name: &OsStr) -> Vec<u8> {
        self.below(name).1
    }

    /// Returns the location that the entry is below, and its path from there.
    fn below(&self, name: &OsStr) -> (&Directory, Vec<u8>) {
        let (mut names, mut directory) = (vec![name.as_bytes()], self);
        while let Some((parent, name)) = &directory.parent {
            names.push(name.as_bytes());
            directory = parent;
        }
        names.reverse();
        (directory, names.join(&b'/'))
    }

    fn opened(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.open).upgrade()
    }
}

/// Without this, dropping the deepest directory would drop its parents in as many nested calls.
impl Drop for Directory {
    fn drop(&mut self) {
        let mut next = self.parent.take();
        while let Some((parent, _)) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| parent.parent.take());
        }
    }
}

/// The source and its open directories.
pub(super) struct Tree<'a> {
    pub(super) source: &'a dyn Source,
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
        let descriptor = self.source.open_location(or_working_directory(path))?;
        let id = self.source.status_of(descriptor.as_fd())?.id;
        let stored = stored.map_or_else(OnceLock::new, OnceLock::from);
        let open = Mutex::new(Arc::downgrade(&self.keep(descriptor)));
        Ok(Arc::new(Directory {
            parent: None,
            typed: path.to_owned(),
            depth,
            id,
            open,
            known,
            stored,
        }))
    }

    /// The directory that was found under `name` with this status.
    pub(super) fn directory(
        parent: &Arc<Directory>,
        name: &OsStr,
        status: &Status,
        known: Option<InodeNumber>,
    ) -> Arc<Directory> {
        Arc::new(Directory {
            parent: Some((Arc::clone(parent), name.to_owned())),
            typed: PathBuf::new(),
            depth: parent.depth + 1,
            id: status.id,
            open: Mutex::default(),
            known,
            stored: OnceLock::new(),
        })
    }

    /// Returns the lowest names above `after` in a directory.
    pub(super) fn names(
        &self,
        directory: &Directory,
        after: Option<&OsStr>,
        budget: usize,
    ) -> io::Result<Names> {
        self.with(directory, |source, at| {
            if directory.parent.is_some() {
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
        let attempt = || work(self.source, self.descriptor(directory)?.as_fd());
        match attempt() {
            Err(error) if is_out_of_descriptors(&error) => {
                lock(&self.open).clear();
                attempt()
            }
            outcome => outcome,
        }
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
                _ => self.source.open_location(or_working_directory(&current.typed))?,
            };
            above = Some(self.reopened(current, descriptor)?);
        }
        above.ok_or_else(replaced)
    }

    /// Opens the parent of an open directory through it, if it was closed. The nearest open ancestor may be far away.
    fn open_parent(&self, directory: &Directory) {
        let Some((parent, _)) = &directory.parent else { return };
        if parent.parent.is_none() || parent.opened().is_some() {
            return;
        }
        let Some(open) = directory.opened() else { return };
        // If the directory was moved, its parent is found by name when it is needed.
        let opened = self.source.open_directory(open.as_fd(), OsStr::new(".."));
        let _ = opened.and_then(|descriptor| self.reopened(parent, descriptor));
    }

    /// Notes the new descriptor of a directory that was closed. The name may refer to another directory by now, whose
    /// entries must not be mixed with these.
    fn reopened(&self, directory: &Directory, descriptor: OwnedFd) -> io::Result<Arc<OwnedFd>> {
        if self.source.status_of(descriptor.as_fd())?.id != directory.id {
            return Err(replaced());
        }
        let descriptor = self.keep(descriptor);
        *lock(&directory.open) = Arc::downgrade(&descriptor);
        Ok(descriptor)
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

pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

fn replaced() -> io::Error {
    io::Error::other("the directory was replaced while it was read")
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
