//! Project commands: `cargo xtask help` lists them.

mod demo;
mod programs;
mod suite;
mod tidy;

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use xtask::error::{Error, Result};

const HELP: &str = "\
Project commands

Usage: cargo xtask <COMMAND> [OPTIONS]

Checks:
  test         Check formatting, lints, style rules and documents, and run every test
  proof        Run crashes, tampering, random tests, concurrent processes and the second reader at full effort
  tidy         Check the style rules that no other tool checks
  demo [PATH]  Store a tree, verify, extract and compare it, then damage the archive

Campaigns (each takes --help):
  crash        Crash every sequence of operations on a simulated disk, and check every resulting state
  tamper       Change every part of an archive, and check that each change is detected
  rot          Destroy blocks of archives of every kind, and check that only what was in them is lost
  kill         Kill ingests and deletions at random moments, and check the archive
  stress       Let real processes read and write one archive at the same time
  io-errors    Make each system call of the real program fail in turn
  full-disk    Fill disks under the real program
  file-systems Run the tests of trees on several file systems, as root and as a normal user
  mount-faults Run the real program on a FUSE file system that fails at each call in turn
  mount-model  Compare operations on a mounted archive with a directory, and kill the processes that serve mounts
  mount-programs
               Run git, cargo, sqlite3, fio and rsync on a mounted archive
  interop      Compare the Python reader in docs/reader with ar7
  fuzz         Fuzz the targets with libFuzzer
  search       Search one fuzz target with seeded inputs, without libFuzzer
  patches      Apply one-line patches, and check that the fuzz targets find them

Generated files:
  format       Write the tables of docs/FORMAT.md from the declared layouts
  vectors      Write the worked examples of docs/vectors
  golden       Write new golden archives (once for each version of the format)

Measurements:
  bench        Compare ar7 with other programs, and write docs/PERFORMANCE.md
";

fn main() -> ExitCode {
    let mut words = env::args_os().skip(1);
    let command = words.next().unwrap_or_else(|| "help".into());
    let options: Vec<OsString> = words.collect();
    match run(&command.to_string_lossy(), &options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: &str, options: &[OsString]) -> Result<()> {
    match command {
        "crash" | "tamper" | "rot" | "kill" | "stress" | "io-errors" | "full-disk"
        | "file-systems" | "mount-faults" | "mount-model" | "mount-programs" | "interop"
        | "fuzz" | "search" | "patches" | "format" | "vectors" | "golden" => {
            programs::campaign(command, options)
        }
        "bench" => programs::bench(options),
        "demo" => demo::run(at_most_one_path(options)?),
        "test" | "tidy" | "proof" | "help" | "--help" | "-h" => {
            if let Some(option) = options.first() {
                let message = format!("{command}: unexpected argument {}", option.display());
                return Err(Error::Fault(message));
            }
            match command {
                "test" => suite::test(),
                "proof" => suite::proof(),
                "tidy" => tidy::run(),
                _ => {
                    print!("{HELP}");
                    Ok(())
                }
            }
        }
        _ => Err(Error::Fault(format!("unknown command {command}; see `cargo xtask help`"))),
    }
}

fn at_most_one_path(options: &[OsString]) -> Result<Option<PathBuf>> {
    let [path] = options else {
        return match options.len() {
            0 => Ok(None),
            count => Err(Error::Fault(format!("demo: expected one path, found {count}"))),
        };
    };
    if path.to_string_lossy().starts_with('-') {
        return Err(Error::Fault(format!("demo: unexpected argument {}", path.display())));
    }
    Ok(Some(path.into()))
}
