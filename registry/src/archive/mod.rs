//! The archive: streams in one encrypted file, changed in transactions.

mod commit;
mod early;
mod filling;
mod flush;
mod identities;
mod keys;
mod orphans;
mod overlay;
mod overlays;
mod packing;
mod repack;
mod room;
mod savepoint;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod uncommitted;
mod unfinished;
mod unnamed;
mod wipe;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use ar7_engine::crypto::{KeyDerivation, Secret};
use ar7_engine::device::Device;
use ar7_engine::format::{
    ArchiveKind, Block, Generation, Position, RESERVED_STREAMS, StoredStream, Timestamp,
};
use ar7_engine::store::{self, Io, OpenOptions, Store, Unpublished, Writer};
use uuid::Uuid;

pub(crate) use overlays::HOLE_ONE_IN;
pub use savepoint::Savepoint;
pub(crate) use state::State;

use crate::committed::{Committed, DamagedCopies, Snapshot};
use crate::error::{Error, Result};
use crate::records::{
    COMPRESSION_COUNTER, LIVE_COUNTER, NEAR_PAGES_COUNTER, PACKED_COUNTER, Streams, TreeId,
    check_roots, reserved_index,
};

/// How to create an archive.
#[derive(Debug, Clone)]
pub struct CreateOptions {
    /// Single, fixed or dynamic.
    pub kind: ArchiveKind,
    /// Number of streams of a fixed archive; ignored for the other kinds.
    pub fixed_streams: u32,
    /// Cost of deriving a key from a passphrase.
    pub derivation: KeyDerivation,
    /// Label of the first key slot, up to 64 bytes.
    pub label: String,
    /// Whether to read through a memory map or with system calls.
    pub io: Io,
}

impl Default for CreateOptions {
    fn default() -> CreateOptions {
        let engine = store::CreateOptions::default();
        CreateOptions {
            kind: engine.kind,
            fixed_streams: 0,
            derivation: engine.derivation,
            label: engine.label,
            io: engine.io,
        }
    }
}

impl CreateOptions {
    fn engine(&self) -> store::CreateOptions {
        store::CreateOptions {
            kind: self.kind,
            derivation: self.derivation,
            label: self.label.clone(),
            io: self.io,
        }
    }
}

/// An open archive. A clone is another handle to the same archive. Any thread may use any handle.
///
/// A writer always has one open transaction: [`Archive::commit`] makes it durable and begins the next one.
/// [`Archive::rollback`] discards it, and so does dropping the last handle.
#[doc(alias = "StreamManager")]
#[doc(alias = "BaseStreamManager")]
#[doc(alias = "SingleStreamManager")]
#[doc(alias = "FixedMultiStreamManager")]
#[doc(alias = "DynamicMultiStreamManager")]
#[derive(Clone)]
pub struct Archive {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) committed: Arc<Committed>,
    /// `None` in a reader, and after the archive was closed.
    state: Mutex<Option<State>>,
    pub(crate) writer: bool,
}

/// Sizes and counts of an archive, as of the last commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statistics {
    /// Streams, except the reserved ones and packs.
    pub streams: u64,
    /// Names.
    pub names: u64,
    /// Inodes.
    pub inodes: u64,
    /// Extents of streams with more than one run.
    pub extents: u64,
    /// Deleted streams whose blocks are not all free yet.
    pub pending_deletions: u64,
    /// Blocks in use or free, including the reserved ones.
    pub blocks: u32,
    /// Free blocks.
    pub free_blocks: u64,
    /// Pages of which one bad MiB could destroy both copies. In a file over 2 MiB, each commit moves
    /// some of them.
    pub near_pages: u64,
    /// Packs.
    pub packs: u64,
    /// Number of bytes that frames use in packs.
    pub packed_bytes: u64,
    /// How many of these bytes belong to no file any more.
    pub dead_bytes: u64,
    /// Length of the file in bytes.
    pub file_bytes: u64,
    /// Generation of the commit.
    pub generation: Generation,
    /// Number of the commit.
    pub commit: u64,
}

impl Archive {
    /// Creates an archive in a new file and opens it for writing. Fails if the file exists.
    pub fn create(path: &Path, secret: &Secret, options: &CreateOptions) -> Result<Archive> {
        let (store, writer) = Store::create(path, secret, &options.engine())?;
        Archive::from_created(store, writer, options)
    }

