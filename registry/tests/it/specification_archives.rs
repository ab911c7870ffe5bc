//! The specification's rules for stream managers, their kinds and limits. Streams are in `specification.rs`.
//!
//! | specification | here | test |
//! |---|---|---|
//! | `StreamManager(filename, secret)` | `Archive::create`, `open` | `archive_opens_with_its_file_and_secret` |
//! | `created` | `Archive::created_at` | `created_is_the_time_of_creation` |
//! | `close`, `closed` | `Archive::close`, `is_closed` | `closed_archive_fails_every_call` |
//! | `meta`, `save_meta` | `Archive::metadata`, `set_metadata`, `commit` | `commit_saves_meta` |
//! | `new_block`, `save_block`, `load_block` | `Writer::allocate`, `write_fresh`, `Store::read_block` | `blocks_are_made_saved_and_loaded` |
//! | `special_block`, `SPECIAL_BLOCK_COUNT`, `BLOCK_META` | `Archive::reserved_block` | `eight_blocks_are_reserved` |
//! | `special_stream`, `SPECIAL_STREAM_COUNT`, `STREAM_*` | `Archive::reserved_stream` | `eight_streams_are_reserved` |
//! | `SingleStreamManager` | `ArchiveKind::Single` | `single_archive_has_only_its_stream` |
//! | `SingleStreamManager.recycle` | `Stream::truncate` | `truncating_a_single_archive_shrinks_the_file` |
//! | `SingleStreamManager.reuse` | nothing to reuse | `truncating_a_single_archive_shrinks_the_file` |
//! | `FixedMultiStreamManager` | `ArchiveKind::Fixed` | `fixed_archive_keeps_its_set_of_streams` |
//! | `FixedMultiStreamManager.recycle`, `reuse` | the free list | `truncated_blocks_are_reused` |
//! | `DynamicMultiStreamManager` | `ArchiveKind::Dynamic` | `dynamic_archive_makes_and_deletes_streams` |
//! | `new_stream`, `open_stream`, `close_stream`, `del_stream` | the same | `dynamic_archive_makes_and_deletes_streams` |
//! | `Registry`, `tree`, `close` | `StreamRegistry` | `registry_registers_searches_and_updates` |
//! | `register`, `search`, `update` | the same | `registry_registers_searches_and_updates` |
//! | `unregister` | the same | `registry_unregisters_only_streams_without_blocks` |
//! | reused blocks keep links (a defect) | blocks are sealed again | `reused_blocks_have_no_old_content` |

use ar7_engine::Error as EngineError;
use ar7_engine::crypto::{KeyKind, SealJob};
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{
    ArchiveKind, Block, BlockHead, BlockRef, DATA_SIZE, METADATA_MAX, RESERVED_BLOCKS, Timestamp,
};
use ar7_engine::store::{self, Access, OpenOptions, RESERVE_BLOCKS, Redirects, Store, Urgency};
use ar7_registry::records::{Attributes, InodeNumber, TreeId};
use ar7_registry::{Archive, CreateOptions, Error, Mode, RESERVED_STREAMS, StreamFile};
use uuid::Uuid;

use crate::common::{assert_verified, create, dynamic, open, pattern, read_all, secret};

const KINDS: [ArchiveKind; 3] = [ArchiveKind::Single, ArchiveKind::Fixed, ArchiveKind::Dynamic];

