//! Masked keys, for a test that searches memory for keys. Without the mask, the test would find its own copies.

use hkdf::Hkdf;
use sha2::Sha256;
use uuid::Uuid;

use super::keys::{MasterKey, Secret};
use super::slot::SlotKeys;
use crate::error::Result;
use crate::format::{KEY_SLOTS, KeySlot};

/// The name of a key, and the masked key.
pub type MaskedKey = (&'static str, [u8; 32]);

/// HMAC combines its key with these bytes by exclusive or (RFC 2104), so the padded key reveals the key.
const PADS: [u8; 2] = [0x36, 0x5c];

/// Returns every key of an archive, in each form that reveals it, masked by exclusive or.
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
