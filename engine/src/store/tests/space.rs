//! The order of allocation: first the pool, then the end of the file, which grows ahead, and on a full disk the rest
//! of it. The reserve serves only allocations that a deletion needs.

use super::*;
use crate::device::Locks;
use crate::device::simulated::SimulatedDisk;
use crate::error::Error;
use crate::format::{BLOCKS_MAX, RESERVED_BLOCKS, Run};
use crate::store::space::Space;
use crate::store::space::pins::Pins;

/// Space with the first `count` blocks in use, on a disk of `blocks`.
fn space(count: u32, blocks: u32) -> (Space, SimulatedDisk) {
    let disk = SimulatedDisk::new();
    disk.grow(blocks).unwrap();
    let mut space = Space::default();
    space.begin(count, blocks, 0, &[], &mut Pins::default());
    (space, disk)
}

/// The same, on a disk that cannot grow beyond `most` blocks.
fn space_within(count: u32, blocks: u32, most: u32) -> (Space, SimulatedDisk) {
    let (space, disk) = space(count, blocks);
    disk.set_capacity(Some(most));
    (space, disk)
}

fn run(start: u32, count: u32) -> Run {
    Run::new(Position::at(start), count).unwrap()
}

#[track_caller]
fn assert_no_space(outcome: &Result<Run>) {
    assert!(matches!(outcome, Err(Error::NoSpace { .. })), "{outcome:?}");
}

#[test]
fn the_file_grows_ahead_by_an_eighth_within_bounds() {
    // Blocks in use, and the length of the file after one more is allocated.
    for (count, length) in
        [(300, 333 + 256), (100_000, 100_033 + 12_504), (200_000, 200_033 + 16_384)]
    {
        let (mut space, disk) = space(count, count + RESERVE_BLOCKS);
        assert_eq!(space.allocate(&disk, 1, Urgency::Ordinary).unwrap(), run(count, 1));
        assert_eq!((space.count(), disk.medium().length()), (count + 1, length));
        // An allocation that fits before the reserve does not grow the file.
        let rest = length - RESERVE_BLOCKS - space.count();
        assert_eq!(space.allocate(&disk, rest, Urgency::Ordinary).unwrap(), run(count + 1, rest));
        assert_eq!(disk.medium().length(), length);
        space.allocate(&disk, 1, Urgency::Ordinary).unwrap();
        assert!(disk.medium().length() > length);
    }
}

#[test]
fn a_file_that_cannot_grow_by_a_step_grows_by_the_needed_blocks() {
    let (mut space, disk) = space_within(100, 132, 200);
    assert_eq!(space.allocate(&disk, 30, Urgency::Ordinary).unwrap(), run(100, 30));
    assert_eq!(disk.medium().length(), 162);
}

#[test]
fn a_full_disk_gives_its_remaining_blocks() {
    let (mut space, disk) = space_within(100, 132, 152);
    assert_eq!(space.allocate(&disk, 40, Urgency::Ordinary).unwrap(), run(100, 20));
    assert_no_space(&space.allocate(&disk, 40, Urgency::Ordinary));
    assert_no_space(&space.allocate(&disk, 1, Urgency::Ordinary));
    assert_eq!((space.count(), disk.medium().length()), (120, 152));
}

#[test]
fn only_urgent_allocations_use_the_reserve() {
    let (mut space, disk) = space_within(100, 132, 132);
    assert_no_space(&space.allocate(&disk, 1, Urgency::Ordinary));
    assert_eq!(space.allocate(&disk, 1, Urgency::Reserve).unwrap(), run(100, 1));
    assert_eq!(space.allocate(&disk, 50, Urgency::Reserve).unwrap(), run(101, 25));
    assert_eq!(space.allocate(&disk, 6, Urgency::Reserve).unwrap(), run(126, 6));
    assert_no_space(&space.allocate(&disk, 1, Urgency::Reserve));
    assert_eq!((space.count(), disk.medium().length()), (132, 132));
}

