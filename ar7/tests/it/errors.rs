//! Errors carry data, and keep their kind through `std::io::Error`.

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ar7::{Archive, Error, Key, Kind, Mode};

use crate::common::{create, key, pattern};

/// Checks the kind of an error, and that it survives `std::io::Error`.
fn assert_kind(error: Error, kind: ErrorKind) {
    let text = error.to_string();
    let through = io::Error::from(error);
    assert_eq!((through.kind(), through.to_string()), (kind, text.clone()));
    let back = Error::from(through);
    assert_eq!((back.kind(), back.to_string()), (kind, text));
}

#[test]
fn errors_of_opening_have_their_kinds() {
    let (folder, path, archive) = create();
    let missing = Archive::open(folder.path().join("missing"), &key()).unwrap_err();
    assert!(matches!(&missing, Error::Io { operation: "open", path: Some(_), .. }));
    assert_kind(missing, ErrorKind::NotFound);
    let exists = Archive::create(&path, &key()).unwrap_err();
    assert_kind(exists, ErrorKind::AlreadyExists);
    let locked = Archive::options().write(true).open(&path, &key()).unwrap_err();
    assert!(matches!(&locked, Error::Locked { path: Some(locked), .. } if *locked == path));
    assert_kind(locked, ErrorKind::ResourceBusy);
    archive.close().unwrap();
    let wrong = Archive::open(&path, &Key::from([1; 32])).unwrap_err();
    assert!(matches!(wrong, Error::WrongKey { slots: 1 }));
    assert_kind(wrong, ErrorKind::PermissionDenied);
    let text = folder.path().join("text");
    fs::write(&text, "a text file, not an archive").unwrap();
    let text = Archive::open(&text, &key()).unwrap_err();
    assert!(matches!(text, Error::NotAnArchive { .. }));
    assert_kind(text, ErrorKind::InvalidData);
}

#[test]
fn a_writer_waits_for_another_one_if_asked() {
    let (_folder, path, archive) = create();
    let begun = Instant::now();
    let wait = Duration::from_millis(100);
    let options = Archive::options().write(true).wait(wait);
    assert!(matches!(options.open(&path, &key()), Err(Error::Locked { .. })));
    assert!(begun.elapsed() >= wait);
    let waiting = std::thread::spawn(move || {
        let wait = Duration::from_mins(1);
        Archive::options().write(true).wait(wait).open(&path, &key()).map(drop)
    });
    archive.close().unwrap();
    waiting.join().unwrap().unwrap();
}

#[test]
fn errors_about_paths_name_the_path() {
    let (_folder, path, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.create_directories("a/b").unwrap();
    transaction.write("a/file", &b"content"[..]).unwrap();
    transaction.symlink("a/file", "a/link").unwrap();
    let missing = transaction.read("a/none").unwrap_err();
    assert!(matches!(&missing, Error::NotFound { path } if path.as_os_str() == "a/none"));
    assert_kind(missing, ErrorKind::NotFound);
    let exists = transaction.create_directory("a/b").unwrap_err();
    assert!(matches!(&exists, Error::AlreadyExists { path } if path.as_os_str() == "a/b"));
    assert_kind(exists, ErrorKind::AlreadyExists);
    let full = transaction.remove("a").unwrap_err();
    assert!(matches!(&full, Error::DirectoryNotEmpty { path } if path.as_os_str() == "a"));
    assert_kind(full, ErrorKind::DirectoryNotEmpty);
    let itself = transaction.rename("a", "a/b/c").unwrap_err();
    assert!(matches!(&itself, Error::IntoItself { path } if path.as_os_str() == "a"));
    assert_kind(itself, ErrorKind::InvalidInput);
    let below = transaction.write("a/file/below", &b""[..]).unwrap_err();
    assert_kind(below, ErrorKind::NotADirectory);
    assert_kind(transaction.read("a/b").unwrap_err(), ErrorKind::IsADirectory);
    assert_kind(transaction.read("a/link").unwrap_err(), ErrorKind::InvalidInput);
    assert_kind(transaction.create_directory("a/..").unwrap_err(), ErrorKind::InvalidInput);
    transaction.commit().unwrap();
    archive.close().unwrap();
    let reader = Archive::open(path, &key()).unwrap();
    assert_kind(reader.begin().unwrap_err(), ErrorKind::ReadOnlyFilesystem);
    let snapshot = reader.snapshot().unwrap();
    let mut file = snapshot.open("a/file").unwrap();
    let refused = io::Write::write(&mut file, b"x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    assert!(matches!(Error::from(refused), Error::NotInMode { operation: "writing", .. }));
}

#[test]
fn a_second_transaction_of_the_process_waits_or_is_refused() {
    let (_folder, _, archive) = create();
    let first = archive.begin().unwrap();
    let refused = archive.try_begin().unwrap_err();
    assert!(matches!(refused, Error::InTransaction));
    assert_kind(refused, ErrorKind::ResourceBusy);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| {
            let second = archive.begin().unwrap();
            // The first one has committed by now.
            assert_eq!(second.read("file").unwrap(), b"of the first");
        });
        first.write("file", &b"of the first"[..]).unwrap();
        first.commit().unwrap();
        second.join().unwrap();
    });
    archive.try_begin().unwrap();
}

