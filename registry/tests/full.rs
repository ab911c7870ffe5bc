//! A full disk takes nothing more, and what is there can still be deleted.

use ar7_engine::Class;
use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::Timestamp;
use ar7_registry::records::{Attributes, InodeNumber};
use ar7_registry::{Archive, CreateOptions};

const ATTRIBUTES: Attributes =
    Attributes { mode: 0o755, uid: 0, gid: 0, modified: Timestamp { seconds: 0, nanoseconds: 0 } };

/// An archive with a few streams, on a disk without a free block.
fn full_archive() -> (MemoryDevice, Archive) {
    let device = MemoryDevice::new();
    let secret = Secret::Key(RawKey::from_bytes([3; 32]));
    let archive =
        Archive::create_device(Box::new(device.clone()), &secret, &CreateOptions::default())
            .unwrap();
    for length in [10, 5000, 100_000] {
        archive.new_stream().unwrap().append(&vec![1; length]).unwrap();
    }
    archive.commit().unwrap();
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    (device, archive)
}

fn check_deleting(archive: &Archive) {
    for stored in archive.streams(None, usize::MAX).unwrap() {
        assert!(archive.delete_stream(stored.record.identity).unwrap());
        archive.commit().unwrap();
    }
    assert!(archive.statistics().unwrap().free_blocks > 20);
    let mut findings = 0;
    archive.verify(&mut |_| findings += 1, &mut |_| {}).unwrap();
    assert_eq!(findings, 0);
}

#[test]
fn names_that_are_added_until_the_disk_is_full_leave_room_to_delete() {
    for names_per_commit in [1, 3, 20, 200] {
        let (_device, archive) = full_archive();
        let mut added = 0;
        let refused = loop {
            let names = archive.names();
            let more = (0..names_per_commit).try_for_each(|_| {
                added += 1;
                let name = format!("{added:0200}");
                names.make_directory(InodeNumber::ROOT, name.as_bytes(), ATTRIBUTES).map(drop)
            });
            if let Err(error) = more.and_then(|()| archive.commit()) {
                archive.rollback().unwrap();
                break error;
            }
        };
        assert_eq!(refused.class(), Class::NoSpace, "{refused}");
        assert!(added > names_per_commit, "the reserve is for deleting, but small changes fit");
        check_deleting(&archive);
    }
}

#[test]
fn streams_that_are_added_until_the_disk_is_full_leave_room_to_delete() {
    for bytes in [0, 1, 4008, 30_000] {
        let (_device, archive) = full_archive();
        let refused = loop {
            let made = archive.new_stream().and_then(|mut stream| {
                stream.append(&vec![2; bytes])?;
                stream.close()
            });
            if let Err(error) = made.and_then(|()| archive.commit()) {
                archive.rollback().unwrap();
                break error;
            }
        };
        assert_eq!(refused.class(), Class::NoSpace, "{refused}");
        check_deleting(&archive);
    }
}

#[test]
fn blocks_that_are_overwritten_until_the_disk_is_full_leave_room_to_delete() {
    let (_device, archive) = full_archive();
    let identity = archive.streams(None, usize::MAX).unwrap()[2].record.identity;
    // Each overwritten block takes a spare until the commit after.
    let refused = (0..20).find_map(|round| {
        let written = archive.open_stream(identity).and_then(|mut stream| {
            stream.write_at(0, &vec![round; 100_000])?;
            stream.close()
        });
        written.and_then(|()| archive.commit()).err()
    });
    if let Some(error) = refused {
        assert_eq!(error.class(), Class::NoSpace, "{error}");
        archive.rollback().unwrap();
    }
    check_deleting(&archive);
}