#[test]
fn archive_opens_with_its_file_and_secret() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.ar7");
    let archive = Archive::create(&path, &secret(), &CreateOptions::default()).unwrap();
    let mut stream = archive.new_stream().unwrap();
    let identity = stream.identity();
    stream.append(b"opaque").unwrap();
    drop(stream);
    archive.commit().unwrap();
    archive.close().unwrap();
    let sealed = std::fs::read(&path).unwrap();
    assert!(!sealed.windows(6).any(|part| part == b"opaque"), "encryption is transparent");
    let archive = Archive::open(&path, &secret(), OpenOptions::default()).unwrap();
    assert_eq!(read_all(&archive.read_stream(identity).unwrap()), b"opaque");
    drop(archive);
    let other = ar7_engine::crypto::RawKey::from_bytes([6; 32]);
    let other = ar7_engine::crypto::Secret::Key(other);
    let error = Archive::open(&path, &other, OpenOptions::default()).unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::WrongKey { slots: 1 })), "{error}");
    let again = Archive::create(&path, &secret(), &CreateOptions::default());
    assert!(again.is_err(), "an existing file is never changed");
    assert_eq!(std::fs::read(&path).unwrap(), sealed);
}

#[test]
fn created_is_the_time_of_creation() {
    let before = Timestamp::now();
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let created = archive.created_at();
    assert!(before <= created && created <= Timestamp::now());
    archive.close().unwrap();
    assert_eq!(open(&device, Access::Read).created_at(), created);
}

#[test]
fn closed_archive_fails_every_call() {
    let archive = dynamic();
    let mut stream = archive.new_stream().unwrap();
    let other = archive.clone();
    assert!(!other.is_closed());
    archive.close().unwrap();
    assert!(other.is_closed());
    let closed = |outcome: ar7_registry::Result<()>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Closed), "{error}");
    };
    closed(other.commit());
    closed(other.rollback());
    closed(other.set_metadata(b"x"));
    closed(other.new_stream().map(drop));
    closed(other.open_stream(stream.identity()).map(drop));
    closed(other.delete_stream(stream.identity()).map(drop));
    closed(stream.append(b"x"));
    closed(other.close());
}

#[test]
fn commit_saves_meta() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    assert_eq!(archive.metadata().unwrap(), b"");
    const { assert!(METADATA_MAX >= 2048) };
    archive.set_metadata(b"dropped").unwrap();
    archive.rollback().unwrap();
    assert_eq!(archive.metadata().unwrap(), b"");
    let longest = pattern(METADATA_MAX, 3);
    archive.set_metadata(&longest).unwrap();
    assert_eq!(archive.metadata().unwrap(), longest);
    archive.commit().unwrap();
    let error = archive.set_metadata(&pattern(METADATA_MAX + 1, 3)).unwrap_err();
    assert!(matches!(error, Error::Engine(EngineError::OutOfBounds { .. })), "{error}");
    archive.close().unwrap();
    assert_eq!(open(&device, Access::Read).metadata().unwrap(), longest);
}

#[test]
fn blocks_are_made_saved_and_loaded() {
    let device = MemoryDevice::new();
    let options = store::CreateOptions::default();
    let (store, mut writer) = Store::create_device(Box::new(device), &secret(), &options).unwrap();
    let before = writer.block_count();
    let run = writer.allocate(1, Urgency::Ordinary).unwrap();
    assert_eq!(run.start().get(), before, "a new block is at the end of the file");
    assert_eq!((run.count(), writer.block_count()), (1, before + 1));
    let mut block = Block::blank();
    block.data.copy_from_slice(&pattern(DATA_SIZE, 9));
    block.head = BlockHead { stream: Uuid::from_u128(77), ..block.head };
    let job = SealJob { position: run.start(), head: block.head, data: &block.data };
    let generation = writer.write_fresh(KeyKind::Data, &[job]).unwrap();
    let reference = BlockRef { position: run.start(), generation };
    let found = store.read_block(&Redirects::default(), KeyKind::Data, reference).unwrap();
    assert_eq!(found, block);
    let wrong_kind = store.read_block(&Redirects::default(), KeyKind::Registry, reference);
    assert!(matches!(wrong_kind, Err(EngineError::Damaged(_))), "{wrong_kind:?}");
    // An older version of a block never passes for the requested one.
    let mut newer = generation;
    newer.step += 1;
    let reference = BlockRef { generation: newer, ..reference };
    let stale = store.read_block(&Redirects::default(), KeyKind::Data, reference);
    assert!(matches!(stale, Err(EngineError::Tampered(_))), "{stale:?}");
}

