//! A change of the master key, complete or interrupted at any write, sync or growth.

use std::ops::ControlFlow;

use super::faults::{Fault, Faulty};
use super::*;
use crate::crypto::{HeaderKey, MasterKey, Sealer};
use crate::error::{Check, Error};
use crate::format::{BLOCK_SIZE, HEADERS, KeySlot, Run};
use crate::store::superblock::header::open_header;

/// Three windows, the last one short.
const BLOCKS: u32 = 600;

/// The end of the archive. The blocks of the third copies lie in between.
const END: u32 = BLOCKS + 8 + 3;

const ONLY_KEY: RekeyOptions =
    RekeyOptions { drop_other_keys: false, io: Io::File, wait: std::time::Duration::ZERO };

/// An archive with blocks of both kinds and of several generations.
struct World {
    device: MemoryDevice,
    blocks: Vec<(BlockRef, u8, KeyKind)>,
    master: MasterKey,
}

fn world() -> World {
    let (device, store, mut writer) = create();
    let mut blocks = Vec::new();
    for number in 0..BLOCKS {
        let byte = number.to_be_bytes()[3];
        let kind = if number % 5 == 0 { KeyKind::Registry } else { KeyKind::Data };
        blocks.push((add_block(&mut writer, kind, byte).unwrap(), byte, kind));
        if number % 200 == 150 {
            commit(&mut writer, 1).unwrap();
        }
    }
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    drop(store);
    let master = open_header(&device, &secret()).unwrap().master;
    World { device, blocks, master }
}

