//! Looking up entries, in a snapshot or in a transaction alike.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ar7_engine::{Check, Error as EngineError};
use ar7_registry::records::{EntryType, ExtendedAttribute, Inode, InodeNumber};
use ar7_registry::{self as registry, names};
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::path::{bytes, components, to_path};
use crate::records::{Entry, Metadata};

/// Entries that are read at a time.
const BATCH: usize = 64;

/// The number of directories on the way to the present one whose entries are kept. Those further up are read again.
const BATCHES_MAX: usize = 16;

/// What entries are read from.
pub(crate) trait Source: Sync {
    /// Returns whether entries can be removed while a directory is listed.
    fn can_change(&self) -> bool;

    /// Returns the entry at a path.
    fn resolve(&self, path: &[u8]) -> registry::Result<names::Entry>;

    /// Returns an inode.
    fn inode(&self, number: InodeNumber) -> registry::Result<Option<Inode>>;

    /// Returns up to `limit` entries with names from `from` on.
    fn list(
        &self,
        directory: InodeNumber,
        from: &[u8],
        limit: usize,
    ) -> registry::Result<Vec<names::Entry>>;

    /// Returns the name at which a list can continue that failed at `from`.
    fn past_damage(&self, directory: InodeNumber, from: &[u8]) -> Option<Vec<u8>>;

    /// Returns the target of a symbolic link.
    fn target(&self, inode: &Inode) -> registry::Result<Vec<u8>>;

    /// Returns the extended attributes of an inode.
    fn extended(&self, inode: &Inode) -> registry::Result<Vec<ExtendedAttribute>>;
}

impl Source for registry::Snapshot {
    fn can_change(&self) -> bool {
        false
    }

    fn resolve(&self, path: &[u8]) -> registry::Result<names::Entry> {
        registry::Snapshot::resolve(self, path)
    }

    fn inode(&self, number: InodeNumber) -> registry::Result<Option<Inode>> {
        registry::Snapshot::inode(self, number)
    }

    fn list(
        &self,
        directory: InodeNumber,
        from: &[u8],
        limit: usize,
    ) -> registry::Result<Vec<names::Entry>> {
        self.list_from(directory, from, limit)
    }

    fn past_damage(&self, directory: InodeNumber, from: &[u8]) -> Option<Vec<u8>> {
        registry::Snapshot::past_damage(self, directory, from)
    }

    fn target(&self, inode: &Inode) -> registry::Result<Vec<u8>> {
        self.read_target(inode)
    }

    fn extended(&self, inode: &Inode) -> registry::Result<Vec<ExtendedAttribute>> {
        self.extended_attributes(inode)
    }
}

/// The open transaction of a writer.
impl Source for registry::Archive {
    fn can_change(&self) -> bool {
        true
    }

    fn resolve(&self, path: &[u8]) -> registry::Result<names::Entry> {
        self.names().resolve(path)
    }

    fn inode(&self, number: InodeNumber) -> registry::Result<Option<Inode>> {
        self.names().inode(number)
    }

    fn list(
        &self,
        directory: InodeNumber,
        from: &[u8],
        limit: usize,
    ) -> registry::Result<Vec<names::Entry>> {
        self.names().list_from(directory, from, limit)
    }

