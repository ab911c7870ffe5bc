//! Files of a transaction share their content, and belong to it.

use std::io::{BufRead as _, Read as _, Seek as _, SeekFrom, Write as _};

use ar7::fs::Ingest;
use ar7::{Archive, Attributes, Compression, Error, Mode, Origin, Timestamp};

use crate::common::{assert_verified, create, pattern};

#[test]
fn all_files_of_one_content_see_what_each_writes() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &b""[..]).unwrap();
    transaction.link("file", "link").unwrap();
    let mut reader = transaction.open("link", Mode::READ).unwrap();
    let mut one = transaction.open("file", Mode::READ_WRITE).unwrap();
    let mut two = transaction.open("file", Mode::APPEND).unwrap();
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    one.write_all(b"first").unwrap();
    two.write_all(b", second").unwrap();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first, second");
    reader.rewind().unwrap();
    assert_eq!(reader.fill_buf().unwrap(), b"first, second");
    one.write_at(0, b"FIRST").unwrap();
    assert_eq!(reader.fill_buf().unwrap(), b"FIRST, second");
    two.set_len(5).unwrap();
    assert_eq!(reader.fill_buf().unwrap(), b"FIRST");
    assert_eq!(transaction.metadata("link").unwrap().len, 5);
    drop((reader, one, two));
    transaction.commit().unwrap();
    assert_eq!(archive.snapshot().unwrap().read("link").unwrap(), b"FIRST");
    assert_verified(&archive);
}

#[test]
fn a_change_through_the_stream_of_a_file_is_a_change_of_the_file() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &b"content"[..]).unwrap();
    let time = Timestamp::new(5, 6);
    let attributes = Attributes::default().with_modified(time).with_origin(Origin::new(time, 7));
    transaction.set_attributes("file", attributes).unwrap();
    let id = transaction.metadata("file").unwrap().stream.expect("a stream");
    let mut stream = transaction.stream(id, Mode::READ_WRITE).unwrap();
    assert_eq!(transaction.metadata("file").unwrap().attributes, attributes);
    stream.write_at(0, b"CONTENT").unwrap();
    drop(stream);
    let found = transaction.metadata("file").unwrap().attributes;
    assert!(found.modified > time, "{found:?}");
    assert_eq!(found.origin, None);
    // A stream without a name has no file to change.
    transaction.new_stream().unwrap().write_at(0, b"content").unwrap();
    transaction.commit().unwrap();
    assert_verified(&archive);
}

/// A way to delete or replace the content of a file.
type Removal = fn(&ar7::Transaction<'_>) -> Result<(), Error>;

fn old_text() -> Vec<u8> {
    b"old text, ".repeat(1000)
}

fn new_text() -> Vec<u8> {
    b"a new text, ".repeat(1000)
}

/// Each replacement ends without a stream of the file, as it began.
#[test]
fn an_open_file_whose_packed_content_is_replaced_shows_the_new_content() {
    let replacements: [(Removal, Vec<u8>); 3] = [
        (|transaction| transaction.write("file", &b""[..]).map(drop), Vec::new()),
        (
            |transaction| {
                transaction.write("file", &new_text()[..])?;
                transaction.compress("file", Compression::Auto).map(drop)
            },
            new_text(),
        ),
        (
            |transaction| {
                transaction.open("file", Mode::READ_WRITE)?.write_at(0, &new_text())?;
                transaction.compress("file", Compression::Auto).map(drop)
            },
            new_text(),
        ),
    ];
    for (replacement, expected) in replacements {
        let (_folder, _, archive) = create();
        let transaction = archive.begin().unwrap();
        transaction.write("file", &old_text()[..]).unwrap();
        assert!(transaction.compress("file", Compression::Auto).unwrap());
        let mut file = transaction.open("file", Mode::READ).unwrap();
        assert!(file.stream().unwrap().is_none());
        assert_eq!(file.read(&mut [0; 8]).unwrap(), 8);
        file.rewind().unwrap();
        replacement(&transaction).unwrap();
        let mut found = [0; 11];
        let length = file.read(&mut found).unwrap();
        assert_eq!(found[..length], expected[..expected.len().min(11)]);
        drop(file);
        transaction.commit().unwrap();
        assert_verified(&archive);
    }
}

#[test]
fn a_file_that_is_removed_while_it_is_open_fails() {
    let removals: [Removal; 4] = [
        |transaction| transaction.remove("folder/file"),
        |transaction| transaction.remove_all("folder").map(drop),
        |transaction| transaction.rename("other", "folder/file"),
        |transaction| transaction.write("folder/file", &b"new"[..]).map(drop),
    ];
    for removal in removals {
        let (_folder, _, archive) = create();
        let transaction = archive.begin().unwrap();
        transaction.create_directory("folder").unwrap();
        transaction.write("folder/file", &b"content"[..]).unwrap();
        transaction.write("other", &b"content"[..]).unwrap();
        let mut file = transaction.open("folder/file", Mode::READ_WRITE).unwrap();
        let mut again = transaction.open("folder/file", Mode::READ).unwrap();
        file.write_at(0, b"C").unwrap();
        assert_eq!(again.read(&mut [0; 8]).unwrap(), 7);
        removal(&transaction).unwrap();
        again.rewind().unwrap();
        assert!(again.fill_buf().is_err(), "what was read before is not the content any more");
        let failed = file.write_at(0, b"x").unwrap_err();
        assert!(matches!(&failed, Error::Removed { name } if name == "folder/file"), "{failed}");
        assert!(matches!(again.len().unwrap_err(), Error::Removed { .. }));
        drop((file, again));
        transaction.commit().unwrap();
        assert_verified(&archive);
    }
}

#[test]
fn an_empty_file_that_is_removed_while_it_is_open_fails() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let mut file = transaction.open("file", Mode::WRITE).unwrap();
    transaction.remove("file").unwrap();
    let failed = file.write_at(0, b"x").unwrap_err();
    assert!(matches!(failed, Error::Removed { .. }), "{failed}");
}

