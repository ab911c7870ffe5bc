//! Patterns for paths, in the language of `.gitignore`.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use globset::{GlobSet, GlobSetBuilder};

use crate::error::Result;
use crate::glob::{NamePattern, glob, invalid, raw, text_of};
use crate::path::components;
use crate::text::PathText;

/// Patterns for paths in an archive, in the language of `.gitignore`:
///
/// - `*` and `?` stand for any bytes and any byte except a slash, `[a-z]` for one byte of a set, `**` for any
///   directories. A backslash takes the special meaning from the character after it.
/// - A pattern without a slash matches a name in any directory. Any other one matches a whole path, component by
///   component.
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
    /// The patterns without a slash, which match names. Their indexes are in `of_names`.
    names: GlobSet,
    of_names: Vec<usize>,
    /// The indexes of the patterns for whole paths.
    of_paths: Vec<usize>,
    has_bytes: bool,
}

struct Pattern {
    text: OsString,
    is_negated: bool,
    is_for_directories: bool,
    /// Whether it is not UTF-8.
    is_bytes: bool,
    /// The parts of a pattern for whole paths.
    parts: Vec<Part>,
    has_matched: AtomicBool,
}

/// A part of a pattern for whole paths.
enum Part {
    /// `**`: any number of directories, or none. At the end, everything below a directory.
    Any,
    /// One component.
    Name(NamePattern),
}

/// How far patterns for whole paths match the path of a directory: for each of them, the parts of it that may match the
/// name of an entry in that directory. So an entry takes no longer the deeper it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Positions(Vec<(usize, usize)>);

impl Patterns {
    /// Parses patterns. Fails with [`crate::Error::InvalidPattern`] for the first malformed one.
    pub fn new<P: AsRef<OsStr>>(patterns: impl IntoIterator<Item = P>) -> Result<Patterns> {
        let (mut parsed, mut of_names, mut of_paths) = (Vec::new(), Vec::new(), Vec::new());
        let mut names = GlobSetBuilder::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            let text = pattern.as_ref();
            let (is_negated, rest) = match text.as_bytes().strip_prefix(b"!") {
                Some(rest) => (true, rest),
                None => (false, text.as_bytes()),
            };
            let (is_for_directories, rest) = match rest.strip_suffix(b"/") {
                Some(rest) => (true, rest),
                None => (false, rest),
            };
            let (mut parts, mut is_bytes) = (Vec::new(), false);
            if rest.contains(&b'/') {
                // A path as people type it, with `./` at the beginning, means the same as without.
                let components = components(Path::new(OsStr::from_bytes(rest)));
                parts = components
                    .map(Part::new)
                    .collect::<std::result::Result<_, _>>()
                    .map_err(|error| invalid(text, &error))?;
                of_paths.push(index);
            } else {
                let (name, is_not_text) = text_of(rest);
                names.add(glob(&name).map_err(|error| invalid(text, &error))?);
                of_names.push(index);
                is_bytes = is_not_text;
            }
            let (text, has_matched) = (text.to_owned(), AtomicBool::new(false));
            parsed.push(Pattern {
                text,
                is_negated,
                is_for_directories,
                is_bytes,
                parts,
                has_matched,
            });
        }
        let names = names.build().map_err(|error| invalid(OsStr::new(""), &error))?;
        let has_bytes = parsed.iter().any(|pattern| pattern.is_bytes);
        Ok(Patterns { parsed, names, of_names, of_paths, has_bytes })
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
        let mut components = components(path.as_ref()).peekable();
        let mut positions = self.start();
        while let Some(name) = components.next() {
            if components.peek().is_none() {
                return self.judge([&positions], name, is_directory);
            }
            positions = self.below(&positions, name);
        }
        None
    }

    /// Returns the positions in the top directory.
    pub(super) fn start(&self) -> Positions {
        Positions(self.of_paths.iter().map(|&index| (index, 0)).collect())
    }

    /// Returns the positions in a directory of this name.
    pub(super) fn below(&self, above: &Positions, name: &[u8]) -> Positions {
        let mut positions = Vec::new();
        self.follow(above, name, |index, next| {
            if self.parsed.get(index).is_some_and(|pattern| next < pattern.parts.len()) {
                positions.push((index, next));
            }
        });
        positions.sort_unstable();
        positions.dedup();
        Positions(positions)
    }

    /// Returns what the last pattern says that matches an entry with this name, in a directory with several paths.
    pub(super) fn judge<'p>(
        &self,
        directory: impl IntoIterator<Item = &'p Positions>,
        name: &[u8],
        is_directory: bool,
    ) -> Option<bool> {
        let mut last = None;
        let mut note = |index: usize, is_match: &dyn Fn(&Pattern) -> bool| {
            let Some(pattern) = self.parsed.get(index) else { return };
            if is_match(pattern) && (is_directory || !pattern.is_for_directories) {
                pattern.has_matched.store(true, Ordering::Relaxed);
                last = last.max(Some(index));
            }
        };
        for positions in directory {
            self.follow(positions, name, |index, next| {
                note(index, &|pattern| next == pattern.parts.len());
            });
        }
        let mut note_names = |found: Vec<usize>, is_bytes| {
            for index in found.iter().filter_map(|&found| self.of_names.get(found)) {
                note(*index, &|pattern| pattern.is_bytes == is_bytes);
            }
        };
        note_names(self.names.matches(OsStr::from_bytes(name)), false);
        if self.has_bytes {
            note_names(self.names.matches(raw(name)), true);
        }
        self.parsed.get(last?).map(|pattern| !pattern.is_negated)
    }

    /// Passes each pattern that may match a path which continues with this name, and its next part. A pattern that
    /// matches the path up to here has no next part.
    fn follow(&self, positions: &Positions, name: &[u8], mut next: impl FnMut(usize, usize)) {
        for &(index, begin) in &positions.0 {
            let Some(pattern) = self.parsed.get(index) else { continue };
            let mut part = begin;
            // `**` matches this name and continues, or nothing, so that the next part may match as well.
            while let Some(Part::Any) = pattern.parts.get(part) {
                next(index, part);
                part += 1;
                if part == pattern.parts.len() {
                    next(index, part);
                }
            }
            if let Some(Part::Name(glob)) = pattern.parts.get(part)
                && glob.is_match(OsStr::from_bytes(name))
            {
                next(index, part + 1);
            }
        }
    }

    /// Returns the patterns that have not matched any path so far.
    pub fn unmatched(&self) -> impl Iterator<Item = &OsStr> {
        let unmatched = |pattern: &&Pattern| !pattern.has_matched.load(Ordering::Relaxed);
        self.parsed.iter().filter(unmatched).map(|pattern| pattern.text.as_os_str())
    }
}

