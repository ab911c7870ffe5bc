//! Crashes while threads write: scenarios whose writes are so large that they run in the background. The order in which
//! threads write depends on the system, so a seed reproduces the operations and the sample, but not every state.

use ar7_engine::{PlantedFault, with_planted_fault};

use super::campaign::FailedScenario;
use super::canaries::Caught;
use super::explore::{Effort, Explorer, Failure, Totals};
use super::operation::Operation;
use super::scenario::{Fixture, Scenario};

/// Maximum number of changed blocks to keep in memory. Beyond it, threads write them.
const DIRTY_BLOCKS: usize = 1100;

/// Maximum number of changed pages to keep in memory.
const DIRTY_PAGES: usize = 12;

/// Each commit, rollback and close happens during an in-flight write.
const OPERATIONS: [Operation; 12] = [
    Operation::Create { length: 4_500_000, name: Some(3) },
    Operation::Overwrite { stream: 1, offset: 3990, length: 40 },
    Operation::Append { stream: 0, length: 4_800_000 },
    Operation::Commit,
    Operation::Create { length: 5_000_000, name: None },
    Operation::Rollback,
    Operation::Delete { stream: 0 },
    Operation::Create { length: 4_600_000, name: Some(4) },
    Operation::Truncate { stream: 2, length: 4100 },
    Operation::Commit,
    Operation::Create { length: 4_500_000, name: None },
    Operation::Reopen,
];

/// Explores a sample of the crashes of a large scenario, continues from one of them, and explores the crashes of that.
///
/// # Panics
/// If the caller runs in a pool of one thread, where no other thread writes.
pub fn explore_large_scenario(
    fixture: &Fixture,
    effort: Effort,
    seed: u64,
) -> Result<Totals, FailedScenario> {
    assert!(rayon::current_thread_index().is_none(), "other threads must be able to write");
    let failed = |failure| FailedScenario { seed, operations: OPERATIONS.to_vec(), failure };
    let mut explorer = Explorer::new(effort, seed);
    let mut scenario = Scenario::begin(fixture);
    let mut before = fixture.medium.clone();
    for _ in 0..2 {
        explorer.totals.scenarios += 1;
        scenario = scenario.limited(Some((DIRTY_BLOCKS, DIRTY_PAGES)));
        scenario.run(&OPERATIONS).map_err(|refused| {
            failed(Failure { wrong: refused.to_string(), crashes: Vec::new(), states: 0 })
        })?;
        let left = explorer.explore_some(&before, &scenario).map_err(failed)?;
        scenario = Scenario::continuing(&left, &scenario.disk.sealed());
        before = left.medium;
    }
    Ok(explorer.totals)
}

/// Plants a fault and looks for it in large scenarios. Returns `None` if they do not catch it.
pub fn caught_in_large_scenarios(fault: PlantedFault, fixture: &Fixture) -> Option<Caught> {
    let effort = Effort {
        every_cut_up_to: 16,
        sampled_cuts: 60,
        crashes: 1,
        recovery_one_in: 1,
        reopen_one_in: 1,
    };
    let mut states = 0;
    for seed in 0..10 {
        match with_planted_fault(fault, || explore_large_scenario(fixture, effort, seed)) {
            Ok(totals) => states += totals.states,
            Err(failed) => {
                let states = states + failed.failure.states;
                let wrong = failed.to_string();
                return Some(Caught { check: "crashes while threads write", states, wrong });
            }
        }
    }
    None
}
