//! `cargo xtask rot`: destroys parts of archives of every kind, and checks that it costs what rotted.

use std::time::Instant;

use clap::Args;
use xtask::error::{Error, Result};

use crate::Random;
use crate::rot::{Damage, Oracle, Specimen, SpecimenKind, Tally, damages, rot_matrix};

/// Faults of one archive that are printed.
const SHOWN: usize = 20;

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Only this many damages of each archive, chosen by the seed [default: all]
    #[arg(long)]
    sample: Option<usize>,
    /// Number of random pairs of blocks that are destroyed in each archive
    #[arg(long, default_value_t = 500)]
    pairs: u32,
    /// Extract everything after one in this many damages
    #[arg(long, default_value_t = 5)]
    extract_one_in: usize,
    /// Only this kind of archive
    #[arg(long)]
    kind: Option<SpecimenKind>,
    /// Seed of the pairs and of the sample
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let started = Instant::now();
    let (mut totals, mut failed) = (Tally::default(), 0);
    let is_chosen = |kind: &SpecimenKind| options.kind.is_none_or(|chosen| chosen == *kind);
    for kind in SpecimenKind::ALL.into_iter().filter(is_chosen) {
        let specimen = Specimen::new(kind);
        let oracle = Oracle::new(&specimen);
        let mut all = damages(&specimen, &oracle, options.pairs, options.seed);
        if let Some(most) = options.sample {
            choose(&mut all, most, options.seed);
        }
        let begun = Instant::now();
        let (tally, failures) = rot_matrix(&specimen, &oracle, &all, options.extract_one_in);
        for failure in failures.iter().take(SHOWN) {
            println!("rot: {failure}");
        }
        failed += failures.len();
        let seconds = begun.elapsed().as_secs_f64();
        println!("rot: {kind:?} archive of {} blocks, {seconds:.1} s: {tally}", specimen.blocks());
        totals += tally;
    }
    let seconds = started.elapsed().as_secs_f64();
    println!("rot: seed {}, {seconds:.1} s, {failed} faults: {totals}", options.seed);
    if failed == 0 { Ok(()) } else { Err(Error::Fault(format!("{failed} damages cost too much"))) }
}

/// Keeps `most` of the damages.
fn choose(all: &mut Vec<Damage>, most: usize, seed: u64) {
    let mut random = Random::new(seed);
    while all.len() > most {
        let at = random.below(all.len() as u64);
        all.swap_remove(usize::try_from(at).unwrap_or(0));
    }
}
