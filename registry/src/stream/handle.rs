//! The handle of a stream, which reads and writes at any offset.

use std::ops::Range;
use std::sync::Arc;

use ar7_engine::format::{Block, BlockHead, BlockIndex, OwnedData, Position, StoredStream};
use arc_swap::ArcSwap;
use uuid::Uuid;

use super::content::Content;
use super::pinned::{PinnedStream, read_sealed, recorded};
use crate::archive::{Archive, Inner};
use crate::blocks::{OpenStream, Reading, locate, read_blocks, too_long};
use crate::committed::Snapshot;
use crate::error::Result;
use crate::working::WorkingTrees;

/// Number of bytes written while the lock is held once. It bounds the memory for a write of any
/// size.
const STEP: u64 = 4 << 20;

/// An open stream.
///
/// It reads and writes bytes at any offset. It is also the specification's cursor, which moves
/// block by block: [`Stream::wind`], [`Stream::next_block`], [`Stream::data`] and others.
#[doc(alias = "BaseStream")]
#[doc(alias = "DataStream")]
#[doc(alias = "InternalStream")]
pub struct Stream {
    pub(crate) inner: Arc<Inner>,
    identity: Uuid,
    backing: Backing,
    /// Index of the cursor's block.
    pub(super) index: u32,
    /// Data of that block after it was read, and whether it was changed.
    pub(super) current: Option<(OwnedData, bool)>,
}

enum Backing {
    /// In a writer: the state of the open transaction.
    Writing { epoch: u64 },
    /// In a reader: the state of one commit.
    Pinned(PinnedStream),
    /// In a writer: the state of the newest commit. The handle holds no snapshot, because an idle
    /// handle would then pin a commit.
    Newest(ArcSwap<View>),
}

/// The record of a stream in one commit.
struct View {
    commit: u64,
    stored: StoredStream,
}

impl Stream {
    pub(super) fn writing(archive: &Archive, identity: Uuid, epoch: u64) -> Stream {
        Stream::new(archive, identity, Backing::Writing { epoch })
    }

    pub(super) fn reading(archive: &Archive, identity: Uuid) -> Result<Stream> {
        let pinned = archive.snapshot().read_stream(identity)?;
        let backing = if archive.is_writer() {
            let commit = pinned.snapshot().commit().slot.number;
            let stored = pinned.stored().clone();
            Backing::Newest(ArcSwap::from_pointee(View { commit, stored }))
        } else {
            Backing::Pinned(pinned)
        };
        Ok(Stream::new(archive, identity, backing))
    }

    fn new(archive: &Archive, identity: Uuid, backing: Backing) -> Stream {
        Stream { inner: Arc::clone(&archive.inner), identity, backing, index: 0, current: None }
    }

    /// Returns the stream's identity.
    pub fn identity(&self) -> Uuid {
        self.identity
    }

    /// Returns the archive of the stream. The specification calls it `manager`.
    #[doc(alias = "manager")]
    pub fn archive(&self) -> Archive {
        Archive { inner: Arc::clone(&self.inner) }
    }

    /// Returns whether this handle can change the stream.
    pub fn is_writable(&self) -> bool {
        matches!(self.backing, Backing::Writing { .. })
    }

