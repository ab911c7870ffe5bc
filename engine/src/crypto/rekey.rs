//! Wraps the old master key under the new one during a rekey, while the archive is under both.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use uuid::Uuid;

use super::keys::MasterKey;
use super::nonce::random_array;
use super::protected::Protected;
use super::stack;
use crate::error::{Check, Error, Result};
use crate::format::Rekey;

const PURPOSE: &str = "ar7 v1 old key";

/// Wraps the old master key. The record's code is still zero.
pub fn wrap_old_key(new: &MasterKey, old: &MasterKey, archive: Uuid, number: u32) -> Result<Rekey> {
    let mut rekey = Rekey { number, nonce: random_array()?, wrapped: [0; 48], code: [0; 32] };
    let (key, tag) = rekey.wrapped.split_at_mut(32);
    key.copy_from_slice(old.as_bytes());
    let associated = associated_data(archive, number);
    let sealed = stack::deriving(|| {
        cipher(new, archive)
            .encrypt_inout_detached(&XNonce::from(rekey.nonce), &associated, key.into())
            .expect("32 bytes are a length that the cipher takes")
    });
    tag.copy_from_slice(&sealed);
    Ok(rekey)
}

/// Unwraps the old master key.
pub fn unwrap_old_key(new: &MasterKey, rekey: &Rekey, archive: Uuid) -> Result<MasterKey> {
    let (wrapped, tag) = rekey.wrapped.split_at(32);
    let mut key = Protected::new(wrapped);
    let tag: [u8; 16] = tag.try_into().expect("48 bytes less 32");
    let associated = associated_data(archive, rekey.number);
    let (nonce, tag) = (XNonce::from(rekey.nonce), Tag::from(tag));
    let opened = stack::deriving(|| {
        let text = key.bytes_mut().into();
        cipher(new, archive).decrypt_inout_detached(&nonce, &associated, text, &tag)
    });
    opened.map_err(|_| {
        Error::tampered(None, Check::KeySlot, "the old master key as it was wrapped", "another")
    })?;
    Ok(MasterKey::of(key))
}

fn cipher(new: &MasterKey, archive: Uuid) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(new.derive(archive, PURPOSE).key().into())
}

fn associated_data(archive: Uuid, number: u32) -> Vec<u8> {
    [&b"ar7 old key v1"[..], archive.as_bytes(), &number.to_be_bytes()].concat()
}
