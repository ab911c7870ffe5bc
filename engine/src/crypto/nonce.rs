//! Random bytes from the operating system, or from a generator seeded by it for each batch.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

#[cfg(any(test, feature = "testing"))]
pub use testing::fail_random_after;

use crate::error::{Error, Result};
use crate::format::Generation;

/// Random bytes of a nonce, after the generation.
const RANDOM_SIZE: usize = 24 - Generation::SIZE;

/// The name of the operation in errors.
const OPERATION: &str = "read random bytes";

/// The nonce of one sealed block. Only a [`NonceSource`] makes one.
pub(super) struct Nonce(pub(super) [u8; 24]);

/// Makes the nonces of one batch. The operating system seeds each batch, so that a clone of a running virtual machine
/// does not repeat nonces.
pub(super) struct NonceSource {
    generation: Generation,
    random: ChaCha20Rng,
}

impl NonceSource {
    /// Creates a source for blocks of one generation.
    pub(super) fn new(generation: Generation) -> Result<NonceSource> {
        let mut seed = Zeroizing::new(random_array::<32>()?);
        if crate::fault!(NoncesRepeat) {
            seed.fill(0);
        }
        Ok(NonceSource { generation, random: ChaCha20Rng::from_seed(*seed) })
    }

    /// Draws the next nonces: the generation, then 12 random bytes.
    pub(super) fn draw<const COUNT: usize>(&mut self) -> [Nonce; COUNT] {
        let mut random = [[0; RANDOM_SIZE]; COUNT];
        self.random.fill_bytes(random.as_flattened_mut());
        let generation = self.generation.encode();
        random.map(|random| {
            let mut nonce = [0; 24];
            nonce[..Generation::SIZE].copy_from_slice(&generation);
            nonce[Generation::SIZE..].copy_from_slice(&random);
            Nonce(nonce)
        })
    }
}

/// Returns the generation of a block with this nonce.
pub(super) fn generation_of(nonce: &[u8; 24]) -> Generation {
    let mut generation = [0; Generation::SIZE];
    generation.copy_from_slice(&nonce[..Generation::SIZE]);
    Generation::decode(generation)
}

/// Draws random bytes from the operating system. A failure is an error, never a fixed value.
pub(crate) fn random_array<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// Fills `bytes` in place. Every random byte of this crate comes from here.
pub(super) fn fill_random(bytes: &mut [u8]) -> Result<()> {
    let failed = |error: getrandom::Error| Error::io(OPERATION, std::io::Error::other(error));
    #[cfg(any(test, feature = "testing"))]
    testing::take_draw()?;
    getrandom::fill(bytes).map_err(failed)
}

/// A failing random source, for tests.
#[cfg(any(test, feature = "testing"))]
mod testing {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::OPERATION;
    use crate::error::{Error, Result};

    static DRAWS_LEFT: AtomicU64 = AtomicU64::new(u64::MAX);

    /// Makes the random source of this process fail after `draws` draws; `None` ends that.
    pub fn fail_random_after(draws: Option<u64>) {
        DRAWS_LEFT.store(draws.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    pub(super) fn take_draw() -> Result<()> {
        let take = |left: u64| if left == u64::MAX { Some(left) } else { left.checked_sub(1) };
        DRAWS_LEFT
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
            .map(drop)
            .map_err(|_| Error::io(OPERATION, std::io::ErrorKind::Unsupported.into()))
    }
}

/// Draws random bytes from the operating system, for identifiers of the layer above.
pub fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    random_array()
}

/// Draws a random number from the operating system.
pub fn random_u32() -> Result<u32> {
    random_array().map(u32::from_be_bytes)
}
