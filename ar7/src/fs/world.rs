//! An archive, a destination, and a tree next to it that must not change.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, EntryType, ExtendedAttribute, InodeNumber};
use ar7_registry::{Archive, CreateOptions, Names};
use uuid::Uuid;

use crate::fs::ExtractReport;
use crate::fs::stored::{Found, Step, Walk};
use crate::snapshot::Snapshot;

/// The mtime of every entry, in seconds.
pub(super) const MODIFIED: i64 = 1_000_000_000;

/// The owner of every entry.
pub(super) const OWNER: (u32, u32) = (1234, 5678);

pub(super) struct World {
    folder: tempfile::TempDir,
    destinations: AtomicU32,
}

pub(super) fn attributes(mode: u32) -> Attributes {
    let modified = Timestamp { seconds: MODIFIED, nanoseconds: 123 };
    Attributes { mode, uid: OWNER.0, gid: OWNER.1, modified, origin: None }
}

type Made = ar7_registry::Result<()>;

impl Drop for World {
    fn drop(&mut self) {
        // A normal user cannot empty all of the directories otherwise.
        let _ = remove_all(self.folder.path());
    }
}

impl World {
    pub(super) fn new() -> World {
        // In memory, unless the user names a file system to test.
        let folder = match std::env::var_os("TMPDIR") {
            Some(_) => tempfile::tempdir(),
            None => tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()),
        };
        let folder = folder.unwrap();
        let world = World { folder, destinations: AtomicU32::new(0) };
        fs::create_dir_all(world.outside().join("d")).unwrap();
        for name in ["victim", "d/f"] {
            let path = world.outside().join(name);
            fs::write(&path, "unharmed").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        }
        world
    }

    /// The directory that must not change.
    pub(super) fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    /// Everything about the entries outside, except the number of names, which a planted link changes.
    pub(super) fn outside_state(&self) -> BTreeMap<PathBuf, String> {
        let mut state = BTreeMap::new();
        for name in names(&self.outside()) {
            let path = self.outside().join(&name);
            let metadata = fs::symlink_metadata(&path).unwrap();
            let content = fs::read(&path).unwrap_or_default();
            let (mode, owner) = (metadata.mode(), (metadata.uid(), metadata.gid()));
            let modified = (metadata.mtime(), metadata.mtime_nsec());
            state.insert(path, format!("{mode:o} {owner:?} {modified:?} {content:?}"));
        }
        state
    }

    /// Returns the path of a destination that no other call returned.
    pub(super) fn fresh_destination(&self) -> PathBuf {
        let number = self.destinations.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(format!("out{number}"))
    }
}

/// Makes an archive. `fill` gets its names, and a function that makes the stream for a content.
pub(super) fn archive(
    fill: impl FnOnce(&Names<'_>, &dyn Fn(&[u8]) -> Option<Uuid>) -> Made,
) -> Snapshot {
    let secret = Secret::Key(RawKey::from_bytes([3; 32]));
    let (device, options) = (Box::new(MemoryDevice::new()), CreateOptions::default());
    let archive = Archive::create_device(device, &secret, &options).unwrap();
    let file = |content: &[u8]| {
        let mut stream = archive.new_stream().unwrap();
        stream.append(content).unwrap();
        let identity = stream.identity();
        stream.close().unwrap();
        Some(identity)
    };
    fill(&archive.names(), &file).unwrap();
    archive.commit().unwrap();
    Snapshot::of(&archive)
}

/// Returns the entries of an archive with their paths.
pub(super) fn entries(archive: &Snapshot) -> BTreeMap<PathBuf, Found> {
    let mut walk = Walk::new(archive.registry(), InodeNumber::ROOT, Vec::new(), None);
    let mut entries = BTreeMap::new();
    while let Some(step) = walk.next() {
        if let Ok(Step::Entry(found)) = step {
            let path = walk.path_of(&found.name);
            if found.is_directory() {
                assert!(walk.enter(&found, None).is_ok());
            }
            entries.insert(path, found);
        }
    }
    entries
}

/// Checks that a destination has an entry as the archive has it, except what is in a directory.
pub(super) fn check(
    archive: &Snapshot,
    to: &Path,
    path: &Path,
    found: &Found,
) -> Result<(), String> {
    let full = to.join(path);
    let metadata = fs::symlink_metadata(&full).map_err(|error| error.to_string())?;
    let kind = metadata.file_type();
    let has_kind = match found.inode.kind {
        EntryType::File => kind.is_file(),
        EntryType::Directory => kind.is_dir(),
        EntryType::Symlink => kind.is_symlink(),
        EntryType::Fifo => kind.is_fifo(),
        EntryType::Socket => kind.is_socket(),
        EntryType::CharacterDevice => kind.is_char_device(),
        EntryType::BlockDevice => kind.is_block_device(),
    };
    let expect = |what: &str, is_right: bool| {
        if is_right { Ok(()) } else { Err(format!("{}: {what}", full.display())) }
    };
    expect("type", has_kind)?;
    let stored = found.inode.attributes;
    if kind.is_file() {
        let mut content = vec![0; usize::try_from(found.inode.size).unwrap()];
        if let Some(stream) = archive.registry().read_file(&found.inode).unwrap() {
            assert_eq!(stream.read_at(0, &mut content).unwrap(), content.len());
        }
        expect("content", fs::read(&full).map_err(|error| error.to_string())? == content)?;
    }
    if kind.is_symlink() {
        let target = fs::read_link(&full).map_err(|error| error.to_string())?;
        let stored = archive.registry().read_target(&found.inode).unwrap();
        expect("target", target.as_os_str().as_bytes() == stored)?;
    } else {
        expect("mode", metadata.mode() & 0o7777 == stored.mode & !0o6000)?;
    }
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    expect("time", modified == (stored.modified.seconds, 123))?;
    if rustix::process::geteuid().is_root() {
        expect("owner", (metadata.uid(), metadata.gid()) == (stored.uid, stored.gid))?;
    }
    Ok(())
}

/// One entry of every type that needs no privileges to make, and a file with several names.
pub(super) fn one_of_everything(names: &Names<'_>, file: &dyn Fn(&[u8]) -> Option<Uuid>) -> Made {
    let root = InodeNumber::ROOT;
    let d = names.make_directory(root, b"d", attributes(0o755))?;
    let inner = names.make_directory(d, b"inner", attributes(0o2555))?;
    names.add_file(inner, b"f", attributes(0o4755), file(b"inner f"))?;
    names.add_file(d, b"empty", attributes(0o400), None)?;
    let linked = names.add_file(d, b"linked", attributes(0o640), file(b"two names"))?;
    let note = ExtendedAttribute::new("user.note", "important");
    names.set_extended_attributes(linked, &[note])?;
    names.add_symlink(d, b"up", attributes(0o777), b"../../outside/victim")?;
    names.add_special(d, b"fifo", attributes(0o620), EntryType::Fifo, None)?;
    names.add_special(d, b"socket", attributes(0o700), EntryType::Socket, None)?;
    let other = names.make_directory(root, b"other", attributes(0o700))?;
    names.add_link(other, b"name", linked)?;
    names.add_file(root, b"z", attributes(0o644), file(&vec![0; 200_000]))?;
    Ok(())
}

/// Random numbers that depend on a seed only (`SplitMix64`).
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Returns a number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end as u64).unwrap()
    }
}

