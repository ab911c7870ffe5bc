//! Project commands: `cargo xtask help` lists them.

mod ar7;
mod bench;
mod compare;
mod crash;
mod demo;
mod error;
mod format;
mod full_disk;
mod fuzz;
mod interop;
mod io_errors;
mod kill;
mod mutants;
mod quantity;
mod suite;
mod tamper;
mod tidy;
mod tree;
mod vectors;
mod workspace;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Commands of the project.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check formatting, lints, style rules, tables and documentation, then run every test
    Test,
    /// Check the style rules that are executed
    Tidy,
    /// Write the tables of docs/FORMAT.md from the declared layouts
    Format {
        /// Change nothing; fail if a table differs
        #[arg(long)]
        check: bool,
    },
    /// Write the worked examples of docs/vectors
    Vectors {
        /// Change nothing; fail if one differs
        #[arg(long)]
        check: bool,
    },
    /// Compare the reader in docs/reader with ar7, on archives in the tree and on fresh ones
    Interop(interop::Options),
    /// Write new golden archives: once for each version of the format
    Golden,
    /// Pour a real tree into an archive, verify, extract and compare it
    Demo {
        /// The tree; by default this repository and whatever large tree the toolchain brought along
        path: Option<PathBuf>,
    },
    /// Crash small and long worlds on a simulated disk in every way, and check what is left
    Crash(crash::Options),
    /// Tamper with archives in every way, and check that everything is noticed
    Tamper(tamper::Options),
    /// Let one system call after another fail in the real program, and check what is left
    IoErrors(io_errors::Options),
    /// Fill disks up, and check that nothing is lost and that deleting works
    FullDisk(full_disk::Options),
    /// Fuzz the targets, all in turn, with libFuzzer; write their seeds; report what the corpora reach
    Fuzz(fuzz::Options),
    /// Change the code in small ways and check that a test notices each
    Mutants(mutants::Options),
    /// Measure, beside other programs in the same run, and report
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Kill ingests and deletions at random moments and check what is left
    Kill(kill::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test => suite::run(),
        Command::Tidy => tidy::run(),
        Command::Format { check } => format::run(check),
        Command::Vectors { check } => vectors::run(check),
        Command::Interop(options) => interop::run(&options),
        Command::Golden => interop::golden::write(),
        Command::Demo { path } => demo::run(path),
        Command::Crash(options) => crash::run(&options),
        Command::Tamper(options) => tamper::run(&options),
        Command::IoErrors(options) => io_errors::run(&options),
        Command::FullDisk(options) => full_disk::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Mutants(options) => mutants::run(&options),
        Command::Bench(bench) => bench::run(&bench),
        Command::Kill(options) => kill::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
