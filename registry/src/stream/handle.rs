//! The handle of a stream: reading and writing at any offset.

use std::sync::Arc;

use ar7_engine::format::{Block, BlockHead, BlockIndex, OwnedData, Position, StoredStream};
use ar7_engine::mistakes::Mistake;
use arc_swap::ArcSwap;
use uuid::Uuid;

use super::layout::locate;
use super::open::{OpenStream, blocks_for, split_offset, too_long};
use super::read::{Reading, read_blocks};
use crate::archive::{Archive, Inner, Registry, Snapshot};
use crate::error::{Error, Result};

/// Bytes handed to the archive at a time, so that memory stays bounded whatever a caller writes.
const STEP: u64 = 4 << 20;

/// An open stream.
///
/// Bytes are read and written at any offset. The cursor of the specification, one block at a time, is there
/// too: [`Stream::wind`], [`Stream::next_block`], [`Stream::data`] and their relatives.
#[doc(alias = "BaseStream")]
#[doc(alias = "DataStream")]
#[doc(alias = "InternalStream")]
pub struct Stream {
    pub(crate) inner: Arc<Inner>,
    identity: Uuid,
    backing: Backing,
    /// The cursor's block.
    pub(super) index: u32,
    /// Its data, once it was looked at, and whether it was changed.
    pub(super) current: Option<(OwnedData, bool)>,
}

enum Backing {
    /// In a writer, as the transaction has it.
    Writing { epoch: u64 },
    /// As committed.
    Reading(ArcSwap<View>),
}

/// The record of a stream, as a commit has it.
struct View {
    commit: u64,
    stored: StoredStream,
}

impl Stream {
    pub(crate) fn writing(inner: &Arc<Inner>, identity: Uuid, epoch: u64) -> Stream {
        Stream::new(inner, identity, Backing::Writing { epoch })
    }

    pub(crate) fn reading(inner: &Arc<Inner>, identity: Uuid) -> Result<Stream> {
        let view = View::find(&Archive { inner: Arc::clone(inner) }.snapshot(), identity)?;
        Ok(Stream::new(inner, identity, Backing::Reading(ArcSwap::from_pointee(view))))
    }

    fn new(inner: &Arc<Inner>, identity: Uuid, backing: Backing) -> Stream {
        Stream { inner: Arc::clone(inner), identity, backing, index: 0, current: None }
    }

    /// The stream's identity.
    pub fn identity(&self) -> Uuid {
        self.identity
    }

    /// The archive that the stream is in. The specification's name is `manager`.
    #[doc(alias = "manager")]
    pub fn archive(&self) -> Archive {
        Archive { inner: Arc::clone(&self.inner) }
    }

    /// Whether this handle can change the stream.
    pub fn is_writable(&self) -> bool {
        matches!(self.backing, Backing::Writing { .. })
    }

    /// Number of blocks.
    pub fn count(&self) -> Result<u32> {
        Ok(self.stored()?.record.count)
    }

    /// Number of bytes.
    pub fn len(&self) -> Result<u64> {
        Ok(self.stored()?.record.length)
    }

    /// Whether the stream has no bytes.
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    /// The record of the stream, changes that are not committed included.
    pub fn stored(&self) -> Result<StoredStream> {
        match &self.backing {
            Backing::Reading(view) => Ok(self.view(view, &self.snapshot())?.stored.clone()),
            Backing::Writing { .. } => self.look(|open, _| {
                let mut stored = open.stored.clone();
                stored.record.count = open.count;
                stored.record.length = open.length;
                Ok(stored)
            }),
        }
    }

