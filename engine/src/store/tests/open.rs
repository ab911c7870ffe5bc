//! What opening accepts, repairs and refuses.

use sha2::{Digest as _, Sha256};

use super::*;
use crate::crypto::{HeaderKey, MasterKey, Passphrase};
use crate::error::{Check, Class, Error};
use crate::format::{
    BLOCK_SIZE, Features, HEADERS, Header, META_STREAM, header_digest, header_layout,
    meta_slot_layout,
};
use crate::store::superblock::header::open_header;

fn unlocked(device: &MemoryDevice) -> (MasterKey, Header) {
    let opened = open_header(device, &secret()).unwrap();
    (opened.master, opened.header)
}

/// Writes a changed header to the given copies, as a holder of the key could.
fn put_header(device: &MemoryDevice, change: impl FnOnce(&mut Header), copies: &[Position]) {
    let (master, mut header) = unlocked(device);
    change(&mut header);
    let bytes = header.encode(&HeaderKey::derive(&master, header.archive));
    for &position in copies {
        device.write(position, &bytes[..]).unwrap();
    }
}

/// Writes a slot that a newer program could write with the key.
fn put_slot(
    device: &MemoryDevice,
    store: &Store,
    slot: &MetaSlot,
    position: Position,
    change: &dyn Fn(&mut [u8]),
) {
    let mut data = slot.encode().unwrap();
    change(&mut data[..]);
    let head = BlockHead { stream: META_STREAM, ..BlockHead::default() };
    let mut bytes = [0; BLOCK_SIZE];
    let job = SealJob { position, head, data: &data };
    store.sealer.seal_batch(KeyKind::Meta, slot.generation, &[job], &mut bytes).unwrap();
    device.write(position, &bytes).unwrap();
}

/// A closed archive with one commit.
fn archive() -> MemoryDevice {
    let (device, _, mut writer) = create();
    add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    device
}

fn refusal(device: &MemoryDevice, access: Access) -> Error {
    try_open(device, access).expect_err("opening must fail")
}

fn fault_of(error: &Error) -> (Check, Option<Position>) {
    match error {
        Error::Damaged(fault) | Error::Tampered(fault) => (fault.check, fault.position),
        other => panic!("expected damage or tampering, found {other}"),
    }
}

#[test]
fn a_bad_copy_of_the_header_is_repaired() {
    for position in HEADERS {
        let device = archive();
        let good = raw(&device, position);
        corrupt(&device, position);
        let bad = raw(&device, position);
        let store = read_only(&device);
        assert_eq!(store.recovery().headers, [position]);
        assert_eq!(raw(&device, position), bad, "a reader only reports it");
        drop(store);
        let (store, _writer) = writer(&device);
        assert_eq!(store.recovery().headers, [position]);
        assert_eq!(raw(&device, position), good, "a writer repairs it");
    }
}

#[test]
fn two_bad_headers_are_damage() {
    let device = archive();
    for position in HEADERS {
        corrupt(&device, position);
    }
    let error = refusal(&device, Access::Read);
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    assert_eq!(fault_of(&error).0, Check::HeaderChecksum);
    // One copy does not even start like a header, so the other determines the error.
    device.write(HEADERS[0], &[b'x'; BLOCK_SIZE]).unwrap();
    let error = refusal(&device, Access::Read);
    assert_eq!(fault_of(&error).0, Check::HeaderChecksum);
    // Neither copy starts like a header, so the file is not an archive.
    for position in HEADERS {
        device.write(position, &[b'x'; BLOCK_SIZE]).unwrap();
    }
    let error = refusal(&device, Access::Read);
    assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
}

#[test]
fn a_header_written_without_the_key_is_tampering() {
    for position in HEADERS {
        let device = archive();
        let mut bytes = raw(&device, position);
        bytes[header_layout::CREATED_SECONDS.offset + 7] ^= 1;
        let checksum = Sha256::digest(&bytes[..header_layout::CHECKSUM.offset]);
        header_layout::CHECKSUM.put(&mut bytes, &checksum);
        device.write(position, &bytes).unwrap();
        let error = refusal(&device, Access::Write);
        assert!(matches!(error, Error::Tampered(_)), "{error}");
        assert_eq!(fault_of(&error), (Check::HeaderMac, Some(position)));
    }
    // The authentic header of another archive.
    let (device, other) = (archive(), archive());
    let ids = [&device, &other].map(|device| unlocked(device).1.archive);
    device.write(HEADERS[1], &raw(&other, HEADERS[1])).unwrap();
    let error = refusal(&device, Access::Write);
    let Error::Tampered(fault) = &error else { panic!("{error}") };
    assert_eq!((&fault.expected, &fault.found), (&ids[0].into(), &ids[1].into()));
}

