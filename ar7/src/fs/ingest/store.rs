//! The writer: stores the content from the readers in the order of the walk, and commits at every checkpoint.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ar7_engine::format::Timestamp;
use ar7_registry::Archive;
use ar7_registry::records::{EntryType, Inode, InodeNumber};
use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::extended::Extended;
use super::place::{Done, NewContent, Place, Trouble, missing_inode};
use super::plan::{Action, Item, Present, Reason};
use super::read::{Content, Input};
use super::report::{IngestEvent, IngestReport, Outcome};
use super::{DIRECTORY_MODE, OnEvent, Run};
use crate::error::{Error, Result};
use crate::fs::note;
use crate::fs::system::FileId;
use crate::fs::walk::{Directory, Entry, LeftOut, SkipReason, SourcePath, Status, Unread};
use crate::path::bytes;
use crate::records::Attributes;

/// The minimum cost of an entry: even an empty file takes part of one or two pages.
const ENTRY_BYTES: u64 = 4096;

/// How long the writer waits for a reader before it calls the callback.
const PATIENCE: Duration = Duration::from_millis(200);

/// The last stage.
pub(super) struct Storing<'r, 'e> {
    pub(super) run: &'r Run<'r>,
    report: IngestReport,
    on_event: OnEvent<'e>,
    destination: Option<InodeNumber>,
    /// Files with several names, of which some were not visited yet. A file with a name outside of the source stays here
    /// to the end, with about 60 bytes.
    linked: BTreeMap<FileId, Linked>,
    /// Bytes since the last checkpoint.
    since_bytes: u64,
}

/// A file with several names.
struct Linked {
    /// The change time of the file when it was stored, which differs for a new file with its inode number.
    changed: u64,
    number: InodeNumber,
    /// Number of names that were not visited yet.
    left: u32,
    /// Whether it kept changing while it was read.
    is_changed: bool,
}

/// An entry of the archive that a new one replaces.
pub(super) type Known = (InodeNumber, Inode);

/// What became of an entry, with its length.
struct Stored {
    outcome: Outcome<'static>,
    bytes: u64,
}

impl<'r, 'e> Storing<'r, 'e> {
    pub(super) fn new(run: &'r Run<'r>, on_event: OnEvent<'e>) -> Result<Storing<'r, 'e>> {
        let mut storing = Storing {
            run,
            report: IngestReport::default(),
            on_event,
            destination: None,
            linked: BTreeMap::new(),
            since_bytes: 0,
        };
        if let Some(archive) = storing.writing() {
            let attributes = Attributes::now(DIRECTORY_MODE).of_registry();
            let into = bytes(&run.options.into);
            storing.destination = Some(archive.names().make_directories(into, attributes)?);
        }
        Ok(storing)
    }

    /// Stores every entry, in order. `counted` receives the number of bytes of the source.
    pub(super) fn store_all(
        &mut self,
        unread: Vec<Unread>,
        items: &Receiver<Item>,
        counted: &OnceLock<u64>,
    ) -> Result<()> {
        let stored = self.try_store_all(unread, items, counted);
        stored.map_err(|trouble| match trouble {
            Trouble::Entry(error) | Trouble::Run(error) => error,
        })
    }

    fn try_store_all(
        &mut self,
        unread: Vec<Unread>,
        items: &Receiver<Item>,
        counted: &OnceLock<u64>,
    ) -> Done<()> {
        for Unread { path, error } in unread {
            self.unread(SourcePath::typed(&path), error)?;
        }
        let mut is_counted = false;
        while let Some(item) = self.receive(items)? {
            self.store(item)?;
            if let Some(&bytes) = counted.get().filter(|_| !is_counted) {
                is_counted = true;
                self.tell(IngestEvent::Counted { bytes })?;
            }
            if self.since_bytes >= self.run.options.checkpoint_bytes {
                self.checkpoint()?;
            }
        }
        Ok(())
    }

    /// Returns the report.
    pub(super) fn into_report(self) -> IngestReport {
        self.report
    }

