//! A snapshot shows one commit for as long as it is held.

use std::io::{Read as _, Seek as _};

use ar7::{Archive, Mode};

use crate::common::{assert_verified, create, key, pattern};

#[test]
fn a_snapshot_keeps_names_and_content_that_later_commits_remove() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.create_directory("folder").unwrap();
    let content = pattern(50_000, 1);
    transaction.write("folder/file", &content[..]).unwrap();
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    let mut file = snapshot.open("folder/file").unwrap();
    for salt in 2..8 {
        let transaction = archive.begin().unwrap();
        transaction.write("folder/file", &pattern(50_000, salt)[..]).unwrap();
        transaction.commit().unwrap();
    }
    let transaction = archive.begin().unwrap();
    transaction.remove_all("folder").unwrap();
    transaction.write("other", &content[..]).unwrap();
    transaction.commit().unwrap();
    assert_eq!(snapshot.read("folder/file").unwrap(), content);
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    assert!(!snapshot.exists("other").unwrap());
    assert!(!archive.snapshot().unwrap().exists("folder").unwrap());
    assert!(archive.snapshot().unwrap().commit() > snapshot.commit());
    assert_verified(&archive);
}

#[test]
fn a_snapshot_stays_readable_after_the_archive_was_closed() {
    let (_folder, path, archive) = create();
    let content = pattern(600_000, 1);
    for number in 0..4 {
        let transaction = archive.begin().unwrap();
        transaction.write(format!("{number}"), &content[..]).unwrap();
        transaction.commit().unwrap();
    }
    let transaction = archive.begin().unwrap();
    transaction.remove("0").unwrap();
    transaction.remove("2").unwrap();
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    let mut file = snapshot.open("3").unwrap();
    archive.close().unwrap();
    assert_eq!(snapshot.read("1").unwrap(), content);
    file.rewind().unwrap();
    let mut read = Vec::new();
    file.read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    drop((snapshot, file));
    let archive = Archive::options().write(true).open(path, &key()).unwrap();
    assert_verified(&archive);
}

#[test]
fn a_dropped_transaction_leaves_nothing() {
    let (_folder, path, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("kept", &b"content"[..]).unwrap();
    transaction.commit().unwrap();
    let before = archive.statistics().unwrap();
    let transaction = archive.begin().unwrap();
    transaction.open("kept", Mode::WRITE).unwrap().write_at(0, b"other").unwrap();
    transaction.write("new", &pattern(100_000, 1)[..]).unwrap();
    drop(transaction);
    assert_eq!(archive.statistics().unwrap(), before);
    let transaction = archive.begin().unwrap();
    assert_eq!(transaction.read("kept").unwrap(), b"content");
    assert!(!transaction.exists("new").unwrap());
    drop(transaction);
    archive.close().unwrap();
    let snapshot = Archive::open(path, &key()).unwrap().snapshot().unwrap();
    assert_eq!(snapshot.read("kept").unwrap(), b"content");
}

#[test]
fn a_reader_moves_to_the_newest_commit_and_its_snapshots_stay() {
    let (_folder, path, archive) = create();
    let write = |content: &[u8]| {
        let transaction = archive.begin().unwrap();
        transaction.open("file", Mode::WRITE).unwrap().write_at(0, content).unwrap();
        transaction.commit().unwrap();
    };
    write(b"first");
    let reader = Archive::open(&path, &key()).unwrap();
    let first = reader.snapshot().unwrap();
    assert!(!reader.refresh().unwrap());
    for content in [&b"second"[..], b"third", b"fourth"] {
        write(content);
        assert!(reader.refresh().unwrap());
        assert_eq!(reader.snapshot().unwrap().read("file").unwrap(), content);
        assert_eq!(first.read("file").unwrap(), b"first");
    }
    assert!(!archive.refresh().unwrap());
    assert_verified(&archive);
}
