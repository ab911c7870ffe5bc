//! `cargo xtask bench mount`: the same work on a mounted archive and on gocryptfs, alternating.
//!
//! A time ends when the work is on stable storage. Reads begin with a new mount, so that the kernel's cache of the mount
//! is empty. What is below it is in the cache of the host: the archive and the encrypted files are read once before.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rand_xoshiro::SplitMix64;
use rand_xoshiro::rand_core::{Rng as _, SeedableRng as _};
use xtask::ar7::Ar7;
use xtask::error::{Error, Result};
use xtask::workspace::{output, root, shown};

use super::peers::{read_once, write_random};
use super::results::{Measure, Results, work_folder};

const SUBJECTS: [&str; 2] = ["ar7", "gocryptfs"];

/// Random reads, and random writes with an fsync each, of 4 KiB.
const READS: u64 = 20_000;
const WRITES: u64 = 300;

const BLOCK: usize = 4096;

/// Options of the run.
#[derive(Args)]
pub(crate) struct Options {
    /// An archive of `tar`, not compressed, for example of Debian's package linux-source
    #[arg(long)]
    tar: PathBuf,
    /// Size of the large random file in bytes
    #[arg(long, default_value_t = 2 << 30)]
    file_bytes: u64,
    /// Number of rounds
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Directory to work in, on the file system to measure
    #[arg(long)]
    directory: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if Command::new("gocryptfs").arg("-version").output().is_err() {
        println!("mount: skipped: gocryptfs is not installed");
        return Ok(());
    }
    let folder = work_folder(options.directory.as_ref())?;
    let work = folder.path();
    let (ar7, file) = (Ar7::build(work)?, work.join("file"));
    write_random(&file, options.file_bytes)?;
    fs::write(work.join("pass"), "benchmark\n").map_err(Error::io("write", work))?;
    let mut results = Results { kind: "mount".to_owned(), ..Results::default() };
    results.inputs.insert("file bytes".to_owned(), options.file_bytes);
    for round in 0..options.rounds {
        for turn in 0..SUBJECTS.len() {
            let number = (turn + usize::try_from(round).unwrap_or_default()) % SUBJECTS.len();
            let subject = SUBJECTS[number];
            let place = work.join(format!("{subject}-{round}"));
            let mount = place.join("mount");
            fs::create_dir_all(&mount).map_err(Error::io("create", &mount))?;
            let mut mounted = Mounted { subject, ar7: &ar7, place, mount, is_open: false };
            mounted.create(work)?;
            let measured = mounted.measure(&options.tar, &file, options.file_bytes, work);
            mounted.unmount()?;
            for (case, seconds, count) in measured? {
                println!("{subject} {case}: {seconds:.3} s");
                let (subject, case) = (subject.to_owned(), case.to_owned());
                let threads = 1;
                let one =
                    Measure { subject, case, round, threads, count, seconds, ..Measure::default() };
                results.measures.push(one);
            }
            fs::remove_dir_all(&mounted.place).map_err(Error::io("remove", work))?;
        }
    }
    ratios(&results.measures);
    results.save(work)
}

/// Prints the ratio of each case within each round.
fn ratios(measures: &[Measure]) {
    for one in measures.iter().filter(|one| one.subject == SUBJECTS[0]) {
        let is_other = |other: &&Measure| {
            other.subject == SUBJECTS[1] && (&other.case, other.round) == (&one.case, one.round)
        };
        if let Some(other) = measures.iter().find(is_other) {
            println!("{}, round {}: {:.2}", one.case, one.round, one.seconds / other.seconds);
        }
    }
}

/// One of the two file systems.
struct Mounted<'a> {
    subject: &'static str,
    ar7: &'a Ar7,
    place: PathBuf,
    mount: PathBuf,
    is_open: bool,
}

