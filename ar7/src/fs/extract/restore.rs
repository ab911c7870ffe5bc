//! Follows the walk through the archive: creates directories, and passes the entries in them to the threads that
//! restore them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ar7_engine::thread_builder;
use ar7_registry::names::Entry;
use ar7_registry::records::{EntryType, InodeNumber};
use crossbeam::channel::{SendError, Sender, bounded};

use super::Overwrite;
use super::files::{At, Files, Job, Level, Outcome};
use super::publish::Replace;
use super::report::Aspect;
use super::select::{Chosen, Source, total};
use crate::error::Result;
use crate::fs::patterns::{Patterns, Positions};
use crate::fs::stored::{Found, Step, Unreadable, Walk};
use crate::fs::system::Status;
use crate::fs::tree::{open_directories_max, replaced};
use crate::path::components;

/// An extraction in progress.
struct Restoring<'a, 'e> {
    files: &'a Files<'a, 'e>,
    jobs: Sender<Job>,
    /// Files with several names that were restored under one of them.
    linked: HashMap<InodeNumber, Linked>,
    buffer: Vec<u8>,
}

/// The first restored name of a file with several names.
struct Linked {
    level: Arc<Level>,
    name: Vec<u8>,
    /// Its status once it was restored.
    status: Status,
    /// The number of names still to come.
    left: u32,
}

impl Linked {
    /// Returns whether a status is that of the restored file. A new file may have its inode number, but not all of its
    /// attributes, unless its owner made it the same.
    fn is(&self, status: &Status) -> bool {
        let links = self.status.links;
        Status { links, ..*status } == self.status
    }
}

/// A directory of the archive that the walk is in.
struct Place {
    /// The directory in the destination. `None` until something in it is restored.
    level: Option<Arc<Level>>,
    /// Its entry, until the directory is made.
    entry: Option<Found>,
    /// Whether its entries are restored unless a pattern says otherwise.
    is_selected: bool,
    /// The paths in it to restore, if not everything is.
    chosen: Option<BTreeMap<Vec<u8>, Chosen>>,
    /// How far the patterns that select and those that exclude match its path. So no path is matched from its beginning,
    /// which would take long in a deep tree.
    selecting: Positions,
    excluding: Positions,
}

/// Restores the sources into the destination, and waits until all entries are restored.
pub(super) fn restore(
    files: &Files<'_, '_>,
    destination: &Arc<Level>,
    sources: Vec<Source>,
    threads: usize,
) {
    let is_done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let (jobs, taken) = bounded(open_directories_max());
        for _ in 0..threads {
            let taken = taken.clone();
            // Fewer threads than planned are enough. If none starts, the walking thread restores the entries itself.
            if thread_builder().spawn_scoped(scope, move || files.make_all(&taken)).is_err() {
                break;
            }
        }
        drop(taken);
        let options = files.options;
        if options.counts && options.patterns.is_none() && options.exclude.is_none() {
            let sources = sources.clone();
            let count = move || {
                let is_over = || is_done.load(Ordering::Relaxed) || files.reporter.is_over();
                if let Some(bytes) = total(files.snapshot, sources, is_over) {
                    files.reporter.counted(bytes);
                }
            };
            // If the thread does not start, nothing is counted.
            let _ = thread_builder().spawn_scoped(scope, count);
        }
        let (linked, buffer) = (HashMap::new(), Vec::new());
        let mut restoring = Restoring { files, jobs, linked, buffer };
        for source in sources {
            restoring.source(destination, source);
        }
        is_done.store(true, Ordering::Relaxed);
    });
}

impl Restoring<'_, '_> {
    fn source(&mut self, destination: &Arc<Level>, source: Source) {
        let Source { directory, path, chosen } = source;
        let entries = chosen.as_ref().map(|chosen| self.entries(directory, &path, chosen));
        let options = self.files.options;
        let is_selected = options.patterns.is_none();
        let selecting = positions_of(options.patterns.as_ref(), &path);
        let excluding = positions_of(options.exclude.as_ref(), &path);
        let mut walk = Walk::new(self.files.snapshot, directory, path, entries);
        let level = Some(Arc::clone(destination));
        let top = Place { level, entry: None, is_selected, chosen, selecting, excluding };
        let mut places = vec![top];
        while let Some(step) = walk.next() {
            if self.files.reporter.is_over() {
                break;
            }
            match step {
                Ok(Step::Entry(found)) => self.entry(&mut walk, &mut places, found),
                Ok(Step::Left) => {
                    if places.len() > 1 {
                        self.leave(places.pop());
                    }
                }
                Err(unreadable) => {
                    let Unreadable { path, error } = unreadable;
                    self.files.reporter.failed(|| path, *error);
                }
            }
        }
        // The directories that a stopped extraction was in. The destination stays.
        while places.len() > 1 {
            self.leave(places.pop());
        }
    }

