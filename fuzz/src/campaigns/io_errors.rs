//! `cargo xtask io-errors`: runs the real program while one system call after another fails.
//!
//! A small C library, loaded before the C library, makes the k-th call of one function fail. If `strace` is installed,
//! it does the same for calls that bypass the C library. After every run:
//! - the program ended with an exit code, not by a signal or a panic, and not with success, unless it can do without
//!   the call;
//! - the archive, if it exists, verifies and contains at least the entries of the last reported checkpoint;
//! - a copy to a new archive leaves a whole one or none, and no temporary file;
//! - the same command, run again without a fault, completes the archive.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::Random;
use clap::Args;

use crate::campaigns::kill::process::reported_entries;
use crate::campaigns::shim;
use crate::campaigns::tree::{self, Shape};
use xtask::ar7::Ar7;
use xtask::compare::compare;
use xtask::error::{Error, Result};
use xtask::quantity::seconds;
use xtask::workspace::{output, shown};

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of calls of each function to fail, in each way; later calls succeed
    #[arg(long, default_value_t = 12)]
    calls: u64,
    /// Seed of the tree
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const GENERATED: Shape = Shape { files: 120, large_files: 2 };
const CHECKPOINT: &str = "1MiB";

/// A function, how it fails, and the exit codes that the program may return.
struct Fault {
    function: &'static str,
    way: Way,
    codes: &'static [i32],
}

/// The exit codes for a failed medium and for a full disk.
const FAILED: &[i32] = &[1, 7];
/// The program can do without the call.
const DONE: &[i32] = &[0];
/// The program may have less space, but continue.
const DONE_OR_FAILED: &[i32] = &[0, 1, 7];

#[derive(Debug, Clone, Copy)]
enum Way {
    /// It fails with this error: the name for `strace`, and the number of the system.
    Error(&'static str, i32),
    /// It does half of its work and reports that.
    Half,
}

const EIO: Way = Way::Error("EIO", 5);
const ENOSPC: Way = Way::Error("ENOSPC", 28);

const fn fault(function: &'static str, way: Way) -> Fault {
    Fault { function, way, codes: FAILED }
}

/// Faults of calls that go through the C library.
const BY_LIBRARY: [Fault; 13] = [
    fault("pwrite64", EIO),
    fault("pwrite64", ENOSPC),
    Fault { function: "pwrite64", way: Way::Half, codes: DONE },
    // Large runs bypass the page cache; if that fails, they go through it.
    fault("pwrite64_direct", EIO),
    fault("pwrite64_direct", ENOSPC),
    Fault { function: "pwrite64_direct", way: Way::Half, codes: DONE },
    Fault { function: "pwrite64_direct", way: Way::Error("EINVAL", 22), codes: DONE },
    fault("fdatasync", EIO),
    fault("fdatasync", ENOSPC),
    fault("fsync", EIO),
    fault("sync_file_range", EIO),
    // The file stays longer than necessary.
    Fault { function: "ftruncate64", way: EIO, codes: DONE },
    // Without a map, the program reads the file with positioned reads.
    Fault { function: "mmap64", way: Way::Error("ENOMEM", 12), codes: DONE },
];

/// Faults of calls that bypass the C library.
const BY_TRACE: [Fault; 4] = [
    fault("fallocate", EIO),
    Fault { function: "fallocate", way: ENOSPC, codes: DONE_OR_FAILED },
    fault("?renameat2", EIO),
    // The program then writes zeros instead.
    Fault { function: "fallocate", way: Way::Error("EOPNOTSUPP", 95), codes: DONE },
];

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let folder = tempfile::Builder::new()
        .prefix("ar7-io-errors-")
        .tempdir()
        .map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    let outcome = campaign(folder.path(), options);
    if outcome.is_err() {
        println!("kept: {}", folder.keep().display());
    }
    println!(
        "io-errors: seed {}, {}: {}",
        options.seed,
        seconds(started.elapsed()),
        if outcome.is_ok() { "no fault" } else { "FAULT" }
    );
    outcome
}

