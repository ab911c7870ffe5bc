//! Several digests at once. Word `i` of a vector belongs to message `i`, and one pass over the rounds computes 16
//! digests (AVX-512) or 8 (AVX2). The SHA instructions interleave two messages. The program detects at run time which
//! of these the processor supports.

#[macro_use]
mod rounds;
mod avx2;
mod avx512;
mod padding;
mod sha_ni;
#[cfg(test)]
mod tests;

use std::sync::LazyLock;

use super::one_by_one;
use crate::format::Digest;

/// Length of a SHA-1 block in bytes.
const BLOCK: usize = 64;

/// Smallest number of messages for which 16 lanes, some of them idle, are faster than pairs with the SHA
/// instructions. The lanes take the time of nine messages.
const BEFORE_PAIRS_LEAST: usize = 9;

/// Smallest number of messages for which lanes, some of them idle, are faster than one message at a time without the
/// SHA instructions.
const BEFORE_SINGLES_LEAST: usize = 3;

/// The implementations that this processor supports.
static MACHINE: LazyLock<Ways> = LazyLock::new(Ways::detect);

/// Computes the SHA-1 digests (FIPS 180-4) of messages of one length, in order.
///
/// # Panics
/// If the lengths differ, which is a bug of the caller.
pub(super) fn digest_equal(messages: &[&[u8]], digests: &mut [Digest]) {
    MACHINE.digest(messages, digests);
}

/// A function that hashes as many messages of one length as it has lanes.
///
/// It panics if the lengths differ, a bug of the caller.
type Way<const LANES: usize> = fn(&[&[u8]; LANES]) -> [Digest; LANES];

/// The implementations for several messages at once.
#[derive(Debug, Clone, Copy, Default)]
struct Ways {
    sixteen: Option<Way<{ avx512::LANES }>>,
    eight: Option<Way<{ avx2::LANES }>>,
    two: Option<Way<{ sha_ni::LANES }>>,
}

impl Ways {
    /// Detects the implementations that the processor supports.
    fn detect() -> Ways {
        Ways { sixteen: avx512::detect(), eight: avx2::detect(), two: sha_ni::detect() }
    }

    /// Computes the digests of messages of one length.
    fn digest(self, mut messages: &[&[u8]], mut digests: &mut [Digest]) {
        while !messages.is_empty() {
            let done = self.digest_some(messages, digests);
            messages = &messages[done..];
            digests = &mut digests[done..];
        }
    }

    /// Computes the digests of the first messages, and returns their number. Measured on Zen 5, per message of 4008
    /// bytes: 16 lanes 0.6 us, pairs with the SHA instructions 1.1 us, 8 lanes 1.1 to 1.3 us, one at a time 2.0 us.
    fn digest_some(self, messages: &[&[u8]], digests: &mut [Digest]) -> usize {
        let count = messages.len();
        let least = if self.two.is_some() { BEFORE_PAIRS_LEAST } else { BEFORE_SINGLES_LEAST };
        if let Some(way) = self.sixteen.filter(|_| count >= least) {
            in_lanes(messages, digests, way)
        } else if let Some(way) = self.two.filter(|_| count >= sha_ni::LANES) {
            in_lanes(messages, digests, way)
        } else if let Some(way) = self.eight.filter(|_| count >= BEFORE_SINGLES_LEAST) {
            in_lanes(messages, digests, way)
        } else {
            one_by_one::digest_equal(messages, digests);
            count
        }
    }
}

/// Computes the digests of as many messages as there are lanes, and returns their number. Surplus lanes repeat the
/// last message.
fn in_lanes<const LANES: usize>(
    messages: &[&[u8]],
    digests: &mut [Digest],
    way: Way<LANES>,
) -> usize {
    let count = messages.len().min(LANES);
    let lanes = std::array::from_fn(|lane| messages[lane.min(count - 1)]);
    digests[..count].copy_from_slice(&way(&lanes)[..count]);
    count
}

/// Assembles the digests from the words of the state. Each word has a value per lane.
fn word_digests<const LANES: usize>(words: &[[u32; LANES]; 5]) -> [Digest; LANES] {
    std::array::from_fn(|lane| {
        let mut digest = Digest::default();
        for (bytes, word) in digest.chunks_exact_mut(4).zip(words) {
            bytes.copy_from_slice(&word[lane].to_be_bytes());
        }
        digest
    })
}
