//! The rule of an ingest: an entry is stored as the source had it at its path at some moment of the run, even if calls
//! fail or the source changes. An entry that could not be stored is reported, and affects no other.
//!
//! A layer under the walk fails one call after the other, or changes the tree before it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use ar7_registry::records::{EntryType, InodeNumber};
use clap::Parser;
use rustix::io::Errno;

use super::ingest;
use super::run::Tally;
use super::source::{Source, System};
use super::status::Status;
use super::walk::is_out_of_descriptors;
use crate::arguments::{Arguments, Command, Common, Ingest};
use crate::exit::{Code, Failure};
use crate::interrupt::Interrupt;
use crate::session::Session;
use crate::walk::{Step, Walk};

/// What happens before a call of the source; an error fails the call.
type Event = Box<dyn Fn() -> io::Result<()> + Send>;

/// The system's source, and what happens before its calls, by their number.
#[derive(Default)]
struct Disturbed {
    calls: Mutex<usize>,
    events: Mutex<HashMap<usize, Event>>,
}

impl Disturbed {
    fn at(call: usize, event: Event) -> Disturbed {
        Disturbed { calls: Mutex::default(), events: Mutex::new(HashMap::from([(call, event)])) }
    }

    fn and(self, call: usize, event: Event) -> Disturbed {
        self.events.lock().unwrap().insert(call, event);
        self
    }

    fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }

    /// Counts a call. Events happen one at a time, so that a call never sees half of one.
    fn step(&self) -> io::Result<()> {
        let mut calls = self.calls.lock().unwrap();
        let event = self.events.lock().unwrap().remove(&*calls);
        *calls += 1;
        event.map_or(Ok(()), |event| event())
    }
}

impl Source for Disturbed {
    fn open_location(&self, path: &Path) -> io::Result<OwnedFd> {
        self.step()?;
        System.open_location(path)
    }

