//! Transactions without faults: commit, rollback, redo lists, generations, and the last position of the format.

use super::*;
use crate::crypto::KeyDerivation;
use crate::error::{Check, Error};
use crate::format::{BLOCKS_MAX, DoubledRef, Root, Run};

#[test]
fn committed_blocks_are_there_after_reopening() {
    let (device, store, mut writer) = create();
    let first = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    assert_eq!((mark(&store), read(&store, first).unwrap()), (1, 1));
    let second = add_block(&mut writer, KeyKind::Data, 2).unwrap();
    commit(&mut writer, 2).unwrap();
    writer.finish().unwrap();
    let store = read_only(&device);
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_eq!(mark(&store), 2);
    assert_eq!((read(&store, first).unwrap(), read(&store, second).unwrap()), (1, 2));
}

#[test]
fn commits_alternate_between_the_pairs() {
    let (device, store, mut writer) = create();
    for number in 0..6 {
        let before: Vec<Vec<u8>> = (1..=4).map(|at| raw(&device, Position::at(at))).collect();
        commit(&mut writer, number).unwrap();
        let changed: Vec<usize> = (1..=4)
            .filter(|&at| raw(&device, Position::at(at)) != before[at as usize - 1])
            .map(|at| at as usize)
            .collect();
        // The creation counts for the odd pair. The commit that begins the session went to the even one.
        let expected = if number % 2 == 0 { [1, 3] } else { [2, 4] };
        assert_eq!(changed, expected, "commit {number}");
    }
    // The creation writes commits 0 and 1, and the session begins with commit 2.
    assert_eq!(store.current().slot.number, 8);
}

#[test]
fn a_rollback_leaves_nothing_and_raises_the_step() {
    let (device, store, mut writer) = create();
    let kept = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let (count, step) = (writer.block_count(), writer.generation().step);
    let dropped = add_block(&mut writer, KeyKind::Data, 2).unwrap();
    change_block(&mut writer, kept.position, 3).unwrap();
    assert!(writer.is_touched() && writer.block_count() > count);
    writer.rollback().unwrap();
    assert!(!writer.is_touched());
    assert_eq!(writer.block_count(), count);
    assert!(writer.generation().step > step, "positions of this step may be sealed again");
    assert!(writer.redirects().is_empty());
    assert_eq!((mark(&store), read(&store, kept).unwrap()), (1, 1));
    // The position is allocated again. The block sealed there before is not accepted as the new one.
    let again = add_block(&mut writer, KeyKind::Data, 4).unwrap();
    assert_eq!(again.position, dropped.position);
    assert_ne!(again.generation, dropped.generation);
    commit(&mut writer, 2).unwrap();
    let Err(Error::Tampered(fault)) = read(&store, dropped) else {
        panic!("a stale block was accepted")
    };
    assert_eq!(fault.check, Check::Generation);
    // Dropping a writer drops everything uncommitted.
    add_block(&mut writer, KeyKind::Data, 5).unwrap();
    drop((store, writer));
    let store = read_only(&device);
    assert_eq!((mark(&store), read(&store, again).unwrap()), (2, 4));
}

