//! Packed content in the open transaction: bytes of files are collected in frames, and frames in packs.
//!
//! Frames stay in memory until there are enough to compress on all cores, or until something needs them. Each
//! transaction begins a new pack, so that a pack never changes once it is committed.

use ar7_engine::format::StoredStream;
use ar7_engine::{Check, Class, Error as EngineError, in_pool};
use rayon::prelude::*;
use uuid::Uuid;

use super::State;
use super::filling::{OpenPack, Packing};
use super::unfinished::UnfinishedSlice;
use crate::blocks::{OpenStream, PackReader, frame_at, is_damage, read_packed};
use crate::error::{Error, Result};
use crate::packs::{
    BATCH_FRAMES, BLOCK_BYTES, Content, Encoded, FRAME_BYTES, FRAME_MAX, HEAD_SIZE,
    LONG_FILE_BYTES, LONG_FILE_FRAME_BYTES, PACK_BYTES, encode, level_of, slice_layout,
};
use crate::records::{
    ADDRESS_COUNTER, ADDRESS_MAX, COMPRESSION_COUNTER, DeadSlices, Frame, Frames, InodeNumber,
    LIVE_COUNTER, PACK_OWNER, PACKED_COUNTER, Pack, Packs, ReadRecords, Stored, TreeId,
};

/// [`FRAME_BYTES`] as a length in memory.
const LARGE_FRAME_BYTES: usize = FRAME_BYTES as usize;

/// A frame that stores more bytes begins in a new block, so that a bad block costs few frames. A raw frame of a long file
/// does not, with its content and one slice.
const SHARED_BLOCK_MAX: u32 = LONG_FILE_FRAME_BYTES + 16;

const _: () = assert!(slice_layout::SIZE == 16);

/// The shortest gap in front of a frame that begins a block: the zeros in place of a tag.
const GAP_MIN: u32 = 4;

/// Number of frames up to which the slice of a deleted file is freed at once.
const FREED_AT_ONCE: u64 = 4 * LARGE_FRAME_BYTES as u64;

/// Number of frames of dead slices that one commit frees, so that it needs no more than the reserve blocks.
const FREED_PER_COMMIT: usize = 64;

/// Number of damaged dead slices after which none is looked for any more.
const STUCK_SLICES_MAX: usize = 1024;

impl State {
    /// Returns the next address of packed content.
    pub(crate) fn next_address(&self) -> u64 {
        self.trees.counters()[ADDRESS_COUNTER]
    }

    /// Appends bytes of inode `number` at the next address. They may continue a slice.
    pub(crate) fn pack(
        &mut self,
        number: InodeNumber,
        bytes: &[u8],
        continues: bool,
    ) -> Result<()> {
        if self.packing.full.len() >= BATCH_FRAMES {
            self.write_frames()?;
        }
        let first = self.take_addresses(bytes.len() as u64)?;
        let most = match bytes.len() {
            length if continues || length > LONG_FILE_BYTES as usize => {
                LONG_FILE_FRAME_BYTES as usize
            }
            length if length > LARGE_FRAME_BYTES => LARGE_FRAME_BYTES,
            _ => FRAME_MAX,
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let at = first + (bytes.len() - rest.len()) as u64;
            rest = self.packing.fill(number, at, rest, continues || at > first, most);
        }
        Ok(())
    }

    /// Appends zeros at the next addresses, which take no bytes in a pack.
    pub(crate) fn pack_hole(&mut self, length: u64) -> Result<()> {
        // The bytes before the hole and after it are in different frames.
        self.packing.complete();
        let first = self.take_addresses(length)?;
        let first = if ar7_engine::fault!(HoleWithData) { first.saturating_sub(1) } else { first };
        let hole = Frame { length, written: length, live: length, stored: None };
        self.trees.put::<Frames>(&first, &hole)?;
        Ok(())
    }

    /// Returns the first of some new addresses.
    fn take_addresses(&mut self, length: u64) -> Result<u64> {
        let first = self.next_address();
        let end = first.checked_add(length).filter(|&end| end <= ADDRESS_MAX);
        let full = EngineError::Full { what: "addresses of packed content", limit: ADDRESS_MAX };
        *self.trees.counter_mut(ADDRESS_COUNTER) = end.ok_or(full)?;
        Ok(first)
    }

    /// Moves everything that is not in a pack yet to one.
    pub(super) fn settle_packing(&mut self) -> Result<()> {
        self.packing.complete();
        self.write_frames()
    }