#[test]
fn the_last_positions_of_the_format_are_a_reserve() {
    let last = BLOCKS_MAX - RESERVE_BLOCKS;
    let (mut space, disk) = space(last - 2, BLOCKS_MAX);
    assert_eq!(space.allocate(&disk, 9, Urgency::Ordinary).unwrap(), run(last - 2, 2));
    let outcome = space.allocate(&disk, 9, Urgency::Ordinary);
    assert!(matches!(outcome, Err(Error::Full { limit: 0x7fff_ffff, .. })), "{outcome:?}");
    let reserve = space.allocate(&disk, u32::MAX, Urgency::Reserve).unwrap();
    assert_eq!(reserve, run(last, RESERVE_BLOCKS));
    assert!(matches!(space.allocate(&disk, 1, Urgency::Reserve), Err(Error::Full { .. })));
    assert_eq!(disk.medium().length(), BLOCKS_MAX);
}

#[test]
fn a_canceled_run_can_be_allocated_again_at_once() {
    let (mut space, disk) = space(100, 500);
    let first = space.allocate(&disk, 5, Urgency::Ordinary).unwrap();
    assert!(space.is_fresh(Position::at(104)) && !space.is_fresh(Position::at(105)));
    assert_eq!(space.pooled(), 0);
    space.cancel(first);
    assert!(!space.is_fresh(Position::at(104)) && !space.is_touched());
    assert_eq!(space.pooled(), 5);
    assert_eq!(space.allocate(&disk, 5, Urgency::Ordinary).unwrap(), first);
    space.free(first);
    assert_eq!(space.pooled(), 0);
    assert_eq!(space.drain_freed(), [first].into_iter().collect());
}

#[test]
fn a_check_of_room_grows_the_file_only_by_what_the_pool_lacks() {
    let (mut space, disk) = space_within(100, 132, 160);
    space.begin(100, 132, 0, &[run(20, 3), run(50, 4)], &mut Pins::default());
    space.check_room(&disk, 7).unwrap();
    assert_eq!((space.pooled(), space.count(), disk.medium().length()), (7, 100, 132));
    space.check_room(&disk, 17).unwrap();
    assert_eq!((space.pooled(), space.count(), disk.medium().length()), (17, 110, 142));
    assert!(!space.is_touched());
    // What there is stays in the pool.
    assert!(matches!(space.check_room(&disk, 100), Err(Error::NoSpace { .. })));
    assert_eq!((space.pooled(), space.count(), disk.medium().length()), (35, 128, 160));
    space.check_room(&disk, 35).unwrap();
    for run in [run(100, 28), run(50, 4), run(20, 3)] {
        assert_eq!(space.allocate(&disk, 35, Urgency::Ordinary).unwrap(), run);
    }
}

#[test]
fn a_check_of_blocks_counts_all_that_may_be_written_and_only_grows_the_file() {
    let (mut space, disk) = space_within(300, 340, 400);
    space.begin(300, 340, 0, &[run(20, 3), run(50, 4)], &mut Pins::default());
    let state = |space: &Space| (space.pooled(), space.count(), disk.medium().length());
    // Seven free blocks, and forty behind the archive.
    assert_eq!(space.usable_blocks(), 47);
    for (count, left, length) in
        [(47, 0, 340), (15, 32, 340), (16, 32, 341), (60, 32, 385), (75, 32, 400), (107, 0, 400)]
    {
        space.check_usable(&disk, count, left).unwrap();
        assert_eq!(state(&space), (7, 300, length), "{count}");
    }
    for (count, left) in [(76, 32), (108, 0), (usize::MAX, 32), (0, u32::MAX)] {
        let error = space.check_usable(&disk, count, left).unwrap_err();
        let is_expected = matches!(error, Error::NoSpace { .. } | Error::Full { .. });
        assert!(is_expected, "{count}: {error}");
        assert_eq!(state(&space), (7, 300, 400), "{count}");
    }
    // Those above a ceiling are for commits.
    space.set_ceiling(Some(Position::at(30)));
    assert_eq!((space.pooled(), space.usable_blocks()), (3, 107));
    // The third copies are never allocated.
    for (count, usable) in [(200, 197), (256, 141), (257, 141), (259, 141), (260, 140)] {
        let (space, _) = self::space(count, 400);
        assert_eq!(space.usable_blocks(), usable, "{count}");
    }
}

