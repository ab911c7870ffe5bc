//! Everything a writer has in memory: the registry, the open streams, and what the meta slot holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use ar7_engine::Class;
use ar7_engine::format::{MetaSlot, Run, StoredStream, StreamLayout};
use ar7_engine::store::Writer;
use uuid::Uuid;

use super::flush;
use super::free_list;
use super::identities::Identities;
use super::pages::PageCache;
use super::registry::Registry;
use crate::error::{Error, Result};
use crate::records::{PendingDeletions, ReadRecords, Streams, reserved_index};
use crate::stream::OpenStream;

/// Changed blocks kept in memory at most: 4096 blocks are 16 MiB. As many again may be under way to the file.
const DIRTY_BLOCKS_MAX: usize = 4096;

/// The open streams, and closed ones whose blocks are not flushed yet. In order of identity, which is the order of
/// making: streams that were made together lie together.
pub(super) type OpenStreams = BTreeMap<Uuid, OpenStream>;

/// Everything a writer has in memory.
pub(crate) struct State {
    pub(crate) registry: Registry,
    pub(super) open: OpenStreams,
    pub(super) reserved: [StoredStream; 8],
    pub(super) metadata: Vec<u8>,
    pub(crate) counters: [u64; 8],
    /// Raised by a rollback: handles of an earlier epoch are stale.
    pub(super) epoch: u64,
    dirty_blocks: usize,
    pub(super) dirty_blocks_max: usize,
    identities: Identities,
    /// A failure that left the transaction half changed, or that nobody was there to be told of: whatever is asked for
    /// fails with it, until a commit has returned it too or there was a rollback.
    pub(super) failed: Option<Error>,
}

impl State {
    pub(super) fn new(writer: Writer, cache: Arc<PageCache>) -> State {
        let slot = writer.store().current().slot.clone();
        let mut state = State {
            registry: Registry::new(writer, cache),
            open: BTreeMap::new(),
            reserved: slot.reserved_streams.clone(),
            metadata: Vec::new(),
            counters: [0; 8],
            epoch: 0,
            dirty_blocks: 0,
            dirty_blocks_max: DIRTY_BLOCKS_MAX,
            identities: Identities::default(),
            failed: None,
        };
        state.take_slot(&slot);
        state
    }

    fn take_slot(&mut self, slot: &MetaSlot) {
        self.reserved.clone_from(&slot.reserved_streams);
        self.metadata.clone_from(&slot.metadata);
        self.counters = slot.counters;
    }

    /// The record of a stream as this transaction has it, flushed or not.
    pub(crate) fn stored(&self, identity: Uuid) -> Result<Option<StoredStream>> {
        if let Some(open) = self.open.get(&identity) {
            let mut stored = open.stored.clone();
            stored.record.count = open.count;
            stored.record.length = open.length;
            return Ok(Some(stored));
        }
        match reserved_index(identity) {
            Some(index) => Ok(Some(self.reserved[index].clone())),
            None => self.registry.get::<Streams>(&identity),
        }
    }

    /// A new identity, above all that were issued before, so that registering appends at the right edge.
    pub(super) fn new_identity(&mut self) -> Result<Uuid> {
        loop {
            let identity = self.identities.next()?;
            if !self.is_taken(identity)? {
                return Ok(identity);
            }
        }
    }

    /// Whether an identity cannot be given to a new stream: one has it, or one that is being freed had it, whose
    /// extents are still found by it.
    pub(super) fn is_taken(&self, identity: Uuid) -> Result<bool> {
        Ok(self.stored(identity)?.is_some()
            || self.registry.get::<PendingDeletions>(&identity)?.is_some())
    }

    /// Opens a stream for writing; it is closed with [`State::release_held`].
    pub(super) fn hold(&mut self, identity: Uuid) -> Result<()> {
        if let Some(open) = self.open.get_mut(&identity) {
            if open.held {
                return Err(Error::AlreadyOpen { stream: identity });
            }
            open.held = true;
            return Ok(());
        }
        let stored = self.stored(identity)?.ok_or(Error::NoStream { stream: identity })?;
        self.open.insert(identity, OpenStream::new(stored));
        Ok(())
    }

    /// Makes a stream and opens it.
    pub(super) fn hold_new(&mut self, stored: StoredStream) {
        let mut open = OpenStream::new(stored);
        open.changed = true;
        self.open.insert(open.stored.record.identity, open);
    }

    /// Ends the handle of a stream. Its blocks stay in memory until they are flushed with others.
    pub(crate) fn release_held(&mut self, identity: Uuid, epoch: u64, failed: Option<Error>) {
        if epoch != self.epoch {
            return;
        }
        self.failed = self.failed.take().or(failed);
        let Some(open) = self.open.get_mut(&identity) else { return };
        open.held = false;
        if !open.changed {
            self.open.remove(&identity);
        }
    }

    /// Looks at an open stream.
    pub(crate) fn read_held<T>(
        &self,
        identity: Uuid,
        epoch: u64,
        work: impl FnOnce(&OpenStream, &Registry) -> Result<T>,
    ) -> Result<T> {
        let open = self.open.get(&identity).filter(|_| epoch == self.epoch).ok_or(Error::Stale)?;
        work(open, &self.registry)
    }

