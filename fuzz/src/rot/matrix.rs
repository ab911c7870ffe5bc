//! Runs damages of an archive.

use std::fmt;
use std::sync::Mutex;

use super::check::{Rot, Tally};
use super::damage::Damage;
use super::oracle::Oracle;
use super::specimen::{Specimen, SpecimenKind};
use crate::crash::on_all_cores;

/// A damage that cost more than it destroyed.
#[derive(Debug)]
pub struct RotFailure {
    /// The archive.
    pub kind: SpecimenKind,
    /// The damage.
    pub damage: Damage,
    /// What is wrong.
    pub wrong: String,
}

impl fmt::Display for RotFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} archive, {}: {}", self.kind, self.damage, self.wrong)
    }
}

/// Checks damages of an archive on all cores, and an extraction after one in `extract_one_in` of them. Returns the counts,
/// and every failure.
///
/// # Panics
/// If the temporary folder cannot be used.
pub fn rot_matrix(
    specimen: &Specimen,
    oracle: &Oracle,
    damages: &[Damage],
    extract_one_in: usize,
) -> (Tally, Vec<RotFailure>) {
    let outcome = Mutex::new((Tally::default(), Vec::new()));
    let checked = on_all_cores(damages.len(), |number| {
        let damage = &damages[number];
        let rot = Rot::new(specimen, oracle);
        let found = rot.check(damage, number % extract_one_in == 0);
        let (tally, failures) = &mut *outcome.lock().expect("no check panicked");
        match found {
            Ok(found) => *tally += found,
            Err(wrong) => {
                let (kind, damage) = (specimen.kind, damage.clone());
                failures.push(RotFailure { kind, damage, wrong });
            }
        }
        Ok::<(), std::convert::Infallible>(())
    });
    let Ok(()) = checked;
    outcome.into_inner().expect("no check panicked")
}
