//! Verification: opens every block and checks that all records agree with each other.
//!
//! It continues after a fault and reports every fault. The work grows with the archive, not with
//! what its records claim. Memory is at most about a bit per block, four bits per inode, and an
//! entry per hard link.

mod extents;
mod finding;
mod map;
mod names;
mod packs;
mod pages;
mod queue;
mod streams;
#[cfg(test)]
mod tests;
mod verifier;

use std::ops::ControlFlow;

use ar7_engine::format::{RESERVED_BLOCKS, THIRD_HEADER, THIRD_SLOTS};
use ar7_engine::store::BadThirdCopy;
use ar7_engine::{Check, Error as EngineError};
use roaring::RoaringTreemap;

pub use self::finding::{Depth, Finding, Subject, VerifyProgress, VerifySummary};
pub(crate) use self::map::BlockMap;
use self::queue::Queue;
use self::verifier::Verifier;
use crate::archive::Archive;
use crate::error::Result;
use crate::records::Sessions;

impl Archive {
    /// Opens every block of the newest commit and checks tags, digests, generations, links,
    /// indexes, extents, pages, free list and names. Reports each fault; the summary counts them.
    ///
    /// In a writer, other threads may commit meanwhile. If a later commit overwrites a block before
    /// it is opened, the block is checked as that commit has it.
    ///
    /// With [`ar7_engine::store::Io::File`], a bad sector is an error and never a signal.
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

    /// Does the same until `progress` breaks, and then fails with [`ar7_engine::Error::Stopped`].
    pub fn verify_until(
        &self,
        report: &mut dyn FnMut(Finding),
        progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<VerifySummary> {
        self.verify_to(Depth::Content, report, progress)
    }

    /// Does the same to a depth.
    pub fn verify_to(
        &self,
        depth: Depth,
        report: &mut dyn FnMut(Finding),
        progress: &mut dyn FnMut(VerifyProgress) -> ControlFlow<()>,
    ) -> Result<VerifySummary> {
        let snapshot = self.snapshot();
        let blocks = snapshot.commit().slot.block_count;
        let mut verifier = Verifier {
            snapshot: &snapshot,
            depth,
            map: BlockMap::new(blocks),
            queue: Queue::default(),
            summary: VerifySummary { blocks: u64::from(blocks), ..VerifySummary::default() },
            unreadable_pages: 0,
            near_pages: 0,
            owners: RoaringTreemap::new(),
            extended_owners: RoaringTreemap::new(),
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

impl Verifier<'_> {
    fn run(&mut self) {
        self.check_blanks();
        self.check_redo_list();
        self.walk::<Sessions>(&mut |_, _, _| {});
        self.check_pending_deletions();
        self.check_extents();
        // Names come before streams: each inode looks up its stream, so that no stream has to look
        // up its inode.
        let sliced = self.check_names();
        self.check_streams();
        self.check_packs(sliced);
        // Last, because a block that is both used and free counts as a fault of the free list. By
        // now, it was opened as a block in use.
        self.check_free();
        self.check_near_pages();
        self.check_coverage();
    }

    /// Reports copies of the header and of meta slots that were damaged when the archive was
    /// opened.
    fn check_copies(&mut self) {
        let recovery = self.snapshot.store().recovery().clone();
        for position in recovery.headers {
            let error =
                EngineError::damaged(position, Check::HeaderChecksum, "a good copy", "none");
            self.find(Subject::Header(position), error);
        }
        for position in recovery.outdated_headers {
            let (expected, found) = ("the revision of the other copy", "an older one");
            let error = EngineError::damaged(position, Check::HeaderRevision, expected, found);
            self.find(Subject::Header(position), error);
        }
        for position in recovery.bad_slots {
            let error = EngineError::damaged(position, Check::MetaSlot, "a good copy", "none");
            self.find(Subject::MetaSlot(position), error);
        }
        self.check_third_copies();
    }

    fn check_third_copies(&mut self) {
        match self.snapshot.store().bad_third_copies() {
            Ok(bad) => {
                for BadThirdCopy { position, error, may_be_torn } in bad {
                    if may_be_torn {
                        self.snapshot.note_damaged_copy(position);
                        continue;
                    }
                    let is_header = position == THIRD_HEADER;
                    let subject = if is_header { Subject::Header } else { Subject::MetaSlot };
                    self.find(subject(position), error);
                }
            }
            Err(error) => self.find(Subject::MetaSlot(THIRD_SLOTS[0]), error),
        }
    }

    /// Checks that every block is used or free. Any other block is lost.
    fn check_coverage(&mut self) {
        let map = std::mem::replace(&mut self.map, BlockMap::new(RESERVED_BLOCKS));
        if self.unreadable_pages > 0 {
            // The contents of unreadable pages are unknown, so one finding covers all missing
            // blocks.
            if let Some(first) = map.missing().next() {
                let blocks: u64 = map.missing().map(|run| u64::from(run.count())).sum();
                let expected = "blocks that readable pages refer to";
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
}
