//! Savepoints of an archive: what a return restores beyond names and contents, what a savepoint costs,
//! and what remains possible after damage, on a full disk and on a failing one.

use ar7_engine::device::simulated::{DiskFault, EventKind, SimulatedDisk};
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{ArchiveKind, BLOCK_SIZE, Position};
use ar7_engine::store::Access;
use ar7_engine::{Class, Error as EngineError};
use ar7_registry::records::InodeNumber;
use ar7_registry::{Archive, CreateOptions, Error};

use crate::attributes::ATTRIBUTES;
use crate::common::{assert_verified, create, open, pattern, read_all, secret};

/// Makes a file of `length` bytes in the root directory.
fn add_file(archive: &Archive, name: &str, length: usize) {
    let mut stream = archive.new_stream().unwrap();
    stream.append(&pattern(length, 1)).unwrap();
    let (names, identity) = (archive.names(), stream.identity());
    names.add_file(InodeNumber::ROOT, name.as_bytes(), ATTRIBUTES, Some(identity)).unwrap();
    stream.close().unwrap();
}

#[test]
fn reserved_streams_metadata_and_extents_are_restored() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut reserved = archive.reserved_stream(5).unwrap();
    reserved.append(&pattern(20_000, 1)).unwrap();
    let (mut one, mut two) = (archive.new_stream().unwrap(), archive.new_stream().unwrap());
    let identity = one.identity();
    // In turns, so that the blocks of each lie apart.
    for salt in 0..5 {
        one.append(&pattern(9000, salt)).unwrap();
        two.append(&pattern(9000, salt)).unwrap();
        archive.commit().unwrap();
    }
    archive.set_metadata(b"before").unwrap();
    let expected = (read_all(&reserved), read_all(&one));
    let point = archive.savepoint().unwrap();
    for round in 0..3 {
        let mut reserved = archive.open_stream(reserved.identity()).or_else(|_| {
            // The handle from before the savepoint is still open in the first round.
            assert_eq!(round, 0);
            archive.read_stream(reserved.identity())
        });
        if round > 0 {
            reserved.as_mut().unwrap().set_len(3).unwrap();
            let mut one = archive.open_stream(identity).unwrap();
            one.set_len(11_000).unwrap();
            one.append(&pattern(30_000, 9)).unwrap();
            one.close().unwrap();
        }
        archive.set_metadata(b"after").unwrap();
        drop(reserved);
        archive.roll_back_to(&point).unwrap();
        assert_eq!(archive.metadata().unwrap(), b"before");
    }
    assert!(matches!(one.len(), Err(Error::Stale)), "handles from before a return are stale");
    archive.commit().unwrap();
    drop((reserved, one, two));
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    let found = (
        read_all(&archive.reserved_stream(5).unwrap()),
        read_all(&archive.read_stream(identity).unwrap()),
    );
    assert!(found == expected);
    assert_verified(&archive);
}

#[test]
fn a_block_changed_after_each_of_two_savepoints_keeps_its_last_change() {
    for drops_inner in [false, true] {
        let (device, archive) = create(ArchiveKind::Dynamic, 0);
        // The last block stays partial, so that each write changes it again.
        let mut stream = archive.new_stream().unwrap();
        let identity = stream.identity();
        let mut expected = Vec::new();
        let mut points = Vec::new();
        for salt in 0..4 {
            let part = pattern(100, salt);
            stream.append(&part).unwrap();
            expected.extend(part);
            points.push(archive.savepoint().unwrap());
            if drops_inner && salt > 0 {
                points.pop();
            }
        }
        stream.append(&[9]).unwrap();
        expected.push(9);
        archive.commit().unwrap();
        assert_eq!(read_all(&archive.read_stream(identity).unwrap()), expected);
        drop((stream, points));
        archive.close().unwrap();
        let archive = open(&device, Access::Read);
        assert_eq!(read_all(&archive.read_stream(identity).unwrap()), expected);
        assert_verified(&archive);
    }
}

#[test]
fn a_commit_ends_the_savepoints_even_if_nothing_changed() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let gone = |archive: &Archive, point| {
        let refused = archive.roll_back_to(point);
        assert!(matches!(refused, Err(Error::Engine(EngineError::NoSavepoint))), "{refused:?}");
    };
    let point = archive.savepoint().unwrap();
    archive.commit().unwrap();
    gone(&archive, &point);
    let point = archive.savepoint().unwrap();
    add_file(&archive, "file", 100);
    archive.commit().unwrap();
    gone(&archive, &point);
    let (_, other) = create(ArchiveKind::Dynamic, 0);
    gone(&other, &archive.savepoint().unwrap());
    assert!(archive.names().lookup(InodeNumber::ROOT, b"file").unwrap().is_some());
}

