//! The third copies of header and meta slots, beyond the first MiB:
//!
//! - their blocks are never allocated, and the archive never ends inside them;
//! - each commit writes its copy, after the commit counts, and the header's copy follows every change of the header;
//! - they are used only if a pair or both copies of the header are lost, and what they cost is reported;
//! - a copy that a crash may have torn is no fault, and recovery tears no good one;
//! - an archive that becomes shorter leaves none behind, and an older header is not accepted for its age.

use std::ops::ControlFlow;

use super::slots::{add, key};
use super::*;
use crate::device::simulated::{Event, EventKind, SimulatedDisk};
use crate::error::Check;
use crate::format::{
    BLOCK_SIZE, HEADERS, META_SLOT_PAIRS, META_SLOTS, THIRD_COPIES, THIRD_HEADER, THIRD_SLOTS,
    has_reserved, header_layout, is_reserved, key_slot_layout, third_slot,
};
use crate::store::superblock::copy::read_copy;
use crate::{PlantedFault, with_planted_fault};

/// Blocks of data in a long archive.
const BLOCKS: u32 = 300;

/// Adds blocks of data to an archive, and commits them with mark 1. Returns the first.
fn lengthen(writer: &mut Writer, blocks: u32) -> BlockRef {
    let mut first = None;
    let mut left = blocks;
    while left > 0 {
        let run = writer.allocate(left, Urgency::Ordinary).unwrap();
        let data = data(1);
        let head = BlockHead::default();
        let jobs: Vec<SealJob<'_>> =
            run.positions().map(|position| SealJob { position, head, data: &data }).collect();
        let generation = writer.write_fresh(KeyKind::Data, &jobs).unwrap();
        first = first.or(Some(BlockRef { position: run.start(), generation }));
        left -= run.count();
    }
    commit(writer, 1).unwrap();
    first.unwrap()
}

/// A closed archive with third copies.
fn long() -> (MemoryDevice, BlockRef) {
    let (device, _, mut writer) = create();
    let block = lengthen(&mut writer, BLOCKS);
    // Only from the second long commit on, both third slots have a copy.
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    (device, block)
}

fn destroy(device: &MemoryDevice, positions: impl IntoIterator<Item = Position>) {
    for position in positions {
        device.write(position, &[0x55; BLOCK_SIZE]).unwrap();
    }
}

/// Returns the commit numbers of the third copies that open.
fn third_numbers(device: &MemoryDevice, store: &Store) -> Vec<u64> {
    let number = |position| read_copy(device, &store.sealer, position).outcome.ok();
    THIRD_SLOTS.into_iter().filter_map(number).map(|good| good.slot.number).collect()
}

fn bad_third_copies(device: &MemoryDevice) -> Vec<u32> {
    let bad = read_only(device).bad_third_copies().unwrap();
    bad.iter().map(|copy| copy.position.get()).collect()
}

fn never_allocated() -> bool {
    let (_, _, mut writer) = create();
    for most in [1, 5, 1000].into_iter().cycle().take(300) {
        let run = writer.allocate(most, Urgency::Ordinary).unwrap();
        if has_reserved(run) || THIRD_COPIES.contains(&(writer.block_count() - 1)) {
            return false;
        }
    }
    true
}

#[test]
fn the_blocks_of_the_third_copies_are_never_allocated() {
    assert!(never_allocated());
    assert!(!with_planted_fault(PlantedFault::AllocateThirdCopies, never_allocated));
    for block in [0, 7, 256, 257, 258] {
        assert!(is_reserved(Position::at(block)));
    }
    for block in [8, 255, 259] {
        assert!(!is_reserved(Position::at(block)));
    }
}

#[test]
fn an_archive_never_ends_inside_the_third_copies() {
    let (_, _, mut writer) = create();
    let before = writer.allocate(1000, Urgency::Ordinary).unwrap();
    assert_eq!(before.end(), THIRD_COPIES.start);
    let after = writer.allocate(10, Urgency::Ordinary).unwrap();
    assert_eq!((after.start().get(), writer.block_count()), (THIRD_COPIES.end, 269));
    writer.cancel([after]);
    writer.drain_pool();
    writer.lower_count(after);
    assert_eq!(writer.block_count(), THIRD_COPIES.start);
}