#[test]
fn a_newer_header_is_an_unfinished_change_and_an_older_one_is_tampering() {
    let device = archive();
    let old = raw(&device, HEADERS[0]);
    // A change of the header that a crash interrupted after one copy.
    put_header(&device, |header| header.revision += 1, &HEADERS[..1]);
    let new = raw(&device, HEADERS[0]);
    assert_eq!(read_only(&device).recovery().older_headers, [HEADERS[1]]);
    assert!(read_only(&device).recovery().headers.is_empty());
    let (store, writer) = writer(&device);
    assert_eq!(raw(&device, HEADERS[1]), new);
    assert_eq!(store.current().slot.header_revision, 2, "the commit names the header");
    writer.finish().unwrap();
    drop(store);
    for position in HEADERS {
        device.write(position, &old).unwrap();
    }
    for access in [Access::Read, Access::Write] {
        let error = refusal(&device, access);
        assert!(matches!(error, Error::Tampered(_)), "{error}");
        assert_eq!(fault_of(&error).0, Check::HeaderRevision);
    }
    // Another header of the same revision is not the one that the commit names.
    let forged = |header: &mut Header| {
        header.revision = 2;
        header.created.nanoseconds ^= 1;
    };
    for (position, bytes) in HEADERS.into_iter().zip([&new, &new]) {
        device.write(position, bytes).unwrap();
    }
    put_header(&device, forged, &HEADERS);
    assert_ne!(raw(&device, HEADERS[0]), new);
    assert_eq!(fault_of(&refusal(&device, Access::Read)).0, Check::HeaderRevision);
}

#[test]
fn unknown_features_of_the_header_are_a_newer_format() {
    let bit = 1 << 40;
    // Features, whether reading works, whether writing works.
    for (features, reads, writes) in [
        (Features { compatible: bit, ..Features::default() }, true, true),
        (Features { readable: bit, ..Features::default() }, true, false),
        (Features { required: bit, ..Features::default() }, false, false),
    ] {
        let device = archive();
        let change = |header: &mut Header| {
            header.features = features;
            header.revision += 1;
        };
        put_header(&device, change, &HEADERS);
        for (access, allowed) in [(Access::Read, reads), (Access::Write, writes)] {
            let before = device.to_bytes();
            match try_open(&device, access) {
                Ok((store, _)) => {
                    assert!(allowed, "{features:?} {access:?}");
                    assert_eq!(store.header().features, features, "kept");
                }
                Err(error) => {
                    assert!(!allowed, "{features:?} {access:?}: {error}");
                    assert_eq!(error.class(), Class::NewerFormat);
                    assert!(device.to_bytes() == before, "nothing was written");
                }
            }
        }
        if !reads {
            // The error comes before any key is tried.
            let other = Secret::Key(RawKey::from_bytes([8; 32]));
            let device: Box<dyn Device> = Box::new(device);
            let error = Store::open_device(device, &other, OpenOptions::default()).unwrap_err();
            assert_eq!(error.class(), Class::NewerFormat);
        }
    }
}

#[test]
fn unknown_features_of_the_slot_are_a_newer_format() {
    for (features, reads) in [
        (Features { compatible: 1, ..Features::default() }, true),
        (Features { readable: 1, ..Features::default() }, true),
        (Features { required: 1, ..Features::default() }, false),
    ] {
        let device = archive();
        let store = read_only(&device);
        let older = store.current().slot.clone();
        let mut newer = older.clone();
        newer.generation.step += 1;
        newer.number += 1;
        for (position, slot) in [(1, &older), (2, &newer), (3, &older), (4, &newer)] {
            let position = Position::at(position);
            let features = features.encode();
            put_slot(&device, &store, slot, position, &|data| {
                meta_slot_layout::FEATURES.put(data, &features);
            });
        }
        drop(store);
        assert_eq!(try_open(&device, Access::Read).is_ok(), reads, "{features:?}");
        let writing = try_open(&device, Access::Write);
        match writing {
            Ok((_, Some(mut writer))) => {
                assert_eq!(features.readable | features.required, 0);
                commit(&mut writer, 2).unwrap();
                writer.finish().unwrap();
                assert_eq!(read_only(&device).current().slot.features, features, "kept");
            }
            Ok((_, None)) => panic!("opened for writing without a writer"),
            Err(error) => {
                assert_ne!(features.readable | features.required, 0);
                assert_eq!(error.class(), Class::NewerFormat);
            }
        }
    }
}

#[test]
fn a_newer_format_version_is_reported_before_damage() {
    let device = archive();
    for position in HEADERS {
        let mut bytes = raw(&device, position);
        header_layout::VERSION.put(&mut bytes, &2_u32.to_be_bytes());
        device.write(position, &bytes).unwrap();
    }
    let error = refusal(&device, Access::Read);
    assert!(matches!(error, Error::NewerFormat { what: "format version", .. }), "{error}");
}

