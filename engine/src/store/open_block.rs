//! Opens one sealed block: copies it from the device, authenticates it, then compares it with the reference.

use std::ops::{Deref, DerefMut};

use zeroize::{Zeroize, ZeroizeOnDrop};

use super::committed::Redirects;
use crate::crypto::{KeyKind, Opened, Sealer};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, BlockHead, BlockRef, Generation, Position, is_reserved, plain, sealed,
};

/// A buffer for one block on the heap. Opening a block leaves plaintext in it, so dropping it wipes it.
pub(super) struct BlockBuffer(Box<[u8; BLOCK_SIZE]>);

impl BlockBuffer {
    pub(super) fn new() -> BlockBuffer {
        BlockBuffer(Box::new([0; BLOCK_SIZE]))
    }
}

impl Deref for BlockBuffer {
    type Target = [u8; BLOCK_SIZE];

    fn deref(&self) -> &[u8; BLOCK_SIZE] {
        &self.0
    }
}

impl DerefMut for BlockBuffer {
    fn deref_mut(&mut self) -> &mut [u8; BLOCK_SIZE] {
        &mut self.0
    }
}

impl ZeroizeOnDrop for BlockBuffer {}

impl Drop for BlockBuffer {
    fn drop(&mut self) {
        // As a slice: an array is wiped byte by byte, which is slow.
        self.0[..].zeroize();
    }
}

/// Reads and opens one version of one block: from its shadow block if it has one there, or else from its home location.
pub(super) fn read_one<'a>(
    device: &dyn Device,
    sealer: &Sealer,
    redirects: &Redirects,
    kind: KeyKind,
    block: BlockRef,
    bytes: &'a mut [u8; BLOCK_SIZE],
) -> Result<Opened<'a>> {
    let home = block.position;
    if is_reserved(home) {
        return Err(Error::damaged(home, Check::Root, "a block that is not reserved", home));
    }
    let source = redirects.source(home, block.generation);
    match read_at(device, sealer, kind, block, source, bytes) {
        Ok(()) => reopened(home, bytes),
        // The newest version may be in a shadow block that nothing names any more.
        Err(Error::Tampered(fault)) if fault.check == Check::Generation => {
            let Some(lost) = redirects.lost else { return Err(Error::Tampered(fault)) };
            Err(Error::damaged(home, Check::RedoList, "a redo block that opens", lost))
        }
        Err(error) => Err(error),
    }
}

/// Reads one version of a block from `source`, and opens it in place for its home location. If it fails a check, it is
/// read once more past the map: a write by this process may have been in flight.
fn read_at(
    device: &dyn Device,
    sealer: &Sealer,
    kind: KeyKind,
    block: BlockRef,
    source: Position,
    bytes: &mut [u8; BLOCK_SIZE],
) -> Result<()> {
    device.read(source, bytes)?;
    let first = sealer.open_in_place(kind, block.position, bytes);
    if first.is_ok_and(|opened| opened.generation == block.generation) {
        return Ok(());
    }
    device.read_direct(source, bytes)?;
    let found = sealer.open_in_place(kind, block.position, bytes)?.generation;
    if found != block.generation && !crate::fault!(IgnoreTheGeneration) {
        let expected = block.generation;
        return Err(Error::tampered(block.position, Check::Generation, expected, found));
    }
    Ok(())
}

/// Decodes a block that was already opened in place: its plaintext replaced its ciphertext.
pub(super) fn reopened(position: Position, bytes: &[u8; BLOCK_SIZE]) -> Result<Opened<'_>> {
    let plaintext = sealed::CIPHERTEXT.of(bytes);
    let (head, _) = BlockHead::decode(position, plaintext)?;
    let data = plain::DATA.of(plaintext).try_into().expect("the length of the data field");
    Ok(Opened { generation: generation_in(bytes), head, data })
}

/// Returns the generation of a sealed block: the first part of its nonce, which opening leaves unchanged.
pub(super) fn generation_in(bytes: &[u8; BLOCK_SIZE]) -> Generation {
    let mut generation = [0; Generation::SIZE];
    generation.copy_from_slice(&bytes[..Generation::SIZE]);
    Generation::decode(generation)
}
