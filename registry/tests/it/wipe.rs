//! Wiping leaves no block of deleted data in the file, and changes neither live blocks nor blocks
//! held for pinned snapshots.

use std::collections::HashSet;

use ar7_engine::device::simulated::SimulatedDisk;
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{ArchiveKind, BLOCK_SIZE, Position, is_reserved};
use ar7_engine::store::{Access, OpenOptions};
use ar7_registry::{Archive, CreateOptions, Error};
use uuid::Uuid;

use crate::common::{self, assert_verified, open};

fn create() -> (MemoryDevice, Archive) {
    common::create(ArchiveKind::Dynamic, 0)
}

fn add(archive: &Archive, blocks: usize) -> Uuid {
    let mut stream = archive.new_stream().unwrap();
    stream.append(&vec![7; blocks * 4008]).unwrap();
    stream.identity()
}

/// Returns every block of the file except the reserved ones.
fn blocks(device: &MemoryDevice) -> HashSet<Vec<u8>> {
    let bytes = device.to_bytes();
    let all = (0..).map(Position::at).zip(bytes.chunks(BLOCK_SIZE));
    all.filter(|(position, _)| !is_reserved(*position)).map(|(_, block)| block.to_vec()).collect()
}

fn assert_whole(archive: &Archive, stream: Uuid, blocks: usize) {
    let mut bytes = vec![0; blocks * 4008];
    archive.read_stream(stream).unwrap().read_at(0, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 7));
    assert_verified(archive);
}

#[test]
fn a_wipe_leaves_no_block_of_deleted_streams() {
    let (device, archive) = create();
    let kept = add(&archive, 30);
    archive.commit().unwrap();
    let before = blocks(&device);
    let deleted: Vec<Uuid> = (0..40).map(|_| add(&archive, 20)).collect();
    archive.commit().unwrap();
    // Blocks of the streams, and the pages with their records.
    let theirs: HashSet<Vec<u8>> = blocks(&device).difference(&before).cloned().collect();
    assert!(theirs.len() > 40 * 20);
    for stream in deleted {
        assert!(archive.delete_stream(stream).unwrap());
    }
    archive.commit().unwrap();
    assert!(
        blocks(&device).intersection(&theirs).count() >= 40 * 20,
        "deleting leaves the blocks in the file"
    );
    let mut reported = 0;
    let free = archive.statistics().unwrap().free_blocks;
    let wiped = archive.wipe_free(&mut |blocks| reported = blocks).unwrap();
    assert!(wiped >= free, "{wiped} of {free}");
    assert!(wiped >= 40 * 20 && reported == wiped, "{wiped} {reported}");
    // Both copies of a page may still be live.
    assert!(blocks(&device).intersection(&theirs).count() <= 2);
    assert_whole(&archive, kept, 30);
    // The same session can reuse the wiped blocks.
    let new = add(&archive, 100);
    archive.commit().unwrap();
    assert_whole(&archive, new, 100);
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    assert_whole(&archive, kept, 30);
    assert_whole(&archive, new, 100);
    let refused = archive.wipe_free(&mut |_| {});
    assert!(matches!(refused, Err(Error::Engine(ar7_engine::Error::ReadOnly))), "{refused:?}");
}

#[test]
fn a_wipe_spares_blocks_held_for_pinned_snapshots() {
    let (device, archive) = create();
    let before = blocks(&device);
    let stream = add(&archive, 20);
    archive.commit().unwrap();
    let theirs: HashSet<Vec<u8>> = blocks(&device).difference(&before).cloned().collect();
    let snapshot = archive.snapshot();
    assert!(archive.delete_stream(stream).unwrap());
    match archive.wipe_free(&mut |_| {}) {
        Err(Error::Engine(ar7_engine::Error::HeldByReaders { oldest, blocks, .. })) => {
            assert_eq!(oldest, snapshot.commit().slot.number);
            assert!(blocks >= 20, "{blocks}");
        }
        outcome => panic!("expected blocks to be held, found {outcome:?}"),
    }
    assert!(
        blocks(&device).intersection(&theirs).count() >= 20,
        "the blocks of a pinned snapshot stay"
    );
    drop(snapshot);
    archive.wipe_free(&mut |_| {}).unwrap();
    // All except both copies of one page, which is still live.
    assert!(blocks(&device).intersection(&theirs).count() <= 2);
}