#[test]
fn each_commit_has_a_third_copy_and_leaves_that_of_the_commit_before() {
    let (device, block) = long();
    let (store, mut writer) = writer(&device);
    for byte in 2..6 {
        change_block(&mut writer, block.position, byte).unwrap();
        let number = commit(&mut writer, byte.into()).unwrap().slot.number;
        let copy = read_copy(&device, &store.sealer, third_slot(number)).outcome.unwrap();
        assert_eq!(copy.slot, store.current().slot);
        let numbers = third_numbers(&device, &store);
        assert!(numbers.contains(&(number - 1)) && numbers.contains(&number), "{numbers:?}");
        assert_eq!(raw(&device, THIRD_HEADER), raw(&device, HEADERS[0]));
    }
    assert_eq!(bad_third_copies(&device), [0; 0]);
}

#[test]
fn a_short_archive_has_no_third_copies() {
    let (device, _, mut writer) = create();
    let run = writer.allocate(1000, Urgency::Ordinary).unwrap();
    assert_eq!(run.end(), THIRD_COPIES.start);
    commit(&mut writer, 1).unwrap();
    assert!(device.length_bytes().unwrap() > THIRD_HEADER.offset(), "the reserve");
    assert_eq!(raw(&device, THIRD_HEADER), [0; BLOCK_SIZE]);
}

/// Returns whether no third copy of a commit is written before the sync that completes the commit.
fn is_written_after_the_commit() -> bool {
    let disk = SimulatedDisk::new();
    let options = CreateOptions::default();
    let made = Store::create_device(Box::new(disk.clone()), &secret(), &options);
    let (_store, mut writer) = made.unwrap();
    lengthen(&mut writer, BLOCKS);
    let before = disk.log().len();
    commit(&mut writer, 2).unwrap();
    let events: Vec<EventKind> = disk.log()[before..].iter().map(Event::kind).collect();
    let is_in = |event: &EventKind, blocks: std::ops::Range<u32>| matches!(event, EventKind::Write(at) if blocks.contains(at));
    let first = events.iter().position(|event| is_in(event, 1..5)).unwrap();
    let third = events.iter().position(|event| is_in(event, THIRD_COPIES)).unwrap();
    let second = events.iter().rposition(|event| is_in(event, 1..5)).unwrap();
    let later_syncs = events[second..].iter().filter(|event| **event == EventKind::Sync).count();
    first < third && events[first..third].contains(&EventKind::Sync) && later_syncs == 0
}

#[test]
fn the_third_copy_is_written_once_the_commit_counts_and_needs_no_sync() {
    assert!(is_written_after_the_commit());
    let early = PlantedFault::ThirdCopyTooEarly;
    assert!(!with_planted_fault(early, is_written_after_the_commit));
}

#[test]
fn recovery_makes_a_commit_durable_before_it_writes_the_third_copy() {
    let disk = SimulatedDisk::new();
    let options = CreateOptions::default();
    let made = Store::create_device(Box::new(disk.clone()), &secret(), &options);
    let (store, mut writer) = made.unwrap();
    lengthen(&mut writer, BLOCKS);
    drop((store, writer));
    let before = disk.log().len();
    let access = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    drop(Store::open_device(Box::new(disk.clone()), &secret(), access).unwrap());
    let events: Vec<EventKind> = disk.log()[before..].iter().map(Event::kind).collect();
    let position = |of: &dyn Fn(&EventKind) -> bool| events.iter().position(of).unwrap();
    let slot = position(&|event| matches!(event, EventKind::Write(at) if (1..5).contains(at)));
    let third =
        position(&|event| matches!(event, EventKind::Write(at) if THIRD_COPIES.contains(at)));
    assert!(slot < third && events[slot..third].contains(&EventKind::Sync), "{events:?}");
    assert!(events[third..].contains(&EventKind::Sync), "{events:?}");
}

