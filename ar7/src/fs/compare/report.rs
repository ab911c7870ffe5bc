//! What a comparison reports: events while it runs, and a report at its end.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorClass};
use crate::meter::Meter;
use crate::records::{FileType, Timestamp};
use crate::text::PathText;

/// How an entry in the file system differs from the one in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// The entry is only in the archive.
    Missing,
    /// The entry is only in the file system.
    Extra,
    /// The types differ.
    Type {
        /// The type in the archive.
        stored: FileType,
        /// The type in the file system, if an archive can store it.
        found: Option<FileType>,
    },
    /// The lengths of the content differ.
    Size {
        /// Length in the archive.
        stored: u64,
        /// Length in the file system.
        found: u64,
    },
    /// The content differs, although its length is the same.
    Content,
    /// The targets of two symbolic links differ.
    Target {
        /// Target in the archive.
        stored: PathBuf,
        /// Target in the file system.
        found: PathBuf,
    },
    /// The numbers of two devices differ.
    Device,
    /// The permission bits differ.
    Mode {
        /// Bits in the archive.
        stored: u32,
        /// Bits in the file system.
        found: u32,
    },
    /// The owners or groups differ.
    Owner {
        /// Owner and group in the archive.
        stored: (u32, u32),
        /// Owner and group in the file system.
        found: (u32, u32),
    },
    /// The modification times differ.
    Modified {
        /// Time in the archive.
        stored: Timestamp,
        /// Time in the file system.
        found: Timestamp,
    },
    /// The extended attributes differ, access control lists and capabilities included.
    ExtendedAttributes,
}

impl Difference {
    /// Returns the name of what differs, in lower case.
    pub const fn name(&self) -> &'static str {
        match self {
            Difference::Missing => "missing",
            Difference::Extra => "extra",
            Difference::Type { .. } => "type",
            Difference::Size { .. } => "size",
            Difference::Content => "content",
            Difference::Target { .. } => "target",
            Difference::Device => "device",
            Difference::Mode { .. } => "mode",
            Difference::Owner { .. } => "owner",
            Difference::Modified { .. } => "time",
            Difference::ExtendedAttributes => "attributes",
        }
    }

    /// Returns what is stored and what was found as text, if one line has room for it.
    pub fn values(&self) -> Option<(String, String)> {
        let owner = |(user, group): (u32, u32)| format!("{user}:{group}");
        Some(match self {
            Difference::Type { stored, found } => {
                (stored.to_string(), found.map_or("another type", FileType::name).to_owned())
            }
            Difference::Size { stored, found } => (stored.to_string(), found.to_string()),
            Difference::Mode { stored, found } => (format!("{stored:04o}"), format!("{found:04o}")),
            Difference::Owner { stored, found } => (owner(*stored), owner(*found)),
            Difference::Modified { stored, found } => (stored.to_string(), found.to_string()),
            Difference::Target { stored, found } => {
                (PathText::new(stored).to_string(), PathText::new(found).to_string())
            }
            _ => return None,
        })
    }
}

/// What differs, and what is stored and was found.
impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())?;
        if let Some((stored, found)) = self.values() {
            write!(formatter, ": stored {stored}, found {found}")?;
        }
        Ok(())
    }
}

/// An event of a comparison. Paths are those in the archive.
#[derive(Debug)]
#[non_exhaustive]
pub enum CompareEvent<'a> {
    /// An entry was compared.
    Compared {
        /// Its path.
        path: &'a Path,
        /// The bytes of content read from the file system.
        bytes: u64,
    },
    /// An entry differs. An entry can differ in several ways.
    Differs {
        /// Its path.
        path: &'a Path,
        /// How it differs.
        difference: &'a Difference,
    },
    /// An entry could not be compared.
    Unreadable {
        /// Its path.
        path: &'a Path,
        /// Why not.
        error: &'a Error,
    },
}

impl CompareEvent<'_> {
    /// Counts the event.
    pub fn count_in(&self, meter: &Meter) {
        if let CompareEvent::Compared { path, bytes } = self {
            meter.add_entry_at(|| path.to_path_buf());
            meter.advance(*bytes);
        }
    }
}

/// What a comparison found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CompareReport {
    /// Number of entries compared.
    pub entries: u64,
    /// Number of bytes of content compared.
    pub bytes: u64,
    /// The differences in the order of the walk: the first 10,000 of them.
    pub differences: Vec<(PathBuf, Difference)>,
    /// Number of differences.
    pub difference_count: u64,
    /// The entries that could not be compared: the first 10,000 of them.
    pub unreadable: Vec<(PathBuf, Error)>,
    /// Number of entries that could not be compared.
    pub unreadable_count: u64,
    /// The worst reason for which one could not.
    pub(crate) worst: Option<ErrorClass>,
}

impl CompareReport {
    /// Returns whether everything was compared and is the same.
    pub fn is_same(&self) -> bool {
        self.difference_count == 0 && self.unreadable_count == 0
    }
}
