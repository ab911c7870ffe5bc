use proptest::prelude::*;

use super::{apply, damaged_check, edits};
use crate::error::{Check, Error};
use crate::format::{
    DerivationCost, KeySlot, LABEL_MAX, Label, Position, UsedSlot, key_slot_layout,
};

const HEADER: Position = Position::at(0);

fn slot(cost: Option<DerivationCost>, label: &str) -> KeySlot {
    KeySlot::Used(Box::new(UsedSlot {
        cost,
        salt: [1; 32],
        label: Label::new(label).expect("a label"),
        commitment: [2; 32],
        nonce: [3; 24],
        wrapped: [4; 48],
    }))
}

fn passphrase() -> KeySlot {
    slot(Some(DerivationCost { memory_kib: 65536, passes: 3, lanes: 1 }), "Käse")
}

fn slots() -> Vec<KeySlot> {
    vec![KeySlot::Empty, slot(None, ""), slot(None, &"x".repeat(LABEL_MAX)), passphrase()]
}

fn decode(bytes: &[u8; key_slot_layout::SIZE]) -> Result<KeySlot, Error> {
    KeySlot::decode(HEADER, bytes)
}

#[test]
fn slots_decode_to_themselves() {
    for slot in slots() {
        assert_eq!(decode(&slot.encode()).expect("a slot"), slot);
    }
    assert_eq!(KeySlot::Empty.encode(), [0; 256]);
}

#[test]
fn the_wrapping_authenticates_every_field_before_the_wrapped_key() {
    let before = key_slot_layout::WRAPPED.offset;
    for slot in slots() {
        if let KeySlot::Used(used) = &slot {
            assert_eq!(used.authenticated(), slot.encode()[..before]);
        }
    }
}

#[test]
fn labels_are_short_and_free_of_control_characters() {
    assert_eq!(&*Label::new("laptop, 2026").expect("a label"), "laptop, 2026");
    assert!(Label::new(&"ä".repeat(32)).is_ok());
    assert_eq!(format!("[{:>6}]", Label::new("Käse").expect("a label")), "[  Käse]");
    for wrong in ["x".repeat(LABEL_MAX + 1), "ä".repeat(33), "\x1b[2J".to_owned(), "\n".into()] {
        assert!(matches!(Label::new(&wrong), Err(Error::OutOfBounds { .. })), "{wrong:?}");
    }
}

#[test]
fn wrong_fields_are_damage() {
    type Change = fn(&mut [u8]);
    let hostile: [(&str, KeySlot, Check, Change); 9] = [
        ("an empty slot with another byte", KeySlot::Empty, Check::Reserved, |slot| slot[255] = 1),
        ("a used slot of kind 0", passphrase(), Check::Reserved, |slot| slot[0] = 0),
        ("a raw key with costs", passphrase(), Check::Reserved, |slot| slot[0] = 1),
        ("the first reserved byte", passphrase(), Check::Reserved, |slot| slot[2] = 1),
        ("the last reserved byte", passphrase(), Check::Reserved, |slot| slot[255] = 1),
        ("a label too long", passphrase(), Check::KeySlot, |slot| slot[1] = 65),
        ("a label cut short", passphrase(), Check::Reserved, |slot| slot[1] = 3),
        ("a label that is not UTF-8", passphrase(), Check::KeySlot, |slot| slot[49] = 0xff),
        ("a label with an escape", passphrase(), Check::KeySlot, |slot| slot[48] = 0x1b),
    ];
    for (name, slot, check, change) in hostile {
        let mut bytes = slot.encode();
        change(&mut bytes);
        let error = decode(&bytes).expect_err(name);
        assert_eq!(damaged_check(&error), Some(check), "{name}");
    }
}

#[test]
fn an_unknown_kind_is_a_newer_format() {
    for kind in [3, 255] {
        let mut bytes = passphrase().encode();
        bytes[0] = kind;
        let error = decode(&bytes).expect_err("an unknown kind");
        assert!(matches!(error, Error::NewerFormat { what: "kind of key slot", .. }));
    }
}

proptest! {
    #[test]
    fn slots_that_decode_encode_to_the_same_bytes(
        slot in proptest::sample::select(slots()),
        changed in edits(key_slot_layout::FIELDS),
    ) {
        let mut bytes = slot.encode();
        apply(&changed, &mut bytes);
        if let Ok(slot) = decode(&bytes) {
            prop_assert_eq!(slot.encode(), bytes);
        } else {
            prop_assert!(!changed.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_a_slot_panic(
        kind in 0..4_u8,
        bytes in proptest::collection::vec(any::<u8>(), key_slot_layout::SIZE),
    ) {
        let mut bytes: [u8; key_slot_layout::SIZE] = bytes.try_into().expect("256 bytes");
        bytes[0] = kind;
        if let Ok(slot) = decode(&bytes) {
            prop_assert_eq!(slot.encode(), bytes);
        }
    }
}
