//! An archive as a directory. Each test is skipped where FUSE is missing.

use std::fs;
use std::os::unix::fs::{
    FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::common::{Bench, set_time, tree};

/// Number of a user and of a group without privileges.
const NOBODY: u32 = 65_534;

/// A directory on which archives are mounted. Dropping it unmounts what is left there.
struct Place<'a> {
    bench: &'a Bench,
    path: PathBuf,
}

impl<'a> Place<'a> {
    /// Mounts `a.ar7`; `None` where FUSE is missing.
    fn mount(bench: &'a Bench, options: &str) -> Option<Place<'a>> {
        let path = bench.path("mount");
        fs::create_dir_all(&path).expect("a directory");
        if !Path::new("/dev/fuse").exists() {
            eprintln!("skipped: no /dev/fuse");
            return None;
        }
        let ran = bench.line(&format!("mount a.ar7 mount {options}"));
        if ran.code != 0 && ran.stderr.contains("not permitted") {
            eprintln!("skipped: this user may not mount: {}", ran.stderr);
            return None;
        }
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        Some(Place { bench, path })
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.bench.line("unmount mount --lazy");
    }
}

/// A process that is stopped until this is dropped, and for two minutes at most.
struct Stopped(Option<(mpsc::Sender<()>, JoinHandle<()>)>);

impl Stopped {
    fn new(process: rustix::process::Pid) -> Stopped {
        rustix::process::kill_process(process, rustix::process::Signal::STOP).expect("stopped");
        let (end, ended) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let _ = ended.recv_timeout(Duration::from_secs(120));
            let _ = rustix::process::kill_process(process, rustix::process::Signal::CONT);
        });
        Stopped(Some((end, thread)))
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.0.take() {
            drop(end);
            let _ = thread.join();
        }
    }
}

/// Returns the process that serves a mount.
fn server(mount: &Path) -> rustix::process::Pid {
    let mut process = [0; 20];
    let length = rustix::fs::getxattr(mount, "user.ar7.process", &mut process[..]);
    let process = std::str::from_utf8(&process[..length.expect("a number")]).expect("digits");
    rustix::process::Pid::from_raw(process.parse().expect("a number")).expect("a process")
}

#[test]
fn a_mounted_archive_equals_its_source() {
    let bench = Bench::new();
    bench.write("source/deep/small", "small");
    bench.write("source/large", (0..3_000_000_u32).map(|at| (at % 251) as u8).collect::<Vec<_>>());
    bench.write("source/empty", "");
    symlink("deep/small", bench.path("source/link")).expect("a link");
    fs::hard_link(bench.path("source/large"), bench.path("source/other")).expect("a link");
    for number in 0..700 {
        bench.write(&format!("source/many/{number}"), number.to_string());
    }
    bench.ok("ingest a.ar7 source");
    let Some(place) = Place::mount(&bench, "--read-only") else { return };
    assert_eq!(tree(&place.path.join("source")), tree(&bench.path("source")));
    let (one, other) = ("source/large", "source/other");
    let inode = |name| fs::metadata(place.path.join(name)).expect("metadata").ino();
    assert_eq!(inode(one), inode(other));
    let mut part = [0; 1000];
    let large = fs::File::open(place.path.join(one)).expect("a file");
    large.read_exact_at(&mut part, 2_000_001).expect("bytes");
    assert!(part.iter().zip(2_000_001_u32..).all(|(&byte, at)| byte == (at % 251) as u8));
    let refused = fs::write(place.path.join("source/new"), "new").expect_err("read-only");
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // Others read the archive meanwhile.
    bench.ok("verify a.ar7");
    bench.fails("unmount mount", 1, "busy");
    drop(large);
    bench.ok("unmount mount");
    assert!(!place.path.join("source").exists());
    bench.fails("unmount mount", 1, "no archive is mounted there");
}

#[test]
fn a_snapshot_stays_and_a_following_mount_moves_on() {
    let bench = Bench::new();
    bench.write("file", "first");
    bench.ok("ingest a.ar7 file");
    for (options, expected) in [("--read-only", "first"), ("--snapshot-follow", "second, longer")] {
        bench.write("file", "first");
        bench.ok("put a.ar7 file --force -- cat file");
        let Some(place) = Place::mount(&bench, options) else { return };
        let read = || fs::read_to_string(place.path.join("file")).expect("a file");
        assert_eq!(read(), "first");
        bench.write("file", "second, longer");
        bench.ok("put a.ar7 file --force -- cat file");
        let started = Instant::now();
        while read() != expected && started.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(50));
        }
        if options == "--read-only" {
            std::thread::sleep(Duration::from_secs(3));
        }
        assert_eq!(read(), expected, "{options}");
    }
}

