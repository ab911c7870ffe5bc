//! The writer: stores the content from the readers in the order of the walk, and commits at every checkpoint.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use ar7_registry::Names;
use ar7_registry::records::{EntryType, Inode, InodeNumber};
use crossbeam::channel::Receiver;
use uuid::Uuid;

use super::plan::{Action, Item, Reason};
use super::read::{Content, Entry, ReadOutcome, check_unchanged};
use super::run::{Run, Tally};
use super::status::{FileId, Kind, Status};
use super::walk::Directory;
use crate::commands::content::CHUNK;
use crate::commands::mkdir::directory_attributes;
use crate::exit::{Code, Failure};
use crate::json::JsonName;
use crate::names::parts;
use crate::read_ahead::read_ahead;
use crate::session::Session;
use crate::shown::Shown;

/// The minimum cost of an entry: even an empty file takes part of one or two pages.
const ENTRY_BYTES: u64 = 4096;

/// The last stage.
pub(super) struct Storing<'a> {
    run: &'a Run<'a>,
    tally: Tally,
    /// Entries and bytes in the archive at the last checkpoint.
    committed: (u64, u64),
    destination: Option<InodeNumber>,
    /// Files with several names, of which some were not visited yet.
    linked: HashMap<FileId, Linked>,
    /// Bytes since the last checkpoint.
    since_bytes: u64,
}

/// A file with several names.
struct Linked {
    /// The status of the file when it was stored.
    status: Status,
    number: InodeNumber,
    /// Number of names that were not visited yet.
    left: u64,
}

/// The place of an entry in the archive.
struct Place<'a> {
    session: &'a Session,
    /// The inode number of the entry's directory.
    directory: InodeNumber,
    entry: &'a Entry,
}

