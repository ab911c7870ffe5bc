//! Changes of packed files with holes: what finds no room changes nothing, and memory is bounded.

use super::*;
use crate::archive::overlays::OVERLAYS_MAX;
use crate::packs::testing::noise;

const HOLE: u64 = 1 << 30;

/// Adds a file: noise, and a hole after it.
fn add_sparse(archive: &Archive, name: &[u8], bytes: &[u8]) -> InodeNumber {
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, bytes).unwrap();
    names.append_hole(&mut packed, HOLE).unwrap();
    names.add_packed(ROOT, name, ATTRIBUTES, packed).unwrap()
}

/// Returns the beginning of a file as the open transaction has it.
fn beginning(archive: &Archive, number: InodeNumber, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    assert_eq!(archive.names().read_packed(number, 0, &mut bytes).unwrap(), length);
    bytes
}

fn findings(archive: &Archive) -> Vec<String> {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    findings
}

/// Leaves room for `more` blocks at the end of the file, and keeps few blocks in memory.
fn limit_room(device: &MemoryDevice, archive: &Archive, more: u64) {
    archive.state().unwrap().writing().unwrap().dirty_blocks_max = 16;
    let blocks = archive.store().file_bytes().unwrap() / 4096 + more;
    device.set_capacity(u32::try_from(blocks).unwrap());
}

fn is_no_space<T>(result: Result<T>) -> bool {
    result.is_err_and(|error| error.class() == ar7_engine::Class::NoSpace)
}

#[test]
fn a_changed_file_without_room_to_be_packed_stays_changed() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut expected = noise(1, 12 << 20);
    let number = add_sparse(&archive, b"a", &expected);
    archive.commit().unwrap();
    let live = |archive: &Archive| {
        let found = archive.statistics().unwrap();
        found.packed_bytes - found.dead_bytes
    };
    let before = live(&archive);
    assert!(archive.names().write_packed(number, Some(1 << 20), b"changed").unwrap());
    expected[1 << 20..][..7].copy_from_slice(b"changed");
    // A small file shares the frame that the changed one begins in.
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, b"small").unwrap();
    let small = names.add_packed(ROOT, b"small", ATTRIBUTES, packed).unwrap();
    // Other content takes the room that there was when the file changed.
    limit_room(&device, &archive, 0);
    let mut other = archive.new_stream().unwrap();
    let filled = (0..10_000).try_for_each(|_| other.append(&[1; 4008]));
    assert!(is_no_space(filled));
    other.close().unwrap();
    for _ in 0..3 {
        assert!(is_no_space(archive.savepoint()));
        assert!(beginning(&archive, number, expected.len()) == expected);
    }
    assert_eq!(beginning(&archive, small, 5), b"small");
    device.set_capacity(u32::MAX);
    archive.commit().unwrap();
    assert!(beginning(&archive, number, expected.len()) == expected);
    assert_eq!(beginning(&archive, small, 5), b"small");
    assert_eq!(findings(&archive), [""; 0]);
    archive.reclaim().unwrap();
    let after = live(&archive);
    assert!(after < before + 1000, "{before} {after}: what was taken back is dead");
}

#[test]
fn a_file_that_could_not_be_packed_again_is_not_changed() {
    let mut granted = Vec::new();
    for more in (0..1600).step_by(100) {
        let (device, archive) = create(ArchiveKind::Dynamic, 0);
        let number = add_sparse(&archive, b"a", &noise(1, 4 << 20));
        archive.commit().unwrap();
        limit_room(&device, &archive, more);
        let written = archive.names().write_packed(number, Some(1 << 20), b"changed");
        granted.push(written.is_ok());
        if written.is_err() {
            assert!(is_no_space(written));
        }
        archive.commit().unwrap();
    }
    assert!(granted.contains(&true) && granted.contains(&false), "{granted:?}");
    assert!(granted.is_sorted(), "{granted:?}");
}

#[test]
fn changes_of_many_files_take_bounded_memory() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let count = OVERLAYS_MAX + 20;
    let numbers: Vec<InodeNumber> =
        (0..count).map(|file| add_sparse(&archive, format!("{file}").as_bytes(), b"old")).collect();
    archive.commit().unwrap();
    for &number in &numbers {
        assert!(archive.names().write_packed(number, Some(1), b"LD").unwrap());
        let changed = archive.state().unwrap().writing().unwrap().overlays.len();
        assert!(changed <= OVERLAYS_MAX, "{changed}");
    }
    archive.commit().unwrap();
    assert!(numbers.iter().all(|&number| beginning(&archive, number, 3) == b"oLD"));
    assert_eq!(findings(&archive), [""; 0]);
}

#[test]
fn a_long_write_over_a_change_is_whole_or_changes_nothing() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let number = add_sparse(&archive, b"a", b"content");
    archive.commit().unwrap();
    let (old, new) = (noise(1, 9 << 20), noise(2, 9 << 20));
    let names = archive.names();
    assert!(names.write_packed(number, Some(0), &old).unwrap());
    archive.write_early().unwrap();
    limit_room(&device, &archive, 1200);
    assert!(is_no_space(names.write_packed(number, Some(0), &new)));
    assert!(beginning(&archive, number, old.len()) == old);
    device.set_capacity(u32::MAX);
    // The places of two versions are used in turn.
    for _ in 0..20 {
        assert!(names.write_packed(number, Some(0), &new).unwrap());
    }
    assert!(beginning(&archive, number, new.len()) == new);
    // With the room to pack the file again.
    assert!(archive.store().file_bytes().unwrap() < 64 << 20);
    archive.commit().unwrap();
    assert!(beginning(&archive, number, new.len()) == new);
    assert_eq!(findings(&archive), [""; 0]);
}
