//! The registry's one error type.

use std::io;

use ar7_engine::Class;
use ar7_engine::format::{ArchiveKind, Generation};
use uuid::Uuid;

/// Result of an operation of the registry.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error of an archive. Errors of the engine pass through unchanged.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error of the engine.
    #[error(transparent)]
    Engine(#[from] ar7_engine::Error),
    /// No stream has this identity.
    #[error("no stream {stream}")]
    NoStream {
        /// The identity.
        stream: Uuid,
    },
    /// A stream with this identity already exists.
    #[error("stream {stream} already exists")]
    StreamExists {
        /// The identity.
        stream: Uuid,
    },
    /// The stream is open for writing through another handle.
    #[error("stream {stream} is already open")]
    AlreadyOpen {
        /// The identity.
        stream: Uuid,
    },
    /// The stream is the content of a file, the target of a symbolic link, or contains the extended
    /// attributes of an entry.
    #[error("stream {stream} is the content of inode {inode}")]
    StreamIsNamed {
        /// The identity.
        stream: Uuid,
        /// Number of the inode.
        inode: u64,
    },
    /// The record of a stream that still has blocks cannot be removed.
    #[error("stream {stream} still has {count} blocks")]
    HasBlocks {
        /// The identity.
        stream: Uuid,
        /// Number of its blocks.
        count: u32,
    },
    /// The handle was opened before a rollback.
    #[error("the handle was opened before a rollback")]
    Stale,
    /// The handle was opened after the savepoint to which the transaction returned.
    #[error("the handle was opened after the savepoint to which the transaction returned")]
    RolledBack,
    /// The archive was closed.
    #[error("the archive was closed")]
    Closed,
    /// An earlier call panicked while it was changing the archive's state.
    #[error("an earlier call panicked")]
    Panicked,
    /// An archive of this kind does not allow the operation.
    #[error("a {} archive does not allow {operation}", kind.name())]
    KindForbids {
        /// The archive's kind.
        kind: ArchiveKind,
        /// The operation.
        operation: &'static str,
    },
    /// The reserved stream does not exist, or the archive uses it internally.
    #[error("no reserved stream {index}: expected {first} to {last}")]
    NoReservedStream {
        /// The requested index.
        index: usize,
        /// First index that the archive offers.
        first: usize,
        /// Last index that the archive offers.
        last: usize,
    },
    /// No reserved block has this index.
    #[error("no reserved block {index}: expected 0 to 7")]
    NoReservedBlock {
        /// The requested index.
        index: u32,
    },
    /// The text is not a mode of a file object.
    #[error("unknown mode {mode:?}: expected r, w, a or x, optionally with + and b")]
    UnknownMode {
        /// The text.
        mode: String,
    },
    /// The mode of the file object does not allow the operation.
    #[error("{name} is not open for {operation}")]
    NotInMode {
        /// Name of the file object.
        name: String,
        /// The operation.
        operation: &'static str,
    },
    /// The path does not exist.
    #[error("no entry {}", path.escape_ascii())]
    NoEntry {
        /// The path, up to the first missing component.
        path: Vec<u8>,
    },
    /// No inode has this number.
    #[error("no inode {inode}")]
    NoInode {
        /// The number.
        inode: u64,
    },
    /// The path already exists.
    #[error("entry {} already exists", path.escape_ascii())]
    EntryExists {
        /// The path.
        path: Vec<u8>,
    },
    /// The entry has the wrong type for the operation.
    #[error("{}expected {needed}, found {found}", entry_prefix(path))]
    WrongEntryType {
        /// The path.
        path: Vec<u8>,
        /// Its type.
        found: &'static str,
        /// The expected type.
        needed: &'static str,
    },
    /// A device has a device number, and no other entry has one.
    #[error("{kind} {}", if *is_device { "needs a device number" } else { "has no device number" })]
    DeviceNumber {
        /// Type of the entry.
        kind: &'static str,
        /// Whether the entry is a device.
        is_device: bool,
    },
    /// The directory cannot be removed because it has entries.
    #[error("directory {} is not empty", path.escape_ascii())]
    NotEmpty {
        /// The path.
        path: Vec<u8>,
    },
    /// A directory cannot be moved into itself.
    #[error("cannot move {} into itself", path.escape_ascii())]
    IntoItself {
        /// The path.
        path: Vec<u8>,
    },
    /// The text is not a receipt.
    #[error("not a receipt: {reason}")]
    NotAReceipt {
        /// Why the text is not a receipt.
        reason: &'static str,
    },
    /// The newest commit may not be on stable storage. Opening the archive for writing makes sure
    /// that it is.
    #[error("the newest commit may not be durable yet: open the archive for writing to make sure")]
    NotSynced,
    /// The receipt belongs to another archive.
    #[error("tampered: the receipt is for another archive: expected {receipt}, found {found}")]
    ReceiptOfAnother {
        /// The archive in the receipt.
        receipt: Uuid,
        /// The archive that is open.
        found: Uuid,
    },
    /// The archive is older than the receipt: the file was replaced by an earlier copy.
    #[error("tampered: the archive is older than the receipt: expected {receipt}, found {found}")]
    OlderThanReceipt {
        /// Generation in the receipt.
        receipt: Generation,
        /// Generation of the archive's last commit, or of the last step of the receipt's session.
        found: Generation,
    },
    /// The receipt's commit is not in this archive's history: the file descends from another copy.
    #[error("tampered: the archive forks from the receipt: {receipt} is not in its history")]
    ForkOfReceipt {
        /// Generation in the receipt.
        receipt: Generation,
    },
    /// The name is empty or too long.
    #[error("invalid name \"{}\": expected 1 to 255 bytes, found {}", name.escape_ascii(), name.len())]
    NameLength {
        /// The name.
        name: Vec<u8>,
    },
    /// Packs hold content of deleted files, because there was no room to move what they hold of other files, or because
    /// it is damaged.
    #[error(
        "{bytes} bytes of deleted content are left in packs: the rest is damaged, or there was no room to move it"
    )]
    DeadBytes {
        /// The number of bytes, as stored.
        bytes: u64,
    },
    /// The bytes cannot be a name.
    #[error("invalid name \"{}\": {reason}", name.escape_ascii())]
    InvalidName {
        /// The bytes.
        name: Vec<u8>,
        /// Why the bytes cannot be a name.
        reason: &'static str,
    },
}

