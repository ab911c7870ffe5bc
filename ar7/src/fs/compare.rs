//! Compares a tree in the file system with an archive.

mod report;
#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ar7_registry::records::{EntryType, Inode};

pub use self::report::{CompareEvent, CompareReport, Difference};
use super::LISTED_MAX;
use super::extract::is_fatal;
use super::stored::{Found, Step, Unreadable, Walk, find};
use super::system::{Status, System};
use super::tree::{Directory, Tree, replaced};
use super::walk::last_component;
use crate::error::{Error, ErrorClass, Result};
use crate::path::{components, to_path};
use crate::records::FileType;
use crate::snapshot::Snapshot;

/// Number of bytes to compare at a time.
const PIECE: usize = 1 << 20;

type OnEvent<'a> = Box<dyn FnMut(CompareEvent<'_>) -> ControlFlow<()> + 'a>;

/// Compares a directory of the file system with a directory of an archive: which entries exist, and their types,
/// content, targets, modes, owners, modification times and extended attributes. Symbolic links are not followed.
///
/// The extended attributes of files and directories are compared, not those of other entries.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let (path, key) = (folder.path().join("backup.ar7"), ar7::Key::generate()?);
/// # let documents = folder.path().join("documents");
/// # std::fs::create_dir(&documents)?;
/// # std::fs::write(documents.join("new"), "new")?;
/// # let archive = ar7::Archive::create(&path, &key)?;
/// let snapshot = archive.snapshot()?;
/// let report = ar7::fs::Compare::new(&documents).run(&snapshot)?;
/// for (path, difference) in &report.differences {
///     println!("{}: {}", path.display(), difference.name());
/// }
/// # assert_eq!(report.differences[0].1, ar7::fs::Difference::Extra);
/// # Ok::<(), ar7::Error>(())
/// ```
#[must_use]
pub struct Compare<'a> {
    directory: PathBuf,
    path: PathBuf,
    on_event: Option<OnEvent<'a>>,
}

impl fmt::Debug for Compare<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Compare")
            .field("directory", &self.directory)
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl<'a> Compare<'a> {
    /// Creates a comparison of this directory of the file system with the root directory of an archive.
    pub fn new(directory: impl Into<PathBuf>) -> Compare<'a> {
        Compare { directory: directory.into(), path: PathBuf::new(), on_event: None }
    }

    /// Sets the directory of the archive.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Compare<'a> {
        self.path = path.into();
        self
    }

    /// Sets the directory of the archive to where an ingest [into](super::Ingest::into) a directory stores this one: there
    /// under its last component or, if it ends in `/.`, its entries.
    pub fn into(self, directory: impl Into<PathBuf>) -> Compare<'a> {
        let stored = last_component(&self.directory);
        let into = directory.into();
        self.path(stored.map_or_else(|| into.clone(), |name| into.join(name)))
    }

    /// Sets a function that receives each event. If it breaks, the comparison stops with [`Error::Stopped`].
    pub fn on_event(
        mut self,
        on_event: impl FnMut(CompareEvent<'_>) -> ControlFlow<()> + 'a,
    ) -> Compare<'a> {
        self.on_event = Some(Box::new(on_event));
        self
    }

    /// Compares. Fails if one of the two directories does not exist, or if the callback stopped it.
    pub fn run(self, snapshot: &Snapshot) -> Result<CompareReport> {
        self.run_on(snapshot, &System::default())
    }

    fn run_on(self, snapshot: &Snapshot, system: &System) -> Result<CompareReport> {
        let names: Vec<&[u8]> = components(&self.path).collect();
        let path = names.join(&b'/');
        let found = find(snapshot.registry(), &path)?;
        if !found.is_directory() {
            let (expected, path) = (EntryType::Directory, to_path(path));
            return Err(crate::source::wrong_type(&path, expected.name(), found.inode.kind));
        }
        let failed = |error| {
            let (path, source) = (Some(self.directory.clone()), Arc::new(error));
            Error::Io { operation: "open", path, source }
        };
        let descriptor = Arc::new(system.open_typed(&self.directory).map_err(failed)?);
        let tree = Tree::new(system);
        let top = tree.top(&descriptor, ()).map_err(failed)?;
        let mut comparing = Comparing {
            snapshot: snapshot.registry(),
            tree,
            directory: &self.directory,
            report: CompareReport::default(),
            on_event: self.on_event,
            buffers: (Vec::new(), Vec::new()),
        };
        if !path.is_empty() {
            comparing.directory(&to_path(path.clone()), &found, &descriptor)?;
        }
        comparing.below(&top, &found, path)?;
        Ok(comparing.report)
    }
}

