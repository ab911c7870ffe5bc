//! The first stage: visits every entry in order and decides what to do with it.

use std::collections::HashSet;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;

use ar7_registry::Error;
use ar7_registry::names::Entry as ArchiveEntry;
use ar7_registry::records::{EntryType, Inode, InodeNumber, validate_name};
use crossbeam::channel::{Receiver, Sender, bounded};

use super::read::{Entry, Job, ReadOutcome};
use super::roots::Root;
use super::run::Run;
use super::status::{FileId, Kind, Status};
use super::walk::{Directory, Found, Walk};
use crate::exit::Failure;
use crate::names::parts;
use crate::walk::DEPTH_MAX;

/// An entry of the walk, and the action for it.
pub(super) enum Item {
    /// An entry of a directory.
    Entry { entry: Entry, action: Action },
    /// A skipped entry, with the reason. A skipped directory includes everything below it.
    Left { path: PathBuf, reason: Reason },
}

/// The action for an entry.
pub(super) enum Action {
    /// A directory. Its entries follow.
    Directory(Arc<Directory>),
    /// The archive already contains it unchanged.
    Present { inode: InodeNumber, same_attributes: bool },
    /// New or changed. A reader is reading it.
    Store(Receiver<ReadOutcome>),
    /// New or changed, in a dry run.
    WouldStore,
    /// Another name of a file that was planned before.
    Link,
}

/// The reason why an entry is skipped.
pub(super) enum Reason {
    /// The archive does not store this type.
    Skipped(&'static str),
    /// It cannot be read.
    Unread(Failure),
}

/// The first stage.
pub(super) struct Plan<'a> {
    run: &'a Run<'a>,
    jobs: Sender<Job>,
    items: Sender<Item>,
    /// The destination directory in the archive, if it exists, and its number for the writer.
    known: Option<InodeNumber>,
    destination: Option<InodeNumber>,
    /// Depth of the destination directory in the archive.
    depth: usize,
    /// Files with several names that were already planned.
    linked: HashSet<FileId>,
    /// The inodes of the archive that match these files.
    claimed: HashSet<InodeNumber>,
    archive_id: Option<FileId>,
}

/// The writer has stopped, so nothing receives further items.
struct Ended;

