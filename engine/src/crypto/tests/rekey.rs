//! Blocks during a change of the master key: the key that opens each, and sealing again under the new one.

use super::{ARCHIVE, master};
use crate::crypto::{KeyKind, MasterKey, SealJob, Sealer};
use crate::error::{Check, Error};
use crate::format::{
    BLOCK_SIZE, BlockHead, BlockIndex, DATA_SIZE, Generation, Position, RESERVED_BLOCKS,
};

const GENERATION: Generation = Generation { session: 4, step: 5, salt: 6 };
const WATERMARK: u32 = 20;

type Bytes = [u8; BLOCK_SIZE];

fn old() -> Sealer {
    Sealer::new(&MasterKey::from_bytes([8; 32]), ARCHIVE)
}

fn new() -> Sealer {
    Sealer::new(&master(), ARCHIVE)
}

/// A sealer in the middle of the change.
fn changing() -> Sealer {
    new().with_old(&old(), WATERMARK)
}

fn head(position: u32) -> BlockHead {
    BlockHead { index: BlockIndex(position), ..BlockHead::default() }
}

fn seal(sealer: &Sealer, kind: KeyKind, position: u32) -> Bytes {
    let data = [7; DATA_SIZE];
    let job = SealJob { position: Position::at(position), head: head(position), data: &data };
    let mut bytes = [0; BLOCK_SIZE];
    sealer.seal_batch(kind, GENERATION, &[job], &mut bytes).expect("sealed");
    bytes
}

/// Returns whether a block that `from` sealed opens under `sealer`, both alone and in a batch.
fn opens(sealer: &Sealer, kind: KeyKind, from: &Sealer, position: u32) -> bool {
    let place = Position::at(position);
    let mut bytes = seal(from, kind, position);
    let mut batch = bytes;
    let mut opened = [false];
    sealer.open_batch(kind, [place], &mut batch, &mut opened);
    let outcome = sealer.open_in_place(kind, place, &mut bytes);
    assert_eq!(outcome.is_ok(), opened[0], "alone and in a batch, {kind:?} at {position}");
    match outcome {
        Ok(block) => {
            assert_eq!((block.head, block.generation), (head(position), GENERATION));
            assert_eq!(*block.data, [7; DATA_SIZE]);
        }
        Err(Error::Damaged(fault)) => assert_eq!(fault.check, Check::Tag),
        Err(other) => panic!("{other}"),
    }
    opened[0]
}

#[test]
fn blocks_below_the_watermark_open_under_the_new_key_and_others_under_the_old() {
    for kind in [KeyKind::Data, KeyKind::Registry] {
        for position in [RESERVED_BLOCKS, WATERMARK - 1, WATERMARK, WATERMARK + 1] {
            let is_changed = position < WATERMARK;
            let under_new = opens(&changing(), kind, &new(), position);
            let under_old = opens(&changing(), kind, &old(), position);
            assert_eq!((under_new, under_old), (is_changed, !is_changed), "{kind:?} {position}");
        }
    }
}

#[test]
fn reserved_blocks_and_meta_blocks_open_under_either_key() {
    let reserved = [KeyKind::Data, KeyKind::Registry].map(|kind| (kind, RESERVED_BLOCKS - 1));
    let commits = [WATERMARK - 1, WATERMARK].map(|position| (KeyKind::Meta, position));
    for (kind, position) in reserved.into_iter().chain(commits) {
        assert!(opens(&changing(), kind, &new(), position), "the new key, {kind:?} {position}");
        assert!(opens(&changing(), kind, &old(), position), "the old key, {kind:?} {position}");
        let third = Sealer::new(&MasterKey::from_bytes([9; 32]), ARCHIVE);
        assert!(!opens(&changing(), kind, &third, position), "a third key, {kind:?} {position}");
    }
}

#[test]
fn each_of_the_two_keys_works_alone() {
    assert!(new().old().is_none());
    let alone = [changing().old().expect("an old key"), changing().new_alone()];
    for (sealer, is_old) in alone.iter().zip([true, false]) {
        assert!(sealer.old().is_none());
        for position in [RESERVED_BLOCKS - 1, WATERMARK - 1, WATERMARK] {
            assert_eq!(opens(sealer, KeyKind::Data, &old(), position), is_old, "{position}");
            assert_eq!(opens(sealer, KeyKind::Data, &new(), position), !is_old, "{position}");
        }
    }
}

#[test]
fn reseal_keeps_position_and_generation() {
    let here = Position::at(WATERMARK);
    for kind in [KeyKind::Data, KeyKind::Registry] {
        let before = seal(&old(), kind, WATERMARK);
        assert!(old().opens(here, &before) && !new().opens(here, &before));
        let mut bytes = before;
        assert!(new().reseal(&old(), here, &mut bytes).expect("randomness"));
        assert!(new().opens(here, &bytes) && !old().opens(here, &bytes));
        let opened = new().open_in_place(kind, here, &mut bytes).expect("a block");
        assert_eq!((opened.head, opened.generation), (head(WATERMARK), GENERATION));
    }
    // A block of another position, a meta slot and a block of no archive stay unchanged.
    let elsewhere = seal(&old(), KeyKind::Data, WATERMARK + 1);
    let of_a_commit = seal(&old(), KeyKind::Meta, WATERMARK);
    for mut bytes in [elsewhere, of_a_commit, [3; BLOCK_SIZE]] {
        let before = bytes;
        assert!(!new().reseal(&old(), here, &mut bytes).expect("randomness"));
        assert_eq!(bytes, before);
        assert!(!old().opens(here, &bytes));
    }
}