#[test]
fn holes_special_entries_and_attributes_are_served() {
    let bench = Bench::new();
    bench.write("source/sparse", vec![1; 100_000]);
    let sparse = fs::File::options().write(true).open(bench.path("source/sparse")).expect("a file");
    sparse.write_all_at(&vec![2; 100_000], 10_000_000).expect("written");
    rustix::fs::mkfifoat(rustix::fs::CWD, bench.path("source/fifo"), 0o600.into()).expect("a fifo");
    let named = |path: &Path| {
        rustix::fs::setxattr(path, "user.note", b"yes", rustix::fs::XattrFlags::empty())
    };
    if named(&bench.path("source/sparse")).is_err() {
        eprintln!("the temporary directory has no extended attributes");
    }
    bench.ok("ingest a.ar7 source");
    let Some(place) = Place::mount(&bench, "--read-only") else { return };
    let path = place.path.join("source/sparse");
    let file = fs::File::open(&path).expect("a file");
    let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(0)).expect("a hole");
    assert!((100_000..9_000_000).contains(&hole), "{hole}");
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(hole)).expect("data");
    assert!((hole + 1..=10_000_000).contains(&data), "{data}");
    let end = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(data)).expect("the end");
    assert_eq!(end, 10_100_000);
    assert!(rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(end)).is_err());
    let bytes = fs::read(&path).expect("bytes");
    assert_eq!(bytes, fs::read(bench.path("source/sparse")).expect("bytes"));
    let fifo = fs::symlink_metadata(place.path.join("source/fifo")).expect("metadata");
    assert!(fifo.file_type().is_fifo());
    let mut value = [0; 10];
    let length = rustix::fs::getxattr(&path, "user.note", &mut value[..]);
    let expected = rustix::fs::getxattr(bench.path("source/sparse"), "user.note", &mut [0; 10][..]);
    assert_eq!(length, expected);
}

#[test]
fn a_mount_that_cannot_begin_says_why() {
    let bench = Bench::new();
    bench.write("file", "1");
    bench.ok("ingest a.ar7 file");
    bench.fails("mount a.ar7 missing --read-only", 1, "missing");
    bench.write_key("wrong", [8; 32]);
    fs::create_dir(bench.path("mount")).expect("a directory");
    bench.fails("mount a.ar7 mount --read-only --key-file wrong", 3, "key");
    bench.fails("unmount mount", 1, "no archive is mounted there");
}

#[test]
fn what_programs_write_is_in_the_archive_after_unmounting() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let Some(place) = Place::mount(&bench, "") else { return };
    for root in [place.path.join("tree"), bench.path("tree")] {
        fs::create_dir_all(root.join("deep/er")).expect("directories");
        fs::write(root.join("deep/file"), vec![7; 3_000_000]).expect("a file");
        fs::rename(root.join("deep/file"), root.join("deep/er/file")).expect("renamed");
        fs::hard_link(root.join("deep/er/file"), root.join("link")).expect("a link");
        symlink("deep", root.join("symlink")).expect("a link");
        fs::write(root.join("gone"), "gone").expect("a file");
        fs::remove_file(root.join("gone")).expect("removed");
        for (name, seconds) in
            [("deep/er/file", -7), ("deep/er", 8), ("deep", 9), ("symlink", 10), ("", 11)]
        {
            set_time(&root.join(name), seconds, 12_345_678);
        }
    }
    assert_eq!(tree(&place.path.join("tree")), tree(&bench.path("tree")));
    bench.ok("unmount mount");
    bench.ok("verify a.ar7");
    bench.ok("extract a.ar7 --to restored");
    assert_eq!(tree(&bench.path("restored/tree")), tree(&bench.path("tree")));
}

#[test]
fn what_fsync_returned_for_survives_a_kill_and_later_changes_do_not() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let Some(place) = Place::mount(&bench, "--commit-interval 1000") else { return };
    let open = fs::File::create_new(place.path.join("removed")).expect("a file");
    fs::write(place.path.join("kept"), "kept").expect("a file");
    fs::remove_file(place.path.join("removed")).expect("removed");
    open.write_all_at(&[5; 10_000], 0).expect("written");
    fs::File::open(place.path.join("kept")).expect("a file").sync_all().expect("durable");
    fs::write(place.path.join("lost"), "lost").expect("a file");
    let process = server(&place.path);
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
    while rustix::process::test_kill_process(process).is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(open);
    bench.ok("unmount mount --lazy");
    assert_eq!(bench.ok("ls a.ar7").text().trim(), "kept");
    assert_eq!(bench.ok("cat a.ar7 kept").stdout, b"kept");
    bench.ok("verify a.ar7");
    // The next writer frees what was open without a name.
    drop(Place::mount(&bench, ""));
    let streams = bench.ok("info a.ar7 --json").text();
    assert!(streams.contains("\"pending_deletions\": 0"), "{streams}");
}

