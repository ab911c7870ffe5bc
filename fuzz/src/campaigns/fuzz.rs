//! `cargo xtask fuzz`: campaigns of libFuzzer over the targets in `fuzz/fuzz_targets`.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use crate::corpus::{Inputs, write_seeds};
use crate::{TARGETS, Target, target};
use clap::Args;
use sha2::{Digest as _, Sha256};

use xtask::error::{Error, Result};
use xtask::workspace::{output, root, shown};

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this target [default: all, one after another]
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    time: NonZeroU32,
    /// List the targets and their promises
    #[arg(long, conflicts_with = "seeds")]
    list: bool,
    /// Write the seeds of every target into fuzz/seeds
    #[arg(long)]
    seeds: bool,
    /// Sanitizer to build with: address, or none, which is faster
    #[arg(long, default_value = "address")]
    sanitizer: String,
}

/// The timeout in seconds of one input. A slower input is a finding, because work must be bounded.
const SECONDS_PER_INPUT: u64 = 25;

/// The memory limit of a target in MiB. Exceeding it is a finding.
const MEMORY_MIB: u64 = 2048;

/// The timeout in seconds of one minimisation step.
const MINIMISE_SECONDS: u64 = 60;

/// The timeout in seconds of all steps together, for which libFuzzer has no option.
const MINIMISE_SECONDS_IN_ALL: u64 = 300;

/// The name prefixes of inputs that take too long. They are not minimised, because each attempt would take as long.
const SLOW: [&str; 2] = ["timeout-", "slow-unit-"];

/// The head of the table that a campaign prints at the end.
const TABLE_HEAD: &str = "\
| target | executions | edges | features | findings |
|---|---:|---:|---:|---:|
";

/// The statistics that libFuzzer prints.
#[derive(Debug, Default, PartialEq)]
struct Statistics {
    executions: u64,
    /// The number of control-flow edges that inputs reached.
    edges: u64,
    /// The number of edges combined with hit counts.
    features: u64,
}

impl Statistics {
    /// Updates the statistics from a line of libFuzzer's output, if it has any.
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

/// Runs the campaign, or lists targets or writes seeds.
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
    let targets = chosen(options.target.as_deref())?;
    check_tools()?;
    let (mut wrong, mut table) = (Vec::new(), String::from(TABLE_HEAD));
    for target in targets {
        println!("== {}: {}", target.name, target.promise);
        let name = target.name;
        // An error in one target must not lose the findings of the others.
        match campaign(target, options) {
            Err(error) => wrong.push(format!("{name}: {error}")),
            Ok((regressions, statistics)) => {
                let Statistics { executions, edges, features } = statistics;
                let findings = regressions.len();
                writeln!(table, "| {name} | {executions} | {edges} | {features} | {findings} |")
                    .expect("text takes any text");
                wrong.extend(regressions.iter().map(|path| format!("found: {}", path.display())));
            }
        }
    }
    println!("{table}");
    if wrong.is_empty() {
        println!("fuzz: no finding");
        return Ok(());
    }
    Err(Error::Fault(wrong.join("\n")))
}

fn chosen(name: Option<&str>) -> Result<Vec<&'static Target>> {
    let Some(name) = name else { return Ok(TARGETS.iter().collect()) };
    let unknown = || Error::Fault(format!("there is no target {name}: --list prints them"));
    Ok(vec![target(name).ok_or_else(unknown)?])
}

/// Returns a `cargo +nightly fuzz` command. It must not use the cargo that runs this program, which belongs to another
/// toolchain.
fn cargo_fuzz(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    for variable in ["CARGO", "RUSTUP_TOOLCHAIN", "RUSTC", "RUSTDOC"] {
        command.env_remove(variable);
    }
    command.args(["+nightly", "fuzz"]).args(arguments).current_dir(root());
    // Link-time optimisation of every program would take most of a campaign.
    command.env("CARGO_PROFILE_RELEASE_LTO", "off");
    command
}

/// Returns a command that builds a program with debug assertions.
fn cargo_fuzz_built(what: &str, target: &Target, options: &Options) -> Command {
    let mut command = cargo_fuzz(&[what, "--features", "libfuzzer", "--debug-assertions"]);
    command.args(["--sanitizer", &options.sanitizer, target.name]);
    command
}

/// Reports missing tools before anything is built.
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

