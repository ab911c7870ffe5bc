use proptest::prelude::*;
use uuid::Uuid;

use super::{apply, damaged_check, edits};
use crate::error::{Check, Error, Result, Value};
use crate::format::{
    BLOCKS_MAX, DATA_SIZE, DEPTH_MAX, Data, DoubledRef, Features, Field, Generation, METADATA_MAX,
    MetaSlot, PENDING_SESSIONS_MAX, Position, Root, Run, SessionRecord, StoredStream, StreamLayout,
    StreamRecord, inline_free_run, meta_slot_layout as at, root, stored_stream,
};

const HERE: Position = Position::at(3);
const GENERATION: Generation = Generation { session: 5, step: 6, salt: 7 };
const COUNT: u32 = 1000;

fn doubled(position: u32, copy: u32) -> DoubledRef {
    let [position, copy] = [position, copy].map(Position::at);
    DoubledRef { position, copy, generation: GENERATION }
}

fn run(start: u32, count: u32) -> Run {
    Run::new(Position::at(start), count).expect("a run")
}

fn first() -> MetaSlot {
    MetaSlot::first(GENERATION, 1, [0xab; 32])
}

/// A slot that uses every field.
fn rich() -> MetaSlot {
    let mut slot = first();
    slot.features = Features { compatible: 1, readable: 2, required: 0 };
    slot.number = 77;
    slot.block_count = COUNT;
    slot.roots[0] = Root { block: Some(doubled(8, 500)), depth: 1, entries: 1 };
    slot.roots[15] = Root { block: Some(doubled(999, 9)), depth: DEPTH_MAX, entries: u64::MAX };
    slot.redo_head = Some(doubled(20, 700));
    slot.redo_length = 992;
    slot.inline_free = vec![run(8, 1), run(9, 11), run(900, 100)];
    slot.reserved_streams[3] = StoredStream {
        record: StreamRecord {
            begin: Some(Position::at(30)),
            end: Some(Position::at(31)),
            count: 2,
            length: 5000,
            ..StreamRecord::empty(Uuid::from_u128(3))
        },
        layout: StreamLayout::OneRun(GENERATION),
        inode: None,
    };
    slot.master_key_number = 2;
    slot.rekey_watermark = 100;
    slot.counters = [1, 2, 3, 4, 5, 6, 7, u64::MAX];
    slot.pending_sessions = vec![SessionRecord { session: 4, salt: 3, last_step: 2 }; 32];
    slot.metadata = vec![0x6d; METADATA_MAX];
    slot.tail = vec![0, 1, 0];
    slot
}

fn decode(data: &Data) -> Result<MetaSlot> {
    MetaSlot::decode(HERE, GENERATION, data)
}

/// Decodes a rich slot after `bytes` replaced those of a field from `skip` on.
fn changed(field: Field, skip: usize, bytes: &[u8]) -> Result<()> {
    let mut data = rich().encode().expect("a slot");
    field.of_mut(&mut data[..])[skip..skip + bytes.len()].copy_from_slice(bytes);
    decode(&data).map(drop)
}

#[test]
fn slots_decode_to_themselves() {
    for slot in [first(), rich()] {
        let data = slot.encode().expect("a slot");
        assert_eq!(decode(&data).expect("a slot"), slot);
    }
}

#[test]
fn a_slot_with_a_list_that_is_too_long_does_not_encode() {
    type Change = fn(&mut MetaSlot);
    let changes: [(&str, Change); 4] = [
        ("number of inline free runs", |slot| {
            slot.inline_free = (0..17).map(|at| run(10 + 2 * at, 1)).collect();
        }),
        ("number of sessions", |slot| {
            let session = SessionRecord { session: 1, salt: 1, last_step: 1 };
            slot.pending_sessions = vec![session; PENDING_SESSIONS_MAX + 1];
        }),
        ("length of the metadata", |slot| slot.metadata = vec![0; METADATA_MAX + 1]),
        ("length of the tail", |slot| slot.tail = vec![0; at::TAIL.length + 1]),
    ];
    for (expected, change) in changes {
        let mut slot = rich();
        change(&mut slot);
        let error = slot.encode().expect_err(expected);
        assert!(matches!(error, Error::OutOfBounds { what, .. } if what == expected));
    }
}

#[test]
fn a_slot_that_would_not_decode_does_not_encode() {
    let mut slot = rich();
    slot.inline_free.reverse();
    let error = slot.encode().expect_err("free runs out of order");
    assert!(matches!(error, Error::Damaged(fault) if fault.check == Check::MetaSlot));
}

#[test]
fn a_slot_of_another_generation_than_its_block_is_tampering() {
    let data = rich().encode().expect("a slot");
    let sealed = Generation { step: 7, ..GENERATION };
    let error = MetaSlot::decode(HERE, sealed, &data).expect_err("another generation");
    assert!(matches!(error, Error::Tampered(fault) if fault.check == Check::MetaSlot));
}