    /// Does the same if anything before an address is not in a pack yet.
    pub(super) fn settle_packing_before(&mut self, end: u64) -> Result<()> {
        let is_pending = self.packing.first().is_some_and(|pending| end > pending);
        if is_pending { self.settle_packing() } else { Ok(()) }
    }

    /// Moves everything to packs, and ends the pack.
    pub(super) fn finish_packing(&mut self) -> Result<()> {
        self.settle_packing()?;
        self.close_pack();
        Ok(())
    }

    /// Compresses frames on all cores, and appends them in order. A failure leaves the rest in memory, so that another call
    /// can go on after a lack of space.
    fn write_frames(&mut self) -> Result<()> {
        if self.packing.full.is_empty() {
            return Ok(());
        }
        let chosen = level_of(self.trees.counters()[COMPRESSION_COUNTER]);
        let encoded = |content: &Content| encode(content, content.level(chosen));
        let contents = self.packing.full.make_contiguous();
        let encoded: Result<Vec<Encoded>> = in_pool(|| contents.par_iter().map(encoded).collect());
        for encoded in encoded? {
            let written = self.packing.full.front().map_or(0, Content::sliced_len);
            self.append_frame(&encoded, written)?;
            self.packing.full.pop_front();
        }
        Ok(())
    }

    /// Appends a frame to the open pack. `written` of its addresses belong to files. A lack of space changes nothing. After
    /// any other failure the transaction can only be rolled back.
    pub(crate) fn append_frame(&mut self, encoded: &Encoded, written: u64) -> Result<()> {
        let stored = self.write_frame(encoded)?;
        // A frame that is appended in part must not be appended again.
        self.record_frame(encoded, written, stored).inspect_err(|error| self.fail(error))
    }

    /// Writes a frame to the open pack, or to a new one. Returns its place.
    fn write_frame(&mut self, encoded: &Encoded) -> Result<Stored> {
        let size = encoded.head.size();
        let begins_block = encoded.head.stored > SHARED_BLOCK_MAX;
        let place = |length: u32| if begins_block { after_gap(length) } else { length };
        if self.packing.open.as_ref().is_some_and(|pack| place(pack.length) + size > PACK_BYTES) {
            self.close_pack();
        }
        let (identity, epoch, offset) = match &self.packing.open {
            Some(pack) => (pack.identity, pack.epoch, place(pack.length)),
            None => self.open_pack()?,
        };
        if let Err(error) = self.write_to((identity, epoch), offset.into(), &encoded.bytes) {
            self.forget_empty_pack()?;
            return Err(error);
        }
        if ar7_engine::fault!(SpoiledFrame) {
            self.write_to((identity, epoch), (offset + HEAD_SIZE).into(), &[0; 4])?;
        }
        let (length, method) = (encoded.head.stored, encoded.head.method);
        Ok(Stored { pack: identity, offset, length, method })
    }

    fn record_frame(&mut self, encoded: &Encoded, written: u64, stored: Stored) -> Result<()> {
        let (identity, size) = (stored.pack, encoded.head.size());
        let length = u64::from(encoded.head.length);
        let frame = Frame { length, written, live: written, stored: Some(stored) };
        let moved = self.trees.put::<Frames>(&encoded.head.first, &frame)?;
        if let Some(moved) = &moved
            && ar7_engine::fault!(MovedFrameStays)
        {
            self.trees.put::<Frames>(&encoded.head.first, moved)?;
        }
        let before = self.trees.get::<Packs>(&identity)?.unwrap_or_default();
        let pack = Pack { used: before.used + size, live: before.live + frame.live_bytes() };
        self.set_pack(identity, before, pack)?;
        if let Some(open) = &mut self.packing.open {
            open.length = stored.offset + size;
        }
        let moved = moved.map(|moved| self.lowered_pack(&moved, None)).transpose()?.flatten();
        moved.map_or(Ok(()), |LoweredPack { identity, before, after }| {
            self.set_pack(identity, before, after)
        })
    }

    /// Writes to a stream that is held: a pack, or what was changed in a file.
    pub(super) fn write_to(
        &mut self,
        (identity, epoch): (Uuid, u64),
        offset: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let length = bytes.len();
        self.read_held(identity, epoch, |open, trees| {
            open.check_room(trees, offset + length as u64)
        })?;
        let touched = |open: &OpenStream| open.touched_by_write(offset, length);
        self.change_held((identity, epoch), true, touched, |open, trees| {
            open.write_at(trees, offset, bytes)
        })
    }

