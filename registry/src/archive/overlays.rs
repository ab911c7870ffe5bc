//! Changes of packed files with holes.
//!
//! Content in frames is never changed in place, and in a stream of its own a hole would take space. So what is written
//! to such a file goes to a stream without a name. Before the next commit or savepoint, the file is packed again at new
//! addresses: its holes, what was not changed, and what was.

use std::ops::Range;

use ar7_engine::Error as EngineError;
use ar7_engine::format::StoredStream;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::State;
use super::overlay::{Changes, Overlay, Place};
use crate::blocks::frame_at;
use crate::error::{Error, Result};
use crate::packs::FRAME_MAX;
use crate::records::{ADDRESS_MAX, Inode, InodeNumber, Inodes, ReadRecords};

/// A hole takes at most one in this many of the addresses that are left, and so does a file with holes when it changes.
pub(crate) const HOLE_ONE_IN: u64 = 1024;

/// The shortest hole that stays one. A shorter one would cost more in frames than its zeros do.
pub(super) const HOLE_MIN: u64 = 64 << 10;

/// Number of changed files that are kept in memory, each with a block. Before another one, one of them is packed again.
pub(super) const OVERLAYS_MAX: usize = 1024;

/// Number of changed ranges that are kept in memory, of all changed files. A file with more than its part of them is packed
/// again before the next change.
const CHANGES_MAX: usize = 1 << 16;

/// Bytes of a change that are written while few blocks are in memory.
const STEP: usize = 4 << 20;

