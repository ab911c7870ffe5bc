//! Savepoints: a transaction returns to a point of itself, with its open files, and keeps what came before.

use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};
use std::thread;

use ar7::{Attributes, Error, File, Mode, Timestamp};

use crate::common::{assert_verified, create, pattern};

fn read(file: &mut File<'_>) -> Result<Vec<u8>, Error> {
    let mut content = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut content)?;
    Ok(content)
}

#[test]
fn names_attributes_streams_and_metadata_are_as_they_were() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.create_directory("kept").unwrap();
    let content = pattern(50_000, 1);
    transaction.write("kept/file", &content[..]).unwrap();
    transaction.set_archive_metadata(b"before").unwrap();
    let modified = Timestamp::new(7, 8);
    let attributes = Attributes::default().with_modified(modified);
    transaction.set_attributes("kept/file", attributes).unwrap();
    let mut stream = transaction.new_stream().unwrap();
    let id = stream.stream().unwrap().unwrap();
    stream.write_all(b"stream").unwrap();
    let metadata = transaction.metadata("kept/file").unwrap();
    let point = transaction.savepoint().unwrap();
    for _ in 0..3 {
        transaction.rename("kept/file", "moved").unwrap();
        transaction.open("moved", Mode::READ_WRITE).unwrap().write_at(4000, b"other").unwrap();
        transaction.remove("kept").unwrap();
        transaction.write("new", &content[..]).unwrap();
        transaction.set_archive_metadata(b"after").unwrap();
        stream.set_len(3).unwrap();
        let later = transaction.new_stream().unwrap().stream().unwrap().unwrap();
        point.roll_back().unwrap();
        assert_eq!(transaction.read("kept/file").unwrap(), content);
        assert_eq!(transaction.metadata("kept/file").unwrap(), metadata);
        assert_eq!(transaction.walk("").unwrap().count(), 2);
        assert_eq!(transaction.archive_metadata().unwrap(), b"before");
        assert_eq!(read(&mut stream).unwrap(), b"stream");
        let gone = transaction.stream(later, Mode::READ);
        assert!(matches!(gone, Err(Error::NoStream { stream }) if stream == later));
    }
    drop(stream);
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    assert_eq!(snapshot.read("kept/file").unwrap(), content);
    assert_eq!(
        (snapshot.streams().unwrap().count(), snapshot.archive_metadata()),
        (2, &b"before"[..])
    );
    assert_eq!(snapshot.stream(id).unwrap().len().unwrap(), 6);
    assert_verified(&archive);
}

#[test]
fn a_file_that_was_open_shows_the_content_of_the_point() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let content = pattern(9000, 1);
    for path in ["changed", "cut", "removed", "replaced", "emptied", "renamed"] {
        transaction.write(path, &content[..]).unwrap();
    }
    let open = |path: &str| transaction.open(path, Mode::READ_WRITE).unwrap();
    let mut files: Vec<File<'_>> =
        ["changed", "cut", "removed", "replaced", "emptied", "renamed"].map(open).into();
    let mut empty = transaction.open("empty", Mode::WRITE.plus()).unwrap();
    // Some have read blocks into their buffer.
    for file in &mut files {
        assert_eq!(file.fill_buf().unwrap()[..100], content[..100]);
    }
    let point = transaction.savepoint().unwrap();
    for round in 0..3 {
        files[0].write_at(10, b"other").unwrap();
        files[1].set_len(5000).unwrap();
        transaction.remove("removed").unwrap();
        transaction.write("replaced", &b"other"[..]).unwrap();
        transaction.write("emptied", &b""[..]).unwrap();
        transaction.rename("renamed", "new").unwrap();
        empty.write_all(b"no longer empty").unwrap();
        for gone in &mut files[2..5] {
            assert!(matches!(read(gone), Err(Error::Removed { .. })), "{round}");
        }
        point.roll_back().unwrap();
        for file in &mut files {
            assert_eq!(read(file).unwrap(), content, "{}", file.name());
        }
        assert!(empty.is_empty().unwrap());
    }
    // They can be written again, at the offset that they had.
    for file in &mut files {
        file.seek(SeekFrom::Start(8000)).unwrap();
    }
    point.roll_back().unwrap();
    for file in &mut files {
        file.write_all(&[7; 2000]).unwrap();
    }
    empty.write_at(0, b"new").unwrap();
    drop((files, empty));
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    let expected = [&content[..8000], &[7; 2000]].concat();
    for path in ["changed", "cut", "removed", "replaced", "emptied", "renamed"] {
        assert_eq!(snapshot.read(path).unwrap(), expected, "{path}");
    }
    assert_eq!(snapshot.read("empty").unwrap(), b"new");
    assert_verified(&archive);
}