#[test]
fn a_refused_call_has_the_error_of_posix() {
    use rustix::fs::{
        AtFlags, CWD, Mode, OFlags, RenameFlags, linkat, mkdirat, openat, renameat_with, symlinkat,
        unlinkat,
    };
    use rustix::io::Errno;

    let bench = Bench::new();
    bench.ok("create a.ar7");
    let Some(place) = Place::mount(&bench, "") else { return };
    let at = |name: &str| place.path.join(name);
    fs::create_dir_all(at("full/inside")).expect("directories");
    fs::create_dir(at("empty")).expect("a directory");
    fs::write(at("file"), "file").expect("a file");
    symlink("loop", at("loop")).expect("a link");
    let (long, mode) = ("n".repeat(256), Mode::from_raw_mode(0o644));
    let none = RenameFlags::empty();
    let rename = |from: &str, to: &str, flags| renameat_with(CWD, at(from), CWD, at(to), flags);
    let new = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    let open = |name: &str, flags| openat(CWD, at(name), flags, mode).map(drop);
    let table = [
        ("open a missing file", open("missing", OFlags::RDONLY), Errno::NOENT),
        ("open below a file", open("file/below", OFlags::RDONLY), Errno::NOTDIR),
        ("open a long name", open(&long, OFlags::RDONLY), Errno::NAMETOOLONG),
        ("create a long name", open(&long, new), Errno::NAMETOOLONG),
        ("create what exists", open("file", new), Errno::EXIST),
        ("write to a directory", open("empty", OFlags::WRONLY), Errno::ISDIR),
        ("a loop of links", open("loop", OFlags::RDONLY), Errno::LOOP),
        ("a link that is not followed", open("loop", OFlags::NOFOLLOW), Errno::LOOP),
        ("make what exists", mkdirat(CWD, at("file"), mode), Errno::EXIST),
        ("make below nothing", mkdirat(CWD, at("missing/new"), mode), Errno::NOENT),
        ("link over a name", symlinkat("file", CWD, at("empty")), Errno::EXIST),
        ("link to nothing", symlinkat("", CWD, at("new")), Errno::NOENT),
        ("unlink a directory", unlinkat(CWD, at("empty"), AtFlags::empty()), Errno::ISDIR),
        ("unlink nothing", unlinkat(CWD, at("missing"), AtFlags::empty()), Errno::NOENT),
        ("remove a file", unlinkat(CWD, at("file"), AtFlags::REMOVEDIR), Errno::NOTDIR),
        ("remove what is full", unlinkat(CWD, at("full"), AtFlags::REMOVEDIR), Errno::NOTEMPTY),
        ("rename nothing", rename("missing", "new", none), Errno::NOENT),
        ("rename over what is full", rename("empty", "full", none), Errno::NOTEMPTY),
        ("rename a directory over a file", rename("empty", "file", none), Errno::NOTDIR),
        ("rename a file over a directory", rename("file", "empty", none), Errno::ISDIR),
        ("rename into itself", rename("full", "full/inside/new", none), Errno::INVAL),
        ("rename over a name", rename("file", "loop", RenameFlags::NOREPLACE), Errno::EXIST),
        ("exchange with nothing", rename("file", "new", RenameFlags::EXCHANGE), Errno::NOENT),
        (
            "link a directory",
            linkat(CWD, at("empty"), CWD, at("new"), AtFlags::empty()),
            Errno::PERM,
        ),
        (
            "link over a name",
            linkat(CWD, at("file"), CWD, at("loop"), AtFlags::empty()),
            Errno::EXIST,
        ),
    ];
    for (what, outcome, expected) in table {
        assert_eq!(outcome, Err(expected), "{what}");
    }
}

#[test]
fn a_refused_change_of_content_or_attributes_has_the_error_of_posix() {
    use rustix::fs::{FallocateFlags, XattrFlags, fallocate, ftruncate, lsetxattr, setxattr};
    use rustix::io::Errno;

    let bench = Bench::new();
    bench.ok("create a.ar7");
    let Some(place) = Place::mount(&bench, "") else { return };
    let at = |name: &str| place.path.join(name);
    fs::write(at("file"), "file").expect("a file");
    symlink("loop", at("loop")).expect("a link");
    let file = fs::File::options().write(true).open(at("file")).expect("a file");
    let (whole, long) = (XattrFlags::empty(), vec![0; 65_537]);
    let table = [
        ("a longer file than there can be", ftruncate(&file, 1 << 62), Errno::FBIG),
        ("collapse", fallocate(&file, FallocateFlags::COLLAPSE_RANGE, 0, 1), Errno::OPNOTSUPP),
        (
            "replace nothing",
            setxattr(at("file"), "user.a", b"", XattrFlags::REPLACE),
            Errno::NODATA,
        ),
        ("a value that is too long", setxattr(at("file"), "user.a", &long, whole), Errno::TOOBIG),
        ("an attribute of a link", lsetxattr(at("loop"), "user.a", b"", whole), Errno::PERM),
    ];
    for (what, outcome, expected) in table {
        assert_eq!(outcome, Err(expected), "{what}");
    }
    setxattr(at("file"), "user.a", b"1", whole).expect("an attribute");
    let again = setxattr(at("file"), "user.a", b"2", XattrFlags::CREATE);
    assert_eq!(again, Err(Errno::EXIST));
    drop(file);
    bench.ok("unmount mount");
    bench.ok("verify a.ar7");
}

#[test]
fn signals_unmount_and_commit() {
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        let bench = Bench::new();
        bench.ok("create a.ar7");
        let Some(place) = Place::mount(&bench, "--commit-interval 1000") else { return };
        // A program has a file open, and the kernel has not passed on what it wrote.
        let mut open = fs::File::create_new(place.path.join("open")).expect("a file");
        std::io::Write::write_all(&mut open, b"written").expect("written");
        let process = server(&place.path);
        rustix::process::kill_process(process, signal).expect("a signal");
        while rustix::process::test_kill_process(process).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(bench.ok("cat a.ar7 open").stdout, b"written");
        bench.ok("verify a.ar7");
        bench.fails("unmount mount", 1, "no archive is mounted there");
    }
}

