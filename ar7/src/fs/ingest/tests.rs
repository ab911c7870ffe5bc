//! The rule of an ingest: a file that is not reported as changed is stored as this very file was at one moment of the
//! run. Of a file that is reported as changed, each byte is one that it held at that place at some moment. An entry that
//! could not be stored is reported, and affects no other.
//!
//! A layer under the walk fails one call after the other, or changes the tree before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt as _};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use ar7_registry::records::{EntryType, ExtendedAttribute, Origin};
use rustix::io::Errno;

use super::{Ingest, IngestReport};
use crate::archive::Archive;
use crate::error::{Error, Result};
use crate::fs::Patterns;
use crate::fs::system::is_out_of_descriptors;
use crate::fs::tree::lock;
use crate::fs::walk::{Attributed, Names, Source, Status, System};
use crate::key::Key;

mod attributes;
mod selection;
mod versions;

/// What happens before a call of the source; an error fails the call.
type Event = Box<dyn FnMut() -> io::Result<()> + Send>;

/// The most bytes that one call reads, so that files change between two reads.
const READ_BYTES: usize = 8;

/// The system's source, and what happens before its calls, by their number.
#[derive(Default)]
struct Disturbed {
    calls: Mutex<usize>,
    events: Mutex<HashMap<usize, Event>>,
    /// A name that no list of a directory contains.
    unlisted: Option<OsString>,
    /// The memory for the names of one list, if it is less than the walk offers.
    names_bytes: Option<usize>,
    /// The extended attributes of every file and directory, instead of its own.
    extended: Option<Vec<ExtendedAttribute>>,
    /// Why no extended attributes can be listed.
    unlistable: Option<Errno>,
    /// An extended attribute that cannot be read.
    unreadable: Option<OsString>,
    /// Whether every change was made long ago.
    is_later: bool,
    /// Whether the change time is counted in seconds.
    counts_seconds: bool,
    /// The name of an entry on another file system.
    foreign: Option<OsString>,
    /// The name of an entry of an unknown type.
    unknown: Option<OsString>,
    /// How often opening a file fails because of a lease.
    leases: Mutex<usize>,
    /// Counts the looks at open files with several names, each of which sees another version than the one before.
    flickers: Option<Mutex<u32>>,
    /// A file that grows before it is read, and how often.
    grows: Option<(PathBuf, Mutex<u32>)>,
}

impl Disturbed {
    fn at(call: usize, event: Event) -> Disturbed {
        Disturbed::default().and(call, event)
    }

    fn and(self, call: usize, event: Event) -> Disturbed {
        lock(&self.events).insert(call, event);
        self
    }

    fn calls(&self) -> usize {
        *lock(&self.calls)
    }

    /// Makes a call after its event. One at a time, so that no call sees half of an event.
    fn call<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let mut calls = lock(&self.calls);
        let event = lock(&self.events).remove(&*calls);
        *calls += 1;
        event.map_or(Ok(()), |mut event| event())?;
        call()
    }

    /// A source that sees the tree long after its last change.
    fn later() -> Disturbed {
        Disturbed { is_later: true, ..Disturbed::default() }
    }

    /// Changes what a status says.
    fn seen(&self, mut status: Status) -> Status {
        if self.counts_seconds {
            status.changed.nanoseconds = 0;
        }
        let origin = Origin { changed: status.changed, inode: status.id.1 };
        let is_old = self.is_later || status.attributes.origin.is_some();
        status.attributes.origin = is_old.then_some(origin);
        status
    }

    /// Makes a call that needs no descriptor of its own.
    fn call_without_descriptor<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.call(|| Ok(())) {
            Err(error) if is_out_of_descriptors(&error) => {}
            outcome => outcome?,
        }
        let _turn = lock(&self.calls);
        call()
    }
}

impl Source for Disturbed {
    fn open_location(&self, path: &Path) -> io::Result<OwnedFd> {
        self.call(|| System.open_location(path))
    }

