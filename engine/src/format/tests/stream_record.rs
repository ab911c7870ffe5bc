use std::num::NonZeroU64;

use proptest::prelude::*;
use uuid::Uuid;

use super::{apply, damaged_check, edits};
use crate::error::{Check, Error};
use crate::format::{
    COMPRESSION_NONE, Generation, Position, StoredStream, StreamLayout, StreamRecord,
    stored_stream, stream_record_layout,
};

fn record() -> StreamRecord {
    StreamRecord {
        identity: Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        begin: Some(Position::at(8)),
        end: Some(Position::at(300)),
        count: 3,
        length: 9000,
        compression: COMPRESSION_NONE,
    }
}

fn one_run() -> StoredStream {
    let generation = Generation { session: 1, step: 2, salt: 3 };
    let record = StreamRecord { end: Some(Position::at(10)), ..record() };
    StoredStream { record, layout: StreamLayout::OneRun(generation), inode: NonZeroU64::new(7) }
}

fn extents() -> StoredStream {
    StoredStream { record: record(), layout: StreamLayout::Extents, inode: None }
}

#[test]
fn a_stream_record_has_the_layout_of_the_specification() {
    // Packed by Python: struct.pack("!16siiIQH", bytes(range(1, 17)), 8, 300, 3, 9000, 0)
    let mut expected: Vec<u8> = (1..=16).collect();
    expected.extend([0, 0, 0, 8, 0, 0, 1, 44, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x23, 0x28, 0, 0]);
    assert_eq!(record().encode()[..], expected);
    assert_eq!(StreamRecord::decode(&record().encode()).expect("a record"), record());
}

#[test]
fn stored_streams_decode_to_themselves() {
    for stored in [one_run(), extents(), StoredStream::empty(Uuid::from_u128(5))] {
        assert_eq!(StoredStream::decode(&stored.encode()).expect("a stored stream"), stored);
    }
}

#[test]
fn records_whose_fields_disagree_are_damage() {
    let (at, none) = (|position| Some(Position::at(position)), None);
    let hostile = [
        ("blocks without a beginning", StreamRecord { begin: none, ..record() }),
        ("blocks without an end", StreamRecord { end: none, ..record() }),
        ("ends without blocks", StreamRecord { count: 0, length: 0, ..record() }),
        ("bytes without blocks", StreamRecord { length: 1, ..StreamRecord::empty(Uuid::nil()) }),
        ("more bytes than its blocks hold", StreamRecord { length: 3 * 4008 + 1, ..record() }),
        ("the largest length", StreamRecord { length: u64::MAX, ..record() }),
        ("a reserved block at the beginning", StreamRecord { begin: at(7), ..record() }),
        ("a reserved block at the end", StreamRecord { end: at(0), ..record() }),
        ("one block with two ends", StreamRecord { count: 1, length: 1, ..record() }),
        ("three blocks with one end", StreamRecord { end: at(8), ..record() }),
    ];
    for (name, record) in hostile {
        let error = StreamRecord::decode(&record.encode()).expect_err(name);
        assert_eq!(damaged_check(&error), Some(Check::Record), "{name}");
    }
    let full = StreamRecord { length: 3 * 4008, ..record() };
    assert!(StreamRecord::decode(&full.encode()).is_ok());
}

#[test]
fn links_out_of_range_are_damage() {
    for field in [stream_record_layout::BEGIN, stream_record_layout::END] {
        for link in [-2, i32::MIN, i32::MAX] {
            let mut bytes = record().encode();
            field.put(&mut bytes, &link.to_be_bytes());
            let error = StreamRecord::decode(&bytes).expect_err("a wrong link");
            assert_eq!(damaged_check(&error), Some(Check::Record), "{link}");
        }
    }
}

#[test]
fn compression_is_a_newer_format() {
    let record = StreamRecord { compression: 1, ..record() };
    let error = StreamRecord::decode(&record.encode()).expect_err("compressed");
    assert!(matches!(error, Error::NewerFormat { what: "compression", .. }));
}

#[test]
fn layouts_that_disagree_with_the_record_are_damage() {
    let generation = Generation { session: 1, step: 0, salt: 0 };
    let empty = StreamRecord::empty(Uuid::nil());
    let single = StreamRecord { end: Some(Position::at(8)), count: 1, length: 1, ..record() };
    let two = StreamRecord { count: 2, length: 4009, ..record() };
    let two = StoredStream { record: two, layout: StreamLayout::Extents, inode: None };
    assert!(StoredStream::decode(&two.encode()).is_ok_and(|decoded| decoded == two));
    let run = StreamLayout::OneRun(generation);
    let hostile = [
        ("a run that ends elsewhere", Check::Record, record(), run),
        ("extents of no block", Check::Record, empty.clone(), StreamLayout::Extents),
        ("extents of one block", Check::Record, single, StreamLayout::Extents),
        ("a generation without blocks", Check::Reserved, empty, run),
    ];
    for (name, check, record, layout) in hostile {
        let bytes = StoredStream { record, layout, inode: None }.encode();
        let error = StoredStream::decode(&bytes).expect_err(name);
        assert_eq!(damaged_check(&error), Some(check), "{name}");
    }
}

#[test]
fn a_run_past_the_last_block_is_damage() {
    let mut stored = one_run();
    stored.record.begin = Some(Position::at(0x7fff_fffe));
    let error = StoredStream::decode(&stored.encode()).expect_err("past the last block");
    assert_eq!(damaged_check(&error), Some(Check::Record));
}

#[test]
fn reserved_flags_and_generations_are_zero() {
    for (field, stored) in
        [(stored_stream::FLAGS, one_run()), (stored_stream::GENERATION, extents())]
    {
        let mut bytes = stored.encode();
        field.of_mut(&mut bytes)[0] |= 2;
        let error = StoredStream::decode(&bytes).expect_err("a reserved bit");
        assert_eq!(damaged_check(&error), Some(Check::Reserved));
    }
}

proptest! {
    #[test]
    fn stored_streams_that_decode_encode_to_the_same_bytes(
        stored in proptest::sample::select(vec![
            one_run(), extents(), StoredStream::empty(Uuid::nil()),
        ]),
        outer in edits(stored_stream::FIELDS),
        inner in edits(stream_record_layout::FIELDS),
    ) {
        let mut bytes = stored.encode();
        apply(&outer, &mut bytes);
        apply(&inner, &mut bytes);
        if let Ok(stored) = StoredStream::decode(&bytes) {
            prop_assert_eq!(stored.encode(), bytes);
        } else {
            prop_assert!(!outer.is_empty() || !inner.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_a_record_panic(bytes in proptest::collection::vec(any::<u8>(), 59)) {
        let bytes: [u8; StoredStream::SIZE] = bytes.try_into().expect("59 bytes");
        if let Ok(stored) = StoredStream::decode(&bytes) {
            prop_assert_eq!(stored.encode(), bytes);
        }
    }
}
