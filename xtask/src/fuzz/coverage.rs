//! Which lines the corpora reach: their replay, and if wanted the tests, built for the compiler's own coverage.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::workspace::{SLOW_TESTS, cargo, output, root, shown, target_directory};

/// Folder of the tools, where they are not found otherwise.
const TOOLS_VARIABLE: &str = "LLVM_TOOLS";

/// Files that are not the project's, or not part of what runs.
const IGNORED: &str = r"(\.cargo/|/rustc/|/rustup/|/tests/|/tests\.rs|/fuzz/|/xtask/|/target)";

/// Folders of which tests and corpora together must reach nearly every line: they read what anybody may have written.
const REACHED: [&str; 2] = ["engine/src/format/", "registry/src/tree/"];

/// The share of their lines, in percent.
const SHARE_MIN: f64 = 95.0;

/// Prints the report, and writes it into the folder of build outputs.
pub(super) fn run(with_tests: bool) -> Result<()> {
    let tools = Tools::find()?;
    let folder = target_directory()?.join("coverage");
    let profiles = folder.join("profiles");
    if profiles.exists() {
        fs::remove_dir_all(&profiles).map_err(Error::io("remove", &profiles))?;
    }
    let mut test = vec!["test", "--locked", "--package", "ar7-fuzz", "--test", "corpora"];
    // What campaigns have found is replayed here and nowhere else.
    let mut programs = replay(&test, &["--include-ignored"], &folder, &profiles)?;
    if with_tests {
        test = vec!["test", "--locked", "--package", "ar7-engine", "--package", "ar7-registry"];
        test.extend(["--package", "ar7-fuzz", "--lib", "--tests"]);
        programs.extend(replay(&test, &[], &folder, &profiles)?);
        programs.sort();
        programs.dedup();
    }
    let merged = tools.merge(&profiles, &folder)?;
    let report = tools.report(&merged, &programs)?;
    let path = folder.join("report.txt");
    fs::write(&path, &report).map_err(Error::io("write", &path))?;
    print!("{report}");
    println!("fuzz: the report is in {}", path.display());
    let files = tools.files(&merged, &programs)?;
    let wrong: Vec<String> = REACHED.iter().filter_map(|folder| short(&files, folder)).collect();
    if with_tests && !wrong.is_empty() {
        return Err(Error::Fault(wrong.join("; ")));
    }
    Ok(())
}

/// Prints the share of a folder's lines that was reached. Returns what is wrong with it.
fn short(files: &[File], folder: &str) -> Option<String> {
    let files = files.iter().filter(|file| file.path.contains(folder));
    let (lines, reached) =
        files.fold((0, 0), |(lines, reached), file| (lines + file.lines, reached + file.reached));
    let share = 100.0 * f64::from(reached) / f64::from(lines.max(1));
    println!("fuzz: {folder}: {reached} of {lines} lines are reached, {share:.1} %");
    (share < SHARE_MIN).then(|| format!("{folder}: {share:.1} %, and {SHARE_MIN} % must be"))
}

/// A file, and how many of its lines were reached.
struct File {
    path: String,
    lines: u32,
    reached: u32,
}

/// Builds the tests for coverage and runs them. Returns the programs.
fn replay(test: &[&str], options: &[&str], folder: &Path, profiles: &Path) -> Result<Vec<PathBuf>> {
    let prepared = |more: &[&str]| {
        let mut command = cargo(test);
        command.args(more);
        command.env("CARGO_TARGET_DIR", folder).env("RUSTFLAGS", "-C instrument-coverage");
        command.env("LLVM_PROFILE_FILE", profiles.join("%p-%m.profraw"));
        command
    };
    let mut built = prepared(&["--no-run", "--message-format", "json"]);
    let outcome = output(&mut built)?;
    let failed = |command: &Command, status: String| {
        let (step, command) = ("coverage", shown(command));
        Error::Step { step, command, status }
    };
    if !outcome.status.success() {
        eprint!("{}", String::from_utf8_lossy(&outcome.stderr));
        return Err(failed(&built, outcome.status.to_string()));
    }
    let skipped = SLOW_TESTS.iter().flat_map(|name| ["--skip", name]);
    let mut run = prepared(&["--"]);
    run.args(skipped).args(options);
    let status = run.status().map_err(|source| Error::Start { command: shown(&run), source })?;
    if !status.success() {
        return Err(failed(&run, status.to_string()));
    }
    let text = String::from_utf8_lossy(&outcome.stdout);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    Ok(programs.collect())
}

