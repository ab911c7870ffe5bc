//! What is done to an archive: the same to the archive and to the model of what it holds.

use std::fmt;

use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, EntryType};
use ar7_registry::{Archive, Error, Result};
use uuid::Uuid;

use super::content::Content;

/// The directory that every world has.
pub(super) const DIRECTORY: &[u8] = b"d";

/// Something that is done to an archive. Streams and names are chosen by number, counted in their order and round
/// again; where there is none to choose, nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Makes a stream of so many bytes, with a name if that is free.
    Create {
        /// Number of bytes.
        length: u32,
        /// The name's number.
        name: Option<u8>,
    },
    /// Adds bytes to the end of a stream.
    Append {
        /// The stream's number.
        stream: u32,
        /// Number of bytes.
        length: u32,
    },
    /// Writes over bytes of a stream, and beyond its end if they reach so far.
    Overwrite {
        /// The stream's number.
        stream: u32,
        /// Where, at most at the end.
        offset: u32,
        /// Number of bytes.
        length: u32,
    },
    /// Gives a stream another length.
    Truncate {
        /// The stream's number.
        stream: u32,
        /// The length in bytes.
        length: u32,
    },
    /// Deletes a stream, and its name if it has one.
    Delete {
        /// The stream's number.
        stream: u32,
    },
    /// Gives a name to what has another; what had that name goes.
    Rename {
        /// The number of the name among all.
        from: u32,
        /// The new name's number.
        to: u8,
    },
    /// Sets the metadata.
    Meta(u8),
    /// Commits.
    Commit,
    /// Drops what was not committed.
    Rollback,
    /// Closes the archive; what comes next opens it again.
    Close,
    /// Drops the archive as a process does that ends, and opens it again.
    Reopen,
    /// Drops the archive, and changes its master key.
    Rekey,
}

/// The operations of the small worlds, on streams of the archive that they begin with.
pub const SMALL: [(&str, Operation); 12] = [
    ("create", Operation::Create { length: 100, name: Some(1) }),
    ("append", Operation::Append { stream: 0, length: 50 }),
    ("append-across", Operation::Append { stream: 1, length: 5000 }),
    ("overwrite", Operation::Overwrite { stream: 1, offset: 4100, length: 30 }),
    ("overwrite-across", Operation::Overwrite { stream: 1, offset: 4000, length: 30 }),
    ("truncate", Operation::Truncate { stream: 1, length: 4100 }),
    ("delete", Operation::Delete { stream: 2 }),
    ("rename", Operation::Rename { from: 0, to: 2 }),
    ("meta", Operation::Meta(7)),
    ("commit", Operation::Commit),
    ("close", Operation::Close),
    ("reopen", Operation::Reopen),
];

/// Operations that have a name: those of the small worlds, and the change of the master key.
pub const NAMED: [(&str, Operation); 13] = {
    let mut named = [("rekey", Operation::Rekey); 13];
    let (small, _) = named.split_at_mut(SMALL.len());
    small.copy_from_slice(&SMALL);
    named
};

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMED.iter().find(|(_, operation)| operation == self) {
            Some((name, _)) => formatter.write_str(name),
            None => write!(formatter, "{self:?}"),
        }
    }
}

impl Operation {
    /// Changes an archive and the model of what its transaction holds. `Commit` and what comes after it in the
    /// list are not for here. After an error the archive is as before, or unusable; the model is as before.
    pub(crate) fn change(self, archive: &Archive, model: &mut Content, byte: u8) -> Result<()> {
        match self {
            Operation::Create { length, name } => {
                create(archive, model, &vec![byte; usize_of(length)], name)
            }
            Operation::Append { stream, length } => {
                let Some(identity) = chosen(model, stream) else { return Ok(()) };
                let offset = model.streams[&identity].len();
                write(archive, model, identity, offset, &vec![byte; usize_of(length)])
            }
            Operation::Overwrite { stream, offset, length } => {
                let Some(identity) = chosen(model, stream) else { return Ok(()) };
                let offset = usize_of(offset).min(model.streams[&identity].len());
                write(archive, model, identity, offset, &vec![byte; usize_of(length)])
            }
            Operation::Truncate { stream, length } => {
                let Some(identity) = chosen(model, stream) else { return Ok(()) };
                let mut stream = archive.open_stream(identity)?;
                stream.set_len(length.into())?;
                stream.close()?;
                tell_size(archive, model, identity, length.into())?;
                let bytes = model.streams.get_mut(&identity).expect("it was chosen");
                bytes.resize(usize_of(length), 0);
                Ok(())
            }
            Operation::Delete { stream } => delete(archive, model, stream),
            Operation::Rename { from, to } => rename(archive, model, from, to),
            Operation::Meta(meta) => {
                archive.set_metadata(&[meta, byte])?;
                model.metadata = vec![meta, byte];
                Ok(())
            }
            Operation::Commit
            | Operation::Rollback
            | Operation::Close
            | Operation::Reopen
            | Operation::Rekey => Ok(()),
        }
    }
}