/// Returns the warning about a pattern that matches nothing, for users.
pub(super) fn matches_nothing(pattern: impl AsRef<OsStr>) -> String {
    format!("{}: warning: matches nothing", PathText::new(&pattern))
}

impl fmt::Debug for Patterns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.parsed.iter().map(|pattern| &pattern.text)).finish()
    }
}

impl Part {
    fn new(component: &[u8]) -> std::result::Result<Part, globset::Error> {
        if component == b"**" {
            return Ok(Part::Any);
        }
        NamePattern::parse(component).map(Part::Name)
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

    /// Compares random patterns with globs. Returns how many matched.
    fn matched_like_globs(cases: usize) -> usize {
        const PARTS: [&str; 6] = ["a", "b", "*", "**", "a*", "?"];
        const NAMES: [&str; 4] = ["a", "b", "ab", "c"];
        let mut seed = 7_usize;
        let mut below = |bound: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % bound
        };
        let mut matched = 0;
        for _ in 0..cases {
            let parts: Vec<&str> = (0..2 + below(4)).map(|_| PARTS[below(PARTS.len())]).collect();
            let names: Vec<&str> = (0..=below(5)).map(|_| NAMES[below(NAMES.len())]).collect();
            let (pattern, path) = (parts.join("/"), names.join("/"));
            let expected = glob(&pattern).unwrap().compile_matcher().is_match(&path);
            let patterns = Patterns::new([&pattern]).unwrap();
            assert_eq!(patterns.matches(&path, false).is_some(), expected, "{pattern} {path}");
            matched += usize::from(expected);
        }
        matched
    }

    #[test]
    fn patterns_match_the_same_paths_as_globs_of_whole_paths() {
        let matched = matched_like_globs(4000);
        assert!(matched > 200, "{matched} matched");
    }

    #[test]
    #[ignore = "seconds: `cargo xtask proof` runs it"]
    fn many_patterns_match_the_same_paths_as_globs_of_whole_paths() {
        let matched = matched_like_globs(20_000);
        assert!(matched > 1000, "{matched} matched");
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