    /// Waits for an item of another stage. Returns `None` when that stage has ended.
    fn receive<T>(&mut self, items: &Receiver<T>) -> Done<Option<T>> {
        if let Ok(item) = items.try_recv() {
            return Ok(Some(item));
        }
        loop {
            match items.recv_timeout(PATIENCE) {
                Ok(item) => return Ok(Some(item)),
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
                Err(RecvTimeoutError::Timeout) => {
                    self.tell(IngestEvent::Waiting)?;
                    self.tell_compared()?;
                }
            }
        }
    }

    fn tell(&mut self, event: IngestEvent<'_>) -> Done<()> {
        if (self.on_event)(event).is_break() {
            return Err(Trouble::Run(Error::Stopped));
        }
        Ok(())
    }

    pub(super) fn tell_read(&mut self, bytes: u64) -> Done<()> {
        if bytes == 0 { Ok(()) } else { self.tell(IngestEvent::Read { bytes }) }
    }

    /// Tells how much the readers compared. Returns the number of bytes.
    fn tell_compared(&mut self) -> Done<u64> {
        let bytes = self.run.shared.compared_bytes.swap(0, Ordering::Relaxed);
        self.tell_read(bytes)?;
        Ok(bytes)
    }

    fn store(&mut self, item: Item) -> Done<()> {
        match item {
            Item::Left { directory, name, reason } => {
                let path = SourcePath::new(&directory, &name);
                match reason {
                    Reason::Skipped(reason) => self.left_out(path, reason),
                    Reason::Unread(error) => self.unread(path, error),
                    Reason::Archive(error) => Err(Trouble::Run(error)),
                }
            }
            Item::Unlisted { path, error } => self.unread(SourcePath::typed(&path), error),
            Item::Gone { directory, name } => {
                let path = SourcePath::new(&directory, &name);
                self.report.removed += self.remove(&directory, name.as_bytes())?;
                self.tell(IngestEvent::Entry { path, outcome: Outcome::Removed })
            }
            Item::Entry { entry, action } => {
                let path = SourcePath::new(&entry.directory, &entry.name);
                match self.entry(&entry, action) {
                    Ok(Some(outcome)) => self.tell(IngestEvent::Entry { path, outcome }),
                    Ok(None) => Ok(()),
                    Err(Trouble::Entry(error)) => self.unread(path, error),
                    Err(Trouble::Run(error)) => Err(Trouble::Run(error)),
                }
            }
        }
    }

    fn left_out(&mut self, path: SourcePath<'_>, reason: SkipReason) -> Done<()> {
        // The user knows what the patterns exclude, and it may be more than fits in memory.
        if reason != SkipReason::Excluded {
            let left_out = || LeftOut { path: path.to_path(), reason };
            note(&mut self.report.left_out, &mut self.report.left_out_count, left_out);
        }
        self.tell(IngestEvent::Entry { path, outcome: Outcome::LeftOut(reason) })
    }

    /// Sets the extended attributes of an inode. Returns whether it had others.
    fn set_extended(
        &mut self,
        place: &Place<'_>,
        number: InodeNumber,
        extended: Extended,
    ) -> Done<bool> {
        let (had_others, unread) = place.set_extended(number, extended)?;
        if let Some(error) = unread {
            let path = SourcePath::new(&place.entry.directory, &place.entry.name);
            self.tell(IngestEvent::Entry { path, outcome: Outcome::Attributes(&error) })?;
            let unread = || Unread { path: path.to_path(), error };
            note(&mut self.report.attributes, &mut self.report.attributes_count, unread);
        }
        Ok(had_others)
    }

    fn unread(&mut self, path: SourcePath<'_>, error: Error) -> Done<()> {
        self.tell(IngestEvent::Entry { path, outcome: Outcome::Unread(&error) })?;
        let unread = || Unread { path: path.to_path(), error };
        note(&mut self.report.unread, &mut self.report.unread_count, unread);
        Ok(())
    }

