//! Deletes a stream of very many extents and a tree of very many names on a disk without free space.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::{Device, MappedDevice, NewFile};
use ar7_engine::format::{DATA_SIZE, Position, Run, Timestamp};
use ar7_engine::{Error as EngineError, Result as EngineResult};
use ar7_registry::records::{Attributes, InodeNumber};
use ar7_registry::{Archive, CreateOptions, Result};

use xtask::quantity::seconds;

/// A file on a disk that can become full: the file then cannot grow.
struct FullDisk {
    file: MappedDevice,
    is_full: Arc<AtomicBool>,
}

impl Device for FullDisk {
    fn read(&self, start: Position, bytes: &mut [u8]) -> EngineResult<()> {
        self.file.read(start, bytes)
    }

    fn read_direct(&self, start: Position, bytes: &mut [u8]) -> EngineResult<()> {
        self.file.read_direct(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> EngineResult<()> {
        self.file.write(start, bytes)
    }

    fn sync(&self) -> EngineResult<()> {
        self.file.sync()
    }

    fn grow(&self, blocks: u32) -> EngineResult<()> {
        let needed = u64::from(blocks).saturating_sub(self.file.length_bytes()? / 4096);
        if needed > 0 && self.is_full.load(Ordering::Relaxed) {
            let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
            return Err(EngineError::NoSpace { needed_blocks: needed, source: Arc::new(source) });
        }
        self.file.grow(blocks)
    }

    fn shrink(&self, blocks: u32) -> EngineResult<()> {
        self.file.shrink(blocks)
    }

    fn length_bytes(&self) -> EngineResult<u64> {
        self.file.length_bytes()
    }

    fn start_write_back(&self, run: Run) -> EngineResult<()> {
        self.file.start_write_back(run)
    }
}

/// Creates an archive in a new file. Returns it with the switch that makes the disk full.
fn archive(folder: &Path, name: &str) -> Result<(Archive, Arc<AtomicBool>)> {
    let (new, file) = NewFile::create(folder.join(name))?;
    new.persist(&file)?;
    let is_full = Arc::new(AtomicBool::new(false));
    let device = FullDisk { file: MappedDevice::new(file), is_full: Arc::clone(&is_full) };
    let secret = Secret::Key(RawKey::from_bytes([5; 32]));
    let archive = Archive::create_device(Box::new(device), &secret, &CreateOptions::default())?;
    Ok((archive, is_full))
}

/// Deletes a stream of `count` extents on a full disk.
pub(super) fn extents(folder: &Path, count: u32) -> Result<()> {
    let started = Instant::now();
    let (archive, is_full) = archive(folder, "extents.ar7")?;
    // Two streams grow alternately by one block, with a flush after each, so the blocks of neither are consecutive.
    archive.set_memory_limits(0, 4096)?;
    let (mut first, mut second) = (archive.new_stream()?, archive.new_stream()?);
    let block = [7; DATA_SIZE];
    for _ in 0..count {
        first.append(&block)?;
        second.append(&block)?;
    }
    let identity = first.identity();
    first.close()?;
    second.close()?;
    archive.commit()?;
    let before = archive.statistics()?;
    assert!(before.extents >= u64::from(count), "{} extents", before.extents);
    println!("full-disk: {} extents, {}", before.extents, seconds(started.elapsed()));

    is_full.store(true, Ordering::Relaxed);
    let started = Instant::now();
    assert!(archive.delete_stream(identity)?, "the stream exists");
    archive.reclaim()?;
    let after = archive.statistics()?;
    assert_eq!(
        (after.streams, after.pending_deletions),
        (1, 0),
        "the stream and its extents were deleted"
    );
    assert!(after.free_blocks >= u64::from(count), "{} free blocks", after.free_blocks);
    println!(
        "full-disk: deleted with no space left in {} commits, {}",
        after.commit - before.commit,
        seconds(started.elapsed())
    );
    finish(archive)
}

/// Removes a tree of `count` names on a full disk. One in ten has a stream.
pub(super) fn names(folder: &Path, count: u32) -> Result<()> {
    let started = Instant::now();
    let (archive, is_full) = archive(folder, "names.ar7")?;
    let modified = Timestamp { seconds: 0, nanoseconds: 0 };
    let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, modified, origin: None };
    let names = archive.names();
    let tree = names.make_directory(InodeNumber::ROOT, b"tree", attributes)?;
    for number in 0..count {
        // As in practice, the order of the names differs from the order of the streams.
        let name = format!("{:08x}", number.reverse_bits());
        let stream = if number % 10 == 0 {
            let mut stream = archive.new_stream()?;
            stream.append(b"ten bytes.")?;
            let identity = stream.identity();
            stream.close()?;
            Some(identity)
        } else {
            None
        };
        names.add_file(tree, name.as_bytes(), attributes, stream)?;
    }
    archive.commit()?;
    let before = archive.statistics()?;
    println!("full-disk: {} names, {}", before.names, seconds(started.elapsed()));

    is_full.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let removed = names.remove_tree(InodeNumber::ROOT, b"tree", Some(10_000), &mut |_| true)?;
    archive.commit()?;
    archive.reclaim()?;
    let after = archive.statistics()?;
    assert_eq!(removed, u64::from(count) + 1, "the names, and the directory");
    assert_eq!((after.names, after.streams), (0, 0), "the tree was removed");
    println!(
        "full-disk: removed with no space left in {} commits, {}",
        after.commit - before.commit,
        seconds(started.elapsed())
    );
    finish(archive)
}

/// Checks that the archive verifies and is usable once there is space again.
fn finish(archive: Archive) -> Result<()> {
    let mut findings = 0;
    archive.verify(&mut |_| findings += 1, &mut |_| {})?;
    assert_eq!(findings, 0, "the archive verifies");
    archive.close()
}
