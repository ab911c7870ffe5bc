//! Names and paths in messages.

use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Bytes formatted as text on one line. Unprintable characters are escaped, so no name can forge a line of output or
/// move the terminal's cursor.
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl<'a> Shown<'a> {
    /// Formats a path of the file system.
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

/// Returns whether a character is invisible and changes how others are displayed: line separators and direction marks.
fn is_format_control(letter: char) -> bool {
    matches!(letter, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn a_name_is_shown_on_one_line_with_unprintable_characters_escaped() {
        assert_eq!(Shown("straße \u{1f980}".as_bytes()).to_string(), "straße \u{1f980}");
        assert_eq!(Shown(b"a\nb\x1b[2J\xff").to_string(), "a\\nb\\u{1b}[2J\\xff");
        assert_eq!(Shown("a\u{202e}b\u{2028}".as_bytes()).to_string(), "a\\u{202e}b\\u{2028}");
    }
}
