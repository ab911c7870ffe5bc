//! The specification's rules for `VirtualFileObject`: a stream as a file with the modes of Python's
//! `open`. A file object behaves like a file of the operating system.
//!
//! | specification | here | test |
//! |---|---|---|
//! | `VirtualFileObject` | `StreamFile` | `file_object_behaves_like_an_operating_system_file` |
//! | `mode` | `Mode` | `modes_match_python`, `modes_open_create_and_empty_streams` |
//! | `stream` | `StreamFile::stream` | `file_object_exposes_its_stream` |
//! | `filename` | `StreamFile::name` | `file_object_exposes_its_stream` |

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};

use ar7_engine::format::{ArchiveKind, BLOCKS_MAX, DATA_SIZE_U64, RESERVED_BLOCKS};
use ar7_engine::{Class, Error as EngineError};
use ar7_registry::{Archive, Error, Mode, StreamFile};
use uuid::Uuid;

use crate::common::{self, assert_verified, create, dynamic, pattern, read_all};

const IDENTITY: Uuid = Uuid::from_u128(0x1234_5678);
const BLOCK: u64 = DATA_SIZE_U64;

fn open(archive: &Archive, mode: &str) -> ar7_registry::Result<StreamFile> {
    StreamFile::open(archive, IDENTITY, Mode::parse(mode).unwrap())
}

/// Opens a file of the operating system like Python.
fn open_file(path: &std::path::Path, mode: &str) -> io::Result<File> {
    let both = mode.contains('+');
    let mut options = OpenOptions::new();
    match mode.chars().next().unwrap() {
        'r' => options.read(true).write(both),
        'w' => options.write(true).create(true).truncate(true).read(both),
        'a' => options.append(true).create(true).read(both),
        'x' => options.write(true).create_new(true).read(both),
        _ => unreachable!(),
    };
    let mut file = options.open(path)?;
    if mode.starts_with('a') {
        file.seek(SeekFrom::End(0))?;
    }
    Ok(file)
}

#[test]
fn modes_match_python() {
    // (mode, reads, writes)
    for (mode, reads, writes) in [
        ("r", true, false),
        ("w", false, true),
        ("a", false, true),
        ("x", false, true),
        ("r+", true, true),
        ("w+", true, true),
        ("a+", true, true),
        ("x+", true, true),
        ("rb", true, false),
        ("br", true, false),
        ("rb+", true, true),
        ("r+b", true, true),
        ("+br", true, true),
    ] {
        let mode = Mode::parse(mode).unwrap();
        assert_eq!((mode.readable(), mode.writable()), (reads, writes), "{mode:?}");
    }
    for mode in ["", "+", "b", "rw", "ra", "rr", "r++", "rbb", "rt", "U", "R", "r ", "rz"] {
        let error = Mode::parse(mode).unwrap_err();
        assert!(matches!(&error, Error::UnknownMode { mode: found } if found == mode), "{error}");
        assert_eq!(error.class(), Class::Usage);
    }
    assert_eq!(Mode::READ, Mode::parse("r").unwrap());
}

