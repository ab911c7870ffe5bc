//! Changes of names in the open transaction.

use ar7_engine::format::Timestamp;
use ar7_registry::Names;
use ar7_registry::names::Entry;
use ar7_registry::records::{Attributes, Device, EntryType, ExtendedAttribute, Inode, InodeNumber};
use fuser::{Errno, RenameFlags};

use crate::access_lists;
use crate::errno::Failure;
use crate::handles::lock;
use crate::inodes::{SET_GID, changed_now, existing, modified_now};
use crate::writer::{Need, Writer};

/// A directory, and a name in it.
pub(crate) type Place<'a> = (InodeNumber, &'a [u8]);

/// A new entry.
pub(crate) enum New<'a> {
    File,
    Directory,
    Symlink(&'a [u8]),
    Special(EntryType, Option<Device>),
}

/// Who makes an entry, and with which mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Maker {
    pub(crate) mode: u32,
    /// The bits that the mode loses, unless the directory has a list for new entries.
    pub(crate) umask: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Writer {
    /// Adds an entry. Returns its inode.
    pub(crate) fn add(
        &self,
        (directory, name): Place<'_>,
        new: &New<'_>,
        maker: Maker,
    ) -> Result<(InodeNumber, Inode), Errno> {
        self.change(Need::Room(0), |names| {
            self.mark_name(directory, name);
            let parent = existing(names, directory)?;
            let (attributes, lists) = attributes_in(names, &parent, new, maker)?;
            let number = match new {
                New::File => names.add_file(directory, name, attributes, None)?,
                New::Directory => names.make_directory(directory, name, attributes)?,
                New::Symlink(target) => names.add_symlink(directory, name, attributes, target)?,
                New::Special(kind, device) => {
                    names.add_special(directory, name, attributes, *kind, *device)?
                }
            };
            self.mark(number);
            if !lists.is_empty() {
                names.set_extended_attributes(number, &lists)?;
            }
            touch(names, directory)?;
            Ok((number, existing(names, number)?))
        })
    }

    /// Gives an inode a further name.
    pub(crate) fn link(
        &self,
        number: InodeNumber,
        (directory, name): Place<'_>,
    ) -> Result<Inode, Errno> {
        self.change(Need::Room(0), |names| {
            self.mark_name(directory, name);
            self.mark(number);
            if existing(names, number)?.kind == EntryType::Directory {
                return Err(Errno::EPERM.into());
            }
            names.add_link(directory, name, number)?;
            touch(names, directory)?;
            stamp(names, number)?;
            existing(names, number)
        })
    }

    /// Removes a name of anything but a directory.
    pub(crate) fn unlink(&self, place: Place<'_>) -> Result<(), Errno> {
        self.change(Need::Nothing, |names| {
            let entry = entry(names, place)?;
            if entry.kind == EntryType::Directory {
                return Err(Errno::EISDIR.into());
            }
            self.remove(names, place, &entry)?;
            touch(names, place.0)
        })
    }

    /// Removes an empty directory.
    pub(crate) fn remove_directory(&self, place: Place<'_>) -> Result<(), Errno> {
        self.change(Need::Nothing, |names| {
            let entry = entry(names, place)?;
            if entry.kind != EntryType::Directory {
                return Err(Errno::ENOTDIR.into());
            }
            self.remove(names, place, &entry)?;
            touch(names, place.0)
        })
    }

    /// Renames an entry, and replaces what has the new name, unless the flags say otherwise.
    pub(crate) fn rename(
        &self,
        from: Place<'_>,
        to: Place<'_>,
        flags: RenameFlags,
    ) -> Result<(), Errno> {
        let (replaces, exchanges) = match flags {
            flags if flags.is_empty() => (true, false),
            RenameFlags::RENAME_NOREPLACE => (false, false),
            RenameFlags::RENAME_EXCHANGE => (false, true),
            _ => return Err(Errno::EINVAL),
        };
        self.change(Need::Room(0), |names| {
            let moved = entry(names, from)?;
            let there = names.lookup(to.0, to.1)?;
            check_readable(names, &[from.0, to.0, moved.inode])?;
            self.mark(moved.inode);
            for (directory, name) in [from, to] {
                self.mark_name(directory, name);
            }
            if exchanges {
                let other = there.ok_or(Errno::ENOENT)?;
                check_readable(names, &[other.inode])?;
                self.mark(other.inode);
                exchange(names, from, to)?;
                stamp(names, other.inode)?;
            } else {
                if let Some(there) = there.filter(|there| there.inode != moved.inode) {
                    if !replaces {
                        return Err(Errno::EEXIST.into());
                    }
                    check_replaceable(&moved, &there)?;
                    self.remove(names, to, &there)?;
                }
                // Two names of one file both stay.
                names.rename(from, to, replaces)?;
            }
            stamp(names, moved.inode)?;
            touch(names, from.0)?;
            touch(names, to.0)
        })
    }

    /// Removes a name. What programs have open stays usable for them. Only with the turn.
    fn remove(&self, names: &Names<'_>, place: Place<'_>, entry: &Entry) -> Result<(), Failure> {
        check_readable(names, &[place.0, entry.inode])?;
        self.mark(place.0);
        self.mark(entry.inode);
        // Held to the end, so that nobody opens the file in between.
        let files = lock(&self.files);
        match files.get(&entry.inode) {
            Some(file) if entry.kind == EntryType::File => {
                // Packed content gets a stream.
                self.forget_room();
                file.remove_name(&self.archive, names, place)?;
            }
            _ => names.remove(place.0, place.1)?,
        }
        drop(files);
        if names.inode(entry.inode)?.is_some() { stamp(names, entry.inode) } else { Ok(()) }
    }
}

