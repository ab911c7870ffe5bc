//! The paths on the command line, and the exclusion patterns.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::exit::Failure;

/// A path from the command line.
pub(super) struct Root {
    pub(super) path: PathBuf,
    /// The name under which it is stored. `None` stores the entries of the directory instead of the directory.
    pub(super) name: Option<OsString>,
}

/// Looks at every path before anything is done: each must be there, and no two may be stored
/// under one name.
pub(super) fn check_roots(paths: &[PathBuf]) -> Result<Vec<Root>, Failure> {
    let mut roots: Vec<Root> = Vec::new();
    for path in paths {
        std::fs::symlink_metadata(path).map_err(|error| Failure::file(path, "open", error))?;
        let (path, name) = (without_slashes(path), last_component(path));
        // The entries of a directory may have any name, so `PATH/.` must be the only path.
        let same =
            roots.iter().find(|root| root.name == name || root.name.is_none() || name.is_none());
        if let Some(same) = same {
            return Err(Failure::SameName {
                first: same.path.clone(),
                second: path,
                advice: "store them separately, with different --into",
            });
        }
        roots.push(Root { path, name });
    }
    Ok(roots)
}

/// Returns the last component as typed: `a/b/` has `b`. `a/.`, `a/..` and `/` have none and stand for the entries of
/// the directory.
fn last_component(path: &Path) -> Option<OsString> {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes.split(|&byte| byte == b'/').rfind(|part| !part.is_empty())?;
    match last {
        b"." | b".." => None,
        name => Some(OsStr::from_bytes(name).to_owned()),
    }
}

/// Removes trailing slashes, with which a symbolic link would be followed.
fn without_slashes(path: &Path) -> PathBuf {
    let mut bytes = path.as_os_str().as_bytes().to_vec();
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

    /// Returns the path of an entry in the archive, relative to the destination directory.
    fn stored_path(&self, entry: &Path) -> PathBuf {
        let below = entry.strip_prefix(&self.path).unwrap_or(entry);
        match &self.name {
            Some(name) => Path::new(name).join(below),
            None => below.to_owned(),
        }
    }
}

/// The exclusion patterns.
pub(super) struct Exclusions {
    /// Patterns without a slash, which match names at any depth.
    names: GlobSet,
    /// Patterns with a slash, which match whole paths in the archive.
    paths: GlobSet,
}

impl Exclusions {
    pub(super) fn new(patterns: &[String]) -> Result<Exclusions, Failure> {
        let (paths, names): (Vec<&String>, Vec<&String>) =
            patterns.iter().partition(|pattern| pattern.contains('/'));
        Ok(Exclusions { names: glob_set(&names)?, paths: glob_set(&paths)? })
    }

    /// Returns whether a pattern excludes an entry of a root.
    pub(super) fn exclude(&self, root: &Root, directory: &Path, name: &OsStr) -> bool {
        if self.names.is_empty() && self.paths.is_empty() {
            return false;
        }
        self.exclude_path(&root.stored_path(&directory.join(name)))
    }

    /// Returns whether a pattern excludes a path in the archive.
    pub(super) fn exclude_path(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        self.names.is_match(Path::new(name)) || self.paths.is_match(path)
    }
}

fn glob_set(patterns: &[&String]) -> Result<GlobSet, Failure> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(glob(pattern)?);
    }
    set.build().map_err(|error| refused("", &error))
}

fn glob(pattern: &str) -> Result<Glob, Failure> {
    let trimmed = pattern.trim_matches('/');
    let built = GlobBuilder::new(trimmed).literal_separator(true).build();
    built.map_err(|error| refused(pattern, &error))
}

fn refused(pattern: &str, error: &globset::Error) -> Failure {
    Failure::Pattern { pattern: pattern.to_owned(), reason: error.kind().to_string() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{last_component, without_slashes};

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
}
