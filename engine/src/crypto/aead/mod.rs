//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha) in place, with the tag apart.
//!
//! It is `HChaCha20` of the key and the first 16 bytes of the nonce, which gives a subkey, then ChaCha20-Poly1305
//! (RFC 8439) under the subkey with the last 8. With the feature `fast-aead` the first comes from the `chacha20`
//! crate and the second from `ring`; without it both come from the `chacha20poly1305` crate, which is pure Rust.
//! Both make the same bytes: the tests compare them.

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