    fn open_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
        self.call(|| System.open_directory(parent, name))
    }

    fn names(&self, at: BorrowedFd<'_>, after: Option<&OsStr>, budget: usize) -> io::Result<Names> {
        let budget = self.names_bytes.map_or(budget, |bytes| bytes.min(budget));
        let mut listed = self.call(|| System.names(at, after, budget))?;
        listed.names.retain(|name| Some(name) != self.unlisted.as_ref());
        Ok(listed)
    }

    fn status(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Status> {
        let mut status = self.seen(self.call(|| System.status(parent, name))?);
        let is = |other: &Option<OsString>| other.as_deref() == Some(name);
        if is(&self.foreign) {
            status.id.0 += 1;
        }
        status.kind = status.kind.filter(|_| !is(&self.unknown));
        Ok(status)
    }

    fn open_file(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
        let mut leases = lock(&self.leases);
        if *leases > 0 {
            *leases -= 1;
            return Err(Errno::AGAIN.into());
        }
        self.call(|| System.open_file(parent, name))
    }

    fn target(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>> {
        self.call(|| System.target(parent, name))
    }

    fn status_of(&self, file: BorrowedFd<'_>) -> io::Result<Status> {
        let mut status = self.seen(self.call_without_descriptor(|| System.status_of(file))?);
        let is_file = status.kind == Some(EntryType::File);
        if let Some(looks) = self.flickers.as_ref().filter(|_| is_file && status.links > 1) {
            let mut looks = lock(looks);
            status.changed.nanoseconds ^= *looks & 1;
            *looks += 1;
        }
        Ok(status)
    }

    fn read_at(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        self.call_without_descriptor(|| {
            if let Some((path, times)) = &self.grows {
                let mut times = lock(times);
                if *times > 0 && System.status_of(file)?.id.1 == path.metadata()?.ino() {
                    *times -= 1;
                    let mut file = File::options().append(true).open(path)?;
                    io::Write::write_all(&mut file, b"grows by a few bytes")?;
                }
            }
            let spare = buffer.capacity() - buffer.len();
            let mut piece = Vec::with_capacity(READ_BYTES.min(spare));
            let read = System.read_at(file, offset, &mut piece)?;
            buffer.extend_from_slice(&piece);
            Ok(read)
        })
    }

    fn data_from(&self, file: BorrowedFd<'_>, offset: u64) -> io::Result<Option<Range<u64>>> {
        self.call_without_descriptor(|| System.data_from(file, offset))
    }

    fn attribute_names(&self, entry: Attributed<'_>) -> io::Result<Vec<OsString>> {
        let names = self.call_without_descriptor(|| System.attribute_names(entry))?;
        if let Some(errno) = self.unlistable {
            return Err(errno.into());
        }
        let Some(attributes) = &self.extended else { return Ok(names) };
        // Not in order.
        let names = attributes.iter().rev().map(|attribute| attribute.name.clone());
        Ok(names.map(OsString::from_vec).collect())
    }

    fn attribute(&self, entry: Attributed<'_>, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
        let value = self.call_without_descriptor(|| System.attribute(entry, name))?;
        if self.unreadable.as_deref() == Some(name) {
            return Err(Errno::IO.into());
        }
        let Some(attributes) = &self.extended else { return Ok(value) };
        let found = attributes.iter().find(|attribute| attribute.name == name.as_bytes());
        Ok(found.map(|attribute| attribute.value.clone()))
    }
}

/// What the files of a folder have held.
#[derive(Default)]
struct Held {
    /// The files that were at a path, by their inode numbers.
    files: BTreeMap<String, BTreeSet<u64>>,
    /// The bytes of each file, or the targets of each symbolic link.
    versions: BTreeMap<u64, BTreeSet<Vec<u8>>>,
}

impl Held {
    /// Notes what a directory holds now.
    fn see(&mut self, directory: &Path, name: &str) {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{name}{}", entry.file_name().to_str().unwrap());
            let metadata = entry.path().symlink_metadata().unwrap();
            if metadata.is_dir() {
                self.see(&entry.path(), &format!("{path}/"));
                continue;
            }
            self.files.entry(path).or_default().insert(metadata.ino());
            let bytes = read(&entry.path());
            self.versions.entry(metadata.ino()).or_default().insert(bytes);
        }
    }

    fn versions(&self, path: &str) -> Vec<&Vec<u8>> {
        let files = self.files.get(path).into_iter().flatten();
        files.flat_map(|file| self.versions.get(file).into_iter().flatten()).collect()
    }
}

