use uuid::Uuid;

use super::{ARCHIVE, master};
use crate::crypto::{
    KeyDerivation, LANES_MAX, MEMORY_KIB_MAX, PASSES_MAX, Passphrase, RawKey, Secret,
    check_derivation_costs, unwrap_master_key, wrap_master_key,
};
use crate::error::{Check, Error};
use crate::format::{
    DerivationCost, KEY_SLOTS, KeySlot, LABEL_MAX, Label, Position, UsedSlot, key_slot_layout,
};

type Slots = [KeySlot; KEY_SLOTS];

/// The lowest allowed costs.
fn cheap() -> KeyDerivation {
    KeyDerivation::new(cost(8, 1, 1)).expect("allowed costs")
}

fn cost(memory_kib: u32, passes: u32, lanes: u32) -> DerivationCost {
    DerivationCost { memory_kib, passes, lanes }
}

fn raw(byte: u8) -> Secret {
    Secret::Key(RawKey::from_bytes([byte; 32]))
}

fn passphrase(text: &str) -> Secret {
    Secret::Passphrase(Passphrase::new(text.as_bytes().to_vec()))
}

fn wrap(secret: &Secret, number: usize) -> KeySlot {
    wrap_master_key(&master(), secret, &cheap(), ARCHIVE, number, "laptop").expect("a slot")
}

fn slots(used: impl IntoIterator<Item = (usize, KeySlot)>) -> Slots {
    let mut slots = std::array::from_fn(|_| KeySlot::Empty);
    for (number, slot) in used {
        slots[number] = slot;
    }
    slots
}

/// Unwraps the master key. Returns the number of its slot.
fn unwrap(slots: &Slots, secret: &Secret) -> Result<usize, Error> {
    let (found, number) = unwrap_master_key(slots, secret, ARCHIVE)?;
    assert_eq!(found.as_bytes(), master().as_bytes());
    Ok(number)
}

fn is_tampered(outcome: &Result<usize, Error>) -> bool {
    matches!(outcome, Err(Error::Tampered(fault)) if fault.check == Check::KeySlot)
}

fn is_wrong_key(outcome: &Result<usize, Error>) -> bool {
    matches!(outcome, Err(Error::WrongKey { .. }))
}

/// Slots with one slot for the secret, of which one byte of a field is changed.
fn flipped(secret: &Secret, field: crate::format::Field, at: usize) -> Slots {
    let mut bytes = wrap(secret, 2).encode();
    field.of_mut(&mut bytes)[at] ^= 1;
    slots([(2, KeySlot::decode(Position::at(0), &bytes).expect("a slot that parses"))])
}

#[test]
fn each_key_opens_its_own_slot() {
    let slots = slots([
        (0, wrap(&passphrase("one"), 0)),
        (3, wrap(&raw(3), 3)),
        (6, wrap(&passphrase("two"), 6)),
        (7, wrap(&raw(7), 7)),
    ]);
    assert_eq!(unwrap(&slots, &passphrase("one")).expect("opened"), 0);
    assert_eq!(unwrap(&slots, &raw(3)).expect("opened"), 3);
    assert_eq!(unwrap(&slots, &passphrase("two")).expect("opened"), 6);
    assert_eq!(unwrap(&slots, &raw(7)).expect("opened"), 7);
    for wrong in [raw(8), passphrase("One"), passphrase("")] {
        let error = unwrap(&slots, &wrong).expect_err("a wrong key");
        assert!(matches!(error, Error::WrongKey { slots: 4 }), "{error}");
    }
}

#[test]
fn without_a_key_slot_every_key_is_wrong() {
    let error = unwrap(&slots([]), &raw(1)).expect_err("no slot");
    assert!(matches!(error, Error::WrongKey { slots: 0 }));
}

#[test]
fn a_passphrase_of_32_bytes_is_not_a_raw_key() {
    let text = "x".repeat(32);
    let as_raw = Secret::Key(RawKey::from_bytes([b'x'; 32]));
    assert!(is_wrong_key(&unwrap(&slots([(0, wrap(&passphrase(&text), 0))]), &as_raw)));
    assert!(is_wrong_key(&unwrap(&slots([(0, wrap(&as_raw, 0))]), &passphrase(&text))));
}

