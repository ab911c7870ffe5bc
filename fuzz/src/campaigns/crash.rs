//! `cargo xtask crash`: explores every crash of small scenarios, and many of long ones, on the simulated disk.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::crash::{
    Effort, Fixture, NAMED, Operation, Totals, explore_large_scenario, explore_long_scenarios,
    explore_readers, explore_scenarios, rekey_scenarios, small_scenarios,
};
use clap::Args;

use xtask::error::{Error, Result};

/// Options of the campaign.
#[derive(Args)]
pub(crate) struct Options {
    /// Run every sequence of three operations, and explore at least ten million states; takes hours
    #[arg(long)]
    long: bool,
    /// Maximum number of operations in a small scenario
    #[arg(long, default_value_t = 2)]
    operations: usize,
    /// Number of long scenarios
    #[arg(long, default_value_t = 200)]
    long_scenarios: usize,
    /// Number of large scenarios, in which threads write in the background
    #[arg(long, default_value_t = 4)]
    large_scenarios: usize,
    /// Number of scenarios with readers next to the writer
    #[arg(long, default_value_t = 1700)]
    reader_scenarios: usize,
    /// Seed of the samples, and of the first long scenario
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Explore the crashes of the recovery for one state in this many
    #[arg(long, default_value_t = 8)]
    recovery_one_in: u64,
    /// Run only this small scenario: names of operations, separated by commas
    #[arg(long, value_parser = parse_scenario)]
    scenario: Option<Scenario>,
}

/// Minimum number of states that the long campaign explores.
const LONG_STATES: u64 = 10_000_000;

/// The interval between progress lines.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// The operations of a small scenario.
#[derive(Clone)]
struct Scenario(Vec<Operation>);

fn parse_scenario(text: &str) -> std::result::Result<Scenario, String> {
    let parsed = text.split(',').map(|name| {
        let found = NAMED.iter().find(|(known, _)| *known == name);
        let known: Vec<&str> = NAMED.iter().map(|(known, _)| *known).collect();
        let unknown = || format!("expected one of {}, found {name}", known.join(", "));
        found.map(|&(_, operation)| operation).ok_or_else(unknown)
    });
    parsed.collect::<std::result::Result<_, _>>().map(Scenario)
}

/// Runs the campaign.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut campaign =
        Campaign { seed: options.seed, sum: Totals::default(), said: Mutex::new(Instant::now()) };
    let started = Instant::now();
    let outcome = campaign.run(options);
    println!("crash: {}", campaign.sum);
    println!("crash: seed {}, {:.1} s", options.seed, started.elapsed().as_secs_f64());
    let failure = outcome.err();
    println!("crash: {}", if failure.is_none() { "no fault" } else { "FAULT" });
    failure.map_or(Ok(()), |failure| Err(Error::Fault(failure)))
}

struct Campaign {
    /// The seed of the next scenarios.
    seed: u64,
    sum: Totals,
    /// When a line was last printed.
    said: Mutex<Instant>,
}

impl Campaign {
    fn run(&mut self, options: &Options) -> std::result::Result<(), String> {
        let small = |recovery_one_in| Effort {
            every_cut_up_to: 64,
            sampled_cuts: 16,
            crashes: 3,
            recovery_one_in,
            reopen_one_in: 1,
        };
        if let Some(Scenario(operations)) = &options.scenario {
            return self.explore(std::slice::from_ref(operations), small(options.recovery_one_in));
        }
        let operations = if options.long { 3 } else { options.operations };
        let scenarios = small_scenarios(operations);
        self.explore(&scenarios, small(options.recovery_one_in))?;
        self.explore_long(options)?;
        self.explore_large(options.large_scenarios)?;
        self.explore_readers(options.reader_scenarios)?;
        if options.long {
            self.explore(&rekey_scenarios(), small(64))?;
        }
        // Runs the same scenarios again, with other samples of their crashes, until there are enough states.
        for part in scenarios.chunks(PART).cycle() {
            if !options.long || self.sum.states >= LONG_STATES {
                break;
            }
            self.explore(part, small(1))?;
        }
        Ok(())
    }

    fn explore(
        &mut self,
        scenarios: &[Vec<Operation>],
        effort: Effort,
    ) -> std::result::Result<(), String> {
        let progress = |totals: &Totals| self.say(totals);
        let totals =
            explore_scenarios(scenarios, effort, self.seed, &progress).map_err(|failed| {
                format!(
                    "{failed}\nto reproduce: cargo xtask crash --seed {} --scenario {}",
                    failed.seed,
                    failed.names()
                )
            })?;
        self.seed += totals.scenarios;
        self.sum += totals;
        Ok(())
    }

    fn explore_long(&mut self, options: &Options) -> std::result::Result<(), String> {
        let effort = Effort {
            every_cut_up_to: 16,
            sampled_cuts: 8,
            crashes: 2,
            recovery_one_in: 4,
            reopen_one_in: 1,
        };
        let progress = |totals: &Totals| self.say(totals);
        let totals = explore_long_scenarios(self.seed, options.long_scenarios, effort, &progress)
            .map_err(|failed| {
            format!(
                "{failed}\nto reproduce: cargo xtask crash --operations 0 --long-scenarios 1 --seed {}",
                failed.seed
            )
        })?;
        self.seed += totals.scenarios;
        self.sum += totals;
        Ok(())
    }

    fn explore_large(&mut self, count: usize) -> std::result::Result<(), String> {
        let effort = Effort {
            every_cut_up_to: 16,
            sampled_cuts: 200,
            crashes: 1,
            recovery_one_in: 1,
            reopen_one_in: 2,
        };
        let fixture = Fixture::new();
        for _ in 0..count {
            let totals = explore_large_scenario(&fixture, effort, self.seed).map_err(|failed| {
                format!(
                    "{failed}\nto reproduce, unless threads write in another order: cargo xtask crash --operations 0 \
                     --long-scenarios 0 --large-scenarios 1 --seed {}",
                    failed.seed
                )
            })?;
            self.say(&totals);
            self.seed += 1;
            self.sum += totals;
        }
        Ok(())
    }

    fn explore_readers(&mut self, count: usize) -> std::result::Result<(), String> {
        let totals = explore_readers(self.seed, count).map_err(|failed| {
            format!(
                "{failed}\nto reproduce: cargo xtask crash --operations 0 --long-scenarios 0 --large-scenarios 0 \
                 --reader-scenarios 1 --seed {}",
                failed.seed
            )
        })?;
        println!("crash: {totals}");
        Ok(())
    }

    fn say(&self, totals: &Totals) {
        let mut said = self.said.lock().expect("no thread panicked");
        if said.elapsed() >= LINE_EVERY {
            *said = Instant::now();
            let mut sum = self.sum;
            sum += *totals;
            println!("crash: {} states in {} scenarios", sum.states, sum.scenarios);
        }
    }
}

/// The number of scenarios to run again at a time.
const PART: usize = 8;