#[test]
fn eight_blocks_are_reserved() {
    assert_eq!(RESERVED_BLOCKS, 8);
    for kind in KINDS {
        let (_, archive) = create(kind, 2);
        for index in 1..=6 {
            let block = archive.reserved_block(index).unwrap();
            assert_eq!(block == Block::blank(), index > 4, "block {index}");
        }
        for index in [0, 7, 8, 1000] {
            let error = archive.reserved_block(index).unwrap_err();
            assert!(matches!(error, Error::Engine(EngineError::OutOfBounds { .. })), "{error}");
        }
        let error = archive.reserved_block(u32::MAX).unwrap_err();
        assert!(matches!(error, Error::NoReservedBlock { index: u32::MAX }), "{error}");
    }
}

#[test]
fn eight_streams_are_reserved() {
    assert_eq!(RESERVED_STREAMS, 8);
    // Callers cannot open the internal streams: the free list of the fixed kind, the free list and
    // index of the dynamic kind.
    for (kind, first) in KINDS.into_iter().zip([0, 1, 2]) {
        let (device, archive) = create(kind, 2);
        for index in 0..10 {
            match archive.reserved_stream(index) {
                Ok(mut stream) => {
                    assert!((first..8).contains(&index), "{kind:?} stream {index}");
                    assert_eq!(stream.identity(), Uuid::from_u128(index as u128));
                    assert!(stream.is_empty().unwrap());
                    stream.append(&pattern(5000, index)).unwrap();
                }
                Err(Error::NoReservedStream { index: found, first: from, last }) => {
                    assert!(!(first..8).contains(&index), "{kind:?} stream {index}");
                    assert_eq!((found, from, last), (index, first, 7));
                }
                Err(error) => panic!("{error}"),
            }
        }
        archive.commit().unwrap();
        assert_verified(&archive);
        archive.close().unwrap();
        let archive = open(&device, Access::Read);
        for index in first..8 {
            let stream = archive.reserved_stream(index).unwrap();
            assert_eq!(read_all(&stream), pattern(5000, index));
        }
    }
}

/// Callers cannot open the archive's internal streams, and cannot delete a reserved stream.
#[test]
fn internal_streams_cannot_be_opened_nor_reserved_ones_deleted() {
    for (kind, first) in KINDS.into_iter().zip([0_u128, 1, 2]) {
        let (_, archive) = create(kind, 2);
        for index in 0..first {
            let identity = Uuid::from_u128(index);
            assert!(archive.open_stream(identity).is_err(), "{kind:?} stream {index}");
            let file = StreamFile::open(&archive, identity, Mode::parse("w").unwrap());
            assert!(file.is_err(), "{kind:?} stream {index}");
        }
        let mut stream = archive.reserved_stream(2).unwrap();
        stream.append(&pattern(20_000, 4)).unwrap();
        drop(stream);
        archive.commit().unwrap();
        let mut stream = archive.reserved_stream(2).unwrap();
        stream.write_at(5, b"changed").unwrap();
        drop(stream);
        let error = archive.delete_stream(Uuid::from_u128(2)).unwrap_err();
        assert!(matches!(error, Error::KindForbids { .. }), "{error}");
        archive.commit().unwrap();
        assert_verified(&archive);
        let found = read_all(&archive.read_stream(Uuid::from_u128(2)).unwrap());
        assert_eq!(found[5..12], *b"changed");
    }
}

fn assert_forbidden<T>(outcome: ar7_registry::Result<T>, expected: ArchiveKind) {
    match outcome.err() {
        Some(Error::KindForbids { kind, .. }) => assert_eq!(kind, expected),
        other => panic!("expected a refusal, found {other:?}"),
    }
}

