//! What the specification says of its classes, held here one by one.
//!
//! | specification | here | test |
//! |---|---|---|
//! | StreamBlock | `Block`, `BlockHead` | `a_blank_block`, `a_block_is_packed_as_the_format_string_says` |
//! | BaseStream: FORMAT, SIZE, meta_unpack, load_meta | `StreamRecord` | `a_stream_record_is_38_bytes` |
//! | BaseStream: cursor | `Stream` | `the_cursor_*` |
//! | StreamManager: created, closed, meta, special_* | `Archive` | `managers_*`, `reserved_*` |
//! | SingleStreamManager | single archive | `a_single_archive_*` |
//! | FixedMultiStreamManager | fixed archive | `a_fixed_archive_*` |
//! | DynamicMultiStreamManager | dynamic archive | `a_dynamic_archive_*` |
//! | Registry, StreamRegistry | `StreamRegistry` | `the_registry_*` |
//! | VirtualFileObject | `StreamFile` | `file_objects_*` |

use std::io::{Read, Seek, SeekFrom, Write};

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{
    ArchiveKind, Block, BlockHead, BlockIndex, DATA_SIZE, DATA_SIZE_U64, METADATA_MAX, PLAIN_SIZE,
    Position, RESERVED_BLOCKS, StreamRecord, Timestamp,
};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::{Archive, CreateOptions, Error, Mode, RESERVED_STREAMS, Stream, StreamFile};
use uuid::Uuid;

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([5; 32]))
}

fn create(kind: ArchiveKind) -> (MemoryDevice, Archive) {
    let device = MemoryDevice::new();
    let options = CreateOptions { kind, fixed_streams: 3, ..CreateOptions::default() };
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    (device, archive)
}

fn reopen(device: &MemoryDevice, access: Access) -> Archive {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options).unwrap()
}

fn all(stream: &Stream) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(stream.len().unwrap()).unwrap()];
    stream.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn a_blank_block() {
    let block = Block::blank();
    assert_eq!((block.head.previous, block.head.next), (None, None));
    assert_eq!((block.head.index, block.head.stream), (BlockIndex(0), Uuid::nil()));
    assert_eq!(block.data[..], [0; DATA_SIZE]);
}

#[test]
fn a_block_is_packed_as_the_format_string_says() {
    // "!iiI16s20s4008s": 4 + 4 + 4 + 16 + 20 + 4008.
    assert_eq!(PLAIN_SIZE, 4056);
    let head = BlockHead {
        previous: Some(Position::at(0x0102)),
        next: None,
        index: BlockIndex(0x0a0b),
        stream: Uuid::from_u128(0x77),
    };
    let mut bytes = vec![0; PLAIN_SIZE];
    head.encode(&[9; 20], &mut bytes);
    assert_eq!(bytes[..12], [0, 0, 1, 2, 255, 255, 255, 255, 0, 0, 10, 11]);
    assert_eq!((bytes[27], bytes[28], bytes[48]), (0x77, 9, 0));
    assert_eq!(BlockHead::decode(Position::at(8), &bytes).unwrap(), (head, [9; 20]));
    assert!(BlockHead::decode(Position::at(0x0102), &bytes).is_err(), "it names itself");
}

#[test]
fn a_stream_record_is_38_bytes() {
    assert_eq!(StreamRecord::SIZE, 38);
    let record = StreamRecord {
        identity: Uuid::from_u128(3),
        begin: Some(Position::at(8)),
        end: Some(Position::at(9)),
        count: 2,
        length: 5000,
        compression: 0,
    };
    assert_eq!(StreamRecord::decode(&record.encode()).unwrap(), record);
    let corrupt = StreamRecord { length: 2 * DATA_SIZE_U64 + 1, ..record };
    assert!(StreamRecord::decode(&corrupt.encode()).is_err());
}

#[test]
fn managers_know_when_they_were_created_and_keep_metadata() {
    let before = Timestamp::now();
    let (device, archive) = create(ArchiveKind::Dynamic);
    assert!(archive.created_at() >= before && archive.created_at() <= Timestamp::now());
    assert!(!archive.is_closed());
    archive.set_metadata(&[8; METADATA_MAX]).unwrap();
    assert!(archive.set_metadata(&[8; METADATA_MAX + 1]).is_err());
    archive.commit().unwrap();
    archive.set_metadata(b"not committed").unwrap();
    let other = archive.clone();
    archive.close().unwrap();
    assert!(other.is_closed());
    assert!(matches!(other.new_stream(), Err(Error::Closed)));
    assert_eq!(reopen(&device, Access::Read).metadata().unwrap(), [8; METADATA_MAX]);
}