/// The tools that read what an instrumented program leaves.
struct Tools {
    profdata: PathBuf,
    cov: PathBuf,
}

impl Tools {
    /// In the folder that the variable names, in the toolchain, or on the path.
    fn find() -> Result<Tools> {
        let mut folders: Vec<PathBuf> =
            env::var_os(TOOLS_VARIABLE).map(PathBuf::from).into_iter().collect();
        let mut rustc = Command::new("rustc");
        let sysroot = output(rustc.args(["--print", "target-libdir"]))?;
        let libraries = PathBuf::from(String::from_utf8_lossy(&sysroot.stdout).trim());
        folders.extend(libraries.parent().map(|parent| parent.join("bin")));
        let path = env::var_os("PATH").unwrap_or_default();
        folders.extend(env::split_paths(&path));
        let has_both = |folder: &&PathBuf| {
            folder.join("llvm-profdata").is_file() && folder.join("llvm-cov").is_file()
        };
        let missing = || {
            let text = "coverage needs llvm-profdata and llvm-cov, no older than the compiler's LLVM: rustup \
                component add llvm-tools, or their folder in LLVM_TOOLS";
            Error::Fault(text.into())
        };
        let folder = folders.iter().find(has_both).ok_or_else(missing)?;
        Ok(Tools { profdata: folder.join("llvm-profdata"), cov: folder.join("llvm-cov") })
    }

    fn merge(&self, profiles: &Path, folder: &Path) -> Result<PathBuf> {
        let merged = folder.join("merged.profdata");
        let mut command = Command::new(&self.profdata);
        command.args(["merge", "-sparse", "-o"]).arg(&merged);
        for entry in fs::read_dir(profiles).map_err(Error::io("list", profiles))? {
            command.arg(entry.map_err(Error::io("list", profiles))?.path());
        }
        checked(&mut command)?;
        Ok(merged)
    }

    fn report(&self, merged: &Path, programs: &[PathBuf]) -> Result<String> {
        let columns = ["region", "branch", "instantiation"];
        let columns = columns.map(|column| format!("--show-{column}-summary=false"));
        let report = checked(self.covered("report", merged, programs).args(columns));
        let top = format!("{}/", root().display());
        report.map(|report| report.replace(&top, ""))
    }

    /// The same, as numbers.
    fn files(&self, merged: &Path, programs: &[PathBuf]) -> Result<Vec<File>> {
        let text = checked(self.covered("export", merged, programs).arg("--summary-only"))?;
        let report: Value = serde_json::from_str(&text).unwrap_or_default();
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let file = |file: &Value| {
            let lines = &file["summary"]["lines"];
            let path = file["filename"].as_str()?.to_owned();
            Some(File {
                path,
                lines: number(&lines["count"])?,
                reached: number(&lines["covered"])?,
            })
        };
        let files = report["data"][0]["files"].as_array();
        Ok(files.into_iter().flatten().filter_map(file).collect())
    }

    fn covered(&self, what: &str, merged: &Path, programs: &[PathBuf]) -> Command {
        let mut command = Command::new(&self.cov);
        command.arg(what).arg("--instr-profile").arg(merged);
        command.args(["--ignore-filename-regex", IGNORED]);
        for (number, program) in programs.iter().enumerate() {
            if number > 0 {
                command.arg("--object");
            }
            command.arg(program);
        }
        command
    }
}

fn checked(command: &mut Command) -> Result<String> {
    let outcome = output(command)?;
    if outcome.status.success() {
        return Ok(String::from_utf8_lossy(&outcome.stdout).into_owned());
    }
    eprint!("{}", String::from_utf8_lossy(&outcome.stderr));
    let (step, command) = ("coverage", shown(command));
    Err(Error::Step { step, command, status: outcome.status.to_string() })
}