    /// Begins a new pack. Returns its identity, the epoch of its handle and its length.
    fn open_pack(&mut self) -> Result<(Uuid, u64, u32)> {
        let identity = self.new_identity()?;
        let stored = StoredStream { inode: Some(PACK_OWNER), ..StoredStream::empty(identity) };
        let epoch = self.hold_as(stored);
        self.packing.open = Some(OpenPack { identity, epoch, length: 0 });
        Ok((identity, epoch, 0))
    }

    fn close_pack(&mut self) {
        if let Some(pack) = self.packing.open.take() {
            self.release_held(pack.identity, pack.epoch, None);
        }
    }

    /// Deletes the open pack if it has no frame: at the next commit it would be a pack without a record.
    fn forget_empty_pack(&mut self) -> Result<()> {
        let Some(pack) = self.packing.open.take_if(|pack| pack.length == 0) else { return Ok(()) };
        self.release_held(pack.identity, pack.epoch, None);
        self.delete(pack.identity).map(drop)
    }

    /// Records how much of a pack is in use. A pack without live bytes is deleted.
    fn set_pack(&mut self, identity: Uuid, before: Pack, after: Pack) -> Result<()> {
        let change = |total: u64, before: u32, after: u32| {
            // The totals come from the meta slot, where an attacker with the key can write any number.
            total.saturating_sub(before.into()).saturating_add(after.into())
        };
        let after = if after.live == 0 { Pack::default() } else { after };
        for (counter, before, after) in
            [(PACKED_COUNTER, before.used, after.used), (LIVE_COUNTER, before.live, after.live)]
        {
            let total = self.trees.counter_mut(counter);
            *total = change(*total, before, after);
        }
        if after.live > 0 {
            self.trees.put::<Packs>(&identity, &after)?;
            return Ok(());
        }
        self.trees.remove::<Packs>(&identity)?;
        if self.packing.open.as_ref().is_some_and(|open| open.identity == identity) {
            self.close_pack();
        }
        self.delete(identity)?;
        Ok(())
    }

    /// Frees the slice of a deleted file. A long one becomes a dead slice, of which each commit frees a part. So does what
    /// is damaged, which must not keep a file from being deleted.
    pub(crate) fn free_slice(&mut self, first: u64, length: u64) -> Result<()> {
        self.settle_packing_before(first.saturating_add(length))?;
        let freed = if length > FREED_AT_ONCE { 0 } else { self.free_frames(first, length)? };
        if freed < length {
            self.trees.put::<DeadSlices>(&(first + freed), &(length - freed))?;
            self.packing.is_purged = false;
        }
        Ok(())
    }

    /// Returns whether slices of deleted files are left that can be freed.
    pub(super) fn has_dead_slices(&self) -> bool {
        self.trees.entries(TreeId::DeadSlices) > 0 && !self.packing.is_purged
    }

    /// Frees some frames of dead slices, as far as the commit finds room for changed pages. What is damaged or unreadable
    /// must not prevent a commit: it stays where it is. Returns the number of frames and of damaged slices that were found.
    pub(super) fn purge_slices(&mut self) -> Result<usize> {
        // If it ends early, there is more to do.
        self.packing.is_purged = false;
        let (mut purged, mut from) = (0, 0);
        // Each record that is changed or removed, and a pack that is deleted.
        let trees = [TreeId::Frames, TreeId::Packs, TreeId::DeadSlices, TreeId::Streams];
        let pages: usize = trees.into_iter().map(|tree| 2 * self.trees.depth(tree)).sum();
        let pages = pages + self.trees.depth(TreeId::PendingDeletions) + 2;
        while self.packing.stuck_slices.len() < STUCK_SLICES_MAX {
            let found = match self.trees.ceiling::<DeadSlices>(&from) {
                Ok(found) => found,
                // The next commit tries again.
                Err(error) if is_damage(&error) => break,
                Err(error) => return Err(error),
            };
            let Some((first, length)) = found else { break };
            from = first.saturating_add(1);
            if self.packing.stuck_slices.contains(&first) {
                continue;
            }
            if purged == FREED_PER_COMMIT || !self.trees.has_room_to_change(pages)? {
                return Ok(purged);
            }
            purged += 1;
            let lowered = match self.lowered(first, length) {
                Ok(lowered) => lowered,
                Err(error) if error.class() == Class::Damaged => {
                    self.packing.stuck_slices.insert(first);
                    continue;
                }
                Err(error) if is_damage(&error) => break,
                Err(error) => return Err(error),
            };
            self.lower(&lowered)?;
            self.trees.remove::<DeadSlices>(&first)?;
            if lowered.freed < length {
                from = first + lowered.freed;
                self.trees.put::<DeadSlices>(&from, &(length - lowered.freed))?;
            }
        }
        self.packing.is_purged = true;
        Ok(purged)
    }

