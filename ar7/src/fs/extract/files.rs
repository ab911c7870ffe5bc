//! Restores entries other than directories, in several threads that share a queue, and completes directories.
//!
//! An entry is made under a temporary name in its directory, gets its content and attributes, and is then renamed. So
//! an interrupted extraction leaves no half entry, and an existing one stays whole until it is replaced. At last the
//! name must refer to the entry that was made: another process may have changed the directory meanwhile.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ar7_engine::{Check, Error as EngineError};
use ar7_registry::Snapshot;
use ar7_registry::records::{Device, EntryType, Inode};
use crossbeam::channel::Receiver;
use rustix::process::geteuid;

use super::attributes::Wanted;
use super::content::{SparseFile, copy};
use super::report::Reporter;
use super::{Options, Overwrite};
use crate::error::{Error, Result};
use crate::fs::stored::Found;
use crate::fs::system::{FileId, Handle, Status, System};
use crate::fs::tree::{Directory, Tree, replaced};
use crate::path::to_path;

/// Number of temporary names to try, should others exist.
const NAMES_MAX: u32 = 64;

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
    /// The number of entries in progress, including directories, plus one while the walk is in this directory.
    waiting: AtomicU64,
}

impl Own {
    /// The state of the destination.
    pub(super) fn of_destination(inherits: bool) -> Own {
        Own {
            inode: None,
            previous_mode: None,
            is_merged: true,
            inherits,
            waiting: AtomicU64::new(1),
        }
    }

