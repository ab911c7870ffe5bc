//! The commit protocol, steps 4 to 6 of the design: each write with the reason for its place in the order.

use std::sync::Arc;

use super::choose::Pair;
use super::read::generation_in;
use super::redo::WrittenRedoList;
use super::{Commit, RESERVE_BLOCKS, Redirects, Store, Urgency, Writer};
use crate::crypto::{KeyKind, SealJob};
use crate::error::{Error, Result};
use crate::format::{
    BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, BlockHead, META_STREAM, MetaSlot, Position, ROOTS,
    RedoEntry, Root, Run, StoredStream,
};

/// What the layer above says of the state to be committed.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotUpdate {
    /// Roots of the layer's trees.
    pub roots: [Root; ROOTS],
    /// Free runs that no tree records.
    pub loose: Vec<Run>,
    /// Records of the eight reserved streams.
    pub reserved_streams: [StoredStream; 8],
    /// Counters of the layer above.
    pub counters: [u64; 8],
    /// The application's own metadata.
    pub metadata: Vec<u8>,
    /// Whether the pending sessions are recorded elsewhere now.
    pub sessions_recorded: bool,
    /// The list that [`Writer::write_redo_list`] returned.
    pub redo: WrittenRedoList,
}

/// How writing ended. Everything that was committed is durable.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Whether the file could be trimmed. After a failure it is longer than it need be, which harms nothing, so that this
    /// is no reason to call what was committed a failure. The next writer that ends tries again.
    pub trimmed: Result<()>,
}

impl Writer {
    /// Makes the transaction durable, or fails and leaves the handle unusable.
    ///
    /// When this returns, the commit is on stable storage. The generation of the slot is that of the
    /// step under way; the step is raised in any case.
    ///
    /// The specification's name is `save_meta`.
    #[doc(alias = "save_meta")]
    pub fn commit(&mut self, update: SlotUpdate) -> Result<Arc<Commit>> {
        self.wait()?;
        self.store.check_usable()?;
        let store = Arc::clone(&self.store);
        let slot = self.next_slot(update)?;
        // A slot that cannot be encoded is refused before anything is written.
        slot.encode()?;

        // Step 4. Everything the slot will name must be on disk before the slot can be: new blocks,
        // pages, spares, the redo list; and the images of the list before, which this slot drops.
        if !crate::fault!(SkipFirstSync) {
            store.poisoning(store.device.sync())?;
        }

        // Steps 5 and 6.
        let redirects = std::mem::take(&mut self.redirects);
        if crate::fault!(RedoBeforeTheCommit) {
            store.poisoning(store.copy_images(&redirects.images()))?;
        }
        let commit = self.write_slot(slot, redirects)?;

        // A reader of an earlier commit may still read what this one calls free.
        self.views.freed(commit.slot.number, self.space.take_log());
        self.begin(&commit)?;
        Ok(commit)
    }

    /// Drops everything since the last commit. Sealed positions may be allocated again, so the step is raised.
    pub fn rollback(&mut self) -> Result<()> {
        self.wait()?;
        self.store.check_usable()?;
        self.in_flight.forget();
        self.redirects = Redirects::default();
        self.listed.clone_from(&self.listed_at_begin);
        let current = self.store.current();
        // Half a rollback must not be committed.
        let begun = self.begin(&current);
        self.store.poisoning(begun)
    }

    /// Ends writing: makes what step 6 of the last commit wrote durable and trims the file to what is used.
    /// The layer above has committed once more, so that no redo list is left; otherwise the file stays as long as it is.
    pub fn finish(mut self) -> Result<Finished> {
        self.wait()?;
        self.store.check_usable()?;
        let store = Arc::clone(&self.store);
        // The second copy of the slot and the images are not on disk yet; the next opening would find
        // a stale copy to mend, which is right but looks like a crash.
        store.poisoning(store.device.sync())?;
        let commit = store.current();
        if commit.slot.redo_head.is_none() && !self.views.any_held() {
            let keep = commit.slot.block_count.saturating_add(RESERVE_BLOCKS).min(BLOCKS_MAX);
            return Ok(Finished { trimmed: store.device.shrink(keep) });
        }
        Ok(Finished { trimmed: Ok(()) })
    }

    /// Whether the current commit still has a redo list, which closing should clear.
    pub fn has_redo_list(&self) -> bool {
        !self.listed.is_empty()
    }

