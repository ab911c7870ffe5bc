//! The registry's one error type.

use std::io;

use ar7_engine::Class;
use ar7_engine::format::{ArchiveKind, Generation};
use uuid::Uuid;

/// Result of an operation of the registry.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong with an archive. What the blocks underneath report comes
/// through as it is.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] ar7_engine::Error),
    /// There is no stream with this identity.
    #[error("no stream {stream}")]
    NoStream {
        /// The identity.
        stream: Uuid,
    },
    /// There is a stream with this identity.
    #[error("stream {stream} exists")]
    StreamExists {
        /// The identity.
        stream: Uuid,
    },
    /// The stream is open for writing through another handle.
    #[error("stream {stream} is open already")]
    AlreadyOpen {
        /// The identity.
        stream: Uuid,
    },
    /// The stream is the content of a file or the target of a symbolic link.
    #[error("stream {stream} is the content of inode {inode}")]
    StreamIsNamed {
        /// The identity.
        stream: Uuid,
        /// Number of the inode.
        inode: u64,
    },
    /// A stream that has blocks cannot lose its record alone.
    #[error("stream {stream} has {count} blocks")]
    HasBlocks {
        /// The identity.
        stream: Uuid,
        /// Number of its blocks.
        count: u32,
    },
    /// The handle was opened before a rollback.
    #[error("the handle was opened before a rollback")]
    Stale,
    /// The archive was closed.
    #[error("the archive was closed")]
    Closed,
    /// An earlier call panicked while it changed the archive's state.
    #[error("an earlier call panicked")]
    Panicked,
    /// An archive of this kind does not do this.
    #[error("a {} archive does not allow this: {operation}", kind.name())]
    KindForbids {
        /// The archive's kind.
        kind: ArchiveKind,
        /// What was asked for.
        operation: &'static str,
    },
    /// There is no such reserved stream, or the archive keeps it to itself.
    #[error("no reserved stream {index}: this archive has {first} to {last}")]
    NoReservedStream {
        /// Which was asked for.
        index: usize,
        /// First one to be had.
        first: usize,
        /// Last one to be had.
        last: usize,
    },
    /// There is no such reserved block.
    #[error("no reserved block {index}: they are 0 to 7")]
    NoReservedBlock {
        /// Which was asked for.
        index: u32,
    },
    /// Not a mode of a file object.
    #[error("unknown mode {mode:?}: one of r, w, a, x, then + and b")]
    UnknownMode {
        /// What was given.
        mode: String,
    },
    /// The file object was opened in a mode that does not allow this.
    #[error("{name} is not open for {operation}")]
    NotInMode {
        /// Name of the file object.
        name: String,
        /// What was asked for.
        operation: &'static str,
    },
    /// A path names nothing.
    #[error("no entry {}", path.escape_ascii())]
    NoEntry {
        /// The path, as far as it was looked up.
        path: Vec<u8>,
    },
    /// There is no inode with this number.
    #[error("no inode {inode}")]
    NoInode {
        /// The number.
        inode: u64,
    },
    /// A path names something already.
    #[error("entry {} exists", path.escape_ascii())]
    EntryExists {
        /// The path.
        path: Vec<u8>,
    },
    /// An entry is of another type than is needed.
    #[error("{} is {found}, needed is {needed}", path.escape_ascii())]
    WrongEntryType {
        /// The path.
        path: Vec<u8>,
        /// What it is.
        found: &'static str,
        /// What is needed.
        needed: &'static str,
    },
    /// A directory that is to be removed has entries.
    #[error("directory {} is not empty", path.escape_ascii())]
    NotEmpty {
        /// The path.
        path: Vec<u8>,
    },
    /// A directory cannot be moved into itself.
    #[error("{} would be moved into itself", path.escape_ascii())]
    IntoItself {
        /// The path.
        path: Vec<u8>,
    },
    /// Not the text of a receipt.
    #[error("not a receipt: {reason}")]
    NotAReceipt {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The newest commit is not known to be on stable storage. Opening for writing settles that.
    #[error("the newest commit is not known to be on stable storage")]
    NotSynced,
    /// The receipt is one of another archive.
    #[error("tampered: the receipt is of archive {receipt}, this is {found}")]
    ReceiptOfAnother {
        /// The archive that the receipt names.
        receipt: Uuid,
        /// The archive.
        found: Uuid,
    },
    /// The archive is older than the receipt: an earlier copy of the file was put back.
    #[error("tampered: the archive is older than the receipt: {receipt} expected, {found} found")]
    OlderThanReceipt {
        /// Generation that the receipt names.
        receipt: Generation,
        /// Generation of the archive's last commit, or of the last in the receipt's session.
        found: Generation,
    },
    /// The receipt's commit is none of this archive's history: it continues another copy of the file.
    #[error("tampered: the archive forks from the receipt: {receipt} is not in its history")]
    ForkOfReceipt {
        /// Generation that the receipt names.
        receipt: Generation,
    },
    /// Bytes that cannot be a name.
    #[error("not a name: \"{}\": {reason}", name.escape_ascii())]
    InvalidName {
        /// The bytes.
        name: Vec<u8>,
        /// What is wrong with them.
        reason: &'static str,
    },
}

impl Error {
    /// The error's class.
    pub fn class(&self) -> Class {
        match self {
            Error::Engine(error) => error.class(),
            Error::UnknownMode { .. } | Error::InvalidName { .. } | Error::NotAReceipt { .. } => {
                Class::Usage
            }
            Error::ReceiptOfAnother { .. }
            | Error::OlderThanReceipt { .. }
            | Error::ForkOfReceipt { .. } => Class::Damaged,
            _ => Class::Other,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::NoStream { .. } | Error::NoEntry { .. } => io::ErrorKind::NotFound,
            Error::StreamExists { .. } | Error::EntryExists { .. } => io::ErrorKind::AlreadyExists,
            Error::NotInMode { .. } => io::ErrorKind::PermissionDenied,
            Error::UnknownMode { .. } | Error::InvalidName { .. } => io::ErrorKind::InvalidInput,
            Error::Engine(ar7_engine::Error::ReadOnly) => io::ErrorKind::ReadOnlyFilesystem,
            Error::Engine(ar7_engine::Error::Full { .. }) => io::ErrorKind::FileTooLarge,
            Error::Engine(error) => match error.class() {
                Class::Damaged => io::ErrorKind::InvalidData,
                Class::NoSpace => io::ErrorKind::StorageFull,
                _ => io::ErrorKind::Other,
            },
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
