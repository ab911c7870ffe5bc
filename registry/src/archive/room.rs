//! What a transaction may take of a full disk.
//!
//! A deletion writes pages before it frees anything. So there is a reserve of blocks for it, which a transaction that takes
//! blocks must leave. Otherwise, many small ones would use it up, and then nothing could be deleted any more.

use ar7_engine::Error as EngineError;
use ar7_engine::format::{DATA_SIZE, DATA_SIZE_U64};
use ar7_engine::store::FreeBlocks;

use super::overlay::Overlay;
use super::overlays::HOLE_MIN;
use super::state::State;
use crate::error::{Error, Result};
use crate::packs::level_of;
use crate::records::{COMPRESSION_COUNTER, TreeId};
use crate::working::Leaves;

/// Most blocks that a deletion takes until a later commit gives them back: both copies of the first page of two trees.
const DELETION_BLOCKS: u64 = 4;

/// Bytes that a range of a changed file takes at most in addition to its content: the heads of two frames, and the records
/// of both in two copies of a page.
const RANGE_BYTES: u64 = 300;

impl State {
    /// Fails unless a commit has room for the open transaction and for `more` new blocks, and leaves the reserve.
    pub(super) fn check_room(&mut self, more: usize) -> Result<()> {
        let changed = self.overlays.values().filter(|overlay| !overlay.is_unchanged());
        let overlaid = changed.map(|overlay| self.blocks_to_pack(overlay));
        let blocks = overlaid.fold(self.dirty_blocks, usize::saturating_add);
        self.trees.check_room(blocks.saturating_add(more))
    }

    /// Fails unless a commit has room for one more change of a packed file with holes, which writes `bytes`.
    pub(super) fn check_room_to_change(&mut self, overlay: &Overlay, bytes: usize) -> Result<()> {
        // What is added to the stream of changes is written again when the file is packed.
        let is_added = overlay.free_place(bytes as u64) == overlay.written;
        let times = if is_added { 2 } else { 1 };
        let blocks = times * bytes.div_ceil(DATA_SIZE) + blocks_of(2 * self.bytes_of_range());
        let first = if overlay.is_unchanged() { self.blocks_to_pack(overlay) } else { 0 };
        self.check_room(blocks.saturating_add(first))
    }

    /// Returns the number of blocks, or a few more, that a changed file with holes takes when it is packed again. If content
    /// is compressed, what was not changed may take an eighth more than before.
    fn blocks_to_pack(&self, overlay: &Overlay) -> usize {
        let ranges = u64::try_from(overlay.changes.len()).unwrap_or(u64::MAX);
        let added = ranges.saturating_mul(self.bytes_of_range());
        let bytes = overlay.stored.saturating_add(overlay.written).saturating_add(added);
        blocks_of(bytes.saturating_add(bytes / 8)).saturating_add(2)
    }

    /// Returns how many bytes a changed range takes at most, in addition to its content.
    fn bytes_of_range(&self) -> u64 {
        // Where a hole becomes short, its zeros take space if they are not compressed.
        RANGE_BYTES + if self.compresses() { 0 } else { 2 * HOLE_MIN }
    }

    /// Returns whether new packed content is compressed.
    pub(super) fn compresses(&self) -> bool {
        level_of(self.trees.counters()[COMPRESSION_COUNTER]).is_some()
    }

    /// Fails on a full disk if a commit of the flushed transaction takes blocks and leaves less than the reserve, unless the
    /// transaction only deletes. If it fails, nothing is lost.
    pub(super) fn check_reserve(&mut self) -> Result<()> {
        if !self.differs() {
            // The commit only frees what was deleted before, as far as there is room.
            return Ok(());
        }
        self.record_sessions().inspect_err(|error| self.fail(error))?;
        let redo = self.trees.writer().redo_list_blocks();
        let most = self.trees.page_blocks().saturating_add(redo);
        if self.trees.check_blocks(most, Leaves::Reserve).is_ok() {
            return Ok(());
        }
        let outlook = self.trees.outlook();
        let refused = match self.trees.check_blocks(outlook.written, Leaves::Reserve) {
            Err(Error::Engine(error)) if is_full(&error) => error,
            outcome => return outcome,
        };
        if self.gives_back(outlook.free)? || self.only_deletes(outlook.free) {
            return self.trees.check_blocks(outlook.written, Leaves::Nothing);
        }
        Err(refused.into())
    }

    /// Returns whether as many blocks can be allocated after the commit as before. Readers would keep those that it frees.
    fn gives_back(&mut self, free: FreeBlocks) -> Result<bool> {
        Ok(free.after >= free.before && self.trees.writer().oldest_read()?.is_none())
    }

    /// Returns whether the transaction removes names, streams or blocks, and seals no content. A file that is open without a
    /// name may get a second block, and keeps it until it is closed. So part of the reserve must be left.
    fn only_deletes(&self, free: FreeBlocks) -> bool {
        let roots = &self.trees.store().current().slot.roots;
        let is_removed = |tree: TreeId| self.trees.entries(tree) < roots[tree.index()].entries;
        let removes =
            is_removed(TreeId::Names) || is_removed(TreeId::Streams) || free.after > free.before;
        let reserve = u64::from(self.trees.reserve());
        let takes_few = free.after.saturating_add(DELETION_BLOCKS) >= free.before;
        let left = if takes_few { reserve / 4 } else { reserve / 2 };
        removes && self.sealed_blocks == 0 && free.after >= left
    }
}

/// Returns the number of blocks for this many bytes.
fn blocks_of(bytes: u64) -> usize {
    usize::try_from(bytes.div_ceil(DATA_SIZE_U64)).unwrap_or(usize::MAX)
}

fn is_full(error: &EngineError) -> bool {
    matches!(error, EngineError::NoSpace { .. } | EngineError::Full { .. })
}