fn rekey(device: &(impl Device + Clone + 'static)) -> Result<RekeySummary> {
    Store::rekey_device(Box::new(device.clone()), &secret(), ONLY_KEY, &mut |_, _| {
        ControlFlow::Continue(())
    })
}

fn check_content(world: &World, device: &MemoryDevice) {
    let store = read_only(device);
    let commit = store.current();
    for &(block, byte, kind) in &world.blocks {
        let found = store.read_block(&commit.redirects, kind, block).unwrap();
        assert_eq!(found.data[..], data(byte)[..], "{}", block.position);
    }
    assert_eq!(mark(&store), 1);
}

/// Asserts that no block and no header of the file is under the old master key.
fn assert_nothing_under_old_key(world: &World, device: &MemoryDevice) {
    let archive = read_only(device).header().archive;
    let old = Sealer::new(&world.master, archive);
    let count = device.length_bytes().unwrap() / BLOCK_SIZE as u64;
    for position in (0..u32::try_from(count).unwrap()).map(Position::at) {
        let bytes: [u8; BLOCK_SIZE] = raw(device, position).try_into().unwrap();
        for kind in [KeyKind::Data, KeyKind::Registry, KeyKind::Meta] {
            let mut copy = bytes;
            assert!(old.open_in_place(kind, position, &mut copy).is_err(), "block {position}");
        }
    }
    for position in HEADERS {
        let bytes: [u8; BLOCK_SIZE] = raw(device, position).try_into().unwrap();
        let header = crate::format::UncheckedHeader::parse(position, &bytes).unwrap();
        assert!(header.rekey().is_none());
        assert!(header.authenticate(&HeaderKey::derive(&world.master, archive)).is_err());
    }
}

#[test]
fn a_rekey_seals_every_block_again_with_the_same_generation() {
    let world = world();
    let number = read_only(&world.device).current().slot.number;
    let mut reports = Vec::new();
    let device = Box::new(world.device.clone());
    let mut progress = |done, all| {
        reports.push((done, all));
        ControlFlow::Continue(())
    };
    let summary = Store::rekey_device(device, &secret(), ONLY_KEY, &mut progress);
    assert_eq!(summary.unwrap(), RekeySummary { blocks: BLOCKS.into(), ..RekeySummary::default() });
    let end = END;
    assert_eq!(reports, [(0, end), (8, end), (264, end), (520, end), (end, end)]);
    check_content(&world, &world.device);
    assert_nothing_under_old_key(&world, &world.device);
    let store = read_only(&world.device);
    assert!(store.recovery().is_clean(), "{:?}", store.recovery());
    assert_eq!(store.current().slot.master_key_number, 1);
    // Two sessions, the commit that begins the change, three windows, and the commit that ends it.
    assert_eq!(store.current().slot.number, number + 7);
    for position in [1, 2, 3, 4, 5, 6].map(Position::at) {
        store.reserved_block(position).unwrap();
    }
    drop(store);
    // The archive is like any other: it can be written to, and its master key changed again.
    let (_, mut writer) = writer(&world.device);
    change_block(&mut writer, world.blocks[0].0.position, 1).unwrap();
    add_block(&mut writer, KeyKind::Data, 1).unwrap();
    drop(writer);
    assert_eq!(rekey(&world.device).unwrap().blocks, BLOCKS.into());
    assert_eq!(read_only(&world.device).current().slot.master_key_number, 2);
    check_content(&world, &world.device);
}

/// The last operations change the headers, when no block is left under the old key.
#[test]
fn a_rekey_interrupted_near_its_end_is_completed() {
    const MANY: u32 = 1 << 20;
    let world = world();
    let before = world.device.snapshot();
    let whole = Faulty::on(&before.to_device(), Fault::Nothing);
    whole.fail_after(MANY);
    rekey(&whole).unwrap();
    let operations = MANY - whole.left().unwrap();
    let mut without_blocks_left = 0;
    for from_the_end in 1..=20 {
        let device = before.to_device();
        let faulty = Faulty::on(&device, Fault::Nothing);
        faulty.fail_after(operations - from_the_end);
        let outcome = rekey(&faulty);
        // The last two operations trim the file and grow it for the reserve. Everything is committed by then.
        assert_eq!(outcome.is_ok(), from_the_end <= 2, "{from_the_end} from the end");
        assert_eq!(outcome.is_ok_and(|summary| summary.trim_failed), from_the_end == 2);
        let store = read_only(&device);
        let is_unfinished = store.header().rekey.is_some();
        without_blocks_left +=
            u32::from(is_unfinished && store.current().slot.rekey_watermark == 0);
        drop(store);
        rekey(&device).unwrap();
        check_content(&world, &device);
        assert_nothing_under_old_key(&world, &device);
    }
    assert!(without_blocks_left > 0, "no interruption fell after the last window");
}

/// A copy of the file may have lost the blocks behind the end of the archive.
#[test]
fn a_resumed_rekey_reserves_space_for_the_shadow_blocks_again() {
    let world = world();
    let before = world.device.snapshot();
    let begun = |operations| {
        let device = before.to_device();
        let faulty = Faulty::on(&device, Fault::Nothing);
        faulty.fail_after(operations);
        rekey(&faulty).unwrap_err();
        // The first slot under the new key names no window, so no shadow block is needed yet.
        (read_only(&device).current().slot.master_key_number == 1).then_some(device)
    };
    let device = (0..40).find_map(begun).expect("an interruption after the first commit");
    let count = read_only(&device).current().slot.block_count;
    device.shrink(count).unwrap();
    let mut lengths = Vec::new();
    let mut progress = |_, _| {
        lengths.push(device.length_bytes().unwrap() / BLOCK_SIZE as u64);
        ControlFlow::Continue(())
    };
    Store::rekey_device(Box::new(device.clone()), &secret(), ONLY_KEY, &mut progress).unwrap();
    let needed = u64::from(count) + 512;
    assert!(lengths.len() > 2 && lengths.iter().all(|&length| length >= needed), "{lengths:?}");
    check_content(&world, &device);
}

/// The shadow blocks of a window are durable before a slot names it, and all space for them is reserved before the
/// first window.
#[test]
fn shadow_blocks_of_a_window_are_durable_before_a_slot_names_it_and_have_space() {
    use crate::device::simulated::{Event, EventKind, SimulatedDisk};
    const WINDOW: u32 = 256;
    let disk = SimulatedDisk::new();
    let options = CreateOptions::default();
    let (store, mut writer) =
        Store::create_device(Box::new(disk.clone()), &secret(), &options).unwrap();
    for number in 0..2 * WINDOW {
        add_block(&mut writer, KeyKind::Data, number.to_be_bytes()[3]).unwrap();
    }
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    let end = store.current().slot.block_count;
    drop(store);
    let before = disk.log().len();
    let mut lengths = Vec::new();
    let mut progress = |_, _| {
        lengths.push(disk.length_bytes().unwrap() / BLOCK_SIZE as u64);
        ControlFlow::Continue(())
    };
    Store::rekey_device(Box::new(disk.clone()), &secret(), ONLY_KEY, &mut progress).unwrap();
    let needed = u64::from(end + 2 * WINDOW);
    assert!(lengths.len() > 2 && lengths.iter().all(|&length| length >= needed), "{lengths:?}");

    let (mut unsynced, mut windows) = (0, 0);
    for kind in disk.log()[before..].iter().map(Event::kind) {
        match kind {
            EventKind::Write(at) if at >= end => unsynced += 1,
            EventKind::Write(1..=4) => assert_eq!(unsynced, 0, "a slot before its shadow blocks"),
            EventKind::Sync => {
                windows += u32::from(unsynced > 0);
                unsynced = 0;
            }
            _ => {}
        }
    }
    assert!(windows >= 2, "{windows} windows");
}

#[test]
fn the_master_key_of_an_archive_in_a_file_is_changed() {
    let world = world();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive");
    std::fs::write(&path, world.device.to_bytes()).unwrap();
    let summary =
        Store::rekey(&path, &secret(), ONLY_KEY, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_eq!(summary, RekeySummary { blocks: BLOCKS.into(), ..RekeySummary::default() });
    let device = MemoryDevice::from_bytes(&std::fs::read(&path).unwrap());
    check_content(&world, &device);
    assert_nothing_under_old_key(&world, &device);
}

#[test]
fn an_interrupted_rekey_leaves_a_readable_archive_and_resumes() {
    let world = world();
    let before = world.device.snapshot();
    for fault in [Fault::Nothing, Fault::Torn, Fault::Late] {
        let mut in_flight = 0;
        let mut operation = 0;
        loop {
            let device = before.to_device();
            let faulty = Faulty::on(&device, fault);
            faulty.fail_after(operation);
            let outcome = rekey(&faulty);
            check_content(&world, &device);
            if outcome.is_ok() {
                break;
            }
            let store = read_only(&device);
            let watermark = store.current().slot.rekey_watermark;
            if store.header().rekey.is_some() {
                in_flight += 1;
                let refused = try_open(&device, Access::Write);
                assert!(matches!(refused, Err(Error::RekeyInProgress)), "{operation}");
            }
            drop(store);
            // Interrupted a second time, and then complete.
            let faulty = Faulty::on(&device, Fault::Torn);
            faulty.fail_after(operation / 3 + 1);
            let _ = rekey(&faulty);
            check_content(&world, &device);
            let summary = rekey(&device).unwrap();
            assert!(summary.left == 0, "{operation} at {watermark}: {summary:?}");
            check_content(&world, &device);
            assert_nothing_under_old_key(&world, &device);
            // Every operation at the borders of windows, and a sample of the many writes to home locations.
            operation += if (30..BLOCKS + 20).contains(&operation) { 97 } else { 1 };
        }
        assert!(in_flight > 20, "{fault:?}: {in_flight}");
    }
}

#[test]
fn a_rekey_removes_other_keys_only_with_drop_other_keys() {
    let world = world();
    let (_, mut writer) = writer(&world.device);
    let other = Secret::Key(RawKey::from_bytes([5; 32]));
    let derivation = crate::crypto::KeyDerivation::default();
    writer.add_key(&NewKey { secret: &other, derivation: &derivation, label: "" }).unwrap();
    writer.finish().unwrap();
    assert!(matches!(rekey(&world.device), Err(Error::OtherKeys { count: 1 })));
    check_content(&world, &world.device);
    let options = RekeyOptions { drop_other_keys: true, ..ONLY_KEY };
    let device = Box::new(world.device.clone());
    Store::rekey_device(device, &secret(), options, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert_nothing_under_old_key(&world, &world.device);
    let opened = open_header(&world.device, &other);
    assert!(matches!(opened, Err(Error::WrongKey { .. })));
    let slots = read_only(&world.device).header().slots.clone();
    assert_eq!(slots.iter().filter(|slot| **slot != KeySlot::Empty).count(), 1);
}

#[test]
fn a_key_dropped_by_an_unfinished_rekey_is_a_wrong_key_and_not_tampering() {
    let world = world();
    let (_, mut writer) = writer(&world.device);
    let other = Secret::Key(RawKey::from_bytes([5; 32]));
    let derivation = crate::crypto::KeyDerivation::default();
    writer.add_key(&NewKey { secret: &other, derivation: &derivation, label: "" }).unwrap();
    writer.finish().unwrap();
    let old = raw(&world.device, HEADERS[1]);
    let faulty = Faulty::on(&world.device, Fault::Nothing);
    faulty.fail_after(20);
    let options = RekeyOptions { drop_other_keys: true, ..ONLY_KEY };
    let device = Box::new(faulty.clone());
    Store::rekey_device(device, &secret(), options, &mut |_, _| ControlFlow::Continue(()))
        .unwrap_err();
    assert!(read_only(&world.device).header().rekey.is_some());
    // The second copy is the old header, which the other key opens.
    world.device.write(HEADERS[1], &old).unwrap();
    let opened = open_header(&world.device, &other);
    assert!(matches!(opened, Err(Error::WrongKey { .. })), "{opened:?}");
    check_content(&world, &world.device);
    // An old header must not replace the one that holds the new key.
    let exported = ExportedHeader::open(&old, &secret()).unwrap();
    let imported = Store::import_header_device(&world.device, &exported, true);
    assert!(matches!(imported, Err(Error::RekeyInProgress)), "{imported:?}");
    rekey(&world.device).unwrap();
    let imported = Store::import_header_device(&world.device, &exported, true);
    assert!(matches!(imported, Err(Error::Damaged(_))), "{imported:?}");
}

#[test]
fn a_bad_block_a_redo_list_or_a_full_disk_stops_a_rekey_before_it_begins() {
    let world = world();
    let bad = world.blocks[300].0.position;
    corrupt(&world.device, bad);
    let before = raw(&world.device, HEADERS[0]);
    let error = rekey(&world.device).unwrap_err();
    assert!(matches!(&error, Error::Damaged(fault) if fault.position == Some(bad)), "{error}");
    assert_eq!(raw(&world.device, HEADERS[0]), before);
    // A redo list: its shadow blocks are sealed for other positions, so they would not open.
    let world = self::world();
    let (_, mut writer) = writer(&world.device);
    change_block(&mut writer, world.blocks[1].0.position, world.blocks[1].1).unwrap();
    commit(&mut writer, 1).unwrap();
    drop(writer);
    assert!(matches!(rekey(&world.device), Err(Error::Uncommitted)));
    // There is no space for the shadow blocks.
    let world = self::world();
    for missing in [512, 1] {
        world.device.set_capacity(END + 512 - missing);
        assert!(matches!(rekey(&world.device), Err(Error::NoSpace { .. })), "{missing}");
        check_content(&world, &world.device);
        assert!(read_only(&world.device).header().rekey.is_none());
    }
    world.device.set_capacity(END + 512);
    assert_eq!(rekey(&world.device).unwrap().blocks, BLOCKS.into());
}

#[test]
fn corrupted_and_stale_blocks_stay_unreadable_after_a_rekey() {
    let world = world();
    let (stale, corrupted) = (world.blocks[402], world.blocks[581]);
    let (_, mut writer) = writer(&world.device);
    let run = Run::single(stale.0.position);
    writer.free(run);
    commit(&mut writer, 1).unwrap();
    writer.release(run).unwrap();
    let newer = add_block(&mut writer, KeyKind::Data, 77).unwrap();
    assert_eq!(newer.position, stale.0.position);
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    // Interrupted in the second window; then a block in the third is corrupted.
    let faulty = Faulty::on(&world.device, Fault::Nothing);
    faulty.fail_after(300);
    rekey(&faulty).unwrap_err();
    corrupt(&world.device, corrupted.0.position);
    assert_eq!(rekey(&world.device).unwrap().left, 1);
    let store = read_only(&world.device);
    let commit = store.current();
    assert_eq!(store.read_block(&commit.redirects, KeyKind::Data, newer).unwrap().data[0], 77);
    // A reference to the older version still finds another generation.
    let Err(Error::Tampered(fault)) = store.read_block(&commit.redirects, stale.2, stale.0) else {
        panic!("a stale block was accepted")
    };
    assert_eq!(fault.check, Check::Generation);
    let read = store.read_block(&commit.redirects, corrupted.2, corrupted.0);
    assert!(matches!(read, Err(Error::Damaged(_))), "{read:?}");
}

#[test]
fn the_next_call_resumes_a_rekey_stopped_anywhere() {
    for stop_after in 0..5 {
        let world = world();
        let mut calls = 0;
        let mut stop = |_, _| {
            calls += 1;
            if calls > stop_after { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let device = Box::new(world.device.clone());
        let error = Store::rekey_device(device, &secret(), ONLY_KEY, &mut stop).unwrap_err();
        assert!(matches!(error, Error::Stopped), "{error}");
        let store = read_only(&world.device);
        assert_eq!(store.header().rekey.is_some(), stop_after > 0, "{stop_after}");
        drop(store);
        check_content(&world, &world.device);
        rekey(&world.device).unwrap();
        check_content(&world, &world.device);
        assert_nothing_under_old_key(&world, &world.device);
    }
}
