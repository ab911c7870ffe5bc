//! The steps of a walk: the entries below a root in ascending order of their names, with bounded memory for names.

use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use super::directories::{Directory, Tree};
use super::roots::Root;
use super::source::Names;
use super::status::Status;

/// The memory in bytes that the names of all directories on the way may take. A larger directory is listed in several
/// passes.
const NAMES_BYTES: usize = 12 << 20;

/// A walk through one root that visits entries in order, and each directory before its entries.
pub(super) struct Steps<'a> {
    tree: &'a Tree<'a>,
    levels: Vec<Level>,
    names_bytes: usize,
    names_bytes_max: usize,
}

/// A directory on the way, and its names that were not visited yet.
struct Level {
    directory: Arc<Directory>,
    names: std::vec::IntoIter<OsString>,
    bytes: usize,
    /// The last visited name.
    last: Option<OsString>,
    /// Whether the directory has no name above these.
    is_last: bool,
}

/// A step of a walk.
pub(super) enum Step {
    /// An entry and its status in the file system.
    Entry { directory: Arc<Directory>, name: OsString, status: io::Result<Status> },
    /// The end of the directory that was entered last. With an error, its other names could not be listed.
    End { directory: Arc<Directory>, outcome: io::Result<()> },
}

impl<'a> Steps<'a> {
    /// A walk that begins in the directory of [`Root::location`].
    pub(super) fn new(
        tree: &'a Tree<'a>,
        root: &Root,
        location: Arc<Directory>,
    ) -> io::Result<Steps<'a>> {
        let names = match &root.name {
            Some(name) => Names { names: vec![name.clone()], is_last: true },
            None => tree.names(&location, None, NAMES_BYTES)?,
        };
        let mut steps =
            Steps { tree, levels: Vec::new(), names_bytes: 0, names_bytes_max: NAMES_BYTES };
        steps.enter(location, names);
        Ok(steps)
    }

    /// Continues with the entries of a directory, of which these are the first ones.
    pub(super) fn enter(&mut self, directory: Arc<Directory>, names: Names) {
        self.levels.push(Level {
            directory,
            names: Vec::new().into_iter(),
            bytes: 0,
            last: None,
            is_last: false,
        });
        self.fill(names);
    }

    /// Lists a directory for [`Steps::enter`].
    pub(super) fn list(&self, directory: &Directory) -> io::Result<Names> {
        self.tree.names(directory, None, self.names_bytes_max)
    }

    /// Returns the next step, or `None` at the end.
    pub(super) fn next(&mut self) -> Option<Step> {
        loop {
            let level = self.levels.last_mut()?;
            if let Some(name) = level.names.next() {
                let bytes = memory_of(&name);
                level.bytes -= bytes;
                self.names_bytes -= bytes;
                level.last = Some(name.clone());
                let directory = Arc::clone(&level.directory);
                let status = self.tree.with(&directory, |source, at| source.status(at, &name));
                return Some(Step::Entry { directory, name, status });
            }
            let outcome = if level.is_last { Ok(None) } else { self.list_more().map(Some) };
            match outcome {
                Ok(Some(names)) => self.fill(names),
                Ok(None) => return self.leave(Ok(())),
                Err(error) => return self.leave(Err(error)),
            }
        }
    }

    fn list_more(&self) -> io::Result<Names> {
        let Some(level) = self.levels.last() else { return Ok(Names::default()) };
        self.tree.names(&level.directory, level.last.as_deref(), self.names_bytes_max)
    }

    /// Leaves out the other entries of the directory that was entered last. There is no step for its end.
    pub(super) fn skip(&mut self) {
        if let Some(level) = self.levels.pop() {
            self.names_bytes -= level.bytes;
        }
    }

    fn leave(&mut self, outcome: io::Result<()>) -> Option<Step> {
        let Level { directory, .. } = self.levels.pop()?;
        self.tree.open_parent(&directory);
        Some(Step::End { directory, outcome })
    }

    /// Puts names into the deepest level. If the names take too much memory then, forgets those of the outermost
    /// levels, which are listed again when the walk returns to them.
    fn fill(&mut self, names: Names) {
        let Some(level) = self.levels.last_mut() else { return };
        level.bytes = names.names.iter().map(memory_of).sum();
        level.is_last = names.is_last;
        self.names_bytes += level.bytes;
        level.names = names.names.into_iter();
        let deepest = self.levels.len() - 1;
        for level in self.levels.iter_mut().take(deepest) {
            if self.names_bytes <= 2 * self.names_bytes_max {
                break;
            }
            if level.names.as_slice().is_empty() {
                continue;
            }
            level.is_last = false;
            self.names_bytes -= level.bytes;
            level.bytes = 0;
            level.names = Vec::new().into_iter();
        }
    }
}

fn memory_of(name: &OsString) -> usize {
    name.len() + size_of::<OsString>()
}