#[test]
fn a_wrong_key_is_not_damage() {
    let device = archive();
    for other in [
        Secret::Key(RawKey::from_bytes([4; 32])),
        Secret::Passphrase(Passphrase::new(b"not it".to_vec())),
    ] {
        let device: Box<dyn Device> = Box::new(device.clone());
        let error = Store::open_device(device, &other, OpenOptions::default()).unwrap_err();
        assert!(matches!(error, Error::WrongKey { slots: 1 }), "{error}");
    }
}

#[test]
fn a_bad_meta_slot_is_repaired_and_a_lost_pair_is_damage() {
    for position in 1..=4 {
        let device = archive();
        let at = Position::at(position);
        corrupt(&device, at);
        let store = read_only(&device);
        assert_eq!((store.recovery().bad_slots.clone(), mark(&store)), (vec![at], 1));
        drop(store);
        let (_, mut writer) = writer(&device);
        commit(&mut writer, 2).unwrap();
        writer.finish().unwrap();
        let store = read_only(&device);
        assert!(store.recovery().is_clean(), "slot {position}: {:?}", store.recovery());
        assert_eq!(mark(&store), 2);
    }
    for pair in [[1, 3], [2, 4]] {
        let device = archive();
        for position in pair {
            corrupt(&device, Position::at(position));
        }
        for access in [Access::Read, Access::Write] {
            let error = refusal(&device, access);
            assert_eq!(fault_of(&error), (Check::MetaSlot, Some(Position::at(pair[0]))));
        }
        // An option accepts the lost pair, for reading only.
        let open = |access| {
            let options = OpenOptions { access, accept_lost_pair: true, ..OpenOptions::default() };
            Store::open_device(Box::new(device.clone()), &secret(), options)
        };
        let (store, _) = open(Access::Read).unwrap();
        assert!(store.recovery().lost_pair);
        assert!(matches!(open(Access::Write), Err(Error::Damaged(_))));
    }
}

#[test]
fn meta_slots_of_two_separately_written_copies_are_a_fork() {
    let device = archive();
    let other = device.snapshot().to_device();
    let (_, first) = writer(&device);
    let (_, second) = writer(&other);
    assert_eq!(first.generation().session, second.generation().session);
    assert_ne!(first.generation().salt, second.generation().salt);
    drop((first, second));
    // One slot of the other copy replaces a slot of this one.
    let newest = read_only(&other).current().slot.generation;
    let authentic =
        (1..=4).map(Position::at).find(|&position| raw(&other, position)[..12] == newest.encode());
    let position = authentic.unwrap();
    device.write(position, &raw(&other, position)).unwrap();
    let error = refusal(&device, Access::Read);
    assert!(matches!(error, Error::Tampered(_)), "{error}");
    assert_eq!(fault_of(&error).0, Check::Fork);
}

#[test]
fn a_shorter_file_is_truncated_or_not_an_archive() {
    let device = archive();
    let count = read_only(&device).current().slot.block_count;
    let image = device.to_bytes();
    let needed = usize::try_from(count).unwrap() * BLOCK_SIZE;
    let reserved = 8 * BLOCK_SIZE;
    let near = |at: usize| [at - 1, at, at + 1];
    let mut lengths: Vec<usize> = (1..40).collect();
    lengths.extend((1..9).flat_map(|blocks| near(blocks * BLOCK_SIZE)));
    lengths.extend([needed - 1, needed - BLOCK_SIZE, reserved + 5]);
    for length in lengths.into_iter().filter(|&length| length < needed) {
        for access in [Access::Read, Access::Write] {
            let cut = MemoryDevice::from_bytes(&image[..length]);
            let error = refusal(&cut, access);
            let Error::Truncated { expected_bytes, found_bytes } = error else {
                panic!("{length} bytes: {error}")
            };
            assert_eq!(found_bytes, length as u64);
            let expected = if length < reserved { reserved } else { needed };
            assert_eq!(expected_bytes, expected as u64);
            assert!(cut.to_bytes() == image[..length], "nothing was written");
        }
    }
    assert!(try_open(&MemoryDevice::from_bytes(&image[..needed]), Access::Read).is_ok());
    for other in [&b""[..], b"x", b"\x89PNG\r\n\x1a\n", &[0; 5000], &vec![0; 40_000]] {
        let error = refusal(&MemoryDevice::from_bytes(other), Access::Read);
        assert!(matches!(error, Error::NotAnArchive { .. }), "{} bytes: {error}", other.len());
    }
}

