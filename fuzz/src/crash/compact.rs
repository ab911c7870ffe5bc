//! Crashes during a compaction.

use ar7_engine::{PlantedFault, with_planted_fault};

use super::campaign::FailedScenario;
use super::canaries::Caught;
use super::explore::{Effort, Explorer, Failure, Totals};
use super::operation::Operation;
use super::parallel::single_threaded;
use super::scenario::{Fixture, Scenario};

/// Explores crashes of compactions: of one that moves part of a stream, and of one that moves single blocks. Each of
/// `rounds` rounds crashes and continues several times, and explores as many crashes each time as the effort states.
///
/// # Panics
/// If the archives cannot be created.
pub fn explore_compactions(
    rounds: u64,
    effort: Effort,
    seed: u64,
) -> Result<Totals, FailedScenario> {
    single_threaded(|| explore(rounds, effort, seed))
}

fn explore(rounds: u64, effort: Effort, seed: u64) -> Result<Totals, FailedScenario> {
    let mut totals = Totals::default();
    for fixture in [with_free_beginning(), in_single_blocks()] {
        for round in 0..rounds {
            totals += explore_round(&fixture, effort, seed.wrapping_add(round))?;
        }
    }
    Ok(totals)
}

/// Plants a fault in compaction and looks for it. Returns `None` if no check catches it.
pub fn caught_in_compaction(fault: PlantedFault) -> Option<Caught> {
    let effort = Effort {
        every_cut_up_to: 8,
        sampled_cuts: 40,
        crashes: 1,
        recovery_one_in: 4,
        reopen_one_in: 4,
    };
    let explored = single_threaded(|| with_planted_fault(fault, || explore(4, effort, 1)));
    let failed = explored.err()?;
    let (states, wrong) = (failed.failure.states, failed.to_string());
    Some(Caught { check: "crashes of a compaction", states, wrong })
}

/// The number of consecutive crashes in a round.
const CRASHES: u32 = 3;

/// Creates an archive whose first part is free, and which ends with a long stream.
fn with_free_beginning() -> Fixture {
    made_by(&[
        Operation::Create { length: 200_000, name: Some(3) },
        Operation::Create { length: 350_000, name: Some(4) },
        Operation::Commit,
        Operation::Delete { stream: 3 },
    ])
}

/// Creates an archive with streams in single blocks, between free blocks.
fn in_single_blocks() -> Fixture {
    let create = Operation::Create { length: 4008, name: None };
    let mut operations = vec![create; 6];
    for round in 0..16 {
        for stream in 3..9 {
            operations.push(Operation::Append { stream, length: 4008 + round });
        }
        operations.push(Operation::Commit);
    }
    operations.extend([3, 4, 4].map(|stream| Operation::Delete { stream }));
    made_by(&operations)
}

fn made_by(operations: &[Operation]) -> Fixture {
    let mut scenario = Scenario::begin(&Fixture::new());
    scenario.run(operations).expect("a larger archive");
    let (medium, sealed, content) = scenario.closed();
    Fixture { medium, sealed, content }
}

fn explore_round(fixture: &Fixture, effort: Effort, seed: u64) -> Result<Totals, FailedScenario> {
    let operations = [Operation::Compact, Operation::Meta(5)];
    let failed = |failure| FailedScenario { seed, operations: operations.to_vec(), failure };
    let mut scenario = Scenario::begin(fixture);
    let refused = |wrong: String| failed(Failure { wrong, crashes: Vec::new(), states: 0 });
    scenario.run(&operations).map_err(|error| refused(error.to_string()))?;
    if scenario.disk.medium().length() >= fixture.medium.length() {
        return Err(refused("the archive is not shorter".to_owned()));
    }
    let mut explorer = Explorer::new(effort, seed);
    explorer.totals.scenarios = 1;
    let mut before = fixture.medium.clone();
    for _ in 0..CRASHES {
        let left = explorer.explore_some(&before, &scenario).map_err(failed)?;
        scenario = Scenario::continuing(&left, &scenario.disk.sealed());
        scenario.run(&operations).map_err(|error| refused(error.to_string()))?;
        before = left.medium;
    }
    Ok(explorer.totals)
}
