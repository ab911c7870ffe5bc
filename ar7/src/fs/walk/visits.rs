//! What a walk visits: the steps through one root, without what the options leave out. Each directory is listed before
//! it is passed on, so that one which cannot be listed is reported once, and not taken for an empty one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use ar7_registry::records::EntryType;
use rustix::fs::Dev;

use super::directories::{Directory, Tree};
use super::report::{SkipReason, failed};
use super::roots::Root;
use super::source::Names;
use super::status::Status;
use super::steps::{Step, Steps};
use crate::error::Error;
use crate::fs::patterns::{Patterns, Positions};
use crate::fs::system::is_out_of_descriptors;
use crate::path::components;

/// The tag of a cache, and how it begins: <https://bford.info/cachedir/>.
const CACHE_TAG: &str = "CACHEDIR.TAG";
const CACHE_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Which trees a walk visits, and what it leaves out.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) paths: Vec<PathBuf>,
    pub(crate) exclude: Option<Patterns>,
    pub(crate) one_file_system: bool,
    pub(crate) exclude_caches: bool,
}

/// An entry of a directory of the source.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) directory: Arc<Directory>,
    pub(crate) name: OsString,
    /// The status that the walk saw.
    pub(crate) status: Status,
    /// Keeps a deep directory open until the entry is read.
    _open: Option<Arc<OwnedFd>>,
}

impl Entry {
    /// Returns the path for messages.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.shown_path_of(&self.name)
    }

    /// Returns the error of reading it.
    pub(crate) fn failed(&self, error: io::Error) -> Error {
        failed(self.path(), "read", error)
    }
}

/// Something that a walk visits.
pub(crate) enum Visit {
    /// An entry of this type, which is not a directory.
    Entry { entry: Entry, kind: EntryType },
    /// A directory. Its entries follow, unless they are left out, and then its end.
    Directory { entry: Entry, directory: Arc<Directory>, left_out: Option<SkipReason> },
    /// An entry that is left out, with everything below it.
    LeftOut { directory: Arc<Directory>, name: OsString, reason: SkipReason },
    /// An entry that cannot be read.
    Unread { directory: Arc<Directory>, name: OsString, error: Error },
    /// The end of the directory that was entered last. With an error, its other names could not be listed.
    End { directory: Arc<Directory>, outcome: Result<(), Error> },
}

impl Visit {
    /// Returns the entry. The end of a directory has none.
    pub(crate) fn place(&self) -> Option<(&Arc<Directory>, &OsStr)> {
        match self {
            Visit::Entry { entry, .. } | Visit::Directory { entry, .. } => {
                Some((&entry.directory, &entry.name))
            }
            Visit::LeftOut { directory, name, .. } | Visit::Unread { directory, name, .. } => {
                Some((directory, name))
            }
            Visit::End { .. } => None,
        }
    }
}

/// The visits of one root.
pub(crate) struct Visits<'a> {
    tree: &'a Tree<'a>,
    selection: &'a Selection,
    steps: Steps<'a>,
    /// The directory that the walk begins in.
    pub(crate) location: Arc<Directory>,
    /// The file system of the root, once it is known.
    device: Option<Dev>,
}

