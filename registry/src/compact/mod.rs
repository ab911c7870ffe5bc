//! Compaction: moves blocks from the end of the file to free blocks before it, and cuts the file.
//!
//! It is a sequence of ordinary commits, each of which moves a bounded number of blocks. So it can end after any of
//! them, and a crash loses nothing. It keeps no state: the next compaction begins again with what is left.
//!
//! Every round sets a ceiling, the lowest end of the file with some room left, and moves index pages (`pages`) and
//! blocks of streams (`step`, which finds them with `find`) below it.

mod encode;
mod find;
mod pages;
mod report;
mod round;
mod step;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use ar7_engine::format::Position;
use ar7_engine::{Class, Error as EngineError};
use zeroize::Zeroizing;

use self::report::Reported;
pub use self::report::{CompactObserver, CompactProgress, CompactSummary};
use crate::archive::{Archive, State};
use crate::blocks::is_damage;
use crate::error::Result;
use crate::packs::Encoding;
use crate::records::TreeId;

/// Longest pause between checks for readers.
const PAUSE_MAX: Duration = Duration::from_millis(200);

impl Archive {
    /// Moves blocks from the end of the file to free blocks before it, in commits of its own, and cuts the file.
    /// The content and the names stay as they are.
    ///
    /// Blocks that do not open stay where they are, with their neighbours. They are reported.
    ///
    /// While another process reads, or a snapshot of this process pins an older commit, no space can be given back.
    /// Compaction then waits up to `wait`, and otherwise ends: the summary names the oldest commit that is read.
    ///
    /// If the observer breaks, this fails with [`EngineError::Stopped`]. What was moved until then stays moved. Fails
    /// with [`EngineError::Uncommitted`] if the transaction has changes or a stream is open for writing.
    pub fn compact(
        &self,
        wait: Duration,
        observer: &mut dyn CompactObserver,
    ) -> Result<CompactSummary> {
        self.compact_as(Encoding::Keep, wait, observer)
    }

    /// Does the same, and first encodes content where that makes it smaller:
    ///
    /// - With [`Encoding::Pack`] and [`Encoding::Choose`], files that have a stream of their own are packed, if samples of
    ///   them become smaller by more than a sixteenth, or if they have at most 64 KiB. [`Encoding::Pack`] leaves out files
    ///   of more than 16 MiB.
    /// - With [`Encoding::Choose`], a pack whose frames become smaller by more than one in 32 bytes is written again,
    ///   without dead content.
    ///
    /// What is damaged stays as it is. One file or 16 MiB of packs need room next to their old content; what has no room
    /// stays, too.
    pub fn compact_as(
        &self,
        encoding: Encoding,
        wait: Duration,
        observer: &mut dyn CompactObserver,
    ) -> Result<CompactSummary> {
        let before = self.statistics()?;
        let mut compaction = Compaction {
            archive: self,
            encoding,
            wait,
            observer,
            reported: Reported::default(),
            summary: CompactSummary::default(),
            looked: 0,
            total: 0,
        };
        let done = compaction.run();
        let lifted = self.state()?.failed_or_writing().map(|state| {
            state.trees.writer().set_ceiling(None);
        });
        done.and(lifted)?;
        let mut summary = compaction.summary;
        summary.bytes_before = before.file_bytes;
        summary.bytes_after = self.statistics()?.file_bytes;
        Ok(summary)
    }
}

/// A compaction in progress.
struct Compaction<'a> {
    archive: &'a Archive,
    encoding: Encoding,
    wait: Duration,
    observer: &'a mut dyn CompactObserver,
    reported: Reported,
    summary: CompactSummary,
    /// Number of blocks whose content was looked at, to encode it again.
    looked: u64,
    /// Number of blocks to look at or to move, as far as known.
    total: u64,
}

impl Compaction<'_> {
    fn run(&mut self) -> Result<()> {
        self.archive.state()?.writing()?.check_closed()?;
        self.purge()?;
        if self.encoding != Encoding::Keep {
            self.encode()?;
            self.purge()?;
        }
        self.fill_leaves()?;
        // Each round but the last shortens the archive.
        while self.round()? && self.summary.oldest_reader.is_none() {}
        Ok(())
    }

    /// Frees the blocks of pending deletions.
    fn purge(&mut self) -> Result<()> {
        while !self.must_end()? && self.archive.finish_transaction(State::commit_purging)? {}
        Ok(())
    }

    /// Fills the leaves of all trees, of which removals leave up to three quarters unused: otherwise the index of an
    /// archive with many small streams would stay as large as before. On a full disk it may end before all are filled.
    fn fill_leaves(&mut self) -> Result<()> {
        {
            let mut state = self.archive.state()?;
            let state = state.writing()?;
            let end = Position::new(state.trees.writer().block_count());
            state.trees.writer().set_ceiling(end);
        }
        // Every commit changes the free list anyway.
        for tree in TreeId::ALL.into_iter().filter(|&tree| tree != TreeId::Free) {
            let mut next = Some(Zeroizing::new(Vec::new()));
            while let Some(key) = next {
                if self.must_end()? {
                    return Ok(());
                }
                let filled = self.archive.finish_transaction(|state| state.fill_leaves(tree, &key));
                next = match filled {
                    // The rounds report damage. What follows stays as it is.
                    Err(error) if is_damage(&error) || error.class() == Class::NoSpace => None,
                    outcome => outcome?,
                };
            }
        }
        Ok(())
    }

    /// Reports the progress, and looks for readers. Returns whether they prevent the next commit.
    fn must_end(&mut self) -> Result<bool> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(5);
        loop {
            let moved = self.looked + self.summary.moved;
            let at = CompactProgress { moved, total: self.total.max(moved) };
            if let ControlFlow::Break(()) = self.observer.progress(at) {
                return Err(EngineError::Stopped.into());
            }
            let oldest = self.archive.state()?.writing()?.trees.writer().oldest_read()?;
            let oldest = oldest.filter(|_| !ar7_engine::fault!(CompactUnderReaders));
            self.summary.oldest_reader = oldest;
            let left = self.wait.saturating_sub(began.elapsed());
            if oldest.is_none() || left.is_zero() {
                return Ok(oldest.is_some());
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}