#[test]
fn a_file_that_was_opened_later_fails() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("kept", &b"content"[..]).unwrap();
    let point = transaction.savepoint().unwrap();
    let mut kept = transaction.open("kept", Mode::READ_WRITE).unwrap();
    let mut made = transaction.open("made", Mode::CREATE_NEW.plus()).unwrap();
    let stream = transaction.new_stream().unwrap();
    point.roll_back().unwrap();
    // This file has the inode number that the other one had.
    transaction.write("other", &b"other content"[..]).unwrap();
    for file in [&mut kept, &mut made] {
        let name = file.name().to_owned();
        let refused = read(file);
        assert!(matches!(&refused, Err(Error::RolledBack { name: found }) if *found == name));
        assert!(matches!(file.write_at(0, b"x"), Err(Error::RolledBack { .. })));
        assert_eq!(file.write(b"x").unwrap_err().kind(), std::io::ErrorKind::NotFound);
    }
    assert!(matches!(stream.len(), Err(Error::RolledBack { .. })));
    assert_eq!(transaction.read("kept").unwrap(), b"content");
    assert_eq!(transaction.read("other").unwrap(), b"other content");
    let later = transaction.open("kept", Mode::READ).unwrap();
    assert_eq!(later.len().unwrap(), 7);
}

#[test]
fn a_file_that_was_removed_before_the_point_stays_removed() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    for path in ["removed", "replaced"] {
        transaction.write(path, &b"content"[..]).unwrap();
    }
    let removed = transaction.open("removed", Mode::READ).unwrap();
    let replaced = transaction.open("replaced", Mode::READ).unwrap();
    assert_eq!((removed.len().unwrap(), replaced.len().unwrap()), (7, 7));
    transaction.remove("removed").unwrap();
    transaction.write("replaced", &b"other content"[..]).unwrap();
    let point = transaction.savepoint().unwrap();
    transaction.write("new", &b"new"[..]).unwrap();
    for _ in 0..2 {
        assert!(matches!(removed.len(), Err(Error::Removed { .. })));
        assert!(matches!(replaced.len(), Err(Error::Removed { .. })));
        point.roll_back().unwrap();
    }
}

#[test]
fn a_return_to_an_outer_point_ends_the_inner_ones() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let write = |text: &str| transaction.write("file", text.as_bytes()).unwrap();
    let outer = transaction.savepoint().unwrap();
    write("one");
    let middle = transaction.savepoint().unwrap();
    write("two");
    let inner = transaction.savepoint().unwrap();
    write("three");
    inner.roll_back().unwrap();
    assert_eq!(transaction.read("file").unwrap(), b"two");
    middle.roll_back().unwrap();
    let gone = inner.roll_back().unwrap_err();
    assert!(matches!(gone, Error::NoSavepoint));
    assert_eq!(gone.kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(transaction.read("file").unwrap(), b"one", "the refused call changed nothing");
    write("four");
    middle.roll_back().unwrap();
    assert_eq!(transaction.read("file").unwrap(), b"one");
    outer.roll_back().unwrap();
    assert!(matches!(middle.roll_back(), Err(Error::NoSavepoint)));
    assert!(!transaction.exists("file").unwrap());
    // Savepoints that are still in scope do not keep the transaction from its end.
    transaction.commit().unwrap();
    assert!(!archive.snapshot().unwrap().exists("file").unwrap());
}

#[test]
fn a_transaction_that_returns_to_its_beginning_commits_nothing() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &pattern(100_000, 1)[..]).unwrap();
    transaction.commit().unwrap();
    let before = archive.statistics().unwrap();
    let transaction = archive.begin().unwrap();
    let point = transaction.savepoint().unwrap();
    transaction.write("other", &pattern(3_000_000, 2)[..]).unwrap();
    transaction.remove("file").unwrap();
    point.roll_back().unwrap();
    transaction.commit().unwrap();
    let after = archive.statistics().unwrap();
    assert_eq!((after.commit, after.blocks), (before.commit, before.blocks));
    assert_verified(&archive);
}

#[test]
fn attempts_that_are_undone_do_not_make_the_file_grow() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    for number in 0..300_usize {
        let point = transaction.savepoint().unwrap();
        transaction.write("file", &pattern(200_000, number)[..]).unwrap();
        if number % 10 != 0 {
            point.roll_back().unwrap();
        }
    }
    transaction.commit().unwrap();
    assert_eq!(archive.snapshot().unwrap().read("file").unwrap(), pattern(200_000, 290));
    let blocks = archive.statistics().unwrap().blocks;
    assert!(blocks < 1200, "{blocks} blocks for a file of 50");
    assert_verified(&archive);
}

#[test]
fn threads_that_write_wait_for_a_return_to_a_savepoint() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    for path in ["one", "two"] {
        transaction.write(path, &pattern(20_000, 1)[..]).unwrap();
    }
    thread::scope(|scope| {
        for path in ["one", "two"] {
            let transaction = &transaction;
            let mut file = transaction.open(path, Mode::READ_WRITE).unwrap();
            let write = move || {
                for number in 0..400_usize {
                    file.write_at(0, &pattern(20_000, number)).unwrap();
                    let mut found = vec![0; 20_000];
                    assert_eq!(file.read_at(0, &mut found).unwrap(), 20_000);
                    // Another thread may have returned to a savepoint, but the content is of one write.
                    let salt = usize::from(found[0]);
                    assert!(found == pattern(20_000, salt), "{path} has one version");
                }
            };
            scope.spawn(write);
        }
        for _ in 0..50 {
            let point = transaction.savepoint().unwrap();
            thread::yield_now();
            point.roll_back().unwrap();
        }
    });
    transaction.commit().unwrap();
    assert_verified(&archive);
}
