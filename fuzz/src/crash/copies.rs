//! What exists several times: index pages, blocks of the redo list, header and meta slots. The copies are found from the
//! format alone.

use std::collections::HashMap;

use ar7_engine::crypto::KeyKind;
use ar7_engine::device::Device as _;
use ar7_engine::device::simulated::{Medium, SealedBlocks, SimulatedDisk};
use ar7_engine::format::{
    BLOCK_SIZE, META_SLOTS, Position, RESERVED_BLOCKS, has_third_copies, meta_slot_layout, plain,
};
use ar7_engine::store::Access;
use ar7_registry::Archive;

use super::scenario::{RAW_KEY, open};
use crate::reference::{Keys, generation};

/// Returns the positions of both copies of each index page and of each block of the redo list, also of those that are
/// free by now.
///
/// # Panics
/// If block 0 is no good copy of the header.
pub(super) fn doubled_blocks(medium: &Medium) -> Vec<[Position; 2]> {
    let bytes = medium.to_bytes();
    let (blocks, _) = bytes.as_chunks::<BLOCK_SIZE>();
    let keys = Keys::of_header(&blocks[0], &RAW_KEY).expect("the key opens the header");
    let (mut single, mut pairs) = (HashMap::new(), Vec::new());
    for (number, block) in (0..).zip(blocks).skip(8) {
        let position = Position::at(number);
        let open = |kind| keys.open(kind, position, block);
        if let Some(plaintext) = open(KeyKind::Registry).or_else(|| open(KeyKind::Meta)) {
            let version = (generation(block).encode(), plaintext);
            match single.remove(&version) {
                Some(other) => pairs.push([other, position]),
                None => drop(single.insert(version, position)),
            }
        }
    }
    pairs
}

/// Returns a disk with what a medium shows, of which blocks are destroyed.
///
/// # Panics
/// Never: a simulated disk can be written.
pub(super) fn destroyed(
    medium: &Medium,
    blocks: impl IntoIterator<Item = Position>,
) -> SimulatedDisk {
    let disk = SimulatedDisk::with(medium.clone(), &SealedBlocks::default());
    for position in blocks {
        disk.write(position, &[0x55; BLOCK_SIZE]).expect("a simulated disk");
    }
    disk
}

/// Returns whether the current commit and the one before have third copies. Only then, one of the two is durable.
///
/// # Panics
/// If block 0 is no good copy of the header.
pub(super) fn has_two_third_copies(medium: &Medium, archive: &Archive) -> bool {
    let bytes = medium.to_bytes();
    let (blocks, _) = bytes.as_chunks::<BLOCK_SIZE>();
    let keys = Keys::of_header(&blocks[0], &RAW_KEY).expect("the key opens the header");
    let slot = &archive.store().current().slot;
    let is_long_predecessor = |position: Position| {
        let at = usize::try_from(position.get()).expect("a small number");
        let Some(plaintext) = keys.open(KeyKind::Meta, position, &blocks[at]) else { return false };
        let data = plain::DATA.of(&plaintext[..]);
        let number = meta_slot_layout::NUMBER.u64(data);
        number + 1 == slot.number && has_third_copies(meta_slot_layout::BLOCK_COUNT.u32(data))
    };
    has_third_copies(slot.block_count) && META_SLOTS.into_iter().any(is_long_predecessor)
}

/// Checks that without the first eight blocks, an archive opens at the commit that was found or the one before.
pub(super) fn check_without_first_blocks(medium: &Medium, archive: &Archive) -> Result<(), String> {
    let disk = destroyed(medium, (0..RESERVED_BLOCKS).map(Position::at));
    let without = open(&disk, Access::Read);
    let without = without.map_err(|error| format!("without the first eight blocks: {error}"))?;
    let (slot, found) = (&archive.store().current().slot, &without.store().current().slot);
    if found != slot && found.number.checked_add(1) != Some(slot.number) {
        let (found, expected) = (found.number, slot.number);
        return Err(format!("without the first eight blocks: commit {found} of {expected}"));
    }
    Ok(())
}