#[test]
fn reserved_blocks_and_streams_are_eight() {
    assert_eq!((RESERVED_BLOCKS, RESERVED_STREAMS), (8, 8));
    let (device, archive) = create(ArchiveKind::Dynamic);
    for index in 1..=6 {
        assert!(archive.reserved_block(index).is_ok(), "block {index}");
    }
    assert_eq!(archive.reserved_block(5).unwrap(), Block::blank());
    for index in [0, 7, 8] {
        assert!(archive.reserved_block(index).is_err(), "block {index}");
    }
    for index in [0, 1, 8] {
        let kept = archive.reserved_stream(index);
        assert!(matches!(kept, Err(Error::NoReservedStream { .. })), "stream {index}");
    }
    let mut stream = archive.reserved_stream(7).unwrap();
    assert_eq!(stream.identity(), Uuid::from_u128(7));
    stream.append(b"internal").unwrap();
    stream.close().unwrap();
    archive.commit().unwrap();
    let archive = reopen(&device, Access::Read);
    assert_eq!(all(&archive.reserved_stream(7).unwrap()), b"internal");
}

#[test]
fn a_single_archive_has_one_stream_and_truncation_gives_space_back() {
    let (device, archive) = create(ArchiveKind::Single);
    assert!(matches!(archive.new_stream(), Err(Error::KindForbids { .. })));
    let mut stream = archive.reserved_stream(0).unwrap();
    stream.append(&vec![1; 4_000_000]).unwrap();
    stream.close().unwrap();
    archive.commit().unwrap();
    archive.close().unwrap();
    let full = device.length_bytes().unwrap();
    let archive = reopen(&device, Access::Write);
    let mut stream = archive.reserved_stream(0).unwrap();
    assert_eq!(stream.truncate(10).unwrap(), 10);
    stream.close().unwrap();
    archive.commit().unwrap();
    archive.close().unwrap();
    let cut = device.length_bytes().unwrap();
    assert!(cut < full / 10, "{cut} of {full} bytes are left");
    assert_eq!(all(&reopen(&device, Access::Read).reserved_stream(0).unwrap()), [1; 10]);
}

#[test]
fn a_fixed_archive_keeps_its_streams_and_recycles_blocks() {
    let (device, archive) = create(ArchiveKind::Fixed);
    let identities: Vec<Uuid> =
        archive.streams(None, 10).unwrap().iter().map(|stored| stored.record.identity).collect();
    assert_eq!(identities.len(), 3);
    assert!(matches!(archive.new_stream(), Err(Error::KindForbids { .. })));
    assert!(matches!(archive.delete_stream(identities[0]), Err(Error::KindForbids { .. })));
    let write = |identity: Uuid, length: u64| {
        let mut stream = archive.open_stream(identity).unwrap();
        stream.set_len(length).unwrap();
        stream.close().unwrap();
        archive.commit().unwrap();
    };
    write(identities[0], 4_000_000);
    write(identities[0], 0);
    let blocks = archive.statistics().unwrap().blocks;
    assert!(archive.statistics().unwrap().free_blocks > 900, "the trash has them");
    write(identities[1], 3_900_000);
    let grown = archive.statistics().unwrap().blocks;
    assert!(grown <= blocks + 8, "recycled blocks are reused: {blocks}, then {grown}");
    assert_eq!(device.length_bytes().unwrap() % 4096, 0);
}

#[test]
fn a_dynamic_archive_makes_opens_and_deletes_streams() {
    let (_, archive) = create(ArchiveKind::Dynamic);
    let stream = archive.new_stream().unwrap();
    let identity = stream.identity();
    assert!(matches!(archive.open_stream(identity), Err(Error::AlreadyOpen { .. })));
    assert!(matches!(archive.delete_stream(identity), Err(Error::AlreadyOpen { .. })));
    stream.close().unwrap();
    assert!(archive.open_stream(identity).is_ok());
    assert!(archive.delete_stream(identity).unwrap());
    assert!(!archive.delete_stream(identity).unwrap());
    assert!(matches!(archive.open_stream(identity), Err(Error::NoStream { .. })));
    let mut stream = archive.new_stream().unwrap();
    archive.rollback().unwrap();
    assert!(matches!(stream.append(b"late"), Err(Error::Stale)));
}

