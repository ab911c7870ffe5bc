//! Wiping, keys, rekeying and receipts.

use std::fs;
use std::ops::ControlFlow;

use ar7::{Archive, Derivation, Error, Key, Receipt};

use crate::common::{assert_verified, create, key, pattern};

#[test]
fn a_callback_of_wipe_free_may_use_the_archive() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &pattern(500_000, 1)[..]).unwrap();
    transaction.commit().unwrap();
    let transaction = archive.begin().unwrap();
    transaction.remove("file").unwrap();
    transaction.commit().unwrap();
    let mut calls = 0_u64;
    let wiped = archive.wipe_free(|_| {
        calls += 1;
        let transaction = archive.begin().unwrap();
        transaction.write("calls", &calls.to_be_bytes()[..]).unwrap();
        transaction.commit().unwrap();
    });
    assert!(wiped.unwrap() > 100);
    let snapshot = archive.snapshot().unwrap();
    assert_eq!(snapshot.read("calls").unwrap(), calls.to_be_bytes());
    assert_verified(&archive);
}

#[test]
fn each_key_opens_the_archive_until_it_is_removed() {
    let (_folder, path, archive) = create();
    let cheap = Derivation::new(64, 1, 1).unwrap();
    let other = Key::passphrase("correct horse battery staple");
    assert_eq!(archive.add_key(&other, cheap, "laptop").unwrap(), 1);
    let [first, second] = &archive.keys()[..] else { panic!("two keys") };
    assert_eq!((first.number, first.is_passphrase), (0, false));
    assert_eq!((second.label.as_str(), second.is_passphrase), ("laptop", true));
    archive.close().unwrap();
    let archive = Archive::options().write(true).open(&path, &other).unwrap();
    archive.remove_key(0).unwrap();
    assert!(matches!(archive.remove_key(1), Err(Error::OnlyKey { number: 1 })));
    let new = Key::generate().unwrap();
    archive.change_key(1, &new, cheap, "desktop").unwrap();
    archive.close().unwrap();
    for gone in [&key(), &other] {
        assert!(matches!(Archive::open(&path, gone), Err(Error::WrongKey { slots: 1 })));
    }
    let again = Key::from(*new.as_bytes().expect("a raw key"));
    let archive = Archive::options().write(true).open(&path, &again).unwrap();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &b"content"[..]).unwrap();
    transaction.commit().unwrap();
    archive.close().unwrap();
    let rekeyed = Archive::options().rekey(&path, &again, |_| ControlFlow::Continue(())).unwrap();
    assert!(rekeyed.blocks > 0);
    let archive = Archive::open(&path, &again).unwrap();
    assert_eq!(archive.snapshot().unwrap().read("file").unwrap(), b"content");
    assert_verified(&archive);
}

#[test]
fn a_receipt_detects_an_older_copy() {
    let (_folder, path, archive) = create();
    archive.close().unwrap();
    let older = fs::read(&path).unwrap();
    let archive = Archive::options().write(true).open(&path, &key()).unwrap();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &b"content"[..]).unwrap();
    transaction.commit().unwrap();
    let line = archive.receipt().unwrap().to_string();
    archive.close().unwrap();
    let receipt: Receipt = line.parse().unwrap();
    let archive = Archive::open(&path, &key()).unwrap();
    assert_eq!(receipt.archive(), archive.id());
    archive.check_receipt(&receipt).unwrap();
    drop(archive);
    fs::write(&path, older).unwrap();
    let archive = Archive::open(&path, &key()).unwrap();
    let found = archive.check_receipt(&receipt).unwrap_err();
    assert!(matches!(found, Error::NotInHistory { .. }), "{found}");
    assert!(matches!("a line".parse::<Receipt>(), Err(Error::NotAReceipt { .. })));
}

#[test]
fn a_verification_can_be_stopped() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &pattern(500_000, 1)[..]).unwrap();
    transaction.commit().unwrap();
    let stopped = archive.verify(|_| {}, |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped, Error::Stopped));
}

#[test]
fn an_exported_header_restores_a_damaged_one_unless_it_is_older() {
    let (_folder, path, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &b"content"[..]).unwrap();
    transaction.commit().unwrap();
    let header = archive.export_header();
    archive.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    for block in [0, 7] {
        bytes[block * 4096..][..4096].fill(0);
    }
    fs::write(&path, &bytes).unwrap();
    Archive::open(&path, &key()).unwrap_err();
    let wrong = Archive::options().import_header(&path, &Key::from([1; 32]), &header);
    assert!(matches!(wrong, Err(Error::WrongKey { .. })));
    Archive::options().import_header(&path, &key(), &header).unwrap();
    let archive = Archive::options().write(true).open(&path, &key()).unwrap();
    assert_eq!(archive.snapshot().unwrap().read("file").unwrap(), b"content");
    archive.add_key(&Key::from([2; 32]), Derivation::default(), "new").unwrap();
    archive.close().unwrap();
    Archive::options().import_header(&path, &key(), &header).unwrap_err();
    Archive::open(&path, &Key::from([2; 32])).unwrap();
}

#[test]
fn an_older_header_is_in_place_if_its_commit_fails_and_the_next_writer_makes_the_commit() {
    let (_folder, path, archive) = create();
    let older = archive.export_header();
    let new = Key::from([2; 32]);
    archive.add_key(&new, Derivation::default(), "new").unwrap();
    archive.close().unwrap();
    let before = fs::read(&path).unwrap();
    let put = |blocks: [usize; 2], from: Option<&[u8]>| {
        let mut bytes = fs::read(&path).unwrap();
        for block in blocks {
            let range = block * 4096..(block + 1) * 4096;
            match from {
                Some(from) => bytes[range.clone()].copy_from_slice(&from[range]),
                None => bytes[range].fill(0),
            }
        }
        fs::write(&path, bytes).unwrap();
    };
    let import = || {
        let options = Archive::options().accept_older_header(true);
        options.import_header(&path, &key(), &older)
    };
    // Without one pair of meta slots, nothing is written on top of what is left.
    put([1, 3], None);
    for attempt in 0..2 {
        let failed = import().unwrap_err();
        assert!(matches!(failed, Error::Damaged(_)), "attempt {attempt}: {failed}");
        let reading = Archive::options().accept_lost_commit(true);
        assert!(matches!(reading.clone().open(&path, &new), Err(Error::WrongKey { slots: 1 })));
        assert_eq!(reading.open(&path, &key()).unwrap().keys().len(), 1);
    }
    put([1, 3], Some(&before));
    Archive::options().write(true).open(&path, &key()).unwrap().close().unwrap();
    put([0, 7], Some(&before));
    let tampered = Archive::open(&path, &key()).unwrap_err();
    assert!(matches!(tampered, Error::Tampered(_)), "{tampered}");
}
