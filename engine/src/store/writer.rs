//! The writer: new blocks go straight to free positions, changed blocks to spare positions.

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::Arc;

use rayon::prelude::*;

use super::allocate::{Space, Urgency, Views};
use super::choose::Pair;
use super::in_flight::InFlight;
use super::pipeline::LARGE_BLOCKS;
use super::{Redirects, RunSet, Store};
use crate::crypto::{KeyKind, MasterKey, SealJob};
use crate::error::{Check, Error, Result};
use crate::format::{BLOCK_SIZE, Generation, Position, RESERVED_BLOCKS, RedoEntry, Run};
use crate::parallel::in_pool;

/// Blocks that one thread seals and writes at a time: 256 KiB stay in its cache.
const CHUNK_BLOCKS: usize = 64;

/// From this many blocks on, write-back starts at once, so that the final sync is short.
const WRITE_BACK_BLOCKS: usize = 256;

/// The one half of a store that changes anything. Dropping it drops what was not committed.
#[derive(Debug)]
pub struct Writer {
    pub(super) store: Arc<Store>,
    /// Wraps the master key for new key slots, and authenticates changed headers.
    pub(crate) master: MasterKey,
    /// What is sealed now carries this generation.
    pub(super) generation: Generation,
    pub(super) space: Space,
    pub(super) views: Views,
    /// Live blocks that this transaction changed: where their images lie.
    pub(super) redirects: Redirects,
    /// Positions sealed in this step; sealing one again raises the step.
    pub(super) sealed: RunSet,
    /// Spares and chain of the redo list of the current commit; the next commit frees them.
    pub(super) listed: RunSet,
    /// The same, as it was when the transaction began: a rollback reads nothing.
    pub(super) listed_at_begin: RunSet,
    /// The pair of meta slots that holds the current commit.
    pub(super) newest: Pair,
    /// Copies of the other pair that do not open: repaired first.
    pub(super) bad_copies: HashSet<Position>,
    /// The large write that goes on beside other things, and the buffers of large writes.
    pub(super) in_flight: InFlight,
}

impl Writer {
    /// The store this writer belongs to.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Generation of the step under way.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Where this transaction's changed blocks are to be read.
    pub fn redirects(&self) -> &Redirects {
        &self.redirects
    }

    /// Number of blocks that are in use or known to be free.
    pub fn block_count(&self) -> u32 {
        self.space.count()
    }

    /// Free blocks at hand without growing the file.
    pub fn pooled_blocks(&self) -> u64 {
        self.space.pooled()
    }

    /// A run of 1 to `most` positions to be written; positions free at the last commit come first.
    ///
    /// [`Error::NoSpace`] leaves the writer as it was.
    #[doc(alias = "new_block")]
    #[doc(alias = "reuse")]
    pub fn allocate(&mut self, most: u32, urgency: Urgency) -> Result<Run> {
        self.store.check_usable()?;
        let allocated = self.space.allocate(&*self.store.device, most.max(1), urgency);
        match allocated {
            // The device is as it was.
            Err(Error::NoSpace { .. } | Error::Full { .. }) | Ok(_) => allocated,
            failed => self.store.poisoning(failed),
        }
    }

    /// Adds free blocks, which were recorded as free at the last commit, to those at hand.
    ///
    /// A run that is not in the archive, or that the transaction knows already, is damage.
    pub fn release(&mut self, run: Run) -> Result<()> {
        if !self.space.is_believable(run) {
            let expected = "free blocks of the archive";
            return Err(Error::damaged(run.start(), Check::FreeMap, expected, run.count()));
        }
        self.space.release(run, &mut self.views);
        Ok(())
    }

    /// Takes back allocations that nothing was sealed to.
    pub fn cancel(&mut self, runs: impl IntoIterator<Item = Run>) {
        for run in runs {
            self.space.cancel(run);
        }
    }

    /// Checks that a run which the registry names lies within the archive.
    pub fn check_run(&self, run: Run) -> Result<()> {
        if run.start().get() < RESERVED_BLOCKS || run.end() > self.space.count() {
            let expected = "blocks of the archive";
            return Err(Error::damaged(run.start(), Check::Extents, expected, run.count()));
        }
        Ok(())
    }

    /// Whether `position` was allocated since the last commit.
    pub fn is_fresh(&self, position: Position) -> bool {
        self.space.is_fresh(position)
    }

    /// Frees a run: usable after the next commit. Images for blocks in it are dropped.
    #[doc(alias = "recycle")]
    pub fn free(&mut self, run: Run) {
        if !self.redirects.is_empty() {
            let dropped: Vec<Position> =
                run.positions().filter(|place| self.redirects.0.contains_key(place)).collect();
            for place in dropped {
                if let Some((spare, _)) = self.redirects.0.remove(&place) {
                    self.space.free(Run::single(spare));
                }
            }
        }
        self.space.free(run);
    }

    /// Gives up the free run at the end of the file.
    ///
    /// # Panics
    /// If the run does not end where the file's blocks end.
    pub fn lower_count(&mut self, run: Run) {
        self.space.lower_count(run);
    }

    /// Whether a reader of this process holds an earlier commit.
    pub fn any_view_held(&mut self) -> bool {
        self.views.any_held()
    }

    /// Free runs that may be written in this transaction. After this only the end of the file can
    /// be allocated, unless runs are released again.
    pub fn drain_pool(&mut self) -> RunSet {
        self.space.drain_pool()
    }

    /// Free runs that may not be written in this transaction: freed by it, or still read by somebody.
    pub fn drain_freed(&mut self) -> RunSet {
        self.space.drain_freed()
    }

