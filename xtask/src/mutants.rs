//! `cargo xtask mutants`: small changes of the code, one at a time, each of which a test must notice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::error::{Error, Result};
use crate::workspace::{SLOW_TESTS, cargo, root, shown, target_directory};

/// A folder whose code is changed.
struct Folder {
    path: &'static str,
    /// The package that it is part of.
    package: &'static str,
    /// The modules of the unit tests that are about it: quick, and they notice most.
    modules: &'static [&'static str],
    /// Those of them that take seconds: they are asked with everybody's.
    seconds: &'static [&'static str],
}

/// What is changed: the formats, the cryptography, the store and the tree.
const FOLDERS: [Folder; 4] = [
    Folder { path: "engine/src/format", package: "ar7-engine", modules: &["format"], seconds: &[] },
    Folder {
        path: "engine/src/crypto",
        package: "ar7-engine",
        modules: &["crypto", "rekey"],
        seconds: &["rekey_that_is_cut_off"],
    },
    Folder {
        path: "engine/src/store",
        package: "ar7-engine",
        modules: &["store"],
        seconds: &["rekey_that_is_cut_off"],
    },
    Folder {
        path: "registry/src/tree",
        package: "ar7-registry",
        modules: &["tree"],
        seconds: &["of_any_length", "two_hundred_thousand"],
    },
];

/// Packages whose tests are asked about what the folder's own have not noticed.
const PACKAGES: [&str; 3] = ["ar7-engine", "ar7-registry", "ar7-fuzz"];

/// Changes that no test can notice, each with the reason.
const LIST: &str = "docs/MUTANTS.md";

/// The share of changes that tests must notice, in percent.
const SCORE_MIN: usize = 90;

/// Seconds that tests have at least, before a change is taken for one that makes them go on for ever.
const SECONDS_MIN: &str = "20";

/// What a run is given.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this folder, or a file in it [default: the formats, the cryptography, the store and the tree]
    folder: Option<String>,
    /// Changes that are tested at a time
    #[arg(long, default_value_t = 1)]
    jobs: u16,
    /// Only this part of the changes: K/N, with K from 0
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
    /// Print the changes, and test none
    #[arg(long)]
    list: bool,
    /// Ask the unit tests of the folder only: quick, and more is left over
    #[arg(long)]
    near: bool,
    /// Only what was not noticed the last time
    #[arg(long)]
    again: bool,
}

/// Runs cargo-mutants on each folder. Its reports are left in `target/mutants`.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut version = cargo(&["mutants", "--version"]);
    version.stdout(Stdio::null()).stderr(Stdio::null());
    if !version.status().is_ok_and(|status| status.success()) {
        let text = "mutation testing needs cargo-mutants: cargo install cargo-mutants --locked";
        return Err(Error::Fault(text.into()));
    }
    let mut wrong = Vec::new();
    for folder in folders(options)? {
        let reports = target_directory()?.join("mutants").join(folder.path.replace('/', "-"));
        fs::create_dir_all(&reports).map_err(Error::io("create", &reports))?;
        for pass in Pass::of(options) {
            let mut command = command(options, folder, *pass, &reports);
            let status = command.status();
            let status =
                status.map_err(|source| Error::Start { command: shown(&command), source })?;
            // 2: some were not noticed; 3: some took too long, which is noticed.
            if !matches!(status.code(), Some(0 | 2 | 3)) {
                let (step, command) = ("mutants", shown(&command));
                return Err(Error::Step { step, command, status: status.to_string() });
            }
        }
        if !options.list {
            wrong.extend(Outcome::read(&reports.join("mutants.out"))?.judge(folder.path)?);
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::Fault(wrong.join("\n"))) }
}

/// Whose tests are asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pass {
    /// The unit tests of the folder's module.
    Near,
    /// Everybody's, about what those have not noticed.
    Far,
}

impl Pass {
    fn of(options: &Options) -> &'static [Pass] {
        if options.near || options.list { &[Pass::Near] } else { &[Pass::Near, Pass::Far] }
    }
}

fn folders(options: &Options) -> Result<Vec<&'static Folder>> {
    let wanted = |path: &str| options.folder.as_ref().is_none_or(|only| only.starts_with(path));
    let folders: Vec<&Folder> = FOLDERS.iter().filter(|folder| wanted(folder.path)).collect();
    if folders.is_empty() {
        let known: Vec<&str> = FOLDERS.iter().map(|folder| folder.path).collect();
        return Err(Error::Fault(format!("the folders are {}", known.join(", "))));
    }
    Ok(folders)
}

