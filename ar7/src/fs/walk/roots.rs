//! The paths that the user typed.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::report::Unread;
use crate::error::{Error, Result};
use crate::path::bytes;

/// A path that the user typed.
#[derive(Debug)]
pub(crate) struct Root {
    pub(crate) path: PathBuf,
    /// The name under which it is stored. `None` stores the entries of the directory instead of the directory.
    pub(crate) name: Option<OsString>,
}

/// The paths of a run, each looked at before anything is stored.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    pub(crate) found: Vec<Root>,
    /// The paths that cannot be read.
    pub(crate) unread: Vec<Unread>,
    /// The symbolic links to directories, which are stored as links.
    pub(crate) links: Vec<PathBuf>,
}

impl Roots {
    /// Looks at every path.
    pub(crate) fn new(paths: &[PathBuf]) -> Roots {
        let mut looked_at = Roots::default();
        for typed in paths {
            let (path, name) = (without_slashes(typed), last_component(typed));
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
        looked_at
    }

    /// Fails if two paths would be stored under one name.
    pub(crate) fn check_names(&self) -> Result<()> {
        // The entries of a directory may have any name, so `PATH/.` must be the only path.
        let has_any_name = self.found.iter().any(|root| root.name.is_none());
        let mut names: HashMap<Option<&OsStr>, &Root> = HashMap::new();
        for root in &self.found {
            let name = root.name.as_deref().filter(|_| !has_any_name);
            if let Some(first) = names.insert(name, root) {
                let (first, second) = (first.path.clone(), root.path.clone());
                return Err(Error::SameName { first, second });
            }
        }
        Ok(())
    }
}

/// Returns the last component as typed: `a/b/` has `b`. `a/.`, `a/..` and `/` have none and stand for the entries of
/// the directory.
pub(crate) fn last_component(path: &Path) -> Option<OsString> {
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
    pub(crate) fn location(&self) -> &Path {
        match &self.name {
            // A path without a parent has no name.
            Some(_) => self.path.parent().unwrap_or(Path::new("")),
            None => &self.path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    #[test]
    fn a_link_to_a_directory_is_a_link_even_with_slashes_after_it() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/", &link).unwrap();
        assert_eq!(Roots::new(&[folder.path().join("link//")]).links, [link]);
        assert_eq!(Roots::new(&["//".into(), folder.path().join("link/.")]).links.len(), 0);
        // Paths that differ only in slashes at the end are equal.
        assert_eq!(without_slashes(Path::new("//")).as_os_str(), "/");
    }

    #[test]
    fn two_paths_with_one_name_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a/x", "b/x", "b/y"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        let is_refused = |paths: &[&str]| {
            let paths: Vec<PathBuf> = paths.iter().map(|path| folder.path().join(path)).collect();
            Roots::new(&paths).check_names().is_err()
        };
        assert!(!is_refused(&["a/x", "b/y", "missing/x"]) && !is_refused(&["a/."]));
        for paths in [["a/x", "b/x"], ["a/.", "b/y"], ["b/y", "a/."], ["a/.", "b/."]] {
            assert!(is_refused(&paths), "{paths:?}");
        }
    }
}
