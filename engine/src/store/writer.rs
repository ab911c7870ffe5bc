//! The writer. It writes new blocks to free positions, and changed live blocks to shadow blocks.

use std::collections::HashSet;
use std::sync::Arc;

use super::committed::{Commit, Redirects};
use super::handle::Store;
use super::in_flight::{InFlight, OwnedSealJob};
use super::pipeline::Batch;
use super::savepoints::Savepoints;
use super::space::pins::Pins;
use super::space::run_set::RunSet;
use super::space::{Space, Urgency, reserve_of};
use super::superblock::Superblock;
use super::transaction::Transaction;
use crate::crypto::{KeyKind, MasterKey, SealJob};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE_U64, BLOCKS_MAX, Generation, MetaSlot, Position, Run, has_reserved, runs_of,
};

/// Limits of the number of blocks on a redo list, if readers of older commits keep some of them there: an eighth of the
/// archive's blocks, within these bounds.
const LISTED_MIN: usize = 4096;
const LISTED_MAX: usize = 1 << 20;

/// Numbers of free blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeBlocks {
    /// After the last commit.
    pub before: u64,
    /// After the next one.
    pub after: u64,
}

/// The half of a store that makes changes. Dropping it drops everything uncommitted.
///
/// The documentation of the module says which part changes what.
#[derive(Debug)]
pub struct Writer {
    pub(super) store: Arc<Store>,
    /// For wrapping in new key slots, and for authenticating changed headers.
    pub(crate) master: MasterKey,
    pub(super) space: Space,
    pub(super) pins: Pins,
    pub(super) transaction: Transaction,
    pub(super) savepoints: Savepoints,
    superblock: Superblock,
    in_flight: InFlight,
}

impl Writer {
    /// Creates the writer of a new session. It writes nothing.
    pub(super) fn new(
        store: &Arc<Store>,
        master: MasterKey,
        (transaction, pins): (Transaction, Pins),
        superblock: Superblock,
    ) -> Writer {
        Writer {
            store: Arc::clone(store),
            master,
            space: Space::default(),
            pins,
            transaction,
            savepoints: Savepoints::default(),
            superblock,
            in_flight: InFlight::new(),
        }
    }

    /// Returns the store of this writer.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Returns the generation under which blocks are sealed now.
    pub fn generation(&self) -> Generation {
        self.transaction.generation()
    }

    /// Returns the shadow blocks in which changed live blocks are read.
    pub fn redirects(&self) -> &Redirects {
        self.transaction.redirects()
    }

    /// Returns the number of blocks in use or free.
    pub fn block_count(&self) -> u32 {
        self.space.count()
    }

    /// Returns the number of blocks in the pool, which can be allocated without growing the file.
    pub fn pooled_blocks(&self) -> u64 {
        self.space.pooled()
    }

    /// Allocates a run of 1 to `most` positions. Positions that were free at the last commit come first.
    ///
    /// [`Error::NoSpace`] leaves the writer unchanged.
    #[doc(alias = "new_block")]
    #[doc(alias = "reuse")]
    pub fn allocate(&mut self, most: u32, urgency: Urgency) -> Result<Run> {
        self.allocated(|space, device| space.allocate(device, most.max(1), urgency))
    }

    /// Fails if there is no room to allocate `count` blocks of data. Changes nothing but the length of the file.
    pub fn check_room(&mut self, count: usize) -> Result<()> {
        self.allocated(|space, device| space.check_room(device, count))
    }

    /// Returns the number of blocks that can be allocated without growing the file.
    pub fn usable_blocks(&self) -> u64 {
        self.space.usable_blocks()
    }

    /// Fails unless `count` blocks can be allocated and `left` more are left. Changes nothing but the length of the file.
    pub fn check_usable(&mut self, count: usize, left: u32) -> Result<()> {
        self.allocated(|space, device| space.check_usable(device, count, left))
    }

    /// Returns the number of runs that the transaction has freed.
    pub fn freed_runs(&self) -> usize {
        self.space.freed_runs()
    }