/// Returns the bytes of a file or the target of a symbolic link.
fn read(path: &Path) -> Vec<u8> {
    if path.is_symlink() {
        return fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec();
    }
    fs::read(path).unwrap()
}

/// A directory with a source tree `w`, an outside tree, and an archive.
struct Bench {
    folder: tempfile::TempDir,
    key: Key,
    held: Arc<Mutex<Held>>,
}

const DIRECTORIES: [&str; 5] = ["a", "a/inner", "b", "c", "c/inner"];
const FILES: [&str; 2] = ["f", "g"];

/// The files, a further name and a symbolic link.
const ENTRIES: usize = DIRECTORIES.len() * FILES.len() + 2;

impl Bench {
    fn new() -> Bench {
        let bench = Bench {
            folder: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap(),
            key: Key::from([7; 32]),
            held: Arc::default(),
        };
        for directory in DIRECTORIES {
            fs::create_dir_all(bench.path("w").join(directory)).unwrap();
            fs::create_dir_all(bench.path("outside").join(directory)).unwrap();
        }
        bench.fill("w", "first");
        fs::hard_link(bench.path("w/a/f"), bench.path("w/c/linked")).unwrap();
        symlink("target of b", bench.path("w/b/link")).unwrap();
        bench.fill("outside", "outside");
        bench.see();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Rewrites every file with content that names its place. The files are old, so that the time of any later change
    /// differs.
    fn fill(&self, tree: &str, version: &str) {
        for directory in DIRECTORIES {
            for file in FILES {
                let path = self.path(tree).join(directory).join(file);
                fs::write(&path, format!("{version} {tree}/{directory}/{file}")).unwrap();
                let old = UNIX_EPOCH + Duration::from_secs(version.len() as u64);
                File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
            }
        }
    }

    /// Notes what each file holds now.
    fn see(&self) {
        lock(&self.held).see(self.folder.path(), "");
    }

    /// Returns an event that notes what each file holds after it.
    fn seen(&self, mut event: impl FnMut() -> io::Result<()> + Send + 'static) -> Event {
        let (held, folder) = (Arc::clone(&self.held), self.folder.path().to_owned());
        Box::new(move || {
            event()?;
            lock(&held).see(&folder, "");
            Ok(())
        })
    }

    fn archive(&self) -> Result<Archive> {
        Archive::options().create(true).open(self.path("archive"), &self.key)
    }

    fn ingest(&self, source: &dyn Source) -> Result<IngestReport> {
        self.ingest_with(source, |ingest| ingest)
    }

    fn ingest_with(
        &self,
        source: &dyn Source,
        options: impl FnOnce(Ingest<'_>) -> Ingest<'_>,
    ) -> Result<IngestReport> {
        let archive = self.archive()?;
        let ingest = options(Ingest::new().path(self.path("w")).jobs(2));
        let report = ingest.run_on(&archive, source)?;
        archive.close()?;
        Ok(report)
    }

    /// The paths of the archive, with the bytes of files and the targets of links; verified.
    fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        let archive = self.archive().unwrap();
        let mut findings = Vec::new();
        archive
            .verify(|finding| findings.push(finding), |_| std::ops::ControlFlow::Continue(()))
            .unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let snapshot = archive.snapshot().unwrap();
        let mut stored = BTreeMap::new();
        for entry in snapshot.walk("").unwrap() {
            let entry = entry.unwrap();
            let path = entry.path.to_str().unwrap().to_owned();
            if entry.metadata.is_file() {
                stored.insert(path, snapshot.read(&entry.path).unwrap());
            } else if !entry.metadata.is_directory() {
                let target = snapshot.read_link(&entry.path).unwrap();
                stored.insert(path, target.as_os_str().as_bytes().to_vec());
            }
        }
        stored
    }

    /// Checks the rule, and that a path that is not stored as it is now was reported, by itself or by a directory above.
    fn check(&self, report: &IngestReport, is_still: bool, context: &str) {
        self.see();
        let (stored, held) = (self.stored(), lock(&self.held));
        let changed: BTreeSet<&PathBuf> = report.changed.iter().collect();
        for (path, bytes) in &stored {
            let text = String::from_utf8_lossy(bytes);
            let versions = held.versions(path);
            let is_version = versions.contains(&bytes);
            let is_mixed = || {
                bytes.iter().enumerate().all(|(offset, byte)| {
                    versions.iter().any(|version| version.get(offset) == Some(byte))
                })
            };
            let may_be_mixed = changed.contains(&self.path(path));
            assert!(is_version || may_be_mixed && is_mixed(), "{context}: {path} has {text:?}");
        }
        if !is_still {
            return;
        }
        let mut now = Held::default();
        now.see(&self.path("w"), "w/");
        for path in now.files.keys() {
            let is_current =
                stored.get(path).is_some_and(|bytes| now.versions(path).contains(&bytes));
            let is_reported =
                report.unread.iter().any(|unread| self.path(path).starts_with(&unread.path));
            assert!(is_current || is_reported, "{context}: {path} is missing: {:?}", report.unread);
        }
    }
}

/// Gives every file a new version, whose time differs from the one before.
fn second_version(bench: &Bench) {
    bench.fill("w", "the second version");
    bench.see();
}

/// Number of calls of an ingest in which nothing happens.
fn calls_of(bench: &Bench) -> usize {
    let counting = Disturbed::default();
    bench.ingest(&counting).unwrap();
    counting.calls()
}

fn failing(errno: Errno) -> Event {
    Box::new(move || Err(errno.into()))
}

#[test]
fn an_undisturbed_ingest_stores_the_tree_and_the_next_one_stores_nothing() {
    let bench = Bench::new();
    let report = bench.ingest(&System).unwrap();
    assert!(report.is_complete());
    assert_eq!(report.checkpoints, 0);
    assert_eq!(bench.stored().len(), ENTRIES);
    bench.check(&report, true, "undisturbed");
    let again = bench.ingest(&System).unwrap();
    assert_eq!((again.stored_files, again.entries), (0, report.entries));
    // A file that is read again would not be unchanged.
    assert_eq!(again.unchanged, ENTRIES as u64);
}

#[test]
fn a_failed_call_affects_only_its_own_entry() {
    let calls = calls_of(&Bench::new());
    assert!(calls > 40, "{calls} calls");
    for is_known in [false, true] {
        for call in 0..calls {
            let bench = Bench::new();
            if is_known {
                bench.ingest(&System).unwrap();
                second_version(&bench);
            }
            let report = bench.ingest(&Disturbed::at(call, failing(Errno::IO))).unwrap();
            bench.check(&report, true, &format!("call {call} fails, known {is_known}"));
            // A failed comparison of a symbolic link with the archive's only means that it is stored again.
            let reported = report.unread.len() + report.attributes.len();
            assert!(reported == 1 || is_known && reported == 0, "call {call}: {reported} reported");
        }
    }
}

#[test]
fn a_call_without_a_free_descriptor_is_made_again() {
    let calls = calls_of(&Bench::new());
    for errno in [Errno::MFILE, Errno::NFILE] {
        // Before the first call nothing is open that could be closed.
        for call in 1..calls {
            let bench = Bench::new();
            let report = bench.ingest(&Disturbed::at(call, failing(errno))).unwrap();
            assert!(report.unread.is_empty(), "{errno}, call {call}: {:?}", report.unread);
        }
    }
}

/// A generator whose sequence is fixed by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound
    }
}

