//! What a test that searches memory for keys must know of them. Masked, so that it does not find what it knows.

use hkdf::Hkdf;
use sha2::Sha256;
use uuid::Uuid;

use super::keys::{MasterKey, Secret};
use super::slot::SlotKeys;
use crate::error::Result;
use crate::format::{KEY_SLOTS, KeySlot};

/// A key by its name, masked.
pub type MaskedKey = (&'static str, [u8; 32]);

/// HMAC combines its key with these bytes by exclusive or (RFC 2104): who has the outcome has the key.
const PADS: [u8; 2] = [0x36, 0x5c];

/// Every key of an archive, in each form from which it is plain.
pub(crate) fn masked_keys(
    master: &MasterKey,
    archive: Uuid,
    (secret, slots): (&Secret, &[KeySlot; KEY_SLOTS]),
    mask: &[u8; 32],
) -> Result<Vec<MaskedKey>> {
    let masked = |key: &[u8], pad: u8| std::array::from_fn(|at| key[at] ^ mask[at] ^ pad);
    let mut keys = vec![("master key", masked(master.as_bytes(), 0))];
    let (extracted, _) = Hkdf::<Sha256>::extract(Some(archive.as_bytes()), master.as_bytes());
    keys.push(("extracted key", masked(&extracted, 0)));
    keys.extend(PADS.map(|pad| ("padded extracted key", masked(&extracted, pad))));
    for purpose in ["ar7 v1 data", "ar7 v1 registry", "ar7 v1 meta", "ar7 v1 old key"] {
        keys.push((purpose, masked(master.derive(archive, purpose).bytes(), 0)));
    }
    for purpose in ["ar7 v1 header", "ar7 v1 receipt"] {
        let key = master.derive(archive, purpose);
        keys.push((purpose, masked(key.bytes(), 0)));
        keys.extend(PADS.map(|pad| ("padded key of a code", masked(key.bytes(), pad))));
    }
    for slot in slots {
        let KeySlot::Used(slot) = slot else { continue };
        if slot.cost.is_some() == matches!(secret, Secret::Passphrase(_)) {
            let wrapping = SlotKeys::derive(secret, slot)?.wrapping;
            keys.push(("wrapping key", masked(wrapping.bytes(), 0)));
        }
    }
    Ok(keys)
}
