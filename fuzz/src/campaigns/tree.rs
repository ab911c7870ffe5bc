//! Directory trees to ingest: generates and changes them.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::hash::{DefaultHasher, Hasher};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::Random;
use ar7_engine::format::DATA_SIZE_U64;
use walkdir::WalkDir;

use xtask::error::{Error, Result};

/// The size of a generated tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) files: u64,
    /// The number of large files among them.
    pub(crate) large_files: u64,
}

const FILES_PER_DIRECTORY: u64 = 40;
const SMALL_BYTES_MAX: u64 = 32 << 10;
const LARGE_BYTES_MIN: u64 = 6 << 20;
const LARGE_BYTES_MAX: u64 = 20 << 20;
const MODES: [u32; 4] = [0o644, 0o755, 0o600, 0o444];

/// Generates a tree at `root`: files of every awkward length, links of both kinds, and names that are not UTF-8.
pub(crate) fn generate(root: &Path, shape: Shape, random: &mut Random) -> Result<()> {
    create_directory(root)?;
    let mut directories = vec![root.to_owned()];
    let mut files: Vec<PathBuf> = Vec::new();
    for number in 0..shape.files {
        if number % FILES_PER_DIRECTORY == 0 {
            let parent = random.choose(&directories).map_or(root, PathBuf::as_path);
            let directory = parent.join(format!("directory-{number}"));
            create_directory(&directory)?;
            directories.push(directory);
        }
        let directory = random.choose(&directories).map_or(root, PathBuf::as_path);
        let path = directory.join(file_name(number, random));
        match random.below(40) {
            0 => make_link(&path, random)?,
            1 if !files.is_empty() => {
                let first = random.choose(&files).unwrap_or(&files[0]);
                fs::hard_link(first, &path).map_err(Error::io("link", &path))?;
            }
            _ => {
                let is_large = number * shape.large_files / shape.files
                    != (number + 1) * shape.large_files / shape.files;
                let bytes = if is_large {
                    LARGE_BYTES_MIN + random.below(LARGE_BYTES_MAX - LARGE_BYTES_MIN)
                } else {
                    small_length(random)
                };
                make_file(&path, bytes, random)?;
                files.push(path);
            }
        }
    }
    // Children first, because creating an entry changes the time of its directory.
    for directory in directories.iter().rev() {
        set_time(directory, random)?;
    }
    Ok(())
}

/// Changes about one file in `one_in`: some bytes in the middle, the end, or all of it. Returns the changed files.
pub(crate) fn change(root: &Path, one_in: u64, random: &mut Random) -> Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    for path in regular_files(root)? {
        if !random.one_in(one_in) {
            continue;
        }
        let mode = path.metadata().map_err(Error::io("stat", &path))?.permissions();
        fs::set_permissions(&path, Permissions::from_mode(0o600))
            .map_err(Error::io("set mode", &path))?;
        change_file(&path, random)?;
        fs::set_permissions(&path, mode).map_err(Error::io("set mode", &path))?;
        set_time(&path, random)?;
        changed.push(path);
    }
    Ok(changed)
}

/// Copies a tree, so that the copy can be changed.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let mut command = std::process::Command::new("cp");
    command.arg("-a").arg(from).arg(to);
    let output = xtask::workspace::output(&mut command)?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Status {
        command: xtask::workspace::shown(&command),
        status: output.status.to_string(),
        expected: 0,
        errors,
    })
}

/// Returns the regular files below `root`, in a fixed order.
pub(crate) fn regular_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(root).sort_by_file_name() {
        let entry =
            entry.map_err(|error| Error::Output { what: "walk", found: error.to_string() })?;
        if entry.file_type().is_file() {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Every content that a file of a tree has ever had, which is every content that an archive may restore after a kill.
#[derive(Debug, Default)]
pub(crate) struct History(HashMap<PathBuf, Vec<u64>>);

impl History {
    /// Records the current content of the files, under paths relative to `root`.
    pub(crate) fn note(&mut self, root: &Path, files: &[PathBuf]) -> Result<()> {
        for file in files {
            let known = self.0.entry(relative(root, file)).or_default();
            let digest = content_hash(file)?;
            if !known.contains(&digest) {
                known.push(digest);
            }
        }
        Ok(())
    }

    /// Fails if a file below `root` has a content that it never had.
    pub(crate) fn check(&self, root: &Path) -> Result<u64> {
        let files = regular_files(root)?;
        for file in &files {
            let digest = content_hash(file)?;
            let known = self.0.get(&relative(root, file));
            if !known.is_some_and(|known| known.contains(&digest)) {
                let path = file.display();
                return Err(Error::Fault(format!("{path} has a content that it never had")));
            }
        }
        Ok(files.len() as u64)
    }
}

fn relative(root: &Path, file: &Path) -> PathBuf {
    file.strip_prefix(root).unwrap_or(file).to_owned()
}

fn content_hash(path: &Path) -> Result<u64> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut hasher = DefaultHasher::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer).map_err(Error::io("read", path))?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        hasher.write(&buffer[..count]);
    }
}

