//! Memory for secrets: separate pages, locked against swapping and excluded from core dumps if the system allows it,
//! and wiped before they are freed.

use memmap2::MmapMut;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::nonce::fill_random;
use crate::error::Result;

/// Secret bytes, which cannot be printed.
pub(super) struct Protected {
    memory: Memory,
    length: usize,
}

enum Memory {
    Pages(MmapMut),
    /// If the system refuses the pages. Wiped too.
    Heap(Vec<u8>),
}

impl Protected {
    /// Copies `secret`. The caller wipes its own copy.
    pub(super) fn new(secret: &[u8]) -> Protected {
        let length = secret.len();
        let mut protected = Protected { memory: Memory::reserve(length), length };
        protected.bytes_mut().copy_from_slice(secret);
        protected
    }

    /// Draws `length` random bytes from the operating system.
    pub(super) fn random(length: usize) -> Result<Protected> {
        let mut protected = Protected { memory: Memory::reserve(length), length };
        fill_random(protected.bytes_mut())?;
        Ok(protected)
    }

    /// Creates 32 zero bytes, to write a key into.
    pub(super) fn blank_key() -> Protected {
        Protected { memory: Memory::reserve(32), length: 32 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Pages(pages) => &pages[..self.length],
            Memory::Heap(bytes) => bytes,
        }
    }

    /// Returns the secret as a key.
    ///
    /// # Panics
    /// If it has another length, a bug of the caller.
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
        // Best effort: a limit on locked memory, or a system without these calls, must not stop the program.
        let _ = pages.lock();
        #[cfg(target_os = "linux")]
        let _ = pages.advise(memmap2::Advice::DontDump);
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
