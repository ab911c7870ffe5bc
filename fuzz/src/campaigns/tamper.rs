//! `cargo xtask tamper`: tries every change of the bytes of an archive, and hostile archives.

use std::time::Instant;

use crate::tamper::{
    HostileTotals, MatrixTotals, Victim, VictimKind, cases, named_hostile, random_hostile,
    run_matrix, sample,
};
use clap::Args;

use xtask::error::{Error, Result};

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this many of the flipped bits and changed headers of each kind of archive [default: all]
    #[arg(long)]
    sample: Option<usize>,
    /// Number of random hostile archives of each kind
    #[arg(long, default_value_t = 50_000)]
    hostile: u64,
    /// Seed of the samples and of the hostile archives
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let mut totals = MatrixTotals::default();
    let mut hostile = HostileTotals::default();
    for kind in VictimKind::ALL {
        let victim = Victim::new(kind);
        let cases = match options.sample {
            Some(most) => sample(&victim, options.seed, most),
            None => cases(&victim),
        };
        println!("tamper: {victim:?}, {} cases", cases.len());
        let found = run_matrix(&victim, &cases);
        totals.add(&found.map_err(|failure| Error::Fault(failure.to_string()))?);
        hostile.add(&random_hostile(&victim.now().image, options.seed, options.hostile));
    }
    let named = named_hostile(&Victim::new(VictimKind::Dynamic).now().image);
    let named = named.map_err(Error::Fault)?;
    print!("{totals}");
    println!("tamper: {hostile}");
    println!("tamper: {} named hostile archives", named.len());
    println!("tamper: seed {}, {:.1} s, no fault", options.seed, started.elapsed().as_secs_f64());
    Ok(())
}
