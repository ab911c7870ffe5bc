//! The same operations on a mounted archive and on a directory of the host.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};

use rustix::fs::{
    AtFlags, CWD, FallocateFlags, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags,
};
use rustix::io::Errno;
use walkdir::WalkDir;
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};

use super::{Mounted, Options, fault};
use crate::Random;

/// Longest file in bytes, and longest write.
const LENGTH_MAX: u64 = 300_000;
const WRITE_MAX: u64 = 40_000;

/// Number of names in each directory.
const NAMES: u64 = 7;

/// Files that a thread has open at the same time.
const OPEN_MAX: usize = 6;

/// Operations of a thread between two mounts.
const PER_MOUNT: u64 = 25_000;

/// Returns the number of operations that were compared.
pub(super) fn run(ar7: &Ar7, folder: &Path, options: &Options) -> Result<u64> {
    let (archive, mount, host) =
        (folder.join("pair.ar7"), folder.join("pair"), folder.join("host"));
    for directory in [&mount, &host] {
        fs::create_dir(directory).map_err(Error::io("create", directory))?;
    }
    ar7.expect(0, ["create".as_ref(), archive.as_os_str()])?;
    let (mut done, mut round) = (0, 0);
    while done < options.operations {
        let each = PER_MOUNT.min((options.operations - done).div_ceil(options.threads.max(1)));
        let mut mounted = Mounted::new(ar7, &archive, &mount, &["--commit-interval", "1"])?;
        let outcomes: Vec<Result<u64>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..options.threads.max(1))
                .map(|number| {
                    let seed = options.seed ^ (round << 32) ^ number;
                    let both = [mount.join(number.to_string()), host.join(number.to_string())];
                    scope.spawn(move || Worker::new(both, seed)?.work(each))
                })
                .collect();
            let ended = threads.into_iter().map(ScopedJoinHandle::join);
            ended.map(|it| it.unwrap_or_else(|_| Err(fault("a thread panicked")))).collect()
        });
        for outcome in outcomes {
            done += outcome?;
        }
        agree(&host, &mount)?;
        mounted.unmount(&[])?;
        ar7.expect(0, ["verify".as_ref(), archive.as_os_str()])?;
        let mut again = Mounted::new(ar7, &archive, &mount, &["--read-only"])?;
        agree(&host, &mount)?;
        again.unmount(&[])?;
        round += 1;
    }
    Ok(done)
}

/// Fails unless both trees have the same entries and content.
fn agree(host: &Path, mount: &Path) -> Result<()> {
    let listed = |root: &Path| {
        let mut entries = Vec::new();
        for entry in WalkDir::new(root).min_depth(2).sort_by_file_name() {
            let entry = entry.map_err(|error| fault(error.to_string()))?;
            let path = entry.path();
            let content = if entry.file_type().is_file() {
                fs::read(path).map_err(Error::io("read", path))?
            } else {
                Vec::new()
            };
            let name = path.strip_prefix(root).unwrap_or(path).to_owned();
            entries.push((name, status_of(path), content));
        }
        Ok::<_, Error>(entries)
    };
    let (expected, found) = (listed(host)?, listed(mount)?);
    for (expected, found) in expected.iter().zip(&found) {
        if expected != found {
            return Err(fault(format!(
                "after all operations, {} is {}, and {} is {}",
                found.0.display(),
                shown(&found.1),
                expected.0.display(),
                shown(&expected.1)
            )));
        }
    }
    if expected.len() == found.len() { Ok(()) } else { Err(fault("entries are missing")) }
}

/// The outcome of an operation: what both directories must agree on.
type Outcome = std::result::Result<Vec<u8>, Errno>;

/// One thread: its two directories, and the files that it has open in both.
struct Worker {
    roots: [PathBuf; 2],
    open: Vec<[File; 2]>,
    random: Random,
    log: Vec<String>,
}