    /// Creates an archive in a new file that has a temporary name until [`Unpublished::publish`] is called, after the
    /// archive was closed. Fails if a file has the final name.
    pub fn create_unpublished(
        path: &Path,
        secret: &Secret,
        options: &CreateOptions,
    ) -> Result<(Archive, Unpublished)> {
        let engine = options.engine();
        let (store, writer, unpublished) = Store::create_unpublished(path, secret, &engine)?;
        Ok((Archive::from_created(store, writer, options)?, unpublished))
    }

    /// Creates an archive on an empty device and opens it for writing.
    pub fn create_device(
        device: Box<dyn Device>,
        secret: &Secret,
        options: &CreateOptions,
    ) -> Result<Archive> {
        let (store, writer) = Store::create_device(device, secret, &options.engine())?;
        Archive::from_created(store, writer, options)
    }

    /// Opens the archive in a file.
    pub fn open(path: &Path, secret: &Secret, options: OpenOptions) -> Result<Archive> {
        let (store, writer) = Store::open(path, secret, options)?;
        Archive::from_opened(store, writer)
    }

    /// Opens the archive on a device.
    pub fn open_device(
        device: Box<dyn Device>,
        secret: &Secret,
        options: OpenOptions,
    ) -> Result<Archive> {
        let (store, writer) = Store::open_device(device, secret, options)?;
        Archive::from_opened(store, writer)
    }

    fn from_opened(store: Arc<Store>, writer: Option<Writer>) -> Result<Archive> {
        check_roots(&store.current().slot.roots)?;
        let archive = Archive::new(store, writer);
        if archive.inner.writer {
            archive.state()?.writing()?.settle_sessions();
        }
        Ok(archive)
    }

    fn new(store: Arc<Store>, writer: Option<Writer>) -> Archive {
        let committed = Arc::new(Committed::new(store));
        let is_writer = writer.is_some();
        let state = writer.map(|writer| State::new(writer, Arc::clone(&committed.cache)));
        let inner = Inner { committed, state: Mutex::new(state), writer: is_writer };
        Archive { inner: Arc::new(inner) }
    }

    fn from_created(store: Arc<Store>, writer: Writer, options: &CreateOptions) -> Result<Archive> {
        let archive = Archive::new(store, Some(writer));
        if options.kind == ArchiveKind::Fixed {
            let mut state = archive.state()?;
            let writing = state.writing()?;
            for _ in 0..options.fixed_streams {
                let identity = writing.new_identity()?;
                let stored = StoredStream::empty(identity);
                writing.trees.put::<Streams>(&identity, &stored)?;
            }
            writing.commit()?;
        }
        Ok(archive)
    }

    /// Limits the dirty blocks and pages in memory, so that a small archive is flushed as often as
    /// a large one.
    #[cfg(feature = "testing")]
    pub fn set_memory_limits(&self, dirty_blocks: usize, dirty_pages: usize) -> Result<()> {
        let mut state = self.state()?;
        let writing = state.writing()?;
        writing.dirty_blocks_max = dirty_blocks;
        writing.trees.dirty_pages_max = dirty_pages;
        Ok(())
    }

    /// Gives the streams created from now on identities of these milliseconds since 1970, each one
    /// millisecond later than the one before. The keys of a page share a prefix, so its layout
    /// otherwise depends on the hour.
    #[cfg(feature = "testing")]
    pub fn set_time_of_identities(&self, milliseconds: u64) -> Result<()> {
        let mut state = self.state()?;
        state.writing()?.identities.time = Some(milliseconds);
        Ok(())
    }

    /// Returns the archive's kind.
    pub fn kind(&self) -> ArchiveKind {
        self.store().header().kind
    }

    /// Returns the time of creation.
    #[doc(alias = "created")]
    pub fn created_at(&self) -> Timestamp {
        self.store().created()
    }

    /// Returns the archive's identity.
    pub fn id(&self) -> Uuid {
        self.store().header().archive
    }

    /// Returns whether the archive was closed. The specification calls it `closed`.
    #[doc(alias = "closed")]
    pub fn is_closed(&self) -> bool {
        self.inner.writer && self.state().is_ok_and(|state| state.0.is_none())
    }

    /// Returns whether this handle may change the archive.
    pub fn is_writer(&self) -> bool {
        self.inner.writer
    }

    /// Returns the engine's store, which holds the blocks.
    pub fn store(&self) -> &Arc<Store> {
        &self.inner.committed.store
    }

    /// Returns the newest committed state.
    pub fn snapshot(&self) -> Snapshot {
        self.inner.committed.snapshot()
    }

    /// Moves a reader to the newest commit of a writer in another process. Returns whether there was
    /// a newer one. Snapshots that are held, and streams that are open, stay at their commit.
    pub fn refresh(&self) -> Result<bool> {
        Ok(self.store().refresh()?)
    }

