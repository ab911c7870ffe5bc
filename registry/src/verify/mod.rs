//! Verification: opens every block, and checks that everything agrees with everything else.
//!
//! It goes on after a fault and reports them all, in work that grows with the archive and not with what its records
//! claim. Memory is a bit per block, and an entry per directory and per hard link.

mod extents;
mod map;
mod names;
mod pages;
mod streams;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::ControlFlow;

use ar7_engine::format::{Position, RESERVED_BLOCKS, Run};
use ar7_engine::{Check, Error as EngineError, Value};
use uuid::Uuid;

use crate::archive::Archive;
use crate::committed::Snapshot;
use crate::error::{Error, Result};
use crate::records::{Sessions, TreeId};
use extents::Visited;
use map::BlockMap;
use names::NameChecks;
use streams::Queue;

/// Something that is wrong with an archive.
#[derive(Debug, Clone)]
pub struct Finding {
    /// What it is wrong with.
    pub subject: Subject,
    /// What is wrong.
    pub error: Error,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.subject, self.error)
    }
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// A copy of the header.
    Header(Position),
    /// A meta slot.
    MetaSlot(Position),
    /// A page of the registry.
    Page {
        /// Its tree.
        tree: TreeId,
        /// Where it lies.
        position: Position,
    },
    /// A tree as a whole.
    Tree(TreeId),
    /// A block of a stream.
    Block {
        /// The stream.
        stream: Uuid,
        /// The block's place in it.
        index: u32,
        /// Where it lies.
        position: Position,
    },
    /// A stream as a whole.
    Stream(Uuid),
    /// Blocks of the file.
    Blocks(Run),
    /// An inode.
    Inode(u64),
    /// A name.
    Name {
        /// Inode of the directory.
        directory: u64,
        /// The name.
        name: Vec<u8>,
    },
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Header(position) => write!(formatter, "header at block {position}"),
            Subject::MetaSlot(position) => write!(formatter, "meta slot at block {position}"),
            Subject::Page { tree, position } => {
                write!(formatter, "page of tree {tree:?} at block {position}")
            }
            Subject::Tree(tree) => write!(formatter, "tree {tree:?}"),
            Subject::Block { stream, index, position } => {
                write!(formatter, "stream {stream}, block {index} at block {position} of the file")
            }
            Subject::Stream(stream) => write!(formatter, "stream {stream}"),
            Subject::Blocks(run) => {
                write!(formatter, "blocks {} to {}", run.start(), run.end() - 1)
            }
            Subject::Inode(inode) => write!(formatter, "inode {inode}"),
            Subject::Name { directory, name } => {
                write!(formatter, "name \"{}\" in directory {directory}", name.escape_ascii())
            }
        }
    }
}

/// How far a verification is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifyProgress {
    /// Blocks accounted for.
    pub blocks: u64,
    /// Blocks of the archive.
    pub total: u64,
}

/// What a verification saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VerifySummary {
    /// Blocks of the archive, the reserved ones included.
    pub blocks: u64,
    /// Blocks of streams that were opened.
    pub data_blocks: u64,
    /// Pages of the registry that were opened.
    pub pages: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Streams.
    pub streams: u64,
    /// Bytes in streams.
    pub bytes: u64,
    /// Names.
    pub names: u64,
    /// Findings.
    pub findings: u64,
}

impl Archive {
    /// Opens every block of the newest commit and checks tags, digests, generations, links, indexes, extents,
    /// pages, the free map, and names. Each fault is reported; the summary counts them.
    ///
    /// In a bounded run, use a store on the plain file ([`ar7_engine::store::Io::File`]), where a bad
    /// sector is an error and never a signal.
    pub fn verify(
        &self,
        report: &mut dyn FnMut(Finding),
        progress: &mut dyn FnMut(VerifyProgress),
    ) -> Result<VerifySummary> {
        self.verify_until(report, &mut |at| {
            progress(at);
            ControlFlow::Continue(())
        })
    }