/// Changes the tree in one way. A change that is not possible has not happened.
fn change(folder: &Path, random: &mut Random) {
    let directory = folder.join("w").join(DIRECTORIES[random.below(DIRECTORIES.len())]);
    let other = folder.join("w").join(DIRECTORIES[random.below(DIRECTORIES.len())]);
    let (file, target) =
        (directory.join(FILES[random.below(2)]), other.join(FILES[random.below(2)]));
    let (away, outside) = (folder.join("away"), folder.join("outside/a/f"));
    let letter = b'A' + u8::try_from(random.below(26)).unwrap();
    let opened = || File::options().write(true).open(&file);
    let _ = match random.below(11) {
        // The same size.
        0 | 1 => opened().and_then(|opened| {
            let length = usize::try_from(opened.metadata()?.len()).unwrap();
            opened.write_all_at(&vec![letter; length], 0)
        }),
        2 => {
            opened().and_then(|opened| opened.write_all_at(&[letter; 5], opened.metadata()?.len()))
        }
        3 => opened().and_then(|opened| opened.set_len(random.below(12) as u64)),
        4 => opened().and_then(|opened| opened.write_all_at(&[letter], random.below(12) as u64)),
        5 => fs::rename(&file, &target),
        6 => fs::remove_file(&file).and_then(|()| symlink(&outside, &file)),
        7 => fs::rename(&directory, &away),
        8 => fs::rename(&away, &directory),
        9 => fs::remove_file(&file).and_then(|()| fs::write(&file, [letter; 20])),
        _ => fs::rename(&directory, folder.join("w").join("moved")),
    };
}

