//! Failures of a command: the line that reports each, and its exit code.

use std::io;
use std::path::{Path, PathBuf};

use ar7::{Error, PathText};

/// Exit codes other than 0, which is success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Any other failure.
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// No key slot opens with the key.
    WrongKey = 3,
    /// The archive is damaged or was tampered with.
    Damaged = 4,
    /// Another process has the archive open.
    Locked = 5,
    /// The archive's format is newer than this program.
    NewerFormat = 6,
    /// No space is left on the device.
    NoSpace = 7,
    /// Done, but some inputs could not be read.
    Unread = 8,
    /// Readers of older commits hold back too many blocks.
    HeldByReaders = 9,
}

impl Code {
    /// Returns the exit status of the process.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the exit code for an error of the library.
    pub(crate) fn of(error: &Error) -> Code {
        match error {
            Error::InvalidName { .. }
            | Error::InvalidPattern { .. }
            | Error::NoKeySlot { .. }
            | Error::NotAReceipt { .. }
            | Error::OnlyKey { .. }
            | Error::OtherKeys { .. }
            | Error::OutOfBounds { .. }
            | Error::PassphraseEmpty
            | Error::SameName { .. }
            | Error::UnknownMode { .. } => Code::Usage,
            Error::NoBlockOpens { .. } | Error::NotAKeyFile { .. } | Error::WrongKey { .. } => {
                Code::WrongKey
            }
            Error::Damaged(_)
            | Error::MissingInode { .. }
            | Error::NotAnArchive { .. }
            | Error::NotInHistory { .. }
            | Error::Tampered(_)
            | Error::Truncated { .. } => Code::Damaged,
            Error::Busy { .. } | Error::Locked { .. } => Code::Locked,
            Error::NewerFormat { .. } => Code::NewerFormat,
            Error::NoSpace { .. } => Code::NoSpace,
            Error::HeldByReaders { .. } => Code::HeldByReaders,
            Error::Io { source, .. } => Code::of_io(source),
            Error::InAttribute { cause, .. }
            | Error::InEntry { cause, .. }
            | Error::InFile { cause, .. }
            | Error::KeyChangeUnfinished { cause }
            | Error::Unusable { cause } => Code::of(cause),
            _ => Code::Other,
        }
    }

    fn of_io(error: &io::Error) -> Code {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
            _ => Code::Other,
        }
    }

    /// Returns the code after one more failure of an entry: damage outweighs everything else, and otherwise the first
    /// one counts.
    pub(crate) fn worst(first: Option<Code>, next: &Error) -> Code {
        let next = Code::of(next);
        first.filter(|_| next != Code::Damaged).unwrap_or(next)
    }
}

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
    /// The receipt is malformed.
    #[error("receipt: {0}")]
    Receipt(Error),
    /// Standard input is closed, so that there is no content.
    #[error("standard input is closed: use < /dev/null to store an empty entry")]
    ClosedInput,
    /// The command prints no document.
    #[error("this command prints no document: omit --json")]
    NoJson,
    /// A pattern that must match one entry matches several.
    #[error("{}: matches {count} entries: --offset and --length need one", PathText::new(pattern))]
    SeveralMatches { pattern: PathBuf, count: usize },
    /// The path is the archive's root directory, which the command does not support.
    #[error("expected an entry, found the archive's root directory")]
    NamesRoot,
    /// No key was given, and there is no terminal to prompt on.
    #[error(
        "no key: use --key-file, --passphrase-file or --passphrase-command, AR7_KEY_FILE or AR7_PASSPHRASE, or run in a terminal"
    )]
    NoKey,
    /// The passphrase could not be read.
    #[error("passphrase: {0}")]
    Prompt(io::Error),
    /// The repeated passphrase differs from the first.
    #[error("the two passphrases differ")]
    PassphrasesDiffer,
    /// The user did not confirm.
    #[error("not confirmed: answer yes in a terminal, or use --yes")]
    NotConfirmed,
    /// The argument does not identify a stream.
    #[error("{}: expected a UUID or a number from 0 to 7", PathText::new(text))]
    NotAStream { text: String },
    /// The entry or file already exists.
    #[error("{}: already exists; --force replaces it", PathText::new(path))]
    Exists { path: PathBuf },
    /// The user interrupted the command; `done` says what was completed.
    #[error("interrupted: {done}")]
    Interrupted { done: String },
    /// Some inputs could not be read, or changed while they were read; each was reported.
    #[error("{}", unread_text(*.count, *.changed))]
    Unread { count: u64, changed: u64 },
    /// Some entries failed, or differ; each was reported.
    #[error("{count} {what}")]
    Entries { count: u64, what: &'static str, code: Code },
    /// The last writer of an old archive did not close it.
    #[error("imported, but its last writer did not close the old archive: changes may be missing")]
    NotClosed,
    /// Verification or a list found damage, each place of which was reported.
    #[error("damaged: {count} findings")]
    Findings { count: u64 },
    /// Reading standard input failed.
    #[error("standard input: {0}")]
    Input(io::Error),
    /// Writing standard output failed.
    #[error("standard output: {0}")]
    Output(io::Error),
    /// The signal handlers could not be installed.
    #[error("signals: {0}")]
    Signals(io::Error),
}

