use proptest::prelude::*;

use super::{apply, damaged_check, edits};
use crate::error::Check;
use crate::format::{
    BLOCKS_MAX, BlockRef, DATA_SIZE, Data, DoubledRef, Field, Generation, Position, REDO_PER_BLOCK,
    RedoBlock, RedoEntry, redo_block, redo_entry,
};

const HERE: Position = Position::at(99);

/// Block count of the archive in these tests.
const COUNT: u32 = 1000;

const GENERATION: Generation = Generation { session: 1, step: 2, salt: 3 };

fn entry(home: u32, shadow: u32) -> RedoEntry {
    let shadow = BlockRef { position: Position::at(shadow), generation: GENERATION };
    RedoEntry { home: Position::at(home), shadow: Some(shadow) }
}

fn doubled(position: u32, copy: u32) -> DoubledRef {
    let [position, copy] = [position, copy].map(Position::at);
    DoubledRef { position, copy, generation: GENERATION }
}

fn last(entries: &[RedoEntry]) -> RedoBlock {
    RedoBlock { next: None, entries: entries.to_vec() }
}

fn full() -> RedoBlock {
    let entries = (8..).take(REDO_PER_BLOCK).map(|home| entry(home, home + 500)).collect();
    RedoBlock { next: Some(doubled(900, 901)), entries }
}

#[track_caller]
fn assert_refused(name: &str, data: &Data, check: Check) {
    let error = RedoBlock::decode(HERE, data, COUNT).expect_err(name);
    assert_eq!(damaged_check(&error), Some(check), "{name}");
}

#[test]
fn redo_blocks_decode_to_themselves() {
    assert_eq!(REDO_PER_BLOCK, 199);
    let removed = RedoEntry { home: Position::at(9), shadow: None };
    for block in [last(&[entry(8, 999)]), last(&[removed, entry(10, 11)]), full()] {
        let decoded = RedoBlock::decode(HERE, &block.encode(), COUNT).expect("a block of a list");
        assert_eq!(decoded, block);
    }
}

#[test]
#[should_panic(expected = "entries that one block holds")]
fn an_empty_redo_block_is_never_written() {
    last(&[]).encode();
}

#[test]
fn entries_name_two_data_blocks_of_the_archive() {
    let hostile = [
        ("a reserved home location", entry(7, 9)),
        ("the header as a shadow block", entry(9, 0)),
        ("a home location past the end", entry(COUNT, 9)),
        ("a shadow block past the end", entry(9, COUNT)),
        ("one block as both", entry(9, 9)),
        ("a removed reserved block", RedoEntry { shadow: None, ..entry(7, 9) }),
    ];
    for (name, hostile) in hostile {
        assert_refused(name, &last(&[entry(8, 10), hostile]).encode(), Check::RedoList);
    }
    for position in [BLOCKS_MAX, u32::MAX] {
        for field in [redo_entry::HOME.offset, redo_entry::SHADOW.offset] {
            let mut data = last(&[entry(8, 10)]).encode();
            let at = redo_block::ENTRIES.offset + field;
            data[at..at + 4].copy_from_slice(&position.to_be_bytes());
            let check =
                if position == u32::MAX && field > 0 { Check::Reserved } else { Check::RedoList };
            assert_refused("past the last position", &data, check);
        }
    }
}

#[test]
fn the_next_block_has_two_copies_in_the_archive() {
    let hostile = [
        ("a reserved first copy", doubled(7, 9)),
        ("a reserved second copy", doubled(9, 7)),
        ("a first copy past the end", doubled(COUNT, 9)),
        ("a second copy past the end", doubled(9, COUNT)),
        ("both copies in one place", doubled(9, 9)),
    ];
    for (name, hostile) in hostile {
        let block = RedoBlock { next: Some(hostile), ..full() };
        assert_refused(name, &block.encode(), Check::RedoList);
    }
    for (name, bytes) in [("no first copy", 0..4), ("no second copy", 4..8)] {
        let mut data = full().encode();
        redo_block::NEXT.of_mut(&mut data[..])[bytes].fill(0xff);
        assert_refused(name, &data, Check::RedoList);
    }
    let mut data = last(&[entry(8, 10)]).encode();
    redo_block::NEXT.of_mut(&mut data[..])[19] = 1;
    assert_refused("a generation of no block", &data, Check::RedoList);
}

#[test]
fn counts_tags_and_reserved_bytes_are_checked() {
    let (tag, count, reserved) = (redo_block::TAG, redo_block::COUNT, redo_block::RESERVED);
    let hostile: [(&str, Field, &[u8], Check); 7] = [
        ("no entry", count, &[0, 0], Check::RedoList),
        ("200 entries", count, &[0, 200], Check::RedoList),
        ("the most entries", count, &[255, 255], Check::RedoList),
        ("fewer entries than there are", count, &[0, 198], Check::Reserved),
        ("another tag", tag, b"rede", Check::RedoList),
        ("the first reserved byte", reserved, &[1, 0], Check::Reserved),
        ("the last reserved byte", reserved, &[0, 1], Check::Reserved),
    ];
    for (name, field, bytes, check) in hostile {
        let mut data = full().encode();
        field.put(&mut data[..], bytes);
        assert_refused(name, &data, check);
    }
    assert_refused("zeros", &[0; DATA_SIZE], Check::RedoList);
}

proptest! {
    #[test]
    fn redo_blocks_that_decode_encode_to_the_same_bytes(
        count in 1..=REDO_PER_BLOCK,
        changed in edits(redo_block::FIELDS),
    ) {
        let mut block = full();
        block.entries.truncate(count);
        let mut data = block.encode();
        apply(&changed, &mut data[..]);
        if let Ok(decoded) = RedoBlock::decode(HERE, &data, COUNT) {
            prop_assert_eq!(decoded.encode(), data);
        } else {
            prop_assert!(!changed.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_a_redo_block_panic(bytes in proptest::collection::vec(any::<u8>(), DATA_SIZE)) {
        let mut data: Data = bytes.try_into().expect("the data of a block");
        prop_assert!(RedoBlock::decode(HERE, &data, BLOCKS_MAX).is_err());
        redo_block::TAG.put(&mut data, b"redo");
        if let Ok(decoded) = RedoBlock::decode(HERE, &data, BLOCKS_MAX) {
            prop_assert_eq!(*decoded.encode(), data);
        }
    }
}
