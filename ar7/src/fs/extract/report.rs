//! What an extraction reports: events while it runs, and a report at its end.

use std::ffi::OsString;
use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::count::Count;
use crate::error::{Error, ErrorClass, Result};
use crate::fs::LISTED_MAX;
use crate::fs::patterns::matches_nothing;
use crate::fs::tree::lock;
use crate::meter::Meter;
use crate::text::PathText;

/// An event of an extraction. Paths are those of the destination, unless an error concerns an entry that has none there.
#[derive(Debug)]
#[non_exhaustive]
pub enum ExtractEvent<'a> {
    /// All bytes of content to restore were counted. See [`Extract::count`](super::Extract::count).
    Counted {
        /// The number of bytes.
        bytes: u64,
    },
    /// Bytes of content were written.
    Wrote {
        /// The number of bytes since the last such event.
        bytes: u64,
    },
    /// An entry was restored.
    Restored {
        /// Its path.
        path: EntryPath<'a>,
    },
    /// An existing entry was kept because of [`Overwrite`](super::Overwrite).
    Kept {
        /// Its path.
        path: EntryPath<'a>,
    },
    /// An entry was not restored, or a path or pattern matches nothing.
    NotRestored {
        /// Its path.
        path: &'a Path,
        /// Why not.
        error: &'a Error,
    },
    /// An entry was restored without one of its attributes. Reported once for each aspect; the report has the number of
    /// entries.
    Incomplete {
        /// The path of the first such entry.
        path: &'a Path,
        /// What is missing.
        aspect: Aspect,
        /// Why.
        error: &'a Error,
    },
}

impl ExtractEvent<'_> {
    /// Counts the event.
    pub fn count_in(&self, meter: &Meter) {
        match self {
            ExtractEvent::Counted { bytes } => meter.set_total(*bytes),
            ExtractEvent::Wrote { bytes } => meter.advance(*bytes),
            ExtractEvent::Restored { path } => meter.add_entry_at(|| path.to_path_buf()),
            _ => {}
        }
    }
}

/// The path of an entry. It is put together only when it is needed, because this takes long in a deep tree.
#[derive(Clone, Copy)]
pub struct EntryPath<'a>(&'a dyn Fn() -> PathBuf);

impl EntryPath<'_> {
    /// Returns the path.
    pub fn to_path_buf(self) -> PathBuf {
        (self.0)()
    }
}

impl fmt::Debug for EntryPath<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_path_buf().fmt(formatter)
    }
}

/// A part of an entry that the system, the file system or the user's rights may not allow to restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Aspect {
    /// Owner and group.
    Owner,
    /// Permission bits, or those that run a program with the rights of its owner or group.
    Mode,
    /// Time of the last change.
    Time,
    /// Access control lists. While one is missing, the group has the rights of the list's entry for the owning group.
    AccessControlList,
    /// Capabilities of a program.
    Capability,
    /// Other extended attributes.
    ExtendedAttribute,
    /// Another name of a file: it is a file of its own with the same content.
    HardLink,
}

impl Aspect {
    /// Returns the name, for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Aspect::Owner => "owner",
            Aspect::Mode => "mode",
            Aspect::Time => "time",
            Aspect::AccessControlList => "access control list",
            Aspect::Capability => "capabilities",
            Aspect::ExtendedAttribute => "extended attributes",
            Aspect::HardLink => "hard link",
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What an extraction did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ExtractReport {
    /// Number of entries restored.
    pub entries: u64,
    /// Number of bytes of content written.
    pub bytes: u64,
    /// Number of existing entries kept because of [`Overwrite`](super::Overwrite).
    pub kept: u64,
    /// The entries that were not restored: the first 10,000 of them.
    pub not_restored: Vec<NotRestored>,
    /// Number of entries that were not restored.
    pub not_restored_count: u64,
    /// The worst reason for which one was not.
    pub(crate) worst: Option<ErrorClass>,
    /// What the restored entries lack.
    pub incomplete: Vec<Incomplete>,
    /// The patterns of [`Extract::exclude`](super::Extract::exclude) that matched nothing.
    pub unmatched: Vec<OsString>,
}

impl ExtractReport {
    /// Returns whether everything that was selected is restored, up to [`ExtractReport::incomplete`].
    pub fn is_complete(&self) -> bool {
        self.not_restored_count == 0
    }

    /// Returns warnings about patterns that match nothing, and about what the restored entries lack, for users.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let lacks = self.incomplete.iter().map(|lack| {
            let Incomplete { aspect, entries, path, error } = lack;
            let (path, reason) = (PathText::new(path), error.reason());
            let entries = Count(*entries, "entry");
            format!("{path}: warning: {aspect} not restored: {reason}; missing from {entries}")
        });
        self.unmatched.iter().map(matches_nothing).chain(lacks)
    }
}

/// The counts in one line.
impl fmt::Display for ExtractReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (entries, bytes) = (Count(self.entries, "entry"), Count(self.bytes, "byte"));
        write!(formatter, "{entries}, {bytes} restored")
    }
}

/// An entry that was not restored.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct NotRestored {
    /// Its path in the destination, or that of a path or pattern that matches nothing.
    pub path: PathBuf,
    /// Why not.
    pub error: Error,
}

/// Entries that were restored without one of their attributes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Incomplete {
    /// What is missing.
    pub aspect: Aspect,
    /// Number of entries.
    pub entries: u64,
    /// The path of the first one.
    pub path: PathBuf,
    /// Why, for the first one.
    pub error: Error,
}