/// A kill after the first copy of any of the first commits with third copies leaves nothing that verification reports.
#[test]
fn a_kill_during_the_first_commits_with_third_copies_leaves_no_bad_copy() {
    let (device, _, mut writer) = create();
    for blocks in [BLOCKS, 1, 1] {
        let before = device.snapshot().to_device();
        lengthen(&mut writer, blocks);
        let number = read_only(&device).current().slot.number;
        // As if the process had been killed before it wrote the second copy of the slot, and the third ones.
        let killed = device.snapshot().to_device();
        let second = META_SLOT_PAIRS[usize::from(number.is_multiple_of(2))][1];
        for position in THIRD_COPIES.map(Position::at).chain([second]) {
            if before.length_bytes().unwrap() > position.offset() {
                killed.write(position, &raw(&before, position)).unwrap();
            } else {
                killed.write(position, &[0; BLOCK_SIZE]).unwrap();
            }
        }
        assert_eq!(bad_third_copies(&killed), [0; 0], "commit {number}");
        assert_eq!(read_only(&killed).current().slot.number, number);
    }
}

/// Returns the third copies that no crash makes bad.
fn faulty_third_copies(device: &MemoryDevice) -> Vec<u32> {
    let bad = read_only(device).bad_third_copies().unwrap().into_iter();
    bad.filter(|copy| !copy.may_be_torn).map(|copy| copy.position.get()).collect()
}

/// The second copy of a slot and the third ones are written together, so a power cut can leave the second one whole.
#[test]
fn a_power_cut_may_tear_the_third_copies_of_the_current_commit_and_no_others() {
    let (device, _, mut writer) = create();
    for (round, blocks) in [BLOCKS, 1, 1].into_iter().enumerate() {
        lengthen(&mut writer, blocks);
        let number = read_only(&device).current().slot.number;
        for position in THIRD_COPIES.map(Position::at) {
            let torn = device.snapshot().to_device();
            corrupt(&torn, position);
            let is_header = position == THIRD_HEADER;
            let is_current = position == third_slot(number);
            let is_written = round > 0 || is_header || is_current;
            let bad = if is_written { vec![position.get()] } else { Vec::new() };
            assert_eq!(bad_third_copies(&torn), bad, "commit {number}");
            let may_be_torn = if is_header { round == 0 } else { is_current };
            let faulty = if may_be_torn { Vec::new() } else { bad };
            assert_eq!(faulty_third_copies(&torn), faulty, "commit {number}");
        }
    }
}

#[test]
fn recovery_writes_a_good_third_copy_byte_for_byte() {
    let (device, _) = long();
    let position = third_slot(read_only(&device).current().slot.number);
    let before = raw(&device, position);
    drop(writer(&device));
    assert_eq!(raw(&device, position), before);
}

#[test]
fn without_the_first_blocks_the_archive_opens_and_the_next_writer_restores_them() {
    for destroyed in [0..8, 0..THIRD_COPIES.start] {
        let (device, block) = long();
        let number = read_only(&device).current().slot.number;
        destroy(&device, destroyed.map(Position::at));
        let store = read_only(&device);
        let found = store.recovery();
        assert_eq!((store.current().slot.number, mark(&store)), (number, 1));
        assert_eq!(found.headers, HEADERS);
        assert_eq!(found.bad_slots, META_SLOTS);
        assert!(found.lost_pair && found.may_have_held_newer.is_some(), "{found:?}");
        drop(store);
        let (_, mut writer) = writer(&device);
        let added = add_block(&mut writer, KeyKind::Data, 9).unwrap();
        commit(&mut writer, 2).unwrap();
        writer.finish().unwrap();
        let store = read_only(&device);
        assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        assert_eq!(read(&store, added).unwrap(), 9);
        assert_eq!(read(&store, block).is_ok(), raw(&device, block.position) != [0x55; BLOCK_SIZE]);
    }
}

/// Whatever is destroyed of the first eight blocks, the archive opens, and it says so if a newer commit may be lost.
#[test]
fn every_loss_of_reserved_blocks_is_survived_and_reported() {
    for clean in [true, false] {
        let (device, _, mut writer) = create();
        lengthen(&mut writer, BLOCKS);
        let number = commit(&mut writer, 2).unwrap().slot.number;
        if clean {
            writer.finish().unwrap();
        } else {
            // The power cut after the commit lost the third copy.
            drop(writer);
            destroy(&device, [third_slot(number)]);
        }
        for lost in 0..256_u32 {
            let device = device.snapshot().to_device();
            destroy(&device, (0..8).filter(|block| lost >> block & 1 == 1).map(Position::at));
            let store = read_only(&device);
            let found = store.current().slot.number;
            let may_be_lost = store.recovery().may_have_held_newer.is_some();
            assert!(found == number || (may_be_lost && found == number - 1), "{lost:08b}: {found}");
            let header = store.header().revision;
            assert_eq!(header, 1, "{lost:08b}");
            drop(store);
            let (store, writer) = self::writer(&device);
            assert_eq!(mark(&store), if found == number { 2 } else { 1 });
            writer.finish().unwrap();
            assert!(read_only(&device).recovery().is_clean(), "{lost:08b}");
        }
    }
}

