//! Compares two directory trees entry by entry: kinds, contents, modes, times, link targets and hard links.
//!
//! It checks what `ar7 extract` restores, so it shares no code with it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::error::{Error, Result};

/// Maximum number of differences to keep; the rest are only counted.
const DIFFERENCES_KEPT: usize = 20;

const CHUNK: usize = 1 << 18;

/// One difference.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference {
    path: PathBuf,
    what: &'static str,
    original: String,
    copy: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { path, what, original, copy } = self;
        write!(formatter, "{}: {what}: {original}, the copy has {copy}", path.display())
    }
}

/// What was compared, and the differences.
#[derive(Debug, Default)]
pub struct Comparison {
    /// The number of entries in the original.
    pub entries: u64,
    /// The number of bytes in its files.
    pub bytes: u64,
    /// The first differences.
    pub differences: Vec<Difference>,
    /// The number of all differences.
    pub difference_count: usize,
    /// The number of devices, sockets and fifos in the original, which are not compared.
    pub special: u64,
    /// For each inode of the original with several names, the inode of the copy.
    linked: HashMap<(u64, u64), (u64, u64)>,
}

impl Comparison {
    /// Returns an error that lists the differences, if there are any.
    pub fn into_result(self) -> Result<Comparison> {
        if self.difference_count == 0 {
            return Ok(self);
        }
        let mut text = format!("{} differences", self.difference_count);
        for difference in &self.differences {
            text.push_str("\n  ");
            text.push_str(&difference.to_string());
        }
        Err(Error::Fault(text))
    }

    fn differ(
        &mut self,
        path: &Path,
        what: &'static str,
        original: impl fmt::Display,
        copy: impl fmt::Display,
    ) {
        self.difference_count += 1;
        if self.differences.len() < DIFFERENCES_KEPT {
            let (original, copy) = (original.to_string(), copy.to_string());
            self.differences.push(Difference { path: path.to_owned(), what, original, copy });
        }
    }
}

/// Compares the tree at `copy` with the one at `original`.
pub fn compare(original: &Path, copy: &Path) -> Result<Comparison> {
    let mut comparison = Comparison::default();
    let mut names = BTreeSet::new();
    for entry in WalkDir::new(original).follow_root_links(false) {
        let entry = entry.map_err(walk_error)?;
        let path = entry.path();
        let relative = path.strip_prefix(original).unwrap_or(path).to_owned();
        let metadata = path.symlink_metadata().map_err(Error::io("stat", path))?;
        let kind = metadata.file_type();
        if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() {
            comparison.special += 1;
            continue;
        }
        compare_entry(&mut comparison, original, copy, &relative, &metadata)?;
        names.insert(relative);
    }
    for entry in WalkDir::new(copy).follow_root_links(false) {
        let entry = entry.map_err(walk_error)?;
        let path = entry.path();
        let relative = path.strip_prefix(copy).unwrap_or(path);
        if !names.contains(relative) {
            comparison.differ(relative, "entry", "nothing", "one");
        }
    }
    Ok(comparison)
}

fn walk_error(error: walkdir::Error) -> Error {
    let path = error.path().unwrap_or(Path::new("")).to_owned();
    Error::Io { operation: "walk", path, source: error.into() }
}

fn compare_entry(
    comparison: &mut Comparison,
    original: &Path,
    copy: &Path,
    relative: &Path,
    metadata: &Metadata,
) -> Result<()> {
    // Joining an empty path would append a slash to the name of a tree that is a single file.
    let place = |top: &Path| {
        if relative.as_os_str().is_empty() { top.to_owned() } else { top.join(relative) }
    };
    let (here, there) = (place(original), place(copy));
    comparison.entries += 1;
    let Ok(copied) = there.symlink_metadata() else {
        comparison.differ(relative, "entry", "one", "nothing");
        return Ok(());
    };
    if metadata.file_type() != copied.file_type() {
        comparison.differ(relative, "kind", kind(metadata), kind(&copied));
        return Ok(());
    }
    compare_metadata(comparison, relative, metadata, &copied);
    if metadata.is_symlink() {
        let target = fs::read_link(&here).map_err(Error::io("read link", &here))?;
        let copied = fs::read_link(&there).map_err(Error::io("read link", &there))?;
        if target != copied {
            comparison.differ(relative, "target", target.display(), copied.display());
        }
    }
    if metadata.is_file() {
        comparison.bytes += metadata.len();
        if let Some(offset) = first_difference(&here, &there)? {
            comparison.differ(relative, "content", format_args!("byte {offset}"), "another");
        }
    }
    Ok(())
}

fn compare_metadata(
    comparison: &mut Comparison,
    path: &Path,
    original: &Metadata,
    copy: &Metadata,
) {
    let mode = |metadata: &Metadata| format!("{:04o}", metadata.mode() & 0o7777);
    let time = |metadata: &Metadata| format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec());
    if mode(original) != mode(copy) {
        comparison.differ(path, "mode", mode(original), mode(copy));
    }
    if time(original) != time(copy) {
        comparison.differ(path, "time", time(original), time(copy));
    }
    if original.is_file() && original.len() != copy.len() {
        comparison.differ(path, "length", original.len(), copy.len());
    }
    if !original.is_dir() && original.nlink() > 1 {
        let inode = (copy.dev(), copy.ino());
        let first = *comparison.linked.entry((original.dev(), original.ino())).or_insert(inode);
        if first != inode {
            comparison.differ(path, "hard link", "another name", "a file of its own");
        }
    }
}

fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        "a directory"
    } else if metadata.is_symlink() {
        "a symbolic link"
    } else if metadata.is_file() {
        "a file"
    } else {
        "a special file"
    }
}

/// Returns the offset of the first byte in which two files differ.
fn first_difference(here: &Path, there: &Path) -> Result<Option<u64>> {
    let open = |path: &Path| File::open(path).map_err(Error::io("open", path));
    let (mut one, mut two) = (open(here)?, open(there)?);
    let (mut ours, mut theirs) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut offset = 0;
    loop {
        let count = read_full(&mut one, &mut ours).map_err(Error::io("read", here))?;
        let copied = read_full(&mut two, &mut theirs).map_err(Error::io("read", there))?;
        let (ours, theirs) = (&ours[..count], &theirs[..copied]);
        if ours != theirs {
            let equal = ours.iter().zip(theirs).take_while(|(one, two)| one == two).count();
            return Ok(Some(offset + equal as u64));
        }
        if count == 0 {
            return Ok(None);
        }
        offset += count as u64;
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::{Duration, SystemTime};

    /// Creates a small tree with one entry of each kind, all with the same time.
    fn tree(root: &Path) {
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "content").unwrap();
        fs::hard_link(root.join("a/file"), root.join("a/b/same")).unwrap();
        settle(root);
    }

    /// Sets every entry to the same time, children before their directories.
    fn settle(root: &Path) {
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 123_456_789);
        for entry in WalkDir::new(root).contents_first(true) {
            let entry = entry.unwrap();
            if !entry.path_is_symlink() {
                File::open(entry.path()).unwrap().set_modified(time).unwrap();
            }
        }
    }

    /// Returns the kinds of difference that `change` makes in a copy.
    fn found(change: impl FnOnce(&Path)) -> Vec<&'static str> {
        let folder = tempfile::tempdir().unwrap();
        let (original, copy) = (folder.path().join("original"), folder.path().join("copy"));
        tree(&original);
        tree(&copy);
        change(&copy);
        let comparison = compare(&original, &copy).unwrap();
        assert_eq!(comparison.entries, 5);
        let found: Vec<&str> = comparison.differences.iter().map(|found| found.what).collect();
        assert_eq!(comparison.into_result().is_ok(), found.is_empty());
        found
    }

    #[test]
    fn equal_trees_are_equal() {
        assert_eq!(found(|_| ()), [""; 0]);
    }

    #[test]
    fn each_difference_is_found() {
        let file = |copy: &Path| copy.join("a/file");
        let rewrite = |copy: &Path, content: &str| {
            fs::write(file(copy), content).unwrap();
            settle(copy);
        };
        // Both names of the file have the new content.
        assert_eq!(found(|copy| rewrite(copy, "Content")), ["content", "content"]);
        let longer = found(|copy| rewrite(copy, "content and more"));
        assert_eq!(longer, ["length", "content", "length", "content"]);
        let mode = |copy: &Path| {
            fs::set_permissions(copy.join("a/b"), Permissions::from_mode(0o700)).unwrap();
        };
        assert_eq!(found(mode), ["mode"]);
        let time = |copy: &Path| {
            File::open(copy.join("a/b")).unwrap().set_modified(SystemTime::now()).unwrap();
        };
        assert_eq!(found(time), ["time"]);
    }

    #[test]
    fn missing_added_and_changed_kinds_of_entries_are_found() {
        let gone = |copy: &Path| {
            fs::remove_file(copy.join("a/b/same")).unwrap();
            settle(copy);
        };
        assert_eq!(found(gone), ["entry"]);
        let added = |copy: &Path| {
            symlink("nowhere", copy.join("a/added")).unwrap();
            settle(copy);
        };
        assert_eq!(found(added), ["entry"]);
        let link = |copy: &Path| {
            fs::remove_file(copy.join("a/file")).unwrap();
            symlink("b/same", copy.join("a/file")).unwrap();
            settle(copy);
        };
        assert_eq!(found(link), ["kind"]);
    }

    #[test]
    fn a_hard_link_that_became_a_file_is_found() {
        let split = |copy: &Path| {
            fs::remove_file(copy.join("a/b/same")).unwrap();
            fs::write(copy.join("a/b/same"), "content").unwrap();
            settle(copy);
        };
        assert_eq!(found(split), ["hard link"]);
    }

    #[test]
    fn link_targets_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let links = ["one", "two"].map(|target| {
            let path = folder.path().join(target);
            symlink(format!("to {target}"), &path).unwrap();
            path
        });
        let comparison = compare(&links[0], &links[1]).unwrap();
        assert!(comparison.differences.iter().any(|difference| difference.what == "target"));
    }
}
