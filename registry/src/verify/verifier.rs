//! The state that all checks of a verification share.

use std::ops::ControlFlow;

use ar7_engine::format::Run;
use ar7_engine::{Check, Error as EngineError, Value};
use roaring::RoaringTreemap;

use super::finding::{Depth, Finding, Subject, VerifyProgress, VerifySummary};
use super::map::BlockMap;
use super::queue::Queue;
use crate::committed::Snapshot;
use crate::error::Error;

/// A verification in progress.
pub(super) struct Verifier<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) depth: Depth,
    pub(super) map: BlockMap,
    pub(super) queue: Queue,
    pub(super) summary: VerifySummary,
    pub(super) unreadable_pages: u64,
    /// Pages whose copies lie close to each other.
    pub(super) near_pages: u64,
    /// Inodes whose stream refers back to them and has not been visited yet.
    pub(super) owners: RoaringTreemap,
    /// The same for streams with the extended attributes of an inode.
    pub(super) extended_owners: RoaringTreemap,
    pub(super) report: &'a mut dyn FnMut(Finding),
    pub(super) progress: &'a mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    /// After a stop, no block is opened and no finding is reported.
    pub(super) is_stopped: bool,
}

impl Verifier<'_> {
    /// Accounts for a run. Reports a block beyond the end or with a second owner as a finding.
    /// Returns false in that case, and after a stop.
    pub(super) fn account(&mut self, subject: impl FnOnce() -> Subject, run: Run) -> bool {
        if self.is_stopped {
            return false;
        }
        let accounted = match self.map.mark(run) {
            Ok(()) => true,
            Err(position) => {
                let expected = "a block in the archive with one owner";
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

    pub(super) fn find(&mut self, subject: Subject, error: impl Into<Error>) {
        if self.is_stopped {
            return;
        }
        self.summary.findings += 1;
        (self.report)(Finding { subject, error: error.into() });
    }

    pub(super) fn disagree(
        &mut self,
        subject: Subject,
        check: Check,
        expected: impl Into<Value>,
        found: impl Into<Value>,
    ) {
        self.find(subject, EngineError::damaged(None, check, expected, found));
    }
}