    /// Returns the number of blocks.
    pub fn count(&self) -> Result<u32> {
        Ok(self.stored()?.record.count)
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> Result<u64> {
        Ok(self.stored()?.record.length)
    }

    /// Returns whether the stream has no bytes.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Returns the record of the stream, including uncommitted changes.
    pub fn stored(&self) -> Result<StoredStream> {
        match &self.backing {
            Backing::Writing { .. } => self.read_open(|open, _| Ok(open.record())),
            Backing::Pinned(pinned) => Ok(pinned.stored().clone()),
            Backing::Newest(view) => Ok(self.view(view, &self.snapshot())?.stored.clone()),
        }
    }

    /// Returns a value that changes whenever a read could find other bytes, except through this
    /// handle. Fails as a read would if the handle is stale.
    pub(super) fn version(&self) -> Result<u64> {
        match &self.backing {
            Backing::Writing { epoch } => self.read_open(|_, _| Ok(*epoch)),
            Backing::Pinned(_) | Backing::Newest(_) => self.read_committed(|snapshot, _| {
                snapshot.store().check_usable()?;
                Ok(snapshot.commit().slot.number)
            }),
        }
    }

    /// Reads bytes from `offset`, at most to the end of the stream. Returns the number of bytes
    /// read. A large read decrypts blocks in parallel, directly into `bytes`.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        match &self.backing {
            Backing::Writing { .. } => {
                self.read_open(|open, trees| open.read_at(trees, offset, bytes))
            }
            _ => {
                self.read_committed(|snapshot, stored| read_sealed(snapshot, stored, offset, bytes))
            }
        }
    }

    /// Writes bytes at `offset`. A gap between the old end and `offset` reads as zeros.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.save(false)?;
        self.current = None;
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(too_long)?;
        self.read_open(|open, trees| open.check_room(trees, end))?;
        if offset > self.len()? {
            self.grow(offset)?;
        }
        let mut at = offset;
        for part in bytes.chunks(usize::try_from(STEP).unwrap_or(usize::MAX)) {
            let touched = |open: &OpenStream| open.touched_by_write(at, part.len());
            self.add(touched, |open, trees| open.write_at(trees, at, part))?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.len()?;
        self.write_at(end, bytes)
    }

    /// Sets the length in bytes. Added bytes read as zeros. Removed blocks are freed.
    #[doc(alias = "recycle")]
    pub fn set_len(&mut self, length: u64) -> Result<()> {
        self.save(false)?;
        self.current = None;
        if length > self.len()? {
            return self.grow(length);
        }
        let touched = |open: &OpenStream| open.touched_by_length(length);
        self.change(touched, |open, trees| open.set_len(trees, length))?;
        self.index = self.index.min(self.count()?.saturating_sub(1));
        Ok(())
    }

    /// Hands the cursor's block to the archive. It is durable after [`Archive::commit`].
    pub fn flush(&mut self) -> Result<()> {
        self.save(false)
    }

    /// Saves and closes the stream. Dropping the stream does the same, but then the next commit
    /// returns the error.
    #[doc(alias = "close_stream")]
    pub fn close(mut self) -> Result<()> {
        self.save(false)
    }

    /// Appends zeros in steps. If there is no space for all of them, it appends none.
    fn grow(&mut self, length: u64) -> Result<()> {
        self.read_open(|open, trees| open.check_room(trees, length))?;
        let before = self.len()?;
        let mut reached = before;
        while reached < length {
            let next = length.min(reached.saturating_add(STEP));
            let touched = |open: &OpenStream| open.touched_by_length(next);
            let grown = self.add(touched, |open, trees| open.set_len(trees, next));
            if let Err(error) = grown {
                let touched = |open: &OpenStream| open.touched_by_length(before);
                self.change(touched, |open, trees| open.set_len(trees, before))?;
                return Err(error);
            }
            reached = next;
        }
        Ok(())
    }

    /// Returns the position in the file of the block with this index. Returns `None` if the stream
    /// has no such block, or if the block has no position before the next commit.
    pub fn position_of(&self, index: u32) -> Result<Option<Position>> {
        match &self.backing {
            Backing::Writing { .. } => {
                self.read_open(|open, trees| Links::position_in_open(open, trees, index))
            }
            _ => {
                self.read_committed(|snapshot, stored| Links::position_in(snapshot, stored, index))
            }
        }
    }

    /// Returns a block with its current links, or `None` if the stream has no such block.
    pub fn block_at(&self, index: u32) -> Result<Option<Block>> {
        let mut data = OwnedData::zeroed();
        let links = match &self.backing {
            Backing::Writing { .. } => self.read_open(|open, trees| {
                if index >= open.count {
                    return Ok(None);
                }
                open.read_block(trees, index, &mut data)?;
                Links::of_open(open, trees, index).map(Some)
            })?,
            _ => self.read_committed(|snapshot, stored| {
                if index >= stored.record.count {
                    return Ok(None);
                }
                let reading = Reading::of_committed(snapshot, stored);
                read_blocks(&reading, index, 1, 0, &mut data[..])?;
                Links::of_stored(snapshot, stored, index).map(Some)
            })?,
        };
        let Some(Links { previous, next }) = links else { return Ok(None) };
        let (index, stream) = (BlockIndex(index), self.identity);
        Ok(Some(Block { head: BlockHead { previous, next, index, stream }, data }))
    }

    /// Reads the stream in the open transaction.
    fn read_open<T>(
        &self,
        work: impl FnOnce(&OpenStream, &WorkingTrees) -> Result<T>,
    ) -> Result<T> {
        let epoch = self.epoch()?;
        self.inner.state()?.writing()?.read_held(self.identity, epoch, work)
    }

    /// Changes the stream without adding blocks. `touched` returns the blocks that may become
    /// dirty.
    pub(crate) fn change<T>(
        &self,
        touched: impl FnOnce(&OpenStream) -> Range<u32>,
        work: impl FnOnce(&mut OpenStream, &mut WorkingTrees) -> Result<T>,
    ) -> Result<T> {
        let handle = (self.identity, self.epoch()?);
        self.inner.state()?.writing()?.change_held(handle, false, touched, work)
    }

    /// Changes the stream in a way that may add dirty blocks. `touched` returns them.
    pub(super) fn add<T>(
        &self,
        touched: impl FnOnce(&OpenStream) -> Range<u32>,
        work: impl FnOnce(&mut OpenStream, &mut WorkingTrees) -> Result<T>,
    ) -> Result<T> {
        let handle = (self.identity, self.epoch()?);
        self.inner.state()?.writing()?.change_held(handle, true, touched, work)
    }

    fn epoch(&self) -> Result<u64> {
        match self.backing {
            Backing::Writing { epoch } => Ok(epoch),
            Backing::Pinned(_) | Backing::Newest(_) => Err(ar7_engine::Error::ReadOnly.into()),
        }
    }

    /// Reads committed data. In a writer, a later commit can overwrite a block during the read; the
    /// read is then repeated in that commit.
    fn read_committed<T>(
        &self,
        mut read: impl FnMut(&Snapshot, &StoredStream) -> Result<T>,
    ) -> Result<T> {
        let view = match &self.backing {
            Backing::Writing { .. } => unreachable!("only called for a reading handle"),
            Backing::Pinned(pinned) => return read(pinned.snapshot(), pinned.stored()),
            Backing::Newest(view) => view,
        };
        loop {
            let snapshot = self.snapshot();
            let found = self.view(view, &snapshot)?;
            match read(&snapshot, &found.stored) {
                Err(_) if self.snapshot().commit().slot.number != found.commit => {}
                outcome => return outcome,
            }
        }
    }

    /// Returns the record in `snapshot`, which is looked up once per commit.
    fn view(&self, view: &ArcSwap<View>, snapshot: &Snapshot) -> Result<Arc<View>> {
        let known = view.load_full();
        let commit = snapshot.commit().slot.number;
        if known.commit == commit {
            return Ok(known);
        }
        let found = Arc::new(View { commit, stored: recorded(snapshot, self.identity)? });
        view.store(Arc::clone(&found));
        Ok(found)
    }

    fn snapshot(&self) -> Snapshot {
        self.inner.committed.snapshot()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Backing::Writing { epoch } = self.backing else { return };
        let saved = self.save(false);
        if let Ok(mut state) = self.inner.state()
            && let Ok(state) = state.failed_or_writing()
        {
            state.release_held(self.identity, epoch, saved.err());
        }
    }
}

