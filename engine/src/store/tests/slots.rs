//! Changes of key slots, with and without a crash, and imported headers.

use sha2::{Digest as _, Sha256};

use super::faults::{Fault, Faulty, assert_poisoned};
use super::*;
use crate::crypto::{KeyDerivation, Passphrase};
use crate::error::{Check, Error};
use crate::format::{
    BLOCK_SIZE, DerivationCost, HEADERS, KEY_SLOTS, KeySlot, header_layout, key_slot_layout,
};

pub(super) fn key(byte: u8) -> Secret {
    Secret::Key(RawKey::from_bytes([byte; 32]))
}

fn costs(memory_kib: u32, passes: u32) -> KeyDerivation {
    KeyDerivation::new(DerivationCost { memory_kib, passes, lanes: 1 }).unwrap()
}

pub(super) fn add(writer: &mut Writer, secret: &Secret, label: &str) -> Result<usize> {
    writer.add_key(&NewKey { secret, derivation: &costs(8, 1), label })
}

fn open_with(device: &MemoryDevice, secret: &Secret) -> Result<Arc<Store>> {
    let device = Box::new(device.clone());
    Store::open_device(device, secret, OpenOptions::default()).map(|(store, _)| store)
}

fn assert_wrong_key(device: &MemoryDevice, secret: &Secret) {
    let error = open_with(device, secret).expect_err("opening must fail");
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
}

fn assert_tampered(error: &Error, check: Check) {
    assert!(matches!(error, Error::Tampered(fault) if fault.check == check), "{error}");
}

fn slot_bytes(device: &MemoryDevice, position: Position, number: usize) -> Vec<u8> {
    let slots = header_layout::SLOTS.of(&raw(device, position)).to_vec();
    slots[number * key_slot_layout::SIZE..][..key_slot_layout::SIZE].to_vec()
}

pub(super) fn put_headers(device: &MemoryDevice, bytes: &[Vec<u8>]) {
    for (position, bytes) in HEADERS.into_iter().zip(bytes) {
        device.write(position, bytes).unwrap();
    }
}

fn headers(device: &MemoryDevice) -> Vec<Vec<u8>> {
    HEADERS.into_iter().map(|position| raw(device, position)).collect()
}

#[test]
fn keys_are_added_changed_relabelled_and_removed() {
    let (device, store, mut writer) = create();
    let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    commit(&mut writer, 1).unwrap();
    let phrase = Secret::Passphrase(Passphrase::new(b"open".to_vec()));
    assert_eq!(add(&mut writer, &phrase, "phrase").unwrap(), 1);
    assert_eq!(add(&mut writer, &key(5), "five").unwrap(), 2);
    assert_eq!(writer.relabel_key(&phrase, "renamed").unwrap(), 1);
    let new = NewKey { secret: &key(6), derivation: &costs(8, 1), label: "six" };
    writer.change_key(2, &new).unwrap();
    writer.remove_key(0).unwrap();
    assert_eq!(store.header().revision, 6);
    // The writer continues: its next commit names the current header.
    change_block(&mut writer, block.position, 2).unwrap();
    commit(&mut writer, 2).unwrap();
    // This commit clears the redo list.
    commit(&mut writer, 2).unwrap();
    writer.finish().unwrap();
    for (secret, number, label) in [(&phrase, 1, "renamed"), (&key(6), 2, "six")] {
        let store = open_with(&device, secret).unwrap();
        assert!(store.recovery().is_clean(), "{:?}", store.recovery());
        assert_eq!((store.key_slot(), mark(&store)), (number, 2));
        let header = store.header();
        assert!(matches!(&header.slots[number], KeySlot::Used(slot) if *slot.label == *label));
    }
    assert_wrong_key(&device, &secret());
    assert_wrong_key(&device, &key(5));
    for position in HEADERS {
        assert_eq!(slot_bytes(&device, position, 0), [0; key_slot_layout::SIZE], "overwritten");
    }
}