#[test]
fn a_damaged_block_is_invalid_data_and_costs_only_its_bytes() {
    let (_folder, path, archive) = create();
    let transaction = archive.begin().unwrap();
    let content = pattern(5 * 4008, 1);
    transaction.write("file", &content[..]).unwrap();
    transaction.write("other", &content[..]).unwrap();
    transaction.commit().unwrap();
    archive.close().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let before = bytes.clone();
    let is_readable = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let reader = Archive::open(&path, &key()).ok()?;
        let snapshot = reader.snapshot().ok()?;
        Some([snapshot.read("file"), snapshot.read("other")])
    };
    let mut damaged = 0;
    for block in 8..bytes.len() / 4096 {
        bytes[block * 4096 + 100] ^= 1;
        for outcome in is_readable(&bytes).into_iter().flatten() {
            match outcome {
                Ok(found) => assert!(found == content),
                Err(error) => {
                    assert!(matches!(error, Error::Damaged(_)), "{error}");
                    assert_kind(error, ErrorKind::InvalidData);
                    damaged += 1;
                }
            }
        }
        bytes[block * 4096 + 100] ^= 1;
    }
    assert!(damaged >= 10, "each block of both files: {damaged}");
    assert!(bytes == before);
}

#[test]
fn kinds_and_modes_forbid_what_they_forbid() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("single.ar7");
    let options = Archive::options().create(true).kind(Kind::Single);
    let archive = options.open(&path, &key()).unwrap();
    let transaction = archive.begin().unwrap();
    let refused = transaction.new_stream().unwrap_err();
    assert!(matches!(&refused, Error::KindForbids { kind: Kind::Single, .. }));
    assert_kind(refused, ErrorKind::Unsupported);
    let mut data = transaction.stream(ar7::uuid::Uuid::nil(), Mode::WRITE).unwrap();
    data.write_at(0, b"the one stream").unwrap();
    let refused = data.read(&mut [0; 4]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    drop(data);
    transaction.commit().unwrap();
    assert_eq!(archive.kind(), Kind::Single);
    let mut text = String::new();
    let nil = ar7::uuid::Uuid::nil();
    archive.snapshot().unwrap().stream(nil).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "the one stream");
    assert_kind("rw".parse::<Mode>().map_err(Error::from).unwrap_err(), ErrorKind::InvalidInput);
}

#[test]
fn other_errors_have_the_kinds_that_the_system_uses() {
    let source = || Arc::new(io::Error::from(ErrorKind::StorageFull));
    let full = Error::NoSpace { needed_blocks: 3, source: source() };
    assert_kind(full.clone(), ErrorKind::StorageFull);
    assert_kind(Error::Unusable { cause: Arc::new(full) }, ErrorKind::StorageFull);
    let foreign = Error::from(io::Error::from(ErrorKind::TimedOut));
    assert!(matches!(foreign, Error::Io { path: None, .. }));
    assert_kind(foreign, ErrorKind::TimedOut);
}
