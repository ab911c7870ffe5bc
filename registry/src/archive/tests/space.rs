//! An archive keeps bounded memory, and gives space at the end of the file back.

use super::*;
use crate::records::ExtendedAttribute;

#[test]
fn a_gap_before_a_write_is_added_in_steps_that_fit_in_memory() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    archive.state().unwrap().writing().unwrap().dirty_blocks_max = 0;
    let mut stream = archive.new_stream().unwrap();
    stream.write_at(20 << 20, b"end").unwrap();
    assert_eq!(stream.len().unwrap(), (20 << 20) + 3);
    let mut state = archive.state().unwrap();
    let dirty = state.writing().unwrap().open[&stream.identity()].dirty.len();
    drop(state);
    // A step is 4 MiB, and each step flushes the one before.
    assert!(dirty <= 1050, "{dirty} blocks in memory");
}

#[test]
fn a_long_set_of_attributes_or_target_without_room_leaves_no_stream() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let names = archive.names();
    let number = names.add_file(ROOT, b"file", ATTRIBUTES, None).unwrap();
    archive.commit().unwrap();
    // The next write flushes this stream first, for which there is no space.
    archive.state().unwrap().writing().unwrap().dirty_blocks_max = 0;
    let mut other = archive.new_stream().unwrap();
    other.append(&vec![3; 1000 * 4008]).unwrap();
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    let check_error = |error: crate::Error| {
        assert_eq!(error.class(), ar7_engine::Class::NoSpace, "{error}");
    };
    let extended = [ExtendedAttribute::new(b"user.a", vec![7; 5000])];
    check_error(names.set_extended_attributes(number, &extended).unwrap_err());
    check_error(names.add_symlink(ROOT, b"link", ATTRIBUTES, &[b't'; 600]).unwrap_err());
    device.set_capacity(u32::MAX);
    drop(other);
    archive.commit().unwrap();
    assert_eq!(archive.statistics().unwrap().streams, 1);
    assert_verified(&archive);
}

#[test]
fn closing_moves_pages_away_from_the_end_and_cuts_the_file() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&vec![1; 2000 * 4008]).unwrap();
    let identity = stream.identity();
    drop(stream);
    archive.commit().unwrap();
    for _ in 0..300 {
        archive.new_stream().unwrap();
    }
    archive.commit().unwrap();
    // The blocks before the pages become free.
    assert!(archive.delete_stream(identity).unwrap());
    archive.commit().unwrap();
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    let statistics = archive.statistics().unwrap();
    assert!(statistics.blocks < 200, "{statistics:?}");
    assert!(statistics.file_bytes < 200 * 4096, "{statistics:?}");
    assert_eq!(statistics.streams, 300);
    assert_verified(&archive);
}

#[test]
fn setting_a_length_frees_the_blocks_beyond_it_even_if_the_length_is_the_same() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(b"content").unwrap();
    assert!(stream.extend().unwrap());
    assert_eq!(stream.count().unwrap(), 2);
    stream.set_len(7).unwrap();
    assert_eq!((stream.count().unwrap(), stream.len().unwrap()), (1, 7));
    assert_eq!(stream.block_index(), 0);
}

#[test]
fn a_closed_stream_leaves_memory_with_the_commit() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut closed = archive.new_stream().unwrap();
    closed.append(b"closed").unwrap();
    let mut held = archive.new_stream().unwrap();
    held.append(b"held").unwrap();
    let in_memory = || -> Vec<Uuid> {
        archive.state().unwrap().writing().unwrap().open.keys().copied().collect()
    };
    let identities = [closed.identity(), held.identity()];
    closed.close().unwrap();
    assert_eq!(in_memory(), identities);
    archive.commit().unwrap();
    assert_eq!(in_memory(), identities[1..]);
    held.close().unwrap();
    assert!(in_memory().is_empty());
}

#[test]
fn growing_adds_the_blocks_that_the_length_needs_and_no_more() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    for (length, count) in [(0, 0), (1, 1), (4007, 1), (4008, 1), (4009, 2), (5 * 4008, 5)] {
        stream.set_len(length).unwrap();
        assert_eq!(stream.count().unwrap(), count, "{length}");
    }
    stream.write_at(7 * 4008, b"content").unwrap();
    assert_eq!(stream.count().unwrap(), 8);
}

