//! What is done to an archive: the same to the archive and to the model of what it holds.

use std::fmt;

use ar7_registry::{Archive, Error, Result};

use super::content::{Content, usize_of};
use super::{naming, streams};

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
    /// Adds a block to the end of a stream, as its cursor does.
    Push {
        /// The stream's number.
        stream: u32,
        /// Whether the stream's length is to count it, and what is before it.
        is_counted: bool,
    },
    /// Removes the last block of a stream, as its cursor does.
    Pop {
        /// The stream's number.
        stream: u32,
    },
    /// Changes a byte of a block that the cursor has moved to, also beyond the stream's end.
    SetData {
        /// The stream's number.
        stream: u32,
        /// The block's number.
        block: u32,
        /// Where in the block.
        at: u32,
    },
    /// Opens a stream as a file, seeks and writes, also beyond the end.
    WriteFile {
        /// The stream's number.
        stream: u32,
        /// Where.
        offset: u32,
        /// Number of bytes.
        length: u32,
    },
    /// Opens a stream as a file and sets its length.
    SetFileLength {
        /// The stream's number.
        stream: u32,
        /// The length in bytes.
        length: u32,
    },
    /// Makes a directory.
    Directory {
        /// The number of the directory that it comes into.
        inside: u32,
        /// The name's number.
        name: u8,
    },
    /// Makes a file, with a stream if it is not empty.
    File {
        /// The number of the directory that it comes into.
        inside: u32,
        /// The name's number.
        name: u8,
        /// Number of bytes.
        length: u32,
    },
    /// Gives what is no directory one more name.
    Link {
        /// The number of a name that it has.
        from: u32,
        /// The number of the directory that the name comes into.
        inside: u32,
        /// The name's number.
        name: u8,
    },
    /// Makes a symbolic link.
    Symlink {
        /// The number of the directory that it comes into.
        inside: u32,
        /// The name's number.
        name: u8,
        /// Length of the target in bytes.
        length: u32,
    },
    /// Moves a name, of a directory too, to where none is yet.
    Move {
        /// The number of the name among all.
        from: u32,
        /// The number of the directory that it comes into.
        inside: u32,
        /// The name's number.
        name: u8,
    },
    /// Removes a name, unless it is that of a directory with something in it.
    Remove {
        /// The number of the name among all.
        name: u32,
    },
    /// Removes a name and everything below it.
    RemoveTree {
        /// The number of the name among all.
        name: u32,
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

/// The operations of the small scenarios, on streams of the archive that they begin with.
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

/// Operations that have a name: those of the small scenarios, and the change of the master key.
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
        let bytes = |length| vec![byte; usize_of(length)];
        match self {
            Operation::Create { length, name } => {
                naming::create(archive, model, &bytes(length), name)
            }
            Operation::Append { stream, length } => {
                streams::write(archive, model, stream, u32::MAX, &bytes(length))
            }
            Operation::Overwrite { stream, offset, length } => {
                streams::write(archive, model, stream, offset, &bytes(length))
            }
            Operation::Truncate { stream, length } => {
                streams::set_length(archive, model, stream, length)
            }
            Operation::Delete { stream } => naming::delete(archive, model, stream),
            Operation::Rename { from, to } => naming::rename(archive, model, from, to),
            Operation::Push { stream, is_counted } => {
                streams::push(archive, model, stream, is_counted, byte)
            }
            Operation::Pop { stream } => streams::pop(archive, model, stream),
            Operation::SetData { stream, block, at } => {
                streams::set_data(archive, model, stream, (block, at), byte)
            }
            Operation::WriteFile { stream, offset, length } => {
                streams::write_file(archive, model, stream, offset, &bytes(length))
            }
            Operation::SetFileLength { stream, length } => {
                streams::set_file_length(archive, model, stream, length)
            }
            Operation::Directory { inside, name } => {
                naming::add_directory(archive, model, inside, name)
            }
            Operation::File { inside, name, length } => {
                naming::put_file(archive, model, inside, name, &bytes(length))
            }
            Operation::Link { from, inside, name } => {
                naming::link(archive, model, from, inside, name)
            }
            Operation::Symlink { inside, name, length } => {
                naming::symlink(archive, model, inside, name, &bytes(length))
            }
            Operation::Move { from, inside, name } => {
                naming::move_name(archive, model, from, inside, name)
            }
            Operation::Remove { name } => naming::remove(archive, model, name),
            Operation::RemoveTree { name } => naming::remove_tree(archive, model, name),
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

/// Whether an error says that the operation was refused and nothing was changed.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(
        error,
        Error::Engine(ar7_engine::Error::NoSpace { .. } | ar7_engine::Error::Full { .. })
    )
}