impl Mounted<'_> {
    fn create(&mut self, work: &Path) -> Result<()> {
        if self.subject == "ar7" {
            let archive = self.place.join("a.ar7");
            self.ar7.expect(0, ["create".as_ref(), archive.as_os_str()])?;
        } else {
            let mut command = Command::new("gocryptfs");
            command.args(["-q", "-init", "-passfile"]).arg(work.join("pass"));
            finish(command.arg(self.cipher()?))?;
        }
        self.mount(work)
    }

    /// Returns the directory with the encrypted files of gocryptfs.
    fn cipher(&self) -> Result<PathBuf> {
        let cipher = self.place.join("cipher");
        fs::create_dir_all(&cipher).map_err(Error::io("create", &cipher))?;
        Ok(cipher)
    }

    fn mount(&mut self, work: &Path) -> Result<()> {
        if self.subject == "ar7" {
            let archive = self.place.join("a.ar7");
            self.ar7.expect(0, ["mount".as_ref(), archive.as_os_str(), self.mount.as_os_str()])?;
        } else {
            let mut command = Command::new("gocryptfs");
            command.args(["-q", "-passfile"]).arg(work.join("pass")).arg(self.cipher()?);
            finish(command.arg(&self.mount))?;
        }
        self.is_open = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        if !std::mem::take(&mut self.is_open) {
            return Ok(());
        }
        if self.subject == "ar7" {
            self.ar7.expect(0, ["unmount".as_ref(), self.mount.as_os_str()]).map(drop)
        } else {
            finish(Command::new("fusermount3").arg("-u").arg(&self.mount))
        }
    }

    fn remount(&mut self, work: &Path) -> Result<()> {
        self.unmount()?;
        read_once(&if self.subject == "ar7" { self.place.join("a.ar7") } else { self.cipher()? })?;
        self.mount(work)
    }

    /// Does the work. Returns the case, the time and the number of operations of each part.
    fn measure(
        &mut self,
        tar: &Path,
        file: &Path,
        file_bytes: u64,
        work: &Path,
    ) -> Result<Vec<(&'static str, f64, u64)>> {
        let mount = self.mount.clone();
        let (tree, repository, large) =
            (mount.join("tree"), mount.join("repository"), mount.join("large"));
        fs::create_dir(&tree).map_err(Error::io("create", &tree))?;
        let mut cases = Vec::new();
        let untar =
            self.timed(|| finish(Command::new("tar").arg("-xf").arg(tar).arg("-C").arg(&tree)))?;
        cases.push(("untar", untar, 1));
        self.remount(work)?;
        let find = self.timed(|| finish(Command::new("find").arg(&tree).args(["-type", "f"])))?;
        cases.push(("find", find, 1));
        finish(Command::new("git").args(["clone", "-q"]).arg(root()).arg(&repository))?;
        // Git reads each file again that was written in the second of its index or later. How many these are depends on
        // when in a second the clone ends.
        thread::sleep(Duration::from_millis(1100));
        finish(Command::new("git").arg("-C").arg(&repository).args(["reset", "-q"]))?;
        self.remount(work)?;
        let status =
            || finish(Command::new("git").arg("-C").arg(&repository).args(["status", "--short"]));
        cases.push(("git status", self.timed(status)?, 1));
        let write = self.timed(|| finish(Command::new("cp").arg(file).arg(&large)))?;
        cases.push(("sequential write", write, 1));
        self.remount(work)?;
        let read = self.timed(|| finish(Command::new("cat").arg(&large)))?;
        cases.push(("sequential read", read, 1));
        self.remount(work)?;
        let blocks = file_bytes / BLOCK as u64;
        cases.push(("random reads", self.timed(|| random(&large, blocks, false))?, READS));
        cases.push(("random writes", self.timed(|| random(&large, blocks, true))?, WRITES));
        let remove = self.timed(|| finish(Command::new("rm").arg("-r").arg(&tree)))?;
        cases.push(("remove", remove, 1));
        Ok(cases)
    }

    /// Returns the seconds until the work is on stable storage.
    fn timed(&self, work: impl FnOnce() -> Result<()>) -> Result<f64> {
        let started = Instant::now();
        work()?;
        let settled = |path: &Path| {
            let directory = File::open(path)?;
            rustix::fs::syncfs(&directory)?;
            directory.sync_all()
        };
        settled(&self.mount).map_err(Error::io("sync", &self.mount))?;
        settled(&self.place).map_err(Error::io("sync", &self.place))?;
        Ok(started.elapsed().as_secs_f64())
    }
}

/// Reads blocks at random places, or writes them with an fsync each.
fn random(path: &Path, blocks: u64, writes: bool) -> Result<()> {
    let failed = |error| Error::io("use", path)(error);
    let file = File::options().read(true).write(writes).open(path).map_err(failed)?;
    let (mut random, mut block) = (SplitMix64::seed_from_u64(7), vec![7; BLOCK]);
    for _ in 0..if writes { WRITES } else { READS } {
        let offset = random.next_u64() % blocks.max(1) * BLOCK as u64;
        if writes {
            let written = file.write_all_at(&block, offset).and_then(|()| file.sync_all());
            written.map_err(failed)?;
        } else {
            file.read_exact_at(&mut block, offset).map_err(failed)?;
        }
    }
    Ok(())
}

/// Runs a program without its output.
fn finish(command: &mut Command) -> Result<()> {
    command.stdout(Stdio::null());
    let ended = output(command)?;
    if ended.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    let (command, status) = (shown(command), ended.status.to_string());
    Err(Error::Status { command, status, expected: 0, errors })
}