#[test]
fn single_archive_has_only_its_stream() {
    let (device, archive) = create(ArchiveKind::Single, 0);
    assert_eq!(archive.kind(), ArchiveKind::Single);
    assert_eq!(archive.streams(None, 10).unwrap(), []);
    assert_forbidden(archive.new_stream(), ArchiveKind::Single);
    assert_forbidden(archive.delete_stream(Uuid::nil()), ArchiveKind::Single);
    let made = StreamFile::open(&archive, Uuid::from_u128(99), Mode::parse("w").unwrap());
    assert_forbidden(made, ArchiveKind::Single);
    let bytes = pattern(50_000, 2);
    let mut stream = archive.reserved_stream(0).unwrap();
    stream.append(&bytes).unwrap();
    drop(stream);
    archive.commit().unwrap();
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    assert_eq!(archive.kind(), ArchiveKind::Single);
    assert_eq!(read_all(&archive.reserved_stream(0).unwrap()), bytes);
}

#[test]
fn truncating_a_single_archive_shrinks_the_file() {
    let (device, archive) = create(ArchiveKind::Single, 0);
    let bytes = pattern(1000 * DATA_SIZE, 2);
    let mut stream = archive.reserved_stream(0).unwrap();
    stream.append(&bytes).unwrap();
    archive.commit().unwrap();
    let before = device.length_bytes().unwrap();
    stream.truncate(10 * 4008).unwrap();
    drop(stream);
    archive.commit().unwrap();
    archive.close().unwrap();
    let after = device.length_bytes().unwrap();
    let most = u64::from(RESERVED_BLOCKS + 10 + RESERVE_BLOCKS + 16) * 4096;
    assert!(after <= most && after < before, "{before} bytes before, {after} after");
    let archive = open(&device, Access::Write);
    assert_eq!(read_all(&archive.reserved_stream(0).unwrap()), bytes[..10 * DATA_SIZE]);
    assert_verified(&archive);
}

#[test]
fn fixed_archive_keeps_its_set_of_streams() {
    let (device, archive) = create(ArchiveKind::Fixed, 3);
    let identities: Vec<Uuid> = archive
        .streams(None, 10)
        .unwrap()
        .into_iter()
        .map(|stored| stored.record.identity)
        .collect();
    assert_eq!(identities.len(), 3);
    assert_forbidden(archive.new_stream(), ArchiveKind::Fixed);
    assert_forbidden(archive.delete_stream(identities[0]), ArchiveKind::Fixed);
    for mode in ["w", "a", "x"] {
        let mode = Mode::parse(mode).unwrap();
        let made = StreamFile::open(&archive, Uuid::from_u128(99), mode);
        assert_forbidden(made, ArchiveKind::Fixed);
    }
    // Removing a name would delete its stream.
    let attributes =
        Attributes { mode: 0o644, uid: 0, gid: 0, modified: Timestamp::default(), origin: None };
    let root = InodeNumber::ROOT;
    let named = archive.names().add_file(root, b"name", attributes, Some(identities[0]));
    assert_forbidden(named, ArchiveKind::Fixed);
    let empty = archive.names().add_file(root, b"empty", attributes, None).unwrap();
    let replaced = archive.names().replace_content(empty, Some(identities[0]), attributes);
    assert_forbidden(replaced, ArchiveKind::Fixed);
    for (salt, &identity) in identities.iter().enumerate() {
        let mut stream = archive.open_stream(identity).unwrap();
        stream.append(&pattern(9000, salt)).unwrap();
    }
    archive.commit().unwrap();
    archive.close().unwrap();
    let archive = open(&device, Access::Write);
    for (salt, &identity) in identities.iter().enumerate() {
        assert_eq!(read_all(&archive.open_stream(identity).unwrap()), pattern(9000, salt));
    }
    assert_eq!(archive.streams(None, 10).unwrap().len(), 3);
    assert_verified(&archive);
}

