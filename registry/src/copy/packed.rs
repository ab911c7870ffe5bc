//! Packed content in a copy: what belongs to files, in new packs.

use ar7_engine::format::{DATA_SIZE_U64, StoredStream};
use ar7_engine::in_pool;
use rayon::prelude::*;
use zeroize::Zeroizing;

use super::Copying;
use crate::blocks::{is_of_inode, read_frame};
use crate::committed::Snapshot;
use crate::error::Result;
use crate::packs::{BATCH_FRAMES, Encoded, Packing, decode, encode, should_pack};
use crate::records::{
    DeadSlices, Frame, Frames, Inode, InodeNumber, Inodes, ReadRecords, Stored, TreeId,
};

/// Number of bytes of a file that are packed at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A frame of the old archive: its first address, its record and its place.
type OldFrame = (u64, Frame, Stored);

impl Copying<'_> {
    /// Packs the content of a file that has a stream of its own, if that makes it smaller. Returns whether it does.
    pub(super) fn pack(
        &mut self,
        number: InodeNumber,
        inode: &Inode,
        stored: &StoredStream,
    ) -> Result<bool> {
        let applies = |packing: &Packing| packing.applies_to(number, inode, stored);
        let Some(Packing { level, .. }) = self.packing.filter(applies) else { return Ok(false) };
        let content = self.from.read_stream(stored.record.identity)?;
        if !should_pack(inode.size, level, |offset, bytes| content.read_at(offset, bytes))? {
            return Ok(false);
        }
        let mut piece = Zeroizing::new(vec![0; PIECE_BYTES]);
        let first = self.new.state()?.writing()?.next_address();
        let mut length = 0;
        loop {
            let read = content.read_at(length, &mut piece)?;
            if read == 0 {
                break;
            }
            self.new.state()?.writing()?.pack(number, &piece[..read], length > 0)?;
            length += read as u64;
            self.done.blocks += (read as u64).div_ceil(DATA_SIZE_U64);
            self.proceed()?;
        }
        let slice = (length > 0).then_some(first);
        let packed = Inode { size: length, stream: None, slice, ..inode.clone() };
        self.new.state()?.writing()?.trees.put::<Inodes>(&number, &packed)?;
        Ok(true)
    }

    /// Returns whether a stream was packed as the content of its inode.
    pub(super) fn is_packed(&self, stored: &StoredStream) -> Result<bool> {
        let Some(number) = stored.inode.filter(|_| self.packing.is_some()) else {
            return Ok(false);
        };
        let number = InodeNumber(number.get());
        let old = self.from.get::<Inodes>(&number)?;
        let is_content = old.is_some_and(|old| old.stream == Some(stored.record.identity));
        Ok(is_content && self.has_inode(number)?)
    }

    /// Returns whether the new archive has an inode already, because its content was packed.
    pub(super) fn has_inode(&self, number: InodeNumber) -> Result<bool> {
        Ok(self.new.state()?.writing()?.trees.get::<Inodes>(&number)?.is_some())
    }

    /// Copies frames and holes, without what belongs to no file.
    pub(super) fn frames(&mut self) -> Result<()> {
        let (mut next, mut batch) = (Some(0), Vec::new());
        while let Some(from) = next {
            let Some((first, frame)) = self.from.ceiling::<Frames>(&from)? else { break };
            next = first.checked_add(1);
            match frame.stored {
                Some(stored) => batch.push((first, frame, stored)),
                None => self.hole(first, &frame)?,
            }
            if batch.len() == BATCH_FRAMES {
                self.append(&mut batch)?;
            }
        }
        self.append(&mut batch)
    }

    fn hole(&mut self, first: u64, frame: &Frame) -> Result<()> {
        let dead = self.from.floor::<DeadSlices>(&first)?;
        if dead.is_none_or(|(begin, length)| first - begin >= length) {
            self.new.state()?.writing()?.trees.put::<Frames>(&first, frame)?;
        }
        Ok(())
    }

    fn append(&mut self, batch: &mut Vec<OldFrame>) -> Result<()> {
        let (from, level, chosen) = (self.from, self.level, self.chosen);
        let copied = |old: &OldFrame| copied(from, (level, chosen), old);
        let copied = in_pool(|| batch.par_iter().map(copied).collect());
        let copied: Result<Vec<Option<(Encoded, u64)>>> = copied;
        for (encoded, live) in copied?.into_iter().flatten() {
            self.new.state()?.writing()?.append_frame(&encoded, live)?;
        }
        let used = batch.iter().map(|(_, frame, _)| u64::from(frame.used())).sum::<u64>();
        self.done.blocks += used / DATA_SIZE_U64;
        batch.clear();
        self.proceed()
    }
}

/// Returns what is left of a frame, and the number of its addresses that belong to files. It is encoded again with a
/// level, or for new content of the new archive, if it loses content.
fn copied(
    from: &Snapshot,
    (level, chosen): (Option<i32>, Option<i32>),
    (first, frame, stored): &OldFrame,
) -> Result<Option<(Encoded, u64)>> {
    let slot = &from.commit().slot;
    let has_dead = frame.live < frame.written || slot.roots[TreeId::DeadSlices.index()].entries > 0;
    let old = read_frame(from, *first, frame, *stored)?;
    if level.is_none() && !has_dead {
        return Ok(Some((old, frame.written)));
    }
    let content = decode(&old.head, old.payload())?;
    let live = content.only(|slice| is_of_inode(from, *first, slice))?;
    let (has_dead, live_len) = (live.slices.len() < content.slices.len(), live.sliced_len());
    if live.slices.is_empty() {
        return Ok(None);
    }
    let new = match level {
        None if !has_dead => old,
        Some(level) if !has_dead => {
            let new = encode(&live, Some(level))?;
            if new.head.stored < old.head.stored { new } else { old }
        }
        level => encode(&live, live.level(level.or(chosen)))?,
    };
    Ok(Some((new, live_len)))
}