#[test]
fn every_file_is_stored_as_it_was_at_one_moment_or_reported_whatever_changes() {
    let calls = calls_of(&Bench::new());
    let (mut reported, mut stored) = (0, 0);
    for seed in 0..300 {
        let bench = Bench::new();
        let mut random = Random(seed);
        if random.below(2) == 0 {
            bench.ingest(&System).unwrap();
        }
        let (mut source, events) = (Disturbed::default(), 1 + random.below(8));
        for event in 0..events {
            let call = random.below(calls);
            let (folder, mut random) = (bench.path(""), Random(seed << 8 | event as u64));
            source = source.and(
                call,
                bench.seen(move || {
                    change(&folder, &mut random);
                    Ok(())
                }),
            );
        }
        if random.below(4) == 0 {
            // Keeps a file changing, so that it is reported.
            for call in 0..2 * calls {
                let path = bench.path("w/b/g");
                let letter = b'a' + u8::try_from(call % 26).unwrap();
                let event = bench.seen(move || {
                    let opened = File::options().write(true).open(&path);
                    let _ = opened.and_then(|file| file.write_all_at(&[letter; 3], 0));
                    Ok(())
                });
                source = source.and(call, event);
            }
        }
        let report = bench.ingest(&source).unwrap();
        bench.check(&report, false, &format!("seed {seed}"));
        reported += report.changed.len();
        stored += report.stored_files;
    }
    assert!(reported > 10 && stored > 1000, "{reported} reported, {stored} stored");
}

#[test]
fn a_file_that_is_replaced_during_the_run_is_stored_as_it_was_or_as_it_is() {
    let calls = calls_of(&Bench::new());
    for call in 0..calls {
        let bench = Bench::new();
        let (new, old) = (bench.path("new"), bench.path("w/a/f"));
        fs::write(&new, "another file with the name").unwrap();
        let event = bench.seen(move || fs::rename(&new, &old));
        let report = bench.ingest(&Disturbed::at(call, event)).unwrap();
        bench.check(&report, false, &format!("a/f is replaced at call {call}"));
        assert!(report.changed.is_empty(), "call {call}: no file changed");
        let linked = bench.stored().remove("w/c/linked");
        assert_eq!(linked.as_deref(), Some(&b"first w/a/f"[..]), "the other name, call {call}");
    }
}

#[test]
fn a_file_that_changes_once_is_read_again_and_not_reported() {
    let calls = calls_of(&Bench::new());
    for call in 0..calls {
        let bench = Bench::new();
        let path = bench.path("w/a/f");
        let event = bench.seen(move || fs::write(&path, "other content of another length"));
        let report = bench.ingest(&Disturbed::at(call, event)).unwrap();
        bench.check(&report, false, &format!("a/f changes at call {call}"));
        assert!(report.is_complete(), "call {call}: {report:?}");
    }
}

#[test]
fn a_new_file_with_the_inode_number_of_a_removed_one_is_another_file() {
    let bench = Bench::new();
    let status = |name: &str| {
        let (folder, file) = (File::open(bench.path("w/a")).unwrap(), OsString::from(name));
        System.status(folder.as_fd(), &file).unwrap()
    };
    let (first, again) = (status("f"), status("f"));
    assert!(first.is_same_version(&again));
    let mut later = first;
    later.changed.seconds += 1;
    assert!(!later.is_same_version(&first));
}