#[test]
fn modes_open_create_and_empty_streams() {
    // (mode, length after opening a missing stream, length after opening a stream of ten bytes)
    for (mode, fresh, existing) in [
        ("r", None, Some(10)),
        ("r+", None, Some(10)),
        ("w", Some(0), Some(0)),
        ("w+", Some(0), Some(0)),
        ("a", Some(0), Some(10)),
        ("a+", Some(0), Some(10)),
        ("x", Some(0), None),
        ("x+", Some(0), None),
    ] {
        let archive = dynamic();
        let opened = open(&archive, mode).and_then(|file| file.len());
        assert_eq!(opened.ok(), fresh, "mode {mode} for a missing stream");
        let archive = dynamic();
        open(&archive, "w").unwrap().write_all(&[1; 10]).unwrap();
        archive.commit().unwrap();
        let opened = open(&archive, mode).and_then(|file| file.len());
        assert_eq!(opened.ok(), existing, "mode {mode} for an existing stream");
    }
    let archive = dynamic();
    let error = io::Error::from(open(&archive, "r").err().unwrap());
    assert_eq!(error.kind(), ErrorKind::NotFound);
    drop(open(&archive, "x").unwrap());
    let error = io::Error::from(open(&archive, "x").err().unwrap());
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn file_object_exposes_its_stream() {
    let archive = dynamic();
    let stream = archive.new_stream().unwrap();
    let identity = stream.identity();
    let mode = Mode::parse("w+").unwrap();
    let mut file = StreamFile::over(stream, "notes.txt".to_owned(), mode).unwrap();
    file.write_all(b"text").unwrap();
    assert_eq!((file.name(), file.mode()), ("notes.txt", mode));
    assert_eq!(file.stream().identity(), identity);
    assert_eq!(read_all(file.stream()), b"text");
    assert_eq!((file.len().unwrap(), file.is_empty().unwrap()), (4, false));
    file.close().unwrap();
    archive.commit().unwrap();
    let mut file = StreamFile::open(&archive, identity, Mode::READ).unwrap();
    let error = file.write(b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(matches!(file.set_len(0), Err(Error::NotInMode { .. })));
    drop(file);
    let mut file = StreamFile::open(&archive, identity, Mode::parse("a").unwrap()).unwrap();
    let error = file.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
}

/// An operation on a file.
#[derive(Debug, Clone, Copy)]
enum Do {
    Write(usize),
    Read(usize),
    Seek(SeekFrom),
    SetLen(u64),
}

/// Returns the observable result of an operation: a count or an offset, the bytes read, and the
/// offset afterwards.
fn observe<F: Read + Write + Seek>(
    file: &mut F,
    what: Do,
    set_len: impl FnOnce(&mut F, u64) -> io::Result<()>,
) -> (Option<u64>, Vec<u8>, u64) {
    let mut bytes = Vec::new();
    let outcome = match what {
        Do::Write(length) => file.write_all(&pattern(length, length)).map(|()| 0),
        Do::Read(length) => {
            let read = Read::by_ref(file).take(length as u64).read_to_end(&mut bytes);
            read.map(|length| length as u64)
        }
        Do::Seek(to) => file.seek(to),
        Do::SetLen(length) => set_len(file, length).map(|()| 0),
    };
    (outcome.ok(), bytes, file.stream_position().unwrap())
}

/// Operations at the start, at the end, at block borders and past the end.
const SCRIPT: &[Do] = &[
    Do::Write(10),
    Do::Read(10),
    Do::Seek(SeekFrom::Start(0)),
    Do::Read(1000),
    Do::Write(0),
    Do::Seek(SeekFrom::Start(5)),
    Do::Write(3),
    Do::Seek(SeekFrom::Current(-2)),
    Do::Read(4),
    // Past the end: a read returns nothing, and a write leaves a gap of zeros.
    Do::Seek(SeekFrom::End(3 * 4008)),
    Do::Read(5),
    Do::Write(0),
    Do::Write(7),
    Do::Seek(SeekFrom::Start(0)),
    Do::Read(100_000),
    // Exact multiples of a block, and one byte to each side.
    Do::SetLen(2 * BLOCK),
    Do::Seek(SeekFrom::End(0)),
    Do::Write(4008),
    Do::Seek(SeekFrom::Start(BLOCK - 1)),
    Do::Write(2),
    Do::Seek(SeekFrom::Start(2 * BLOCK)),
    Do::Write(4008),
    Do::Write(1),
    Do::Seek(SeekFrom::Start(0)),
    Do::Read(100_000),
    // Truncated and extended again: the old bytes do not reappear.
    Do::SetLen(BLOCK - 1),
    Do::SetLen(4 * BLOCK),
    Do::Seek(SeekFrom::Start(0)),
    Do::Read(100_000),
    Do::SetLen(0),
    Do::Read(10),
    Do::Write(5000),
    Do::Seek(SeekFrom::Start(0)),
    Do::Read(100_000),
    // Before the beginning.
    Do::Seek(SeekFrom::Current(-1_000_000)),
    Do::Seek(SeekFrom::End(-1_000_000)),
    Do::Read(3),
];

#[test]
fn file_object_behaves_like_an_operating_system_file() {
    let directory = tempfile::tempdir().unwrap();
    for mode in ["r", "r+", "w", "w+", "a", "a+", "x", "x+"] {
        for commit in [false, true] {
            let path = directory.path().join(format!("{mode}{commit}"));
            let archive = dynamic();
            if !mode.starts_with('x') {
                std::fs::write(&path, pattern(9000, 1)).unwrap();
                open(&archive, "w").unwrap().write_all(&pattern(9000, 1)).unwrap();
            }
            let mut expected = open_file(&path, mode).unwrap();
            let mut file = open(&archive, mode).unwrap();
            for (step, &what) in SCRIPT.iter().enumerate() {
                let wanted = observe(&mut expected, what, |file, length| file.set_len(length));
                let found = observe(&mut file, what, |file, length| Ok(file.set_len(length)?));
                assert_eq!(found, wanted, "mode {mode}, step {step}: {what:?}");
                if commit {
                    archive.commit().unwrap();
                }
            }
            drop(file);
            archive.commit().unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(read_all(&archive.read_stream(IDENTITY).unwrap()), bytes, "mode {mode}");
            assert_verified(&archive);
        }
    }
}

#[test]
fn positioned_reads_and_writes_leave_the_offset() {
    let archive = dynamic();
    let mut file = open(&archive, "w+").unwrap();
    file.write_all(&pattern(6000, 1)).unwrap();
    file.seek(SeekFrom::Start(7)).unwrap();
    file.write_at(8000, b"far").unwrap();
    let mut bytes = [9; 10];
    assert_eq!(file.read_at(7998, &mut bytes).unwrap(), 5);
    assert_eq!(bytes[..5], *b"\0\0far");
    assert_eq!(file.read_at(u64::MAX, &mut bytes).unwrap(), 0);
    assert_eq!(file.stream_position().unwrap(), 7);
    file.set_len(3).unwrap();
    assert_eq!(file.stream_position().unwrap(), 7);
    assert_eq!(file.read(&mut bytes).unwrap(), 0);
}

#[test]
fn written_file_is_durable_after_the_commit() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut file = open(&archive, "w").unwrap();
    file.write_all(&pattern(10_000, 1)).unwrap();
    file.flush().unwrap();
    archive.commit().unwrap();
    file.write_all(b"lost").unwrap();
    drop(file);
    archive.close().unwrap();
    let archive = common::open(&device, ar7_engine::store::Access::Read);
    let mut bytes = Vec::new();
    open(&archive, "r").unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, pattern(10_000, 1));
    for mode in ["r+", "w", "a"] {
        let mut file = match open(&archive, mode) {
            Ok(file) => file,
            Err(error) => {
                assert!(matches!(error, Error::Engine(EngineError::ReadOnly)), "{error}");
                continue;
            }
        };
        let error = file.write(b"x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReadOnlyFilesystem, "mode {mode}");
    }
}

/// A file has at most 2^31 - 1 blocks. A longer stream is refused before any block is allocated.
#[test]
fn length_beyond_the_format_fails_before_any_allocation() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&pattern(10_000, 1)).unwrap();
    archive.commit().unwrap();
    let before = (device.to_bytes(), archive.statistics().unwrap());
    let longest = u64::from(BLOCKS_MAX - RESERVED_BLOCKS) * BLOCK;
    let full = |outcome: ar7_registry::Result<()>| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, Error::Engine(EngineError::Full { .. })), "{error}");
        assert_eq!(io::Error::from(error).kind(), ErrorKind::FileTooLarge);
    };
    // The archive already uses some blocks, so even the longest stream does not fit.
    for length in [u64::MAX, u64::MAX / 2, longest + 1, longest] {
        full(stream.set_len(length));
        full(stream.write_at(length, b"x"));
        full(stream.write_at(length - 1, b"xy"));
        assert_eq!((stream.len().unwrap(), stream.count().unwrap()), (10_000, 3));
    }
    assert!((device.to_bytes(), archive.statistics().unwrap()) == before, "nothing has changed");
    // The archive remains usable.
    stream.append(b"more").unwrap();
    archive.commit().unwrap();
    assert_eq!(stream.len().unwrap(), 10_004);
    let mut file = StreamFile::over(stream, "long".to_owned(), Mode::parse("r+").unwrap()).unwrap();
    assert_eq!(file.seek(SeekFrom::Start(u64::MAX)).unwrap_err().kind(), ErrorKind::InvalidInput);
    file.seek(SeekFrom::Start(u64::MAX / 2)).unwrap();
    assert_eq!(file.read(&mut [0]).unwrap(), 0);
    assert_eq!(file.write(b"x").unwrap_err().kind(), ErrorKind::FileTooLarge);
}
