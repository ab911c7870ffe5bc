//! Key slots: wraps the master key, and finds the key slot that a raw key or passphrase opens.

use std::ops::RangeInclusive;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::keys::{MasterKey, Passphrase, Secret};
use super::nonce::random_array;
use super::protected::Protected;
use super::stack;
use crate::error::{Check, Error, Result};
use crate::format::{DerivationCost, KEY_SLOTS, KeySlot, Label, UsedSlot};

/// Memory limit of one key derivation, and of all key slots together: 1 GiB.
pub const MEMORY_KIB_MAX: u32 = 1 << 20;

/// Limit of the passes of one key derivation, and of all key slots together.
pub const PASSES_MAX: u32 = 64;

/// Limit of memory in KiB times passes, of one key derivation and of all key slots together: 16 GiB. It bounds the time
/// that opening a hostile file takes.
const WORK_KIB_MAX: u32 = 16 << 20;

/// Limit of the lanes of one key derivation.
pub const LANES_MAX: u32 = 16;

// The names of the costs in errors.
const LANES: &str = "key derivation lanes";
const PASSES: &str = "key derivation passes";
const MEMORY: &str = "key derivation memory in KiB";
const WORK: &str = "key derivation memory in KiB times passes";

/// Costs of deriving a key from a passphrase; by default 64 MiB and 3 passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDerivation(DerivationCost);

impl Default for KeyDerivation {
    fn default() -> KeyDerivation {
        KeyDerivation(DerivationCost { memory_kib: 64 << 10, passes: 3, lanes: 1 })
    }
}

impl KeyDerivation {
    /// Costs within the bounds: memory 8 KiB per lane to 1 GiB, 1 to 64 passes, memory times passes at most 16 GiB, 1 to
    /// 16 lanes.
    pub fn new(cost: DerivationCost) -> Result<KeyDerivation> {
        match excess(cost) {
            None => Ok(KeyDerivation(cost)),
            Some((what, found, allowed)) => {
                let (found, allowed) = (found.into(), allowed.into());
                Err(Error::OutOfBounds { what, found, allowed })
            }
        }
    }
}

