//! SHA-1 (FIPS 180-4) of the data of blocks, as many at once as the processor has lanes for.
//!
//! A digest is a chain of 80 rounds that wait for one another, but the blocks of a batch do not wait for one
//! another, and have one length: `x86_64` makes many digests in one pass. Elsewhere, and for a block by itself, it is
//! the `sha1` crate, which is also what every other way is compared with.

mod one_by_one;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use sha1::{Digest as _, Sha1};

#[cfg(not(target_arch = "x86_64"))]
use self::one_by_one::digest_equal;
#[cfg(target_arch = "x86_64")]
use self::x86_64::digest_equal;
use crate::format::{Data, Digest};

/// Messages that the widest way hashes at once.
pub(super) const LANES_MAX: usize = 16;

/// SHA-1 (FIPS 180-4) of the data of a block.
pub fn digest(data: &Data) -> Digest {
    Sha1::digest(data).into()
}

/// SHA-1 (FIPS 180-4) of the data of each block, in order. Blocks by the 16 cost least.
///
/// # Panics
/// If there are not as many digests as blocks, which is a bug of the caller.
pub fn digest_batch(blocks: &[&Data], digests: &mut [Digest]) {
    assert_eq!(blocks.len(), digests.len(), "a digest for each block");
    for (blocks, digests) in blocks.chunks(LANES_MAX).zip(digests.chunks_mut(LANES_MAX)) {
        digest_each(blocks.iter().copied(), digests);
    }
}

/// Digests of at most [`LANES_MAX`] blocks; digests that are left over stay as they are.
///
/// # Panics
/// If there are more blocks than digests or lanes, which is a bug of the caller.
pub(super) fn digest_each<'a>(
    blocks: impl ExactSizeIterator<Item = &'a Data>,
    digests: &mut [Digest],
) {
    let count = blocks.len();
    let mut messages: [&[u8]; LANES_MAX] = [&[]; LANES_MAX];
    for (message, block) in messages[..count].iter_mut().zip(blocks) {
        *message = block;
    }
    digest_equal(&messages[..count], &mut digests[..count]);
    if crate::fault!(LastLane) && (2..LANES_MAX).contains(&count) {
        digests[count - 1] = digests[0];
    }
}
