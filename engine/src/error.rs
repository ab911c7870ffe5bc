//! The engine's one error type.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use crate::format::{Generation, Position};

/// Result of an operation of the engine.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong in the engine. Each variant carries what a caller needs to act on it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused an operation.
    #[error("{operation}{}: {source}", path_suffix(path.as_ref()))]
    Io {
        /// What was being done: "open", "read", "write", "sync", "grow".
        operation: &'static str,
        /// The file, where it is known.
        path: Option<PathBuf>,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// The file is not an archive of this kind at all.
    #[error("not an ar7 archive: {found}")]
    NotAnArchive {
        /// What was found in place of the header.
        found: Value,
    },
    /// The archive needs features that this program does not have.
    #[error("the archive needs a newer program: {what} {found}, this one knows {supported}")]
    NewerFormat {
        /// Which field says so.
        what: &'static str,
        /// Its value.
        found: Value,
        /// What this program supports.
        supported: Value,
    },
    /// No key slot opens with the key that was given.
    #[error("wrong key or passphrase: none of the {slots} key slots opens with it")]
    WrongKey {
        /// Number of slots in use.
        slots: usize,
    },
    /// Bytes are not what they should be, as a fault of the medium would leave them.
    #[error("damaged: {0}")]
    Damaged(Box<Fault>),
    /// A genuine block or field in a place where it does not belong: stale, moved or spliced.
    #[error("tampered: {0}")]
    Tampered(Box<Fault>),
    /// The file is shorter than what was committed.
    #[error("truncated: {expected_bytes} bytes expected, {found_bytes} found")]
    Truncated {
        /// Shortest length that the archive may have.
        expected_bytes: u64,
        /// Length of the file.
        found_bytes: u64,
    },
    /// The file system or the format has no room for more blocks.
    #[error("no space for {needed_blocks} more blocks: {source}")]
    NoSpace {
        /// Blocks that were asked for.
        needed_blocks: u64,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// The archive has the largest number of blocks, or a counter its largest value.
    #[error("the archive is full: {what} is at most {limit}")]
    Full {
        /// Which limit.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Another process has the archive open.
    #[error("in use by another process{}", path_suffix(path.as_ref()))]
    Locked {
        /// The file.
        path: Option<PathBuf>,
    },
    /// An earlier write or sync failed, so nothing more is written through this handle.
    #[error("unusable after an earlier failure: {cause}")]
    Poisoned {
        /// The failure.
        cause: Arc<Error>,
    },
    /// The archive was opened for reading.
    #[error("opened for reading only")]
    ReadOnly,
    /// The handle is used in a process other than the one that opened it.
    #[error("opened by process {opened_by}, used in process {used_by}")]
    OtherProcess {
        /// Process that opened the archive.
        opened_by: u32,
        /// Process of the call.
        used_by: u32,
    },
    /// There is no key in this slot.
    #[error("there is no key in slot {number}")]
    NoKeySlot {
        /// Number of the slot.
        number: usize,
    },
    /// The only key of an archive cannot be removed.
    #[error("slot {number} holds the only key; without it nobody could open the archive")]
    LastKeySlot {
        /// Number of the slot.
        number: usize,
    },
    /// The master key is being changed; only reading, and going on with that, is possible.
    #[error("a change of the master key is under way: rekey goes on with it")]
    RekeyUnderWay,
    /// Other keys would not open the archive any more: they cannot wrap a new master key.
    #[error("{count} other keys would be removed")]
    OtherKeys {
        /// Number of the other key slots in use.
        count: usize,
    },
    /// A change of the keys failed after it had begun to write: the keys from before it, or those from after it, open the
    /// archive.
    #[error("the change of keys did not finish, so either key may be valid: keep both ({cause})")]
    KeyChangeUnfinished {
        /// The failure.
        cause: Arc<Error>,
    },
    /// The caller stopped the operation, which can be continued later.
    #[error("stopped before it was complete")]
    Stopped,
    /// There are changes that are not committed, and the operation is a commit of its own.
    #[error("there are changes that are not committed")]
    Uncommitted,
    /// A value given by the caller is out of its bounds.
    #[error("{what} is {found}, allowed is {allowed}")]
    OutOfBounds {
        /// Which value.
        what: &'static str,
        /// What was given.
        found: Value,
        /// What is allowed.
        allowed: Value,
    },
}

/// What is wrong with a block or a field, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Position of the block.
    pub position: Option<Position>,
    /// Which check failed.
    pub check: Check,
    /// What the check expected.
    pub expected: Value,
    /// What it found.
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
    /// Stream that a block belongs to.
    Stream,
    /// Place of a block in its stream.
    Index,
    /// Link to the previous block.
    PreviousLink,
    /// Link to the next block.
    NextLink,
    /// Unkeyed checksum of the header.
    HeaderChecksum,
    /// Message authentication code of the header.
    HeaderMac,
    /// A field of the header.
    HeaderField,
    /// Revision and digest of the header, as the meta slot names them.
    HeaderRevision,
    /// A key slot.
    KeySlot,
    /// Costs of a key derivation.
    KeyDerivation,
    /// A meta slot, or a pair of them.
    MetaSlot,
    /// Two commits of equal number that differ.
    Fork,
    /// Redo list.
    RedoList,
    /// A root named by the meta slot.
    Root,
    /// A length field.
    Length,
    /// A reserved field that must be zero.
    Reserved,
    /// Structure of a registry page.
    Page,
    /// Order of the keys in the registry.
    KeyOrder,
    /// A record of the registry.
    Record,
    /// Extents of a stream.
    Extents,
    /// The free map: no block both free and used, none neither.
    FreeMap,
    /// A name, or the inode it names.
    Name,
}

impl Check {
    /// The check's name in messages.
    pub const fn name(self) -> &'static str {
        match self {
            Check::Tag => "authentication tag",
            Check::Digest => "SHA-1 digest",
            Check::Generation => "generation",
            Check::Stream => "stream",
            Check::Index => "index",
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
        }
    }
}

