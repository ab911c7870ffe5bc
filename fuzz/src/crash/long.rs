//! Long scenarios: many operations and several crashes, generated from one seed, with shrinking of failures.

use super::explore::{Effort, Explorer, Failure, Totals};
use super::operation::{Operation, is_full};
use super::parallel::on_all_cores;
use super::scenario::{Fixture, Scenario};
use crate::Random;

/// One step of a long scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An operation.
    Do(Operation),
    /// A crash at some moment since the last opening. The scenario continues with the state that it left.
    Crash,
    /// From now on the file cannot grow by more than this number of blocks; without a limit if `None`.
    Room(Option<u32>),
}

/// A long scenario that failed, and the shortest similar one that was found.
#[derive(Debug, Clone)]
pub struct FailedLongScenario {
    /// The seed that generates it.
    pub seed: u64,
    /// The steps of the shortest scenario that fails.
    pub steps: Vec<Step>,
    /// The failure of that scenario.
    pub failure: Failure,
}

impl std::fmt::Display for FailedLongScenario {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "seed {}: {}", self.seed, self.failure)?;
        for step in &self.steps {
            writeln!(formatter, "  {step:?}")?;
        }
        Ok(())
    }
}

/// Runs the long scenarios of the seeds from `seed` on, on all cores.
pub fn explore_long_scenarios(
    seed: u64,
    count: usize,
    effort: Effort,
    progress: &(dyn Fn(&Totals) + Sync),
) -> Result<Totals, Box<FailedLongScenario>> {
    let fixture = Fixture::new();
    let totals = std::sync::Mutex::new(Totals::default());
    on_all_cores(count, |number| {
        let seed = seed.wrapping_add(u64::try_from(number).expect("a number of scenarios"));
        let steps = long_scenario(seed);
        let found = run_steps(&fixture, &steps, effort, seed).map_err(|failure| {
            let (steps, failure) = shrunk(&fixture, steps, failure, effort, seed);
            Box::new(FailedLongScenario { seed, steps, failure })
        })?;
        let mut totals = totals.lock().expect("no scenario panicked");
        *totals += found;
        progress(&totals);
        Ok::<(), Box<FailedLongScenario>>(())
    })?;
    Ok(totals.into_inner().expect("no scenario panicked"))
}

/// Returns the steps of a seed. The frequency of operations differs between scenarios, so that some mostly delete and
/// others mostly overwrite.
pub fn long_scenario(seed: u64) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut weights = [0; 13];
    for weight in &mut weights {
        *weight = if random.one_in(3) { 0 } else { random.below(10) + 1 };
    }
    // Every scenario creates streams and commits.
    weights[0] = weights[0].max(4);
    weights[7] = weights[7].max(3);
    // One scenario in many writes so much that the file grows several times. It has fewer steps, because exploring it
    // takes long.
    let (largest, count) = match random.below(24) {
        0 => (1_500_000, 10),
        1..12 => (200, 20 + random.below(60)),
        12..20 => (9000, 20 + random.below(60)),
        _ => (30_000, 20 + random.below(30)),
    };
    (0..count).map(|_| step(&mut random, &weights, largest)).collect()
}

/// Returns an operation that changes the content.
pub(super) fn any_operation(random: &mut Random) -> Operation {
    const WEIGHTS: [u64; 13] = [4, 6, 10, 3, 3, 1, 1, 0, 1, 0, 0, 0, 0];
    match step(random, &WEIGHTS, 9000) {
        Step::Do(operation) => operation,
        Step::Crash | Step::Room(_) => Operation::Commit,
    }
}

