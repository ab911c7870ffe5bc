//! After a warm-up, writing and reading a long stream allocates no memory for its blocks. Each
//! flush allocates only a few lists and threads, regardless of the number of blocks it seals.
//!
//! This program has only one test, because the counter covers the whole process.

use std::path::Path;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::format::DATA_SIZE_U64;
use ar7_engine::store::OpenOptions;
use ar7_registry::{Archive, CreateOptions};
use dhat::HeapStats;

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Bytes per write and read.
const PIECE: usize = 4 << 20;

/// Number of pieces before all reused buffers are allocated, and of pieces with counted
/// allocations: 64 MiB and 160 MiB.
const WARM_UP: u64 = 16;
const COUNTED: u64 = 40;

/// Returns the number of allocations of `work`, and their bytes.
fn counted(work: impl FnOnce()) -> (u64, u64) {
    let before = HeapStats::get();
    work();
    let after = HeapStats::get();
    (after.total_blocks - before.total_blocks, after.total_bytes - before.total_bytes)
}

#[track_caller]
fn check(what: &str, (allocations, bytes): (u64, u64), blocks_per_allocation: u64) {
    let data_bytes = COUNTED * PIECE as u64;
    let blocks = data_bytes / DATA_SIZE_U64;
    assert!(
        allocations * blocks_per_allocation < blocks,
        "{what}: {allocations} allocations for {blocks} blocks"
    );
    assert!(bytes * 20 < data_bytes, "{what}: {bytes} bytes allocated for {data_bytes} of data");
}

fn write(archive: &Archive, piece: &[u8]) -> uuid::Uuid {
    let mut stream = archive.new_stream().unwrap();
    let mut append = |pieces| {
        for _ in 0..pieces {
            stream.append(piece).unwrap();
        }
    };
    append(WARM_UP);
    let writing = counted(|| append(COUNTED));
    check("writing", writing, 50);
    stream.identity()
}

fn read(path: &Path, secret: &Secret, identity: uuid::Uuid, piece: &mut [u8]) {
    let archive = Archive::open(path, secret, OpenOptions::default()).unwrap();
    let stream = archive.read_stream(identity).unwrap();
    let mut read = |from: u64, to: u64| {
        for number in from..to {
            piece.fill(0);
            let length = stream.read_at(number * PIECE as u64, piece).unwrap();
            assert_eq!((length, piece[0], piece[PIECE - 1]), (PIECE, 5, 5));
        }
    };
    read(0, WARM_UP);
    let reading = counted(|| read(WARM_UP, WARM_UP + COUNTED));
    check("reading", reading, 50);
}

#[test]
fn a_long_stream_allocates_nothing_for_its_blocks() {
    let _profiler = dhat::Profiler::builder().testing().build();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let secret = Secret::Key(RawKey::generate().unwrap());
    let archive = Archive::create(&path, &secret, &CreateOptions::default()).unwrap();
    let mut piece = vec![5; PIECE];
    let identity = write(&archive, &piece);
    archive.commit().unwrap();
    archive.close().unwrap();
    read(&path, &secret, identity, &mut piece);
}
