//! Lists of the entries that match patterns, in archives that may be damaged.

use std::iter;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::filter::Filter;
use crate::records::Entry;
use crate::snapshot::Snapshot;

/// Entries, or why they are unreadable.
type Entries<'a> = Box<dyn Iterator<Item = Result<Entry>> + 'a>;

/// A list of entries, as `ls` and `find` make it. By default, it has what a path or pattern stands for: a directory's
/// entries under their names, and any other entry under its path.
///
/// ```
/// # fn main() -> ar7::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
/// let transaction = archive.begin()?;
/// transaction.create_directories("photos/2026")?;
/// transaction.write("photos/2026/a.jpg", &[7; 5000][..])?;
/// transaction.commit()?;
/// let (listing, mut names) = (ar7::Listing::new().recursive(true), Vec::new());
/// listing.run(&archive.snapshot()?, "photos", |listed| {
///     names.push(listed?.entry.path.display().to_string());
///     Ok::<(), ar7::Error>(())
/// })?;
/// assert_eq!(names, ["2026", "2026/a.jpg"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Listing {
    is_recursive: bool,
    has_whole_paths: bool,
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
    /// Returns the default.
    pub fn new() -> Listing {
        Listing::default()
    }

    /// Sets whether everything below the directories is listed too.
    pub fn recursive(mut self, is_recursive: bool) -> Listing {
        self.is_recursive = is_recursive;
        self
    }

    /// Lists each entry that a path or pattern stands for, and everything below it, under their whole paths.
    pub fn trees(mut self) -> Listing {
        (self.is_recursive, self.has_whole_paths) = (true, true);
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

    /// Passes each entry of a path or pattern to a function, in byte order of the paths, and also what is unreadable,
    /// because the rest may still be readable. Stops if the function fails. Fails with [`Error::NotFound`] if nothing
    /// matches.
    pub fn run<E: From<Error>>(
        &self,
        snapshot: &Snapshot,
        pattern: impl AsRef<Path>,
        mut each: impl FnMut(Result<Listed>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let pattern = pattern.as_ref();
        let exists = || snapshot.exists(pattern).map_err(|error| error.in_entry(pattern));
        let is_path = !self.has_whole_paths && exists()?;
        let mut unreadable = Vec::new();
        let paths = snapshot.matching_readable(pattern, |error| unreadable.push(error))?;
        unreadable.into_iter().try_for_each(|error| each(Err(error)))?;
        for path in paths {
            let (base, found) = self.found(snapshot, &path, is_path)?;
            for entry in found {
                match entry.map_err(|error| error.in_entry(&path)) {
                    Ok(entry) if !self.filter.matches(&entry) => {}
                    Ok(entry) => self.pass(snapshot, entry, base, &mut each)?,
                    Err(error) => each(Err(error))?,
                }
            }
        }
        Ok(())
    }

    /// Returns the entries of one path, and the path that their names leave out.
    fn found<'a>(
        &self,
        snapshot: &'a Snapshot,
        path: &'a Path,
        is_path: bool,
    ) -> Result<(&'a Path, Entries<'a>)> {
        let nothing = Path::new("");
        // A directory can be listed even if its own record is damaged.
        let is_opened = is_path && snapshot.list(path).is_ok();
        Ok(match (is_opened, self.is_recursive) {
            (true, true) => (path, Box::new(snapshot.walk(path)?)),
            (true, false) => (path, Box::new(snapshot.list(path)?)),
            (false, true) if !is_path => (nothing, snapshot.tree(path)?),
            (false, _) => {
                let entry = snapshot.entry(path).map_err(|error| error.in_entry(path));
                let entry = if is_path { Ok(entry?) } else { entry };
                (nothing, Box::new(iter::once(entry)))
            }
        })
    }

    /// Passes an entry on, with its details. Those that are unreadable are passed on before it.
    fn pass<E: From<Error>>(
        &self,
        snapshot: &Snapshot,
        mut entry: Entry,
        base: &Path,
        each: &mut impl FnMut(Result<Listed>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let (mut target, mut stored_bytes) = (None, None);
        if self.has_details && entry.metadata.is_symlink() {
            match snapshot.read_link(&entry.path) {
                Ok(path) => target = Some(path),
                Err(error) => each(Err(error.in_entry(&entry.path)))?,
            }
        }
        if self.has_details && entry.metadata.is_file() {
            match snapshot.stored_bytes(&entry.metadata) {
                Ok(bytes) => stored_bytes = Some(bytes),
                Err(error) => each(Err(error.in_entry(&entry.path)))?,
            }
        }
        let name = entry.path.strip_prefix(base).unwrap_or(&entry.path).to_owned();
        entry.path = name;
        each(Ok(Listed { entry, stored_bytes, target }))
    }
}

impl Listed {
    /// Returns what [`Metadata::columns`](crate::Metadata::columns) returns, with the details.
    pub fn columns(&self) -> String {
        self.entry.metadata.columns(self.stored_bytes)
    }
}