/// Creates an archive with `streams` streams of one block, of which a snapshot pins every second one, deleted since:
/// the free list has a run of one block for each.
fn with_held_runs(streams: usize) -> (MemoryDevice, Archive, Vec<Uuid>, Snapshot) {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut identities = Vec::with_capacity(streams);
    for _ in 0..streams {
        let mut stream = archive.new_stream().unwrap();
        stream.append(b"content").unwrap();
        identities.push(stream.identity());
    }
    archive.commit().unwrap();
    let snapshot = archive.snapshot();
    for deleted in identities.iter().step_by(2) {
        assert!(archive.delete_stream(*deleted).unwrap());
    }
    archive.reclaim().unwrap();
    let kept = identities.into_iter().skip(1).step_by(2).collect();
    (device, archive, kept, snapshot)
}

#[test]
fn small_commits_next_to_an_old_snapshot_leave_the_blocks_that_it_holds_in_the_free_list() {
    let (_device, archive, kept, snapshot) = with_held_runs(8000);
    let small_commits = |count: usize, from: usize| {
        let before = archive.statistics().unwrap().blocks;
        for round in 0..count {
            archive.open_stream(kept[from + round]).unwrap().write_at(0, b"changed").unwrap();
            assert!(archive.delete_stream(kept[from + count + round]).unwrap());
            archive.commit().unwrap();
        }
        archive.statistics().unwrap().blocks - before
    };
    // A small commit changes up to three pages of each of five trees, of two blocks each, and the blocks that it frees
    // stay held.
    let growth = small_commits(1000, 0);
    assert!(growth < 1000 * 30, "{growth} blocks in 1000 commits");
    drop(snapshot);
    archive.set_metadata(b"changed").unwrap();
    archive.commit().unwrap();
    // Every run of the list is usable again. The file grows only to place copies far apart, by some hundred blocks at a
    // time, now and then.
    let growth = small_commits(1000, 2000);
    assert!(growth <= 1500, "{growth} blocks in 1000 commits");
    assert_verified(&archive);
}

#[test]
fn a_deletion_succeeds_on_a_full_disk_next_to_a_snapshot_that_holds_many_runs() {
    let (device, archive, kept, snapshot) = with_held_runs(20_000);
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    for count in [1000, 100, 10, 1] {
        let fill = || -> Result<()> {
            archive.new_stream()?.append(&vec![1; count * 4008])?;
            archive.commit()
        };
        let error = (0..100).find_map(|_| fill().err()).expect("a full disk");
        assert_eq!(error.class(), ar7_engine::Class::NoSpace, "{error}");
    }
    // The snapshot holds what a deletion frees, so that each of them takes some blocks of the reserve, until it ends.
    let mut left = kept.iter();
    let delete = |deleted: &Uuid| -> Result<()> {
        assert!(archive.delete_stream(*deleted)?);
        archive.commit()
    };
    delete(left.next().unwrap()).unwrap();
    let error = left.find_map(|deleted| delete(deleted).err()).expect("the end of the reserve");
    assert_eq!(error.class(), ar7_engine::Class::NoSpace, "{error}");
    drop(snapshot);
    for deleted in left.take(100) {
        delete(deleted).unwrap();
    }
    assert_verified(&archive);
}

/// The free list has many pages, all of which the snapshot holds.
#[test]
fn a_commit_without_room_next_to_a_snapshot_stays_open_until_it_has_left() {
    let (device, archive, kept, snapshot) = with_held_runs(6000);
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    let mut stream = archive.new_stream().unwrap();
    let mut length = 0;
    let refused = (0..100).find_map(|_| {
        stream.append(&vec![1; 100 * 4008]).unwrap();
        length += 100 * 4008;
        archive.try_commit().unwrap()
    });
    assert_eq!(refused.expect("a full disk").class(), ar7_engine::Class::NoSpace);
    assert!(length > 100 * 4008);
    // What was refused can be read, and changed.
    for salt in 2..4 {
        stream.write_at(7, &[salt]).unwrap();
        archive.names().lookup(ROOT, b"missing").unwrap();
        let refused = archive.try_commit().unwrap().expect("a full disk");
        assert_eq!(refused.class(), ar7_engine::Class::NoSpace, "{refused}");
        assert!(!archive.is_failed());
        let mut byte = [0];
        stream.read_at(7, &mut byte).unwrap();
        assert_eq!((byte, stream.len().unwrap()), ([salt], length));
    }
    assert_eq!(snapshot.stored(kept[0]).unwrap().unwrap().record.length, 7);
    drop(snapshot);
    assert!(archive.try_commit().unwrap().is_none());
    let mut expected = vec![1; usize::try_from(length).unwrap()];
    expected[7] = 3;
    assert!(contents(&archive, stream.identity()) == expected);
    assert_verified(&archive);
}
