//! The first stage: visits every entry in order and decides what to do with it.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use ar7_registry::Error as RegistryError;
use ar7_registry::names::Entry as ArchiveEntry;
use ar7_registry::records::{EntryType, Inode, InodeNumber, Origin, validate_name};
use crossbeam::channel::{Receiver, Sender, bounded};
use roaring::RoaringTreemap;
use rustix::fs::Dev;

use super::extended::Extended;
use super::mirror::Mirror;
use super::read::{Input, Job, StoredAt, Task};
use super::{DEPTH_MAX, Run};
use crate::error::{Error, Result};
use crate::fs::system::FileId;
use crate::fs::walk::{
    Attributed, Directory, Entry, Root, SkipReason, Status, Visit, Visits, failed,
};
use crate::path::{bytes, components, to_path};

/// An entry of the walk, and the action for it.
pub(super) enum Item {
    /// An entry of a directory.
    Entry { entry: Entry, action: Action },
    /// An entry that is not stored, with everything below it.
    Left { directory: Arc<Directory>, name: OsString, reason: Reason },
    /// A directory whose entries, or some of them, cannot be listed.
    Unlisted { path: PathBuf, error: Error },
    /// An entry of the archive that the source does not have.
    Gone { directory: Arc<Directory>, name: OsString },
}

/// The action for an entry.
pub(super) enum Action {
    /// A directory. Its entries follow.
    Directory {
        directory: Arc<Directory>,
        /// `None`: unchanged.
        extended: Option<Extended>,
        /// Why its entries are left out.
        left_out: Option<SkipReason>,
    },
    /// The archive already contains it unchanged.
    Present(Present),
    /// New or changed. A reader is reading it. If it is the same after all, the archive contains it already.
    Store { input: Receiver<Result<Input>>, present: Option<Present> },
    /// New or changed, in a preview.
    WouldStore { is_known: bool },
    /// Another name of a file that was planned before.
    Link,
}

/// An entry that the archive contains.
#[derive(Debug, Clone, Copy)]
pub(super) struct Present {
    pub(super) inode: InodeNumber,
    pub(super) same_attributes: bool,
}

/// The reason why an entry is not stored.
pub(super) enum Reason {
    /// It is left out.
    Skipped(SkipReason),
    /// It cannot be read.
    Unread(Error),
    /// The archive is damaged.
    Archive(Error),
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
    /// The inode numbers of files with several names that were planned before, for each file system.
    linked: HashMap<Dev, RoaringTreemap>,
    /// The inodes of the archive that match these files.
    claimed: RoaringTreemap,
    /// The inodes of the archive that had several names when the first of them was compared.
    joined: RoaringTreemap,
    archive_id: Option<FileId>,
    /// What the archive has in the directories on the way, for [`Ingest::delete`](super::Ingest::delete).
    mirrors: Vec<Option<Mirror>>,
}

/// The writer has stopped, so nothing receives further items.
struct Ended;

type Planned<T> = std::result::Result<T, Ended>;

