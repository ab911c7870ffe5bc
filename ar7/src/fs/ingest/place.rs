//! One place of the archive, where the writer puts an entry.

use std::io;
use std::os::unix::ffi::OsStrExt;

use ar7_engine::Error as EngineError;
use ar7_registry::records::{Attributes, EntryType, Inode, InodeNumber};
use ar7_registry::{Archive, Error as RegistryError, Names, Packed, Stream};

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

/// New content of a file, which no entry has yet.
pub(super) enum NewContent {
    Empty,
    Stream(Stream),
    Packed(Packed),
}

/// Returns whether a new version of a file replaces the content of this inode.
fn is_replaced(inode: &Inode) -> bool {
    inode.kind == EntryType::File && inode.links == 1
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

    /// Begins to store the content of a file that replaces an existing entry, if there is one.
    pub(super) fn begin(
        &self,
        existing: Option<&(InodeNumber, Inode)>,
        packs: bool,
    ) -> Done<NewContent> {
        if packs {
            let replaced = existing.filter(|(_, inode)| is_replaced(inode));
            let packed = self.names().begin_packed(replaced.map(|(number, _)| *number))?;
            return Ok(NewContent::Packed(packed));
        }
        Ok(NewContent::Stream(self.archive.new_stream()?))
    }

    /// Appends bytes to new content.
    pub(super) fn append(&self, content: &mut NewContent, bytes: &[u8]) -> Done<()> {
        match content {
            NewContent::Empty => {}
            NewContent::Stream(stream) => stream.append(bytes)?,
            NewContent::Packed(packed) => self.names().append_packed(packed, bytes)?,
        }
        Ok(())
    }

    /// Appends a hole.
    pub(super) fn append_hole(&self, content: &mut NewContent, length: u64) -> Done<()> {
        match content {
            NewContent::Empty => {}
            NewContent::Stream(stream) => stream.set_len(stream.len()?.saturating_add(length))?,
            NewContent::Packed(packed) => match self.names().append_hole(packed, length) {
                Err(RegistryError::Engine(full @ EngineError::Full { .. })) => {
                    let error = io::Error::other(full.to_string());
                    return Err(Trouble::Entry(self.entry.failed(error)));
                }
                outcome => outcome?,
            },
        }
        Ok(())
    }

    /// Frees new content that no entry gets.
    pub(super) fn discard(&self, content: NewContent) -> Done<()> {
        match content {
            NewContent::Empty => {}
            NewContent::Stream(stream) => {
                let identity = stream.identity();
                stream.close()?;
                self.archive.delete_stream(identity)?;
            }
            NewContent::Packed(packed) => self.names().discard_packed(packed)?,
        }
        Ok(())
    }

    /// Names the content. This replaces the old version only after the new one was read completely.
    pub(super) fn give(
        &self,
        status: &Status,
        content: NewContent,
        existing: Option<(InodeNumber, Inode)>,
    ) -> Done<InodeNumber> {
        let names = self.names();
        let attributes = status.attributes;
        let stream = match content {
            NewContent::Packed(packed) => return self.give_packed(status, packed, existing),
            NewContent::Empty => None,
            NewContent::Stream(stream) => {
                let identity = stream.identity();
                stream.close()?;
                Some(identity)
            }
        };
        match existing {
            Some((number, inode)) if is_replaced(&inode) => {
                names.replace_content(number, stream, attributes)?;
                Ok(number)
            }
            existing => {
                self.clear(existing.as_ref())?;
                Ok(names.add_file(self.directory, self.name(), attributes, stream)?)
            }
        }
    }

    fn give_packed(
        &self,
        status: &Status,
        packed: Packed,
        existing: Option<(InodeNumber, Inode)>,
    ) -> Done<InodeNumber> {
        let (names, attributes) = (self.names(), status.attributes);
        match existing {
            Some((number, inode)) if is_replaced(&inode) => {
                names.replace_with_packed(packed, attributes)?;
                Ok(number)
            }
            existing => {
                self.clear(existing.as_ref())?;
                Ok(names.add_packed(self.directory, self.name(), attributes, packed)?)
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
