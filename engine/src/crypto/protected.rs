//! Where secrets lie: pages of their own, which are not swapped out and not written to a core dump where the system
//! allows that, and which are wiped before they are given back.

use memmap2::{Advice, MmapMut};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::nonce::fill_random;
use crate::error::Result;

/// Secret bytes. There is no way to print them.
pub(super) struct Protected {
    memory: Memory,
    length: usize,
}

enum Memory {
    Pages(MmapMut),
    /// Where the system has no pages to give. Wiped all the same.
    Heap(Vec<u8>),
}

impl Protected {
    /// A copy of `secret`; the caller wipes its own.
    pub(super) fn new(secret: &[u8]) -> Protected {
        let length = secret.len();
        let mut protected = Protected { memory: Memory::reserve(length), length };
        protected.bytes_mut().copy_from_slice(secret);
        protected
    }

    /// As many random bytes from the operating system.
    pub(super) fn random(length: usize) -> Result<Protected> {
        let mut protected = Protected { memory: Memory::reserve(length), length };
        fill_random(protected.bytes_mut())?;
        Ok(protected)
    }

    /// 32 zeros, for a key to be written to.
    pub(super) fn blank_key() -> Protected {
        Protected { memory: Memory::reserve(32), length: 32 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Pages(pages) => &pages[..self.length],
            Memory::Heap(bytes) => bytes,
        }
    }

    /// The secret as a key.
    ///
    /// # Panics
    /// If it has another length, which is a bug of the caller.
    pub(super) fn key(&self) -> &[u8; 32] {
        self.bytes().try_into().expect("a key of 32 bytes")
    }

    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Pages(pages) => &mut pages[..self.length],
            Memory::Heap(bytes) => bytes,
        }
    }
}

impl Memory {
    fn reserve(length: usize) -> Memory {
        let Ok(pages) = MmapMut::map_anon(length.max(1)) else {
            return Memory::Heap(vec![0; length]);
        };
        // A limit on locked memory, or a system that knows neither, is no reason to refuse work.
        let _ = pages.lock();
        let _ = pages.advise(Advice::DontDump);
        Memory::Pages(pages)
    }
}

impl Clone for Protected {
    fn clone(&self) -> Protected {
        Protected::new(self.bytes())
    }
}

impl ZeroizeOnDrop for Protected {}

impl Drop for Protected {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
    }
}
