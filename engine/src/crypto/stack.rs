//! Wipes the stack after work with keys: ciphers and hashes wipe their values, but not the copies that the compiler
//! spilled to the stack.

use zeroize::zeroize_stack;

/// Largest stack use of a key derivation, a passphrase's included.
const DERIVATION: usize = 32 << 10;

/// Largest stack use of sealing or opening up to 64 blocks.
const BLOCKS: usize = 8 << 10;

/// Derives keys, then wipes the stack that `work` used.
pub(super) fn deriving<T>(work: impl FnOnce() -> T) -> T {
    let outcome = below(work);
    zeroize_stack::<DERIVATION>();
    outcome
}

/// Seals or opens blocks, then wipes the stack that `work` used: it may hold a key and plaintext.
pub(super) fn with_blocks<T>(work: impl FnOnce() -> T) -> T {
    let outcome = below(work);
    zeroize_stack::<BLOCKS>();
    outcome
}

/// Runs `work` in a separate frame below the caller's, the one to be wiped.
#[inline(never)]
fn below<T>(work: impl FnOnce() -> T) -> T {
    work()
}
