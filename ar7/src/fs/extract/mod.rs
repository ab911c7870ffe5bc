//! Restores a tree from an archive.

mod attributes;
mod content;
mod directories;
mod files;
mod publish;
mod report;
mod restore;
mod select;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use self::files::{Files, Level};
pub(super) use self::report::is_fatal;
pub use self::report::{Aspect, EntryPath, ExtractEvent, ExtractReport, Incomplete, NotRestored};
use self::report::{OnEvent, Reporter};
use self::select::Source;
use super::Patterns;
use super::system::System;
use crate::error::{Error, Result};
use crate::named::named;
use crate::path::os_bytes;
use crate::snapshot::Snapshot;
use crate::source::Pages;

/// Maximum number of threads that restore entries.
const THREADS_MAX: usize = 8;

/// The number of names to check at a time.
const PAGE: usize = 1024;

/// What an extraction does with an entry that exists in the destination. Directories are merged, except with
/// [`Overwrite::Refuse`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overwrite {
    /// Restores nothing if one of the outermost entries exists.
    #[default]
    Refuse,
    /// Replaces it.
    Always,
    /// Replaces it if the archive's entry was modified later.
    IfNewer,
    /// Replaces it if type, length, modification time, mode, target of a link, number of a device or, with
    /// [`Extract::preserve_owner`], owner differ.
    IfChanged,
    /// Keeps it.
    Never,
}

named!(Overwrite {
    Refuse => "refuse",
    Always => "always",
    IfNewer => "if-newer",
    IfChanged => "if-changed",
    Never => "never",
});

/// Where an extraction leaves holes in files. A hole reads as zeros and takes no space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Sparse {
    /// Where there are 64 KiB of zeros or more.
    #[default]
    Auto,
    /// In place of every aligned block of 4096 zeros.
    Always,
    /// Nowhere.
    Never,
}

named!(Sparse { Auto => "auto", Always => "always", Never => "never" });

/// Restores entries of an archive into a directory, with their modes, times, links and attributes. No name
/// or link in the archive, and no change that another process makes meanwhile, leads outside of that directory. A
/// directory that another process moves out of it is still written to.
///
/// - Each file gets its name once it is complete, so that a name never refers to half a file.
/// - Two entries whose names the file system does not distinguish, such as `a` and `A`, do not replace each other: the
///   second one is not restored.
/// - An entry that cannot be restored is reported, and the rest is restored.
/// - Existing directories are entered even if their mode forbids it, as long as they belong to the user.
/// - Attributes are those that the archive has. What the user's rights or the file system do not allow is reported, and
///   never leads to an entry with more rights than in the archive.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("backup.ar7");
/// # let (to, key) = (folder.path().join("restored"), ar7::Key::generate()?);
/// # let archive = ar7::Archive::create(&path, &key)?;
/// # let transaction = archive.begin()?;
/// # transaction.create_directories("documents/letters")?;
/// # transaction.commit()?;
/// use ar7::fs::{Extract, Overwrite};
///
/// let snapshot = archive.snapshot()?;
/// let extract = Extract::new().path("documents/letters").to(&to).overwrite(Overwrite::IfNewer);
/// let report = extract.run(&snapshot)?;
/// for failure in &report.not_restored {
///     eprintln!("{}: {}", failure.path.display(), failure.error);
/// }
/// # assert!(report.is_complete() && to.join("letters").is_dir());
/// # Ok::<(), ar7::Error>(())
/// ```
#[must_use]
pub struct Extract<'a> {
    options: Options,
    on_event: Option<OnEvent<'a>>,
}

/// What an extraction restores, and how.
#[expect(clippy::struct_excessive_bools, reason = "each field is an independent option")]
struct Options {
    paths: Vec<PathBuf>,
    patterns: Option<Patterns>,
    exclude: Option<Patterns>,
    to: PathBuf,
    whole_paths: bool,
    overwrite: Overwrite,
    preserve_owner: bool,
    preserve_special: bool,
    sparse: Sparse,
    counts: bool,
}

