//! The state of a writer in memory: the working trees, the open streams, and the rest of the next
//! meta slot.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::Range;
use std::sync::Arc;

use ar7_engine::Class;
use ar7_engine::format::{MetaSlot, Run, StoredStream, StreamLayout};
use ar7_engine::store::{Urgency, Writer};
use uuid::Uuid;

use super::filling::Packing;
use super::flush;
use super::identities::Identities;
use super::orphans::Orphans;
use super::overlay::Overlay;
use super::unfinished::Unfinished;
use crate::blocks::{OpenStream, OpenStreams};
use crate::committed::PageCache;
use crate::error::{Error, Result};
use crate::records::{
    EntryType, Inode, InodeNumber, Inodes, PACK_OWNER, PendingDeletions, ReadRecords, Streams,
    reserved_index,
};
use crate::working::WorkingTrees;

/// Most dirty blocks in memory: 4096 blocks are 16 MiB. Up to the same number may be in in-flight
/// writes.
const DIRTY_BLOCKS_MAX: usize = 4096;

/// The state of a writer in memory.
pub(crate) struct State {
    pub(crate) trees: WorkingTrees,
    pub(crate) open: OpenStreams,
    pub(crate) reserved: [StoredStream; 8],
    pub(super) metadata: Vec<u8>,
    /// Raised by each rollback. Handles from an earlier epoch are stale.
    epoch: u64,
    pub(super) dirty_blocks: usize,
    pub(super) dirty_blocks_max: usize,
    /// Number of blocks that were sealed since the last commit, except for those of files that are open without a name.
    pub(super) sealed_blocks: u64,
    /// Number of parts of deleted content that the last commit has freed.
    pub(super) purged: usize,
    pub(super) identities: Identities,
    pub(super) packing: Packing,
    pub(super) unfinished: Unfinished,
    pub(super) orphans: Orphans,
    /// Changes of packed files with holes.
    pub(super) overlays: BTreeMap<InodeNumber, Overlay>,
    /// A failure that left the transaction half changed, or that a dropped stream could not return.
    /// Every later call fails with it until a commit has returned it or a rollback has cleared it.
    pub(super) failed: Option<Error>,
}

impl State {
    pub(super) fn new(writer: Writer, cache: Arc<PageCache>) -> State {
        let slot = writer.store().current().slot.clone();
        let mut state = State {
            trees: WorkingTrees::new(writer, cache),
            open: OpenStreams::new(),
            reserved: slot.reserved_streams.clone(),
            metadata: Vec::new(),
            epoch: 0,
            dirty_blocks: 0,
            dirty_blocks_max: DIRTY_BLOCKS_MAX,
            sealed_blocks: 0,
            purged: 0,
            identities: Identities::default(),
            packing: Packing::default(),
            unfinished: Unfinished::default(),
            orphans: Orphans::default(),
            overlays: BTreeMap::new(),
            failed: None,
        };
        state.take_slot(&slot);
        state
    }

    fn take_slot(&mut self, slot: &MetaSlot) {
        self.reserved.clone_from(&slot.reserved_streams);
        self.metadata.clone_from(&slot.metadata);
    }

    /// Returns the record of a stream in the open transaction, flushed or not.
    pub(crate) fn stored(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        if let Some(open) = self.open.get(&identity) {
            return Ok(Some(open.record()));
        }
        match reserved_index(identity) {
            Some(index) => Ok(Some(self.reserved[index].clone())),
            None => self.trees.get::<Streams>(&identity),
        }
    }

    /// Returns the length of an open stream in bytes, if it is the content of inode `number`.
    pub(crate) fn open_length(&self, identity: Uuid, number: InodeNumber) -> Option<u64> {
        let open = self.open.get(&identity).filter(|open| is_content(&open.stored, number))?;
        Some(open.stored.record.length)
    }

    /// Records that a stream is the content of inode `number`, or contains its extended attributes.
    pub(crate) fn take_content(&mut self, identity: Uuid, number: InodeNumber) -> Result<()> {
        let inode = NonZeroU64::new(number.0);
        if let Some(open) = self.open.get_mut(&identity) {
            (open.stored.inode, open.changed) = (inode, true);
            return Ok(());
        }
        let stored = self.trees.get::<Streams>(&identity)?;
        let stored = stored.ok_or(Error::NoStream { stream: identity })?;
        self.trees.put::<Streams>(&identity, &StoredStream { inode, ..stored })?;
        Ok(())
    }

