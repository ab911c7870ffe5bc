//! `cargo xtask mutants`: small changes of the code, one at a time, each of which a test must notice.

use std::collections::{BTreeMap, BTreeSet};
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
    let listed = listed()?;
    let mut wrong = Vec::new();
    for folder in folders(options)? {
        let reports = target_directory()?.join("mutants").join(folder.path.replace('/', "-"));
        fs::create_dir_all(&reports).map_err(Error::io("create", &reports))?;
        let changes = changes(options, folder)?;
        if options.list {
            for change in &changes {
                println!("{change}");
            }
            continue;
        }
        let outcome = test(&mut command(options, folder, Pass::Near, &reports), &reports)?;
        let unlisted = outcome.unlisted(&listed);
        let outcome = if options.near || unlisted.is_empty() {
            outcome
        } else {
            let mut far = command(options, folder, Pass::Far, &reports);
            // What nobody can notice need not be asked of everybody.
            for change in outcome.missed.iter().filter(|change| !unlisted.contains(*change)) {
                far.args(["--exclude-re", &format!("^{}$", regex_syntax::escape(change))]);
            }
            outcome.and(&test(&mut far, &reports)?)
        };
        wrong.extend(outcome.of(&changes).judge(folder.path, &listed));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Error::Fault(wrong.join("\n"))) }
}

/// The changes that can be made of the code as it is now.
fn changes(options: &Options, folder: &Folder) -> Result<BTreeSet<String>> {
    let mut command = selection(options, folder);
    command.arg("--list");
    let output = command.output();
    let output = output.map_err(|source| Error::Start { command: shown(&command), source })?;
    if !output.status.success() {
        let (step, command) = ("mutants", shown(&command));
        return Err(Error::Step { step, command, status: output.status.to_string() });
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().map(str::to_owned).collect())
}

/// Runs cargo-mutants, and returns what became of the changes.
fn test(command: &mut Command, reports: &Path) -> Result<Outcome> {
    let status = command.status();
    let status = status.map_err(|source| Error::Start { command: shown(command), source })?;
    // 2: some were not noticed; 3: some took too long, which is noticed.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        let (step, command) = ("mutants", shown(command));
        return Err(Error::Step { step, command, status: status.to_string() });
    }
    Outcome::read(reports)
}

/// How many changes of each description no test can notice, wherever in their file they lie.
type Listed = BTreeMap<String, usize>;

/// The list of changes that no test can notice.
fn listed() -> Result<Listed> {
    let path = root().join(LIST);
    let text = fs::read_to_string(&path).map_err(Error::io("read", &path))?;
    Ok(descriptions(&text))
}

/// The descriptions in a text: each stands in backquotes, and stands for one change, or for N if ` (N of them)` follows.
fn descriptions(text: &str) -> Listed {
    let mut parts = text.split('`').skip(1);
    let mut listed = Listed::new();
    while let Some(description) = parts.next() {
        let after = parts.next().unwrap_or_default();
        let number = after.strip_prefix(" (").and_then(|after| after.split_once(" of them)"));
        let number = number.and_then(|(number, _)| number.parse().ok()).unwrap_or(1);
        *listed.entry(description.to_owned()).or_default() += number;
    }
    listed
}

/// Whose tests are asked.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Pass {
    /// The unit tests of the folder's module.
    Near,
    /// Everybody's, about what those have not noticed.
    Far,
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

/// The command with what is to be changed.
fn selection(options: &Options, folder: &Folder) -> Command {
    let mut command = cargo(&["mutants"]);
    let path = options.folder.as_deref().unwrap_or(folder.path);
    let is_file = Path::new(path).extension().is_some();
    let glob = if is_file { path.to_owned() } else { format!("{}/**", path.trim_end_matches('/')) };
    command.args(["--file", &glob]);
    // What is planted on purpose is no code of the project, and tests are not to be tested.
    command.args(["--exclude", "**/tests/**", "--exclude", "**/tests.rs"]);
    command.args(["--exclude", "**/planted.rs", "--exclude", "**/testing.rs"]);
    command.args(["--exclude-re", "is_planted|testing::"]);
    if let Some(shard) = &options.shard {
        command.args(["--shard", shard]);
    }
    command
}

fn command(options: &Options, folder: &Folder, pass: Pass, reports: &Path) -> Command {
    let mut command = selection(options, folder);
    command.args(["--profile", "mutants", "--no-shuffle", "--output"]).arg(reports);
    command.args(["--jobs", &options.jobs.to_string(), "--minimum-test-timeout", SECONDS_MIN]);
    // What one change has failed with must not help to notice the next.
    command.env("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1");
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
    noticed: BTreeSet<String>,
    missed: BTreeSet<String>,
}

impl Outcome {
    /// Reads the reports of cargo-mutants. What does not build is neither noticed nor missed; since a later report counts
    /// it among what was noticed before, it is kept beside the reports.
    fn read(reports: &Path) -> Result<Outcome> {
        let last = reports.join("mutants.out");
        let kept = reports.join("unviable.txt");
        let mut unviable: BTreeSet<String> = lines(&kept)?.into_iter().collect();
        unviable.extend(lines(&last.join("unviable.txt"))?);
        let text = unviable.iter().map(String::as_str).collect::<Vec<&str>>().join("\n");
        fs::write(&kept, text).map_err(Error::io("write", &kept))?;
        let mut noticed = BTreeSet::new();
        for name in ["caught.txt", "previously_caught.txt", "timeout.txt"] {
            noticed.extend(lines(&last.join(name))?);
        }
        for change in &unviable {
            noticed.remove(change);
        }
        let missed = lines(&last.join("missed.txt"))?.into_iter().collect();
        Ok(Outcome { noticed, missed })
    }