/// Waits for the end of a process, and fails if it takes too long.
fn ends(process: rustix::process::Pid) {
    let started = Instant::now();
    while rustix::process::test_kill_process(process).is_ok() {
        assert!(started.elapsed() < Duration::from_secs(60), "the process does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Another archive is mounted on the directory meanwhile, and must stay.
#[test]
fn after_a_lazy_unmount_the_archive_is_closed_with_the_last_open_file_or_by_a_signal() {
    for is_signalled in [false, true] {
        let bench = Bench::new();
        bench.ok("create a.ar7");
        let Some(place) = Place::mount(&bench, "--commit-interval 1000") else { return };
        let open = fs::File::create_new(place.path.join("open")).expect("a file");
        open.write_all_at(b"before", 0).expect("written");
        let process = server(&place.path);
        let started = Instant::now();
        let unmounted = bench.line("unmount mount --lazy");
        assert_eq!(unmounted.code, 0, "{}", unmounted.stderr);
        assert!(unmounted.stderr.contains("programs have files open"), "{}", unmounted.stderr);
        assert!(started.elapsed() < Duration::from_secs(40));
        open.write_all_at(b" after", 6).expect("the program goes on");
        bench.ok("create b.ar7");
        bench.ok("mount b.ar7 mount");
        let other = server(&place.path);
        if is_signalled {
            open.sync_all().expect("durable");
            let term = rustix::process::Signal::TERM;
            rustix::process::kill_process(process, term).expect("a signal");
        } else {
            drop(open);
        }
        ends(process);
        assert_eq!(server(&place.path), other, "the other archive is still mounted");
        assert_eq!(bench.ok("cat a.ar7 open").stdout, b"before after");
        bench.ok("verify a.ar7");
        bench.ok("unmount mount");
    }
}

#[test]
fn a_lazy_unmount_does_not_wait_for_a_process_that_does_not_answer() {
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let Some(place) = Place::mount(&bench, "") else { return };
    fs::write(place.path.join("file"), "written").expect("a file");
    let process = server(&place.path);
    let stopped = Stopped::new(process);
    let unmounted = bench.line("unmount mount --lazy");
    drop(stopped);
    assert_eq!(unmounted.code, 0, "{}", unmounted.stderr);
    assert!(unmounted.stderr.contains("does not answer"), "{}", unmounted.stderr);
    ends(process);
    assert_eq!(bench.ok("cat a.ar7 file").stdout, b"written");
    bench.ok("verify a.ar7");
}

/// Serves a directory, and keeps each request without an answer until the lock can be taken.
struct Silent(Arc<RwLock<()>>);

impl fuser::Filesystem for Silent {
    fn statfs(&self, _: &fuser::Request, _: fuser::INodeNo, reply: fuser::ReplyStatfs) {
        drop(self.0.read());
        reply.error(fuser::Errno::EIO);
    }

    fn getxattr(
        &self,
        _: &fuser::Request,
        _: fuser::INodeNo,
        _: &std::ffi::OsStr,
        _: u32,
        reply: fuser::ReplyXattr,
    ) {
        drop(self.0.read());
        reply.error(fuser::Errno::EIO);
    }
}

/// No signal ends a process that waits for the answer to a request that was read.
#[test]
fn a_lazy_unmount_ends_although_a_request_that_was_read_is_never_answered() {
    let bench = Bench::new();
    let directory = bench.path("mount");
    fs::create_dir_all(&directory).expect("a directory");
    let answers = Arc::new(RwLock::new(()));
    let silence = answers.write();
    let served = Silent(Arc::clone(&answers));
    let Ok(server) = fuser::spawn_mount(served, &directory, &fuser::Config::default()) else {
        eprintln!("skipped: this user may not mount");
        return;
    };
    let mut unmounting = bench.command();
    let unmounting = unmounting.args(["unmount", "mount", "--lazy"]).stderr(Stdio::piped());
    let mut unmounting = unmounting.spawn().expect("ar7");
    let begun = Instant::now();
    let mut status = None;
    while status.is_none() && begun.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
        status = unmounting.try_wait().expect("a status");
    }
    drop(silence);
    let said = unmounting.wait_with_output().expect("an end").stderr;
    let said = String::from_utf8_lossy(&said);
    assert!(status.is_some_and(|status| status.success()), "{status:?}: {said}");
    assert!(said.contains("does not answer"), "{said}");
    let _ = server.umount_and_join();
}

/// The kernel passes on times by itself, as root. Root itself cannot look into this mount.
#[test]
fn a_user_without_privileges_keeps_every_time_of_a_file() {
    let Some(bench) = bench_of_nobody() else { return };
    let user = |script: &str| as_nobody(&bench.path(""), script);
    let run = |script: &str| {
        let ran = user(script).output().expect("setpriv");
        let text = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{script}: {text}");
        String::from_utf8(ran.stdout).expect("text")
    };
    run("./ar7 create a.ar7");
    let mounted = user("./ar7 mount a.ar7 mount --json").output().expect("setpriv");
    if !mounted.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&mounted.stderr));
        return;
    }
    let process = String::from_utf8(mounted.stdout).expect("text");
    let process: String = process.chars().filter(char::is_ascii_digit).collect();
    run("printf a >source && touch -d '2001-02-03 04:05:06.123456789' source
        cp -p source mount/copied
        printf b >mount/touched && touch -d '2001-02-03 04:05:06.123456789' mount/touched");
    // Whenever the program closes the file, it passes on the time itself. So it has it open until the process is killed.
    let mut writing = user("exec dd of=mount/open bs=1 status=none");
    let mut writing = writing.stdin(Stdio::piped()).spawn().expect("dd");
    std::thread::sleep(Duration::from_secs(1));
    let mut input = writing.stdin.take().expect("a pipe");
    std::io::Write::write_all(&mut input, b"c").expect("written");
    std::thread::sleep(Duration::from_secs(1));
    rustix::fs::sync();
    let times = "stat -c '%n %y' mount/copied mount/open mount/touched";
    let before = run(times);
    assert_eq!(before.matches("2001-02-03 04:05:06.123456789").count(), 2, "{before}");
    run(&format!("sync mount/copied && kill -KILL {process}"));
    ends(rustix::process::Pid::from_raw(process.parse().expect("a number")).expect("a process"));
    drop(input);
    writing.wait().expect("dd ends");
    run("./ar7 unmount mount --lazy && ./ar7 mount a.ar7 mount");
    assert_eq!(run(times), before);
    run("./ar7 unmount mount");
}

const ACCESS_LIST: &str = "system.posix_acl_access";
const DEFAULT_LIST: &str = "system.posix_acl_default";

