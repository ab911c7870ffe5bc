//! Invariants checked here:
//! - All devices return the same bytes and errors for the same operations (`model`).
//! - No read goes past the end of the file. A full disk is an error, never a signal, and leaves the length unchanged
//!   (`limits`).
//! - A mapped file that shrinks is an error too, and not a signal (`guard`).
//! - Every read that starts after a direct write returns sees its bytes (`direct`).
//! - A lock excludes every other open, and ends with its holder.
//! - A new file gets its name only when it is complete, and never replaces a file (`create`).

mod create;
mod direct;
mod guard;
mod limits;
mod locks;
mod model;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tempfile::TempDir;

use super::{Access, Device, FileDevice, MappedDevice, MemoryDevice};
use crate::Error;
use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, Position, Run};

/// Creates a file with these bytes. Returns its directory and its path.
fn file_with(bytes: &[u8]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    fs::write(&path, bytes).unwrap();
    (directory, path)
}

/// Returns `count` blocks, each with its position followed by `salt`.
fn pattern(start: u32, count: u32, salt: u8) -> Vec<u8> {
    (start..start + count)
        .flat_map(|position| {
            let mut block = vec![salt; BLOCK_SIZE];
            block[..4].copy_from_slice(&position.to_be_bytes());
            block
        })
        .collect()
}

fn read_blocks(device: &dyn Device, start: u32, count: usize) -> crate::Result<Vec<u8>> {
    let mut bytes = vec![0xee; count * BLOCK_SIZE];
    device.read(Position::at(start), &mut bytes).map(|()| bytes)
}

fn open_any(path: &Path) -> FileDevice {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    FileDevice::from_file(file).unwrap().named(path)
}

/// Returns the kind of the system's error, if `error` comes from this operation on this path.
fn refusal(error: &Error, of: &str, at: &Path) -> Option<io::ErrorKind> {
    match error {
        Error::Io { operation, path: Some(path), source } if *operation == of && path == at => {
            Some(source.kind())
        }
        _ => None,
    }
}

#[test]
fn a_failed_open_names_the_path() {
    let (directory, file) = file_with(b"");
    let missing = directory.path().join("missing");
    let fifo = directory.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let through_a_file = file.join("below");
    let rows: [(&Path, io::ErrorKind); 4] = [
        (&missing, io::ErrorKind::NotFound),
        (directory.path(), io::ErrorKind::IsADirectory),
        (&fifo, io::ErrorKind::InvalidInput),
        (&through_a_file, io::ErrorKind::NotADirectory),
    ];
    for (path, expected) in rows {
        for access in [Access::Read, Access::ReadWrite] {
            let error = FileDevice::open(path, access).unwrap_err();
            assert_eq!(refusal(&error, "open", path), Some(expected), "{access:?}: {error}");
        }
    }
}

#[test]
fn an_empty_file_holds_no_block() {
    let (_directory, path) = file_with(b"");
    let device = MappedDevice::new(FileDevice::open(&path, Access::ReadWrite).unwrap());
    let none = Error::Truncated { expected_bytes: BLOCK_SIZE_U64, found_bytes: 0 };
    let error = read_blocks(&device, 0, 1).unwrap_err();
    assert_eq!(format!("{error:?}"), format!("{none:?}"));
    assert!(device.read_beginning(16).unwrap().is_empty());
}

#[test]
fn an_error_for_missing_permission_names_the_file() {
    let (_directory, path) = file_with(&pattern(0, 1, 1));
    if rustix::process::geteuid().is_root() {
        // Permissions do not bind root, but even root may not write a running program.
        let running = std::env::current_exe().unwrap();
        let error = FileDevice::open(&running, Access::ReadWrite).unwrap_err();
        assert_eq!(refusal(&error, "open", &running), Some(io::ErrorKind::ExecutableFileBusy));
        return;
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
    let error = FileDevice::open(&path, Access::ReadWrite).unwrap_err();
    assert_eq!(refusal(&error, "open", &path), Some(io::ErrorKind::PermissionDenied));
    FileDevice::open(&path, Access::Read).unwrap();
}

#[test]
fn a_file_open_for_reading_cannot_be_changed() {
    let (_directory, path) = file_with(&pattern(0, 2, 1));
    let by_path = FileDevice::open(&path, Access::Read).unwrap();
    let by_file = FileDevice::from_file(File::open(&path).unwrap()).unwrap();
    for device in [by_path, by_file] {
        assert_eq!(device.access(), Access::Read);
        let device = MappedDevice::new(device);
        let answers = [
            device.write(Position::at(0), &pattern(0, 1, 2)),
            device.grow(3),
            device.grow(1),
            device.shrink(1),
        ];
        for answer in answers {
            assert!(matches!(answer, Err(Error::ReadOnly)), "{answer:?}");
        }
        device.sync().unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), pattern(0, 2, 1));
}