    /// Returns a new identity. It is greater than all issued before, so that new records go to the
    /// right edge of their tree.
    pub(crate) fn new_identity(&mut self) -> Result<Uuid> {
        loop {
            let identity = self.identities.next()?;
            if !self.is_taken(identity)? {
                return Ok(identity);
            }
        }
    }

    /// Returns whether a new stream cannot have an identity: a stream has it, or extents of a
    /// pending deletion are still recorded under it.
    pub(super) fn is_taken(&self, identity: Uuid) -> Result<bool> {
        Ok(self.stored(identity)?.is_some()
            || self.trees.get::<PendingDeletions>(&identity)?.is_some())
    }

    /// Opens a stream for writing. Returns the epoch of the handle; [`State::release_held`] ends
    /// the handle.
    ///
    /// Fails with [`Error::StreamIsNamed`] for the target of a symbolic link and for extended
    /// attributes, which never change in place.
    pub(crate) fn hold(&mut self, identity: Uuid) -> Result<u64> {
        let stored = self.stored(identity)?.ok_or(Error::NoStream { stream: identity })?;
        if stored.inode == Some(PACK_OWNER) {
            return Err(Error::StreamIsNamed { stream: identity, inode: PACK_OWNER.get() });
        }
        if let Some(inode) = stored.inode
            && let Some(found) = self.trees.get::<Inodes>(&InodeNumber(inode.get()))?
            && (found.kind == EntryType::Symlink || found.extended.stream() == Some(identity))
        {
            return Err(Error::StreamIsNamed { stream: identity, inode: inode.get() });
        }
        match self.open.get_mut(&identity) {
            Some(open) if open.held => return Err(Error::AlreadyOpen { stream: identity }),
            Some(open) => open.held = true,
            None => {
                self.open.insert(identity, OpenStream::new(stored));
            }
        }
        Ok(self.epoch)
    }

    /// Opens a new stream for writing. Returns the epoch of the handle.
    pub(crate) fn hold_new(&mut self, identity: Uuid) -> u64 {
        self.hold_as(StoredStream::empty(identity))
    }

    /// Opens a new stream with this record for writing. Returns the epoch of the handle.
    pub(super) fn hold_as(&mut self, stored: StoredStream) -> u64 {
        let identity = stored.record.identity;
        let mut open = OpenStream::new(stored);
        open.changed = true;
        self.open.insert(identity, open);
        self.epoch
    }

    /// Ends the handle of a stream. Its blocks stay in memory until the next flush. If saving it
    /// failed, `failed` is the reason, which the next call returns.
    pub(crate) fn release_held(&mut self, identity: Uuid, epoch: u64, failed: Option<Error>) {
        if epoch != self.epoch {
            return;
        }
        self.failed = self.failed.take().or(failed);
        if self.orphans.contains(identity) {
            if let Err(error) = self.end_orphan(identity) {
                self.fail(&error);
            }
            return;
        }
        let Some(open) = self.open.get_mut(&identity) else { return };
        open.held = false;
        if !open.changed {
            self.open.remove(&identity);
        }
    }

    /// Passes an open stream to `work`.
    pub(crate) fn read_held<T>(
        &self,
        identity: Uuid,
        epoch: u64,
        work: impl FnOnce(&OpenStream, &WorkingTrees) -> Result<T>,
    ) -> Result<T> {
        let open = self.open.get(&identity).filter(|_| epoch == self.epoch).ok_or(Error::Stale)?;
        work(open, &self.trees)
    }

    /// Changes an open stream. If the change `adds` blocks and too many are in memory, flushes
    /// first. A lack of space changes nothing, nor do readers that hold too much. After any
    /// other failure the transaction can only be rolled back.
    ///
    /// `touched` returns the blocks of the stream that the change may dirty.
    pub(crate) fn change_held<T>(
        &mut self,
        (identity, epoch): (Uuid, u64),
        adds: bool,
        touched: impl FnOnce(&OpenStream) -> Range<u32>,
        work: impl FnOnce(&mut OpenStream, &mut WorkingTrees) -> Result<T>,
    ) -> Result<T> {
        if epoch != self.epoch {
            return Err(Error::Stale);
        }
        let touched = touched(self.open.get(&identity).ok_or(Error::Stale)?);
        if adds && self.dirty_blocks > self.dirty_blocks_max {
            self.flush(false)?;
        }
        self.check_readers(identity, touched)?;
        let open = self.open.get_mut(&identity).ok_or(Error::Stale)?;
        let before = open.dirty.len();
        let outcome = work(open, &mut self.trees);
        self.dirty_blocks = self.dirty_blocks + open.dirty.len() - before;
        outcome.inspect_err(|error| {
            let refused = ar7_engine::Error::is_refusal;
            if !matches!(error, Error::Engine(error) if refused(error)) {
                self.fail(error);
            }
        })
    }