fn campaign(folder: &Path, options: &Options) -> Result<()> {
    let tree = folder.join("tree");
    tree::generate(&tree, GENERATED, &mut Random::new(options.seed))?;
    let ar7 = Ar7::build(folder)?;
    let campaign = Campaign { ar7, tree, folder: folder.to_owned(), calls: options.calls };
    let mut injected = 0;
    match shim::build("fail", folder) {
        Ok(library) => {
            for fault in &BY_LIBRARY {
                injected += campaign.each_call(fault, &Injector::Library(library.clone()))?;
            }
        }
        Err(reason) => println!("io-errors: skipped the calls that need a C compiler: {reason}"),
    }
    if Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok() {
        for fault in &BY_TRACE {
            injected += campaign.each_call(fault, &Injector::Trace)?;
        }
    } else {
        println!("io-errors: skipped the calls that need strace: it is not installed");
    }
    println!("io-errors: {injected} faults were injected");
    if injected == 0 { Err(Error::Fault("no fault was injected".to_owned())) } else { Ok(()) }
}

/// The means to make a call fail.
enum Injector {
    /// The C library that is loaded first.
    Library(PathBuf),
    Trace,
}

/// A command that a fault interrupts.
#[derive(Clone, Copy)]
enum Work {
    /// An ingest into a new archive.
    FirstIngest,
    /// An ingest into an archive with half of the tree.
    SecondIngest,
    Removal,
    /// A compaction of an archive with half of the tree.
    Compaction,
    /// A copy of it to a new archive.
    Copy,
}

impl Work {
    const ALL: [Work; 5] =
        [Work::FirstIngest, Work::SecondIngest, Work::Removal, Work::Compaction, Work::Copy];
}

struct Campaign {
    ar7: Ar7,
    tree: PathBuf,
    folder: PathBuf,
    calls: u64,
}

impl Campaign {
    /// Makes each call of a function fail in turn, for each kind of work. Returns the number of faults injected.
    fn each_call(&self, fault: &Fault, injector: &Injector) -> Result<u64> {
        let mut injected = 0;
        for work in Work::ALL {
            for call in 0..self.calls {
                if !self.one_call(fault, injector, work, call)? {
                    break;
                }
                injected += 1;
            }
        }
        let Fault { function, way, .. } = fault;
        println!("io-errors: {function} {way:?}: {injected}");
        if injected == 0 {
            return Err(Error::Fault(format!("the program never calls {function}")));
        }
        Ok(injected)
    }

    /// Runs a command while one call fails. Returns false if it makes fewer calls.
    fn one_call(&self, fault: &Fault, injector: &Injector, work: Work, call: u64) -> Result<bool> {
        let archive = self.archive();
        self.prepare(work)?;
        let report = self.folder.join("report");
        remove(&report)?;
        let mut command = self.ar7.command(self.arguments(work));
        match injector {
            Injector::Library(library) => {
                let error = match fault.way {
                    Way::Error(_, number) => number,
                    Way::Half => 0,
                };
                command
                    .env("LD_PRELOAD", library)
                    .env("AR7_FAIL_CALL", fault.function)
                    .env("AR7_FAIL_AT", call.to_string())
                    .env("AR7_FAIL_ERROR", error.to_string())
                    .env("AR7_FAIL_REPORT", &report);
            }
            Injector::Trace => command = traced(&command, fault, call, &report),
        }
        let ended = output(&mut command)?;
        let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
        let has_fired = match injector {
            Injector::Library(_) => report.exists(),
            Injector::Trace => fs::read_to_string(&report)
                .map_err(Error::io("read", &report))?
                .contains("(INJECTED)"),
        };
        let expected = if has_fired { fault.codes } else { DONE };
        if !ended.status.code().is_some_and(|code| expected.contains(&code)) {
            return Err(Error::Fault(format!(
                "call {call} of {} fails with {:?}: `{}` ended with {}, expected {expected:?}\n{errors}",
                fault.function,
                fault.way,
                shown(&command),
                ended.status,
            )));
        }
        let reported = errors.lines().filter_map(reported_entries).next_back();
        self.check_left(work, &archive, reported)?;
        Ok(has_fired)
    }

    /// Checks that the archive left by the failure verifies, contains the reported entries, and can be completed.
    fn check_left(&self, work: Work, archive: &Path, reported: Option<u64>) -> Result<()> {
        if archive.exists() {
            self.ar7.expect(0, [OsStr::new("verify"), archive.as_os_str()])?;
            let listed = ["ls".as_ref(), "-R".as_ref(), archive.as_os_str()];
            let listed = self.ar7.expect(0, listed)?;
            // A name with a line break is shown on one line.
            let held = u64::try_from(listed.stdout.lines().count()).unwrap_or(u64::MAX);
            if let Some(reported) = reported.filter(|&reported| reported > held) {
                let fault = format!("{reported} entries were reported, found {held}");
                return Err(Error::Fault(fault));
            }
        } else if reported.is_some() {
            return Err(Error::Fault("a checkpoint was reported, but there is no archive".into()));
        }
        match work {
            Work::Removal => return Ok(()),
            Work::Copy => self.check_copy(archive)?,
            _ => drop(self.ar7.expect(0, self.arguments(work))?),
        }
        // After a compaction, the rest of the tree is stored.
        self.ar7.expect(0, self.arguments(Work::SecondIngest))?;
        let extracted = self.folder.join("out");
        if extracted.exists() {
            fs::remove_dir_all(&extracted).map_err(Error::io("remove", &extracted))?;
        }
        let to = extracted.as_os_str();
        self.ar7.expect(0, ["extract".as_ref(), archive.as_os_str(), "--to".as_ref(), to])?;
        compare(&self.tree, &extracted.join("tree"))?.into_result()?;
        Ok(())
    }

