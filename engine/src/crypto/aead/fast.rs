//! The fast cipher: `HChaCha20` in Rust, ChaCha20-Poly1305 in the assembly of `ring`.

use chacha20::{R20, hchacha};
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{NONCE_SIZE, NotAuthentic, TAG_SIZE};

/// Length of the part of the nonce that derives the subkey.
const SUBKEY_NONCE_SIZE: usize = 16;

/// A key. Dropping it wipes it. A subkey is wiped here too, but `ring` leaves copies of it on the stack. Such a copy
/// opens a single block, whose plaintext is in this process anyway, and does not reveal the key.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(in crate::crypto) struct Cipher([u8; 32]);

impl Cipher {
    pub(in crate::crypto) fn new(key: &[u8; 32]) -> Cipher {
        Cipher(*key)
    }

    /// Encrypts in place and returns the tag.
    pub(in crate::crypto) fn seal(
        &self,
        nonce: &[u8; NONCE_SIZE],
        associated: &[u8],
        text: &mut [u8],
    ) -> [u8; TAG_SIZE] {
        let (key, nonce) = self.inner(nonce);
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(associated), text)
            .expect("a block has a length that the cipher takes");
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }

    /// Checks the tag and decrypts in place. On failure the content of `text` is undefined.
    pub(in crate::crypto) fn open(
        &self,
        nonce: &[u8; NONCE_SIZE],
        associated: &[u8],
        text: &mut [u8],
        tag: &[u8; TAG_SIZE],
    ) -> Result<(), NotAuthentic> {
        let (key, nonce) = self.inner(nonce);
        key.open_in_place_separate_tag(nonce, Aad::from(associated), (*tag).into(), text, 0..)
            .map(drop)
            .map_err(|_| NotAuthentic)
    }

    /// Derives the subkey, and the nonce under it: four zero bytes, then the rest of the long nonce.
    fn inner(&self, nonce: &[u8; NONCE_SIZE]) -> (LessSafeKey, Nonce) {
        let (first, last) = nonce.split_first_chunk::<SUBKEY_NONCE_SIZE>().expect("16 of 24 bytes");
        let subkey =
            Zeroizing::new(<[u8; 32]>::from(hchacha::<R20>((&self.0).into(), first.into())));
        let mut inner = [0; 12];
        inner[4..].copy_from_slice(last);
        let key = UnboundKey::new(&CHACHA20_POLY1305, &*subkey).expect("a key has 32 bytes");
        (LessSafeKey::new(key), Nonce::assume_unique_for_key(inner))
    }
}
