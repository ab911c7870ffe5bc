//! Lists of the entries that match patterns, in archives that may be damaged.

use std::iter;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::filter::Filter;
use crate::records::Entry;
use crate::snapshot::Snapshot;

/// Entries, or why they are unreadable.
type Entries<'a> = Box<dyn Iterator<Item = Result<Entry>> + 'a>;

/// A list of entries, as `ls` and `find` make it.
///
/// By default, an existing path stands for the entries of the directory there, listed under their names, or for the other
/// entry there. A pattern stands for the entries that match it, listed under their paths.
///
/// ```
/// # fn main() -> ar7::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
/// let transaction = archive.begin()?;
/// transaction.create_directories("photos/2026")?;
/// transaction.write("photos/2026/a.jpg", &[7; 5000][..])?;
/// transaction.commit()?;
/// let (snapshot, mut paths) = (archive.snapshot()?, Vec::new());
/// for listed in ar7::Listing::new().recursive(true).entries(&snapshot, "photos")? {
///     paths.push(listed?.entry.path);
/// }
/// assert_eq!(paths, ["2026", "2026/a.jpg"].map(std::path::PathBuf::from));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Listing {
    is_recursive: bool,
    has_trees: bool,
    has_details: bool,
    filter: Filter,
}

/// An entry of a [`Listing`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Listed {
    /// The entry. Its path is the one under which it is listed.
    pub entry: Entry,
    /// With details: the bytes that the content of a file takes in the archive, if they can be read.
    pub stored_bytes: Option<u64>,
    /// With details: the target of a symbolic link, if it can be read.
    pub target: Option<PathBuf>,
}

impl Listing {
    /// Creates a listing of one level, without details or a filter.
    pub fn new() -> Listing {
        Listing::default()
    }

    /// Sets whether everything below the listed directories is listed too.
    pub fn recursive(mut self, is_recursive: bool) -> Listing {
        self.is_recursive = is_recursive;
        self
    }

    /// Lists each entry that a path or pattern stands for and everything below it, all under their whole paths, whether the
    /// listing is recursive or not.
    pub fn trees(mut self) -> Listing {
        self.has_trees = true;
        self
    }

    /// Lists only the entries that a filter accepts.
    pub fn filter(mut self, filter: Filter) -> Listing {
        self.filter = filter;
        self
    }

    /// Sets whether the bytes that files take, and the targets of symbolic links, are read.
    pub fn details(mut self, has_details: bool) -> Listing {
        self.has_details = has_details;
        self
    }

    /// Returns the entries of a path or pattern, in the order of [`Snapshot::walk`]. What is unreadable is an error, and the
    /// next ones follow. Fails with [`NotFound`](crate::Error::NotFound) if nothing matches, unless names are unreadable.
    pub fn entries<'a>(
        &self,
        snapshot: &'a Snapshot,
        pattern: impl AsRef<Path>,
    ) -> Result<Box<dyn Iterator<Item = Result<Listed>> + 'a>> {
        let pattern = pattern.as_ref();
        let exists = || snapshot.exists(pattern).map_err(|error| error.in_entry(pattern));
        let is_path = !self.has_trees && exists()?;
        let mut unreadable = Vec::new();
        let paths = snapshot.matching_readable(pattern, |error| unreadable.push(Err(error)))?;
        // A directory can be listed even if its own record is damaged.
        let is_opened = is_path && paths.iter().all(|path| snapshot.list(path).is_ok());
        if is_path && !is_opened {
            paths.iter().try_for_each(|path| {
                snapshot.entry(path).map(drop).map_err(|error| error.in_entry(path))
            })?;
        }
        let is_tree = self.has_trees || self.is_recursive && !is_path;
        let (is_recursive, filter) = (self.is_recursive, self.filter.clone());
        let found = paths.into_iter().flat_map(move |path| {
            let entries = match (is_opened, is_tree) {
                (true, _) if is_recursive => snapshot.walk(&path).map(|walk| Box::new(walk) as _),
                (true, _) => snapshot.list(&path).map(|list| Box::new(list) as _),
                (false, true) => snapshot.tree(&path),
                (false, false) => Ok(Box::new(iter::once(snapshot.entry(&path))) as _),
            };
            let entries: Entries<'a> =
                entries.unwrap_or_else(|error| Box::new(iter::once(Err(error))));
            entries.map(move |entry| {
                let entry = entry.map_err(|error| error.in_entry(&path));
                (if is_opened { path.clone() } else { PathBuf::new() }, entry)
            })
        });
        let accepted = found
            .filter(move |(_, entry)| entry.as_ref().map_or(true, |entry| filter.matches(entry)));
        let has_details = self.has_details;
        let listed = accepted.flat_map(move |(base, entry)| match entry {
            Ok(entry) => listed(snapshot, entry, &base, has_details),
            Err(error) => vec![Err(error)],
        });
        Ok(Box::new(unreadable.into_iter().chain(listed)))
    }
}

impl Listed {
    /// Returns what [`Metadata::columns`](crate::Metadata::columns) returns, with the details.
    pub fn columns(&self) -> String {
        self.entry.metadata.columns(self.stored_bytes)
    }
}

/// Reads the details of an entry. Returns what is unreadable of them, and the entry.
fn listed(
    snapshot: &Snapshot,
    mut entry: Entry,
    base: &Path,
    has_details: bool,
) -> Vec<Result<Listed>> {
    let (mut target, mut stored_bytes, mut unreadable) = (None, None, Vec::new());
    if has_details && entry.metadata.is_symlink() {
        match snapshot.read_link(&entry.path) {
            Ok(path) => target = Some(path),
            Err(error) => unreadable.push(Err(error.in_entry(&entry.path))),
        }
    }
    if has_details && entry.metadata.is_file() {
        match snapshot.stored_bytes(&entry.metadata) {
            Ok(bytes) => stored_bytes = Some(bytes),
            Err(error) => unreadable.push(Err(error.in_entry(&entry.path))),
        }
    }
    let name = entry.path.strip_prefix(base).unwrap_or(&entry.path).to_owned();
    entry.path = name;
    unreadable.push(Ok(Listed { entry, stored_bytes, target }));
    unreadable
}