    /// Returns the entries of a directory that were chosen. They existed when they were chosen.
    fn entries(
        &self,
        directory: InodeNumber,
        path: &[u8],
        chosen: &BTreeMap<Vec<u8>, Chosen>,
    ) -> VecDeque<Entry> {
        let mut entries = VecDeque::new();
        for name in chosen.keys() {
            match self.files.snapshot.lookup(directory, name) {
                Ok(entry) => entries.extend(entry),
                Err(error) => {
                    let path = crate::path::to_path([path, name].join(&b'/'));
                    self.files.reporter.failed(|| path, error.into());
                }
            }
        }
        entries
    }

    fn entry(&mut self, walk: &mut Walk<'_>, places: &mut Vec<Place>, found: Found) {
        let Some(place) = places.last_mut() else { return };
        let chosen = place.chosen.as_mut().and_then(|chosen| chosen.remove(&found.name));
        let options = self.files.options;
        if judged(options.exclude.as_ref(), &place.excluding, &found) == Some(true) {
            return;
        }
        let is_default = chosen.is_some() && options.patterns.is_none();
        let selected = || judged(options.patterns.as_ref(), &place.selecting, &found);
        let (is_selected, chosen) = match chosen {
            // A directory on the way to a path.
            Some(Chosen { is_whole: false, below }) => (false, Some(below)),
            _ => (selected().unwrap_or(is_default || place.is_selected), None),
        };
        if found.is_directory() {
            self.enter(walk, places, found, is_selected, chosen);
        } else if is_selected && let Some(level) = self.made(walk, places) {
            self.other(&level, found);
        }
    }

    fn enter(
        &mut self,
        walk: &mut Walk<'_>,
        places: &mut Vec<Place>,
        found: Found,
        is_selected: bool,
        chosen: Option<BTreeMap<Vec<u8>, Chosen>>,
    ) {
        let entries = chosen.as_ref().map(|chosen| {
            let path = crate::path::bytes(&walk.path_of(&found.name)).to_vec();
            self.entries(found.number, &path, chosen)
        });
        if let Err(unreadable) = walk.enter(&found, entries) {
            let Unreadable { path, error } = unreadable;
            self.files.reporter.failed(|| path, *error);
            return;
        }
        let Some(above) = places.last() else { return };
        let options = self.files.options;
        let below = |patterns: Option<&Patterns>, above: &Positions| {
            patterns.map(|patterns| patterns.below(above, &found.name)).unwrap_or_default()
        };
        let selecting = below(options.patterns.as_ref(), &above.selecting);
        let excluding = below(options.exclude.as_ref(), &above.excluding);
        let entry = Some(found);
        places.push(Place { level: None, entry, is_selected, chosen, selecting, excluding });
        if is_selected {
            self.made(walk, places);
        }
    }

    /// Returns the present directory, and makes it and those above it as far as needed. If one of them cannot be made,
    /// reports it and leaves it.
    fn made(&self, walk: &mut Walk<'_>, places: &mut Vec<Place>) -> Option<Arc<Level>> {
        let first = places.iter().rposition(|place| place.level.is_some())?;
        for index in first + 1..places.len() {
            let parent = places.get(index - 1).and_then(|place| place.level.clone())?;
            let found = places.get_mut(index).and_then(|place| place.entry.take())?;
            let name = found.name.clone();
            match self.files.directory(&parent, found) {
                Ok(level) => {
                    if let Some(place) = places.get_mut(index) {
                        place.level = Some(level);
                    }
                }
                Err(error) => {
                    self.files.reporter.failed(|| self.files.path(&parent, &name), error);
                    for _ in places.drain(index..) {
                        walk.leave();
                    }
                    return None;
                }
            }
        }
        places.last().and_then(|place| place.level.clone())
    }

    /// Leaves a directory. Keeps its parent open, in which the walk continues.
    fn leave(&self, place: Option<Place>) {
        let Some(level) = place.and_then(|place| place.level) else { return };
        match self.files.tree.descriptor(&level) {
            Ok(descriptor) => {
                let _parent = self.files.tree.parent_of(&level, &descriptor);
                self.files.done(&level, descriptor);
            }
            Err(_) => self.files.abandon(&level),
        }
    }

    /// Restores an entry that is not a directory. A file with several names is restored immediately, because later
    /// names link to it.
    fn other(&mut self, level: &Arc<Level>, found: Found) {
        let descriptor = match self.files.tree.descriptor(level) {
            Ok(descriptor) => descriptor,
            Err(error) => {
                let error = self.files.failed(level, &found.name, "create", error);
                return self.files.reporter.failed(|| self.files.path(level, &found.name), error);
            }
        };
        if found.inode.kind == EntryType::File && found.inode.links > 1 {
            let outcome = self.file_of_several_names(level, &descriptor, &found);
            return self.files.note(level, &found.name, outcome);
        }
        level.own.wait();
        let job = Job { level: Arc::clone(level), descriptor, found };
        // Nothing receives the job if no thread was started.
        if let Err(SendError(job)) = self.jobs.send(job) {
            self.files.make(&job, &mut self.buffer);
        }
    }