    /// Reads bytes from `offset` on, up to the end of the stream; returns how many. Large reads are opened
    /// in parallel, straight into `bytes`.
    pub fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        match &self.backing {
            Backing::Writing { .. } => {
                self.look(|open, registry| open.read_at(registry, offset, bytes))
            }
            Backing::Reading(_) => self.read_committed(|snapshot, stored| {
                let available = stored.record.length.saturating_sub(offset);
                let wanted = usize::try_from(available).unwrap_or(usize::MAX).min(bytes.len());
                read_sealed(snapshot, stored, offset, &mut bytes[..wanted])?;
                Ok(wanted)
            }),
        }
    }

    /// Writes bytes at `offset`. A gap between the end and `offset` reads as zeros.
    pub fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.save(false)?;
        self.current = None;
        if bytes.is_empty() {
            if Mistake::EmptyWriteAddsABlock.is_planted() {
                self.add(|open, registry| open.push_block(registry, &[]).map(drop))?;
            }
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).ok_or_else(too_long)?;
        self.look(|open, registry| open.check_room(registry, end))?;
        if offset > self.len()? {
            self.grow(offset)?;
        }
        let mut at = offset;
        for part in bytes.chunks(usize::try_from(STEP).unwrap_or(usize::MAX)) {
            self.add(|open, registry| open.write_at(registry, at, part))?;
            at += part.len() as u64;
        }
        Ok(())
    }

    /// Writes bytes at the end.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let end = self.len()?;
        self.write_at(end, bytes)
    }

    /// Sets the length. What is added reads as zeros; the blocks of what is cut are recycled.
    #[doc(alias = "recycle")]
    pub fn set_len(&mut self, length: u64) -> Result<()> {
        self.save(false)?;
        self.current = None;
        if length > self.len()? {
            return self.grow(length);
        }
        self.change(|open, registry| open.set_len(registry, length))?;
        self.index = self.index.min(self.count()?.saturating_sub(1));
        Ok(())
    }

    /// Hands the cursor's block to the archive. It is durable after [`Archive::commit`].
    pub fn flush(&mut self) -> Result<()> {
        self.save(false)
    }

    /// Saves and closes the stream. Dropping it does the same, but an error then waits for the commit.
    #[doc(alias = "close_stream")]
    pub fn close(mut self) -> Result<()> {
        self.save(false)
    }

    /// Adds zeros, a step at a time; if there is no space for all of them, none is added.
    fn grow(&mut self, length: u64) -> Result<()> {
        self.look(|open, registry| open.check_room(registry, length))?;
        let before = self.len()?;
        let mut reached = before;
        while reached < length {
            let next = length.min(reached.saturating_add(STEP));
            let grown = self.add(|open, registry| open.set_len(registry, next));
            if let Err(error) = grown {
                self.change(|open, registry| open.set_len(registry, before))?;
                return Err(error);
            }
            reached = next;
        }
        Ok(())
    }

    /// One block, whole, with the links that it has now; none if the stream has no such block, or no longer.
    pub(super) fn read_block(&self, index: u32) -> Result<Option<Block>> {
        let mut data = OwnedData::zeroed();
        let links = match &self.backing {
            Backing::Writing { .. } => self.look(|open, registry| {
                if index >= open.count {
                    return Ok(None);
                }
                open.read_block(registry, index, &mut data)?;
                Links::of_open(open, registry, index).map(Some)
            })?,
            Backing::Reading(_) => self.read_committed(|snapshot, stored| {
                if index >= stored.record.count {
                    return Ok(None);
                }
                let reading = reading(snapshot, stored);
                read_blocks(&reading, index, 1, 0, &mut data[..])?;
                Links::of_stored(snapshot, stored, index).map(Some)
            })?,
        };
        let Some(Links { previous, next }) = links else { return Ok(None) };
        let (index, stream) = (BlockIndex(index), self.identity);
        Ok(Some(Block { head: BlockHead { previous, next, index, stream }, data }))
    }

    /// Looks at the stream as the transaction has it.
    fn look<T>(&self, work: impl FnOnce(&OpenStream, &Registry) -> Result<T>) -> Result<T> {
        let epoch = self.epoch()?;
        self.inner.state()?.writing()?.read_held(self.identity, epoch, work)
    }

    /// Changes the stream without adding blocks.
    pub(crate) fn change<T>(
        &self,
        work: impl FnOnce(&mut OpenStream, &mut Registry) -> Result<T>,
    ) -> Result<T> {
        let epoch = self.epoch()?;
        self.inner.state()?.writing()?.change_held(self.identity, epoch, false, work)
    }

    /// Changes the stream in a way that may add blocks to those in memory.
    pub(super) fn add<T>(
        &self,
        work: impl FnOnce(&mut OpenStream, &mut Registry) -> Result<T>,
    ) -> Result<T> {
        let epoch = self.epoch()?;
        self.inner.state()?.writing()?.change_held(self.identity, epoch, true, work)
    }

    fn epoch(&self) -> Result<u64> {
        match self.backing {
            Backing::Writing { epoch } => Ok(epoch),
            Backing::Reading(_) => Err(ar7_engine::Error::ReadOnly.into()),
        }
    }

    /// Reads what is committed. A block that fails its check is no error if the stream was committed anew
    /// since the read began: it is then read again as it is now.
    fn read_committed<T>(
        &self,
        mut read: impl FnMut(&Snapshot, &StoredStream) -> Result<T>,
    ) -> Result<T> {
        let Backing::Reading(view) = &self.backing else {
            unreachable!("only called for a reading handle")
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

    /// The record as `snapshot` has it, looked up only when there was a commit since.
    fn view(&self, view: &ArcSwap<View>, snapshot: &Snapshot) -> Result<Arc<View>> {
        let known = view.load_full();
        if known.commit == snapshot.commit().slot.number {
            return Ok(known);
        }
        let found = Arc::new(View::find(snapshot, self.identity)?);
        view.store(Arc::clone(&found));
        Ok(found)
    }

    fn snapshot(&self) -> Snapshot {
        self.archive().snapshot()
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

impl View {
    fn find(snapshot: &Snapshot, stream: Uuid) -> Result<View> {
        let stored = snapshot.stored(stream)?.ok_or(Error::NoStream { stream })?;
        Ok(View { commit: snapshot.commit().slot.number, stored })
    }
}

/// Positions of the neighbours of a block, as far as they have any.
struct Links {
    previous: Option<Position>,
    next: Option<Position>,
}

impl Links {
    fn of_open(open: &OpenStream, registry: &Registry, index: u32) -> Result<Links> {
        let position = |index: u32| {
            (index < open.placed()).then(|| open.position(registry, index)).transpose()
        };
        Ok(Links {
            previous: index.checked_sub(1).map(position).transpose()?.flatten(),
            next: index.checked_add(1).map(position).transpose()?.flatten(),
        })
    }

    fn of_stored(snapshot: &Snapshot, stored: &StoredStream, index: u32) -> Result<Links> {
        let position = |index: u32| {
            (index < stored.record.count)
                .then(|| Ok::<_, Error>(locate(snapshot, stored, index)?.position(index)))
                .transpose()
        };
        Ok(Links {
            previous: index.checked_sub(1).map(position).transpose()?.flatten(),
            next: index.checked_add(1).map(position).transpose()?.flatten(),
        })
    }
}

fn reading<'a>(snapshot: &'a Snapshot, stored: &'a StoredStream) -> Reading<'a, Snapshot> {
    Reading {
        store: snapshot.store(),
        redirects: &snapshot.commit().redirects,
        records: snapshot,
        stored,
        ends_here: true,
    }
}

fn read_sealed(
    snapshot: &Snapshot,
    stored: &StoredStream,
    offset: u64,
    bytes: &mut [u8],
) -> Result<()> {
    let reading = reading(snapshot, stored);
    let mut done = 0;
    while done < bytes.len() {
        let (index, within) = split_offset(offset + done as u64)?;
        let part = &mut bytes[done..];
        let most = blocks_for(within, part.len());
        done += read_blocks(&reading, index, most, within, part)?;
    }
    Ok(())
}
