//! A change of the master key under attack, on bad media, and with headers from other times.

use super::faults::{Fault, Faulty};
use super::*;
use crate::crypto::{HeaderKey, MasterKey, SealJob, Sealer};
use crate::error::{Check, Error};
use crate::format::{
    BLOCK_SIZE, Generation, HEADERS, META_SLOTS, META_STREAM, MetaSlot, Run, UncheckedHeader,
    header_digest, header_layout, rekey_layout,
};
use crate::store::superblock::header::open_header;

const ONLY_KEY: RekeyOptions =
    RekeyOptions { drop_other_keys: false, io: Io::File, wait: std::time::Duration::ZERO };

fn rekey(device: &(impl Device + Clone + 'static)) -> Result<RekeySummary> {
    Store::rekey_device(Box::new(device.clone()), &secret(), ONLY_KEY, &mut |_, _| {
        std::ops::ControlFlow::Continue(())
    })
}

/// An archive of `count` blocks, and its master key.
fn world(count: u32) -> (MemoryDevice, Vec<BlockRef>, MasterKey) {
    let (device, store, mut writer) = create();
    let mut blocks = Vec::new();
    for number in 0..count {
        let byte = number.to_be_bytes()[3];
        blocks.push(add_block(&mut writer, KeyKind::Data, byte).unwrap());
    }
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    drop(store);
    let master = open_header(&device, &secret()).unwrap().master;
    (device, blocks, master)
}

fn interrupt_after(device: &MemoryDevice, operations: u32) {
    let faulty = Faulty::on(device, Fault::Nothing);
    faulty.fail_after(operations);
    // It may have completed.
    let _ = rekey(&faulty);
}

/// Interrupts a rekey as soon as both copies of the header are written.
fn begin(device: &MemoryDevice) {
    let before = device.snapshot();
    let has_begun = (0..60).any(|operations| {
        device.restore(&before);
        interrupt_after(device, operations);
        let opened = open_header(device, &secret()).unwrap();
        opened.header.rekey.is_some() && opened.repair.is_empty()
    });
    assert!(has_begun, "the header is written early");
}

fn export(device: &MemoryDevice) -> ExportedHeader {
    let exported = read_only(device).export_header();
    ExportedHeader::open(&exported[..], &secret()).unwrap()
}

#[test]
fn meta_slots_forged_with_the_old_key_under_a_header_of_the_rekey_are_tampering() {
    let (device, _, old) = world(600);
    let archive = read_only(&device).header().archive;
    begin(&device);
    let headers = HEADERS.map(|position| raw(&device, position));
    rekey(&device).unwrap();
    // The attacker has the old master key and a header seen during the rekey, but not the new key.
    let header: [u8; BLOCK_SIZE] = headers[0].clone().try_into().unwrap();
    let revision = UncheckedHeader::parse(HEADERS[0], &header).unwrap().revision();
    let generation = Generation { session: 1000, step: 0, salt: 5 };
    let mut forged = MetaSlot::first(generation, revision, header_digest(&header));
    forged.block_count = 608;
    (forged.master_key_number, forged.rekey_watermark) = (1, 520);
    for (position, header) in HEADERS.iter().zip(&headers) {
        device.write(*position, header).unwrap();
    }
    for position in META_SLOTS {
        // The pairs hold two commits, as the attacker knows they must.
        let is_newer = position.get().is_multiple_of(2);
        forged.number = 5000 + u64::from(is_newer);
        forged.generation.step = u32::from(is_newer);
        let data = forged.encode().unwrap();
        let head = BlockHead { stream: META_STREAM, ..BlockHead::default() };
        let job = SealJob { position, head, data: &data };
        let mut bytes = [0; BLOCK_SIZE];
        let old = Sealer::new(&old, archive);
        old.seal_batch(KeyKind::Meta, forged.generation, &[job], &mut bytes).unwrap();
        device.write(position, &bytes).unwrap();
    }
    for outcome in [try_open(&device, Access::Read).map(drop), rekey(&device).map(drop)] {
        let error = outcome.unwrap_err();
        assert!(
            matches!(&error, Error::Tampered(fault) if fault.check == Check::MetaSlot),
            "{error}"
        );
    }
}

#[test]
fn nothing_behind_the_end_of_a_small_archive_is_under_the_old_key() {
    let (device, _, old) = world(20);
    let (_, mut writer) = writer(&device);
    assert!(writer.wipe_tail().unwrap().blocks > 0);
    writer.finish().unwrap();
    rekey(&device).unwrap();
    let old = Sealer::new(&old, read_only(&device).header().archive);
    let count = device.length_bytes().unwrap() / BLOCK_SIZE as u64;
    for position in (0..u32::try_from(count).unwrap()).map(Position::at) {
        let bytes: [u8; BLOCK_SIZE] = raw(&device, position).try_into().unwrap();
        assert!(!old.opens(position, &bytes), "block {position}");
    }
}

#[test]
fn bad_sectors_during_a_rekey_cost_only_their_own_blocks() {
    let (device, blocks, _) = world(600);
    interrupt_after(&device, 306);
    let slot = read_only(&device).current().slot.clone();
    assert!(slot.rekey_watermark > 8);
    let before = device.snapshot();
    // Shadow blocks of the newest window whose home locations are already written.
    let first = slot.block_count + 256;
    let bad_shadows = Unreadable(device.clone(), (first..first + 4).collect());
    let (store, _) = try_open(&bad_shadows, Access::Read).unwrap();
    let commit = store.current();
    for (number, &block) in (0_u32..).zip(&blocks) {
        let found = store.read_block(&commit.redirects, KeyKind::Data, block).unwrap();
        assert_eq!(found.data[..], data(number.to_be_bytes()[3])[..]);
    }
    drop(store);
    assert_eq!(rekey(&bad_shadows).unwrap().left, 0);
    // A home location that is not sealed again yet.
    device.restore(&before);
    let bad_home = Unreadable(device.clone(), vec![blocks[590].position.get()]);
    assert_eq!(rekey(&bad_home).unwrap().left, 1);
    assert!(read_only(&device).header().rekey.is_none());
    assert_eq!(mark(&read_only(&device)), 1);
}

#[test]
fn a_header_that_falsely_claims_a_rekey_does_not_stop_an_import() {
    let (device, ..) = world(20);
    let exported = export(&device);
    for position in HEADERS {
        let mut bytes: [u8; BLOCK_SIZE] = raw(&device, position).try_into().unwrap();
        let record = header_layout::REKEY.of_mut(&mut bytes);
        rekey_layout::NUMBER.put(record, &1_u32.to_be_bytes());
        let checksum = sha2::Digest::finalize(sha2::Digest::chain_update(
            <sha2::Sha256 as sha2::Digest>::new(),
            &bytes[..header_layout::CHECKSUM.offset],
        ));
        header_layout::CHECKSUM.put(&mut bytes, &checksum);
        device.write(position, &bytes).unwrap();
    }
    assert!(try_open(&device, Access::Read).is_err());
    Store::import_header_device(&device, &exported, true).unwrap();
    assert_eq!(mark(&read_only(&device)), 1);
}

#[test]
fn the_header_of_another_rekey_does_not_replace_the_only_copy_of_the_new_key() {
    let (device, ..) = world(600);
    let start = device.snapshot();
    begin(&device);
    let first = export(&device);
    // A power cut lost the first attempt. The second has made a commit.
    device.restore(&start);
    begin(&device);
    let refused = Store::import_header_device(&device, &first, true).unwrap_err();
    assert!(matches!(refused, Error::RekeyInProgress), "{refused}");
    rekey(&device).unwrap();
    assert_eq!(mark(&read_only(&device)), 1);
}

#[test]
fn a_header_exported_during_a_rekey_can_be_imported_afterwards() {
    let (device, ..) = world(20);
    begin(&device);
    let exported = export(&device);
    rekey(&device).unwrap();
    for position in HEADERS {
        device.write(position, &[0x55; BLOCK_SIZE]).unwrap();
    }
    assert!(Store::import_header_device(&device, &exported, false).is_err());
    assert!(Store::import_header_device(&device, &exported, true).unwrap().is_older);
    let store = read_only(&device);
    assert!(store.header().rekey.is_none());
    assert_eq!(mark(&store), 1);
}

#[test]
fn a_redo_list_under_a_header_of_a_rekey_stops_it_before_anything_is_written() {
    let (device, blocks, _) = world(20);
    let (_, mut killed) = writer(&device);
    change_block(&mut killed, blocks[1].position, 99).unwrap();
    commit(&mut killed, 7).unwrap();
    drop(killed);
    let backup = device.snapshot();
    let (_, mut continued) = writer(&device);
    commit(&mut continued, 8).unwrap();
    // The shadow block and both copies of the block of the list.
    continued.wipe(&[Run::new(Position::at(28), 3).unwrap()]).unwrap();
    continued.finish().unwrap();
    begin(&device);
    let exported = export(&device);
    let headers = HEADERS.map(|position| raw(&device, position));
    device.restore(&backup);
    assert!(Store::import_header_device(&device, &exported, true).is_err());
    for (position, header) in HEADERS.iter().zip(&headers) {
        device.write(*position, header).unwrap();
    }
    let error = rekey(&device).unwrap_err();
    assert!(matches!(&error, Error::Damaged(fault) if fault.check == Check::RedoList), "{error}");
    assert_eq!(mark(&read_only(&device)), 7);
}

#[test]
fn a_header_of_an_unfinished_rekey_is_not_imported_as_an_older_one() {
    let (device, ..) = world(600);
    let before = device.snapshot();
    let is_unfinished = (0..100).any(|operations| {
        device.restore(&before);
        interrupt_after(&device, operations);
        read_only(&device).current().slot.rekey_watermark > 8
    });
    assert!(is_unfinished, "a window is done");
    let exported = export(&device);
    // A header of the next revision, written by a holder of the key, makes the exported one older.
    let opened = open_header(&device, &secret()).unwrap();
    let mut newer = opened.header.clone();
    newer.revision += 1;
    let newer = newer.encode(&HeaderKey::derive(&opened.master, newer.archive));
    for position in HEADERS {
        device.write(position, &newer[..]).unwrap();
    }
    let refused = Store::import_header_device(&device, &exported, true).unwrap_err();
    let Error::Tampered(fault) = &refused else { panic!("{refused}") };
    assert_eq!(fault.check, Check::HeaderRevision);
    for position in HEADERS {
        assert_eq!(raw(&device, position), newer[..], "nothing was written");
    }
}