    /// Fails with [`ar7_engine::Error::HeldByReaders`] if readers hold back so much that changed
    /// blocks of the last commit could not be written. The commit would fail then, and roll back
    /// everything else too.
    fn check_readers(&mut self, identity: Uuid, touched: Range<u32>) -> Result<()> {
        let checked = self.trees.writer().check_changes(self.dirty_blocks + touched.len());
        if !matches!(checked, Err(ar7_engine::Error::HeldByReaders { .. })) {
            return Ok(checked?);
        }
        // Not every dirty block needs a shadow block. After a flush, those that do have one.
        self.flush(false)?;
        let open = self.open.get(&identity).ok_or(Error::Stale)?;
        let mut missing = 0;
        for index in touched.start..touched.end.min(open.placed()) {
            let position = open.position(&self.trees, index)?;
            missing += usize::from(self.trees.writer().needs_shadow(position));
        }
        if missing > 0 {
            self.trees.writer().check_changes(missing)?;
        }
        Ok(())
    }

    /// Seals the dirty blocks and records the closed streams. With `tails` it records all streams,
    /// so that a commit can follow.
    ///
    /// A lack of space changes nothing, nor do readers that hold too much. After any other failure
    /// the transaction can only be rolled back, which the next commit does.
    pub(crate) fn flush(&mut self, tails: bool) -> Result<()> {
        if tails {
            self.settle_overlays()?;
            self.finish_packing()?;
            self.pad_orphans().inspect_err(|error| self.fail(error))?;
        }
        // A file that is open without a name may need a second block, to be deleted.
        let is_deleted = |stream: &Uuid| self.orphans.contains(*stream);
        let mut dirty = self.open.iter().filter(|(_, open)| open.dirty.len() > 0);
        let only_deleted = dirty.all(|(stream, _)| is_deleted(stream));
        let urgency = if only_deleted { Urgency::Reserve } else { Urgency::Ordinary };
        let prepared = flush::prepare(&mut self.trees, &self.open, tails, urgency);
        let prepared = prepared.inspect_err(|error| {
            if !matches!(error.class(), Class::NoSpace | Class::HeldByReaders) {
                self.fail(error);
            }
        })?;
        let finished = self.finish_flush(&prepared, tails);
        finished.inspect_err(|error| self.fail(error))
    }

    /// Fails if only a rollback is possible after an earlier failure.
    pub(super) fn check_not_failed(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Remembers a failure that left the transaction half changed.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.failed.get_or_insert_with(|| error.clone());
    }

    fn finish_flush(&mut self, prepared: &flush::Flush, tails: bool) -> Result<()> {
        flush::finish(&mut self.trees, &mut self.open, prepared)?;
        let is_named = |stream| !self.orphans.contains(stream);
        self.sealed_blocks += prepared.blocks_of(is_named);
        self.dirty_blocks = self.open.values().map(|open| open.dirty.len()).sum();
        let State { trees, open, reserved, orphans, .. } = self;
        // Ascending order appends new records at the right edge of their tree.
        let identities: Vec<Uuid> = open.keys().copied().collect();
        for identity in identities {
            let stream = open.get_mut(&identity).expect("just listed");
            if stream.changed && (tails || !stream.held) {
                record_size(trees, &stream.stored)?;
                match reserved_index(identity) {
                    Some(index) => reserved[index] = stream.stored.clone(),
                    None if orphans.contains(identity) => {
                        orphans.record(trees, &mut stream.stored)?;
                    }
                    None => {
                        trees.put::<Streams>(&identity, &stream.stored)?;
                    }
                }
                stream.changed = false;
            }
            if !stream.held && !stream.changed {
                open.remove(&identity);
            }
        }
        Ok(())
    }

    /// Deletes a stream, unless it is the content of an inode. Returns whether the stream existed.
    pub(crate) fn delete_stream(&mut self, identity: Uuid) -> Result<bool> {
        let Some(stored) = self.stored(identity)? else { return Ok(false) };
        match stored.inode {
            Some(inode) => Err(Error::StreamIsNamed { stream: identity, inode: inode.get() }),
            None => self.delete(identity),
        }
    }

