//! The facts that a store reports, the state that a commit stores, and the length that closing leaves.

use std::collections::HashSet;

use super::*;
use crate::format::{
    BLOCK_SIZE, Generation, Run, SessionRecord, StoredStream, StreamLayout, StreamRecord, Timestamp,
};
use crate::store::open_block::{BlockBuffer, generation_in};

const EARLY: Generation = Generation { session: 1, step: 2, salt: 3 };
const LATE: Generation = Generation { session: 1, step: 3, salt: 3 };

#[test]
fn a_store_reports_its_file_and_its_time_of_creation() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let before = Timestamp::now().seconds;
    let (store, writer) = Store::create(&path, &secret(), &CreateOptions::default()).unwrap();
    assert!((before..before + 600).contains(&store.created().seconds));
    assert_eq!(store.path(), Some(path.as_path()));
    assert!(format!("{store:?}").contains("archive"), "{store:?}");
    assert!(format!("{writer:?}").contains("InFlight"), "{writer:?}");
    // The reserved blocks, and a reserve of the same size: there is nothing to delete.
    assert_eq!(store.file_bytes().unwrap(), 16 * 4096);
    drop((store, writer));
    let (_, store, _) = create();
    assert_eq!(store.path(), None);
}

#[test]
fn a_receipt_code_belongs_to_one_commit() {
    let (_, store, mut writer) = create();
    let first = commit(&mut writer, 1).unwrap();
    let second = commit(&mut writer, 2).unwrap();
    let code = store.receipt_code(&first).unwrap();
    assert_ne!(code, store.receipt_code(&second).unwrap());
    assert!(store.is_receipt_code(&first, &code).unwrap());
    assert!(!store.is_receipt_code(&second, &code).unwrap());
    let mut changed = code;
    changed[31] ^= 1;
    assert!(!store.is_receipt_code(&first, &changed).unwrap());
}

#[test]
fn only_the_redirected_version_of_a_block_is_read_from_its_shadow_block() {
    let (home, other, shadow) = (Position::at(10), Position::at(11), Position::at(20));
    let mut redirects = Redirects::default();
    assert!(redirects.is_empty() && redirects.entries().is_empty());
    let late = |position| BlockRef { position, generation: LATE };
    redirects.shadows.insert(home, late(shadow));
    assert_eq!(redirects.source(home, LATE), shadow);
    assert_eq!(redirects.source(home, EARLY), home);
    assert_eq!(redirects.source(other, LATE), other);
    redirects.shadows.insert(other, BlockRef { position: Position::at(21), generation: EARLY });
    assert_eq!(redirects.len(), 2);
    assert!(!redirects.is_empty());
    let homes: HashSet<Position> = redirects.entries().iter().map(|entry| entry.home).collect();
    assert_eq!(homes, HashSet::from([home, other]));
}

#[test]
fn a_block_buffer_starts_blank_and_holds_its_bytes() {
    let mut buffer = BlockBuffer::new();
    assert_eq!(*buffer, [0; BLOCK_SIZE]);
    buffer[..Generation::SIZE].copy_from_slice(&LATE.encode());
    assert_eq!(buffer[..Generation::SIZE], LATE.encode());
    assert_eq!(generation_in(&buffer), LATE);
}

#[test]
#[cfg(target_os = "linux")]
fn dropping_a_block_buffer_wipes_it() {
    use crate::own_memory::count_of;
    let mut found = vec![0; BLOCK_SIZE];
    let mut buffer = BlockBuffer::new();
    buffer.fill(0xa7);
    let address = buffer.as_ptr().addr();
    assert_eq!(count_of(0xa7, address, &mut found), BLOCK_SIZE);
    drop(buffer);
    assert!(count_of(0xa7, address, &mut found) < 64);
}

#[test]
fn a_forked_process_cannot_use_the_store() {
    let (_, store, _) = create();
    let error = in_forked_process(|| store.check_usable().unwrap_err());
    assert!(matches!(error, Error::OtherProcess { .. }), "{error}");
    assert!(store.check_usable().is_ok());
    assert_eq!(crate::process::id(), std::process::id());
}