#[test]
fn the_cursor_extends_winds_and_walks_both_ways() {
    let (_, archive) = create(ArchiveKind::Dynamic);
    let mut stream = archive.new_stream().unwrap();
    assert_eq!(stream.data().unwrap(), None);
    for number in 0..5 {
        assert!(stream.extend().unwrap());
        stream.data_mut().unwrap().unwrap()[0] = number;
        stream.save(false).unwrap();
    }
    assert_eq!((stream.count().unwrap(), stream.len().unwrap()), (5, 0));
    assert!(!stream.next_block().unwrap(), "there is no block after the last");
    assert!(stream.previous_block().unwrap());
    assert!(!stream.extend().unwrap(), "only at the end");
    assert_eq!(stream.wind(1).unwrap(), 1);
    assert_eq!(stream.data().unwrap().unwrap()[0], 1);
    assert_eq!(stream.wind(99).unwrap(), 4);
    assert_eq!(stream.wind(0).unwrap(), 0);
    assert!(!stream.previous_block().unwrap());
    stream.end().unwrap();
    assert_eq!(stream.position(), 4);
    let numbers = |block: ar7_registry::Result<Block>| block.unwrap().data[0];
    let forwards: Vec<u8> = stream.blocks().unwrap().map(numbers).collect();
    assert_eq!(forwards, [0, 1, 2, 3, 4]);
    let backwards: Vec<u8> = stream.blocks().unwrap().rev().map(numbers).collect();
    assert_eq!(backwards, [4, 3, 2, 1, 0]);
    archive.commit().unwrap();
    stream.wind(2).unwrap();
    let block = stream.block().unwrap().unwrap();
    assert_eq!((block.head.index, block.head.stream), (BlockIndex(2), stream.identity()));
    let (previous, next) = (block.head.previous.unwrap(), block.head.next.unwrap());
    assert_eq!(previous.checked_add(2), Some(next), "it lies between its neighbours");
}

#[test]
fn the_cursor_saves_what_was_changed_when_it_moves() {
    let (_, archive) = create(ArchiveKind::Dynamic);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[0; 10_000]).unwrap();
    stream.wind(1).unwrap();
    stream.data_mut().unwrap().unwrap()[5] = 77;
    stream.next_block().unwrap();
    let mut byte = [0];
    stream.read_at(DATA_SIZE_U64 + 5, &mut byte).unwrap();
    assert_eq!(byte, [77]);
    assert_eq!(stream.len().unwrap(), 10_000);
}

#[test]
fn the_cursor_pushes_pops_and_truncates() {
    let (_, archive) = create(ArchiveKind::Dynamic);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[1; 9000]).unwrap();
    let mut block = Block::blank();
    block.data[0] = 9;
    stream.push(&block).unwrap();
    assert_eq!((stream.count().unwrap(), stream.len().unwrap()), (4, 9000));
    assert_eq!(stream.adjust_length(3500).unwrap(), 12_500);
    assert_eq!(stream.adjust_length(0).unwrap(), 12_500);
    assert!(stream.adjust_length(10_000).is_err(), "the blocks do not hold so much");
    assert!(stream.adjust_length(-12_501).is_err());
    let popped = stream.pop().unwrap().unwrap();
    assert_eq!(popped.data[0], 9);
    assert_eq!((stream.count().unwrap(), stream.len().unwrap()), (3, 3 * DATA_SIZE_U64));
    assert_eq!(stream.truncate(4008).unwrap(), 4008);
    assert_eq!(stream.count().unwrap(), 1);
    assert_eq!(stream.truncate(5000).unwrap(), 4008, "truncating never lengthens");
    assert_eq!(stream.truncate(0).unwrap(), 0);
    assert!(stream.pop().unwrap().is_none());
    assert!(stream.is_empty().unwrap());
}

#[test]
fn the_registry_registers_searches_updates_and_unregisters() {
    let (_, archive) = create(ArchiveKind::Dynamic);
    let registry = archive.registry();
    let identity = registry.register(Uuid::from_u128(1 << 100)).unwrap();
    assert!(matches!(registry.register(identity), Err(Error::StreamExists { .. })));
    archive.open_stream(identity).unwrap().append(b"abc").unwrap();
    assert!(registry.update(identity).unwrap());
    assert_eq!(registry.search(identity).unwrap().unwrap().record.length, 3);
    assert_eq!(registry.unregister(identity).unwrap().record.length, 3);
    assert!(registry.search(identity).unwrap().is_none());
    assert!(matches!(registry.unregister(identity), Err(Error::NoStream { .. })));
    registry.close().unwrap();
}

