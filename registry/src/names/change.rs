//! Changing names. Every change is part of the open transaction.

use std::collections::HashSet;

use ar7_engine::{Check, Class, Error as EngineError};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::lookup::{Entries, TARGET_MAX, check_parent, components, lookup_in, not_directory};
use super::{INODE_COUNTER, Names};
use crate::archive::State;
use crate::error::{Error, Result};
use crate::records::{
    Attributes, Device, EntryType, INLINE_TARGET_MAX, Inode, InodeNumber, Inodes, MODE_MAX,
    NANOSECONDS_MAX, NameKey, NameRecords, NameValue, PACK_OWNER, ReadRecords, validate_name,
};

impl Names<'_> {
    /// Makes a directory.
    pub fn make_directory(
        &self,
        directory: InodeNumber,
        name: &[u8],
        attributes: Attributes,
    ) -> Result<InodeNumber> {
        let inode = blank(EntryType::Directory, attributes)?;
        self.change(|state| add(state, directory, name, inode))
    }

    /// Makes the missing directories of a path. Returns the inode of the last directory.
    pub fn make_directories(&self, path: &[u8], attributes: Attributes) -> Result<InodeNumber> {
        let mut directory = InodeNumber::ROOT;
        for (name, so_far) in components(path) {
            directory = match self.lookup(directory, name)? {
                Some(entry) if entry.kind == EntryType::Directory => entry.inode,
                Some(entry) => return Err(not_directory(so_far, entry.kind)),
                None => self.make_directory(directory, name, attributes)?,
            };
        }
        Ok(directory)
    }

    /// Adds a file with a stream as its content; an empty file needs no stream. Fails with
    /// [`Error::StreamIsNamed`] if the stream is the content of another file. [`Names::add_link`]
    /// gives a file a further name.
    ///
    /// The stream may still be open: the length of the file follows the stream.
    pub fn add_file(
        &self,
        directory: InodeNumber,
        name: &[u8],
        attributes: Attributes,
        stream: Option<Uuid>,
    ) -> Result<InodeNumber> {
        let inode = Inode { stream, ..blank(EntryType::File, attributes)? };
        self.change(|state| add(state, directory, name, inode))
    }

    /// Adds a symbolic link. A target of more than 512 bytes is stored in a new stream.
    pub fn add_symlink(
        &self,
        directory: InodeNumber,
        name: &[u8],
        attributes: Attributes,
        target: &[u8],
    ) -> Result<InodeNumber> {
        if target.len() > TARGET_MAX {
            return Err(EngineError::OutOfBounds {
                what: "length of a symbolic link's target in bytes",
                found: target.len().into(),
                allowed: (0..=TARGET_MAX).into(),
            }
            .into());
        }
        let mut inode = blank(EntryType::Symlink, attributes)?;
        if target.len() <= INLINE_TARGET_MAX {
            inode.size = target.len() as u64;
            inode.target = Some(target.to_vec());
            return self.change(|state| add(state, directory, name, inode));
        }
        // Checked before the stream is made, which would otherwise stay behind without a name.
        self.change(|state| check_free(state, directory, name))?;
        let stream = self.new_stream_of(target)?;
        inode.stream = Some(stream);
        // Another thread may have taken the name meanwhile.
        self.change_with(stream, |state| add(state, directory, name, inode))
    }

    /// Adds a fifo, a socket or a device. Only a device has a number, and it needs one.
    pub fn add_special(
        &self,
        directory: InodeNumber,
        name: &[u8],
        attributes: Attributes,
        kind: EntryType,
        device: Option<Device>,
    ) -> Result<InodeNumber> {
        if !kind.is_special() {
            let (found, needed) = (kind.name(), "a fifo, a socket or a device");
            return Err(Error::WrongEntryType { path: name.to_vec(), found, needed });
        }
        let is_device = kind.is_device();
        if device.is_some() != is_device {
            return Err(Error::DeviceNumber { kind: kind.name(), is_device });
        }
        let inode = Inode { device, ..blank(kind, attributes)? };
        self.change(|state| add(state, directory, name, inode))
    }

    /// Gives a file, or anything else but a directory, a further name.
    pub fn add_link(&self, directory: InodeNumber, name: &[u8], number: InodeNumber) -> Result<()> {
        self.change(|state| {
            let mut inode = existing(state, number)?;
            if inode.kind == EntryType::Directory {
                let (found, needed) = (inode.kind.name(), "an entry other than a directory");
                return Err(Error::WrongEntryType { path: name.to_vec(), found, needed });
            }
            check_free(state, directory, name)?;
            let full = EngineError::Full { what: "names of an inode", limit: u64::from(u32::MAX) };
            inode.links = inode.links.checked_add(1).ok_or(full)?;
            state.trees.put::<Inodes>(&number, &inode)?;
            put_name(state, directory, name, NameValue { inode: number, kind: inode.kind })
        })
    }

    /// Sets permissions, owner, modification time and origin.
    pub fn set_attributes(&self, number: InodeNumber, attributes: Attributes) -> Result<()> {
        let attributes = storable(attributes)?;
        self.change(|state| {
            let inode = Inode { attributes, ..existing(state, number)? };
            state.trees.put::<Inodes>(&number, &inode)?;
            Ok(())
        })
    }

    /// Replaces the content and attributes of a file. The old stream is deleted. Fails with
    /// [`Error::StreamIsNamed`] if the new stream is the content of another file.
    pub fn replace_content(
        &self,
        number: InodeNumber,
        stream: Option<Uuid>,
        attributes: Attributes,
    ) -> Result<()> {
        let attributes = storable(attributes)?;
        self.change(|state| {
            let inode = existing(state, number)?;
            if inode.kind != EntryType::File {
                let (found, needed) = (inode.kind.name(), "a file");
                return Err(Error::WrongEntryType { path: Vec::new(), found, needed });
            }
            if let Some(stream) = stream
                && inode.extended.stream() == Some(stream)
            {
                return Err(Error::StreamIsNamed { stream, inode: number.0 });
            }
            let size = match stream {
                Some(stream) => state.content_length(stream, Some(number))?,
                None => 0,
            };
            if inode.stream != stream || inode.slice.is_some() {
                delete_content(state, number, &inode)?;
                if let Some(stream) = stream {
                    state.take_content(stream, number)?;
                }
            }
            let inode = Inode { attributes, size, stream, slice: None, ..inode };
            state.trees.put::<Inodes>(&number, &inode)?;
            Ok(())
        })
    }

    /// Removes a name. Fails if it is a directory with entries. Removing the last name of an inode
    /// also removes the inode and its streams.
    pub fn remove(&self, directory: InodeNumber, name: &[u8]) -> Result<()> {
        self.change(|state| remove(state, directory, name))
    }

    /// Removes an entry and everything below it. Returns the number of removed names. After each
    /// name, `should_continue` receives the number of names removed so far; false stops the removal.
    ///
    /// With `commit_every`, it commits first, and then after each batch of that many names. So a
    /// huge tree needs little memory and little free space. If the disk is too full for a batch,
    /// the batch shrinks. After a crash, part of the tree may be left.
    pub fn remove_tree(
        &self,
        directory: InodeNumber,
        name: &[u8],
        commit_every: Option<usize>,
        should_continue: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u64> {
        let Some(most) = commit_every else {
            let mut removal = Removal::new(directory, name);
            loop {
                let more = removal.step(self)?;
                if !should_continue(removal.removed) || !more {
                    return Ok(removal.removed);
                }
            }
        };
        // A rollback of a batch must not discard earlier changes of the caller.
        self.archive.commit()?;
        let most = most.max(1);
        let (mut removed, mut batch) = (0, most);
        loop {
            let mut removal = Removal::new(directory, name);
            let outcome =
                self.remove_some(&mut removal, batch, &mut |gone| should_continue(removed + gone));
            match outcome {
                Ok(ended) => {
                    removed += removal.removed;
                    if ended {
                        return Ok(removed);
                    }
                    batch = batch.saturating_mul(2).min(most);
                }
                Err(error) if error.class() == Class::NoSpace && batch > 1 => {
                    self.archive.rollback()?;
                    batch = (batch / 16).max(1);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes up to `most` names and commits. Returns whether the removal is finished or was
    /// stopped.
    fn remove_some(
        &self,
        removal: &mut Removal,
        most: usize,
        should_continue: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool> {
        let mut ended = false;
        for _ in 0..most {
            let more = removal.step(self)?;
            ended = !should_continue(removal.removed) || !more;
            if ended {
                break;
            }
        }
        self.archive.commit()?;
        Ok(ended)
    }

    /// Moves a name. With `replace`, a file or symbolic link at the new name is removed, unless the
    /// moved entry is a directory. A directory cannot move into itself.
    ///
    /// If both names refer to the same file, nothing changes and both stay, as POSIX `rename` does.
    pub fn rename(
        &self,
        from: (InodeNumber, &[u8]),
        to: (InodeNumber, &[u8]),
        replace: bool,
    ) -> Result<()> {
        self.change(|state| rename(state, from, to, replace))
    }

    pub(super) fn change<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.archive.state()?;
        let writing = state.writing()?;
        // A refused change has changed nothing. An error of the engine may leave a half-done
        // change, so that only a rollback is possible.
        work(writing).inspect_err(|error| {
            if matches!(error, Error::Engine(_)) {
                writing.fail(error);
            }
        })
    }

    /// Does the same with a change that gives a new stream to an inode. If the change is refused, the
    /// stream is deleted. After an error of the engine, a rollback does that.
    pub(super) fn change_with<T>(
        &self,
        stream: Uuid,
        work: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        self.change(|state| match work(state) {
            Err(error) if !matches!(error, Error::Engine(_)) => {
                state.delete_stream(stream)?;
                Err(error)
            }
            outcome => outcome,
        })
    }

    /// Stores bytes in a new stream. If there is no room for them, no stream is left.
    pub(super) fn new_stream_of(&self, bytes: &[u8]) -> Result<Uuid> {
        let mut stream = self.archive.new_stream()?;
        let identity = stream.identity();
        let written = stream.append(bytes).and_then(|()| stream.close());
        if let Err(error) = written {
            self.archive.delete_stream(identity)?;
            return Err(error);
        }
        Ok(identity)
    }
}

/// The removal of a tree, name by name.
struct Removal {
    /// Path from the directory that contains the tree to the entry to remove next.
    path: Vec<(InodeNumber, Zeroizing<Vec<u8>>)>,
    removed: u64,
}

impl Removal {
    fn new(directory: InodeNumber, name: &[u8]) -> Removal {
        Removal { path: vec![(directory, Zeroizing::new(name.to_vec()))], removed: 0 }
    }

    /// Removes one name, deepest first. Returns whether names are left.
    fn step(&mut self, names: &Names<'_>) -> Result<bool> {
        while let Some((directory, name)) = self.path.last() {
            // A directory is removed once it has no first entry.
            let below = first_below(names.archive.state()?.writing()?, *directory, name)?;
            if let Some((inside, first)) = below {
                self.path.push((inside, Zeroizing::new(first)));
                continue;
            }
            names.remove(*directory, name)?;
            self.path.pop();
            self.removed += 1;
            break;
        }
        Ok(!self.path.is_empty())
    }
}

/// Returns the directory with this name and its first entry, if it is a directory with entries.
fn first_below(
    state: &State,
    directory: InodeNumber,
    name: &[u8],
) -> Result<Option<(InodeNumber, Vec<u8>)>> {
    let found = lookup_in(&state.trees, directory, name)?;
    let NameValue { inode, kind } = found.ok_or_else(|| Error::NoEntry { path: name.to_vec() })?;
    if kind != EntryType::Directory {
        return Ok(None);
    }
    let Some(first) = Entries::above(&state.trees, inode, None).next().transpose()? else {
        return Ok(None);
    };
    check_parent(directory, inode, &existing(state, inode)?)?;
    Ok(Some((inode, first.name)))
}

pub(super) fn blank(kind: EntryType, attributes: Attributes) -> Result<Inode> {
    Ok(Inode::new(kind, storable(attributes)?))
}

/// Returns the attributes to store in an inode: the mode without the file type of the host's mode.
/// Fails for an invalid time. Whatever is stored must pass the checks of reading.
pub(super) fn storable(attributes: Attributes) -> Result<Attributes> {
    let Attributes { mode, modified, origin, .. } = attributes;
    for time in [Some(modified), origin.map(|origin| origin.changed)].into_iter().flatten() {
        if time.nanoseconds > NANOSECONDS_MAX {
            return Err(EngineError::OutOfBounds {
                what: "nanoseconds of a time",
                found: time.nanoseconds.into(),
                allowed: (0..=NANOSECONDS_MAX).into(),
            }
            .into());
        }
    }
    Ok(Attributes { mode: mode & MODE_MAX, ..attributes })
}

fn add(
    state: &mut State,
    directory: InodeNumber,
    name: &[u8],
    mut inode: Inode,
) -> Result<InodeNumber> {
    check_free(state, directory, name)?;
    if let Some(stream) = inode.stream {
        inode.size = state.content_length(stream, None)?;
    }
    inode.parent = (inode.kind == EntryType::Directory).then_some(directory);
    make_root(state)?;
    let number = new_number(state)?;
    add_as(state, directory, name, number, &inode)?;
    Ok(number)
}

/// Returns the number of a new inode.
pub(super) fn new_number(state: &mut State) -> Result<InodeNumber> {
    let last = state.trees.counters()[INODE_COUNTER].max(InodeNumber::ROOT.0);
    // The highest number stands for the owner of packs.
    let number = last.checked_add(1).filter(|&number| number < PACK_OWNER.get());
    let full = EngineError::Full { what: "number of inodes", limit: PACK_OWNER.get() - 1 };
    let number = number.ok_or(full)?;
    *state.trees.counter_mut(INODE_COUNTER) = number;
    Ok(InodeNumber(number))
}

/// Adds an inode with its first name.
pub(super) fn add_as(
    state: &mut State,
    directory: InodeNumber,
    name: &[u8],
    number: InodeNumber,
    inode: &Inode,
) -> Result<()> {
    if state.trees.put::<Inodes>(&number, inode)?.is_some() {
        // The counter is too low, so an attacker with the key wrote it. Only a rollback is possible
        // now.
        let expected = "a number that is not taken";
        return Err(EngineError::damaged(None, Check::Name, expected, number.0).into());
    }
    if let Some(stream) = inode.stream {
        state.take_content(stream, number)?;
    }
    put_name(state, directory, name, NameValue { inode: number, kind: inode.kind })
}

fn rename(
    state: &mut State,
    from: (InodeNumber, &[u8]),
    to: (InodeNumber, &[u8]),
    replace: bool,
) -> Result<()> {
    validate_name(to.1)?;
    let value = lookup_in(&state.trees, from.0, from.1)?
        .ok_or_else(|| Error::NoEntry { path: from.1.to_vec() })?;
    if from == to {
        return Ok(());
    }
    let parent = existing(state, to.0)?.kind;
    if parent != EntryType::Directory {
        return Err(not_directory(&[], parent));
    }
    let is_directory = value.kind == EntryType::Directory;
    let moved = if is_directory {
        let moved = existing(state, value.inode)?;
        check_parent(from.0, value.inode, &moved)?;
        if from.0 != to.0 && is_below(state, value.inode, to.0)? {
            return Err(Error::IntoItself { path: from.1.to_vec() });
        }
        Some(moved)
    } else {
        None
    };
    match lookup_in(&state.trees, to.0, to.1)? {
        Some(found) if replace && found.kind != EntryType::Directory => {
            if is_directory {
                return Err(not_directory(to.1, found.kind));
            }
            if found.inode == value.inode {
                return Ok(());
            }
            remove(state, to.0, to.1)?;
        }
        Some(_) => return Err(Error::EntryExists { path: to.1.to_vec() }),
        None => {}
    }
    let key = NameKey { directory: from.0, name: from.1.to_vec() };
    state.trees.remove::<NameRecords>(&key)?;
    if let Some(moved) = moved.filter(|_| from.0 != to.0) {
        let parent = Some(to.0);
        state.trees.put::<Inodes>(&value.inode, &Inode { parent, ..moved })?;
    }
    put_name(state, to.0, to.1, value)
}

/// Removes a name, and with the last name also the inode and its streams.
pub(super) fn remove(state: &mut State, directory: InodeNumber, name: &[u8]) -> Result<()> {
    let value = lookup_in(&state.trees, directory, name)?
        .ok_or_else(|| Error::NoEntry { path: name.to_vec() })?;
    let mut inode = existing(state, value.inode)?;
    if inode.kind == EntryType::Directory && !is_empty(state, value.inode)? {
        return Err(Error::NotEmpty { path: name.to_vec() });
    }
    inode.links -= 1;
    if inode.links == 0 {
        // The content first: if it is open, nothing changes.
        delete_content(state, value.inode, &inode)?;
        if let Some(stream) = inode.extended.stream() {
            state.delete_content(stream, value.inode)?;
        }
        state.trees.remove::<Inodes>(&value.inode)?;
    } else {
        state.trees.put::<Inodes>(&value.inode, &inode)?;
    }
    let key = NameKey { directory, name: name.to_vec() };
    state.trees.remove::<NameRecords>(&key)?;
    Ok(())
}

/// Deletes the content of a file.
pub(super) fn delete_content(state: &mut State, number: InodeNumber, inode: &Inode) -> Result<()> {
    if let Some(stream) = inode.stream {
        state.delete_content(stream, number)?;
    }
    if let Some(first) = inode.slice {
        let (first, length) = state.forget_overlay(number)?.unwrap_or((first, inode.size));
        state.free_slice(first, length)?;
    }
    Ok(())
}

pub(super) fn make_root(state: &mut State) -> Result<()> {
    let root = InodeNumber::ROOT;
    if state.trees.get::<Inodes>(&root)?.is_none() {
        let inode = existing(state, root)?;
        state.trees.put::<Inodes>(&root, &inode)?;
    }
    Ok(())
}

fn put_name(
    state: &mut State,
    directory: InodeNumber,
    name: &[u8],
    value: NameValue,
) -> Result<()> {
    let key = NameKey { directory, name: name.to_vec() };
    state.trees.put::<NameRecords>(&key, &value)?;
    Ok(())
}

/// Checks that `name` can be added: it is valid, `directory` is a directory, and it has no such
/// entry.
pub(super) fn check_free(state: &State, directory: InodeNumber, name: &[u8]) -> Result<()> {
    validate_name(name)?;
    let kind = existing(state, directory)?.kind;
    if kind != EntryType::Directory {
        return Err(not_directory(&[], kind));
    }
    if lookup_in(&state.trees, directory, name)?.is_some() {
        return Err(Error::EntryExists { path: name.to_vec() });
    }
    Ok(())
}

pub(super) fn existing(state: &State, number: InodeNumber) -> Result<Inode> {
    state.inode(number)?.ok_or(Error::NoInode { inode: number.0 })
}

fn is_empty(state: &State, directory: InodeNumber) -> Result<bool> {
    let key = NameKey { directory, name: Vec::new() };
    let first = state.trees.ceiling::<NameRecords>(&key)?;
    Ok(first.is_none_or(|(key, _)| key.directory != directory))
}

/// Returns the error for a directory below itself, which only an attacker with the key can make.
fn cycle_error(directory: InodeNumber) -> Error {
    EngineError::damaged(None, Check::Name, "a tree of directories", directory.0).into()
}

/// Returns whether `inside` is `directory` or below it, by climbing to the root.
fn is_below(state: &State, directory: InodeNumber, inside: InodeNumber) -> Result<bool> {
    let (mut at, mut seen) = (inside, HashSet::new());
    while at != directory {
        if at == InodeNumber::ROOT {
            return Ok(false);
        }
        if !seen.insert(at) {
            return Err(cycle_error(at));
        }
        // A parent that is no directory has none.
        at = existing(state, at)?.parent.ok_or_else(|| cycle_error(at))?;
    }
    Ok(true)
}
