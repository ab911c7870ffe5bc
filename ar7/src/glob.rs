//! Paths that match a pattern, as in a shell.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use globset::{Glob, GlobBuilder, GlobMatcher};

use crate::error::{Error, Result};
use crate::path::{bytes, components, to_path};
use crate::snapshot::Snapshot;

/// A pattern for one component of a path, or for any number of directories.
enum Part {
    /// A name that is taken as it is.
    Name(Vec<u8>),
    /// A pattern for a name.
    Names(NamePattern),
    /// `**`: any number of directories, or none.
    Directories,
}

/// A pattern for names: `*` for any bytes, `?` for one byte, `[a-z]` for one of several, and `{a,b}` for one of several
/// texts. A backslash takes the next character as it is. Pattern and name can be any bytes.
#[derive(Debug, Clone)]
pub struct NamePattern {
    matcher: GlobMatcher,
    /// Whether the pattern is not UTF-8.
    is_raw: bool,
}

impl NamePattern {
    /// Parses a pattern. Fails with [`Error::InvalidPattern`] if it is malformed.
    pub fn new(pattern: impl AsRef<OsStr>) -> Result<NamePattern> {
        let pattern = pattern.as_ref();
        NamePattern::parse(pattern.as_bytes()).map_err(|error| invalid(pattern, &error))
    }

    pub(crate) fn parse(pattern: &[u8]) -> std::result::Result<NamePattern, globset::Error> {
        let (text, is_raw) = text_of(pattern);
        Ok(NamePattern { matcher: glob(&text)?.compile_matcher(), is_raw })
    }

    /// Returns whether a name matches.
    pub fn is_match(&self, name: impl AsRef<OsStr>) -> bool {
        let name = name.as_ref();
        if self.is_raw {
            self.matcher.is_match(raw(name.as_bytes()))
        } else {
            self.matcher.is_match(Path::new(name))
        }
    }
}

/// Returns a pattern as text, and whether it is not UTF-8. Then it is [`raw`], and matches what is raw as well.
pub(crate) fn text_of(pattern: &[u8]) -> (Cow<'_, str>, bool) {
    match std::str::from_utf8(pattern) {
        Ok(text) => (text.into(), false),
        Err(_) => (raw(pattern).into(), true),
    }
}

/// Maps each byte to the character with its number. Globs are text, and match any bytes in this form.
pub(crate) fn raw(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Parses a glob of which only `**` matches a slash.
pub(crate) fn glob(pattern: &str) -> std::result::Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build()
}

/// Returns the error of a malformed pattern.
pub(crate) fn invalid(pattern: &OsStr, error: &globset::Error) -> Error {
    Error::InvalidPattern { pattern: pattern.into(), reason: error.kind().to_string() }
}

impl Snapshot {
    /// Returns the paths that match a pattern, in byte order. Each component of the pattern matches one component
    /// of a path, as in a shell ([`NamePattern`]); `**` matches any number of directories.
    ///
    /// A path that exists as it is typed wins over the pattern: then it is the only one. No match is an empty list.
    ///
    /// ```
    /// # fn main() -> ar7::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
    /// let transaction = archive.begin()?;
    /// transaction.create_directories("photos/2026")?;
    /// transaction.write("photos/2026/a.jpg", &b""[..])?;
    /// transaction.write("photos/b.jpg", &b""[..])?;
    /// transaction.commit()?;
    /// let found = archive.snapshot()?.glob("photos/**/*.jpg")?;
    /// assert_eq!(found, ["photos/2026/a.jpg", "photos/b.jpg"].map(std::path::PathBuf::from));
    /// # Ok(())
    /// # }
    /// ```
    pub fn glob(&self, pattern: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        let pattern = pattern.as_ref();
        if self.exists(pattern)? {
            return Ok(vec![components(pattern).map(|part| to_path(part.to_vec())).collect()]);
        }
        let parts = components(pattern).map(Part::new).collect::<Result<Vec<Part>>>()?;
        let mut found = Vec::new();
        // Patterns have few components, and a stack holds what is left to do: the directory and the next part.
        let mut waiting = vec![(PathBuf::new(), 0)];
        while let Some((path, next)) = waiting.pop() {
            match parts.get(next) {
                None => found.push(path),
                Some(Part::Name(name)) => {
                    let path = path.join(to_path(name.clone()));
                    if self.exists(&path)? {
                        waiting.push((path, next + 1));
                    }
                }
                Some(part) => self.match_names(part, &path, next, &mut waiting)?,
            }
        }
        found.sort_unstable_by(|one, other| bytes(one).cmp(bytes(other)));
        found.dedup();
        Ok(found)
    }