    fn open_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
        self.step()?;
        System.open_directory(parent, name)
    }

    fn names(&self, directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
        self.step()?;
        System.names(directory)
    }

    fn status(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Status> {
        self.step()?;
        System.status(parent, name)
    }

    fn open_file(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
        self.step()?;
        System.open_file(parent, name)
    }

    fn target(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>> {
        self.step()?;
        System.target(parent, name)
    }

    fn status_of(&self, file: BorrowedFd<'_>) -> io::Result<Status> {
        match self.step() {
            // This call needs no descriptor of its own.
            Err(error) if is_out_of_descriptors(&error) => {}
            outcome => outcome?,
        }
        System.status_of(file)
    }
}

/// A directory with a source tree `w`, an outside tree, and an archive.
struct Bench {
    folder: tempfile::TempDir,
    /// What each path of the source has held, by its path in the archive.
    held: RefCell<BTreeMap<String, BTreeSet<Vec<u8>>>>,
}

const DIRECTORIES: [&str; 5] = ["a", "a/inner", "b", "c", "c/inner"];
const FILES: [&str; 2] = ["f", "g"];

impl Bench {
    fn new() -> Bench {
        let bench = Bench {
            folder: tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap(),
            held: RefCell::default(),
        };
        fs::write(bench.path("key"), [7; 32]).unwrap();
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

    /// Rewrites every file with content that names its place.
    fn fill(&self, tree: &str, version: &str) {
        for directory in DIRECTORIES {
            for file in FILES {
                let path = self.path(tree).join(directory).join(file);
                fs::write(path, format!("{version} {tree}/{directory}/{file}")).unwrap();
            }
        }
    }

    /// Notes what each path of the source holds now.
    fn see(&self) {
        let mut held = self.held.borrow_mut();
        see(&self.path("w"), "w", &mut held);
    }

    fn ingest(&self, source: &dyn Source) -> Result<Tally, Failure> {
        let (common, options) = self.options();
        ingest(source, &common, &options, || Ok(Interrupt::default()))
    }

    fn options(&self) -> (Common, Ingest) {
        let line = [
            OsString::from("ar7"),
            "--quiet".into(),
            "--key-file".into(),
            self.path("key").into(),
            "ingest".into(),
            "--jobs=2".into(),
            self.path("archive").into(),
            self.path("w").into(),
        ];
        let Arguments { common, command } = Arguments::try_parse_from(line).unwrap();
        let Command::Ingest(options) = command else { panic!("another command") };
        (common, options)
    }

    /// The paths of the archive, with the bytes of files and the targets of links; verified.
    fn stored(&self) -> BTreeMap<String, Vec<u8>> {
        let (common, options) = self.options();
        let session = Session::read(&common, &options.archive).unwrap();
        let archive = &session.archive;
        let mut findings = Vec::new();
        archive.verify(&mut |finding| findings.push(finding), &mut |_| ()).unwrap();
        assert!(findings.is_empty(), "{findings:?}");
        let mut stored = BTreeMap::new();
        let mut walk = Walk::new(archive, InodeNumber::ROOT, Vec::new());
        while let Some(step) = walk.next() {
            let Step::Entry(found) = step.unwrap() else { continue };
            let path = String::from_utf8(found.path.clone()).unwrap();
            match found.inode.kind {
                EntryType::Directory => walk.enter(&found).unwrap(),
                EntryType::Symlink => {
                    stored.insert(path, archive.names().read_target(&found.inode).unwrap());
                }
                EntryType::File => {
                    let stream = archive.names().read_file(&found.inode).unwrap();
                    let mut bytes = Vec::new();
                    if let Some(stream) = stream {
                        bytes.resize(usize::try_from(stream.len().unwrap()).unwrap(), 0);
                        assert_eq!(stream.read_at(0, &mut bytes).unwrap(), bytes.len());
                    }
                    stored.insert(path, bytes);
                }
                kind => panic!("{path} is {}", kind.name()),
            }
        }
        stored
    }

    /// Checks that every stored path has what the source held there at some moment, and that a path that is not
    /// stored as it is now was reported, by itself or by a directory above.
    fn check(&self, tally: &Tally, is_still: bool, context: &str) {
        self.see();
        let (stored, held) = (self.stored(), self.held.borrow());
        for (path, bytes) in &stored {
            let text = String::from_utf8_lossy(bytes);
            let known = held.get(path).is_some_and(|versions| versions.contains(bytes));
            assert!(known, "{context}: {path} has {text:?}");
        }
        if !is_still {
            return;
        }
        let mut now = BTreeMap::new();
        see(&self.path("w"), "w", &mut now);
        let reported: Vec<String> = tally.unread.iter().map(|name| format!("{name:?}")).collect();
        for (path, versions) in now {
            let is_current = stored.get(&path).is_some_and(|bytes| versions.contains(bytes));
            let is_reported = Path::new(&path).ancestors().any(|above| {
                let above = self.folder.path().join(above);
                let end = format!("{}\"", above.display());
                !above.as_os_str().is_empty() && reported.iter().any(|name| name.contains(&end))
            });
            assert!(is_current || is_reported, "{context}: {path} is missing: {reported:?}");
        }
    }
}

/// Notes what a tree holds, under the paths that it has in the archive.
fn see(tree: &Path, name: &str, held: &mut BTreeMap<String, BTreeSet<Vec<u8>>>) {
    use std::os::unix::ffi::OsStrExt;

    for entry in fs::read_dir(tree).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{name}/{}", entry.file_name().to_str().unwrap());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            see(&entry.path(), &path, held);
            continue;
        }
        let bytes = if kind.is_symlink() {
            fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec()
        } else {
            let mut bytes = Vec::new();
            File::open(entry.path()).unwrap().read_to_end(&mut bytes).unwrap();
            bytes
        };
        held.entry(path).or_default().insert(bytes);
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
fn an_undisturbed_ingest_stores_the_tree() {
    let bench = Bench::new();
    let tally = bench.ingest(&System).unwrap();
    assert!(tally.unread.is_empty());
    assert_eq!(bench.stored().len(), DIRECTORIES.len() * FILES.len() + 2);
    bench.check(&tally, true, "undisturbed");
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
            let tally = bench.ingest(&Disturbed::at(call, failing(Errno::IO))).unwrap();
            bench.check(&tally, true, &format!("call {call} fails, known {is_known}"));
            // A failed comparison of a symbolic link with the archive's only means that it is stored again.
            let reported = tally.unread.len();
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
            let tally = bench.ingest(&Disturbed::at(call, failing(errno))).unwrap();
            assert!(tally.unread.is_empty(), "{errno}, call {call}: {:?}", tally.unread);
        }
    }
}