/// Fuzzes one target. Returns the new regressions and libFuzzer's statistics.
fn campaign(target: &Target, options: &Options) -> Result<(Vec<PathBuf>, Statistics)> {
    let corpus = Inputs::Found.folder(target);
    fs::create_dir_all(&corpus).map_err(Error::io("create", &corpus))?;
    let artifacts = root().join("fuzz/artifacts").join(target.name);
    fs::create_dir_all(&artifacts).map_err(Error::io("create", &artifacts))?;
    let started_at = SystemTime::now();
    let (seeds, regressions) = (Inputs::Seeds.folder(target), Inputs::Regressions.folder(target));
    let mut command = cargo_fuzz_built("run", target, options);
    command.arg(&corpus);
    command.args([&seeds, &regressions].into_iter().filter(|folder| folder.is_dir()));
    command.args([
        "--".to_owned(),
        format!("-max_total_time={}", options.time),
        format!("-max_len={}", target.length_max),
        format!("-timeout={SECONDS_PER_INPUT}"),
        // Under other load, everything is slow, so slow inputs below the timeout are not findings.
        format!("-report_slow_units={SECONDS_PER_INPUT}"),
        format!("-rss_limit_mb={MEMORY_MIB}"),
        "-print_final_stats=1".to_owned(),
        // The target's output is of no interest; the panic message is in the report of a finding.
        "-close_fd_mask=1".to_owned(),
    ]);
    let started = |source| Error::Start { command: shown(&cargo_fuzz(&["run"])), source };
    let mut running = command.stderr(Stdio::piped()).spawn().map_err(started)?;
    let mut statistics = Statistics::default();
    let output = BufReader::new(running.stderr.take().expect("it is piped"));
    // Printed inputs may not be UTF-8.
    for line in output.split(b'\n').map_while(std::result::Result::ok) {
        let line = String::from_utf8_lossy(&line);
        statistics.note(&line);
        eprintln!("{line}");
    }
    let status = running.wait().map_err(started)?;
    // Find new files by their time, because a repeated finding gets the same name.
    let new = files_since(&artifacts, started_at)?;
    if !status.success() && new.is_empty() {
        let (step, command) = ("fuzz", shown(&command));
        return Err(Error::Step { step, command, status: status.to_string() });
    }
    let kept = new.iter().map(|artifact| keep(target, artifact, options));
    Ok((kept.collect::<Result<_>>()?, statistics))
}

/// Returns the files of a directory written since a time.
fn files_since(folder: &Path, time: SystemTime) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let path = entry.map_err(Error::io("list", folder))?.path();
        let modified = fs::metadata(&path).and_then(|metadata| metadata.modified());
        if modified.map_err(Error::io("read", &path))? >= time {
            files.push(path);
        }
    }
    Ok(files)
}

/// Stores a finding among the regressions, which the tests replay. It is minimised first, unless it is one that takes
/// too long.
fn keep(target: &Target, artifact: &Path, options: &Options) -> Result<PathBuf> {
    let name = artifact.file_name().unwrap_or_default().to_string_lossy();
    let is_slow = SLOW.iter().any(|kind| name.starts_with(kind));
    let chosen = if is_slow { None } else { minimised(target, artifact, options)? };
    let chosen = chosen.as_deref().unwrap_or(artifact);
    let bytes = fs::read(chosen).map_err(Error::io("read", chosen))?;
    let regressions = Inputs::Regressions.folder(target);
    fs::create_dir_all(&regressions).map_err(Error::io("create", &regressions))?;
    let digest = Sha256::digest(&bytes);
    let begin = digest.first_chunk().expect("longer than that");
    let path = regressions.join(format!("{:016x}", u64::from_be_bytes(*begin)));
    fs::write(&path, &bytes).map_err(Error::io("write", &path))?;
    println!("{}: {} bytes, from {}", path.display(), bytes.len(), artifact.display());
    Ok(path)
}

/// Returns a smaller input that also fails, if there is one.
fn minimised(target: &Target, artifact: &Path, options: &Options) -> Result<Option<PathBuf>> {
    let started_at = SystemTime::now();
    let mut command = cargo_fuzz_built("tmin", target, options);
    command.arg(artifact).args([
        "--".to_owned(),
        format!("-max_total_time={MINIMISE_SECONDS}"),
        format!("-timeout={SECONDS_PER_INPUT}"),
        format!("-rss_limit_mb={MEMORY_MIB}"),
    ]);
    // Even if the minimisation fails, the files written so far are smaller.
    output(&mut limited(&command, MINIMISE_SECONDS_IN_ALL))?;
    let mut smaller = files_since(artifact.parent().unwrap_or(artifact), started_at)?;
    smaller.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("minimized-from-")
    });
    let length = |path: &PathBuf| path.metadata().map_or(u64::MAX, |metadata| metadata.len());
    Ok(smaller.into_iter().min_by_key(length))
}

/// Returns the same command with a timeout that also ends its child processes.
fn limited(command: &Command, seconds: u64) -> Command {
    let mut limited = Command::new("timeout");
    limited.arg(seconds.to_string()).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited.current_dir(command.get_current_dir().unwrap_or(&root()));
    limited
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
    fn a_repeated_finding_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("crash-1");
        fs::write(&path, "before").unwrap();
        let earlier = SystemTime::UNIX_EPOCH;
        fs::File::open(&path).unwrap().set_modified(earlier).unwrap();
        let now = SystemTime::now() - std::time::Duration::from_secs(1);
        assert_eq!(files_since(folder.path(), now).unwrap(), Vec::<PathBuf>::new());
        fs::write(&path, "again").unwrap();
        assert_eq!(files_since(folder.path(), now).unwrap(), [path]);
    }

    #[test]
    fn a_command_ends_at_its_timeout() {
        let mut sleep = Command::new("sleep");
        let status = limited(sleep.arg("600"), 1).status().unwrap();
        assert_eq!(status.code(), Some(124), "the exit status of timeout(1)");
        let fuzz = shown(&limited(&cargo_fuzz(&["tmin"]), 7));
        assert_eq!(fuzz, "timeout 7 cargo +nightly fuzz tmin");
    }

    #[test]
    fn the_fuzzer_uses_the_nightly_toolchain() {
        let command = cargo_fuzz(&["list"]);
        assert_eq!(shown(&command), "cargo +nightly fuzz list");
        assert!(command.get_envs().any(|(name, value)| name == "CARGO" && value.is_none()));
    }
}
