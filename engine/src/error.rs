//! The engine's error type.

use std::fmt;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::format::{Generation, Position};

/// The result of an engine operation.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the engine. Each variant carries the data that a caller needs to act on it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the operating system failed.
    #[error("{operation}{}: {source}", path_suffix(path.as_ref()))]
    Io {
        /// The operation that failed, for example "open", "read", "write", "sync" or "grow".
        operation: &'static str,
        /// The file, if known.
        path: Option<PathBuf>,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// The file is not an ar7 archive.
    #[error("not an ar7 archive: {found}")]
    NotAnArchive {
        /// The bytes found instead of a header.
        found: Value,
    },
    /// The archive uses a version or feature of the format that this program does not support.
    #[error("the archive needs a newer program: {what}: expected {supported}, found {found}")]
    NewerFormat {
        /// The field with the unsupported value.
        what: &'static str,
        /// Its value.
        found: Value,
        /// What this program supports.
        supported: Value,
    },
    /// The secret opens no key slot.
    #[error("wrong key or passphrase: it opens no key slot ({slots} in use)")]
    WrongKey {
        /// Number of key slots in use.
        slots: usize,
    },
    /// Bytes failed a check: the medium has corrupted them.
    #[error("damaged: {0}")]
    Damaged(Box<Fault>),
    /// An authentic block or field is older than expected, or belongs to another place.
    #[error("tampered: {0}")]
    Tampered(Box<Fault>),
    /// The file is shorter than the committed archive.
    #[error("truncated: expected {expected_bytes} bytes, found {found_bytes}")]
    Truncated {
        /// The length of the committed archive.
        expected_bytes: u64,
        /// Length of the file.
        found_bytes: u64,
    },
    /// The file system has no space for more blocks.
    #[error("no space for {needed_blocks} more blocks: {source}")]
    NoSpace {
        /// Number of blocks requested.
        needed_blocks: u64,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// The archive or a counter has reached its limit.
    #[error("the archive is full: {what} is at most {limit}")]
    Full {
        /// The limited quantity.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Another process, or another handle of this one, has locked the archive.
    #[error("in use by {}{}", holder_name(*holder), path_suffix(path.as_ref()))]
    Locked {
        /// The file.
        path: Option<PathBuf>,
        /// The process that writes it, if the system shows it.
        holder: Option<u32>,
    },
    /// A writer kept changing the archive while it was opened for reading, or stopped in the middle of a change.
    #[error(
        "a writer is changing the archive, and no consistent state was found in {waited_ms} ms: {cause}"
    )]
    Busy {
        /// Time for which opening tried, in milliseconds.
        waited_ms: u64,
        /// What the last attempt found.
        cause: Arc<Error>,
    },
    /// Readers of older commits hold as many blocks as they may.
    #[error(
        "readers of commit {oldest} hold {entries} changed blocks and {blocks} free blocks: close them and try again"
    )]
    HeldByReaders {
        /// The oldest commit that is read.
        oldest: u64,
        /// Changed blocks that cannot be copied to their home locations.
        entries: u64,
        /// Free blocks that cannot be reused.
        blocks: u64,
    },
    /// The commit that a snapshot reads was lost in a failure of the disk, and another commit replaced it.
    #[error("commit {number} was lost: another one replaced it")]
    CommitLost {
        /// Number of the commit.
        number: u64,
    },
    /// An earlier write or sync failed, so every later call on this handle fails.
    #[error("unusable after an earlier failure, reopen the archive: {cause}")]
    Poisoned {
        /// The failure.
        cause: Arc<Error>,
    },
    /// The archive was opened for reading.
    #[error("opened for reading only")]
    ReadOnly,
    /// A process uses a handle that another process opened, for example its parent before a fork.
    #[error("opened by process {opened_by}, used in process {used_by}")]
    OtherProcess {
        /// The process that opened the archive.
        opened_by: u32,
        /// The calling process.
        used_by: u32,
    },
    /// The key slot is empty or does not exist.
    #[error("key slot {number} holds no key")]
    NoKeySlot {
        /// Number of the key slot.
        number: usize,
    },
    /// The call would remove the only key of the archive.
    #[error("key slot {number} holds the only key; without it, nothing opens the archive")]
    LastKeySlot {
        /// Number of the key slot.
        number: usize,
    },
    /// A rekey is in progress. Until it finishes, the archive can only be read.
    #[error("a rekey is in progress: run `ar7 rekey` to finish it")]
    RekeyInProgress,
    /// A rekey would remove the other keys: wrapping the new master key for them takes their secrets.
    #[error("a rekey would remove the archive's other keys ({count})")]
    OtherKeys {
        /// Number of the other key slots in use.
        count: usize,
    },
    /// A key change failed after its first write. The archive may open with the old keys or with the new ones.
    #[error(
        "the key change did not finish: keep the old key and the new one, either may be valid ({cause})"
    )]
    KeyChangeUnfinished {
        /// The failure.
        cause: Arc<Error>,
    },
    /// The caller stopped the operation. A later call resumes it.
    #[error("stopped before completion")]
    Stopped,
    /// The operation is a commit of its own, but the open transaction has uncommitted changes.
    #[error("there are uncommitted changes")]
    Uncommitted,
    /// The open transaction does not have this savepoint: it is another transaction, or it returned to an earlier
    /// savepoint.
    #[error("the savepoint is gone: its transaction ended or returned to an earlier one")]
    NoSavepoint,
    /// A value from the caller is out of bounds.
    #[error("{what}: expected {allowed}, found {found}")]
    OutOfBounds {
        /// Name of the value.
        what: &'static str,
        /// The caller's value.
        found: Value,
        /// The allowed values.
        allowed: Value,
    },
}

