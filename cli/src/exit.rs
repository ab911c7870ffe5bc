//! Failures of a command: the line that reports each, and its exit code.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::shown::Shown;
use crate::stderr;

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
    pub(crate) fn of_library(error: &ar7::Error) -> Code {
        use ar7::Error;
        match error {
            Error::InvalidName { .. }
            | Error::InvalidPattern { .. }
            | Error::NoKeySlot { .. }
            | Error::NotAReceipt { .. }
            | Error::OnlyKey { .. }
            | Error::OtherKeys { .. }
            | Error::OutOfBounds { .. }
            | Error::UnknownMode { .. } => Code::Usage,
            Error::NotAKeyFile { .. } | Error::WrongKey { .. } => Code::WrongKey,
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
            Error::InEntry { cause, .. }
            | Error::InAttribute { cause, .. }
            | Error::KeyChangeUnfinished { cause }
            | Error::Unusable { cause } => Code::of_library(cause),
            _ => Code::Other,
        }
    }

    fn of_io(error: &io::Error) -> Code {
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Code::NoSpace,
            _ => Code::Other,
        }
    }
}

/// A reason for which a command fails. `Display` gives the line to report, without the program's name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// An error of the library about a whole archive.
    #[error("{}: {}", Shown::path(archive), library_text(archive, error))]
    Library { archive: PathBuf, error: ar7::Error },
    /// The keys were changed, and a later step failed.
    #[error(
        "{}: the keys were changed, but closing the archive failed: {}",
        Shown::path(archive),
        library_text(archive, error)
    )]
    AfterKeyChange { archive: PathBuf, error: ar7::Error },
    /// An error of the library about one entry.
    #[error("{}", path_text(path, error))]
    Path { path: PathBuf, error: ar7::Error },
    /// A command that gives content or a passphrase failed.
    #[error("{}: {reason}", Shown(command.as_bytes()))]
    Command { command: OsString, reason: String },
    /// Standard input is closed, so that there is no content.
    #[error("standard input is closed: use < /dev/null to store an empty entry")]
    ClosedInput,
    /// The command prints no document.
    #[error("this command prints no document: omit --json")]
    NoJson,
    /// A pattern that must match one entry matches several.
    #[error("{}: matches {count} entries: --offset and --length need one", Shown::path(pattern))]
    SeveralMatches { pattern: PathBuf, count: usize },
    /// Entries were restored without some of their attributes.
    #[error(
        "{}: warning: {aspect} not restored: {}; {entries} entries lack them",
        Shown::path(path),
        one_line(reason)
    )]
    Incomplete { path: PathBuf, aspect: ar7::fs::Aspect, reason: String, entries: u64 },
    /// A pattern matches nothing.
    #[error("{}: warning: matches nothing", Shown(pattern.as_bytes()))]
    Unmatched { pattern: OsString },
    /// The directory differs from what is stored; each difference was printed.
    #[error("{}: {count} differences", Shown::path(archive))]
    Differs { archive: PathBuf, count: u64 },
    /// Some entries could not be compared; each was reported.
    #[error("{}: {count} entries could not be compared", Shown::path(archive))]
    NotCompared { archive: PathBuf, count: u64, code: Code },
    /// The command does not support entries of this type.
    #[error("entry {}: expected {needed}, found {found}", Shown(path))]
    EntryType { path: Vec<u8>, found: &'static str, needed: &'static str },
    /// The path is the archive's root directory, which the command does not support.
    #[error("expected an entry, found the archive's root directory")]
    NamesRoot,
    /// An operation on a file or directory outside of the archive failed.
    #[error("{}: {operation}: {source}", Shown::path(path))]
    File { path: PathBuf, operation: &'static str, source: io::Error },
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
    /// The passphrase for a new key is empty.
    #[error("the passphrase is empty")]
    PassphraseEmpty,
    /// The user did not confirm.
    #[error("not confirmed: answer yes in a terminal, or use --yes")]
    NotConfirmed,
    /// The receipt is malformed.
    #[error("receipt: {}", one_line(&.0.to_string()))]
    Receipt(ar7::Error),
    /// A pattern is malformed.
    #[error("{}: {reason}", Shown(pattern.as_bytes()))]
    Pattern { pattern: String, reason: String },
    /// Two paths would be stored or restored under the same name.
    #[error(
        "{}: has the same last component as {}; {advice}",
        Shown::path(second),
        Shown::path(first)
    )]
    SameName { first: PathBuf, second: PathBuf, advice: &'static str },
    /// The argument does not identify a stream.
    #[error("{}: expected a UUID or a number from 0 to 7", Shown(text.as_bytes()))]
    NotAStream { text: String },
    /// The entry or file already exists.
    #[error("{}: already exists; --force replaces it", Shown::path(path))]
    Exists { path: PathBuf },
    /// The user interrupted the command; `done` says what was completed.
    #[error("{}: interrupted: {done}", Shown::path(archive))]
    Interrupted { archive: PathBuf, done: String },
    /// Some inputs could not be read, or changed while they were read; each was reported.
    #[error("{}: {}", Shown::path(archive), unread_text(*count, *changed))]
    Unread { archive: PathBuf, count: u64, changed: u64 },
    /// A file kept changing while it was read.
    #[error("{}: changed while it was read; stored as it was read", Shown::path(path))]
    ChangedWhileRead { path: PathBuf },
    /// A path on the command line is a symbolic link to a directory.
    #[error(
        "{0}: warning: stored as a symbolic link; {0}/. stores the directory that it leads to",
        Shown::path(path)
    )]
    StoredLink { path: PathBuf },
    /// Some entries could not be restored; each was reported.
    #[error("{}: {count} entries could not be restored", Shown::path(archive))]
    NotRestored { archive: PathBuf, count: u64, code: Code },
    /// Some entries or index pages could not be salvaged; each entry was reported.
    #[error("{}: {count} entries and streams are not as they were", Shown::path(archive))]
    NotSalvaged { archive: PathBuf, count: u64 },
    /// Verification found problems; each was reported.
    #[error("{}: damaged: {count} findings", Shown::path(archive))]
    Findings { archive: PathBuf, count: u64 },
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
    /// Returns a failure of `operation` on a file outside of the archive.
    pub(crate) fn file(
        path: impl Into<PathBuf>,
        operation: &'static str,
        source: impl Into<io::Error>,
    ) -> Failure {
        Failure::File { path: path.into(), operation, source: source.into() }
    }

    /// Returns the failure about a path, as the library reports it.
    pub(crate) fn of_path(path: &Path, error: &ar7::Error) -> Failure {
        match error {
            ar7::Error::AlreadyExists { path } => Failure::Exists { path: path.clone() },
            ar7::Error::Io { operation, path: Some(path), source } => {
                let source = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Failure::File { path: path.clone(), operation, source }
            }
            _ => Failure::Path { path: path.to_owned(), error: error.clone() },
        }
    }

    /// Returns whether the reader of standard output closed the pipe, which is not an error.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Returns the exit code.
    pub(crate) fn code(&self) -> Code {
        match self {
            Failure::Library { error, .. }
            | Failure::AfterKeyChange { error, .. }
            | Failure::Path { error, .. }
            | Failure::Receipt(error) => Code::of_library(error),
            Failure::File { source: error, .. }
            | Failure::Input(error)
            | Failure::Output(error) => Code::of_io(error),
            Failure::Findings { .. } | Failure::NotSalvaged { .. } => Code::Damaged,
            Failure::NamesRoot
            | Failure::NoKey
            | Failure::NoJson
            | Failure::SeveralMatches { .. }
            | Failure::PassphrasesDiffer
            | Failure::PassphraseEmpty
            | Failure::NotConfirmed
            | Failure::Pattern { .. }
            | Failure::SameName { .. }
            | Failure::NotAStream { .. } => Code::Usage,
            Failure::Incomplete { .. }
            | Failure::Unmatched { .. }
            | Failure::StoredLink { .. }
            | Failure::Differs { .. }
            | Failure::EntryType { .. }
            | Failure::Command { .. }
            | Failure::ClosedInput
            | Failure::Prompt(_)
            | Failure::Exists { .. }
            | Failure::Interrupted { .. }
            | Failure::Signals(_) => Code::Other,
            Failure::Unread { .. } | Failure::ChangedWhileRead { .. } => Code::Unread,
            Failure::NotRestored { code, .. } | Failure::NotCompared { code, .. } => *code,
        }
    }
}

