//! `cargo xtask bench`: what the machine does, and other programs on it, in one run.
//!
//! Programs take turns, so that what else the machine does falls on all alike. Every round is kept, in
//! `benches/results/`; `report` makes docs/PERFORMANCE.md and its drawings from there.

mod counts;
mod own;
mod pair;
mod peers;
mod programs;
mod report;
mod results;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::error::Result;

#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Store a tree and a large file with ar7 and with other programs
    Peers(peers::Options),
    /// Measure the registry next to redb, LMDB, `SQLite` and fjall
    Registry(own::RegistryOptions),
    /// Measure digests, sealing, opening and random reads in memory
    Blocks(own::BlocksOptions),
    /// Measure the cost per stream and per byte as the archive grows
    Scale(own::ScaleOptions),
    /// Measure two builds in turn: one of before a change, one of after it
    Pair(pair::Options),
    /// Count system calls per small file and allocations per listed entry
    Counts,
    /// Write docs/PERFORMANCE.md and its drawings from the newest results
    Report {
        /// Change nothing; fail if something differs
        #[arg(long)]
        check: bool,
    },
}

/// Runs the measurement that the arguments of the process name.
pub fn main() -> ExitCode {
    match run(&Arguments::parse().bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Peers(options) => peers::run(options),
        Bench::Registry(options) => own::registry(options),
        Bench::Blocks(options) => own::blocks(options),
        Bench::Scale(options) => own::scale(options),
        Bench::Pair(options) => pair::run(options),
        Bench::Counts => counts::run(),
        Bench::Report { check } => report::run(*check),
    }
}

#[cfg(test)]
mod tests {
    use super::report;

    #[test]
    fn the_performance_page_is_made_from_the_stored_results() {
        report::run(true).unwrap();
    }
}
