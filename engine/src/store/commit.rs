//! The commit protocol (docs/FORMAT.md, "Writing"): each write with the reason for its place in the order.

use std::sync::Arc;

use super::committed::Commit;
use super::redo::WrittenRedoList;
use super::space::RESERVE_BLOCKS;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE_U64, BLOCKS_MAX, MetaSlot, ROOTS, Root, Run, StoredStream};

/// What the layer above says of the state to be committed.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotUpdate {
    /// Roots of the layer's trees.
    pub roots: [Root; ROOTS],
    /// Free runs that no tree records.
    pub inline_free: Vec<Run>,
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
    /// When this returns, the commit is on stable storage. The meta slot has the generation of the current step; the step
    /// is raised in any case.
    ///
    /// The specification's name is `save_meta`.
    #[doc(alias = "save_meta")]
    pub fn commit(&mut self, update: SlotUpdate) -> Result<Arc<Commit>> {
        self.wait()?;
        self.store.check_usable()?;
        let store = Arc::clone(&self.store);
        let slot = self.next_slot(update)?;
        // A meta slot that cannot be encoded is refused before anything is written.
        slot.encode()?;

        // Step 4. Everything the meta slot will name must be on disk before it can be: new blocks, pages, shadow blocks,
        // the redo list; and the blocks that the list before copied home, which this meta slot drops.
        if !crate::fault!(SkipFirstSync) {
            store.poisoning(store.device.sync())?;
        }

        // Steps 5 and 6.
        let redirects = self.transaction.take_redirects();
        if crate::fault!(RedoBeforeTheCommit) {
            store.poisoning(store.copy_home(&redirects.entries()))?;
        }
        let commit = self.write_slot(slot, redirects)?;

        // A snapshot of an earlier commit may still read what this one calls free.
        self.pins.freed(commit.slot.number, self.space.take_log());
        self.begin(&commit)?;
        Ok(commit)
    }

    /// Drops everything since the last commit. Sealed positions may be allocated again, so the step is raised.
    pub fn rollback(&mut self) -> Result<()> {
        self.wait()?;
        self.store.check_usable()?;
        self.forget_written();
        self.transaction.roll_back();
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
        // The second copy of the meta slot and what was copied home are not on disk yet. The next opening would find a
        // stale copy and repair it, which is right but looks like a crash.
        store.poisoning(store.device.sync())?;
        let commit = store.current();
        if commit.slot.redo_head.is_none() && !self.pins.any() {
            let keep = commit.slot.block_count.saturating_add(RESERVE_BLOCKS).min(BLOCKS_MAX);
            return Ok(Finished { trimmed: store.device.shrink(keep) });
        }
        Ok(Finished { trimmed: Ok(()) })
    }

    /// Whether the current commit still has a redo list, which closing should clear.
    pub fn has_redo_list(&self) -> bool {
        !self.transaction.listed().is_empty()
    }

    fn next_slot(&self, update: SlotUpdate) -> Result<MetaSlot> {
        let current = self.store.current();
        let number = current.slot.number.checked_add(1);
        let full = Error::Full { what: "number of commits", limit: u64::MAX };
        let is_forgotten = crate::fault!(ForgetTheRedoList);
        let redo = if is_forgotten { WrittenRedoList::default() } else { update.redo };
        let mut slot = MetaSlot {
            generation: self.transaction.generation(),
            number: number.ok_or(full)?,
            block_count: self.block_count_to_commit()?,
            roots: update.roots,
            redo_head: redo.head,
            redo_length: redo.length,
            inline_free: update.inline_free,
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

    fn block_count_to_commit(&self) -> Result<u32> {
        if crate::fault!(TrustTheLength) {
            let blocks = self.store.device.length_bytes()? / BLOCK_SIZE_U64;
            return Ok(u32::try_from(blocks).unwrap_or(BLOCKS_MAX));
        }
        Ok(self.space.count())
    }
}