#[test]
fn two_key_slots_of_one_secret_differ() {
    let (first, second) = (wrap(&raw(1), 0).encode(), wrap(&raw(1), 0).encode());
    for field in [
        key_slot_layout::SALT,
        key_slot_layout::COMMITMENT,
        key_slot_layout::NONCE,
        key_slot_layout::WRAPPED,
    ] {
        assert_ne!(field.of(&first), field.of(&second), "{}", field.name);
    }
}

#[test]
fn a_changed_slot_is_tampering_or_opens_with_no_key() {
    for secret in [raw(1), passphrase("one")] {
        // These fields determine the derived key, so the right secret looks wrong.
        for field in [key_slot_layout::SALT, key_slot_layout::COMMITMENT] {
            for at in 0..field.length {
                let outcome = unwrap(&flipped(&secret, field, at), &secret);
                assert!(is_wrong_key(&outcome), "{} {at}: {outcome:?}", field.name);
            }
        }
        for field in [key_slot_layout::NONCE, key_slot_layout::WRAPPED] {
            for at in 0..field.length {
                let outcome = unwrap(&flipped(&secret, field, at), &secret);
                assert!(is_tampered(&outcome), "{} {at}: {outcome:?}", field.name);
            }
        }
        for at in 0.."laptop".len() {
            let outcome = unwrap(&flipped(&secret, key_slot_layout::LABEL, at), &secret);
            assert!(is_tampered(&outcome), "label {at}: {outcome:?}");
        }
    }
}

#[test]
fn changed_costs_open_with_no_key() {
    let secret = passphrase("one");
    for (field, value) in [(key_slot_layout::MEMORY, 16_u32), (key_slot_layout::PASSES, 2)] {
        let mut bytes = wrap(&secret, 2).encode();
        field.put(&mut bytes, &value.to_be_bytes());
        let slot = KeySlot::decode(Position::at(0), &bytes).expect("a slot that parses");
        assert!(is_wrong_key(&unwrap(&slots([(2, slot)]), &secret)), "{}", field.name);
    }
}

#[test]
fn a_slot_opens_only_at_its_number_in_its_archive() {
    for secret in [raw(1), passphrase("one")] {
        let slot = wrap(&secret, 2);
        for number in (0..KEY_SLOTS).filter(|&number| number != 2) {
            let outcome = unwrap(&slots([(number, slot.clone())]), &secret);
            assert!(is_tampered(&outcome), "slot {number}: {outcome:?}");
        }
        let elsewhere = unwrap_master_key(&slots([(2, slot)]), &secret, Uuid::nil());
        assert!(is_tampered(&elsewhere.map(|(_, number)| number)));
    }
}

#[test]
fn the_wrapped_key_of_another_slot_does_not_fit() {
    let secret = raw(1);
    let (KeySlot::Used(mut first), KeySlot::Used(second)) = (wrap(&secret, 0), wrap(&secret, 1))
    else {
        panic!("expected two used slots")
    };
    first.wrapped = second.wrapped;
    first.nonce = second.nonce;
    assert!(is_tampered(&unwrap(&slots([(0, KeySlot::Used(first))]), &secret)));
}

#[test]
fn a_tampered_key_slot_is_not_skipped() {
    let secret = raw(1);
    let mut both = flipped(&secret, key_slot_layout::WRAPPED, 0);
    both[5] = wrap(&secret, 5);
    assert!(is_tampered(&unwrap(&both, &secret)));
}

/// A slot with these costs. No secret fits it, so a derivation would end in a wrong key.
fn slot_of_cost(cost: DerivationCost) -> KeySlot {
    KeySlot::Used(Box::new(UsedSlot {
        cost: Some(cost),
        salt: [1; 32],
        label: Label::default(),
        commitment: [2; 32],
        nonce: [3; 24],
        wrapped: [4; 48],
    }))
}

