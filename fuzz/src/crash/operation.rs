//! Operations, applied to an archive and to the model of its content.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use ar7_registry::compact::{CompactObserver, CompactProgress};
use ar7_registry::{Archive, Error, Finding, Result};

use super::content::{Content, usize_of};
use super::{naming, streams};

/// An operation on an archive. Streams and names are chosen by number, modulo their count. If there are none, the
/// operation does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Creates a stream, with a name if that name is unused.
    Create {
        /// The number of bytes.
        length: u32,
        /// The number of the name.
        name: Option<u8>,
    },
    /// Appends bytes to a stream.
    Append {
        /// The number of the stream.
        stream: u32,
        /// The number of bytes.
        length: u32,
    },
    /// Overwrites bytes of a stream, extending it if the range reaches beyond its end.
    Overwrite {
        /// The number of the stream.
        stream: u32,
        /// The offset, at most the length of the stream.
        offset: u32,
        /// The number of bytes.
        length: u32,
    },
    /// Packs content for a file. If its name is used, the content of the file is replaced, or the file is removed if the
    /// content is empty.
    Pack {
        /// The number of the name.
        name: u8,
        /// The number of bytes.
        length: u32,
    },
    /// Packs content with a hole in its middle, as [`Operation::Pack`] does.
    PackHole {
        /// The number of the name.
        name: u8,
        /// The number of bytes before the hole and after it. The hole is three times as long.
        length: u32,
    },
    /// Writes to a packed file with holes, or gives any other packed file a stream of its own.
    ChangePacked {
        /// The number of the file among the packed ones.
        file: u32,
        /// The offset.
        offset: u32,
        /// The number of bytes.
        length: u32,
    },
    /// Changes the length of a stream.
    Truncate {
        /// The number of the stream.
        stream: u32,
        /// The length in bytes.
        length: u32,
    },
    /// Deletes a stream, and its name if it has one.
    Delete {
        /// The number of the stream.
        stream: u32,
    },
    /// Renames an entry, replacing an entry with the new name.
    Rename {
        /// The number of the name among all names.
        from: u32,
        /// The number of the new name.
        to: u8,
    },
    /// Pushes a block to the end of a stream through its cursor.
    Push {
        /// The number of the stream.
        stream: u32,
        /// Whether the stream's length is extended to include the block and everything before it.
        is_counted: bool,
    },
    /// Pops the last block of a stream through its cursor.
    Pop {
        /// The number of the stream.
        stream: u32,
    },
    /// Changes a byte of the cursor's block, which may be beyond the stream's end.
    SetData {
        /// The number of the stream.
        stream: u32,
        /// The number of the block.
        block: u32,
        /// The offset in the block.
        at: u32,
    },
    /// Opens a stream as a file, seeks and writes, possibly beyond the end.
    WriteFile {
        /// The number of the stream.
        stream: u32,
        /// The offset.
        offset: u32,
        /// The number of bytes.
        length: u32,
    },
    /// Opens a stream as a file and sets its length.
    SetFileLength {
        /// The number of the stream.
        stream: u32,
        /// The length in bytes.
        length: u32,
    },
    /// Creates a directory.
    Directory {
        /// The number of the parent directory.
        inside: u32,
        /// The number of the name.
        name: u8,
    },
    /// Creates a file, with a stream if it is not empty.
    File {
        /// The number of the parent directory.
        inside: u32,
        /// The number of the name.
        name: u8,
        /// The number of bytes.
        length: u32,
    },
    /// Adds a name to an entry that is not a directory.
    Link {
        /// The number of one of its names.
        from: u32,
        /// The number of the new name's directory.
        inside: u32,
        /// The number of the name.
        name: u8,
    },
    /// Creates a symbolic link.
    Symlink {
        /// The number of the parent directory.
        inside: u32,
        /// The number of the name.
        name: u8,
        /// The length of the target in bytes.
        length: u32,
    },
    /// Moves a name, possibly of a directory, to an unused path.
    Move {
        /// The number of the name among all names.
        from: u32,
        /// The number of the new parent directory.
        inside: u32,
        /// The number of the name.
        name: u8,
    },
    /// Removes a name, unless it is a directory that is not empty.
    Remove {
        /// The number of the name among all names.
        name: u32,
    },
    /// Removes a name and everything below it.
    RemoveTree {
        /// The number of the name among all names.
        name: u32,
    },
    /// Sets the metadata.
    Meta(u8),
    /// Makes a savepoint.
    Savepoint,
    /// Returns to a savepoint of the transaction.
    RollBackTo {
        /// The number of the savepoint among those of the transaction.
        point: u32,
    },
    /// Commits.
    Commit,
    /// Rolls back.
    Rollback,
    /// Closes the archive. The next operation opens it again.
    Close,
    /// Drops the archive as at the end of a process, and opens it again.
    Reopen,
    /// Drops the archive and changes its master key.
    Rekey,
    /// Commits and compacts the archive.
    Compact,
}

/// The operations of the small scenarios, on streams of the initial archive.
pub const SMALL: [(&str, Operation); 13] = [
    ("create", Operation::Create { length: 100, name: Some(1) }),
    ("pack", Operation::Pack { name: 5, length: 300 }),
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

/// The operations that have names: those of the small scenarios, rekey and compact.
pub const NAMED: [(&str, Operation); 15] = {
    let mut named = [("rekey", Operation::Rekey); 15];
    named[14] = ("compact", Operation::Compact);
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
    /// Changes an archive and the model of its open transaction. Does not support `Savepoint` and the operations listed
    /// after it. After an error the model is unchanged, and the archive is unchanged or unusable.
    pub(crate) fn change(self, archive: &Archive, model: &mut Content, byte: u8) -> Result<()> {
        let bytes = |length| vec![byte; usize_of(length)];
        match self {
            Operation::Create { length, name } => {
                naming::create(archive, model, &bytes(length), name)
            }
            Operation::Pack { name, length } => naming::pack(archive, model, name, &bytes(length)),
            Operation::Append { stream, length } => {
                streams::write(archive, model, stream, u32::MAX, &bytes(length))
            }
            Operation::Overwrite { stream, offset, length } => {
                streams::write(archive, model, stream, offset, &bytes(length))
            }
            Operation::PackHole { name, length } => {
                naming::pack_hole(archive, model, name, &bytes(length))
            }
            Operation::ChangePacked { file, offset, length } => {
                naming::change_packed(archive, model, file, offset, &bytes(length))
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
            Operation::Savepoint
            | Operation::RollBackTo { .. }
            | Operation::Commit
            | Operation::Rollback
            | Operation::Close
            | Operation::Reopen
            | Operation::Rekey
            | Operation::Compact => Ok(()),
        }
    }
}

/// Compacts an archive.
pub(super) fn compact(archive: &Archive) -> Result<()> {
    struct Unobserved;
    impl CompactObserver for Unobserved {
        fn damaged(&mut self, finding: Finding) {
            panic!("an archive without damage: {finding}");
        }

        fn progress(&mut self, _: CompactProgress) -> ControlFlow<()> {
            ControlFlow::Continue(())
        }
    }
    archive.compact(Duration::ZERO, &mut Unobserved).map(drop)
}

/// Returns whether an error means that the disk was full and nothing was changed.
pub(super) fn is_full(error: &Error) -> bool {
    matches!(
        error,
        Error::Engine(ar7_engine::Error::NoSpace { .. } | ar7_engine::Error::Full { .. })
    )
}