    /// Returns the archive, or `None` in a preview.
    fn writing(&self) -> Option<&'r Archive> {
        self.run.archive.filter(|_| !self.run.is_preview)
    }

    /// Returns the destination directory in the archive, or `None` in a preview.
    pub(super) fn destination(&self) -> Option<InodeNumber> {
        self.destination
    }

    /// Removes a name of the archive with everything below it. Returns the number of names.
    fn remove(&mut self, directory: &Directory, name: &[u8]) -> Done<u64> {
        let (Some(archive), Some(&directory)) = (self.writing(), directory.own.stored.get()) else {
            return Ok(1);
        };
        self.since_bytes += ENTRY_BYTES;
        Ok(archive.names().remove_tree(directory, name, None, &mut |_| true)?)
    }

    fn entry(&mut self, entry: &Entry, action: Action) -> Done<Option<Outcome<'static>>> {
        let Some(archive) = self.writing() else { return self.preview(entry, &action).map(Some) };
        // The failure of the directory was reported, so its entries are skipped silently.
        let Some(&directory) = entry.directory.own.stored.get() else { return Ok(None) };
        let place = Place { archive, directory, entry };
        let stored = match action {
            Action::Directory { directory, extended, left_out } => {
                let outcome = self.directory(&place, &directory, extended)?;
                if let Some(reason) = left_out {
                    self.left_out(SourcePath::new(&entry.directory, &entry.name), reason)?;
                }
                return Ok(Some(outcome));
            }
            Action::Store { input, present } => {
                let input = self.receive(&input)?.unwrap_or_else(|| Err(ended_early(entry)));
                self.content(&place, input.map_err(Trouble::Entry)?, present)?
            }
            Action::Link => self.link(&place)?,
            Action::Present(present) => self.present(&place, &entry.status, present, None)?,
            // Occurs only in a preview.
            Action::WouldStore { .. } => return Ok(None),
        };
        self.count(&stored);
        Ok(Some(stored.outcome))
    }

    fn directory(
        &mut self,
        place: &Place<'_>,
        directory: &Directory,
        extended: Option<Extended>,
    ) -> Done<Outcome<'static>> {
        let names = place.names();
        let mut attributes = place.entry.status.attributes;
        let existing = place.existing()?;
        let (number, mut outcome) = match existing {
            Some((number, inode)) if inode.kind == EntryType::Directory => {
                if extended.is_none() && attributes.origin.is_some() {
                    attributes.origin = inode.attributes.origin;
                }
                if inode.attributes != attributes {
                    names.set_attributes(number, attributes)?;
                }
                let is_same = is_same_but_for_origin(&inode, &place.entry.status);
                (number, if is_same { Outcome::Unchanged } else { Outcome::Changed })
            }
            existing => {
                place.clear(existing.as_ref())?;
                let number = names.make_directory(place.directory, place.name(), attributes)?;
                (number, if existing.is_some() { Outcome::Changed } else { Outcome::Added })
            }
        };
        // Each directory is stored once, so the number was not set before.
        let _ = directory.own.stored.set(number);
        self.report.entries += 1;
        self.since_bytes += ENTRY_BYTES;
        if let Some(extended) = extended
            && self.set_extended(place, number, extended)?
            && matches!(outcome, Outcome::Unchanged)
        {
            outcome = Outcome::Changed;
        }
        Ok(outcome)
    }

    fn content(
        &mut self,
        place: &Place<'_>,
        input: Input,
        present: Option<Present>,
    ) -> Done<Stored> {
        let Input { mut status, content, mut extended, mut is_changed } = input;
        let (names, existing) = (place.names(), place.existing()?);
        let is_known = existing.is_some();
        let (number, bytes) = match (content, present) {
            (Content::Same, Some(present)) => {
                return self.present(place, &status, present, Some(extended));
            }
            (Content::Target(target), _) => {
                place.clear(existing.as_ref())?;
                let attributes = status.attributes;
                let number =
                    names.add_symlink(place.directory, place.name(), attributes, &target)?;
                (number, target.len() as u64)
            }
            (Content::Special, _) => {
                let Some(kind) = status.kind else {
                    return Err(Trouble::Entry(ended_early(place.entry)));
                };
                place.clear(existing.as_ref())?;
                let (attributes, device) = (status.attributes, status.device);
                let name = place.name();
                let number = names.add_special(place.directory, name, attributes, kind, device)?;
                (number, 0)
            }
            (Content::Whole(bytes), _) => {
                let content = self.whole(place, &bytes, existing.as_ref())?;
                self.tell_read(bytes.len() as u64)?;
                (place.give(&status, content, existing)?, bytes.len() as u64)
            }
            (Content::Large | Content::Same, _) => {
                let large = self.large(place, existing.as_ref())?;
                (status, extended, is_changed) = (large.status, large.extended, large.is_changed);
                (place.give(&status, large.content, existing)?, large.bytes)
            }
        };
        self.note_links(&status, number, is_changed);
        self.report.stored_files += 1;
        self.report.stored_bytes = self.report.stored_bytes.saturating_add(bytes);
        if is_known || !extended.is_empty() {
            self.set_extended(place, number, extended)?;
        }
        let outcome = stored(is_changed, is_known);
        if is_changed {
            note(&mut self.report.changed, &mut self.report.changed_count, || place.entry.path());
        }
        Ok(Stored { outcome, bytes })
    }

    /// Stores the content of a small file.
    fn whole(&self, place: &Place<'_>, bytes: &[u8], existing: Option<&Known>) -> Done<NewContent> {
        if bytes.is_empty() {
            return Ok(NewContent::Empty);
        }
        let compression = self.run.options.compression.unwrap_or_default();
        let mut content = place.begin(existing, compression.packs())?;
        place.append(&mut content, bytes)?;
        Ok(content)
    }

    /// Keeps what the archive has, and updates the attributes. If nothing was read, the origin stays, because it is that
    /// of what was read last.
    fn present(
        &mut self,
        place: &Place<'_>,
        status: &Status,
        present: Present,
        extended: Option<Extended>,
    ) -> Done<Stored> {
        let Present { inode: number, same_attributes } = present;
        let (mut outcome, was_read) = (Outcome::Unchanged, extended.is_some());
        if !same_attributes || was_read {
            let names = place.names();
            let inode = names.inode(number)?.ok_or_else(|| missing_inode(number))?;
            let mut attributes = status.attributes;
            if !was_read {
                attributes.origin = inode.attributes.origin;
            }
            if inode.attributes != attributes {
                names.set_attributes(number, attributes)?;
            }
            if !is_same_but_for_origin(&inode, status) {
                outcome = Outcome::Changed;
            }
            if let Some(extended) = extended
                && self.set_extended(place, number, extended)?
            {
                outcome = Outcome::Changed;
            }
            self.since_bytes += ENTRY_BYTES;
        }
        self.note_links(status, number, false);
        self.report.unchanged += 1;
        let compared = if was_read { self.tell_compared()? } else { 0 };
        self.tell_read(status.size.saturating_sub(compared))?;
        Ok(Stored { outcome, bytes: status.size })
    }

    /// Adds another name to a file that was stored before.
    fn link(&mut self, place: &Place<'_>) -> Done<Stored> {
        let status = &place.entry.status;
        let linked = self.linked.get_mut(&status.id);
        let Some(linked) = linked.filter(|linked| linked.changed == nanoseconds(status.changed))
        else {
            // The first name could not be read, or the file has changed or has gone since, and a new one may have its
            // inode number: this name has its own content.
            let input = place.entry.read(&self.run.tree).map_err(Trouble::Entry)?;
            return self.content(place, input, None);
        };
        let (number, is_changed) = (linked.number, linked.is_changed);
        linked.left -= 1;
        if linked.left == 0 {
            self.linked.remove(&status.id);
        }
        self.tell_read(status.size)?;
        if is_changed {
            note(&mut self.report.changed, &mut self.report.changed_count, || place.entry.path());
        }
        let existing = place.existing()?;
        if existing.as_ref().is_some_and(|(existing, _)| *existing == number) {
            self.report.unchanged += 1;
            let outcome = if is_changed { Outcome::ChangedWhileRead } else { Outcome::Unchanged };
            return Ok(Stored { outcome, bytes: 0 });
        }
        place.clear(existing.as_ref())?;
        place.names().add_link(place.directory, place.name(), number)?;
        Ok(Stored { outcome: stored(is_changed, existing.is_some()), bytes: 0 })
    }

    fn note_links(&mut self, status: &Status, number: InodeNumber, is_changed: bool) {
        let left = u32::try_from(status.links.saturating_sub(1)).unwrap_or(u32::MAX);
        if left > 0 && status.kind == Some(EntryType::File) {
            let changed = nanoseconds(status.changed);
            self.linked.insert(status.id, Linked { changed, number, left, is_changed });
        }
    }

    fn count(&mut self, stored: &Stored) {
        self.report.entries += 1;
        // The length of a sparse file may be as large as an offset can be.
        self.report.bytes = self.report.bytes.saturating_add(stored.bytes);
        if !matches!(stored.outcome, Outcome::Unchanged) {
            let blocks = stored.bytes.div_ceil(ENTRY_BYTES).max(1);
            self.since_bytes = self.since_bytes.saturating_add(blocks.saturating_mul(ENTRY_BYTES));
        }
    }

    /// Counts an entry of a preview.
    fn preview(&mut self, entry: &Entry, action: &Action) -> Done<Outcome<'static>> {
        let mut bytes = entry.status.size;
        let outcome = match action {
            Action::Present(_) => {
                self.report.unchanged += 1;
                Outcome::Unchanged
            }
            Action::WouldStore { is_known } => {
                self.report.stored_files += 1;
                self.report.stored_bytes = self.report.stored_bytes.saturating_add(bytes);
                if *is_known { Outcome::Changed } else { Outcome::Added }
            }
            Action::Directory { directory, left_out, .. } => {
                if let Some(reason) = *left_out {
                    self.left_out(SourcePath::new(&entry.directory, &entry.name), reason)?;
                }
                bytes = 0;
                if directory.own.known.get().is_some() {
                    Outcome::Unchanged
                } else {
                    Outcome::Added
                }
            }
            Action::Store { .. } | Action::Link => {
                bytes = 0;
                Outcome::Added
            }
        };
        self.count(&Stored { outcome, bytes });
        Ok(outcome)
    }

    fn checkpoint(&mut self) -> Done<()> {
        let Some(archive) = self.writing() else { return Ok(()) };
        archive.commit()?;
        self.since_bytes = 0;
        self.report.checkpoints += 1;
        let IngestReport { checkpoints: number, entries, bytes, .. } = self.report;
        self.tell(IngestEvent::Checkpoint { number, entries, bytes })
    }
}

/// Returns what happened to an entry that was stored.
fn stored(is_changed: bool, is_known: bool) -> Outcome<'static> {
    match (is_changed, is_known) {
        (true, _) => Outcome::ChangedWhileRead,
        (false, true) => Outcome::Changed,
        (false, false) => Outcome::Added,
    }
}

/// Returns a time in nanoseconds, up to a multiple of 2^64, which takes half of the memory.
fn nanoseconds(time: Timestamp) -> u64 {
    let seconds = time.seconds.cast_unsigned().wrapping_mul(1_000_000_000);
    seconds.wrapping_add(time.nanoseconds.into())
}

/// Returns the error of an entry whose reader ended without an answer.
fn ended_early(entry: &Entry) -> Error {
    entry.failed(io::Error::other("its reader ended early"))
}

/// Returns whether an inode has the attributes of a status, apart from the origin.
fn is_same_but_for_origin(inode: &Inode, status: &Status) -> bool {
    let origin = status.attributes.origin;
    ar7_registry::records::Attributes { origin, ..inode.attributes } == status.attributes
}
