//! Errors as those of `std::io`.

use std::io;
use std::sync::Arc;

use ar7_registry::Error as RegistryError;

use super::Error;

impl Error {
    /// Returns the kind that this error has as an [`io::Error`].
    pub fn kind(&self) -> io::ErrorKind {
        match self {
            Error::Io { source, .. } | Error::Input { source, .. } => source.kind(),
            Error::NotFound { .. }
            | Error::NoStream { .. }
            | Error::Removed { .. }
            | Error::RolledBack { .. }
            | Error::NoKeySlot { .. } => io::ErrorKind::NotFound,
            Error::AlreadyExists { .. } | Error::StreamExists { .. } => {
                io::ErrorKind::AlreadyExists
            }
            Error::WrongType { found: "a directory", .. } => io::ErrorKind::IsADirectory,
            Error::WrongType { expected: "a directory", .. } => io::ErrorKind::NotADirectory,
            Error::DirectoryNotEmpty { .. } => io::ErrorKind::DirectoryNotEmpty,
            Error::WrongType { .. }
            | Error::IntoItself { .. }
            | Error::InvalidName { .. }
            | Error::InvalidPattern { .. }
            | Error::UnknownMode { .. }
            | Error::OutOfBounds { .. }
            | Error::NoSavepoint
            | Error::PassphraseEmpty
            | Error::PassphrasesDiffer
            | Error::NoTerminal
            | Error::RootDirectory
            | Error::SameName { .. }
            | Error::TooDeep { .. }
            | Error::NotAReceipt { .. }
            | Error::NotASize { .. }
            | Error::SizeTooLarge { .. }
            | Error::NotATime { .. } => io::ErrorKind::InvalidInput,
            Error::WrongKey { .. } | Error::NoBlockOpens { .. } | Error::NotInMode { .. } => {
                io::ErrorKind::PermissionDenied
            }
            Error::ReadOnly => io::ErrorKind::ReadOnlyFilesystem,
            Error::StreamIsNamed { .. }
            | Error::InTransaction
            | Error::Locked { .. }
            | Error::Busy { .. }
            | Error::HeldByReaders { .. } => io::ErrorKind::ResourceBusy,
            Error::NotAnArchive { .. }
            | Error::Damaged(_)
            | Error::MissingInode { .. }
            | Error::Tampered(_)
            | Error::Truncated { .. }
            | Error::CommitLost { .. }
            | Error::NotAKeyFile { .. }
            | Error::NotInHistory { .. } => io::ErrorKind::InvalidData,
            Error::NoSpace { .. } => io::ErrorKind::StorageFull,
            Error::Full { .. } | Error::FileTooLong { .. } => io::ErrorKind::FileTooLarge,
            Error::KindForbids { .. } | Error::NewerFormat { .. } => io::ErrorKind::Unsupported,
            Error::Stopped => io::ErrorKind::Interrupted,
            Error::Unusable { cause }
            | Error::KeyChangeUnfinished { cause }
            | Error::InAttribute { cause, .. }
            | Error::AttributesLost { cause }
            | Error::InEntry { cause, .. }
            | Error::InFile { cause, .. } => cause.kind(),
            Error::OnlyKey { .. }
            | Error::Command { .. }
            | Error::OtherKeys { .. }
            | Error::RekeyInProgress
            | Error::OtherProcess { .. }
            | Error::NotSynced
            | Error::Other(_) => io::ErrorKind::Other,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        io::Error::new(error.kind(), error)
    }
}

impl From<io::Error> for Error {
    /// Returns the error that was converted to an [`io::Error`]. Any other one becomes
    /// [`Error::Io`].
    fn from(error: io::Error) -> Error {
        let error = match error.downcast::<Error>() {
            Ok(own) => return own,
            Err(other) => other,
        };
        match error.downcast::<RegistryError>() {
            Ok(registry) => registry.into(),
            Err(source) => {
                Error::Io { operation: "read or write", path: None, source: Arc::new(source) }
            }
        }
    }
}