/// The ways in which another process changes the tree between two calls, and in some cases back later.
fn changes(bench: &Bench, directory: &str) -> Vec<(&'static str, Event, Option<Event>)> {
    let place = bench.path("w").join(directory);
    let (away, outside) = (bench.path("away"), bench.path("outside").join(directory));
    let rename = |from: &Path, to: &Path| -> Event {
        let (from, to) = (from.to_owned(), to.to_owned());
        Box::new(move || {
            // A change that is no longer possible has not happened.
            let _ = fs::rename(&from, &to);
            Ok(())
        })
    };
    let replace = |with_link: bool| -> Event {
        let (place, away, outside) = (place.clone(), away.clone(), outside.clone());
        Box::new(move || {
            fs::rename(&place, &away)?;
            if with_link { symlink(&outside, &place) } else { fs::rename(&outside, &place) }
        })
    };
    vec![
        ("goes away and comes back", rename(&place, &away), Some(rename(&away, &place))),
        ("is replaced by a link", replace(true), None),
        ("is replaced by another", replace(false), None),
    ]
}

#[test]
fn a_directory_that_is_renamed_or_replaced_lends_its_place_to_no_other() {
    let calls = calls_of(&Bench::new());
    let mut runs = 0;
    for directory in ["a", "b", "c/inner"] {
        for call in (0..calls).step_by(3) {
            for kind in 0..3 {
                let bench = Bench::new();
                let (what, event, back) = changes(&bench, directory).remove(kind);
                let is_replaced = kind == 2;
                if is_replaced {
                    // From the change on, the outside directory is what the path holds.
                    let outside = bench.path("outside").join(directory);
                    see(&outside, &format!("w/{directory}"), &mut bench.held.borrow_mut());
                }
                let mut source = Disturbed::at(call, event);
                if let Some(back) = back {
                    source = source.and(call + 4, back);
                }
                let tally = bench.ingest(&source).unwrap();
                bench.check(&tally, false, &format!("{directory} {what} at call {call}"));
                runs += 1;
            }
        }
    }
    assert!(runs > 100, "{runs} runs");
}

#[test]
fn a_file_that_is_replaced_during_the_run_is_stored_as_it_was_or_as_it_is() {
    let calls = calls_of(&Bench::new());
    for call in 0..calls {
        let bench = Bench::new();
        let (new, old) = (bench.path("new"), bench.path("w/a/f"));
        fs::write(&new, "another file with the name").unwrap();
        bench.held.borrow_mut().entry("w/a/f".into()).or_default().insert(fs::read(&new).unwrap());
        let source = Disturbed::at(call, Box::new(move || fs::rename(&new, &old)));
        let tally = bench.ingest(&source).unwrap();
        bench.check(&tally, false, &format!("a/f is replaced at call {call}"));
        let linked = bench.stored().remove("w/c/linked");
        assert_eq!(linked.as_deref(), Some(&b"first w/a/f"[..]), "the other name, call {call}");
    }
}