    /// Returns how many blocks the last commit left free and how many the next one will, without those that only the free
    /// list names. Those behind the archive are among them. What the file has grown since is in both.
    pub fn known_free(&self) -> FreeBlocks {
        FreeBlocks { before: self.space.free_at_begin(), after: self.space.known_free() }
    }

    fn allocated<T>(
        &mut self,
        allocate: impl FnOnce(&mut Space, &dyn Device) -> Result<T>,
    ) -> Result<T> {
        self.store.check_usable()?;
        match allocate(&mut self.space, &*self.store.device) {
            // These errors leave the device unchanged.
            allocated @ (Err(Error::NoSpace { .. } | Error::Full { .. }) | Ok(_)) => allocated,
            failed => self.store.poisoning(failed),
        }
    }

    /// Returns whether a position is free and may be written.
    pub fn is_usable(&self, position: Position) -> bool {
        self.space.is_usable(position)
    }

    /// Adds to the pool a run that was recorded as free at the last commit.
    ///
    /// A run outside of the archive, or one that the transaction already knows, is damage.
    pub fn release(&mut self, run: Run) -> Result<()> {
        if !self.space.may_be_free(run) {
            let expected = "free blocks of the archive";
            return Err(Error::damaged(run.start(), Check::FreeMap, expected, run.count()));
        }
        self.space.release(run, &mut self.pins);
        Ok(())
    }

    /// Takes back allocations to which nothing was sealed.
    pub fn cancel(&mut self, runs: impl IntoIterator<Item = Run>) {
        for run in runs {
            self.space.cancel(run);
        }
    }

    /// Checks that a run from the registry lies within the archive.
    pub fn check_run(&self, run: Run) -> Result<()> {
        if has_reserved(run) || run.end() > self.space.count() {
            let expected = "blocks of the archive";
            return Err(Error::damaged(run.start(), Check::Extents, expected, run.count()));
        }
        Ok(())
    }

    /// Returns whether the block at `position` is written in place: it was allocated since the last commit and the last
    /// savepoint, and its newest version is not in a shadow block. That version would replace what is written in place.
    pub fn is_fresh(&self, position: Position) -> bool {
        let is_redirected = || self.transaction.shadow_of(position).is_some();
        self.space.is_fresh(position) && !is_redirected()
    }

    /// Returns whether a change of the block at `position` needs a shadow block: it was there at the last commit, and
    /// this transaction has not changed it yet.
    pub fn needs_shadow(&self, position: Position) -> bool {
        !self.is_fresh(position) && self.own_shadow_of(position).is_none()
    }

    /// Frees a run, which can be allocated after the next commit. Shadow blocks of its blocks are freed too.
    #[doc(alias = "recycle")]
    pub fn free(&mut self, run: Run) {
        for shadow in self.transaction.drop_redirects(run) {
            self.space.free(Run::single(shadow));
        }
        self.space.free(run);
    }

    /// Takes the free run that ends at `end`, if there is one that may be written.
    pub fn take_ending_at(&mut self, end: u32) -> Option<Run> {
        self.space.take_ending_at(end)
    }

    /// Lowers the block count by the free run at the end of the archive.
    ///
    /// If the run does not end at the block count.
    pub fn lower_count(&mut self, run: Run) {
        self.space.lower_count(run);
    }

    /// Returns whether a snapshot, of this process or another, pins an earlier commit.
    pub fn is_pinned(&mut self) -> Result<bool> {
        self.query_readers()?;
        Ok(self.pins.any())
    }

    /// Returns the oldest commit that another process reads, or that a snapshot of this process pins and that is not
    /// the newest.
    pub fn oldest_read(&mut self) -> Result<Option<u64>> {
        self.query_readers()?;
        let newest = self.store.current().slot.number;
        let elsewhere = self.store.locks.lowest_reader(newest.saturating_add(1))?;
        Ok(self.pins.lowest().into_iter().chain(elsewhere).min())
    }

