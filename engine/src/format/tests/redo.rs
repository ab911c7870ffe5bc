use proptest::prelude::*;

use super::{apply, damaged_check, edits};
use crate::error::Check;
use crate::format::{
    BLOCKS_MAX, DATA_SIZE, Data, Field, Generation, Position, REDO_PER_BLOCK, RedoEntry,
    decode_redo, encode_redo, redo_block, redo_entry,
};

const HERE: Position = Position::at(99);

/// Block count of the archive in these tests.
const COUNT: u32 = 1000;

fn entry(home: u32, shadow: u32) -> RedoEntry {
    let generation = Generation { session: 1, step: 2, salt: 3 };
    RedoEntry { home: Position::at(home), shadow: Position::at(shadow), generation }
}

fn full() -> Vec<RedoEntry> {
    (8..).take(REDO_PER_BLOCK).map(|home| entry(home, home + 500)).collect()
}

#[test]
fn redo_blocks_decode_to_themselves() {
    assert_eq!(REDO_PER_BLOCK, 200);
    for entries in [vec![entry(8, 999)], full()] {
        let data = encode_redo(&entries);
        assert_eq!(decode_redo(HERE, &data, COUNT).expect("a list"), entries);
    }
}

#[test]
#[should_panic(expected = "entries that one block holds")]
fn an_empty_redo_block_is_never_written() {
    encode_redo(&[]);
}

#[test]
fn entries_name_two_data_blocks_of_the_archive() {
    let hostile = [
        ("a reserved home location", entry(7, 9)),
        ("the header as a shadow block", entry(9, 0)),
        ("a home location past the end", entry(COUNT, 9)),
        ("a shadow block past the end", entry(9, COUNT)),
        ("one block as both", entry(9, 9)),
    ];
    for (name, hostile) in hostile {
        let data = encode_redo(&[entry(8, 10), hostile]);
        let error = decode_redo(HERE, &data, COUNT).expect_err(name);
        assert_eq!(damaged_check(&error), Some(Check::RedoList), "{name}");
    }
    for position in [BLOCKS_MAX, u32::MAX] {
        let mut data = encode_redo(&[entry(8, 10)]);
        let entries = redo_block::ENTRIES.of_mut(&mut data[..]);
        redo_entry::HOME.put(entries, &position.to_be_bytes());
        let error = decode_redo(HERE, &data, BLOCKS_MAX).expect_err("past the last position");
        assert_eq!(damaged_check(&error), Some(Check::RedoList));
    }
}

#[test]
fn counts_tags_and_reserved_bytes_are_checked() {
    let (tag, count, reserved) = (redo_block::TAG, redo_block::COUNT, redo_block::RESERVED);
    let hostile: [(&str, Field, &[u8], Check); 7] = [
        ("no entry", count, &[0, 0], Check::RedoList),
        ("201 entries", count, &[0, 201], Check::RedoList),
        ("the most entries", count, &[255, 255], Check::RedoList),
        ("fewer entries than there are", count, &[0, 199], Check::Reserved),
        ("another tag", tag, b"rede", Check::RedoList),
        ("the first reserved byte", reserved, &[1, 0], Check::Reserved),
        ("the last reserved byte", reserved, &[0, 1], Check::Reserved),
    ];
    for (name, field, bytes, check) in hostile {
        let mut data = encode_redo(&full());
        field.put(&mut data[..], bytes);
        let error = decode_redo(HERE, &data, COUNT).expect_err(name);
        assert_eq!(damaged_check(&error), Some(check), "{name}");
    }
    let zeros = decode_redo(HERE, &[0; DATA_SIZE], COUNT).expect_err("zeros");
    assert_eq!(damaged_check(&zeros), Some(Check::RedoList));
}

proptest! {
    #[test]
    fn redo_blocks_that_decode_encode_to_the_same_bytes(
        count in 1..=REDO_PER_BLOCK,
        changed in edits(redo_block::FIELDS),
    ) {
        let mut data = encode_redo(&full()[..count]);
        apply(&changed, &mut data[..]);
        if let Ok(entries) = decode_redo(HERE, &data, COUNT) {
            prop_assert_eq!(encode_redo(&entries), data);
        } else {
            prop_assert!(!changed.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_a_redo_block_panic(bytes in proptest::collection::vec(any::<u8>(), DATA_SIZE)) {
        let mut data: Data = bytes.try_into().expect("the data of a block");
        prop_assert!(decode_redo(HERE, &data, BLOCKS_MAX).is_err());
        redo_block::TAG.put(&mut data, b"redo");
        if let Ok(entries) = decode_redo(HERE, &data, BLOCKS_MAX) {
            prop_assert_eq!(*encode_redo(&entries), data);
        }
    }
}