    /// Makes everything since the last commit durable. An error rolls all of it back. If the medium
    /// failed, the archive is unusable until it is opened again.
    #[doc(alias = "save_meta")]
    pub fn commit(&self) -> Result<()> {
        self.finish_transaction(State::commit_and_repack)
    }

    /// Commits, then frees the blocks of all pending deletions, in several commits if necessary.
    pub fn reclaim(&self) -> Result<()> {
        while self.finish_transaction(State::commit_purging)? {}
        while self.finish_transaction(|state| Ok(state.repack_after_commit()))? {}
        Ok(())
    }

    /// Opens both copies of every index page, and gives each page with one bad copy new positions.
    /// Commits. What has no good copy, and what there is no room for, stays as it is.
    pub fn heal(&self) -> Result<()> {
        self.finish_transaction(State::heal)
    }

    /// Makes a commit without a redo list. Once it is durable, every block is in its home location.
    pub(crate) fn clear_redo_list(&self) -> Result<()> {
        self.finish_transaction(State::commit_without_redo)
    }

    /// Makes the commits of closing.
    pub(crate) fn settle(&self) -> Result<()> {
        self.finish_transaction(State::commit_closing)
    }

    /// Closes the archive without a commit, after [`Archive::settle`].
    pub(crate) fn close_settled(self) -> Result<()> {
        let state = self.state()?.0.take().ok_or(Error::Closed)?;
        state.trees.finish()
    }

    pub(crate) fn finish_transaction<T>(
        &self,
        work: impl FnOnce(&mut State) -> Result<T>,
    ) -> Result<T> {
        let mut state = self.state()?;
        let writing = state.failed_or_writing()?;
        let outcome = writing.check_not_failed().and_then(|()| work(writing));
        outcome.inspect_err(|_| {
            // If the store is unusable, the rollback fails too; every later call then returns the
            // reason.
            let _ = writing.rollback();
        })
    }

    /// Discards everything since the last commit. Open handles of streams become stale.
    pub fn rollback(&self) -> Result<()> {
        self.state()?.failed_or_writing()?.rollback()
    }

    /// Closes the archive, discards the open transaction, and trims the file to the blocks in use.
    pub fn close(self) -> Result<()> {
        if !self.inner.writer {
            return Ok(());
        }
        let mut state = self.state()?.0.take().ok_or(Error::Closed)?;
        if state.is_changed() || !state.open.is_empty() {
            state.rollback()?;
        }
        state.commit_closing()?;
        state.trees.finish()
    }

    /// Returns the application's own metadata. The specification calls it `meta`.
    #[doc(alias = "meta")]
    pub fn metadata(&self) -> Result<Vec<u8>> {
        if !self.inner.writer {
            return Ok(self.store().current().slot.metadata.clone());
        }
        Ok(self.state()?.writing()?.metadata.clone())
    }

    /// Returns the number that [`Archive::set_compression`] stored, 0 at first.
    pub fn compression(&self) -> Result<u64> {
        if !self.inner.writer {
            return Ok(self.store().current().slot.counters[COMPRESSION_COUNTER]);
        }
        Ok(self.state()?.writing()?.trees.counters()[COMPRESSION_COUNTER])
    }

    /// Sets how new packed content is compressed, and stores the choice as a number: 0 automatic, 1 none, so that frames
    /// are raw, 2 and more a level of Zstandard plus 1.
    pub fn set_compression(&self, choice: u64) -> Result<()> {
        *self.state()?.writing()?.trees.counter_mut(COMPRESSION_COUNTER) = choice;
        Ok(())
    }

    /// Sets the application's own metadata, up to [`ar7_engine::format::METADATA_MAX`] bytes.
    pub fn set_metadata(&self, metadata: &[u8]) -> Result<()> {
        if metadata.len() > ar7_engine::format::METADATA_MAX {
            return Err(ar7_engine::Error::OutOfBounds {
                what: "length of the metadata in bytes",
                found: metadata.len().into(),
                allowed: (0..=ar7_engine::format::METADATA_MAX).into(),
            }
            .into());
        }
        self.state()?.writing()?.metadata = metadata.to_vec();
        Ok(())
    }

    /// Deletes a stream and frees its blocks. Returns whether the stream existed. Only a dynamic
    /// archive allows it, and only for streams that are not reserved.
    #[doc(alias = "del_stream")]
    pub fn delete_stream(&self, identity: Uuid) -> Result<bool> {
        self.check_kind("deleting streams")?;
        if reserved_index(identity).is_some() {
            let operation = "deleting reserved streams";
            return Err(Error::KindForbids { kind: self.kind(), operation });
        }
        let mut state = self.state()?;
        let writing = state.writing()?;
        let deleted = writing.delete_stream(identity);
        // Any other error is a refusal that changed nothing.
        deleted.inspect_err(|error| {
            if matches!(error, Error::Engine(_)) {
                writing.fail(error);
            }
        })
    }

