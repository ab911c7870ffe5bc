//! The errors of the layers below, as errors of the library.

use std::sync::Arc;

use ar7_engine::Error as EngineError;
use ar7_registry::Error as RegistryError;

use super::Error;
use crate::path::to_path;

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Error {
        match error {
            EngineError::Io { operation, path, source } => Error::Io { operation, path, source },
            EngineError::NotAnArchive { found } => Error::NotAnArchive { found },
            EngineError::NewerFormat { what, found, supported } => {
                Error::NewerFormat { what, expected: supported, found }
            }
            EngineError::WrongKey { slots } => Error::WrongKey { slots },
            EngineError::Damaged(fault) => Error::Damaged(fault),
            EngineError::Tampered(fault) => Error::Tampered(fault),
            EngineError::Truncated { expected_bytes, found_bytes } => {
                Error::Truncated { expected_bytes, found_bytes }
            }
            EngineError::NoSpace { needed_blocks, source } => {
                Error::NoSpace { needed_blocks, source }
            }
            EngineError::Full { what, limit } => Error::Full { what, limit },
            EngineError::Locked { path, holder } => Error::Locked { path, holder },
            EngineError::Busy { waited_ms, cause } => {
                Error::Busy { waited_ms, cause: from_cause(&cause) }
            }
            EngineError::HeldByReaders { oldest, entries, blocks } => {
                Error::HeldByReaders { oldest, entries, blocks }
            }
            EngineError::CommitLost { number } => Error::CommitLost { number },
            EngineError::ReadOnly => Error::ReadOnly,
            EngineError::Uncommitted => Error::InTransaction,
            EngineError::NoSavepoint => Error::NoSavepoint,
            EngineError::Stopped => Error::Stopped,
            EngineError::RekeyInProgress => Error::RekeyInProgress,
            EngineError::NoKeySlot { number } => Error::NoKeySlot { number },
            EngineError::LastKeySlot { number } => Error::OnlyKey { number },
            EngineError::OtherKeys { count } => Error::OtherKeys { count },
            EngineError::OtherProcess { opened_by, used_by } => {
                Error::OtherProcess { opened_by, used_by }
            }
            EngineError::OutOfBounds { what, found, allowed } => {
                Error::OutOfBounds { what, expected: allowed, found }
            }
            EngineError::Poisoned { cause } => Error::Unusable { cause: from_cause(&cause) },
            EngineError::KeyChangeUnfinished { cause } => {
                Error::KeyChangeUnfinished { cause: from_cause(&cause) }
            }
            other => Error::Other(Arc::new(other)),
        }
    }
}

fn from_cause(cause: &EngineError) -> Arc<Error> {
    Arc::new(Error::from(cause.clone()))
}

impl From<RegistryError> for Error {
    fn from(error: RegistryError) -> Error {
        match error {
            RegistryError::Engine(error) => Error::from(error),
            RegistryError::NoEntry { path } => Error::NotFound { path: to_path(path) },
            RegistryError::EntryExists { path } => Error::AlreadyExists { path: to_path(path) },
            RegistryError::WrongEntryType { path, found, needed } => {
                Error::WrongType { path: to_path(path), expected: needed, found }
            }
            RegistryError::NotEmpty { path } => Error::DirectoryNotEmpty { path: to_path(path) },
            RegistryError::IntoItself { path } => Error::IntoItself { path: to_path(path) },
            RegistryError::InvalidName { name, reason } => {
                Error::InvalidName { name: to_path(name), reason }
            }
            RegistryError::NameLength { name } => {
                Error::InvalidName { name: to_path(name), reason: "expected 1 to 255 bytes" }
            }
            RegistryError::NoStream { stream } => Error::NoStream { stream },
            RegistryError::StreamExists { stream } => Error::StreamExists { stream },
            RegistryError::StreamIsNamed { stream, .. } => Error::StreamIsNamed { stream },
            RegistryError::NotInMode { name, operation } => Error::NotInMode { name, operation },
            RegistryError::UnknownMode { mode } => Error::UnknownMode { mode },
            RegistryError::KindForbids { kind, operation } => {
                Error::KindForbids { kind: kind.into(), operation }
            }
            RegistryError::NotSynced => Error::NotSynced,
            RegistryError::NotAReceipt { reason } => Error::NotAReceipt { reason },
            RegistryError::ReceiptOfAnother { .. }
            | RegistryError::OlderThanReceipt { .. }
            | RegistryError::ForkOfReceipt { .. } => {
                Error::NotInHistory { message: error.to_string() }
            }
            other => Error::Other(Arc::new(other)),
        }
    }
}
