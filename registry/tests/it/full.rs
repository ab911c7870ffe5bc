//! On a full disk, no data can be added, but streams and names can still be deleted.

use ar7_engine::Class;
use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::Timestamp;
use ar7_registry::packs::needs_repacking;
use ar7_registry::records::{Attributes, InodeNumber, Origin};
use ar7_registry::{Archive, CreateOptions};

use crate::attributes::ATTRIBUTES;

/// Makes an archive with a few streams, on a disk without a free block. An old archive also has
/// many names and streams, and its free blocks are scattered.
fn full_archive(is_old: bool) -> (MemoryDevice, Archive) {
    let device = MemoryDevice::new();
    let secret = Secret::Key(RawKey::from_bytes([3; 32]));
    let archive =
        Archive::create_device(Box::new(device.clone()), &secret, &CreateOptions::default())
            .unwrap();
    for length in [10, 5000, 100_000] {
        archive.new_stream().unwrap().append(&vec![1; length]).unwrap();
    }
    archive.commit().unwrap();
    if is_old {
        make_old(&archive);
    }
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    (device, archive)
}

/// Makes streams and names, and deletes every second one.
fn make_old(archive: &Archive) {
    let mut streams = Vec::new();
    for number in 0..4000_u32 {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&[3; 100]).unwrap();
        streams.push(stream.identity());
        let name = format!("{:032b}", number.reverse_bits());
        let made = archive.names().make_directory(InodeNumber::ROOT, name.as_bytes(), ATTRIBUTES);
        made.unwrap();
    }
    archive.commit().unwrap();
    for identity in streams.iter().step_by(2) {
        assert!(archive.delete_stream(*identity).unwrap());
    }
    archive.commit().unwrap();
}

fn check_deleting(archive: &Archive) {
    for stored in archive.streams(None, 30).unwrap() {
        assert!(archive.delete_stream(stored.record.identity).unwrap());
        archive.commit().unwrap();
    }
    assert!(archive.statistics().unwrap().free_blocks > 20);
    let mut findings = 0;
    archive.verify(&mut |_| findings += 1, &mut |_| {}).unwrap();
    assert_eq!(findings, 0);
}

#[test]
fn a_disk_full_of_names_leaves_room_to_delete() {
    for (names_per_commit, is_old) in [(1, false), (3, false), (20, true), (200, true)] {
        let (_device, archive) = full_archive(is_old);
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
        assert!(added > names_per_commit, "small changes fit in the reserve blocks too");
        check_deleting(&archive);
    }
}

