//! One place of the archive, where the writer puts an entry.

use std::os::unix::ffi::OsStrExt;

use ar7_registry::records::{Attributes, EntryType, Inode, InodeNumber};
use ar7_registry::{Archive, Error as RegistryError, Names};
use uuid::Uuid;

use super::extended::Extended;
use crate::error::Error;
use crate::fs::walk::{Entry, Status};

/// Why an entry was not stored.
pub(super) enum Trouble {
    /// It could not be read. The others follow.
    Entry(Error),
    /// The archive cannot be written, or the run was stopped.
    Run(Error),
}

pub(super) type Done<T> = std::result::Result<T, Trouble>;

impl From<RegistryError> for Trouble {
    fn from(error: RegistryError) -> Trouble {
        Trouble::Run(error.into())
    }
}

/// The place of an entry in the archive.
pub(super) struct Place<'a> {
    pub(super) archive: &'a Archive,
    /// The inode number of the entry's directory.
    pub(super) directory: InodeNumber,
    pub(super) entry: &'a Entry,
}

/// Returns the error for a name whose inode does not exist.
pub(super) fn missing_inode(inode: InodeNumber) -> Trouble {
    Trouble::Run(Error::MissingInode { inode: inode.0 })
}

impl Place<'_> {
    pub(super) fn name(&self) -> &[u8] {
        self.entry.name.as_bytes()
    }

    pub(super) fn names(&self) -> Names<'_> {
        self.archive.names()
    }

    /// Returns the existing entry of the archive at this place.
    pub(super) fn existing(&self) -> Done<Option<(InodeNumber, Inode)>> {
        let names = self.names();
        let Some(entry) = names.lookup(self.directory, self.name())? else { return Ok(None) };
        let inode = names.inode(entry.inode)?;
        let inode = inode.ok_or_else(|| missing_inode(entry.inode))?;
        Ok(Some((entry.inode, inode)))
    }

    /// Removes an existing entry that the new one cannot replace directly.
    pub(super) fn clear(&self, existing: Option<&(InodeNumber, Inode)>) -> Done<()> {
        let names = self.names();
        match existing {
            None => {}
            Some((_, inode)) if inode.kind == EntryType::Directory => {
                names.remove_tree(self.directory, self.name(), None, &mut |_| true)?;
            }
            Some(_) => names.remove(self.directory, self.name())?,
        }
        Ok(())
    }

    pub(super) fn store_whole(&self, bytes: &[u8]) -> Done<Option<Uuid>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut stream = self.archive.new_stream()?;
        let identity = stream.identity();
        stream.write_at(0, bytes)?;
        stream.close()?;
        Ok(Some(identity))
    }

    /// Names the stream. This replaces the old version only after the new one was read completely.
    pub(super) fn give(
        &self,
        status: &Status,
        stream: Option<Uuid>,
        existing: Option<(InodeNumber, Inode)>,
    ) -> Done<InodeNumber> {
        let names = self.names();
        let attributes = status.attributes;
        match existing {
            Some((number, inode)) if inode.kind == EntryType::File && inode.links == 1 => {
                names.replace_content(number, stream, attributes)?;
                Ok(number)
            }
            existing => {
                self.clear(existing.as_ref())?;
                Ok(names.add_file(self.directory, self.name(), attributes, stream)?)
            }
        }
    }

    /// Sets the extended attributes of an inode. Returns whether it had others, and what could not be read.
    pub(super) fn set_extended(
        &self,
        number: InodeNumber,
        extended: Extended,
    ) -> Done<(bool, Option<Error>)> {
        let Extended { attributes, missing } = extended;
        let names = self.names();
        let inode = names.inode(number)?.ok_or_else(|| missing_inode(number))?;
        if missing.is_some() {
            // Without an origin, the next run does not take the entry for unchanged.
            let attributes = Attributes { origin: None, ..inode.attributes };
            names.set_attributes(number, attributes)?;
        }
        let unread = match names.extended_attributes(&inode) {
            Ok(stored) if stored == attributes => return Ok((false, missing)),
            Ok(_) => missing,
            Err(error) => Some(error.into()),
        };
        names.set_extended_attributes(number, &attributes)?;
        Ok((true, unread))
    }
}
