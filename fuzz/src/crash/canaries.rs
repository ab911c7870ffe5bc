//! Deliberate faults in the commit protocol: each must be caught, or the checks are worth nothing.

use ar7_engine::{PlantedFault, with_planted_fault};

use super::campaign::{explore_world, single_threaded, small_worlds};
use super::explore::Effort;
use super::faults::{failures_poison, readers_keep_their_blocks, rot_is_noticed};
use super::operation::Operation;
use super::world::{Beginning, World};

/// How a planted fault was caught.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caught {
    /// Which check caught it.
    pub check: &'static str,
    /// States after deaths that were looked at until then.
    pub states: u64,
    /// What it said.
    pub wrong: String,
}

/// How much is looked at for each fault.
const EFFORT: Effort = Effort {
    every_cut_up_to: 64,
    sampled_cuts: 16,
    deaths: 2,
    recovery_one_in: 4,
    reopen_one_in: 1,
};

/// States that are looked at before the other checks, and after them.
const STATES_MAX: [u64; 2] = [2000, 20_000];

/// Plants a fault and looks for it. `None` if nothing catches it.
pub fn caught(fault: PlantedFault, beginning: &Beginning) -> Option<Caught> {
    single_threaded(|| with_planted_fault(fault, || by_any_check(beginning)))
}

/// What the checks find when nothing is planted: nothing, if they are right.
pub fn false_alarm(beginning: &Beginning) -> Option<Caught> {
    single_threaded(|| by_any_check(beginning))
}

fn by_any_check(beginning: &Beginning) -> Option<Caught> {
    by_deaths(beginning, STATES_MAX[0])
        .or_else(|| by_other_checks(beginning))
        .or_else(|| by_deaths(beginning, STATES_MAX[1]))
}

fn by_deaths(beginning: &Beginning, most: u64) -> Option<Caught> {
    let mut states = 0;
    for (number, world) in (0..).zip(small_worlds(2)) {
        match explore_world(beginning, &world, EFFORT, number) {
            Ok(totals) => states += totals.states,
            Err(failed) => {
                let states = states + failed.failure.states;
                return Some(Caught { check: "deaths", states, wrong: failed.to_string() });
            }
        }
        if states > most {
            break;
        }
    }
    None
}

fn by_other_checks(beginning: &Beginning) -> Option<Caught> {
    let append = [Operation::Append { stream: 0, length: 50 }];
    let readers = readers_keep_their_blocks(beginning).err().map(|broken| broken.to_string());
    let failures = || failures_poison(beginning, &append).err().map(|broken| broken.to_string());
    let caught = |check| move |wrong| Caught { check, states: 0, wrong };
    readers
        .map(caught("a reader that stays"))
        .or_else(|| failures().map(caught("a failure of each write and sync")))
        .or_else(|| by_rot(beginning).map(caught("rot in each block")))
}

/// Lets bits rot after a commit that changed nothing but the metadata, so that no commit of the closing hides it.
fn by_rot(beginning: &Beginning) -> Option<String> {
    let mut world = World::begin(beginning);
    if let Err(refused) = world.run(&[Operation::Meta(3)]) {
        return Some(refused.to_string());
    }
    let (medium, sealed, content) = world.closed();
    let noticed = rot_is_noticed(&medium, &sealed, &content);
    noticed.err().map(|broken| broken.to_string())
}