/// A failed check of a block or field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Position of the block.
    pub position: Option<Position>,
    /// The check that failed.
    pub check: Check,
    /// The expected value.
    pub expected: Value,
    /// The value found.
    pub found: Value,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = self.position {
            write!(formatter, "block {position}: ")?;
        }
        write!(formatter, "{}: expected {}, found {}", self.check.name(), self.expected, self.found)
    }
}

/// The checks that a block, a field or a page can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Check {
    /// Poly1305 tag of a block.
    Tag,
    /// SHA-1 digest of a block's data.
    Digest,
    /// Version of a block.
    Generation,
    /// Stream of a block.
    Stream,
    /// Block index in its stream.
    Index,
    /// Neighbour link to the previous block.
    PreviousLink,
    /// Neighbour link to the next block.
    NextLink,
    /// Unkeyed checksum of the header.
    HeaderChecksum,
    /// Message authentication code of the header.
    HeaderMac,
    /// A field of the header.
    HeaderField,
    /// Revision and digest of the header, compared with those in the meta slot.
    HeaderRevision,
    /// A key slot.
    KeySlot,
    /// Cost of a key derivation.
    KeyDerivation,
    /// A meta slot, or a pair of them.
    MetaSlot,
    /// Two different commits with the same number.
    Fork,
    /// Numbers of the commits that the meta slots hold.
    CommitNumber,
    /// Redo list.
    RedoList,
    /// A root in the meta slot.
    Root,
    /// A length field.
    Length,
    /// A reserved field that must be zero.
    Reserved,
    /// Structure of a page of the registry.
    Page,
    /// Order of the keys in a page or tree of the registry.
    KeyOrder,
    /// A record of the registry.
    Record,
    /// Extents of a stream.
    Extents,
    /// The map of free and used blocks: every block is exactly one of the two.
    FreeMap,
    /// A name, or the inode it names.
    Name,
    /// A frame of packed content, or its record.
    Frame,
}

impl Check {
    /// Returns the check's name for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Check::Tag => "authentication tag",
            Check::Digest => "SHA-1 digest",
            Check::Generation => "generation",
            Check::Stream => "stream",
            Check::Index => "block index",
            Check::PreviousLink => "link to the previous block",
            Check::NextLink => "link to the next block",
            Check::HeaderChecksum => "header checksum",
            Check::HeaderMac => "header authentication",
            Check::HeaderField => "header field",
            Check::HeaderRevision => "header revision",
            Check::KeySlot => "key slot",
            Check::KeyDerivation => "key derivation cost",
            Check::MetaSlot => "meta slot",
            Check::Fork => "fork",
            Check::CommitNumber => "commit number",
            Check::RedoList => "redo list",
            Check::Root => "root",
            Check::Length => "length",
            Check::Reserved => "reserved field",
            Check::Page => "registry page",
            Check::KeyOrder => "key order",
            Check::Record => "record",
            Check::Extents => "extents",
            Check::FreeMap => "free map",
            Check::Name => "name",
            Check::Frame => "frame",
        }
    }
}

/// A value that a check expected or found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// A number.
    Number(i128),
    /// Any value from the first to the last.
    Range(Box<RangeInclusive<Value>>),
    /// A phrase.
    Text(&'static str),
    /// A version of a block.
    Generation(Generation),
    /// A UUID.
    Uuid(Uuid),
    /// A position, or none.
    Link(Option<Position>),
    /// Some bytes.
    Bytes(Vec<u8>),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => number.fmt(formatter),
            Value::Range(range) => write!(formatter, "{} to {}", range.start(), range.end()),
            Value::Text(text) => text.fmt(formatter),
            Value::Generation(generation) => generation.fmt(formatter),
            Value::Uuid(uuid) => uuid.fmt(formatter),
            Value::Link(Some(position)) => write!(formatter, "block {position}"),
            Value::Link(None) => "no block".fmt(formatter),
            Value::Bytes(bytes) => write!(formatter, "\"{}\"", bytes.escape_ascii()),
        }
    }
}

macro_rules! value_from_number {
    ($($number:ty),*) => {$(
        impl From<$number> for Value {
            fn from(number: $number) -> Value {
                Value::Number(i128::from(number))
            }
        }
    )*};
}
value_from_number!(u8, u16, u32, u64, i32, i64);

impl From<usize> for Value {
    fn from(number: usize) -> Value {
        // A usize is at most 64 bits on every platform that memory maps a file.
        Value::Number(i128::try_from(number).unwrap_or(i128::MAX))
    }
}

