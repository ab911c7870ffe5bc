//! Readers of other processes next to a writer: at every event of the disk, each of them must find the commit that it
//! opened, and a new one must find the last commit or the one in progress.
//!
//! Readers open and close at any event, even in the middle of a commit. Some outlive the writer, which is sometimes
//! killed, and the recovery by the next writer. At some events, a copy of the disk loses power. What it leaves must open
//! with one copy of each index page and redo block too, and, in a long archive, without its first eight blocks.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ar7_engine::device::Device;
use ar7_engine::device::simulated::{DiskFault, Kept, Medium, SimulatedDisk};
use ar7_engine::format::{Position, THIRD_COPIES};
use ar7_engine::store::Access;
use ar7_engine::{PlantedFault, with_planted_fault};
use ar7_registry::{Archive, Error, Result};

use super::content::Content;
use super::copies::{check_without_first_blocks, destroyed, doubled_blocks, has_two_third_copies};
use super::cuts::{one_way, uncertain_versions};
use super::long::any_operation;
use super::operation::{Operation, compact, is_full};
use super::parallel::{on_all_cores, single_threaded};
use super::scenario::{Fixture, Scenario, open};
use crate::Random;

/// Maximum number of readers at a time.
const READERS_MAX: usize = 4;

/// Number of operations in a scenario.
const OPERATIONS: usize = 60;

/// Counts of what was explored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReaderTotals {
    /// Number of scenarios.
    pub scenarios: u64,
    /// Number of readers that opened the archive.
    pub readers: u64,
    /// Number of states read: one for each event of the disk and each reader.
    pub states: u64,
    /// Number of power cuts.
    pub power_cuts: u64,
    /// Number of archives that were opened with one copy of each index page.
    pub single_copies: u64,
    /// Number of archives that were opened without their first eight blocks.
    pub without_first_blocks: u64,
    /// Number of kills of writers.
    pub kills: u64,
}

impl fmt::Display for ReaderTotals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ReaderTotals { scenarios, readers, states, power_cuts, kills, .. } = self;
        let ReaderTotals { single_copies, without_first_blocks, .. } = self;
        write!(
            formatter,
            "{states} states read by {readers} readers in {scenarios} scenarios, {kills} kills of writers, \
             {power_cuts} power cuts; {single_copies} states opened with one copy of each index page, \
             {without_first_blocks} without their first blocks"
        )
    }
}

impl std::ops::AddAssign for ReaderTotals {
    fn add_assign(&mut self, other: ReaderTotals) {
        self.scenarios += other.scenarios;
        self.readers += other.readers;
        self.states += other.states;
        self.power_cuts += other.power_cuts;
        self.single_copies += other.single_copies;
        self.without_first_blocks += other.without_first_blocks;
        self.kills += other.kills;
    }
}

/// A scenario in which a reader found something wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedReaders {
    /// The seed that generates the scenario.
    pub seed: u64,
    /// What was wrong.
    pub wrong: String,
}

impl fmt::Display for FailedReaders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "seed {}: {}", self.seed, self.wrong)
    }
}

/// Creates a mostly empty archive of over 2 MiB: with third copies of header and meta slots, and with index pages whose
/// copies lie far apart or are moved apart.
///
/// # Panics
/// If that fails.
pub fn long_fixture() -> Fixture {
    let mut scenario = Scenario::begin(&Fixture::new());
    let made = scenario.run(&[
        Operation::Create { length: 2_200_000, name: Some(3) },
        Operation::Create { length: 9000, name: Some(4) },
        Operation::Commit,
        Operation::Delete { stream: 3 },
    ]);
    made.expect("a long archive");
    let (medium, sealed, content) = scenario.closed();
    Fixture { medium, sealed, content }
}