#[test]
fn an_impossible_change_of_key_slots_fails_and_changes_nothing() {
    let (device, store, mut writer) = create();
    assert!(matches!(writer.remove_key(0), Err(Error::LastKeySlot { number: 0 })));
    for number in [1, 7, 8, usize::MAX] {
        assert!(matches!(writer.remove_key(number), Err(Error::NoKeySlot { .. })));
        let new = NewKey { secret: &key(5), derivation: &costs(8, 1), label: "" };
        assert!(matches!(writer.change_key(number, &new), Err(Error::NoKeySlot { .. })));
    }
    assert!(matches!(writer.relabel_key(&key(5), "five"), Err(Error::WrongKey { .. })));
    assert!(matches!(add(&mut writer, &key(5), &"x".repeat(65)), Err(Error::OutOfBounds { .. })));
    // Passphrases whose costs together exceed the bound for opening.
    let phrase = Secret::Passphrase(Passphrase::new(b"a".to_vec()));
    let most = NewKey { secret: &phrase, derivation: &costs(8, 64), label: "" };
    assert_eq!(writer.add_key(&most).unwrap(), 1);
    let before = headers(&device);
    let error = writer.add_key(&most).unwrap_err();
    assert!(matches!(error, Error::OutOfBounds { what, .. } if what.contains("passes")), "{error}");
    // A transaction with changes: a commit of the header would commit half of it.
    add_block(&mut writer, KeyKind::Data, 1).unwrap();
    assert!(matches!(add(&mut writer, &key(5), ""), Err(Error::Uncommitted)));
    writer.rollback().unwrap();
    assert_eq!(headers(&device), before);
    for number in 2..KEY_SLOTS {
        assert_eq!(add(&mut writer, &key(5), "").unwrap(), number);
    }
    assert!(matches!(add(&mut writer, &key(5), ""), Err(Error::Full { limit: 8, .. })));
    store.check_usable().unwrap();
}

#[test]
fn an_older_header_or_key_slot_put_back_is_tampering() {
    let (device, _, mut writer) = create();
    let removed = key(5);
    add(&mut writer, &removed, "").unwrap();
    let before = headers(&device);
    writer.remove_key(1).unwrap();
    writer.finish().unwrap();
    let after = headers(&device);
    // Both copies are older. Neither the removed key nor the remaining one opens them.
    put_headers(&device, &before);
    for secret in [&removed, &secret()] {
        assert_tampered(&open_with(&device, secret).unwrap_err(), Check::HeaderRevision);
    }
    // One copy is older. It needs repair, and the removed key does not open it.
    for at in 0..HEADERS.len() {
        put_headers(&device, &after);
        device.write(HEADERS[at], &before[at]).unwrap();
        assert_eq!(
            open_with(&device, &secret()).unwrap().recovery().outdated_headers,
            [HEADERS[at]]
        );
        assert_wrong_key(&device, &removed);
    }
    // Only the key slot is older. Anyone can compute the checksum.
    for at in 0..HEADERS.len() {
        put_headers(&device, &after);
        let mut forged = after[at].clone();
        let slot = slot_of(&before[at]);
        header_layout::SLOTS.of_mut(&mut forged)[key_slot_layout::SIZE..][..slot.len()]
            .copy_from_slice(&slot);
        sign(&mut forged);
        device.write(HEADERS[at], &forged).unwrap();
        assert_tampered(&open_with(&device, &secret()).unwrap_err(), Check::HeaderMac);
    }
}

/// The bytes of slot 1.
fn slot_of(header: &[u8]) -> Vec<u8> {
    header_layout::SLOTS.of(header)[key_slot_layout::SIZE..2 * key_slot_layout::SIZE].to_vec()
}

fn sign(header: &mut [u8]) {
    let checksum = Sha256::digest(&header[..header_layout::CHECKSUM.offset]);
    header_layout::CHECKSUM.put(header, &checksum);
}

#[test]
fn a_destroyed_key_slot_in_one_copy_is_tampering_and_not_a_wrong_key() {
    let device = { create().0 };
    let good = headers(&device);
    for (at, position) in HEADERS.into_iter().enumerate() {
        put_headers(&device, &good);
        let mut forged = good[at].clone();
        let commitment = header_layout::SLOTS.offset + key_slot_layout::COMMITMENT.offset;
        forged[commitment] ^= 1;
        sign(&mut forged);
        device.write(position, &forged).unwrap();
        assert_tampered(&open_with(&device, &secret()).unwrap_err(), Check::HeaderMac);
    }
}

#[test]
fn a_crash_in_a_change_of_key_slots_leaves_the_old_keys_or_the_new_ones() {
    for fault in [Fault::Nothing, Fault::Torn, Fault::Late] {
        let mut outcomes = [0, 0];
        for operation in 0.. {
            let (device, _, mut writer) = create();
            let block = add_block(&mut writer, KeyKind::Data, 1).unwrap();
            commit(&mut writer, 1).unwrap();
            add(&mut writer, &key(5), "").unwrap();
            writer.finish().unwrap();
            let faulty = Faulty::on(&device, fault);
            let (_, mut writer) = self::writer(&faulty);
            faulty.fail_after(operation);
            let new = NewKey { secret: &key(6), derivation: &costs(8, 1), label: "" };
            let changed = writer.change_key(1, &new);
            if changed.is_ok() {
                assert!(operation >= 6, "only {operation} operations");
                break;
            }
            assert_poisoned(writer.change_key(1, &new));
            drop(writer);
            let opens = [open_with(&device, &key(5)).is_ok(), open_with(&device, &key(6)).is_ok()];
            assert!(opens[0] != opens[1], "{fault:?} {operation}: {opens:?}");
            outcomes[usize::from(opens[1])] += 1;
            // The next writer completes the change: both copies hold the header, and the commit names it.
            let (store, writer) = self::writer(&device);
            assert_eq!(read(&store, block).unwrap(), 1);
            writer.finish().unwrap();
            drop(store);
            let [first, second] = &headers(&device)[..] else { panic!("two copies") };
            assert_eq!(first, second);
            let winner = if opens[1] { key(6) } else { key(5) };
            let store = open_with(&device, &winner).unwrap();
            assert!(store.recovery().is_clean(), "{:?}", store.recovery());
            assert_eq!(store.current().slot.header_revision, store.header().revision);
        }
        assert!(outcomes[0] > 0 || fault == Fault::Late, "{fault:?}: {outcomes:?}");
        assert!(outcomes[1] > 0, "{fault:?}: {outcomes:?}");
    }
}

