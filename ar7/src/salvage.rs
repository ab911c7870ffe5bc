//! Salvage: copies what is left of a damaged archive to a new one.

use std::fmt;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};

use ar7_engine::store::Wreck;
use ar7_registry::salvage::{self, SalvageObserver};
use uuid::Uuid;

use crate::count::Count;
use crate::error::Result;
use crate::key::Key;
use crate::options::Options;
use crate::path::to_path;
use crate::text::PathText;

pub use ar7_registry::salvage::{Outcome as SalvageOutcome, SalvageProgress};

/// An entry or a stream that a salvage wrote, or could not write. `Display` says in one line what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Salvaged {
    /// Its path in the new archive, or the path at which it is missing. `None` for a stream without a
    /// name.
    pub path: Option<PathBuf>,
    /// The stream that held its content.
    pub stream: Option<Uuid>,
    /// Its length in bytes.
    pub length: u64,
    /// What became of it.
    pub outcome: SalvageOutcome,
    /// Ranges of bytes that are lost. They are zeros; a long one at the end may be missing. In `lost+found`, the one at
    /// the beginning is missing, so that the new file begins with the first byte that is left.
    pub gaps: Vec<Range<u64>>,
}

impl fmt::Display for Salvaged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.stream) {
            (Some(path), _) => write!(formatter, "{}", PathText::new(path))?,
            (None, Some(stream)) => write!(formatter, "stream {stream}")?,
            (None, None) => {}
        }
        formatter.write_str(match self.outcome {
            SalvageOutcome::Complete => ": complete",
            SalvageOutcome::Gaps => ": some of its bytes are lost",
            SalvageOutcome::Unproven => ": its version or its end is unproven",
            SalvageOutcome::Nameless => ": its name or attributes are lost",
            _ => ": nothing but its name is left",
        })?;
        let mut before = "; lost:";
        for gap in &self.gaps {
            write!(formatter, "{before} bytes {} to {}", gap.start, gap.end.saturating_sub(1))?;
            before = ",";
        }
        Ok(())
    }
}

/// The counts of a salvage. `Display` gives them in one line, or in two if pages of the index are lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
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
    /// Those of which nothing proves that their blocks are of one version.
    pub unproven: u64,
    /// Those whose name or attributes are lost.
    pub nameless: u64,
    /// Names without anything else.
    pub lost: u64,
    /// Trees of the index with lost pages.
    pub damaged_trees: u64,
}

impl SalvageSummary {
    /// Returns the number of entries and streams that are not as they were.
    pub const fn incomplete(&self) -> u64 {
        self.gaps + self.unproven + self.nameless + self.lost
    }

    /// Returns whether nothing was lost.
    pub const fn is_complete(&self) -> bool {
        self.incomplete() + self.damaged_trees == 0
    }
}

impl fmt::Display for SalvageSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SalvageSummary { blocks, opened, complete, gaps, unproven, nameless, lost, .. } = self;
        write!(
            formatter,
            "{opened} of {} open; {} complete, {gaps} with gaps, {unproven} unproven, {nameless} without name or \
             attributes, {lost} lost",
            Count(*blocks, "block"),
            Count(*complete, "entry"),
        )?;
        if self.damaged_trees > 0 {
            formatter.write_str(
                "\nindex pages are lost: names and content may be missing, or out of date",
            )?;
        }
        Ok(())
    }
}

/// A salvage of a damaged archive. It trusts only keys and tags: it works without meta slots and index
/// roots, and without the beginning of the file. Of an archive of less than about a MiB, that takes an exported
/// header.
///
/// It cannot detect that something is old: a block, an index page or a whole file that was replaced by an
/// earlier version of itself.
#[derive(Debug)]
#[must_use]
pub struct Salvage<'a> {
    archive: PathBuf,
    key: &'a Key,
    header: Option<&'a [u8]>,
    options: Options,
}

impl<'a> Salvage<'a> {
    /// Prepares to salvage the archive in a file. No process may write to it meanwhile.
    pub fn new(archive: impl AsRef<Path>, key: &'a Key) -> Salvage<'a> {
        let archive = archive.as_ref().to_owned();
        Salvage { archive, key, header: None, options: Options::default() }
    }

    /// Sets a header that [`crate::Archive::export_header`] returned. It is needed only if both copies in
    /// the file are destroyed.
    pub fn header(mut self, header: &'a [u8]) -> Salvage<'a> {
        self.header = Some(header);
        self
    }

    /// Sets how the new archive is created. Its kind is that of the old one.
    pub fn options(mut self, options: Options) -> Salvage<'a> {
        self.options = options;
        self
    }

    /// Scans the archive, and writes everything that opens to a new file, which must not exist. Passes
    /// each entry and stream to `report`. Entries without a name are in the directory `lost+found`.
    ///
    /// The new file gets its name once it is complete and durable. If this fails, no file is left; if the
    /// process is killed, a file `.NEW.XXXXXX.incomplete` stays, which the next attempt removes. A break of
    /// `progress` makes this fail with [`crate::Error::Stopped`].
    pub fn run(
        self,
        new: impl AsRef<Path>,
        new_key: &Key,
        report: impl FnMut(Salvaged),
        progress: impl FnMut(SalvageProgress) -> ControlFlow<()>,
    ) -> Result<SalvageSummary> {
        let wreck = Wreck::open(&self.archive, &self.key.0, self.header)?;
        let mut unpublished = None;
        let create = |kind| {
            let options = ar7_registry::CreateOptions { kind, ..self.options.for_creating() };
            let path = new.as_ref();
            let made = ar7_registry::Archive::create_unpublished(path, &new_key.0, &options)?;
            unpublished = Some(made.1);
            Ok(made.0)
        };
        let mut observer = Observer { report, progress };
        let summary = salvage::salvage(wreck, create, &mut observer)?;
        if let Some(new) = unpublished {
            new.publish()?;
        }
        Ok(SalvageSummary {
            blocks: summary.blocks,
            opened: summary.opened,
            unreadable: summary.unreadable,
            complete: summary.complete,
            gaps: summary.gaps,
            unproven: summary.unproven,
            nameless: summary.nameless,
            lost: summary.lost,
            damaged_trees: summary.damaged_trees.len() as u64,
        })
    }
}

/// Passes what a salvage does to the caller's functions.
struct Observer<R, P> {
    report: R,
    progress: P,
}

impl<R, P> SalvageObserver for Observer<R, P>
where
    R: FnMut(Salvaged),
    P: FnMut(SalvageProgress) -> ControlFlow<()>,
{
    fn salvaged(&mut self, item: salvage::Salvaged) {
        let salvage::Salvaged { path, stream, length, outcome, gaps } = item;
        (self.report)(Salvaged { path: path.map(to_path), stream, length, outcome, gaps });
    }

    fn progress(&mut self, at: SalvageProgress) -> ControlFlow<()> {
        (self.progress)(at)
    }
}
