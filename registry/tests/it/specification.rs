//! The specification's rules for blocks and streams, name by name. `specification_archives.rs` has managers and
//! registries, `specification_files.rs` has file objects. See docs/SPECIFICATION.md.
//!
//! | specification | here | test |
//! |---|---|---|
//! | `StreamBlock` | `Block`, `BlockHead` | `block_is_laid_out_as_specified` |
//! | `StreamBlock.FORMAT`, `SIZE` | `format::plain`, `PLAIN_SIZE` | `block_is_laid_out_as_specified` |
//! | `StreamBlock.previous`, `next`, `index`, `stream` | `BlockHead` | `block_is_laid_out_as_specified` |
//! | `StreamBlock.data`, defaults | `Block::data`, `Block::blank` | `blank_block_has_no_links` |
//! | `StreamBlock.digest` | `crypto::digest` | `digest_is_sha1_of_the_data` |
//! | `StreamBlock.load_meta`, `meta_unpack` | `BlockHead::decode` | `corrupt_block_head_is_damage` |
//! | `StreamBlock.position` | `StreamRecord::begin`, `end`, links | `links_refer_to_the_neighbours` |
//! | `BaseStream.FORMAT`, `SIZE`, `COMP_NONE` | `StreamRecord` | `record_is_laid_out_as_specified` |
//! | `BaseStream.load_meta`, `meta_unpack` | `StreamRecord::decode` | `corrupt_record_is_damage` |
//! | `BaseStream.identity`, `manager` | `Stream::identity`, `archive` | `stream_knows_identity_and_archive` |
//! | `BaseStream.count`, `len` | `Stream::count`, `len` | `count_is_in_blocks_and_len_in_bytes` |
//! | `BaseStream.block`, `data` | `Stream::block`, `data`, `data_mut` | `block_and_data_belong_to_the_cursor` |
//! | `BaseStream.changed`, `save` | `Stream::changed`, `save` | `save_writes_if_changed_or_enforced` |
//! | `BaseStream.next`, `previous` | `Stream::next_block`, `previous_block` | `next_and_previous_stop_at_the_ends` |
//! | `BaseStream.wind`, `end` | `Stream::wind`, `end` | `wind_moves_to_any_block_and_end_to_the_last` |
//! | `BaseStream.extend` | `Stream::extend` | `extend_adds_a_blank_block_only_at_the_end` |
//! | `BaseStream.push`, pop | `Stream::push`, `pop` | `push_and_pop_work_at_the_end` |
//! | `BaseStream.length` | `Stream::adjust_length` | `adjust_length_returns_and_changes_the_length` |
//! | `BaseStream.truncate` | `Stream::truncate` | `truncate_never_grows_a_stream` |
//! | the cursor, and other commits | `Stream::block` | `cursor_of_a_reader_survives_truncation` |
//! | saving and a full disk | `Stream::save` | `block_that_could_not_be_saved_stays_changed` |
//! | moving saves | `Stream::wind` and others | `moving_the_cursor_saves_its_block` |
//! | `truncate` recycles | the free list | `truncated_blocks_become_free` |
//! | iteration, both ways | `Stream::blocks` | `iteration_works_in_both_directions` |
//! | `DataStream.close`, `InternalStream.close` | `Stream::close`, drop | `close_saves_the_block` |
//! | last write wins on two handles (a defect) | `Error::AlreadyOpen` | `stream_has_one_handle_for_writing` |
//! | no recovery (a defect) | `Error::Stale` | `handles_from_before_a_rollback_are_stale` |

use ar7_engine::crypto::digest;
use ar7_engine::format::{
    ArchiveKind, Block, BlockHead, BlockIndex, COMPRESSION_NONE, DATA_SIZE, PLAIN_SIZE, Position,
    StreamRecord, plain,
};
use ar7_engine::store::Access;
use ar7_engine::{Check, Error as EngineError};
use ar7_registry::{Archive, Error, Stream};
use uuid::Uuid;

use crate::common::{assert_verified, create, dynamic, open, pattern, read_all};

/// A stream of four blocks, the last with 8 bytes.
const FOUR_BLOCKS: usize = 3 * DATA_SIZE + 8;

fn four_blocks(archive: &Archive) -> (Stream, Vec<u8>) {
    let bytes = pattern(FOUR_BLOCKS, 1);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&bytes).unwrap();
    (stream, bytes)
}

