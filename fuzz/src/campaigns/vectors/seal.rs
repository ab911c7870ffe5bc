//! Sealing as docs/FORMAT.md specifies it, with given nonces.

use ar7_engine::format::{
    BLOCK_SIZE, BlockHead, DATA_SIZE, DerivationCost, Generation, PLAIN_SIZE, Position,
};
use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use uuid::Uuid;

/// Computes HKDF-SHA256 with 32 bytes of output.
pub(super) fn derive(key: &[u8], salt: &[u8], info: &str) -> [u8; 32] {
    let mut derived = [0; 32];
    let kdf = Hkdf::<Sha256>::new(Some(salt), key);
    kdf.expand(info.as_bytes(), &mut derived).expect("32 bytes are a length that HKDF gives");
    derived
}

/// Computes Argon2id with 32 bytes of output.
pub(super) fn stretch(passphrase: &[u8], salt: &[u8], cost: DerivationCost) -> [u8; 32] {
    let mut stretched = [0; 32];
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(stretched.len()));
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.expect("small costs"));
    argon2.hash_password_into(passphrase, salt, &mut stretched).expect("lengths that it takes");
    stretched
}

/// Encrypts with XChaCha20-Poly1305. Returns the ciphertext followed by the tag.
pub(super) fn encrypt(key: &[u8; 32], nonce: [u8; 24], associated: &[u8], plain: &[u8]) -> Vec<u8> {
    let mut sealed = plain.to_vec();
    let cipher = XChaCha20Poly1305::new(key.into());
    let tag = cipher
        .encrypt_inout_detached(&XNonce::from(nonce), associated, sealed.as_mut_slice().into())
        .expect("a length that the cipher takes");
    sealed.extend_from_slice(&tag);
    sealed
}

/// Returns a nonce that starts with a generation; the other bytes count up from `first`.
pub(super) fn nonce(generation: Generation, first: u8) -> [u8; 24] {
    let mut nonce = counting::<24>(first.wrapping_sub(12));
    nonce[..12].copy_from_slice(&generation.encode());
    nonce
}

/// Returns bytes that count up.
pub(super) fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|at| first.wrapping_add(u8::try_from(at % 256).expect("below 256")))
}

/// A sealed block and its inputs.
pub(super) struct Sealed {
    pub(super) associated: Vec<u8>,
    pub(super) plain: [u8; PLAIN_SIZE],
    pub(super) bytes: [u8; BLOCK_SIZE],
}

/// Seals a block.
pub(super) fn seal(
    key: &[u8; 32],
    nonce: [u8; 24],
    archive: Uuid,
    position: Position,
    head: BlockHead,
    data: &[u8; DATA_SIZE],
) -> Sealed {
    let mut plain = [0; PLAIN_SIZE];
    head.encode(&Sha1::digest(data).into(), &mut plain);
    plain[PLAIN_SIZE - DATA_SIZE..].copy_from_slice(data);
    let mut associated = b"ar7 block v1".to_vec();
    associated.extend_from_slice(archive.as_bytes());
    associated.extend_from_slice(&position.get().to_be_bytes());
    let mut bytes = [0; BLOCK_SIZE];
    bytes[..24].copy_from_slice(&nonce);
    bytes[24..].copy_from_slice(&encrypt(key, nonce, &associated, &plain));
    Sealed { associated, plain, bytes }
}
