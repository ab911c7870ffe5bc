//! Importing a header: newer headers, the order of the copies, and other headers of the same revision.

use super::slots::{add, import, key, put_headers};
use super::*;
use crate::device::simulated::{Event, EventKind, SimulatedDisk};
use crate::error::Check;
use crate::format::{BLOCK_SIZE, HEADERS};

type Bytes = Box<[u8; BLOCK_SIZE]>;

/// An archive whose meta slots name its first header, and two different headers of the next revision, each with
/// another added key.
fn forked() -> (MemoryDevice, [Bytes; 2]) {
    let (device, _, mut writer) = create();
    commit(&mut writer, 1).unwrap();
    writer.finish().unwrap();
    let before = MemoryDevice::from_bytes(&device.to_bytes());
    let next = [5, 6].map(|byte| {
        let copy = MemoryDevice::from_bytes(&before.to_bytes());
        let (store, mut writer) = self::writer(&copy);
        add(&mut writer, &key(byte), "").unwrap();
        store.export_header()
    });
    (before, next)
}

fn check_imported(device: &MemoryDevice, header: &Bytes) {
    let imported = import(device, &header[..], false).unwrap();
    assert_eq!(
        imported,
        HeaderImport { revision: 2, is_older: false, may_have_held_newer: None, only_copy: None }
    );
    for position in HEADERS {
        assert_eq!(raw(device, position), header[..]);
    }
}

#[test]
fn a_newer_header_is_imported() {
    let (device, [newer, _]) = forked();
    check_imported(&device, &newer);
}

#[test]
fn a_header_that_no_commit_names_yet_is_imported_if_one_copy_holds_it() {
    let (device, [newer, _]) = forked();
    let bad = vec![0x55; BLOCK_SIZE];
    put_headers(&device, &[newer.to_vec(), bad]);
    check_imported(&device, &newer);
}

#[test]
fn another_header_of_the_same_revision_is_not_imported() {
    let (device, [newer, other]) = forked();
    put_headers(&device, &[newer.to_vec(), newer.to_vec()]);
    let error = import(&device, &other[..], false).unwrap_err();
    let Error::Tampered(fault) = &error else { panic!("{error}") };
    assert_eq!(fault.check, Check::HeaderRevision);
    for position in HEADERS {
        assert_eq!(raw(&device, position), newer[..], "nothing was written");
    }
}

#[test]
fn an_import_writes_the_bad_copy_first() {
    for (lost, kept) in [(HEADERS[0], HEADERS[1]), (HEADERS[1], HEADERS[0])] {
        let disk = SimulatedDisk::new();
        let options = CreateOptions::default();
        let (store, writer) =
            Store::create_device(Box::new(disk.clone()), &secret(), &options).unwrap();
        let exported = store.export_header();
        writer.finish().unwrap();
        drop(store);
        disk.write(lost, &[0x55; BLOCK_SIZE]).unwrap();
        let before = disk.log().len();
        let exported = ExportedHeader::open(&exported[..], &secret()).unwrap();
        Store::import_header_device(&disk, &exported, false).unwrap();
        let events: Vec<EventKind> = disk.log()[before..].iter().map(Event::kind).collect();
        let write = |position: Position| EventKind::Write(position.get());
        assert_eq!(events, [write(lost), EventKind::Sync, write(kept), EventKind::Sync]);
    }
}

#[test]
fn masked_keys_contain_every_key_under_the_mask() {
    let (_, store, _writer) = create();
    let exported = ExportedHeader::open(&store.export_header()[..], &secret()).unwrap();
    let plain = exported.masked_keys(&secret(), &[0; 32]).unwrap();
    let masked = exported.masked_keys(&secret(), &[0xff; 32]).unwrap();
    assert!(plain.len() >= 14, "{} keys", plain.len());
    for ((name, plain), (_, masked)) in plain.iter().zip(&masked) {
        assert!(plain.iter().zip(masked).all(|(plain, masked)| plain ^ masked == 0xff), "{name}");
    }
}
