//! Walks through trees of the file system.
//!
//! All work is done by descriptors of directories, so that trees can be of any depth, and nothing that another process
//! does to a tree meanwhile leads anywhere else.

mod directories;
mod report;
mod roots;
mod source;
mod status;
mod steps;
#[cfg(test)]
mod tests;
mod visits;

use std::ffi::OsString;
use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

pub(super) use self::directories::{Directory, Tree};
pub(super) use self::report::failed;
pub use self::report::{LeftOut, SkipReason, SourcePath, Unread};
pub(super) use self::roots::{Root, Roots, last_component};
#[cfg(test)]
pub(super) use self::source::Names;
pub(super) use self::source::{Attributed, Source, System};
pub(super) use self::status::Status;
pub(super) use self::visits::{Entry, Selection, Visit, Visits};
use super::{Patterns, note};
use crate::error::{Error, Result};
use crate::records::{Attributes, Device, FileType, Origin};

/// Visits every entry of files and directory trees in the file system, without reading files.
///
/// [`Ingest`](super::Ingest) stores what a walk with the same options visits. The entries of an archive are visited by
/// [`Snapshot::walk`](crate::Snapshot::walk).
///
/// - Entries are visited in the byte order of their names, each directory before its entries.
/// - An entry that cannot be read is reported, and the walk continues.
/// - Symbolic links are visited, never followed. What another process does to the tree meanwhile leads nowhere else.
/// - The memory for names and the number of open directories are bounded, for trees of any depth and directories of any
///   size.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # std::fs::write(folder.path().join("letter"), "Dear reader")?;
/// # std::fs::write(folder.path().join("letter.tmp"), "Dear")?;
/// # let documents = folder.path();
/// use std::ops::ControlFlow;
/// use ar7::fs::{Patterns, Walk, WalkEvent};
///
/// let mut found = Vec::new();
/// let exclude = Patterns::new(["*.tmp"])?;
/// let report = Walk::new()
///     .path(documents)
///     .exclude(exclude)
///     .on_event(|event| {
///         if let WalkEvent::Entry { path, metadata } = event {
///             found.push((path.to_path(), metadata.len));
///         }
///         ControlFlow::Continue(())
///     })
///     .run()?;
/// assert!(report.is_complete());
/// assert_eq!(found[1], (documents.join("letter"), 11));
/// assert_eq!(found.len(), 2);
/// # Ok::<(), ar7::Error>(())
/// ```
#[must_use]
pub struct Walk<'a> {
    selection: Selection,
    on_event: OnEvent<'a>,
}

/// The callback for events.
type OnEvent<'a> = Box<dyn FnMut(WalkEvent<'_>) -> ControlFlow<()> + 'a>;

/// An event of a walk.
#[derive(Debug)]
#[non_exhaustive]
pub enum WalkEvent<'a> {
    /// An entry was visited.
    Entry {
        /// The entry.
        path: SourcePath<'a>,
        /// What the file system knows about it.
        metadata: &'a SourceMetadata,
    },
    /// An entry was left out, with everything below it.
    LeftOut {
        /// The entry.
        path: SourcePath<'a>,
        /// Why.
        reason: SkipReason,
    },
    /// An entry could not be read.
    Unread {
        /// The entry.
        path: SourcePath<'a>,
        /// Why not.
        error: &'a Error,
    },
}

/// What the file system knows about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceMetadata {
    /// The type.
    pub file_type: FileType,
    /// Length of a file in bytes. 0 for other entries.
    pub len: u64,
    /// Permissions, owner, modification time, change time and inode number.
    pub attributes: Attributes,
    /// Number of names of the entry.
    pub links: u64,
    /// The numbers of a device.
    pub device: Option<Device>,
    /// Number of the file system.
    pub file_system: u64,
}

impl SourceMetadata {
    fn new(kind: ar7_registry::records::EntryType, status: &Status) -> SourceMetadata {
        let (file_system, inode) = status.id;
        let attributes = Attributes::from(status.attributes);
        let device =
            status.device.map(|device| Device { major: device.major, minor: device.minor });
        SourceMetadata {
            file_type: kind.into(),
            len: status.size,
            attributes: attributes.with_origin(Origin::new(status.changed, inode)),
            links: status.links,
            device,
            file_system: number_of(file_system),
        }
    }
}

/// Widens the number of a file system, whose type differs between systems. Its sign has no meaning.
fn number_of(file_system: impl TryInto<u64>) -> u64 {
    file_system.try_into().unwrap_or_default()
}

impl Default for Walk<'_> {
    fn default() -> Self {
        Walk::new()
    }
}

impl<'a> Walk<'a> {
    /// Creates a walk through nothing.
    pub fn new() -> Walk<'a> {
        let on_event = Box::new(|_: WalkEvent<'_>| ControlFlow::Continue(()));
        Walk { selection: Selection::default(), on_event }
    }