impl Default for Extract<'_> {
    fn default() -> Self {
        Extract::new()
    }
}

impl<'a> Extract<'a> {
    /// Creates an extraction of everything into the working directory, which refuses to replace anything.
    pub fn new() -> Extract<'a> {
        let options = Options {
            paths: Vec::new(),
            patterns: None,
            exclude: None,
            to: PathBuf::from("."),
            whole_paths: false,
            overwrite: Overwrite::default(),
            preserve_owner: false,
            preserve_special: false,
            sparse: Sparse::default(),
            counts: false,
        };
        Extract { options, on_event: None }
    }

    /// Restores this entry and everything in it. Can be called several times; without a path, everything is restored.
    ///
    /// An entry is restored under the last component of its path. If two of the paths have the same last component, all
    /// are restored as with [`Extract::whole_paths`].
    pub fn path(mut self, path: impl Into<PathBuf>) -> Extract<'a> {
        self.options.paths.push(path.into());
        self
    }

    /// Restores only what the patterns select. They are matched against paths in the archive. A directory that is
    /// selected is restored with everything in it; any other one only if something in it is. A pattern that matches
    /// nothing is reported as not restored.
    pub fn patterns(mut self, patterns: Patterns) -> Extract<'a> {
        self.options.patterns = Some(patterns);
        self
    }

    /// Restores what each argument names: the entry with this path, as [`Extract::path`] does, or, if an argument has a
    /// character of a glob and is no such path, what it matches, as [`Extract::patterns`] does. Without arguments,
    /// everything is restored.
    pub fn select<P: AsRef<OsStr>>(
        self,
        snapshot: &Snapshot,
        arguments: &[P],
    ) -> Result<Extract<'a>> {
        let is_glob = |argument: &&P| {
            let bytes = os_bytes((*argument).as_ref());
            bytes.iter().any(|byte| b"*?[".contains(byte))
                && !snapshot.exists((*argument).as_ref()).unwrap_or(false)
        };
        if !arguments.iter().any(|argument| is_glob(&argument)) {
            return Ok(arguments.iter().map(AsRef::as_ref).fold(self, Extract::path));
        }
        let pattern = |argument: &P| {
            let path = argument.as_ref();
            if is_glob(&argument) { path.to_owned() } else { Patterns::escape(path) }
        };
        Ok(self.patterns(Patterns::new(arguments.iter().map(pattern))?))
    }

    /// Leaves out what the patterns match, and everything below it.
    pub fn exclude(mut self, patterns: Patterns) -> Extract<'a> {
        self.options.exclude = Some(patterns).filter(|patterns| !patterns.is_empty());
        self
    }

    /// Sets the directory to restore into. It is created if it does not exist.
    pub fn to(mut self, directory: impl Into<PathBuf>) -> Extract<'a> {
        self.options.to = directory.into();
        self
    }

    /// Restores each entry under its whole path, in the directories that contain it in the archive.
    pub fn whole_paths(mut self, whole: bool) -> Extract<'a> {
        self.options.whole_paths = whole;
        self
    }

    /// Sets what happens to entries that exist.
    pub fn overwrite(mut self, overwrite: Overwrite) -> Extract<'a> {
        self.options.overwrite = overwrite;
        self
    }

    /// Also restores owner and group.
    pub fn preserve_owner(mut self, preserve: bool) -> Extract<'a> {
        self.options.preserve_owner = preserve;
        self
    }

    /// Also restores what gives rights beyond those to the entry itself: the set-user-id and set-group-id bits of programs
    /// that get their stored owner and group, capabilities, devices, and extended attributes outside of the users'
    /// namespace. All but the bits also need the rights of root.
    pub fn preserve_special(mut self, preserve: bool) -> Extract<'a> {
        self.options.preserve_special = preserve;
        self
    }

    /// Sets where files get holes.
    pub fn sparse(mut self, sparse: Sparse) -> Extract<'a> {
        self.options.sparse = sparse;
        self
    }

    /// Also counts the bytes to restore, in a thread of its own, and reports them with [`ExtractEvent::Counted`]. With
    /// patterns, they are not counted.
    pub fn count(mut self, count: bool) -> Extract<'a> {
        self.options.counts = count;
        self
    }

    /// Sets a function that receives each event. Several threads call it, one at a time. If it breaks, the extraction
    /// stops with [`Error::Stopped`]: it removes unfinished files, and closes directories to others again.
    pub fn on_event(
        mut self,
        on_event: impl FnMut(ExtractEvent<'_>) -> ControlFlow<()> + Send + 'a,
    ) -> Extract<'a> {
        self.on_event = Some(Box::new(on_event));
        self
    }

    /// Restores the entries. Fails if nothing can be restored, or if the extraction was stopped: by the callback, by a
    /// full disk, or because the archive cannot be read any more. What was not restored for any other reason is in the
    /// report.
    pub fn run(self, snapshot: &Snapshot) -> Result<ExtractReport> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        self.run_on(snapshot, &System::default(), processors.min(THREADS_MAX))
    }

    /// Restores the entries with this number of threads. Without any, the calling thread restores them.
    fn run_on(self, snapshot: &Snapshot, system: &System, threads: usize) -> Result<ExtractReport> {
        let Extract { options, on_event } = self;
        let snapshot = snapshot.registry();
        let reporter = Reporter::new(on_event);
        let sources = select::sources(snapshot, &options, &reporter)?;
        if !sources.is_empty() {
            let files = Files::new(snapshot, &options, &reporter, system, random()?);
            let (destination, _descriptor) = files.destination(&options.to)?;
            if options.overwrite == Overwrite::Refuse && options.patterns.is_none() {
                for source in &sources {
                    check_nothing_is_there(&files, &destination, source)?;
                }
            }
            restore::restore(&files, &destination, sources, threads);
        }
        if let Some(patterns) = options.patterns.as_ref().filter(|_| !reporter.is_over()) {
            for pattern in patterns.unmatched() {
                let path = PathBuf::from(pattern);
                reporter.failed(|| path.clone(), Error::NotFound { path: path.clone() });
            }
        }
        let mut report = reporter.finish()?;
        let unmatched = options.exclude.iter().flat_map(Patterns::unmatched);
        report.unmatched = unmatched.map(OsStr::to_owned).collect();
        Ok(report)
    }
}