fn command(options: &Options, folder: &Folder, pass: Pass, reports: &Path) -> Command {
    let mut command = cargo(&["mutants", "--profile", "mutants", "--no-shuffle", "--output"]);
    command.arg(reports).args(["--jobs", &options.jobs.to_string()]);
    let path = options.folder.as_deref().unwrap_or(folder.path);
    let is_file = Path::new(path).extension().is_some();
    let glob = if is_file { path.to_owned() } else { format!("{}/**", path.trim_end_matches('/')) };
    command.args(["--file", &glob, "--minimum-test-timeout", SECONDS_MIN]);
    // What is planted on purpose is no code of the project, and tests are not to be tested.
    command.args(["--exclude", "**/tests/**", "--exclude", "**/tests.rs"]);
    command.args(["--exclude", "**/planted.rs", "--exclude", "**/testing.rs"]);
    command.args(["--exclude-re", "is_planted|testing::"]);
    if let Some(shard) = &options.shard {
        command.args(["--shard", shard]);
    }
    if options.list {
        command.arg("--list");
    }
    if options.again || pass == Pass::Far {
        command.arg("--iterate");
    }
    match pass {
        Pass::Near => {
            // To the building too: the tests beside the library take longer to build than to run.
            command.args(["--cargo-arg=--lib", "--test-package", folder.package]);
            command.args(["--", "--"]).args(folder.modules);
            skip(&mut command, folder.seconds);
        }
        Pass::Far => {
            for package in PACKAGES {
                command.args(["--test-package", package]);
            }
            command.args(["--", "--"]);
            skip(&mut command, &SLOW_TESTS);
        }
    }
    command
}

fn skip(command: &mut Command, tests: &[&str]) {
    for name in tests {
        command.args(["--skip", name]);
    }
}

/// What became of the changes of a folder.
#[derive(Debug, Default)]
struct Outcome {
    noticed: usize,
    missed: BTreeSet<String>,
}

impl Outcome {
    /// Reads the reports of cargo-mutants.
    fn read(reports: &Path) -> Result<Outcome> {
        let mut noticed = BTreeSet::new();
        for name in ["caught.txt", "previously_caught.txt", "timeout.txt"] {
            noticed.extend(lines(&reports.join(name))?);
        }
        let missed = lines(&reports.join("missed.txt"))?.into_iter().collect();
        Ok(Outcome { noticed: noticed.len(), missed })
    }

    /// Prints the score, and what was not noticed. Returns what is wrong with it.
    fn judge(&self, folder: &str) -> Result<Vec<String>> {
        let all = self.noticed + self.missed.len();
        let score = (self.noticed * 100).checked_div(all).unwrap_or(100);
        println!("mutants: {folder}: {} of {all} noticed, {score} %", self.noticed);
        let path = root().join(LIST);
        let listed = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
        let mut wrong: Vec<String> = self.unlisted(&listed);
        if score < SCORE_MIN {
            wrong.push(format!("{folder}: {score} % are noticed, and {SCORE_MIN} % must be"));
        }
        Ok(wrong)
    }

    /// What was not noticed, and has no reason in the list.
    fn unlisted(&self, listed: &str) -> Vec<String> {
        let is_listed = |line: &&String| listed.contains(&format!("`{}`", without_place(line)));
        let unlisted = self.missed.iter().filter(|line| !is_listed(line));
        unlisted.map(|line| format!("nobody notices: {line}")).collect()
    }
}

/// Lines of a report; none where there is none.
fn lines(path: &PathBuf) -> Result<Vec<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// A change without line and column, which move: `FILE:LINE:COLUMN: CHANGE` becomes `FILE: CHANGE`.
fn without_place(line: &str) -> String {
    let (place, change) = line.split_once(": ").unwrap_or((line, ""));
    format!("{}: {change}", place.split(':').next().unwrap_or(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(folder: Option<&str>) -> Options {
        let folder = folder.map(str::to_owned);
        Options { folder, jobs: 1, shard: None, list: false, near: false, again: false }
    }

    #[test]
    fn all_folders_or_one_are_changed() {
        assert_eq!(folders(&options(None)).unwrap().len(), FOLDERS.len());
        let only = options(Some("engine/src/format/block.rs"));
        let chosen = folders(&only).unwrap();
        assert_eq!(chosen.len(), 1);
        let near = shown(&command(&only, chosen[0], Pass::Near, Path::new("reports")));
        assert!(near.contains("--file engine/src/format/block.rs "), "{near}");
        assert!(
            near.ends_with("--cargo-arg=--lib --test-package ar7-engine -- -- format"),
            "{near}"
        );
        let whole = options(Some("engine/src/format"));
        let far = shown(&command(&whole, chosen[0], Pass::Far, Path::new("reports")));
        assert!(far.contains("--file engine/src/format/** "), "{far}");
        assert!(far.contains("--iterate") && far.contains("--test-package ar7-fuzz"), "{far}");
        assert!(folders(&options(Some("cli/src"))).is_err());
    }

    #[test]
    fn what_is_not_noticed_must_be_listed_wherever_it_lies() {
        let line = "a/b.rs:12:5: replace f -> u32 with 0".to_owned();
        assert_eq!(without_place(&line), "a/b.rs: replace f -> u32 with 0");
        let outcome = Outcome { noticed: 9, missed: BTreeSet::from([line]) };
        assert_eq!(outcome.unlisted("- `a/b.rs: replace f -> u32 with 0`: why").len(), 0);
        assert_eq!(outcome.unlisted("- `a/c.rs: replace f -> u32 with 0`: why").len(), 1);
    }
}