    /// Returns the oldest commit that a snapshot pins, if it is not the newest. Other processes are not asked again.
    pub fn oldest_pinned(&mut self) -> Option<u64> {
        self.pins.lowest()
    }

    /// Returns whether no pinned snapshot may read some block of a free run.
    pub fn has_usable_block(&mut self, run: Run) -> bool {
        crate::fault!(ForgetReaders) || !Space::usable(run, &mut self.pins).is_empty()
    }

    /// Returns whether pinned snapshots hold every block that was free at the last commit. Then only the growth of the
    /// file yields blocks to allocate.
    pub fn are_all_held(&mut self) -> bool {
        self.pins.end_of_held().is_some()
    }

    /// Asks which commits other processes read.
    pub(super) fn query_readers(&mut self) -> Result<()> {
        let newest = self.store.current().slot.number;
        self.pins.query(&*self.store.locks, newest)
    }

    /// Takes all runs of the pool, which this transaction may write. After this, only new blocks at the end of the
    /// file can be allocated, unless runs are released again.
    pub fn drain_pool(&mut self) -> RunSet {
        self.space.drain_pool()
    }

    /// Takes the free runs that this transaction may not write: those it freed, and those held for a pinned snapshot.
    pub fn drain_freed(&mut self) -> RunSet {
        self.space.drain_freed()
    }

    /// Returns whether anything was allocated or freed since the last commit.
    pub fn is_touched(&self) -> bool {
        self.space.is_touched()
    }