#[test]
fn known_free_blocks_are_compared_with_those_of_the_last_commit() {
    let (mut space, disk) = space(300, 340);
    space.begin(300, 340, 0, &[run(20, 3), run(50, 4)], &mut Pins::default());
    let known = |space: &Space| (space.free_at_begin(), space.known_free());
    assert_eq!(known(&space), (47, 47));
    let taken = space.allocate(&disk, 3, Urgency::Ordinary).unwrap();
    assert_eq!(known(&space), (47, 44));
    space.free(taken);
    assert_eq!(known(&space), (47, 47), "they are free after the commit");
    space.free(run(60, 5));
    assert_eq!(known(&space), (47, 52));
    space.set_ceiling(Some(Position::at(30)));
    assert_eq!(known(&space), (47, 52));
    space.set_ceiling(None);
    let grown = space.allocate(&disk, 30, Urgency::Ordinary).unwrap();
    let grown = space.allocate(&disk, 30 - grown.count(), Urgency::Ordinary).unwrap().end();
    let length = u64::from(disk.medium().length());
    assert!(length > 340 && grown > 300, "{length} {grown}");
    assert_eq!(known(&space), (47 + length - 340, 52 + length - 340 - 30), "growth is in both");
}

#[test]
fn the_whole_pool_can_be_drained() {
    let (mut space, disk) = space(100, 500);
    space.begin(100, 500, 0, &[run(20, 3), run(50, 4)], &mut Pins::default());
    assert_eq!(space.pooled(), 7);
    assert_eq!(space.drain_pool(), [run(20, 3), run(50, 4)].into_iter().collect());
    assert_eq!(space.pooled(), 0);
    assert_eq!(space.allocate(&disk, 1, Urgency::Ordinary).unwrap(), run(100, 1));
}

#[test]
fn the_block_count_can_be_lowered() {
    let (mut space, disk) = space(100, 500);
    assert_eq!(space.tail(), Some(run(100, 400)));
    space.lower_count(run(90, 10));
    assert_eq!((space.count(), space.tail()), (90, Some(run(90, 410))));
    assert_eq!(space.allocate(&disk, 1, Urgency::Ordinary).unwrap(), run(90, 1));
    let (space, _) = self::space(100, 100);
    assert_eq!(space.tail(), None);
}

#[test]
fn only_runs_in_the_archive_that_the_transaction_does_not_know_may_be_free() {
    let (_, store, mut writer) = create();
    let (mut space, disk) = space(100, 500);
    space.begin(100, 500, 0, &[run(20, 3)], &mut Pins::default());
    let first = space.allocate(&disk, 2, Urgency::Ordinary).unwrap();
    assert_eq!(first, run(20, 2));
    space.free(run(30, 1));
    for known in [run(20, 1), run(19, 4), run(22, 1), run(30, 1), run(29, 10)] {
        assert!(!space.may_be_free(known), "{known:?}");
    }
    for outside in [run(RESERVED_BLOCKS - 1, 5), run(99, 2), run(100, 1)] {
        assert!(!space.may_be_free(outside), "{outside:?}");
    }
    for unknown in [run(RESERVED_BLOCKS, 5), run(23, 7), run(31, 69), run(99, 1)] {
        assert!(space.may_be_free(unknown), "{unknown:?}");
    }
    // A run held for a pinned snapshot is known too.
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let snapshot = store.current();
    writer.free(Run::single(block.position));
    commit(&mut writer, 2).unwrap();
    writer.release(Run::single(block.position)).unwrap();
    assert!(writer.release(Run::single(block.position)).is_err(), "the run is already held");
    drop(snapshot);
}

#[test]
fn copies_are_placed_far_apart_if_the_file_is_long_and_the_disk_has_room() {
    // Blocks in use, free runs, the block count after making room for both copies of ten blocks.
    for (count, free, after) in [
        // A small file does not grow.
        (512, vec![], 512),
        // New blocks at the end, with a gap: 2 x 10 + 256.
        (513, vec![], 789),
        // Free blocks in front are far enough from ten new ones.
        (1000, vec![run(500, 10)], 1010),
        (1000, vec![run(980, 10)], 1276),
        // Free blocks that are far apart already.
        (1000, vec![run(500, 10), run(900, 10)], 1000),
        (1000, vec![run(500, 290)], 1000),
    ] {
        let (mut space, disk) = space(count, count + 2000);
        space.begin(count, count + 2000, 0, &free, &mut Pins::default());
        space.make_far_room(&disk, 10).unwrap();
        assert_eq!(space.count(), after, "{count} {free:?}");
        assert_eq!(space.has_far_room(10), count > 512, "{count} {free:?}");
    }
    let (mut full, disk) = space_within(1000, 1032, 1032);
    full.make_far_room(&disk, 10).unwrap();
    assert_eq!((full.count(), disk.medium().length()), (1000, 1032), "a full disk");
    let (mut shorter, disk) = space(1000, 2000);
    shorter.set_ceiling(Some(Position::at(700)));
    shorter.make_far_room(&disk, 10).unwrap();
    assert_eq!(shorter.count(), 1000, "an archive that becomes shorter");
    let (mut held, disk) = space(1000, 2000);
    let mut pins = Pins::default();
    pins.open(&OlderReader, 7, 2000).unwrap();
    held.begin(1000, 2000, 0, &[run(100, 800)], &mut pins);
    held.make_far_room(&disk, 10).unwrap();
    assert_eq!(held.count(), 1000, "every commit would add room again");
}