#[test]
fn progress_of_a_wipe_may_use_the_archive() {
    let (device, archive) = create();
    let before = blocks(&device);
    // More runs than are wiped between two syncs, and a commit of the callback changes which of them are where.
    let streams: Vec<Uuid> = (0..4100).map(|_| add(&archive, 1)).collect();
    archive.commit().unwrap();
    let theirs: HashSet<Vec<u8>> = blocks(&device).difference(&before).cloned().collect();
    for stream in streams.iter().step_by(2) {
        assert!(archive.delete_stream(*stream).unwrap());
    }
    let mut calls = 0;
    archive
        .wipe_free(&mut |_| {
            calls += 1;
            archive.set_metadata(&[7]).unwrap();
            archive.commit().unwrap();
        })
        .unwrap();
    assert!(calls >= 3, "{calls} calls");
    let kept = blocks(&device).intersection(&theirs).count();
    assert!((2050..2150).contains(&kept), "{kept} blocks of 2050 streams and their pages");
    assert_whole(&archive, streams[1], 1);
}

#[test]
fn a_transaction_that_writes_during_a_wipe_stops_it() {
    let (_, archive) = create();
    let streams: Vec<Uuid> = (0..4100).map(|_| add(&archive, 1)).collect();
    archive.commit().unwrap();
    for stream in streams.iter().step_by(2) {
        assert!(archive.delete_stream(*stream).unwrap());
    }
    // More than is kept in memory, so that free blocks are written.
    let refused = archive.wipe_free(&mut |_| {
        add(&archive, 5000);
    });
    assert!(matches!(refused, Err(Error::Engine(ar7_engine::Error::Uncommitted))), "{refused:?}");
    archive.commit().unwrap();
    assert_whole(&archive, streams[1], 1);
}

#[test]
fn a_free_run_that_grows_across_the_end_of_a_batch_is_wiped() {
    let (device, archive) = create();
    let streams: Vec<Uuid> = (0..4100).map(|_| add(&archive, 1)).collect();
    archive.commit().unwrap();
    let block = |stream: &Uuid| {
        let begin = archive.read_stream(*stream).unwrap().stored().unwrap().record.begin.unwrap();
        usize::try_from(begin.get()).unwrap() * BLOCK_SIZE
    };
    let image = device.to_bytes();
    let (deleted, kept): (Vec<_>, Vec<_>) = (0..).zip(&streams).partition(|(at, _)| at % 2 == 0);
    let places: Vec<usize> = deleted.iter().map(|(_, stream)| block(stream)).collect();
    for (_, stream) in deleted {
        assert!(archive.delete_stream(*stream).unwrap());
    }
    let mut kept = Some(kept);
    archive
        .wipe_free(&mut |_| {
            // Frees the blocks between, so that one run joins what is wiped and what is not.
            for (_, stream) in kept.take().unwrap_or_default() {
                assert!(archive.delete_stream(*stream).unwrap());
            }
            archive.reclaim().unwrap();
        })
        .unwrap();
    let after = device.to_bytes();
    let is_kept =
        |&&at: &&usize| after.get(at..at + BLOCK_SIZE) == Some(&image[at..at + BLOCK_SIZE]);
    assert_eq!(places.iter().filter(is_kept).count(), 0, "of {} blocks", places.len());
}

/// Creates an archive on a disk that several processes can open.
fn create_shared() -> (SimulatedDisk, Archive) {
    let disk = SimulatedDisk::new();
    let options = CreateOptions { kind: ArchiveKind::Dynamic, ..CreateOptions::default() };
    let archive =
        Archive::create_device(Box::new(disk.clone()), &common::secret(), &options).unwrap();
    (disk, archive)
}

/// Opens the archive in another process.
fn open_shared(disk: &SimulatedDisk, access: Access) -> Archive {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(disk.clone()), &common::secret(), options).unwrap()
}

/// Returns the blocks of the file.
fn all_blocks(disk: &SimulatedDisk) -> Vec<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(disk.length_bytes().unwrap()).unwrap()];
    disk.read(Position::at(0), &mut bytes).unwrap();
    bytes.chunks(BLOCK_SIZE).map(<[u8]>::to_vec).collect()
}

