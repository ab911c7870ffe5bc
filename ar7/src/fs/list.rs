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

/// Reads patterns, one a line, as `git` reads them from `.gitignore`. Lines that are empty or begin with `#` have none.
/// Blanks at the end do not count unless a backslash precedes them, nor does a carriage return before the end of a line,
/// nor a byte order mark.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// let patterns = ar7::fs::read_patterns(&b"# objects\n*.o  \n\n\\#notes\r\n"[..])?;
/// assert_eq!(patterns, ["*.o", "\\#notes"]);
/// # Ok(())
/// # }
/// ```
pub fn read_patterns(mut reader: impl Read) -> io::Result<Vec<OsString>> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text)?;
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
    let lines = text.split(|&byte| byte == b'\n');
    let lines = lines.map(|line| trim_blanks(line.strip_suffix(b"\r").unwrap_or(line)));
    let patterns = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#"));
    Ok(patterns.map(|line| OsString::from_vec(line.to_vec())).collect())
}

/// Removes blanks at the end. One that a backslash precedes belongs to the pattern, with what is before it.
fn trim_blanks(line: &[u8]) -> &[u8] {
    let (mut end, mut bytes) = (0, line.iter().enumerate());
    while let Some((index, byte)) = bytes.next() {
        match byte {
            b' ' => {}
            b'\\' => end = bytes.next().map_or(index, |(escaped, _)| escaped) + 1,
            _ => end = index + 1,
        }
    }
    line.get(..end).unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_text_are_read_as_git_reads_them() {
        for (text, expected) in [
            ("a\nb", &["a", "b"][..]),
            ("a  \n  b\n   \n", &["a", "  b"]),
            ("a\\ \nb\\  \nc\\\\ \n", &["a\\ ", "b\\ ", "c\\\\"]),
            ("a\\", &["a\\"]),
            ("a\t\n", &["a\t"]),
            ("a\r\nb \r\nc\r\r\n", &["a", "b", "c\r"]),
            ("\u{feff}a\n#b\n\\#c\n !d", &["a", "\\#c", " !d"]),
        ] {
            assert_eq!(read_patterns(text.as_bytes()).unwrap(), expected, "{text:?}");
        }
    }
}
