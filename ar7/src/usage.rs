//! How much space directories take.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use ar7_registry::records::InodeNumber;

use crate::error::Result;
use crate::path;
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
    /// Bytes that the content takes in the archive: whole blocks, or its part of compressed frames.
    pub stored_bytes: u64,
}

/// The space that the directories of a tree take. See [`Snapshot::usage`].
#[derive(Debug)]
pub struct Usages<'a> {
    snapshot: &'a Snapshot,
    walk: Option<Walk<'a>>,
    /// The directories around the walk's place. The first one may be another entry.
    open: Vec<Open>,
    /// The path of the last of them.
    path: Vec<u8>,
    /// The entry that comes after the directories that it is not in, and its depth.
    next: Option<(Entry, usize)>,
    /// Inodes of files with several names, whose content counts once.
    counted: HashSet<u64>,
}

/// What was found in a directory so far. It has no path, so that the memory for a deep tree is proportional to its depth.
#[derive(Debug)]
struct Open {
    depth: usize,
    bytes: u64,
    stored_bytes: u64,
    /// The length of the path of the directory above.
    above: usize,
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
    /// assert_eq!((usage[1].bytes, usage[1].stored_bytes), (5000, 8192));
    /// # Ok(())
    /// # }
    /// ```
    pub fn usage(&self, path: impl AsRef<Path>) -> Result<Usages<'_>> {
        let root = self.entry(path)?;
        let walk = root.metadata.is_directory().then(|| self.walk(&root.path)).transpose()?;
        let (open, path, counted) = (Vec::new(), Vec::new(), HashSet::new());
        let mut usages = Usages { snapshot: self, walk, open, path, next: None, counted };
        usages.enter(&root, 0)?;
        Ok(usages)
    }

    /// Returns the number of bytes that the content of an entry takes in the archive: whole blocks, or its part of
    /// compressed frames.
    pub fn stored_bytes(&self, metadata: &Metadata) -> Result<u64> {
        let registry = self.registry();
        let inode = registry.inode(InodeNumber(metadata.inode))?;
        Ok(inode.map_or(Ok(0), |inode| registry.stored_bytes(&inode))?)
    }
}

impl Usages<'_> {
    /// Adds an entry to what is open.
    fn enter(&mut self, entry: &Entry, depth: usize) -> Result<()> {
        let size = self.size(&entry.metadata).map_err(|error| error.in_entry(&entry.path));
        let (bytes, stored_bytes) = size?;
        match self.open.last_mut() {
            Some(last) if !entry.metadata.is_directory() => {
                last.bytes += bytes;
                last.stored_bytes += stored_bytes;
            }
            _ => {
                self.open.push(Open { depth, bytes, stored_bytes, above: self.path.len() });
                self.path.clear();
                self.path.extend_from_slice(path::bytes(&entry.path));
            }
        }
        Ok(())
    }

    fn size(&mut self, metadata: &Metadata) -> Result<(u64, u64)> {
        let has_names = metadata.links > 1 && !metadata.is_directory();
        if has_names && !self.counted.insert(metadata.inode) {
            return Ok((0, 0));
        }
        Ok((metadata.len, self.snapshot.stored_bytes(metadata)?))
    }

    /// Returns the innermost directory, and adds it to the one above.
    fn leave(&mut self) -> Option<Usage> {
        let Open { bytes, stored_bytes, above, .. } = self.open.pop()?;
        let path = path::to_path(self.path.clone());
        self.path.truncate(above);
        if let Some(last) = self.open.last_mut() {
            last.bytes += bytes;
            last.stored_bytes += stored_bytes;
        }
        Some(Usage { path, depth: self.open.len(), bytes, stored_bytes })
    }
}

impl Iterator for Usages<'_> {
    type Item = Result<Usage>;

    fn next(&mut self) -> Option<Result<Usage>> {
        loop {
            let (entry, depth) = match (self.next.take(), &mut self.walk) {
                (Some(next), _) => next,
                (None, Some(walk)) => match walk.next() {
                    Some(Ok(entry)) => (entry, walk.depth()),
                    Some(Err(error)) => return Some(Err(error)),
                    None => return self.leave().map(Ok),
                },
                (None, None) => return self.leave().map(Ok),
            };
            // A walk returns everything in a directory before it leaves the directory.
            if self.open.last().is_some_and(|last| last.depth >= depth) {
                self.next = Some((entry, depth));
                return self.leave().map(Ok);
            }
            if let Err(error) = self.enter(&entry, depth) {
                return Some(Err(error));
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
            let line = |Usage { path, depth, bytes, stored_bytes }| {
                format!("{} {depth} {bytes} {}", path.display(), stored_bytes / 4096)
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
