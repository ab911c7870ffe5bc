//! Canaries of the tampering tests: they must catch every planted fault in the authentication.

use ar7_engine::{PlantedFault, with_planted_fault};

use super::case::{Case, cases};
use super::matrix::run_part;
use super::named::named_hostile;
use super::victim::{Victim, VictimKind};
use crate::Random;
use crate::crash::single_threaded;

/// How a planted fault was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaughtFault {
    /// The check that caught it.
    pub check: &'static str,
    /// The number of correct cases before it.
    pub cases: u64,
    /// What was wrong.
    pub wrong: String,
}

/// Plants a fault, creates an archive, and tries the named hostile archives and then the matrix. Returns `None` if no
/// check catches it.
pub fn caught_by_tampering(fault: PlantedFault) -> Option<CaughtFault> {
    single_threaded(|| with_planted_fault(fault, search))
}

/// Runs the same checks without a fault, and returns what they report. Anything they report is a false alarm.
pub fn false_alarm() -> Option<CaughtFault> {
    single_threaded(search)
}

fn search() -> Option<CaughtFault> {
    let victim = Victim::new(VictimKind::Dynamic);
    // Try the few hostile archives first, because the matrix takes seconds.
    if let Err(wrong) = named_hostile(&victim.now().image) {
        return Some(CaughtFault { check: "the hostile archives", cases: 0, wrong });
    }
    let mut cases = sample(&victim, 1, 2000);
    // One fault is found only by the few cases that put headers back.
    cases.sort_by_key(
        |case| !matches!(case, Case::PutBack { positions, .. } if positions.contains(&0)),
    );
    let failed = run_part(&victim, &cases).err()?;
    let (cases, wrong) = (failed.before, failed.to_string());
    Some(CaughtFault { check: "the matrix", cases, wrong })
}

/// Returns at most `most` flipped bits and changed headers, half of each, and every other case, in an order determined
/// by the seed. Bits far outnumber header bytes, so a sample of both together would miss whole fields of the header.
pub fn sample(victim: &Victim, seed: u64, most: usize) -> Vec<Case> {
    let (flips, rest): (Vec<Case>, Vec<Case>) =
        cases(victim).into_iter().partition(|case| matches!(case, Case::Flip { .. }));
    let (headers, mut chosen): (Vec<Case>, Vec<Case>) =
        rest.into_iter().partition(|case| matches!(case, Case::Header { .. }));
    let mut random = Random::new(seed);
    let mut index = |count: usize| {
        let count = u64::try_from(count).expect("a length in memory");
        usize::try_from(random.below(count)).expect("less than the length")
    };
    for mut many in [flips, headers] {
        for _ in 0..(most / 2).min(many.len()) {
            let at = index(many.len());
            chosen.push(many.swap_remove(at));
        }
    }
    for at in (1..chosen.len()).rev() {
        chosen.swap(at, index(at + 1));
    }
    chosen
}
