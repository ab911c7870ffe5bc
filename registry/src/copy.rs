//! Copying: writes everything in a commit to a new archive, the content in the order of the names.
//!
//! Streams keep their identities, and inodes their numbers, so that records are copied as they are. Only the places of
//! blocks differ.

mod packed;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use ar7_engine::format::{ArchiveKind, DATA_SIZE, RESERVED_STREAMS, StoredStream};
use ar7_engine::{Check, Error as EngineError};
use roaring::RoaringTreemap;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::archive::Archive;
use crate::blocks::{OpenStream, Reading, read_blocks};
use crate::committed::Snapshot;
use crate::error::Result;
use crate::names::INODE_COUNTER;
use crate::packs::{Encoding, Packing, level_of};
use crate::records::{
    ADDRESS_COUNTER, COMPRESSION_COUNTER, EntryType, Inode, InodeNumber, Inodes, NameKey,
    NameRecords, PACK_OWNER, ReadRecords, Record, Streams, TreeId, reserved_identity,
};

/// Maximum number of blocks that are read and written at a time: 1 MiB.
const BLOCKS_MAX: u32 = 256;

/// Maximum number of streams that wait in memory for their blocks to be written.
const OPEN_MAX: usize = 1 << 14;

// Whoever adds a tree decides here whether a copy needs its records. Extents, free runs, frames and packs are those of the
// new places; pending deletions, dead slices and ended sessions are not part of the content.
const _: () = assert!(TreeId::ALL.len() == 10, "every tree is copied, or not needed");

/// Number of records between two calls of `progress`.
const RECORDS_PER_CALL: u64 = 1000;

/// How far a copy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyProgress {
    /// Blocks of streams that were copied.
    pub blocks: u64,
    /// Blocks in use in the old archive. Index pages are among them, and are not copied one by one.
    pub total: u64,
}

impl Archive {
    /// Copies everything in the newest commit to an empty archive of the same kind, which has no streams except the
    /// reserved ones, and commits there.
    ///
    /// Fails if anything does not open. If `progress` breaks, this fails with [`EngineError::Stopped`]. The new archive
    /// is incomplete then.
    pub fn copy_to(
        &self,
        new: &Archive,
        progress: &mut dyn FnMut(CopyProgress) -> ControlFlow<()>,
    ) -> Result<()> {
        self.copy_as(Encoding::Keep, new, progress)
    }

    /// Does the same, and encodes content where that makes it smaller: with [`Encoding::Pack`] and [`Encoding::Choose`],
    /// files that have a stream of their own are packed, as [`Archive::compact_as`] does; with [`Encoding::Choose`], each
    /// frame is encoded again.
    pub fn copy_as(
        &self,
        encoding: Encoding,
        new: &Archive,
        progress: &mut dyn FnMut(CopyProgress) -> ControlFlow<()>,
    ) -> Result<()> {
        let from = self.snapshot();
        let slot = &from.commit().slot;
        new.set_metadata(&slot.metadata)?;
        let total = u64::from(slot.block_count).saturating_sub(from.free_blocks());
        let buffer = Zeroizing::new(vec![0; DATA_SIZE * usize::try_from(BLOCKS_MAX).unwrap_or(1)]);
        let done = CopyProgress { blocks: 0, total };
        for counter in [INODE_COUNTER, ADDRESS_COUNTER] {
            *new.state()?.writing()?.trees.counter_mut(counter) = slot.counters[counter];
        }
        let choice = encoding.choice(slot.counters[COMPRESSION_COUNTER]);
        new.set_compression(choice)?;
        let packing = encoding.packing(choice).filter(|_| self.kind() == ArchiveKind::Dynamic);
        let level = encoding.level().filter(|_| packing.is_some());
        let chosen = level_of(choice);
        let mut copying = Copying {
            from: &from,
            new,
            packing,
            level,
            chosen,
            progress,
            buffer,
            done,
            streams: 0,
        };
        copying.reserved_streams()?;
        copying.streams_by_name()?;
        copying.other_streams()?;
        copying.inodes()?;
        let first = NameKey { directory: InodeNumber(0), name: Vec::new() };
        copying.records::<NameRecords>(first, |key| Some(after(key)))?;
        copying.frames()?;
        new.commit()
    }
}