/// Returns an access control list as an extended attribute, of entries of tag, rights and number.
fn access_list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let entries = entries.iter().flat_map(|&(tag, rights, number)| {
        [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &number.to_le_bytes()].concat()
    });
    2_u32.to_le_bytes().into_iter().chain(entries).collect()
}

/// Returns the mode and the lists of an entry.
fn mode_and_lists(path: &Path) -> (u32, Vec<Vec<u8>>) {
    let lists = [ACCESS_LIST, DEFAULT_LIST].map(|name| {
        let mut value = [0; 100];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap_or_default();
        value[..length].to_vec()
    });
    (fs::symlink_metadata(path).expect("metadata").mode(), lists.to_vec())
}

#[test]
fn modes_and_access_lists_follow_from_each_other_as_on_the_host() {
    use rustix::fs::{CWD, FileType, Mode, XattrFlags, chmod, mknodat, setxattr};

    const NONE: u32 = u32::MAX;
    let bench = Bench::new();
    bench.ok("create a.ar7");
    let Some(place) = Place::mount(&bench, "") else { return };
    let masked =
        access_list(&[(1, 6, NONE), (2, 7, 1234), (4, 0, NONE), (16, 6, NONE), (32, 4, NONE)]);
    let minimal = access_list(&[(1, 6, NONE), (4, 1, NONE), (32, 4, NONE)]);
    let roots = [place.path.join("tree"), bench.path("tree")];
    for root in &roots {
        let set = |name: &str, list: &str, value: &[u8]| {
            setxattr(root.join(name), list, value, XattrFlags::empty())
        };
        fs::create_dir_all(root.join("in")).expect("a directory");
        for name in ["masked", "minimal", "changed", "again"] {
            fs::write(root.join(name), name).expect("a file");
            chmod(root.join(name), Mode::from_raw_mode(0o2750)).expect("a mode");
        }
        if set("masked", ACCESS_LIST, &masked).is_err() {
            assert_eq!(*root, roots[1], "the mount has lists");
            eprintln!("skipped: the temporary directory has no access control lists");
            return;
        }
        set("minimal", ACCESS_LIST, &minimal).expect("a list");
        set("changed", ACCESS_LIST, &masked).expect("a list");
        chmod(root.join("changed"), Mode::from_raw_mode(0o4715)).expect("a mode");
        set("again", ACCESS_LIST, &masked).expect("a list");
        set("again", ACCESS_LIST, &minimal).expect("a list");
        set("in", DEFAULT_LIST, &masked).expect("a list");
        fs::write(root.join("in/file"), "file").expect("a file");
        fs::create_dir(root.join("in/directory")).expect("a directory");
        fs::write(root.join("in/directory/file"), "file").expect("a file");
        symlink("file", root.join("in/link")).expect("a link");
        let mode = Mode::from_raw_mode(0o622);
        mknodat(CWD, root.join("in/fifo"), FileType::Fifo, mode, 0).expect("a fifo");
        set("in", DEFAULT_LIST, &minimal).expect("a list");
        fs::write(root.join("in/minimal"), "file").expect("a file");
        let refused = setxattr(root.join("in"), ACCESS_LIST, b"odd", XattrFlags::empty());
        assert_eq!(refused, Err(rustix::io::Errno::INVAL));
    }
    let names = "masked minimal changed again in in/file in/directory in/directory/file in/link \
        in/fifo in/minimal";
    let check = || {
        for name in names.split_whitespace() {
            let [found, expected] = roots.each_ref().map(|root| mode_and_lists(&root.join(name)));
            assert_eq!(found, expected, "{name}");
        }
    };
    check();
    bench.ok("unmount mount");
    bench.ok("mount a.ar7 mount");
    check();
}

/// Returns a shell as a user without privileges in a directory.
fn as_nobody(directory: &Path, script: &str) -> Command {
    let mut command = Command::new("setpriv");
    let user = format!("--reuid={NOBODY}");
    let group = format!("--regid={NOBODY}");
    command.args([&user, &group, "--clear-groups", "sh", "-ec", script]).current_dir(directory);
    command.env("AR7_KEY_FILE", "key").stdin(Stdio::null());
    command
}

/// Returns a directory of that user, with the program, a key and an empty directory `mount`. Returns `None` without the
/// rights or the program to become that user.
fn bench_of_nobody() -> Option<Bench> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return None;
    }
    if Command::new("setpriv").arg("--version").output().is_err() {
        eprintln!("skipped: no setpriv");
        return None;
    }
    let bench = Bench::new();
    fs::copy(env!("CARGO_BIN_EXE_ar7"), bench.path("ar7")).expect("the program");
    fs::create_dir(bench.path("mount")).expect("a directory");
    for name in ["", "key", "mount"] {
        std::os::unix::fs::chown(bench.path(name), Some(NOBODY), Some(NOBODY)).expect("an owner");
    }
    Some(bench)
}

