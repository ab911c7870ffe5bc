//! Many worlds, on all cores.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::explore::{Effort, Explorer, Failure, Totals};
use super::operation::{Operation, SMALL};
use super::world::{Beginning, World};

/// A world in which a promise was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedWorld {
    /// The seed of the samples.
    pub seed: u64,
    /// What was done.
    pub operations: Vec<Operation>,
    /// What was wrong.
    pub failure: Failure,
}

impl fmt::Display for FailedWorld {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "world {}, seed {}: {}", self.names(), self.seed, self.failure)
    }
}

impl FailedWorld {
    /// Names of the operations, divided by commas.
    pub fn names(&self) -> String {
        let names: Vec<String> = self.operations.iter().map(ToString::to_string).collect();
        names.join(",")
    }
}

/// Every sequence of one to `length` of the small operations.
pub fn small_worlds(length: usize) -> Vec<Vec<Operation>> {
    let mut worlds: Vec<Vec<Operation>> = Vec::new();
    let mut last: Vec<Vec<Operation>> = vec![Vec::new()];
    for _ in 0..length {
        let longer = last.iter().flat_map(|before| {
            SMALL.iter().map(move |&(_, next)| before.iter().copied().chain([next]).collect())
        });
        last = longer.collect();
        worlds.extend(last.iter().cloned());
    }
    worlds
}

/// Runs one world and looks at all its deaths.
pub fn explore_world(
    beginning: &Beginning,
    operations: &[Operation],
    effort: Effort,
    seed: u64,
) -> Result<Totals, FailedWorld> {
    let failed = |failure| FailedWorld { seed, operations: operations.to_vec(), failure };
    let mut world = World::begin(beginning);
    world.run(operations).map_err(|refused| {
        failed(Failure { wrong: refused.to_string(), deaths: Vec::new(), states: 0 })
    })?;
    let mut explorer = Explorer::new(effort, seed);
    explorer.explore(&beginning.medium, &world).map_err(failed)?;
    Ok(explorer.totals)
}

/// Runs many worlds on all cores. Stops at the first that fails, in the order in which they end.
pub fn explore_worlds(
    worlds: &[Vec<Operation>],
    effort: Effort,
    seed: u64,
    progress: &(dyn Fn(&Totals) + Sync),
) -> Result<Totals, FailedWorld> {
    let beginning = Beginning::new();
    let totals = Mutex::new(Totals::default());
    on_all_cores(worlds.len(), |number| {
        let seed = seed.wrapping_add(u64::try_from(number).expect("a number of worlds"));
        let found = explore_world(&beginning, &worlds[number], effort, seed)?;
        let mut totals = totals.lock().expect("no world panicked");
        *totals += found;
        progress(&totals);
        Ok(())
    })?;
    Ok(totals.into_inner().expect("no world panicked"))
}

/// Does jobs 0 to `count`, each on one thread from its beginning to its end, as many threads as there are cores.
/// What the library does in parallel it does on that thread, so that a world is repeated by its seed.
pub(crate) fn on_all_cores<E: Send>(
    count: usize,
    job: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let failed = Mutex::new(None);
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            if let Err(error) = job(number) {
                is_over.store(true, Ordering::Relaxed);
                failed.lock().expect("no job panicked").get_or_insert(error);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| single_threaded(work));
        }
    });
    failed.into_inner().expect("no job panicked").map_or(Ok(()), Err)
}

/// Does work in such a way that rayon uses no other thread for it.
pub fn single_threaded<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a pool of one thread").install(work)
}
