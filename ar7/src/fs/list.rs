//! Lists of paths or patterns in files.

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStringExt as _;

/// Reads a list of paths or patterns: the lines that are not empty. If there is a NUL, each NUL ends an element, and
/// nothing else does, as `find -print0` writes it.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// assert_eq!(ar7::fs::read_list(&b"a\n\nb c\n"[..])?, ["a", "b c"]);
/// assert_eq!(ar7::fs::read_list(&b"a\nb\0c\0"[..])?, ["a\nb", "c"]);
/// # Ok(())
/// # }
/// ```
pub fn read_list(mut reader: impl Read) -> io::Result<Vec<OsString>> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text)?;
    let end = if text.contains(&0) { 0 } else { b'\n' };
    let elements = text.split(|&byte| byte == end).filter(|element| !element.is_empty());
    Ok(elements.map(|element| OsString::from_vec(element.to_vec())).collect())
}
