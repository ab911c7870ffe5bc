//! Decoding of a key slot from arbitrary bytes.

use ar7_engine::format::{KeySlot, Position, key_slot_layout};

use crate::bytes::{check_decoded, padded};

/// Decodes `bytes` as a key slot. Returns whether it was accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn key_slot_parse(bytes: &[u8]) -> bool {
    let slot = padded::<{ key_slot_layout::SIZE }>(bytes);
    check_decoded(&slot[..], KeySlot::decode(Position::at(0), &slot).map(|slot| slot.encode()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::{DerivationCost, Label, UsedSlot};

    #[test]
    fn any_slot_is_accepted_or_rejected() {
        let cost = DerivationCost { memory_kib: 65536, passes: 3, lanes: 1 };
        let slot = UsedSlot {
            cost: Some(cost),
            salt: [1; 32],
            label: Label::new("passphrase").expect("a label"),
            commitment: [2; 32],
            nonce: [3; 24],
            wrapped: [4; 48],
        };
        let slot = KeySlot::Used(Box::new(slot)).encode();
        check_mutations(&slot, 0x736c_6f74, key_slot_parse);
    }
}
