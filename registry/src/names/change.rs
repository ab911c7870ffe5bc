//! Changing names. Every change belongs to the archive's transaction.

use std::collections::HashSet;

use ar7_engine::{Check, Class, Error as EngineError};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::lookup::{TARGET_MAX, lookup_in, not_directory};
use super::{INODE_COUNTER, Names};
use crate::archive::State;
use crate::error::{Error, Result};
use crate::records::{
    Attributes, EntryType, INLINE_TARGET_MAX, Inode, InodeNumber, Inodes, MODE_MAX,
    NANOSECONDS_MAX, NameKey, NameRecords, NameValue, ReadRecords, validate_name,
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

    /// Makes the directories of a path that are not there yet; returns the last.
    pub fn make_directories(&self, path: &[u8], attributes: Attributes) -> Result<InodeNumber> {
        let mut directory = InodeNumber::ROOT;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            directory = match self.lookup(directory, name)? {
                Some(entry) if entry.kind == EntryType::Directory => entry.inode,
                Some(entry) => return Err(not_directory(path, entry.kind)),
                None => self.make_directory(directory, name, attributes)?,
            };
        }
        Ok(directory)
    }

    /// Adds a file with a stream as its content; an empty file needs none. A stream is the content of one file:
    /// [`Error::StreamIsNamed`] if it is another's, and [`Names::add_link`] gives a file another name.
    ///
    /// The stream may still be open: the file is as long as the stream, whatever is written to it later.
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

    /// Adds a symbolic link. A long target goes into a stream of its own.
    pub fn add_symlink(
        &self,
        directory: InodeNumber,
        name: &[u8],
        attributes: Attributes,
        target: &[u8],
    ) -> Result<InodeNumber> {
        if target.len() > TARGET_MAX {
            let reason = "a symbolic link's target is at most 65536 bytes";
            return Err(Error::InvalidName { name: name.to_vec(), reason });
        }
        let mut inode = blank(EntryType::Symlink, attributes)?;
        if target.len() <= INLINE_TARGET_MAX {
            inode.size = target.len() as u64;
            inode.target = Some(target.to_vec());
            return self.change(|state| add(state, directory, name, inode));
        }
        // Asked before the stream is made: it would stay behind without a name.
        self.change(|state| check_free(state, directory, name))?;
        let mut stream = self.archive.new_stream()?;
        stream.append(target)?;
        let identity = stream.identity();
        inode.stream = Some(identity);
        stream.close()?;
        self.change(|state| {
            // Another thread may have taken the name since.
            let added = add(state, directory, name, inode);
            if added.is_err() {
                state.delete_stream(identity)?;
            }
            added
        })
    }

    /// Gives a file or symbolic link one more name.
    pub fn add_link(&self, directory: InodeNumber, name: &[u8], number: InodeNumber) -> Result<()> {
        self.change(|state| {
            let mut inode = existing(state, number)?;
            if inode.kind == EntryType::Directory {
                let (found, needed) = (inode.kind.name(), "a file or a symbolic link");
                return Err(Error::WrongEntryType { path: name.to_vec(), found, needed });
            }
            check_free(state, directory, name)?;
            let full = EngineError::Full { what: "names of an inode", limit: u64::from(u32::MAX) };
            inode.links = inode.links.checked_add(1).ok_or(full)?;
            state.trees.put::<Inodes>(&number, &inode)?;
            put_name(state, directory, name, NameValue { inode: number, kind: inode.kind })
        })
    }

    /// Sets permissions, owner and time.
    pub fn set_attributes(&self, number: InodeNumber, attributes: Attributes) -> Result<()> {
        let attributes = storable(attributes)?;
        self.change(|state| {
            let inode = Inode { attributes, ..existing(state, number)? };
            state.trees.put::<Inodes>(&number, &inode)?;
            Ok(())
        })
    }

    /// Gives a file a new stream as its content, or none, and new attributes; the old stream is deleted.
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
            let size = match stream {
                Some(stream) => state.content_length(stream, Some(number))?,
                None => 0,
            };
            if inode.stream != stream {
                if let Some(old) = inode.stream {
                    state.delete_content(old, number)?;
                }
                if let Some(stream) = stream {
                    state.take_content(stream, number)?;
                }
            }
            let inode = Inode { attributes, size, stream, ..inode };
            state.trees.put::<Inodes>(&number, &inode)?;
            Ok(())
        })
    }

    /// Removes a name; of a directory, only if it is empty. With its last name the inode goes too, and its stream.
    pub fn remove(&self, directory: InodeNumber, name: &[u8]) -> Result<()> {
        self.change(|state| remove(state, directory, name))
    }

    /// Removes what a name names, with everything below. With `commit_every`, commits first and each time so many names
    /// are gone, so that a huge tree needs neither memory nor space: where the disk is too full even for that, fewer
    /// names go at a time. A crash then leaves a part of the tree. After each name `go_on` is told how many are
    /// gone, and may end it by false. Returns how many are gone.
    pub fn remove_tree(
        &self,
        directory: InodeNumber,
        name: &[u8],
        commit_every: Option<usize>,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u64> {
        let Some(most) = commit_every else {
            let mut removal = Removal::new(directory, name);
            loop {
                let more = removal.step(self)?;
                if !go_on(removal.removed) || !more {
                    return Ok(removal.removed);
                }
            }
        };
        // What was done before is not to be rolled back with a part of the tree.
        self.archive.commit()?;
        let (mut removed, mut batch) = (0, most.max(1));
        loop {
            let mut removal = Removal::new(directory, name);
            let outcome = self.remove_some(&mut removal, batch, &mut |gone| go_on(removed + gone));
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

    /// Removes so many names and commits. Returns whether that was the last, or it is to end.
    fn remove_some(
        &self,
        removal: &mut Removal,
        most: usize,
        go_on: &mut dyn FnMut(u64) -> bool,
    ) -> Result<bool> {
        let mut ended = false;
        for _ in 0..most {
            let more = removal.step(self)?;
            ended = !go_on(removal.removed) || !more;
            if ended {
                break;
            }
        }
        self.archive.commit()?;
        Ok(ended)
    }

    /// Moves a name. With `replace`, a file or symbolic link that has the new name is removed, unless it is a
    /// directory that moves; a directory never moves into itself.
    ///
    /// A directory that moves to another directory than the root takes a look at every name below it: what an
    /// inode's parent is stands nowhere.
    pub fn rename(
        &self,
        from: (InodeNumber, &[u8]),
        to: (InodeNumber, &[u8]),
        replace: bool,
    ) -> Result<()> {
        self.change(|state| rename(state, from, to, replace))
    }

    fn change<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        let mut state = self.archive.state()?;
        let writing = state.writing()?;
        // What is refused is refused before anything is changed; a failure of the engine may come half-way,
        // and then only a rollback helps.
        work(writing).inspect_err(|error| {
            if matches!(error, Error::Engine(_)) {
                writing.fail(error);
            }
        })
    }
}

/// The removal of a tree, a name at a time.
struct Removal {
    /// Directories from the one that holds the tree down to the entry that goes next.
    path: Vec<(InodeNumber, Zeroizing<Vec<u8>>)>,
    above: HashSet<InodeNumber>,
    removed: u64,
}

impl Removal {
    fn new(directory: InodeNumber, name: &[u8]) -> Removal {
        Removal {
            path: vec![(directory, Zeroizing::new(name.to_vec()))],
            above: HashSet::from([directory]),
            removed: 0,
        }
    }

    /// Removes one name, the lowest first. Returns whether there are more.
    fn step(&mut self, names: &Names<'_>) -> Result<bool> {
        while let Some((directory, name)) = self.path.last() {
            let entry = names
                .lookup(*directory, name)?
                .ok_or_else(|| Error::NoEntry { path: name.to_vec() })?;
            // A directory goes when the first of its entries is looked for and there is none.
            if entry.kind == EntryType::Directory
                && let Some(child) = names.list(entry.inode, None, 1)?.pop()
            {
                if !self.above.insert(entry.inode) {
                    return Err(circle(entry.inode));
                }
                self.path.push((entry.inode, Zeroizing::new(child.name)));
                continue;
            }
            names.remove(*directory, name)?;
            self.above.remove(directory);
            self.path.pop();
            self.removed += 1;
            break;
        }
        Ok(!self.path.is_empty())
    }
}

fn blank(kind: EntryType, attributes: Attributes) -> Result<Inode> {
    let attributes = storable(attributes)?;
    Ok(Inode {
        kind,
        attributes,
        size: 0,
        links: 1,
        target: None,
        stream: None,
        unknown: Vec::new(),
    })
}

/// The attributes as an inode keeps them. What reading would refuse must never be written: the type in the mode of
/// a host's file is left out, and a time that is none is an error.
fn storable(attributes: Attributes) -> Result<Attributes> {
    let Attributes { mode, modified, .. } = attributes;
    if modified.nanoseconds > NANOSECONDS_MAX {
        return Err(EngineError::OutOfBounds {
            what: "nanoseconds of a time",
            found: modified.nanoseconds.into(),
            allowed: NANOSECONDS_MAX.into(),
        }
        .into());
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
    let last = state.trees.counters()[INODE_COUNTER].max(InodeNumber::ROOT.0);
    let number = last
        .checked_add(1)
        .ok_or(EngineError::Full { what: "number of inodes", limit: u64::MAX })?;
    make_root(state)?;
    *state.trees.counter_mut(INODE_COUNTER) = number;
    let number = InodeNumber(number);
    if state.trees.put::<Inodes>(&number, &inode)?.is_some() {
        // The counter lags behind: somebody with the key wrote it. Only a rollback helps now.
        let expected = "a number that is not taken";
        return Err(EngineError::damaged(None, Check::Name, expected, number.0).into());
    }
    if let Some(stream) = inode.stream {
        state.take_content(stream, number)?;
    }
    put_name(state, directory, name, NameValue { inode: number, kind: inode.kind })?;
    Ok(number)
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
        return Err(not_directory(to.1, parent));
    }
    let is_directory = value.kind == EntryType::Directory;
    // The root is below nothing, and a directory does not get below itself where it is already.
    let may_be_below = to.0 != InodeNumber::ROOT && to.0 != from.0;
    if is_directory && may_be_below && is_below(state, value.inode, to.0)? {
        return Err(Error::IntoItself { path: from.1.to_vec() });
    }
    match lookup_in(&state.trees, to.0, to.1)? {
        Some(found) if replace && found.kind != EntryType::Directory => {
            if is_directory {
                return Err(not_directory(to.1, found.kind));
            }
            // Two names of one file: the old one goes, and that is all.
            if found.inode == value.inode {
                return remove(state, from.0, from.1);
            }
            remove(state, to.0, to.1)?;
        }
        Some(_) => return Err(Error::EntryExists { path: to.1.to_vec() }),
        None => {}
    }
    let key = NameKey { directory: from.0, name: from.1.to_vec() };
    state.trees.remove::<NameRecords>(&key)?;
    put_name(state, to.0, to.1, value)
}

/// Removes a name, and with the last one the inode and its stream.
fn remove(state: &mut State, directory: InodeNumber, name: &[u8]) -> Result<()> {
    let value = lookup_in(&state.trees, directory, name)?
        .ok_or_else(|| Error::NoEntry { path: name.to_vec() })?;
    let mut inode = existing(state, value.inode)?;
    if inode.kind == EntryType::Directory && !is_empty(state, value.inode)? {
        return Err(Error::NotEmpty { path: name.to_vec() });
    }
    inode.links -= 1;
    if inode.links == 0 {
        if let Some(stream) = inode.stream {
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

fn make_root(state: &mut State) -> Result<()> {
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

/// Checks that `name` can be added: it is a name, the directory is one, and nothing has the name yet.
fn check_free(state: &State, directory: InodeNumber, name: &[u8]) -> Result<()> {
    validate_name(name)?;
    let kind = existing(state, directory)?.kind;
    if kind != EntryType::Directory {
        return Err(not_directory(name, kind));
    }
    if lookup_in(&state.trees, directory, name)?.is_some() {
        return Err(Error::EntryExists { path: name.to_vec() });
    }
    Ok(())
}

fn existing(state: &State, number: InodeNumber) -> Result<Inode> {
    state.inode(number)?.ok_or(Error::NoInode { inode: number.0 })
}

fn is_empty(state: &State, directory: InodeNumber) -> Result<bool> {
    let key = NameKey { directory, name: Vec::new() };
    let first = state.trees.ceiling::<NameRecords>(&key)?;
    Ok(first.is_none_or(|(key, _)| key.directory != directory))
}

/// A directory that is below itself: no program makes one, somebody with the key did.
fn circle(directory: InodeNumber) -> Error {
    EngineError::damaged(None, Check::Name, "a tree of directories", directory.0).into()
}

/// Whether `inside` is `directory` or lies somewhere below it. Goes down from `directory`: nothing says what an
/// inode's parent is.
fn is_below(state: &State, directory: InodeNumber, inside: InodeNumber) -> Result<bool> {
    let (mut waiting, mut seen) = (vec![directory], HashSet::new());
    while let Some(directory) = waiting.pop() {
        if directory == inside {
            return Ok(true);
        }
        if !seen.insert(directory) {
            return Err(circle(directory));
        }
        let mut key = NameKey { directory, name: Vec::new() };
        while let Some((found, value)) = state.trees.ceiling::<NameRecords>(&key)? {
            if found.directory != directory {
                break;
            }
            if value.kind == EntryType::Directory {
                waiting.push(value.inode);
            }
            key = NameKey { directory, name: [&found.name[..], &[0]].concat() };
        }
    }
    Ok(false)
}