    /// The same until `progress` breaks: then [`ar7_engine::Error::Stopped`].
    pub fn verify_until(
        &self,
        report: &mut dyn FnMut(Finding),
        progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<VerifySummary> {
        let snapshot = self.snapshot();
        let blocks = snapshot.commit().slot.block_count;
        let mut verifier = Verifier {
            snapshot: &snapshot,
            map: BlockMap::new(blocks),
            extents: None,
            queue: Queue::default(),
            names: NameChecks::default(),
            summary: VerifySummary { blocks: u64::from(blocks), ..VerifySummary::default() },
            unreadable_pages: 0,
            report,
            progress,
            is_stopped: false,
        };
        if !self.is_writer() {
            // A writer repaired the copies when it opened the archive.
            verifier.check_copies();
        }
        verifier.run();
        if verifier.is_stopped {
            return Err(EngineError::Stopped.into());
        }
        snapshot.store().check_usable()?;
        Ok(verifier.summary)
    }
}

/// A verification under way.
struct Verifier<'a> {
    snapshot: &'a Snapshot,
    map: BlockMap,
    extents: Option<Visited>,
    queue: Queue,
    names: NameChecks,
    summary: VerifySummary,
    unreadable_pages: u64,
    report: &'a mut dyn FnMut(Finding),
    progress: &'a mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    /// Nothing more is opened and no finding is reported.
    is_stopped: bool,
}

impl Verifier<'_> {
    fn run(&mut self) {
        self.check_blanks();
        self.check_redo_list();
        self.walk::<Sessions>(&mut |_, _, _| {});
        self.check_pending_deletions();
        self.check_extents();
        self.check_streams();
        self.check_names();
        // Last: a block that is used and free is a fault of the free map, and was opened as what uses it.
        self.check_free();
        self.check_coverage();
    }

    /// Copies of header and meta slot that opening found damaged.
    fn check_copies(&mut self) {
        let recovery = self.snapshot.store().recovery().clone();
        for position in recovery.headers {
            let error =
                EngineError::damaged(position, Check::HeaderChecksum, "a good copy", "none");
            self.find(Subject::Header(position), error);
        }
        for position in recovery.bad_slots {
            let error = EngineError::damaged(position, Check::MetaSlot, "a good copy", "none");
            self.find(Subject::MetaSlot(position), error);
        }
    }

    /// Every block is used or free; what is neither is lost.
    fn check_coverage(&mut self) {
        let map = std::mem::replace(&mut self.map, BlockMap::new(RESERVED_BLOCKS));
        if self.unreadable_pages > 0 {
            // What the unreadable pages named is not known: one finding stands for all of it.
            if let Some(first) = map.missing().next() {
                let blocks: u64 = map.missing().map(|run| u64::from(run.count())).sum();
                let expected = "blocks that readable pages name";
                let error = EngineError::damaged(first.start(), Check::FreeMap, expected, blocks);
                self.find(Subject::Blocks(first), error);
            }
            return;
        }
        for run in map.missing() {
            let error =
                EngineError::damaged(run.start(), Check::FreeMap, "used or free", "neither");
            self.find(Subject::Blocks(run), error);
        }
    }

    /// Accounts for a run; what is accounted for twice, or lies beyond the end, is a finding.
    fn account(&mut self, subject: impl FnOnce() -> Subject, run: Run) -> bool {
        if self.is_stopped {
            return false;
        }
        let accounted = match self.map.mark(run) {
            Ok(()) => true,
            Err(position) => {
                let expected = "a block of the archive that nothing else names";
                let error = EngineError::damaged(position, Check::FreeMap, expected, position);
                self.find(subject(), error);
                false
            }
        };
        let (blocks, total) = (self.map.marked(), self.summary.blocks);
        if (self.progress)(VerifyProgress { blocks, total }).is_break() {
            self.is_stopped = true;
        }
        accounted && !self.is_stopped
    }

    fn find(&mut self, subject: Subject, error: impl Into<Error>) {
        if self.is_stopped {
            return;
        }
        self.summary.findings += 1;
        (self.report)(Finding { subject, error: error.into() });
    }

    fn disagree(
        &mut self,
        subject: Subject,
        check: Check,
        expected: impl Into<Value>,
        found: impl Into<Value>,
    ) {
        self.find(subject, EngineError::damaged(None, check, expected, found));
    }
}
