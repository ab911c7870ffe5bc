//! The state in which opening found the archive.

use super::choose::Chosen;
use super::header::OpenedHeader;
use crate::format::Position;
use crate::store::redo_list::RedoList;

/// The state in which opening found the archive. A writer has repaired it; a reader only reports it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Header copies that were damaged.
    pub headers: Vec<Position>,
    /// Header copies that were older although no change was unfinished.
    pub outdated_headers: Vec<Position>,
    /// Header copies that an interrupted change of the header had not reached.
    pub older_headers: Vec<Position>,
    /// Meta slots that did not open.
    pub bad_slots: Vec<Position>,
    /// Copies of the newest meta slot that were bad or older: the last writer did not close the archive.
    pub older_slots: Vec<Position>,
    /// Number of live blocks on the redo list.
    pub redo_blocks: usize,
    /// Copies of blocks of the redo list that did not open. The other copy of each did.
    pub bad_redo_copies: Vec<Position>,
    /// A block of the redo list of which neither copy opened. The newest version of some live blocks is lost: those
    /// that only this block, or the blocks after it, name and that no writer had copied to their home locations.
    pub lost_redo_block: Option<Position>,
    /// Whether a pair of meta slots has no good copy, so that the newest commit may be lost.
    pub lost_pair: bool,
    /// A meta slot that does not open, or is older than the other copy in its pair, and may have held a newer commit than
    /// the current one. A crash during a commit leaves one that does not open, and so does corruption of the slot after a
    /// crash; only then, a commit that had returned is lost.
    pub may_have_held_newer: Option<Position>,
    /// The one meta slot of the current commit that is known to be good: the commit is lost if this one is. A good third
    /// copy counts if a reader would then open it. Only a reader finds it, while no writer is active: a writer writes the
    /// others again before anything else.
    pub only_copy: Option<Position>,
}

impl Recovery {
    pub(in crate::store) fn new(
        header: &OpenedHeader,
        chosen: &Chosen,
        list: &RedoList,
    ) -> Recovery {
        // Both copies are durable before a commit names them, so an older copy is expected only before that commit.
        let is_unfinished = header.header.revision > chosen.slot.header_revision;
        let is_older = |position: &&Position| header.older.contains(position);
        let (older, headers): (Vec<Position>, _) = header.repair.iter().partition(is_older);
        let (older_headers, outdated_headers) =
            if is_unfinished { (older, Vec::new()) } else { (Vec::new(), older) };
        Recovery {
            headers,
            outdated_headers,
            older_headers,
            bad_slots: chosen.bad.clone(),
            older_slots: chosen.repair.clone(),
            redo_blocks: list.shadows.len(),
            bad_redo_copies: list.bad_copies.clone(),
            lost_redo_block: list.lost.as_ref().map(|(block, _)| block.position),
            lost_pair: chosen.lost.is_some(),
            may_have_held_newer: chosen.may_have_held_newer,
            only_copy: None,
        }
    }

    /// Returns whether the archive needed no repair. A redo list needs no repair: a reader of an older
    /// commit also keeps one.
    pub fn is_clean(&self) -> bool {
        Recovery { redo_blocks: 0, ..self.clone() } == Recovery::default()
    }
}