/// A warning is exact: without a good copy, the pair is lost, and a reader opens the third copy. An older copy keeps it
/// from doing so.
#[test]
fn a_third_copy_saves_a_commit_with_one_meta_slot_if_the_other_is_not_an_older_one() {
    let (device, _) = long();
    let (_, mut writer) = writer(&device);
    commit(&mut writer, 2).unwrap();
    let older = device.snapshot().to_device();
    commit(&mut writer, 3).unwrap();
    let number = commit(&mut writer, 4).unwrap().slot.number;
    writer.finish().unwrap();
    let [first, second] = META_SLOT_PAIRS[usize::from(number.is_multiple_of(2))];
    for (other, only) in [(first, second), (second, first)] {
        for (is_older, has_third) in [(false, true), (false, false), (true, true), (true, false)] {
            let device = device.snapshot().to_device();
            let bytes = if is_older { raw(&older, other) } else { vec![0x55; BLOCK_SIZE] };
            device.write(other, &bytes).unwrap();
            destroy(&device, (!has_third).then_some(third_slot(number)));
            let case = format!("{other}, older: {is_older}, third: {has_third}");
            let store = read_only(&device);
            let expected = (is_older || !has_third).then_some(only);
            assert_eq!(store.recovery().only_copy, expected, "{case}");
            assert_eq!(store.current().slot.number, number, "{case}");
            let exported = ExportedHeader::open(&store.export_header()[..], &secret()).unwrap();
            drop(store);
            let imported = Store::import_header_device(&device, &exported, false).unwrap();
            assert_eq!(imported.only_copy, expected, "{case}");
            destroy(&device, [only]);
            let left = try_open(&device, Access::Read).map(|opened| opened.0.current().slot.number);
            let is_saved = left.is_ok_and(|left| left == number);
            assert_eq!(is_saved, expected.is_none(), "{case}");
        }
    }
}

fn takes_the_pair_before_an_older_third_copy() -> bool {
    let (device, _) = long();
    let (store, mut writer) = writer(&device);
    let number = commit(&mut writer, 2).unwrap().slot.number;
    let older = THIRD_SLOTS.map(|position| raw(&device, position));
    commit(&mut writer, 3).unwrap();
    commit(&mut writer, 4).unwrap();
    writer.finish().unwrap();
    drop(store);
    for (position, older) in THIRD_SLOTS.iter().zip(&older) {
        device.write(*position, older).unwrap();
    }
    read_only(&device).current().slot.number > number
}

#[test]
fn an_older_third_copy_is_not_taken_before_a_good_pair_and_is_reported() {
    assert!(takes_the_pair_before_an_older_third_copy());
    let prefer = PlantedFault::PreferThirdCopies;
    assert!(!with_planted_fault(prefer, takes_the_pair_before_an_older_third_copy));
    let (device, _) = long();
    let older = THIRD_SLOTS.map(|position| raw(&device, position));
    let (_, mut writer) = writer(&device);
    for mark in 2..5 {
        commit(&mut writer, mark).unwrap();
    }
    writer.finish().unwrap();
    for (position, older) in THIRD_SLOTS.iter().zip(&older) {
        device.write(*position, older).unwrap();
    }
    assert_eq!(bad_third_copies(&device).len(), 1);
    let pair: Vec<Position> = META_SLOTS.into_iter().collect();
    destroy(&device, pair);
    let store = read_only(&device);
    assert!(store.recovery().may_have_held_newer.is_some(), "an old state, with the warning");
}

