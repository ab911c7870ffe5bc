//! Stores directory trees in an archive.
//!
//! There are three stages with bounded queues between them. The plan visits every entry in order and compares it with
//! the archive. Readers open and read new and changed files. One writer stores entries in the order of the walk, so that
//! the same tree gives the same archive. At most [`IN_FLIGHT`] entries wait between the stages, each with about
//! [`read::WHOLE_MAX`] bytes in memory. Larger files are read while they are stored.
//!
//! An entry carries its directory, one object that all stages share. Nothing else determines its place.

mod extended;
mod large;
mod mirror;
mod place;
mod plan;
mod read;
mod report;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::thread;

use ar7_engine::thread_builder;
use crossbeam::channel::bounded;

use self::plan::Plan;
use self::read::Shared;
pub use self::report::{IngestEvent, IngestReport, Outcome};
use self::store::Storing;
use super::Patterns;
use super::walk::{Root, Roots, Selection, Source, System, Tree, Unread, Visit, Visits};
use crate::archive::Archive;
use crate::compression::{Compression, choose};
use crate::error::{Error, Result};

/// The maximum number of entries between the walk and the writer.
const IN_FLIGHT: usize = 64;

/// The maximum number of readers unless the user sets another.
const READERS_MAX: usize = 8;

/// The maximum depth of an entry in the archive.
const DEPTH_MAX: usize = 1 << 17;

/// The permissions of directories that are made for [`Ingest::into`].
const DIRECTORY_MODE: u32 = 0o755;

/// The default of [`Ingest::checkpoint`].
const CHECKPOINT_BYTES: u64 = 1 << 30;

/// Stores files and directory trees in an archive, with their modes, times, owners, links and extended attributes.
///
/// - What the archive has already is not stored again. A file is unchanged if its size, modification time, change time
///   and inode number are those with which it was stored. If only change time or inode number differ, its content is
///   compared with what is stored. The same holds if it was changed less than two seconds before it was read: a later
///   change may have left the same times, because clocks of file systems tick.
/// - An entry that cannot be read is reported, and the rest is stored. An older version of it stays.
/// - An extended attribute that cannot be read is reported, and its entry is stored without it.
/// - A file that changes while it is read is read again, twice. If it keeps changing, it is stored as it was read, and
///   reported. A file that grows is read up to the length that it had.
/// - A file of which another process has a lease is opened within five seconds or reported.
/// - Symbolic links are stored, never followed. What another process does to the tree meanwhile leads nowhere else: each
///   entry is stored as the source had it at its path at some moment of the run.
/// - The memory for names and the number of open directories are bounded, for trees of any depth and directories of any
///   size.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let documents = folder.path().join("documents");
/// # std::fs::create_dir(&documents)?;
/// # std::fs::write(documents.join("letter"), "Dear reader")?;
/// # let (path, key) = (folder.path().join("backup.ar7"), ar7::Key::generate()?);
/// use ar7::fs::{Ingest, Patterns};
///
/// let archive = ar7::Archive::options().create(true).open(&path, &key)?;
/// let exclude = Patterns::new(["*.tmp", "cache/"])?;
/// let report = Ingest::new().path(&documents).exclude(exclude).run(&archive)?;
/// for unread in &report.unread {
///     eprintln!("{}: {}", unread.path.display(), unread.error);
/// }
/// # assert!(report.is_complete());
/// # assert_eq!(archive.snapshot()?.read("documents/letter")?, b"Dear reader");
/// # Ok::<(), ar7::Error>(())
/// ```
#[must_use]
pub struct Ingest<'a> {
    options: Options,
    on_event: OnEvent<'a>,
}

/// The callback for events.
type OnEvent<'a> = Box<dyn FnMut(IngestEvent<'_>) -> ControlFlow<()> + 'a>;

/// What an ingest stores, and how.
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent option")]
struct Options {
    selection: Selection,
    into: PathBuf,
    ignore_ctime: bool,
    ignore_inode: bool,
    checksum: bool,
    delete: bool,
    readers: Option<usize>,
    checkpoint_bytes: u64,
    counts: bool,
    compression: Option<Compression>,
}

impl Default for Ingest<'_> {
    fn default() -> Self {
        Ingest::new()
    }
}

