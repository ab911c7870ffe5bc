//! Paths in an archive, as bytes.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Returns the bytes of a path.
pub(crate) fn path_bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_bytes()
}

/// Returns the parts of a path, skipping empty ones and `.`.
pub(crate) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !matches!(part, [] | [b'.']))
}

/// Splits a path into its directory and its last part.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn split_last(path: &std::ffi::OsStr) -> Result<(Vec<u8>, &[u8]), crate::exit::Failure> {
    let parts: Vec<&[u8]> = parts(path.as_bytes()).collect();
    match parts.split_last() {
        Some((last, directory)) => Ok((directory.join(&b'/'), last)),
        None => Err(crate::exit::Failure::NamesRoot),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::split_last;

    #[test]
    fn a_path_is_split_before_its_last_part() {
        let (directory, name) =
            split_last(OsStr::new("/a//b/c/")).expect("a path with a last part");
        assert_eq!((directory.as_slice(), name), (&b"a/b"[..], &b"c"[..]));
        assert!(split_last(OsStr::new("//")).is_err());
    }
}