#[test]
fn a_newer_meta_slot_is_not_reported_as_damage() {
    let version = changed(at::VERSION, 0, &[0, 2]).expect_err("version 2");
    assert!(matches!(version, Error::NewerFormat { what: "version of the meta slot", .. }));
    let required = changed(at::FEATURES, 23, &[1]).expect_err("a required feature");
    assert!(matches!(required, Error::NewerFormat { what: "required features", .. }));
    let compression = 3 * stored_stream::SIZE + 37;
    let compressed = changed(at::STREAMS, compression, &[1]).expect_err("compression");
    assert!(matches!(compressed, Error::NewerFormat { what: "compression", .. }));
}

#[test]
fn the_frame_is_checked() {
    let slot = Check::MetaSlot;
    let used = u16::try_from(at::TAIL.offset).expect("a slot is one block");
    let hostile = [
        ("no tag", slot, changed(at::TAG, 0, &[0; 4])),
        ("version 0", slot, changed(at::VERSION, 0, &[0, 0])),
        ("length without the fields", slot, changed(at::LENGTH, 0, &(used - 1).to_be_bytes())),
        ("length past the data", slot, changed(at::LENGTH, 0, &4009_u16.to_be_bytes())),
        ("tail past the length", Check::Reserved, changed(at::LENGTH, 0, &used.to_be_bytes())),
        ("tail past the length", Check::Reserved, changed(at::TAIL, 3, &[1])),
        ("reserved bytes", Check::Reserved, changed(at::RESERVED, 0, &[1])),
        ("fewer blocks than are reserved", slot, changed(at::BLOCK_COUNT, 0, &[0, 0, 0, 7])),
        ("more blocks than the format allows", slot, changed(at::BLOCK_COUNT, 0, &[0x80, 0, 0, 0])),
        ("a watermark past the last", slot, changed(at::REKEY_WATERMARK, 0, &[0x80, 0, 0, 0])),
    ];
    for (name, check, outcome) in hostile {
        let error = outcome.expect_err(name);
        assert_eq!(damaged_check(&error), Some(check), "{name}");
    }
    let zeros = decode(&[0; DATA_SIZE]).expect_err("zeros");
    assert_eq!(damaged_check(&zeros), Some(slot));
}

#[test]
fn roots_and_the_redo_list_are_bounded() {
    let slot = Check::MetaSlot;
    let second = root::SIZE;
    let hostile = [
        ("a reserved root", slot, changed(at::ROOTS, 0, &[0, 0, 0, 7])),
        ("a root past the end", slot, changed(at::ROOTS, 0, &COUNT.to_be_bytes())),
        ("a root before the beginning", slot, changed(at::ROOTS, 0, &[0xff, 0xff, 0xff, 0xfe])),
        ("a reserved copy of a root", slot, changed(at::ROOTS, 4, &[0, 0, 0, 7])),
        ("a copy of a root past the end", slot, changed(at::ROOTS, 4, &COUNT.to_be_bytes())),
        ("both copies of a root in one place", slot, changed(at::ROOTS, 4, &[0, 0, 0, 8])),
        ("no copy of a root", slot, changed(at::ROOTS, 4, &[0xff; 4])),
        ("generation of no root", slot, changed(at::ROOTS, second + 19, &[1])),
        ("depth of no root", Check::Root, changed(at::ROOTS, second + 20, &[1])),
        ("entries of no root", Check::Root, changed(at::ROOTS, second + 31, &[1])),
        ("no depth", Check::Root, changed(at::ROOTS, 20, &[0])),
        ("no entries", Check::Root, changed(at::ROOTS, 31, &[0])),
        ("too deep", Check::Root, changed(at::ROOTS, 20, &[DEPTH_MAX + 1])),
        ("reserved bytes of a root", Check::Reserved, changed(at::ROOTS, 23, &[1])),
        ("a reserved list", slot, changed(at::REDO_HEAD, 0, &[0, 0, 0, 1])),
        ("a list past the end", slot, changed(at::REDO_HEAD, 0, &COUNT.to_be_bytes())),
        ("a reserved copy", slot, changed(at::REDO_HEAD, 4, &[0, 0, 0, 7])),
        ("a copy past the end", slot, changed(at::REDO_HEAD, 4, &COUNT.to_be_bytes())),
        ("both copies in one place", slot, changed(at::REDO_HEAD, 4, &[0, 0, 0, 20])),
        ("no copy", slot, changed(at::REDO_HEAD, 4, &[0xff; 4])),
        ("a list without entries", Check::RedoList, changed(at::REDO_LENGTH, 0, &[0; 4])),
        (
            "a list with too many entries",
            Check::RedoList,
            changed(at::REDO_LENGTH, 0, &[0, 0, 3, 0xe1]),
        ),
    ];
    for (name, check, outcome) in hostile {
        let error = outcome.expect_err(name);
        assert_eq!(damaged_check(&error), Some(check), "{name}");
    }
    let mut without = rich();
    (without.redo_head, without.redo_length) = (None, 0);
    let mut data = without.encode().expect("a slot");
    at::REDO_LENGTH.put(&mut data[..], &1_u32.to_be_bytes());
    assert_eq!(damaged_check(&decode(&data).expect_err("no head")), Some(Check::RedoList));
}

