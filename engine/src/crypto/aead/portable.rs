//! The cipher in pure Rust: the fallback, and the oracle for the fast one.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use zeroize::ZeroizeOnDrop;

use super::{NONCE_SIZE, NotAuthentic, TAG_SIZE};

/// A key. Dropping it wipes it.
#[derive(Clone)]
pub(in crate::crypto) struct Cipher(XChaCha20Poly1305);

impl Cipher {
    pub(in crate::crypto) fn new(key: &[u8; 32]) -> Cipher {
        Cipher(XChaCha20Poly1305::new(key.into()))
    }

    /// Encrypts in place and returns the tag.
    pub(in crate::crypto) fn seal(
        &self,
        nonce: &[u8; NONCE_SIZE],
        associated: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_SIZE] {
        self.0
            .encrypt_inout_detached(&XNonce::from(*nonce), associated, text.into())
            .expect("a block has a length that the cipher takes")
            .into()
    }

    /// Checks the tag and decrypts in place. On failure the content of `text` is undefined.
    pub(in crate::crypto) fn open(
        &self,
        nonce: &[u8; NONCE_SIZE],
        associated: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_SIZE],
    ) -> Result<(), NotAuthentic> {
        let nonce = XNonce::from(*nonce);
        self.0
            .decrypt_inout_detached(&nonce, associated, text.into(), &Tag::from(*tag))
            .map_err(|_| NotAuthentic)
    }
}

// The inner cipher wipes its key.
impl ZeroizeOnDrop for Cipher where XChaCha20Poly1305: ZeroizeOnDrop {}