#[test]
fn freed_blocks_are_reused_only_after_the_next_commit() {
    let (_, _, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.free(Run::single(block.position));
    let other = writer.allocate(1, Urgency::Ordinary).unwrap();
    assert_ne!(other.start(), block.position, "a crash may need its content");
    let freed: Vec<Run> = writer.drain_freed().iter().collect();
    assert_eq!(freed, [Run::single(block.position)]);
    commit(&mut writer, 2).unwrap();
    writer.release(Run::single(block.position)).unwrap();
    assert_eq!(writer.allocate(1, Urgency::Ordinary).unwrap().start(), block.position);
}

#[test]
fn blocks_that_a_pinned_snapshot_can_read_are_not_reused() {
    let (_, store, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let snapshot = store.current();
    writer.free(Run::single(block.position));
    commit(&mut writer, 2).unwrap();
    assert!(writer.is_pinned().unwrap());
    writer.release(Run::single(block.position)).unwrap();
    for byte in 2..10 {
        let added = add_block(&mut writer, KeyKind::Data, byte).unwrap();
        assert_ne!(added.position, block.position);
    }
    assert_eq!(read(&store, block).unwrap(), 1);
    drop(snapshot);
    commit(&mut writer, 3).unwrap();
    assert!(!writer.is_pinned().unwrap());
    writer.release(Run::single(block.position)).unwrap();
    assert_eq!(writer.allocate(1, Urgency::Ordinary).unwrap().start(), block.position);
}

#[test]
fn a_pinned_snapshot_reads_its_own_version_of_changed_blocks() {
    let (device, store, mut writer) = create();
    let first = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let home = first.position;
    let (mut versions, mut snapshots) = (vec![first], vec![store.current()]);
    for byte in 2..12 {
        versions.push(change_block(&mut writer, home, byte).unwrap());
        commit(&mut writer, u64::from(byte)).unwrap();
        snapshots.push(store.current());
        for ((snapshot, &version), expected) in snapshots.iter().zip(&versions).zip(1..) {
            let found = store.read_block(&snapshot.redirects, KeyKind::Data, version).unwrap();
            assert_eq!(found.data[0], expected);
        }
    }
    assert!(writer.has_redo_list(), "the images wait for the oldest snapshot");
    // A commit copies the images up to the oldest commit that is still read.
    snapshots.drain(..versions.len() - 1);
    commit(&mut writer, 12).unwrap();
    assert!(writer.has_redo_list());
    assert_eq!(writer.redirects().len(), 0);
    drop(snapshots);
    commit(&mut writer, 13).unwrap();
    assert!(!writer.has_redo_list());
    writer.finish().unwrap();
    assert_eq!(read(&read_only(&device), versions[10]).unwrap(), 11);
}

#[test]
fn images_that_a_snapshot_keeps_from_their_home_location_survive_a_crash() {
    let (device, store, mut writer) = create();
    let before = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let _snapshot = store.current();
    let after = change_block(&mut writer, before.position, 2).unwrap();
    for number in 2..5 {
        // The list of the first of these commits is named again by the others.
        commit(&mut writer, number).unwrap();
    }
    let derivation = KeyDerivation::default();
    let new = NewKey { secret: &secret(), derivation: &derivation, label: "second" };
    writer.add_key(&new).unwrap();
    drop(writer);
    assert_eq!(read(&read_only(&device), after).unwrap(), 2);
    let (store, writer) = self::writer(&device);
    drop(writer);
    assert_eq!(read(&store, after).unwrap(), 2);
    assert_eq!(read(&read_only(&device), after).unwrap(), 2);
}

#[test]
fn a_changed_block_is_in_its_shadow_block_until_the_commit() {
    let (device, store, mut writer) = create();
    let before = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let home = raw(&device, before.position);
    let after = change_block(&mut writer, before.position, 2).unwrap();
    assert_eq!(raw(&device, before.position), home, "the home location is unchanged");
    assert_eq!(read(&store, before).unwrap(), 1);
    let found = store.read_block(writer.redirects(), KeyKind::Data, after).unwrap();
    assert_eq!(found.data[0], 2);
    // Changed again: the same shadow block, another generation.
    let again = change_block(&mut writer, before.position, 3).unwrap();
    assert_ne!(again.generation, after.generation);
    assert_eq!(writer.redirects().len(), 1);
    commit(&mut writer, 2).unwrap();
    assert_ne!(raw(&device, before.position), home);
    assert_eq!(read(&store, again).unwrap(), 3);
    assert!(read(&store, before).is_err(), "overwritten in place");
    assert!(writer.has_redo_list());
    commit(&mut writer, 3).unwrap();
    assert!(!writer.has_redo_list());
    assert!(store.current().slot.redo_head.is_none());
    writer.finish().unwrap();
    assert_eq!(read(&read_only(&device), again).unwrap(), 3);
}

#[test]
fn a_long_redo_list_is_a_chain() {
    let (device, _, mut writer) = create();
    let count = crate::format::REDO_PER_BLOCK + 1;
    let mut blocks: Vec<BlockRef> =
        (0..count).map(|_| add_block(&mut writer, KeyKind::Data, 1).unwrap()).collect();
    commit(&mut writer, 1).unwrap();
    for block in &mut blocks {
        *block = change_block(&mut writer, block.position, 2).unwrap();
    }
    commit(&mut writer, 2).unwrap();
    drop(writer);
    let store = read_only(&device);
    assert_eq!(store.recovery().redo_blocks, count);
    let listed = store.redo_blocks(&store.current()).unwrap();
    let expected = count as u64 + 4;
    assert_eq!(listed.blocks.blocks(), expected, "a shadow block each, and a chain of two");
    for &block in &blocks {
        assert_eq!(read(&store, block).unwrap(), 2);
    }
}

#[test]
fn a_block_not_yet_copied_home_is_read_from_its_shadow_block() {
    let (device, _, mut writer) = create();
    let before = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let home = raw(&device, before.position);
    let after = change_block(&mut writer, before.position, 2).unwrap();
    commit(&mut writer, 2).unwrap();
    drop(writer);
    // The state after a crash between the commit and the copy.
    device.write(before.position, &home).unwrap();
    let store = read_only(&device);
    assert_eq!(read(&store, after).unwrap(), 2);
    assert_eq!(raw(&device, before.position), home, "a reader writes nothing");
    let shadow = store.current().redirects.shadow(before.position).unwrap();
    drop(store);
    let whole = device.snapshot();
    let (store, mut writer) = self::writer(&device);
    assert_ne!(raw(&device, before.position), home, "a writer copies it first");
    assert_eq!(read(&store, after).unwrap(), 2);
    commit(&mut writer, 3).unwrap();
    writer.finish().unwrap();
    assert!(read_only(&device).current().redirects.is_empty());
    // A shadow block that does not open never replaces the home location.
    device.restore(&whole);
    corrupt(&device, shadow);
    drop(self::writer(&device));
    assert_eq!(raw(&device, before.position), home);
    assert!(matches!(read(&read_only(&device), after), Err(Error::Damaged(_))));
}

#[test]
fn a_root_is_opened_only_when_it_is_read_and_only_in_the_generation_that_the_slot_names() {
    let (device, _, mut writer) = create();
    let old = add_block(&mut writer, KeyKind::Registry, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let old_bytes = raw(&device, old.position);
    writer.free(Run::single(old.position));
    commit(&mut writer, 2).unwrap();
    writer.release(Run::single(old.position)).unwrap();
    let root = add_block(&mut writer, KeyKind::Registry, 2).unwrap();
    assert_eq!(root.position, old.position);
    let copy = add_block(&mut writer, KeyKind::Registry, 2).unwrap().position;
    let redo = writer.write_redo_list().unwrap();
    let mut update = SlotUpdate { redo, ..update_of(&writer.store().current().slot) };
    let BlockRef { position, generation } = root;
    let block = Some(DoubledRef { position, copy, generation });
    update.roots[0] = Root { block, depth: 1, entries: 1 };
    writer.commit(update).unwrap();
    writer.finish().unwrap();
    let good = device.snapshot();
    let read_root = || {
        let store = read_only(&device);
        let commit = store.current();
        let found = commit.slot.roots[0].block;
        assert_eq!(found, block, "no fault of a root is a reason to fall back");
        store.read_block(&commit.redirects, KeyKind::Registry, root)
    };
    assert!(read_root().is_ok());
    corrupt(&device, root.position);
    let error = read_root().unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error}");
    device.restore(&good);
    device.write(root.position, &old_bytes).unwrap();
    let Err(Error::Tampered(fault)) = read_root() else {
        panic!("an older version of the root was accepted")
    };
    assert_eq!((fault.check, fault.position), (Check::Generation, Some(root.position)));
}

#[test]
fn each_session_has_a_higher_number_and_a_new_salt() {
    let (device, _, writer) = create();
    let mut generations = vec![writer.generation()];
    drop(writer);
    for _ in 0..5 {
        // A reader begins no session.
        read_only(&device);
        let (_, writer) = self::writer(&device);
        generations.push(writer.generation());
    }
    for (session, generation) in (1..).zip(&generations) {
        assert_eq!(generation.session, session);
    }
    let mut salts: Vec<u32> = generations.iter().map(|generation| generation.salt).collect();
    salts.sort_unstable();
    salts.dedup();
    assert_eq!(salts.len(), generations.len(), "salts distinguish copies of an archive");
    // Finished sessions are pending until the layer above records them.
    let pending: Vec<u32> =
        read_only(&device).current().slot.pending_sessions.iter().map(|s| s.session).collect();
    assert_eq!(pending, [0, 1, 2, 3, 4, 5]);
}

#[test]
fn the_last_position_of_the_format_is_used_and_none_beyond_it() {
    let (device, store, mut writer) = create();
    let full = |outcome: Result<Run>| {
        let error = outcome.unwrap_err();
        let limit = u64::from(BLOCKS_MAX);
        assert!(matches!(error, Error::Full { limit: at, .. } if at == limit), "{error}");
    };
    allocate_before_third_copies(&mut writer);
    let most = writer.allocate(u32::MAX, Urgency::Ordinary).unwrap();
    assert_eq!(
        most.end(),
        BLOCKS_MAX - RESERVE_BLOCKS,
        "the last positions are a reserve for deletions"
    );
    full(writer.allocate(1, Urgency::Ordinary));
    let rest = writer.allocate(u32::MAX, Urgency::Reserve).unwrap();
    assert_eq!((rest.count(), rest.end()), (RESERVE_BLOCKS, BLOCKS_MAX));
    full(writer.allocate(1, Urgency::Reserve));
    store.check_usable().expect("a full archive is not a failure of the medium");
    let last = Position::at(BLOCKS_MAX - 1);
    let head = BlockHead { previous: Some(Position::at(BLOCKS_MAX - 2)), ..BlockHead::default() };
    let data = data(7);
    let job = SealJob { position: last, head, data: &data };
    let generation = writer.write_fresh(KeyKind::Data, &[job]).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    assert_eq!(device.length_bytes().unwrap(), u64::from(BLOCKS_MAX) * 4096);
    let (store, mut writer) = self::writer(&device);
    let block = BlockRef { position: last, generation };
    let found = store.read_block(&Redirects::default(), KeyKind::Data, block).unwrap();
    assert_eq!((found.head, found.data[0]), (head, 7));
    full(writer.allocate(1, Urgency::Reserve));
    // A freed position can be allocated again.
    writer.free(Run::single(last));
    commit(&mut writer, 2).unwrap();
    writer.release(Run::single(last)).unwrap();
    assert_eq!(writer.allocate(5, Urgency::Ordinary).unwrap(), Run::single(last));
}