#[test]
fn a_file_whose_destructor_does_not_run_does_not_stay_open() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let mut file = transaction.open("file", Mode::WRITE).unwrap();
    file.write_at(0, b"content").unwrap();
    std::mem::forget(file);
    transaction.commit().unwrap();
    let transaction = archive.begin().unwrap();
    transaction.open("file", Mode::READ_WRITE).unwrap().write_at(0, b"C").unwrap();
    transaction.commit().unwrap();
    assert_eq!(archive.snapshot().unwrap().read("file").unwrap(), b"Content");
}

#[test]
fn a_change_sets_the_time_and_keeps_the_other_attributes() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.write("file", &b"content"[..]).unwrap();
    let old = Attributes::default().with_mode(0o600).with_owner(7, 8);
    assert_eq!((old.mode, old.user, old.group), (0o600, 7, 8));
    let touched = |transaction: &ar7::Transaction<'_>| {
        let found = transaction.metadata("file").unwrap().attributes;
        assert_eq!(found.with_modified(Timestamp::default()), old);
        let is_touched = found.modified != Timestamp::default();
        transaction.set_attributes("file", old).unwrap();
        is_touched
    };
    transaction.set_attributes("file", old).unwrap();
    assert!(!touched(&transaction));
    transaction.write("file", &b"other content"[..]).unwrap();
    assert!(touched(&transaction));
    transaction.open("file", Mode::READ).unwrap();
    assert!(!touched(&transaction));
    transaction.open("file", Mode::READ_WRITE).unwrap().set_len(3).unwrap();
    assert!(touched(&transaction));
    transaction.open("file", Mode::APPEND).unwrap().write_all(b"x").unwrap();
    assert!(touched(&transaction));
}

#[test]
fn the_debug_text_of_a_file_names_it() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let file = transaction.open("notes.txt", Mode::WRITE).unwrap();
    assert!(format!("{file:?}").contains("notes.txt"));
}

#[test]
fn streams_are_created_read_and_deleted() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    let mut stream = transaction.new_stream().unwrap();
    let id = stream.stream().unwrap().expect("a stream");
    stream.write_all(b"bytes").unwrap();
    stream.seek(SeekFrom::Start(1)).unwrap();
    let mut shared = transaction.stream(id, Mode::READ).unwrap();
    let mut text = String::new();
    shared.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bytes");
    let exists = transaction.stream(id, Mode::CREATE_NEW).unwrap_err();
    assert!(matches!(exists, Error::StreamExists { stream } if stream == id));
    drop((stream, shared));
    transaction.write("file", &b"content"[..]).unwrap();
    let named = transaction.metadata("file").unwrap().stream.expect("a stream");
    let refused = transaction.delete_stream(named).unwrap_err();
    assert!(matches!(refused, Error::StreamIsNamed { stream } if stream == named));
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    let found: Result<Vec<_>, _> = snapshot.streams().unwrap().collect();
    let lengths: Vec<(ar7::uuid::Uuid, u64)> =
        found.unwrap().iter().map(|stream| (stream.id, stream.len)).collect();
    assert_eq!(lengths, [(id, 5), (named, 7)]);
    let transaction = archive.begin().unwrap();
    assert!(transaction.delete_stream(id).unwrap());
    assert!(!transaction.delete_stream(id).unwrap());
    transaction.commit().unwrap();
    let gone = archive.snapshot().unwrap().stream(id).unwrap_err();
    assert!(matches!(gone, Error::NoStream { stream } if stream == id));
}