    /// Changes an open stream. If it `adds` blocks and too many are in memory, these are flushed first; without space
    /// nothing is changed then. A failure half-way leaves only a rollback.
    pub(crate) fn change_held<T>(
        &mut self,
        identity: Uuid,
        epoch: u64,
        adds: bool,
        work: impl FnOnce(&mut OpenStream, &mut Registry) -> Result<T>,
    ) -> Result<T> {
        if adds && self.dirty_blocks > self.dirty_blocks_max {
            self.flush(false)?;
        }
        if epoch != self.epoch {
            return Err(Error::Stale);
        }
        let open = self.open.get_mut(&identity).ok_or(Error::Stale)?;
        let before = open.dirty.len();
        let outcome = work(open, &mut self.registry);
        self.dirty_blocks = self.dirty_blocks + open.dirty.len() - before;
        outcome.inspect_err(|error| {
            let refused = ar7_engine::Error::is_refusal;
            if !matches!(error, Error::Engine(error) if refused(error)) {
                self.fail(error);
            }
        })
    }

    /// Seals what is in memory and records the streams that are closed. With `tails`, everything, so
    /// that a commit can follow.
    ///
    /// Without space it fails and changes nothing; after any other failure the transaction can only be rolled
    /// back, which the next commit then does.
    pub(super) fn flush(&mut self, tails: bool) -> Result<()> {
        let prepared = flush::prepare(&mut self.registry, &self.open, tails);
        let prepared = prepared.inspect_err(|error| {
            if error.class() != Class::NoSpace {
                self.fail(error);
            }
        })?;
        let finished = self.finish_flush(&prepared, tails);
        finished.inspect_err(|error| self.fail(error))
    }

    /// The failure that has left only a rollback, if there was one.
    pub(super) fn check_whole(&self) -> Result<()> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Notes a failure that left the transaction half changed.
    pub(crate) fn fail(&mut self, error: &Error) {
        self.failed.get_or_insert_with(|| error.clone());
    }

    fn finish_flush(&mut self, prepared: &flush::Flush, tails: bool) -> Result<()> {
        flush::finish(&mut self.registry, &mut self.open, prepared)?;
        self.dirty_blocks = self.open.values().map(|open| open.dirty.len()).sum();
        let State { registry, open, reserved, .. } = self;
        // In order, so that new records are appended at the right edge of their tree.
        let identities: Vec<Uuid> = open.keys().copied().collect();
        for identity in identities {
            let stream = open.get_mut(&identity).expect("just listed");
            if stream.changed && (tails || !stream.held) {
                stream.stored.record.length = stream.length;
                match reserved_index(identity) {
                    Some(index) => reserved[index] = stream.stored.clone(),
                    None => {
                        registry.put::<Streams>(&identity, &stream.stored)?;
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

    /// Deletes a stream and recycles its blocks. Returns whether there was one; a reserved stream is not deleted.
    ///
    /// A stream of one run is freed at once; one of many extents moves to the dying streams, whose extents are
    /// freed a bounded number per commit, so that deleting never needs more than the reserve.
    pub(crate) fn delete_stream(&mut self, identity: Uuid) -> Result<bool> {
        if reserved_index(identity).is_some() {
            // The meta slot goes on naming its blocks. An inode may name one, if somebody with the key wrote it.
            return Ok(false);
        }
        if self.open.get(&identity).is_some_and(|open| open.held) {
            return Err(Error::AlreadyOpen { stream: identity });
        }
        let registered = self.registry.get::<Streams>(&identity)?;
        let open = self.open.remove(&identity);
        let exists = registered.is_some() || open.is_some();
        let stored = match open {
            Some(open) => {
                self.dirty_blocks -= open.dirty.len();
                if let Some(tail) = open.reserved_tail {
                    self.registry.free(Run::single(tail))?;
                }
                Some(open.stored)
            }
            None => registered.clone(),
        };
        if registered.is_some() {
            self.registry.remove::<Streams>(&identity)?;
        }
        if let Some(mut stored) = stored {
            // Nobody reads its bytes any more; cutting it may have left the length behind.
            stored.record.length = 0;
            match (stored.layout, stored.record.begin) {
                (StreamLayout::Extents, _) => {
                    self.registry.put::<PendingDeletions>(&identity, &stored)?;
                }
                (StreamLayout::OneRun(_), Some(begin)) => {
                    if let Some(run) = Run::new(begin, stored.record.count) {
                        self.registry.free(run)?;
                    }
                }
                (StreamLayout::OneRun(_), None) => {}
            }
        }
        Ok(exists)
    }

    /// Frees what is left of a deleted stream, so that one with its identity can be made.
    pub(super) fn purge_stream(&mut self, identity: Uuid) -> Result<()> {
        let purged = free_list::purge_stream(&mut self.registry, identity);
        purged.inspect_err(|error| self.fail(error))
    }

    /// Back to the last commit. Handles become stale.
    pub(super) fn rollback(&mut self) -> Result<()> {
        self.open.clear();
        self.dirty_blocks = 0;
        self.epoch += 1;
        self.registry.rollback()?;
        let slot = self.registry.store().current().slot.clone();
        self.take_slot(&slot);
        self.failed = None;
        Ok(())
    }
}