impl Worker {
    fn new(roots: [PathBuf; 2], seed: u64) -> Result<Worker> {
        for root in &roots {
            if let Err(error) = fs::create_dir(root)
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                return Err(Error::io("create", root)(error));
            }
        }
        Ok(Worker { roots, open: Vec::new(), random: Random::new(seed), log: Vec::new() })
    }

    fn work(mut self, operations: u64) -> Result<u64> {
        for _ in 0..operations {
            let (text, outcomes) = self.operation();
            self.log.push(text);
            let [here, there] = &outcomes;
            if here != there {
                let last = self.log.len().saturating_sub(40);
                return Err(fault(format!(
                    "below {}: the mount: {}, the host: {}, after\n  {}",
                    self.roots[0].display(),
                    shown(here),
                    shown(there),
                    self.log[last..].join("\n  ")
                )));
            }
        }
        Ok(operations)
    }

    /// Does one operation in both directories. Returns its text.
    fn operation(&mut self) -> (String, [Outcome; 2]) {
        if self.random.one_in(3) && !self.open.is_empty() {
            return self.on_open_file();
        }
        match self.random.below(14) {
            0..3 => self.open_file(),
            3 => self.each_name("mkdir", |path| {
                rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o750)).map(nothing)
            }),
            4 => self.each_name("rmdir", |path| {
                rustix::fs::unlinkat(CWD, path, AtFlags::REMOVEDIR).map(nothing)
            }),
            5 => self.each_name("unlink", |path| {
                rustix::fs::unlinkat(CWD, path, AtFlags::empty()).map(nothing)
            }),
            6 => {
                let length = usize::try_from(self.random.below(700)).unwrap_or(0);
                let target = "t".repeat(length);
                self.each_name("symlink", |path| {
                    rustix::fs::symlinkat(&target, CWD, path).map(nothing)
                })
            }
            7 | 8 => self.rename(),
            9 => {
                let (from, to) = (self.name(), self.name());
                let text = format!("link {} {}", from.display(), to.display());
                let both = self.both(|root| {
                    let (from, to) = (root.join(&from), root.join(&to));
                    rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty()).map(nothing)
                });
                (text, both)
            }
            10 => self.set_attributes(),
            11 => self.extended(),
            12 => self.each_name("list", names_in),
            _ => self.each_name("status", status_of),
        }
    }

    /// A name at most two directories deep.
    fn name(&mut self) -> PathBuf {
        let mut path = PathBuf::new();
        for _ in 0..=self.random.below(3) {
            path.push(format!("n{}", self.random.below(NAMES)));
        }
        path
    }

    fn both(&self, work: impl Fn(&Path) -> Outcome) -> [Outcome; 2] {
        [work(&self.roots[0]), work(&self.roots[1])]
    }

    fn each_name(&mut self, what: &str, work: impl Fn(&Path) -> Outcome) -> (String, [Outcome; 2]) {
        let name = self.name();
        let both = self.both(|root| work(&root.join(&name)));
        (format!("{what} {}", name.display()), both)
    }

    fn open_file(&mut self) -> (String, [Outcome; 2]) {
        let name = self.name();
        let mut flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        for (flag, times) in [(OFlags::CREATE, 1), (OFlags::EXCL, 3), (OFlags::TRUNC, 4)] {
            if !self.random.one_in(times + 1) {
                continue;
            }
            flags |= flag;
        }
        if self.random.one_in(2) {
            flags |= OFlags::CREATE;
        }
        if self.random.one_in(6) {
            flags |= OFlags::APPEND;
        }
        let text = format!("open {} {flags:?}", name.display());
        let opened = [0, 1].map(|side| {
            let path = self.roots[side].join(&name);
            rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(0o640)).map(File::from)
        });
        let outcomes = [0, 1].map(|side| opened[side].as_ref().map(|_| Vec::new()).map_err(|e| *e));
        if let [Ok(here), Ok(there)] = opened {
            if self.open.len() >= OPEN_MAX {
                let oldest = self.random.below(OPEN_MAX as u64);
                self.open.swap_remove(usize::try_from(oldest).unwrap_or(0));
            }
            self.open.push([here, there]);
        }
        (text, outcomes)
    }

    fn on_open_file(&mut self) -> (String, [Outcome; 2]) {
        let at = usize::try_from(self.random.below(self.open.len() as u64)).unwrap_or(0);
        let offset = self.random.below(LENGTH_MAX);
        let length = self.random.below(WRITE_MAX) + 1;
        let kind = self.random.below(12);
        if kind == 11 {
            self.open.swap_remove(at);
            return (format!("close {at}"), [Ok(Vec::new()), Ok(Vec::new())]);
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(1)];
        self.random.fill(&mut bytes);
        let modes = [
            FallocateFlags::empty(),
            FallocateFlags::KEEP_SIZE,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            FallocateFlags::ZERO_RANGE,
        ];
        let mode = *self.random.choose(&modes).unwrap_or(&FallocateFlags::empty());
        let work = |file: &File| -> Outcome {
            match kind {
                0..4 => file.write_all_at(&bytes, offset).map(nothing).map_err(number_of),
                4..7 => {
                    let mut read = vec![0; bytes.len()];
                    let length = file.read_at(&mut read, offset).map_err(number_of)?;
                    read.truncate(length);
                    Ok(read)
                }
                7 => rustix::fs::ftruncate(file, offset).map(nothing),
                8 => rustix::fs::fallocate(file, mode, offset, length).map(nothing),
                9 => file.metadata().map(|it| status(&it)).map_err(number_of),
                _ => rustix::fs::fdatasync(file).map(nothing),
            }
        };
        let [here, there] = &self.open[at];
        let outcomes = [work(here), work(there)];
        (format!("kind {kind} on {at}, {length} bytes at {offset}, {mode:?}"), outcomes)
    }

    fn rename(&mut self) -> (String, [Outcome; 2]) {
        let flags = [RenameFlags::empty(), RenameFlags::NOREPLACE, RenameFlags::EXCHANGE];
        let flags = *self.random.choose(&flags).unwrap_or(&RenameFlags::empty());
        let (from, to) = (self.name(), self.name());
        let text = format!("rename {} {} {flags:?}", from.display(), to.display());
        let both = self.both(|root| {
            let (from, to) = (root.join(&from), root.join(&to));
            rustix::fs::renameat_with(CWD, from, CWD, to, flags).map(nothing)
        });
        (text, both)
    }

    fn set_attributes(&mut self) -> (String, [Outcome; 2]) {
        let name = self.name();
        let mode = 0o400 | u32::try_from(self.random.below(0o400)).unwrap_or(0);
        let seconds = i64::try_from(self.random.below(4_000_000_000)).unwrap_or(0) - 1_000_000_000;
        let nanoseconds = i64::try_from(self.random.below(1_000_000_000)).unwrap_or(0);
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        let sets_mode = self.random.one_in(2);
        let both = self.both(|root| {
            let path = root.join(&name);
            if sets_mode {
                // The mode of a symbolic link cannot be set, and this one leads nowhere.
                rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode), AtFlags::empty())?;
            } else {
                rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(Vec::new())
        });
        (format!("attributes {} {mode:o} or {seconds}.{nanoseconds}", name.display()), both)
    }

    fn extended(&mut self) -> (String, [Outcome; 2]) {
        let name = self.name();
        let attribute = format!("user.a{}", self.random.below(3));
        let mut value = vec![0; usize::try_from(self.random.below(200)).unwrap_or(0)];
        self.random.fill(&mut value);
        let kind = self.random.below(4);
        let both = self.both(|root| {
            let path = root.join(&name);
            match kind {
                0 => {
                    let flags = XattrFlags::empty();
                    rustix::fs::lsetxattr(path, &attribute, &value, flags).map(nothing)
                }
                1 => rustix::fs::lremovexattr(path, &attribute).map(nothing),
                2 => {
                    let mut list = vec![0; 1000];
                    let length = rustix::fs::llistxattr(path, &mut list[..])?;
                    list.truncate(length);
                    let mut names: Vec<&[u8]> = list.split_inclusive(|&byte| byte == 0).collect();
                    names.sort_unstable();
                    Ok(names.concat())
                }
                _ => {
                    let mut found = vec![0; 1000];
                    let length = rustix::fs::lgetxattr(path, &attribute, &mut found[..])?;
                    found.truncate(length);
                    Ok(found)
                }
            }
        });
        (format!("extended {kind} {} {attribute}", name.display()), both)
    }
}

