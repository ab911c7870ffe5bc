//! `cargo xtask fuzz`: campaigns of libFuzzer over the targets in `fuzz/fuzz_targets`, and what they need.

mod coverage;

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ar7_fuzz::corpus::{Inputs, write_seeds};
use ar7_fuzz::{TARGETS, Target, target};
use clap::Args;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Result};
use crate::workspace::{output, root, shown};

/// What a campaign is given.
#[derive(Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub(crate) struct Options {
    /// Only this target [default: all, one after the other]
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    time: u64,
    /// Print the targets and what they promise
    #[arg(long, conflicts_with_all = ["seeds", "coverage"])]
    list: bool,
    /// Write the seeds of every target into fuzz/seeds
    #[arg(long, conflicts_with = "coverage")]
    seeds: bool,
    /// Report which lines of which files the corpora of all targets reach
    #[arg(long, conflicts_with = "target")]
    coverage: bool,
    /// With --coverage: which lines the tests of engine and registry reach, too
    #[arg(long, requires = "coverage")]
    tests: bool,
    /// Which sanitizer the programs have: address, or none, which is faster
    #[arg(long, default_value = "address")]
    sanitizer: String,
}

/// An input that takes longer is a finding: work is bounded.
const SECONDS_PER_INPUT: u64 = 25;

/// Memory of a target at most: a finding too.
const MEMORY_MIB: u64 = 2048;

/// Seconds to make a finding smaller.
const MINIMISE_SECONDS: u64 = 60;

/// What a campaign prints in the end.
const TABLE_HEAD: &str = "\
| target | executions | edges | features | findings |
|---|---:|---:|---:|---:|
";

/// What libFuzzer says of a campaign.
#[derive(Debug, Default, PartialEq)]
struct Statistics {
    executions: u64,
    /// Edges of the program's control flow that inputs went through.
    edges: u64,
    /// The same, with how often.
    features: u64,
}

impl Statistics {
    /// Takes up what a line of libFuzzer's output says, if it says anything of it.
    fn note(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            let field = match word {
                "stat::number_of_executed_units:" => &mut self.executions,
                "cov:" => &mut self.edges,
                "ft:" => &mut self.features,
                _ => continue,
            };
            *field = words.next().and_then(|number| number.parse().ok()).unwrap_or(*field);
        }
    }
}

/// Does what the options say.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for target in TARGETS {
            println!("{:20} {}", target.name, target.promise);
        }
        return Ok(());
    }
    if options.seeds {
        let written = write_seeds();
        let count = written.map_err(|error| Error::Fault(format!("seeds: {error}")))?;
        println!("{count} seeds of {} targets are written", TARGETS.len());
        return Ok(());
    }
    if options.coverage {
        return coverage::run(options.tests);
    }
    let targets = chosen(options.target.as_deref())?;
    check_tools()?;
    let (mut found, mut table) = (Vec::new(), String::from(TABLE_HEAD));
    for target in targets {
        println!("== {}: {}", target.name, target.promise);
        let (regressions, statistics) = campaign(target, options)?;
        let Statistics { executions, edges, features } = statistics;
        let findings = regressions.len();
        let name = target.name;
        writeln!(table, "| {name} | {executions} | {edges} | {features} | {findings} |")
            .expect("text takes any text");
        found.extend(regressions);
    }
    println!("{table}");
    if found.is_empty() {
        println!("fuzz: no finding");
        return Ok(());
    }
    let lines: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
    Err(Error::Fault(format!("{} finding(s):\n{}", found.len(), lines.join("\n"))))
}

fn chosen(name: Option<&str>) -> Result<Vec<&'static Target>> {
    let Some(name) = name else { return Ok(TARGETS.iter().collect()) };
    let unknown = || Error::Fault(format!("there is no target {name}: --list prints them"));
    Ok(vec![target(name).ok_or_else(unknown)?])
}

/// `cargo +nightly fuzz`. Not by the cargo that runs this program: that is of another toolchain.
fn cargo_fuzz(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command.args(["+nightly", "fuzz"]).args(arguments).current_dir(root());
    // Linking each of the programs anew with all of the code would take most of a campaign.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off");
    command
}

/// One that builds a program, with the checks of a debug build.
fn cargo_fuzz_built(what: &str, target: &Target, options: &Options) -> Command {
    let mut command = cargo_fuzz(&[what, "--features", "libfuzzer", "--debug-assertions"]);
    command.args(["--sanitizer", &options.sanitizer, target.name]);
    command
}

/// Says what is missing before anything is built.
fn check_tools() -> Result<()> {
    let succeeds = |command: &mut Command| {
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|done| done.success())
    };
    let mut nightly = Command::new("rustc");
    if !succeeds(nightly.env_remove("RUSTUP_TOOLCHAIN").args(["+nightly", "--version"])) {
        let text = "fuzzing needs the nightly toolchain: rustup toolchain install nightly";
        return Err(Error::Fault(text.into()));
    }
    if !succeeds(&mut cargo_fuzz(&["--version"])) {
        let text = "fuzzing needs cargo-fuzz: cargo install cargo-fuzz --locked";
        return Err(Error::Fault(text.into()));
    }
    Ok(())
}

