//! `cargo xtask search`: runs one fuzz target on seeded inputs, without libFuzzer.

use clap::Args;
use xtask::error::{Error, Result};

use crate::search::search;
use crate::target;

/// Options of a search.
#[derive(Args)]
pub(crate) struct Options {
    /// The target; `cargo xtask fuzz --list` lists them
    target: String,
    /// Number of inputs to try after the target's seeds
    #[arg(long, default_value_t = 10_000)]
    executions: u64,
    /// Seed of the inputs
    #[arg(long, default_value_t = SEED)]
    seed: u64,
}

/// The seed of every search that must find something.
pub(crate) const SEED: u64 = 7;

/// The start of the line that reports a broken promise, before the number of executions.
pub(crate) const FOUND: &str = "found after ";

/// Searches, and fails if a promise is broken.
pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { target: name, executions, seed } = options;
    let target = target(name).ok_or_else(|| Error::Fault(format!("unknown target {name}")))?;
    let Some(found) = search(target, *seed, *executions) else {
        println!("nothing found in {executions} executions of {name}");
        return Ok(());
    };
    println!("{FOUND}{} executions: {}", found.executions, found.message);
    println!("input: {}", found.input.escape_ascii());
    Err(Error::Fault(format!("{name} broke its promise: {}", target.promise)))
}