    fn file_of_several_names(
        &mut self,
        level: &Arc<Level>,
        descriptor: &OwnedFd,
        found: &Found,
    ) -> Result<Outcome> {
        let at = At { level, descriptor: descriptor.as_fd() };
        if let Some(linked) = self.linked.get_mut(&found.number) {
            linked.left = linked.left.saturating_sub(1);
            let outcome = self.files.link(at, found, linked, &mut self.buffer);
            if let Ok(Outcome::Restored(Some(status))) = &outcome
                && status.id != linked.status.id
            {
                // Later names link to the copy, which is as close to them and has fewer names.
                let (level, name, left) = (Arc::clone(level), found.name.clone(), linked.left);
                *linked = Linked { level, name, status: *status, left };
            }
            if linked.left == 0 {
                self.linked.remove(&found.number);
            }
            return outcome;
        }
        let outcome = self.files.entry(at, found, &mut self.buffer)?;
        if let Outcome::Restored(Some(status)) = outcome {
            let (level, name) = (Arc::clone(level), found.name.clone());
            let left = found.inode.links - 1;
            self.linked.insert(found.number, Linked { level, name, status, left });
        }
        Ok(outcome)
    }
}

/// Returns how far patterns match the path of a directory.
fn positions_of(patterns: Option<&Patterns>, path: &[u8]) -> Positions {
    let Some(patterns) = patterns else { return Positions::default() };
    let path = crate::path::to_path(path.to_vec());
    components(&path).fold(patterns.start(), |above, name| patterns.below(&above, name))
}

/// Returns what patterns say about an entry of a directory that they match so far.
fn judged(patterns: Option<&Patterns>, positions: &Positions, found: &Found) -> Option<bool> {
    patterns?.judge([positions], &found.name, found.is_directory())
}

impl Files<'_, '_> {
    /// Makes another name of a file that was restored. If that is impossible, restores a copy of the file instead.
    fn link(
        &self,
        at: At<'_>,
        found: &Found,
        linked: &Linked,
        buffer: &mut Vec<u8>,
    ) -> Result<Outcome> {
        let (system, name) = (self.system(), found.name.as_slice());
        let failed = |error| self.failed(at.level, name, "link", error);
        if self.options.overwrite != Overwrite::Refuse {
            let existing = system.status_if_there(at.descriptor, name).map_err(failed)?;
            // Renaming one name of a file to another would leave both.
            if existing.is_some_and(|existing| existing.id == linked.status.id) {
                return Ok(Outcome::Restored(Some(linked.status)));
            }
        }
        let replace = self.replaces(at, found)?;
        if replace == Replace::Never {
            return Ok(Outcome::Kept);
        }
        let temporary = match self.link_temporarily(at, linked) {
            Ok(temporary) => temporary,
            Err(error) => {
                let copied = self.entry(at, found, buffer)?;
                self.reporter.lacks(Aspect::HardLink, || self.path(at.level, name), failed(error));
                return Ok(copied);
            }
        };
        let published = self.publish(at, (&temporary, replace), name, linked.status.id);
        if published.is_err() {
            self.discard(at, &temporary, None);
        }
        published.map(|()| Outcome::Restored(Some(linked.status)))
    }

    /// Makes another name of a file, and returns it: a temporary one.
    fn link_temporarily(&self, at: At<'_>, linked: &Linked) -> io::Result<Vec<u8>> {
        let first = self.tree.descriptor(&linked.level)?;
        let first = (first.as_fd(), linked.name.as_slice());
        let link = |temporary: &[u8]| self.system().link(first, (at.descriptor, temporary));
        let ((), temporary) = self.under_temporary_name(link)?;
        // The first name may refer to another file by now.
        let error = match self.system().status(at.descriptor, &temporary) {
            Ok(status) if linked.is(&status) => return Ok(temporary),
            Ok(_) => replaced(),
            Err(error) => error,
        };
        self.discard(at, &temporary, None);
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::extract::files::Own;
    use crate::fs::system::System;
    use crate::fs::tree::Tree;

    #[test]
    fn another_file_with_the_inode_number_of_a_restored_one_is_not_taken_for_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("f"), "content").unwrap();
        let system = System::default();
        let descriptor = Arc::new(system.open_typed(folder.path()).unwrap());
        let status = system.status(descriptor.as_fd(), b"f").unwrap();
        let own = Own::new(None, None, false, false);
        let level = Tree::new(&system).top(&descriptor, own).unwrap();
        let linked = Linked { level, name: b"f".to_vec(), status, left: 1 };
        assert!(linked.is(&status) && linked.is(&Status { links: 2, ..status }));
        for other in [
            Status { owner: status.owner ^ 1, ..status },
            Status { mode: status.mode ^ 0o100, ..status },
            Status { size: status.size + 1, ..status },
            Status { id: (status.id.0, status.id.1 ^ 1), ..status },
        ] {
            assert!(!linked.is(&other), "{other:?}");
        }
    }
}