#[test]
fn a_file_open_only_for_writing_is_refused() {
    let (_directory, path) = file_with(b"");
    let file = OpenOptions::new().write(true).open(path).unwrap();
    let error = FileDevice::from_file(file).unwrap_err();
    assert!(matches!(&error, Error::Io { operation: "open", .. }), "{error}");
}

#[test]
fn a_file_shortened_by_another_program_is_truncated() {
    let (_directory, path) = file_with(&pattern(0, 4, 1));
    let device = MappedDevice::new(FileDevice::open(&path, Access::ReadWrite).unwrap());
    assert_eq!(read_blocks(&device, 0, 4).unwrap(), pattern(0, 4, 1));
    OpenOptions::new().write(true).open(&path).unwrap().set_len(2 * BLOCK_SIZE_U64).unwrap();

    let mut bytes = vec![0; 2 * BLOCK_SIZE];
    let error = device.read_direct(Position::at(1), &mut bytes).unwrap_err();
    let expected = (3 * BLOCK_SIZE_U64, 2 * BLOCK_SIZE_U64);
    assert!(
        matches!(error, Error::Truncated { expected_bytes, found_bytes } if (expected_bytes, found_bytes) == expected),
        "{error}"
    );
    // That read queried the length, so the map knows it too.
    assert!(matches!(read_blocks(&device, 3, 1), Err(Error::Truncated { .. })));
    assert!(matches!(
        device.write(Position::at(2), &pattern(2, 1, 2)),
        Err(Error::Truncated { .. })
    ));
    assert_eq!(read_blocks(&device, 0, 2).unwrap(), pattern(0, 2, 1));
}

#[test]
fn the_writers_lock_updates_the_known_length() {
    let (_directory, path) = file_with(&pattern(0, 4, 1));
    let writer = FileDevice::open(&path, Access::ReadWrite).unwrap();
    writer.lock_writer().unwrap();
    let device = FileDevice::open(&path, Access::ReadWrite).unwrap();
    writer.shrink(3).unwrap();
    drop(writer);
    device.lock_writer().unwrap();
    assert_eq!(device.known_bytes(), 3 * BLOCK_SIZE_U64);
}

#[test]
fn growth_across_a_segment_border_adds_maps_and_moves_none() {
    let (_directory, path) = file_with(&pattern(0, 3, 1));
    let device = MappedDevice::with_segments(open_any(&path), 4, 3);
    assert_eq!(device.mapped_segments(), 0);
    assert_eq!(read_blocks(&device, 0, 3).unwrap(), pattern(0, 3, 1));
    assert_eq!(device.mapped_segments(), 1);

    // The rest of the first segment is visible through the map, which was made before it existed.
    device.grow(11).unwrap();
    device.write(Position::at(2), &pattern(2, 7, 2)).unwrap();
    assert_eq!(read_blocks(&device, 2, 2).unwrap(), pattern(2, 2, 2));
    assert_eq!(device.mapped_segments(), 1);
    assert_eq!(read_blocks(&device, 2, 7).unwrap(), pattern(2, 7, 2));
    assert_eq!(device.mapped_segments(), 3);
    assert_eq!(read_blocks(&device, 9, 2).unwrap(), vec![0; 2 * BLOCK_SIZE]);

    // Reads past the last segment go to the file itself.
    device.grow(20).unwrap();
    device.write(Position::at(10), &pattern(10, 10, 3)).unwrap();
    assert_eq!(read_blocks(&device, 8, 12).unwrap()[2 * BLOCK_SIZE..], pattern(10, 10, 3));
    assert_eq!(device.mapped_segments(), 3);
}