impl<'a> Visits<'a> {
    /// Begins in the directory of [`Root::location`].
    pub(crate) fn new(
        tree: &'a Tree<'a>,
        selection: &'a Selection,
        root: &Root,
    ) -> Result<Visits<'a>, Error> {
        let begun = || {
            let positions = selection.positions_in(root);
            let location = tree.location(root.location(), positions)?;
            let steps = Steps::new(tree, root, Arc::clone(&location))?;
            let device = root.name.is_none().then(|| location.device());
            Ok(Visits { tree, selection, steps, location, device })
        };
        begun().map_err(|error| failed(root.path.clone(), "read", error))
    }

    /// Leaves out the entries of the directory that was visited last, and its end.
    pub(crate) fn skip(&mut self) {
        self.steps.skip();
    }

    fn entry(
        &mut self,
        directory: Arc<Directory>,
        name: OsString,
        seen: io::Result<Status>,
    ) -> Visit {
        let kind = seen.as_ref().ok().and_then(|status| status.kind);
        if self.selection.excludes(&directory, &name, kind == Some(EntryType::Directory)) {
            return Visit::LeftOut { directory, name, reason: SkipReason::Excluded };
        }
        let unread = |directory: Arc<Directory>, name: OsString, operation, error| {
            let error = failed(directory.shown_path_of(&name), operation, error);
            Visit::Unread { directory, name, error }
        };
        match (seen, kind) {
            (Err(error), _) => unread(directory, name, "read", error),
            (Ok(_), None) => {
                unread(directory, name, "store", io::Error::other("its type is unknown"))
            }
            (Ok(status), Some(EntryType::Directory)) => {
                self.directory(Entry { directory, name, status, _open: None })
            }
            (Ok(status), Some(kind)) => {
                let open = self.tree.lend(&directory);
                Visit::Entry { entry: Entry { directory, name, status, _open: open }, kind }
            }
        }
    }

    /// Enters a directory.
    fn directory(&mut self, entry: Entry) -> Visit {
        let Entry { directory: parent, name, status, .. } = &entry;
        // Only directories are judged by their device: on an overlay, files have those of its layers.
        let is_foreign = *self.device.get_or_insert(status.id.0) != status.id.0;
        let positions = self.selection.positions_below(parent, name);
        let directory = Tree::directory(parent, name, status, positions);
        let listed = || -> io::Result<_> {
            let mut names = Names { names: Vec::new(), is_last: true };
            if is_foreign && self.selection.one_file_system {
                return Ok((names, Some(SkipReason::OtherFileSystem)));
            }
            if self.selection.exclude_caches && self.is_cache(&directory)? {
                names.names.push(CACHE_TAG.into());
                return Ok((names, Some(SkipReason::Cache)));
            }
            Ok((self.steps.list(&directory)?, None))
        };
        match listed() {
            Ok((names, left_out)) => {
                self.steps.enter(Arc::clone(&directory), names);
                Visit::Directory { entry, directory, left_out }
            }
            Err(error) => {
                let error = entry.failed(error);
                Visit::Unread { directory: entry.directory, name: entry.name, error }
            }
        }
    }

    /// Returns whether a directory has the tag of a cache. Nothing but a file is opened: that could have an effect.
    fn is_cache(&self, directory: &Directory) -> io::Result<bool> {
        let begin = self.tree.with(directory, |source, at| {
            let tag = OsStr::new(CACHE_TAG);
            let mut begin = Vec::with_capacity(CACHE_SIGNATURE.len());
            if source.status(at, tag)?.kind == Some(EntryType::File) {
                let file = source.open_file(at, tag)?;
                if source.status_of(file.as_fd())?.kind == Some(EntryType::File) {
                    source.read_at(file.as_fd(), 0, &mut begin)?;
                }
            }
            Ok(begin)
        });
        match begin {
            Ok(begin) => Ok(begin.starts_with(CACHE_SIGNATURE)),
            Err(error) if is_out_of_descriptors(&error) => Err(error),
            // There is no tag, or it cannot be read.
            Err(_) => Ok(false),
        }
    }
}

impl Iterator for Visits<'_> {
    type Item = Visit;

    fn next(&mut self) -> Option<Visit> {
        Some(match self.steps.next()? {
            Step::Entry { directory, name, status } => self.entry(directory, name, status),
            Step::End { directory, outcome } => {
                let outcome = outcome.map_err(|error| failed(directory.own_path(), "list", error));
                Visit::End { directory, outcome }
            }
        })
    }
}

impl Selection {
    /// Returns whether the patterns exclude an entry. They are matched against its path as typed and as stored.
    fn excludes(&self, directory: &Directory, name: &OsStr, is_directory: bool) -> bool {
        let Some(patterns) = &self.exclude else { return false };
        let positions = &directory.own.positions;
        patterns.judge(positions, name.as_bytes(), is_directory) == Some(true)
    }

    /// Returns how far the patterns match the two paths of the directory that the walk of a root begins in.
    fn positions_in(&self, root: &Root) -> [Positions; 2] {
        let Some(patterns) = &self.exclude else { return Default::default() };
        let below = |above, name: &[u8]| patterns.below(&above, name);
        [components(root.location()).fold(patterns.start(), below), patterns.start()]
    }

    fn positions_below(&self, directory: &Directory, name: &OsStr) -> [Positions; 2] {
        let Some(patterns) = &self.exclude else { return Default::default() };
        directory.own.positions.each_ref().map(|above| patterns.below(above, name.as_bytes()))
    }
}