impl<T: Into<Value>> From<RangeInclusive<T>> for Value {
    fn from(range: RangeInclusive<T>) -> Value {
        let (first, last) = range.into_inner();
        Value::Range(Box::new(first.into()..=last.into()))
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Value {
        Value::Text(text)
    }
}

impl From<Generation> for Value {
    fn from(generation: Generation) -> Value {
        Value::Generation(generation)
    }
}

impl From<Uuid> for Value {
    fn from(uuid: Uuid) -> Value {
        Value::Uuid(uuid)
    }
}

impl From<Option<Position>> for Value {
    fn from(link: Option<Position>) -> Value {
        Value::Link(link)
    }
}

impl From<Position> for Value {
    fn from(position: Position) -> Value {
        Value::Link(Some(position))
    }
}

/// A class of errors that a caller treats alike. The command has an exit code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Every other error.
    Other,
    /// The caller gave an invalid value.
    Usage,
    /// The key or passphrase opens no key slot.
    WrongKey,
    /// The archive is damaged or was tampered with.
    Damaged,
    /// Another process has the archive open.
    Locked,
    /// The archive needs a newer version of the program.
    NewerFormat,
    /// There is no space for more blocks.
    NoSpace,
    /// Readers of older commits hold back too many blocks.
    HeldByReaders,
}

impl Error {
    /// Creates the error for damage at a block.
    pub fn damaged(
        position: impl Into<Option<Position>>,
        check: Check,
        expected: impl Into<Value>,
        found: impl Into<Value>,
    ) -> Error {
        Error::Damaged(Box::new(Fault::new(position, check, expected, found)))
    }

    /// Creates the error for an authentic block or field that is older than expected, or belongs to another place.
    pub fn tampered(
        position: impl Into<Option<Position>>,
        check: Check,
        expected: impl Into<Value>,
        found: impl Into<Value>,
    ) -> Error {
        Error::Tampered(Box::new(Fault::new(position, check, expected, found)))
    }

    /// Creates the error for a failed system call. A full disk has its own variant, [`Error::NoSpace`].
    pub fn io(operation: &'static str, source: io::Error) -> Error {
        Error::Io { operation, path: None, source: Arc::new(source) }
    }

    /// Adds the path of the file to an error that has none.
    #[must_use]
    pub fn at_path(self, named: &std::path::Path) -> Error {
        match self {
            Error::Io { operation, path: None, source } => {
                Error::Io { operation, path: Some(named.to_owned()), source }
            }
            Error::Locked { path: None, holder } => {
                Error::Locked { path: Some(named.to_owned()), holder }
            }
            other => other,
        }
    }

    /// Adds the position of the block to an error that has none.
    #[must_use]
    pub fn at_block(self, position: Position) -> Error {
        let located = |mut fault: Box<Fault>| {
            fault.position.get_or_insert(position);
            fault
        };
        match self {
            Error::Damaged(fault) => Error::Damaged(located(fault)),
            Error::Tampered(fault) => Error::Tampered(located(fault)),
            other => other,
        }
    }

    /// Returns whether a system call failed.
    pub fn is_io(&self) -> bool {
        matches!(self, Error::Io { .. })
    }

    /// Returns whether the engine refused the call before it changed anything.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::Full { .. }
                | Error::OutOfBounds { .. }
                | Error::ReadOnly
                | Error::NoKeySlot { .. }
                | Error::LastKeySlot { .. }
                | Error::HeldByReaders { .. }
                | Error::Uncommitted
                | Error::NoSavepoint
        )
    }

    /// Returns the error's class.
    pub fn class(&self) -> Class {
        match self {
            Error::Io { .. }
            | Error::ReadOnly
            | Error::OtherProcess { .. }
            | Error::Uncommitted
            | Error::NoSavepoint
            | Error::RekeyInProgress
            | Error::Stopped
            | Error::CommitLost { .. }
            | Error::Full { .. } => Class::Other,
            Error::OutOfBounds { .. }
            | Error::NoKeySlot { .. }
            | Error::LastKeySlot { .. }
            | Error::OtherKeys { .. } => Class::Usage,
            Error::WrongKey { .. } => Class::WrongKey,
            Error::NotAnArchive { .. }
            | Error::Damaged(_)
            | Error::Tampered(_)
            | Error::Truncated { .. } => Class::Damaged,
            Error::Locked { .. } | Error::Busy { .. } => Class::Locked,
            Error::HeldByReaders { .. } => Class::HeldByReaders,
            Error::NewerFormat { .. } => Class::NewerFormat,
            Error::NoSpace { .. } => Class::NoSpace,
            Error::Poisoned { cause } | Error::KeyChangeUnfinished { cause } => cause.class(),
        }
    }
}

impl Fault {
    /// Creates a fault at a block.
    pub fn new(
        position: impl Into<Option<Position>>,
        check: Check,
        expected: impl Into<Value>,
        found: impl Into<Value>,
    ) -> Fault {
        Fault { position: position.into(), check, expected: expected.into(), found: found.into() }
    }
}

fn holder_name(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

fn path_suffix(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| format!(" {}", path.display()))
}