impl<'a> Ingest<'a> {
    /// Creates an ingest of nothing into the root directory of the archive.
    pub fn new() -> Ingest<'a> {
        let options = Options {
            selection: Selection::default(),
            into: PathBuf::new(),
            ignore_ctime: false,
            ignore_inode: false,
            checksum: false,
            delete: false,
            readers: None,
            checkpoint_bytes: CHECKPOINT_BYTES,
            counts: false,
            compression: None,
        };
        Ingest { options, on_event: Box::new(|_| ControlFlow::Continue(())) }
    }

    /// Stores this file, or this directory and everything in it, under the last component of the path. A path that ends
    /// in `/.` or `/..` stands for the entries of the directory. Can be called several times.
    ///
    /// A path that does not exist is reported as unread. Of a symbolic link, the link is stored.
    pub fn path(mut self, path: impl Into<PathBuf>) -> Ingest<'a> {
        self.options.selection.paths.push(path.into());
        self
    }

    /// Sets the directory of the archive to store into. It is created if it does not exist.
    pub fn into(mut self, directory: impl Into<PathBuf>) -> Ingest<'a> {
        self.options.into = directory.into();
        self
    }

    /// Leaves out what the patterns match, and everything below it. They are matched against the path in the source,
    /// beginning as it was passed to [`Ingest::path`], and against the path in the archive, below the directory of
    /// [`Ingest::into`]. A pattern that matches nothing is in the report.
    pub fn exclude(mut self, patterns: Patterns) -> Ingest<'a> {
        self.options.selection.exclude = Some(patterns).filter(|patterns| !patterns.is_empty());
        self
    }

    /// Leaves out what is in directories of another file system than the path that was passed to [`Ingest::path`]. The
    /// directory on which a file system is mounted is stored. So is a file on which another file is mounted: only the
    /// device number of directories is compared, because that of files means nothing in overlays.
    pub fn one_file_system(mut self, one: bool) -> Ingest<'a> {
        self.options.selection.one_file_system = one;
        self
    }

    /// Leaves out what is in directories that are tagged as caches by a file `CACHEDIR.TAG`. The directory and its tag
    /// are stored.
    pub fn exclude_caches(mut self, exclude: bool) -> Ingest<'a> {
        self.options.selection.exclude_caches = exclude;
        self
    }

    /// Takes a file for unchanged although its change time differs. Then a change of its extended attributes alone is
    /// not noticed either.
    pub fn ignore_ctime(mut self, ignore: bool) -> Ingest<'a> {
        self.options.ignore_ctime = ignore;
        self
    }

    /// Takes a file for unchanged although its inode number differs, for file systems that have no lasting ones.
    pub fn ignore_inode(mut self, ignore: bool) -> Ingest<'a> {
        self.options.ignore_inode = ignore;
        self
    }

    /// Compares the content of every file with what is stored.
    pub fn checksum(mut self, checksum: bool) -> Ingest<'a> {
        self.options.checksum = checksum;
        self
    }

    /// Removes entries of the archive that the source does not have any more: in each directory that was listed
    /// completely. What was left out or could not be read stays.
    pub fn delete(mut self, delete: bool) -> Ingest<'a> {
        self.options.delete = delete;
        self
    }

    /// Sets the number of threads that read files. By default, there is one for each processor, and at most 8.
    pub fn jobs(mut self, threads: impl Into<Option<usize>>) -> Ingest<'a> {
        self.options.readers = threads.into().map(|threads| threads.max(1));
        self
    }

    /// Commits whenever this many bytes were stored; by default, 1 GiB. After an interruption, the next run continues
    /// after the last commit.
    pub fn checkpoint(mut self, bytes: u64) -> Ingest<'a> {
        self.options.checkpoint_bytes = bytes;
        self
    }

    /// Sets how new content is compressed, in this and in later runs. What the archive has already stays as it is. By
    /// default, new content is compressed as the archive says, which is [`Compression::Auto`] at first.
    pub fn compression(mut self, compression: impl Into<Option<Compression>>) -> Ingest<'a> {
        self.options.compression = compression.into();
        self
    }

    /// Also counts the bytes of the source, in a thread of its own, and reports them with [`IngestEvent::Counted`].
    pub fn count(mut self, count: bool) -> Ingest<'a> {
        self.options.counts = count;
        self
    }

    /// Sets a function that receives each event. If it breaks, the ingest fails with [`Error::Stopped`]; what was
    /// committed at the last checkpoint stays.
    pub fn on_event(
        mut self,
        on_event: impl FnMut(IngestEvent<'_>) -> ControlFlow<()> + 'a,
    ) -> Ingest<'a> {
        self.on_event = Box::new(on_event);
        self
    }

    /// Stores the entries and commits. Waits for a transaction in progress.
    ///
    /// Fails with [`Error::SameName`] if two paths would be stored under one name, and if the archive cannot be written.
    /// Then everything since the last checkpoint is discarded. What could not be read is in the report.
    pub fn run(self, archive: &Archive) -> Result<IngestReport> {
        self.run_on(archive, &System)
    }

    /// Reports what [`Ingest::run`] would store, without storing it. Without an archive, this is what a new one would
    /// get. A file whose content would need to be compared counts as changed.
    pub fn preview(self, archive: Option<&Archive>) -> Result<IngestReport> {
        let registry = archive.map(|archive| &archive.registry);
        self.run_stages(registry, true, &System)
    }

    fn run_on(mut self, archive: &Archive, source: &dyn Source) -> Result<IngestReport> {
        archive.check_writable()?;
        let _turn = archive.turn.take();
        let registry = &archive.registry;
        let compression = choose(registry, self.options.compression)?;
        self.options.compression = Some(compression);
        let stored = self.run_stages(Some(registry), false, source).and_then(|report| {
            // Commits, and frees the blocks of what was replaced.
            registry.reclaim()?;
            Ok(report)
        });
        if stored.is_err() {
            // An archive that is unusable returns the reason from its next call.
            let _ = registry.rollback();
        }
        stored
    }

    fn run_stages(
        self,
        archive: Option<&ar7_registry::Archive>,
        is_preview: bool,
        source: &dyn Source,
    ) -> Result<IngestReport> {
        let Ingest { options, on_event } = self;
        let roots = Roots::new(&options.selection.paths);
        roots.check_names()?;
        let Roots { found: roots, unread, links } = roots;
        let (tree, shared) = (Tree::new(source), Shared::default());
        let run = Run { options, archive, is_preview, tree, roots, shared };
        let mut storing = Storing::new(&run, on_event)?;
        run.stages(&mut storing, unread)?;
        let mut report = storing.into_report();
        report.links = links;
        report.is_preview = run.is_preview;
        let unmatched = run.options.selection.exclude.iter().flat_map(Patterns::unmatched);
        report.unmatched = unmatched.map(ToOwned::to_owned).collect();
        Ok(report)
    }
}

