//! Measurements that the programs in `benches/` take and print.

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::results::{Measure, Printed, Results, work_folder};
use xtask::error::{Error, Result};
use xtask::workspace::{cargo, shown};

#[derive(Args)]
pub(crate) struct RegistryOptions {
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Directory to work in, on the file system to measure
    #[arg(long)]
    directory: Option<PathBuf>,
}

#[derive(Args)]
pub(crate) struct BlocksOptions {
    #[arg(long, default_value_t = 15)]
    rounds: u32,
}

#[derive(Args)]
pub(crate) struct ScaleOptions {
    /// Maximum number of streams; starts at 10,000 and grows tenfold
    #[arg(long, default_value_t = 10_000_000)]
    streams: u64,
    /// Maximum size of one stream in MiB; starts at 10
    #[arg(long, default_value_t = 5 * 1024)]
    mebibytes: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Directory to work in, on the file system to measure
    #[arg(long)]
    directory: Option<PathBuf>,
}

/// `bench registry`.
pub(crate) fn registry(options: &RegistryOptions) -> Result<()> {
    let folder = work_folder(options.directory.as_ref())?;
    let mut results = Results { kind: "registry".to_owned(), ..Results::default() };
    results.inputs.insert("records".to_owned(), options.records);
    let (records, rounds) = (options.records.to_string(), options.rounds.to_string());
    let directory = folder.path().to_string_lossy().into_owned();
    let arguments = ["--records", &records, "--rounds", &rounds, "--directory", &directory];
    add(&mut results, &["--features", "stores", "--bin", "stores"], &arguments)?;
    results.save(folder.path())
}

/// `bench blocks`.
pub(crate) fn blocks(options: &BlocksOptions) -> Result<()> {
    let mut results = Results { kind: "blocks".to_owned(), ..Results::default() };
    let rounds = options.rounds.to_string();
    add(&mut results, &["--bin", "blocks"], &["--rounds", &rounds])?;
    results.save(Path::new("."))
}

/// Runs `bench scale`: each point in a separate process, to measure its memory separately.
pub(crate) fn scale(options: &ScaleOptions) -> Result<()> {
    let folder = work_folder(options.directory.as_ref())?;
    let directory = folder.path().to_string_lossy().into_owned();
    let mut results = Results { kind: "scale".to_owned(), ..Results::default() };
    let streams = (4..=7).map(|power| 10_u64.pow(power)).filter(|&count| count <= options.streams);
    let lengths = [10, 100, 1024, 5 * 1024, 16 * 1024, 64 * 1024];
    let lengths = lengths.into_iter().filter(|&length| length <= options.mebibytes);
    let points = streams.map(|count| ("streams", count));
    let points: Vec<(&str, u64)> =
        points.chain(lengths.map(|length| ("mebibytes", length))).collect();
    // The largest archives only show that cost does not grow, so one round is enough. They come last, because they
    // evict the other archives from the page cache.
    let is_huge = |&&(what, size): &&(&str, u64)| what == "streams" && size > 1_000_000;
    for round in 0..options.rounds {
        for &point in points.iter().filter(|point| !is_huge(point)) {
            add_point(&mut results, round, point, &directory)?;
        }
    }
    for &point in points.iter().filter(is_huge) {
        add_point(&mut results, 0, point, &directory)?;
    }
    results.save(folder.path())
}

/// Measures one size, with 1, 2, 4 ... and all processors. Many streams are created by one thread.
fn add_point(
    results: &mut Results,
    round: u32,
    (what, size): (&str, u64),
    directory: &str,
) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let first = if what == "streams" { cores } else { 1 };
    let doubled = std::iter::successors(Some(first), |threads| Some(threads * 2));
    for threads in doubled.take_while(|&threads| threads < cores).chain([cores]) {
        let (size, threads) = (size.to_string(), threads.to_string());
        let arguments = [what, &size, "--threads", &threads, "--directory", directory];
        let before = results.measures.len();
        add(results, &["--bin", "scale"], &arguments)?;
        results.measures[before..].iter_mut().for_each(|measure| measure.round = round);
        for Measure { subject, case, seconds, .. } in &results.measures[before..] {
            println!("{round} {subject} {size}, {threads} threads: {case}: {seconds:.6} s");
        }
    }
    Ok(())
}

/// Runs one of the programs and adds its results.
pub(super) fn add(results: &mut Results, which: &[&str], arguments: &[&str]) -> Result<()> {
    let mut command = cargo(&["run", "--release", "--locked", "--quiet", "-p", "ar7-benches"]);
    command.args(which).arg("--").args(arguments).stderr(std::process::Stdio::inherit());
    add_printed(results, command)
}

/// Runs a command and adds the measures that it prints.
pub(super) fn add_printed(results: &mut Results, mut command: Command) -> Result<()> {
    let ended = command.output();
    let ended = ended.map_err(|source| Error::Start { command: shown(&command), source })?;
    if !ended.status.success() {
        let (command, status) = (shown(&command), ended.status.to_string());
        return Err(Error::Step { step: "bench", command, status });
    }
    let printed: Printed = serde_json::from_slice(&ended.stdout).map_err(|error| {
        Error::Output { what: "the output of a benchmark is malformed", found: error.to_string() }
    })?;
    for measure in &printed.measures {
        if let Some(version) = &measure.version {
            results.versions.insert(measure.subject.clone(), version.clone());
        }
    }
    results.measures.extend(printed.measures);
    Ok(())
}
