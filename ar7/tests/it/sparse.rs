//! Files with holes, which can be longer than the memory and the disk.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use ar7::fs::Ingest;
use ar7::{Archive, Error, Mode, READ_MAX};

use crate::common::{assert_verified, create};

const LENGTH: u64 = 1 << 40;

/// Where the file has content.
const CONTENT_AT: u64 = 1 << 30;

/// Stores a file of 1 TiB with a MiB of content.
fn store_sparse(archive: &Archive, folder: &Path) {
    let path = folder.join("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(LENGTH).unwrap();
    file.write_all_at(&vec![7; 1 << 20], CONTENT_AT).unwrap();
    Ingest::new().path(path).run(archive).unwrap();
}

#[test]
fn a_file_longer_than_the_limit_is_not_read_into_memory() {
    let (folder, _, archive) = create();
    store_sparse(&archive, folder.path());
    let snapshot = archive.snapshot().unwrap();
    let is_too_long = |error: Error, expected: u64| {
        let Error::FileTooLong { path, size_bytes, limit_bytes } = &error else {
            panic!("{error}");
        };
        assert_eq!(
            (path.as_path(), *size_bytes, *limit_bytes),
            (Path::new("sparse"), LENGTH, expected)
        );
        assert!(error.to_string().starts_with("sparse: "), "{error}");
    };
    is_too_long(snapshot.read("sparse").unwrap_err(), READ_MAX);
    let transaction = archive.begin().unwrap();
    is_too_long(transaction.read("sparse").unwrap_err(), READ_MAX);
    transaction.write("short", &b"content"[..]).unwrap();
    assert_eq!(transaction.read_up_to("short", 7).unwrap(), b"content");
    transaction.read_up_to("short", 6).unwrap_err();
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    assert_eq!(snapshot.read_up_to("short", 7).unwrap(), b"content");
    snapshot.read_up_to("short", 6).unwrap_err();
}

#[test]
fn a_byte_in_the_middle_of_a_hole_takes_little_space() {
    let (folder, path, archive) = create();
    store_sparse(&archive, folder.path());
    let transaction = archive.begin().unwrap();
    let mut reader = transaction.open("sparse", Mode::READ).unwrap();
    let mut writer = transaction.open("sparse", Mode::READ_WRITE).unwrap();
    let mut part = [0; 4];
    let mut read_at = |offset| {
        reader.seek(SeekFrom::Start(offset)).unwrap();
        reader.read_exact(&mut part).unwrap();
        part
    };
    assert_eq!(read_at(LENGTH / 2), [0; 4]);
    writer.write_at(LENGTH / 2, b"byte").unwrap();
    writer.write_at(CONTENT_AT + 9, b"A").unwrap();
    assert_eq!(read_at(LENGTH / 2), *b"byte");
    assert_eq!(read_at(CONTENT_AT + 8), [7, b'A', 7, 7]);
    let point = transaction.savepoint().unwrap();
    writer.set_len(CONTENT_AT + 100).unwrap();
    assert_eq!(transaction.metadata("sparse").unwrap().len, CONTENT_AT + 100);
    point.roll_back().unwrap();
    assert_eq!(transaction.metadata("sparse").unwrap().len, LENGTH);
    assert_eq!(read_at(LENGTH / 2 - 1), [0, b'b', b'y', b't']);
    writer.write_at(LENGTH / 2, b"BYTE").unwrap();
    assert_eq!(read_at(LENGTH / 2), *b"BYTE");
    drop((reader, writer));
    transaction.commit().unwrap();
    assert_verified(&archive);
    let mut file = archive.snapshot().unwrap().open("sparse").unwrap();
    assert_eq!(file.len().unwrap(), LENGTH);
    for (at, expected) in [(LENGTH / 2 - 1, *b"\0BYT"), (CONTENT_AT + 8, [7, b'A', 7, 7])] {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.read_exact(&mut part).unwrap();
        assert_eq!(part, expected);
    }
    archive.close().unwrap();
    let length = fs::metadata(path).unwrap().len();
    assert!(length < 2 << 20, "{length}");
}

#[test]
fn a_changed_file_with_holes_can_be_removed_replaced_and_renamed() {
    let (folder, _, archive) = create();
    store_sparse(&archive, folder.path());
    for number in 0..4_u8 {
        let transaction = archive.begin().unwrap();
        let mut file = transaction.open("sparse", Mode::READ_WRITE).unwrap();
        file.write_at(LENGTH, &[number; 100]).unwrap();
        match number {
            0 => transaction.rename("sparse", "moved").unwrap(),
            1 => transaction.remove("sparse").unwrap(),
            2 => {
                transaction.write("sparse", &b"content"[..]).unwrap();
            }
            _ => drop(transaction.savepoint().unwrap()),
        }
        if number == 1 {
            assert!(matches!(file.write_at(0, b"a"), Err(Error::Removed { .. })));
        }
        drop(file);
        transaction.commit().unwrap();
        assert_verified(&archive);
        store_sparse(&archive, folder.path());
    }
}