/// Runs scenarios of consecutive seeds on all cores. Every third one begins with a long archive.
pub fn explore_readers(
    seed: u64,
    count: usize,
) -> std::result::Result<ReaderTotals, FailedReaders> {
    let (short, long) = (Fixture::new(), long_fixture());
    let totals = Mutex::new(ReaderTotals::default());
    on_all_cores(count, |number| {
        let seed = seed.wrapping_add(u64::try_from(number).expect("a number of scenarios"));
        let fixture = if number % 3 == 0 { &long } else { &short };
        let found = run(fixture, seed)?;
        *totals.lock().expect("no scenario panicked") += found;
        Ok(())
    })?;
    Ok(totals.into_inner().expect("no scenario panicked"))
}

/// Plants a fault and runs scenarios. Returns the first failure.
pub fn caught_by_readers(
    fault: PlantedFault,
    fixture: &Fixture,
    count: u64,
) -> Option<FailedReaders> {
    let work = || (0..count).find_map(|seed| run(fixture, seed).err());
    single_threaded(|| with_planted_fault(fault, work))
}

/// The readers of a disk, called at each event.
struct Readers {
    disk: SimulatedDisk,
    random: Random,
    /// The contents that a new reader may find.
    allowed: Vec<Content>,
    /// Each open reader, and the content that it found first.
    open: Vec<(Archive, Content)>,
    totals: ReaderTotals,
    wrong: Option<String>,
}

impl Readers {
    /// Checks what every reader finds now.
    fn at_event(&mut self) {
        if self.wrong.is_none() {
            self.wrong = self.check().err();
        }
    }

    fn check(&mut self) -> std::result::Result<(), String> {
        for (archive, content) in &self.open {
            self.totals.states += 1;
            // Verifying reads every block from the disk; reading may find pages in memory.
            let found = if self.random.one_in(8) {
                Content::verified(archive)
            } else {
                Content::read(archive).map_err(Into::into)
            };
            match found {
                Ok(found) if found == *content => {}
                Ok(found) => return Err(format!("a reader of {content:?} found {found:?}")),
                Err(error) => return Err(format!("a reader of {content:?}: {error}")),
            }
        }
        if !self.open.is_empty() && self.random.one_in(20) {
            let left = self.random.below(u64::try_from(self.open.len()).expect("a few"));
            self.open.remove(usize::try_from(left).expect("a few"));
        }
        if self.open.len() < READERS_MAX && self.random.one_in(8) {
            let opened = open(&self.disk.clone(), Access::Read);
            let archive = opened.map_err(|error| format!("a new reader: {error}"))?;
            let content = self.allowed_content(&archive, "a new reader")?;
            self.totals.readers += 1;
            self.open.push((archive, content));
        }
        if self.random.one_in(12) {
            self.cut_power()?;
        }
        Ok(())
    }

    fn allowed_content(
        &self,
        archive: &Archive,
        who: &str,
    ) -> std::result::Result<Content, String> {
        let found = Content::read(archive).map_err(|error| format!("{who}: {error}"))?;
        if self.allowed.contains(&found) {
            return Ok(found);
        }
        Err(format!("{who} found {found:?}, expected one of {:?}", self.allowed))
    }

    /// Cuts the power of a copy of the disk, and reads what is left.
    fn cut_power(&mut self) -> std::result::Result<(), String> {
        self.totals.power_cuts += 1;
        let medium = self.disk.medium();
        let versions = uncertain_versions(&medium);
        let is_kept = self.random.one_in(2);
        let mut cut = one_way(medium.lengths(), &versions, is_kept);
        for (kept, &count) in cut.kept.iter_mut().zip(&versions) {
            if self.random.one_in(3) {
                let version = self.random.below(u64::try_from(count).expect("a few"));
                let version = usize::try_from(version).expect("a few");
                *kept = Kept::Whole(version);
            }
        }
        let medium = medium.after_power_cut(&cut);
        let left = SimulatedDisk::with(medium.clone(), &self.disk.sealed());
        let opened = open(&left, Access::Read);
        let archive = opened.map_err(|error| format!("after a power cut: {error}"))?;
        self.allowed_content(&archive, "after a power cut")?;
        if self.random.one_in(4) {
            Content::verified(&archive).map_err(|error| format!("after a power cut: {error}"))?;
        }
        if self.random.one_in(12) {
            self.destroy_copies(&medium)?;
        }
        if self.random.one_in(3) && has_two_third_copies(&medium, &archive) {
            self.totals.without_first_blocks += 1;
            check_without_first_blocks(&medium, &archive)?;
        }
        Ok(())
    }