#[test]
fn a_disk_full_of_streams_leaves_room_to_delete() {
    for (bytes, is_old) in [(1, false), (4008, false), (30_000, true), (400_000, true)] {
        let (_device, archive) = full_archive(is_old);
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
fn overwriting_on_a_full_disk_leaves_room_to_delete() {
    let (_device, archive) = full_archive(false);
    let identity = archive.streams(None, usize::MAX).unwrap()[2].record.identity;
    // Each overwritten block needs a shadow block until the next commit.
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

/// Length of a packed file. Two of them need more room than a full disk has left.
const NOISE_BYTES: usize = 300_000;

/// Returns the content of a packed file, which does not compress.
fn noise(pack: u8, file: u8) -> Vec<u8> {
    let mut state = u64::from(pack) << 8 | u64::from(file);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    };
    (0..NOISE_BYTES).map(|_| next()).collect()
}

/// Without room to move content, deletions succeed all the same, and a pack that is wholly dead is freed. With the room of
/// one pack, content is moved until no more than a quarter is dead, although there is no room to move all of it at once.
#[test]
fn packed_files_are_deleted_from_a_full_disk_and_moved_with_the_room_of_one_pack() {
    const PACKS: u8 = 12;
    const FILES: u8 = 8;
    const KEPT: u8 = 2;
    let (device, archive) = full_archive(false);
    device.set_capacity(u32::MAX);
    let (names, root) = (archive.names(), InodeNumber::ROOT);
    for pack in 0..PACKS {
        for file in 0..FILES {
            let mut packed = names.begin_packed(None).unwrap();
            names.append_packed(&mut packed, &noise(pack, file)).unwrap();
            names.add_packed(root, &[b'a' + pack, b'a' + file], ATTRIBUTES, packed).unwrap();
        }
        archive.commit().unwrap();
    }
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    for count in [1000, 100, 10] {
        let fill = || {
            archive.new_stream()?.append(&vec![1; count * 4008])?;
            archive.commit()
        };
        let error = (0..100).find_map(|_| fill().err()).expect("a full disk");
        assert_eq!(error.class(), Class::NoSpace, "{error}");
        archive.rollback().unwrap();
    }
    let remove = |pack: u8, file: u8| {
        names.remove(root, &[b'a' + pack, b'a' + file]).unwrap();
        let removed = archive.commit();
        assert!(removed.is_ok(), "{pack} {file}: {removed:?}, {:?}", archive.statistics());
    };
    for (pack, file) in (1..PACKS).flat_map(|pack| (KEPT..FILES).map(move |file| (pack, file))) {
        remove(pack, file);
    }
    archive.reclaim().unwrap();
    let before = archive.statistics().unwrap();
    assert_eq!(before.packs, u64::from(PACKS), "no room to move content: {before:?}");
    assert!(needs_repacking(before.dead_bytes, before.packed_bytes), "{before:?}");
    for file in 0..FILES {
        remove(0, file);
    }
    archive.reclaim().unwrap();
    let after = archive.statistics().unwrap();
    assert!(after.packs < before.packs, "{after:?}");
    assert!(!needs_repacking(after.dead_bytes, after.packed_bytes), "{after:?}");
    assert!(after.free_blocks > before.free_blocks, "{before:?} {after:?}");
    let snapshot = archive.snapshot();
    for (pack, file) in (1..PACKS).flat_map(|pack| (0..KEPT).map(move |file| (pack, file))) {
        let entry = snapshot.lookup(root, &[b'a' + pack, b'a' + file]).unwrap().unwrap();
        let inode = snapshot.inode(entry.inode).unwrap().unwrap();
        let mut found = vec![0; NOISE_BYTES];
        snapshot.read_file(&inode).unwrap().unwrap().read_at(0, &mut found).unwrap();
        assert!(found == noise(pack, file), "{pack} {file}");
    }
    check_deleting(&archive);
}

#[test]
fn a_tree_is_removed_from_a_full_disk_in_smaller_batches() {
    let (device, archive) = full_archive(false);
    device.set_capacity(u32::MAX);
    let tree = archive.names().make_directories(b"tree", ATTRIBUTES).unwrap();
    // Inodes in another order than names: a removal changes pages all over their tree. They are as long as they can be.
    let [modified, changed] =
        [i64::MAX, i64::MIN].map(|seconds| Timestamp { seconds, nanoseconds: 0 });
    let origin = Some(Origin { changed, inode: u64::MAX });
    let attributes = Attributes { uid: u32::MAX, gid: u32::MAX, modified, origin, ..ATTRIBUTES };
    for number in 0..20_000_u32 {
        let name = format!("{:032b}", number.reverse_bits());
        archive.names().add_file(tree, name.as_bytes(), attributes, None).unwrap();
    }
    archive.commit().unwrap();
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    let before = archive.statistics().unwrap();
    let removal =
        archive.names().remove_tree(InodeNumber::ROOT, b"tree", Some(10_000), &mut |_| true);
    assert_eq!(removal.unwrap(), 20_001);
    let after = archive.statistics().unwrap();
    assert_eq!(after.names, before.names - 20_001);
    // Batches of 10,000 names would take three commits.
    assert!(after.commit - before.commit > 5, "{before:?} {after:?}");
    check_deleting(&archive);
}
