//! Errors of the archive as errors of the system.

use ar7_engine::{Class, Error as EngineError};
use ar7_registry::Error;
use fuser::Errno;

/// Returns the error that a program gets.
pub(crate) fn errno(error: &Error) -> Errno {
    match error {
        Error::NoEntry { .. } => Errno::ENOENT,
        // The kernel then looks the path up again.
        Error::NoInode { .. } => Errno::ESTALE,
        Error::EntryExists { .. } => Errno::EEXIST,
        Error::NotEmpty { .. } => Errno::ENOTEMPTY,
        Error::NameLength { .. } => Errno::ENAMETOOLONG,
        Error::WrongEntryType { needed: "a directory", .. } => Errno::ENOTDIR,
        Error::WrongEntryType { found: "a directory", .. } => Errno::EISDIR,
        Error::IntoItself { .. } | Error::InvalidName { .. } | Error::WrongEntryType { .. } => {
            Errno::EINVAL
        }
        Error::AlreadyOpen { .. } => Errno::EBUSY,
        Error::KindForbids { .. } => Errno::EPERM,
        Error::Engine(error) => of_engine(error),
        _ => Errno::EIO,
    }
}

fn of_engine(error: &EngineError) -> Errno {
    match error {
        EngineError::ReadOnly => Errno::EROFS,
        EngineError::Full { what: "names of an inode", .. } => Errno::EMLINK,
        EngineError::Full { what: "length of a stream in bytes", .. } => Errno::EFBIG,
        EngineError::Full { .. } => Errno::ENOSPC,
        EngineError::OutOfBounds { what, .. } if what.contains("symbolic link") => {
            Errno::ENAMETOOLONG
        }
        EngineError::OutOfBounds { what, .. } if what.contains("all extended") => Errno::ENOSPC,
        EngineError::OutOfBounds { what, .. } if what.contains("extended") => Errno::E2BIG,
        EngineError::OutOfBounds { .. } => Errno::EINVAL,
        // After a failed write, the archive fails with its cause: it is no longer the disk that is full.
        EngineError::Poisoned { .. } => Errno::EIO,
        error => match error.class() {
            Class::NoSpace => Errno::ENOSPC,
            Class::HeldByReaders => Errno::EBUSY,
            _ => Errno::EIO,
        },
    }
}

/// Why a change was refused.
#[derive(Debug)]
pub(crate) enum Failure {
    Archive(Error),
    System(Errno),
}

impl Failure {
    pub(crate) fn errno(&self) -> Errno {
        match self {
            Failure::Archive(error) => errno(error),
            Failure::System(error) => *error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Archive(error)
    }
}

impl From<Errno> for Failure {
    fn from(error: Errno) -> Failure {
        Failure::System(error)
    }
}
