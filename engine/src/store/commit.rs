//! The commit protocol (docs/FORMAT.md, "Writing"): each write with the reason for its place in the order.

use std::sync::Arc;

use super::committed::Commit;
use super::listed::WrittenRedoList;
use super::space::{end_with_reserve, reserve_of};
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::format::{BLOCK_SIZE_U64, BLOCKS_MAX, MetaSlot, ROOTS, Root, Run, StoredStream};

/// The state that the layer above commits.
#[derive(Debug, Clone, PartialEq)]
pub struct SlotUpdate {
    /// Roots of the layer's trees.
    pub roots: [Root; ROOTS],
    /// Inline free runs, which no tree records.
    pub inline_free: Vec<Run>,
    /// Records of the eight reserved streams.
    pub reserved_streams: [StoredStream; 8],
    /// Counters of the layer above.
    pub counters: [u64; 8],
    /// The application's own metadata.
    pub metadata: Vec<u8>,
    /// Whether a tree records the pending sessions now.
    pub sessions_recorded: bool,
    /// The list that [`Writer::write_redo_list`] returned.
    pub redo: WrittenRedoList,
}

/// The result of closing a writer. Every commit is durable.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The result of trimming the file. After a failure the file is longer than needed, which is harmless, so closing
    /// still succeeds. The next writer trims it when it closes.
    pub trimmed: Result<()>,
}

impl Writer {
    /// Makes the transaction durable, or fails and leaves the handle unusable.
    ///
    /// When this returns, the commit is durable. Its meta slot has the generation of the current step; the step is
    /// raised in any case.
    ///
    /// The specification's name is `save_meta`.
    #[doc(alias = "save_meta")]
    pub fn commit(&mut self, update: SlotUpdate) -> Result<Arc<Commit>> {
        self.wait()?;
        self.store.check_usable()?;
        let store = Arc::clone(&self.store);
        let slot = self.next_slot(update)?;
        // A meta slot that cannot be encoded must fail before anything is written.
        slot.encode()?;

        if crate::fault!(AskTooEarly) {
            self.pins.query(&*store.locks, slot.number)?;
        }

        // Step 4. Everything that the meta slot will name must be on disk before the slot is: new blocks, pages,
        // shadow blocks and the redo list. So must the images that were copied home since the last commit, because this
        // slot stops naming them.
        if !crate::fault!(SkipFirstSync) {
            store.poisoning(store.device.sync())?;
        }

        // Steps 5 and 6.
        if crate::fault!(RedoBeforeTheCommit) {
            store.poisoning(store.copy_home(&self.redirects().all_due()))?;
        }
        self.transaction.commit_list();
        let commit = self.write_slot(slot)?;

        // A snapshot of an earlier commit may still read blocks that this commit frees.
        self.pins.freed(commit.slot.number, self.space.take_log());
        // The commit counts. A failure leaves no transaction in which the writer could go on.
        let begun = self.begin(&commit);
        store.poisoning(begun)?;
        Ok(commit)
    }

    /// Drops everything since the last commit. Sealed positions may be allocated again, so the step is raised.
    pub fn rollback(&mut self) -> Result<()> {
        self.wait()?;
        self.store.check_usable()?;
        self.forget_written();
        self.transaction.roll_back();
        let current = self.store.current();
        // A failure leaves half a rollback, which must never be committed.
        let begun = self.begin(&current);
        self.store.poisoning(begun)
    }

    /// Closes the writer: makes the writes of step 6 of the last commit durable, and trims the file after its last
    /// used block.
    ///
    /// The caller has committed once more before, so that no redo list is left. With a redo list, the file keeps its
    /// length.
    pub fn finish(mut self) -> Result<Finished> {
        Ok(Finished { trimmed: self.cut()? })
    }

    /// Does the same, and continues after it. The transaction must have no changes. The inner result is that of
    /// trimming the file.
    pub fn cut(&mut self) -> Result<Result<()>> {
        self.wait()?;
        self.store.check_usable()?;
        let store = Arc::clone(&self.store);
        // The second copy of the meta slot and the blocks copied home may not be on disk yet. Without this sync, the
        // next opening would find an older copy and repair it: correct, but it looks like a crash.
        store.poisoning(store.device.sync())?;
        let commit = store.current();
        // Asked right before the cut: a reader of an older commit may need the end of the file.
        let may_cut = !self.is_pinned()? || crate::fault!(CutUnderReaders);
        if commit.slot.redo_head.is_some() || !may_cut {
            return Ok(Ok(()));
        }
        let keep = end_with_reserve(commit.slot.block_count, reserve_of(&commit.slot));
        let trimmed = store.device.shrink(keep);
        if trimmed.is_ok() {
            self.space.was_cut(keep);
        }
        Ok(trimmed)
    }

    /// Returns whether the current commit has a redo list. A commit before closing clears it, unless a snapshot pins an
    /// older commit.
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
