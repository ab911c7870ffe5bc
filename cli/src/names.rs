//! Names are bytes: how they are shown, and how paths in an archive are taken apart.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::exit::Failure;

/// Bytes as text on one line: what is not printable is escaped, so that no name can forge a line of output or
/// move a terminal's cursor.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl<'a> Shown<'a> {
    /// A path of the file system.
    pub(crate) fn path(path: &'a Path) -> Shown<'a> {
        Shown(path.as_os_str().as_bytes())
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                if letter.is_control() || is_format_control(letter) {
                    write!(formatter, "{}", letter.escape_default())?;
                } else {
                    formatter.write_char(letter)?;
                }
            }
            for byte in chunk.invalid() {
                write!(formatter, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

/// Letters that show nothing but change how others are shown: separators of lines, and marks of direction.
fn is_format_control(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A path in an archive: its parts, without empty ones.
pub(crate) fn parts(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|part| !part.is_empty())
}

/// A path in an archive, as its directory and its last part.
pub(crate) fn split_last(path: &OsStr) -> Result<(Vec<u8>, &[u8]), Failure> {
    let parts: Vec<&[u8]> = parts(path.as_bytes()).collect();
    match parts.split_last() {
        Some((last, directory)) => Ok((directory.join(&b'/'), last)),
        None => Err(Failure::NamesRoot),
    }
}

/// A path in an archive, below another.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        [] => name.to_vec(),
        _ => [directory, name].join(&b'/'),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::{Shown, join, split_last};

    #[test]
    fn names_are_shown_on_one_line() {
        assert_eq!(Shown("straße \u{1f980}".as_bytes()).to_string(), "straße \u{1f980}");
        assert_eq!(Shown(b"a\nb\x1b[2J\xff").to_string(), "a\\nb\\u{1b}[2J\\xff");
        assert_eq!(Shown("a\u{202e}b\u{2028}".as_bytes()).to_string(), "a\\u{202e}b\\u{2028}");
    }

    #[test]
    fn paths_are_split_and_joined() {
        let (directory, name) =
            split_last(OsStr::new("/a//b/c/")).expect("a path with a last part");
        assert_eq!((directory.as_slice(), name), (&b"a/b"[..], &b"c"[..]));
        assert!(split_last(OsStr::new("//")).is_err());
        assert_eq!(join(b"", b"x"), b"x");
        assert_eq!(join(b"a/b", b"x"), b"a/b/x");
    }
}
