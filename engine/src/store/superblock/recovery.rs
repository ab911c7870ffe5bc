//! What opening found in need of repair.

use super::choose::Chosen;
use super::header::OpenedHeader;
use crate::format::Position;

/// What opening found in need of repair. A writer has repaired it, a reader has only noted it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Header copies that were damaged, or older without a reason.
    pub headers: Vec<Position>,
    /// Header copies that a change of the header had not reached when it was cut off.
    pub older_headers: Vec<Position>,
    /// Meta slots that did not open.
    pub bad_slots: Vec<Position>,
    /// Copies of the newest meta slot that were bad or older: the last writer did not close.
    pub older_slots: Vec<Position>,
    /// Blocks on the redo list.
    pub redo_blocks: usize,
    /// Whether a pair of meta slots has no good copy, so that the newest commit may be lost.
    pub lost_pair: bool,
}

impl Recovery {
    pub(in crate::store) fn new(
        header: &OpenedHeader,
        chosen: &Chosen,
        redo_blocks: usize,
    ) -> Recovery {
        // Both copies are durable before a commit names them: an older one is no surprise only before that.
        let is_unfinished = header.header.revision > chosen.slot.header_revision;
        let (older_headers, headers) = header
            .repair
            .iter()
            .partition(|position| is_unfinished && header.older.contains(position));
        Recovery {
            headers,
            older_headers,
            bad_slots: chosen.bad.clone(),
            older_slots: chosen.repair.clone(),
            redo_blocks,
            lost_pair: chosen.lost.is_some(),
        }
    }

    /// Whether the archive was as a clean close leaves it.
    pub fn is_clean(&self) -> bool {
        *self == Recovery::default()
    }
}
