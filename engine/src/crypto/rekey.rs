//! Wrapping the old master key under the new one, while an archive is under both.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::keys::MasterKey;
use super::nonce::random_array;
use crate::error::{Check, Error, Result};
use crate::format::Rekey;

const PURPOSE: &str = "ar7 v1 old key";

/// Wraps the old master key; the record has no code yet.
pub fn wrap_old_key(new: &MasterKey, old: &MasterKey, archive: Uuid, number: u32) -> Result<Rekey> {
    let mut rekey = Rekey { number, nonce: random_array()?, wrapped: [0; 48], code: [0; 32] };
    let (key, tag) = rekey.wrapped.split_at_mut(32);
    key.copy_from_slice(old.as_bytes());
    let sealed = cipher(new, archive)
        .encrypt_inout_detached(
            &XNonce::from(rekey.nonce),
            &associated_data(archive, number),
            key.into(),
        )
        .expect("32 bytes are a length that the cipher takes");
    tag.copy_from_slice(&sealed);
    Ok(rekey)
}

/// Unwraps the old master key.
pub fn unwrap_old_key(new: &MasterKey, rekey: &Rekey, archive: Uuid) -> Result<MasterKey> {
    let mut key = Zeroizing::new([0; 32]);
    let (wrapped, tag) = rekey.wrapped.split_at(32);
    key.copy_from_slice(wrapped);
    let tag: [u8; 16] = tag.try_into().expect("48 bytes less 32");
    cipher(new, archive)
        .decrypt_inout_detached(
            &XNonce::from(rekey.nonce),
            &associated_data(archive, rekey.number),
            (&mut key[..]).into(),
            &Tag::from(tag),
        )
        .map_err(|_| {
            Error::tampered(None, Check::KeySlot, "the old master key as it was wrapped", "another")
        })?;
    Ok(MasterKey::from_bytes(*key))
}

fn cipher(new: &MasterKey, archive: Uuid) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*new.derive(archive, PURPOSE)).into())
}

fn associated_data(archive: Uuid, number: u32) -> Vec<u8> {
    [&b"ar7 old key v1"[..], archive.as_bytes(), &number.to_be_bytes()].concat()
}
