//! The content of a file that lost its last name while it was open is readable until its handle is closed, and every
//! commit is whole meanwhile. Afterwards, and after a crash, its blocks are free.

use super::*;
use crate::error::Error;
use crate::records::PendingDeletions;
use crate::stream::Stream;

/// Makes a committed file of three blocks, and opens its content.
fn with_open_file() -> (MemoryDevice, Archive, Stream) {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[1; 10_000]).unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    archive.names().add_file(ROOT, b"file", ATTRIBUTES, Some(identity)).unwrap();
    archive.commit().unwrap();
    let stream = archive.open_stream(identity).unwrap();
    (device, archive, stream)
}

fn read(stream: &Stream) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(stream.len().unwrap()).unwrap()];
    stream.read_at(0, &mut bytes).unwrap();
    bytes
}

fn pending(archive: &Archive) -> u64 {
    archive.statistics().unwrap().pending_deletions
}

#[test]
fn a_removed_file_is_readable_and_writable_until_its_handle_is_closed() {
    let (_, archive, mut stream) = with_open_file();
    let removed = archive.names().remove_open(ROOT, b"file").unwrap().unwrap();
    assert_eq!(removed.size, 10_000);
    archive.commit().unwrap();
    assert_verified(&archive);
    assert!(archive.names().lookup(ROOT, b"file").unwrap().is_none());
    assert_eq!(archive.streams(None, 10).unwrap(), []);
    assert_eq!(read(&stream), [1; 10_000]);
    // It grows by several runs, shrinks to one, and is emptied, with a commit and a reclaim after each.
    let other = archive.new_stream().unwrap();
    for length in [20_000, 60_000, 5_000, 0, 100, 9_000, 7] {
        stream.set_len(length).unwrap();
        stream
            .write_at(length / 2, &[2; 100][..usize::try_from(length.min(100)).unwrap()])
            .unwrap();
        let expected = read(&stream);
        archive.reclaim().unwrap();
        assert_verified(&archive);
        assert_eq!(pending(&archive), u64::from(length > 0));
        assert_eq!(read(&stream), expected);
    }
    other.close().unwrap();
    stream.close().unwrap();
    archive.reclaim().unwrap();
    assert_eq!(pending(&archive), 0);
    assert_verified(&archive);
}

#[test]
fn after_a_crash_nothing_is_left_of_a_removed_file_that_was_open() {
    let (device, archive, mut stream) = with_open_file();
    archive.names().remove_open(ROOT, b"file").unwrap();
    stream.append(&[3; 5_000]).unwrap();
    archive.commit().unwrap();
    let crashed = MemoryDevice::from_bytes(&device.to_bytes());
    let archive = open(&crashed, Access::Write);
    assert_eq!(pending(&archive), 1);
    archive.reclaim().unwrap();
    assert_eq!((pending(&archive), archive.statistics().unwrap().streams), (0, 0));
    assert_verified(&archive);
}

#[test]
fn a_removed_file_of_any_length_is_deleted_on_close() {
    for before in [0, 1, 4_008, 5_000, 100_000] {
        for after in [0, 1, 5_000, 100_000] {
            let (_, archive, mut stream) = with_open_file();
            stream.set_len(before).unwrap();
            archive.commit().unwrap();
            archive.names().remove_open(ROOT, b"file").unwrap();
            archive.commit().unwrap();
            stream.set_len(after).unwrap();
            stream.close().unwrap();
            archive.reclaim().unwrap();
            assert_eq!(pending(&archive), 0, "{before}, {after}");
            assert_verified(&archive);
        }
    }
}

#[test]
fn a_rollback_gives_a_removed_file_back() {
    let (_, archive, stream) = with_open_file();
    archive.names().remove_open(ROOT, b"file").unwrap();
    archive.rollback().unwrap();
    assert!(matches!(stream.len(), Err(Error::Stale)));
    assert!(archive.names().lookup(ROOT, b"file").unwrap().is_some());
    drop(stream);
    archive.commit().unwrap();
    assert_verified(&archive);
}

#[test]
fn a_new_stream_can_be_deleted_on_close_but_not_one_of_a_file() {
    let (_, archive, stream) = with_open_file();
    let refused = archive.delete_on_close(stream.identity());
    assert!(matches!(refused, Err(Error::StreamIsNamed { .. })), "{refused:?}");
    let mut new = archive.new_stream().unwrap();
    archive.delete_on_close(new.identity()).unwrap();
    new.append(&[4; 9_000]).unwrap();
    archive.commit().unwrap();
    assert_eq!(archive.streams(None, 10).unwrap().len(), 1);
    let key = new.identity();
    assert!(archive.snapshot().get::<PendingDeletions>(&key).unwrap().is_some());
    assert_eq!(read(&new), [4; 9_000]);
    drop(new);
    archive.reclaim().unwrap();
    assert_eq!(pending(&archive), 0);
    assert_verified(&archive);
}
