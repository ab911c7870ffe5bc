//! The requests that a writer refuses, and the steps in which it seals.

use super::*;
use crate::error::Check;
use crate::format::{OwnedData, RESERVED_BLOCKS};

fn run(start: u32, count: u32) -> Run {
    Run::new(Position::at(start), count).unwrap()
}

#[track_caller]
fn assert_damaged<T: std::fmt::Debug>(outcome: &Result<T>, check: Check) {
    assert!(matches!(outcome, Err(Error::Damaged(fault)) if fault.check == check), "{outcome:?}");
}

#[test]
fn runs_from_the_registry_must_lie_within_the_archive() {
    let (_, _, mut writer) = create();
    writer.allocate(5, Urgency::Ordinary).unwrap();
    let count = writer.block_count();
    assert_eq!(count, RESERVED_BLOCKS + 5);
    assert!(writer.check_run(run(RESERVED_BLOCKS, 5)).is_ok());
    for outside in [run(RESERVED_BLOCKS - 1, 2), run(count, 1), run(count - 1, 2)] {
        assert_damaged(&writer.check_run(outside), Check::Extents);
        assert_damaged(&writer.release(outside), Check::FreeMap);
    }
}

#[test]
fn canceled_and_failed_allocations_return_to_the_pool() {
    let (device, _, mut writer) = create();
    let first = writer.allocate(3, Urgency::Ordinary).unwrap();
    assert!(writer.is_touched() && writer.pooled_blocks() == 0);
    writer.cancel([first]);
    assert!(!writer.is_touched() && writer.pooled_blocks() == 3);
    let positions = writer.allocate_all(5, Urgency::Ordinary).unwrap();
    assert_eq!(positions, run(RESERVED_BLOCKS, 5).positions().collect::<Vec<Position>>());
    writer.cancel([run(RESERVED_BLOCKS, 5)]);
    device.set_capacity(500);
    let outcome = writer.allocate_all(1000, Urgency::Ordinary);
    assert!(matches!(outcome, Err(Error::NoSpace { .. })), "{outcome:?}");
    assert!(!writer.is_touched());
    let third_copies = THIRD_COPIES.end - THIRD_COPIES.start;
    let left = u64::from(writer.block_count() - RESERVED_BLOCKS - third_copies);
    assert!(left > 300, "{left} blocks");
    assert_eq!(writer.pooled_blocks(), left);
    assert_eq!(writer.allocate_all(300, Urgency::Ordinary).unwrap().len(), 300);
}

#[test]
fn freeing_a_changed_block_frees_its_shadow_block() {
    let (_, _, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    let other = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let changed = change_block(&mut writer, block.position, 2).unwrap();
    change_block(&mut writer, other.position, 2).unwrap();
    let shadow = writer.redirects().source(block.position, changed.generation);
    writer.free(Run::single(block.position));
    assert_eq!(writer.redirects().len(), 1);
    let freed = [block.position, shadow].map(Run::single);
    assert_eq!(writer.drain_freed(), freed.into_iter().collect());
}

#[test]
fn one_call_changes_a_block_once_and_only_within_the_archive() {
    let (_, _, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let data = data(2);
    let job = |position| SealJob { position, head: BlockHead::default(), data: &data };
    assert_damaged(
        &writer.write_over(&[job(block.position), job(block.position)], Urgency::Ordinary),
        Check::Extents,
    );
    for outside in [RESERVED_BLOCKS - 1, writer.block_count()] {
        assert_damaged(
            &writer.write_over(&[job(Position::at(outside))], Urgency::Ordinary),
            Check::Extents,
        );
    }
    assert!(writer.redirects().is_empty() && !writer.is_touched());
}

#[test]
fn a_block_in_use_that_is_listed_as_free_is_damage_when_both_uses_meet() {
    let data = data(2);
    let job = |position| SealJob { position, head: BlockHead::default(), data: &data };
    // Its own shadow block would be the block itself.
    let (_, _, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.release(Run::single(block.position)).unwrap();
    assert_damaged(&writer.write_over(&[job(block.position)], Urgency::Ordinary), Check::FreeMap);
    assert!(writer.redirects().is_empty() && !writer.is_touched(), "nothing stays allocated");
    // It was changed, and then allocated as if it were free.
    for is_owned in [false, true] {
        let (_, _, mut writer) = create();
        let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
        commit(&mut writer, 1).unwrap();
        change_block(&mut writer, block.position, 2).unwrap();
        writer.release(Run::single(block.position)).unwrap();
        assert_eq!(writer.allocate(1, Urgency::Ordinary).unwrap(), Run::single(block.position));
        if is_owned {
            let data = OwnedData::copy_of(&data);
            let head = BlockHead::default();
            let job = OwnedSealJob { position: block.position, head, data };
            assert_damaged(&writer.start_fresh(vec![job]).map(drop), Check::FreeMap);
        } else {
            let written = writer.write_fresh(KeyKind::Registry, &[job(block.position)]);
            assert_damaged(&written, Check::FreeMap);
        }
        writer.rollback().unwrap();
        commit(&mut writer, 1).unwrap();
    }
}

#[test]
fn a_position_is_sealed_once_in_a_step() {
    let (_, store, mut writer) = create();
    let run = writer.allocate(2, Urgency::Ordinary).unwrap();
    let (first, second) = (data(1), data(2));
    let job = |position, data| SealJob { position, head: BlockHead::default(), data };
    let step = writer.generation().step;
    let positions: Vec<Position> = run.positions().collect();
    let seal = |writer: &mut Writer, place: usize, data| {
        writer.write_fresh(KeyKind::Data, &[job(positions[place], data)]).unwrap()
    };
    assert_eq!(seal(&mut writer, 0, &first).step, step);
    assert_eq!(seal(&mut writer, 1, &first).step, step);
    let again = seal(&mut writer, 0, &second);
    assert_eq!((again.step, writer.generation().step), (step + 1, step + 1));
    commit(&mut writer, 1).unwrap();
    assert_eq!(read(&store, BlockRef { position: positions[0], generation: again }).unwrap(), 2);
}

#[test]
fn a_change_of_the_header_is_a_commit() {
    let (_, store, mut writer) = create();
    let number = store.current().slot.number;
    super::slots::add(&mut writer, &super::slots::key(5), "").unwrap();
    let slot = store.current().slot.clone();
    assert_eq!((slot.number, slot.header_revision), (number + 1, 2));
}

#[test]
fn the_pool_can_be_drained_and_the_block_count_lowered() {
    let (_, _, mut writer) = create();
    let all = writer.allocate(10, Urgency::Ordinary).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.release(run(10, 3)).unwrap();
    writer.release(run(15, 3)).unwrap();
    assert_eq!(writer.block_count(), all.end());
    writer.lower_count(run(15, 3));
    assert_eq!(writer.block_count(), 15);
    let pool = writer.drain_pool();
    assert_eq!(pool, [run(10, 3), run(15, 3)].into_iter().collect());
    assert_eq!(writer.pooled_blocks(), 0);
}
