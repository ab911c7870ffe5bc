//! How much space directories take.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::records::{Entry, Metadata};
use crate::snapshot::Snapshot;
use crate::source::Walk;

/// The space that an entry and everything below it takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Usage {
    /// The path of the entry.
    #[cfg_attr(feature = "serde", serde(flatten, serialize_with = "crate::serialized::path"))]
    pub path: PathBuf,
    /// Number of directories between the entry and the one that [`Snapshot::usage`] was called for: 0 for that one.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub depth: usize,
    /// Bytes of content.
    pub bytes: u64,
    /// Blocks of content, of 4096 bytes each.
    pub blocks: u64,
}

/// The space that the directories of a tree take. See [`Snapshot::usage`].
#[derive(Debug)]
pub struct Usages<'a> {
    walk: Option<Walk<'a>>,
    /// The directories around the walk's place, and what was found in each so far.
    open: Vec<Usage>,
    /// The entry that comes after the directories that it is not in.
    next: Option<Entry>,
    /// Inodes of files with several names, whose content counts once.
    counted: HashSet<u64>,
}

impl Snapshot {
    /// Returns the space that each directory of a tree takes, each after those in it, and the one at `path` last. The
    /// content of a file with several names counts for the first of them only. Of an entry that is no directory, it
    /// returns the space that this entry takes.
    ///
    /// An unreadable entry is an error, and the next ones follow.
    ///
    /// ```
    /// # fn main() -> ar7::Result<()> {
    /// # let folder = tempfile::tempdir()?;
    /// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
    /// let transaction = archive.begin()?;
    /// transaction.create_directories("photos/2026")?;
    /// transaction.write("photos/2026/a.jpg", &[7; 5000][..])?;
    /// transaction.commit()?;
    /// let usage: Vec<ar7::Usage> = archive.snapshot()?.usage("photos")?.collect::<Result<_, _>>()?;
    /// assert_eq!(usage[0].path, std::path::Path::new("photos/2026"));
    /// assert_eq!((usage[1].bytes, usage[1].blocks), (5000, 2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn usage(&self, path: impl AsRef<Path>) -> Result<Usages<'_>> {
        let root = self.entry(path)?;
        let walk = root.metadata.is_directory().then(|| self.walk(&root.path)).transpose()?;
        let mut usages = Usages { walk, open: Vec::new(), next: None, counted: HashSet::new() };
        usages.enter(root);
        Ok(usages)
    }
}

impl Usages<'_> {
    /// Adds an entry to what is open.
    fn enter(&mut self, entry: Entry) {
        let Entry { path, metadata } = entry;
        let (bytes, blocks) = self.size(&metadata);
        match self.open.last_mut() {
            Some(above) if !metadata.is_directory() => {
                above.bytes += bytes;
                above.blocks += blocks;
            }
            _ => self.open.push(Usage { path, depth: self.open.len(), bytes, blocks }),
        }
    }

    fn size(&mut self, metadata: &Metadata) -> (u64, u64) {
        let has_names = metadata.links > 1 && !metadata.is_directory();
        if has_names && !self.counted.insert(metadata.inode) {
            return (0, 0);
        }
        (metadata.len, metadata.blocks())
    }

    /// Returns the innermost directory, and adds it to the one above.
    fn leave(&mut self) -> Option<Usage> {
        let usage = self.open.pop()?;
        if let Some(above) = self.open.last_mut() {
            above.bytes += usage.bytes;
            above.blocks += usage.blocks;
        }
        Some(usage)
    }
}

impl Iterator for Usages<'_> {
    type Item = Result<Usage>;

    fn next(&mut self) -> Option<Result<Usage>> {
        loop {
            if self.next.is_none() {
                match self.walk.as_mut().and_then(Iterator::next) {
                    Some(Ok(entry)) => self.next = Some(entry),
                    Some(Err(error)) => return Some(Err(error)),
                    None => return self.leave().map(Ok),
                }
            }
            // A walk returns everything in a directory before it leaves the directory.
            let is_inside = |above: &Usage, entry: &Entry| entry.path.starts_with(&above.path);
            let is_in_last = self.next.as_ref().zip(self.open.last());
            if is_in_last.is_some_and(|(entry, above)| !is_inside(above, entry)) {
                return self.leave().map(Ok);
            }
            if let Some(entry) = self.next.take() {
                self.enter(entry);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_directory_counts_what_is_below_it_and_a_file_with_two_names_once() {
        let folder = tempfile::tempdir().unwrap();
        let key = crate::Key::from([1; 32]);
        let archive = crate::Archive::create(folder.path().join("a.ar7"), &key).unwrap();
        let transaction = archive.begin().unwrap();
        for path in ["a/b/c", "a/d", "ab"] {
            transaction.create_directories(path).unwrap();
        }
        for (path, length) in [("a/b/c/one", 1), ("a/b/two", 4009), ("a/three", 3), ("z", 7)] {
            transaction.write(path, &vec![1; length][..]).unwrap();
        }
        transaction.link("a/b/two", "a/d/other").unwrap();
        transaction.symlink("target", "ab/link").unwrap();
        transaction.commit().unwrap();
        let snapshot = archive.snapshot().unwrap();
        let found = |path: &str| {
            let usage = snapshot.usage(path).unwrap().map(Result::unwrap);
            let line = |Usage { path, depth, bytes, blocks }| {
                format!("{} {depth} {bytes} {blocks}", path.display())
            };
            usage.map(line).collect::<Vec<_>>().join(", ")
        };
        let a = "a/b/c 2 1 1, a/b 1 4010 3, a/d 1 0 0, a 0 4013 4";
        assert_eq!(found("a"), a);
        assert_eq!(
            found(""),
            "a/b/c 3 1 1, a/b 2 4010 3, a/d 2 0 0, a 1 4013 4, ab 1 6 0,  0 4026 5"
        );
        assert_eq!(found("a/b/two"), "a/b/two 0 4009 2");
        assert!(matches!(snapshot.usage("none"), Err(crate::Error::NotFound { .. })));
    }
}