impl Error {
    /// Returns the class, from which the command derives its exit code.
    pub fn class(&self) -> Class {
        match self {
            Error::Engine(error) => error.class(),
            Error::UnknownMode { .. }
            | Error::NameLength { .. }
            | Error::InvalidName { .. }
            | Error::DeviceNumber { .. }
            | Error::NotAReceipt { .. } => Class::Usage,
            Error::ReceiptOfAnother { .. }
            | Error::OlderThanReceipt { .. }
            | Error::ForkOfReceipt { .. } => Class::Damaged,
            _ => Class::Other,
        }
    }
}

/// Returns the start of a message about an entry; nothing if the caller named an inode, not a path.
fn entry_prefix(path: &[u8]) -> String {
    if path.is_empty() { String::new() } else { format!("entry {}: ", path.escape_ascii()) }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = match &error {
            Error::NoStream { .. } | Error::NoEntry { .. } => io::ErrorKind::NotFound,
            Error::StreamExists { .. } | Error::EntryExists { .. } => io::ErrorKind::AlreadyExists,
            Error::NotInMode { .. } => io::ErrorKind::PermissionDenied,
            Error::AlreadyOpen { .. } | Error::StreamIsNamed { .. } => io::ErrorKind::ResourceBusy,
            Error::UnknownMode { .. }
            | Error::NameLength { .. }
            | Error::InvalidName { .. }
            | Error::DeviceNumber { .. } => io::ErrorKind::InvalidInput,
            Error::KindForbids { .. } => io::ErrorKind::Unsupported,
            Error::Engine(error) => engine_kind(error),
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}

/// Returns the kind of an error of the engine, the same as that of the library `ar7`.
fn engine_kind(error: &ar7_engine::Error) -> io::ErrorKind {
    match error {
        ar7_engine::Error::Io { source, .. } => source.kind(),
        ar7_engine::Error::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
        ar7_engine::Error::Full { .. } => io::ErrorKind::FileTooLarge,
        ar7_engine::Error::OutOfBounds { .. } | ar7_engine::Error::NoSavepoint => {
            io::ErrorKind::InvalidInput
        }
        ar7_engine::Error::NoKeySlot { .. } => io::ErrorKind::NotFound,
        ar7_engine::Error::CommitLost { .. } => io::ErrorKind::InvalidData,
        ar7_engine::Error::Stopped => io::ErrorKind::Interrupted,
        ar7_engine::Error::Poisoned { cause }
        | ar7_engine::Error::KeyChangeUnfinished { cause } => engine_kind(cause),
        _ => match error.class() {
            Class::WrongKey => io::ErrorKind::PermissionDenied,
            Class::Damaged => io::ErrorKind::InvalidData,
            Class::Locked | Class::HeldByReaders => io::ErrorKind::ResourceBusy,
            Class::NewerFormat => io::ErrorKind::Unsupported,
            Class::NoSpace => io::ErrorKind::StorageFull,
            _ => io::ErrorKind::Other,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use ar7_engine::crypto::{RawKey, Secret};
    use ar7_engine::store::{Access, OpenOptions};

    use super::*;
    use crate::{Archive, CreateOptions};

    fn kind_of<T>(outcome: Result<T>) -> ErrorKind {
        io::Error::from(outcome.err().expect("an error")).kind()
    }

    #[test]
    fn an_error_keeps_its_kind_as_an_error_of_the_system() {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("a.ar7");
        let [right, wrong] = [1, 2].map(|byte| Secret::Key(RawKey::from_bytes([byte; 32])));
        let writing = || OpenOptions { access: Access::Write, ..OpenOptions::default() };
        assert_eq!(kind_of(Archive::open(&path, &right, writing())), ErrorKind::NotFound);
        let archive = Archive::create(&path, &right, &CreateOptions::default()).expect("created");
        assert_eq!(kind_of(Archive::open(&path, &right, writing())), ErrorKind::ResourceBusy);
        let stream = archive.new_stream().expect("a stream");
        assert_eq!(kind_of(archive.open_stream(stream.identity())), ErrorKind::ResourceBusy);
        stream.close().expect("saved");
        archive.close().expect("closed");
        assert_eq!(kind_of(Archive::open(&path, &wrong, writing())), ErrorKind::PermissionDenied);
        std::fs::write(&path, vec![0; 100_000]).expect("written");
        assert_eq!(kind_of(Archive::open(&path, &right, writing())), ErrorKind::InvalidData);
    }
}