impl<'a> Plan<'a> {
    /// Makes a plan for storing into `destination`, which is `None` in a dry run.
    pub(super) fn new(
        run: &'a Run<'a>,
        jobs: Sender<Job>,
        items: Sender<Item>,
        destination: Option<InodeNumber>,
    ) -> Result<Plan<'a>, Failure> {
        let archive = rustix::fs::stat(&run.options.archive).ok();
        let into = run.options.into.as_deref().unwrap_or_default().as_bytes();
        Ok(Plan {
            run,
            jobs,
            items,
            known: existing_destination(run, into)?,
            destination,
            depth: parts(into).count(),
            linked: HashSet::new(),
            claimed: HashSet::new(),
            archive_id: archive.map(|stat| Status::new(&stat).id),
        })
    }

    /// Walks every root.
    pub(super) fn walk(mut self) {
        for root in &self.run.roots {
            if self.walk_root(root).is_err() {
                return;
            }
        }
    }

    fn walk_root(&mut self, root: &'a Root) -> Result<(), Ended> {
        let run = self.run;
        let begun = run
            .tree
            .location(root.location(), self.depth, self.known, self.destination)
            .and_then(|location| Walk::new(&run.tree, root, &run.exclusions, location));
        let mut walk = match begun {
            Ok(walk) => walk,
            Err(error) => return self.send(unread(root.path.clone(), error)),
        };
        while let Some(found) = walk.next() {
            if run.interrupt.is_set() {
                return Err(Ended);
            }
            let item = self.item(found, &mut walk)?;
            self.send(item)?;
        }
        Ok(())
    }

    fn send(&self, item: Item) -> Result<(), Ended> {
        self.items.send(item).map_err(|_| Ended)
    }

    fn item(&mut self, found: Found, walk: &mut Walk<'_>) -> Result<Item, Ended> {
        let path = found.path();
        let Found { directory, name, status } = found;
        let status = match status {
            Ok(status) => status,
            Err(error) => return Ok(unread(path, error)),
        };
        let skipped = |reason| Item::Left { path: path.clone(), reason: Reason::Skipped(reason) };
        if self.archive_id == Some(status.id) {
            return Ok(skipped("is the archive itself"));
        }
        let kind = match status.kind {
            Kind::Special(reason) => return Ok(skipped(reason)),
            Kind::Stored(kind) => kind,
        };
        if let Err(error) = validate_name(name.as_bytes()) {
            let failure = Failure::Entry { path: path.as_os_str().as_bytes().to_vec(), error };
            return Ok(Item::Left { path, reason: Reason::Unread(failure) });
        }
        let entry = Entry { directory, name, status };
        let existing = match self.existing(&entry) {
            Ok(existing) => existing,
            Err(failure) => return Ok(Item::Left { path, reason: Reason::Unread(failure) }),
        };
        if kind == EntryType::Directory {
            return Ok(self.directory(entry, existing, walk));
        }
        let action = self.file(&entry, kind, existing)?;
        Ok(Item::Entry { entry, action })
    }

    /// Enters a directory. If it cannot be opened and listed, it is skipped with everything below it.
    fn directory(
        &self,
        entry: Entry,
        existing: Option<(InodeNumber, Inode)>,
        walk: &mut Walk<'_>,
    ) -> Item {
        let found = existing.filter(|(_, inode)| inode.kind == EntryType::Directory);
        let known = found.map(|(number, _)| number);
        let Entry { directory: parent, name, status } = &entry;
        if parent.depth + 1 >= DEPTH_MAX {
            // Deeper entries could be stored but not extracted.
            let path = entry.path();
            let shown = path.as_os_str().as_bytes().to_vec();
            let failure = Failure::TooDeep { path: shown, limit: DEPTH_MAX };
            return Item::Left { path, reason: Reason::Unread(failure) };
        }
        match self.run.tree.enter(parent, name, status, known) {
            Ok((directory, names)) => {
                walk.enter(Arc::clone(&directory), names);
                Item::Entry { entry, action: Action::Directory(directory) }
            }
            Err(error) => unread(entry.path(), error),
        }
    }

    /// Decides what to do with a file or a symbolic link.
    fn file(
        &mut self,
        entry: &Entry,
        kind: EntryType,
        existing: Option<(InodeNumber, Inode)>,
    ) -> Result<Action, Ended> {
        let status = &entry.status;
        if kind == EntryType::File && status.links > 1 && !self.linked.insert(status.id) {
            return Ok(Action::Link);
        }
        let unchanged = existing.filter(|(number, inode)| self.is_unchanged(entry, *number, inode));
        if let Some((number, inode)) = unchanged {
            if status.links > 1 {
                self.claimed.insert(number);
            }
            let same_attributes = inode.attributes == status.attributes;
            return Ok(Action::Present { inode: number, same_attributes });
        }
        if self.run.options.dry_run {
            return Ok(Action::WouldStore);
        }
        let (answer, outcome) = bounded(1);
        self.jobs.send(Job { entry: entry.clone(), answer }).map_err(|_| Ended)?;
        Ok(Action::Store(outcome))
    }

    /// Looks up the name of an entry in the archive.
    fn existing(&self, entry: &Entry) -> Result<Option<(InodeNumber, Inode)>, Failure> {
        let (Some(archive), Some(directory)) = (self.run.archive(), entry.directory.known) else {
            return Ok(None);
        };
        let names = archive.names();
        let failed = |error| self.archive_failure(error);
        let found = names.lookup(directory, entry.name.as_bytes()).map_err(failed)?;
        let Some(found) = found else { return Ok(None) };
        let inode = names.inode(found.inode).map_err(failed)?;
        let inode = inode.ok_or_else(|| entry.without_inode(found.inode))?;
        Ok(Some((found.inode, inode)))
    }

    /// Returns whether the archive has the current version of the file, judging by size and mtime.
    fn is_unchanged(&self, entry: &Entry, number: InodeNumber, inode: &Inode) -> bool {
        let status = &entry.status;
        if Kind::Stored(inode.kind) != status.kind
            || inode.attributes.modified != status.attributes.modified
        {
            return false;
        }
        if inode.kind == EntryType::Symlink {
            let tree = &self.run.tree;
            let target =
                tree.with(&entry.directory, |source, at| source.target(at.as_fd(), &entry.name));
            let stored = self.run.archive().map(|archive| archive.names().read_target(inode));
            return matches!((target, stored), (Ok(target), Some(Ok(stored))) if target == stored);
        }
        // All names of an inode in the archive must belong to one file in the source.
        let joined = inode.links > 1 && (status.links == 1 || self.claimed.contains(&number));
        inode.size == status.size && !joined
    }

    fn archive_failure(&self, error: ar7_registry::Error) -> Failure {
        Failure::Archive { archive: self.run.options.archive.clone(), error }
    }
}

/// Returns the destination directory in the archive, if it exists.
fn existing_destination(run: &Run<'_>, into: &[u8]) -> Result<Option<InodeNumber>, Failure> {
    let Some(archive) = run.archive() else { return Ok(None) };
    match archive.names().resolve(into) {
        Ok(ArchiveEntry { inode, kind: EntryType::Directory, .. }) => Ok(Some(inode)),
        Ok(ArchiveEntry { kind, .. }) => {
            let (found, needed) = (kind.name(), "a directory");
            Err(Failure::EntryType { path: into.to_vec(), found, needed })
        }
        Err(Error::NoEntry { .. }) => Ok(None),
        Err(error) => Err(Failure::unresolved(into, error)),
    }
}

fn unread(path: PathBuf, error: io::Error) -> Item {
    let failure = Failure::file(&path, "read", error);
    Item::Left { path, reason: Reason::Unread(failure) }
}
