//! Repair writes good copies over bad ones, and changes nothing else:
//!
//! - a bad copy of the header, of the current meta slot or of a redo block is as it was;
//! - a copy of the previous meta slot may have held a newer commit, so it stays, and counts as lost;
//! - an older version of a copy is never taken for a good one.

use super::*;
use crate::format::{BLOCK_SIZE, Generation, HEADERS, META_SLOTS, REDO_STREAM};
use crate::store::redo_list::RedoList;
use crate::store::superblock::copy::read_copy;
use crate::{PlantedFault, with_planted_fault};

fn repair(device: &MemoryDevice) -> Result<Repaired> {
    let mut repairer = Repairer::open_device(Box::new(device.clone()), &secret())?;
    repairer.heal_redo_list()?;
    repairer.finish()
}

fn block_at(device: &MemoryDevice, position: Position) -> [u8; BLOCK_SIZE] {
    let mut bytes = [0; BLOCK_SIZE];
    device.read(position, &mut bytes).unwrap();
    bytes
}

/// Returns the positions of all blocks that differ.
fn differences(one: &MemoryDevice, other: &MemoryDevice) -> Vec<Position> {
    let count = u32::try_from(one.length_bytes().unwrap() / 4096).unwrap();
    let positions = (0..count).map(Position::at);
    positions.filter(|&position| block_at(one, position) != block_at(other, position)).collect()
}

/// Returns an archive that was not closed, so that it has a redo list.
fn sample() -> (MemoryDevice, Vec<Position>) {
    let (device, store, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    change_block(&mut writer, block.position, 2).unwrap();
    commit(&mut writer, 2).unwrap();
    let copies = list_of(&store).chain[0].copies().map(|copy| copy.position).to_vec();
    (device.snapshot().to_device(), copies)
}

fn list_of(store: &Store) -> RedoList {
    RedoList::read(&*store.device, &store.sealer, &store.current().slot).unwrap()
}

/// Returns the positions of the newest commit's meta slots.
fn current_pair(device: &MemoryDevice) -> Vec<Position> {
    let store = read_only(device);
    let slot = &store.current().slot;
    let is_current = |position: &Position| {
        let copy = read_copy(device, &store.sealer, *position);
        copy.outcome.is_ok_and(|good| good.slot == *slot)
    };
    META_SLOTS.into_iter().filter(is_current).collect()
}

#[test]
fn a_bad_copy_is_written_again_from_the_good_one_and_nothing_else_changes() {
    let (device, redo) = sample();
    let current = current_pair(&device);
    let healed = HEADERS.iter().chain(&current).chain(&redo);
    for &position in healed {
        let damaged = device.snapshot().to_device();
        corrupt(&damaged, position);
        let repaired = repair(&damaged).unwrap();
        assert_eq!((repaired.healed, repaired.lost), (vec![position], vec![]), "{position}");
        let differences = differences(&device, &damaged);
        assert!(differences.iter().all(|&found| found == position), "{position}: {differences:?}");
        let again = repair(&damaged).unwrap();
        assert_eq!(again, Repaired::default(), "{position} is good now");
    }
}

#[test]
fn an_older_copy_of_the_newest_meta_slot_is_written_again_and_one_of_the_slot_before_is_lost() {
    let (device, _, mut writer) = create();
    commit(&mut writer, 1).unwrap();
    commit(&mut writer, 2).unwrap();
    let earlier = device.snapshot().to_device();
    commit(&mut writer, 3).unwrap();
    commit(&mut writer, 4).unwrap();
    drop(writer);
    let current = current_pair(&device);
    for position in META_SLOTS {
        let damaged = device.snapshot().to_device();
        damaged.write(position, &block_at(&earlier, position)).unwrap();
        let reader = read_only(&damaged);
        let Recovery { only_copy, may_have_held_newer, .. } = *reader.recovery();
        drop(reader);
        let before = damaged.snapshot().to_device();
        let repaired = repair(&damaged).unwrap();
        if current.contains(&position) {
            let other = current.iter().copied().find(|other| *other != position);
            assert_eq!((only_copy, may_have_held_newer), (other, None), "{position}");
            assert_eq!((repaired.healed, repaired.lost), (vec![position], vec![]), "{position}");
            assert!(read_only(&damaged).recovery().is_clean(), "{position}");
        } else {
            assert_eq!((only_copy, may_have_held_newer), (None, Some(position)), "{position}");
            assert_eq!((repaired.healed, repaired.lost), (vec![], vec![position]), "{position}");
            assert_eq!(differences(&before, &damaged), [], "{position}");
        }
        let (store, writer) = self::writer(&damaged);
        assert_eq!((mark(&store), store.recovery().only_copy), (4, None), "{position}");
        writer.finish().unwrap();
        assert!(read_only(&damaged).recovery().is_clean(), "{position}");
    }
}

#[test]
fn what_has_no_good_copy_stays_and_counts_as_lost() {
    let (device, redo) = sample();
    let current = current_pair(&device);
    for position in META_SLOTS.into_iter().filter(|position| !current.contains(position)) {
        let damaged = device.snapshot().to_device();
        corrupt(&damaged, position);
        let before = damaged.snapshot().to_device();
        let repaired = repair(&damaged).unwrap();
        assert_eq!((repaired.healed, repaired.lost), (vec![], vec![position]), "{position}");
        assert!(differences(&before, &damaged).is_empty());
    }
    let damaged = device.snapshot().to_device();
    for &position in &redo {
        corrupt(&damaged, position);
    }
    assert_eq!(repair(&damaged).unwrap().lost, [redo[0]]);
}

#[test]
fn an_older_copy_is_not_trusted() {
    let is_healed = || {
        let (device, _) = sample();
        let [first, _] = list_of(&read_only(&device)).chain[0].copies();
        // The first copy becomes an older block, sealed for the same position.
        let older = Generation { step: 0, ..first.generation };
        let (data, head) = (data(7), BlockHead { stream: REDO_STREAM, ..BlockHead::default() });
        let job = SealJob { position: first.position, head, data: &data };
        let mut bytes = [0; BLOCK_SIZE];
        read_only(&device).sealer.seal_batch(KeyKind::Meta, older, &[job], &mut bytes).unwrap();
        device.write(first.position, &bytes).unwrap();
        let repaired = repair(&device).unwrap();
        repaired.healed == [first.position] && list_of(&read_only(&device)).bad_copies.is_empty()
    };
    assert_eq!(PlantedFault::REPAIR, [PlantedFault::RepairFromOldCopies]);
    assert!(is_healed());
    assert!(!with_planted_fault(PlantedFault::RepairFromOldCopies, is_healed));
}

#[test]
fn a_bad_shadow_block_is_written_again_from_its_home_location() {
    let (device, _) = sample();
    let list = list_of(&read_only(&device));
    let (&home, shadow) = list.shadows.iter().next().expect("a listed block");
    let whole = device.snapshot().to_device();
    corrupt(&device, shadow.position);
    let newest = BlockRef { position: home, generation: shadow.generation };
    assert!(read(&read_only(&device), newest).is_err());
    assert_eq!(repair(&device).unwrap().healed, [shadow.position]);
    assert_eq!(differences(&whole, &device), []);
    assert_eq!(read(&read_only(&device), newest).unwrap(), 2);
    // Without the newest version in the home location, there is nothing to write.
    corrupt(&device, shadow.position);
    corrupt(&device, home);
    assert_eq!(repair(&device).unwrap(), Repaired::default());
}