/// The callback for events. Breaking stops the extraction.
pub(super) type OnEvent<'a> = Box<dyn FnMut(ExtractEvent<'_>) -> ControlFlow<()> + Send + 'a>;

/// Collects what the threads of an extraction report.
pub(super) struct Reporter<'a> {
    on_event: Option<Mutex<OnEvent<'a>>>,
    entries: AtomicU64,
    bytes: AtomicU64,
    kept: AtomicU64,
    /// Set by the first fatal error.
    is_over: AtomicBool,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    not_restored: Vec<NotRestored>,
    not_restored_count: u64,
    worst: Option<ErrorClass>,
    incomplete: Vec<Incomplete>,
    fatal: Option<Error>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(on_event: Option<OnEvent<'a>>) -> Reporter<'a> {
        Reporter {
            on_event: on_event.map(Mutex::new),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            notes: Mutex::default(),
        }
    }

    /// Returns whether the extraction was stopped.
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Fails if the extraction was stopped.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_over() { Err(Error::Stopped) } else { Ok(()) }
    }

    pub(super) fn counted(&self, bytes: u64) {
        self.tell(|| ExtractEvent::Counted { bytes });
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell(|| ExtractEvent::Wrote { bytes });
    }

    pub(super) fn restored(&self, path: &dyn Fn() -> PathBuf) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        self.tell(|| ExtractEvent::Restored { path: EntryPath(path) });
    }

    pub(super) fn kept(&self, path: &dyn Fn() -> PathBuf) {
        self.kept.fetch_add(1, Ordering::Relaxed);
        self.tell(|| ExtractEvent::Kept { path: EntryPath(path) });
    }

    /// Notes an error. A fatal one stops the extraction.
    pub(super) fn failed(&self, path: impl FnOnce() -> PathBuf, error: Error) {
        if is_fatal(&error) {
            lock(&self.notes).fatal.get_or_insert(error);
            self.is_over.store(true, Ordering::Relaxed);
            return;
        }
        let path = path();
        self.tell(|| ExtractEvent::NotRestored { path: &path, error: &error });
        let mut notes = lock(&self.notes);
        notes.not_restored_count += 1;
        notes.worst = Some(ErrorClass::worst(notes.worst, &error));
        if notes.not_restored.len() < LISTED_MAX {
            notes.not_restored.push(NotRestored { path, error });
        }
    }

    /// Notes that an entry lacks something.
    pub(super) fn lacks(&self, aspect: Aspect, path: impl FnOnce() -> PathBuf, error: Error) {
        let mut notes = lock(&self.notes);
        if let Some(known) = notes.incomplete.iter_mut().find(|known| known.aspect == aspect) {
            known.entries += 1;
            return;
        }
        let path = path();
        let (shown, why) = (path.clone(), error.clone());
        notes.incomplete.push(Incomplete { aspect, entries: 1, path, error });
        drop(notes);
        self.tell(|| ExtractEvent::Incomplete { path: &shown, aspect, error: &why });
    }

    /// Returns the report, or the fatal error.
    pub(super) fn finish(self) -> Result<ExtractReport> {
        let notes = self.notes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(error) = notes.fatal {
            return Err(error);
        }
        let (mut not_restored, mut incomplete) = (notes.not_restored, notes.incomplete);
        // Threads report in any order.
        not_restored.sort_by(|one, other| one.path.cmp(&other.path));
        incomplete.sort_by_key(|one| one.aspect);
        Ok(ExtractReport {
            entries: self.entries.into_inner(),
            bytes: self.bytes.into_inner(),
            kept: self.kept.into_inner(),
            not_restored,
            not_restored_count: notes.not_restored_count,
            worst: notes.worst,
            incomplete,
            unmatched: Vec::new(),
        })
    }

    fn tell<'e>(&self, event: impl FnOnce() -> ExtractEvent<'e>) {
        let Some(on_event) = &self.on_event else { return };
        if lock(on_event)(event()).is_break() {
            lock(&self.notes).fatal.get_or_insert(Error::Stopped);
            self.is_over.store(true, Ordering::Relaxed);
        }
    }
}

/// Returns whether every following entry would fail as well.
pub(crate) fn is_fatal(error: &Error) -> bool {
    match error {
        Error::Stopped
        | Error::OtherProcess { .. }
        | Error::Unusable { .. }
        | Error::CommitLost { .. }
        | Error::NoSpace { .. } => true,
        Error::Io { source, .. } => matches!(
            source.kind(),
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_lists_a_bounded_number_of_failures_and_the_callback_receives_all() {
        let mut told = 0;
        let reporter = Reporter::new(Some(Box::new(|event| {
            told += u64::from(matches!(event, ExtractEvent::NotRestored { .. }));
            ControlFlow::Continue(())
        })));
        let count = LISTED_MAX as u64 + 3;
        for number in 0..count {
            let path = PathBuf::from(format!("{number:08}"));
            reporter.failed(|| path.clone(), Error::NotFound { path: path.clone() });
        }
        let report = reporter.finish().unwrap();
        assert_eq!((report.not_restored.len(), report.not_restored_count), (LISTED_MAX, count));
        assert_eq!(report.not_restored[LISTED_MAX - 1].path, PathBuf::from("00009999"));
        assert!(!report.is_complete());
        assert_eq!(told, count);
    }

    #[test]
    fn what_an_entry_lacks_is_shown_by_its_name() {
        let shown =
            [Aspect::Owner, Aspect::AccessControlList, Aspect::HardLink].map(|one| one.to_string());
        assert_eq!(shown, ["owner", "access control list", "hard link"]);
    }
}
