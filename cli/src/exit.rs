//! Failures of a command: the line that reports each, and its exit code.

use std::io;
use std::path::{Path, PathBuf};

use ar7::{Error, ErrorClass, PathText, Shortfall};

/// A reason for which a command fails. `Display` gives the line to report, without the program's name and without the
/// path of the archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An error of the library.
    #[error("{}", text(.0))]
    Library(#[from] Error),
    /// The keys were changed, and a later step failed.
    #[error("the keys were changed, but closing the archive failed: {0}")]
    AfterKeyChange(Error),
    /// The options, the input or the answers of the user do not allow the command.
    #[error("{text}")]
    Refused { text: &'static str, code: ErrorClass },
    /// A pattern that must match one entry matches several.
    #[error("{}: matches {count} entries: --offset and --length need one", PathText::new(pattern))]
    SeveralMatches { pattern: PathBuf, count: usize },
    /// The entry or file already exists.
    #[error("{}: already exists; --force replaces it", PathText::new(path))]
    Exists { path: PathBuf },
    /// The user interrupted the command; `done` says what was completed.
    #[error("interrupted: {done}")]
    Interrupted { done: String },
    /// The command ended, and has reported what is wrong with parts of its work, which this counts.
    #[error("{0}")]
    Incomplete(#[from] Shortfall),
    /// A damaged archive was not copied.
    #[error("{0}; `ar7 salvage` copies what is left")]
    NotCopied(Error),
    /// Writing standard output failed.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// Another call of the operating system failed.
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

impl Failure {
    /// Returns the failure for options or answers that do not allow the command.
    pub(crate) fn usage(text: &'static str) -> Failure {
        Failure::Refused { text, code: ErrorClass::Argument }
    }

    /// Fails if the work of a command falls short of something.
    pub(crate) fn check(shortfall: Option<Shortfall>) -> Result<(), Failure> {
        shortfall.map_or(Ok(()), |shortfall| Err(shortfall.into()))
    }

    /// Returns the failure of an operation on a file outside of the archive.
    pub(crate) fn file(path: &Path, operation: &'static str, source: io::Error) -> Failure {
        Error::Io { operation, path: Some(path.to_owned()), source: source.into() }.into()
    }

    /// Returns the failure to read standard input.
    pub(crate) fn input(source: io::Error) -> Failure {
        Error::Input { name: "standard input", source: source.into() }.into()
    }

    /// Returns a function that adds what a command completed before a signal stopped it.
    pub(crate) fn stopped(done: impl FnOnce() -> String) -> impl FnOnce(Error) -> Failure {
        move |error| match error {
            Error::Stopped => Failure::Interrupted { done: done() },
            error => error.into(),
        }
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> ErrorClass {
        match self {
            Failure::Library(error)
            | Failure::AfterKeyChange(error)
            | Failure::NotCopied(error) => error.class(),
            Failure::Output(error) => ErrorClass::of_io(error),
            Failure::SeveralMatches { .. } => ErrorClass::Argument,
            Failure::Exists { .. } | Failure::Interrupted { .. } | Failure::System { .. } => {
                ErrorClass::Other
            }
            Failure::Incomplete(shortfall) => shortfall.class(),
            Failure::Refused { code, .. } => *code,
        }
    }

    /// Returns whether the failure is about the archive as a whole, whose path is then printed before it.
    pub(crate) fn is_of_archive(&self) -> bool {
        match self {
            Failure::Library(error) => !error.names_its_subject(),
            Failure::AfterKeyChange(_)
            | Failure::Interrupted { .. }
            | Failure::Incomplete(_)
            | Failure::NotCopied(_) => true,
            _ => false,
        }
    }
}

/// Formats an error of the library, with what the user can do.
fn text(error: &Error) -> String {
    match error {
        Error::RekeyInProgress => "a rekey is in progress: run `ar7 rekey` to finish it".to_owned(),
        Error::NoTerminal => {
            "no key: use --key-file, --passphrase-file or --passphrase-command, AR7_KEY_FILE or AR7_PASSPHRASE, or run in a \
             terminal"
                .to_owned()
        }
        Error::SameName { .. } => {
            format!("{error}; store them separately, with different --into")
        }
        error => error.to_string(),
    }
}