/// Positions of the neighbours of a block: `None` for a neighbour that does not exist or has no
/// position yet.
struct Links {
    previous: Option<Position>,
    next: Option<Position>,
}

impl Links {
    fn of_open(open: &OpenStream, trees: &WorkingTrees, index: u32) -> Result<Links> {
        Links::around(index, |index| Links::position_in_open(open, trees, index))
    }

    fn of_stored(snapshot: &Snapshot, stored: &StoredStream, index: u32) -> Result<Links> {
        Links::around(index, |index| Links::position_in(snapshot, stored, index))
    }

    fn around(index: u32, position: impl Fn(u32) -> Result<Option<Position>>) -> Result<Links> {
        Ok(Links {
            previous: index.checked_sub(1).map(&position).transpose()?.flatten(),
            next: index.checked_add(1).map(&position).transpose()?.flatten(),
        })
    }

    fn position_in_open(
        open: &OpenStream,
        trees: &WorkingTrees,
        index: u32,
    ) -> Result<Option<Position>> {
        (index < open.placed()).then(|| open.position(trees, index)).transpose()
    }

    fn position_in(
        snapshot: &Snapshot,
        stored: &StoredStream,
        index: u32,
    ) -> Result<Option<Position>> {
        let is_there = index < stored.record.count;
        is_there.then(|| Ok(locate(snapshot, stored, index)?.position(index))).transpose()
    }
}

impl Content for Stream {
    fn len(&self) -> Result<u64> {
        Stream::len(self)
    }

    fn version(&self) -> Result<u64> {
        Stream::version(self)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        Stream::read_at(self, offset, bytes)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        Stream::write_at(self, offset, bytes)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        Stream::append(self, bytes)
    }

    fn set_len(&mut self, length: u64) -> Result<()> {
        Stream::set_len(self, length)
    }

    fn flush(&mut self) -> Result<()> {
        Stream::flush(self)
    }
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Stream")
            .field("identity", &self.identity)
            .field("is_writable", &self.is_writable())
            .finish_non_exhaustive()
    }
}