/// A user without privileges needs a program to mount. One that is not there, cannot be executed, refuses, or sends no
/// device, is reported.
#[test]
fn without_a_program_that_mounts_a_user_without_privileges_learns_why() {
    let Some(bench) = bench_of_nobody() else { return };
    let run = |script: &str| as_nobody(&bench.path(""), script).output().expect("setpriv");
    assert!(
        run("./ar7 create a.ar7 && mkdir none broken locked refusing failing silent")
            .status
            .success()
    );
    for (directory, shell, mode, answer) in [
        ("broken", "/nowhere/sh", "+x", "exit 0"),
        ("locked", "/bin/sh", "-x", "exit 0"),
        ("refusing", "/bin/sh", "+x", "echo refused >&2; exit 1"),
        ("failing", "/bin/sh", "+x", "exit 1"),
        ("silent", "/bin/sh", "+x", "exit 0"),
    ] {
        let made = format!(
            "printf '#!{shell}\\n{answer}\\n' >{directory}/fusermount3 && chmod {mode} {directory}/fusermount3"
        );
        assert!(run(&made).status.success(), "{made}");
    }
    for (directory, expected) in [
        ("none", "only root can mount without the program fusermount3"),
        ("broken", "without ./broken/fusermount3, and its interpreter is missing"),
        ("locked", "without ./locked/fusermount3, and this user has no permission to execute it"),
        ("refusing", "refused"),
        ("failing", "fusermount3: exit status: 1"),
        ("silent", "no device came from the program that mounts"),
    ] {
        let ran = run(&format!("PATH=./{directory}; ./ar7 mount a.ar7 mount"));
        let text = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.code() == Some(1) && text.contains(expected), "{directory}: {text}");
        assert!(run("./ar7 verify -q a.ar7").status.success(), "{directory}");
    }
}

#[test]
fn with_allow_other_modes_and_lists_decide_and_a_write_of_another_user_ends_privileges() {
    use std::os::unix::fs::chown;

    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let bench = Bench::new();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
    };
    mode(&bench.path(""), 0o755);
    bench.ok("create a.ar7");
    for options in ["", "--allow-other"] {
        let Some(place) = Place::mount(&bench, options) else { return };
        let at = |name: &str| place.path.join(name);
        for (name, bits) in [("open", 0o644), ("closed", 0o600), ("listed", 0o600)] {
            fs::write(at(name), name).expect("a file");
            mode(&at(name), bits);
        }
        let list = access_list(&[
            (1, 6, u32::MAX),
            (2, 4, NOBODY),
            (4, 0, u32::MAX),
            (16, 4, u32::MAX),
            (32, 0, u32::MAX),
        ]);
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(at("listed"), ACCESS_LIST, &list, flags).expect("a list");
        for name in ["written", "truncated"] {
            fs::write(at(name), name).expect("a file");
            chown(at(name), Some(NOBODY), Some(NOBODY)).expect("an owner");
            mode(&at(name), 0o6755);
        }
        let run = |script: &str| {
            let ran = as_nobody(&bench.path(""), script).output().expect("setpriv");
            ran.status.success().then(|| String::from_utf8(ran.stdout).expect("text"))
        };
        let read = |name: &str| run(&format!("cat mount/{name}"));
        let expected = |name: &str| (!options.is_empty()).then(|| name.to_owned());
        assert_eq!(read("open"), expected("open"), "{options}");
        assert_eq!(read("closed"), None, "{options}");
        assert_eq!(read("listed"), expected("listed"), "{options}");
        let changed = run("printf x >>mount/written; : >mount/truncated");
        assert_eq!(changed.is_some(), !options.is_empty(), "{options}");
        let bits = if options.is_empty() { 0o6755 } else { 0o755 };
        for name in ["written", "truncated"] {
            let found = fs::metadata(at(name)).expect("metadata").mode() & 0o7777;
            assert_eq!(found, bits, "{name} {options}");
        }
        bench.ok("unmount mount");
    }
    bench.ok("verify a.ar7");
}

#[test]
fn allocation_keeps_the_length_if_it_is_told_to() {
    use rustix::fs::{FallocateFlags, fallocate};

    let bench = Bench::new();
    bench.ok("create a.ar7");
    let Some(place) = Place::mount(&bench, "") else { return };
    let file = fs::File::create_new(place.path.join("file")).expect("a file");
    file.write_all_at(&[7; 10_000], 0).expect("written");
    let keep = FallocateFlags::KEEP_SIZE;
    let length = || file.metadata().expect("metadata").len();
    fallocate(&file, keep, 5000, 100_000).expect("allocated");
    assert_eq!(length(), 10_000);
    fallocate(&file, FallocateFlags::empty(), 5000, 10_000).expect("allocated");
    assert_eq!(length(), 15_000);
    fallocate(&file, keep | FallocateFlags::PUNCH_HOLE, 4000, 100_000).expect("a hole");
    assert_eq!(length(), 15_000);
    fallocate(&file, keep | FallocateFlags::ZERO_RANGE, 1000, 1000).expect("zeros");
    fallocate(&file, FallocateFlags::ZERO_RANGE, 14_000, 2000).expect("zeros");
    drop(file);
    bench.ok("unmount mount");
    let zeros = [1000..2000, 4000..16_000];
    let expected: Vec<u8> = (0..16_000)
        .map(|at| if zeros.iter().any(|zeros| zeros.contains(&at)) { 0 } else { 7 })
        .collect();
    assert!(bench.ok("cat a.ar7 file").stdout == expected);
}