    /// Returns the paths that match a pattern, as [`Snapshot::glob`] does. No match is an error: [`Error::NotFound`].
    pub fn matching(&self, pattern: impl AsRef<Path>) -> Result<Vec<PathBuf>> {
        let pattern = pattern.as_ref();
        let found = self.glob(pattern).and_then(|found| {
            if found.is_empty() {
                // The error of the lookup names the component that is missing.
                self.metadata(pattern)?;
            }
            Ok(found)
        });
        found.map_err(|error| error.in_entry(pattern))
    }

    /// Adds the entries of a directory that match one part of a pattern. An entry of another type has none.
    fn match_names(
        &self,
        part: &Part,
        path: &Path,
        next: usize,
        waiting: &mut Vec<(PathBuf, usize)>,
    ) -> Result<()> {
        if !self.metadata(path)?.is_directory() {
            return Ok(());
        }
        if matches!(part, Part::Directories) {
            waiting.push((path.to_owned(), next + 1));
        }
        for entry in self.list(path)? {
            let entry = entry?;
            match part {
                Part::Directories if entry.metadata.is_directory() => {
                    waiting.push((entry.path, next));
                }
                Part::Names(pattern) if pattern.is_match(entry.name()) => {
                    waiting.push((entry.path, next + 1));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Part {
    fn new(component: &[u8]) -> Result<Part> {
        if component == b"**" {
            return Ok(Part::Directories);
        }
        if component.iter().any(|byte| br"*?[{\".contains(byte)) {
            return Ok(Part::Names(NamePattern::new(OsStr::from_bytes(component))?));
        }
        Ok(Part::Name(component.to_vec()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_and_a_name_can_be_any_bytes() {
        let is_match = |pattern: &[u8], name: &[u8]| {
            let pattern = NamePattern::new(OsStr::from_bytes(pattern)).unwrap();
            pattern.is_match(OsStr::from_bytes(name))
        };
        assert!(is_match("ä*".as_bytes(), "ä.txt".as_bytes()));
        assert!(is_match(b"?\xff", b"a\xff") && !is_match(b"?\xff", "a\u{ff}".as_bytes()));
        assert!(is_match(b"*", b"\xff\xfe") && is_match(b"[a-c]?", b"b\xff"));
        assert!(is_match(br"\*", b"*") && !is_match(br"\*", b"a"));
        assert!(is_match(b"*.{jpg,png}", b"a.png") && !is_match(b"*.{jpg,png}", b"a.gif"));
        assert!(is_match(b".*", b".hidden") && is_match(b"*", b".hidden"));
        let refused = NamePattern::new("[a");
        assert!(matches!(refused, Err(Error::InvalidPattern { .. })), "{refused:?}");
    }

    #[test]
    fn a_pattern_matches_whole_paths_and_an_existing_path_wins() {
        let folder = tempfile::tempdir().unwrap();
        let key = crate::Key::from([1; 32]);
        let archive = crate::Archive::create(folder.path().join("a.ar7"), &key).unwrap();
        let transaction = archive.begin().unwrap();
        transaction.create_directories("d/e").unwrap();
        for path in ["a*", "ab", "d/ab", "d/e/ab", "d/e/c"] {
            transaction.write(path, &b""[..]).unwrap();
        }
        transaction.commit().unwrap();
        let snapshot = archive.snapshot().unwrap();
        let found = |pattern: &str| {
            let found = snapshot.glob(pattern).unwrap();
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        for (pattern, expected) in [
            ("a*", "a*"),
            (r"a\*", "a*"),
            ("a?", "a* ab"),
            ("[a-z]*", "a* ab d"),
            ("*/ab", "d/ab"),
            ("**/ab", "ab d/ab d/e/ab"),
            ("d/**", "d d/e"),
            ("./d//e/*", "d/e/ab d/e/c"),
            ("ab/*", ""),
            ("x*", ""),
            ("x", ""),
            ("**/**/c", "d/e/c"),
        ] {
            assert_eq!(found(pattern), expected, "{pattern}");
        }
    }
}
