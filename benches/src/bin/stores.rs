//! Compares the registry with other embedded stores. Prints one JSON document; progress goes to standard error.

use std::path::PathBuf;

use ar7_benches::stores::{Kind, Measure, Plan, Result, run};
use clap::Parser;

/// Compares the registry of streams with other embedded stores.
#[derive(Debug, Parser)]
struct Options {
    /// Number of records to load.
    #[arg(long, default_value_t = 1_000_000)]
    records: u32,
    /// Number of rounds. In each, every store runs every case once.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Number of records to insert singly, each durable before the next.
    #[arg(long, default_value_t = 300)]
    single_inserts: u32,
    /// Directory for the files [default: a temporary directory in the current directory]
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Stores to compare.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    stores: Vec<Kind>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let plan = Plan {
        records: options.records,
        rounds: options.rounds,
        single_inserts: options.single_inserts,
        stores: options.stores,
    };
    let folder = tempfile::tempdir_in(options.directory.unwrap_or_else(|| PathBuf::from(".")))?;
    let report = run(&plan, folder.path(), &mut show)?;
    folder.close()?;
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn show(measure: &Measure) {
    let Measure { store, case, round, threads, count, .. } = measure;
    let found = match (measure.seconds, measure.bytes) {
        (Some(seconds), _) => {
            format!("{seconds:9.3} s {:9.2} us each", seconds * 1e6 / f64::from(*count))
        }
        (None, bytes) => format!("{:9} bytes", bytes.unwrap_or_default()),
    };
    eprintln!("{round} {store:7} {case:15} {threads} {found}");
}
