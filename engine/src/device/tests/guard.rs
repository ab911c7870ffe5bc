//! A map may outlive parts of its file. An unreadable page is an error of the read, and only a SIGBUS outside of our
//! maps ends the process.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::sync::Arc;

use memmap2::MmapOptions;

use super::*;

/// Blocks of a segment in these tests.
const SEGMENT: u32 = 8;

fn mapped(path: &Path) -> MappedDevice {
    let file = FileDevice::open(path, Access::ReadWrite).unwrap();
    MappedDevice::with_segments(file, SEGMENT, 8)
}

fn cut(path: &Path, blocks: u32) {
    let file = OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(u64::from(blocks) * BLOCK_SIZE_U64).unwrap();
}

fn read(device: &dyn Device, position: u32) -> crate::Result<Vec<u8>> {
    let mut bytes = vec![0xee; BLOCK_SIZE];
    device.read(Position::at(position), &mut bytes).map(|()| bytes)
}

#[test]
fn a_mapped_file_that_shrinks_is_truncated() {
    let (_directory, path) = file_with(&pattern(0, 40, 1));
    let device = mapped(&path);
    for position in 0..40 {
        assert_eq!(read(&device, position).unwrap(), pattern(position, 1, 1));
    }
    cut(&path, 20);
    for position in (0..40).rev() {
        match read(&device, position) {
            Ok(bytes) if position < 20 => assert_eq!(bytes, pattern(position, 1, 1)),
            Err(Error::Truncated { expected_bytes, found_bytes }) if position >= 20 => {
                // The first read past the end queries the length, which later reads know.
                assert!(expected_bytes > found_bytes);
                assert_eq!(found_bytes, 20 * BLOCK_SIZE_U64);
            }
            other => panic!("block {position}: {other:?}"),
        }
    }
}

#[test]
fn a_lost_page_is_read_from_the_file_when_it_exists_again() {
    let (_directory, path) = file_with(&pattern(0, 16, 1));
    let device = mapped(&path);
    cut(&path, 4);
    assert!(matches!(read(&device, 6), Err(Error::Truncated { .. })));
    fs::write(&path, pattern(0, 16, 2)).unwrap();
    assert_eq!(device.length_bytes().unwrap(), 16 * BLOCK_SIZE_U64);
    // The page of zeros is still in the map, and no read may return it.
    for position in 0..16 {
        assert_eq!(read(&device, position).unwrap(), pattern(position, 1, 2), "block {position}");
    }
}

#[test]
fn many_threads_lose_pages_at_once() {
    for round in 0..20 {
        let (_directory, path) = file_with(&pattern(0, 64, round));
        let device = Arc::new(mapped(&path));
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let device = Arc::clone(&device);
                thread::spawn(move || {
                    let mut refused = 0;
                    for position in (0..64).chain(0..64).chain(0..64) {
                        match read(&*device, position) {
                            Ok(bytes) => assert_eq!(bytes, pattern(position, 1, round)),
                            Err(Error::Truncated { .. }) => refused += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    refused
                })
            })
            .collect();
        cut(&path, 3);
        let refused: u32 = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
        assert!(matches!(read(&*device, 63), Err(Error::Truncated { .. })), "{refused} before");
    }
}

#[test]
fn a_dropped_map_frees_its_list_node() {
    let (_directory, path) = file_with(&pattern(0, 40, 1));
    for _ in 0..200 {
        let device = mapped(&path);
        assert_eq!(read(&device, 39).unwrap(), pattern(39, 1, 1));
    }
    let after_a_loss = {
        let (_directory, path) = file_with(&pattern(0, 8, 1));
        let device = mapped(&path);
        cut(&path, 1);
        read(&device, 7).unwrap_err();
        drop(device);
        mapped(&path)
    };
    assert_eq!(read(&after_a_loss, 0).unwrap(), pattern(0, 1, 1));
    assert_eq!(after_a_loss.mapped_segments(), 1, "a new map has lost no page");
}

/// Runs in its own process, because the signal must end it.
#[test]
#[allow(unsafe_code)]
fn a_sigbus_outside_of_our_maps_ends_the_process() {
    const CHILD: &str = "AR7_TEST_OF_ANOTHER_MAP";
    if std::env::var_os(CHILD).is_some() {
        let (_directory, path) = file_with(&pattern(0, 8, 1));
        let device = mapped(&path);
        assert_eq!(read(&device, 7).unwrap(), pattern(7, 1, 1));
        let file = File::open(&path).unwrap();
        let other = MmapOptions::new().len(8 * BLOCK_SIZE).map_raw_read_only(&file).unwrap();
        cut(&path, 1);
        // SAFETY: the address lies within the map. The page is missing from the file on purpose.
        let byte = unsafe { other.as_ptr().add(7 * BLOCK_SIZE).read_volatile() };
        panic!("read {byte} from a missing page");
    }
    let name = "device::tests::guard::a_sigbus_outside_of_our_maps_ends_the_process";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert_eq!(
        child.status.signal(),
        Some(libc::SIGBUS),
        "{}",
        String::from_utf8_lossy(&child.stdout)
    );
}
