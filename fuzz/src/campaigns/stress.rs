//! `cargo xtask stress`: real processes that read and write one archive at the same time.
//!
//! Each commit of a writer gives several streams the same new number. Each reader checks that the streams of a snapshot
//! agree, from its first read to its last, and that numbers never go back. Some writers end in the middle of their work.
//! No process may be refused.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::{Archive, CreateOptions, Snapshot};
use clap::{Args, ValueEnum};
use uuid::Uuid;
use xtask::error::{Error, Result};

use crate::Random;

/// Number of streams that each commit changes together, and their length in words of eight bytes.
const STREAMS: usize = 6;
const WORDS: usize = 2000;

/// One in this many sessions of a writer ends without closing, in the middle of a commit.
const DEATHS_ONE_IN: u64 = 4;

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Number of reading processes
    #[arg(long, default_value_t = 4)]
    readers: u64,
    /// Number of writing processes, which take turns
    #[arg(long, default_value_t = 2)]
    writers: u64,
    /// How long to run
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Folder for the archive [default: a temporary folder]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// For the processes that the campaign starts
    #[arg(long, hide = true)]
    role: Option<Role>,
    /// Seed of a process
    #[arg(long, hide = true, default_value_t = 1)]
    seed: u64,
    /// When a process ends, in milliseconds since 1970
    #[arg(long, hide = true, default_value_t = 0)]
    until: u64,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Opens snapshots and checks them.
    Reader,
    /// Opens the archive for writing, commits a few times, and leaves.
    Writer,
}

/// Runs the campaign, or one of its processes.
pub(crate) fn run(options: &Options) -> Result<()> {
    let fault = |error: ar7_registry::Error| Error::Fault(format!("stress: {error}"));
    let folder = match &options.directory {
        Some(directory) => tempfile::tempdir_in(directory),
        None => tempfile::tempdir(),
    };
    match (options.role, &options.directory) {
        (Some(Role::Reader), Some(archive)) => read(archive, options),
        (Some(Role::Writer), Some(archive)) => write(archive, options).map_err(fault),
        _ => {
            let folder = folder.map_err(Error::io("create a folder in", &std::env::temp_dir()))?;
            campaign(&folder.path().join("archive.ar7"), options)
        }
    }
}

fn campaign(archive: &Path, options: &Options) -> Result<()> {
    create(archive).map_err(|error| Error::Fault(format!("stress: create: {error}")))?;
    let until = now() + options.seconds * 1000;
    let started = Instant::now();
    let mut processes = Vec::new();
    for number in 0..options.readers + options.writers {
        let role = if number < options.readers { Role::Reader } else { Role::Writer };
        processes.push((role, start(archive, role, number, until)?));
    }
    let (mut deaths, mut seed, mut outputs) = (0, 1000, Vec::new());
    while let Some((role, child)) = processes.pop() {
        let ended = child.wait_with_output().map_err(Error::io("wait for", archive))?;
        if role == Role::Writer && ended.status.code().is_none() {
            // It ended itself. The next one takes over.
            deaths += 1;
            seed += 1;
            processes.push((role, start(archive, role, seed, until)?));
            continue;
        }
        let output = String::from_utf8_lossy(&ended.stdout).into_owned();
        if !ended.status.success() {
            return Err(Error::Fault(format!("stress: a {role:?}: {output}")));
        }
        outputs.push(output);
    }
    let lines = || outputs.iter().flat_map(|output| output.lines());
    let sum = |name: &str| -> u64 {
        let numbers =
            lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        numbers.sum()
    };
    let last = check(&snapshot(archive)?, None).map_err(Error::Fault)?;
    println!(
        "stress: {} readers opened {} snapshots; {} writers made {last} commits, {deaths} of them ended without closing; \
         {:.0} s: no fault",
        options.readers,
        sum("snapshots"),
        options.writers,
        started.elapsed().as_secs_f64()
    );
    if sum("snapshots") == 0 || last == 0 {
        return Err(Error::Fault("stress: nothing happened".into()));
    }
    Ok(())
}

