//! Planted faults in the commit protocol. If the checks missed one of them, they would be worthless.

use ar7_engine::{PlantedFault, with_planted_fault};

use super::campaign::{explore_scenario, small_scenarios};
use super::explore::Effort;
use super::faults::{corruption_is_detected, failures_poison, readers_keep_their_blocks};
use super::operation::Operation;
use super::parallel::single_threaded;
use super::scenario::{Fixture, Scenario};

/// How a planted fault was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// The check that caught it.
    pub check: &'static str,
    /// The number of states explored until then.
    pub states: u64,
    /// The failure that the check reported.
    pub wrong: String,
}

/// The effort spent on each fault.
const EFFORT: Effort = Effort {
    every_cut_up_to: 64,
    sampled_cuts: 16,
    crashes: 2,
    recovery_one_in: 4,
    reopen_one_in: 1,
};

/// The numbers of states to explore before and after the other checks.
const STATES_MAX: [u64; 2] = [150, 20_000];

/// Plants a fault and looks for it. Returns `None` if no check catches it.
pub fn caught(fault: PlantedFault, fixture: &Fixture) -> Option<Caught> {
    single_threaded(|| with_planted_fault(fault, || by_any_check(fixture)))
}

/// Runs the checks without a planted fault. Returns `None` if they are correct.
pub fn false_alarm(fixture: &Fixture) -> Option<Caught> {
    single_threaded(|| by_any_check(fixture))
}

/// Runs the checks, the short ones first.
fn by_any_check(fixture: &Fixture) -> Option<Caught> {
    by_a_reader(fixture)
        .or_else(|| by_crashes(fixture, STATES_MAX[0]))
        .or_else(|| by_corruption(fixture))
        .or_else(|| by_failures(fixture))
        .or_else(|| by_crashes(fixture, STATES_MAX[1]))
}

fn by_crashes(fixture: &Fixture, most: u64) -> Option<Caught> {
    let mut states = 0;
    for (number, scenario) in (0..).zip(small_scenarios(2)) {
        match explore_scenario(fixture, &scenario, EFFORT, number) {
            Ok(totals) => states += totals.states,
            Err(failed) => {
                let states = states + failed.failure.states;
                return Some(Caught { check: "crashes", states, wrong: failed.to_string() });
            }
        }
        if states > most {
            break;
        }
    }
    None
}

fn by_a_reader(fixture: &Fixture) -> Option<Caught> {
    let broken = readers_keep_their_blocks(fixture).err()?;
    Some(Caught { check: "a reader that stays", states: 0, wrong: broken.to_string() })
}

fn by_failures(fixture: &Fixture) -> Option<Caught> {
    let append = [Operation::Append { stream: 0, length: 50 }];
    let broken = failures_poison(fixture, &append, 1).err()?;
    Some(Caught { check: "a failure of each write and sync", states: 0, wrong: broken.to_string() })
}

/// Corrupts blocks after a commit that changed only the metadata, so that the commits of closing do not hide it.
fn by_corruption(fixture: &Fixture) -> Option<Caught> {
    let caught = |wrong| Caught { check: "corruption in each block", states: 0, wrong };
    let mut scenario = Scenario::begin(fixture);
    if let Err(refused) = scenario.run(&[Operation::Meta(3)]) {
        return Some(caught(refused.to_string()));
    }
    let (medium, sealed, content) = scenario.closed();
    let broken = corruption_is_detected(&medium, &sealed, &content).err()?;
    Some(caught(broken.to_string()))
}
