//! What can go wrong, the line that says so, and the exit code: one table.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use ar7_engine::Class;
use ar7_registry::Error as ArchiveError;

use crate::names::Shown;
use crate::stderr;

/// Exit codes. 0 is success, and clap itself ends with 2 for flags it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Any other failure.
    Other = 1,
    /// The command line cannot be meant.
    Usage = 2,
    /// No key slot opens with the key.
    WrongKey = 3,
    /// The archive is damaged or was tampered with.
    Damaged = 4,
    /// Another process has the archive open.
    Locked = 5,
    /// The archive needs a newer program.
    NewerFormat = 6,
    /// No space.
    NoSpace = 7,
    /// Done, but some inputs could not be read.
    Unread = 8,
}

impl Code {
    /// The number that the process ends with.
    pub(crate) const fn number(self) -> u8 {
        self as u8
    }

    fn of_class(class: Class) -> Code {
        match class {
            Class::Usage => Code::Usage,
            Class::WrongKey => Code::WrongKey,
            Class::Damaged => Code::Damaged,
            Class::Locked => Code::Locked,
            Class::NewerFormat => Code::NewerFormat,
            Class::NoSpace => Code::NoSpace,
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

/// Everything that a command can fail with.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The archive's own error.
    Archive { archive: PathBuf, error: ArchiveError },
    /// An error about one entry of an archive.
    Entry { path: Vec<u8>, error: ArchiveError },
    /// The inode of an entry says another length than its stream.
    EntryLength { path: Vec<u8>, inode_bytes: u64, stream_bytes: u64 },
    /// A name leads to an inode that is not there.
    EntryWithoutInode { path: Vec<u8>, inode: u64 },
    /// A directory that is reached a second time: the tree is none.
    EntryTwice { path: Vec<u8> },
    /// Directories in directories beyond the limit.
    TooDeep { path: Vec<u8>, limit: usize },
    /// An entry that a command does not do.
    EntryType { path: Vec<u8>, found: &'static str, needed: &'static str },
    /// The path of a command names the archive's root directory.
    NamesRoot,
    /// A file or directory outside of the archive.
    File { path: PathBuf, operation: &'static str, source: io::Error },
    /// The key file is not 32 bytes long.
    KeyLength { path: PathBuf, at_least: bool, found_bytes: usize },
    /// No key was given, and there is no terminal to ask at.
    NoKey,
    /// The passphrase could not be read.
    Prompt(io::Error),
    /// The second passphrase was another one.
    PassphrasesDiffer,
    /// A passphrase of no bytes for a new archive.
    PassphraseEmpty,
    /// Nobody said yes.
    NotConfirmed,
    /// A receipt that is none.
    Receipt(ArchiveError),
    /// A pattern that is none.
    Pattern { pattern: String, reason: String },
    /// Two paths would be stored, or restored, under one name.
    SameName { first: PathBuf, second: PathBuf },
    /// A path cannot stand for a stream.
    NotAStream { text: String },
    /// Something is there already.
    Exists { path: PathBuf },
    /// Ended by the user, and what is done.
    Interrupted { archive: PathBuf, done: String },
    /// Done, but some inputs could not be read; each was named.
    Unread { archive: PathBuf, count: u64 },
    /// Entries that could not be restored; each was named.
    NotRestored { archive: PathBuf, count: u64, code: Code },
    /// Verification found something; each finding was named.
    Findings { archive: PathBuf, count: u64 },
    /// Standard input failed.
    Input(io::Error),
    /// Standard output failed.
    Output(io::Error),
    /// Signals cannot be caught.
    Signals(io::Error),
    /// No thread can be started.
    Threads(io::Error),
}

impl Failure {
    /// An error about a file outside of the archive.
    pub(crate) fn file(
        path: impl Into<PathBuf>,
        operation: &'static str,
        source: impl Into<io::Error>,
    ) -> Failure {
        Failure::File { path: path.into(), operation, source: source.into() }
    }

    /// Whether the failure is that nobody reads standard output any more, which is no error of anybody's.
    fn is_broken_pipe(&self) -> bool {
        matches!(self, Failure::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Whether going on with the next entry is of no use.
    pub(crate) fn is_fatal(&self) -> bool {
        self.code() == Code::NoSpace
            || matches!(self, Failure::Interrupted { .. } | Failure::Archive { .. })
    }

    /// The exit code.
    pub(crate) fn code(&self) -> Code {
        self.describe().0
    }

    /// The line on standard error, without the program's name.
    pub(crate) fn text(&self) -> String {
        self.describe().1
    }

    /// The table: every failure's exit code and text.
    fn describe(&self) -> (Code, String) {
        let at = |path: &PathBuf| Shown::path(path).to_string();
        match self {
            Failure::Archive { archive, error } => (
                Code::of_class(error.class()),
                format!("{}: {}", at(archive), archive_text(archive, error)),
            ),
            Failure::File { path, operation, source } => {
                (Code::of_io(source), format!("{}: {operation}: {source}", at(path)))
            }
            Failure::KeyLength { path, at_least, found_bytes } => {
                let more = if *at_least { " or more" } else { "" };
                let text = format!("not a key file: 32 bytes expected, {found_bytes}{more} found");
                (Code::WrongKey, format!("{}: {text}", at(path)))
            }
            Failure::Pattern { pattern, reason } => {
                (Code::Usage, format!("{}: {reason}", Shown(pattern.as_bytes())))
            }
            Failure::SameName { first, second } => {
                (Code::Usage, format!("{}: the same name as {}; use --into", at(second), at(first)))
            }
            Failure::NotAStream { text } => {
                (Code::Usage, format!("{}: neither a UUID nor 0 to 7", Shown(text.as_bytes())))
            }
            Failure::Exists { path } => {
                (Code::Other, format!("{}: exists; --force replaces it", at(path)))
            }
            Failure::Interrupted { archive, done } => {
                (Code::Other, format!("{}: interrupted: {done}", at(archive)))
            }
            Failure::Unread { archive, count } => {
                (Code::Unread, format!("{}: {count} inputs could not be read", at(archive)))
            }
            Failure::NotRestored { archive, count, code } => {
                (*code, format!("{}: {count} entries could not be restored", at(archive)))
            }
            Failure::Findings { archive, count } => {
                (Code::Damaged, format!("{}: damaged: {count} findings", at(archive)))
            }
            other => other.describe_rest(),
        }
    }

    /// The table's second half: failures that name an entry, or nothing.
    fn describe_rest(&self) -> (Code, String) {
        let plain = |code: Code, text: &str| (code, text.to_owned());
        let entry = |code: Code, path: &[u8], text: String| {
            (code, format!("entry {}: {text}", Shown(path)))
        };
        match self {
            Failure::Entry { path, error } => {
                let (code, text) = (Code::of_class(error.class()), one_line(&error.to_string()));
                if names_entry(error, path) { (code, text) } else { entry(code, path, text) }
            }
            Failure::EntryLength { path, inode_bytes, stream_bytes } => {
                let text = format!("damaged: {inode_bytes} bytes expected, {stream_bytes} found");
                entry(Code::Damaged, path, text)
            }
            Failure::EntryWithoutInode { path, inode } => {
                entry(Code::Damaged, path, format!("damaged: there is no inode {inode}"))
            }
            Failure::EntryTwice { path } => {
                let text = "damaged: a directory that is in several directories".to_owned();
                entry(Code::Damaged, path, text)
            }
            Failure::TooDeep { path, limit } => {
                entry(Code::Other, path, format!("deeper than {limit} directories"))
            }
            Failure::EntryType { path, found, needed } => {
                entry(Code::Other, path, format!("is {found}, needed is {needed}"))
            }
            Failure::NamesRoot => plain(Code::Usage, "the archive's root has no name"),
            Failure::Receipt(error) => (
                Code::of_class(error.class()),
                format!("receipt: {}", one_line(&error.to_string())),
            ),
            Failure::NotConfirmed => {
                plain(Code::Usage, "not confirmed: answer yes at a terminal, or give --yes")
            }
            Failure::NoKey => plain(
                Code::Usage,
                "no key: give --key-file, AR7_KEY_FILE or AR7_PASSPHRASE, or use a terminal",
            ),
            Failure::Prompt(error) => (Code::Other, format!("passphrase: {error}")),
            Failure::PassphrasesDiffer => plain(Code::Usage, "the two passphrases differ"),
            Failure::PassphraseEmpty => plain(Code::Usage, "the passphrase is empty"),
            Failure::Input(error) => (Code::of_io(error), format!("standard input: {error}")),
            Failure::Output(error) => (Code::of_io(error), format!("standard output: {error}")),
            Failure::Signals(error) => (Code::Other, format!("signals: {error}")),
            Failure::Threads(error) => (Code::Other, format!("no thread can be started: {error}")),
            _ => unreachable!("the first half of the table has it"),
        }
    }
}

/// The archive's error, without the file's name where it would be said twice.
fn archive_text(archive: &PathBuf, error: &ArchiveError) -> String {
    let text = match error {
        ArchiveError::Engine(ar7_engine::Error::Io { operation, path, source })
            if path.as_ref().is_none_or(|path| path == archive) =>
        {
            format!("{operation}: {source}")
        }
        ArchiveError::Engine(ar7_engine::Error::Locked { .. }) => {
            "in use by another process".to_owned()
        }
        other => other.to_string(),
    };
    one_line(&text)
}

/// Whether the archive's error names the entry itself.
fn names_entry(error: &ArchiveError, entry: &[u8]) -> bool {
    match error {
        ArchiveError::NoEntry { path }
        | ArchiveError::EntryExists { path }
        | ArchiveError::WrongEntryType { path, .. }
        | ArchiveError::NotEmpty { path }
        | ArchiveError::IntoItself { path } => path == entry,
        _ => false,
    }
}

/// Whatever is in it, one line.
fn one_line(text: &str) -> String {
    Shown(text.as_bytes()).to_string()
}

/// Says what went wrong, and gives the exit code.
pub(crate) fn report(failure: &Failure) -> ExitCode {
    if failure.is_broken_pipe() {
        return ExitCode::SUCCESS;
    }
    stderr::failure(failure);
    ExitCode::from(failure.code().number())
}