fn create(archive: &Archive, model: &mut Content, bytes: &[u8], name: Option<u8>) -> Result<()> {
    let mut stream = archive.new_stream()?;
    stream.append(bytes)?;
    let identity = stream.identity();
    stream.close()?;
    let path = name.map(path).filter(|path| !model.names.contains_key(path));
    if let Some(path) = &path {
        let (directory, name) = split(path);
        let directory = archive.names().resolve(directory)?.inode;
        let size = u64::try_from(bytes.len()).expect("a length in memory");
        archive.names().add_file(directory, name, attributes(), Some(identity), size)?;
    }
    if let Some(path) = path {
        model.names.insert(path, Some(identity));
    }
    model.streams.insert(identity, bytes.to_vec());
    Ok(())
}

fn write(
    archive: &Archive,
    model: &mut Content,
    identity: Uuid,
    offset: usize,
    new: &[u8],
) -> Result<()> {
    if new.is_empty() {
        return Ok(());
    }
    let mut stream = archive.open_stream(identity)?;
    stream.write_at(u64::try_from(offset).expect("an offset in memory"), new)?;
    stream.close()?;
    let end = offset + new.len();
    let length = end.max(model.streams[&identity].len());
    tell_size(archive, model, identity, u64::try_from(length).expect("a length in memory"))?;
    let bytes = model.streams.get_mut(&identity).expect("it was chosen");
    bytes.resize(length, 0);
    bytes[offset..end].copy_from_slice(new);
    Ok(())
}

/// A file's inode says how long its stream is.
pub(crate) fn tell_size(
    archive: &Archive,
    model: &Content,
    identity: Uuid,
    size: u64,
) -> Result<()> {
    let named = model.names.iter().find(|(_, stream)| **stream == Some(identity));
    let Some((path, _)) = named else { return Ok(()) };
    let inode = archive.names().resolve(path)?.inode;
    archive.names().replace_content(inode, Some(identity), size, attributes())
}

fn delete(archive: &Archive, model: &mut Content, stream: u32) -> Result<()> {
    let Some(identity) = chosen(model, stream) else { return Ok(()) };
    let named = model.names.iter().find(|(_, stream)| **stream == Some(identity));
    if let Some(path) = named.map(|(path, _)| path.clone()) {
        let (directory, name) = split(&path);
        let directory = archive.names().resolve(directory)?.inode;
        archive.names().remove(directory, name)?;
        model.names.remove(&path);
    } else {
        let deleted = archive.delete_stream(identity)?;
        assert!(deleted, "the stream is there");
    }
    model.streams.remove(&identity);
    Ok(())
}

fn rename(archive: &Archive, model: &mut Content, from: u32, to: u8) -> Result<()> {
    let files: Vec<&Vec<u8>> =
        model.names.iter().filter(|(_, stream)| stream.is_some()).map(|(path, _)| path).collect();
    let Some(from) = nth(&files, from).map(|path| (*path).clone()) else { return Ok(()) };
    let to = path(to);
    if from == to {
        return Ok(());
    }
    let names = archive.names();
    let inode_of = |path: &[u8]| names.resolve(path).map(|entry| entry.inode);
    let (old, new) = (split(&from), split(&to));
    names.rename((inode_of(old.0)?, old.1), (inode_of(new.0)?, new.1), true)?;
    let stream = model.names.remove(&from).expect("it was chosen");
    if let Some(Some(replaced)) = model.names.insert(to, stream) {
        model.streams.remove(&replaced);
    }
    Ok(())
}

/// The path of a name's number: every other one lies in the directory.
pub(super) fn path(name: u8) -> Vec<u8> {
    let directory = if name.is_multiple_of(2) { [b"/", DIRECTORY].concat() } else { Vec::new() };
    [&directory[..], b"/", format!("name {name}").as_bytes()].concat()
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let at = path.iter().rposition(|&byte| byte == b'/').expect("paths begin with a slash");
    (&path[..at], &path[at + 1..])
}

fn chosen(model: &Content, number: u32) -> Option<Uuid> {
    let all: Vec<Uuid> = model.streams.keys().copied().collect();
    nth(&all, number).copied()
}

fn nth<T>(all: &[T], number: u32) -> Option<&T> {
    usize_of(number).checked_rem(all.len()).map(|at| &all[at])
}

pub(crate) fn attributes() -> Attributes {
    let modified = Timestamp { seconds: 1_700_000_000, nanoseconds: 5 };
    Attributes { mode: 0o644, uid: 1, gid: 2, modified }
}

/// Whether an error says that the operation was refused and nothing was changed.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(
        error,
        Error::Engine(ar7_engine::Error::NoSpace { .. } | ar7_engine::Error::Full { .. })
    )
}

/// Makes the directory of every world.
pub(crate) fn make_directory(archive: &Archive, model: &mut Content) -> Result<()> {
    let root = archive.names().resolve(b"")?;
    assert_eq!(root.kind, EntryType::Directory, "the root is a directory");
    archive.names().make_directory(root.inode, DIRECTORY, attributes())?;
    model.names.insert([b"/", DIRECTORY].concat(), None);
    Ok(())
}

pub(super) fn usize_of(number: u32) -> usize {
    usize::try_from(number).expect("a number of 32 bits fits")
}
