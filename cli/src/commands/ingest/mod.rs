//! `ingest`: stores directory trees in an archive.
//!
//! There are three stages with bounded queues between them. The plan visits every entry in order and compares it with
//! the archive. Readers open and read new and changed files. One writer stores entries in the order of the walk, so that
//! the same tree gives the same archive. At most [`IN_FLIGHT`] entries wait between the stages, each with at most
//! [`read::WHOLE_MAX`] bytes in memory. Larger files are read while they are stored.
//!
//! An entry carries its directory, one object that all stages share. Nothing else determines its place.

mod plan;
mod read;
mod roots;
mod run;
mod source;
mod status;
mod store;
#[cfg(test)]
mod tests;
mod walk;

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, Builder};

use ar7_registry::CreateOptions;
use ar7_registry::records::EntryType;
use crossbeam::channel::bounded;

use self::plan::Plan;
use self::roots::check_roots;
use self::run::{Run, Tally};
use self::source::{Source, System};
use self::status::Kind;
use self::store::Storing;
use self::walk::{Tree, Walk};
use crate::arguments::{Common, Ingest};
use crate::exit::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::progress::{Counts, Progress};
use crate::session::Session;
use crate::stderr;

/// The maximum number of entries between the walk and the writer.
const IN_FLIGHT: usize = 64;

/// The maximum number of readers unless the user sets another.
const READERS_MAX: usize = 8;

/// Returns whether patterns exclude a path in the archive.
#[cfg(feature = "testing")]
pub(crate) fn excludes(patterns: &[String], path: &std::path::Path) -> Result<bool, Failure> {
    Ok(roots::Exclusions::new(patterns)?.exclude_path(path))
}

/// Stores the trees.
pub(crate) fn run(common: &Common, options: &Ingest) -> Result<(), Failure> {
    let tally = ingest(&System, common, options, Interrupt::catch)?;
    if options.json {
        Output::new().document(&tally)?;
    } else if !common.quiet {
        stderr::line(&tally.summary(options.dry_run));
    }
    match tally.unread.len() as u64 {
        0 => Ok(()),
        count => Err(Failure::Unread { archive: options.archive.clone(), count }),
    }
}

/// Stores the trees of a source and closes the archive. Uncommitted changes are dropped.
fn ingest(
    source: &dyn Source,
    common: &Common,
    options: &Ingest,
    interrupt: impl FnOnce() -> Result<Interrupt, Failure>,
) -> Result<Tally, Failure> {
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
    let interrupt = interrupt()?;
    // Not earlier: the bar would be drawn over the prompt for a passphrase.
    let progress = Progress::new(common, Counts::BytesAndEntries);
    let (tree, shared) = (Tree::new(source), session.as_ref());
    let shown = progress.clone();
    let run = Run { options, session: shared, tree, exclusions, roots, interrupt, progress: shown };
    let outcome = run_stages(&run);
    drop(run);
    let closed = match session {
        Some(session) if outcome.is_ok() && !options.dry_run => session.finish(),
        Some(session) => {
            let closed = session.archive.close();
            closed.map_err(crate::session::at(&options.archive))
        }
        None => Ok(()),
    };
    progress.finish();
    let tally = outcome?;
    closed?;
    Ok(tally)
}

/// Runs the stages.
fn run_stages(run: &Run<'_>) -> Result<Tally, Failure> {
    let mut storing = Storing::new(run)?;
    let destination = storing.destination();
    let is_done = AtomicBool::new(false);
    let (jobs, taken) = bounded(IN_FLIGHT);
    let (planned, items) = bounded(IN_FLIGHT);
    thread::scope(|scope| {
        // Start the walk first: it needs a thread of its own, while one reader is enough.
        let plan = Plan::new(run, jobs, planned, destination)?;
        Builder::new().spawn_scoped(scope, || plan.walk()).map_err(Failure::Threads)?;
        for number in 0..readers(run) {
            let taken = taken.clone();
            let reader = Builder::new().spawn_scoped(scope, || {
                let taken = taken;
                read::read_all(&run.tree, &taken);
            });
            match reader {
                Ok(_) => {}
                Err(_) if number > 0 => break,
                Err(error) => return Err(Failure::Threads(error)),
            }
        }
        drop(taken);
        if run.progress.is_shown() {
            // Without this thread, the remaining time is not shown.
            let _ = Builder::new().spawn_scoped(scope, || count(run, &is_done));
        }
        // The writer owns the receiving end: when it stops, the other stages stop too.
        let outcome = storing.store_all(items);
        is_done.store(true, Ordering::Relaxed);
        outcome
    })?;
    Ok(storing.into_tally())
}

fn readers(run: &Run<'_>) -> usize {
    let available = || thread::available_parallelism().map_or(1, usize::from).min(READERS_MAX);
    run.options.jobs.map_or_else(available, usize::from)
}

/// Counts the bytes of the source, so that the remaining time can be shown.
fn count(run: &Run<'_>, is_done: &AtomicBool) {
    let mut bytes = 0;
    for root in &run.roots {
        let begun = run
            .tree
            .location(root.location(), 0, None, None)
            .and_then(|location| Walk::new(&run.tree, root, &run.exclusions, location));
        let Ok(mut walk) = begun else { continue };
        while let Some(found) = walk.next() {
            if run.interrupt.is_set() || is_done.load(Ordering::Relaxed) {
                return;
            }
            let Ok(status) = found.status else { continue };
            bytes = u64::saturating_add(bytes, status.size);
            if status.kind == Kind::Stored(EntryType::Directory) {
                let entered = run.tree.enter(&found.directory, &found.name, &status, None);
                if let Ok((directory, names)) = entered {
                    walk.enter(directory, names);
                }
            }
        }
    }
    run.progress.set_total(bytes);
}
