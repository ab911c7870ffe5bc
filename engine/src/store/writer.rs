//! The writer: new blocks go straight to free positions, changed blocks to shadow blocks.

use std::collections::HashSet;
use std::sync::Arc;

use super::committed::{Commit, Redirects};
use super::handle::Store;
use super::in_flight::{InFlight, OwnedSealJob};
use super::space::pins::Pins;
use super::space::run_set::RunSet;
use super::space::{Space, Urgency};
use super::superblock::Superblock;
use super::transaction::Transaction;
use crate::crypto::{KeyKind, MasterKey, SealJob};
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE_U64, BLOCKS_MAX, Generation, MetaSlot, Position, RESERVED_BLOCKS, Run, runs_of,
};

/// The one half of a store that changes anything. Dropping it drops what was not committed.
///
/// The module's page says which of its parts changes what.
#[derive(Debug)]
pub struct Writer {
    pub(super) store: Arc<Store>,
    /// Wraps the master key for new key slots, and authenticates changed headers.
    pub(crate) master: MasterKey,
    pub(super) space: Space,
    pub(super) pins: Pins,
    pub(super) transaction: Transaction,
    superblock: Superblock,
    in_flight: InFlight,
}

impl Writer {
    /// The writer of a session that begins. Nothing is written yet.
    pub(super) fn new(
        store: &Arc<Store>,
        master: MasterKey,
        transaction: Transaction,
        superblock: Superblock,
    ) -> Writer {
        Writer {
            store: Arc::clone(store),
            master,
            space: Space::default(),
            pins: Pins::default(),
            transaction,
            superblock,
            in_flight: InFlight::new(),
        }
    }

    /// The store this writer belongs to.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The generation of what is sealed now.
    pub fn generation(&self) -> Generation {
        self.transaction.generation()
    }

