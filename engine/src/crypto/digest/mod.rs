//! SHA-1 (FIPS 180-4) of the data of blocks, for as many blocks at once as the processor has lanes.
//!
//! Each of the 80 rounds of a digest waits for the one before. But blocks are independent and have the same length,
//! so `x86_64` computes several digests in one pass. On other processors, and for a single block, the `sha1` crate
//! computes the digest. It is also the oracle in the tests.

mod one_by_one;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use sha1::{Digest as _, Sha1};

#[cfg(not(target_arch = "x86_64"))]
use self::one_by_one::digest_equal;
#[cfg(target_arch = "x86_64")]
use self::x86_64::digest_equal;
use crate::format::{Data, Digest};

/// Messages that the widest implementation hashes at once.
pub(super) const LANES_MAX: usize = 16;

/// Computes the SHA-1 digest (FIPS 180-4) of a block's data.
pub fn digest(data: &Data) -> Digest {
    Sha1::digest(data).into()
}

/// Computes the SHA-1 digest (FIPS 180-4) of each block's data, in order. Multiples of 16 blocks are fastest.
///
/// If the numbers of digests and blocks differ, a bug of the caller.
pub fn digest_batch(blocks: &[&Data], digests: &mut [Digest]) {
    assert_eq!(blocks.len(), digests.len(), "a digest for each block");
    for (blocks, digests) in blocks.chunks(LANES_MAX).zip(digests.chunks_mut(LANES_MAX)) {
        digest_each(blocks.iter().copied(), digests);
    }
}

/// Computes the digests of at most [`LANES_MAX`] blocks. Surplus digests stay unchanged.
///
/// If there are more blocks than digests or lanes, a bug of the caller.
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