/// Returns the number of blocks that are as they were before, except for the reserved ones.
fn kept(disk: &SimulatedDisk, before: &[Vec<u8>]) -> usize {
    let now = all_blocks(disk);
    let is_sealed = |block: &[u8]| block.iter().any(|&byte| byte != 0);
    now.iter().zip(before).skip(8).filter(|(now, before)| now == before && is_sealed(now)).count()
}

/// Returns the changed blocks and the free blocks that kept a wipe from being complete.
#[track_caller]
fn held(outcome: Result<u64, Error>) -> (u64, u64) {
    match outcome {
        Err(Error::Engine(ar7_engine::Error::HeldByReaders { entries, blocks, .. })) => {
            (entries, blocks)
        }
        outcome => panic!("expected blocks to be held, found {outcome:?}"),
    }
}

/// Deletes a stream of 20 blocks while a reader has it open. Returns the reader, and the blocks from before.
fn delete_next_to_a_reader(disk: &SimulatedDisk, archive: &Archive) -> (Archive, Vec<Vec<u8>>) {
    let stream = add(archive, 20);
    archive.commit().unwrap();
    let reader = open_shared(disk, Access::Read);
    let before = all_blocks(disk);
    assert!(archive.delete_stream(stream).unwrap());
    archive.reclaim().unwrap();
    (reader, before)
}

#[test]
fn a_reader_that_left_after_the_last_commit_holds_no_block_in_a_wipe() {
    let (disk, archive) = create_shared();
    let (reader, before) = delete_next_to_a_reader(&disk, &archive);
    drop(reader);
    // Nothing is left to commit, so the last answer about readers is from before.
    archive.wipe_free(&mut |_| {}).unwrap();
    assert!(kept(&disk, &before) <= 2, "all except one page, which is still live");
}

#[test]
fn a_wipe_fails_if_a_reader_held_blocks_at_any_of_its_steps() {
    let (disk, archive) = create_shared();
    let streams: Vec<Uuid> = (0..4100).map(|_| add(&archive, 1)).collect();
    archive.commit().unwrap();
    let mut reader = Some(open_shared(&disk, Access::Read));
    let before = all_blocks(&disk);
    for stream in streams.iter().step_by(2) {
        assert!(archive.delete_stream(*stream).unwrap());
    }
    let mut calls = 0;
    let outcome = archive.wipe_free(&mut |_| {
        reader.take();
        calls += 1;
    });
    assert!(calls >= 2, "{calls} calls");
    let (_, blocks) = held(outcome);
    assert!((1000..1200).contains(&blocks), "{blocks} blocks in the runs of the first step");
    assert!(kept(&disk, &before) >= 2050 + 1000);
    archive.wipe_free(&mut |_| {}).unwrap();
    let kept = kept(&disk, &before);
    assert!((2050..2060).contains(&kept), "{kept} blocks of 2050 streams");
    assert_whole(&archive, streams[1], 1);
}

#[test]
fn a_wipe_leaves_no_old_version_of_a_block_that_readers_kept() {
    let (disk, archive) = create_shared();
    let mut stream = archive.new_stream().unwrap();
    stream.append(&vec![1; 20 * 4008]).unwrap();
    archive.commit().unwrap();
    let reader = open_shared(&disk, Access::Read);
    let before = all_blocks(&disk);
    stream.write_at(0, &vec![2; 20 * 4008]).unwrap();
    archive.commit().unwrap();
    assert!(kept(&disk, &before) >= 20, "the old versions stay while they are read");
    let (entries, _) = held(archive.wipe_free(&mut |_| {}));
    assert_eq!(entries, 20);
    drop(reader);
    archive.wipe_free(&mut |_| {}).unwrap();
    assert!(kept(&disk, &before) <= 2, "all except one page, which is still live");
}

#[test]
fn a_writer_that_began_next_to_a_reader_wipes_everything_once_the_reader_has_left() {
    let (disk, archive) = create_shared();
    let (reader, before) = delete_next_to_a_reader(&disk, &archive);
    archive.close().unwrap();
    // For this writer, every free block is held, and the rest of the file too.
    let archive = open_shared(&disk, Access::Write);
    let (_, blocks) = held(archive.wipe_free(&mut |_| {}));
    assert!(blocks >= 20, "{blocks}");
    assert!(kept(&disk, &before) >= 20);
    drop(reader);
    archive.wipe_free(&mut |_| {}).unwrap();
    assert!(kept(&disk, &before) <= 2, "all except one page, which is still live");
}