/// Returns whether a removed key slot is gone from every copy of the header once the removal has returned.
fn removed_slot_is_gone() -> bool {
    let (device, _) = long();
    let (_, mut writer) = writer(&device);
    let number = add(&mut writer, &key(5), "five").unwrap();
    let has_slot = |position| {
        let slots = header_layout::SLOTS.of(&raw(&device, position)).to_vec();
        slots[number * key_slot_layout::SIZE..][..key_slot_layout::SIZE]
            != [0; key_slot_layout::SIZE]
    };
    let copies = [HEADERS[0], HEADERS[1], THIRD_HEADER];
    let was_there = copies.into_iter().all(has_slot);
    writer.remove_key(number).unwrap();
    was_there && !copies.into_iter().any(has_slot)
}

#[test]
fn a_removed_key_slot_is_gone_from_the_third_copy() {
    assert!(removed_slot_is_gone());
    assert!(!with_planted_fault(PlantedFault::StaleThirdHeader, removed_slot_is_gone));
}

#[test]
fn a_change_of_keys_syncs_the_third_header_with_the_second_and_a_crash_leaves_it_for_the_next_writer()
 {
    let disk = SimulatedDisk::new();
    let options = CreateOptions::default();
    let made = Store::create_device(Box::new(disk.clone()), &secret(), &options);
    let (store, mut writer) = made.unwrap();
    lengthen(&mut writer, BLOCKS);
    let before = disk.log().len();
    add(&mut writer, &key(5), "five").unwrap();
    let events: Vec<EventKind> = disk.log()[before..].iter().map(Event::kind).take(5).collect();
    let write = |position: Position| EventKind::Write(position.get());
    let [first, second] = HEADERS.map(write);
    let sync = EventKind::Sync;
    assert_eq!(events, [first, sync, second, write(THIRD_HEADER), sync]);
    drop((store, writer));
    // Only the first copy was written when the power was cut.
    let (device, _) = long();
    let (_, mut writer) = self::writer(&device);
    let old = raw(&device, HEADERS[0]);
    add(&mut writer, &key(5), "five").unwrap();
    drop(writer);
    for position in [HEADERS[1], THIRD_HEADER] {
        device.write(position, &old).unwrap();
    }
    let (_, writer) = self::writer(&device);
    writer.finish().unwrap();
    assert_eq!(raw(&device, THIRD_HEADER), raw(&device, HEADERS[0]));
    assert_eq!(bad_third_copies(&device), [0; 0]);
}

/// A holder of a removed key has kept an old header, and destroys the two copies in front.
#[test]
fn an_old_header_put_back_as_the_third_copy_does_not_bring_back_a_removed_key() {
    let (device, _) = long();
    let (_, mut writer) = writer(&device);
    let number = add(&mut writer, &key(5), "five").unwrap();
    let old = raw(&device, THIRD_HEADER);
    writer.remove_key(number).unwrap();
    writer.finish().unwrap();
    destroy(&device, HEADERS);
    device.write(THIRD_HEADER, &old).unwrap();
    for secret in [key(5), secret()] {
        let options = OpenOptions::default();
        let opened = Store::open_device(Box::new(device.clone()), &secret, options);
        let error = opened.expect_err("an older header");
        let Error::Tampered(fault) = &error else { panic!("{error}") };
        assert_eq!(fault.check, Check::HeaderRevision);
    }
}

#[test]
fn a_header_of_a_newer_format_is_not_replaced_by_the_third_copy() {
    let (device, _) = long();
    destroy(&device, [HEADERS[1]]);
    let mut newer = raw(&device, HEADERS[0]);
    newer[19] = 2;
    device.write(HEADERS[0], &newer).unwrap();
    let error = try_open(&device, Access::Read).map(drop).unwrap_err();
    assert!(matches!(error, Error::NewerFormat { .. }), "{error}");
}