impl fmt::Debug for Ingest<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Ingest")
            .field("paths", &self.options.selection.paths)
            .field("into", &self.options.into)
            .finish_non_exhaustive()
    }
}

/// The state that the stages share.
struct Run<'a> {
    options: Options,
    /// `None` in a preview for a new archive.
    archive: Option<&'a ar7_registry::Archive>,
    is_preview: bool,
    tree: Tree<'a>,
    roots: Vec<Root>,
    shared: Shared,
}

impl Run<'_> {
    /// Runs the stages.
    fn stages(&self, storing: &mut Storing<'_, '_>, unread: Vec<Unread>) -> Result<()> {
        let destination = storing.destination();
        let (jobs, taken) = bounded(IN_FLIGHT);
        let (planned, items) = bounded(IN_FLIGHT);
        let counted = OnceLock::new();
        thread::scope(|scope| {
            // Start the walk first: it needs a thread of its own, while one reader is enough.
            let plan = Plan::new(self, jobs, planned, destination)?;
            thread_builder().spawn_scoped(scope, || plan.walk()).map_err(no_thread)?;
            for number in 0..self.readers() {
                let taken = taken.clone();
                let reader = thread_builder().spawn_scoped(scope, || {
                    let taken = taken;
                    read::read_all(&self.tree, self.archive, &self.shared, &taken);
                });
                match reader {
                    Ok(_) => {}
                    Err(_) if number > 0 => break,
                    Err(error) => return Err(no_thread(error)),
                }
            }
            drop(taken);
            if self.options.counts {
                // Without this thread, the bytes are not counted.
                let _ = thread_builder().spawn_scoped(scope, || self.count(&counted));
            }
            // The writer owns the receiving end: when it stops, the other stages stop too.
            let outcome = storing.store_all(unread, &items, &counted);
            self.shared.is_over.store(true, Ordering::Relaxed);
            drop(items);
            outcome
        })
    }

    fn readers(&self) -> usize {
        let available = || thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX);
        self.options.readers.unwrap_or_else(available)
    }

    /// Counts the bytes of the source. With its own directories, because it is soon far ahead of the walk.
    fn count(&self, counted: &OnceLock<u64>) {
        let (tree, mut bytes) = (Tree::new(self.tree.source), 0_u64);
        for root in &self.roots {
            let Ok(visits) = Visits::new(&tree, &self.options.selection, root) else { continue };
            for visit in visits {
                if self.shared.is_over.load(Ordering::Relaxed) {
                    return;
                }
                if let Visit::Entry { entry, .. } = visit {
                    bytes = bytes.saturating_add(entry.status.size);
                }
            }
        }
        let _ = counted.set(bytes);
    }
}

fn no_thread(error: io::Error) -> Error {
    Error::Io { operation: "start a thread", path: None, source: Arc::new(error) }
}
