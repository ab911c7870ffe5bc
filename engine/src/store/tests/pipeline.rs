//! Large writes, whose sealing and writing overlap: they have the same result as small writes, and a failure halfway
//! is like any other.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::faults::{Fault, Faulty, assert_poisoned};
use super::*;
use crate::error::Error;
use crate::format::{BLOCK_SIZE, BlockIndex, Generation, Run};
use crate::store::pipeline::LARGE_BLOCKS;

/// Blocks of a large write: several buffers, the last one not full.
const BLOCKS: u32 = 2 * 1024 + 70;

fn heads() -> impl Iterator<Item = BlockHead> {
    (0..).map(|index| BlockHead { index: BlockIndex(index), ..BlockHead::default() })
}

/// Writes a block to each position, in one call. Its data repeats its number in the call.
fn write_all(writer: &mut Writer, positions: &[Position]) -> Result<Generation> {
    let data: Vec<Data> = (0..positions.len()).map(|place| data(marked(place))).collect();
    let jobs: Vec<SealJob<'_>> = positions
        .iter()
        .zip(heads())
        .zip(&data)
        .map(|((&position, head), data)| SealJob { position, head, data })
        .collect();
    writer.write_fresh(KeyKind::Data, &jobs)
}

fn marked(place: usize) -> u8 {
    u8::try_from(place % 251).unwrap()
}

/// Asserts that each position holds its block, with its head.
#[track_caller]
fn check_all(store: &Store, positions: &[Position], generation: Generation) {
    let redirects = &store.current().redirects;
    for ((place, &position), head) in positions.iter().enumerate().zip(heads()) {
        let block = BlockRef { position, generation };
        let found = store.read_block(redirects, KeyKind::Data, block).unwrap();
        assert_eq!((found.head, found.data[0]), (head, marked(place)), "block {place}");
    }
}

fn allocated(writer: &mut Writer, count: u32) -> Vec<Position> {
    let positions = writer.allocate_all(usize::try_from(count).unwrap(), Urgency::Ordinary);
    positions.unwrap()
}

#[test]
fn a_large_write_has_the_same_result_as_small_ones() {
    let (_, store, mut writer) = create();
    let positions = allocated(&mut writer, BLOCKS);
    assert!(positions.len() > LARGE_BLOCKS);
    let generation = write_all(&mut writer, &positions).unwrap();
    check_all(&store, &positions, generation);
    // Scattered positions: every second one, then the others in reverse.
    let more = allocated(&mut writer, BLOCKS);
    let (even, odd): (Vec<Position>, Vec<Position>) = {
        let numbered = |is_even: bool| {
            let kept =
                more.iter().enumerate().filter(move |(place, _)| (place % 2 == 0) == is_even);
            kept.map(|(_, &position)| position).collect()
        };
        (numbered(true), numbered(false))
    };
    let scattered: Vec<Position> = even.into_iter().chain(odd.into_iter().rev()).collect();
    let generation = write_all(&mut writer, &scattered).unwrap();
    check_all(&store, &scattered, generation);
    commit(&mut writer, 1).unwrap();
    check_all(&store, &scattered, generation);
}

#[test]
fn a_large_write_to_a_mapped_file_is_read_back() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    let options = CreateOptions::default();
    let (store, mut writer) = Store::create(&path, &secret(), &options).unwrap();
    allocate_before_third_copies(&mut writer);
    let positions = allocated(&mut writer, BLOCKS);
    let generation = write_all(&mut writer, &positions).unwrap();
    check_all(&store, &positions, generation);
    // Freed blocks are written again, while their old pages are in the map.
    commit(&mut writer, 1).unwrap();
    let run = Run::new(positions[0], BLOCKS).unwrap();
    writer.free(run);
    writer.drain_freed();
    commit(&mut writer, 2).unwrap();
    writer.drain_pool();
    writer.release(run).unwrap();
    let again = allocated(&mut writer, BLOCKS);
    assert_eq!(again[0], positions[0], "the same position");
    let newer = write_all(&mut writer, &again).unwrap();
    assert_ne!(newer, generation);
    check_all(&store, &again, newer);
    commit(&mut writer, 3).unwrap();
    writer.finish().unwrap();
    drop(store);
    let reopened = Store::open(&path, &secret(), OpenOptions::default()).unwrap().0;
    check_all(&reopened, &again, newer);
}

