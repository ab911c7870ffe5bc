//! Restores entries other than directories, in several threads that share a queue, and completes directories.
//!
//! An entry gets its content and attributes before it gets its name. So an interrupted extraction leaves no half entry,
//! and an existing one stays whole until it is replaced.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use ar7_engine::{Check, Error as EngineError};
use ar7_registry::Snapshot;
use ar7_registry::records::{Device, EntryType, ExtendedAttribute, Inode};
use crossbeam::channel::Receiver;
use roaring::RoaringTreemap;
use rustix::process::geteuid;

use super::Options;
use super::attributes::Wanted;
use super::content::{SparseFile, copy};
use super::publish::Replace;
use super::report::Reporter;
use crate::error::{Error, Result};
use crate::fs::stored::Found;
use crate::fs::system::{Handle, Status, System};
use crate::fs::tree::{Directory, Tree, replaced};
use crate::path::to_path;

/// A directory that is being restored.
pub(super) type Level = Directory<Own>;

/// What an extraction keeps of a directory.
pub(super) struct Own {
    /// The directory's entry in the archive, whose attributes are set when it is complete. `None` for the destination,
    /// which belongs to the user, and for a directory whose attributes are kept.
    pub(super) inode: Option<Inode>,
    /// The mode to put back if the extraction ends early, or keeps the attributes: that of an existing directory which
    /// did not allow to change it.
    pub(super) previous_mode: Option<u32>,
    /// Whether the directory existed before.
    pub(super) is_merged: bool,
    /// Whether new entries inherit an access control list that the archive does not give them.
    pub(super) inherits: bool,
    /// The inode numbers of the entries that were restored into it or entered, if it existed before.
    pub(super) restored: Mutex<RoaringTreemap>,
    /// Held while an entry replaces another one.
    pub(super) replacing: Mutex<()>,
    /// The number of entries in progress, including directories, plus one while the walk is in this directory.
    waiting: AtomicU64,
}

impl Own {
    /// The state of the destination.
    pub(super) fn of_destination(inherits: bool) -> Own {
        Own::new(None, None, true, inherits)
    }

    pub(super) fn new(
        inode: Option<Inode>,
        previous_mode: Option<u32>,
        is_merged: bool,
        inherits: bool,
    ) -> Own {
        let (restored, replacing) = (Mutex::default(), Mutex::default());
        let waiting = AtomicU64::new(1);
        Own { inode, previous_mode, is_merged, inherits, restored, replacing, waiting }
    }

    /// Counts one more entry in progress.
    pub(super) fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }
}

/// An entry to restore. It keeps its directory open.
pub(super) struct Job {
    pub(super) level: Arc<Level>,
    pub(super) descriptor: Arc<OwnedFd>,
    pub(super) found: Found,
}

/// A place for an entry: an open directory.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) level: &'a Level,
    pub(super) descriptor: BorrowedFd<'a>,
}

/// The state that the threads of an extraction share.
pub(super) struct Files<'a, 'e> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) options: &'a Options,
    pub(super) reporter: &'a Reporter<'e>,
    pub(super) tree: Tree<&'a System>,
    /// Makes the temporary names of this run different from all others.
    pub(super) seed: u64,
    pub(super) names: AtomicU64,
    /// Whether files are made without names, as far as is known.
    pub(super) has_unnamed: AtomicBool,
}