struct Comparing<'a> {
    snapshot: &'a ar7_registry::Snapshot,
    tree: Tree<&'a System>,
    directory: &'a Path,
    report: CompareReport,
    on_event: Option<OnEvent<'a>>,
    buffers: (Vec<u8>, Vec<u8>),
}

type Level = Arc<Directory<()>>;

impl Comparing<'_> {
    /// Compares everything in a directory.
    fn below(&mut self, top: &Level, found: &Found, path: Vec<u8>) -> Result<()> {
        let mut walk = Walk::new(self.snapshot, found.number, path, None);
        let mut levels = vec![Arc::clone(top)];
        self.extra(&walk, top, found)?;
        while let Some(step) = walk.next() {
            match (step, levels.last()) {
                (Ok(Step::Entry(found)), Some(level)) => {
                    let level = Arc::clone(level);
                    let path = walk.path_of(&found.name);
                    let Some(below) = self.entry(&path, &level, &found)? else { continue };
                    match walk.enter(&found, None) {
                        Ok(()) => {
                            self.extra(&walk, &below, &found)?;
                            levels.push(below);
                        }
                        Err(unreadable) => self.unreadable(unreadable)?,
                    }
                }
                (Ok(Step::Left), Some(_)) => {
                    // Keeps the parent open, in which the walk continues.
                    if let Some(level) = levels.pop()
                        && let Ok(descriptor) = self.tree.descriptor(&level)
                    {
                        let _parent = self.tree.parent_of(&level, &descriptor);
                    }
                }
                (Err(unreadable), _) => self.unreadable(unreadable)?,
                (Ok(_), None) => {}
            }
        }
        Ok(())
    }

    /// Compares an entry. Returns it if it is a directory on both sides.
    fn entry(&mut self, path: &Path, level: &Level, found: &Found) -> Result<Option<Level>> {
        let status = self.tree.descriptor(level).and_then(|at| {
            let status = self.tree.system.status_if_there(at.as_fd(), &found.name)?;
            Ok(status.map(|status| (at, status)))
        });
        let (at, status) = match status {
            Ok(Some(found)) => found,
            Ok(None) => return self.differs(path, Difference::Missing).map(|()| None),
            Err(error) => return self.failed(path, level, found, "stat", error).map(|()| None),
        };
        if status.kind != Some(found.inode.kind) {
            let (stored, kind) = (found.inode.kind.into(), status.kind.map(FileType::from));
            self.differs(path, Difference::Type { stored, found: kind })?;
            return Ok(None);
        }
        let (outcome, below) = match found.inode.kind {
            EntryType::Directory => match self.open(&at, level, found) {
                Ok((below, _)) if found.is_lost => (Ok(Ok(())), Some(below)),
                Ok((below, descriptor)) => {
                    (self.directory(path, found, &descriptor).map(Ok), Some(below))
                }
                Err(error) => (Ok(Err(("open", error))), None),
            },
            EntryType::File => (self.file(path, at.as_fd(), found), None),
            EntryType::Symlink => (self.symlink(path, at.as_fd(), found, &status), None),
            _ => (self.special(path, found, &status).map(Ok), None),
        };
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err((operation, error))) => self.failed(path, level, found, operation, error)?,
            Err(error) if is_fatal(&error) => return Err(error),
            Err(error) => self.unreadable(Unreadable::new(path.to_owned(), error))?,
        }
        Ok(below)
    }

    fn open(
        &self,
        at: &OwnedFd,
        level: &Level,
        found: &Found,
    ) -> io::Result<(Level, Arc<OwnedFd>)> {
        let (tree, name) = (&self.tree, &found.name);
        let opened = tree.with_descriptors(|| tree.system.open_directory(at.as_fd(), name))?;
        let id = tree.system.status_of(&opened)?.id;
        let below = tree.opened(level, name.clone(), id, opened, ());
        let descriptor = tree.descriptor(&below)?;
        Ok((below, descriptor))
    }

    /// Compares the attributes of a directory.
    fn directory(&mut self, path: &Path, found: &Found, descriptor: &OwnedFd) -> Result<()> {
        let system = self.tree.system;
        let compared = descriptor.try_clone().and_then(|descriptor| {
            let file = File::from(descriptor);
            Ok((system.status_of(&file)?, extended_attributes(system, &file)?))
        });
        match compared {
            Ok((status, attributes)) => {
                self.attributes(path, &found.inode, &status)?;
                self.extended(path, &found.inode, &attributes)?;
                self.compared(path, 0)
            }
            Err(error) => {
                let path_of = Some(self.directory.to_owned());
                let error = Error::Io { operation: "read", path: path_of, source: Arc::new(error) };
                self.unreadable(Unreadable::new(path.to_owned(), error))
            }
        }
    }

    fn file(&mut self, path: &Path, at: BorrowedFd<'_>, found: &Found) -> Result<Compared> {
        let tree = &self.tree;
        let opened = tree
            .with_descriptors(|| tree.system.open_file(at, &found.name))
            .and_then(|file| tree.system.status_of(&file).map(|status| (file, status)));
        let (file, status) = match opened {
            Ok((_, status)) if status.kind != Some(EntryType::File) => {
                return Ok(Err(("open", replaced())));
            }
            Ok(opened) => opened,
            Err(error) => return Ok(Err(("open", error))),
        };
        let attributes = match extended_attributes(tree.system, &file) {
            Ok(attributes) => attributes,
            Err(error) => return Ok(Err(("read attributes", error))),
        };
        let mut bytes = 0;
        if status.size == found.inode.size {
            match self.content(&file, &found.inode)? {
                Ok(true) => bytes = status.size,
                Ok(false) => self.differs(path, Difference::Content)?,
                Err(error) => return Ok(Err(("read", error))),
            }
        } else {
            let (stored, found) = (found.inode.size, status.size);
            self.differs(path, Difference::Size { stored, found })?;
        }
        self.attributes(path, &found.inode, &status)?;
        self.extended(path, &found.inode, &attributes)?;
        self.compared(path, bytes)?;
        Ok(Ok(()))
    }

    /// Returns whether a file has the content that is stored. Both have the same length.
    fn content(&mut self, file: &File, inode: &Inode) -> Result<io::Result<bool>> {
        let Some(stream) = self.snapshot.read_file(inode)? else { return Ok(Ok(true)) };
        let (stored, found) = &mut self.buffers;
        let mut offset = 0;
        while offset < stream.len() {
            let left = usize::try_from(stream.len() - offset).unwrap_or(PIECE).min(PIECE);
            stored.resize(left, 0);
            found.resize(left, 0);
            let read = stream.read_at(offset, stored)?;
            match file.read_exact_at(&mut found[..read], offset) {
                Ok(()) if stored[..read] == found[..read] => offset += read as u64,
                Ok(()) => return Ok(Ok(false)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Ok(false)),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(true))
    }

    fn symlink(
        &mut self,
        path: &Path,
        at: BorrowedFd<'_>,
        found: &Found,
        status: &Status,
    ) -> Result<Compared> {
        let target = match self.tree.system.target(at, &found.name) {
            Ok(target) => target,
            Err(error) => return Ok(Err(("read link", error))),
        };
        let stored = self.snapshot.read_target(&found.inode)?;
        if stored != target {
            let (stored, found) = (to_path(stored), to_path(target));
            self.differs(path, Difference::Target { stored, found })?;
        }
        self.attributes(path, &found.inode, status)?;
        self.compared(path, 0)?;
        Ok(Ok(()))
    }

    fn special(&mut self, path: &Path, found: &Found, status: &Status) -> Result<()> {
        if found.inode.device.is_some_and(|device| device != status.device) {
            self.differs(path, Difference::Device)?;
        }
        self.attributes(path, &found.inode, status)?;
        self.compared(path, 0)
    }

    fn attributes(&mut self, path: &Path, inode: &Inode, status: &Status) -> Result<()> {
        let stored = inode.attributes;
        if inode.kind != EntryType::Symlink && stored.mode != status.mode {
            let (stored, found) = (stored.mode, status.mode);
            self.differs(path, Difference::Mode { stored, found })?;
        }
        let (owner, found) = ((stored.uid, stored.gid), (status.owner, status.group));
        if owner != found {
            self.differs(path, Difference::Owner { stored: owner, found })?;
        }
        let (stored, found) = (stored.modified.into(), status.modified);
        if stored != found {
            self.differs(path, Difference::Modified { stored, found })?;
        }
        Ok(())
    }

    fn extended(&mut self, path: &Path, inode: &Inode, found: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let stored = self.snapshot.extended_attributes(inode)?;
        let is_same = stored.len() == found.len()
            && stored
                .iter()
                .zip(found)
                .all(|(stored, found)| stored.name == found.0 && stored.value == found.1);
        if is_same { Ok(()) } else { self.differs(path, Difference::ExtendedAttributes) }
    }

    /// Reports the entries of a directory that are only in the file system.
    fn extra(&mut self, walk: &Walk<'_>, level: &Level, found: &Found) -> Result<()> {
        let listed = self.tree.descriptor(level).and_then(|at| {
            self.tree.system.read_directory(at.as_fd(), |entries| {
                let mut extra = Vec::new();
                for entry in entries {
                    let entry = entry?;
                    let name = entry.file_name().to_bytes();
                    let is_own = name == b"." || name == b"..";
                    // The walk reports damage.
                    if !is_own && matches!(self.snapshot.lookup(found.number, name), Ok(None)) {
                        extra.push(name.to_vec());
                    }
                }
                extra.sort_unstable();
                Ok(extra)
            })
        });
        match listed {
            Ok(extra) => extra
                .iter()
                .try_for_each(|name| self.differs(&walk.path_of(name), Difference::Extra)),
            Err(error) => {
                let path = walk.path_of(b"");
                self.failed(&path, level, found, "list", error)
            }
        }
    }

    fn compared(&mut self, path: &Path, bytes: u64) -> Result<()> {
        self.report.entries += 1;
        self.report.bytes += bytes;
        self.tell(CompareEvent::Compared { path, bytes })
    }

    fn differs(&mut self, path: &Path, difference: Difference) -> Result<()> {
        self.tell(CompareEvent::Differs { path, difference: &difference })?;
        self.report.difference_count += 1;
        if self.report.differences.len() < LISTED_MAX {
            self.report.differences.push((path.to_owned(), difference));
        }
        Ok(())
    }

    fn unreadable(&mut self, unreadable: Unreadable) -> Result<()> {
        let Unreadable { path, error } = unreadable;
        let error = *error;
        self.tell(CompareEvent::Unreadable { path: &path, error: &error })?;
        self.report.unreadable_count += 1;
        self.report.worst = Some(ErrorClass::worst(self.report.worst, &error));
        if self.report.unreadable.len() < LISTED_MAX {
            self.report.unreadable.push((path, error));
        }
        Ok(())
    }

    fn failed(
        &mut self,
        path: &Path,
        level: &Level,
        found: &Found,
        operation: &'static str,
        error: io::Error,
    ) -> Result<()> {
        let place = self.directory.join(to_path(level.path_of(&found.name)));
        let error = Error::Io { operation, path: Some(place), source: Arc::new(error) };
        self.unreadable(Unreadable::new(path.to_owned(), error))
    }

    fn tell(&mut self, event: CompareEvent<'_>) -> Result<()> {
        let Some(on_event) = &mut self.on_event else { return Ok(()) };
        if on_event(event).is_break() { Err(Error::Stopped) } else { Ok(()) }
    }
}

/// The outcome of a comparison: an operation of the file system may fail, which is reported.
type Compared = std::result::Result<(), (&'static str, io::Error)>;

/// Returns the extended attributes of an open file or directory, in ascending order of their names.
fn extended_attributes(system: &System, file: &File) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut attributes = Vec::new();
    for name in system.attribute_names(file)? {
        if let Some(value) = system.attribute(file, &name)? {
            attributes.push((name, value));
        }
    }
    attributes.sort_unstable();
    Ok(attributes)
}
