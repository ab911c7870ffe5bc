//! What an ingest reports: events while it runs, and a report at its end.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use crate::count::Count;
use crate::error::Error;
use crate::fs::patterns::matches_nothing;
use crate::fs::walk::{LeftOut, SkipReason, SourcePath, Unread};
use crate::meter::Meter;
use crate::text::PathText;

/// An event of an ingest.
#[derive(Debug)]
#[non_exhaustive]
pub enum IngestEvent<'a> {
    /// An entry was handled.
    Entry {
        /// The entry.
        path: SourcePath<'a>,
        /// What happened to it.
        outcome: Outcome<'a>,
    },
    /// Content was read, or the archive already has it.
    Read {
        /// The number of bytes since the last such event.
        bytes: u64,
    },
    /// All bytes of the source were counted. See [`Ingest::count`](super::Ingest::count).
    Counted {
        /// The number of bytes.
        bytes: u64,
    },
    /// Everything so far is committed.
    Checkpoint {
        /// The number of checkpoints in this run.
        number: u64,
        /// The number of entries of the source that are in the archive now.
        entries: u64,
        /// The number of bytes in them.
        bytes: u64,
    },
    /// Nothing has happened for a moment. Sent so that the callback can stop the run.
    Waiting,
}

impl IngestEvent<'_> {
    /// Counts the event.
    pub fn count_in(&self, meter: &Meter) {
        match self {
            IngestEvent::Entry { path, .. } => meter.add_entry_at(|| path.to_path()),
            IngestEvent::Counted { bytes } => meter.set_total(*bytes),
            IngestEvent::Read { bytes } => meter.advance(*bytes),
            IngestEvent::Checkpoint { .. } | IngestEvent::Waiting => {}
        }
    }

    /// Returns a line for users about an entry that was skipped for a reason other than a pattern; in a preview, also about
    /// one that would be stored or removed.
    pub fn note(&self, is_preview: bool) -> Option<String> {
        let IngestEvent::Entry { path, outcome } = self else { return None };
        let line = |what: &str| format!("{what} {}", PathText::new(&path.to_path()));
        match outcome {
            Outcome::LeftOut(SkipReason::Excluded) => None,
            Outcome::LeftOut(reason) => Some(format!("{}: {reason}", line("skipped"))),
            Outcome::Added | Outcome::Changed if is_preview => Some(line("would store")),
            Outcome::Removed if is_preview => Some(line("would remove")),
            _ => None,
        }
    }

    /// Returns a warning for users if an entry is not stored as it is.
    pub fn warning(&self) -> Option<String> {
        let IngestEvent::Entry { path, outcome } = self else { return None };
        let path = || path.to_path();
        match outcome {
            Outcome::Unread(error) | Outcome::Attributes(error) => {
                Some((*error).clone().in_entry(path()).to_string())
            }
            Outcome::ChangedWhileRead => {
                let path = path();
                let path = PathText::new(&path);
                Some(format!("{path}: changed while it was read; stored as it was read"))
            }
            _ => None,
        }
    }
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// It was new, and is stored.
    Added,
    /// It differed from what was stored, and replaced it.
    Changed,
    /// It differed from what was stored, and replaced it, but it kept changing while it was read: it is stored as it
    /// was read. Each byte is one that the file had at that place at some moment.
    ChangedWhileRead,
    /// It was stored already.
    Unchanged,
    /// It is not in the source any more, and was removed from the archive, with everything in it.
    Removed,
    /// It was left out, with everything in it.
    LeftOut(SkipReason),
    /// It could not be read.
    Unread(&'a Error),
    /// It is stored, but an extended attribute could not be read. See [`IngestReport::attributes`].
    Attributes(&'a Error),
}

impl Outcome<'_> {
    /// Returns the name of the outcome, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Outcome::Added => "added",
            Outcome::Changed => "changed",
            Outcome::ChangedWhileRead => "changed while it was read",
            Outcome::Unchanged => "unchanged",
            Outcome::Removed => "removed",
            Outcome::LeftOut(_) => "left out",
            Outcome::Unread(_) => "not read",
            Outcome::Attributes(_) => "attribute not read",
        }
    }
}

/// What an ingest did. Entries and bytes count everything visited that is now in the archive, whether this run or an
/// earlier one stored it.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct IngestReport {
    /// Number of entries of the source that are in the archive.
    pub entries: u64,
    /// Number of bytes in them.
    pub bytes: u64,
    /// Number of entries, except directories, that this run stored.
    pub stored_files: u64,
    /// Number of bytes in them.
    pub stored_bytes: u64,
    /// Number of entries, except directories, that were stored already.
    pub unchanged: u64,
    /// Number of names removed from the archive because of [`Ingest::delete`](super::Ingest::delete).
    pub removed: u64,
    /// Number of checkpoints.
    pub checkpoints: u64,
    /// The entries that were left out, except those that a pattern excludes: the first 10,000 of them.
    pub left_out: Vec<LeftOut>,
    /// Number of entries that were left out, except those that a pattern excludes.
    pub left_out_count: u64,
    /// The files that kept changing while they were read: the first 10,000 of them. They are stored as they were read.
    pub changed: Vec<PathBuf>,
    /// Number of files that kept changing.
    pub changed_count: u64,
    /// What could not be read: the first 10,000 of it. An older version of it stays in the archive.
    pub unread: Vec<Unread>,
    /// Number of paths that could not be read.
    pub unread_count: u64,
    /// The entries with extended attributes that could not be read or stored, and why the first of them could not: one
    /// of the source, which is missing in the archive then, or one of the archive, which that of the source replaced.
    /// The first 10,000 of them.
    pub attributes: Vec<Unread>,
    /// Number of entries with such extended attributes.
    pub attributes_count: u64,
    /// The paths passed to [`Ingest::path`](super::Ingest::path) that are symbolic links to directories. They are stored
    /// as links; their path followed by `/.` stores the entries of the directory.
    pub links: Vec<PathBuf>,
    /// The patterns of [`Ingest::exclude`](super::Ingest::exclude) that matched nothing.
    pub unmatched: Vec<OsString>,
    /// Whether this is what an ingest would do: [`Ingest::preview`](super::Ingest::preview).
    pub is_preview: bool,
}

impl IngestReport {
    /// Returns whether everything was read, and nothing changed while it was read.
    pub fn is_complete(&self) -> bool {
        self.unread_count == 0 && self.changed_count == 0 && self.attributes_count == 0
    }

    /// Returns warnings about what is stored otherwise than the caller may expect, for users.
    pub fn warnings(&self) -> impl Iterator<Item = String> + '_ {
        let links = self.links.iter().map(PathText::new).map(|link| {
            format!(
                "{link}: warning: stored as a symbolic link; {link}/. stores the directory that it leads to"
            )
        });
        links.chain(self.unmatched.iter().map(matches_nothing))
    }
}

/// The counts in one line.
impl fmt::Display for IngestReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IngestReport { entries, bytes, stored_files, stored_bytes, unchanged, removed, .. } =
            self;
        // In a preview.
        let would = if self.is_preview { "would be " } else { "" };
        write!(
            formatter,
            "{}, {}: {} of {} {would}stored, {} unchanged",
            Count(*entries, "entry"),
            Count(*bytes, "byte"),
            Count(*stored_files, "file"),
            Count(*stored_bytes, "byte"),
            Count(*unchanged, "entry"),
        )?;
        if *removed > 0 {
            write!(formatter, ", {} {would}removed", Count(*removed, "entry"))?;
        }
        Ok(())
    }
}