    /// Destroys one copy of each index page and of each redo block, and reads what is left.
    fn destroy_copies(&mut self, medium: &Medium) -> std::result::Result<(), String> {
        self.totals.single_copies += 1;
        let either = |copies: [Position; 2]| copies[usize::from(self.random.one_in(2))];
        let chosen: Vec<Position> = doubled_blocks(medium).into_iter().map(either).collect();
        let opened = open(&destroyed(medium, chosen), Access::Read);
        let archive = opened.map_err(|error| format!("with one copy of each page: {error}"))?;
        self.allowed_content(&archive, "with one copy of each page").map(drop)
    }
}

/// A writer, and the model of what it commits.
struct World {
    disk: SimulatedDisk,
    readers: Arc<Mutex<Readers>>,
    archive: Option<Archive>,
    last: Content,
    model: Content,
    byte: u8,
}

/// Runs the scenario of a seed.
fn run(fixture: &Fixture, seed: u64) -> std::result::Result<ReaderTotals, FailedReaders> {
    let failed = |wrong| FailedReaders { seed, wrong };
    let disk = SimulatedDisk::with(fixture.medium.clone(), &fixture.sealed);
    let readers = Arc::new(Mutex::new(Readers {
        disk: disk.clone(),
        random: Random::new(seed ^ 0x7265_6164),
        allowed: vec![fixture.content.clone()],
        open: Vec::new(),
        totals: ReaderTotals { scenarios: 1, ..ReaderTotals::default() },
        wrong: None,
    }));
    let at_event = {
        let readers = Arc::clone(&readers);
        move || locked(&readers).at_event()
    };
    disk.on_event(Some(Box::new(at_event)));
    let mut world = World {
        disk: disk.clone(),
        readers: Arc::clone(&readers),
        archive: None,
        last: fixture.content.clone(),
        model: fixture.content.clone(),
        byte: 0,
    };
    let outcome = world.run(&mut Random::new(seed));
    // The hook refers to the disk that holds it.
    disk.on_event(None);
    let mut readers = locked(&readers);
    match readers.wrong.take().map_or(outcome, Err) {
        Ok(()) => Ok(readers.totals),
        Err(wrong) => Err(failed(wrong)),
    }
}