#[test]
fn a_tree_can_be_deeper_than_any_path_and_any_stack() {
    const DEPTH: usize = 20_000;
    let bench = Bench::new();
    let mut directory: OwnedFd = File::open(bench.path("w/b")).unwrap().into();
    for _ in 0..DEPTH {
        rustix::fs::mkdirat(&directory, "d", rustix::fs::Mode::RWXU).unwrap();
        directory = System.open_directory(directory.as_fd(), OsStr::new("d")).unwrap();
    }
    let report = bench.ingest(&System).unwrap();
    assert!(report.is_complete());
    assert_eq!(report.entries, (ENTRIES + DIRECTORIES.len() + 1 + DEPTH) as u64);
    drop(directory);
    // `TempDir` removes by path, which would be too long.
    let (top, below) = (bench.path("w/b/d"), bench.path("w/b/below"));
    while fs::rename(top.join("d"), &below).is_ok() {
        fs::remove_dir(&top).unwrap();
        fs::rename(&below, &top).unwrap();
    }
}

#[test]
fn content_is_compared_where_only_change_time_or_inode_number_differ() {
    let bench = Bench::new();
    bench.ingest(&Disturbed::later()).unwrap();
    let (file, new) = (bench.path("w/b/f"), bench.path("new"));
    let modified = file.metadata().unwrap().modified().unwrap();
    // The same size and time, another file.
    let replace = |content: &str| {
        fs::write(&new, content).unwrap();
        File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
        fs::rename(&new, &file).unwrap();
    };
    replace("first w/b/f");
    let same = bench.ingest(&Disturbed::later()).unwrap();
    assert_eq!((same.stored_files, same.unchanged), (0, ENTRIES as u64));
    replace("other w/b/f");
    let ignored = bench
        .ingest_with(&Disturbed::later(), |ingest| ingest.ignore_ctime(true).ignore_inode(true));
    assert_eq!(ignored.unwrap().stored_files, 0);
    // The size and the time count all the same.
    for (path, content, later) in [("w/c/f", "longer w/c/f", 0), ("w/c/g", "other w/c/g", 1)] {
        let modified = bench.path(path).metadata().unwrap().modified().unwrap();
        fs::write(bench.path(path), content).unwrap();
        let time = modified + Duration::from_secs(later);
        File::options().write(true).open(bench.path(path)).unwrap().set_modified(time).unwrap();
        let noticed = bench.ingest_with(&Disturbed::later(), |ingest| {
            ingest.ignore_ctime(true).ignore_inode(true)
        });
        assert_eq!(noticed.unwrap().stored_files, 1, "{path}");
        assert_eq!(bench.stored()[path], content.as_bytes());
    }
    for ignores_ctime in [true, false] {
        let ingest = Ingest::new().path(bench.path("w"));
        let ingest = ingest.ignore_ctime(ignores_ctime).ignore_inode(!ignores_ctime);
        let archive = bench.archive().unwrap();
        let preview = ingest.run_stages(Some(&archive.registry), true, &Disturbed::later());
        let preview = preview.unwrap();
        assert_eq!(preview.stored_files, 1, "either difference is enough");
        // A further name of a file does not count.
        assert_eq!(preview.unchanged, ENTRIES as u64 - 2);
    }
    let compared = bench.ingest_with(&Disturbed::later(), |ingest| {
        ingest.ignore_ctime(true).ignore_inode(true).checksum(true)
    });
    assert_eq!(compared.unwrap().stored_files, 1);
    assert_eq!(bench.stored()["w/b/f"], b"other w/b/f");
    fs::write(bench.path("w/empty"), "").unwrap();
    for stored_files in [1, 0] {
        let compared = bench.ingest_with(&Disturbed::later(), |ingest| ingest.checksum(true));
        assert_eq!(compared.unwrap().stored_files, stored_files);
    }
}