/// Returns the least key above that of a name.
fn after(key: &NameKey) -> NameKey {
    NameKey { directory: key.directory, name: [&key.name[..], &[0]].concat() }
}

struct Copying<'a> {
    from: &'a Snapshot,
    new: &'a Archive,
    packing: Option<Packing>,
    /// The level with which to encode packed content again.
    level: Option<i32>,
    /// The level for new content of the new archive.
    chosen: Option<i32>,
    progress: &'a mut dyn FnMut(CopyProgress) -> ControlFlow<()>,
    buffer: Zeroizing<Vec<u8>>,
    done: CopyProgress,
    /// Number of copied streams.
    streams: u64,
}

/// A directory whose entries are copied, and the key from which on they are missing.
struct Directory {
    number: InodeNumber,
    from: NameKey,
}

impl Copying<'_> {
    fn reserved_streams(&mut self) -> Result<()> {
        for index in 0..RESERVED_STREAMS {
            let identity = reserved_identity(index);
            let stored = self.from.stored(identity)?;
            // The new archive has them, without content.
            if let Some(stored) = stored.filter(|stored| *stored != StoredStream::empty(identity)) {
                let epoch = self.new.state()?.writing()?.hold(identity)?;
                self.content(&stored, epoch)?;
            }
        }
        Ok(())
    }

    /// Copies the streams of all entries, one directory after another.
    fn streams_by_name(&mut self) -> Result<()> {
        // Someone with the key can make directories contain each other.
        let mut entered = RoaringTreemap::new();
        let mut directories = Vec::new();
        self.enter(InodeNumber::ROOT, &mut entered, &mut directories)?;
        while let Some(Directory { number, from }) = directories.last_mut() {
            let found = self.from.ceiling::<NameRecords>(from)?;
            let Some((key, named)) = found.filter(|(found, _)| found.directory == *number) else {
                directories.pop();
                continue;
            };
            *from = after(&key);
            self.enter(named.inode, &mut entered, &mut directories)?;
        }
        Ok(())
    }

    /// Copies the streams of an inode that was not visited. The entries of a directory are next.
    fn enter(
        &mut self,
        number: InodeNumber,
        entered: &mut RoaringTreemap,
        directories: &mut Vec<Directory>,
    ) -> Result<()> {
        if !entered.insert(number.0) {
            return Ok(());
        }
        let Some(inode) = self.from.get::<Inodes>(&number)? else { return Ok(()) };
        self.streams_of(number, &inode)?;
        if inode.kind == EntryType::Directory {
            let from = NameKey { directory: number, name: Vec::new() };
            directories.push(Directory { number, from });
        }
        Ok(())
    }

    fn streams_of(&mut self, number: InodeNumber, inode: &Inode) -> Result<()> {
        for identity in [inode.stream, inode.extended.stream()].into_iter().flatten() {
            let stored = self.from.stored(identity)?;
            let stored = stored.filter(|stored| stored.inode != Some(PACK_OWNER));
            let Some(stored) = stored else {
                let expected = "an existing stream";
                return Err(EngineError::damaged(None, Check::Name, expected, identity).into());
            };
            if inode.stream != Some(identity) || !self.pack(number, inode, &stored)? {
                self.stream(&stored)?;
            }
        }
        Ok(())
    }

    /// Copies the streams that belong to no entry, and no packs.
    fn other_streams(&mut self) -> Result<()> {
        let mut next = Some(Uuid::nil());
        while let Some(from) = next {
            let Some((identity, stored)) = self.from.ceiling::<Streams>(&from)? else { break };
            if stored.inode != Some(PACK_OWNER) && !self.is_packed(&stored)? {
                self.stream(&stored)?;
            }
            next = identity.as_u128().checked_add(1).map(Uuid::from_u128);
        }
        Ok(())
    }

    /// Copies a stream, unless it was copied before.
    fn stream(&mut self, stored: &StoredStream) -> Result<()> {
        let identity = stored.record.identity;
        let mut state = self.new.state()?;
        let writing = state.writing()?;
        if writing.stored(identity)?.is_some() {
            return Ok(());
        }
        if writing.open.len() >= OPEN_MAX {
            writing.flush(false)?;
        }
        let epoch = writing.hold_new(identity);
        drop(state);
        self.content(stored, epoch)
    }

    /// Copies the blocks of a stream to one that is open, and closes it. Blocks beyond its length are content too: the
    /// specification's cursor reads them.
    fn content(&mut self, stored: &StoredStream, epoch: u64) -> Result<()> {
        let (identity, count) = (stored.record.identity, stored.record.count);
        self.streams += 1;
        self.with_open(identity, |open| open.rank = self.streams)?;
        let mut index = 0;
        while index < count {
            let most = (count - index).min(BLOCKS_MAX);
            let reading = Reading::of_committed(self.from, stored);
            let read = read_blocks(&reading, index, most, 0, &mut self.buffer)?;
            let blocks = self.buffer[..read].chunks(DATA_SIZE);
            let touched = |open: &OpenStream| open.touched_at_end(open.count);
            let mut state = self.new.state()?;
            state.writing()?.change_held((identity, epoch), true, touched, |open, trees| {
                blocks.clone().try_for_each(|block| open.push_block(trees, block).map(drop))
            })?;
            drop(state);
            index += u32::try_from(blocks.len()).unwrap_or(u32::MAX);
            self.done.blocks += blocks.len() as u64;
            self.proceed()?;
        }
        self.with_open(identity, |open| {
            (open.stored.record.length, open.stored.inode) = (stored.record.length, stored.inode);
            open.changed = true;
        })?;
        self.new.state()?.writing()?.release_held(identity, epoch, None);
        Ok(())
    }

    fn with_open(&self, identity: Uuid, work: impl FnOnce(&mut OpenStream)) -> Result<()> {
        if let Some(open) = self.new.state()?.writing()?.open.get_mut(&identity) {
            work(open);
        }
        Ok(())
    }

    /// Copies the inodes, except for those whose content was packed.
    fn inodes(&mut self) -> Result<()> {
        let next = |number: &InodeNumber| number.0.checked_add(1).map(InodeNumber);
        if self.packing.is_none() {
            return self.records::<Inodes>(InodeNumber(0), next);
        }
        let mut from = Some(InodeNumber(0));
        while let Some(first) = from {
            let Some((number, inode)) = self.from.ceiling::<Inodes>(&first)? else { break };
            if !self.has_inode(number)? {
                self.new.state()?.writing()?.trees.put::<Inodes>(&number, &inode)?;
            }
            from = next(&number);
        }
        self.proceed()
    }

    /// Copies all records of a tree, as they are.
    fn records<R: Record>(
        &mut self,
        first: R::Key,
        next: impl Fn(&R::Key) -> Option<R::Key>,
    ) -> Result<()> {
        let mut from = Some(first);
        let mut count = 0_u64;
        while let Some(key) = from {
            let Some((key, value)) = self.from.ceiling::<R>(&key)? else { break };
            self.new.state()?.writing()?.trees.put::<R>(&key, &value)?;
            from = next(&key);
            count += 1;
            if count.is_multiple_of(RECORDS_PER_CALL) {
                self.proceed()?;
            }
        }
        Ok(())
    }

    fn proceed(&mut self) -> Result<()> {
        match (self.progress)(self.done) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(EngineError::Stopped.into()),
        }
    }
}
