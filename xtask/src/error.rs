//! Errors of the project's commands.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The result of a project command.
pub type Result<T> = std::result::Result<T, Error>;

/// An error, with the information that is needed to act on it.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields are named like the text that prints them")]
pub enum Error {
    /// An operation on a file failed.
    Io { operation: &'static str, path: PathBuf, source: io::Error },
    /// A program did not start.
    Start { command: String, source: io::Error },
    /// A step of a command failed.
    Step { step: &'static str, command: String, status: String },
    /// A program ended with an unexpected exit code.
    Status { command: String, status: String, expected: i32, errors: String },
    /// The tree breaks style rules.
    Untidy { count: usize },
    /// The tables of docs/FORMAT.md differ from the declared layouts.
    Tables(String),
    /// A program or a file contains something unexpected.
    Output { what: &'static str, found: String },
    /// A campaign found a fault.
    Fault(String),
}

impl Error {
    /// Returns a constructor for an I/O error of an operation on a file.
    pub fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_owned();
        move |source| Error::Io { operation, path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { operation, path, source } => {
                write!(formatter, "{operation} {}: {source}", path.display())
            }
            Error::Start { command, source } => {
                write!(formatter, "cannot start `{command}`: {source}")
            }
            Error::Step { step, command, status } => {
                write!(formatter, "step '{step}' failed: `{command}` ended with {status}")
            }
            Error::Status { command, status, expected, errors } => {
                write!(
                    formatter,
                    "`{command}`: expected exit code {expected}, found {status}\n{errors}"
                )
            }
            Error::Untidy { count } => write!(formatter, "tidy: {count} violation(s)"),
            Error::Tables(found) => write!(formatter, "docs/FORMAT.md: {found}"),
            Error::Output { what, found } => write!(formatter, "{what}: {found}"),
            Error::Fault(found) => formatter.write_str(found),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } | Error::Start { source, .. } => Some(source),
            _ => None,
        }
    }
}