impl Failure {
    /// Returns the failure of an operation on a file outside of the archive.
    pub(crate) fn file(path: &Path, operation: &'static str, source: io::Error) -> Failure {
        Error::Io { operation, path: Some(path.to_owned()), source: source.into() }.into()
    }

    /// Returns a function that adds what a command completed before a signal stopped it.
    pub(crate) fn stopped(done: impl FnOnce() -> String) -> impl FnOnce(Error) -> Failure {
        move |error| match error {
            Error::Stopped => Failure::Interrupted { done: done() },
            error => error.into(),
        }
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Failure::Library(error) | Failure::AfterKeyChange(error) | Failure::Receipt(error) => {
                Code::of(error)
            }
            Failure::Input(error) | Failure::Output(error) => Code::of_io(error),
            Failure::NamesRoot
            | Failure::NoKey
            | Failure::NoJson
            | Failure::SeveralMatches { .. }
            | Failure::PassphrasesDiffer
            | Failure::NotConfirmed
            | Failure::NotAStream { .. } => Code::Usage,
            Failure::ClosedInput
            | Failure::Prompt(_)
            | Failure::Exists { .. }
            | Failure::Interrupted { .. }
            | Failure::Signals(_) => Code::Other,
            Failure::Unread { .. } => Code::Unread,
            Failure::Entries { code, .. } => *code,
            Failure::Findings { .. } | Failure::NotClosed => Code::Damaged,
        }
    }

    /// Returns whether the failure is about the archive as a whole, whose path is then printed before it.
    pub(crate) fn is_of_archive(&self) -> bool {
        match self {
            Failure::Library(error) => !error.names_its_subject(),
            Failure::AfterKeyChange(_)
            | Failure::Interrupted { .. }
            | Failure::Unread { .. }
            | Failure::Entries { .. }
            | Failure::NotClosed
            | Failure::Findings { .. } => true,
            _ => false,
        }
    }
}

/// Formats an error of the library, with what the user can do.
fn text(error: &Error) -> String {
    match error {
        Error::RekeyInProgress => "a rekey is in progress: run `ar7 rekey` to finish it".to_owned(),
        Error::SameName { .. } => {
            format!("{error}; store them separately, with different --into")
        }
        error => error.to_string(),
    }
}

/// Says how many inputs were not stored as they are.
fn unread_text(count: u64, changed: u64) -> String {
    let unread = format!("{count} inputs could not be read");
    let changed_text = format!("{changed} changed while they were read");
    match (count, changed) {
        (_, 0) => unread,
        (0, _) => changed_text,
        _ => format!("{unread}, {changed_text}"),
    }
}
