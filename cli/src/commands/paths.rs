//! The entries that paths and patterns on the command line name.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

use ar7::Snapshot;

use crate::exit::Failure;

/// Returns the paths that a path or pattern names. No match is a failure.
pub(super) fn expand(snapshot: &Snapshot, typed: &OsStr) -> Result<Vec<PathBuf>, Failure> {
    let found = snapshot.glob(typed).map_err(in_entry(typed))?;
    if found.is_empty() {
        // The error of the lookup names the component that is missing.
        snapshot.metadata(typed).map_err(in_entry(typed))?;
    }
    Ok(found)
}

/// Returns a function that adds the path of an entry to an error.
pub(super) fn in_entry(path: &(impl AsRef<Path> + ?Sized)) -> impl Fn(ar7::Error) -> Failure {
    let path = path.as_ref().to_owned();
    move |error| error.in_entry(path.clone()).into()
}

/// Returns a path that names an entry other than the root directory.
pub(super) fn not_root(path: &OsStr) -> Result<&Path, Failure> {
    let path = Path::new(path);
    let is_root =
        path.components().all(|part| matches!(part, Component::RootDir | Component::CurDir));
    if is_root { Err(Failure::NamesRoot) } else { Ok(path) }
}