fn entry(names: &Names<'_>, (directory, name): Place<'_>) -> Result<Entry, Failure> {
    Ok(names.lookup(directory, name)?.ok_or(Errno::ENOENT)?)
}

/// Fails if one of these inodes is damaged. Called before the first step of a change that notes times in them in its last
/// one.
fn check_readable(names: &Names<'_>, numbers: &[InodeNumber]) -> Result<(), Failure> {
    numbers.iter().try_for_each(|&number| existing(names, number).map(drop))
}

/// Returns the attributes of a new entry, and its access control lists. In a directory with the set-group-ID bit, it has
/// the group of the directory.
fn attributes_in(
    names: &Names<'_>,
    parent: &Inode,
    new: &New<'_>,
    maker: Maker,
) -> Result<(Attributes, Vec<ExtendedAttribute>), Failure> {
    let inherits = parent.attributes.mode & SET_GID != 0;
    let is_directory = matches!(new, New::Directory);
    let passed_on = if inherits && is_directory { SET_GID } else { 0 };
    let extended = names.extended_attributes(parent)?;
    let default = extended.iter().find(|attribute| attribute.name == access_lists::DEFAULT);
    let default = default.filter(|_| !matches!(new, New::Symlink(_)));
    let inherited =
        default.and_then(|list| access_lists::inherited(&list.value, maker.mode, is_directory));
    let (mode, lists) = inherited.unwrap_or((maker.mode & !maker.umask, Vec::new()));
    let attributes = Attributes {
        mode: mode & 0o7777 | passed_on,
        uid: maker.uid,
        gid: if inherits { parent.attributes.gid } else { maker.gid },
        modified: Timestamp::now(),
        origin: None,
    };
    Ok((attributes, lists))
}

fn check_replaceable(moved: &Entry, there: &Entry) -> Result<(), Failure> {
    match (moved.kind == EntryType::Directory, there.kind == EntryType::Directory) {
        (true, false) => Err(Errno::ENOTDIR.into()),
        (false, true) => Err(Errno::EISDIR.into()),
        _ => Ok(()),
    }
}

/// Exchanges two entries. The name in between is never committed.
fn exchange(names: &Names<'_>, one: Place<'_>, other: Place<'_>) -> Result<(), Failure> {
    if one == other {
        return Ok(());
    }
    let mut free = None;
    for number in 0_u32.. {
        let name = format!(".ar7-exchange-{number}").into_bytes();
        if names.lookup(one.0, &name)?.is_none() {
            free = Some(name);
            break;
        }
    }
    let between = free.ok_or(Errno::ENOSPC)?;
    names.rename(one, (one.0, &between), false)?;
    names.rename(other, one, false)?;
    Ok(names.rename((one.0, &between), other, false)?)
}

/// Notes that the entries of a directory have changed.
fn touch(names: &Names<'_>, directory: InodeNumber) -> Result<(), Failure> {
    let attributes = existing(names, directory)?.attributes;
    Ok(names.set_attributes(directory, modified_now(directory, attributes))?)
}

/// Notes that an inode has changed, but not its content.
fn stamp(names: &Names<'_>, number: InodeNumber) -> Result<(), Failure> {
    let attributes = existing(names, number)?.attributes;
    Ok(names.set_attributes(number, changed_now(number, attributes))?)
}
