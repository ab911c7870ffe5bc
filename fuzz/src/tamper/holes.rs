//! Deliberate holes in the authentication: each must be caught, or the matrix is worth nothing.

use ar7_engine::{PlantedFault, with_planted_fault};

use super::case::{Case, cases};
use super::matrix::run_part;
use super::named::named_hostile;
use super::victim::{Victim, VictimKind};
use crate::Random;
use crate::crash::single_threaded;

/// How a hole was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaughtHole {
    /// Which check caught it.
    pub check: &'static str,
    /// Cases that were right before.
    pub cases: u64,
    /// What was wrong.
    pub wrong: String,
}

/// Opens a hole, makes an archive, and tries the matrix and the hostile archives that have names. `None` if nothing
/// catches it.
pub fn caught_hole(hole: PlantedFault) -> Option<CaughtHole> {
    single_threaded(|| with_planted_fault(hole, search))
}

/// What is found when there is no hole: nothing, if the expectations are right.
pub fn false_hole() -> Option<CaughtHole> {
    single_threaded(search)
}

fn search() -> Option<CaughtHole> {
    let victim = Victim::new(VictimKind::Dynamic);
    match run_part(&victim, &sample(&victim, 1, 2000)) {
        Err(failed) => Some(CaughtHole {
            check: "the matrix",
            cases: failed.before,
            wrong: failed.to_string(),
        }),
        Ok(totals) => {
            let wrong = named_hostile(&victim.now().image).err()?;
            Some(CaughtHole { check: "the hostile archives", cases: totals.sum().cases, wrong })
        }
    }
}

/// At most `most` of the flipped bits and changed headers, and every other case, in the order of a seed.
pub fn sample(victim: &Victim, seed: u64, most: usize) -> Vec<Case> {
    let (mut many, mut chosen): (Vec<Case>, Vec<Case>) = cases(victim)
        .into_iter()
        .partition(|case| matches!(case, Case::Flip { .. } | Case::Header { .. }));
    let mut random = Random::new(seed);
    let mut index = |count: usize| {
        let count = u64::try_from(count).expect("a length in memory");
        usize::try_from(random.below(count)).expect("less than the length")
    };
    for _ in 0..most.min(many.len()) {
        let at = index(many.len());
        chosen.push(many.swap_remove(at));
    }
    for at in (1..chosen.len()).rev() {
        chosen.swap(at, index(at + 1));
    }
    chosen
}
