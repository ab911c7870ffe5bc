//! What can go wrong in a project command.

use std::io;
use std::path::{Path, PathBuf};

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// A failure, with what a person needs to go on from it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{operation} {}: {source}", path.display())]
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot start `{command}`: {source}")]
    Start { command: String, source: io::Error },
    #[error("step '{step}' failed: `{command}` ended with {status}")]
    Step { step: &'static str, command: String, status: String },
    #[error("`{command}` ended with {status}, expected exit code {expected}\n{errors}")]
    Status { command: String, status: String, expected: i32, errors: String },
    #[error("tidy: {count} violation(s)")]
    Untidy { count: usize },
    #[error("docs/FORMAT.md: {0}")]
    Tables(String),
    #[error("{what}: {found}")]
    Output { what: &'static str, found: String },
    #[error("{0}")]
    Fault(String),
}

impl Error {
    /// Names the operation and the file of an I/O error.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { operation, path, source }
    }
}
