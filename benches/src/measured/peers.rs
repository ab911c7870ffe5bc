//! `cargo xtask bench peers`: stores the same tree and the same file with every program, alternating.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;
use walkdir::WalkDir;

use super::programs::{Case, Durable, PEERS, Peer, Place, Task};
use super::results::{Measure, Results, first_line, work_folder};
use xtask::ar7::Ar7;
use xtask::compare::compare;
use xtask::error::{Error, Result};
use xtask::quantity::size;
use xtask::trees::{self, large_tree};
use xtask::workspace::output;

/// Options of the run.
#[derive(Args)]
pub(crate) struct Options {
    /// The tree [default: a large tree of the toolchain]
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Size of the large random file in bytes
    #[arg(long, default_value_t = 4 << 30)]
    file_bytes: u64,
    /// Number of rounds
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Number of rounds for slow programs
    #[arg(long, default_value_t = 1)]
    slow_rounds: u32,
    /// Number of rounds that extract the tree; every copy stays until the end
    #[arg(long, default_value_t = 3)]
    out_rounds: u32,
    /// Only these programs
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Directory to work in, on the file system to measure
    #[arg(long)]
    directory: Option<PathBuf>,
}

struct Run<'a> {
    options: &'a Options,
    place: Place,
    environment: Vec<(String, OsString)>,
    results: Results,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = work_folder(options.directory.as_ref())?;
    let outcome = measure(options, folder.path());
    // An interrupted run may have left the mount.
    let open = folder.path().join("gocryptfs-open");
    if open.exists() {
        Command::new("fusermount").arg("-u").arg(open).output().ok();
    }
    outcome?.save(folder.path())
}

fn measure(options: &Options, work: &Path) -> Result<Results> {
    let ar7 = Ar7::build(work)?.program().to_owned();
    let tree = match &options.tree {
        Some(tree) => tree.canonicalize().map_err(Error::io("find", tree))?,
        None => large_tree().ok_or_else(no_tree)?,
    };
    let file = work.join("file");
    write_random(&file, options.file_bytes)?;
    let recipient = recipient(work);
    let (entries, bytes) = trees::measure(&tree)?;
    println!("{}: {entries} entries, {}", tree.display(), size(bytes));
    let place = Place { work: work.to_owned(), tree, file, ar7, recipient };
    let environment = place.environment();
    let mut results = Results { kind: "peers".to_owned(), ..Results::default() };
    for (name, value) in
        [("tree entries", entries), ("tree bytes", bytes), ("file bytes", options.file_bytes)]
    {
        results.inputs.insert(name.to_owned(), value);
    }
    let mut run = Run { options, place, environment, results };
    run.rounds()?;
    Ok(run.results)
}

impl Run<'_> {
    fn rounds(&mut self) -> Result<()> {
        let mut peers: Vec<&Peer> = Vec::new();
        for peer in &PEERS {
            if !self.options.only.is_empty()
                && !self.options.only.iter().any(|name| name == peer.subject)
            {
                continue;
            }
            if let Some(reason) = peer.missing() {
                println!("{}: skipped: {reason}", peer.subject);
                self.results.skipped.insert(peer.subject.to_owned(), reason);
                continue;
            }
            self.results.versions.insert(peer.subject.to_owned(), peer.version());
            peers.push(peer);
        }
        for round in 0..self.options.rounds {
            for peer in &peers {
                if peer.is_slow && round >= self.options.slow_rounds {
                    continue;
                }
                for task in self.place.tasks(peer.subject, round) {
                    if task.case == Case::TreeOut && round >= self.options.out_rounds {
                        continue;
                    }
                    self.task(&task, round)?;
                }
            }
        }
        Ok(())
    }

    fn task(&mut self, task: &Task, round: u32) -> Result<()> {
        self.results.measures.push(measure_task(&self.place, &self.environment, task, round)?);
        let work = &self.place.work;
        if (round, task.case, task.subject) == (0, Case::TreeOut, "ar7") {
            let name = self.place.tree.file_name().unwrap_or_default();
            let out = work.join("out-ar7-0").join(name);
            compare(&self.place.tree, &out)?.into_result()?;
        }
        // Keep only trees and files that are read later, to limit the disk space used.
        if matches!((task.subject, task.case), ("cp", _)) {
            task.stale.iter().try_for_each(|path| remove(path))?;
        }
        Ok(())
    }
}