fn nothing<T>(_: T) -> Vec<u8> {
    Vec::new()
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn number_of(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

fn names_in(path: &Path) -> Outcome {
    let mut names = Vec::new();
    for entry in fs::read_dir(path).map_err(number_of)? {
        let entry = entry.map_err(number_of)?;
        let kind = entry.file_type().map_err(number_of)?;
        names.push(format!("{} {kind:?}\n", entry.file_name().display()));
    }
    names.sort_unstable();
    Ok(names.concat().into_bytes())
}

fn status_of(path: &Path) -> Outcome {
    let found = fs::symlink_metadata(path).map_err(number_of)?;
    let target = if found.is_symlink() {
        fs::read_link(path).map_err(number_of)?.into_os_string().into_encoded_bytes()
    } else {
        Vec::new()
    };
    Ok([status(&found), target].concat())
}

/// Returns what both directories must agree on. The number of links and the length of a directory are the file
/// system's own, and the times of what was just changed differ.
fn status(found: &fs::Metadata) -> Vec<u8> {
    let own = if found.is_dir() { (0, 0) } else { (found.nlink(), found.len()) };
    let set = if found.mtime() < 1_700_000_000 || found.mtime() > 2_500_000_000 {
        (found.mtime(), found.mtime_nsec())
    } else {
        (0, 0)
    };
    format!("{:o} {own:?} {} {} {set:?}", found.mode(), found.uid(), found.gid()).into_bytes()
}

fn shown(outcome: &Outcome) -> String {
    match outcome {
        Ok(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) if text.len() < 2000 => format!("{text:?}"),
            _ => format!("{} bytes", bytes.len()),
        },
        Err(error) => error.to_string(),
    }
}