/// The locks of an archive of which another process reads an older commit.
#[derive(Debug)]
struct OlderReader;

impl Locks for OlderReader {
    fn lock_writer(&self) -> Result<()> {
        Ok(())
    }

    fn is_written(&self) -> Result<bool> {
        Ok(true)
    }

    fn lock_reader(&self, _: u64) -> Result<()> {
        Ok(())
    }

    fn unlock_reader(&self, _: u64) {}

    fn lowest_reader(&self, below: u64) -> Result<Option<u64>> {
        Ok(below.checked_sub(1))
    }

    fn lock_out_readers(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn below_a_ceiling_data_finds_no_other_room_and_pages_do() {
    let (mut space, disk) = space(1000, 2000);
    space.begin(1000, 2000, 0, &[run(100, 10), run(495, 10)], &mut Pins::default());
    assert_eq!(space.allocate_first(&disk, 3, Urgency::Reserve).unwrap(), run(100, 3));
    assert_eq!(space.allocate_second(&disk, 3, Urgency::Reserve).unwrap(), run(502, 3));
    space.set_ceiling(Some(Position::at(500)));
    assert_eq!(space.pooled(), 12);
    assert_eq!(space.allocate(&disk, 9, Urgency::Ordinary).unwrap(), run(103, 7));
    assert_eq!(space.allocate_second(&disk, 2, Urgency::Reserve).unwrap(), run(498, 2));
    // A part of a free run may lie below.
    space.release(run(700, 5), &mut Pins::default());
    assert_eq!(space.allocate(&disk, 9, Urgency::Ordinary).unwrap(), run(495, 3));
    let refused = space.allocate(&disk, 1, Urgency::Ordinary);
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    assert_eq!(space.allocate_second(&disk, 9, Urgency::Reserve).unwrap(), run(500, 2));
    // It stays in the next transaction, until it is lifted.
    space.begin(1000, 2000, 0, &[run(499, 2)], &mut Pins::default());
    assert_eq!(space.allocate(&disk, 9, Urgency::Ordinary).unwrap(), run(499, 1));
    assert!(space.allocate(&disk, 9, Urgency::Ordinary).is_err());
    space.set_ceiling(None);
    assert_eq!(space.allocate(&disk, 9, Urgency::Ordinary).unwrap(), run(500, 1));
    assert_eq!(space.allocate(&disk, 9, Urgency::Ordinary).unwrap(), run(1000, 9));
}

#[test]
fn a_free_run_at_the_end_is_taken_above_a_ceiling_too() {
    let (mut space, _) = space(1000, 2000);
    space.begin(1000, 2000, 0, &[run(490, 20), run(990, 10)], &mut Pins::default());
    space.set_ceiling(Some(Position::at(500)));
    assert_eq!(space.take_ending_at(900), None);
    assert_eq!(space.take_ending_at(1000), Some(run(990, 10)));
    assert!(space.is_usable(Position::at(499)) && space.is_usable(Position::at(500)));
    assert!(!space.may_be_free(run(505, 1)), "it is known already");
    assert_eq!(space.drain_freed().iter().collect::<Vec<_>>(), [run(500, 10)]);
    assert_eq!(space.pooled(), 10);
}

/// What lies behind the limit keeps the file long, so the first of it is used.
#[test]
fn second_copies_without_room_below_the_limit_lie_close_behind_it() {
    let (mut space, disk) = space(1000, 2000);
    space.begin(1000, 2000, 0, &[run(600, 10), run(900, 10)], &mut Pins::default());
    space.set_ceiling(Some(Position::at(500)));
    assert_eq!(space.allocate_second(&disk, 3, Urgency::Reserve).unwrap(), run(600, 3));
}