/// Returns the expected data of block `index` of a stream with the content `bytes`.
fn block_of(bytes: &[u8], index: usize) -> Vec<u8> {
    let part = &bytes[index * DATA_SIZE..bytes.len().min((index + 1) * DATA_SIZE)];
    let mut data = part.to_vec();
    data.resize(DATA_SIZE, 0);
    data
}

#[test]
fn block_is_laid_out_as_specified() {
    assert_eq!((PLAIN_SIZE, plain::SIZE, DATA_SIZE), (4056, 4056, 4008));
    let head = BlockHead {
        previous: Some(Position::at(0x0102_0304)),
        next: None,
        index: BlockIndex(0x0506_0708),
        stream: Uuid::from_u128(0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f),
    };
    let mut bytes = [0; PLAIN_SIZE];
    head.encode(&[0xdd; 20], &mut bytes);
    let mut expected = vec![1, 2, 3, 4, 0xff, 0xff, 0xff, 0xff, 5, 6, 7, 8];
    expected.extend(0x10..=0x1f);
    expected.extend([0xdd; 20]);
    assert_eq!(bytes[..48], expected);
    let (decoded, found) = BlockHead::decode(Position::at(9), &bytes).unwrap();
    assert_eq!((decoded, found), (head, [0xdd; 20]));
}

#[test]
fn blank_block_has_no_links() {
    let block = Block::blank();
    assert_eq!((block.head.previous, block.head.next), (None, None));
    assert_eq!(block.head.index, BlockIndex(0));
    assert_eq!(block.head.stream, Uuid::nil());
    assert_eq!(block.data[..], [0; DATA_SIZE]);
    assert_eq!(Block::default(), block);
}

#[test]
fn digest_is_sha1_of_the_data() {
    // SHA-1 (FIPS 180-4) of 4008 zeros, computed with another program.
    let expected = 0xa6ba_8335_ce3b_d9b6_b72c_30c5_558c_7d83_u128.to_be_bytes();
    let found = digest(&[0; DATA_SIZE]);
    assert_eq!((&found[..16], &found[16..]), (&expected[..], &[0x4f, 0xb5, 0xbb, 0x36][..]));
}

#[test]
fn corrupt_block_head_is_damage() {
    let decode = |previous: i32, next: i32| {
        let mut bytes = [0; PLAIN_SIZE];
        plain::PREVIOUS.put(&mut bytes, &previous.to_be_bytes());
        plain::NEXT.put(&mut bytes, &next.to_be_bytes());
        BlockHead::decode(Position::at(9), &bytes)
    };
    assert!(decode(-1, -1).is_ok());
    assert!(decode(8, 10).is_ok());
    for (previous, next, check) in [
        (9, -1, Check::PreviousLink),
        (-1, 9, Check::NextLink),
        (-2, -1, Check::PreviousLink),
        (-1, i32::MIN, Check::NextLink),
        (i32::MAX, -1, Check::PreviousLink),
    ] {
        let Err(EngineError::Damaged(fault)) = decode(previous, next) else {
            panic!("links {previous} and {next} were accepted")
        };
        assert_eq!(fault.check, check);
    }
}

#[test]
fn links_refer_to_the_neighbours() {
    let archive = dynamic();
    let (mut stream, _) = four_blocks(&archive);
    archive.commit().unwrap();
    let record = stream.stored().unwrap().record;
    let blocks: Vec<Block> = stream.blocks().unwrap().map(Result::unwrap).collect();
    assert_eq!(blocks[0].head.previous, None);
    assert_eq!(blocks[3].head.next, None);
    assert_eq!(blocks[1].head.previous, record.begin);
    assert_eq!(blocks[2].head.next, record.end);
    for (index, block) in (0..).zip(&blocks) {
        assert_eq!(block.head.index, BlockIndex(index));
        assert_eq!(block.head.stream, stream.identity());
    }
    assert_eq!((record.identity, record.count), (stream.identity(), 4));
}

#[test]
fn record_is_laid_out_as_specified() {
    assert_eq!((StreamRecord::SIZE, COMPRESSION_NONE), (38, 0));
    let record = StreamRecord {
        identity: Uuid::from_u128(0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f),
        begin: Some(Position::at(0x0102_0304)),
        end: Some(Position::at(0x0506_0708)),
        count: 3,
        length: 9000,
        compression: COMPRESSION_NONE,
    };
    let mut expected: Vec<u8> = (0x10..=0x1f).collect();
    expected.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0x23, 0x28, 0, 0]);
    assert_eq!(record.encode()[..], expected);
    assert_eq!(StreamRecord::decode(&record.encode()).unwrap(), record);
    let empty = StreamRecord::empty(Uuid::nil());
    assert_eq!((empty.begin, empty.end, empty.count, empty.length), (None, None, 0, 0));
    assert_eq!(empty.encode()[16..24], [0xff; 8], "a missing block is encoded as -1");
}