    /// A transaction would write the directory without the names that it cannot read, so its list ends there.
    fn past_damage(&self, _: InodeNumber, _: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn target(&self, inode: &Inode) -> registry::Result<Vec<u8>> {
        self.names().read_target(inode)
    }

    fn extended(&self, inode: &Inode) -> registry::Result<Vec<ExtendedAttribute>> {
        self.names().extended_attributes(inode)
    }
}

/// Returns the inode at a path. Fails with [`Error::NotFound`] if the path does not exist.
pub(crate) fn find(source: &impl Source, path: &Path) -> Result<(InodeNumber, Inode)> {
    let entry = source.resolve(bytes(path))?;
    Ok((entry.inode, existing(source, entry.inode)?))
}

/// Returns the inode at a path if it has this type.
pub(crate) fn find_typed(
    source: &impl Source,
    path: &Path,
    expected: EntryType,
) -> Result<(InodeNumber, Inode)> {
    let (number, inode) = find(source, path)?;
    if inode.kind != expected {
        return Err(wrong_type(path, expected.name(), inode.kind));
    }
    Ok((number, inode))
}

/// Returns the error for an entry of another type than expected.
pub(crate) fn wrong_type(path: &Path, expected: &'static str, found: EntryType) -> Error {
    Error::WrongType { path: path.to_owned(), expected, found: found.name() }
}

/// Returns whether a path has an entry.
pub(crate) fn exists(source: &impl Source, path: &Path) -> Result<bool> {
    match source.resolve(bytes(path)).map_err(Error::from) {
        Ok(_) => Ok(true),
        // A component on the way is missing, or is a file.
        Err(Error::NotFound { .. } | Error::WrongType { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Returns what the archive knows about the entry at a path.
pub(crate) fn metadata(source: &impl Source, path: &Path) -> Result<Metadata> {
    let (number, inode) = find(source, path)?;
    Ok(Metadata::new(number, &inode))
}

/// Returns the target of the symbolic link at a path.
pub(crate) fn read_link(source: &impl Source, path: &Path) -> Result<PathBuf> {
    let (_, inode) = find_typed(source, path, EntryType::Symlink)?;
    Ok(to_path(source.target(&inode)?))
}

/// Returns the extended attributes of the entry at a path.
pub(crate) fn extended_attributes(
    source: &impl Source,
    path: &Path,
) -> Result<Vec<ExtendedAttribute>> {
    let (_, inode) = find(source, path)?;
    Ok(source.extended(&inode)?)
}

fn existing(source: &impl Source, number: InodeNumber) -> Result<Inode> {
    source.inode(number)?.ok_or_else(|| missing(number))
}

fn missing(number: InodeNumber) -> Error {
    Error::MissingInode { inode: number.0 }
}

/// Adds the path of an entry to an error.
fn in_entry(path: PathBuf, error: impl Into<Error>) -> Error {
    Error::InEntry { path, cause: Arc::new(error.into()) }
}

/// Returns the error for a directory with a second name, in its parent or in another directory, which
/// only an attacker with the key can make. Otherwise a directory could be below itself, and a walk
/// through nested directories with two names each would take time without bound.
fn elsewhere(number: InodeNumber) -> Error {
    let expected = "one name for the directory, in its parent";
    EngineError::damaged(None, Check::Name, expected, number.0).into()
}

/// A position in the list of a directory, which is read in pages and continues after an index page that does not open.
#[derive(Debug)]
pub(crate) struct Pages {
    directory: InodeNumber,
    /// The least name that the next page can have. `None` at the end.
    from: Option<Vec<u8>>,
    /// The most entries of a page.
    most: usize,
    /// Entries to read at a time: 1 after the first damage, to reach every entry before it.
    limit: usize,
}

impl Pages {
    /// Begins before the first name.
    pub(crate) fn new(directory: InodeNumber, most: usize) -> Pages {
        Pages { directory, from: Some(Vec::new()), most, limit: most }
    }

    /// Returns the directory.
    pub(crate) fn directory(&self) -> InodeNumber {
        self.directory
    }

    /// Returns the next page, or `None` at the end. After an error, the names that follow the damage are next.
    pub(crate) fn next<S: Source + ?Sized>(
        &mut self,
        source: &S,
    ) -> registry::Result<Option<Vec<names::Entry>>> {
        while let Some(from) = &self.from {
            match source.list(self.directory, from, self.limit) {
                Ok(page) => {
                    let last = page.last().filter(|_| page.len() == self.limit);
                    self.from = last.map(|last| [&last.name[..], &[0]].concat());
                    return Ok(Some(page));
                }
                Err(_) if self.limit > 1 => self.limit = 1,
                Err(error) => {
                    self.from = source.past_damage(self.directory, from);
                    self.limit = self.most;
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// Makes the next page begin with a name.
    pub(crate) fn return_to(&mut self, name: &[u8]) {
        self.from = Some(name.to_vec());
    }
}

/// The entries of one directory, in byte order of their names. See [`crate::Snapshot::list`].
///
/// If the record of an entry is unreadable, it is an [`Error::InEntry`], and the next entries follow. If some of
/// the names are unreadable, it is an [`Error::InEntry`] of the directory, and the next names follow; in a
/// transaction, it is the last item.
pub struct List<'a> {
    path: Vec<u8>,
    level: Level<'a>,
    /// The directories among the entries so far.
    directories: RoaringTreemap,
}

/// What is left of the list of a directory, without the directory's path.
struct Level<'a> {
    source: &'a dyn Source,
    pages: Pages,
    batch: VecDeque<names::Entry>,
    /// The name of a directory whose record is unreadable, after the error that says so.
    lost: Option<(Vec<u8>, InodeNumber)>,
    /// The length of the path of the directory above.
    above: usize,
}

impl<'a> Level<'a> {
    fn new(source: &'a dyn Source, directory: InodeNumber, above: usize) -> Level<'a> {
        let (pages, batch) = (Pages::new(directory, BATCH), VecDeque::new());
        Level { source, pages, batch, lost: None, above }
    }

    /// Returns the next entry. `path` is that of the directory, and `directories` has the directories among the entries
    /// so far.
    fn read_next(
        &mut self,
        path: &[u8],
        directories: &mut RoaringTreemap,
    ) -> Result<Option<(Entry, InodeNumber)>> {
        loop {
            if self.batch.is_empty() {
                let page = self.pages.next(self.source);
                let page = page.map_err(|error| in_entry(to_path(path.to_vec()), error))?;
                self.batch = page.unwrap_or_default().into();
            }
            let Some(names::Entry { name, inode: number, kind }) = self.batch.pop_front() else {
                return Ok(None);
            };
            let inode = match self.source.inode(number) {
                Ok(inode) => inode,
                Err(error) => {
                    let path = to_path(joined(path, &name));
                    self.lost = (kind == EntryType::Directory).then_some((name, number));
                    return Err(in_entry(path, error));
                }
            };
            let path = to_path(joined(path, &name));
            if let Some(inode) = inode {
                if inode.kind == EntryType::Directory
                    && (inode.parent != Some(self.pages.directory())
                        || !directories.insert(number.0))
                {
                    if self.source.can_change() {
                        // It was moved or renamed after one of its names was read.
                        continue;
                    }
                    return Err(in_entry(path, elsewhere(number)));
                }
                let metadata = Metadata::new(number, &inode);
                return Ok(Some((Entry { path, metadata }, number)));
            }
            if !self.source.can_change() {
                return Err(in_entry(path, missing(number)));
            }
        }
    }

    /// Drops the entries that were read. They are read again when they are needed.
    fn forget(&mut self) {
        if let Some(next) = self.batch.front() {
            self.pages.return_to(&next.name);
        }
        self.batch = VecDeque::new();
    }
}

/// Returns the path of a name in a directory.
fn joined(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, name].join(&b'/') }
}

impl<'a> List<'a> {
    pub(crate) fn new(source: &'a impl Source, path: &Path) -> Result<List<'a>> {
        // The name states the type, so that a directory can be listed whose own record is unreadable.
        let entry = source.resolve(bytes(path))?;
        if entry.kind != EntryType::Directory {
            return Err(wrong_type(path, EntryType::Directory.name(), entry.kind));
        }
        let (level, directories) = (Level::new(source, entry.inode, 0), RoaringTreemap::new());
        Ok(List { path: bytes(&normal(path)).to_vec(), level, directories })
    }
}

impl Iterator for List<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        let found = self.level.read_next(&self.path, &mut self.directories);
        found.map(|found| found.map(|(entry, _)| entry)).transpose()
    }
}

impl fmt::Debug for List<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = to_path(self.path.clone());
        formatter.debug_struct("List").field("path", &path).finish_non_exhaustive()
    }
}

/// The entries below a directory, each directory before its entries. See [`crate::Snapshot::walk`].
///
/// An unreadable entry is an error, and the walk continues with the next. If it is a directory, its entries follow.
///
/// It keeps no path for each level, so that its memory is proportional to the depth of the tree.
pub struct Walk<'a> {
    /// The directories from the first one to the one that is being listed.
    open: Vec<Level<'a>>,
    /// The path of the directory that is being listed.
    path: Vec<u8>,
    /// The number of directories between the first one and the last entry, including the first.
    depth: usize,
    /// The directories so far.
    directories: RoaringTreemap,
    /// Directories that were entered although their record is unreadable, so that nothing states their parent.
    entered_lost: RoaringTreemap,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(source: &'a impl Source, path: &Path) -> Result<Walk<'a>> {
        let List { path, level, directories } = List::new(source, path)?;
        let entered_lost = RoaringTreemap::new();
        Ok(Walk { open: vec![level], path, depth: 0, directories, entered_lost })
    }

    /// Returns the number of directories between the first one and the last entry that was returned, including the
    /// first.
    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    fn enter(&mut self, source: &'a dyn Source, number: InodeNumber, path: &[u8]) {
        let above = self.path.len();
        self.path.clear();
        self.path.extend_from_slice(path);
        self.open.push(Level::new(source, number, above));
        let far = self.open.len().checked_sub(BATCHES_MAX);
        if let Some(far) = far.and_then(|far| self.open.get_mut(far)) {
            far.forget();
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry>;

    fn next(&mut self) -> Option<Result<Entry>> {
        while let Some(level) = self.open.last_mut() {
            let source = level.source;
            match level.read_next(&self.path, &mut self.directories) {
                Ok(None) => {
                    self.path.truncate(level.above);
                    self.open.pop();
                }
                Ok(Some((entry, number))) => {
                    self.depth = self.open.len();
                    if entry.metadata.is_directory() {
                        self.enter(source, number, bytes(&entry.path));
                    }
                    return Some(Ok(entry));
                }
                Err(error) => {
                    // The names of an archive may form a circle.
                    if let Some((name, number)) = level.lost.take()
                        && number != InodeNumber::ROOT
                        && self.entered_lost.insert(number.0)
                    {
                        self.enter(source, number, &joined(&self.path, &name));
                    }
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

impl fmt::Debug for Walk<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = to_path(self.path.clone());
        formatter.debug_struct("Walk").field("path", &path).finish_non_exhaustive()
    }
}

/// Returns a path without empty components and `.`.
pub(crate) fn normal(path: &Path) -> PathBuf {
    components(path).map(|part| to_path(part.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ar7_registry::records::Attributes;

    use super::*;

    /// Directories with their entries: name, inode, and whether the inode can be read.
    struct Hostile {
        directories: BTreeMap<u64, Vec<(&'static str, u64)>>,
        unreadable: Vec<u64>,
        missing: Vec<u64>,
        can_change: bool,
        /// Whether the parent of each directory has the number before. Otherwise it is the root.
        is_chain: bool,
    }

    fn damaged() -> registry::Error {
        EngineError::damaged(None, Check::Page, 1_u64, 2_u64).into()
    }

    impl Source for Hostile {
        fn can_change(&self) -> bool {
            self.can_change
        }

        fn resolve(&self, _: &[u8]) -> registry::Result<names::Entry> {
            let (inode, kind) = (InodeNumber::ROOT, EntryType::Directory);
            Ok(names::Entry { name: Vec::new(), inode, kind })
        }

        fn inode(&self, number: InodeNumber) -> registry::Result<Option<Inode>> {
            if self.unreadable.contains(&number.0) {
                return Err(damaged());
            }
            let is_directory = number.0 < 100;
            let kind = if is_directory { EntryType::Directory } else { EntryType::File };
            let time = crate::Timestamp::default().of_format();
            let attributes = Attributes { mode: 0, uid: 0, gid: 0, modified: time, origin: None };
            let above = if self.is_chain { number.0.saturating_sub(1) } else { 1 };
            let parent = (2..100).contains(&number.0).then_some(InodeNumber(above));
            let inode = Inode { parent, ..Inode::new(kind, attributes) };
            Ok((!self.missing.contains(&number.0)).then_some(inode))
        }

        fn list(
            &self,
            directory: InodeNumber,
            from: &[u8],
            limit: usize,
        ) -> registry::Result<Vec<names::Entry>> {
            let entries = self.directories.get(&directory.0).ok_or_else(damaged)?;
            let above = entries.iter().filter(|(name, _)| name.as_bytes() >= from);
            let entry = |&(name, number): &(&str, u64)| names::Entry {
                name: name.as_bytes().to_vec(),
                inode: InodeNumber(number),
                kind: if number < 100 { EntryType::Directory } else { EntryType::File },
            };
            Ok(above.take(limit).map(entry).collect())
        }

        fn past_damage(&self, _: InodeNumber, _: &[u8]) -> Option<Vec<u8>> {
            None
        }

        fn target(&self, _: &Inode) -> registry::Result<Vec<u8>> {
            Err(damaged())
        }

        fn extended(&self, _: &Inode) -> registry::Result<Vec<ExtendedAttribute>> {
            Err(damaged())
        }
    }

    /// Fifty levels with two names for each directory, which have 2^50 paths.
    #[test]
    fn a_directory_with_two_names_is_walked_once() {
        let level = |at: u64| (at, vec![("a", at + 1), ("b", at + 1), ("c", at + 100)]);
        let directories = (1..=50).map(level).chain([(51, Vec::new())]).collect();
        let (unreadable, missing) = (Vec::new(), Vec::new());
        let is_chain = true;
        let source = Hostile { directories, unreadable, missing, can_change: false, is_chain };
        let walk = Walk::new(&source, Path::new("")).unwrap();
        let found: Vec<Result<Entry>> = walk.take(1000).collect();
        assert_eq!(found.iter().filter(|found| found.is_ok()).count(), 100);
        assert_eq!(found.iter().filter(|found| found.is_err()).count(), 50);
    }

    /// A list far above the walk's place is read again, from where it was.
    #[test]
    fn a_walk_returns_what_follows_a_directory_far_above_it() {
        const DEPTH: usize = 3 * BATCHES_MAX;
        let level = |at: u64| (at, vec![("a", at + 100), ("b", at + 1), ("c", at + 200)]);
        let directories =
            (1..=DEPTH as u64).map(level).chain([(DEPTH as u64 + 1, Vec::new())]).collect();
        let (unreadable, missing) = (vec![5], Vec::new());
        let (can_change, is_chain) = (false, true);
        let source = Hostile { directories, unreadable, missing, can_change, is_chain };
        let found: Vec<Result<Entry>> = Walk::new(&source, Path::new("top")).unwrap().collect();
        let above = |depth| format!("top{}", "/b".repeat(depth));
        let down = (0..DEPTH).flat_map(|at| [above(at) + "/a", above(at + 1)]);
        let up = (0..DEPTH).rev().map(|at| above(at) + "/c");
        let expected: Vec<String> = down.chain(up).collect();
        let path = |found: &Result<Entry>| match found {
            Ok(entry) => entry.path.display().to_string(),
            Err(Error::InEntry { path, .. }) => path.display().to_string(),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found.iter().map(path).collect::<Vec<_>>(), expected);
        assert_eq!(found.iter().filter(|found| found.is_err()).count(), 1, "the record of 5");
    }

    fn hostile() -> Hostile {
        let root = vec![("a", 2), ("b", 100), ("c", 3), ("d", 101)];
        let directories = BTreeMap::from([(1, root), (3, vec![("e", 1), ("f", 102)])]);
        let (unreadable, missing) = (vec![100], vec![102]);
        Hostile { directories, unreadable, missing, can_change: false, is_chain: false }
    }

    /// Returns the path of each entry, or "error".
    fn shown(found: impl Iterator<Item = Result<Entry>>) -> Vec<String> {
        let shown = found.take(20).map(|entry| match entry {
            Ok(entry) => entry.path.display().to_string(),
            Err(Error::InEntry { .. }) => "error".to_owned(),
            Err(error) => panic!("{error}"),
        });
        shown.collect()
    }

    #[test]
    fn a_walk_continues_after_what_is_unreadable_and_ends_in_a_cycle() {
        let source = hostile();
        let walk = Walk::new(&source, Path::new("")).unwrap();
        // The entries of a, the record of b, the cycle c/e, and the missing record of c/f.
        assert_eq!(shown(walk), ["a", "error", "error", "c", "error", "error", "d"]);
        let list = List::new(&source, Path::new("")).unwrap();
        assert_eq!(shown(list), ["a", "error", "c", "d"]);
    }

    #[test]
    fn entries_can_disappear_from_a_transaction_and_not_from_a_commit() {
        let folder = tempfile::tempdir().unwrap();
        let key = crate::Key::from([1; 32]);
        let archive = crate::Archive::create(folder.path().join("a.ar7"), &key).unwrap();
        assert!(archive.registry.can_change());
        assert!(!archive.registry.snapshot().can_change());
    }

    #[test]
    fn an_entry_that_a_transaction_removes_or_moves_meanwhile_is_left_out() {
        let source = Hostile { can_change: true, ..hostile() };
        let walk = Walk::new(&source, Path::new("")).unwrap();
        // The name c/e of the root counts as one that was just moved, and c/f as removed.
        assert_eq!(shown(walk), ["a", "error", "error", "c", "d"]);
    }
}
