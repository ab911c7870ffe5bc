//! Crashes while content is packed, replaced, changed, deleted and moved.

use std::sync::Mutex;

use ar7_engine::{PlantedFault, with_planted_fault};

use super::campaign::{FailedScenario, explore_scenario};
use super::canaries::Caught;
use super::explore::{Effort, Totals};
use super::operation::Operation;
use super::parallel::{on_all_cores, single_threaded};
use super::scenario::Fixture;

/// Names at the root.
const ONE: u8 = 1;
const TWO: u8 = 3;
const THREE: u8 = 5;

/// Returns scenarios that begin with three files that share a frame, or with one with a hole.
fn scenarios() -> Vec<Vec<Operation>> {
    let pack = |name, length| Operation::Pack { name, length };
    let change = |file, offset, length| Operation::ChangePacked { file, offset, length };
    let shared = [pack(ONE, 300), pack(TWO, 200), pack(THREE, 100), Operation::Commit];
    let hole = [Operation::PackHole { name: ONE, length: 5000 }, Operation::Commit];
    let after = |first: &[Operation], then: &[Operation]| [first, then].concat();
    vec![
        // Over a quarter of the pack is dead: the rest is moved to another one.
        after(&shared, &[pack(ONE, 0), Operation::Commit]),
        after(&shared, &[pack(TWO, 50), Operation::Commit, pack(THREE, 7000)]),
        // A file gets a stream of its own, which is written to.
        after(
            &shared,
            &[change(0, 0, 9), Operation::Overwrite { stream: 3, offset: 7, length: 90 }],
        ),
        after(&shared, &[change(1, 0, 0), Operation::Commit, pack(TWO, 400)]),
        // A file with a hole is written to: before the hole, in it, and behind the end.
        after(&hole, &[change(0, 4000, 2000), Operation::Commit, change(0, 30_000, 10)]),
        after(&hole, &[change(0, 9000, 100), Operation::Savepoint, change(0, 9050, 100)]),
        after(&hole, &[change(0, 9000, 100), Operation::Rename { from: 3, to: TWO }]),
        after(&hole, &[Operation::PackHole { name: ONE, length: 300 }, Operation::Commit]),
        // Several names.
        after(&shared, &[Operation::Link { from: 3, inside: 0, name: 7 }, pack(ONE, 20)]),
        after(
            &shared,
            &[
                pack(ONE, 900),
                Operation::Savepoint,
                pack(TWO, 0),
                Operation::RollBackTo { point: 0 },
            ],
        ),
        after(&shared, &[pack(ONE, 0), Operation::Rekey]),
        after(&shared, &[pack(ONE, 0), Operation::Compact]),
    ]
}

/// Explores every crash of each scenario.
pub fn explore_packs(effort: Effort, seed: u64) -> Result<Totals, FailedScenario> {
    let (fixture, scenarios) = (single_threaded(Fixture::new), scenarios());
    let totals = Mutex::new(Totals::default());
    on_all_cores(scenarios.len(), |number| {
        let found = explore_scenario(&fixture, &scenarios[number], effort, seed)?;
        *totals.lock().expect("no scenario panicked") += found;
        Ok(())
    })?;
    Ok(totals.into_inner().expect("no scenario panicked"))
}

/// Plants a fault in packed content and looks for it. Returns `None` if no check catches it.
pub fn caught_in_packs(fault: PlantedFault) -> Option<Caught> {
    let effort = Effort {
        every_cut_up_to: 4,
        sampled_cuts: 2,
        crashes: 1,
        recovery_one_in: 1024,
        reopen_one_in: 4,
    };
    single_threaded(|| {
        let (fixture, mut states) = (Fixture::new(), 0);
        for scenario in scenarios() {
            match with_planted_fault(fault, || explore_scenario(&fixture, &scenario, effort, 1)) {
                Ok(totals) => states += totals.states,
                Err(failed) => {
                    let (states, wrong) = (states + failed.failure.states, failed.to_string());
                    return Some(Caught { check: "crashes of packed content", states, wrong });
                }
            }
        }
        None
    })
}