#[test]
fn corrupt_record_is_damage() {
    let record = StreamRecord {
        begin: Some(Position::at(8)),
        end: Some(Position::at(9)),
        count: 2,
        length: 2 * 4008,
        ..StreamRecord::empty(Uuid::from_u128(99))
    };
    let good = record.encode();
    assert!(StreamRecord::decode(&good).is_ok());
    // A length one byte too long, a block count without blocks, blocks without a count, a neighbour link out of range.
    for (at, byte) in [(35, good[35] + 1), (27, 0), (16, 0xff), (20, 0x7f)] {
        let mut bytes = good;
        bytes[at] = byte;
        if at == 20 {
            bytes[21..24].fill(0xff);
        }
        let error = StreamRecord::decode(&bytes).unwrap_err();
        assert!(matches!(error, EngineError::Damaged(_)), "byte {at}: {error}");
    }
    let mut compressed = good;
    compressed[37] = 1;
    let error = StreamRecord::decode(&compressed).unwrap_err();
    assert!(matches!(error, EngineError::NewerFormat { what: "compression", .. }), "{error}");
}

#[test]
fn stream_knows_identity_and_archive() {
    let archive = dynamic();
    let stream = archive.new_stream().unwrap();
    assert!(!stream.identity().is_nil());
    assert_eq!(stream.archive().id(), archive.id());
    let other = archive.new_stream().unwrap();
    assert!(other.identity() > stream.identity(), "identities are issued in order");
}

#[test]
fn count_is_in_blocks_and_len_in_bytes() {
    for (length, count) in [(0, 0), (1, 1), (4007, 1), (4008, 1), (4009, 2), (8016, 2), (8017, 3)] {
        let archive = dynamic();
        let mut stream = archive.new_stream().unwrap();
        stream.append(&pattern(length, 0)).unwrap();
        let found = (stream.len().unwrap(), stream.count().unwrap());
        assert_eq!(found, (length as u64, count));
        assert_eq!(stream.is_empty().unwrap(), length == 0);
        archive.commit().unwrap();
        let committed = archive.read_stream(stream.identity()).unwrap();
        assert_eq!((committed.len().unwrap(), committed.count().unwrap()), found);
    }
}

#[test]
fn block_and_data_belong_to_the_cursor() {
    let archive = dynamic();
    let (mut stream, bytes) = four_blocks(&archive);
    for index in 0..4 {
        assert_eq!(stream.wind(index).unwrap(), index);
        let place = usize::try_from(index).unwrap();
        assert_eq!(stream.data().unwrap().unwrap()[..], block_of(&bytes, place));
        let block = stream.block().unwrap().unwrap();
        assert_eq!(block.head.index, BlockIndex(index));
        assert_eq!(block.data[..], block_of(&bytes, place));
    }
    stream.data_mut().unwrap().unwrap()[0] = 0xee;
    assert_eq!(stream.block().unwrap().unwrap().data[0], 0xee, "the cursor shows unsaved changes");
    let mut empty = archive.new_stream().unwrap();
    assert!(empty.block().unwrap().is_none());
    assert!(empty.data().unwrap().is_none());
    assert!(empty.data_mut().unwrap().is_none());
}

#[test]
fn save_writes_if_changed_or_enforced() {
    let archive = dynamic();
    let (mut stream, _) = four_blocks(&archive);
    let commit = || {
        let before = archive.statistics().unwrap().commit;
        archive.commit().unwrap();
        archive.statistics().unwrap().commit > before
    };
    assert!(commit());
    stream.data().unwrap();
    stream.save(false).unwrap();
    assert!(!commit(), "an unchanged block is not written");
    stream.save(true).unwrap();
    assert!(commit(), "`enforce` writes an unchanged block");
    stream.data_mut().unwrap().unwrap()[7] = 0xee;
    assert_eq!(read_all(&stream)[7], pattern(8, 1)[7], "unsaved changes are not in the stream");
    stream.save(false).unwrap();
    assert_eq!(read_all(&stream)[7], 0xee);
    assert!(commit());
    stream.changed();
    stream.save(false).unwrap();
    assert!(commit(), "a block marked as changed is written");
    stream.save(false).unwrap();
    assert!(!commit(), "a saved block is written once");
}