fn corrupt(device: &MemoryDevice, position: Position) {
    let mut bytes = [0; BLOCK_SIZE];
    device.read(position, &mut bytes).unwrap();
    bytes[99] ^= 1;
    device.write(position, &bytes).unwrap();
}

#[test]
fn a_transaction_that_met_damage_can_return_to_a_point_before_it_and_commit() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&pattern(10_000, 1)).unwrap();
    archive.commit().unwrap();
    let damaged = stream.position_of(1).unwrap().unwrap();
    add_file(&archive, "before", 5000);
    let point = archive.savepoint().unwrap();
    corrupt(&device, damaged);
    let failed = stream.write_at(5000, b"part of a block").unwrap_err();
    assert_eq!(failed.class(), Class::Damaged);
    assert_eq!(archive.savepoint().unwrap_err().class(), Class::Damaged);
    archive.roll_back_to(&point).unwrap();
    add_file(&archive, "after", 5000);
    archive.commit().unwrap();
    for name in [&b"before"[..], b"after"] {
        assert!(archive.snapshot().resolve(name).is_ok());
    }
}

#[test]
fn a_savepoint_on_a_full_disk_fails_and_leaves_the_reserve_to_the_commit() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    for number in 0..50 {
        add_file(&archive, &format!("file {number}"), 5000);
    }
    archive.commit().unwrap();
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    // Savepoints that are held, until there is no space for another one.
    let mut points = Vec::new();
    let refused = loop {
        add_file(&archive, &format!("more {}", points.len()), 0);
        match archive.savepoint() {
            Ok(point) => points.push(point),
            Err(error) => break error,
        }
        assert!(points.len() < 1000);
    };
    assert_eq!(refused.class(), Class::NoSpace);
    assert!(points.len() > 5, "{} savepoints", points.len());
    // The transaction goes on.
    let names = archive.names();
    names.remove(InodeNumber::ROOT, b"file 1").unwrap();
    archive.roll_back_to(&points[3]).unwrap();
    names.remove(InodeNumber::ROOT, b"file 2").unwrap();
    archive.savepoint().unwrap();
    archive.commit().unwrap();
    let found = |name: &[u8]| archive.snapshot().resolve(name).is_ok();
    assert!(found(b"file 1") && !found(b"file 2") && found(b"more 3") && !found(b"more 4"));
    assert_verified(&archive);
}

fn on_disk(disk: &SimulatedDisk) -> Archive {
    let options = CreateOptions::default();
    Archive::create_device(Box::new(disk.clone()), &secret(), &options).unwrap()
}

#[test]
fn a_failed_write_of_a_savepoint_makes_the_archive_unusable() {
    let disk = SimulatedDisk::new();
    let archive = on_disk(&disk);
    add_file(&archive, "file", 5000);
    let point = archive.savepoint().unwrap();
    add_file(&archive, "other", 5000);
    disk.plan(DiskFault::WriteFails, 0);
    archive.savepoint().unwrap_err();
    let poisoned = |outcome| matches!(outcome, Err(Error::Engine(EngineError::Poisoned { .. })));
    assert!(poisoned(archive.roll_back_to(&point)) && poisoned(archive.commit()));
}

/// Returns how many blocks were written by `work`.
fn written(disk: &SimulatedDisk, work: impl FnOnce()) -> usize {
    let before = disk.log().len();
    work();
    let events = &disk.log()[before..];
    events.iter().filter(|event| matches!(event.kind(), EventKind::Write(_))).count()
}

#[test]
fn a_savepoint_costs_what_changed_since_the_last_one() {
    let costs = [10, 2000].map(|files| {
        let disk = SimulatedDisk::new();
        let archive = on_disk(&disk);
        for number in 0..files {
            add_file(&archive, &format!("committed {number}"), 10);
        }
        archive.commit().unwrap();
        for number in 0..files {
            add_file(&archive, &format!("uncommitted {number}"), 10);
        }
        let all = written(&disk, || drop(archive.savepoint().unwrap()));
        let mut last = archive.savepoint().unwrap();
        let one = (0..20).map(|number| {
            add_file(&archive, &format!("one more {number}"), 10);
            written(&disk, || last = archive.savepoint().unwrap())
        });
        let one = one.max().unwrap();
        let none = written(&disk, || last = archive.savepoint().unwrap());
        let back = written(&disk, || archive.roll_back_to(&last).unwrap());
        (all, one, none, back)
    });
    let [(_, one_of_few, 0, 0), (all, one_of_many, 0, 0)] = costs else {
        panic!("a savepoint without changes, or a return, wrote blocks: {costs:?}")
    };
    // One block of the file, and a path of pages in each tree that changed.
    assert!(all > 2000 && one_of_few <= 8 && one_of_many <= 20, "{costs:?}");
}