#[test]
fn the_metadata_of_the_archive_belongs_to_the_commit() {
    let (_folder, _, archive) = create();
    let before = archive.snapshot().unwrap();
    let transaction = archive.begin().unwrap();
    transaction.set_archive_metadata(b"version 1").unwrap();
    assert_eq!(transaction.archive_metadata().unwrap(), b"version 1");
    let refused = transaction.set_archive_metadata(&[0; 3000]).unwrap_err();
    assert!(matches!(refused, Error::OutOfBounds { .. }));
    transaction.commit().unwrap();
    assert_eq!(before.archive_metadata(), b"");
    assert_eq!(archive.snapshot().unwrap().archive_metadata(), b"version 1");
}

#[test]
fn a_walk_lists_each_directory_before_its_entries() {
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    transaction.create_directories("a/b").unwrap();
    // More entries than are read at a time.
    for number in 0..200 {
        let path = format!("a/b/{number:03}");
        transaction.write(path, &pattern(number, 0)[..]).unwrap();
    }
    transaction.write("a/c", &b"last"[..]).unwrap();
    let names = |walk: ar7::Walk<'_>| -> Vec<String> {
        walk.map(|entry| entry.unwrap().path.display().to_string()).collect()
    };
    let mut expected = vec!["a".to_owned(), "a/b".to_owned()];
    expected.extend((0..200).map(|number| format!("a/b/{number:03}")));
    expected.push("a/c".to_owned());
    assert_eq!(names(transaction.walk("").unwrap()), expected);
    assert_eq!(names(transaction.walk("/a//").unwrap()), expected[1..]);
    assert_eq!(transaction.list("a/b").unwrap().count(), 200);
    let first = transaction.list("a").unwrap().next().unwrap().unwrap();
    assert_eq!(first.name().as_os_str(), "b");
    assert!(matches!(transaction.list("a/c"), Err(Error::WrongType { .. })));
    transaction.commit().unwrap();
    assert_eq!(names(archive.snapshot().unwrap().walk("").unwrap()), expected);
}

#[test]
fn types_can_be_shared_and_sent_among_threads() {
    fn assert_shared<T: Send + Sync>() {}
    assert_shared::<Archive>();
    assert_shared::<ar7::Snapshot>();
    assert_shared::<ar7::Transaction<'static>>();
    assert_shared::<ar7::File<'static>>();
    assert_shared::<Error>();
    assert_shared::<ar7::Key>();
    // A function that takes any file also takes one of a transaction.
    let length = |file: &ar7::File<'_>| file.len().unwrap();
    let (_folder, _, archive) = create();
    let transaction = archive.begin().unwrap();
    assert_eq!(length(&transaction.open("file", Mode::WRITE).unwrap()), 0);
}

/// A file is compressed as a whole, so its beginning alone does not decide.
#[test]
fn a_long_file_that_compresses_behind_its_beginning_is_compressed() {
    let (folder, _, archive) = create();
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state.to_be_bytes()[0]
    });
    let mut content: Vec<u8> = noise.take(5 << 20).collect();
    content.resize(70 << 20, b'a');
    std::fs::write(folder.path().join("ingested"), &content).unwrap();
    Ingest::new().path(folder.path().join("ingested")).run(&archive).unwrap();
    let transaction = archive.begin().unwrap();
    transaction.write("written", &content[..]).unwrap();
    assert!(transaction.compress("written", Compression::Auto).unwrap());
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    for name in ["ingested", "written"] {
        assert_eq!(snapshot.metadata(name).unwrap().stream, None, "{name}");
        assert!(snapshot.read(name).unwrap() == content, "{name}");
    }
}