impl<'a> Storing<'a> {
    pub(super) fn new(run: &'a Run<'a>) -> Result<Storing<'a>, Failure> {
        let mut storing = Storing {
            run,
            tally: Tally::default(),
            committed: (0, 0),
            destination: None,
            linked: HashMap::new(),
            since_bytes: 0,
        };
        if let Some(session) = storing.writing() {
            storing.destination = Some(storing.make_destination(session)?);
        }
        Ok(storing)
    }

    /// Stores every entry, in order.
    pub(super) fn store_all(&mut self, items: Receiver<Item>) -> Result<(), Failure> {
        for item in items {
            if self.run.interrupt.is_set() {
                break;
            }
            self.store(item)?;
            self.run.progress.entries(self.tally.entries);
            if self.since_bytes >= self.run.options.checkpoint {
                self.checkpoint()?;
            }
        }
        if self.run.interrupt.is_set() {
            return Err(self.interrupted());
        }
        Ok(())
    }

    /// Returns the final tally. The session commits the rest.
    pub(super) fn into_tally(self) -> Tally {
        self.tally
    }

    fn store(&mut self, item: Item) -> Result<(), Failure> {
        let (path, outcome) = match item {
            Item::Left { path, reason: Reason::Skipped(reason) } => {
                self.skip(&path, reason);
                return Ok(());
            }
            Item::Left { path, reason: Reason::Unread(failure) } => (path, Err(failure)),
            Item::Entry { entry, action } => (entry.path(), self.entry(&entry, action)),
        };
        match outcome {
            // Stop writing to a damaged archive.
            Err(failure) if failure.is_fatal() || failure.code() == Code::Damaged => Err(failure),
            Err(failure) => {
                self.run.progress.warn(&failure);
                self.tally.unread.push(JsonName::new(path.as_os_str().as_bytes()));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn entry(&mut self, entry: &Entry, action: Action) -> Result<(), Failure> {
        let Some(session) = self.writing() else {
            self.would_store(entry, &action);
            return Ok(());
        };
        // The failure of the directory was reported, so its entries are skipped silently.
        let Some(&directory) = entry.directory.stored.get() else { return Ok(()) };
        let place = Place { session, directory, entry };
        match action {
            Action::Directory(directory) => self.directory(&place, &directory),
            Action::Store(outcome) => self.content(&place, received(&outcome, entry)),
            Action::Link => self.link(&place),
            Action::Present { inode, same_attributes } => {
                self.present(&place, inode, same_attributes)
            }
            // Occurs only in a dry run.
            Action::WouldStore => Ok(()),
        }
    }

    /// Returns the archive, or `None` in a dry run.
    fn writing(&self) -> Option<&'a Session> {
        self.run.session.filter(|_| !self.run.options.dry_run)
    }

    /// Returns the destination directory in the archive, or `None` in a dry run.
    pub(super) fn destination(&self) -> Option<InodeNumber> {
        self.destination
    }

    fn directory(&mut self, place: &Place<'_>, directory: &Directory) -> Result<(), Failure> {
        let names = place.names();
        let attributes = place.entry.status.attributes;
        let existing = place.existing()?;
        let number = match existing {
            Some((number, inode)) if inode.kind == EntryType::Directory => {
                if inode.attributes != attributes {
                    names.set_attributes(number, attributes).map_err(place.failed())?;
                }
                number
            }
            existing => {
                place.clear(existing.as_ref())?;
                names
                    .make_directory(place.directory, place.name(), attributes)
                    .map_err(place.failed())?
            }
        };
        // Each directory is stored once, so the number was not set before.
        let _ = directory.stored.set(number);
        self.count(0);
        Ok(())
    }

    fn content(&mut self, place: &Place<'_>, outcome: ReadOutcome) -> Result<(), Failure> {
        let (mut status, content) = outcome?;
        let number = match content {
            Content::Target(target) => {
                place.clear(place.existing()?.as_ref())?;
                let names = place.names();
                names
                    .add_symlink(place.directory, place.name(), status.attributes, &target)
                    .map_err(place.failed())?
            }
            Content::Whole(bytes) => {
                let stream = place.store_whole(&bytes)?;
                self.run.progress.advance(status.size);
                place.give(&status, stream)?
            }
            Content::Large => {
                let (file, opened) = place.entry.open(&self.run.tree)?;
                status = opened;
                let stream = self.store_large(place, &status, file)?;
                place.give(&status, Some(stream))?
            }
        };
        self.note_links(&status, number);
        self.tally.stored_files += 1;
        self.tally.stored_bytes = self.tally.stored_bytes.saturating_add(status.size);
        self.count(status.size);
        Ok(())
    }

    /// Reads a large file while storing it.
    fn store_large(
        &self,
        place: &Place<'_>,
        status: &Status,
        mut file: File,
    ) -> Result<Uuid, Failure> {
        let archive = &place.session.archive;
        let mut stream = archive.new_stream().map_err(place.failed())?;
        let identity = stream.identity();
        let mut copied_bytes = 0;
        // Ask for one more byte, to detect a file that is longer than the file system reported.
        let (source, mut left) = (&mut file, status.size.saturating_add(1));
        let read = |buffer: &mut Vec<u8>| {
            let read = fill(source, buffer, left.min(CHUNK as u64))?;
            left -= read as u64;
            Ok((read > 0).then_some(read))
        };
        let copied = read_ahead(read, |chunk: io::Result<&[u8]>| {
            if self.run.interrupt.is_set() {
                return Err(self.interrupted());
            }
            let chunk = chunk.map_err(|error| Failure::file(place.entry.path(), "read", error))?;
            stream.write_at(copied_bytes, chunk).map_err(place.failed())?;
            copied_bytes += chunk.len() as u64;
            self.run.progress.advance(chunk.len() as u64);
            Ok(())
        });
        let outcome = copied.and_then(|()| {
            stream.close().map_err(place.failed())?;
            let failed = |error| Failure::file(place.entry.path(), "read", error);
            check_unchanged(&self.run.tree, &file, status, copied_bytes).map_err(failed)
        });
        if let Err(failure) = outcome {
            if !failure.is_fatal() {
                archive.delete_stream(identity).map_err(place.failed())?;
            }
            return Err(failure);
        }
        Ok(identity)
    }

    fn present(
        &mut self,
        place: &Place<'_>,
        inode: InodeNumber,
        same_attributes: bool,
    ) -> Result<(), Failure> {
        let status = &place.entry.status;
        if !same_attributes {
            let names = place.names();
            names.set_attributes(inode, status.attributes).map_err(place.failed())?;
            self.since_bytes += ENTRY_BYTES;
        }
        self.note_links(status, inode);
        self.tally.unchanged += 1;
        self.run.progress.advance(status.size);
        self.tally.entries += 1;
        self.tally.bytes = self.tally.bytes.saturating_add(status.size);
        Ok(())
    }

    /// Adds another name to a file that was stored before.
    fn link(&mut self, place: &Place<'_>) -> Result<(), Failure> {
        let status = &place.entry.status;
        let linked = self.linked.get_mut(&status.id);
        let Some(linked) = linked.filter(|linked| linked.status.is_same_file(status)) else {
            // The first name could not be read, or the file has changed or has gone since, and a new one may have its
            // inode number: this name has its own content.
            return self.content(place, place.entry.read(&self.run.tree));
        };
        let number = linked.number;
        linked.left -= 1;
        if linked.left == 0 {
            self.linked.remove(&status.id);
        }
        self.run.progress.advance(status.size);
        let existing = place.existing()?;
        if existing.as_ref().is_some_and(|(existing, _)| *existing == number) {
            self.tally.unchanged += 1;
            self.tally.entries += 1;
            return Ok(());
        }
        place.clear(existing.as_ref())?;
        place.names().add_link(place.directory, place.name(), number).map_err(place.failed())?;
        self.count(0);
        Ok(())
    }

    fn note_links(&mut self, status: &Status, number: InodeNumber) {
        let left = status.links.saturating_sub(1);
        if left > 0 && status.kind == Kind::Stored(EntryType::File) {
            self.linked.insert(status.id, Linked { status: *status, number, left });
        }
    }

    fn count(&mut self, bytes: u64) {
        self.tally.entries += 1;
        // The length of a sparse file may be as large as an offset can be.
        self.tally.bytes = self.tally.bytes.saturating_add(bytes);
        let cost = bytes.div_ceil(ENTRY_BYTES).max(1).saturating_mul(ENTRY_BYTES);
        self.since_bytes = self.since_bytes.saturating_add(cost);
    }

    fn skip(&mut self, path: &Path, reason: &str) {
        self.tally.skipped.push(JsonName::new(path.as_os_str().as_bytes()));
        self.run.progress.tell(&format!("ar7: {}: skipped: {reason}", Shown::path(path)));
    }

    /// Counts an entry of a dry run and prints what would be stored.
    fn would_store(&mut self, entry: &Entry, action: &Action) {
        let size = entry.status.size;
        match action {
            Action::Present { .. } => self.tally.unchanged += 1,
            Action::WouldStore => {
                self.tally.stored_files += 1;
                self.tally.stored_bytes = self.tally.stored_bytes.saturating_add(size);
                self.run.progress.tell(&format!("would store {}", Shown::path(&entry.path())));
            }
            Action::Directory(_) | Action::Store(_) | Action::Link => return self.count(0),
        }
        self.count(size);
    }

    fn make_destination(&self, session: &Session) -> Result<InodeNumber, Failure> {
        let names = session.archive.names();
        let into = self.run.options.into.as_deref().unwrap_or_default().as_bytes();
        if parts(into).next().is_none() {
            return Ok(InodeNumber::ROOT);
        }
        names
            .make_directories(into, directory_attributes())
            .map_err(|error| Failure::unresolved(into, error))
    }

    fn checkpoint(&mut self) -> Result<(), Failure> {
        let Some(session) = self.writing() else { return Ok(()) };
        session.archive.commit().map_err(session.named())?;
        self.since_bytes = 0;
        self.tally.checkpoints += 1;
        let Tally { checkpoints, entries, bytes, .. } = self.tally;
        self.committed = (entries, bytes);
        self.run
            .progress
            .tell(&format!("checkpoint {checkpoints}: {entries} entries, {bytes} bytes"));
        Ok(())
    }

    fn interrupted(&self) -> Failure {
        let (entries, bytes) = self.committed;
        let checkpoints = self.tally.checkpoints;
        let done = match checkpoints {
            0 => "nothing of this run is in the archive".to_owned(),
            _ => format!(
                "{entries} entries, {bytes} bytes are in the archive, as of checkpoint {checkpoints}"
            ),
        };
        Failure::Interrupted { archive: self.run.options.archive.clone(), done }
    }
}

/// Reads `wanted` bytes into the buffer, or fewer at the end of the file.
fn fill(file: &mut File, buffer: &mut Vec<u8>, wanted: u64) -> io::Result<usize> {
    buffer.clear();
    file.take(wanted).read_to_end(buffer)
}

/// Receives the content of an entry from its reader.
fn received(outcome: &Receiver<ReadOutcome>, entry: &Entry) -> ReadOutcome {
    outcome.recv().unwrap_or_else(|_| {
        let gone = io::Error::other("its reader ended early");
        Err(Failure::file(entry.path(), "read", gone))
    })
}

impl Place<'_> {
    fn name(&self) -> &[u8] {
        self.entry.name.as_bytes()
    }

    fn names(&self) -> Names<'_> {
        self.session.archive.names()
    }

    fn failed(&self) -> impl Fn(ar7_registry::Error) -> Failure + use<'_> {
        crate::session::at(&self.session.path)
    }

    /// Returns the existing entry of the archive at this place.
    fn existing(&self) -> Result<Option<(InodeNumber, Inode)>, Failure> {
        let names = self.names();
        match names.lookup(self.directory, self.name()).map_err(self.failed())? {
            Some(entry) => {
                let inode = names.inode(entry.inode).map_err(self.failed())?;
                let inode = inode.ok_or_else(|| self.entry.without_inode(entry.inode))?;
                Ok(Some((entry.inode, inode)))
            }
            None => Ok(None),
        }
    }

    /// Removes an existing entry that the new one cannot replace directly.
    fn clear(&self, existing: Option<&(InodeNumber, Inode)>) -> Result<(), Failure> {
        let names = self.names();
        match existing {
            None => Ok(()),
            Some((_, inode)) if inode.kind == EntryType::Directory => names
                .remove_tree(self.directory, self.name(), None, &mut |_| true)
                .map(drop)
                .map_err(self.failed()),
            Some(_) => names.remove(self.directory, self.name()).map_err(self.failed()),
        }
    }

    fn store_whole(&self, bytes: &[u8]) -> Result<Option<Uuid>, Failure> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut stream = self.session.archive.new_stream().map_err(self.failed())?;
        let identity = stream.identity();
        stream.write_at(0, bytes).map_err(self.failed())?;
        stream.close().map_err(self.failed())?;
        Ok(Some(identity))
    }

    /// Names the stream. This replaces the old version only after the new one was read completely.
    fn give(&self, status: &Status, stream: Option<Uuid>) -> Result<InodeNumber, Failure> {
        let names = self.names();
        let attributes = status.attributes;
        match self.existing()? {
            Some((number, inode)) if inode.kind == EntryType::File && inode.links == 1 => {
                names.replace_content(number, stream, attributes).map_err(self.failed())?;
                Ok(number)
            }
            existing => {
                self.clear(existing.as_ref())?;
                names
                    .add_file(self.directory, self.name(), attributes, stream)
                    .map_err(self.failed())
            }
        }
    }
}
