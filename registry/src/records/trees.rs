//! The trees of an archive.

use ar7_engine::Error as EngineError;
use ar7_engine::format::Root;

use crate::error::Result;
use crate::tree::TreeNumber;

/// The trees of an archive. The number is the index of the tree's root in the meta slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeId {
    /// UUID to stream record.
    Streams = 0,
    /// UUID and first block index to extent.
    Extents = 1,
    /// Position to free run.
    Free = 2,
    /// UUID to stream record of a pending deletion.
    PendingDeletions = 3,
    /// Ended session to salt and last step.
    Sessions = 4,
    /// Directory and name to inode.
    Names = 5,
    /// Inode to its fields.
    Inodes = 6,
    /// Address to frame.
    Frames = 7,
    /// UUID to how much of a pack is in use.
    Packs = 8,
    /// Address to the length of a slice of a deleted file.
    DeadSlices = 9,
}

impl TreeId {
    /// Every tree.
    pub const ALL: [TreeId; 10] = [
        TreeId::Streams,
        TreeId::Extents,
        TreeId::Free,
        TreeId::PendingDeletions,
        TreeId::Sessions,
        TreeId::Names,
        TreeId::Inodes,
        TreeId::Frames,
        TreeId::Packs,
        TreeId::DeadSlices,
    ];

    /// Returns the index of the tree's root in the meta slot.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// Returns the number that every page of the tree contains.
    pub const fn number(self) -> TreeNumber {
        TreeNumber(self as u8)
    }
}

/// Fails if there is a root of a tree that this version does not know. A commit would drop it.
pub(crate) fn check_roots(roots: &[Root]) -> Result<()> {
    let known = TreeId::ALL.len();
    let unknown = roots.iter().skip(known).rposition(|root| root.block.is_some());
    unknown.map_or(Ok(()), |index| {
        let (what, found, supported) = ("number of trees", known + index + 1, known);
        Err(EngineError::NewerFormat { what, found: found.into(), supported: supported.into() }
            .into())
    })
}