    /// Whether anything was allocated or freed since the last commit.
    pub fn is_touched(&self) -> bool {
        self.space.is_touched()
    }

    /// Seals blocks and writes them to their positions, which are fresh. Returns their generation.
    ///
    /// The specification's name is `save_block`.
    #[doc(alias = "save_block")]
    pub fn write_fresh(&mut self, kind: KeyKind, jobs: &[SealJob<'_>]) -> Result<Generation> {
        self.store.check_usable()?;
        for job in jobs {
            assert!(self.is_fresh(job.position), "only a fresh block is written in place");
        }
        let targets: Vec<Position> = jobs.iter().map(|job| job.position).collect();
        self.seal_and_write(kind, jobs, &targets)
    }

    /// Changes live data blocks: each is sealed for its own place, but written to a spare position until
    /// the commit has happened. Returns their generation.
    pub fn write_over(&mut self, jobs: &[SealJob<'_>]) -> Result<Generation> {
        self.store.check_usable()?;
        let mut places = HashSet::with_capacity(jobs.len());
        for job in jobs {
            self.check_run(Run::single(job.position))?;
            if !places.insert(job.position) {
                // Two streams share a block: no program makes that, somebody with the key did.
                let expected = "a block of one stream";
                return Err(Error::damaged(job.position, Check::Extents, expected, job.position));
            }
        }
        let mut spares = Vec::with_capacity(jobs.len());
        let missing =
            jobs.iter().filter(|job| !self.redirects.0.contains_key(&job.position)).count();
        let mut unused = self.allocate_all(missing, Urgency::Ordinary)?.into_iter();
        for job in jobs {
            assert!(!self.is_fresh(job.position), "only a live block is written over");
            let spare = match self.redirects.0.get(&job.position) {
                Some(&(spare, _)) => spare,
                None => unused.next().expect("one spare was allocated for each"),
            };
            spares.push(spare);
        }
        let generation = self.seal_and_write(KeyKind::Data, jobs, &spares)?;
        for (job, &spare) in jobs.iter().zip(&spares) {
            self.redirects.0.insert(job.position, (spare, generation));
        }
        Ok(generation)
    }

    /// Exactly `count` positions, in as few runs as there are. On failure what was had is freed again.
    pub fn allocate_all(&mut self, count: usize, urgency: Urgency) -> Result<Vec<Position>> {
        let mut positions = Vec::with_capacity(count);
        while positions.len() < count {
            let most = u32::try_from(count - positions.len()).unwrap_or(u32::MAX);
            match self.allocate(most, urgency) {
                Ok(run) => positions.extend(run.positions()),
                Err(error) => {
                    self.cancel(runs_of(&positions));
                    return Err(error);
                }
            }
        }
        Ok(positions)
    }

    /// What the redo list will say, in order of place.
    pub(super) fn redo_entries(&self) -> Vec<RedoEntry> {
        self.redirects.images()
    }

    /// Within a step a position is sealed once: a second time raises the step first.
    pub(super) fn raise_step(&mut self) -> Result<()> {
        let step = self.generation.step.checked_add(1).ok_or(Error::Full {
            what: "number of steps in a session",
            limit: u64::from(u32::MAX),
        })?;
        self.generation.step = step;
        self.sealed = RunSet::default();
        Ok(())
    }

    /// The generation for what is sealed for these positions now.
    pub(super) fn generation_for(
        &mut self,
        positions: impl Iterator<Item = Position> + Clone,
    ) -> Result<Generation> {
        if positions.clone().any(|position| self.sealed.contains(position)) {
            self.raise_step()?;
        }
        self.sealed.extend(positions.map(Run::single));
        Ok(self.generation)
    }

    pub(super) fn seal_and_write(
        &mut self,
        kind: KeyKind,
        jobs: &[SealJob<'_>],
        targets: &[Position],
    ) -> Result<Generation> {
        self.wait()?;
        let generation = self.generation_for(jobs.iter().map(|job| job.position))?;
        if jobs.len() >= LARGE_BLOCKS {
            self.write_large(kind, generation, jobs, targets)?;
            return Ok(generation);
        }
        let store = &*self.store;
        let outcome = in_pool(|| {
            jobs.par_chunks(CHUNK_BLOCKS)
                .zip(targets.par_chunks(CHUNK_BLOCKS))
                .try_for_each(|(jobs, targets)| seal_chunk(store, kind, generation, jobs, targets))
        });
        store.poisoning(outcome)?;
        if jobs.len() >= WRITE_BACK_BLOCKS {
            for run in runs_of(targets) {
                store.poisoning(store.device.start_write_back(run))?;
            }
        }
        Ok(generation)
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn seal_chunk(
    store: &Store,
    kind: KeyKind,
    generation: Generation,
    jobs: &[SealJob<'_>],
    targets: &[Position],
) -> Result<()> {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.resize(jobs.len() * BLOCK_SIZE, 0);
        store.sealer.seal_batch(kind, generation, jobs, scratch)?;
        let mut rest = &scratch[..];
        for run in runs_of(targets) {
            let blocks = usize::try_from(run.count()).expect("a chunk is small");
            let (now, later) = rest.split_at(blocks * BLOCK_SIZE);
            store.device.write(run.start(), now)?;
            rest = later;
        }
        Ok(())
    })
}

/// Joins neighbours: positions that follow one another become one run, in the order given.
pub(super) fn runs_of(positions: &[Position]) -> impl Iterator<Item = Run> + '_ {
    positions.chunk_by(|a, b| a.following() == Some(*b)).map(|chunk| {
        let count = u32::try_from(chunk.len()).expect("fewer positions than blocks");
        Run::new(chunk[0], count).expect("positions in a row are a run")
    })
}
