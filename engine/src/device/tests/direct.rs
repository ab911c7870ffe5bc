//! Direct writes: every kind of read that starts after one returns sees its bytes.

use memmap2::MmapMut;

use super::*;
use crate::device::direct::page_aligned;

/// Blocks of a large run.
const BLOCKS: u32 = 64;

/// A pattern in a buffer aligned for direct writes.
fn aligned(start: u32, count: u32, salt: u8) -> MmapMut {
    let bytes = pattern(start, count, salt);
    let mut buffer = page_aligned(bytes.len()).unwrap();
    buffer.copy_from_slice(&bytes);
    buffer
}

/// Writes a run directly, or through the cache if the file system refuses, as the store does. Returns whether it was
/// direct.
fn write_large(device: &dyn Device, start: u32, bytes: &[u8]) -> bool {
    let start = Position::at(start);
    let is_direct = device.write_direct(start, bytes).unwrap();
    if !is_direct {
        device.write(start, bytes).unwrap();
    }
    is_direct
}

#[test]
fn the_map_shows_direct_writes() {
    let (_directory, path) = file_with(&pattern(0, 2 * BLOCKS, 0));
    let device = MappedDevice::new(open_any(&path));
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // These threads keep the pages mapped and cached. They must see each block whole, old or new.
        for _ in 0..2 {
            scope.spawn(|| {
                let mut newest = 0;
                while !done.load(Ordering::Relaxed) {
                    let bytes = read_blocks(&device, BLOCKS, 64).unwrap();
                    for (number, block) in (BLOCKS..).zip(bytes.chunks(BLOCK_SIZE)) {
                        assert_eq!(block[..4], number.to_be_bytes());
                    }
                    newest = newest.max(bytes[BLOCK_SIZE - 1]);
                }
                assert!(newest <= 200);
            });
        }
        for salt in 1..=200 {
            let bytes = aligned(BLOCKS, BLOCKS, salt);
            let is_direct = write_large(&device, BLOCKS, &bytes);
            assert_eq!(is_direct, device.file().direct().is_open());
            // Once the write has returned, no read may see old bytes.
            assert!(read_blocks(&device, BLOCKS, 64).unwrap() == bytes[..], "map, write {salt}");
            let mut again = vec![0; bytes.len()];
            device.read_direct(Position::at(BLOCKS), &mut again).unwrap();
            assert!(again == bytes[..], "past the map, write {salt}");
        }
        done.store(true, Ordering::Relaxed);
    });
    device.sync().unwrap();
    let file = fs::read(path).unwrap();
    let (before, after) = file.split_at(64 * BLOCK_SIZE);
    assert!(before == pattern(0, BLOCKS, 0) && after == pattern(BLOCKS, BLOCKS, 200));
}

#[test]
fn a_mapped_segment_shows_blocks_added_after_its_first_read() {
    let (_directory, path) = file_with(&pattern(0, 1, 1));
    let device = MappedDevice::new(open_any(&path));
    device.grow(1 + BLOCKS).unwrap();
    assert!(read_blocks(&device, 1, 64).unwrap().iter().all(|&byte| byte == 0));
    write_large(&device, 1, &aligned(1, BLOCKS, 2));
    assert_eq!(read_blocks(&device, 1, 64).unwrap(), pattern(1, BLOCKS, 2));
    // Alternates between cached and direct writes.
    device.write(Position::at(9), &pattern(9, 3, 3)).unwrap();
    write_large(&device, 10, &aligned(10, BLOCKS - 10, 4));
    let expected = [pattern(9, 1, 3), pattern(10, BLOCKS - 10, 4), pattern(BLOCKS, 1, 2)].concat();
    assert_eq!(read_blocks(&device, 9, 56).unwrap(), expected);
}

#[test]
fn an_unsupported_direct_write_returns_false() {
    let (_directory, path) = file_with(&pattern(0, BLOCKS, 1));
    let device = open_any(&path);
    let mut unaligned = page_aligned(9 * BLOCK_SIZE).unwrap();
    let unaligned = &mut unaligned[1..=8 * BLOCK_SIZE];
    unaligned.copy_from_slice(&pattern(8, 8, 2));
    assert!(!device.write_direct(Position::at(8), unaligned).unwrap(), "an unaligned buffer");
    write_large(&device, 0, &aligned(0, 8, 2));
    device.direct().refuse();
    assert!(!write_large(&device, 8, &aligned(8, 8, 2)), "a refusal is permanent");
    let mut again = vec![0; 16 * BLOCK_SIZE];
    device.read_direct(Position::at(0), &mut again).unwrap();
    assert_eq!(again, pattern(0, 16, 2));
    assert!(!MemoryDevice::new().write_direct(Position::at(0), &[]).unwrap());
}

#[test]
fn bounds_and_access_are_checked_before_anything_is_written() {
    let (_directory, path) = file_with(&pattern(0, 8, 1));
    let bytes = aligned(4, 8, 2);
    let beyond = open_any(&path).write_direct(Position::at(4), &bytes);
    let (expected_bytes, found_bytes) = (12 * BLOCK_SIZE_U64, 8 * BLOCK_SIZE_U64);
    assert!(matches!(beyond, Err(Error::Truncated { expected_bytes: e, found_bytes: f })
        if e == expected_bytes && f == found_bytes));
    let reader = FileDevice::open(&path, Access::Read).unwrap();
    let refused = reader.write_direct(Position::at(0), &bytes);
    assert!(matches!(refused, Err(Error::ReadOnly)));
    assert_eq!(fs::read(path).unwrap(), pattern(0, 8, 1));
}
