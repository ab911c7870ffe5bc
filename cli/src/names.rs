//! Paths in an archive, as bytes.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use crate::exit::Failure;

/// Returns the parts of a path, skipping empty ones and `.`.
pub(crate) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !matches!(part, [] | [b'.']))
}

/// Splits a path into its directory and its last part.
pub(crate) fn split_last(path: &OsStr) -> Result<(Vec<u8>, &[u8]), Failure> {
    let parts: Vec<&[u8]> = parts(path.as_bytes()).collect();
    match parts.split_last() {
        Some((last, directory)) => Ok((directory.join(&b'/'), last)),
        None => Err(Failure::NamesRoot),
    }
}

/// Returns the path of a name in a directory.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        _ => [directory, name].join(&b'/'),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{join, split_last};

    #[test]
    fn a_path_that_is_split_before_its_last_part_joins_to_the_same_path() {
        let (directory, name) =
            split_last(OsStr::new("/a//b/c/")).expect("a path with a last part");
        assert_eq!((directory.as_slice(), name), (&b"a/b"[..], &b"c"[..]));
        assert!(split_last(OsStr::new("//")).is_err());
        assert_eq!(join(b"", b"x"), b"x");
        assert_eq!(join(b"a/b", b"x"), b"a/b/x");
    }
}
