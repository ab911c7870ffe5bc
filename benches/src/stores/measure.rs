//! The cases, and the order in which they are measured.

use std::path::Path;
use std::sync::Barrier;
use std::time::Instant;

use serde::Serialize;

use super::{Kind, Order, Record, Result, Store, records, shuffled, size_bytes};

/// Number of gets in a case, by all threads together.
const GETS: u32 = 1_000_000;

/// Numbers of threads for gets.
const THREADS: [u32; 2] = [1, 2];

/// Seeds of the records, of the order in which they are loaded, and of the order in which they are looked up.
const SEEDS: [u64; 3] = [1, 2, 3];

/// The extent of a measurement.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The number of records to load.
    pub records: u32,
    /// The number of rounds. In each, every store runs every case once.
    pub rounds: u32,
    /// The number of single inserts in a round.
    pub single_inserts: u32,
    /// The stores, in the order in which they run.
    pub stores: Vec<Kind>,
}

/// One case, run once by one store.
#[derive(Debug, Clone, Serialize)]
pub struct Measure {
    /// The name of the store.
    pub store: &'static str,
    /// The version of the store.
    pub version: String,
    /// The case.
    pub case: &'static str,
    /// The round, from 0.
    pub round: u32,
    /// The number of threads.
    pub threads: u32,
    /// The number of operations.
    pub count: u32,
    /// The seconds taken; `None` for a size.
    pub seconds: Option<f64>,
    /// The total size of all files; only for a size.
    pub bytes: Option<u64>,
}

/// All measurements.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The number of records loaded.
    pub records: u32,
    /// The number of rounds.
    pub rounds: u32,
    /// The measures, in the order in which they were taken.
    pub measures: Vec<Measure>,
}

/// Measures every store, round by round, so that other load affects all of them equally. Each store has a separate
/// directory below `folder`, which is removed after its turn.
pub fn run(plan: &Plan, folder: &Path, progress: &mut dyn FnMut(&Measure)) -> Result<Report> {
    let all = plan.records.checked_add(plan.single_inserts).ok_or("too many records")?;
    let all = records(all, SEEDS[0]);
    let (loaded, single) = all.split_at(usize::try_from(plan.records)?);
    let world = World {
        loaded,
        single,
        loading: shuffled(plan.records, SEEDS[1]),
        getting: shuffled(plan.records, SEEDS[2]),
    };
    let mut measures = Vec::new();
    for round in 0..plan.rounds {
        for &kind in &plan.stores {
            let mut turn = Turn { kind, round, measures: &mut measures, progress };
            turn.take(&world, folder)?;
        }
    }
    Ok(Report { records: plan.records, rounds: plan.rounds, measures })
}

/// The input of every store.
struct World<'a> {
    loaded: &'a [Record],
    /// Above all other records, like new identities.
    single: &'a [Record],
    loading: Vec<u32>,
    getting: Vec<u32>,
}

/// The turn of one store in one round.
struct Turn<'a> {
    kind: Kind,
    round: u32,
    measures: &'a mut Vec<Measure>,
    progress: &'a mut dyn FnMut(&Measure),
}

