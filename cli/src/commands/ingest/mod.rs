//! `ingest`: whole trees into an archive.
//!
//! Three stages with bounded queues between them. The walk looks at every entry in order, and at what the archive
//! has of it already; readers open and read what is new or changed; one writer stores, in the order of the walk, so
//! that the same tree gives the same archive. At most [`IN_FLIGHT`] entries are under way, each with at most
//! [`WHOLE_MAX`] bytes in memory; what is larger is read while it is stored.

mod plan;
mod read;
mod roots;
mod status;
mod store;

use std::thread;

use ar7_registry::{Archive, CreateOptions};
use crossbeam::channel::bounded;
use serde::Serialize;

use self::plan::Plan;
use self::roots::{Root, check_roots, counted_bytes};
use self::store::Storing;
use crate::arguments::{Common, Ingest};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::json::JsonName;
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::session::Session;

/// Entries between the walk and the writer at most.
const IN_FLIGHT: usize = 64;

/// Files up to this size are read whole by the readers.
const WHOLE_MAX: u64 = 1 << 20;

/// Readers unless the user says otherwise, at most.
const READERS_MAX: usize = 8;

/// What was done. Entries and bytes are those of the walk that are in the archive now, stored by this run or before.
#[derive(Debug, Default, Serialize)]
struct Tally {
    entries: u64,
    bytes: u64,
    stored_files: u64,
    stored_bytes: u64,
    unchanged: u64,
    skipped: Vec<JsonName>,
    unread: Vec<JsonName>,
    checkpoints: u64,
}

/// Whether patterns leave out what would be stored under a path.
#[cfg(feature = "testing")]
pub(crate) fn excludes(patterns: &[String], path: &std::path::Path) -> Result<bool, Failure> {
    Ok(roots::Exclusions::new(patterns)?.exclude_path(path))
}

/// Stores the trees.
pub(crate) fn run(common: &Common, options: &Ingest) -> Result<(), Failure> {
    let exclusions = roots::Exclusions::new(&options.exclude)?;
    let roots = check_roots(&options.paths)?;
    let is_there = match std::fs::metadata(&options.archive) {
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(Failure::file(&options.archive, "open", error)),
    };
    let session = match (is_there, options.dry_run) {
        (false, true) => None,
        (true, true) => Some(Session::read(common, &options.archive)?),
        (true, false) => Some(Session::write(common, &options.archive)?),
        (false, false) => {
            let made = CreateOptions::default();
            Some(Session::create(common, &options.archive, &options.slot, &made)?)
        }
    };
    let interrupt = Interrupt::catch()?;
    let progress = Progress::new(common, Counts::BytesAndEntries);
    let run = Run { options, session: session.as_ref(), exclusions, roots, interrupt, progress };
    let outcome = run.all();
    run.progress.finish();
    let progress = run.progress.clone();
    finish(options, session, outcome, &progress)
}

/// Closes the archive whatever happened: what was not committed is dropped.
fn finish(
    options: &Ingest,
    session: Option<Session>,
    outcome: Result<Tally, Failure>,
    progress: &Progress,
) -> Result<(), Failure> {
    let closed = match session {
        Some(session) if outcome.is_ok() && !options.dry_run => session.finish(),
        Some(session) => {
            let closed = session.archive.close();
            closed.map_err(crate::session::at(&options.archive))
        }
        None => Ok(()),
    };
    let tally = outcome?;
    closed?;
    if options.json {
        Output::new().document(&tally)?;
    } else {
        progress.tell(&tally.summary(options.dry_run));
    }
    match tally.unread.len() as u64 {
        0 => Ok(()),
        count => Err(Failure::Unread { archive: options.archive.clone(), count }),
    }
}

/// Everything that the stages share.
struct Run<'a> {
    options: &'a Ingest,
    /// None in a dry run of an archive that is not there.
    session: Option<&'a Session>,
    exclusions: roots::Exclusions,
    roots: Vec<Root>,
    interrupt: Interrupt,
    progress: Progress,
}

impl Run<'_> {
    fn all(&self) -> Result<Tally, Failure> {
        let mut storing = Storing::new(self)?;
        let readers = self.readers();
        let (jobs, taken) = bounded(IN_FLIGHT);
        let (planned, items) = bounded(IN_FLIGHT);
        thread::scope(|scope| {
            scope.spawn(move || Plan::new(self, jobs, planned).walk());
            for _ in 0..readers {
                let taken = taken.clone();
                scope.spawn(move || read::read_all(&taken));
            }
            drop(taken);
            if self.progress.is_shown() {
                scope.spawn(|| self.count());
            }
            // The writer holds the receiving end: when it ends, so do the others.
            storing.store_all(items)
        })?;
        Ok(storing.into_tally())
    }

    fn archive(&self) -> Option<&Archive> {
        self.session.map(|session| &session.archive)
    }

    fn readers(&self) -> usize {
        let available = || thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX);
        self.options.jobs.map_or_else(available, usize::from)
    }

    /// Counts the bytes that the walk will come by, so that the time left can be told.
    fn count(&self) {
        if let Some(bytes) = counted_bytes(&self.roots, &self.exclusions, &self.interrupt) {
            self.progress.set_total(bytes);
        }
    }
}

impl Tally {
    fn summary(&self, is_dry: bool) -> String {
        let Tally { entries, bytes, stored_files, stored_bytes, unchanged, .. } = self;
        let would = if is_dry { "would be " } else { "" };
        format!(
            "{entries} entries, {bytes} bytes: {stored_files} files of {stored_bytes} bytes {would}stored, \
             {unchanged} entries unchanged"
        )
    }
}