impl State {
    /// Writes to a packed file with holes, at an offset or at its end. Returns false, and changes nothing, if it is not
    /// one. A write that fails for lack of space changes nothing.
    pub(crate) fn write_packed(
        &mut self,
        number: InodeNumber,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<bool> {
        self.settle_full_overlay(number)?;
        if self.overlay(number)?.is_none() {
            return Ok(false);
        }
        if bytes.is_empty() {
            return Ok(true);
        }
        self.check_overlay(number, bytes.len())?;
        let Some(overlay) = self.overlays.get(&number) else { return Ok(false) };
        let (stream, before) = (overlay.stream, overlay.length);
        let offset = offset.unwrap_or(before);
        let end = offset.saturating_add(bytes.len() as u64);
        self.check_packed_length(end.max(before))?;
        let Some(overlay) = self.overlays.get(&number) else { return Ok(false) };
        let replaced = overlay.changes.covering(offset..end);
        // More than one step over what is there could end half done.
        let in_place = replaced.filter(|_| bytes.len() <= STEP);
        let at = in_place.unwrap_or_else(|| overlay.free_place(bytes.len() as u64));
        for (step, part) in bytes.chunks(STEP).enumerate() {
            self.write_to(stream, at + (step * STEP) as u64, part)?;
        }
        let Some(overlay) = self.overlays.get_mut(&number) else { return Ok(false) };
        overlay.length = before.max(end);
        if in_place.is_none() {
            overlay.change(offset..end, at, replaced);
        }
        Ok(true)
    }

    /// Sets the length of a packed file with holes. Returns false, and changes nothing, if it is not one.
    pub(crate) fn set_packed_length(&mut self, number: InodeNumber, length: u64) -> Result<bool> {
        let Some(before) = self.overlay(number)?.map(|overlay| overlay.length) else {
            return Ok(false);
        };
        self.check_packed_length(length.max(before))?;
        if length > 0 {
            self.check_overlay(number, 0)?;
        }
        let Some(overlay) = self.overlays.get_mut(&number) else { return Ok(false) };
        overlay.length = length;
        overlay.kept = overlay.kept.min(length);
        overlay.changes.clear(length..u64::MAX);
        if length == 0 {
            // An inode without content has no slice.
            self.settle_overlay(number)?;
        }
        Ok(true)
    }

    /// Reads a changed file. Returns the number of bytes, or `None` if it is not one.
    pub(crate) fn read_overlaid(
        &mut self,
        number: InodeNumber,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<Option<usize>> {
        let Some(overlay) = self.overlays.get(&number) else { return Ok(None) };
        let available =
            usize::try_from(overlay.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        let wanted = available.min(bytes.len());
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let Some(overlay) = self.overlays.get(&number) else { return Ok(None) };
            let (range, place) = (at..offset + wanted as u64, overlay.stream);
            let (end, found) = overlay.place_at(range);
            let until = usize::try_from(end - offset).unwrap_or(wanted);
            self.read_place(place.0, found, &mut bytes[done..until])?;
            done = until;
        }
        Ok(Some(wanted))
    }

    /// Returns the length of a file whose change is not packed yet.
    pub(crate) fn overlaid_length(&self, number: InodeNumber) -> Option<u64> {
        self.overlays.get(&number).map(|overlay| overlay.length)
    }

    /// Forgets the change of a file. Returns the slice that the file had before.
    pub(crate) fn forget_overlay(&mut self, number: InodeNumber) -> Result<Option<(u64, u64)>> {
        let Some(overlay) = self.overlays.remove(&number) else { return Ok(None) };
        let (identity, epoch) = overlay.stream;
        self.release_held(identity, epoch, None);
        self.delete(identity)?;
        Ok(Some(overlay.slice))
    }

    /// Packs every changed file again.
    pub(super) fn settle_overlays(&mut self) -> Result<()> {
        while let Some((&number, _)) = self.overlays.first_key_value() {
            self.settle_overlay(number)?;
        }
        Ok(())
    }

    /// Packs a changed file again, if another change of it would take too much memory.
    fn settle_full_overlay(&mut self, number: InodeNumber) -> Result<()> {
        let most = CHANGES_MAX / self.overlays.len().max(1);
        let is_full = |overlay: &Overlay| overlay.changes.len() >= most;
        if self.overlays.get(&number).is_some_and(is_full) {
            self.settle_overlay(number)?;
        }
        Ok(())
    }

    /// Packs a changed file again. If it fails, the change stays as it is, and so does the transaction.
    fn settle_overlay(&mut self, number: InodeNumber) -> Result<()> {
        let first = self.next_address();
        match self.pack_overlaid(number) {
            Ok(slice) => {
                let given = self.give_overlaid(number, slice);
                given.inspect_err(|error| self.fail(error))
            }
            Err(error) => {
                if self.failed.is_none() {
                    let taken = self.take_back(first);
                    taken.inspect_err(|error| self.fail(error))?;
                }
                Err(error)
            }
        }
    }

    /// Packs the content of a changed file. Returns its first address, if it has any content.
    fn pack_overlaid(&mut self, number: InodeNumber) -> Result<Option<u64>> {
        if self.overlays.get(&number).is_none_or(Overlay::is_unchanged) {
            return Ok(None);
        }
        let length = self.overlaid_length(number).unwrap_or_default();
        let mut bytes = Zeroizing::new(vec![0; FRAME_MAX]);
        let (mut at, mut slice) = (0, None);
        while at < length {
            let next = self.next_address();
            let Some(overlay) = self.overlays.get(&number) else { break };
            let (stream, (end, place)) = (overlay.stream.0, overlay.place_at(at..length));
            let (end, place) = self.up_to_hole(at..end, place)?;
            if matches!(place, Place::Hole) && end - at >= HOLE_MIN {
                self.pack_hole(end - at)?;
                at = end;
            } else {
                let part = usize::try_from(end - at).unwrap_or(FRAME_MAX).min(FRAME_MAX);
                self.read_place(stream, place, &mut bytes[..part])?;
                self.pack(number, &bytes[..part], slice.is_some())?;
                at += part as u64;
            }
            slice.get_or_insert(next);
        }
        Ok(slice)
    }

    /// Gives a changed file its new slice.
    fn give_overlaid(&mut self, number: InodeNumber, slice: Option<u64>) -> Result<()> {
        let Some(overlay) = self.overlays.get(&number) else { return Ok(()) };
        let (is_unchanged, size) = (overlay.is_unchanged(), overlay.length);
        let Some((first, length)) = self.forget_overlay(number)? else { return Ok(()) };
        if is_unchanged {
            // What was written to it was refused.
            return Ok(());
        }
        self.free_slice(first, length)?;
        let inode = self.trees.get::<Inodes>(&number)?;
        let inode = inode.ok_or(Error::NoInode { inode: number.0 })?;
        self.trees.put::<Inodes>(&number, &Inode { size, slice, stream: None, ..inode })?;
        Ok(())
    }

    /// Returns where the same kind of content ends, a hole or bytes, and what it is.
    fn up_to_hole(&self, range: Range<u64>, place: Place) -> Result<(u64, Place)> {
        let Place::Slice(address) = place else { return Ok((range.end, place)) };
        let (begin, frame) = frame_at(&self.trees, address)?;
        let left = frame.length - (address - begin);
        let place = if frame.stored.is_some() { place } else { Place::Hole };
        Ok((range.end.min(range.start.saturating_add(left)), place))
    }

    fn read_place(&mut self, stream: Uuid, place: Place, bytes: &mut [u8]) -> Result<()> {
        match place {
            Place::Slice(address) => self.read_packed(address, bytes),
            Place::Stream(offset) => {
                self.read_uncommitted(stream, offset, bytes)?;
                Ok(())
            }
            Place::Hole => {
                bytes.fill(0);
                Ok(())
            }
        }
    }

    /// Fails if there is no room to write `bytes` to a changed file and to pack it again.
    fn check_overlay(&mut self, number: InodeNumber, bytes: usize) -> Result<()> {
        let Some(overlay) = self.overlays.remove(&number) else { return Ok(()) };
        let checked = self.check_room_to_change(&overlay, bytes);
        self.overlays.insert(number, overlay);
        checked
    }

    /// Returns what was changed in a file, or begins to change it. Returns `None` if it is not a packed file with holes.
    fn overlay(&mut self, number: InodeNumber) -> Result<Option<&Overlay>> {
        if !self.overlays.contains_key(&number) {
            let inode = self.trees.get::<Inodes>(&number)?;
            let Some(Inode { slice: Some(first), size, .. }) = inode else { return Ok(None) };
            let Some(stored) = self.bytes_outside_holes(first, size)? else { return Ok(None) };
            if self.overlays.len() >= OVERLAYS_MAX
                && let Some((&settled, _)) = self.overlays.first_key_value()
            {
                self.settle_overlay(settled)?;
            }
            let identity = self.new_identity()?;
            let epoch = self.hold_as(StoredStream::empty(identity));
            let overlay = Overlay {
                slice: (first, size),
                kept: size,
                stored,
                length: size,
                changes: Changes::default(),
                stream: (identity, epoch),
                written: 0,
                spare: 0..0,
            };
            self.overlays.insert(number, overlay);
        }
        Ok(self.overlays.get(&number))
    }

    /// Returns the number of bytes that a slice takes if it is packed again, or `None` if it has no hole.
    fn bytes_outside_holes(&mut self, first: u64, length: u64) -> Result<Option<u64>> {
        let (mut at, end) = (first, first.saturating_add(length));
        let (mut bytes, mut has_hole) = (0_u64, false);
        self.settle_packing_before(end)?;
        while at < end {
            let (begin, frame) = frame_at(&self.trees, at)?;
            let after = begin.saturating_add(frame.length).min(end);
            let kept = after - at;
            has_hole |= frame.stored.is_none();
            bytes = bytes.saturating_add(match frame.stored {
                None => 0,
                Some(_) if self.compresses() => frame.part_of(kept),
                Some(_) => kept,
            });
            at = after;
        }
        Ok(has_hole.then_some(bytes))
    }

    /// Fails if a file of this length may not be packed again.
    fn check_packed_length(&self, length: u64) -> Result<()> {
        let limit = ADDRESS_MAX.saturating_sub(self.next_address()) / HOLE_ONE_IN;
        if length > limit {
            return Err(EngineError::Full { what: "length of a file with holes", limit }.into());
        }
        Ok(())
    }
}