/// Fuzzes one target. Returns the regressions that were written, and what libFuzzer says of it.
fn campaign(target: &Target, options: &Options) -> Result<(Vec<PathBuf>, Statistics)> {
    let corpus = Inputs::Found.folder(target);
    fs::create_dir_all(&corpus).map_err(Error::io("create", &corpus))?;
    let artifacts = root().join("fuzz/artifacts").join(target.name);
    fs::create_dir_all(&artifacts).map_err(Error::io("create", &artifacts))?;
    let before = files_in(&artifacts)?;
    let (seeds, regressions) = (Inputs::Seeds.folder(target), Inputs::Regressions.folder(target));
    let mut command = cargo_fuzz_built("run", target, options);
    command.arg(&corpus);
    command.args([&seeds, &regressions].into_iter().filter(|folder| folder.is_dir()));
    command.args([
        "--".to_owned(),
        format!("-max_total_time={}", options.time),
        format!("-max_len={}", target.length_max),
        format!("-timeout={SECONDS_PER_INPUT}"),
        // What is only slow, as everything is beside other work, is no finding.
        format!("-report_slow_units={SECONDS_PER_INPUT}"),
        format!("-rss_limit_mb={MEMORY_MIB}"),
        "-print_final_stats=1".to_owned(),
        // What a target prints is of no interest; what it panics with is in the report of a finding.
        "-close_fd_mask=1".to_owned(),
    ]);
    let started = |source| Error::Start { command: shown(&cargo_fuzz(&["run"])), source };
    let mut running = command.stderr(Stdio::piped()).spawn().map_err(started)?;
    let mut statistics = Statistics::default();
    let output = BufReader::new(running.stderr.take().expect("it is piped"));
    // What is not UTF-8 is an input that it prints.
    for line in output.split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        statistics.note(&line);
        eprintln!("{line}");
    }
    let status = running.wait().map_err(started)?;
    let new: Vec<PathBuf> =
        files_in(&artifacts)?.into_iter().filter(|path| !before.contains(path)).collect();
    if !status.success() && new.is_empty() {
        let (step, command) = ("fuzz", shown(&command));
        return Err(Error::Step { step, command, status: status.to_string() });
    }
    let kept = new.iter().map(|artifact| keep(target, artifact, options));
    Ok((kept.collect::<Result<_>>()?, statistics))
}

fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        files.push(entry.map_err(Error::io("list", folder))?.path());
    }
    Ok(files)
}

/// Makes a finding smaller and puts it among the regressions, which the tests replay.
fn keep(target: &Target, artifact: &Path, options: &Options) -> Result<PathBuf> {
    let mut command = cargo_fuzz_built("tmin", target, options);
    command.arg(artifact).args(["--", &format!("-max_total_time={MINIMISE_SECONDS}")]);
    let folder = artifact.parent().unwrap_or(artifact);
    let before = files_in(folder)?;
    // If nothing smaller is found, the finding is kept as it is.
    let minimised = output(&mut command).ok().filter(|output| output.status.success());
    let smaller = files_in(folder)?.into_iter().filter(|path| !before.contains(path));
    let smallest = smaller
        .filter(|_| minimised.is_some())
        .min_by_key(|path| path.metadata().map_or(u64::MAX, |metadata| metadata.len()));
    let chosen = smallest.unwrap_or_else(|| artifact.to_owned());
    let bytes = fs::read(&chosen).map_err(Error::io("read", &chosen))?;
    let regressions = Inputs::Regressions.folder(target);
    fs::create_dir_all(&regressions).map_err(Error::io("create", &regressions))?;
    let digest = Sha256::digest(&bytes);
    let begin = digest.first_chunk().expect("longer than that");
    let path = regressions.join(format!("{:016x}", u64::from_be_bytes(*begin)));
    fs::write(&path, &bytes).map_err(Error::io("write", &path))?;
    println!("{}: {} bytes, from {}", path.display(), bytes.len(), artifact.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_target_or_all_are_chosen() {
        assert_eq!(chosen(None).unwrap().len(), TARGETS.len());
        assert_eq!(chosen(Some("tree_ops")).unwrap()[0].name, "tree_ops");
        assert!(chosen(Some("tree")).is_err());
    }

    #[test]
    fn statistics_are_the_last_that_are_printed() {
        let mut statistics = Statistics::default();
        for line in [
            "#2\tINITED cov: 812 ft: 813 corp: 1/1b exec/s: 0 rss: 40Mb",
            "#1048576\tpulse  cov: 900 ft: 1500 corp: 88/9Kb lim: 4096 exec/s: 349525 rss: 512Mb",
            "Done 2000000 runs in 6 second(s)",
            "stat::number_of_executed_units: 2000000",
        ] {
            statistics.note(line);
        }
        let expected = Statistics { executions: 2_000_000, edges: 900, features: 1500 };
        assert_eq!(statistics, expected);
    }

    #[test]
    fn the_fuzzer_is_of_its_own_toolchain() {
        let command = cargo_fuzz(&["list"]);
        assert_eq!(shown(&command), "cargo +nightly fuzz list");
        assert!(command.get_envs().any(|(name, value)| name == "CARGO" && value.is_none()));
    }
}
