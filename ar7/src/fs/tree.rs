//! The directories of a tree in the file system, of any depth, with few descriptors open.
//!
//! A [`Directory`] knows its parent, its name in it and its identity, but no path. A closed directory is opened again
//! from an open one, by `..` or by name, and must still be the same directory. So a tree can be deeper than the limits
//! on paths and descriptors, and another process that moves directories cannot redirect the work.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::process::{Resource, getrlimit};

use super::system::{FileId, is_out_of_descriptors};

/// Maximum number of directories kept open.
const OPEN_MAX: u64 = 64;

/// The share of the process's descriptors that open directories may use.
const OPEN_SHARE: u64 = 4;

/// The least depth from which on a descriptor is kept for later work.
const LENT_DEPTH_MIN: usize = 32;

/// A directory of a tree, with what its user keeps of it.
pub(crate) struct Directory<T> {
    /// The parent and the name in it. `None` for the top of the tree.
    place: Option<(Arc<Directory<T>>, Vec<u8>)>,
    pub(super) id: FileId,
    open: Mutex<Weak<OwnedFd>>,
    pub(super) own: T,
}

impl<T> Directory<T> {
    /// Returns the parent and the name in it, or `None` for the top of the tree.
    pub(super) fn place(&self) -> Option<(&Arc<Directory<T>>, &[u8])> {
        self.place.as_ref().map(|(parent, name)| (parent, name.as_slice()))
    }

    /// Returns the top of the tree.
    pub(super) fn top(&self) -> &Directory<T> {
        let mut directory = self;
        while let Some((parent, _)) = directory.place() {
            directory = parent;
        }
        directory
    }

    /// Returns the path of a name in this directory, from the top of the tree.
    pub(super) fn path_of(&self, name: &[u8]) -> Vec<u8> {
        let mut names = vec![name];
        let mut next = self.place();
        while let Some((parent, name)) = next {
            names.push(name);
            next = parent.place();
        }
        names.reverse();
        names.join(&b'/')
    }

    pub(super) fn opened(&self) -> Option<Arc<OwnedFd>> {
        lock(&self.open).upgrade()
    }
}

/// Without this, dropping the deepest directory would drop its parents in as many nested calls.
impl<T> Drop for Directory<T> {
    fn drop(&mut self) {
        let mut next = self.place.take();
        while let Some((parent, _)) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| parent.place.take());
        }
    }
}

/// The calls that open directories.
pub(super) trait Opens<T> {
    /// Opens a directory by its name in another, or its parent as `..`.
    fn open(&self, at: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd>;

    /// Opens the top of the tree again, if that is possible.
    fn open_top(&self, top: &T) -> io::Result<OwnedFd>;

    /// Returns the identity of an open directory.
    fn id_of(&self, directory: &OwnedFd) -> io::Result<FileId>;
}

/// The open directories of a tree.
pub(super) struct Tree<S> {
    pub(super) system: S,
    /// The most recently opened directories.
    open: Mutex<VecDeque<Arc<OwnedFd>>>,
    open_max: usize,
}

/// Returns the number of directories that may be open at a time.
pub(super) fn open_directories_max() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from((descriptors / OPEN_SHARE).clamp(1, OPEN_MAX)).unwrap_or(1)
}

/// A directory that was found under this name, and is not open.
pub(super) fn found<T>(
    parent: &Arc<Directory<T>>,
    name: Vec<u8>,
    id: FileId,
    own: T,
) -> Arc<Directory<T>> {
    let (place, open) = (Some((Arc::clone(parent), name)), Mutex::default());
    Arc::new(Directory { place, id, open, own })
}

impl<S> Tree<S> {
    pub(super) fn new(system: S) -> Tree<S> {
        Tree { system, open: Mutex::default(), open_max: open_directories_max() }
    }

    /// The top of the tree. It is closed when the caller drops the descriptor.
    pub(super) fn top<T>(&self, descriptor: &Arc<OwnedFd>, own: T) -> io::Result<Arc<Directory<T>>>
    where
        S: Opens<T>,
    {
        let id = self.system.id_of(descriptor)?;
        let open = Mutex::new(Arc::downgrade(descriptor));
        Ok(Arc::new(Directory { place: None, id, open, own }))
    }