#[test]
fn file_objects_have_the_modes_of_python() {
    let (_, archive) = create(ArchiveKind::Dynamic);
    let id = Uuid::from_u128(1 << 90);
    let open = |mode: &str| StreamFile::open(&archive, id, Mode::parse(mode).unwrap());
    assert!(matches!(open("r"), Err(Error::NoStream { .. })));
    assert!(matches!(open("r+"), Err(Error::NoStream { .. })));
    let mut file = open("x").unwrap();
    file.write_all(b"hello").unwrap();
    assert!(file.read(&mut [0]).is_err(), "x does not read");
    file.close().unwrap();
    assert!(matches!(open("x"), Err(Error::StreamExists { .. })));
    let mut text = String::new();
    open("rb").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    assert!(open("r").unwrap().write(b"no").is_err());
    let mut file = open("a+").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(b" world").unwrap();
    file.rewind().unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello world", "appending writes at the end, wherever the offset is");
    file.close().unwrap();
    let mut file = open("r+").unwrap();
    file.write_all(b"J").unwrap();
    assert_eq!((file.len().unwrap(), file.stream_position().unwrap()), (11, 1));
    file.close().unwrap();
    let file = open("w+").unwrap();
    assert!(file.is_empty().unwrap(), "w empties");
    file.close().unwrap();
    for mode in ["", "rw", "r++", "t", "rt", "+r"] {
        assert!(matches!(Mode::parse(mode), Err(Error::UnknownMode { .. })), "{mode}");
    }
}

#[test]
fn file_objects_seek_grow_and_cross_borders() {
    let (device, archive) = create(ArchiveKind::Dynamic);
    let identity = archive.new_stream().unwrap().identity();
    let mut file = StreamFile::open(&archive, identity, Mode::parse("w+").unwrap()).unwrap();
    let mut model = Vec::new();
    for (offset, length) in [
        (4008, 1),
        (0, 4008),
        (4007, 2),
        (8015, 1),
        (8016, 4008),
        (20_000, 0),
        (16_031, 10_000),
        (1, 30_000),
        (40_080, 1),
    ] {
        file.seek(SeekFrom::Start(offset as u64)).unwrap();
        let bytes = vec![u8::try_from(offset % 200 + 1).unwrap(); length];
        file.write_all(&bytes).unwrap();
        if length > 0 {
            model.resize(model.len().max(offset + length), 0);
            model[offset..offset + length].copy_from_slice(&bytes);
        }
        let mut found = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut found).unwrap();
        assert_eq!(found, model, "after {length} bytes at {offset}");
    }
    assert!(file.seek(SeekFrom::End(-40_082)).is_err());
    assert_eq!(file.seek(SeekFrom::End(5)).unwrap(), 40_086);
    assert_eq!(file.read(&mut [0; 8]).unwrap(), 0);
    file.set_len(8016).unwrap();
    file.set_len(8020).unwrap();
    file.close().unwrap();
    archive.commit().unwrap();
    let archive = reopen(&device, Access::Read);
    model.truncate(8016);
    model.resize(8020, 0);
    assert_eq!(all(&archive.read_stream(identity).unwrap()), model);
}

#[test]
fn a_stream_longer_than_the_format_is_refused_before_anything_is_written() {
    let (device, archive) = create(ArchiveKind::Dynamic);
    let mut stream = archive.new_stream().unwrap();
    stream.append(b"kept").unwrap();
    let length = device.length_bytes().unwrap();
    let last = (u64::from(i32::MAX.cast_unsigned()) - 8) * DATA_SIZE_U64;
    for refused in [last + 1, u64::MAX] {
        let full = |outcome| matches!(outcome, Err(Error::Engine(ar7_engine::Error::Full { .. })));
        assert!(full(stream.set_len(refused)));
        assert!(full(stream.write_at(refused - 1, b"xx")));
    }
    assert_eq!(device.length_bytes().unwrap(), length);
    assert_eq!(all(&stream), b"kept");
}