#[test]
fn an_archive_has_one_writer_and_any_number_of_readers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let open = |access, io| {
        Store::open(&path, &secret(), OpenOptions { access, io, ..OpenOptions::default() })
    };
    let (store, mut writer) = Store::create(&path, &secret(), &CreateOptions::default()).unwrap();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    for io in [Io::Map, Io::File] {
        let error = open(Access::Write, io).unwrap_err();
        let is_it = matches!(&error, Error::Locked { path: Some(at), .. } if *at == path);
        assert!(is_it, "{error}");
    }
    let readers = [open(Access::Read, Io::Map).unwrap().0, open(Access::Read, Io::File).unwrap().0];
    let mut newest = block;
    for byte in 2..6 {
        newest = change_block(&mut writer, block.position, byte).unwrap();
        commit(&mut writer, u64::from(byte)).unwrap();
        for reader in &readers {
            assert_eq!((mark(reader), read(reader, block).unwrap()), (1, 1));
        }
    }
    assert!(writer.is_pinned().unwrap() && writer.has_redo_list());
    writer.finish().unwrap();
    drop(store);
    // The readers outlive the writer and its session. The next one leaves their blocks alone, too.
    let (store, writer) = open(Access::Write, Io::File).unwrap();
    let mut writer = writer.unwrap();
    assert_eq!(read(&store, newest).unwrap(), 5);
    for byte in 6..9 {
        newest = change_block(&mut writer, block.position, byte).unwrap();
        commit(&mut writer, u64::from(byte)).unwrap();
        for reader in &readers {
            assert_eq!((mark(reader), read(reader, block).unwrap()), (1, 1));
        }
    }
    drop(readers);
    commit(&mut writer, 9).unwrap();
    commit(&mut writer, 10).unwrap();
    assert!(!writer.is_pinned().unwrap() && !writer.has_redo_list());
    writer.finish().unwrap();
    drop(store);
    assert_eq!(read(&open(Access::Read, Io::Map).unwrap().0, newest).unwrap(), 8);
}

#[test]
fn a_writer_waits_for_another_one_as_long_as_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let made = Store::create(&path, &secret(), &CreateOptions::default()).unwrap();
    let open = |wait| {
        let options = OpenOptions { access: Access::Write, wait, ..OpenOptions::default() };
        Store::open(&path, &secret(), options)
    };
    let begun = std::time::Instant::now();
    let error = open(std::time::Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, Error::Locked { .. }), "{error}");
    assert!(begun.elapsed() >= std::time::Duration::from_millis(50));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| open(std::time::Duration::from_mins(1)).map(drop));
        std::thread::sleep(std::time::Duration::from_millis(20));
        drop(made);
        waiting.join().expect("no panic").unwrap();
    });
}

#[test]
fn the_header_digest_covers_the_whole_block() {
    let device = archive();
    let bytes: [u8; BLOCK_SIZE] = raw(&device, HEADERS[0]).try_into().unwrap();
    let digest = header_digest(&bytes);
    assert_eq!(read_only(&device).current().slot.header_digest, digest);
}

#[test]
fn an_unpublished_archive_has_no_name_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let names = || std::fs::read_dir(directory.path()).unwrap().count();
    let create = || Store::create_unpublished(&path, &secret(), &CreateOptions::default());
    let (store, mut writer, unpublished) = create().unwrap();
    let block = add_block(&mut writer, KeyKind::Data, 7).unwrap();
    commit(&mut writer, 1).unwrap();
    assert!(!path.exists() && names() == 1);
    drop((store, writer, unpublished));
    assert_eq!(names(), 0, "{block:?}");

    let (store, mut writer, unpublished) = create().unwrap();
    let block = add_block(&mut writer, KeyKind::Data, 7).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    unpublished.publish().unwrap();
    drop(store);
    let reader = Store::open(&path, &secret(), OpenOptions::default()).unwrap().0;
    assert_eq!((mark(&reader), read(&reader, block).unwrap(), names()), (1, 7, 1));

    // A name that is taken before or after the creation.
    let error = create().unwrap_err();
    assert!(matches!(&error, Error::Io { operation: "create", .. }), "{error}");
    let precious = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (store, _writer, unpublished) = create().unwrap();
    std::fs::write(&path, &precious).unwrap();
    let error = unpublished.publish().unwrap_err();
    assert!(matches!(&error, Error::Io { operation: "create", .. }), "{error}");
    assert_eq!((std::fs::read(&path).unwrap(), names()), (precious, 1));
    drop(store);
}

#[test]
fn an_archive_with_a_failed_write_is_not_published() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let made = Store::create_unpublished(&path, &secret(), &CreateOptions::default());
    let (store, writer, unpublished) = made.unwrap();
    let failed = Error::io("write", std::io::ErrorKind::Other.into());
    store.poisoning::<()>(Err(failed)).unwrap_err();
    let error = unpublished.publish().unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }), "{error}");
    drop(writer);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
