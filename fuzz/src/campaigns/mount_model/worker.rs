//! One thread that does the same operations in both directories.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, Timespec, Timestamps, XattrFlags};
use xtask::error::{Error, Result};

use super::fault;
use super::open_files::OpenFiles;
use super::outcome::{Compared, Outcome, names_in, nothing, shown, status_of};
use crate::Random;

/// Number of names in each directory.
const NAMES: u64 = 7;

/// One thread: its two directories, and the files that it has open in both.
pub(super) struct Worker {
    roots: [PathBuf; 2],
    open: OpenFiles,
    random: Random,
    log: Vec<String>,
}

impl Worker {
    pub(super) fn new(roots: [PathBuf; 2], seed: u64) -> Result<Worker> {
        for root in &roots {
            if let Err(error) = fs::create_dir(root)
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                return Err(Error::io("create", root)(error));
            }
        }
        Ok(Worker { roots, open: OpenFiles::default(), random: Random::new(seed), log: Vec::new() })
    }

    pub(super) fn work(mut self, operations: u64) -> Result<u64> {
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
    fn operation(&mut self) -> Compared {
        if self.random.one_in(3) && !self.open.is_empty() {
            return self.open.operation(&mut self.random);
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

    fn each_name(&mut self, what: &str, work: impl Fn(&Path) -> Outcome) -> Compared {
        let name = self.name();
        let both = self.both(|root| work(&root.join(&name)));
        (format!("{what} {}", name.display()), both)
    }

    fn open_file(&mut self) -> Compared {
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
        // What bypasses the page cache must be aligned, so it cannot be appended.
        match self.random.below(12) {
            0 | 1 => flags |= OFlags::APPEND,
            2 | 3 => flags |= OFlags::DIRECT,
            _ => {}
        }
        let text = format!("open {} {flags:?}", name.display());
        let opened = [0, 1].map(|side| {
            let path = self.roots[side].join(&name);
            rustix::fs::openat(CWD, &path, flags, Mode::from_raw_mode(0o640)).map(File::from)
        });
        let outcomes = [0, 1].map(|side| opened[side].as_ref().map(|_| Vec::new()).map_err(|e| *e));
        if let [Ok(here), Ok(there)] = opened {
            self.open.add([here, there], flags.contains(OFlags::DIRECT), &mut self.random);
        }
        (text, outcomes)
    }

    fn rename(&mut self) -> Compared {
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

    fn set_attributes(&mut self) -> Compared {
        let name = self.name();
        let mode = 0o400 | u32::try_from(self.random.below(0o400)).unwrap_or(0);
        let seconds = i64::try_from(self.random.below(4_000_000_000)).unwrap_or(0) - 1_000_000_000;
        let nanoseconds = i64::try_from(self.random.below(1_000_000_000)).unwrap_or(0);
        let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        let times = Timestamps { last_access: time, last_modification: time };
        let sets_mode = self.random.one_in(2);
        if !sets_mode {
            self.open.unmap();
        }
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

    fn extended(&mut self) -> Compared {
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
