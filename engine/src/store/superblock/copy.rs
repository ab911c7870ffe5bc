//! Reads and writes copies of meta slots.

use super::choose::{Chosen, Copies, Copy, GoodCopy};
use super::places::has_room;
use crate::crypto::{KeyKind, SealJob, Sealer};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, BlockHead, META_SLOTS, META_STREAM, MetaSlot, Position, THIRD_SLOTS,
    has_third_copies, third_slot,
};
use crate::store::open_block::BlockBuffer;

/// Reads and opens the four meta slots, and the third copies if a pair has no good copy.
pub(in crate::store) fn read_copies(device: &dyn Device, sealer: &Sealer) -> Result<Copies> {
    let read = |position| read_copy(device, sealer, position);
    let mut copies = Copies { slots: META_SLOTS.map(read), third: Vec::new() };
    let is_needed = copies.lost_pairs().next().is_some() || crate::fault!(PreferThirdCopies);
    if is_needed && has_room(device)? {
        copies.third = THIRD_SLOTS.map(read).to_vec();
    }
    Ok(copies)
}

/// Returns the copy of the current commit with which the commit would be lost.
///
/// If both copies of its pair are bad, a reader opens the third copies, so a good one saves the commit. If the other copy
/// is older, the pair still has a good one, and a reader then takes the commit before.
pub(in crate::store) fn only_copy(
    device: &dyn Device,
    sealer: &Sealer,
    chosen: &Chosen,
) -> Result<Option<Position>> {
    let Some(only) = chosen.only_copy else { return Ok(None) };
    let MetaSlot { number, block_count, .. } = chosen.slot;
    let third = third_slot(number);
    let is_other_bad = chosen.repair.iter().all(|position| chosen.bad.contains(position));
    let is_saved = is_other_bad
        && only != third
        && has_third_copies(block_count)
        && has_room(device)?
        && read_copy(device, sealer, third).outcome.is_ok_and(|found| found.slot == chosen.slot);
    Ok(Some(only).filter(|_| !is_saved))
}

/// Reads and opens the meta slot at one of its positions.
pub(in crate::store) fn read_copy(
    device: &dyn Device,
    sealer: &Sealer,
    position: Position,
) -> Copy {
    let read = || {
        let mut sealed = Box::new([0; BLOCK_SIZE]);
        device.read(position, &mut sealed[..])?;
        let mut opened = BlockBuffer::new();
        opened.copy_from_slice(&sealed[..]);
        let opened = sealer.open_in_place(KeyKind::Meta, position, &mut opened)?;
        if opened.head.stream != META_STREAM {
            let found = opened.head.stream;
            return Err(Error::tampered(position, Check::Stream, META_STREAM, found));
        }
        let slot = MetaSlot::decode(position, opened.generation, opened.data)?;
        Ok(GoodCopy { slot, sealed })
    };
    Copy { position, outcome: read() }
}

/// Seals a meta slot for one of its positions and writes it there.
pub(in crate::store) fn write_copy(
    device: &dyn Device,
    sealer: &Sealer,
    slot: &MetaSlot,
    position: Position,
) -> Result<()> {
    let data = slot.encode()?;
    let head = BlockHead { stream: META_STREAM, ..BlockHead::default() };
    let job = SealJob { position, head, data: &data };
    let mut bytes = [0; BLOCK_SIZE];
    sealer.seal_batch(KeyKind::Meta, slot.generation, &[job], &mut bytes)?;
    device.write(position, &bytes)
}
