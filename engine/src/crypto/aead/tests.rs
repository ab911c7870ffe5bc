//! Invariants: the selected cipher produces the same bytes as the pure Rust one; each opens and refuses the same as
//! the other; the bytes are those of the draft.

use proptest::prelude::*;

use super::portable;
use super::{Cipher, NotAuthentic};

const ASSOCIATED: [u8; 32] = [3; 32];

fn bytes<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|at| first.wrapping_add(u8::try_from(at % 256).expect("a byte")))
}

/// Asserts that both ciphers produce the same sealed bytes and tag, and that each opens the other's.
#[track_caller]
fn check_same(key: &[u8; 32], nonce: &[u8; 24], associated: &[u8], text: &[u8]) {
    let (selected, oracle) = (Cipher::new(key), portable::Cipher::new(key));
    let (mut sealed, mut expected) = (text.to_vec(), text.to_vec());
    let tag = selected.seal(nonce, associated, &mut sealed);
    assert_eq!(tag, oracle.seal(nonce, associated, &mut expected), "tag of {}", text.len());
    assert!(sealed == expected, "ciphertext of {}", text.len());
    assert_eq!(selected.open(nonce, associated, &mut expected, &tag), Ok(()));
    assert_eq!(oracle.open(nonce, associated, &mut sealed, &tag), Ok(()));
    assert!(sealed == text && expected == text, "opened text of {}", text.len());
}

#[test]
fn the_selected_cipher_reproduces_the_example_of_the_draft() {
    // draft-irtf-cfrg-xchacha-03, A.3.1.
    let text =
        *b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
        future, sunscreen would be it.";
    let associated = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
    let tag = 0xc087_5924_c1c7_9879_47de_afd8_780a_cf49_u128.to_be_bytes();
    let mut sealed = text;
    let cipher = Cipher::new(&bytes(0x80));
    assert_eq!(cipher.seal(&bytes(0x40), &associated, &mut sealed), tag);
    assert_eq!(sealed[..8], 0xbd6d_179d_3e83_d43b_u64.to_be_bytes());
    assert_eq!(sealed[sealed.len() - 2..], [0xb5, 0x2e]);
    assert_eq!(cipher.open(&bytes(0x40), &associated, &mut sealed, &tag), Ok(()));
    assert_eq!(sealed, text);
}

#[test]
fn both_ciphers_agree_on_every_length() {
    let text: [u8; 4096] = bytes(1);
    for length in (0..=600).chain([1023, 1024, 4040, 4056, 4096]) {
        check_same(&bytes(7), &bytes(9), &ASSOCIATED, &text[..length]);
    }
}

#[test]
fn a_change_of_any_bit_is_refused() {
    let (key, nonce, text) = (bytes(7), bytes(9), bytes::<4056>(1));
    let mut sealed = text;
    let tag = Cipher::new(&key).seal(&nonce, &ASSOCIATED, &mut sealed);
    let open = |key: &[u8; 32], nonce: &[u8; 24], associated: &[u8], tag: &[u8; 16]| {
        Cipher::new(key).open(nonce, associated, &mut sealed.clone(), tag)
    };
    assert_eq!(open(&key, &nonce, &ASSOCIATED, &tag), Ok(()));
    for bit in 0..8 * tag.len() {
        let mut wrong = tag;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&key, &nonce, &ASSOCIATED, &wrong), Err(NotAuthentic), "tag, bit {bit}");
    }
    for bit in 0..8 * nonce.len() {
        let mut wrong = nonce;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&key, &wrong, &ASSOCIATED, &tag), Err(NotAuthentic), "nonce, bit {bit}");
    }
    for bit in 0..8 * ASSOCIATED.len() {
        let mut wrong = ASSOCIATED;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&key, &nonce, &wrong, &tag), Err(NotAuthentic), "associated, bit {bit}");
        let mut wrong = key;
        wrong[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(open(&wrong, &nonce, &ASSOCIATED, &tag), Err(NotAuthentic), "key, bit {bit}");
    }
    assert_eq!(open(&key, &nonce, &ASSOCIATED[..31], &tag), Err(NotAuthentic));
    assert_eq!(open(&key, &nonce, &[], &tag), Err(NotAuthentic));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn both_ciphers_agree_on_any_text(
        key in proptest::array::uniform32(any::<u8>()),
        nonce in proptest::array::uniform24(any::<u8>()),
        associated in proptest::collection::vec(any::<u8>(), 0..80),
        text in proptest::collection::vec(any::<u8>(), 0..5000),
        flip in any::<proptest::sample::Index>(),
    ) {
        check_same(&key, &nonce, &associated, &text);
        let mut sealed = text;
        let tag = Cipher::new(&key).seal(&nonce, &associated, &mut sealed);
        if !sealed.is_empty() {
            let at = flip.index(8 * sealed.len());
            sealed[at / 8] ^= 1 << (at % 8);
            let mut again = sealed.clone();
            let refused = Err(NotAuthentic);
            prop_assert_eq!(Cipher::new(&key).open(&nonce, &associated, &mut sealed, &tag), refused);
            let refused = Err(NotAuthentic);
            let oracle = portable::Cipher::new(&key);
            prop_assert_eq!(oracle.open(&nonce, &associated, &mut again, &tag), refused);
        }
    }
}
