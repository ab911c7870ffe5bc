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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use ar7_registry::records::EntryType;

    use super::super::source::System;
    use super::*;

    /// Returns the paths that a walk visits if names may take this much memory, and the most that they took.
    fn visited(top: &Path, names_bytes_max: usize) -> (Vec<String>, usize) {
        let tree = Tree::new(&System);
        let root = Root { path: top.to_owned(), name: Some("w".into()) };
        let location = tree.location(top, <[_; 2]>::default()).unwrap();
        let mut steps = Steps { names_bytes_max, ..Steps::new(&tree, &root, location).unwrap() };
        let (mut paths, mut most) = (Vec::new(), 0);
        while let Some(step) = steps.next() {
            match step {
                Step::Entry { directory, name, status } => {
                    let status = status.unwrap();
                    paths.push(directory.shown_path_of(&name).to_str().unwrap().to_owned());
                    if status.kind == Some(EntryType::Directory) {
                        let entered =
                            Tree::directory(&directory, &name, &status, <[_; 2]>::default());
                        let names = steps.list(&entered).unwrap();
                        steps.enter(entered, names);
                        if name == "skipped" {
                            steps.skip();
                        }
                    }
                }
                Step::End { directory, outcome } => {
                    outcome.unwrap();
                    paths.push(format!("end of {}", directory.own_path().display()));
                }
            }
            let kept = |level: &Level| level.names.as_slice().iter().map(memory_of).sum::<usize>();
            assert_eq!(steps.names_bytes, steps.levels.iter().map(kept).sum::<usize>());
            most = most.max(steps.names_bytes);
        }
        (paths, most)
    }

    #[test]
    fn every_entry_is_visited_once_in_order_however_few_names_fit_in_memory() {
        const LEVELS: usize = 12;
        let folder = tempfile::tempdir().unwrap();
        let mut directory = folder.path().join("w");
        for _ in 0..LEVELS {
            fs::create_dir(&directory).unwrap();
            for name in 0..12 {
                fs::write(directory.join(format!("file {name}")), "").unwrap();
            }
            fs::create_dir(directory.join("skipped")).unwrap();
            fs::write(directory.join("skipped/file"), "").unwrap();
            directory.push("file 4, a directory");
        }
        let (expected, _) = visited(folder.path(), NAMES_BYTES);
        assert_eq!(expected.len(), LEVELS * (2 + 12 + 1) + 1);
        for names_bytes_max in [1, 64, 200, 300, 500, 1000] {
            let (paths, most) = visited(folder.path(), names_bytes_max);
            assert_eq!(paths, expected, "{names_bytes_max}");
            // A list has one name at least. The deepest one is read before the others are forgotten.
            let bound = (2 * names_bytes_max).max(memory_of(&"file 4, a directory".into()));
            assert!(most <= bound, "{most} bytes for {names_bytes_max}");
        }
    }
}