#[test]
fn a_write_to_a_sparse_file_that_does_not_fit_on_the_disk_keeps_its_holes() {
    const LENGTH: u64 = 8 << 40;
    let bench = Bench::new();
    bench.write("sparse", [1; 10_000]);
    let sparse = fs::File::options().write(true).open(bench.path("sparse")).expect("a file");
    sparse.set_len(LENGTH).expect("a length");
    bench.ok("ingest a.ar7 sparse");
    let Some(place) = Place::mount(&bench, "") else { return };
    let file = fs::File::options().read(true).write(true).open(place.path.join("sparse"));
    let file = file.expect("a file");
    file.write_all_at(b"middle", LENGTH / 2).expect("written");
    file.sync_all().expect("durable");
    file.set_len(LENGTH - 1).expect("a length");
    let mut bytes = [0; 10];
    file.read_exact_at(&mut bytes, LENGTH / 2 - 2).expect("bytes");
    assert_eq!(&bytes, b"\0\0middle\0\0");
    file.read_exact_at(&mut bytes, 9_995).expect("bytes");
    assert_eq!(bytes, [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]);
    drop(file);
    bench.ok("unmount mount");
    bench.ok("verify a.ar7");
    assert!(fs::metadata(bench.path("a.ar7")).expect("metadata").len() < 10 << 20);
    let middle = bench.ok(&format!("cat a.ar7 sparse --offset {} --length 6", LENGTH / 2));
    assert_eq!(middle.stdout, b"middle");
}

/// A program lists a directory while another one renames. The kernel must not keep a name that is gone.
#[test]
fn a_name_that_is_gone_is_not_listed_again() {
    const COUNT: u32 = 5000;
    let bench = Bench::new();
    for number in 0..COUNT {
        bench.write(&format!("many/f{number:04}"), "");
    }
    bench.ok("ingest a.ar7 many");
    let Some(place) = Place::mount(&bench, "") else { return };
    let at = |name: String| place.path.join("many").join(name);
    let mut listing = fs::read_dir(at(String::new())).expect("a directory");
    let first = listing.next().expect("an entry").expect("an entry");
    assert_eq!(first.file_name(), "f0000");
    // The system has read some entries, and the server a few more.
    let renamed = 150..400;
    for number in renamed.clone() {
        fs::rename(at(format!("f{number:04}")), at(format!("moved{number}"))).expect("renamed");
    }
    // The kernel asks for the status of entries with their names once a program has wanted that of an entry.
    fs::symlink_metadata(at("f0003".to_owned())).expect("an entry");
    let others = listing.map(|entry| entry.expect("an entry").file_name());
    let kept = others.filter(|name| name.as_encoded_bytes()[0] == b'f').count();
    assert!(kept >= (COUNT - 251) as usize, "{kept} entries that were there all the time");
    for number in renamed {
        let found = fs::symlink_metadata(at(format!("f{number:04}")));
        assert!(found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound), "{number}");
    }
}

/// A file system of its own, which is full soon.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn new(path: PathBuf) -> Option<SmallDisk> {
        fs::create_dir(&path).expect("a directory");
        let mut mount = std::process::Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).arg(&path);
        if mount.output().is_ok_and(|output| output.status.success()) {
            return Some(SmallDisk(path));
        }
        eprintln!("skipped: this user may not mount a small disk");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Makes `disk/a.ar7` on a small disk with commands, and mounts it. Only a program that asks for it makes a commit.
fn mounted_on_a_small_disk<'a>(
    bench: &'a Bench,
    commands: &[&str],
) -> Option<(SmallDisk, Place<'a>)> {
    let disk = SmallDisk::new(bench.path("disk"))?;
    for command in commands {
        bench.ok(command);
    }
    symlink("disk/a.ar7", bench.path("a.ar7")).expect("a link");
    let place = Place::mount(bench, "--commit-interval 1000")?;
    Some((disk, place))
}

/// Fills a mount with files of these lengths, in order. Each is durable, and the last one of a length did not fit.
fn fill(place: &Place<'_>, lengths: &[usize]) {
    for &length in lengths {
        let write = |name: &str| {
            let file = fs::File::create(place.path.join(name))?;
            file.write_all_at(&vec![7; length], 0)?;
            file.sync_all()
        };
        let mut names = (0..10_000).map(|number| format!("{length} bytes {number}"));
        let refused = names.find(|name| write(name).is_err()).expect("a full disk");
        fs::remove_file(place.path.join(refused)).expect("removed");
        sync(place);
    }
}

/// Makes everything durable.
fn sync(place: &Place<'_>) {
    fs::File::open(&place.path).expect("a directory").sync_all().expect("durable");
}

#[test]
fn on_a_full_disk_a_removal_makes_room_for_the_next_write() {
    let bench = Bench::new();
    let Some((_disk, place)) = mounted_on_a_small_disk(&bench, &["create disk/a.ar7"]) else {
        return;
    };
    let write = |name: &str, mebibytes: u64| {
        let file = fs::File::create(place.path.join(name))?;
        for at in 0..mebibytes {
            file.write_all_at(&vec![7; 1 << 20], at << 20)?;
            file.sync_all()?;
        }
        Ok::<_, std::io::Error>(file)
    };
    let is_full = |error: std::io::Error| error.kind() == std::io::ErrorKind::StorageFull;
    for is_open in [false, true] {
        assert!(write("large", 64).is_err_and(is_full));
        let open = fs::File::open(place.path.join("large")).expect("a file");
        let open = is_open.then_some(open);
        fs::remove_file(place.path.join("large")).expect("removed");
        if let Some(open) = open {
            // A commit while the file is open keeps its content.
            sync(&place);
            drop(open);
        }
        write("small", 4).expect("there is room again");
        fs::remove_file(place.path.join("small")).expect("removed");
    }
    drop(place);
    bench.ok("verify a.ar7");
}

