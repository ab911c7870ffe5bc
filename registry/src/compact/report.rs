//! Progress and result of a compaction.

use std::collections::HashSet;
use std::ops::ControlFlow;

use roaring::RoaringBitmap;
use uuid::Uuid;

use crate::verify::{Finding, Subject};

/// Receives what a compaction does.
pub trait CompactObserver {
    /// A block that does not open, or a part of the index. What it occupies stays where it is.
    fn damaged(&mut self, finding: Finding);

    /// Called before each commit, and repeatedly while the compaction waits for readers. A break ends it.
    fn progress(&mut self, at: CompactProgress) -> ControlFlow<()>;
}

/// How far a compaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactProgress {
    /// Blocks that were moved, or whose content was looked at to encode it again.
    pub moved: u64,
    /// Blocks to move or to look at. Later rounds may find a few more.
    pub total: u64,
}

/// The result of a compaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CompactSummary {
    /// Length of the file before.
    pub bytes_before: u64,
    /// Length of the file after it.
    pub bytes_after: u64,
    /// Blocks whose content was packed or encoded again.
    pub encoded: u64,
    /// Blocks of streams that were moved.
    pub moved: u64,
    /// Blocks of streams, and parts of the index, that do not open.
    pub damaged: u64,
    /// The oldest commit that was read when the compaction ended because of it.
    pub oldest_reader: Option<u64>,
}

/// The damage that was reported: each round finds it again.
#[derive(Debug, Default)]
pub(super) struct Reported {
    positions: RoaringBitmap,
    others: HashSet<Option<Uuid>>,
}

impl Reported {
    /// Returns whether a finding is new.
    pub(super) fn add(&mut self, finding: &Finding) -> bool {
        match finding.subject {
            Subject::Block { position, .. } => self.positions.insert(position.get()),
            Subject::Stream(stream) => self.others.insert(Some(stream)),
            _ => self.others.insert(None),
        }
    }
}