impl<'a, 'e> Files<'a, 'e> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        options: &'a Options,
        reporter: &'a Reporter<'e>,
        system: &'a System,
        seed: u64,
    ) -> Files<'a, 'e> {
        let (tree, names) = (Tree::new(system), AtomicU64::new(0));
        let has_unnamed = AtomicBool::new(true);
        Files { snapshot, options, reporter, tree, seed, names, has_unnamed }
    }

    pub(super) fn system(&self) -> &'a System {
        self.tree.system
    }

    /// Restores entries from the queue until it is closed.
    pub(super) fn make_all(&self, jobs: &Receiver<Job>) {
        let mut buffer = Vec::new();
        for job in jobs {
            self.make(&job, &mut buffer);
        }
    }

    /// Restores one entry, unless the extraction was stopped.
    pub(super) fn make(&self, Job { level, descriptor, found }: &Job, buffer: &mut Vec<u8>) {
        if !self.reporter.is_over() {
            let at = At { level, descriptor: descriptor.as_fd() };
            let outcome = self.entry(at, found, buffer);
            self.note(level, &found.name, outcome);
        }
        self.done(level, Arc::clone(descriptor));
    }

    /// Reports the outcome of an entry that was restored or kept, or failed.
    pub(super) fn note(&self, level: &Level, name: &[u8], outcome: Result<Outcome>) {
        let path = || self.path(level, name);
        match outcome {
            Ok(Outcome::Restored(_)) => self.reporter.restored(&path),
            Ok(Outcome::Kept) => self.reporter.kept(&path),
            Err(error) => self.reporter.failed(path, error),
        }
    }

    /// Counts one entry of a directory as done, or the walk as having left it. After the last one, completes the
    /// directory and counts it as done in its parent.
    pub(super) fn done(&self, level: &Arc<Level>, descriptor: Arc<OwnedFd>) {
        let (mut level, mut descriptor) = (level, descriptor);
        while level.own.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            let Some((parent, name)) = level.place() else { return };
            // Before the directory gets its final mode, which may not let this process pass.
            let above = self.tree.parent_of(level, &descriptor);
            let completed = self.complete(level, &descriptor, &above);
            match completed {
                Ok(true) => self.reporter.restored(&|| self.path(parent, name)),
                Ok(false) => {}
                Err(error) => {
                    let error = self.failed(parent, name, "set attributes", error);
                    self.reporter.failed(|| self.path(parent, name), error);
                }
            }
            level = parent;
            match above.or_else(|_| self.tree.descriptor(parent)) {
                Ok(above) => descriptor = above,
                Err(_) => return self.abandon(level),
            }
        }
    }

    /// Counts an entry of a directory that cannot be opened any more as done. If it was the last one, reports the
    /// directory, and those above that cannot be opened either.
    pub(super) fn abandon(&self, level: &Arc<Level>) {
        let mut level = level;
        while level.own.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            let Some((parent, name)) = level.place() else { return };
            let error = self.failed(parent, name, "set attributes", replaced());
            self.reporter.failed(|| self.path(parent, name), error);
            if let Ok(descriptor) = self.tree.descriptor(parent) {
                return self.done(parent, descriptor);
            }
            level = parent;
        }
    }

    /// Sets the attributes of a directory, or puts its mode back. Returns whether it counts as restored.
    fn complete(
        &self,
        level: &Level,
        descriptor: &OwnedFd,
        above: &io::Result<Arc<OwnedFd>>,
    ) -> io::Result<bool> {
        let handle = self.tree.with_descriptors(|| descriptor.try_clone())?;
        let handle = Handle::Open(File::from(handle));
        let set = self.set_final(level, &handle, above);
        if !matches!(set, Ok(true))
            && let Some(mode) = level.own.previous_mode
        {
            self.system().set_mode(&handle, mode)?;
        }
        set
    }

    fn set_final(
        &self,
        level: &Level,
        handle: &Handle,
        above: &io::Result<Arc<OwnedFd>>,
    ) -> io::Result<bool> {
        let (Some((parent, name)), Some(inode)) = (level.place(), &level.own.inode) else {
            return Ok(false);
        };
        if self.reporter.is_over() {
            return Ok(false);
        }
        let above = above.as_ref().map_err(copied)?;
        let at = At { level: parent, descriptor: above.as_fd() };
        let (attributes, lost) = self.attributes_of(inode)?;
        let wanted = Wanted::new(self.options, inode, attributes, level.own.is_merged);
        self.set(&wanted, handle, at, name)?;
        if self.system().status(at.descriptor, name)?.id != level.id {
            return Err(replaced());
        }
        self.note_lost(at, name, lost);
        Ok(true)
    }

    /// Restores an entry that is not a directory.
    pub(super) fn entry(&self, at: At<'_>, found: &Found, buffer: &mut Vec<u8>) -> Result<Outcome> {
        let replace = self.replaces(at, found)?;
        if replace == Replace::Never {
            return Ok(Outcome::Kept);
        }
        match found.inode.kind {
            EntryType::File => self.file(at, found, replace, buffer),
            EntryType::Symlink => self.symlink(at, found, replace),
            _ => self.special(at, found, replace),
        }
    }

    fn file(
        &self,
        at: At<'_>,
        found: &Found,
        replace: Replace,
        buffer: &mut Vec<u8>,
    ) -> Result<Outcome> {
        let failed = |operation, error| self.failed(at.level, &found.name, operation, error);
        let (file, temporary) = self.make_file(at).map_err(|error| failed("create", error))?;
        let written = self.write(at, found, &file, buffer);
        let (handle, temporary) = (Handle::Open(file), temporary.as_deref());
        let finished = written.and_then(|()| self.finish(at, found, &handle, (temporary, replace)));
        match (finished, temporary) {
            (Ok(status), _) => Ok(Outcome::Restored(status)),
            (Err(error), Some(temporary)) => {
                self.discard(at, temporary, Some(&handle));
                Err(error)
            }
            (Err(error), None) if cannot_be_named(&error) => {
                self.has_unnamed.store(false, Ordering::Relaxed);
                self.file(at, found, replace, buffer)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn write(&self, at: At<'_>, found: &Found, file: &File, buffer: &mut Vec<u8>) -> Result<()> {
        let stream = self.snapshot.read_file(&found.inode)?;
        let stream_bytes = stream.as_ref().map_or(0, ar7_registry::FileContent::len);
        let inode_bytes = found.inode.size;
        if stream_bytes != inode_bytes {
            let check = Check::Name;
            return Err(EngineError::damaged(None, check, inode_bytes, stream_bytes).into());
        }
        let Some(stream) = stream else { return Ok(()) };
        let mut output = SparseFile::new(self.system(), file, self.options.sparse);
        let copied = copy(&stream, &mut output, buffer, |bytes| {
            self.reporter.wrote(bytes);
            !self.reporter.is_over()
        });
        copied.map_err(|error| {
            error.explained(|error| self.failed(at.level, &found.name, "write", error))
        })
    }

    fn symlink(&self, at: At<'_>, found: &Found, replace: Replace) -> Result<Outcome> {
        let target = self.snapshot.read_target(&found.inode)?;
        self.held(at, found, replace, |name| {
            self.system().make_symlink(at.descriptor, name, &target)
        })
    }

    fn special(&self, at: At<'_>, found: &Found, replace: Replace) -> Result<Outcome> {
        let (kind, device) = (found.inode.kind, found.inode.device);
        let device = device.unwrap_or(Device { major: 0, minor: 0 });
        if let Some(reason) = self.refusal(kind) {
            let error = io::Error::new(io::ErrorKind::PermissionDenied, reason);
            return Err(self.failed(at.level, &found.name, "create", error));
        }
        self.held(at, found, replace, |name| {
            self.system().make_special(at.descriptor, name, kind, device)
        })
    }

    /// Returns why an entry of this type is not restored.
    fn refusal(&self, kind: EntryType) -> Option<&'static str> {
        let is_device = matches!(kind, EntryType::CharacterDevice | EntryType::BlockDevice);
        if kind == EntryType::Fifo {
            return None;
        }
        if !geteuid().is_root() {
            return Some(if is_device {
                "only root may create devices"
            } else {
                "only root restores sockets"
            });
        }
        let is_refused = is_device && !self.options.preserve_special;
        is_refused.then_some("devices are restored only together with the special bits")
    }

    /// Makes an entry that is not opened.
    fn held(
        &self,
        at: At<'_>,
        found: &Found,
        replace: Replace,
        make: impl Fn(&[u8]) -> io::Result<()>,
    ) -> Result<Outcome> {
        let failed = |operation, error| self.failed(at.level, &found.name, operation, error);
        let made = self.under_temporary_name(make);
        let ((), temporary) = made.map_err(|error| failed("create", error))?;
        let handle = match self.hold_own(at, &temporary, found.inode.kind) {
            Ok(handle) => handle,
            Err(error) => {
                self.discard(at, &temporary, None);
                return Err(failed("open", error));
            }
        };
        let finished = self.finish(at, found, &handle, (Some(&temporary), replace));
        if finished.is_err() {
            self.discard(at, &temporary, Some(&handle));
        }
        finished.map(Outcome::Restored)
    }

    /// Holds an entry that this process just made. Another one under its name, such as a hard link to a file of
    /// somebody else, is refused.
    fn hold_own(&self, at: At<'_>, name: &[u8], kind: EntryType) -> io::Result<Handle> {
        let handle = self.system().hold(at.descriptor, name)?;
        let status = self.system().status_of_held(&handle)?;
        let is_own = status.owner == geteuid().as_raw() || self.owner_of_new(at)? == status.owner;
        if status.kind != Some(kind) || status.links != 1 || !is_own {
            return Err(replaced());
        }
        Ok(handle)
    }

    /// Sets the attributes of a new entry and gives it its name. Returns its status, if it was needed.
    fn finish(
        &self,
        at: At<'_>,
        found: &Found,
        handle: &Handle,
        (temporary, replace): (Option<&[u8]>, Replace),
    ) -> Result<Option<Status>> {
        let (name, failed) = (found.name.as_slice(), |operation, error| {
            self.failed(at.level, &found.name, operation, error)
        });
        let (attributes, lost) = self.attributes_of(&found.inode)?;
        let wanted = Wanted::new(self.options, &found.inode, attributes, at.level.own.inherits);
        let set = self.set(&wanted, handle, at, name);
        set.map_err(|error| failed("set attributes", error))?;
        let is_needed = temporary.is_some() || at.level.own.is_merged || found.inode.links > 1;
        let status = is_needed.then(|| self.system().status_of_held(handle)).transpose();
        let status = status.map_err(|error| failed("stat", error))?;
        if let (Some(temporary), Some(status)) = (temporary, status) {
            self.publish(at, (temporary, replace), name, status.id)?;
        } else {
            let id = status.map(|status| status.id);
            self.publish_unnamed(at, (handle, replace), name, id)?;
        }
        self.note_lost(at, name, lost);
        Ok(status)
    }

    /// Returns the extended attributes of an entry. If they are damaged, returns `None` and why: the rest of the entry is
    /// restored.
    fn attributes_of(
        &self,
        inode: &Inode,
    ) -> Result<(Option<Vec<ExtendedAttribute>>, Option<Error>)> {
        match self.snapshot.extended_attributes(inode).map_err(Error::from) {
            Ok(attributes) => Ok((Some(attributes), None)),
            Err(error @ (Error::Damaged(_) | Error::Tampered(_))) => {
                Ok((None, Some(Error::AttributesLost { cause: Arc::new(error) })))
            }
            Err(error) => Err(error),
        }
    }

    /// Reports an entry that was restored without its extended attributes.
    fn note_lost(&self, at: At<'_>, name: &[u8], lost: Option<Error>) {
        if let Some(error) = lost {
            self.reporter.failed(|| self.path(at.level, name), error);
        }
    }

    fn set(&self, wanted: &Wanted, handle: &Handle, at: At<'_>, name: &[u8]) -> io::Result<()> {
        wanted.set(self.system(), handle, &mut |(aspect, error)| {
            let error = self.failed(at.level, name, "set attributes", error);
            self.reporter.lacks(aspect, || self.path(at.level, name), error);
        })
    }

    /// Returns the path of an entry in the destination.
    pub(super) fn path(&self, level: &Level, name: &[u8]) -> PathBuf {
        self.options.to.join(to_path(level.path_of(name)))
    }

    /// Returns the error of an operation on the file system.
    pub(super) fn failed(
        &self,
        level: &Level,
        name: &[u8],
        operation: &'static str,
        error: io::Error,
    ) -> Error {
        // An error of the archive that passed through.
        match error.downcast::<Error>() {
            Ok(error) => error,
            Err(source) => {
                let (path, source) = (Some(self.path(level, name)), Arc::new(source));
                Error::Io { operation, path, source }
            }
        }
    }
}

/// What became of an entry.
pub(super) enum Outcome {
    /// It was restored, and has this status, if it may get more names.
    Restored(Option<Status>),
    /// An existing one was kept.
    Kept,
}

/// Returns whether a file system that makes files without names may be unable to give them names.
fn cannot_be_named(error: &Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotFound, PermissionDenied, Unsupported};
    let Error::Io { operation: "link", source, .. } = error else { return false };
    matches!(source.kind(), PermissionDenied | Unsupported | NotFound | InvalidInput)
}

/// Returns an error with the same code and text.
fn copied(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