fn create_directory(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create directory", path))
}

fn file_name(number: u64, random: &mut Random) -> OsString {
    let name = format!("file-{number}");
    match random.below(16) {
        0 => OsString::from_vec([name.as_bytes(), b"-\xff\xfe"].concat()),
        1 => format!("{name} with spaces and ünicode").into(),
        2 => format!("{name}-{}", "long".repeat(50)).into(),
        _ => name.into(),
    }
}

/// Returns a length near a block boundary, zero, or any other small length.
fn small_length(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => random.below(2),
        1 => (1 + random.below(4)) * DATA_SIZE_U64 + random.below(3) - 1,
        2 => random.below(SMALL_BYTES_MAX),
        _ => random.below(6000),
    }
}

fn make_link(path: &Path, random: &mut Random) -> Result<()> {
    let targets = ["nowhere at all", "..", ".", "file-1", "/dev/null"];
    let target = random.choose(&targets).copied().unwrap_or(".");
    symlink(target, path).map_err(Error::io("link", path))
}

fn make_file(path: &Path, bytes: u64, random: &mut Random) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    write_random(&mut file, bytes, random).map_err(Error::io("write", path))?;
    drop(file);
    set_time(path, random)?;
    let mode = random.choose(&MODES).copied().unwrap_or(MODES[0]);
    fs::set_permissions(path, Permissions::from_mode(mode)).map_err(Error::io("set mode", path))
}

fn change_file(path: &Path, random: &mut Random) -> Result<()> {
    let mut file =
        OpenOptions::new().read(true).write(true).open(path).map_err(Error::io("open", path))?;
    let length = file.metadata().map_err(Error::io("stat", path))?.len();
    // A long file stays long; otherwise, after some rounds, no file would take time to read.
    let changed = (|| match random.below(5) {
        0 => file.set_len(length - random.below(length.min(SMALL_BYTES_MAX) + 1)),
        1 if length <= SMALL_BYTES_MAX => {
            file.set_len(0)?;
            write_random(&mut file, small_length(random), random)
        }
        2 => {
            file.seek(SeekFrom::End(0))?;
            write_random(&mut file, 1 + small_length(random), random)
        }
        _ => {
            file.seek(SeekFrom::Start(random.below(length + 1)))?;
            write_random(&mut file, 1 + random.below(5000), random)
        }
    })();
    changed.map_err(Error::io("change", path))
}

fn write_random(file: &mut File, bytes: u64, random: &mut Random) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        random.fill(&mut buffer[..count]);
        file.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    Ok(())
}

/// Sets a time in the past, with nanoseconds, that the entry did not have before.
fn set_time(path: &Path, random: &mut Random) -> Result<()> {
    let nanoseconds = u32::try_from(random.below(1_000_000_000)).unwrap_or(0);
    let since = Duration::new(1_000_000_000 + random.below(700_000_000), nanoseconds);
    let file = File::open(path).map_err(Error::io("open", path))?;
    file.set_modified(SystemTime::UNIX_EPOCH + since).map_err(Error::io("set time", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use xtask::compare::compare;

    const SHAPE: Shape = Shape { files: 200, large_files: 1 };

    #[test]
    fn a_seed_gives_one_tree_and_a_copy_is_equal() {
        let folder = tempfile::tempdir().unwrap();
        let trees = ["one", "two"].map(|name| folder.path().join(name));
        for tree in &trees {
            generate(tree, SHAPE, &mut Random::new(7)).unwrap();
        }
        let copied = folder.path().join("copy");
        copy(&trees[0], &copied).unwrap();
        compare(&trees[0], &copied).unwrap().into_result().unwrap();
        let (entries, bytes) = xtask::trees::measure(&trees[0]).unwrap();
        assert!(entries > SHAPE.files && bytes > LARGE_BYTES_MIN);
        assert_eq!((entries, bytes), xtask::trees::measure(&trees[1]).unwrap());
        // Only links have the current time.
        let differences = compare(&trees[0], &trees[1]).unwrap().differences;
        assert!(differences.iter().all(|difference| difference.to_string().contains("time")));
    }

    #[test]
    fn recorded_contents_are_accepted_and_any_other_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        let mut random = Random::new(9);
        generate(&tree, Shape { files: 60, large_files: 0 }, &mut random).unwrap();
        let mut history = History::default();
        history.note(&tree, &regular_files(&tree).unwrap()).unwrap();
        let held = history.check(&tree).unwrap();
        assert!(held > 30);

        let changed = change(&tree, 4, &mut random).unwrap();
        assert!(!changed.is_empty());
        assert!(history.check(&tree).is_err(), "a change that was not recorded");
        history.note(&tree, &changed).unwrap();
        // A change under one name of a file changes its other names too.
        history.note(&tree, &regular_files(&tree).unwrap()).unwrap();
        assert_eq!(history.check(&tree).unwrap(), held);
    }
}