#[test]
fn files_that_are_no_longer_linked_are_stored_as_several_files_although_nothing_else_changed() {
    for has_more_names in [false, true] {
        let bench = Bench::new();
        bench.ingest(&System).unwrap();
        let (file, linked) = (bench.path("w/a/f"), bench.path("w/c/linked"));
        let modified = file.metadata().unwrap().modified().unwrap();
        fs::remove_file(&linked).unwrap();
        fs::copy(&file, &linked).unwrap();
        File::options().write(true).open(&linked).unwrap().set_modified(modified).unwrap();
        if has_more_names {
            fs::hard_link(&file, bench.path("w/a/more")).unwrap();
            fs::hard_link(&linked, bench.path("w/c/more")).unwrap();
        }
        assert!(bench.ingest(&System).unwrap().is_complete());
        let archive = bench.archive().unwrap();
        let snapshot = archive.snapshot().unwrap();
        let inode = |path: &str| snapshot.metadata(path).unwrap().inode;
        assert_ne!(inode("w/a/f"), inode("w/c/linked"));
        if has_more_names {
            assert_eq!(inode("w/a/f"), inode("w/a/more"));
            assert_eq!(inode("w/c/linked"), inode("w/c/more"));
        }
    }
}

#[test]
fn a_tree_that_is_stored_under_two_names_is_unchanged_in_the_second_run() {
    let bench = Bench::new();
    let ingest = || {
        let archive = bench.archive().unwrap();
        let ingest = Ingest::new().path(bench.path("w")).path(bench.path("w/b"));
        ingest.run_on(&archive, &Disturbed::later()).unwrap()
    };
    let first = ingest();
    let second = ingest();
    assert_eq!((second.stored_files, second.entries), (0, first.entries));
}

#[test]
fn a_symbolic_link_with_another_target_is_stored_although_its_time_is_the_same() {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let bench = Bench::new();
    let link = bench.path("w/b/link");
    let time = Timespec { tv_sec: 5, tv_nsec: 6 };
    let times = Timestamps { last_access: time, last_modification: time };
    for target in ["one target", "an other"] {
        fs::remove_file(&link).unwrap();
        symlink(target, &link).unwrap();
        utimensat(CWD, &link, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        bench.ingest(&System).unwrap();
        assert_eq!(bench.stored()["w/b/link"], target.as_bytes());
    }
}

#[test]
fn a_file_with_holes_is_stored_as_it_reads() {
    let bench = Bench::new();
    let file = File::create(bench.path("w/sparse")).unwrap();
    file.write_all_at(b"middle", 300_000).unwrap();
    file.set_len(700_000).unwrap();
    fs::write(bench.path("w/large"), vec![7; (1 << 20) + 1]).unwrap();
    let (archive, mut read) = (bench.archive().unwrap(), 0);
    let ingest = Ingest::new().path(bench.path("w")).on_event(|event| {
        if let crate::fs::IngestEvent::Read { bytes } = event {
            read += bytes;
        }
        std::ops::ControlFlow::Continue(())
    });
    let report = ingest.run(&archive).unwrap();
    archive.close().unwrap();
    assert!(report.is_complete());
    // Each file once. The symbolic link counts, and the other name of a file does not, which is as long.
    assert_eq!(read, report.bytes);
    let stored = &bench.stored()["w/sparse"];
    assert_eq!(stored.len(), 700_000);
    assert_eq!(&stored[300_000..300_006], b"middle");
    assert_eq!(stored.iter().filter(|&&byte| byte != 0).count(), 6);
}

#[test]
fn a_hole_of_a_tebibyte_is_stored_and_restored_as_one() {
    let bench = Bench::new();
    let file = File::create(bench.path("w/huge")).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 1 << 39).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(bench.ingest(&System).unwrap().is_complete());
    let out = bench.path("out");
    let report = crate::fs::Extract::new()
        .to(&out)
        .run(&bench.archive().unwrap().snapshot().unwrap())
        .unwrap();
    assert!(report.is_complete(), "{report:?}");
    let restored = File::open(out.join("w/huge")).unwrap();
    assert_eq!(restored.metadata().unwrap().len(), 1 << 40);
    let mut bytes = [0; 6];
    restored.read_exact_at(&mut bytes, 1 << 39).unwrap();
    assert_eq!(&bytes, b"middle");
    restored.read_exact_at(&mut bytes[..5], 0).unwrap();
    assert_eq!(&bytes[..5], b"begin");
}

