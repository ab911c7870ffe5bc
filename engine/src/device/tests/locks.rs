//! Locks between the opens of a file, and of a simulated disk, which must agree.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::super::lock::FileLocks;
use super::super::{Access, Device, FileDevice, LockTable, Locks, Sharing};
use super::{file_with, pattern};
use crate::Error;

/// Opens of one archive: those of a file, and those of a table in memory.
fn opens() -> [Box<dyn Fn() -> Arc<dyn Locks>>; 2] {
    let (directory, path) = file_with(&pattern(0, 8, 1));
    let table = LockTable::default();
    let of_file = move || {
        let _kept = &directory;
        FileDevice::open(&path, Access::ReadWrite).unwrap().locks()
    };
    [Box::new(of_file), Box::new(move || table.open())]
}

#[track_caller]
fn assert_locked(outcome: &crate::Result<()>) {
    assert!(matches!(outcome, Err(Error::Locked { .. })), "{outcome:?}");
}

#[test]
fn an_archive_has_one_writer() {
    for open in opens() {
        let (first, second) = (open(), open());
        assert!(!first.is_written().unwrap());
        first.lock_writer().unwrap();
        first.lock_writer().expect("the same open");
        assert!(second.is_written().unwrap());
        assert!(!first.is_written().unwrap(), "an open does not see its own lock");
        assert_locked(&second.lock_writer());
        drop(first);
        second.lock_writer().unwrap();
    }
}

#[test]
fn the_writer_sees_the_lowest_commit_that_others_read() {
    for open in opens() {
        let (writer, one, other) = (open(), open(), open());
        writer.lock_writer().unwrap();
        assert_eq!(writer.lowest_reader(u64::MAX >> 2).unwrap(), None);
        for number in [9, 3, 7] {
            one.lock_reader(number).unwrap();
        }
        for number in [20, 21, 1] {
            other.lock_reader(number).unwrap();
        }
        let lowest = |below| writer.lowest_reader(below).unwrap();
        assert_eq!([0, 1, 2, 100].map(lowest), [None, None, Some(1), Some(1)]);
        other.unlock_reader(1);
        assert_eq!([3, 4, 100].map(lowest), [None, Some(3), Some(3)]);
        one.unlock_reader(3);
        one.unlock_reader(7);
        assert_eq!([9, 10, 100].map(lowest), [None, Some(9), Some(9)]);
        drop(one);
        // The system reports adjacent locks as one.
        assert_eq!([20, 21, 22, 100].map(lowest), [None, Some(20), Some(20), Some(20)]);
        other.unlock_reader(20);
        assert_eq!([21, 100].map(lowest), [None, Some(21)]);
        assert_eq!(other.lowest_reader(100).unwrap(), None, "an open does not see its own locks");
    }
}

#[test]
fn readers_and_an_operation_on_every_block_exclude_each_other() {
    for open in opens() {
        let (writer, reader) = (open(), open());
        writer.lock_writer().unwrap();
        reader.lock_reader((1 << 62) - 1).unwrap();
        assert_locked(&writer.lock_out_readers());
        reader.unlock_reader((1 << 62) - 1);
        writer.lock_out_readers().unwrap();
        assert_locked(&reader.lock_reader(5));
        drop(writer);
        reader.lock_reader(5).unwrap();
    }
}

#[test]
fn a_refused_writer_learns_which_process_writes() {
    let (_directory, path) = file_with(&pattern(0, 8, 1));
    let first = FileDevice::open(&path, Access::ReadWrite).unwrap();
    let sharing = first.locks().sharing().unwrap();
    assert_eq!(sharing, Sharing::ReadersAndWriter, "a usual file system");
    first.lock_writer().unwrap();
    let second = FileDevice::open(&path, Access::ReadWrite).unwrap();
    match second.lock_writer() {
        Err(Error::Locked { holder, path: Some(named) }) => {
            assert_eq!(holder, Some(std::process::id()));
            assert_eq!(named, path);
        }
        outcome => panic!("expected a lock, found {outcome:?}"),
    }
}

#[test]
fn a_forked_child_ends_no_lock_of_its_parent() {
    let (_directory, path) = file_with(&pattern(0, 8, 1));
    let parent = FileDevice::open(&path, Access::ReadWrite).unwrap();
    let other = FileDevice::open(&path, Access::ReadWrite).unwrap().locks();
    parent.locks().lock_reader(4).unwrap();
    crate::process::in_forked_process(|| parent.locks().unlock_reader(4));
    assert_eq!(other.lowest_reader(9).unwrap(), Some(4));
    parent.locks().unlock_reader(4);
    assert_eq!(other.lowest_reader(9).unwrap(), None);
}

#[test]
fn a_forked_child_that_drops_a_handle_ends_no_lock_of_its_parent() {
    for has_ranges in [true, false] {
        let (_directory, path) = file_with(&pattern(0, 8, 1));
        let (_copy, parent) = open_locks(&path, has_ranges);
        parent.lock_writer().unwrap();
        crate::process::in_forked_process(move || drop(parent));
        let (_, other) = open_locks(&path, has_ranges);
        assert_locked(&other.lock_writer());
    }
}