    pub(super) fn new(
        inode: Option<Inode>,
        previous_mode: Option<u32>,
        is_merged: bool,
        inherits: bool,
    ) -> Own {
        Own { inode, previous_mode, is_merged, inherits, waiting: AtomicU64::new(1) }
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
    seed: u64,
    names: AtomicU64,
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
        Files { snapshot, options, reporter, tree, seed, names }
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
        let attributes = self.attributes_of(inode)?;
        let wanted = Wanted::new(self.options, inode, attributes, level.own.is_merged);
        self.set(&wanted, handle, at, name)?;
        if self.system().status(at.descriptor, name)?.id != level.id {
            return Err(replaced());
        }
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

    /// Returns what an entry may replace, given what exists under its name.
    pub(super) fn replaces(&self, at: At<'_>, found: &Found) -> Result<Replace> {
        let overwrite = self.options.overwrite;
        match overwrite {
            Overwrite::Refuse => return Ok(Replace::Nothing),
            Overwrite::Always => return Ok(Replace::Anything),
            _ => {}
        }
        let existing = self.system().status_if_there(at.descriptor, &found.name);
        let existing =
            existing.map_err(|error| self.failed(at.level, &found.name, "stat", error))?;
        // What appears meanwhile was not compared, so it stays.
        let Some(existing) = existing else { return Ok(Replace::Nothing) };
        let inode = &found.inode;
        let modified = inode.attributes.modified.into();
        let is_outdated = match overwrite {
            Overwrite::IfNewer => modified > existing.modified,
            Overwrite::IfChanged => {
                let wanted = Wanted::new(self.options, inode, Vec::new(), false);
                existing.kind != Some(inode.kind)
                    || existing.modified != modified
                    || existing.size != inode.size && inode.kind == EntryType::File
                    || !wanted.has_rights_of(&existing)
            }
            Overwrite::Refuse | Overwrite::Always | Overwrite::Never => false,
        };
        Ok(if is_outdated { Replace::Anything } else { Replace::Never })
    }

    fn file(
        &self,
        at: At<'_>,
        found: &Found,
        replace: Replace,
        buffer: &mut Vec<u8>,
    ) -> Result<Outcome> {
        let failed = |operation, error| self.failed(at.level, &found.name, operation, error);
        let made = self.under_temporary_name(|name| self.system().make_file(at.descriptor, name));
        let (file, temporary) = made.map_err(|error| failed("create", error))?;
        let handle = Handle::Open(file);
        let Handle::Open(file) = &handle else { return Ok(Outcome::Kept) };
        let written = self
            .write(at, found, file, buffer)
            .and_then(|()| self.finish(at, found, &handle, (&temporary, replace)));
        if written.is_err() {
            self.discard(at, &temporary, Some(&handle));
        }
        written.map(Outcome::Restored)
    }

    fn write(&self, at: At<'_>, found: &Found, file: &File, buffer: &mut Vec<u8>) -> Result<()> {
        let stream = self.snapshot.read_file(&found.inode)?;
        let stream_bytes = stream.as_ref().map_or(0, ar7_registry::PinnedStream::len);
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
        let finished = self.finish(at, found, &handle, (&temporary, replace));
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

    /// Sets the attributes of a new entry and gives it its name. Returns its status.
    fn finish(
        &self,
        at: At<'_>,
        found: &Found,
        handle: &Handle,
        (temporary, replace): (&[u8], Replace),
    ) -> Result<Status> {
        let failed = |operation, error| self.failed(at.level, &found.name, operation, error);
        let attributes = self.attributes_of(&found.inode)?;
        let wanted = Wanted::new(self.options, &found.inode, attributes, at.level.own.inherits);
        let set = self.set(&wanted, handle, at, &found.name);
        set.map_err(|error| failed("set attributes", error))?;
        let status = self.system().status_of_held(handle).map_err(|error| failed("stat", error))?;
        self.publish(at, (temporary, replace), &found.name, status.id)?;
        Ok(status)
    }

    fn attributes_of(
        &self,
        inode: &Inode,
    ) -> Result<Vec<ar7_registry::records::ExtendedAttribute>> {
        Ok(self.snapshot.extended_attributes(inode)?)
    }

    fn set(&self, wanted: &Wanted, handle: &Handle, at: At<'_>, name: &[u8]) -> io::Result<()> {
        wanted.set(self.system(), handle, &mut |(aspect, error)| {
            let error = self.failed(at.level, name, "set attributes", error);
            self.reporter.lacks(aspect, || self.path(at.level, name), error);
        })
    }

    /// Renames an entry from its temporary name to its own, and checks that the name then refers to it.
    pub(super) fn publish(
        &self,
        at: At<'_>,
        (temporary, replace): (&[u8], Replace),
        name: &[u8],
        id: FileId,
    ) -> Result<()> {
        let system = self.system();
        let renamed = match replace {
            Replace::Anything => system.rename(at.descriptor, temporary, name),
            Replace::Nothing | Replace::Never => system.rename_new(at.descriptor, temporary, name),
        };
        let is_there = renamed.and_then(|()| {
            if system.status(at.descriptor, name)?.id == id { Ok(()) } else { Err(replaced()) }
        });
        is_there.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Error::AlreadyExists { path: self.path(at.level, name) }
            }
            _ => self.failed(at.level, name, "rename", error),
        })
    }

    /// Removes what was made under a temporary name, unless another entry has this name by now.
    pub(super) fn discard(&self, at: At<'_>, temporary: &[u8], handle: Option<&Handle>) {
        let system = self.system();
        let own = handle.and_then(|handle| system.status_of_held(handle).ok());
        let found = system.status(at.descriptor, temporary).ok();
        let is_other = own.zip(found).is_some_and(|(own, found)| own.id != found.id);
        if !is_other {
            // If this fails, there is nothing else to try. The failure that led here is reported.
            let _ = system.remove(at.descriptor, temporary);
        }
    }

    /// Makes an entry under a temporary name that does not exist yet: hidden, and never the same in two runs.
    pub(super) fn under_temporary_name<T>(
        &self,
        make: impl Fn(&[u8]) -> io::Result<T>,
    ) -> io::Result<(T, Vec<u8>)> {
        let mut tries = 1;
        loop {
            let number = self.names.fetch_add(1, Ordering::Relaxed);
            let name = format!(".ar7.{:016x}.{number}", self.seed).into_bytes();
            match self.tree.with_descriptors(|| make(&name)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && tries < NAMES_MAX => {
                    tries += 1;
                }
                outcome => return outcome.map(|made| (made, name)),
            }
        }
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

/// What an entry may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replace {
    /// Whatever has its name.
    Anything,
    /// Nothing: its name is free, or must be.
    Nothing,
    /// The existing entry stays.
    Never,
}

/// What became of an entry.
pub(super) enum Outcome {
    /// It was restored, and has this status.
    Restored(Status),
    /// An existing one was kept.
    Kept,
}

/// Returns an error with the same code and text.
fn copied(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}