fn locked(readers: &Arc<Mutex<Readers>>) -> MutexGuard<'_, Readers> {
    readers.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    fn run(&mut self, random: &mut Random) -> std::result::Result<(), String> {
        for number in 0..OPERATIONS {
            if random.one_in(12) {
                self.disk.plan(DiskFault::WriteFails, random.below(30));
            }
            let operation = match random.below(10) {
                0..3 => Operation::Commit,
                3 if random.one_in(2) => Operation::Close,
                4 if random.one_in(3) => Operation::Reopen,
                5 if random.one_in(3) => {
                    self.wipe().map_err(|error| format!("wipe: {error}"))?;
                    continue;
                }
                6 if random.one_in(4) => Operation::Compact,
                _ => any_operation(random),
            };
            let done = self.step(operation);
            if locked(&self.readers).wrong.is_some() {
                return Ok(());
            }
            match done {
                Ok(()) => {}
                Err(error) if is_full(&error) => self.model.clone_from(&self.last),
                Err(Error::Engine(error)) if is_of_the_disk(&error) => self.kill(),
                Err(error) => return Err(format!("operation {number}, {operation}: {error}")),
            }
        }
        self.check_nothing_is_held()
    }

    fn step(&mut self, operation: Operation) -> Result<()> {
        match operation {
            Operation::Close => {
                self.model.clone_from(&self.last);
                self.archive.take().map_or(Ok(()), Archive::close)
            }
            Operation::Reopen => {
                self.archive = None;
                self.model.clone_from(&self.last);
                self.archive().map(drop)
            }
            Operation::Rollback => {
                self.archive()?.rollback()?;
                self.model.clone_from(&self.last);
                Ok(())
            }
            Operation::Commit => {
                let archive = self.archive()?;
                locked(&self.readers).allowed = vec![self.last.clone(), self.model.clone()];
                archive.commit()?;
                self.last.clone_from(&self.model);
                locked(&self.readers).allowed = vec![self.last.clone()];
                Ok(())
            }
            Operation::Compact => {
                self.step(Operation::Commit)?;
                compact(&self.archive()?)
            }
            change => {
                let archive = self.archive()?;
                self.byte = self.byte.wrapping_add(1);
                change.change(&archive, &mut self.model, self.byte)
            }
        }
    }

    /// Wipes free blocks, unless readers hold some of them.
    fn wipe(&mut self) -> Result<()> {
        let archive = match self.archive() {
            Ok(archive) => archive,
            Err(Error::Engine(error)) if is_of_the_disk(&error) => {
                self.kill();
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        archive.rollback().ok();
        self.model.clone_from(&self.last);
        match archive.wipe_free(&mut |_| {}) {
            Err(Error::Engine(ar7_engine::Error::HeldByReaders { .. })) | Ok(_) => Ok(()),
            Err(Error::Engine(error)) if is_of_the_disk(&error) => {
                self.kill();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the writer's archive. A new writer continues with what the last one committed.
    fn archive(&mut self) -> Result<Archive> {
        if let Some(archive) = &self.archive {
            return Ok(archive.clone());
        }
        let archive = open(&self.disk.clone(), Access::Write)?;
        let found = Content::read(&archive)?;
        self.last.clone_from(&found);
        self.model = found;
        let mut readers = locked(&self.readers);
        if !readers.allowed.contains(&self.last) {
            let wrong =
                format!("a writer found {:?}, expected one of {:?}", self.last, readers.allowed);
            readers.wrong.get_or_insert(wrong);
        }
        readers.allowed = vec![self.last.clone()];
        drop(readers);
        self.archive = Some(archive.clone());
        Ok(archive)
    }

    /// Kills the writer: it writes nothing more.
    fn kill(&mut self) {
        self.archive = None;
        self.model.clone_from(&self.last);
        locked(&self.readers).totals.kills += 1;
    }

    /// Closes all readers, and checks that two sessions later, no block is held for them and the file is trimmed.
    fn check_nothing_is_held(&mut self) -> std::result::Result<(), String> {
        locked(&self.readers).open.clear();
        self.archive = None;
        self.disk.on_event(None);
        self.disk.cancel_faults();
        for byte in 0..2 {
            let session = || -> Result<()> {
                let archive = open(&self.disk.clone(), Access::Write)?;
                archive.set_metadata(&[byte])?;
                archive.reclaim()?;
                archive.close()
            };
            session().map_err(|error| format!("after all readers have left: {error}"))?;
        }
        let archive = open(&self.disk.clone(), Access::Read).map_err(|error| error.to_string())?;
        Content::verified(&archive).map_err(|error| format!("at the end: {error}"))?;
        let commit = archive.store().current();
        let blocks = self.disk.length_bytes().map_err(|error| error.to_string())? / 4096;
        let count = commit.slot.block_count;
        let end = count + ar7_engine::store::RESERVE_BLOCKS;
        // The reserve is for other blocks than those of the third copies.
        let is_across = count <= THIRD_COPIES.start && end > THIRD_COPIES.start;
        let third = if is_across { THIRD_COPIES.end - THIRD_COPIES.start } else { 0 };
        let needed = u64::from(end + third);
        if !commit.redirects.is_empty() || commit.slot.redo_head.is_some() || blocks > needed {
            let list = commit.slot.redo_head;
            return Err(format!(
                "expected {needed} blocks and no redo list, found {blocks} blocks and list {list:?}"
            ));
        }
        Ok(())
    }
}

fn is_of_the_disk(error: &ar7_engine::Error) -> bool {
    use ar7_engine::Error;
    matches!(error, Error::Io { .. } | Error::Poisoned { .. })
}
