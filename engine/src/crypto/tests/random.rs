//! Random values do not repeat: each draw asks the operating system again.

use std::collections::BTreeSet;

use crate::crypto::{random_bytes, random_u32};

#[test]
fn two_draws_of_random_bytes_differ() {
    let draws: BTreeSet<[u8; 32]> = (0..100).map(|_| random_bytes().unwrap()).collect();
    assert_eq!(draws.len(), 100);
    let bits =
        draws.iter().flatten().fold((0, 0), |(ones, zeros), byte| (ones | byte, zeros | !byte));
    assert_eq!(bits, (0xff, 0xff), "every bit is sometimes one and sometimes zero");
}

#[test]
fn random_numbers_use_all_32_bits() {
    let draws: BTreeSet<u32> = (0..100).map(|_| random_u32().unwrap()).collect();
    assert!(draws.len() > 90, "{draws:?}");
    let bits = draws.iter().fold((0, 0), |(ones, zeros), draw| (ones | draw, zeros | !draw));
    assert_eq!(bits, (u32::MAX, u32::MAX));
}
