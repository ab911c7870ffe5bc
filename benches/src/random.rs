//! Reads of 4 KiB at random offsets of a long stream in a file, compared with opening two blocks in a loop, which is
//! the minimum work of such a read.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ar7_engine::crypto::{KeyKind, RawKey, Secret};
use ar7_engine::format::{BLOCK_SIZE, BLOCK_SIZE_U64, BlockRef};
use ar7_engine::store::OpenOptions;
use ar7_registry::{Archive, CreateOptions, Stream};
use uuid::Uuid;

/// The length of the stream that [`LongStream`] is made for, in bytes.
pub const LENGTH: u64 = 256 << 20;

/// Length in bytes of a stream before it, so that the third copies of header and meta slot are not in its midst.
const BEFORE: u64 = 2 << 20;

/// The size of a read in bytes.
const READ: usize = 4096;

/// An archive with one long stream, open for reading.
pub struct LongStream {
    archive: Archive,
    stream: Stream,
    /// The first block of the stream.
    first: BlockRef,
    blocks: u32,
    length: u64,
}

impl LongStream {
    /// Creates the archive in a directory, with a stream of `length` bytes. Afterwards all of it is in the page cache.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn make(folder: &Path, length: u64) -> LongStream {
        let path = folder.join("long.ar7");
        let secret = Secret::Key(RawKey::generate().expect("random bytes"));
        let archive = Archive::create(&path, &secret, &CreateOptions::default());
        let archive = archive.expect("an archive");
        add_stream(&archive, BEFORE);
        let identity = add_stream(&archive, length);
        archive.commit().expect("a commit");
        archive.close().expect("closed");
        let mut block = [0; BLOCK_SIZE];
        let file = File::open(&path).expect("the archive");
        let end = file.metadata().expect("its length").len();
        for offset in (0..end).step_by(BLOCK_SIZE) {
            file.read_exact_at(&mut block, offset).expect("a block");
        }
        let archive = Archive::open(&path, &secret, OpenOptions::default()).expect("opens");
        let stream = archive.read_stream(identity).expect("the stream");
        let stored = stream.stored().expect("its record");
        let ar7_engine::format::StreamLayout::OneRun(generation) = stored.layout else {
            panic!("a stream written in one go is one run");
        };
        let first = BlockRef { position: stored.record.begin.expect("blocks"), generation };
        LongStream { archive, stream, first, blocks: stored.record.count, length }
    }

    /// Returns the seconds taken by `count` reads on each of `threads` threads.
    ///
    /// # Panics
    /// If a read fails.
    pub fn read(&self, count: u64, threads: u64) -> f64 {
        timed(threads, |seed| {
            let mut bytes = [0; READ];
            let mut random = seed;
            for _ in 0..count {
                let offset = next(&mut random) % (self.length - READ as u64);
                let read = self.stream.read_at(offset, &mut bytes).expect("a read");
                assert_eq!(read, READ, "the whole read");
                black_box(&bytes);
            }
        })
    }

    /// Returns the seconds taken by opening two consecutive blocks `count` times on each of `threads` threads.
    ///
    /// # Panics
    /// If a block does not open.
    pub fn open_two(&self, count: u64, threads: u64) -> f64 {
        let (store, commit) = (self.archive.store(), self.archive.store().current());
        timed(threads, |seed| {
            let mut bytes = [0; BLOCK_SIZE];
            let mut random = seed;
            for _ in 0..count {
                let offset = next(&mut random) % (u64::from(self.blocks - 1) * BLOCK_SIZE_U64);
                let place = u32::try_from(offset / BLOCK_SIZE_U64).expect("a block");
                for place in [place, place + 1] {
                    let position = self.first.position.get() + place;
                    let position = ar7_engine::format::Position::at(position);
                    let block = BlockRef { position, ..self.first };
                    let opened =
                        store.read_into(&commit.redirects, KeyKind::Data, block, &mut bytes);
                    black_box(opened.expect("opens").data);
                }
            }
        })
    }
}

fn add_stream(archive: &Archive, length: u64) -> Uuid {
    let mut stream = archive.new_stream().expect("a stream");
    stream.set_len(length).expect("space");
    let identity = stream.identity();
    stream.close().expect("saved");
    identity
}

/// Runs the same work on every thread, each with its own seed. Returns the seconds.
fn timed(threads: u64, work: impl Fn(u64) + Sync) -> f64 {
    let started = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let work = &work;
            scope.spawn(move || work(thread + 1));
        }
    });
    started.elapsed().as_secs_f64()
}

fn next(random: &mut u64) -> u64 {
    *random =
        random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *random >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_stream_is_one_run_and_is_read() {
        let folder = tempfile::tempdir().expect("a directory");
        let stream = LongStream::make(folder.path(), 1 << 20);
        stream.read(10, 2);
        stream.open_two(10, 2);
    }
}