    /// Opens one of the eight reserved blocks, 0 to 7. Fails for the header and its copy, which are
    /// not sealed.
    #[doc(alias = "special_block")]
    #[doc(alias = "BLOCK_META")]
    pub fn reserved_block(&self, index: u32) -> Result<Block> {
        let position = Position::new(index).ok_or(Error::NoReservedBlock { index })?;
        Ok(self.store().reserved_block(position)?)
    }

    /// Returns up to `limit` streams with identities above `after`, in ascending order.
    pub fn streams(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<StoredStream>> {
        self.snapshot().streams(after).take(limit).collect()
    }

    /// Returns the copies of index pages that are found damaged while the other copy is good, and the
    /// third copies that a verification finds torn, as a crash leaves them. A writer replaces them in
    /// its next commit.
    pub fn damaged_copies(&self) -> DamagedCopies {
        self.inner.committed.cache.damaged_copies()
    }

    /// Returns sizes and counts as of the last commit.
    pub fn statistics(&self) -> Result<Statistics> {
        let snapshot = self.snapshot();
        let slot = &snapshot.commit().slot;
        let entries = |tree: TreeId| slot.roots[tree.index()].entries;
        Ok(Statistics {
            streams: entries(TreeId::Streams).saturating_sub(entries(TreeId::Packs)),
            names: entries(TreeId::Names),
            inodes: entries(TreeId::Inodes),
            extents: entries(TreeId::Extents),
            pending_deletions: entries(TreeId::PendingDeletions) + entries(TreeId::DeadSlices),
            blocks: slot.block_count,
            free_blocks: snapshot.free_blocks(),
            near_pages: slot.counters[NEAR_PAGES_COUNTER],
            packs: entries(TreeId::Packs),
            packed_bytes: slot.counters[PACKED_COUNTER],
            dead_bytes: slot.counters[PACKED_COUNTER].saturating_sub(slot.counters[LIVE_COUNTER]),
            file_bytes: self.store().file_bytes()?,
            generation: slot.generation,
            commit: slot.number,
        })
    }

    pub(crate) fn state(&self) -> Result<StateGuard<'_>> {
        self.inner.state()
    }

    /// Returns the number of reserved streams that the archive uses internally.
    fn internal_streams(&self) -> usize {
        match self.kind() {
            ArchiveKind::Single => 0,
            ArchiveKind::Fixed => 1,
            ArchiveKind::Dynamic => 2,
        }
    }

    /// Fails if the archive uses this stream internally.
    pub(crate) fn check_not_internal(&self, identity: Uuid) -> Result<()> {
        match reserved_index(identity) {
            Some(index) if index < self.internal_streams() => Err(self.no_reserved_stream(index)),
            _ => Ok(()),
        }
    }

    pub(crate) fn no_reserved_stream(&self, index: usize) -> Error {
        Error::NoReservedStream {
            index,
            first: self.internal_streams(),
            last: RESERVED_STREAMS - 1,
        }
    }

    pub(crate) fn check_kind(&self, operation: &'static str) -> Result<()> {
        match self.kind() {
            ArchiveKind::Dynamic => Ok(()),
            kind => Err(Error::KindForbids { kind, operation }),
        }
    }
}

/// The locked state of a writer.
pub(crate) struct StateGuard<'a>(MutexGuard<'a, Option<State>>);

impl StateGuard<'_> {
    /// Returns the state. Fails if the archive is closed or unusable, or if only a rollback is
    /// possible.
    pub(crate) fn writing(&mut self) -> Result<&mut State> {
        let state = self.failed_or_writing()?;
        state.check_not_failed()?;
        Ok(state)
    }

    /// Returns the state, even if only a rollback is possible.
    pub(crate) fn failed_or_writing(&mut self) -> Result<&mut State> {
        let state = self.0.as_mut().ok_or(Error::Closed)?;
        state.trees.store().check_usable()?;
        Ok(state)
    }
}

impl Inner {
    pub(crate) fn state(&self) -> Result<StateGuard<'_>> {
        if !self.writer {
            return Err(ar7_engine::Error::ReadOnly.into());
        }
        self.state.lock().map(StateGuard).map_err(|_| Error::Panicked)
    }
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Archive").field("store", self.store()).finish_non_exhaustive()
    }
}