#[test]
fn next_and_previous_stop_at_the_ends() {
    let archive = dynamic();
    let (mut stream, _) = four_blocks(&archive);
    assert_eq!(stream.block_index(), 0);
    assert!(!stream.previous_block().unwrap());
    for index in 1..4 {
        assert!(stream.next_block().unwrap());
        assert_eq!(stream.block_index(), index);
    }
    assert!(!stream.next_block().unwrap());
    assert_eq!(stream.block_index(), 3);
    for index in (0..3).rev() {
        assert!(stream.previous_block().unwrap());
        assert_eq!(stream.block_index(), index);
    }
    assert!(!stream.previous_block().unwrap());
    let mut empty = archive.new_stream().unwrap();
    assert!(!empty.next_block().unwrap());
    assert!(!empty.previous_block().unwrap());
}

#[test]
fn moving_the_cursor_saves_its_block() {
    let archive = dynamic();
    let (mut stream, mut bytes) = four_blocks(&archive);
    stream.data_mut().unwrap().unwrap()[3] = 0xee;
    assert!(stream.next_block().unwrap());
    bytes[3] = 0xee;
    assert_eq!(read_all(&stream), bytes);
}

#[test]
fn wind_moves_to_any_block_and_end_to_the_last() {
    let archive = dynamic();
    let (mut stream, bytes) = four_blocks(&archive);
    for (index, reached) in [(2, 2), (0, 0), (3, 3), (1, 1), (4, 3), (u32::MAX, 3)] {
        assert_eq!(stream.wind(index).unwrap(), reached);
        assert_eq!(stream.block_index(), reached);
        let expected = block_of(&bytes, usize::try_from(reached).unwrap());
        assert_eq!(stream.data().unwrap().unwrap()[..], expected);
    }
    stream.wind(0).unwrap();
    stream.end().unwrap();
    assert_eq!(stream.block_index(), 3);
    let mut empty = archive.new_stream().unwrap();
    assert_eq!(empty.wind(5).unwrap(), 0);
    empty.end().unwrap();
    assert_eq!(empty.block_index(), 0);
}

#[test]
fn extend_adds_a_blank_block_only_at_the_end() {
    let archive = dynamic();
    let (mut stream, bytes) = four_blocks(&archive);
    assert!(!stream.extend().unwrap(), "not at the end");
    assert_eq!(stream.count().unwrap(), 4);
    stream.end().unwrap();
    assert!(stream.extend().unwrap());
    assert_eq!((stream.count().unwrap(), stream.block_index()), (5, 4));
    assert_eq!(stream.len().unwrap(), FOUR_BLOCKS as u64, "no byte is added");
    assert_eq!(stream.data().unwrap().unwrap()[..], [0; DATA_SIZE]);
    archive.commit().unwrap();
    assert_eq!(archive.read_stream(stream.identity()).unwrap().count().unwrap(), 5);
    assert_eq!(read_all(&stream), bytes);
    let mut empty = archive.new_stream().unwrap();
    assert!(empty.extend().unwrap(), "an empty stream is at its end");
    assert_eq!(empty.count().unwrap(), 1);
    archive.commit().unwrap();
    assert_verified(&archive);
}

#[test]
fn push_and_pop_work_at_the_end() {
    let archive = dynamic();
    let mut stream = archive.new_stream().unwrap();
    assert!(stream.pop().unwrap().is_none());
    for salt in 0..3 {
        let mut block = Block::blank();
        block.data.copy_from_slice(&pattern(DATA_SIZE, salt));
        block.head.index = BlockIndex(77);
        block.head.previous = Some(Position::at(1_000_000));
        stream.push(&block).unwrap();
        assert_eq!(usize::try_from(stream.block_index()).unwrap(), salt);
    }
    assert_eq!((stream.count().unwrap(), stream.len().unwrap()), (3, 0));
    assert_eq!(stream.adjust_length(2 * 4008 + 5).unwrap(), 2 * 4008 + 5);
    archive.commit().unwrap();
    assert_verified(&archive);
    let last = stream.pop().unwrap().unwrap();
    assert_eq!(last.data[..], pattern(DATA_SIZE, 2));
    assert_eq!(last.head.index, BlockIndex(2), "the index is the stream's own");
    assert_eq!((stream.count().unwrap(), stream.len().unwrap()), (2, 2 * 4008));
    assert_eq!(stream.block_index(), 1);
    archive.commit().unwrap();
    assert_verified(&archive);
    for salt in (0..2).rev() {
        assert_eq!(stream.pop().unwrap().unwrap().data[..], pattern(DATA_SIZE, salt));
    }
    assert!(stream.pop().unwrap().is_none());
    assert_eq!((stream.count().unwrap(), stream.len().unwrap()), (0, 0));
    archive.commit().unwrap();
    assert_verified(&archive);
}