#[test]
fn a_run_across_the_border_of_two_full_segments_is_read_whole() {
    const BORDER: u32 = 1 << 18;
    let (_directory, path) = file_with(b"");
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(u64::from(BORDER + 2) * BLOCK_SIZE_U64).unwrap();
    let device = MappedDevice::new(open_any(&path));
    device.write(Position::at(BORDER - 2), &pattern(BORDER - 2, 4, 1)).unwrap();
    assert_eq!(read_blocks(&device, BORDER - 2, 4).unwrap(), pattern(BORDER - 2, 4, 1));
    assert_eq!(device.mapped_segments(), 2);
    assert!(matches!(read_blocks(&device, BORDER, 3), Err(Error::Truncated { .. })));
}

#[test]
fn a_read_during_a_shrink_raises_no_signal() {
    const LONG: u32 = 64;
    const SHORT: u32 = 8;
    let (_directory, path) = file_with(&pattern(0, SHORT, 1));
    let device = MappedDevice::with_segments(open_any(&path), 16, 8);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut reads = [0_u32; 2];
                while !done.load(Ordering::Relaxed) {
                    match read_blocks(&device, SHORT, 56) {
                        Ok(bytes) => {
                            assert!(bytes.iter().all(|&byte| byte == 0));
                            reads[0] += 1;
                        }
                        Err(Error::Truncated { .. }) => reads[1] += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
                assert!(reads[0] + reads[1] > 0);
            });
        }
        for _ in 0..500 {
            device.grow(LONG).unwrap();
            thread::yield_now();
            device.shrink(SHORT).unwrap();
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(read_blocks(&device, 0, 8).unwrap(), pattern(0, SHORT, 1));
}

#[test]
fn write_back_starts_anywhere() {
    let (_directory, path) = file_with(&pattern(0, 4, 1));
    let device = MappedDevice::new(open_any(&path));
    device.write(Position::at(1), &pattern(1, 2, 2)).unwrap();
    for run in [Run::single(Position::at(1)), Run::new(Position::at(3), 100).unwrap()] {
        device.start_write_back(run).unwrap();
    }
    device.sync().unwrap();
    assert_eq!(fs::read(path).unwrap()[BLOCK_SIZE..3 * BLOCK_SIZE], pattern(1, 2, 2));
}

#[test]
fn a_memory_device_holds_the_longest_archive() {
    let device = MemoryDevice::new();
    device.grow(BLOCKS_MAX).unwrap();
    let last = BLOCKS_MAX - 1;
    device.write(Position::at(last), &pattern(last, 1, 1)).unwrap();
    assert_eq!(read_blocks(&device, last, 1).unwrap(), pattern(last, 1, 1));
    assert_eq!(read_blocks(&device, last - 1, 1).unwrap(), vec![0; BLOCK_SIZE]);
    assert!(matches!(read_blocks(&device, last, 2), Err(Error::Truncated { .. })));
}

#[test]
fn a_memory_device_can_be_restored_to_a_snapshot() {
    let device = MemoryDevice::from_bytes(&pattern(0, 3, 1));
    let handle = device.clone();
    let snapshot = device.snapshot();
    handle.write(Position::at(1), &pattern(1, 1, 2)).unwrap();
    handle.shrink(2).unwrap();
    assert_eq!(device.to_bytes()[BLOCK_SIZE..], pattern(1, 1, 2));

    let copy = snapshot.to_device();
    device.restore(&snapshot);
    assert_eq!(handle.to_bytes(), pattern(0, 3, 1));
    device.write(Position::at(0), &pattern(0, 1, 3)).unwrap();
    assert_eq!(copy.to_bytes(), pattern(0, 3, 1));
}

#[test]
#[should_panic(expected = "devices move whole blocks")]
fn a_read_of_part_of_a_block_panics() {
    let device = MemoryDevice::from_bytes(&pattern(0, 1, 1));
    let _ = device.read(Position::at(0), &mut [0; 100]);
}
