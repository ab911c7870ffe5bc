//! A device that counts, so that work without an end shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ar7_engine::Result;
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{BLOCK_SIZE, Position};

/// Blocks that may be read and written while one archive is looked at and changed; an honest one takes a few hundred.
const BLOCKS_MAX: u64 = 20_000;

/// Blocks that the file can grow to.
const CAPACITY: u32 = 4096;

/// A device in memory that panics when it is asked for too much.
#[derive(Debug, Clone)]
pub(super) struct Metered {
    device: MemoryDevice,
    blocks: Arc<AtomicU64>,
}

impl Metered {
    pub(super) fn new(image: &[u8]) -> Metered {
        let device = MemoryDevice::from_bytes(image);
        device.set_capacity(CAPACITY);
        Metered { device, blocks: Arc::default() }
    }

    /// Blocks that were read and written so far.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// The bytes of the device.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        self.device.to_bytes()
    }

    fn count(&self, bytes: &[u8]) {
        let blocks = u64::try_from(bytes.len() / BLOCK_SIZE).expect("a length in memory");
        let all = self.blocks.fetch_add(blocks.max(1), Ordering::Relaxed);
        assert!(all < BLOCKS_MAX, "work without an end: {all} blocks were read and written");
    }
}

impl Device for Metered {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.count(bytes);
        self.device.read(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.count(bytes);
        self.device.write(start, bytes)
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

    fn read_beginning(&self, length: usize) -> Result<Vec<u8>> {
        self.device.read_beginning(length)
    }
}