    /// A directory that was opened under this name.
    pub(super) fn opened<T>(
        &self,
        parent: &Arc<Directory<T>>,
        name: Vec<u8>,
        id: FileId,
        descriptor: OwnedFd,
        own: T,
    ) -> Arc<Directory<T>> {
        let open = Mutex::new(Arc::downgrade(&self.keep(descriptor)));
        Arc::new(Directory { place: Some((Arc::clone(parent), name)), id, open, own })
    }

    /// Returns the descriptor of a directory. Opens it again from its nearest open ancestor if needed.
    pub(super) fn descriptor<T>(&self, directory: &Directory<T>) -> io::Result<Arc<OwnedFd>>
    where
        S: Opens<T>,
    {
        let mut closed = Vec::new();
        let mut current = directory;
        let mut above = loop {
            if let Some(open) = current.opened() {
                break open;
            }
            let Some((parent, name)) = &current.place else {
                let top = self.with_descriptors(|| self.system.open_top(&current.own))?;
                break self.opened_again(current, top)?;
            };
            closed.push((current, name));
            current = parent;
        };
        while let Some((directory, name)) = closed.pop() {
            above = self.open_again(directory, &above, name)?;
        }
        Ok(above)
    }

    /// Returns a descriptor for the work on a directory that is done later, so that it is not opened again from the top
    /// then, which would take time in proportion to its depth. Few levels are opened again instead, as everything is if
    /// the process may have few descriptors open.
    pub(super) fn lend<T>(&self, directory: &Directory<T>, depth: usize) -> Option<Arc<OwnedFd>> {
        let is_worth_it = depth > LENT_DEPTH_MIN && self.open_max as u64 == OPEN_MAX;
        if is_worth_it { directory.opened() } else { None }
    }

    /// Returns the descriptor of a directory's parent. Opens it again through `descriptor`, that of the directory, if
    /// needed.
    pub(super) fn parent_of<T>(
        &self,
        directory: &Directory<T>,
        descriptor: &OwnedFd,
    ) -> io::Result<Arc<OwnedFd>>
    where
        S: Opens<T>,
    {
        let Some((parent, _)) = directory.place() else { return Err(replaced()) };
        if let Some(open) = parent.opened() {
            return Ok(open);
        }
        // If the directory was moved, its parent is still where it was.
        self.open_again(parent, descriptor, b"..").or_else(|_| self.descriptor(parent))
    }

    fn open_again<T>(
        &self,
        directory: &Directory<T>,
        at: &OwnedFd,
        name: &[u8],
    ) -> io::Result<Arc<OwnedFd>>
    where
        S: Opens<T>,
    {
        let descriptor = self.with_descriptors(|| self.system.open(at.as_fd(), name))?;
        self.opened_again(directory, descriptor)
    }

    /// Notes the new descriptor of a directory that was closed. The name may refer to another directory by now, whose
    /// entries must not be mixed with these.
    fn opened_again<T>(
        &self,
        directory: &Directory<T>,
        descriptor: OwnedFd,
    ) -> io::Result<Arc<OwnedFd>>
    where
        S: Opens<T>,
    {
        if self.system.id_of(&descriptor)? != directory.id {
            return Err(replaced());
        }
        let descriptor = self.keep(descriptor);
        *lock(&directory.open) = Arc::downgrade(&descriptor);
        Ok(descriptor)
    }

    /// Runs `open`. If the process is out of descriptors, closes the directories that are kept open and tries again.
    pub(super) fn with_descriptors<R>(&self, open: impl Fn() -> io::Result<R>) -> io::Result<R> {
        match open() {
            Err(error) if is_out_of_descriptors(&error) => {
                lock(&self.open).clear();
                open()
            }
            outcome => outcome,
        }
    }

    /// Keeps a descriptor open until others are opened.
    pub(super) fn keep(&self, descriptor: OwnedFd) -> Arc<OwnedFd> {
        let descriptor = Arc::new(descriptor);
        let mut open = lock(&self.open);
        open.push_back(Arc::clone(&descriptor));
        while open.len() > self.open_max {
            open.pop_front();
        }
        descriptor
    }
}

/// The error for a name that refers to another entry than before.
pub(super) fn replaced() -> io::Error {
    io::Error::other("it was replaced by another process")
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
