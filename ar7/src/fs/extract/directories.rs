//! Creates and enters the directories of the destination.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use ar7_registry::records::EntryType;
use rustix::process::geteuid;

use super::Overwrite;
use super::attributes::{ACCESS_LIST, DEFAULT_LIST};
use super::files::{At, Files, Level, Own};
use super::publish::{Replace, taken};
use crate::error::{Error, Result};
use crate::fs::stored::Found;
use crate::fs::system::{Handle, Status};
use crate::fs::tree::{lock, replaced};

/// What the owner needs to change a directory.
const OWNER_BITS: u32 = 0o700;

/// The bits with which somebody else could change a directory.
const OTHERS_WRITE_BITS: u32 = 0o022;

/// A directory that was opened.
struct Entered {
    descriptor: OwnedFd,
    status: Status,
    /// The mode that it had before it was made accessible.
    previous_mode: Option<u32>,
}

impl Files<'_, '_> {
    /// Opens the destination, which may be a symbolic link, or creates it. The caller keeps the descriptor open.
    pub(super) fn destination(&self, path: &Path) -> Result<(Arc<Level>, Arc<OwnedFd>)> {
        let failed = |operation, error| {
            let (path, source) = (Some(path.to_owned()), Arc::new(error));
            Error::Io { operation, path, source }
        };
        std::fs::create_dir_all(path).map_err(|error| failed("create", error))?;
        let opened = self.system().open_typed(path).map_err(|error| failed("open", error))?;
        let handle = Handle::Open(File::from(opened));
        let inherits = self.inherits(&handle);
        let Handle::Open(file) = handle else { return Err(failed("open", replaced())) };
        let descriptor = Arc::new(OwnedFd::from(file));
        let own = Own::of_destination(inherits);
        let top = self.tree.top(&descriptor, own).map_err(|error| failed("open", error))?;
        Ok((top, descriptor))
    }

    /// Creates a directory that only its owner may enter until it is complete, or enters an existing one.
    pub(super) fn directory(&self, parent: &Arc<Level>, found: Found) -> Result<Arc<Level>> {
        let failed = |operation, error| self.failed(parent, &found.name, operation, error);
        let above = self.tree.descriptor(parent).map_err(|error| failed("create", error))?;
        let at = At { level: parent, descriptor: above.as_fd() };
        let keeps = self.keeps_attributes(at, &found)?;
        let is_new = self.make_directory(at, &found)?;
        let entered = self.enter(at, &found.name, is_new).map_err(|error| failed("open", error))?;
        let Entered { descriptor, status, previous_mode } = entered;
        let handle = Handle::Open(File::from(descriptor));
        let inherits = if is_new && parent.own.inherits {
            self.remove_lists(&handle).map_err(|error| failed("set attributes", error))?;
            false
        } else {
            !is_new && self.inherits(&handle)
        };
        let Handle::Open(file) = handle else { return Err(failed("open", replaced())) };
        parent.own.wait();
        parent.note_restored(status.id);
        let inode = (!found.is_lost && (is_new || !keeps)).then_some(found.inode);
        let own = Own::new(inode, previous_mode, !is_new, inherits);
        Ok(self.tree.opened(parent, found.name, status.id, file.into(), own))
    }

    /// Returns whether a directory keeps its attributes, if it exists.
    fn keeps_attributes(&self, at: At<'_>, found: &Found) -> Result<bool> {
        match self.options.overwrite {
            Overwrite::Never => Ok(true),
            Overwrite::IfNewer => Ok(self.replaces(at, found)? == Replace::Never),
            Overwrite::Refuse | Overwrite::Always | Overwrite::IfChanged => Ok(false),
        }
    }

