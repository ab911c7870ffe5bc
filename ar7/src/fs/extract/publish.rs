//! Gives a completed entry its name, so that a name never refers to half an entry.
//!
//! A file has no name until it is complete, where the file system has files without names. Nobody else can reach it
//! before, and if the process is killed, it disappears. Any other entry, and a file elsewhere, is made under a temporary
//! name. At last its name must refer to it: another process may have changed the directory meanwhile. If the process is
//! killed, at most one such entry for each thread stays, under a hidden name that no later run uses.
//!
//! Under a temporary name, a file that gets another owner can be changed by that owner a moment before it gets its
//! name, rather than a moment after.
//!
//! A directory that this extraction made has no other entries. So a name that exists there, and one that refers to an
//! entry just restored, was taken by another process, or by an entry whose name the file system does not distinguish
//! from it. Neither is overwritten.

use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;

use ar7_registry::records::EntryType;

use super::Overwrite;
use super::attributes::Wanted;
use super::files::{At, Files, Level};
use crate::error::{Error, Result};
use crate::fs::stored::Found;
use crate::fs::system::{FileId, Handle, Status};
use crate::fs::tree::{lock, replaced};

/// Number of temporary names to try, should others exist.
const NAMES_MAX: u32 = 64;

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

impl Level {
    /// Notes the identity of an entry of this directory before it gets its name.
    pub(super) fn note_restored(&self, id: FileId) {
        // Another file system is mounted below, whose numbers are its own.
        if self.own.is_merged && id.0 == self.id.0 {
            lock(&self.own.restored).insert(id.1);
        }
    }

    /// Returns whether this extraction gave an entry its name in this directory.
    pub(super) fn was_restored(&self, id: FileId) -> bool {
        id.0 == self.id.0 && lock(&self.own.restored).contains(id.1)
    }
}

impl Files<'_, '_> {
    /// Returns what an entry may replace, given what exists under its name.
    pub(super) fn replaces(&self, at: At<'_>, found: &Found) -> Result<Replace> {
        let overwrite = self.options.overwrite;
        match overwrite {
            _ if !at.level.own.is_merged => return Ok(Replace::Nothing),
            Overwrite::Refuse => return Ok(Replace::Nothing),
            Overwrite::Always => return Ok(Replace::Anything),
            _ => {}
        }
        let existing = self.system().status_if_there(at.descriptor, &found.name);
        let existing =
            existing.map_err(|error| self.failed(at.level, &found.name, "stat", error))?;
        // What appears meanwhile was not compared, so it stays.
        let Some(existing) = existing else { return Ok(Replace::Nothing) };
        if at.level.was_restored(existing.id) {
            return Err(self.failed(at.level, &found.name, "create", taken()));
        }
        let modified = crate::records::Timestamp::from(found.inode.attributes.modified);
        let is_outdated = match overwrite {
            Overwrite::IfNewer => modified > existing.modified,
            Overwrite::IfChanged => self.is_changed(at, found, &existing)?,
            Overwrite::Refuse | Overwrite::Always | Overwrite::Never => false,
        };
        Ok(if is_outdated { Replace::Anything } else { Replace::Never })
    }

    /// Returns whether an existing entry differs from the one in the archive, as far as this shows without reading files.
    fn is_changed(&self, at: At<'_>, found: &Found, existing: &Status) -> Result<bool> {
        let inode = &found.inode;
        let wanted = Wanted::new(self.options, inode, Some(Vec::new()), false);
        if existing.kind != Some(inode.kind)
            || existing.modified != inode.attributes.modified.into()
            || !wanted.has_rights_of(existing)
        {
            return Ok(true);
        }
        match inode.kind {
            EntryType::File => Ok(existing.size != inode.size),
            EntryType::Symlink => {
                let target = self.system().target(at.descriptor, &found.name);
                let stored = self.snapshot.read_target(inode)?;
                Ok(target.map_or(true, |target| target != stored))
            }
            _ => Ok(inode.device.is_some_and(|device| device != existing.device)),
        }
    }