#[test]
fn truncated_blocks_are_reused() {
    for kind in [ArchiveKind::Fixed, ArchiveKind::Dynamic] {
        let (_, archive) = create(kind, 2);
        let mut streams = match kind {
            ArchiveKind::Fixed => archive
                .streams(None, 2)
                .unwrap()
                .iter()
                .map(|stored| archive.open_stream(stored.record.identity).unwrap())
                .collect(),
            _ => vec![archive.new_stream().unwrap(), archive.new_stream().unwrap()],
        };
        let bytes = pattern(500 * DATA_SIZE, 1);
        streams[0].append(&bytes).unwrap();
        archive.commit().unwrap();
        streams[0].truncate(0).unwrap();
        archive.commit().unwrap();
        let before = archive.statistics().unwrap();
        assert!(before.free_blocks >= 500, "{kind:?}: {before:?}");
        for round in 0..10 {
            // Each stream reuses the blocks truncated from the other.
            let (full, empty) = (round % 2, (round + 1) % 2);
            streams[full].append(&bytes).unwrap();
            archive.commit().unwrap();
            assert_eq!(read_all(&streams[full]), bytes);
            assert_eq!(streams[empty].count().unwrap(), 0);
            streams[full].truncate(0).unwrap();
            archive.commit().unwrap();
        }
        let after = archive.statistics().unwrap();
        // The first commit adds room to place the copies of pages far apart.
        assert!(after.blocks <= before.blocks + 32, "{kind:?}: {before:?}, then {after:?}");
        assert_verified(&archive);
    }
}