fn step(random: &mut Random, weights: &[u64; 13], largest: u64) -> Step {
    let mut left = random.below(weights.iter().sum());
    let kind = weights.iter().position(|&weight| match left.checked_sub(weight) {
        Some(less) => {
            left = less;
            false
        }
        None => true,
    });
    let mut below = |bound: u64| u32::try_from(random.below(bound)).expect("a small bound");
    // Faults are most likely at block boundaries.
    let border = 4008 * below(3) + below(3);
    let length = if below(3) == 0 { border } else { below(largest) };
    let stream = below(8);
    let name = u8::try_from(below(6)).expect("less than six");
    Step::Do(match kind {
        Some(0) if below(3) == 0 => match below(4) {
            0 => Operation::PackHole { name, length: length.min(20_000) },
            1 => {
                let offset = below(3 * 4008);
                Operation::ChangePacked { file: stream, offset, length: length.min(20_000) }
            }
            _ => Operation::Pack { name, length },
        },
        Some(0) => Operation::Create { length, name: (name > 1).then_some(name) },
        Some(1) => Operation::Append { stream, length },
        Some(2) => {
            Operation::Overwrite { stream, offset: below(3 * 4008), length: length.min(20_000) }
        }
        Some(3) => Operation::Truncate { stream, length },
        Some(4) => Operation::Delete { stream },
        Some(5) => Operation::Rename { from: stream, to: name },
        Some(6) => Operation::Meta(name),
        Some(7) => Operation::Commit,
        Some(8) => Operation::Rollback,
        Some(9) => Operation::Close,
        Some(10) => return Step::Crash,
        Some(11) => Operation::Compact,
        _ => return Step::Room([None, Some(0), Some(40), Some(300)][index(random, 4)]),
    })
}

fn index(random: &mut Random, bound: u64) -> usize {
    usize::try_from(random.below(bound)).expect("a small bound")
}

/// Runs a long scenario. In addition to the crashes that it continues from, explores a sample of others. `seed`
/// determines the samples and the amount of memory for changes.
pub fn run_steps(
    fixture: &Fixture,
    steps: &[Step],
    effort: Effort,
    seed: u64,
) -> Result<Totals, Failure> {
    let mut explorer = Explorer::new(effort, seed);
    explorer.totals.scenarios = 1;
    // Some scenarios flush almost everything early, some a little.
    let limits = [None, Some((2, 1)), Some((5, 12))][index(&mut Random::new(seed), 3)];
    let mut scenario = Scenario::begin(fixture).limited(limits);
    let mut before = fixture.medium.clone();
    let end = [Step::Do(Operation::Commit), Step::Do(Operation::Close), Step::Crash];
    for (number, step) in steps.iter().chain(&end).enumerate() {
        let refused = |error: ar7_registry::Error| Failure {
            wrong: format!("step {number}, {step:?}: {error}"),
            crashes: Vec::new(),
            states: 0,
        };
        match *step {
            Step::Do(operation) => match scenario.step(operation) {
                Err(error) if is_full(&error) => {
                    scenario.disk.set_capacity(None);
                    scenario.step(Operation::Rollback).map_err(refused)?;
                }
                outcome => outcome.map_err(refused)?,
            },
            Step::Room(more) => {
                let length = scenario.disk.medium().length();
                scenario.disk.set_capacity(more.map(|more| length.saturating_add(more)));
            }
            Step::Crash => {
                scenario.kill();
                let left = explorer.explore_some(&before, &scenario)?;
                scenario = Scenario::continuing(&left, &scenario.disk.sealed()).limited(limits);
                before = left.medium;
            }
        }
    }
    Ok(explorer.totals)
}

/// Returns a shorter scenario that also fails: leaves out steps as long as the failure remains.
fn shrunk(
    fixture: &Fixture,
    steps: Vec<Step>,
    failure: Failure,
    effort: Effort,
    seed: u64,
) -> (Vec<Step>, Failure) {
    let (mut steps, mut failure) = (steps, failure);
    let mut size = steps.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at < steps.len() {
            let mut fewer = steps.clone();
            fewer.drain(at..(at + size).min(steps.len()));
            match run_steps(fixture, &fewer, effort, seed) {
                Err(found) => (steps, failure) = (fewer, found),
                Ok(_) => at += size,
            }
        }
        size /= 2;
    }
    (steps, failure)
}