#[test]
fn lists_and_records_are_bounded() {
    let slot = Check::MetaSlot;
    let (start, stream) = (inline_free_run::SIZE, 3 * stored_stream::SIZE);
    let inode = stream + stored_stream::INODE.offset + 7;
    let mut beyond = rich().reserved_streams[3].clone();
    beyond.record.begin = Some(Position::at(COUNT - 1));
    beyond.record.end = Some(Position::at(COUNT));
    let beyond = beyond.encode();
    let hostile = [
        ("17 runs", slot, changed(at::INLINE_FREE_COUNT, 0, &[17])),
        ("fewer runs than there are", Check::Reserved, changed(at::INLINE_FREE_COUNT, 0, &[2])),
        ("more runs than there are", slot, changed(at::INLINE_FREE_COUNT, 0, &[4])),
        ("a reserved run", slot, changed(at::INLINE_FREE, 0, &[0, 0, 0, 7])),
        ("an empty run", slot, changed(at::INLINE_FREE, 4, &[0, 0, 0, 0])),
        ("runs that overlap", slot, changed(at::INLINE_FREE, start, &[0, 0, 0, 8])),
        ("a run past the end", slot, changed(at::INLINE_FREE, 2 * start + 7, &[101])),
        ("a run past the last position", slot, changed(at::INLINE_FREE, 2 * start + 4, &[0xff; 4])),
        ("33 sessions", slot, changed(at::PENDING_COUNT, 0, &[33])),
        ("fewer sessions", Check::Reserved, changed(at::PENDING_COUNT, 0, &[31])),
        ("too much metadata", slot, changed(at::METADATA_LENGTH, 0, &2049_u16.to_be_bytes())),
        ("metadata past its length", Check::Reserved, changed(at::METADATA_LENGTH, 0, &[0, 9])),
        ("another stream", Check::Record, changed(at::STREAMS, stream + 15, &[4])),
        ("a stream past the end", Check::Record, changed(at::STREAMS, stream, &beyond)),
        ("a stream of an inode", Check::Record, changed(at::STREAMS, inode, &[2])),
    ];
    for (name, check, outcome) in hostile {
        let error = outcome.expect_err(name);
        let Error::Damaged(fault) = error else { panic!("{name}: {error}") };
        assert_eq!((fault.check, fault.position), (check, Some(HERE)), "{name}");
        if name == "a stream past the end" {
            assert_eq!(fault.expected, Value::from(COUNT - 1));
        }
    }
    let mut beyond = rich();
    beyond.block_count = BLOCKS_MAX;
    let mut data = beyond.encode().expect("a slot");
    at::BLOCK_COUNT.put(&mut data[..], &31_u32.to_be_bytes());
    assert!(decode(&data).is_err(), "blocks past the block count");
    let watermark = |blocks: u32| changed(at::REKEY_WATERMARK, 0, &blocks.to_be_bytes());
    assert!(watermark(BLOCKS_MAX).is_ok() && watermark(BLOCKS_MAX + 1).is_err());
}

proptest! {
    #[test]
    fn slots_that_decode_encode_to_the_same_bytes(
        used in any::<bool>(),
        changed in edits(at::FIELDS),
    ) {
        let slot = if used { rich() } else { first() };
        let mut data = slot.encode().expect("a slot");
        apply(&changed, &mut data[..]);
        if let Ok(slot) = decode(&data) {
            prop_assert_eq!(slot.encode().expect("a slot"), data);
        } else {
            prop_assert!(!changed.is_empty());
        }
    }

    #[test]
    fn no_bytes_make_a_slot_panic(
        bytes in proptest::collection::vec(any::<u8>(), DATA_SIZE),
        known in 0..=at::FIELDS.len(),
    ) {
        // The first fields come from a good slot, so that the decoder reaches the later ones.
        let mut data: Data = bytes.try_into().expect("the data of a block");
        let good = rich().encode().expect("a slot");
        for field in &at::FIELDS[..known] {
            field.put(&mut data, field.of(&good[..]));
        }
        if let Ok(slot) = decode(&data) {
            prop_assert_eq!(&slot.encode().expect("a slot")[..], &data[..]);
        }
    }
}
