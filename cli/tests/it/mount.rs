//! An archive as a directory. Each test is skipped where FUSE is missing.

use std::fs;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::common::{Bench, set_time, tree};

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
    let mut process = [0; 20];
    let length = rustix::fs::getxattr(&place.path, "user.ar7.process", &mut process[..]);
    let process = std::str::from_utf8(&process[..length.expect("a number")]).expect("digits");
    let process = rustix::process::Pid::from_raw(process.parse().expect("a number"));
    let process = process.expect("a process");
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