    /// Returns the number of bytes in slices of deleted files.
    pub(super) fn dead_slice_bytes(&self) -> Result<u64> {
        let (mut bytes, mut from) = (0_u64, 0);
        while let Some((first, length)) = self.trees.ceiling::<DeadSlices>(&from)? {
            bytes = bytes.saturating_add(length);
            from = first + 1;
        }
        Ok(bytes)
    }

    /// Frees the frames of a slice. Returns the number of bytes up to the end, or up to what is damaged.
    fn free_frames(&mut self, first: u64, length: u64) -> Result<u64> {
        let mut freed = 0;
        while freed < length {
            match self.lowered(first + freed, length - freed) {
                Ok(lowered) => {
                    self.lower(&lowered)?;
                    freed += lowered.freed;
                }
                Err(error) if is_damage(&error) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(freed)
    }

    /// Takes back everything that was packed from an address on, and that no file has yet.
    pub(super) fn take_back(&mut self, first: u64) -> Result<()> {
        self.packing.take_back(first);
        let (mut at, end) = (first, self.next_address());
        while at < end {
            let covering = self.trees.floor::<Frames>(&at)?;
            let covering = covering.filter(|(begin, frame)| at - begin < frame.length);
            let next =
                if covering.is_some() { covering } else { self.trees.ceiling::<Frames>(&at)? };
            let Some((begin, frame)) = next else { break };
            let from = begin.max(at);
            let lowered = self.lowered(from, begin + frame.length - from)?;
            self.lower(&lowered)?;
            at = begin + frame.length;
        }
        Ok(())
    }

    /// Finds and checks the records that change when the part of a slice is freed that its first frame has.
    fn lowered(&self, first: u64, length: u64) -> Result<Lowered> {
        let (begin, frame) = frame_at(&self.trees, first)?;
        let freed = (begin + frame.length - first).min(length);
        let live = frame
            .live
            .checked_sub(freed)
            .ok_or_else(|| EngineError::damaged(None, Check::Frame, 0..=frame.live, freed))?;
        let left = (live > 0).then_some(Frame { live, ..frame });
        let pack = self.lowered_pack(&frame, left.as_ref())?;
        Ok(Lowered { freed, begin, left, pack })
    }

    fn lower(&mut self, lowered: &Lowered) -> Result<()> {
        match &lowered.left {
            Some(left) => self.trees.put::<Frames>(&lowered.begin, left)?,
            None => self.trees.remove::<Frames>(&lowered.begin)?,
        };
        match lowered.pack {
            Some(LoweredPack { identity, before, after }) => self.set_pack(identity, before, after),
            None => Ok(()),
        }
    }

    /// Finds the record of the pack of a frame, of which `left` is left there, and lowers its number of live bytes.
    fn lowered_pack(&self, frame: &Frame, left: Option<&Frame>) -> Result<Option<LoweredPack>> {
        let Some(Stored { pack: identity, .. }) = frame.stored else { return Ok(None) };
        if ar7_engine::fault!(KeepLiveBytes) {
            return Ok(None);
        }
        let before = self.trees.get::<Packs>(&identity)?;
        let before = before.ok_or_else(|| no_pack(identity))?;
        let lowered = frame.live_bytes() - left.map_or(0, Frame::live_bytes);
        let live = before
            .live
            .checked_sub(lowered)
            .ok_or_else(|| EngineError::damaged(None, Check::Frame, 0..=before.live, lowered))?;
        let is_pack = |stored: StoredStream| stored.inode == Some(PACK_OWNER);
        if live == 0 && !self.stored(identity)?.is_none_or(is_pack) {
            return Err(no_pack(identity));
        }
        Ok(Some(LoweredPack { identity, before, after: Pack { live, ..before } }))
    }

    /// Reads packed content as the open transaction has it. What is not in a pack yet is read from memory: on a full disk,
    /// it could not be moved to one.
    pub(crate) fn read_packed(&self, first: u64, bytes: &mut [u8]) -> Result<()> {
        let (mut at, mut rest) = (first, bytes);
        while !rest.is_empty() {
            let read = match self.packing.from(at) {
                Some(found) => {
                    let length = found.len().min(rest.len());
                    rest[..length].copy_from_slice(&found[..length]);
                    length
                }
                None => self.read_packs(at, rest)?,
            };
            rest = &mut rest[read..];
            at += read as u64;
        }
        Ok(())
    }

    /// Reads content that is in packs, up to what is not. Returns the number of bytes.
    fn read_packs(&self, first: u64, bytes: &mut [u8]) -> Result<usize> {
        let left = self.packing.next_after(first).map_or(u64::MAX, |next| next - first);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        read_packed(&self.trees, &InTransaction(self), first, &mut bytes[..length])?;
        Ok(length)
    }

    /// Begins a slice. Returns its number.
    pub(crate) fn begin_slice(&mut self) -> u64 {
        self.unfinished.begin()
    }

    /// Returns a slice that its caller made `length` bytes long. Fails with [`Error::Stale`] if it is not: the transaction
    /// was committed, or it returned to a point where the slice was shorter or did not exist.
    pub(crate) fn unfinished_slice(&self, number: u64, length: u64) -> Result<UnfinishedSlice> {
        self.unfinished.get(number, length).ok_or(Error::Stale)
    }

    /// Appends `added` bytes to a slice, which `append` packs at the next addresses. Fails with [`Error::Stale`] also if
    /// other content was packed since the slice was begun.
    pub(crate) fn extend_slice(
        &mut self,
        number: u64,
        length: u64,
        added: u64,
        append: impl FnOnce(&mut State) -> Result<()>,
    ) -> Result<()> {
        let slice = self.unfinished_slice(number, length)?;
        let next = self.next_address();
        let first = if slice.length == 0 { next } else { slice.first };
        if first + slice.length != next {
            return Err(Error::Stale);
        }
        append(self)?;
        let length = slice.length + added;
        self.unfinished.slices.insert(number, UnfinishedSlice { first, length });
        Ok(())
    }

    /// Takes a slice, which a file gets or which is freed.
    pub(crate) fn finish_slice(&mut self, number: u64, length: u64) -> Result<UnfinishedSlice> {
        let slice = self.unfinished_slice(number, length)?;
        self.unfinished.slices.remove(&number);
        Ok(slice)
    }

    /// Frees the slices that no file got. Without room to move them to a pack, those that are left stay as they are.
    pub(super) fn free_unfinished(&mut self) -> Result<()> {
        while let Some((&number, &UnfinishedSlice { first, length })) =
            self.unfinished.slices.first_key_value()
        {
            if length > 0 {
                self.settle_packing_before(first.saturating_add(length))?;
                self.free_slice(first, length).inspect_err(|error| self.fail(error))?;
            }
            self.unfinished.slices.remove(&number);
        }
        Ok(())
    }

    /// Forgets what is not in a pack yet, because the transaction is rolled back.
    pub(super) fn forget_packing(&mut self) {
        let stuck = std::mem::take(&mut self.packing.stuck);
        self.packing = Packing { stuck, ..Packing::default() };
    }
}

/// What changes when a part of a slice is freed.
struct Lowered {
    /// Number of bytes of the slice that no file has any more.
    freed: u64,
    /// The first address of their frame.
    begin: u64,
    /// What is left of the frame.
    left: Option<Frame>,
    pack: Option<LoweredPack>,
}

/// A pack with fewer live bytes.
struct LoweredPack {
    identity: Uuid,
    before: Pack,
    after: Pack,
}

/// The packs of the open transaction.
pub(super) struct InTransaction<'a>(pub(super) &'a State);

impl PackReader for InTransaction<'_> {
    fn cache(&self) -> &crate::packs::FrameCache {
        self.0.trees.frames()
    }

    fn read_pack(&self, pack: Uuid, offset: u64, bytes: &mut [u8]) -> Result<usize> {
        self.0.read_uncommitted(pack, offset, bytes)
    }
}

/// Returns the next beginning of a block behind a gap, which is empty or has room for the zeros that a reader looks for.
fn after_gap(length: u32) -> u32 {
    let next = length.next_multiple_of(BLOCK_BYTES);
    if (1..GAP_MIN).contains(&(next - length)) { next + BLOCK_BYTES } else { next }
}

fn no_pack(identity: Uuid) -> Error {
    EngineError::damaged(None, Check::Frame, "a pack", identity).into()
}
