//! What a salvage recovered, and what it did not.

use std::ops::{ControlFlow, Range};

use ar7_engine::Error as EngineError;
use uuid::Uuid;

use crate::error::Error;
use crate::records::TreeId;

/// The progress of a salvage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SalvageProgress {
    /// The scan has tried this many blocks, of all blocks of the file.
    Scanned {
        /// Blocks that were tried.
        blocks: u32,
        /// All blocks.
        total: u32,
    },
    /// This many bytes were written to the new archive.
    Written {
        /// Bytes of content.
        bytes: u64,
    },
}

/// Receives what a salvage does, and whether it goes on.
pub trait SalvageObserver {
    /// An entry or stream was written, or is lost.
    fn salvaged(&mut self, item: Salvaged);

    /// Reports progress. If it breaks, the salvage fails with [`ar7_engine::Error::Stopped`].
    fn progress(&mut self, at: SalvageProgress) -> ControlFlow<()>;
}

/// An entry or a stream that a salvage wrote, or could not write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    /// Its path in the new archive, or the path at which it is missing. `None` for a stream without a name.
    pub path: Option<Vec<u8>>,
    /// The stream with its content in the old archive.
    pub stream: Option<Uuid>,
    /// Its length in bytes.
    pub length: u64,
    /// What became of it.
    pub outcome: Outcome,
    /// Ranges of bytes that are lost. They are zeros, or missing at the end; in `lost+found` also at the beginning.
    pub gaps: Vec<Range<u64>>,
}

/// What became of an entry or stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It is as it was written.
    Complete,
    /// Some of its bytes are lost.
    Gaps,
    /// Nothing that is left proves that its blocks are of one version, or where it ends.
    Unproven,
    /// Its content is as it was written, but its name or attributes are lost.
    Nameless,
    /// Nothing but its name is left.
    Lost,
}

/// The result of a salvage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SalvageSummary {
    /// Blocks of the old file.
    pub blocks: u64,
    /// Blocks that opened. Free blocks with old content are among them.
    pub opened: u64,
    /// Blocks that the system could not read.
    pub unreadable: u64,
    /// Entries and streams that are complete.
    pub complete: u64,
    /// Entries and streams with gaps.
    pub gaps: u64,
    /// Those of which nothing proves that they are of one version.
    pub unproven: u64,
    /// Those whose name or attributes are lost.
    pub nameless: u64,
    /// Names without anything else.
    pub lost: u64,
    /// Trees of which pages are lost. Their records come from older pages, as far as those exist.
    pub damaged_trees: Vec<TreeId>,
}

impl SalvageSummary {
    /// Returns whether nothing was lost.
    pub fn is_complete(&self) -> bool {
        self.gaps + self.unproven + self.nameless + self.lost == 0 && self.damaged_trees.is_empty()
    }

    pub(super) fn count(&mut self, outcome: Outcome) {
        let counter = match outcome {
            Outcome::Complete => &mut self.complete,
            Outcome::Gaps => &mut self.gaps,
            Outcome::Unproven => &mut self.unproven,
            Outcome::Nameless => &mut self.nameless,
            Outcome::Lost => &mut self.lost,
        };
        *counter += 1;
    }
}

/// Returns the error of a salvage that was stopped.
pub(super) fn stopped() -> Error {
    EngineError::Stopped.into()
}
