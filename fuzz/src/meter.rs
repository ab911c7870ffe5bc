//! A device that counts the blocks read and written, to check that work on a hostile archive is bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ar7_engine::Result;
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{BLOCK_SIZE, Position, Run};

/// A device in memory that reads and writes no more blocks than its budget. Clones share its content.
#[derive(Clone)]
pub(crate) struct MeteredDevice {
    device: MemoryDevice,
    blocks: Arc<AtomicU64>,
    budget: u64,
}

impl MeteredDevice {
    /// Creates a device with these bytes as its content.
    pub(crate) fn new(bytes: &[u8], budget: u64) -> MeteredDevice {
        let (device, blocks) = (MemoryDevice::from_bytes(bytes), Arc::new(AtomicU64::new(0)));
        MeteredDevice { device, blocks, budget }
    }

    /// Returns the number of blocks read and written so far.
    pub(crate) fn spent(&self) -> u64 {
        self.blocks.load(Ordering::Relaxed)
    }

    /// Returns the content of the device.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.device.to_bytes()
    }

    fn spend(&self, bytes: usize) {
        let blocks = u64::try_from(bytes / BLOCK_SIZE).expect("a length in memory");
        let spent = self.blocks.fetch_add(blocks, Ordering::Relaxed) + blocks;
        assert!(spent <= self.budget, "more than {} blocks are read and written", self.budget);
    }
}

impl Device for MeteredDevice {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        self.spend(bytes.len());
        self.device.read(start, bytes)
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        self.spend(bytes.len());
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

    fn start_write_back(&self, run: Run) -> Result<()> {
        self.device.start_write_back(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "more than 2 blocks")]
    fn exceeding_the_budget_panics() {
        let device = MeteredDevice::new(&[0; 2 * BLOCK_SIZE], 2);
        device.read(Position::at(0), &mut [0; 2 * BLOCK_SIZE]).unwrap();
        assert_eq!(device.spent(), 2);
        let _ = device.read(Position::at(0), &mut [0; BLOCK_SIZE]);
    }
}