#[test]
fn a_file_that_changes_between_its_names_gives_each_name_content_that_it_held() {
    let calls = calls_of(&Bench::new());
    for call in 0..calls {
        let bench = Bench::new();
        let changed = b"other content of another length";
        for name in ["w/a/f", "w/c/linked"] {
            bench.held.borrow_mut().entry(name.into()).or_default().insert(changed.to_vec());
        }
        let path = bench.path("w/a/f");
        let source = Disturbed::at(call, Box::new(move || fs::write(&path, changed)));
        let tally = bench.ingest(&source).unwrap();
        bench.check(&tally, false, &format!("a/f changes at call {call}"));
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
    assert!(first.is_same_file(&again));
    let changed = Status { changed: status("g").changed, ..first };
    assert_eq!(changed.is_same_file(&first), changed.changed == first.changed);
    let mut later = first;
    later.changed.seconds += 1;
    assert!(later.is_same_version(&first) && !later.is_same_file(&first));
}

#[test]
fn a_directory_too_deep_to_extract_is_reported_and_left_out() {
    let bench = Bench::new();
    let mut directory = File::open(bench.path("w/b")).unwrap();
    for _ in 0..=crate::walk::DEPTH_MAX {
        rustix::fs::mkdirat(&directory, "d", rustix::fs::Mode::RWXU).unwrap();
        directory = System.open_directory(directory.as_fd(), OsStr::new("d")).unwrap().into();
    }
    let tally = bench.ingest(&System).unwrap();
    assert_eq!(tally.unread.len(), 1);
    assert_eq!(bench.stored().len(), DIRECTORIES.len() * FILES.len() + 2);
    // `TempDir` removes by path, which would be too long. A process for it would inherit the locks of other tests.
    let (top, below) = (bench.path("w/b/d"), bench.path("w/b/below"));
    while fs::rename(top.join("d"), &below).is_ok() {
        fs::remove_dir(&top).unwrap();
        fs::rename(&below, &top).unwrap();
    }
}

#[test]
fn a_file_longer_than_its_size_says_is_reported() {
    /// Says of every file that it is empty.
    struct Empty;
    impl Source for Empty {
        fn open_location(&self, path: &Path) -> io::Result<OwnedFd> {
            System.open_location(path)
        }
        fn open_directory(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
            System.open_directory(parent, name)
        }
        fn names(&self, directory: BorrowedFd<'_>) -> io::Result<Vec<OsString>> {
            System.names(directory)
        }
        fn status(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Status> {
            Ok(Status { size: 0, ..System.status(parent, name)? })
        }
        fn open_file(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<File> {
            System.open_file(parent, name)
        }
        fn target(&self, parent: BorrowedFd<'_>, name: &OsStr) -> io::Result<Vec<u8>> {
            System.target(parent, name)
        }
        fn status_of(&self, file: BorrowedFd<'_>) -> io::Result<Status> {
            Ok(Status { size: 0, ..System.status_of(file)? })
        }
    }
    let bench = Bench::new();
    let tally = bench.ingest(&Empty).unwrap();
    assert_eq!(tally.unread.len(), DIRECTORIES.len() * FILES.len() + 1, "every name of a file");
    assert!(bench.stored().keys().all(|path| path == "w/b/link"));
}

#[test]
fn open_directories_are_closed_when_descriptors_run_out() {
    let calls = calls_of(&Bench::new());
    for call in 0..calls {
        let bench = Bench::new();
        let exhausted = rustix::io::Errno::MFILE.raw_os_error();
        let event = Box::new(move || Err(io::Error::from_raw_os_error(exhausted)));
        let tally = bench.ingest(&Disturbed::at(call, event)).unwrap();
        bench.check(&tally, true, &format!("no descriptor for call {call}"));
    }
}

#[test]
fn a_damaged_page_of_names_ends_the_ingest_as_damage() {
    let bench = Bench::new();
    bench.ingest(&System).unwrap();
    let archive = bench.path("archive");
    let bytes = fs::read(&archive).unwrap();
    let mut damaged = 0;
    for block in 8..bytes.len() / 4096 {
        let mut copy = bytes.clone();
        copy[block * 4096 + 2000] ^= 1;
        fs::write(&archive, &copy).unwrap();
        second_version(&bench);
        match bench.ingest(&System) {
            Ok(_) => {}
            Err(failure) => {
                assert_eq!(failure.code(), Code::Damaged, "block {block}: {failure}");
                damaged += 1;
            }
        }
    }
    assert!(damaged >= 3, "{damaged} blocks");
}
