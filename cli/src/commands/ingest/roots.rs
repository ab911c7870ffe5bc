//! The paths that were given, and what is left out of them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::exit::Failure;

/// A path that was given.
pub(super) struct Root {
    pub(super) path: PathBuf,
    /// The name that it is stored under; none if what is in it is stored, not the directory itself.
    pub(super) name: Option<OsString>,
}

/// Looks at every path before anything is done: each must be there, and no two may be stored
/// under one name.
pub(super) fn check_roots(paths: &[PathBuf]) -> Result<Vec<Root>, Failure> {
    let mut roots: Vec<Root> = Vec::new();
    for path in paths {
        std::fs::symlink_metadata(path).map_err(|error| Failure::file(path, "open", error))?;
        let (path, name) = (without_slashes(path), last_component(path));
        // What is in a directory may have any name, so `PATH/.` comes alone.
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

/// The last component as it is written: `a/b/` has `b`; `a/.`, `a/..` and `/` have none, and mean what is in there.
fn last_component(path: &Path) -> Option<OsString> {
    let bytes = path.as_os_str().as_bytes();
    let last = bytes.split(|&byte| byte == b'/').rfind(|part| !part.is_empty())?;
    match last {
        b"." | b".." => None,
        name => Some(OsStr::from_bytes(name).to_owned()),
    }
}

/// A symbolic link with a slash behind it would be followed.
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
            // A path without a parent has no name either.
            Some(_) => self.path.parent().unwrap_or(Path::new("")),
            None => &self.path,
        }
    }

    /// The path of an entry as it is stored, below the directory that is stored into.
    fn stored_path(&self, entry: &Path) -> PathBuf {
        let below = entry.strip_prefix(&self.path).unwrap_or(entry);
        match &self.name {
            Some(name) => Path::new(name).join(below),
            None => below.to_owned(),
        }
    }
}

/// The patterns of what is left out.
pub(super) struct Exclusions {
    /// Patterns without a slash: any name.
    names: GlobSet,
    /// Patterns with a slash: the path as stored.
    paths: GlobSet,
}

impl Exclusions {
    pub(super) fn new(patterns: &[String]) -> Result<Exclusions, Failure> {
        let (paths, names): (Vec<&String>, Vec<&String>) =
            patterns.iter().partition(|pattern| pattern.contains('/'));
        Ok(Exclusions { names: glob_set(&names)?, paths: glob_set(&paths)? })
    }

    /// Whether an entry of a root is left out.
    pub(super) fn exclude(&self, root: &Root, directory: &Path, name: &OsStr) -> bool {
        if self.names.is_empty() && self.paths.is_empty() {
            return false;
        }
        self.exclude_path(&root.stored_path(&directory.join(name)))
    }

    /// Whether a path, as it would be stored, is left out.
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
    fn the_last_component_is_what_is_written() {
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