#[test]
fn deleting_removes_what_the_source_lost_and_keeps_what_was_left_out_or_is_unreadable() {
    let bench = Bench::new();
    bench.ingest(&Disturbed::later()).unwrap();
    fs::remove_file(bench.path("w/a/f")).unwrap();
    fs::remove_dir_all(bench.path("w/c/inner")).unwrap();
    let exclude = Patterns::new(["w/b/f"]).unwrap();
    let report = bench.ingest_with(&Disturbed::later(), |ingest| {
        ingest.delete(true).exclude(exclude).checkpoint(1)
    });
    let report = report.unwrap();
    assert_eq!(report.removed, 1 + 3, "a file, and a directory with two");
    // After each directory, each removal, and the file whose other name was removed.
    assert_eq!(report.checkpoints, 5 + 2 + 1);
    let stored = bench.stored();
    assert!(stored.contains_key("w/b/f") && !stored.contains_key("w/a/f"));
    assert_eq!(stored.len(), ENTRIES - 3);
    // A directory that cannot be listed keeps everything.
    fs::remove_file(bench.path("w/b/g")).unwrap();
    let counting = Disturbed::default();
    let before = bench.stored();
    bench.ingest_with(&counting, |ingest| ingest.delete(true)).unwrap();
    assert_eq!(before.len() - 1, bench.stored().len());
    for call in 0..counting.calls() {
        let source = Disturbed::at(call, failing(Errno::IO));
        bench.ingest_with(&source, |ingest| ingest.delete(true)).unwrap();
        assert_eq!(bench.stored().len(), before.len() - 1, "call {call} fails");
    }
}

#[test]
fn a_directory_too_large_for_one_list_is_stored_whole_and_keeps_everything_if_a_later_list_fails() {
    let bench = Bench::new();
    let in_passes = || Disturbed { names_bytes: Some(1), ..Disturbed::default() };
    let counting = in_passes();
    let report = bench.ingest(&counting).unwrap();
    bench.check(&report, true, "undisturbed");
    assert!(report.is_complete());
    assert_eq!(bench.ingest(&System).unwrap().unchanged, ENTRIES as u64);
    let before = bench.stored();
    let mut unlisted = BTreeSet::new();
    for call in 0..counting.calls() {
        let source = in_passes().and(call, failing(Errno::IO));
        let report = bench.ingest_with(&source, |ingest| ingest.delete(true)).unwrap();
        assert_eq!(bench.stored(), before, "call {call} fails");
        for unread in
            report.unread.iter().filter(|unread| unread.error.to_string().contains("list"))
        {
            unlisted.insert(unread.path.strip_prefix(bench.path("w")).unwrap().to_owned());
        }
    }
    // Which call fails depends on the readers, but lists are among them.
    let known =
        |path: &PathBuf| path == Path::new("") || DIRECTORIES.contains(&path.to_str().unwrap());
    assert!(!unlisted.is_empty() && unlisted.iter().all(known), "{unlisted:?}");
}

#[test]
fn a_name_that_a_list_left_out_is_reported_and_not_deleted() {
    let bench = Bench::new();
    bench.ingest(&System).unwrap();
    let before = bench.stored();
    let source = Disturbed { unlisted: Some("g".into()), ..Disturbed::default() };
    let report = bench.ingest_with(&source, |ingest| ingest.delete(true)).unwrap();
    assert_eq!((report.removed, report.unread.len()), (0, DIRECTORIES.len()));
    assert!(report.unread.iter().all(|unread| unread.path.ends_with("g")), "{report:?}");
    assert_eq!(bench.stored(), before);
}

#[test]
fn a_page_of_names_without_a_good_copy_ends_the_ingest_as_damage() {
    let bench = Bench::new();
    bench.ingest(&System).unwrap();
    let archive = bench.path("archive");
    let bytes = fs::read(&archive).unwrap();
    let blocks = bytes.len() / 4096;
    let mut damaged = 0;
    for block in 8..blocks {
        // One bad block leaves the other copy of a page. From the block to the end, it may leave none.
        for end in [block + 1, blocks] {
            let mut copy = bytes.clone();
            for bad in block..end {
                copy[bad * 4096 + 2000] ^= 1;
            }
            fs::write(&archive, &copy).unwrap();
            second_version(&bench);
            if let Err(error) = bench.ingest(&System) {
                assert!(matches!(error, Error::Damaged(_)), "blocks {block} to {end}: {error}");
                assert!(end > block + 1, "block {block} has no other copy");
                damaged += 1;
            }
        }
    }
    assert!(damaged >= 3, "{damaged} blocks");
}
