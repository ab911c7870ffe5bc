//! Patterns for paths, in the language of `.gitignore`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use globset::{GlobSet, GlobSetBuilder};

use crate::error::Result;
use crate::glob::{glob, invalid, raw, text_of};
use crate::path::{bytes, components};

/// Patterns for paths in an archive, in the language of `.gitignore`:
///
/// - `*` and `?` stand for any bytes and any byte except a slash, `[a-z]` for one byte of a set, `**` for any
///   directories. A backslash takes the special meaning from the character after it.
/// - A pattern without a slash matches a name in any directory. Any other one matches a whole path.
/// - A slash at the end restricts a pattern to directories.
/// - `!` at the beginning negates a pattern: what it matches is not meant after all. The last pattern that matches
///   decides.
///
/// Patterns and paths may have any bytes. In a pattern that is not UTF-8, `?` and sets match ASCII only.
///
/// ```
/// use ar7::fs::Patterns;
///
/// let patterns = Patterns::new(["*.log", "!keep.log", "/build/"])?;
/// assert_eq!(patterns.matches("src/a.log", false), Some(true));
/// assert_eq!(patterns.matches("src/keep.log", false), Some(false));
/// assert_eq!(patterns.matches("src/build", true), None);
/// # Ok::<(), ar7::Error>(())
/// ```
pub struct Patterns {
    parsed: Vec<Pattern>,
    globs: GlobSet,
    has_bytes: bool,
}

struct Pattern {
    text: OsString,
    is_negated: bool,
    is_for_directories: bool,
    /// Whether it is not UTF-8.
    is_bytes: bool,
    has_matched: AtomicBool,
}

impl Patterns {
    /// Parses patterns. Fails with [`crate::Error::InvalidPattern`] for the first malformed one.
    pub fn new<P: AsRef<OsStr>>(patterns: impl IntoIterator<Item = P>) -> Result<Patterns> {
        let mut parsed = Vec::new();
        let mut globs = GlobSetBuilder::new();
        for pattern in patterns {
            let text = pattern.as_ref();
            let (is_negated, rest) = match text.as_bytes().strip_prefix(b"!") {
                Some(rest) => (true, rest),
                None => (false, text.as_bytes()),
            };
            let (is_for_directories, rest) = match rest.strip_suffix(b"/") {
                Some(rest) => (true, rest),
                None => (false, rest),
            };
            // A path as people type it, with `./` at the beginning, means the same as without.
            let trimmed = rest.strip_prefix(b"./").unwrap_or(rest);
            let is_whole = trimmed.contains(&b'/') || trimmed.len() < rest.len();
            let trimmed = trimmed.strip_prefix(b"/").unwrap_or(trimmed);
            let (name, is_bytes) = text_of(trimmed);
            let parsed_glob = if is_whole { glob(&name) } else { glob(&format!("**/{name}")) };
            globs.add(parsed_glob.map_err(|error| invalid(text, &error))?);
            let (text, has_matched) = (text.to_owned(), AtomicBool::new(false));
            parsed.push(Pattern { text, is_negated, is_for_directories, is_bytes, has_matched });
        }
        let globs = globs.build().map_err(|error| invalid(OsStr::new(""), &error))?;
        let has_bytes = parsed.iter().any(|pattern| pattern.is_bytes);
        Ok(Patterns { parsed, globs, has_bytes })
    }

    /// Returns the pattern that matches a path literally, with everything that has a meaning in a pattern escaped.
    pub fn escape(path: impl AsRef<Path>) -> OsString {
        let mut escaped = Vec::new();
        for name in components(path.as_ref()) {
            escaped.push(b'/');
            for &byte in name {
                if b"*?[]{}\\!".contains(&byte) {
                    escaped.push(b'\\');
                }
                escaped.push(byte);
            }
        }
        OsStr::from_bytes(&escaped).to_owned()
    }

