//! The end of a message (FIPS 180-4, 5.1.1): a one bit, zeros, and the length in bits.

use super::BLOCK;

/// The bytes of a message after its last whole block, padded to one block or two.
pub(super) struct Tail {
    bytes: [[u8; BLOCK]; 2],
    blocks: usize,
}

impl Tail {
    /// Pads the tail of a message of `length` bytes. `rest` are the bytes after its last whole block.
    pub(super) fn new(rest: &[u8], length: usize) -> Tail {
        let mut bytes = [[0; BLOCK]; 2];
        let flat = bytes.as_flattened_mut();
        flat[..rest.len()].copy_from_slice(rest);
        flat[rest.len()] = 0x80;
        let blocks = if rest.len() < BLOCK - 8 { 1 } else { 2 };
        let bits = u64::try_from(length).expect("a length in memory") * 8;
        flat[blocks * BLOCK - 8..blocks * BLOCK].copy_from_slice(&bits.to_be_bytes());
        Tail { bytes, blocks }
    }

    /// Returns the padded tail, one block or two.
    pub(super) fn blocks(&self) -> &[[u8; BLOCK]] {
        &self.bytes[..self.blocks]
    }
}