#[test]
fn adjust_length_returns_and_changes_the_length() {
    let archive = dynamic();
    let (mut stream, _) = four_blocks(&archive);
    let length = FOUR_BLOCKS as u64;
    assert_eq!(stream.adjust_length(0).unwrap(), length);
    assert_eq!(stream.adjust_length(-8).unwrap(), length - 8);
    assert_eq!(stream.adjust_length(4008).unwrap(), 4 * 4008, "the capacity of the blocks");
    assert_eq!(stream.count().unwrap(), 4);
    for change in [1, i64::MAX, -4 * 4008 - 1, i64::MIN] {
        let error = stream.adjust_length(change).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::OutOfBounds { .. })), "{error}");
        assert!(error.to_string().ends_with(&format!("expected -16032 to 0, found {change}")));
        assert_eq!(stream.len().unwrap(), 4 * 4008, "unchanged");
    }
    archive.commit().unwrap();
    assert_eq!(archive.read_stream(stream.identity()).unwrap().len().unwrap(), 4 * 4008);
}

#[test]
fn truncate_never_grows_a_stream() {
    for (length, count) in [(FOUR_BLOCKS - 1, 4), (2 * DATA_SIZE, 2), (DATA_SIZE + 1, 2), (0, 0)] {
        let (device, archive) = create(ArchiveKind::Dynamic, 0);
        let (mut stream, bytes) = four_blocks(&archive);
        archive.commit().unwrap();
        stream.wind(3).unwrap();
        assert_eq!(stream.truncate(length as u64).unwrap(), length as u64);
        assert_eq!(stream.count().unwrap(), count);
        assert_eq!(stream.block_index(), count.saturating_sub(1), "the cursor stays on a block");
        assert_eq!(read_all(&stream), bytes[..length]);
        let longer = stream.truncate(u64::MAX).unwrap();
        assert_eq!(longer, length as u64, "truncating never adds a byte");
        let identity = stream.identity();
        drop(stream);
        archive.commit().unwrap();
        assert_verified(&archive);
        archive.close().unwrap();
        let archive = open(&device, Access::Read);
        assert_eq!(read_all(&archive.read_stream(identity).unwrap()), bytes[..length]);
    }
}

#[test]
fn truncated_blocks_become_free() {
    let archive = dynamic();
    let (mut stream, _) = four_blocks(&archive);
    archive.commit().unwrap();
    let free = archive.statistics().unwrap().free_blocks;
    stream.truncate(10).unwrap();
    archive.commit().unwrap();
    let after = archive.statistics().unwrap().free_blocks;
    assert!(after >= free + 2, "{free} free blocks before, {after} after");
}

#[test]
fn iteration_works_in_both_directions() {
    let archive = dynamic();
    let (mut stream, bytes) = four_blocks(&archive);
    for committed in [false, true] {
        let forwards: Vec<Vec<u8>> =
            stream.blocks().unwrap().map(|block| block.unwrap().data.to_vec()).collect();
        let expected: Vec<Vec<u8>> = (0..4).map(|index| block_of(&bytes, index)).collect();
        assert_eq!(forwards, expected, "committed: {committed}");
        let mut backwards: Vec<Vec<u8>> =
            stream.blocks().unwrap().rev().map(|block| block.unwrap().data.to_vec()).collect();
        backwards.reverse();
        assert_eq!(backwards, expected);
        let mut both = stream.blocks().unwrap();
        let mut order = Vec::new();
        while let Some(first) = both.next() {
            order.push(first.unwrap().head.index.get());
            order.extend(both.next_back().map(|last| last.unwrap().head.index.get()));
        }
        assert_eq!(order, [0, 3, 1, 2]);
        archive.commit().unwrap();
    }
    assert_eq!(archive.new_stream().unwrap().blocks().unwrap().count(), 0);
}

#[test]
fn close_saves_the_block() {
    let archive = dynamic();
    let (mut stream, mut bytes) = four_blocks(&archive);
    let identity = stream.identity();
    stream.data_mut().unwrap().unwrap()[1] = 0xaa;
    stream.close().unwrap();
    bytes[1] = 0xaa;
    let mut stream = archive.open_stream(identity).unwrap();
    assert_eq!(read_all(&stream), bytes);
    stream.data_mut().unwrap().unwrap()[2] = 0xbb;
    drop(stream);
    bytes[2] = 0xbb;
    archive.commit().unwrap();
    assert_eq!(read_all(&archive.read_stream(identity).unwrap()), bytes);
}