pub(super) fn import(device: &MemoryDevice, bytes: &[u8], older: bool) -> Result<HeaderImport> {
    Store::import_header_device(device, &ExportedHeader::open(bytes, &secret())?, older)
}

#[test]
fn an_exported_header_restores_a_destroyed_one() {
    let (device, store, mut writer) = create();
    add(&mut writer, &key(5), "").unwrap();
    let exported = store.export_header();
    let good = headers(&device);
    writer.finish().unwrap();
    for destroyed in [&HEADERS[..], &HEADERS[..1], &HEADERS[1..], &[]] {
        for &position in destroyed {
            device.write(position, &[0x55; BLOCK_SIZE]).unwrap();
        }
        let imported = import(&device, &exported[..], false).unwrap();
        assert_eq!(
            imported,
            HeaderImport {
                revision: 2,
                is_older: false,
                may_have_held_newer: None,
                only_copy: None
            }
        );
        assert_eq!(headers(&device), good);
        assert!(open_with(&device, &key(5)).unwrap().recovery().is_clean());
    }
}

#[test]
fn an_older_header_is_imported_only_with_accept_older() {
    let (device, store, mut writer) = create();
    add(&mut writer, &key(5), "").unwrap();
    let exported = store.export_header();
    writer.remove_key(1).unwrap();
    writer.finish().unwrap();
    drop(store);
    let before = headers(&device);
    assert_tampered(&import(&device, &exported[..], false).unwrap_err(), Check::HeaderRevision);
    assert_eq!(headers(&device), before);
    // Both copies are lost, and only the older header is left.
    put_headers(&device, &[vec![0; BLOCK_SIZE], vec![0; BLOCK_SIZE]]);
    assert_tampered(&import(&device, &exported[..], false).unwrap_err(), Check::HeaderRevision);
    let imported = import(&device, &exported[..], true).unwrap();
    assert_eq!(
        imported,
        HeaderImport { revision: 4, is_older: true, may_have_held_newer: None, only_copy: None }
    );
    assert_eq!(open_with(&device, &key(5)).unwrap().header().revision, 4);
    let (store, writer) = self::writer(&device);
    assert_eq!(store.current().slot.header_revision, 4, "the unfinished change is completed");
    writer.finish().unwrap();
}

#[test]
fn headers_of_other_archives_and_damaged_or_forged_headers_are_not_imported() {
    let device = { create().0 };
    let (_, other, _other_writer) = create();
    let before = device.to_bytes();
    let error = import(&device, &other.export_header()[..], true).unwrap_err();
    assert!(matches!(&error, Error::Damaged(fault) if fault.check == Check::MetaSlot), "{error}");
    let authentic = raw(&device, HEADERS[0]);
    let mut forged = authentic.clone();
    forged[header_layout::CREATED_SECONDS.offset] ^= 1;
    sign(&mut forged);
    assert_tampered(&import(&device, &forged, true).unwrap_err(), Check::HeaderMac);
    let mut corrupted = authentic.clone();
    corrupted[300] ^= 1;
    assert!(matches!(import(&device, &corrupted, true), Err(Error::Damaged(_))));
    let long = [&authentic[..], &[0]].concat();
    for bytes in [&[][..], &authentic[..4095], &long] {
        assert!(matches!(import(&device, bytes, true), Err(Error::OutOfBounds { .. })));
    }
    assert!(matches!(ExportedHeader::open(&authentic, &key(5)), Err(Error::WrongKey { .. })));
    let short = MemoryDevice::from_bytes(&before[..5000]);
    assert!(matches!(import(&short, &authentic, true), Err(Error::Truncated { .. })));
    assert!(device.to_bytes() == before, "nothing was written");
}

