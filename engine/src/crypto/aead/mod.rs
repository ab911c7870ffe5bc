//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) in place, with a detached tag.
//!
//! `HChaCha20` derives a subkey from the key and the first 16 bytes of the nonce. ChaCha20-Poly1305 (RFC 8439) then
//! encrypts under the subkey with the last 8 bytes. With the feature `fast-aead`, `HChaCha20` comes from the
//! `chacha20` crate and ChaCha20-Poly1305 from `ring`. Without it, both come from the `chacha20poly1305` crate, which
//! is pure Rust. The results are the same, and the tests compare them.

#[cfg(feature = "fast-aead")]
mod fast;
#[cfg(any(test, not(feature = "fast-aead")))]
mod portable;
#[cfg(test)]
mod tests;

#[cfg(feature = "fast-aead")]
pub(super) use fast::Cipher;
#[cfg(not(feature = "fast-aead"))]
pub(super) use portable::Cipher;

/// Length of a nonce in bytes.
const NONCE_SIZE: usize = 24;

/// Length of a tag in bytes.
const TAG_SIZE: usize = 16;

/// The bytes were not sealed with this key, nonce and associated data.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotAuthentic;