#[test]
fn dynamic_archive_makes_and_deletes_streams() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut identities = Vec::new();
    for salt in 0..20 {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&pattern(salt * 1000, salt)).unwrap();
        identities.push(stream.identity());
        stream.close().unwrap();
    }
    archive.commit().unwrap();
    let no_stream = archive.open_stream(Uuid::from_u128(99)).err().unwrap();
    assert!(matches!(no_stream, Error::NoStream { .. }), "{no_stream}");
    assert!(!archive.delete_stream(Uuid::from_u128(99)).unwrap(), "the stream does not exist");
    for &identity in identities.iter().step_by(2) {
        assert!(archive.delete_stream(identity).unwrap());
        assert!(!archive.delete_stream(identity).unwrap(), "the deletion takes effect at once");
        assert!(archive.open_stream(identity).is_err());
        assert!(archive.read_stream(identity).is_ok(), "the committed stream still exists");
    }
    archive.commit().unwrap();
    assert_verified(&archive);
    archive.close().unwrap();
    let archive = open(&device, Access::Write);
    for (salt, &identity) in identities.iter().enumerate() {
        match archive.open_stream(identity) {
            Ok(stream) => {
                assert_eq!(salt % 2, 1);
                assert_eq!(read_all(&stream), pattern(salt * 1000, salt));
            }
            Err(Error::NoStream { .. }) => assert_eq!(salt % 2, 0),
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(archive.statistics().unwrap().streams, 10);
}

#[test]
fn reused_blocks_have_no_old_content() {
    let archive = dynamic();
    let mut first = archive.new_stream().unwrap();
    first.append(&pattern(100 * DATA_SIZE, 1)).unwrap();
    let identity = first.identity();
    drop(first);
    archive.commit().unwrap();
    assert!(archive.delete_stream(identity).unwrap());
    archive.commit().unwrap();
    let mut second = archive.new_stream().unwrap();
    second.set_len(50 * 4008).unwrap();
    archive.commit().unwrap();
    for block in second.blocks().unwrap() {
        let block = block.unwrap();
        assert_eq!(block.head.stream, second_identity(&archive));
        assert_eq!(block.data[..], [0; DATA_SIZE]);
    }
    assert_verified(&archive);
}

fn second_identity(archive: &Archive) -> Uuid {
    archive.streams(None, 2).unwrap()[0].record.identity
}

/// A deleted stream can be created again with its identity, even while its deletion is pending.
#[test]
fn deleted_stream_can_be_created_again() {
    let archive = dynamic();
    let mode = Mode::parse("w").unwrap();
    let identity = Uuid::from_u128(0xabcd);
    let other = archive.new_stream().unwrap();
    for round in 0..3 {
        // Two streams that grow alternately have an extent per step.
        let mut other = archive.new_stream().unwrap();
        let file = StreamFile::open(&archive, identity, mode).unwrap();
        drop(file);
        let mut stream = archive.open_stream(identity).unwrap();
        for step in 0..700 {
            stream.append(&pattern(DATA_SIZE, step + round)).unwrap();
            other.append(&pattern(DATA_SIZE, step)).unwrap();
            archive.commit().unwrap();
        }
        let expected: Vec<u8> =
            (0..700).flat_map(|step| pattern(DATA_SIZE, step + round)).collect();
        assert_eq!(read_all(&stream), expected);
        drop(stream);
        assert!(archive.delete_stream(identity).unwrap());
        if round == 1 {
            archive.commit().unwrap();
        }
    }
    drop(other);
    archive.commit().unwrap();
    archive.reclaim().unwrap();
    assert_verified(&archive);
}

#[test]
fn registry_registers_searches_and_updates() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let registry = archive.registry();
    let mut stream = archive.new_stream().unwrap();
    let identity = stream.identity();
    stream.append(&pattern(5000, 1)).unwrap();
    assert!(!registry.update(&stream).unwrap(), "it is not registered yet");
    assert_eq!(registry.register(&stream).unwrap(), identity);
    let error = registry.register(&stream).unwrap_err();
    assert!(matches!(error, Error::StreamExists { stream } if stream == identity), "{error}");
    let record = registry.search(identity).unwrap().unwrap().record;
    assert_eq!((record.identity, record.count, record.length), (identity, 2, 5000));
    assert!(record.begin.is_some(), "its blocks are sealed");
    stream.append(&pattern(5000, 2)).unwrap();
    assert!(registry.update(&stream).unwrap());
    assert_eq!(registry.search(identity).unwrap().unwrap().record.length, 10_000);
    assert!(registry.search(Uuid::from_u128(99)).unwrap().is_none());
    assert!(registry.search(Uuid::nil()).unwrap().is_some(), "reserved streams have records too");
    assert_eq!(registry.tree(TreeId::Streams).entries, 0, "nothing is committed yet");
    registry.close().unwrap();
    archive.commit().unwrap();
    assert_eq!(archive.registry().tree(TreeId::Streams).entries, 1);
    assert_eq!(read_all(&stream), [pattern(5000, 1), pattern(5000, 2)].concat());
    assert_verified(&archive);
    // The registry does not accept a stream of another archive.
    let other = dynamic();
    let error = other.registry().register(&stream).unwrap_err();
    assert!(matches!(error, Error::NoStream { .. }), "{error}");
}

#[test]
fn registry_unregisters_only_streams_without_blocks() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let registry = archive.registry();
    let mut stream = archive.new_stream().unwrap();
    let identity = stream.identity();
    stream.append(b"text").unwrap();
    archive.commit().unwrap();
    let error = registry.unregister(identity).unwrap_err();
    assert!(matches!(error, Error::HasBlocks { count: 1, .. }), "{error}");
    stream.truncate(0).unwrap();
    let error = registry.unregister(identity).unwrap_err();
    assert!(matches!(error, Error::AlreadyOpen { .. }), "{error}");
    drop(stream);
    let stored = registry.unregister(identity).unwrap().unwrap();
    assert_eq!((stored.record.identity, stored.record.count), (identity, 0));
    assert!(registry.unregister(identity).unwrap().is_none());
    assert_forbidden(registry.unregister(Uuid::from_u128(3)), ArchiveKind::Dynamic);
    archive.commit().unwrap();
    assert_verified(&archive);
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    let registry = archive.registry();
    assert!(registry.search(identity).unwrap().is_none());
    assert_eq!(registry.tree(TreeId::Streams).entries, 0);
    registry.close().unwrap();
}
