//! The one error type of the library.

mod class;
mod kind;
mod layers;

use std::error;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ar7_engine::{Fault, Value};
use uuid::Uuid;

use crate::count::Count;
use crate::options::Kind;
use crate::text::PathText;

pub use self::class::ErrorClass;

/// The result of an operation of an archive.
pub type Result<T> = std::result::Result<T, Error>;

/// Any error of an archive.
///
/// Converted to [`io::Error`], it keeps its [`io::ErrorKind`] ([`Error::kind`]), and converted back
/// it is the same error. So a function that copies files and changes names can return either type
/// and use `?` everywhere.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operation of the operating system failed, or the reader or writer that a caller passed.
    #[error("{}{operation}: {source}", prefix(path.as_deref()))]
    Io {
        /// The operation, for example "open", "read", "write" or "sync".
        operation: &'static str,
        /// The file, if known.
        path: Option<PathBuf>,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// Reading input that is not a file failed.
    #[error("{name}: {source}")]
    Input {
        /// What was read, for example "passphrase" or "standard input".
        name: &'static str,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// An entry is unreadable. The entries after it follow.
    #[error("entry {}: {cause}", PathText::new(path))]
    InEntry {
        /// The path of the entry, or of the directory whose names are unreadable.
        path: PathBuf,
        /// Why it is unreadable.
        cause: Arc<Error>,
    },
    /// An extended attribute cannot be read or stored.
    #[error("extended attribute {}: {cause}", PathText::new(name))]
    InAttribute {
        /// The name of the attribute.
        name: PathBuf,
        /// Why not.
        cause: Arc<Error>,
    },
    /// An entry was restored without its extended attributes, because they are unreadable.
    #[error("restored without its extended attributes: {cause}")]
    AttributesLost {
        /// Why they are unreadable.
        cause: Arc<Error>,
    },
    /// A file other than the archive is not what it should be.
    #[error("{}: {cause}", PathText::new(path))]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: Arc<Error>,
    },
    /// A name has no inode, which only an attacker with the key can make.
    #[error("damaged: inode {inode} is missing")]
    MissingInode {
        /// Number of the inode.
        inode: u64,
    },
    /// No entry of the archive has this path.
    #[error("no entry {}", PathText::new(path))]
    NotFound {
        /// The path, up to the first missing component.
        path: PathBuf,
    },
    /// An entry with this path already exists.
    #[error("entry {} already exists", PathText::new(path))]
    AlreadyExists {
        /// The path.
        path: PathBuf,
    },
    /// The entry has the wrong type for the operation.
    #[error("entry {}: expected {expected}, found {found}", PathText::new(path))]
    WrongType {
        /// The path.
        path: PathBuf,
        /// The expected type, with an article.
        expected: &'static str,
        /// The type of the entry, with an article.
        found: &'static str,
    },
    /// The directory has entries, so that it cannot be removed.
    #[error("directory {} is not empty", PathText::new(path))]
    DirectoryNotEmpty {
        /// The path.
        path: PathBuf,
    },
    /// A directory cannot be moved into itself.
    #[error("cannot move {} into itself", PathText::new(path))]
    IntoItself {
        /// The path.
        path: PathBuf,
    },
    /// A component of a path, or the name of an extended attribute, cannot be a name in an archive.
    #[error("invalid name {name:?}: {reason}")]
    InvalidName {
        /// The name.
        name: PathBuf,
        /// Why it cannot be a name.
        reason: &'static str,
    },
    /// The path is that of the root directory, which has no name.
    #[error("expected an entry, found the archive's root directory")]
    RootDirectory,
    /// The pattern for names is malformed.
    #[error("{}: {reason}", PathText::new(pattern))]
    InvalidPattern {
        /// The pattern.
        pattern: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file was removed or replaced while it was open.
    #[error("{name} was removed while it was open")]
    Removed {
        /// The path with which it was opened.
        name: String,
    },
    /// The file was opened after the savepoint to which the transaction returned.
    #[error("{name} was opened after the savepoint to which the transaction returned")]
    RolledBack {
        /// The path with which it was opened.
        name: String,
    },
    /// The mode of the file does not allow the operation.
    #[error("{name} is not open for {operation}")]
    NotInMode {
        /// The path with which it was opened.
        name: String,
        /// The operation: "reading" or "writing".
        operation: &'static str,
    },
    /// The text is not a mode.
    #[error("unknown mode {mode:?}: expected r, w, a or x, optionally with + and b")]
    UnknownMode {
        /// The text.
        mode: String,
    },
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
    /// The stream is the content of a file or symbolic link, and is deleted together with it.
    #[error("stream {stream} is the content of a file or symbolic link")]
    StreamIsNamed {
        /// The identity.
        stream: Uuid,
    },
    /// An archive of this kind does not allow the operation.
    #[error("a {kind} archive does not allow {operation}")]
    KindForbids {
        /// The archive's kind.
        kind: Kind,
        /// The operation.
        operation: &'static str,
    },
    /// The archive was opened for reading.
    #[error("the archive is open for reading only")]
    ReadOnly,
    /// Another transaction of this process is in progress.
    #[error("another transaction is in progress")]
    InTransaction,
    /// The transaction returned to an earlier savepoint, so that this one is gone.
    #[error("the savepoint is gone: the transaction returned to an earlier one")]
    NoSavepoint,
    /// Another writer has the archive open: another process, or another [`crate::Archive`] of this
    /// one. A rekey also excludes readers, and readers a rekey.
    #[error("{}in use by {}", prefix(path.as_deref()), holder_name(*holder))]
    Locked {
        /// The file.
        path: Option<PathBuf>,
        /// Number of the process that writes it, if the system shows it.
        holder: Option<u32>,
    },
    /// A writer kept changing the archive while it was opened for reading, or stopped in the middle
    /// of a change.
    #[error(
        "a writer is changing the archive: nothing consistent found in {waited_ms} ms: {cause}"
    )]
    Busy {
        /// Time for which opening tried, in milliseconds.
        waited_ms: u64,
        /// What the last attempt found.
        cause: Arc<Error>,
    },
    /// Snapshots or readers of older commits keep blocks from being reused, and the limit of what
    /// they may keep is reached. Once they are gone, the change is possible.
    #[error(
        "readers of commit {oldest} hold {} and {}: close them and try again",
        Count(*entries, "changed block"),
        Count(*blocks, "free block")
    )]
    HeldByReaders {
        /// Number of the oldest commit that is read.
        oldest: u64,
        /// Number of changed blocks that must be kept twice.
        entries: u64,
        /// Number of free blocks that cannot be reused.
        blocks: u64,
    },
    /// The commit that the snapshot reads was lost in a failure of the disk, and another one replaced it.
    #[error("commit {number} was lost: another one replaced it")]
    CommitLost {
        /// Number of the commit.
        number: u64,
    },
    /// The key or passphrase opens no key slot.
    #[error("wrong key or passphrase: it opens no key slot ({slots} in use)")]
    WrongKey {
        /// Number of key slots in use.
        slots: usize,
    },
    /// The key opens no block of an archive of the Python module. See the module `archive7`.
    #[error("wrong key: it opens none of the {blocks} blocks")]
    NoBlockOpens {
        /// Number of blocks in the file.
        blocks: u32,
    },
    /// The file does not hold a raw key, because its length differs.
    #[error(
        "{}: not a key file: expected 32 bytes, found {found_bytes}{}",
        PathText::new(path),
        if *at_least { " or more" } else { "" }
    )]
    NotAKeyFile {
        /// The file.
        path: PathBuf,
        /// Whether the file is longer than `found_bytes`.
        at_least: bool,
        /// Length of the file in bytes, as far as it was read.
        found_bytes: usize,
    },
    /// The passphrase is empty.
    #[error("the passphrase is empty")]
    PassphraseEmpty,
    /// The two entries of a new passphrase differ.
    #[error("the two passphrases differ")]
    PassphrasesDiffer,
    /// There is no terminal to ask for a passphrase.
    #[error("no terminal to ask for a passphrase")]
    NoTerminal,
    /// A command that gives content or a passphrase failed.
    #[error("{}: {reason}", PathText::new(command))]
    Command {
        /// The command, or its program.
        command: OsString,
        /// Its exit status, or why it could not be started.
        reason: String,
    },
    /// The key slot is empty or does not exist.
    #[error("key slot {number} holds no key")]
    NoKeySlot {
        /// Number of the key slot.
        number: usize,
    },
    /// The key slot holds the only key of the archive.
    #[error("key slot {number} holds the only key; without it, nothing opens the archive")]
    OnlyKey {
        /// Number of the key slot.
        number: usize,
    },
    /// A rekey would remove the archive's other keys.
    #[error("a rekey would remove the archive's other keys ({count})")]
    OtherKeys {
        /// Number of the other keys.
        count: usize,
    },
    /// A rekey was interrupted. Until it is finished, the archive can only be read.
    #[error("a rekey is in progress: finish it first")]
    RekeyInProgress,
    /// A change of keys failed after its first write. The old key or the new one is valid.
    #[error(
        "the key change did not finish: keep the old key and the new one, either may be valid ({cause})"
    )]
    KeyChangeUnfinished {
        /// The failure.
        cause: Arc<Error>,
    },
    /// The file is not an ar7 archive.
    #[error("not an ar7 archive: {found}")]
    NotAnArchive {
        /// What was found in place of a header.
        found: Value,
    },
    /// The archive uses a version or feature of the format that this library does not know.
    #[error("the archive needs a newer program: {what}: expected {expected}, found {found}")]
    NewerFormat {
        /// The field with the unknown value.
        what: &'static str,
        /// What this library supports.
        expected: Value,
        /// The value.
        found: Value,
    },
    /// Bytes fail a check: the medium has corrupted them.
    #[error("damaged: {0}")]
    Damaged(Box<Fault>),
    /// An authentic block or field is older than expected, or belongs to another place.
    #[error("tampered: {0}")]
    Tampered(Box<Fault>),
    /// The file is shorter than the archive.
    #[error("truncated: expected {expected_bytes} bytes, found {found_bytes}")]
    Truncated {
        /// Length of the committed archive in bytes.
        expected_bytes: u64,
        /// Length of the file in bytes.
        found_bytes: u64,
    },
    /// The file system has no space for more blocks.
    #[error("no space for {}: {source}", Count(*needed_blocks, "more block"))]
    NoSpace {
        /// Number of blocks requested, of 4096 bytes each.
        needed_blocks: u64,
        /// The system's own error.
        source: Arc<io::Error>,
    },
    /// The archive or a counter has reached its limit.
    #[error("the archive is full: {what} is at most {limit}")]
    Full {
        /// The limited quantity.
        what: &'static str,
        /// Its limit.
        limit: u64,
    },
    /// The file is longer than what is read into memory at once. Open it, and read a part at a time.
    #[error(
        "{}: {size_bytes} bytes are too many to read at once, at most {limit_bytes}: open the file instead",
        PathText::new(path)
    )]
    FileTooLong {
        /// The file.
        path: PathBuf,
        /// Length of the file in bytes.
        size_bytes: u64,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// An argument is out of bounds.
    #[error("{what}: expected {expected}, found {found}")]
    OutOfBounds {
        /// Name of the argument.
        what: &'static str,
        /// The allowed values.
        expected: Value,
        /// The argument.
        found: Value,
    },
    /// An earlier write or sync failed, so that every later call fails. Opening the archive again
    /// recovers the last commit.
    #[error("unusable after an earlier failure, reopen the archive: {cause}")]
    Unusable {
        /// The failure.
        cause: Arc<Error>,
    },
    /// A child process uses an archive that its parent opened before the fork.
    #[error("opened by process {opened_by}, used in process {used_by}")]
    OtherProcess {
        /// Number of the process that opened the archive.
        opened_by: u32,
        /// Number of the calling process.
        used_by: u32,
    },
    /// The callback stopped the operation.
    #[error("stopped before completion")]
    Stopped,
    /// The newest commit may not be on stable storage. Opening the archive for writing makes sure
    /// that it is.
    #[error("the newest commit may not be durable yet: open the archive for writing to make sure")]
    NotSynced,
    /// The text is not a size.
    #[error("expected a size such as 4096, 64KiB, 1G or 500MB, found {text:?}")]
    NotASize {
        /// The text.
        text: String,
    },
    /// A size is beyond what 64 bits can count.
    #[error("{text} is too large")]
    SizeTooLarge {
        /// The text.
        text: String,
    },
    /// The text is not a time.
    #[error(
        "expected a time such as 2026-01-31, 2026-01-31T12:00, or an age such as '2 days', found {text:?}"
    )]
    NotATime {
        /// The text.
        text: String,
    },
    /// The text is not a receipt.
    #[error("not a receipt: {reason}")]
    NotAReceipt {
        /// Why it is not a receipt.
        reason: &'static str,
    },
    /// The archive does not contain the commit of the receipt: it is another archive, an older copy
    /// or a copy that was changed separately.
    #[error("{message}")]
    NotInHistory {
        /// What was compared, what was expected, and what was found.
        message: String,
    },
    /// Two paths of the file system would be stored under one name.
    #[error("{}: has the same last component as {}", PathText::new(second), PathText::new(first))]
    SameName {
        /// The path that comes first.
        first: PathBuf,
        /// The other one.
        second: PathBuf,
    },
    /// Directories are nested too deeply.
    #[error("nested deeper than {limit} directories")]
    TooDeep {
        /// The path.
        path: PathBuf,
        /// The maximum depth.
        limit: usize,
    },
    /// Any other error.
    #[error(transparent)]
    Other(Arc<dyn error::Error + Send + Sync>),
}