#[test]
fn costs_from_a_file_are_bounded_before_memory_is_allocated() {
    let hostile = [
        vec![cost(MEMORY_KIB_MAX + 1, 1, 1)],
        vec![cost(u32::MAX, 1, 1)],
        vec![cost(8, PASSES_MAX + 1, 1)],
        vec![cost(8, u32::MAX, 1)],
        vec![cost(8, 0, 1)],
        vec![cost(1024, 1, LANES_MAX + 1)],
        vec![cost(1024, 1, u32::MAX)],
        vec![cost(1024, 1, 0)],
        vec![cost(7, 1, 1)],
        vec![cost(31, 1, 4)],
        vec![cost(0, 1, 1)],
        vec![cost(8, 1, 1), cost(MEMORY_KIB_MAX, 1, 1)],
        vec![cost(MEMORY_KIB_MAX / 2 + 1, 1, 1); 2],
        vec![cost(MEMORY_KIB_MAX, PASSES_MAX, LANES_MAX); 8],
        vec![cost(8, PASSES_MAX / 2 + 1, 1); 2],
        vec![cost(8, 9, 1); 8],
        // Memory times passes.
        vec![cost(MEMORY_KIB_MAX, 17, 1)],
        vec![cost(MEMORY_KIB_MAX / 2, 17, 1), cost(MEMORY_KIB_MAX / 2, 16, 1)],
    ];
    for costs in hostile {
        let slots = slots(costs.iter().copied().map(slot_of_cost).enumerate());
        // A raw key costs nothing, but the slots are just as hostile.
        for secret in [passphrase("one"), raw(1)] {
            let error = unwrap(&slots, &secret).expect_err("costs out of bounds");
            let Error::Damaged(fault) = error else { panic!("{costs:?}: {error}") };
            assert_eq!(fault.check, Check::KeyDerivation, "{costs:?}");
        }
        let error = check_derivation_costs(&slots).expect_err("costs out of bounds");
        assert!(matches!(error, Error::OutOfBounds { .. }), "{costs:?}: {error}");
    }
}

#[test]
fn costs_at_their_bounds_are_allowed() {
    for costs in [
        vec![cost(MEMORY_KIB_MAX, 16, LANES_MAX)],
        vec![cost(MEMORY_KIB_MAX / 4, PASSES_MAX, LANES_MAX)],
        vec![cost(MEMORY_KIB_MAX / 8, PASSES_MAX / 8, 1); 8],
        vec![cost(8, 1, 1)],
        vec![cost(128, 1, 16)],
    ] {
        let slots = slots(costs.iter().copied().map(slot_of_cost).enumerate());
        assert!(check_derivation_costs(&slots).is_ok(), "{costs:?}");
    }
    let cheap = slots(vec![slot_of_cost(cost(8, 1, 1)); 8].into_iter().enumerate());
    assert!(matches!(unwrap(&cheap, &passphrase("one")), Err(Error::WrongKey { slots: 8 })));
}

#[test]
fn costs_of_a_new_slot_are_bounded() {
    for wrong in [cost(MEMORY_KIB_MAX + 1, 1, 1), cost(8, 65, 1), cost(8, 1, 2), cost(0, 0, 0)] {
        assert!(matches!(KeyDerivation::new(wrong), Err(Error::OutOfBounds { .. })), "{wrong:?}");
    }
    assert_eq!(KeyDerivation::new(cost(65536, 3, 1)).expect("costs"), KeyDerivation::default());
}

#[test]
fn number_and_label_of_a_new_slot_are_bounded() {
    let make =
        |number, label: &str| wrap_master_key(&master(), &raw(1), &cheap(), ARCHIVE, number, label);
    let error = make(8, "").unwrap_err().to_string();
    assert_eq!(error, "number of a key slot: expected 0 to 7, found 8");
    assert!(matches!(make(usize::MAX, ""), Err(Error::OutOfBounds { .. })));
    let (most, more) = ("x".repeat(LABEL_MAX), "x".repeat(LABEL_MAX + 1));
    assert!(matches!(make(7, &more), Err(Error::OutOfBounds { .. })));
    let KeySlot::Used(slot) = make(7, &most).expect("a slot") else { panic!("an empty slot") };
    assert_eq!((&*slot.label, slot.cost), (&*most, None));
}
