//! Restores entries: one thread walks the archive and creates directories, and several threads restore the entries in
//! them. Content is written before attributes; a directory's attributes are set after its last entry.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, Builder};

use ar7_registry::records::{EntryType, InodeNumber};
use crossbeam::channel::{SendError, Sender, bounded};

use super::destination::{Directory, FileId};
use super::files::{Files, Job, Level, Own};
use crate::exit::Failure;
use crate::names::parts;
use crate::walk::{Found, Step, Walk};

/// Maximum number of entries in the queue. Each keeps its directory open.
const IN_FLIGHT: usize = 64;

/// Maximum number of threads that restore entries.
const MAKERS_MAX: usize = 8;

/// An extraction in progress.
pub(super) struct Restoring<'a> {
    files: &'a Files<'a>,
    destination: Directory,
    jobs: Sender<Job>,
    /// Files with several names that were restored under one of them.
    linked: HashMap<InodeNumber, Linked>,
    buffer: Vec<u8>,
}

/// The first restored name of a file with several names.
struct Linked {
    path: Vec<u8>,
    id: FileId,
    /// The number of names still to come.
    left: u32,
}

/// Runs `restore`, which passes entries to the threads, and waits until all entries are restored.
pub(super) fn restore_all(
    files: &Files<'_>,
    destination: Directory,
    restore: impl FnOnce(&mut Restoring<'_>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let makers = thread::available_parallelism().map_or(1, usize::from).min(MAKERS_MAX);
    let outcome = thread::scope(|scope| {
        let (jobs, taken) = bounded(IN_FLIGHT);
        for _ in 0..makers {
            let taken = taken.clone();
            // Fewer threads than planned are enough. If none starts, the walking thread restores the entries itself.
            if Builder::new().spawn_scoped(scope, move || files.make_all(&taken)).is_err() {
                break;
            }
        }
        drop(taken);
        let (linked, buffer) = (HashMap::new(), Vec::new());
        restore(&mut Restoring { files, destination, jobs, linked, buffer })
    });
    outcome.and_then(|()| files.check())
}

impl Restoring<'_> {
    /// Restores an entry and everything below it.
    pub(super) fn all(&mut self, found: Found) -> Result<(), Failure> {
        let root = self.root();
        if found.inode.kind != EntryType::Directory {
            let outcome = self.entry(&root, found);
            self.files.note(outcome);
            return self.files.check();
        }
        let archive = &self.files.session.archive;
        let mut walk = Walk::new(archive, found.number, found.path.clone());
        match self.directory(&root, found) {
            Ok(level) => self.below(&mut walk, level),
            failed => {
                self.files.note(failed.map(drop));
                self.files.check()
            }
        }
    }

    /// Restores the entries of a directory directly into the destination.
    pub(super) fn content(&mut self, found: &Found) -> Result<(), Failure> {
        let archive = &self.files.session.archive;
        let mut walk = Walk::new(archive, found.number, found.path.clone());
        let root = self.root();
        self.below(&mut walk, root)
    }

    fn root(&self) -> Arc<Level> {
        Level::new(self.destination.clone(), None, Vec::new())
    }

    /// Follows the walk, with one open directory for each level.
    fn below(&mut self, walk: &mut Walk<'_>, first: Arc<Level>) -> Result<(), Failure> {
        let mut levels = vec![first];
        while let Some(step) = walk.next() {
            self.files.check()?;
            let outcome = match (step, levels.last()) {
                (Ok(Step::Left), _) => {
                    if let Some(level) = levels.pop() {
                        self.files.done(&level);
                    }
                    Ok(())
                }
                (Ok(Step::Entry(found)), Some(level)) => {
                    if found.inode.kind == EntryType::Directory {
                        self.enter(walk, level, found).map(|level| levels.push(level))
                    } else {
                        let level = Arc::clone(level);
                        self.entry(&level, found)
                    }
                }
                (Ok(Step::Entry(_)), None) => Ok(()),
                (Err(failure), _) => Err(failure),
            };
            self.files.note(outcome);
        }
        Ok(())
    }

    fn enter(
        &self,
        walk: &mut Walk<'_>,
        level: &Arc<Level>,
        found: Found,
    ) -> Result<Arc<Level>, Failure> {
        walk.enter(&found)?;
        self.directory(level, found).inspect_err(|_| walk.leave())
    }

    fn directory(&self, level: &Arc<Level>, found: Found) -> Result<Arc<Level>, Failure> {
        let made = level.directory.make_directory(&found.name, self.files.options.force);
        let directory = made.map_err(|error| self.files.failed(level, &found, "create", error))?;
        let path = crate::names::join(&level.path, &found.name);
        level.wait();
        let parent = Arc::clone(level);
        Ok(Level::new(directory, Some(Own { parent, found }), path))
    }

    /// Passes a file or symbolic link to the threads. A file with several names is restored immediately, because later
    /// names link to it.
    fn entry(&mut self, level: &Arc<Level>, found: Found) -> Result<(), Failure> {
        if found.inode.kind == EntryType::File && found.inode.links > 1 {
            return self.file_of_several_names(level, &found);
        }
        level.wait();
        let job = Job { level: Arc::clone(level), found };
        // Nothing receives the job if no thread was started.
        if let Err(SendError(job)) = self.jobs.send(job) {
            self.files.make(&job, &mut self.buffer);
        }
        Ok(())
    }

    fn file_of_several_names(&mut self, level: &Level, found: &Found) -> Result<(), Failure> {
        if self.linked.contains_key(&found.number) {
            self.files.make_way(level, found)?;
            self.link(level, found)?;
            self.files.count_entry();
            return Ok(());
        }
        self.files.entry(level, found, &mut self.buffer)?;
        let id = level.directory.id(&found.name);
        let id = id.map_err(|error| self.files.failed(level, found, "stat", error))?;
        let path = crate::names::join(&level.path, &found.name);
        let left = found.inode.links - 1;
        self.linked.insert(found.number, Linked { path, id, left });
        Ok(())
    }

    fn link(&mut self, level: &Level, found: &Found) -> Result<(), Failure> {
        let failed = |error| self.files.failed(level, found, "link", error);
        let Some(linked) = self.linked.get(&found.number) else { return Ok(()) };
        let (directory, name) = self.walk_to(&linked.path).map_err(failed)?;
        // Another process may have changed the directory since.
        if directory.id(name).map_err(failed)? != linked.id {
            return Err(failed(io::Error::other("the file's first name was replaced")));
        }
        level.directory.make_link(&found.name, &directory, name).map_err(failed)?;
        if let Some(linked) = self.linked.get_mut(&found.number) {
            linked.left = linked.left.saturating_sub(1);
            if linked.left == 0 {
                self.linked.remove(&found.number);
            }
        }
        Ok(())
    }

    /// Opens the directory of a path below the destination, component by component. Returns it with the last component.
    fn walk_to<'b>(&self, path: &'b [u8]) -> io::Result<(Directory, &'b [u8])> {
        let mut directory = self.destination.clone();
        let mut parts = parts(path).peekable();
        loop {
            match (parts.next(), parts.peek().is_some()) {
                (Some(part), true) => directory = directory.open(part)?,
                (Some(part), false) => return Ok((directory, part)),
                (None, _) => return Err(io::ErrorKind::NotFound.into()),
            }
        }
    }
}
