//! Verification: everything in the archive is as it was written.

use std::fmt;
use std::ops::ControlFlow;

use ar7_registry::verify::{self, Depth};

use crate::archive::Archive;
use crate::count::Count;
use crate::error::Result;
use crate::maintenance::{Finding, Progress};

/// A verification of an archive, from [`Archive::verification`].
#[derive(Debug)]
#[must_use]
pub struct Verification<'a> {
    archive: &'a Archive,
    depth: Depth,
}

/// Counts from a verification. `Display` gives them in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Summary {
    /// Blocks of the archive, including free ones.
    pub blocks: u64,
    /// Opened blocks with content.
    pub data_blocks: u64,
    /// Opened blocks with records and names.
    pub pages: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Streams.
    pub streams: u64,
    /// Bytes in streams.
    pub bytes: u64,
    /// Frames of packed content: the content of many small files, or a part of a long one.
    pub frames: u64,
    /// Names.
    pub names: u64,
    /// Findings. An empty list means that everything in the archive is as it was written.
    pub findings: u64,
    /// Whether the frames were not decompressed, so that an error within one may be left.
    pub is_quick: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { blocks, data_blocks, pages, free_blocks, streams, bytes, .. } = self;
        let Summary { frames, names, findings, is_quick, .. } = self;
        write!(
            formatter,
            "{}: {data_blocks} of streams, {}, {free_blocks} free; {}, {}, {}{}, {}; {}",
            Count(*blocks, "block"),
            Count(*pages, "page"),
            Count(*streams, "stream"),
            Count(*bytes, "byte"),
            Count(*frames, "frame"),
            if *is_quick { " not decompressed" } else { "" },
            Count(*names, "name"),
            Count(*findings, "finding"),
        )
    }
}

impl Archive {
    /// Opens every block of the newest commit, and checks all records against each other. Passes
    /// each fault to `report` and goes on.
    ///
    /// `progress` is called again and again. If it breaks, this fails with [`Error::Stopped`]. Both
    /// callbacks may use the archive, and a transaction may commit meanwhile.
    ///
    /// [`Error::Stopped`]: crate::Error::Stopped
    pub fn verify(
        &self,
        report: impl FnMut(Finding),
        progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Summary> {
        self.verification().run(report, progress)
    }

    /// Prepares to do what [`Archive::verify`] does, with options.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::generate()?)?;
    /// use std::ops::ControlFlow;
    ///
    /// let (quick, mut found) = (archive.verification().quick(true), Vec::new());
    /// quick.run(|finding| found.push(finding), |_| ControlFlow::Continue(()))?;
    /// assert!(found.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn verification(&self) -> Verification<'_> {
        Verification { archive: self, depth: Depth::Content }
    }
}

impl Verification<'_> {
    /// Sets whether to leave out the decompression of packed content, which takes longer than everything else. Each
    /// block is still opened, which finds every change by the medium or by somebody without the key. Errors of the
    /// program that compressed the content are not found.
    pub fn quick(self, is_quick: bool) -> Self {
        let depth = if is_quick { Depth::Blocks } else { Depth::Content };
        Verification { depth, ..self }
    }

    /// Verifies the archive, as [`Archive::verify`] does.
    pub fn run(
        self,
        mut report: impl FnMut(Finding),
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<Summary> {
        let mut report = |found: verify::Finding| report(found.into());
        let registry = &self.archive.registry;
        let summary = registry.verify_to(self.depth, &mut report, &mut |at| {
            progress(Progress { blocks: at.blocks, total: at.total })
        })?;
        Ok(Summary {
            blocks: summary.blocks,
            data_blocks: summary.data_blocks,
            pages: summary.pages,
            free_blocks: summary.free_blocks,
            streams: summary.streams,
            bytes: summary.bytes,
            frames: summary.frames,
            names: summary.names,
            findings: summary.findings,
            is_quick: self.depth == Depth::Blocks,
        })
    }
}
