//! No secret appears in debug output, in an error, or in the pages of a dropped key.

use std::fmt::Debug;

use super::{ARCHIVE, hex, master};
use crate::crypto::protected::Protected;
use crate::crypto::{
    HeaderKey, KeyDerivation, MasterKey, Passphrase, RawKey, ReceiptKey, Sealer, Secret,
    unwrap_master_key, unwrap_old_key, wrap_master_key, wrap_old_key,
};
use crate::device::MemoryDevice;
use crate::error::Error;
use crate::format::{KEY_SLOTS, KeySlot, Rekey};
use crate::store::{CreateOptions, ExportedHeader, NewKey, Store};

/// Bytes that do not appear in any text by chance.
const KEY: [u8; 32] = [0xc7; 32];
const WORDS: &str = "correct horse battery staple";

fn assert_hidden(what: &impl Debug) {
    for text in [format!("{what:?}"), format!("{what:#?}")] {
        for shown in ["199", "c7", "0xc7", "\\xc7", "horse", "104, 111, 114", "0, 1, 2, 3, 4, 5"] {
            assert!(!text.to_lowercase().contains(shown), "{shown} in {text}");
        }
    }
}

#[test]
fn secrets_are_not_printed() {
    let raw = RawKey::from_bytes(KEY);
    let secret = Secret::Key(raw.clone());
    let phrase = Secret::Passphrase(Passphrase::new(WORDS.as_bytes().to_vec()));
    assert_hidden(&raw);
    assert_hidden(&(&secret, &phrase));
    let master = MasterKey::from_bytes(KEY);
    assert_hidden(&master);
    assert_hidden(&(HeaderKey::derive(&master, ARCHIVE), ReceiptKey::derive(&master, ARCHIVE)));
    assert_eq!(format!("{:?}", HeaderKey::derive(&master, ARCHIVE)), "HeaderKey(..)");
    assert_eq!(format!("{:?}", Sealer::new(&master, ARCHIVE)), {
        format!("Sealer {{ archive: {ARCHIVE:?}, .. }}")
    });
    let derivation = KeyDerivation::default();
    let new = NewKey { secret: &phrase, derivation: &derivation, label: "" };
    assert_hidden(&new);
}

#[test]
fn the_debug_output_of_an_open_archive_contains_no_key() {
    let secret = Secret::Key(RawKey::from_bytes(KEY));
    let device = Box::new(MemoryDevice::new());
    let (store, writer) = Store::create_device(device, &secret, &CreateOptions::default()).unwrap();
    let master = writer.master.as_bytes();
    let exported = ExportedHeader::open(&store.export_header()[..], &secret).unwrap();
    for text in [format!("{store:?}"), format!("{writer:?}"), format!("{exported:?}")] {
        // A leaked key would appear as a list of numbers or as hexadecimal digits.
        let numbers = format!("{:?}", &master[..4]);
        assert!(!text.contains(numbers.trim_matches(['[', ']'])), "{text}");
        assert!(!text.contains("MasterKey(["), "{text}");
    }
    assert!(format!("{writer:?}").contains("MasterKey(..)"));
}

#[test]
fn errors_about_keys_contain_no_key() {
    let mut slots = std::array::from_fn(|_| KeySlot::Empty);
    assert_eq!(slots.len(), KEY_SLOTS);
    let secret = Secret::Key(RawKey::from_bytes(KEY));
    let derivation = KeyDerivation::default();
    slots[0] = wrap_master_key(&master(), &secret, &derivation, ARCHIVE, 0, "").unwrap();
    let wrong = Secret::Passphrase(Passphrase::new(WORDS.as_bytes().to_vec()));
    let error = unwrap_master_key(&slots, &wrong, ARCHIVE).unwrap_err();
    assert_hidden(&error.to_string());
    let KeySlot::Used(slot) = &mut slots[0] else { panic!("a used slot") };
    slot.wrapped[0] ^= 1;
    let error = unwrap_master_key(&slots, &secret, ARCHIVE).unwrap_err();
    assert_hidden(&error.to_string());
    assert_hidden(&error);
}

#[test]
fn only_the_new_master_key_opens_the_old_one() {
    let (new, old) = (master(), MasterKey::from_bytes(KEY));
    let rekey = wrap_old_key(&new, &old, ARCHIVE, 3).unwrap();
    assert_eq!(unwrap_old_key(&new, &rekey, ARCHIVE).unwrap().as_bytes(), &KEY);
    let mut wrapped = rekey.wrapped;
    wrapped[0] ^= 1;
    for (key, changed, archive) in [
        (&old, rekey, ARCHIVE),
        (&new, Rekey { number: 4, ..rekey }, ARCHIVE),
        (&new, Rekey { wrapped, ..rekey }, ARCHIVE),
        (&new, rekey, uuid::Uuid::nil()),
    ] {
        let error = unwrap_old_key(key, &changed, archive).unwrap_err();
        assert!(matches!(error, Error::Tampered(_)), "{error}");
        assert_hidden(&error);
    }
    assert_hidden(&rekey.number);
}

#[test]
fn protected_bytes_are_kept_and_copied() {
    for length in [0, 1, 32, 5000] {
        let secret = vec![0x5a; length];
        let protected = Protected::new(&secret);
        let copy = protected.clone();
        drop(protected);
        assert_eq!(copy.bytes(), &secret[..]);
    }
    assert_eq!(Protected::new(&KEY).key(), &KEY);
    assert_eq!(hex("c7"), [KEY[0]]);
}

#[test]
#[cfg(target_os = "linux")]
fn keys_are_in_pages_excluded_from_core_dumps() {
    let protected = Protected::new(&KEY);
    let address = protected.bytes().as_ptr().addr();
    let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let mut flags = None;
    let mut inside = false;
    for line in maps.lines() {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let parse = |text: &str| usize::from_str_radix(text, 16).ok();
        if let Some((start, end)) = range.and_then(|(start, end)| parse(start).zip(parse(end))) {
            inside = (start..end).contains(&address);
        } else if inside && line.starts_with("VmFlags:") {
            flags = Some(line.to_owned());
        }
    }
    let flags = flags.expect("the mapping of the key");
    assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
}
