//! `cargo xtask bench`: measures ar7 and other programs on this machine in one run.
//!
//! Programs alternate, so that other load affects all of them equally. Every round is stored in `benches/results/`,
//! from which `report` generates docs/PERFORMANCE.md and its charts.

mod counts;
mod mount;
mod own;
mod pair;
mod peers;
mod programs;
mod report;
mod results;
mod run;
mod small;

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
    /// Compare the registry with redb, LMDB, `SQLite` and fjall
    Registry(own::RegistryOptions),
    /// Measure digests, sealing, opening and random reads in memory
    Blocks(own::BlocksOptions),
    /// Measure the cost per stream and per byte of growing archives
    Scale(own::ScaleOptions),
    /// Compare two builds, alternating between them: one from before a change, one from after it
    Pair(pair::Options),
    /// Count system calls per small file and allocations per listed entry
    Counts,
    /// Measure tiny files, a sparse file, a tree that changes, and the reading of one small file
    Small(small::Options),
    /// Do the same work on a mounted archive and on gocryptfs
    Mount(mount::Options),
    /// Generate docs/PERFORMANCE.md and its charts from the newest results
    Report {
        /// Change nothing; fail if something is out of date
        #[arg(long)]
        check: bool,
    },
}

/// Runs the measurement named in the process's arguments.
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
        Bench::Mount(options) => mount::run(options),
        Bench::Small(options) => small::run(options),
        Bench::Counts => counts::run(),
        Bench::Report { check } => report::run(*check),
    }
}

#[cfg(test)]
mod tests {
    use super::report;

    #[test]
    fn the_performance_page_is_generated_from_the_stored_results() {
        report::run(true).unwrap();
    }
}