    /// The outcome of these changes alone: the reports keep what was asked about code that has changed since, too.
    fn of(mut self, changes: &BTreeSet<String>) -> Outcome {
        self.noticed.retain(|change| changes.contains(change));
        self.missed.retain(|change| changes.contains(change));
        self
    }

    /// The outcome, once other tests have been asked about what was missed.
    fn and(mut self, later: &Outcome) -> Outcome {
        self.missed.retain(|change| !later.noticed.contains(change));
        self.noticed.extend(later.noticed.iter().cloned());
        self
    }

    /// Prints the score. Returns what is wrong with it.
    fn judge(&self, folder: &str, listed: &Listed) -> Vec<String> {
        let (noticed, all) = (self.noticed.len(), self.noticed.len() + self.missed.len());
        let score = (noticed * 100).checked_div(all).unwrap_or(100);
        println!("mutants: {folder}: {noticed} of {all} noticed, {score} %");
        let unlisted = self.unlisted(listed);
        let mut wrong: Vec<String> =
            unlisted.iter().map(|change| format!("nobody notices: {change}")).collect();
        if score < SCORE_MIN {
            wrong.push(format!("{folder}: {score} % are noticed, and {SCORE_MIN} % must be"));
        }
        wrong
    }

    /// What was not noticed, and has no reason in the list. If more changes of one description were not noticed than the
    /// list says, it is not known which of them it means.
    fn unlisted(&self, listed: &Listed) -> BTreeSet<String> {
        let mut found = Listed::new();
        for change in &self.missed {
            *found.entry(without_place(change)).or_default() += 1;
        }
        let is_listed = |change: &&String| {
            let description = without_place(change);
            listed.get(&description).is_some_and(|&known| found[&description] <= known)
        };
        self.missed.iter().filter(|change| !is_listed(change)).cloned().collect()
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

    fn outcome(noticed: &[&str], missed: &[&str]) -> Outcome {
        let set = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Outcome { noticed: set(noticed), missed: set(missed) }
    }

    #[test]
    fn what_is_not_noticed_must_be_listed_wherever_it_lies() {
        let line = "a/b.rs:12:5: replace f -> u32 with 0";
        assert_eq!(without_place(line), "a/b.rs: replace f -> u32 with 0");
        let one = outcome(&[], &[line]);
        let listed =
            descriptions("- `a/b.rs: replace f -> u32 with 0`: `f`\n- `c`, `d` (3 of them)");
        assert_eq!(one.unlisted(&listed).len(), 0);
        assert_eq!(one.unlisted(&descriptions("`a/c.rs: replace f -> u32 with 0`")).len(), 1);
        let two = outcome(&[], &[line, "a/b.rs:30:5: replace f -> u32 with 0"]);
        assert_eq!(two.unlisted(&listed).len(), 2, "the list means one of them");
        let twice = descriptions("`a/b.rs: replace f -> u32 with 0` (2 of them): why");
        assert_eq!(two.unlisted(&twice).len(), 0);
        assert_eq!((listed["c"], listed["d"]), (1, 3));
    }

    #[test]
    fn what_does_not_build_is_no_success() {
        let reports = tempfile::tempdir().unwrap();
        let last = reports.path().join("mutants.out");
        fs::create_dir(&last).unwrap();
        let write = |name: &str, text: &str| fs::write(last.join(name), text).unwrap();
        write("caught.txt", "1\n2\n");
        write("unviable.txt", "3\n");
        write("missed.txt", "4\n5\n");
        assert_eq!(Outcome::read(reports.path()).unwrap().noticed.len(), 2);
        // Another run, which only asks about what was missed.
        write("previously_caught.txt", "1\n2\n3\n");
        write("caught.txt", "4\n");
        write("unviable.txt", "");
        write("missed.txt", "5\n");
        let later = Outcome::read(reports.path()).unwrap();
        assert_eq!((later.noticed.len(), later.missed.len()), (3, 1));
    }

    #[test]
    fn what_other_tests_notice_counts_and_what_they_are_not_asked_stays_missed() {
        let near = outcome(&["1", "2", "3", "4", "5", "6", "7", "8"], &["9", "a/b.rs:1:1: c"]);
        let both = near.and(&outcome(&["1", "9"], &[]));
        assert_eq!((both.noticed.len(), both.missed.len()), (9, 1));
        assert_eq!(both.judge("a", &descriptions("`a/b.rs: c`")).len(), 0);
        assert_eq!(both.judge("a", &descriptions("")).len(), 1);
        let now = ["1", "9"].map(str::to_owned).into();
        let of_now = both.of(&now);
        assert_eq!((of_now.noticed.len(), of_now.missed.len()), (2, 0), "the code has changed");
        let few = outcome(&["1"], &["a/b.rs:1:1: c"]);
        assert_eq!(
            few.judge("a", &descriptions("`a/b.rs: c`")),
            ["a: 50 % are noticed, and 90 % must be"]
        );
    }
}