    /// Returns whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.parsed.is_empty()
    }

    /// Returns what the last pattern that matches the path says: whether the path is meant. `None` if none matches.
    pub fn matches(&self, path: impl AsRef<Path>, is_directory: bool) -> Option<bool> {
        self.matches_any([bytes(path.as_ref())], is_directory)
    }

    /// Returns the same for an entry that has several paths: each pattern is tried against all of them.
    pub(super) fn matches_any<'p>(
        &self,
        paths: impl IntoIterator<Item = &'p [u8]>,
        is_directory: bool,
    ) -> Option<bool> {
        let mut last = None;
        let mut note = |found: Vec<usize>, is_bytes| {
            for index in found {
                let Some(pattern) = self.parsed.get(index) else { continue };
                if pattern.is_bytes == is_bytes && (is_directory || !pattern.is_for_directories) {
                    pattern.has_matched.store(true, Ordering::Relaxed);
                    last = last.max(Some(index));
                }
            }
        };
        for path in paths {
            note(self.globs.matches(OsStr::from_bytes(path)), false);
            if self.has_bytes {
                note(self.globs.matches(raw(path)), true);
            }
        }
        self.parsed.get(last?).map(|pattern| !pattern.is_negated)
    }

    /// Returns the patterns that have not matched any path so far.
    pub fn unmatched(&self) -> impl Iterator<Item = &OsStr> {
        let unmatched = |pattern: &&Pattern| !pattern.has_matched.load(Ordering::Relaxed);
        self.parsed.iter().filter(unmatched).map(|pattern| pattern.text.as_os_str())
    }
}

impl fmt::Debug for Patterns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.parsed.iter().map(|pattern| &pattern.text)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn patterns_match_as_those_of_gitignore() {
        for (pattern, path, is_directory, expected) in [
            ("*.log", "a.log", false, true),
            ("*.log", "x/y/a.log", false, true),
            ("*.log", "a.log/b", false, false),
            ("/a", "a", false, true),
            ("/a", "x/a", false, false),
            ("./a", "a", false, true),
            ("./a", "x/a", false, false),
            ("x/a", "x/a", false, true),
            ("x/a", "y/x/a", false, false),
            ("**/x/a", "y/x/a", false, true),
            ("x/**", "x/y/z", false, true),
            ("x/**", "x", true, false),
            ("x/**/a", "x/a", false, true),
            ("build/", "x/build", true, true),
            ("build/", "x/build", false, false),
            ("/x/build/", "x/build", true, true),
            ("x/*/a", "x/y/z/a", false, false),
            ("a?c", "a/c", false, false),
            ("[ab]", "b", false, true),
            ("\\*", "*", false, true),
            ("\\*", "a", false, false),
        ] {
            let patterns = Patterns::new([pattern]).unwrap();
            let expected = expected.then_some(true);
            assert_eq!(patterns.matches(path, is_directory), expected, "{pattern} {path}");
            assert_eq!(patterns.unmatched().count(), usize::from(expected.is_none()), "{pattern}");
        }
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let patterns = Patterns::new(["*.log", "!keep.log", "x/keep.log"]).unwrap();
        assert_eq!(patterns.matches("a.log", false), Some(true));
        assert_eq!(patterns.matches("keep.log", false), Some(false));
        assert_eq!(patterns.matches("x/keep.log", false), Some(true));
        assert_eq!(patterns.matches("a", false), None);
    }

    #[test]
    fn patterns_and_paths_may_have_any_bytes_and_a_path_can_be_escaped() {
        let name = OsStr::from_bytes(b"bad\xff*[x]?\\!{a}");
        let escaped = Patterns::new([Patterns::escape(Path::new(".").join(name))]).unwrap();
        assert_eq!(escaped.matches(name, false), Some(true));
        assert_eq!(escaped.matches(OsStr::from_bytes(b"bad\xffy"), false), None);
        let patterns = [OsStr::from_bytes(b"*\xff"), OsStr::new("!bad?\u{e4}")];
        let patterns = Patterns::new(patterns).unwrap();
        let matches = |path| patterns.matches(OsStr::from_bytes(path), false);
        assert_eq!(matches(b"a\xfe\xff"), Some(true));
        assert_eq!(matches(b"bad\xfe\xc3\xa4"), Some(false));
        assert_eq!(matches(b"\xc3\xbf"), None);
        let malformed = Patterns::new(["a", "[a"]).unwrap_err();
        let is_named = |error: &Error| matches!(error, Error::InvalidPattern { pattern, .. } if pattern == Path::new("[a"));
        assert!(is_named(&malformed), "{malformed:?}");
    }
}
