//! `cargo xtask bench`: what the machine does, and other programs on it, in one run.
//!
//! Programs take turns, so that what else the machine does falls on all alike. Every round is kept, in
//! `benches/results/`; `report` makes docs/PERFORMANCE.md and its drawings from there.

mod own;
mod peers;
mod programs;
mod report;
mod results;
mod run;

use clap::Subcommand;

use crate::error::Result;

/// What is measured.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// A tree and a large file, through ar7 and through other programs
    Peers(peers::Options),
    /// The registry beside redb, LMDB, `SQLite` and fjall
    Registry(own::RegistryOptions),
    /// Digests, sealing, opening, and reads at random, in memory
    Blocks(own::BlocksOptions),
    /// Cost per stream and per byte as the archive grows
    Scale(own::ScaleOptions),
    /// Write docs/PERFORMANCE.md and its drawings from the newest results
    Report {
        /// Change nothing; fail if something differs
        #[arg(long)]
        check: bool,
    },
}

/// Measures, or reports.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Peers(options) => peers::run(options),
        Bench::Registry(options) => own::registry(options),
        Bench::Blocks(options) => own::blocks(options),
        Bench::Scale(options) => own::scale(options),
        Bench::Report { check } => report::run(*check),
    }
}

/// Whether docs/PERFORMANCE.md is what the results give.
pub(crate) fn check_report() -> Result<()> {
    report::run(true)
}
