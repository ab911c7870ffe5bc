//! What work with keys leaves behind on the stack: copies in the frames of ciphers and hashes, which wipe their
//! values but not what the compiler has spilled.

use zeroize::zeroize_stack;

/// Stack that a derivation of keys takes at most, that of a passphrase included.
const DERIVATION: usize = 32 << 10;

/// Stack that sealing or opening up to 64 blocks takes at most.
const BLOCKS: usize = 8 << 10;

/// Derives keys, then wipes the stack that it took.
pub(super) fn deriving<T>(work: impl FnOnce() -> T) -> T {
    let outcome = below(work);
    zeroize_stack::<DERIVATION>();
    outcome
}

/// Seals or opens blocks, then wipes the stack that it took: a key of the archive, and plaintext.
pub(super) fn with_blocks<T>(work: impl FnOnce() -> T) -> T {
    let outcome = below(work);
    zeroize_stack::<BLOCKS>();
    outcome
}

/// A frame of its own, below that of the caller, which is the frame that is wiped then.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    work()
}
