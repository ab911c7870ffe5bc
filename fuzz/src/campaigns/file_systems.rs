//! `cargo xtask file-systems`: the tests of trees on several file systems, as root and as a normal user.
//!
//! It mounts a tmpfs, an ext4, an xfs and a btrfs, and runs the tests of `ar7::fs` with their trees on each. The tests
//! know what a normal user cannot restore. A file system that this machine cannot create is skipped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clap::Args;
use serde_json::Value;
use xtask::error::{Error, Result};
use xtask::quantity::seconds;
use xtask::workspace::{cargo, output, shown};

use super::disk::{Disk, Kind};

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Only tests whose names contain TEXT
    #[arg(long, value_name = "TEXT", default_value = "fs::")]
    tests: String,
    /// Only as a normal user, on a tmpfs
    #[arg(long)]
    sample: bool,
}

/// Enough for an xfs, and for the tests.
const DISK_BYTES: u64 = 512 << 20;

/// The number of the user and group `nobody`.
const NOBODY: u32 = 65_534;

/// The tests of the library, as `cargo xtask test` builds them.
const TESTS: [&str; 7] = [
    "test",
    "--locked",
    "--workspace",
    "--features=ar7/serde",
    "--no-run",
    "--quiet",
    "--message-format=json",
];

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let folder = tempfile::Builder::new().prefix("ar7-file-systems-").tempdir();
    let folder = folder.map_err(Error::io("create a directory in", &std::env::temp_dir()))?;
    open_to_all(folder.path(), 0o755)?;
    let program = folder.path().join("tests");
    let built = built_tests()?;
    fs::copy(&built, &program).map_err(Error::io("copy", &built))?;
    let (kinds, users): (&[Kind], &[(&str, Option<u32>)]) = if options.sample {
        (&[Kind::Tmpfs], &[("a normal user", Some(NOBODY))])
    } else {
        (&Kind::ALL, &[("root", None), ("a normal user", Some(NOBODY))])
    };
    let mut runs = 0;
    for kind in kinds {
        let disk = match Disk::mount(*kind, folder.path(), DISK_BYTES) {
            Ok(disk) => disk,
            Err(reason) => {
                println!("file-systems: {}: skipped: {reason}", kind.name());
                continue;
            }
        };
        open_to_all(&disk.path, 0o1777)?;
        for (name, user) in users {
            let passed = tests(&program, &options.tests, &disk.path, *user)?;
            println!("file-systems: {} as {name}: {passed}", kind.name());
            runs += 1;
        }
    }
    println!("file-systems: {runs} runs, {}: no fault", seconds(started.elapsed()));
    Ok(())
}

fn open_to_all(directory: &Path, mode: u32) -> Result<()> {
    let permissions = fs::Permissions::from_mode(mode);
    fs::set_permissions(directory, permissions).map_err(Error::io("chmod", directory))
}

/// Builds the tests, and returns the program with those of the library.
fn built_tests() -> Result<PathBuf> {
    let mut build = cargo(&TESTS);
    let built = output(&mut build)?;
    if !built.status.success() {
        let (command, status) = (shown(&build), built.status.to_string());
        return Err(Error::Step { step: "build", command, status });
    }
    let stdout = String::from_utf8_lossy(&built.stdout);
    let messages = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let programs = messages.filter(|message| {
        let target = &message["target"];
        message["profile"]["test"] == true
            && target["name"] == "ar7"
            && target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "lib"))
    });
    let mut program =
        programs.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
    program.next().ok_or_else(|| Error::Fault("cargo built no tests of the library".to_owned()))
}

/// Runs tests with their files in a directory. Returns the line with their counts.
fn tests(program: &Path, filter: &str, directory: &Path, user: Option<u32>) -> Result<String> {
    let mut command = Command::new(program);
    command.arg(filter).current_dir(directory).env("TMPDIR", directory);
    if let Some(user) = user {
        // This also drops the other groups of root.
        command.gid(user).uid(user);
    }
    let ended = output(&mut command)?;
    let stdout = String::from_utf8_lossy(&ended.stdout);
    let counts = stdout.lines().find_map(|line| line.strip_prefix("test result: ok. "));
    match counts {
        Some(counts) if ended.status.success() && !counts.starts_with("0 passed") => {
            Ok(counts.to_owned())
        }
        _ => Err(Error::Fault(format!("tests on {}: {stdout}", directory.display()))),
    }
}
