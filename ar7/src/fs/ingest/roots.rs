//! The paths that the user typed, and what the patterns say about the entries below them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::Patterns;
use super::report::Unread;
use super::walk::Directory;
use crate::error::{Error, Result};
use crate::path::bytes;

/// A path that the user typed.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) path: PathBuf,
    /// The name under which it is stored. `None` stores the entries of the directory instead of the directory.
    pub(super) name: Option<OsString>,
}

/// The paths of a run, each looked at before anything is stored.
#[derive(Debug, Default)]
pub(super) struct Roots {
    pub(super) found: Vec<Root>,
    /// The paths that cannot be read.
    pub(super) unread: Vec<Unread>,
    /// The symbolic links to directories, which are stored as links.
    pub(super) links: Vec<PathBuf>,
}

impl Roots {
    /// Looks at every path. Fails if two would be stored under one name.
    pub(super) fn new(paths: &[PathBuf]) -> Result<Roots> {
        let mut looked_at = Roots::default();
        for typed in paths {
            let (path, name) = (without_slashes(typed), last_component(typed));
            // The entries of a directory may have any name, so `PATH/.` must be the only path.
            let same = |root: &&Root| root.name == name || root.name.is_none() || name.is_none();
            if let Some(same) = looked_at.found.iter().find(same) {
                return Err(Error::SameName { first: same.path.clone(), second: path });
            }
            match path.symlink_metadata() {
                Ok(metadata) => {
                    if metadata.is_symlink() && name.is_some() && path.is_dir() {
                        looked_at.links.push(path.clone());
                    }
                    looked_at.found.push(Root { path, name });
                }
                Err(error) => looked_at.unread.push(Unread::new(typed.clone(), "open", error)),
            }
        }
        Ok(looked_at)
    }
}

/// Returns the last component as typed: `a/b/` has `b`. `a/.`, `a/..` and `/` have none and stand for the entries of
/// the directory.
fn last_component(path: &Path) -> Option<OsString> {
    let last = bytes(path).split(|&byte| byte == b'/').rfind(|part| !part.is_empty())?;
    match last {
        b"." | b".." => None,
        name => Some(OsStr::from_bytes(name).to_owned()),
    }
}

/// Removes trailing slashes, with which a symbolic link would be followed.
fn without_slashes(path: &Path) -> PathBuf {
    let mut bytes = bytes(path).to_vec();
    while bytes.len() > 1 && bytes.ends_with(b"/") {
        bytes.pop();
    }
    OsString::from_vec(bytes).into()
}

impl Root {
    /// The directory that the walk begins in: the one that the root is in, or, if only its content is stored, the
    /// root itself.
    pub(super) fn location(&self) -> &Path {
        match &self.name {
            // A path without a parent has no name.
            Some(_) => self.path.parent().unwrap_or(Path::new("")),
            None => &self.path,
        }
    }
}

/// Returns whether the patterns exclude an entry. They are matched against its path as typed and as stored.
pub(super) fn excludes(
    patterns: Option<&Patterns>,
    directory: &Arc<Directory>,
    name: &OsStr,
    is_directory: bool,
) -> bool {
    let Some(patterns) = patterns else { return false };
    let (typed, stored) = (directory.shown_path_of(name), directory.path_of(name.as_bytes()));
    let paths = [plain(bytes(&typed)), &stored];
    patterns.matches_any(paths, is_directory) == Some(true)
}

/// Returns a path without the beginning that patterns leave out too: `./` or a slash.
fn plain(mut path: &[u8]) -> &[u8] {
    while let Some(rest) = path.strip_prefix(b"./").or_else(|| path.strip_prefix(b"/")) {
        path = rest;
    }
    path
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{last_component, plain, without_slashes};

    #[test]
    fn the_last_component_is_taken_as_typed() {
        for (path, name) in [
            ("/x/src", Some("src")),
            ("/x/src//", Some("src")),
            ("src", Some("src")),
            ("src/.", None),
            ("src/..", None),
            (".", None),
            ("/", None),
        ] {
            assert_eq!(last_component(Path::new(path)), name.map(Into::into), "{path}");
        }
        assert_eq!(without_slashes(Path::new("a/b//")), Path::new("a/b"));
        assert_eq!(without_slashes(Path::new("//")), Path::new("/"));
    }

    #[test]
    fn a_typed_path_is_matched_without_its_beginning() {
        for (path, expected) in
            [("./a/b", "a/b"), ("/a/b", "a/b"), ("a/./b", "a/./b"), ("../a", "../a")]
        {
            assert_eq!(plain(path.as_bytes()), expected.as_bytes());
        }
    }
}
