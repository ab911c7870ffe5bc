//! Crashes of an archive that is long enough for third copies of header and meta slots. After each, the archive opens
//! without its first eight blocks too, at the commit that was found or the one before.

use ar7_engine::{PlantedFault, with_planted_fault};

use super::campaign::{FailedScenario, explore_scenario};
use super::canaries::Caught;
use super::explore::{Effort, Explorer, Failure, Totals};
use super::operation::Operation;
use super::parallel::single_threaded;
use super::scenario::{Fixture, Scenario};

/// The effort spent on each fault.
const EFFORT: Effort = Effort {
    every_cut_up_to: 16,
    sampled_cuts: 6,
    crashes: 2,
    recovery_one_in: 8,
    reopen_one_in: 2,
};

/// Returns the scenarios: changes in place, new streams, several commits and sessions.
fn scenarios() -> [Vec<Operation>; 3] {
    let overwrite = Operation::Overwrite { stream: 1, offset: 3990, length: 40 };
    let append = Operation::Append { stream: 0, length: 5000 };
    let create = Operation::Create { length: 9000, name: Some(5) };
    [
        vec![overwrite, Operation::Commit, append],
        vec![create, Operation::Reopen, overwrite],
        vec![Operation::Delete { stream: 2 }, Operation::Commit, create],
    ]
}

/// Creates an archive of little more than a MiB.
fn long() -> Fixture {
    let mut scenario = Scenario::begin(&Fixture::new());
    // Only from the second long commit on, the copy of the commit before is there.
    let create = Operation::Create { length: 1_050_000, name: Some(3) };
    let made = scenario.run(&[create, Operation::Commit, Operation::Meta(1)]);
    made.expect("a long archive");
    let (medium, sealed, content) = scenario.closed();
    Fixture { medium, sealed, content }
}

/// Explores the crashes of each scenario, and those of an archive that becomes long enough.
pub fn explore_third_copies(effort: Effort, seed: u64) -> Result<Totals, FailedScenario> {
    single_threaded(|| {
        let mut totals = explore(&long(), effort, seed)?;
        totals += explore_growth()?;
        Ok(totals)
    })
}

fn explore(fixture: &Fixture, effort: Effort, seed: u64) -> Result<Totals, FailedScenario> {
    let mut totals = Totals::default();
    for operations in scenarios() {
        let failed = |failure| FailedScenario { seed, operations: operations.clone(), failure };
        let mut scenario = Scenario::begin(fixture);
        scenario.run(&operations).map_err(|refused| {
            failed(Failure { wrong: refused.to_string(), crashes: Vec::new(), states: 0 })
        })?;
        let mut explorer = Explorer::new(effort, seed).with_third_copies();
        explorer.explore(&fixture.medium, &scenario).map_err(failed)?;
        totals += explorer.totals;
    }
    Ok(totals)
}

/// Explores crashes while an archive becomes long enough for third copies.
fn explore_growth() -> Result<Totals, FailedScenario> {
    let operations = [
        Operation::Create { length: 1_050_000, name: Some(3) },
        Operation::Commit,
        Operation::Meta(1),
        Operation::Commit,
    ];
    let effort = Effort { every_cut_up_to: 2, sampled_cuts: 2, crashes: 1, ..EFFORT };
    explore_scenario(&Fixture::new(), &operations, effort, 1)
}

/// Plants a fault and looks for it in these scenarios. Returns `None` if they do not catch it.
pub fn caught_in_third_copies(fault: PlantedFault) -> Option<Caught> {
    single_threaded(|| {
        let fixture = long();
        let explored = with_planted_fault(fault, || {
            explore_growth()?;
            explore(&fixture, EFFORT, 1)
        });
        let failed = explored.err()?;
        let (states, wrong) = (failed.failure.states, failed.to_string());
        Some(Caught { check: "crashes of a long archive", states, wrong })
    })
}
