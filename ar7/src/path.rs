//! Paths of entries: bytes, with slashes between the components.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use ar7_registry::records::validate_name;

use crate::error::{Error, Result};

/// Returns the bytes of a path.
pub(crate) fn bytes(path: &Path) -> &[u8] {
    os_bytes(path.as_os_str())
}

/// Returns the bytes of a string of the system.
pub(crate) fn os_bytes(text: &OsStr) -> &[u8] {
    text.as_bytes()
}

/// Returns the path with these bytes.
pub(crate) fn to_path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Returns the components of a path. Empty ones and `.` are ignored, so that `./a//b/` is `a/b`.
pub(crate) fn components(path: &Path) -> impl Iterator<Item = &[u8]> {
    bytes(path).split(|&byte| byte == b'/').filter(|part| !matches!(part, [] | [b'.']))
}

/// Splits a path into its parent and its last component, which must be a valid name.
///
/// Empty components are ignored, so that a path may begin or end with a slash. The root directory has no name.
pub(crate) fn split(path: &Path) -> Result<(&[u8], &[u8])> {
    if components(path).next().is_none() {
        return Err(Error::RootDirectory);
    }
    let path = bytes(path);
    let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
    let trimmed = &path[..end];
    let start = trimmed.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (parent, name) = trimmed.split_at(start);
    validate_name(name).map_err(Error::from)?;
    Ok((parent, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_splits_into_parent_and_name() {
        for (path, parent, name) in
            [("a", "", "a"), ("/a", "/", "a"), ("a/b/c", "a/b/", "c"), ("a//b//", "a//", "b")]
        {
            let expected = (parent.as_bytes(), name.as_bytes());
            assert_eq!(split(Path::new(path)).unwrap(), expected, "{path}");
        }
        for path in ["", "/", ".", "//./"] {
            assert!(matches!(split(Path::new(path)), Err(Error::RootDirectory)), "{path:?}");
        }
        for path in ["a/..", "a/./", "a\0b"] {
            let refused = split(Path::new(path));
            assert!(matches!(refused, Err(Error::InvalidName { .. })), "{path:?}: {refused:?}");
        }
    }
}
