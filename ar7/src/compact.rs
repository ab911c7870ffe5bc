//! Compaction: gives the space of deleted content back to the file system.

use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use ar7_registry::compact::{CompactObserver, CompactProgress};
use ar7_registry::verify;

use crate::archive::Archive;
use crate::error::Result;
use crate::maintenance::{Finding, Progress};

/// A compaction of an archive, from [`Archive::compact`].
#[derive(Debug)]
#[must_use]
pub struct Compaction<'a> {
    archive: &'a Archive,
    wait: Duration,
}

/// The result of [`Compaction::run`]. `Display` gives it in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Compacted {
    /// Length of the file in bytes before.
    pub bytes_before: u64,
    /// Length of the file in bytes after it.
    pub bytes_after: u64,
    /// Blocks with content that were moved.
    pub moved: u64,
    /// Findings that were reported: what does not open stays where it is, and the file may end after it.
    pub damaged: u64,
    /// The oldest commit that is still read, if readers kept the compaction from going on.
    pub oldest_reader: Option<u64>,
}

impl fmt::Display for Compacted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compacted { bytes_before, bytes_after, moved, .. } = self;
        let given_back = bytes_before.saturating_sub(*bytes_after);
        write!(formatter, "{given_back} of {bytes_before} bytes given back, {moved} blocks moved")
    }
}

impl Archive {
    /// Prepares to move blocks from the end of the file to free blocks before it, and to cut the file. Content,
    /// names and snapshots stay as they are.
    pub fn compact(&self) -> Compaction<'_> {
        Compaction { archive: self, wait: Duration::ZERO }
    }
}

impl Compaction<'_> {
    /// Sets how long to wait, each time, for other processes that read the archive. By default, the compaction ends
    /// when it finds one: while anybody reads, no space can be given back.
    pub fn wait(self, wait: Duration) -> Self {
        Compaction { wait, ..self }
    }

    /// Compacts the archive, in commits of its own, in bounded memory and without growing the file. A crash between
    /// any of them loses nothing, and another compaction continues. Waits for a transaction in progress.
    ///
    /// Passes to `report` each block that does not open: it stays where it is. `progress` is called repeatedly.
    /// If it breaks, this fails with [`crate::Error::Stopped`], and what was moved stays moved. Neither of them may
    /// change the archive.
    ///
    /// [`Archive::close`] gives back what remains at the end of the file.
    ///
    /// # Examples
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
    /// let report = |finding| println!("{finding}");
    /// let compacted = archive.compact().run(report, |_| ControlFlow::Continue(()))?;
    /// assert_eq!((compacted.damaged, compacted.oldest_reader), (0, None));
    /// archive.close()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn run(
        self,
        report: impl FnMut(Finding),
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Compacted> {
        let _turn = self.archive.take_turn()?;
        let mut observer = Observer { report, progress };
        let summary = self.archive.registry.compact(self.wait, &mut observer)?;
        Ok(Compacted {
            bytes_before: summary.bytes_before,
            bytes_after: summary.bytes_after,
            moved: summary.moved,
            damaged: summary.damaged,
            oldest_reader: summary.oldest_reader,
        })
    }
}

/// Passes what a compaction does to the caller's functions.
struct Observer<R, P> {
    report: R,
    progress: P,
}

impl<R, P> CompactObserver for Observer<R, P>
where
    R: FnMut(Finding),
    P: FnMut(Progress) -> ControlFlow<()>,
{
    fn damaged(&mut self, finding: verify::Finding) {
        (self.report)(finding.into());
    }

    fn progress(&mut self, at: CompactProgress) -> ControlFlow<()> {
        (self.progress)(Progress { blocks: at.moved, total: at.total.max(at.moved) })
    }
}
