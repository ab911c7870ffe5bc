//! The walk: every entry in order, and what is to be done with it.

use std::collections::HashSet;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ar7_registry::names::Entry;
use ar7_registry::records::{EntryType, Inode, InodeNumber};
use crossbeam::channel::{Receiver, Sender, bounded};

use super::Run;
use super::read::{Job, ReadOutcome};
use super::roots::Root;
use super::status::{FileId, Kind, Status};
use crate::exit::Failure;

/// An entry of the walk.
pub(super) struct Item {
    /// Its path in the file system, for messages.
    pub(super) path: PathBuf,
    /// Its name in the archive; none for a directory of which only the content is stored.
    pub(super) name: Option<Vec<u8>>,
    /// Directories between it and the root of its walk.
    pub(super) depth: usize,
    pub(super) action: Action,
}

/// What is to be done with an entry.
pub(super) enum Action {
    /// A directory; what is in it comes next.
    Directory(Status),
    /// The archive has it already.
    Present { status: Status, inode: InodeNumber, same_attributes: bool },
    /// New or changed: a reader is at it.
    Store(Receiver<ReadOutcome>),
    /// Another name of a file that came before.
    Link(Status),
    /// Left out, and why.
    Skip(&'static str),
    /// It cannot be read.
    Unread(Failure),
}

/// The first stage.
pub(super) struct Plan<'a> {
    run: &'a Run<'a>,
    jobs: Sender<Job>,
    items: Sender<Item>,
    /// The directories of the archive that lead to the current entry, as far as they are there.
    directories: Vec<Option<InodeNumber>>,
    /// Files with several names that were planned already.
    linked: HashSet<FileId>,
    /// The archive's inodes that they were found to be.
    claimed: HashSet<InodeNumber>,
    archive_id: Option<FileId>,
}

/// Nobody takes the entries any more.
struct Ended;

impl<'a> Plan<'a> {
    pub(super) fn new(run: &'a Run<'a>, jobs: Sender<Job>, items: Sender<Item>) -> Plan<'a> {
        let archive = std::fs::metadata(&run.options.archive).ok();
        Plan {
            run,
            jobs,
            items,
            directories: Vec::new(),
            linked: HashSet::new(),
            claimed: HashSet::new(),
            archive_id: archive.map(|metadata| Status::new(&metadata).id),
        }
    }

    /// Walks through every root.
    pub(super) fn walk(mut self) {
        for root in &self.run.roots {
            if self.walk_root(root).is_err() {
                return;
            }
        }
    }

    fn walk_root(&mut self, root: &Root) -> Result<(), Ended> {
        self.directories = vec![self.destination()];
        for entry in root.entries(&self.run.exclusions) {
            if self.run.interrupt.is_set() {
                return Err(Ended);
            }
            let item = match entry {
                Ok(entry) => {
                    let name = match (entry.depth(), &root.name) {
                        (0, name) => name.as_ref().map(|name| name.as_bytes().to_vec()),
                        _ => Some(entry.file_name().as_bytes().to_vec()),
                    };
                    let (depth, path) = (entry.depth(), entry.into_path());
                    let action = self.action(&path, name.as_deref(), depth)?;
                    Item { path, name, depth, action }
                }
                Err(error) => unread(&root.path, error),
            };
            self.items.send(item).map_err(|_| Ended)?;
        }
        Ok(())
    }

    /// The directory of the archive that is stored into, if it is there.
    fn destination(&self) -> Option<InodeNumber> {
        let archive = self.run.archive()?;
        let into = self.run.options.into.as_deref().unwrap_or_default();
        match archive.names().resolve(into.as_bytes()) {
            Ok(Entry { inode, kind: EntryType::Directory, .. }) => Some(inode),
            _ => None,
        }
    }

    fn action(&mut self, path: &Path, name: Option<&[u8]>, depth: usize) -> Result<Action, Ended> {
        // `PATH/.` may be a link to a directory, and its content is meant.
        let metadata = match name {
            Some(_) => std::fs::symlink_metadata(path),
            None => std::fs::metadata(path),
        };
        let status = match metadata {
            Ok(metadata) => Status::new(&metadata),
            Err(error) => return Ok(Action::Unread(Failure::file(path, "read", error))),
        };
        self.directories.truncate(depth + 1);
        if self.archive_id == Some(status.id) {
            return Ok(Action::Skip("is the archive itself"));
        }
        let kind = match status.kind {
            Kind::Special(reason) => return Ok(Action::Skip(reason)),
            Kind::Stored(kind) => kind,
        };
        let existing = name.map_or(Ok(None), |name| self.existing(depth, name));
        let existing = match existing {
            Ok(existing) => existing,
            Err(error) => return Ok(Action::Unread(self.archive_failure(error))),
        };
        if kind == EntryType::Directory {
            let found = existing.filter(|(_, inode)| inode.kind == EntryType::Directory);
            let number = match name {
                Some(_) => found.map(|(number, _)| number),
                None => self.directories[depth],
            };
            self.directories.push(number);
            return Ok(Action::Directory(status));
        }
        if kind == EntryType::File && status.links > 1 && !self.linked.insert(status.id) {
            return Ok(Action::Link(status));
        }
        let unchanged =
            existing.filter(|(number, inode)| self.is_unchanged(path, &status, *number, inode));
        if let Some((number, inode)) = unchanged {
            if status.links > 1 {
                self.claimed.insert(number);
            }
            let same_attributes = inode.attributes == status.attributes;
            return Ok(Action::Present { status, inode: number, same_attributes });
        }
        let (answer, outcome) = bounded(1);
        let job = Job { path: path.to_owned(), status, is_dry: self.run.options.dry_run, answer };
        self.jobs.send(job).map_err(|_| Ended)?;
        Ok(Action::Store(outcome))
    }

    /// What the archive has under the name.
    fn existing(
        &self,
        depth: usize,
        name: &[u8],
    ) -> ar7_registry::Result<Option<(InodeNumber, Inode)>> {
        let (Some(archive), Some(directory)) = (self.run.archive(), self.directories[depth]) else {
            return Ok(None);
        };
        let names = archive.names();
        match names.lookup(directory, name)? {
            Some(entry) => Ok(names.inode(entry.inode)?.map(|inode| (entry.inode, inode))),
            None => Ok(None),
        }
    }

    /// Whether the archive's version is the file system's, as far as size and mtime tell.
    fn is_unchanged(
        &self,
        path: &Path,
        status: &Status,
        number: InodeNumber,
        inode: &Inode,
    ) -> bool {
        if Kind::Stored(inode.kind) != status.kind
            || inode.attributes.modified != status.attributes.modified
        {
            return false;
        }
        if inode.kind == EntryType::Symlink {
            let target = std::fs::read_link(path).ok();
            let known = self.run.archive().map(|archive| archive.names().read_target(inode));
            return target.is_some_and(
                |target| matches!(known, Some(Ok(known)) if known == target.as_os_str().as_bytes()),
            );
        }
        // Several names in the archive must be several names here, and all of one file.
        let joined = inode.links > 1 && (status.links == 1 || self.claimed.contains(&number));
        inode.size == status.size && !joined
    }

    fn archive_failure(&self, error: ar7_registry::Error) -> Failure {
        Failure::Archive { archive: self.run.options.archive.clone(), error }
    }
}

fn unread(root: &Path, error: walkdir::Error) -> Item {
    let path = error.path().unwrap_or(root).to_owned();
    let depth = error.depth();
    let source = error.into_io_error().unwrap_or_else(|| io::Error::other("cannot be read"));
    let action = Action::Unread(Failure::file(&path, "read", source));
    Item { path, name: None, depth, action }
}