/// Runs one task and prints its cost.
pub(super) fn measure_task(
    place: &Place,
    environment: &[(String, OsString)],
    task: &Task,
    round: u32,
) -> Result<Measure> {
    let work = &place.work;
    for path in &task.stale {
        remove(path)?;
    }
    for pipeline in &task.before {
        pipeline.run(work, environment)?;
    }
    // All input of a program is in the page cache before it starts.
    read_once(match (&task.warm, task.case) {
        (Some(archive), _) => archive,
        (None, Case::FileIn) => &place.file,
        (None, _) => &place.tree,
    })?;
    rustix::fs::sync();
    let started = Instant::now();
    let usage = task.timed.run(work, environment)?;
    make_durable(&task.durable)?;
    let seconds = match task.durable {
        Durable::Nothing => usage.seconds,
        _ => started.elapsed().as_secs_f64(),
    };
    for pipeline in &task.after {
        pipeline.run(work, environment)?;
    }
    let output_bytes = task.output.as_deref().map(length).transpose()?;
    println!(
        "{round} {:10} {:12} {seconds:8.3} s, {:7.2} s of processors, {} anonymous",
        task.subject,
        task.case.name(),
        usage.cpu_seconds,
        size(usage.anonymous_bytes),
    );
    Ok(Measure {
        subject: task.subject.to_owned(),
        case: task.case.name().to_owned(),
        round,
        threads: 1,
        count: 1,
        seconds,
        cpu_seconds: Some(usage.cpu_seconds),
        anonymous_bytes: Some(usage.anonymous_bytes),
        output_bytes,
        command: (round == 0).then(|| task.timed.shown(work)),
        ..Measure::default()
    })
}

fn make_durable(durable: &Durable) -> Result<()> {
    match durable {
        Durable::Nothing => Ok(()),
        Durable::File(path) => {
            let file = File::open(path).map_err(Error::io("open", path))?;
            file.sync_data().map_err(Error::io("sync", path))
        }
        Durable::Folder(path) => {
            let folder = File::open(path).map_err(Error::io("open", path))?;
            let synced = rustix::fs::syncfs(&folder).map_err(std::io::Error::from);
            synced.map_err(Error::io("sync", path))
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    let Ok(status) = path.symlink_metadata() else { return Ok(()) };
    let removed = if status.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::io("remove", path))
}

/// Reads every file below a path, so that it is in the page cache.
pub(super) fn read_once(path: &Path) -> Result<()> {
    let mut buffer = vec![0; 1 << 20];
    for entry in WalkDir::new(path).into_iter().flatten() {
        if entry.file_type().is_file() {
            let mut file = File::open(entry.path()).map_err(Error::io("open", entry.path()))?;
            while file.read(&mut buffer).map_err(Error::io("read", entry.path()))? > 0 {}
        }
    }
    Ok(())
}

fn length(path: &Path) -> Result<u64> {
    Ok(if path.is_dir() {
        trees::measure(path)?.1
    } else {
        fs::metadata(path).map_err(Error::io("stat", path))?.len()
    })
}

/// Writes a file of random bytes, which no program can compress.
pub(super) fn write_random(path: &Path, bytes: u64) -> Result<()> {
    let source = Path::new("/dev/urandom");
    let random = File::open(source).map_err(Error::io("open", source))?;
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    io::copy(&mut random.take(bytes), &mut file).map_err(Error::io("write", path))?;
    Ok(())
}

pub(super) fn no_tree() -> Error {
    Error::Fault("the toolchain has no large tree: use --tree".to_owned())
}

/// Creates a key for `age`, if it is installed.
fn recipient(work: &Path) -> String {
    let key = work.join("age.key");
    let mut keygen = Command::new("age-keygen");
    keygen.args([OsStr::new("-o"), key.as_os_str()]);
    if output(&mut keygen).is_err() {
        return String::new();
    }
    first_line(Command::new("age-keygen").arg("-y").arg(&key))
}