/// Formats an error of the library. The caller prints the path, so an I/O or lock error leaves it out.
fn library_text(archive: &PathBuf, error: &ar7::Error) -> String {
    match error {
        ar7::Error::Io { operation, path, source }
            if path.as_ref().is_none_or(|path| path == archive) =>
        {
            one_line(&format!("{operation}: {source}"))
        }
        ar7::Error::Locked { holder, .. } => {
            ar7::Error::Locked { path: None, holder: *holder }.to_string()
        }
        ar7::Error::RekeyInProgress => {
            "a rekey is in progress: run `ar7 rekey` to finish it".to_owned()
        }
        other => one_line(&other.to_string()),
    }
}

/// Formats an error of the library about an entry. Some errors contain a path, which may be another one.
fn path_text(entry: &Path, error: &ar7::Error) -> String {
    use ar7::Error;
    match error {
        Error::NotFound { path } => format!("no entry {}", Shown::path(path)),
        Error::AlreadyExists { path } => format!("entry {} already exists", Shown::path(path)),
        Error::WrongType { path, expected, found } => {
            format!("entry {}: expected {expected}, found {found}", Shown::path(path))
        }
        Error::DirectoryNotEmpty { path } => {
            format!("directory {} is not empty", Shown::path(path))
        }
        Error::IntoItself { path } => format!("cannot move {} into itself", Shown::path(path)),
        Error::InEntry { path, cause } => path_text(path, cause),
        other => format!("entry {}: {}", Shown::path(entry), one_line(&other.to_string())),
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

/// Escapes line breaks and other unprintable characters.
fn one_line(text: &str) -> String {
    Shown(text.as_bytes()).to_string()
}

/// Returns the reason of an error about a path that is given elsewhere.
pub(crate) fn reason_of(error: &ar7::Error) -> String {
    match error {
        ar7::Error::Io { source, .. } => source.to_string(),
        error => error.to_string(),
    }
}

/// Prints the failure and returns the exit code.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    if failure.is_broken_pipe() {
        return ExitCode::SUCCESS;
    }
    stderr::failure(failure);
    ExitCode::from(failure.code().number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_another_file_than_the_archive() {
        let text = |path: Option<&str>| {
            let source = io::Error::from(io::ErrorKind::PermissionDenied).into();
            let error = ar7::Error::Io { operation: "open", path: path.map(PathBuf::from), source };
            Failure::Library { archive: "a.ar7".into(), error }.to_string()
        };
        assert_eq!(text(None), "a.ar7: open: permission denied");
        assert_eq!(text(Some("a.ar7")), "a.ar7: open: permission denied");
        assert!(text(Some("other")).contains("other"), "{}", text(Some("other")));
    }
}