/// The names of random trees. There are few, so that archive and destination often have the same.
const NAMES: [&[u8]; 6] = [b"a", b"b", b"c", b"d", b"\xff", b"long name"];

/// A random tree of entries that need no privileges.
pub(super) fn random_tree(
    names: &Names<'_>,
    file: &dyn Fn(&[u8]) -> Option<Uuid>,
    random: &mut Random,
) -> Made {
    let mut directories = vec![InodeNumber::ROOT];
    let mut files = Vec::new();
    for number in 0..5 + random.below(20) {
        let directory = directories[random.below(directories.len())];
        let name = NAMES[random.below(NAMES.len())];
        if names.lookup(directory, name)?.is_some() {
            continue;
        }
        let attributes = attributes([0o755, 0o700, 0o640, 0o444, 0o1777][random.below(5)]);
        match random.below(10) {
            0..=3 => {
                directories.push(names.make_directory(directory, name, attributes)?);
            }
            4..=6 => {
                let content = format!("{number}").into_bytes().repeat(random.below(30_000));
                files.push(names.add_file(directory, name, attributes, file(&content))?);
            }
            7 if !files.is_empty() => {
                names.add_link(directory, name, files[random.below(files.len())])?;
            }
            8 => {
                names.add_symlink(directory, name, attributes, b"../../outside")?;
            }
            _ => {
                names.add_special(directory, name, attributes, EntryType::Fifo, None)?;
            }
        }
    }
    // Without an entry there is nothing to attack.
    if names.lookup(InodeNumber::ROOT, NAMES[0])?.is_none() {
        names.add_file(InodeNumber::ROOT, NAMES[0], attributes(0o644), file(b"a"))?;
    }
    Ok(())
}

/// A random destination, with directories that do not allow changes.
pub(super) fn random_destination(out: &Path, random: &mut Random) {
    let mut directories = vec![out.to_owned()];
    fs::create_dir_all(out).unwrap();
    for _ in 0..random.below(20) {
        let name = OsStr::from_bytes(NAMES[random.below(NAMES.len())]);
        let path = directories[random.below(directories.len())].join(name);
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match random.below(4) {
            0 => fs::write(&path, "existing").unwrap(),
            1 => std::os::unix::fs::symlink("../outside", &path).unwrap(),
            _ => {
                fs::create_dir(&path).unwrap();
                directories.push(path);
            }
        }
    }
    // The directories in one come after it, and are not reachable any more then.
    for path in directories[1..].iter().rev() {
        let mode = [0o755, 0o555, 0o000][random.below(3)];
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// Returns whether everything is restored that this user can restore: a normal user cannot make sockets.
pub(super) fn is_complete(report: &ExtractReport) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    report.is_complete()
        || (!is_root && report.not_restored.iter().all(|lost| lost.path.ends_with("socket")))
}

/// Removes a tree with directories that its owner may not change.
pub(super) fn remove_all(top: &Path) -> io::Result<()> {
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    fs::remove_dir_all(top)
}

/// Returns the paths below a directory, in order.
pub(super) fn names(top: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let mut waiting = vec![top.to_owned()];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.map(Result::unwrap) {
            let path = entry.path();
            names.push(path.strip_prefix(top).unwrap().to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                waiting.push(path);
            }
        }
    }
    names.sort();
    names
}

/// Returns the temporary names that are left below a directory.
pub(super) fn temporary_names(top: &Path) -> Vec<PathBuf> {
    let temporary =
        |name: &PathBuf| name.file_name().is_some_and(|name| name.as_bytes().starts_with(b".ar7."));
    names(top).into_iter().map(PathBuf::from).filter(temporary).collect()
}

pub(super) fn set_modified(path: &Path, seconds: i64) {
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds.unsigned_abs(), 123);
    fs::File::open(path).unwrap().set_modified(time).unwrap();
}