impl Error {
    /// Returns whether the text of the error names what it is about: an entry, a file, a pattern or a command. Otherwise
    /// it is about the archive, whose path the caller knows.
    pub fn names_its_subject(&self) -> bool {
        match self {
            Error::Io { path, .. } | Error::Locked { path, .. } => path.is_some(),
            Error::InEntry { .. }
            | Error::InFile { .. }
            | Error::Input { .. }
            | Error::NotFound { .. }
            | Error::AlreadyExists { .. }
            | Error::WrongType { .. }
            | Error::DirectoryNotEmpty { .. }
            | Error::IntoItself { .. }
            | Error::FileTooLong { .. }
            | Error::InvalidPattern { .. }
            | Error::NotAKeyFile { .. }
            | Error::NotAReceipt { .. }
            | Error::PassphraseEmpty
            | Error::PassphrasesDiffer
            | Error::NoTerminal
            | Error::RootDirectory
            | Error::Command { .. }
            | Error::SameName { .. } => true,
            _ => false,
        }
    }

    /// Returns the text without what the error is about.
    pub fn reason(&self) -> String {
        match self {
            Error::Io { source, .. } | Error::Input { source, .. } => source.to_string(),
            Error::Command { reason, .. } | Error::InvalidPattern { reason, .. } => reason.clone(),
            Error::InEntry { cause, .. } | Error::InFile { cause, .. } => cause.reason(),
            error => error.to_string(),
        }
    }

    /// Returns the error with the path of an entry, as [`Error::InEntry`]. An error that names what it is about stays as
    /// it is, and so does one that concerns the whole archive.
    #[must_use]
    pub fn in_entry(self, path: impl Into<PathBuf>) -> Error {
        let is_of_archive = matches!(self, Error::Truncated { .. } | Error::Stopped);
        if is_of_archive || self.names_its_subject() {
            return self;
        }
        Error::InEntry { path: path.into(), cause: Arc::new(self) }
    }

    /// Sets the path of an error about the last component of a path.
    pub(crate) fn at(self, full: &Path) -> Error {
        let path = full.to_owned();
        match self {
            Error::NotFound { .. } => Error::NotFound { path },
            Error::AlreadyExists { .. } => Error::AlreadyExists { path },
            Error::WrongType { expected, found, .. } => Error::WrongType { path, expected, found },
            Error::DirectoryNotEmpty { .. } => Error::DirectoryNotEmpty { path },
            Error::IntoItself { .. } => Error::IntoItself { path },
            other => other,
        }
    }
}

fn holder_name(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |process| format!("process {process}"))
}

fn prefix(path: Option<&Path>) -> String {
    path.map_or_else(String::new, |path| format!("{}: ", PathText::new(path)))
}