fn start(archive: &Path, role: Role, seed: u64, until: u64) -> Result<Child> {
    let program = std::env::current_exe().map_err(Error::io("find", archive))?;
    let name = match role {
        Role::Reader => "reader",
        Role::Writer => "writer",
    };
    let mut command = Command::new(program);
    command.args(["stress", "--role", name, "--seed", &seed.to_string()]);
    command.args(["--until", &until.to_string(), "--directory"]).arg(archive);
    command.stdout(Stdio::piped());
    command.spawn().map_err(Error::io("start", archive))
}

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([5; 32]))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn create(path: &Path) -> ar7_registry::Result<()> {
    let archive = Archive::create(path, &secret(), &CreateOptions::default())?;
    for _ in 0..STREAMS {
        archive.new_stream()?.append(&words(0))?;
    }
    archive.commit()?;
    archive.close()
}

/// Returns the content of each stream at commit `number`.
fn words(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(WORDS)
}

fn snapshot(path: &Path) -> Result<Snapshot> {
    let opened = Archive::open(path, &secret(), OpenOptions::default());
    opened
        .map(|archive| archive.snapshot())
        .map_err(|error| Error::Fault(format!("stress: open: {error}")))
}

/// Checks that the streams of a snapshot agree, with `expected` if it is known. Returns their number.
fn check(snapshot: &Snapshot, expected: Option<u64>) -> std::result::Result<u64, String> {
    let failed = |error: ar7_registry::Error| format!("a snapshot cannot be read: {error}");
    let identities: ar7_registry::Result<Vec<Uuid>> = snapshot
        .streams(None)
        .take(STREAMS)
        .map(|stored| stored.map(|stored| stored.record.identity))
        .collect();
    let mut expected = expected;
    let mut bytes = vec![0; WORDS * 8];
    for identity in identities.map_err(failed)? {
        let stream = snapshot.read_stream(identity).map_err(failed)?;
        let read = stream.read_at(0, &mut bytes).map_err(failed)?;
        let (numbers, _) = bytes[..read].as_chunks::<8>();
        for number in numbers.iter().map(|word| u64::from_be_bytes(*word)) {
            if *expected.get_or_insert(number) != number || read != bytes.len() {
                return Err(format!("a mixture: expected {expected:?}, found {number}"));
            }
        }
    }
    expected.ok_or_else(|| "no stream".to_owned())
}

fn read(path: &Path, options: &Options) -> Result<()> {
    let mut random = Random::new(options.seed);
    let (mut snapshots, mut newest) = (0_u64, 0);
    let fault = |error: String| {
        println!("{error}");
        Error::Fault(error)
    };
    while now() < options.until {
        let opened = Archive::open(path, &secret(), OpenOptions::default());
        let archive = opened.map_err(|error| fault(format!("open: {error}")))?;
        for _ in 0..random.below(20) {
            let snapshot = archive.snapshot();
            let number = check(&snapshot, None).map_err(fault)?;
            if number < newest {
                return Err(fault(format!("expected commit {newest} or later, found {number}")));
            }
            newest = number;
            if random.one_in(4) {
                std::thread::sleep(Duration::from_millis(random.below(30)));
            }
            for _ in 0..random.below(4) {
                check(&snapshot, Some(number)).map_err(fault)?;
            }
            snapshots += 1;
            archive.refresh().map_err(|error| fault(format!("refresh: {error}")))?;
        }
    }
    println!("snapshots {snapshots}");
    Ok(())
}

fn write(path: &Path, options: &Options) -> ar7_registry::Result<()> {
    let mut random = Random::new(options.seed);
    let wait = Duration::from_secs(60);
    let writing = OpenOptions { access: Access::Write, wait, ..OpenOptions::default() };
    while now() < options.until {
        let archive = Archive::open(path, &secret(), writing)?;
        let identities: Vec<Uuid> =
            archive.streams(None, STREAMS)?.iter().map(|stored| stored.record.identity).collect();
        let first = archive.read_stream(identities[0])?;
        let mut number = [0; 8];
        first.read_at(0, &mut number)?;
        let mut number = u64::from_be_bytes(number);
        let dies = random.one_in(DEATHS_ONE_IN);
        for _ in 0..random.below(30) {
            number += 1;
            for &identity in &identities {
                archive.open_stream(identity)?.write_at(0, &words(number))?;
            }
            // Blocks are freed and used again.
            let mut other = archive.new_stream()?;
            other.append(&vec![1; 50_000])?;
            let identity = other.identity();
            drop(other);
            archive.commit()?;
            archive.delete_stream(identity)?;
            archive.commit()?;
        }
        if dies {
            archive.open_stream(identities[0])?.write_at(0, &words(0))?;
            std::process::abort();
        }
        archive.close()?;
        // Another writer gets its turn.
        std::thread::sleep(Duration::from_millis(random.below(20)));
    }
    Ok(())
}