#[test]
fn an_archive_that_becomes_shorter_leaves_no_third_copy_behind() {
    let (device, _, mut writer) = create();
    let short = writer.allocate(200, Urgency::Ordinary).unwrap();
    let mut freed = Vec::new();
    while writer.block_count() < 300 {
        freed.push(writer.allocate(1, Urgency::Ordinary).unwrap());
    }
    commit(&mut writer, 1).unwrap();
    assert_ne!(raw(&device, THIRD_HEADER), [0; BLOCK_SIZE]);
    // A crash while the archive became shorter: the copies are behind its end.
    for &run in &freed {
        writer.free(run);
    }
    commit(&mut writer, 2).unwrap();
    for &run in &freed {
        writer.release(run).unwrap();
    }
    let mut pool = writer.drain_pool();
    while let Some(run) = pool.take_ending_at(writer.block_count()) {
        writer.lower_count(run);
    }
    assert_eq!(writer.block_count(), short.end());
    let with_copies = device.snapshot();
    commit(&mut writer, 3).unwrap();
    for block in THIRD_COPIES {
        assert_eq!(raw(&device, Position::at(block)), [0; BLOCK_SIZE]);
    }
    // The write was lost. The next writer clears them.
    for block in THIRD_COPIES {
        let position = Position::at(block);
        device.write(position, &raw(&with_copies.to_device(), position)).unwrap();
    }
    drop(writer);
    let (_, writer) = self::writer(&device);
    drop(writer);
    assert_eq!(raw(&device, THIRD_HEADER), [0; BLOCK_SIZE]);
}

#[test]
fn a_change_of_the_master_key_leaves_no_third_copy_under_the_old_one() {
    let (device, block) = long();
    let old = raw(&device, THIRD_HEADER);
    let options = RekeyOptions { io: Io::File, ..RekeyOptions::default() };
    Store::rekey_device(Box::new(device.clone()), &secret(), options, &mut |_, _| {
        ControlFlow::Continue(())
    })
    .unwrap();
    let store = read_only(&device);
    assert_eq!(third_numbers(&device, &store).len(), 2);
    assert_ne!(raw(&device, THIRD_HEADER), old);
    assert_eq!(bad_third_copies(&device), [0; 0]);
    let file = device.to_bytes();
    assert!(!file.chunks(BLOCK_SIZE).any(|block| block == old), "nor behind the end");
    assert_eq!(read(&store, block).unwrap(), 1);
    drop(store);
    // The old header opens nothing any more.
    destroy(&device, HEADERS);
    device.write(THIRD_HEADER, &old).unwrap();
    assert!(try_open(&device, Access::Read).is_err());
}

#[test]
fn shredding_destroys_every_copy_of_the_header() {
    let (device, _) = long();
    destroy(&device, HEADERS);
    let header = raw(&device, THIRD_HEADER);
    Store::shred_device(&device).unwrap();
    assert_ne!(raw(&device, THIRD_HEADER), header);
    assert!(try_open(&device, Access::Read).is_err());
}

#[test]
fn a_repair_heals_bad_third_copies() {
    let (device, _) = long();
    let number = read_only(&device).current().slot.number;
    for position in [THIRD_HEADER, THIRD_SLOTS[0], THIRD_SLOTS[1]] {
        let damaged = device.snapshot().to_device();
        corrupt(&damaged, position);
        assert_eq!(bad_third_copies(&damaged), [position.get()]);
        let repairer = Repairer::open_device(Box::new(damaged.clone()), &secret()).unwrap();
        let repaired = repairer.finish().unwrap();
        assert_eq!((repaired.healed, repaired.lost), (vec![position], vec![]));
        assert_eq!(bad_third_copies(&damaged), [0; 0]);
        assert!(third_numbers(&damaged, &read_only(&damaged)).contains(&number));
    }
    destroy(&device, (0..8).map(Position::at));
    let repairer = Repairer::open_device(Box::new(device.clone()), &secret()).unwrap();
    let repaired = repairer.finish().unwrap();
    let pair = if number % 2 == 1 { [1, 3] } else { [2, 4] };
    let healed: Vec<u32> = repaired.healed.iter().map(|position| position.get()).collect();
    assert_eq!(healed, [0, pair[0], pair[1], 7]);
}

#[test]
fn a_header_is_imported_into_an_archive_without_its_first_blocks() {
    let (device, _) = long();
    let exported = read_only(&device).export_header();
    destroy(&device, (0..8).map(Position::at).chain([THIRD_HEADER]));
    assert!(try_open(&device, Access::Read).is_err());
    let exported = ExportedHeader::open(&exported[..], &secret()).unwrap();
    Store::import_header_device(&device, &exported, false).unwrap();
    assert_eq!(mark(&read_only(&device)), 1);
    assert_eq!(raw(&device, THIRD_HEADER), raw(&device, HEADERS[0]));
}