/// A cost out of bounds: its name, its value and the allowed values.
type Excess = (&'static str, u32, RangeInclusive<u32>);

/// Returns the first cost that is out of bounds.
fn excess(cost: DerivationCost) -> Option<Excess> {
    let least_memory = 8 * cost.lanes.min(LANES_MAX);
    let bounds = [
        (LANES, cost.lanes, 1..=LANES_MAX),
        (PASSES, cost.passes, 1..=PASSES_MAX),
        (MEMORY, cost.memory_kib, least_memory..=MEMORY_KIB_MAX),
        (WORK, work(cost), 0..=WORK_KIB_MAX),
    ];
    bounds.into_iter().find(|(_, found, allowed)| !allowed.contains(found))
}

/// Returns the first cost that is out of bounds in one key slot or in all together: opening an archive may try every
/// slot.
fn excess_of_all(slots: &[KeySlot; KEY_SLOTS]) -> Option<Excess> {
    let (mut memory_kib, mut passes, mut work_kib) = (0, 0, 0);
    for slot in slots {
        let KeySlot::Used(slot) = slot else { continue };
        let Some(cost) = slot.cost else { continue };
        if let Some(excess) = excess(cost) {
            return Some(excess);
        }
        // Each is bounded, so the sum of eight does not overflow.
        memory_kib += cost.memory_kib;
        passes += cost.passes;
        work_kib += work(cost);
    }
    let sums = [
        (MEMORY, memory_kib, 0..=MEMORY_KIB_MAX),
        (PASSES, passes, 0..=PASSES_MAX),
        (WORK, work_kib, 0..=WORK_KIB_MAX),
    ];
    sums.into_iter().find(|(_, found, allowed)| !allowed.contains(found))
}

/// Returns memory times passes, in KiB.
fn work(cost: DerivationCost) -> u32 {
    cost.memory_kib.saturating_mul(cost.passes)
}

/// Checks that the costs of key slots to be written are bounded, each and together, so that they can be opened again.
pub fn check_derivation_costs(slots: &[KeySlot; KEY_SLOTS]) -> Result<()> {
    match excess_of_all(slots) {
        None => Ok(()),
        Some((what, found, allowed)) => {
            Err(Error::OutOfBounds { what, found: found.into(), allowed: allowed.into() })
        }
    }
}

/// Wraps the master key in the key slot with this number. The label has at most 64 bytes and no control characters.
///
/// `derivation` is within the bounds of one key slot; [`check_derivation_costs`] bounds all key slots together before
/// they are written.
pub fn wrap_master_key(
    master: &MasterKey,
    secret: &Secret,
    derivation: &KeyDerivation,
    archive: Uuid,
    number: usize,
    label: &str,
) -> Result<KeySlot> {
    if number >= KEY_SLOTS {
        return Err(Error::OutOfBounds {
            what: "number of a key slot",
            found: number.into(),
            allowed: (0..=KEY_SLOTS - 1).into(),
        });
    }
    let cost = match secret {
        Secret::Key(_) => None,
        Secret::Passphrase(_) => Some(derivation.0),
    };
    let mut slot = UsedSlot {
        cost,
        salt: random_array()?,
        label: Label::new(label)?,
        commitment: [0; 32],
        nonce: random_array()?,
        wrapped: [0; 48],
    };
    let keys = SlotKeys::derive(secret, &slot)?;
    slot.commitment = keys.commitment;
    slot.wrapped = wrap(&slot, &keys, archive, number, master);
    Ok(KeySlot::Used(Box::new(slot)))
}

/// Unwraps the master key with the first key slot that the secret opens; returns the slot's number too.
///
/// It checks the bounds of all costs before it allocates memory. A valid commitment with an invalid wrapping is
/// tampering, and no other key slot is tried.
pub fn unwrap_master_key(
    slots: &[KeySlot; KEY_SLOTS],
    secret: &Secret,
    archive: Uuid,
) -> Result<(MasterKey, usize)> {
    if let Some((_, found, allowed)) = excess_of_all(slots) {
        return Err(Error::damaged(None, Check::KeyDerivation, allowed, found));
    }
    let mut used = 0;
    for (number, slot) in slots.iter().enumerate() {
        let KeySlot::Used(slot) = slot else { continue };
        used += 1;
        if slot.cost.is_some() != matches!(secret, Secret::Passphrase(_)) {
            continue;
        }
        let keys = SlotKeys::derive(secret, slot)?;
        if bool::from(keys.commitment.ct_eq(&slot.commitment)) {
            match unwrap(slot, &keys, archive, number) {
                Err(_) if crate::fault!(PassOverKeySlots) => {}
                unwrapped => return Ok((unwrapped?, number)),
            }
        }
    }
    Err(Error::WrongKey { slots: used })
}

fn wrap(
    slot: &UsedSlot,
    keys: &SlotKeys,
    archive: Uuid,
    number: usize,
    master: &MasterKey,
) -> [u8; 48] {
    let mut wrapped = [0; 48];
    let (key, tag) = wrapped.split_at_mut(32);
    key.copy_from_slice(master.as_bytes());
    let associated = associated_data(slot, archive, number);
    let sealed = stack::deriving(|| {
        keys.cipher()
            .encrypt_inout_detached(&XNonce::from(slot.nonce), &associated, key.into())
            .expect("32 bytes are a length that the cipher takes")
    });
    tag.copy_from_slice(&sealed);
    wrapped
}

fn unwrap(slot: &UsedSlot, keys: &SlotKeys, archive: Uuid, number: usize) -> Result<MasterKey> {
    let (wrapped, tag) = slot.wrapped.split_at(32);
    let mut key = Protected::new(wrapped);
    let tag: [u8; 16] = tag.try_into().expect("48 bytes less 32");
    let associated = associated_data(slot, archive, number);
    let (nonce, tag) = (XNonce::from(slot.nonce), Tag::from(tag));
    let opened = stack::deriving(|| {
        let text = key.bytes_mut().into();
        keys.cipher().decrypt_inout_detached(&nonce, &associated, text, &tag)
    });
    opened.map_err(|_| Error::tampered(None, Check::KeySlot, "a slot as it was made", number))?;
    Ok(MasterKey::of(key))
}

/// The keys of one key slot, derived from the user's secret.
pub(super) struct SlotKeys {
    pub(super) wrapping: Protected,
    pub(super) commitment: [u8; 32],
}

impl SlotKeys {
    /// Derives the keys with HKDF-SHA256 from the raw key, or from Argon2id (RFC 9106) of the passphrase. It also
    /// derives a commitment, because Poly1305 is not key-committing: one wrapping could open under two keys.
    pub(super) fn derive(secret: &Secret, slot: &UsedSlot) -> Result<SlotKeys> {
        let mut wrapping = Protected::blank_key();
        let derived = stack::deriving(|| SlotKeys::expand(secret, slot, wrapping.bytes_mut()));
        derived.map(|commitment| SlotKeys { wrapping, commitment })
    }

    fn expand(secret: &Secret, slot: &UsedSlot, wrapping: &mut [u8]) -> Result<[u8; 32]> {
        let mut input = Zeroizing::new([0; 32]);
        match (secret, slot.cost) {
            (Secret::Passphrase(passphrase), Some(cost)) => {
                stretch(passphrase, cost, &slot.salt, &mut input)?;
            }
            (Secret::Key(key), _) => input.copy_from_slice(key.as_bytes()),
            (Secret::Passphrase(_), None) => unreachable!("a passphrase slot has costs"),
        }
        let kdf = Hkdf::<Sha256>::new(Some(&slot.salt), &input[..]);
        let mut commitment = [0; 32];
        kdf.expand(b"ar7 v1 wrapping", wrapping)
            .and_then(|()| kdf.expand(b"ar7 v1 commitment", &mut commitment))
            .expect("32 bytes are a length that HKDF-SHA256 gives");
        Ok(commitment)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(self.wrapping.key().into())
    }
}

/// Computes Argon2id (RFC 9106) of a passphrase. The caller has bounded the costs.
fn stretch(
    passphrase: &Passphrase,
    cost: DerivationCost,
    salt: &[u8; 32],
    key: &mut [u8; 32],
) -> Result<()> {
    let failed = |error: argon2::Error| Error::io("derive a key", std::io::Error::other(error));
    let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.len()));
    let params = params.map_err(failed)?;
    // Allocated here, not by the crate: a failed allocation is then an error, and the memory is wiped afterwards.
    let mut memory = Zeroizing::new(Vec::new());
    let blocks = params.block_count();
    memory
        .try_reserve_exact(blocks)
        .map_err(|_| Error::io("derive a key", std::io::ErrorKind::OutOfMemory.into()))?;
    memory.resize(blocks, argon2::Block::default());
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(passphrase.as_bytes(), salt, key, &mut memory[..])
        .map_err(failed)
}

/// Binds the wrapping to the archive, the slot's number, and every other field of the key slot.
fn associated_data(slot: &UsedSlot, archive: Uuid, number: usize) -> Vec<u8> {
    let mut data = b"ar7 slot v1".to_vec();
    data.extend_from_slice(archive.as_bytes());
    data.push(u8::try_from(number).expect("one of eight slots"));
    data.extend_from_slice(&slot.authenticated());
    data
}
