//! Compaction: gives the space of deleted content back to the file system.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ar7_registry::compact::{CompactObserver, CompactProgress};
use ar7_registry::packs::Encoding;
use ar7_registry::verify;

use crate::archive::Archive;
use crate::compression::Compression;
use crate::count::Count;
use crate::error::Result;
use crate::key::Key;
use crate::maintenance::{Finding, Progress};
use crate::options::Options;

/// A compaction of an archive, from [`Archive::compact`].
#[derive(Debug)]
#[must_use]
pub struct Compaction<'a> {
    archive: &'a Archive,
    wait: Duration,
    compression: Option<Compression>,
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
    /// Blocks whose content was compressed, as [`Compaction::compression`] says.
    pub compressed: u64,
    /// Blocks with content that were moved.
    pub moved: u64,
    /// Findings that were reported: what does not open stays where it is, and the file may end after it.
    pub damaged: u64,
    /// The oldest commit that is still read, if readers kept the compaction from going on.
    pub oldest_reader: Option<u64>,
}

impl fmt::Display for Compacted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Compacted { bytes_before, bytes_after, compressed, moved, .. } = self;
        let given_back = bytes_before.saturating_sub(*bytes_after);
        let (before, moved) = (Count(*bytes_before, "byte"), Count(*moved, "block"));
        write!(formatter, "{given_back} of {before} given back, {moved} moved")?;
        if *compressed > 0 {
            write!(formatter, ", {} compressed", Count(*compressed, "block"))?;
        }
        Ok(())
    }
}

/// The result of [`Compaction::copy_to`]. `Display` gives it in one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CompactedCopy {
    /// Length of the archive's file in bytes.
    pub bytes_before: u64,
    /// Length of the new file in bytes.
    pub bytes_after: u64,
}

impl fmt::Display for CompactedCopy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CompactedCopy { bytes_before, bytes_after } = self;
        let (before, after) = (Count(*bytes_before, "byte"), Count(*bytes_after, "byte"));
        write!(formatter, "{after}, of {before} before")
    }
}

impl Archive {
    /// Prepares to move blocks from the end of the file to free blocks before it, and to cut the file. Files, names and
    /// snapshots stay as they are; what is stored of short files may become smaller.
    pub fn compact(&self) -> Compaction<'_> {
        Compaction { archive: self, wait: Duration::ZERO, compression: None }
    }
}

impl Compaction<'_> {
    /// Sets how long to wait, each time, for other processes that read the archive. By default, the compaction ends
    /// when it finds one: while anybody reads, no space can be given back.
    pub fn wait(self, wait: Duration) -> Self {
        Compaction { wait, ..self }
    }

    /// Chooses how new content is compressed, which the archive remembers, and compresses what is in it.
    ///
    /// With [`Compression::Auto`] or [`Compression::Zstd`], each file that has whole blocks is compressed if samples of it
    /// become smaller by more than a sixteenth, or if it has at most 64 KiB, so that it shares blocks. What is
    /// compressed already is compressed again where the new level makes it smaller; this decompresses everything, so it
    /// takes as long as an ingest. With [`Compression::None`], the content in the archive stays as it is, and only new
    /// files get whole blocks.
    ///
    /// By default, files of at most 16 MiB that have whole blocks, such as those that were written through
    /// [`Transaction::open`](crate::Transaction::open) or a mount, are compressed as the archive remembers, if that makes
    /// them smaller. Everything else stays as it is.
    ///
    /// In place, this can need more disk space for a while: for the compressed content of one file, or for 16 MiB. What
    /// has no room stays as it is, and so does what is damaged.
    pub fn compression(self, compression: impl Into<Option<Compression>>) -> Self {
        Compaction { compression: compression.into(), ..self }
    }

    fn encoding(&self) -> Encoding {
        let choice = self.compression.map(Compression::number);
        choice.map_or(Encoding::Pack, Encoding::Choose)
    }

    /// Compacts the archive, in commits of its own and in bounded memory. A crash between any of them loses nothing, and
    /// another compaction continues. Waits for a transaction in progress.
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
        let encoding = self.encoding();
        let summary = self.archive.registry.compact_as(encoding, self.wait, &mut observer)?;
        Ok(Compacted {
            bytes_before: summary.bytes_before,
            bytes_after: summary.bytes_after,
            compressed: summary.encoded,
            moved: summary.moved,
            damaged: summary.damaged,
            oldest_reader: summary.oldest_reader,
        })
    }
}

impl Compaction<'_> {
    /// Copies everything in the newest commit to a new archive instead, the content in the order of the names. The
    /// archive itself stays as it is, and may be open for reading only. Streams keep their identities. Of shared blocks,
    /// only the content of existing files is copied. [`Compaction::compression`] applies to the new archive.
    ///
    /// The new archive has an identity and a master key of its own, so that receipts of the old one are not for it. Its
    /// kind is that of the old one; the other options for a new archive apply.
    ///
    /// The new file gets its name once it is complete and durable. If this fails, no file is left; if the process is
    /// killed, a file `.NEW.XXXXXX.incomplete` stays, which the next attempt removes. Fails if anything does not open:
    /// [`crate::Salvage`] copies what is left. A break of `progress` makes this fail with [`crate::Error::Stopped`].
    ///
    /// # Examples
    /// ```
    /// use std::ops::ControlFlow;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (folder, key) = (tempfile::tempdir()?, ar7::Key::generate()?);
    /// # let archive = ar7::Archive::create(folder.path().join("a.ar7"), &key)?;
    /// let new = folder.path().join("new.ar7");
    /// let options = ar7::Archive::options().label("copy");
    /// let copied = archive.compact().copy_to(&new, &key, options, |_| ControlFlow::Continue(()))?;
    /// assert_eq!(copied.bytes_after, std::fs::metadata(&new)?.len());
    /// # Ok(())
    /// # }
    /// ```
    pub fn copy_to(
        self,
        new: impl AsRef<Path>,
        key: &Key,
        options: Options,
        mut progress: impl FnMut(Progress) -> ControlFlow<()>,
    ) -> Result<CompactedCopy> {
        let old = &self.archive.registry;
        // A fixed archive gets its streams from the old one.
        let options = options.kind(self.archive.kind()).streams(0);
        let (copy, unpublished) = options.create_unpublished(new.as_ref(), key)?;
        old.copy_as(self.encoding(), &copy.registry, &mut |at| {
            progress(Progress { blocks: at.blocks, total: at.total.max(at.blocks) })
        })?;
        let store = Arc::clone(copy.registry.store());
        copy.close()?;
        unpublished.publish()?;
        let (bytes_before, bytes_after) = (old.store().file_bytes()?, store.file_bytes()?);
        Ok(CompactedCopy { bytes_before, bytes_after })
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