    /// Visits this file, or this directory and everything in it. A path that ends in `/.` or `/..` stands for the
    /// entries of the directory. Can be called several times.
    ///
    /// A path that does not exist is reported as unread. Of a symbolic link, the link is visited.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Walk<'a> {
        self.selection.paths.push(path.into());
        self
    }

    /// Leaves out what the patterns match, and everything below it. They are matched against the path as it was passed
    /// to [`Walk::path`], and against the path that [`Ingest`](super::Ingest) would give the entry in an archive.
    pub fn exclude(mut self, patterns: Patterns) -> Walk<'a> {
        self.selection.exclude = Some(patterns).filter(|patterns| !patterns.is_empty());
        self
    }

    /// Leaves out what is in directories of another file system than the path that was passed to [`Walk::path`]. The
    /// directory on which a file system is mounted is visited.
    pub fn one_file_system(mut self, one: bool) -> Walk<'a> {
        self.selection.one_file_system = one;
        self
    }

    /// Leaves out what is in directories that are tagged as caches by a file `CACHEDIR.TAG`. The directory and its tag
    /// are visited.
    pub fn exclude_caches(mut self, exclude: bool) -> Walk<'a> {
        self.selection.exclude_caches = exclude;
        self
    }

    /// Sets a function that receives each event. If it breaks, the walk fails with [`Error::Stopped`].
    pub fn on_event(
        mut self,
        on_event: impl FnMut(WalkEvent<'_>) -> ControlFlow<()> + 'a,
    ) -> Walk<'a> {
        self.on_event = Box::new(on_event);
        self
    }

    /// Walks. What could not be read is in the report.
    pub fn run(self) -> Result<WalkReport> {
        self.run_on(&System)
    }

    fn run_on(self, source: &dyn Source) -> Result<WalkReport> {
        let Walk { selection, mut on_event } = self;
        let Roots { found, unread, links } = Roots::new(&selection.paths);
        let mut report = WalkReport { links, ..WalkReport::default() };
        let mut tell = |event: WalkEvent<'_>| match on_event(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        };
        for Unread { path, error } in unread {
            tell(WalkEvent::Unread { path: SourcePath::typed(&path), error: &error })?;
            report.note_unread(|| path, error);
        }
        let tree = Tree::new(source);
        for root in &found {
            match Visits::new(&tree, &selection, root) {
                Ok(visits) => {
                    for visit in visits {
                        report.add(visit, &mut tell)?;
                    }
                }
                Err(error) => {
                    let path = root.path.clone();
                    tell(WalkEvent::Unread { path: SourcePath::typed(&path), error: &error })?;
                    report.note_unread(|| path, error);
                }
            }
        }
        let unmatched = selection.exclude.iter().flat_map(Patterns::unmatched);
        report.unmatched = unmatched.map(ToOwned::to_owned).collect();
        Ok(report)
    }
}

impl fmt::Debug for Walk<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Walk").field("paths", &self.selection.paths).finish_non_exhaustive()
    }
}

/// What a walk visited.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct WalkReport {
    /// Number of entries visited.
    pub entries: u64,
    /// Number of bytes in files. A file with several names counts for each of them.
    pub bytes: u64,
    /// The entries that were left out, except those that a pattern excludes: the first 10,000 of them.
    pub left_out: Vec<LeftOut>,
    /// Number of entries that were left out, except those that a pattern excludes.
    pub left_out_count: u64,
    /// What could not be read: the first 10,000 of it.
    pub unread: Vec<Unread>,
    /// Number of paths that could not be read.
    pub unread_count: u64,
    /// The paths passed to [`Walk::path`] that are symbolic links to directories.
    pub links: Vec<PathBuf>,
    /// The patterns of [`Walk::exclude`] that matched nothing.
    pub unmatched: Vec<OsString>,
}

impl WalkReport {
    /// Returns whether everything was read.
    pub fn is_complete(&self) -> bool {
        self.unread_count == 0
    }

    fn note_left_out(&mut self, path: SourcePath<'_>, reason: SkipReason) {
        let left_out = || LeftOut { path: path.to_path(), reason };
        note(&mut self.left_out, &mut self.left_out_count, left_out);
    }

    fn note_unread(&mut self, path: impl FnOnce() -> PathBuf, error: Error) {
        note(&mut self.unread, &mut self.unread_count, || Unread { path: path(), error });
    }

    /// Adds a visit, and tells of it.
    fn add(
        &mut self,
        visit: Visit,
        tell: &mut impl FnMut(WalkEvent<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut visited = |report: &mut WalkReport, entry: &Entry, kind| {
            let metadata = SourceMetadata::new(kind, &entry.status);
            report.entries += 1;
            report.bytes = report.bytes.saturating_add(metadata.len);
            let path = SourcePath::new(&entry.directory, &entry.name);
            tell(WalkEvent::Entry { path, metadata: &metadata })
        };
        match visit {
            Visit::Entry { entry, kind } => visited(self, &entry, kind)?,
            Visit::Directory { entry, left_out, .. } => {
                visited(self, &entry, ar7_registry::records::EntryType::Directory)?;
                if let Some(reason) = left_out {
                    let path = SourcePath::new(&entry.directory, &entry.name);
                    tell(WalkEvent::LeftOut { path, reason })?;
                    self.note_left_out(path, reason);
                }
            }
            Visit::LeftOut { directory, name, reason } => {
                let path = SourcePath::new(&directory, &name);
                tell(WalkEvent::LeftOut { path, reason })?;
                if reason != SkipReason::Excluded {
                    self.note_left_out(path, reason);
                }
            }
            Visit::Unread { directory, name, error } => {
                let path = SourcePath::new(&directory, &name);
                tell(WalkEvent::Unread { path, error: &error })?;
                self.note_unread(|| path.to_path(), error);
            }
            Visit::End { outcome: Ok(()), .. } => {}
            Visit::End { directory, outcome: Err(error) } => {
                let path = directory.own_path();
                tell(WalkEvent::Unread { path: SourcePath::typed(&path), error: &error })?;
                self.note_unread(|| path, error);
            }
        }
        Ok(())
    }
}
