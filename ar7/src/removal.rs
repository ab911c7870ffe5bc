//! Removing entries that paths and patterns name.

use std::ffi::OsStr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::meter::Meter;
use crate::path::components;
use crate::snapshot::Snapshot;

/// Something that happens during a removal.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Removed<'a> {
    /// An entry is gone, with everything in it.
    Entry {
        /// Its path.
        path: &'a Path,
        /// The number of names removed: its own, and those below it.
        names: u64,
    },
    /// Names were removed from a directory.
    Names {
        /// The path of the directory.
        path: &'a Path,
        /// The number of names removed so far, of all entries.
        total: u64,
    },
}

impl Removed<'_> {
    /// Counts the event.
    pub fn count_in(&self, meter: &Meter) {
        if let Removed::Names { path, total } = self {
            meter.set_activity(path);
            meter.set_entries(*total);
        }
    }
}

/// Entries to remove. All of them are found before the first one is removed.
///
/// ```
/// # fn main() -> ar7::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
/// use std::ops::ControlFlow;
///
/// # let transaction = archive.begin()?;
/// # transaction.create_directories("logs/old")?;
/// # transaction.write("logs/a.txt", &b"a"[..])?;
/// # transaction.commit()?;
/// let removal = ar7::Removal::new(&archive.snapshot()?, ["logs/*.txt", "logs/old"], true)?;
/// let names = removal.run(&archive, |_| ControlFlow::Continue(()))?;
/// # assert_eq!(names, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct Removal {
    others: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl Removal {
    /// Finds the entries that paths and patterns name ([`Snapshot::matching`]). Fails if one of them names nothing or the root
    /// directory, and if it names a directory, unless `recursive`.
    pub fn new(
        snapshot: &Snapshot,
        patterns: impl IntoIterator<Item = impl AsRef<OsStr>>,
        recursive: bool,
    ) -> Result<Removal> {
        let mut paths = Vec::new();
        for pattern in patterns {
            let pattern = Path::new(pattern.as_ref());
            if components(pattern).next().is_none() {
                return Err(Error::RootDirectory);
            }
            paths.extend(snapshot.matching(pattern)?);
        }
        paths.sort_unstable();
        paths.dedup();
        let mut removal = Removal::default();
        for path in paths {
            // What is below a directory comes after it.
            if removal.directories.last().is_some_and(|above| path.starts_with(above)) {
                continue;
            }
            let found = snapshot.metadata(&path).map_err(|error| error.in_entry(&path))?;
            if !found.is_directory() {
                removal.others.push(path);
            } else if recursive {
                removal.directories.push(path);
            } else {
                let expected = "an entry other than a directory";
                return Err(Error::WrongType { path, expected, found: "a directory" });
            }
        }
        Ok(removal)
    }

    /// Removes the entries: those that are not directories in one transaction, and each directory as
    /// [`Archive::remove_all`] does. Returns the number of removed names.
    ///
    /// If `event` breaks while a directory is removed, this fails with [`Error::Stopped`], and the rest stays.
    pub fn run(
        self,
        archive: &Archive,
        mut event: impl FnMut(Removed<'_>) -> ControlFlow<()>,
    ) -> Result<u64> {
        let transaction = archive.begin()?;
        for path in &self.others {
            transaction.remove(path).map_err(|error| error.in_entry(path))?;
        }
        transaction.commit()?;
        let mut total = 0;
        for path in &self.others {
            total += 1;
            going_on(event(Removed::Entry { path, names: 1 }))?;
        }
        for path in &self.directories {
            let mut flow = ControlFlow::Continue(());
            let names = archive.remove_all(path, |names| {
                flow = event(Removed::Names { path, total: total + names });
                flow
            });
            let names = names.map_err(|error| error.in_entry(path))?;
            total += names;
            going_on(flow)?;
            going_on(event(Removed::Entry { path, names }))?;
        }
        Ok(total)
    }
}

fn going_on(flow: ControlFlow<()>) -> Result<()> {
    if flow.is_break() { Err(Error::Stopped) } else { Ok(()) }
}
