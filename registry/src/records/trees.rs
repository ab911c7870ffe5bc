//! The trees of an archive.

use crate::tree::TreeNumber;

/// The trees of an archive. The number is the place of the root in the meta slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TreeId {
    /// UUID to record.
    Streams = 0,
    /// UUID and first index to run.
    Extents = 1,
    /// Position to free run.
    Free = 2,
    /// UUID to record of a deleted stream whose blocks are not all free yet.
    PendingDeletions = 3,
    /// Session to salt and last step.
    Sessions = 4,
    /// Directory and name to inode.
    Names = 5,
    /// Inode to its fields.
    Inodes = 6,
}

impl TreeId {
    /// Every tree.
    pub const ALL: [TreeId; 7] = [
        TreeId::Streams,
        TreeId::Extents,
        TreeId::Free,
        TreeId::PendingDeletions,
        TreeId::Sessions,
        TreeId::Names,
        TreeId::Inodes,
    ];

    /// Place of the tree's root in the meta slot.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The number that every page of the tree carries.
    pub const fn number(self) -> TreeNumber {
        TreeNumber(self as u8)
    }
}