/// Checks before anything is written that none of the outermost names exists in the destination. Then nothing below them
/// exists either.
fn check_nothing_is_there(
    files: &Files<'_, '_>,
    destination: &Arc<Level>,
    source: &Source,
) -> Result<()> {
    let at = files.tree.descriptor(destination);
    let at = at.map_err(|error| files.failed(destination, b"", "open", error))?;
    let check = |name: &[u8]| {
        let existing = files.system().status_if_there(at.as_fd(), name);
        match existing.map_err(|error| files.failed(destination, name, "stat", error))? {
            Some(_) => Err(Error::AlreadyExists { path: files.path(destination, name) }),
            None => Ok(()),
        }
    };
    if let Some(chosen) = &source.chosen {
        return chosen.keys().try_for_each(|name| check(name));
    }
    // The extraction itself reports damage.
    let mut pages = Pages::new(source.directory, PAGE);
    while let Some(page) = pages.next(files.snapshot).unwrap_or(Some(Vec::new())) {
        page.iter().try_for_each(|entry| check(&entry.name))?;
    }
    Ok(())
}

/// Returns a number that no other run has.
fn random() -> Result<u64> {
    getrandom::u64().map_err(|error| {
        let source = Arc::new(io::Error::other(error));
        Error::Io { operation: "random number", path: None, source }
    })
}

impl std::fmt::Debug for Extract<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Extract")
            .field("paths", &self.options.paths)
            .field("to", &Path::new(&self.options.to))
            .field("overwrite", &self.options.overwrite)
            .finish_non_exhaustive()
    }
}