impl Turn<'_> {
    fn take(&mut self, world: &World<'_>, folder: &Path) -> Result<()> {
        self.load(world, Order::Random, folder)?;
        let place = tempfile::tempdir_in(folder)?;
        let store = self.load_in(world, Order::Sorted, place.path())?;
        self.get_all(&*store, world)?;
        self.insert_all(&*store, world.single)?;
        self.scan(&*store, world)?;
        drop(store);
        Ok(place.close()?)
    }

    /// Loads a store, then drops it and removes its files.
    fn load(&mut self, world: &World<'_>, order: Order, folder: &Path) -> Result<()> {
        let place = tempfile::tempdir_in(folder)?;
        drop(self.load_in(world, order, place.path())?);
        Ok(place.close()?)
    }

    fn load_in(
        &mut self,
        world: &World<'_>,
        order: Order,
        folder: &Path,
    ) -> Result<Box<dyn Store>> {
        let store = self.kind.create(folder)?;
        let start = Instant::now();
        let case = match order {
            Order::Sorted => {
                store.load(&mut world.loaded.iter(), order)?;
                "load_sorted"
            }
            Order::Random => {
                store.load(&mut picked(world.loaded, &world.loading), order)?;
                "load_random"
            }
        };
        let count = world.loading.len();
        self.note(case, 1, count, start.elapsed().as_secs_f64())?;
        let bytes = size_bytes(folder)?;
        let case = if order == Order::Sorted { "size_sorted" } else { "size_random" };
        self.push(case, 1, count, None, Some(bytes))?;
        Ok(store)
    }

    fn get_all(&mut self, store: &dyn Store, world: &World<'_>) -> Result<()> {
        // Afterwards the caches are warm.
        get(store, world, 1)?;
        for threads in THREADS {
            let seconds = get(store, world, threads)?;
            self.note("get", threads, usize::try_from(GETS)?, seconds)?;
        }
        Ok(())
    }

    fn insert_all(&mut self, store: &dyn Store, records: &[Record]) -> Result<()> {
        let start = Instant::now();
        for record in records {
            store.insert(record)?;
        }
        self.note("insert_durable", 1, records.len(), start.elapsed().as_secs_f64())
    }

    fn scan(&mut self, store: &dyn Store, world: &World<'_>) -> Result<()> {
        let reader = store.reader()?;
        let start = Instant::now();
        let mut expected = world.loaded.iter().chain(world.single);
        let mut right = 0;
        reader.scan(&mut |entry| {
            right += usize::from(expected.next().is_some_and(|record| entry.is(record)));
        })?;
        let count = world.loaded.len() + world.single.len();
        if right != count {
            return Err(format!("{} shows {right} of {count} records", self.kind.name()).into());
        }
        self.note("scan", 1, count, start.elapsed().as_secs_f64())
    }

    fn note(&mut self, case: &'static str, threads: u32, count: usize, seconds: f64) -> Result<()> {
        self.push(case, threads, count, Some(seconds), None)
    }

    fn push(
        &mut self,
        case: &'static str,
        threads: u32,
        count: usize,
        seconds: Option<f64>,
        bytes: Option<u64>,
    ) -> Result<()> {
        let (store, version, round) = (self.kind.name(), self.kind.version(), self.round);
        let count = u32::try_from(count)?;
        let measure = Measure { store, version, case, round, threads, count, seconds, bytes };
        (self.progress)(&measure);
        self.measures.push(measure);
        Ok(())
    }
}

/// Returns records in a given order.
fn picked<'a>(records: &'a [Record], order: &'a [u32]) -> impl Iterator<Item = &'a Record> {
    order.iter().map(|&number| &records[usize::try_from(number).expect("a number in memory")])
}

/// Gets records in random order, divided among threads. Returns the seconds from when all threads are ready until all
/// are done.
fn get(store: &dyn Store, world: &World<'_>, threads: u32) -> Result<f64> {
    let ready = Barrier::new(usize::try_from(threads)? + 1);
    let share = usize::try_from(GETS / threads)?;
    std::thread::scope(|scope| {
        let ready = &ready;
        let work = |skipped: usize| {
            move || {
                let reader = store.reader();
                ready.wait();
                let reader = reader?;
                let order = world.getting.iter().cycle().skip(skipped).take(share);
                for &number in order {
                    let record = &world.loaded[usize::try_from(number)?];
                    if !reader.has(record)? {
                        return Err(format!("no {}", record.identity()).into());
                    }
                }
                Result::Ok(())
            }
        };
        let threads: Vec<_> = (0..usize::try_from(threads)?)
            .map(|thread| scope.spawn(work(thread * share % world.getting.len().max(1))))
            .collect();
        ready.wait();
        let start = Instant::now();
        for thread in threads {
            thread.join().map_err(|_| "a thread panicked")??;
        }
        Ok(start.elapsed().as_secs_f64())
    })
}