impl<'a> Plan<'a> {
    /// Makes a plan for storing into `destination`, which is `None` in a preview.
    pub(super) fn new(
        run: &'a Run<'a>,
        jobs: Sender<Job>,
        items: Sender<Item>,
        destination: Option<InodeNumber>,
    ) -> Result<Plan<'a>> {
        let archive = run.archive.and_then(|archive| archive.store().path());
        let archive = archive.and_then(|path| rustix::fs::stat(path).ok());
        let into = bytes(&run.options.into);
        Ok(Plan {
            run,
            jobs,
            items,
            known: existing_destination(run, into)?,
            destination,
            depth: components(&run.options.into).count(),
            linked: HashMap::new(),
            claimed: RoaringTreemap::new(),
            joined: RoaringTreemap::new(),
            archive_id: archive.map(|stat| (stat.st_dev, stat.st_ino)),
            mirrors: Vec::new(),
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

    fn walk_root(&mut self, root: &Root) -> Planned<()> {
        let run = self.run;
        let mut visits = match Visits::new(&run.tree, &run.options.selection, root) {
            Ok(visits) => visits,
            Err(error) => return self.send(Item::Unlisted { path: root.path.clone(), error }),
        };
        let location = &visits.location.own;
        set(&location.known, self.known);
        set(&location.stored, self.destination);
        let mirrored = self.known.filter(|_| root.name.is_none());
        self.mirrors = vec![self.mirror(mirrored)];
        while let Some(visit) = visits.next() {
            if run.shared.is_over.load(Ordering::Relaxed) {
                return Err(Ended);
            }
            if let Some((directory, name)) = visit.place() {
                self.mirror_until(directory, Some(name))?;
            }
            self.visit(visit, &mut visits)?;
        }
        Ok(())
    }

    fn send(&self, item: Item) -> Planned<()> {
        self.items.send(item).map_err(|_| Ended)
    }

    fn left(&self, directory: Arc<Directory>, name: OsString, reason: Reason) -> Planned<()> {
        self.send(Item::Left { directory, name, reason })
    }

    fn mirror(&self, known: Option<InodeNumber>) -> Option<Mirror> {
        known.filter(|_| self.run.options.delete).map(Mirror::new)
    }

    /// Plans the removal of the names of the archive that come before a name of the source, or of all others.
    fn mirror_until(&mut self, directory: &Arc<Directory>, bound: Option<&OsStr>) -> Planned<()> {
        let Some(archive) = self.run.archive else { return Ok(()) };
        let Some(Some(mirror)) = self.mirrors.last_mut() else { return Ok(()) };
        let (run, names) = (self.run, archive.names());
        loop {
            let directory = Arc::clone(directory);
            let item = match mirror.next_below(&names, bound) {
                Ok(None) => return Ok(()),
                Ok(Some(name)) => gone(run, directory, OsString::from_vec(name)),
                Err(error) => {
                    let name = bound.unwrap_or_default().to_owned();
                    Item::Left { directory, name, reason: Reason::Archive(error.into()) }
                }
            };
            self.items.send(item).map_err(|_| Ended)?;
        }
    }

    /// Decides what to do with what was visited.
    fn visit(&mut self, visit: Visit, visits: &mut Visits<'_>) -> Planned<()> {
        match visit {
            Visit::Entry { entry, .. } if self.archive_id == Some(entry.status.id) => {
                let reason = Reason::Skipped(SkipReason::IsArchive);
                self.left(entry.directory, entry.name, reason)
            }
            Visit::Entry { entry, kind } => match self.existing(&entry) {
                Ok(existing) => {
                    let action = self.file(&entry, kind, existing)?;
                    self.send(Item::Entry { entry, action })
                }
                Err(reason) => self.left(entry.directory, entry.name, reason),
            },
            Visit::Directory { mut entry, directory, left_out } => {
                if left_out == Some(SkipReason::OtherFileSystem) {
                    // Its attributes are not read, so a later run must not take it for unchanged.
                    entry.status.attributes.origin = None;
                }
                match self.directory(&entry, &directory, left_out) {
                    Ok(extended) => {
                        // What is left out stays in the archive.
                        let known = directory.own.known.get().copied();
                        self.mirrors.push(self.mirror(known.filter(|_| left_out.is_none())));
                        let action = Action::Directory { directory, extended, left_out };
                        self.send(Item::Entry { entry, action })
                    }
                    Err(reason) => {
                        visits.skip();
                        self.left(entry.directory, entry.name, reason)
                    }
                }
            }
            Visit::LeftOut { directory, name, reason } => {
                self.left(directory, name, Reason::Skipped(reason))
            }
            Visit::Unread { directory, name, error } => {
                self.left(directory, name, Reason::Unread(error))
            }
            Visit::End { directory, outcome } => {
                let ended = match outcome {
                    Ok(()) => self.mirror_until(&directory, None),
                    Err(error) => self.send(Item::Unlisted { path: directory.own_path(), error }),
                };
                self.mirrors.pop();
                ended
            }
        }
    }

    /// Reads the extended attributes of a directory unless it is unchanged. If that is not possible, the directory is
    /// not stored, with everything below it.
    fn directory(
        &self,
        entry: &Entry,
        directory: &Directory,
        left_out: Option<SkipReason>,
    ) -> std::result::Result<Option<Extended>, Reason> {
        if self.depth + directory.own.depth >= DEPTH_MAX {
            let error = Error::TooDeep { path: entry.path(), limit: DEPTH_MAX };
            return Err(Reason::Unread(error));
        }
        let existing = self.existing(entry)?;
        let found = existing.filter(|(_, inode)| inode.kind == EntryType::Directory);
        set(&directory.own.known, found.as_ref().map(|(number, _)| *number));
        let is_same = found.is_some_and(|(_, inode)| {
            let stored = inode.attributes.origin;
            stored.is_some() && stored == self.seen(&entry.status, &inode).origin
        });
        if is_same || left_out == Some(SkipReason::OtherFileSystem) {
            return Ok(None);
        }
        let extended = self
            .run
            .tree
            .with(directory, |source, at| Ok(Some(Extended::read(source, Attributed::Open(at)))));
        extended.map_err(|error| Reason::Unread(entry.failed(error)))
    }

    /// Decides what to do with an entry that is not a directory.
    fn file(
        &mut self,
        entry: &Entry,
        kind: EntryType,
        existing: Option<(InodeNumber, Inode)>,
    ) -> Planned<Action> {
        let status = &entry.status;
        if kind == EntryType::File && status.links > 1 && self.was_planned(status.id) {
            return Ok(Action::Link);
        }
        let is_known = existing.is_some();
        let (task, present) = match existing {
            Some((number, inode)) => self.compare(entry, number, &inode),
            None => (Some(Task::Read), None),
        };
        let task = match (task, present) {
            (None, Some(present)) => return Ok(Action::Present(present)),
            (task, _) => task.unwrap_or(Task::Read),
        };
        // A preview reads no file: what needs to be compared counts as changed.
        if self.run.is_preview {
            return Ok(Action::WouldStore { is_known });
        }
        let (answer, input) = bounded(1);
        self.jobs.send(Job { entry: entry.clone(), task, answer }).map_err(|_| Ended)?;
        Ok(Action::Store { input, present })
    }

    /// Notes a name of a file with several names. Returns whether another one was planned before. If that was another file
    /// with the same inode number, the writer notices.
    fn was_planned(&mut self, (device, inode): FileId) -> bool {
        !self.linked.entry(device).or_default().insert(inode)
    }

    /// Compares an entry with what the archive has. Returns what to read, and the inode that it may be the same as.
    fn compare(
        &mut self,
        entry: &Entry,
        number: InodeNumber,
        inode: &Inode,
    ) -> (Option<Task>, Option<Present>) {
        let (status, options) = (&entry.status, &self.run.options);
        let differs = (Some(Task::Read), None);
        if Some(inode.kind) != status.kind || inode.device != status.device {
            return differs;
        }
        // All names of an inode in the archive must belong to one file in the source. The writer may have removed the
        // other names since the first of them was compared.
        let had_several = if inode.links > 1 {
            self.joined.insert(number.0);
            true
        } else {
            self.joined.contains(number.0)
        };
        let is_joined = had_several && (status.links == 1 || self.claimed.contains(number.0));
        if is_joined {
            return differs;
        }
        let seen = self.seen(status, inode);
        let is_same_file = seen.origin == inode.attributes.origin && seen.origin.is_some();
        let is_same_time = seen.modified == inode.attributes.modified;
        let same_attributes = seen == inode.attributes;
        let present = Present { inode: number, same_attributes };
        let task = match inode.kind {
            EntryType::File if options.checksum => Some(Task::Compare(StoredAt::of(inode))),
            EntryType::File if !is_same_time || inode.size != status.size => return differs,
            EntryType::File if !is_same_file => Some(Task::Compare(StoredAt::of(inode))),
            EntryType::Symlink if !is_same_time || !self.has_target(entry, inode) => {
                return differs;
            }
            _ if is_same_file => None,
            _ => Some(Task::Attributes),
        };
        if status.links > 1 {
            self.claimed.insert(number.0);
        }
        (task, Some(present))
    }

    /// Returns the attributes of an entry, with those of the archive where the user asked to ignore a difference.
    fn seen(&self, status: &Status, inode: &Inode) -> ar7_registry::records::Attributes {
        let (options, mut seen) = (&self.run.options, status.attributes);
        if let (Some(seen), Some(stored)) = (&mut seen.origin, inode.attributes.origin) {
            *seen = Origin {
                changed: if options.ignore_ctime { stored.changed } else { seen.changed },
                inode: if options.ignore_inode { stored.inode } else { seen.inode },
            };
        }
        seen
    }

    fn has_target(&self, entry: &Entry, inode: &Inode) -> bool {
        let tree = &self.run.tree;
        let target = tree.with(&entry.directory, |source, at| source.target(at, &entry.name));
        let stored = self.run.archive.map(|archive| archive.names().read_target(inode));
        matches!((target, stored), (Ok(target), Some(Ok(stored))) if target == stored)
    }

    /// Looks up the name of an entry in the archive.
    fn existing(&self, entry: &Entry) -> std::result::Result<Option<(InodeNumber, Inode)>, Reason> {
        validate_name(entry.name.as_bytes()).map_err(|error| Reason::Unread(error.into()))?;
        let known = entry.directory.own.known.get();
        let (Some(archive), Some(&directory)) = (self.run.archive, known) else { return Ok(None) };
        let names = archive.names();
        let found = names.lookup(directory, entry.name.as_bytes());
        let Some(found) = found.map_err(Reason::of_archive)? else { return Ok(None) };
        let inode = names.inode(found.inode).map_err(Reason::of_archive)?.ok_or_else(|| {
            let path = to_path(entry.directory.path_of(entry.name.as_bytes()));
            let cause = Arc::new(Error::MissingInode { inode: found.inode.0 });
            Reason::Archive(Error::InEntry { path, cause })
        })?;
        Ok(Some((found.inode, inode)))
    }
}

impl Reason {
    fn of_archive(error: RegistryError) -> Reason {
        Reason::Archive(error.into())
    }
}

/// Sets what a directory does not know yet.
fn set<T>(cell: &OnceLock<T>, value: Option<T>) {
    if let Some(value) = value {
        // Each directory is visited once.
        let _ = cell.set(value);
    }
}

/// Plans the removal of a name that the list of its directory did not contain. A name that is there after all was
/// renamed or made while the directory was listed: it stays.
fn gone(run: &Run<'_>, directory: Arc<Directory>, name: OsString) -> Item {
    let status = run.tree.with(&directory, |source, at| source.status(at, &name));
    let error = match status {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Item::Gone { directory, name };
        }
        Ok(_) => io::Error::other("it appeared while its directory was listed"),
        Err(error) => error,
    };
    let error = failed(directory.shown_path_of(&name), "list", error);
    Item::Left { directory, name, reason: Reason::Unread(error) }
}

/// Returns the destination directory in the archive, if it exists.
fn existing_destination(run: &Run<'_>, into: &[u8]) -> Result<Option<InodeNumber>> {
    let Some(archive) = run.archive else { return Ok(None) };
    match archive.names().resolve(into) {
        Ok(ArchiveEntry { inode, kind: EntryType::Directory, .. }) => Ok(Some(inode)),
        Ok(ArchiveEntry { kind, .. }) => Err(Error::WrongType {
            path: run.options.into.clone(),
            expected: EntryType::Directory.name(),
            found: kind.name(),
        }),
        Err(RegistryError::NoEntry { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