    /// Makes a file: without a name, or under a temporary one, which is then returned too.
    pub(super) fn make_file(&self, at: At<'_>) -> io::Result<(File, Option<Vec<u8>>)> {
        use io::ErrorKind::{InvalidInput, IsADirectory, Unsupported};
        if self.has_unnamed.load(Ordering::Relaxed) {
            match self.tree.with_descriptors(|| self.system().make_unnamed(at.descriptor)) {
                Err(error) if matches!(error.kind(), Unsupported | InvalidInput | IsADirectory) => {
                    self.has_unnamed.store(false, Ordering::Relaxed);
                }
                outcome => return Ok((outcome?, None)),
            }
        }
        let make = |name: &[u8]| self.system().make_file(at.descriptor, name);
        let (file, temporary) = self.under_temporary_name(make)?;
        Ok((file, Some(temporary)))
    }

    /// Gives a file without a name its name.
    pub(super) fn publish_unnamed(
        &self,
        at: At<'_>,
        (handle, replace): (&Handle, Replace),
        name: &[u8],
        id: Option<FileId>,
    ) -> Result<()> {
        let Handle::Open(file) = handle else { return Ok(()) };
        if let Some(id) = id {
            at.level.note_restored(id);
        }
        let named = match self.system().name(file, at.descriptor, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            outcome => {
                return outcome.map_err(|error| self.failed(at.level, name, "link", error));
            }
        };
        match (replace, id) {
            (Replace::Anything, Some(id)) => {
                let link = |temporary: &[u8]| self.system().name(file, at.descriptor, temporary);
                let made = self.under_temporary_name(link);
                let ((), temporary) =
                    made.map_err(|error| self.failed(at.level, name, "link", error))?;
                let published = self.publish(at, (&temporary, replace), name, id);
                if published.is_err() {
                    self.discard(at, &temporary, Some(handle));
                }
                published
            }
            _ => named.map_err(|error| self.not_published(at, name, error)),
        }
    }

    /// Renames an entry from its temporary name to its own, and checks that the name then refers to it.
    pub(super) fn publish(
        &self,
        at: At<'_>,
        (temporary, replace): (&[u8], Replace),
        name: &[u8],
        id: FileId,
    ) -> Result<()> {
        let renamed = match replace {
            Replace::Anything => self.rename_over(at, temporary, name, id),
            Replace::Nothing | Replace::Never => {
                at.level.note_restored(id);
                self.rename_new(at, temporary, name)
            }
        };
        let is_there = renamed.and_then(|()| {
            let found = self.system().status(at.descriptor, name)?.id;
            if found == id { Ok(()) } else { Err(replaced()) }
        });
        is_there.map_err(|error| self.not_published(at, name, error))
    }

    /// Renames an entry to a name that may exist, unless it refers to an entry that was just restored.
    fn rename_over(&self, at: At<'_>, from: &[u8], to: &[u8], id: FileId) -> io::Result<()> {
        let _one_at_a_time = lock(&at.level.own.replacing);
        let existing = self.system().status_if_there(at.descriptor, to)?;
        if existing.is_some_and(|existing| existing.id != id && at.level.was_restored(existing.id))
        {
            return Err(taken());
        }
        at.level.note_restored(id);
        self.system().rename(at.descriptor, from, to)
    }

    /// Renames an entry to a name that must not exist. Where the system has no such call, the entry has both names in
    /// between.
    fn rename_new(&self, at: At<'_>, from: &[u8], to: &[u8]) -> io::Result<()> {
        let system = self.system();
        match system.rename_new(at.descriptor, from, to) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                system.link((at.descriptor, from), (at.descriptor, to))?;
                system.remove(at.descriptor, from)
            }
            outcome => outcome,
        }
    }

    fn not_published(&self, at: At<'_>, name: &[u8], error: io::Error) -> Error {
        let is_code = error.raw_os_error().is_some();
        match error.kind() {
            io::ErrorKind::AlreadyExists if is_code && at.level.own.is_merged => {
                Error::AlreadyExists { path: self.path(at.level, name) }
            }
            io::ErrorKind::AlreadyExists => self.failed(at.level, name, "create", taken()),
            _ => self.failed(at.level, name, "rename", error),
        }
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
}

/// The error for a name that another entry took after the extraction began.
pub(super) fn taken() -> io::Error {
    let reason = "another process took its name, or an entry whose name the file system does not \
                  distinguish from it";
    io::Error::new(io::ErrorKind::AlreadyExists, reason)
}
