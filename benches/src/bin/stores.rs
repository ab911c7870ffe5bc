//! The registry beside other embedded stores. Prints one JSON document; progress goes to standard error.

use std::path::PathBuf;

use ar7_benches::stores::{Kind, Measure, Plan, Result, run};
use clap::Parser;

/// Measures the registry of streams beside other embedded stores.
#[derive(Debug, Parser)]
struct Options {
    /// Records to load.
    #[arg(long, default_value_t = 1_000_000)]
    records: u32,
    /// Rounds; in each, every store does every case once.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Records to insert one by one, each durable before the next.
    #[arg(long, default_value_t = 300)]
    single_inserts: u32,
    /// Where the files lie meanwhile; a temporary folder in the current directory by default.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// The stores.
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
