//! Crashes during a change of the master key.

use std::sync::Mutex;

use ar7_engine::{PlantedFault, with_planted_fault};

use super::campaign::FailedScenario;
use super::canaries::Caught;
use super::explore::{Effort, Explorer, Failure, Totals};
use super::operation::Operation;
use super::parallel::{on_all_cores, single_threaded};
use super::scenario::{Fixture, Scenario};

/// Returns sequences of operations with a rekey in an archive of one window: after changes, with a redo list, and
/// before other operations.
pub fn rekey_scenarios() -> Vec<Vec<Operation>> {
    let append = Operation::Append { stream: 1, length: 5000 };
    let overwrite = Operation::Overwrite { stream: 1, offset: 4000, length: 30 };
    let delete = Operation::Delete { stream: 2 };
    let create = Operation::Create { length: 100, name: Some(1) };
    vec![
        vec![Operation::Rekey],
        vec![append, overwrite, Operation::Commit, Operation::Rekey],
        vec![delete, Operation::Commit, Operation::Rekey],
        vec![Operation::Rekey, create],
        vec![Operation::Rekey, Operation::Rekey],
    ]
}

/// Explores a sample of the crashes of a rekey in an archive of three windows. Each of `rounds` rounds crashes and
/// continues several times, and explores as many crashes each time as the effort states.
///
/// # Panics
/// If the archive cannot be created.
pub fn explore_windows(rounds: usize, effort: Effort, seed: u64) -> Result<Totals, FailedScenario> {
    let fixture = single_threaded(larger);
    let totals = Mutex::new(Totals::default());
    on_all_cores(rounds, |round| {
        let seed = seed.wrapping_add(u64::try_from(round).expect("a number of rounds"));
        let found = explore_round(&fixture, effort, seed)?;
        *totals.lock().expect("no round panicked") += found;
        Ok(())
    })?;
    Ok(totals.into_inner().expect("no round panicked"))
}

/// Plants a fault in rekey and looks for it. Returns `None` if no check catches it.
pub fn caught_in_rekey(fault: PlantedFault) -> Option<Caught> {
    let effort = Effort {
        every_cut_up_to: 16,
        sampled_cuts: 60,
        crashes: 1,
        recovery_one_in: 1,
        reopen_one_in: 1,
    };
    single_threaded(|| {
        let fixture = larger();
        let mut states = 0;
        for seed in SEEDS {
            match with_planted_fault(fault, || explore_round(&fixture, effort, seed)) {
                Ok(totals) => states += totals.states,
                Err(failed) => {
                    let states = states + failed.failure.states;
                    let wrong = failed.to_string();
                    return Some(Caught { check: "crashes of a change of the key", states, wrong });
                }
            }
        }
        None
    })
}

/// The seeds of the rounds. Which of them catch a fault depends on where blocks lie; these soon catch each.
const SEEDS: std::ops::Range<u64> = 293..313;

/// The number of consecutive crashes in a round.
const CRASHES: u32 = 3;

/// Creates an archive of three windows.
fn larger() -> Fixture {
    let mut scenario = Scenario::begin(&Fixture::new());
    let made = scenario.run(&[
        Operation::Create { length: 1_500_000, name: Some(3) },
        Operation::Create { length: 1_300_000, name: Some(4) },
        Operation::Commit,
        Operation::Delete { stream: 3 },
        Operation::Overwrite { stream: 4, offset: 1_290_000, length: 20_000 },
    ]);
    made.expect("a larger archive");
    let (medium, sealed, content) = scenario.closed();
    Fixture { medium, sealed, content }
}

fn explore_round(fixture: &Fixture, effort: Effort, seed: u64) -> Result<Totals, FailedScenario> {
    let operations = [Operation::Rekey, Operation::Meta(5)];
    let failed = |failure| FailedScenario { seed, operations: operations.to_vec(), failure };
    let mut scenario = Scenario::begin(fixture);
    scenario.run(&operations).map_err(|refused| {
        failed(Failure { wrong: refused.to_string(), crashes: Vec::new(), states: 0 })
    })?;
    let mut explorer = Explorer::new(effort, seed);
    explorer.totals.scenarios = 1;
    let mut before = fixture.medium.clone();
    for _ in 0..CRASHES {
        let left = explorer.explore_some(&before, &scenario).map_err(failed)?;
        scenario = Scenario::continuing(&left, &scenario.disk.sealed());
        scenario.step(Operation::Reopen).map_err(|error| {
            failed(Failure { wrong: error.to_string(), crashes: Vec::new(), states: 0 })
        })?;
        before = left.medium;
    }
    Ok(explorer.totals)
}