#[test]
fn stream_has_one_handle_for_writing() {
    let archive = dynamic();
    let (stream, bytes) = four_blocks(&archive);
    let identity = stream.identity();
    let error = archive.open_stream(identity).err().unwrap();
    assert!(matches!(error, Error::AlreadyOpen { stream } if stream == identity), "{error}");
    let error = archive.delete_stream(identity).unwrap_err();
    assert!(matches!(error, Error::AlreadyOpen { stream } if stream == identity), "{error}");
    archive.commit().unwrap();
    let readers = [archive.read_stream(identity).unwrap(), archive.read_stream(identity).unwrap()];
    for mut reader in readers {
        assert_eq!(read_all(&reader), bytes);
        assert!(!reader.is_writable());
        let error = reader.append(b"more").unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::ReadOnly)), "{error}");
    }
    drop(stream);
    assert!(archive.open_stream(identity).is_ok());
}

#[test]
fn handles_from_before_a_rollback_are_stale() {
    let archive = dynamic();
    let (mut stream, bytes) = four_blocks(&archive);
    let identity = stream.identity();
    archive.commit().unwrap();
    stream.append(b"dropped").unwrap();
    stream.data_mut().unwrap().unwrap()[0] = 0xcc;
    archive.rollback().unwrap();
    let stale = |outcome: ar7_registry::Result<()>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Stale), "{error}");
    };
    stale(stream.len().map(drop));
    stale(stream.save(true));
    stale(stream.append(b"more"));
    stale(stream.read_at(0, &mut [0]).map(drop));
    // Dropping the old handle does not affect the new one.
    let fresh = archive.open_stream(identity).unwrap();
    drop(stream);
    assert_eq!(read_all(&fresh), bytes);
    archive.commit().unwrap();
    assert_eq!(read_all(&archive.read_stream(identity).unwrap()), bytes);
}

/// A reading handle sees the newest commit, even if the stream was truncated before the handle's
/// cursor.
#[test]
fn cursor_of_a_reader_survives_truncation() {
    let archive = dynamic();
    let (mut stream, bytes) = four_blocks(&archive);
    archive.commit().unwrap();
    let mut reader = archive.read_stream(stream.identity()).unwrap();
    reader.end().unwrap();
    assert_eq!(reader.block().unwrap().unwrap().data[..], block_of(&bytes, 3));
    let mut other = archive.read_stream(stream.identity()).unwrap();
    let mut blocks = other.blocks().unwrap();
    assert_eq!(blocks.next().unwrap().unwrap().data[..], block_of(&bytes, 0));
    stream.truncate(2 * 4008).unwrap();
    archive.commit().unwrap();
    assert!(reader.block().unwrap().is_none());
    assert!(reader.data().unwrap().is_none());
    assert!(!reader.next_block().unwrap());
    assert!(reader.previous_block().unwrap());
    assert_eq!(reader.block_index(), 1, "the last remaining block");
    assert_eq!(reader.wind(9).unwrap(), 1);
    assert_eq!(reader.data().unwrap().unwrap()[..], block_of(&bytes, 1));
    assert_eq!(blocks.next_back().unwrap().unwrap().data[..], block_of(&bytes, 1));
    assert!(blocks.next().is_none());
}

#[test]
fn block_that_could_not_be_saved_stays_changed() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let (mut stream, mut bytes) = four_blocks(&archive);
    archive.commit().unwrap();
    device.set_capacity(archive.statistics().unwrap().blocks);
    // It exceeds the dirty blocks in memory, so the next append must flush first.
    let mut large = archive.new_stream().unwrap();
    large.append(&vec![1; 20_000_000]).unwrap_err();
    stream.data_mut().unwrap().unwrap()[3] = 0xee;
    for _ in 0..2 {
        let error = stream.save(false).unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::NoSpace { .. })), "{error}");
        assert!(stream.next_block().is_err(), "the cursor stays on its block");
        assert_eq!(stream.block_index(), 0);
    }
    device.set_capacity(100_000);
    stream.save(false).unwrap();
    bytes[3] = 0xee;
    assert_eq!(read_all(&stream), bytes);
    archive.commit().unwrap();
    assert_verified(&archive);
}