#[test]
fn a_commit_stores_the_state_of_the_layer_above() {
    let (device, store, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    let free = writer.allocate(3, Urgency::Ordinary).unwrap();
    let mut update = update_of(&store.current().slot);
    update.inline_free = vec![free];
    update.metadata = vec![1, 2, 3];
    update.counters = [1, 2, 3, 4, 5, 6, 7, 8];
    let identity = update.reserved_streams[3].record.identity;
    update.reserved_streams[3] = StoredStream {
        record: StreamRecord {
            begin: Some(block.position),
            end: Some(block.position),
            count: 1,
            length: 5,
            ..StreamRecord::empty(identity)
        },
        layout: StreamLayout::OneRun(block.generation),
        inode: None,
    };
    let stream = update.reserved_streams[3].clone();
    let pending =
        |store: &Store| -> Vec<SessionRecord> { store.current().slot.pending_sessions.clone() };
    let before = pending(&store);
    assert!(!before.is_empty(), "the session of the creation is pending");
    writer.commit(update).unwrap();
    let slot = store.current().slot.clone();
    assert_eq!((&slot.inline_free, &slot.metadata), (&vec![free], &vec![1, 2, 3]));
    assert_eq!(slot.counters, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(slot.reserved_streams[3], stream);
    assert_eq!(pending(&store), before);
    let update = SlotUpdate { sessions_recorded: true, ..update_of(&slot) };
    writer.commit(update).unwrap();
    assert_eq!(pending(&store), []);
    writer.finish().unwrap();
    assert_eq!(read_only(&device).current().slot.inline_free, [free]);
}

#[test]
fn closing_trims_the_file_only_if_nothing_needs_its_end() {
    let blocks_of = |device: &MemoryDevice| device.length_bytes().unwrap() / 4096;
    // Nothing needs the end.
    let (device, store, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let long = blocks_of(&device);
    let kept = u64::from(writer.block_count() + RESERVE_BLOCKS);
    assert!(long > kept);
    writer.finish().unwrap();
    assert_eq!(blocks_of(&device), kept);
    drop(store);
    // A pinned snapshot may read it.
    let (store, mut writer) = self::writer(&device);
    add_block(&mut writer, KeyKind::Data, 2).unwrap();
    let snapshot = store.current();
    commit(&mut writer, 2).unwrap();
    let long = blocks_of(&device);
    writer.finish().unwrap();
    assert_eq!(blocks_of(&device), long);
    drop((store, snapshot));
    // A redo list needs it.
    let (_, mut writer) = self::writer(&device);
    change_block(&mut writer, block.position, 3).unwrap();
    writer.allocate(300, Urgency::Ordinary).unwrap();
    commit(&mut writer, 3).unwrap();
    assert!(writer.has_redo_list());
    let long = blocks_of(&device);
    writer.finish().unwrap();
    assert_eq!(blocks_of(&device), long);
}

#[test]
fn blocks_that_a_commit_freed_are_reused_while_a_snapshot_pins_that_commit() {
    let (_, store, mut writer) = create();
    let first = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    let second = add_block(&mut writer, KeyKind::Data, 2).unwrap();
    commit(&mut writer, 1).unwrap();
    writer.free(Run::single(first.position));
    commit(&mut writer, 2).unwrap();
    let snapshot = store.current();
    writer.free(Run::single(second.position));
    commit(&mut writer, 3).unwrap();
    // The snapshot pins the second commit. The first block was free by then, the second was not.
    for block in [first, second] {
        writer.release(Run::single(block.position)).unwrap();
    }
    assert_eq!(writer.pooled_blocks(), 1);
    assert_eq!(writer.allocate(1, Urgency::Ordinary).unwrap(), Run::single(first.position));
    drop(snapshot);
}

#[test]
fn opening_a_clean_archive_writes_no_header() {
    use crate::device::simulated::{EventKind, SimulatedDisk};
    let disk = SimulatedDisk::new();
    let options = CreateOptions::default();
    let made = Store::create_device(Box::new(disk.clone()), &secret(), &options).unwrap();
    let mut writer = made.1;
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    drop(made.0);
    let before = disk.log().len();
    let (store, writer) = self::writer(&disk);
    assert!(store.recovery().is_clean());
    let log = disk.log();
    let wrote = |at: u32| log[before..].iter().any(|event| event.kind() == EventKind::Write(at));
    assert!((1..=4).all(wrote) && !wrote(0) && !wrote(7));
    drop((store, writer));
}

#[test]
fn an_archive_with_a_bad_meta_slot_is_not_clean() {
    let (device, _, mut writer) = create();
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    assert!(read_only(&device).recovery().is_clean());
    corrupt(&device, Position::at(1));
    assert!(!read_only(&device).recovery().is_clean());
}