    /// Creates a directory if needed. Returns whether it is new.
    fn make_directory(&self, at: At<'_>, found: &Found) -> Result<bool> {
        let (system, name) = (self.system(), found.name.as_slice());
        let failed = |operation, error| self.failed(at.level, name, operation, error);
        let exists = || Error::AlreadyExists { path: self.path(at.level, name) };
        match system.make_directory(at.descriptor, name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| true).map_err(|error| failed("create", error)),
        }
        if !at.level.own.is_merged {
            return Err(failed("create", taken()));
        }
        if self.options.overwrite == Overwrite::Refuse {
            return Err(exists());
        }
        let _one_at_a_time = lock(&at.level.own.replacing);
        let existing = system.status(at.descriptor, name).map_err(|error| failed("stat", error))?;
        if at.level.was_restored(existing.id) {
            return Err(failed("create", taken()));
        }
        if existing.kind == Some(EntryType::Directory) {
            return Ok(false);
        }
        if self.replaces(at, found)? == Replace::Never {
            return Err(exists());
        }
        system.remove(at.descriptor, name).map_err(|error| failed("replace", error))?;
        let made = system.make_directory(at.descriptor, name);
        made.map(|()| true).map_err(|error| failed("create", error))
    }

    /// Opens a directory. If its mode does not let its owner change it, and this process belongs to the owner, changes
    /// the mode for the time being.
    fn enter(&self, at: At<'_>, name: &[u8], is_new: bool) -> io::Result<Entered> {
        let system = self.system();
        let open = || self.tree.with_descriptors(|| system.open_directory(at.descriptor, name));
        let descriptor = match open() {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return self.enter_closed(at, name, is_new).map_err(|_| error);
            }
            outcome => outcome?,
        };
        let status = system.status_of(&descriptor)?;
        if is_new {
            if !self.is_just_made(at, &descriptor, &status)? {
                return Err(replaced());
            }
            return Ok(Entered { descriptor, status, previous_mode: None });
        }
        if is_accessible(&status) {
            return Ok(Entered { descriptor, status, previous_mode: None });
        }
        let handle = Handle::Open(File::from(descriptor));
        system.set_mode(&handle, status.mode | OWNER_BITS)?;
        let Handle::Open(file) = handle else { return Err(replaced()) };
        let previous_mode = Some(status.mode);
        Ok(Entered { descriptor: file.into(), status, previous_mode })
    }

    /// Opens a directory that its owner may not even list.
    fn enter_closed(&self, at: At<'_>, name: &[u8], is_new: bool) -> io::Result<Entered> {
        let system = self.system();
        let handle = system.hold(at.descriptor, name)?;
        let status = system.status_of_held(&handle)?;
        if status.kind != Some(EntryType::Directory) || is_accessible(&status) {
            return Err(replaced());
        }
        system.set_mode(&handle, status.mode | OWNER_BITS)?;
        let opened = system.open_directory(at.descriptor, name).and_then(|descriptor| {
            let is_same = system.status_of(&descriptor)?.id == status.id
                && (!is_new || self.is_just_made(at, &descriptor, &status)?);
            if is_same { Ok(descriptor) } else { Err(replaced()) }
        });
        match opened {
            Ok(descriptor) => {
                let previous_mode = (!is_new).then_some(status.mode);
                Ok(Entered { descriptor, status, previous_mode })
            }
            Err(error) => {
                system.set_mode(&handle, status.mode)?;
                Err(error)
            }
        }
    }

    /// Returns whether a directory that was opened right after its creation is the one that was created, and not one
    /// that another process put in its place: it is empty, belongs to this process, and nobody else may write to it.
    fn is_just_made(&self, at: At<'_>, descriptor: &OwnedFd, status: &Status) -> io::Result<bool> {
        let is_empty = self.system().read_directory(descriptor.as_fd(), |entries| {
            for entry in entries {
                if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(is_empty && self.is_own(at, status)?)
    }

    /// Returns whether a directory belongs to this process and nobody else may write to it.
    ///
    /// Some file systems give every entry the same owner and mode. A file that was certainly made by this process shows
    /// which.
    fn is_own(&self, at: At<'_>, status: &Status) -> io::Result<bool> {
        let is_closed = status.mode & OTHERS_WRITE_BITS == 0;
        if is_closed && status.owner == geteuid().as_raw() {
            return Ok(true);
        }
        let own = self.status_of_new(at)?;
        let has_modes = own.mode & 0o777 == 0o600;
        Ok(status.owner == own.owner && (is_closed || !has_modes))
    }

    /// Returns the owner of files that this process makes in a directory.
    pub(super) fn owner_of_new(&self, at: At<'_>) -> io::Result<u32> {
        Ok(self.status_of_new(at)?.owner)
    }

    /// Returns the status of a file that this process makes in a directory, and removes the file.
    fn status_of_new(&self, at: At<'_>) -> io::Result<Status> {
        let system = self.system();
        let made = self.under_temporary_name(|name| system.make_file(at.descriptor, name))?;
        let handle = Handle::Open(made.0);
        let own = system.status_of_held(&handle);
        self.discard(at, &made.1, Some(&handle));
        own
    }

    /// Returns whether new entries of a directory inherit an access control list.
    fn inherits(&self, handle: &Handle) -> bool {
        let Handle::Open(file) = handle else { return false };
        // Its owner may give it a list at any time.
        let status = self.system().status_of_held(handle);
        if status.map_or(true, |status| status.owner != geteuid().as_raw()) {
            return true;
        }
        // If this is unknown, the lists of new entries are removed.
        self.system().attribute(file, DEFAULT_LIST.as_bytes()).map_or(true, |list| list.is_some())
    }

    fn remove_lists(&self, handle: &Handle) -> io::Result<()> {
        self.system().remove_attribute(handle, ACCESS_LIST.as_ref())?;
        self.system().remove_attribute(handle, DEFAULT_LIST.as_ref())
    }
}

/// Returns whether the mode of a directory lets its owner change it, or this process could not change the mode.
///
/// This holds for root as well, who may lack the right to ignore modes.
fn is_accessible(status: &Status) -> bool {
    status.mode & OWNER_BITS == OWNER_BITS || status.owner != geteuid().as_raw()
}
