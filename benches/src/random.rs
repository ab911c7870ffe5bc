//! Reads of 4 KiB at random offsets of a long stream in a file, compared with opening two blocks in a loop, which is
//! the minimum work of such a read. The same reads of a long compressed file.

use std::fs::File;
use std::hint::black_box;
use std::io::Read as _;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use ar7_engine::crypto::{KeyKind, RawKey, Secret};
use ar7_engine::format::{BLOCK_SIZE, BLOCK_SIZE_U64, BlockRef};
use ar7_engine::store::OpenOptions;
use ar7_registry::records::{Attributes, InodeNumber};
use ar7_registry::{Archive, CreateOptions, FileContent, Mode, Stream, StreamFile};
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
        warm(&path);
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

/// A long compressed file in an archive, open for reading.
pub struct LongFile {
    content: FileContent,
}

impl LongFile {
    /// Creates the archive in a directory, with a compressed file of `mebibytes` MiB. Afterwards all of it is in the page
    /// cache.
    ///
    /// # Panics
    /// If the disk fails.
    pub fn make(folder: &Path, mebibytes: u64) -> LongFile {
        let path = folder.join("packed.ar7");
        let secret = Secret::Key(RawKey::generate().expect("random bytes"));
        let archive = Archive::create(&path, &secret, &CreateOptions::default());
        let archive = archive.expect("an archive");
        let names = archive.names();
        let mut packed = names.begin_packed(None).expect("a writer");
        let pieces: Vec<Vec<u8>> = (0..TEXTS).map(text).collect();
        for piece in pieces.iter().cycle().zip(0..mebibytes).map(|(piece, _)| piece) {
            names.append_packed(&mut packed, piece).expect("space");
        }
        let modified = ar7_engine::format::Timestamp::default();
        let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, modified, origin: None };
        names.add_packed(InodeNumber::ROOT, b"file", attributes, packed).expect("a new name");
        archive.commit().expect("a commit");
        archive.close().expect("closed");
        warm(&path);
        let archive = Archive::open(&path, &secret, OpenOptions::default()).expect("opens");
        let snapshot = archive.snapshot();
        let entry = snapshot.resolve(b"file").expect("the file");
        let inode = snapshot.inode(entry.inode).expect("opens").expect("the inode");
        let content = snapshot.read_file(&inode).expect("opens").expect("content");
        LongFile { content }
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
                let offset = next(&mut random) % (self.content.len() - READ as u64);
                let read = self.content.read_at(offset, &mut bytes).expect("a read");
                assert_eq!(read, READ, "the whole read");
                black_box(&bytes);
            }
        })
    }
}

impl LongFile {
    /// Returns the seconds taken by reading `length` bytes from the beginning, a few at a time.
    ///
    /// # Panics
    /// If a read fails.
    pub fn read_in_order(&self, length: u64) -> f64 {
        let file = StreamFile::over(self.content.clone(), String::new(), Mode::READ);
        let mut file = file.expect("a file").take(length);
        let mut bytes = [0; 2 * READ];
        let started = Instant::now();
        while file.read(&mut bytes).expect("a read") > 0 {
            black_box(&bytes);
        }
        started.elapsed().as_secs_f64()
    }
}

/// Number of different MiB in a compressed file. Frames are shorter, so that repetition does not help to compress.
const TEXTS: u64 = 16;

/// Returns a MiB of lines of words, some of which are much more frequent than others.
fn text(seed: u64) -> Vec<u8> {
    let mut random = seed;
    let mut text = Vec::with_capacity(1 << 20);
    while text.len() < 1 << 20 {
        // The product of two numbers is small more often than not.
        let chosen = (next(&mut random) % 64) * (next(&mut random) % 64);
        let mut letters = chosen.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..2 + letters % 9 {
            letters = letters.rotate_left(7).wrapping_mul(31);
            text.push(b'a' + u8::try_from(letters % 26).expect("a letter"));
        }
        let separators: &[u8] = match next(&mut random) % 12 {
            0 => b"\n\t",
            1 => b" = ",
            2 => b"(",
            3 => b");\n",
            _ => b" ",
        };
        text.extend_from_slice(separators);
    }
    text.truncate(1 << 20);
    text
}

/// Reads a file once.
fn warm(path: &Path) {
    let mut block = [0; BLOCK_SIZE];
    let file = File::open(path).expect("the archive");
    let end = file.metadata().expect("its length").len();
    for offset in (0..end).step_by(BLOCK_SIZE) {
        file.read_exact_at(&mut block, offset).expect("a block");
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

    #[test]
    fn a_long_file_is_compressed_and_is_read() {
        let folder = tempfile::tempdir().expect("a directory");
        let file = LongFile::make(folder.path(), 2);
        assert!(matches!(file.content, FileContent::Packed(_)));
        let stored = folder.path().join("packed.ar7").metadata().expect("the archive").len();
        assert!(stored < 1 << 20, "{stored}");
        file.read(10, 2);
        file.read_in_order(1 << 20);
    }
}