#[test]
fn without_byte_range_locks_readers_and_a_writer_exclude_each_other() {
    let (_directory, path) = file_with(&pattern(0, 8, 1));
    let open = || FileLocks::without_ranges(&Arc::new(File::open(&path).unwrap()));
    let (writer, one, other) = (open(), open(), open());
    assert_eq!(writer.sharing().unwrap(), Sharing::ReadersOrWriter);
    for number in [3, 5] {
        one.lock_reader(number).unwrap();
    }
    other.lock_reader(4).unwrap();
    assert_locked(&writer.lock_writer());
    one.unlock_reader(3);
    other.unlock_reader(4);
    assert_locked(&writer.lock_writer());
    one.unlock_reader(5);
    writer.lock_writer().unwrap();
    writer.lock_out_readers().expect("the writer's lock excludes them");
    assert_locked(&one.lock_reader(6));
    assert_locked(&other.lock_writer());
    assert_eq!(writer.lowest_reader(100).unwrap(), None);
    drop(writer);
    other.lock_reader(7).unwrap();
}

/// Opens the file, with or without byte-range locks. Also returns another descriptor of the same open.
fn open_locks(path: &Path, has_ranges: bool) -> (File, FileLocks) {
    let file = Arc::new(File::options().read(true).write(true).open(path).unwrap());
    let copy = file.try_clone().unwrap();
    let locks = if has_ranges { FileLocks::new(&file) } else { FileLocks::without_ranges(&file) };
    (copy, locks)
}

/// What an open does, and whether it has byte-range locks.
type User = (Role, bool);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Writer,
    Reader,
    /// A writer that locks out readers.
    Rekey,
}

fn lock((role, _): User, locks: &FileLocks) -> crate::Result<()> {
    match role {
        Role::Writer => locks.lock_writer(),
        Role::Reader => locks.lock_reader(7),
        Role::Rekey => locks.lock_writer().and_then(|()| locks.lock_out_readers()),
    }
}

#[test]
fn opens_with_and_without_byte_range_locks_exclude_each_other() {
    use Role::{Reader, Rekey, Writer};
    let users = [Writer, Reader, Rekey].map(|role| [(role, true), (role, false)]).concat();
    let pairs = users.iter().flat_map(|&first| users.iter().map(move |&second| (first, second)));
    for (first, second) in pairs {
        let (_directory, path) = file_with(&pattern(0, 8, 1));
        let open = |(_, has_ranges): User| open_locks(&path, has_ranges).1;
        let (one, other) = (open(first), open(second));
        lock(first, &one).unwrap();
        let may_share = match (first, second) {
            ((Reader, _), (Reader, _)) => true,
            // A writer with byte-range locks sees the reader's byte.
            ((role, has_ranges), (Reader, _)) | ((Reader, _), (role, has_ranges)) => {
                role == Writer && has_ranges
            }
            _ => false,
        };
        let outcome = lock(second, &other);
        if !may_share {
            assert_locked(&outcome);
            drop(one);
            lock(second, &other)
                .unwrap_or_else(|error| panic!("{second:?} after {first:?}: {error}"));
            continue;
        }
        outcome.unwrap_or_else(|error| panic!("{second:?} next to {first:?}: {error}"));
        for (user, writer) in [(first, &one), (second, &other)] {
            if user.0 == Writer {
                assert_eq!(writer.lowest_reader(100).unwrap(), Some(7), "{first:?} {second:?}");
            }
        }
    }
}

#[test]
fn a_reader_without_byte_range_locks_sees_a_writer_before_it_has_locked_a_commit() {
    let (_directory, path) = file_with(&pattern(0, 8, 1));
    for (writes_ranges, reads_ranges) in [(false, false), (false, true), (true, true)] {
        let open = |has_ranges| open_locks(&path, has_ranges).1;
        let (writer, reader) = (open(writes_ranges), open(reads_ranges));
        assert!(!reader.is_written().unwrap());
        writer.lock_writer().unwrap();
        assert!(!writer.is_written().unwrap(), "an open does not see its own lock");
        assert!(reader.is_written().unwrap());
        drop(writer);
        assert!(!reader.is_written().unwrap());
        reader.lock_reader(3).unwrap();
        assert!(!reader.is_written().unwrap());
        // A question leaves no lock behind, and ends none.
        reader.unlock_reader(3);
        open(false).lock_writer().unwrap();
    }
}

#[test]
fn locks_end_with_the_device_even_if_a_copy_of_the_descriptor_stays_open() {
    for has_ranges in [true, false] {
        let (_directory, path) = file_with(&pattern(0, 8, 1));
        let (copy, first) = open_locks(&path, has_ranges);
        first.lock_writer().unwrap();
        let (_, second) = open_locks(&path, has_ranges);
        assert_locked(&second.lock_writer());
        drop(first);
        second.lock_writer().unwrap();
        drop(copy);
    }
}