/// A device that supports direct writes. It counts blocks written directly, blocks written through the cache, and
/// blocks whose write-back was started.
#[derive(Clone)]
struct Counting {
    device: MemoryDevice,
    direct: Arc<AtomicUsize>,
    through: Arc<AtomicUsize>,
    write_back: Arc<AtomicUsize>,
}

impl Device for Counting {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.device.read(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.through.fetch_add(bytes.len() / BLOCK_SIZE, Ordering::Relaxed);
        self.device.write(start, bytes)
    }

    fn write_direct(&self, start: Position, bytes: &[u8]) -> Result<bool> {
        self.direct.fetch_add(bytes.len() / BLOCK_SIZE, Ordering::Relaxed);
        self.device.write(start, bytes).map(|()| true)
    }

    fn start_write_back(&self, run: Run) -> Result<()> {
        self.write_back.fetch_add(usize::try_from(run.count()).unwrap(), Ordering::Relaxed);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        self.device.sync()
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        self.device.grow(blocks)
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        self.device.shrink(blocks)
    }

    fn length_bytes(&self) -> Result<u64> {
        self.device.length_bytes()
    }
}

impl Counting {
    /// Returns the counts since the last call: direct, through the cache, and write-back.
    fn counted(&self) -> [usize; 3] {
        [&self.direct, &self.through, &self.write_back]
            .map(|counter| counter.swap(0, Ordering::Relaxed))
    }
}

#[test]
fn long_runs_bypass_the_page_cache_and_short_ones_use_it() {
    let (device, _, first) = create();
    drop(first);
    let (direct, through, write_back) = (Arc::default(), Arc::default(), Arc::default());
    let device = Counting { device, direct, through, write_back };
    let (store, mut writer) = writer(&device);
    let blocks = usize::try_from(BLOCKS).unwrap();
    device.counted();
    allocate_before_third_copies(&mut writer);
    let positions = allocated(&mut writer, BLOCKS);
    let generation = write_all(&mut writer, &positions).unwrap();
    assert_eq!(device.counted(), [blocks, 0, 0]);
    check_all(&store, &positions, generation);
    // Every second block is a run of one.
    let spread: Vec<Position> = allocated(&mut writer, 2 * BLOCKS).into_iter().step_by(2).collect();
    let generation = write_all(&mut writer, &spread).unwrap();
    assert_eq!(device.counted(), [0, blocks, blocks]);
    check_all(&store, &spread, generation);
    // A small write goes through the cache. Its write-back starts from 256 blocks on.
    for (count, write_back) in [(255, 0), (256, 256)] {
        let positions = allocated(&mut writer, count);
        write_all(&mut writer, &positions).unwrap();
        assert_eq!(device.counted(), [0, positions.len(), write_back]);
    }
}

#[test]
fn a_failure_halfway_poisons_the_store_and_ends_the_write() {
    for fault in [Fault::Nothing, Fault::Torn, Fault::Late] {
        for operation in [0, 1, 4, 8] {
            let (device, _, mut first) = create();
            commit(&mut first, 1).unwrap();
            first.finish().unwrap();
            let faulty = Faulty::on(&device, fault);
            let (store, mut writer) = writer(&faulty);
            let positions = allocated(&mut writer, BLOCKS);
            let kept = writer.in_flight().buffers_len();
            faulty.fail_after(operation);
            let error = write_all(&mut writer, &positions).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{error}");
            assert_poisoned(store.check_usable());
            assert_poisoned(write_all(&mut writer, &positions));
            assert!(writer.in_flight().buffers_len() > kept, "the write returned its buffers");
            drop((store, writer));
            assert_eq!(mark(&read_only(&device)), 1);
        }
    }
}

#[test]
fn large_writes_reuse_their_buffers() {
    let (_, _, mut writer) = create();
    let positions = allocated(&mut writer, 2 * BLOCKS);
    let (one, two) = positions.split_at(positions.len() / 2);
    write_all(&mut writer, one).unwrap();
    let made = writer.in_flight().buffer_addresses();
    assert!(!made.is_empty());
    write_all(&mut writer, two).unwrap();
    assert_eq!(writer.in_flight().buffer_addresses(), made);
}