#[test]
fn a_disk_full_of_small_files_can_be_emptied() {
    let bench = Bench::new();
    let Some((_disk, place)) = mounted_on_a_small_disk(&bench, &["create disk/a.ar7"]) else {
        return;
    };
    let at = |number: u32| place.path.join(format!("{:08x}", number.wrapping_mul(0x9e37_79b9)));
    let write = |number: u32| {
        let file = fs::File::create(at(number))?;
        file.write_all_at(&[7; 9000], 0)?;
        file.sync_all()
    };
    let count = (0..10_000).find(|&number| write(number).is_err()).expect("a full disk");
    assert!(count > 500, "{count}");
    for number in 0..count {
        let is_open = number.is_multiple_of(10);
        let open = is_open.then(|| fs::File::open(at(number)).expect("a file"));
        fs::remove_file(at(number)).expect("removed");
        if let Some(open) = open {
            // The kernel does it when the file is closed, too.
            open.set_permissions(fs::Permissions::from_mode(0o600)).expect("of no entry");
            sync(&place);
        }
        if number.is_multiple_of(7) {
            sync(&place);
        }
    }
    write(count + 1).expect("there is room again");
    drop(place);
    bench.ok("verify a.ar7");
}

/// All attributes of a file are written again when one of them changes.
#[test]
fn on_a_full_disk_a_change_of_many_attributes_is_refused_or_durable() {
    let bench = Bench::new();
    let Some((_disk, place)) = mounted_on_a_small_disk(&bench, &["create disk/a.ar7"]) else {
        return;
    };
    let set = |name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(place.path.join("file"), name, value, flags)
    };
    fs::write(place.path.join("file"), "").expect("a file");
    for number in 0..15 {
        set(&format!("user.{number}"), &vec![number; 60_000]).expect("set");
    }
    sync(&place);
    // Room for a small change, but not for 900,000 bytes.
    fill(&place, &[1 << 20, 200_000]);
    let outcome = set("user.small", b"value");
    assert!(matches!(outcome, Ok(()) | Err(rustix::io::Errno::NOSPC)), "{outcome:?}");
    sync(&place);
}

/// A change of content is made, or refused because the disk is full. If it is refused, the file stays as it was, and so does
/// everything else. Then a removal makes room. The kernel gathers no writes here, so that it knows which one was refused.
#[test]
fn in_a_full_mount_each_change_of_content_is_made_or_leaves_everything_as_it_was() {
    use rustix::fs::{FallocateFlags, OFlags, fallocate};
    use std::os::unix::fs::OpenOptionsExt as _;

    /// Farther beyond the end than there is room for.
    const FAR: u64 = 64 << 20;
    /// A name, whether there must be room, if it is certain, and the change.
    type Change<'a> = (&'static str, Option<bool>, &'a dyn Fn() -> std::io::Result<()>);
    let content = vec![5; 300_000];
    let bench = Bench::new();
    bench.write("src/packed", &content);
    bench.write("src/sparse", &content);
    let sparse = fs::File::options().write(true).open(bench.path("src/sparse")).expect("a file");
    sparse.set_len(8 << 40).expect("a length");
    bench.write("raw", "");
    // What is packed from then on is not compressed, so zeros that a change packs take space.
    let commands = ["ingest disk/a.ar7 src", "ingest disk/a.ar7 raw --compression none"];
    let Some((_disk, place)) = mounted_on_a_small_disk(&bench, &commands) else { return };
    let at = |name: &str| place.path.join("src").join(name);
    for name in ["stream", "other"] {
        fs::write(at(name), &content).expect("written");
    }
    sync(&place);
    fill(&place, &[1 << 20, 100_000, 9000, 100]);
    for name in ["stream", "packed", "sparse"] {
        let direct = OFlags::DIRECT.bits().cast_signed();
        let file = fs::File::options().write(true).custom_flags(direct).open(at(name));
        let (file, read) = (file.expect("a file"), fs::File::open(at(name)).expect("a file"));
        // Not the times: the kernel may set them before it asks.
        let state = || {
            let mut bytes = vec![0; content.len() + 1000];
            let length = read.read_at(&mut bytes, 0).expect("read");
            bytes.truncate(length);
            (file.metadata().expect("metadata").len(), bytes)
        };
        let (length, half) = (state().0, content.len() as u64 / 2);
        let allocate =
            |from: u64, bytes: u64| Ok(fallocate(&file, FallocateFlags::empty(), from, bytes)?);
        let changes: [Change<'_>; 8] = [
            ("allocate what is there", None, &|| allocate(0, half)),
            ("allocate more", Some(false), &|| allocate(length, FAR)),
            ("write beyond the end", None, &|| file.write_all_at(b"far", length + FAR)),
            ("write into the content", None, &|| file.write_all_at(b"changed", 7)),
            ("write behind the content", None, &|| file.write_all_at(&[9; 500], 2 * half + 100)),
            ("longer", None, &|| file.set_len(length + FAR)),
            ("shorter", None, &|| file.set_len(half)),
            ("empty", Some(true), &|| file.set_len(0)),
        ];
        for (change, has_room, make) in changes {
            let before = state();
            let outcome = make();
            assert_eq!(has_room.unwrap_or(outcome.is_ok()), outcome.is_ok(), "{name}, {change}");
            if let Err(error) = outcome {
                // No file can have a block for each part of so long a hole.
                let is_too_long = error.kind() == std::io::ErrorKind::FileTooLarge;
                let is_full = error.kind() == std::io::ErrorKind::StorageFull;
                assert!(is_full || name == "sparse" && is_too_long, "{name}, {change}: {error}");
                assert!(state() == before, "{name}, {change}");
            }
            sync(&place);
        }
    }
    assert!(fs::read(at("other")).expect("read") == content);
    fs::remove_file(at("other")).expect("removed");
    sync(&place);
    fs::write(at("new"), &content[..200_000]).expect("there is room again");
    sync(&place);
    drop(place);
    bench.ok("verify a.ar7");
}