#[test]
fn no_key_opens_a_shredded_archive_and_no_wrapped_key_is_left() {
    let (device, _, mut writer) = create();
    add(&mut writer, &key(5), "").unwrap();
    let before = device.to_bytes();
    writer.finish().unwrap();
    Store::shred_device(&device).unwrap();
    for secret in [secret(), key(5)] {
        let error = open_with(&device, &secret).unwrap_err();
        assert!(matches!(error, Error::NotAnArchive { .. }), "{error}");
    }
    let after = device.to_bytes();
    let wrapped =
        header_layout::SLOTS.of(&before)[key_slot_layout::WRAPPED.offset..][..48].to_vec();
    assert!(before.windows(48).any(|bytes| bytes == wrapped));
    assert!(!after.windows(48).any(|bytes| bytes == wrapped));
    // The file is not an archive any more, so shredding it again changes nothing.
    assert!(matches!(Store::shred_device(&device), Err(Error::NotAnArchive { .. })));
    assert!(device.to_bytes() == after);
}

#[test]
fn shredding_can_be_repeated_after_a_crash_and_leaves_other_files_unchanged() {
    for operation in 0..4 {
        let device = { create().0 };
        let faulty = Faulty::on(&device, Fault::Torn);
        faulty.fail_after(operation);
        assert!(Store::shred_device(&faulty).is_err());
        if open_with(&device, &secret()).is_ok() {
            Store::shred_device(&device).unwrap();
        }
        assert!(open_with(&device, &secret()).is_err(), "{operation}");
    }
    for other in [&vec![0x55; 40_000][..], b"a text"] {
        let device = MemoryDevice::from_bytes(other);
        assert!(matches!(Store::shred_device(&device), Err(Error::NotAnArchive { .. })));
        assert!(device.to_bytes() == other);
    }
    // A file that contains an archive behind its first MiB is no archive.
    let image = [vec![0x55; 256 * BLOCK_SIZE], create().0.to_bytes()].concat();
    let device = MemoryDevice::from_bytes(&image);
    assert!(matches!(Store::shred_device(&device), Err(Error::NotAnArchive { .. })));
    assert!(device.to_bytes() == image);
    // A damaged header may still hold keys, so it is shredded too.
    let device = { create().0 };
    for position in HEADERS {
        corrupt(&device, position);
    }
    Store::shred_device(&device).unwrap();
    assert!(matches!(open_with(&device, &secret()), Err(Error::NotAnArchive { .. })));
}

#[test]
fn wiping_refuses_blocks_in_use_and_an_open_transaction() {
    let (device, store, mut writer) = create();
    let kept = add_block(&mut writer, KeyKind::Data, 1).unwrap();
    assert!(matches!(writer.wipe(&[]), Err(Error::Uncommitted)));
    assert!(matches!(writer.wipe_tail(), Err(Error::Uncommitted)));
    commit(&mut writer, 1).unwrap();
    change_block(&mut writer, kept.position, 2).unwrap();
    let newest = commit(&mut writer, 2).unwrap();
    // The blocks of the redo list, the header, and a block past the end.
    let listed = store.redo_blocks(&newest).unwrap();
    let beyond = Position::at(writer.block_count());
    let listed = listed.blocks.iter().map(crate::format::Run::start);
    for position in listed.chain([Position::at(0), beyond]) {
        let error = writer.wipe(&[crate::format::Run::single(position)]).unwrap_err();
        assert!(
            matches!(&error, Error::Damaged(fault) if fault.check == Check::FreeMap),
            "{error}"
        );
    }
    let step = writer.generation().step;
    assert!(writer.wipe_tail().unwrap().blocks > 0);
    assert!(writer.generation().step > step, "wiping raises the step");
    drop(writer);
    assert_eq!(mark(&read_only(&device)), 2);
}

#[test]
fn a_key_change_that_fails_after_its_first_write_reports_that_either_key_may_be_valid() {
    let mut opened_by = [0, 0];
    for fault in [Fault::Nothing, Fault::Torn, Fault::Late] {
        for operations in 0.. {
            let (device, _, mut made) = create();
            commit(&mut made, 1).unwrap();
            made.finish().unwrap();
            let faulty = Faulty::on(&device, fault);
            let (_, mut writer) = writer(&faulty);
            faulty.fail_after(operations);
            let new = NewKey { secret: &key(6), derivation: &costs(8, 1), label: "" };
            let outcome = writer.change_key(0, &new);
            if faulty.left().is_some() {
                outcome.unwrap();
                break;
            }
            let error = outcome.unwrap_err();
            assert!(matches!(error, Error::KeyChangeUnfinished { .. }), "{operations}: {error}");
            assert!(error.to_string().contains("either may be valid"), "{error}");
            drop(writer);
            let opens = [secret(), key(6)].map(|key| open_with(&device, &key).is_ok());
            assert_ne!(opens[0], opens[1], "one of the keys opens the archive");
            opened_by[usize::from(opens[1])] += 1;
        }
    }
    assert!(opened_by.iter().all(|&count| count > 0), "{opened_by:?}");
}
