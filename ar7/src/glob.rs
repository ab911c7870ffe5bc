//! Paths that match a pattern, as in a shell.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use ar7_registry::names;
use ar7_registry::records::{EntryType, InodeNumber};
use globset::{Glob, GlobBuilder, GlobMatcher};
use roaring::RoaringTreemap;

use crate::error::{Error, Result};
use crate::path::{bytes, components, to_path};
use crate::snapshot::Snapshot;
use crate::source::Pages;

/// The number of names to read at a time.
const PAGE: usize = 64;

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
        let mut failed = None;
        let found = self.glob_readable(pattern, |error| {
            failed.get_or_insert(error);
        })?;
        failed.map_or(Ok(found), Err)
    }

    /// Does the same in an archive that may be damaged. Only names are read, so an entry matches even if its record is
    /// unreadable. If names of a directory are unreadable, passes an [`Error::InEntry`] of it to `unreadable`, and
    /// continues.
    pub fn glob_readable(
        &self,
        pattern: impl AsRef<Path>,
        mut unreadable: impl FnMut(Error),
    ) -> Result<Vec<PathBuf>> {
        let pattern = pattern.as_ref();
        let parts = components(pattern).map(Part::new).collect::<Result<Vec<Part>>>()?;
        let is_plain = parts.iter().all(|part| matches!(part, Part::Name(_)));
        match self.exists(pattern) {
            Ok(true) => {
                return Ok(vec![components(pattern).map(|part| to_path(part.to_vec())).collect()]);
            }
            Err(error) if is_plain => return Err(error),
            Ok(false) | Err(_) => {}
        }
        let mut globbing = Globbing {
            snapshot: self.registry(),
            parts: &parts,
            waiting: Vec::new(),
            entered: parts.iter().map(|_| RoaringTreemap::new()).collect(),
            found: Vec::new(),
            unreadable: &mut unreadable,
        };
        globbing.reach(PathBuf::new(), InodeNumber::ROOT, EntryType::Directory, 0);
        while let Some((path, directory, next)) = globbing.waiting.pop() {
            globbing.names(&path, directory, next);
        }
        let mut found = globbing.found;
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

    /// Returns the paths that match a pattern, as [`Snapshot::glob_readable`] does. No match is an error, unless names
    /// are unreadable: [`Error::NotFound`].
    pub fn matching_readable(
        &self,
        pattern: impl AsRef<Path>,
        mut unreadable: impl FnMut(Error),
    ) -> Result<Vec<PathBuf>> {
        let (pattern, mut is_partial) = (pattern.as_ref(), false);
        let found = self.glob_readable(pattern, |error| {
            is_partial = true;
            unreadable(error);
        });
        let found = found.and_then(|found| {
            if found.is_empty() && !is_partial {
                // The error of the lookup names the component that is missing.
                self.metadata(pattern)?;
            }
            Ok(found)
        });
        found.map_err(|error| error.in_entry(pattern))
    }
}

/// A search for the paths that match a pattern.
struct Globbing<'a> {
    snapshot: &'a ar7_registry::Snapshot,
    parts: &'a [Part],
    /// Directories to search for the names that match a part. Patterns have few parts, so that there are few of them.
    waiting: Vec<(PathBuf, InodeNumber, usize)>,
    /// For each part, the directories that were searched. The names of a hostile archive may form a circle.
    entered: Vec<RoaringTreemap>,
    found: Vec<PathBuf>,
    unreadable: &'a mut dyn FnMut(Error),
}

impl Globbing<'_> {
    /// Continues with an entry that matches the parts before `next`.
    fn reach(&mut self, path: PathBuf, number: InodeNumber, kind: EntryType, next: usize) {
        let Some(part) = self.parts.get(next) else { return self.found.push(path) };
        if kind != EntryType::Directory || !self.is_first(number, next) {
            return;
        }
        if matches!(part, Part::Directories) {
            self.reach(path.clone(), number, kind, next + 1);
        }
        self.waiting.push((path, number, next));
    }

    fn is_first(&mut self, number: InodeNumber, next: usize) -> bool {
        self.entered.get_mut(next).is_some_and(|entered| entered.insert(number.0))
    }

    /// Finds the entries of a directory that match a part.
    fn names(&mut self, path: &Path, directory: InodeNumber, next: usize) {
        let snapshot = self.snapshot;
        if let Some(Part::Name(name)) = self.parts.get(next) {
            match snapshot.lookup(directory, name) {
                Ok(Some(entry)) => self.entry(path, entry, next),
                Ok(None) => {}
                Err(error) => (self.unreadable)(Error::from(error).in_entry(path)),
            }
            return;
        }
        let mut pages = Pages::new(directory, PAGE);
        loop {
            match pages.next(snapshot) {
                Ok(Some(page)) => page.into_iter().for_each(|entry| self.entry(path, entry, next)),
                Ok(None) => return,
                Err(error) => (self.unreadable)(Error::from(error).in_entry(path)),
            }
        }
    }

    fn entry(&mut self, path: &Path, entry: names::Entry, next: usize) {
        let names::Entry { name, inode, kind } = entry;
        let path = path.join(to_path(name));
        match self.parts.get(next) {
            Some(Part::Directories) => {
                if kind == EntryType::Directory {
                    self.reach(path, inode, kind, next);
                }
            }
            Some(Part::Names(pattern)) => {
                if path.file_name().is_some_and(|name| pattern.is_match(name)) {
                    self.reach(path, inode, kind, next + 1);
                }
            }
            Some(Part::Name(_)) | None => self.reach(path, inode, kind, next + 1),
        }
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

    /// Overwrites both copies of the root page of a tree.
    fn destroy_root(path: &Path, key: &crate::Key, tree: ar7_registry::records::TreeId) {
        let archive = crate::Archive::open(path, key).unwrap();
        let root = archive.registry.store().current().slot.roots[tree.index()];
        let copies = root.block.unwrap().copies();
        drop(archive);
        let mut bytes = std::fs::read(path).unwrap();
        for copy in copies {
            let at = usize::try_from(copy.position.offset()).unwrap();
            bytes[at..at + 4096].fill(0);
        }
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_pattern_matches_entries_whose_record_is_unreadable_and_continues_after_lost_names() {
        use ar7_registry::records::TreeId;
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = (folder.path().join("a.ar7"), crate::Key::from([1; 32]));
        let archive = crate::Archive::create(&path, &key).unwrap();
        let transaction = archive.begin().unwrap();
        transaction.create_directories("logs/old").unwrap();
        for path in ["logs/a.txt", "logs/b.txt", "logs/old/c.txt"] {
            transaction.write(path, &b"text"[..]).unwrap();
        }
        transaction.commit().unwrap();
        archive.close().unwrap();
        destroy_root(&path, &key, TreeId::Inodes);
        let snapshot = crate::Archive::open(&path, &key).unwrap().snapshot().unwrap();
        assert!(snapshot.metadata("logs/a.txt").is_err());
        let expected = ["logs/a.txt", "logs/b.txt", "logs/old/c.txt"].map(PathBuf::from);
        assert_eq!(snapshot.glob("logs/**/*.txt").unwrap(), expected);
        destroy_root(&path, &key, TreeId::Names);
        let snapshot = crate::Archive::open(&path, &key).unwrap().snapshot().unwrap();
        let mut failed = Vec::new();
        let found = snapshot.matching_readable("logs/*", |error| failed.push(error)).unwrap();
        assert!(found.is_empty() && matches!(failed[..], [Error::InEntry { .. }]), "{failed:?}");
        assert!(snapshot.glob("logs/*").is_err() && snapshot.matching("logs/*").is_err());
    }
}