    /// Checks that a failed copy left a whole archive or none, and puts another copy in the place of the archive.
    fn check_copy(&self, archive: &Path) -> Result<()> {
        let copy = self.copy();
        let names = fs::read_dir(&self.folder).map_err(Error::io("list", &self.folder))?;
        let mut names = names.flatten().map(|entry| entry.path());
        if names.any(|path| path.extension() == Some("incomplete".as_ref())) {
            return Err(Error::Fault("a temporary file is left".to_owned()));
        }
        for _ in 0..2 {
            if copy.exists() {
                self.ar7.expect(0, [OsStr::new("verify"), copy.as_os_str()])?;
                self.ar7.expect(0, ["ls".as_ref(), copy.as_os_str(), "tree".as_ref()])?;
                remove(&copy)?;
            }
            self.ar7.expect(0, self.arguments(Work::Copy))?;
        }
        fs::rename(&copy, archive).map_err(Error::io("rename", &copy))
    }

    /// Prepares the archive with which the work starts.
    fn prepare(&self, work: Work) -> Result<()> {
        let (archive, kept) = (self.archive(), self.folder.join("kept.ar7"));
        remove(&archive)?;
        remove(&self.copy())?;
        if matches!(work, Work::FirstIngest) {
            return Ok(());
        }
        if !kept.exists() {
            self.ar7.expect(0, self.arguments(Work::FirstIngest))?;
            let first = tree::regular_files(&self.tree)?;
            // Half of the files are missing, so that the second ingest has work to do.
            for file in first.iter().step_by(2) {
                let name = Path::new("tree").join(file.strip_prefix(&self.tree).unwrap_or(file));
                self.ar7.expect(0, ["rm".as_ref(), archive.as_os_str(), name.as_os_str()])?;
            }
            fs::rename(&archive, &kept).map_err(Error::io("rename", &archive))?;
        }
        fs::copy(&kept, &archive).map_err(Error::io("copy", &kept))?;
        Ok(())
    }

    fn archive(&self) -> PathBuf {
        self.folder.join("a.ar7")
    }

    fn copy(&self) -> PathBuf {
        self.folder.join("copy.ar7")
    }

    fn arguments(&self, work: Work) -> Vec<PathBuf> {
        let words: &[&str] = match work {
            Work::FirstIngest | Work::SecondIngest => &["ingest", "--checkpoint", CHECKPOINT],
            Work::Removal => &["rm", "-r"],
            Work::Compaction | Work::Copy => &["compact"],
        };
        let mut arguments: Vec<PathBuf> = words.iter().map(PathBuf::from).collect();
        arguments.push(self.archive());
        arguments.extend(match work {
            Work::FirstIngest | Work::SecondIngest => vec![self.tree.clone()],
            Work::Removal => vec![PathBuf::from("tree")],
            Work::Compaction => Vec::new(),
            Work::Copy => vec![PathBuf::from("--to"), self.copy()],
        });
        arguments
    }
}

/// Returns the command under `strace`, which makes one call fail and records it.
fn traced(command: &Command, fault: &Fault, call: u64, report: &Path) -> Command {
    let Way::Error(error, _) = fault.way else { unreachable!("strace cannot shorten calls") };
    let mut traced = Command::new("strace");
    let inject = format!("inject={}:error={error}:when={}", fault.function, call + 1);
    let trace = format!("trace={}", fault.function);
    traced.args(["-f", "-qq", "-e", &trace, "-e", &inject, "-o"]).arg(report);
    traced.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => traced.env(name, value),
            None => traced.env_remove(name),
        };
    }
    traced
}

fn remove(path: &Path) -> Result<()> {
    if path.exists() { fs::remove_file(path).map_err(Error::io("remove", path)) } else { Ok(()) }
}