/// A value that a check expected or found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// A number.
    Number(i128),
    /// A phrase that says what is meant.
    Text(&'static str),
    /// A version of a block.
    Generation(Generation),
    /// A UUID.
    Uuid(Uuid),
    /// A position or none.
    Link(Option<Position>),
    /// Some bytes.
    Bytes(Vec<u8>),
}

impl fmt::Display for Value {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Number(number) => number.fmt(formatter),
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

/// Kinds of failure that a caller treats differently; the command line has an exit code for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Class {
    /// Anything without a class of its own.
    Other,
    /// A value given by the caller cannot be used.
    Usage,
    /// The key or passphrase is not one of the archive's.
    WrongKey,
    /// The archive is damaged or was tampered with.
    Damaged,
    /// Another process has the archive open.
    Locked,
    /// The archive needs a newer program.
    NewerFormat,
    /// No space.
    NoSpace,
}

impl Error {
    /// Damage at a block.
    pub fn damaged(
        position: impl Into<Option<Position>>,
        check: Check,
        expected: impl Into<Value>,
        found: impl Into<Value>,
    ) -> Error {
        Error::Damaged(Box::new(Fault::new(position, check, expected, found)))
    }

    /// A genuine block or field out of its place.
    pub fn tampered(
        position: impl Into<Option<Position>>,
        check: Check,
        expected: impl Into<Value>,
        found: impl Into<Value>,
    ) -> Error {
        Error::Tampered(Box::new(Fault::new(position, check, expected, found)))
    }

    /// A failure of the operating system; a full disk has its own variant.
    pub fn io(operation: &'static str, source: io::Error) -> Error {
        Error::Io { operation, path: None, source: Arc::new(source) }
    }

    /// The same error, with the name of the file it is about.
    #[must_use]
    pub fn at_path(self, named: &std::path::Path) -> Error {
        match self {
            Error::Io { operation, path: None, source } => {
                Error::Io { operation, path: Some(named.to_owned()), source }
            }
            Error::Locked { path: None } => Error::Locked { path: Some(named.to_owned()) },
            other => other,
        }
    }

    /// The same error, with the block it is about, where that is not known yet.
    #[must_use]
    pub fn at_block(self, position: Position) -> Error {
        let place = |mut fault: Box<Fault>| {
            fault.position.get_or_insert(position);
            fault
        };
        match self {
            Error::Damaged(fault) => Error::Damaged(place(fault)),
            Error::Tampered(fault) => Error::Tampered(place(fault)),
            other => other,
        }
    }

    /// Whether a call was refused before it changed anything, because of what it asked for.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Error::Full { .. }
                | Error::OutOfBounds { .. }
                | Error::ReadOnly
                | Error::NoKeySlot { .. }
                | Error::LastKeySlot { .. }
                | Error::Uncommitted
        )
    }

    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Error::Io { .. }
            | Error::ReadOnly
            | Error::OtherProcess { .. }
            | Error::Uncommitted
            | Error::RekeyUnderWay
            | Error::Stopped
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
            Error::Locked { .. } => Class::Locked,
            Error::NewerFormat { .. } => Class::NewerFormat,
            Error::NoSpace { .. } => Class::NoSpace,
            Error::Poisoned { cause } | Error::KeyChangeUnfinished { cause } => cause.class(),
        }
    }
}

impl Fault {
    /// A fault at a block.
    pub fn new(
        position: impl Into<Option<Position>>,
        check: Check,
        expected: impl Into<Value>,
        found: impl Into<Value>,
    ) -> Fault {
        Fault { position: position.into(), check, expected: expected.into(), found: found.into() }
    }
}

fn path_suffix(path: Option<&PathBuf>) -> String {
    path.map_or_else(String::new, |path| format!(" {}", path.display()))
}