    /// Where to read the blocks that this transaction changed.
    pub fn redirects(&self) -> &Redirects {
        self.transaction.redirects()
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
        self.space.release(run, &mut self.pins);
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

    /// Frees a run: usable after the next commit. Shadow blocks of blocks in it are freed too.
    #[doc(alias = "recycle")]
    pub fn free(&mut self, run: Run) {
        for shadow in self.transaction.drop_redirects(run) {
            self.space.free(Run::single(shadow));
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

    /// Whether a snapshot of this process pins an earlier commit.
    pub fn is_pinned(&mut self) -> bool {
        self.pins.any()
    }

    /// Free runs that may be written in this transaction. After this only the end of the file can
    /// be allocated, unless runs are released again.
    pub fn drain_pool(&mut self) -> RunSet {
        self.space.drain_pool()
    }

    /// Free runs that may not be written in this transaction: freed by it, or held for a pinned snapshot.
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

    /// Changes live data blocks: each is sealed for its home location, but written to a shadow block until the commit
    /// has happened. Returns their generation.
    pub fn write_over(&mut self, jobs: &[SealJob<'_>]) -> Result<Generation> {
        self.store.check_usable()?;
        let mut homes = HashSet::with_capacity(jobs.len());
        for job in jobs {
            self.check_run(Run::single(job.position))?;
            if !homes.insert(job.position) {
                // Two streams share a block: no program writes that, so somebody with the key did.
                let expected = "a block of one stream";
                return Err(Error::damaged(job.position, Check::Extents, expected, job.position));
            }
        }
        let mut shadows = Vec::with_capacity(jobs.len());
        let is_missing = |job: &&SealJob<'_>| self.transaction.shadow_of(job.position).is_none();
        let missing = jobs.iter().filter(is_missing).count();
        let mut unused = self.allocate_all(missing, Urgency::Ordinary)?.into_iter();
        for job in jobs {
            assert!(!self.is_fresh(job.position), "only a live block is written over");
            let shadow = match self.transaction.shadow_of(job.position) {
                Some(shadow) => shadow,
                None => unused.next().expect("one shadow block was allocated for each"),
            };
            shadows.push(shadow);
        }
        let generation = self.seal_and_write(KeyKind::Data, jobs, &shadows)?;
        for (job, &shadow) in jobs.iter().zip(&shadows) {
            self.transaction.redirect(job.position, shadow, generation);
        }
        Ok(generation)
    }

    /// Exactly `count` positions, in few runs. On failure none is allocated.
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

    /// An allocation for the free list, whose own pages take space while it records space.
    pub fn allocate_reserve(&mut self, most: u32) -> Result<Run> {
        self.allocate(most, Urgency::Reserve)
    }

    /// Refuses what is a commit of its own while a transaction is open.
    pub(super) fn check_no_transaction(&self) -> Result<()> {
        self.store.check_usable()?;
        if self.is_touched() || !self.redirects().is_empty() {
            return Err(Error::Uncommitted);
        }
        Ok(())
    }

    /// Seals blocks, writes them to `targets`, and returns when that is done.
    pub(super) fn seal_and_write(
        &mut self,
        kind: KeyKind,
        jobs: &[SealJob<'_>],
        targets: &[Position],
    ) -> Result<Generation> {
        self.wait()?;
        let positions = jobs.iter().map(|job| job.position);
        let generation = self.transaction.generation_for(positions)?;
        self.in_flight.write_now(&self.store, kind, generation, jobs, targets)?;
        Ok(generation)
    }

    /// Seals data blocks and writes them to their positions, which are fresh. Returns their generation, perhaps before
    /// they are written. [`Writer::wait`] must come before they are read, and before anything else is written. A commit
    /// waits.
    ///
    /// Also returns the blocks of the call before, which are written now: their memory can be used again.
    pub fn start_fresh(
        &mut self,
        jobs: Vec<OwnedSealJob>,
    ) -> Result<(Generation, Vec<OwnedSealJob>)> {
        self.wait()?;
        self.store.check_usable()?;
        for job in &jobs {
            assert!(self.is_fresh(job.position), "only a fresh block is written in place");
        }
        let generation = self.transaction.generation_for(jobs.iter().map(|job| job.position))?;
        let written = self.in_flight.start(&self.store, generation, jobs)?;
        Ok((generation, written))
    }

    /// Returns once no write is in flight. A write that failed has made the store unusable.
    ///
    /// # Panics
    ///
    /// If the thread that wrote panicked; this makes the store unusable, too.
    pub fn wait(&self) -> Result<()> {
        if crate::fault!(ForgetTheWrite) {
            return Ok(());
        }
        self.in_flight.wait(&self.store)
    }

    /// Wipes the blocks that were written last, whose memory would be used again.
    pub(super) fn forget_written(&self) {
        self.in_flight.forget();
    }

    /// Writes a meta slot to the pair that does not hold the current commit, and then copies shadow blocks home.
    pub(super) fn write_slot(
        &mut self,
        slot: MetaSlot,
        redirects: Redirects,
    ) -> Result<Arc<Commit>> {
        let store = Arc::clone(&self.store);
        let (device, sealer) = (&*store.device, &store.sealer);
        // Step 5. One copy, and the sync that makes it the commit.
        let half = store.poisoning(self.superblock.write_first(device, sealer, &slot))?;

        // From here on the commit counts. Readers find listed blocks at their shadow blocks until step 6 is done.
        let listed = redirects.entries();
        let commit = Arc::new(Commit { slot, redirects });
        self.publish(&commit);

        // Step 6. Not synced here: until the next commit's first sync, recovery does both again.
        let second = self.superblock.write_second(device, sealer, &commit.slot, half);
        store.poisoning(second)?;
        if listed.is_empty() {
            return Ok(commit);
        }
        store.poisoning(store.copy_home(&listed))?;
        let applied =
            Arc::new(Commit { slot: commit.slot.clone(), redirects: Redirects::default() });
        self.publish(&applied);
        Ok(applied)
    }

    fn publish(&mut self, commit: &Arc<Commit>) {
        let before = self.store.publish(commit);
        self.pins.supersede(&before);
    }

    /// Begins the next transaction after `commit`.
    pub(super) fn begin(&mut self, commit: &Commit) -> Result<()> {
        self.transaction.begin()?;
        let blocks = self.store.device.length_bytes()? / BLOCK_SIZE_U64;
        let blocks = u32::try_from(blocks).unwrap_or(BLOCKS_MAX);
        self.space.begin(commit.slot.block_count, blocks, &commit.slot.inline_free, &mut self.pins);
        Ok(())
    }
}

#[cfg(test)]
impl Writer {
    pub(super) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }
}