    /// Deletes a stream of inode `number`. A stream whose record does not name this inode stays:
    /// only an attacker with the key can have made the inode refer to it.
    pub(crate) fn delete_content(&mut self, identity: Uuid, number: InodeNumber) -> Result<()> {
        if self.stored(identity)?.is_some_and(|stored| is_content(&stored, number)) {
            self.delete(identity)?;
        }
        Ok(())
    }

    /// Deletes a stream and frees its blocks. Returns whether the stream existed. A reserved stream
    /// is never deleted.
    ///
    /// A stream of one run is freed at once. A stream with extents becomes a pending deletion: each
    /// commit frees a bounded number of extents, so that deleting never needs more than the reserve
    /// blocks.
    pub(super) fn delete(&mut self, identity: Uuid) -> Result<bool> {
        if reserved_index(identity).is_some() {
            // The meta slot holds its record. An inode refers to it only if an attacker with the
            // key wrote the inode.
            return Ok(false);
        }
        if self.open.get(&identity).is_some_and(|open| open.held) {
            return Err(Error::AlreadyOpen { stream: identity });
        }
        let registered = self.trees.get::<Streams>(&identity)?;
        let open = self.open.remove(&identity);
        let exists = registered.is_some() || open.is_some();
        let stored = match open {
            Some(open) => {
                self.dirty_blocks -= open.dirty.len();
                if let Some(tail) = open.reserved_tail {
                    self.trees.free(Run::single(tail))?;
                }
                Some(open.stored)
            }
            None => registered.clone(),
        };
        if registered.is_some() {
            self.trees.remove::<Streams>(&identity)?;
        }
        if let Some(mut stored) = stored {
            // Its bytes are no longer read. Truncation may have left a length that exceeds the
            // blocks.
            stored.record.length = 0;
            stored.inode = None;
            match (stored.layout, stored.record.begin) {
                (StreamLayout::Extents, _) => {
                    self.trees.put::<PendingDeletions>(&identity, &stored)?;
                }
                (StreamLayout::OneRun(_), Some(begin)) => {
                    if let Some(run) = Run::new(begin, stored.record.count) {
                        self.trees.free(run)?;
                    }
                }
                (StreamLayout::OneRun(_), None) => {}
            }
        }
        Ok(exists)
    }

    /// Frees the remaining blocks of a pending deletion, so that a new stream can have its
    /// identity.
    pub(crate) fn purge_stream(&mut self, identity: Uuid) -> Result<()> {
        let purged = self.trees.purge_stream(identity);
        purged.inspect_err(|error| self.fail(error))
    }

    /// Returns to the last commit. Open handles become stale.
    pub(crate) fn rollback(&mut self) -> Result<()> {
        self.forget_open();
        self.trees.rollback()?;
        let slot = self.trees.store().current().slot.clone();
        self.take_slot(&slot);
        self.sealed_blocks = 0;
        self.failed = None;
        Ok(())
    }

    /// Forgets the dirty blocks of a stream that is no longer open.
    pub(super) fn forget_dirty(&mut self, open: &OpenStream) {
        self.dirty_blocks -= open.dirty.len();
    }

    /// Forgets the open streams and what was written to them. Their handles become stale.
    pub(super) fn forget_open(&mut self) {
        self.open.clear();
        self.orphans.clear();
        self.overlays.clear();
        self.forget_packing();
        self.unfinished.slices.clear();
        self.dirty_blocks = 0;
        self.epoch += 1;
    }
}

fn is_content(stored: &StoredStream, number: InodeNumber) -> bool {
    stored.inode.is_some_and(|inode| inode.get() == number.0)
}

/// Records the length of a stream in the inode that has it as content.
fn record_size(trees: &mut WorkingTrees, stored: &StoredStream) -> Result<()> {
    let Some(number) = stored.inode.map(|inode| InodeNumber(inode.get())) else { return Ok(()) };
    let (identity, size) = (stored.record.identity, stored.record.length);
    let found = trees.get::<Inodes>(&number)?;
    let is_behind = |inode: &Inode| inode.stream == Some(identity) && inode.size != size;
    if let Some(inode) = found.filter(is_behind) {
        trees.put::<Inodes>(&number, &Inode { size, ..inode })?;
    }
    Ok(())
}