    fn next_slot(&self, update: SlotUpdate) -> Result<MetaSlot> {
        let current = self.store.current();
        let number = current.slot.number.checked_add(1);
        let full = Error::Full { what: "number of commits", limit: u64::MAX };
        let is_forgotten = crate::fault!(ForgetTheRedoList);
        let redo = if is_forgotten { WrittenRedoList::default() } else { update.redo };
        let mut slot = MetaSlot {
            generation: self.generation,
            number: number.ok_or(full)?,
            block_count: self.block_count_to_commit()?,
            roots: update.roots,
            redo_head: redo.head,
            redo_length: redo.length,
            loose: update.loose,
            reserved_streams: update.reserved_streams,
            counters: update.counters,
            pending_sessions: if update.sessions_recorded {
                Vec::new()
            } else {
                current.slot.pending_sessions.clone()
            },
            metadata: update.metadata,
            ..current.slot.clone()
        };
        self.store.name_header(&mut slot);
        Ok(slot)
    }

    /// Writes a slot to the pair that does not hold the current commit.
    pub(super) fn write_slot(
        &mut self,
        slot: MetaSlot,
        redirects: Redirects,
    ) -> Result<Arc<Commit>> {
        let store = Arc::clone(&self.store);
        let pair = self.pair_to_write();
        let [mut first, mut second] = pair.positions();
        if self.bad_copies.contains(&second) {
            // A crash while the only good copy is written would leave the pair without one.
            std::mem::swap(&mut first, &mut second);
        }

        // Step 5. One copy, then the sync that makes it the commit. The other copy of this pair stays a
        // good older one until then, so a torn write never costs the pair.
        store.poisoning(store.write_meta(&slot, first))?;
        if !crate::fault!(SkipSecondSync) {
            store.poisoning(store.device.sync())?;
        }

        // From here on the commit counts. Readers find listed blocks at their spares until step 6 is done.
        let images = redirects.images();
        let commit = Arc::new(Commit { slot, redirects });
        self.publish(&commit);

        // Step 6. Not synced here: until the next commit's first sync, recovery does both again.
        if !crate::fault!(OneCopyOfTheSlot) {
            store.poisoning(store.write_meta(&commit.slot, second))?;
        }
        for position in pair.positions() {
            self.bad_copies.remove(&position);
        }
        self.newest = pair;
        if images.is_empty() {
            return Ok(commit);
        }
        store.poisoning(store.copy_images(&images))?;
        let applied =
            Arc::new(Commit { slot: commit.slot.clone(), redirects: Redirects::default() });
        self.publish(&applied);
        Ok(applied)
    }

    /// The pair that does not hold the current commit.
    fn pair_to_write(&self) -> Pair {
        if crate::fault!(PairByParity) {
            return Pair::BOTH[usize::from(self.generation.step % 2 == 1)];
        }
        self.newest.other()
    }

    fn block_count_to_commit(&self) -> Result<u32> {
        if crate::fault!(TrustTheLength) {
            let blocks = self.store.device.length_bytes()? / BLOCK_SIZE_U64;
            return Ok(u32::try_from(blocks).unwrap_or(BLOCKS_MAX));
        }
        Ok(self.space.count())
    }

    fn publish(&mut self, commit: &Arc<Commit>) {
        let before = self.store.current.swap(Arc::clone(commit));
        self.views.supersede(&before);
    }

    /// Begins the next transaction after `commit`.
    pub(super) fn begin(&mut self, commit: &Commit) -> Result<()> {
        self.raise_step()?;
        self.listed_at_begin.clone_from(&self.listed);
        let blocks = self.store.device.length_bytes()? / BLOCK_SIZE_U64;
        let blocks = u32::try_from(blocks).unwrap_or(BLOCKS_MAX);
        self.space.begin(commit.slot.block_count, blocks, &commit.slot.loose, &mut self.views);
        Ok(())
    }

    /// An allocation for the trash, whose own pages take space while it records space.
    pub fn allocate_reserve(&mut self, most: u32) -> Result<Run> {
        self.allocate(most, Urgency::Reserve)
    }
}

impl Store {
    /// Seals a slot for one of its four positions and writes it there.
    pub(super) fn write_meta(&self, slot: &MetaSlot, position: Position) -> Result<()> {
        let data = slot.encode()?;
        let head = BlockHead { stream: META_STREAM, ..BlockHead::default() };
        let job = SealJob { position, head, data: &data };
        let mut bytes = [0; BLOCK_SIZE];
        self.sealer.seal_batch(KeyKind::Meta, slot.generation, &[job], &mut bytes)?;
        self.device.write(position, &bytes)
    }

    /// Copies images, byte for byte, from their spares to their places.
    pub(super) fn copy_images(&self, images: &[RedoEntry]) -> Result<()> {
        let mut bytes = [0; BLOCK_SIZE];
        for &RedoEntry { place, spare, generation } in images {
            // From the file itself: what a map shows behind the end of one that somebody has cut is zeros, and
            // nothing here is authenticated. What is not the version that was sealed is looked at past the cache.
            self.device.read_unmapped(spare, &mut bytes)?;
            if generation_in(&bytes) != generation {
                self.device.read_direct(spare, &mut bytes)?;
            }
            self.device.write(place, &bytes)?;
        }
        Ok(())
    }
}