    /// Seals blocks and writes them to their positions, which were allocated since the last commit. Returns their
    /// generation. A block that the transaction also changed as a live block is damage.
    ///
    /// The specification's name is `save_block`.
    #[doc(alias = "save_block")]
    pub fn write_fresh(&mut self, kind: KeyKind, jobs: &[SealJob<'_>]) -> Result<Generation> {
        self.store.check_usable()?;
        self.check_fresh(jobs.iter().map(|job| job.position))?;
        let targets: Vec<Position> = jobs.iter().map(|job| job.position).collect();
        self.seal_and_write(kind, jobs, &targets)
    }

    /// Changes live data blocks. Each is sealed for its home location but written to a shadow block, which the commit
    /// copies home. Returns their generation. A block that was also listed as free is damage.
    pub fn write_over(&mut self, jobs: &[SealJob<'_>], urgency: Urgency) -> Result<Generation> {
        self.store.check_usable()?;
        let mut homes = HashSet::with_capacity(jobs.len());
        for job in jobs {
            self.check_run(Run::single(job.position))?;
            if !homes.insert(job.position) {
                // Two streams share a block. No program writes that, so someone with the key did.
                let expected = "a block of one stream";
                return Err(Error::damaged(job.position, Check::Extents, expected, job.position));
            }
        }
        let mut shadows = Vec::with_capacity(jobs.len());
        let is_missing = |job: &&SealJob<'_>| self.own_shadow_of(job.position).is_none();
        let missing = jobs.iter().filter(is_missing).count();
        self.check_changes(missing)?;
        let new = self.allocate_all(missing, urgency)?;
        if let Some(job) = jobs.iter().find(|job| self.is_fresh(job.position)) {
            self.cancel(runs_of(&new));
            return Err(listed_as_free(job.position));
        }
        let mut unused = new.into_iter();
        for job in jobs {
            let shadow = match self.own_shadow_of(job.position) {
                Some(shadow) => shadow,
                None => unused.next().expect("a shadow block for each live block"),
            };
            shadows.push(shadow);
        }
        let generation = self.seal_and_write(KeyKind::Data, jobs, &shadows)?;
        for (job, &shadow) in jobs.iter().zip(&shadows) {
            let before = self.transaction.shadow_of(job.position);
            self.transaction.redirect(job.position, shadow, generation);
            if let Some(before) = before.filter(|&before| before != shadow) {
                self.space.free(Run::single(before));
            }
        }
        Ok(generation)
    }

    /// Checks that blocks are written in place.
    fn check_fresh(&self, mut positions: impl Iterator<Item = Position>) -> Result<()> {
        match positions.find(|&position| !self.is_fresh(position)) {
            Some(position) => Err(listed_as_free(position)),
            None => Ok(()),
        }
    }

    /// Returns the shadow block of the live block at `home`, if it may be written again: neither a commit nor a
    /// savepoint names it.
    fn own_shadow_of(&self, home: Position) -> Option<Position> {
        let shadow = self.transaction.shadow_of(home)?;
        let may_be_written = self.is_fresh(shadow) || crate::fault!(OverwriteListedShadows);
        may_be_written.then_some(shadow)
    }

    /// Fails with [`Error::HeldByReaders`] if `more` changed blocks would make the redo list too long while images of
    /// earlier commits cannot be copied home.
    ///
    /// The layer above calls it before it accepts a change, so that the write later succeeds. Only if the list would be
    /// too long, it asks again who reads, and copies home what readers no longer hold back.
    pub fn check_changes(&mut self, more: usize) -> Result<()> {
        let blocks = usize::try_from(self.space.count() / 8).unwrap_or(usize::MAX);
        let limit = blocks.clamp(LISTED_MIN, LISTED_MAX);
        let fits = |writer: &Writer| {
            writer.redirects().len() + more <= limit || writer.transaction.carried() == 0
        };
        if fits(self) {
            return Ok(());
        }
        // The readers may have left since the last commit.
        self.query_readers()?;
        self.copy_due(self.store.current().slot.number)?;
        if fits(self) { Ok(()) } else { Err(self.held_by_readers()) }
    }

    /// Copies home those images of the current commit, whose number is `newest`, that no pinned snapshot reads there.
    /// Returns whether there were any.
    fn copy_due(&mut self, newest: u64) -> Result<bool> {
        let lowest = self.pins.lowest().unwrap_or(newest);
        let due = self.transaction.listed().due(lowest, newest);
        let bad = self.store.poisoning(self.store.copy_home(&due))?;
        self.transaction.copied_home(&due, &bad);
        Ok(!due.is_empty())
    }

    /// Returns the number of changed blocks that were not copied to their home locations, because readers of older
    /// commits read these. The home locations still hold the old versions.
    pub fn carried_images(&self) -> usize {
        self.transaction.carried()
    }

    /// Returns the error that says what readers of older commits hold back.
    fn held_by_readers(&mut self) -> Error {
        let newest = self.store.current().slot.number;
        let carried = self.transaction.carried();
        Error::HeldByReaders {
            oldest: self.pins.lowest().unwrap_or(newest),
            entries: u64::try_from(carried).unwrap_or(u64::MAX),
            blocks: self.pins.held_blocks().max(self.space.held_blocks()),
        }
    }

    /// Allocates exactly `count` positions, in few runs. A failure allocates none.
    pub fn allocate_all(&mut self, count: usize, urgency: Urgency) -> Result<Vec<Position>> {
        self.allocate_from(count, urgency, Space::allocate)
    }

    fn allocate_from(
        &mut self,
        count: usize,
        urgency: Urgency,
        allocate: impl Fn(&mut Space, &dyn Device, u32, Urgency) -> Result<Run>,
    ) -> Result<Vec<Position>> {
        let mut positions = Vec::with_capacity(count);
        while positions.len() < count {
            let most = u32::try_from(count - positions.len()).unwrap_or(u32::MAX);
            match self.allocated(|space, device| allocate(space, device, most, urgency)) {
                Ok(run) => positions.extend(run.positions()),
                Err(error) => {
                    self.cancel(runs_of(&positions));
                    return Err(error);
                }
            }
        }
        Ok(positions)
    }

    /// Allocates positions for both copies of `count` blocks, and may use the reserve. First copies come from the front
    /// of the free blocks and second ones from their end, never from the middle of a free run: the number of free runs
    /// does not grow. A failure allocates none.
    pub fn allocate_twice(&mut self, count: usize) -> Result<Vec<[Position; 2]>> {
        let mut firsts = self.allocate_from(count, Urgency::Reserve, Space::allocate_first)?;
        let seconds = self.allocate_from(count, Urgency::Reserve, Space::allocate_second);
        let mut seconds = match seconds {
            Ok(seconds) => seconds,
            Err(error) => {
                self.cancel(runs_of(&firsts));
                return Err(error);
            }
        };
        firsts.sort_unstable();
        seconds.sort_unstable();
        Ok(firsts.into_iter().zip(seconds).map(|(first, second)| [first, second]).collect())
    }

    /// Returns whether the pool has room for both copies of `count` blocks, far apart.
    pub fn has_far_room(&self, count: usize) -> bool {
        self.space.has_far_room(count)
    }

    /// Adds new blocks at the end of the file to the pool if it has no room for both copies of `count` blocks far apart.
    /// A small archive stays small, and on a full disk nothing is added.
    pub fn make_far_room(&mut self, count: usize) -> Result<()> {
        self.store.check_usable()?;
        let made = self.space.make_far_room(&*self.store.device, count);
        self.store.poisoning(made)
    }

    /// Returns the end of the blocks in which second copies are placed if there is room.
    pub fn copies_end(&self) -> u32 {
        self.space.copies_end()
    }

    /// Allocates below `ceiling` from now on, until `None` lifts it: pages as long as there is room, and data always.
    /// Without room for data, allocating fails with [`Error::NoSpace`].
    pub fn set_ceiling(&mut self, ceiling: Option<Position>) {
        self.space.set_ceiling(ceiling);
    }

    /// Returns the position below which blocks are allocated.
    pub fn ceiling(&self) -> Option<u32> {
        self.space.ceiling()
    }

    /// Returns whether a page or redo list found no room below the ceiling since the last call, and lies above it.
    pub fn take_exceeded(&mut self) -> bool {
        self.space.take_exceeded()
    }

    /// Returns the number of blocks that the file keeps in reserve when it grows.
    pub fn reserve_blocks(&self) -> u32 {
        self.space.reserve()
    }

    /// Allocates for the free list, and may use the reserve: recording free space itself takes space.
    pub fn allocate_reserve(&mut self, most: u32) -> Result<Run> {
        self.allocate(most, Urgency::Reserve)
    }

    /// Fails if the transaction has changes. For operations that are commits of their own.
    pub(super) fn check_no_transaction(&self) -> Result<()> {
        self.store.check_usable()?;
        if self.is_touched() || self.transaction.has_changes() {
            return Err(Error::Uncommitted);
        }
        Ok(())
    }

    /// Seals blocks and writes them to `targets` before it returns.
    pub(super) fn seal_and_write(
        &mut self,
        kind: KeyKind,
        jobs: &[SealJob<'_>],
        targets: &[Position],
    ) -> Result<Generation> {
        let positions: Vec<Position> = jobs.iter().map(|job| job.position).collect();
        let generation = self.generation_for(&positions)?;
        self.write_now(Batch { kind, generation, jobs, targets })?;
        Ok(generation)
    }

    /// Returns the generation for sealing blocks for `positions`, which raises the step if one of them was sealed in
    /// this step. Each must be sealed in this generation next, and only once.
    pub(super) fn generation_for(&mut self, positions: &[Position]) -> Result<Generation> {
        self.wait()?;
        self.transaction.generation_for(positions.iter().copied())
    }

    /// Seals blocks in a generation of [`Writer::generation_for`] and writes them to their targets before it returns.
    pub(super) fn write_now(&self, batch: Batch<'_>) -> Result<()> {
        self.in_flight.write_now(&self.store, batch)
    }

    /// Starts to seal data blocks and write them to their positions, which were allocated since the last commit.
    /// Returns their generation, possibly before they are written. The caller calls [`Writer::wait`] before it reads
    /// them; every later write and the commit call it too.
    ///
    /// It also returns the blocks of the previous call, which are written by then, so that the caller can reuse their
    /// memory.
    pub fn start_fresh(
        &mut self,
        jobs: Vec<OwnedSealJob>,
    ) -> Result<(Generation, Vec<OwnedSealJob>)> {
        self.wait()?;
        self.store.check_usable()?;
        self.check_fresh(jobs.iter().map(|job| job.position))?;
        let generation = self.transaction.generation_for(jobs.iter().map(|job| job.position))?;
        let written = self.in_flight.start(&self.store, generation, jobs)?;
        Ok((generation, written))
    }

    /// Waits until no write is in flight. A failed write has poisoned the store.
    ///
    /// # Panics
    ///
    /// If the writing thread panicked, which also poisons the store.
    pub fn wait(&self) -> Result<()> {
        if crate::fault!(ForgetTheWrite) {
            return Ok(());
        }
        self.in_flight.wait(&self.store)
    }

    /// Wipes the blocks that were written last and are kept for reuse of their memory.
    pub(super) fn forget_written(&self) {
        self.in_flight.forget();
    }

    /// Writes a meta slot to the pair that does not hold the current commit, and then copies home those images of its
    /// redo list whose home locations no pinned snapshot reads.
    pub(super) fn write_slot(&mut self, slot: MetaSlot) -> Result<Arc<Commit>> {
        let store = Arc::clone(&self.store);
        let (device, sealer, header) = (&*store.device, &store.sealer, store.known_header());
        // Step 5. One copy; its sync makes it the commit.
        let half = store.poisoning(self.superblock.write_first(device, sealer, &header, &slot))?;

        // From here on the commit counts. Until an image is home, readers find the block in its shadow block.
        let redirects = self.transaction.take_redirects();
        let commit = Arc::new(Commit { slot, redirects, _lock: None });
        self.publish(&commit);

        // Step 6. Not synced here: until the first sync of the next commit, recovery repeats both.
        let second = self.superblock.write_second(device, sealer, &header, &commit.slot, half);
        store.poisoning(second)?;
        // Asked only now that new readers find this commit, so that none can still choose an older one.
        if !crate::fault!(AskTooEarly) {
            // The commit counts already. Without an answer, what it freed could not be held for its readers.
            let asked = self.query_readers();
            store.poisoning(asked)?;
        }
        let newest = commit.slot.number;
        if crate::fault!(DropCarriedImages) {
            let all = self.transaction.listed().due(u64::MAX, newest);
            self.transaction.copied_home(&all, &HashSet::new());
        }
        if !self.copy_due(newest)? {
            return Ok(commit);
        }
        let redirects = self.transaction.redirects().clone();
        let applied = Arc::new(Commit { slot: commit.slot.clone(), redirects, _lock: None });
        self.publish(&applied);
        Ok(applied)
    }

    fn publish(&mut self, commit: &Arc<Commit>) {
        let before = self.store.publish(commit);
        self.pins.supersede(&before);
    }

    /// Begins the next transaction after `commit`.
    pub(super) fn begin(&mut self, commit: &Commit) -> Result<()> {
        self.forget_savepoints();
        self.transaction.raise_step()?;
        let blocks = self.store.device.length_bytes()? / BLOCK_SIZE_U64;
        let blocks = u32::try_from(blocks).unwrap_or(BLOCKS_MAX);
        let MetaSlot { block_count, inline_free, .. } = &commit.slot;
        let reserve = reserve_of(&commit.slot);
        self.space.begin(*block_count, blocks, reserve, inline_free, &mut self.pins);
        Ok(())
    }
}

/// Returns the error about a block that was allocated, although a stream changes it as a live block. Someone with the key
/// can list a block in use as free.
fn listed_as_free(position: Position) -> Error {
    Error::damaged(position, Check::FreeMap, "a free block", "a block in use")
}

#[cfg(test)]
impl Writer {
    pub(super) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }
}
