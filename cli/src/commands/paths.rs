//! The entries that paths and patterns on the command line name.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use ar7::{Metadata, Snapshot};

use crate::exit::Failure;

/// Returns the paths that a path or pattern names. No match is a failure.
pub(crate) fn expand(snapshot: &Snapshot, typed: &OsStr) -> Result<Vec<PathBuf>, Failure> {
    let path = Path::new(typed);
    let found = snapshot.glob(path).map_err(in_entry(path))?;
    if found.is_empty() {
        // The error of the lookup names the component that is missing.
        metadata(snapshot, path)?;
    }
    Ok(found)
}

/// Returns what the archive knows about the entry at a path.
pub(crate) fn metadata(snapshot: &Snapshot, path: &Path) -> Result<Metadata, Failure> {
    snapshot.metadata(path).map_err(in_entry(path))
}

/// Adds the path of an entry to an error.
pub(crate) fn in_entry(path: &Path) -> impl Fn(ar7::Error) -> Failure + use<'_> {
    move |error| Failure::Path { path: path.to_owned(), error }
}

/// Returns a path that names an entry other than the root directory.
pub(crate) fn not_root(path: &OsStr) -> Result<&Path, Failure> {
    let path = Path::new(path);
    let is_root = path
        .components()
        .all(|part| matches!(part, std::path::Component::RootDir | std::path::Component::CurDir));
    if is_root { Err(Failure::NamesRoot) } else { Ok(path) }
}
