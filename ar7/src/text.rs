//! Paths and other bytes as text.

use std::ffi::OsStr;
use std::fmt::{self, Write as _};

use crate::path::os_bytes;

/// A path, a name or any other bytes as text for a message: on one line, with everything escaped that is not printable.
/// So no name in an archive can forge a line of output, move the cursor of a terminal, or change how other text is shown.
///
/// With the feature `serde`, it is serialized without loss, as the field `name` and, if the bytes are not UTF-8, as
/// the field `name_bytes` in hexadecimal. `name` is then approximate. [`PathText::field`] gives the fields another name.
///
/// ```
/// let name = ar7::PathText::new("a\u{202e}b\n\x1b[2J");
/// assert_eq!(name.to_string(), r"a\u{202e}b\n\u{1b}[2J");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathText<'a> {
    bytes: &'a [u8],
    /// The name of the field in a document.
    field: &'static str,
}

impl<'a> PathText<'a> {
    /// Creates the text of a path, a name or a string.
    pub fn new(path: &'a (impl AsRef<OsStr> + ?Sized)) -> PathText<'a> {
        PathText { bytes: os_bytes(path.as_ref()), field: "name" }
    }

    /// Sets the name of the field, instead of `name`.
    #[must_use]
    pub fn field(self, field: &'static str) -> PathText<'a> {
        PathText { field, ..self }
    }
}

impl fmt::Display for PathText<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
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

#[cfg(feature = "serde")]
impl serde::Serialize for PathText<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap as _;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry(self.field, &String::from_utf8_lossy(self.bytes))?;
        if std::str::from_utf8(self.bytes).is_err() {
            let hexadecimal = base16ct::lower::encode_string(self.bytes);
            fields.serialize_entry(&format!("{}_bytes", self.field), &hexadecimal)?;
        }
        fields.end()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    #[test]
    fn a_name_is_shown_on_one_line_with_unprintable_characters_escaped() {
        let text = |bytes| PathText::new(OsStr::from_bytes(bytes)).to_string();
        assert_eq!(text("straße \u{1f980}".as_bytes()), "straße \u{1f980}");
        assert_eq!(text(b"a\nb\x1b[2J\xff"), "a\\nb\\u{1b}[2J\\xff");
        assert_eq!(text("a\u{202e}b\u{2028}".as_bytes()), "a\\u{202e}b\\u{2028}");
    }
}
