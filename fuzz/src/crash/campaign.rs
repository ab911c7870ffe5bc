//! Runs many scenarios on all cores.

use std::fmt;
use std::sync::Mutex;

use super::explore::{Effort, Explorer, Failure, Totals};
use super::operation::{Operation, SMALL};
use super::parallel::on_all_cores;
use super::scenario::{Fixture, Scenario};

/// A scenario in which a promise was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedScenario {
    /// The seed of the samples.
    pub seed: u64,
    /// The operations of the scenario.
    pub operations: Vec<Operation>,
    /// What was wrong.
    pub failure: Failure,
}

impl fmt::Display for FailedScenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "scenario {}, seed {}: {}", self.names(), self.seed, self.failure)
    }
}

impl FailedScenario {
    /// Returns the names of the operations, separated by commas.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.operations.iter().map(ToString::to_string).collect();
        names.join(",")
    }
}

/// Returns every sequence of one to `length` small operations.
pub fn small_scenarios(length: usize) -> Vec<Vec<Operation>> {
    let mut scenarios: Vec<Vec<Operation>> = Vec::new();
    let mut last: Vec<Vec<Operation>> = vec![Vec::new()];
    for _ in 0..length {
        let longer = last.iter().flat_map(|before| {
            SMALL.iter().map(move |&(_, next)| before.iter().copied().chain([next]).collect())
        });
        last = longer.collect();
        scenarios.extend(last.iter().cloned());
    }
    scenarios
}

/// Runs one scenario and explores all of its crashes.
pub fn explore_scenario(
    fixture: &Fixture,
    operations: &[Operation],
    effort: Effort,
    seed: u64,
) -> Result<Totals, FailedScenario> {
    let failed = |failure| FailedScenario { seed, operations: operations.to_vec(), failure };
    let mut scenario = Scenario::begin(fixture);
    scenario.run(operations).map_err(|refused| {
        failed(Failure { wrong: refused.to_string(), crashes: Vec::new(), states: 0 })
    })?;
    let mut explorer = Explorer::new(effort, seed);
    explorer.explore(&fixture.medium, &scenario).map_err(failed)?;
    Ok(explorer.totals)
}

/// Runs many scenarios on all cores. Stops at the first that fails, in the order of completion.
pub fn explore_scenarios(
    scenarios: &[Vec<Operation>],
    effort: Effort,
    seed: u64,
    progress: &(dyn Fn(&Totals) + Sync),
) -> Result<Totals, FailedScenario> {
    let fixture = Fixture::new();
    let totals = Mutex::new(Totals::default());
    on_all_cores(scenarios.len(), |number| {
        let seed = seed.wrapping_add(u64::try_from(number).expect("a number of scenarios"));
        let found = explore_scenario(&fixture, &scenarios[number], effort, seed)?;
        let mut totals = totals.lock().expect("no scenario panicked");
        *totals += found;
        progress(&totals);
        Ok(())
    })?;
    Ok(totals.into_inner().expect("no scenario panicked"))
}
