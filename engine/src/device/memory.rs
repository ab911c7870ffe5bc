//! A device in memory, for tests.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{Device, bytes_u64, device_bytes, fitting, refused, region_end};
use crate::Result;
use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, Position};

/// A device in memory. Blocks never written take no memory, so even the longest archive fits. A clone is another handle
/// to the same bytes.
#[derive(Debug, Clone, Default)]
pub struct MemoryDevice {
    shared: Arc<RwLock<Contents>>,
}

/// A copy of a [`MemoryDevice`] at one time. It shares blocks until they are written.
#[derive(Debug, Clone)]
pub struct MemorySnapshot(Contents);

#[derive(Debug, Clone)]
struct Contents {
    blocks: BTreeMap<u32, Arc<[u8; BLOCK_SIZE]>>,
    length_bytes: u64,
    capacity_blocks: u32,
}

impl MemoryDevice {
    /// Creates an empty device.
    pub fn new() -> MemoryDevice {
        MemoryDevice::default()
    }

    /// Creates a device that holds `image`, of any length.
    ///
    /// # Panics
    /// If `image` is longer than an archive can be.
    pub fn from_bytes(image: &[u8]) -> MemoryDevice {
        let device = MemoryDevice::new();
        let mut contents = device.contents_mut();
        contents.length_bytes = bytes_u64(image.len());
        for (position, bytes) in (0..BLOCKS_MAX).zip(image.chunks(BLOCK_SIZE)) {
            let mut block = [0; BLOCK_SIZE];
            block[..bytes.len()].copy_from_slice(bytes);
            contents.blocks.insert(position, Arc::new(block));
        }
        drop(contents);
        device
    }

    /// All bytes of the device.
    ///
    /// # Panics
    /// If they do not fit in memory.
    pub fn to_bytes(&self) -> Vec<u8> {
        let contents = self.contents();
        let length = usize::try_from(contents.length_bytes).expect("the image fits in memory");
        let mut image = vec![0; length];
        for (&position, block) in &contents.blocks {
            let offset = usize::try_from(Position::at(position).offset()).expect("within image");
            let end = length.min(offset + BLOCK_SIZE);
            image[offset..end].copy_from_slice(&block[..end - offset]);
        }
        image
    }

    /// Sets the capacity: growing beyond it fails with [`Error::NoSpace`](crate::Error::NoSpace).
    pub fn set_capacity(&self, blocks: u32) {
        self.contents_mut().capacity_blocks = blocks;
    }

    /// Takes a snapshot of the current bytes.
    pub fn snapshot(&self) -> MemorySnapshot {
        MemorySnapshot(self.contents().clone())
    }

    /// Restores the bytes of `snapshot`.
    pub fn restore(&self, snapshot: &MemorySnapshot) {
        self.contents_mut().clone_from(&snapshot.0);
    }

    fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents_mut(&self) -> RwLockWriteGuard<'_, Contents> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemorySnapshot {
    /// Creates a device with the same bytes.
    pub fn to_device(&self) -> MemoryDevice {
        MemoryDevice { shared: Arc::new(RwLock::new(self.0.clone())) }
    }
}

impl Default for Contents {
    fn default() -> Contents {
        Contents { blocks: BTreeMap::new(), length_bytes: 0, capacity_blocks: BLOCKS_MAX }
    }
}

impl Device for MemoryDevice {
    fn read(&self, start: Position, bytes: &mut [u8]) -> Result<()> {
        let contents = self.contents();
        region_end(start, bytes.len(), contents.length_bytes)?;
        for (position, bytes) in (start.get()..).zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            match contents.blocks.get(&position) {
                Some(block) => bytes.copy_from_slice(&block[..]),
                None => bytes.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, start: Position, bytes: &[u8]) -> Result<()> {
        let mut contents = self.contents_mut();
        region_end(start, bytes.len(), contents.length_bytes)?;
        let blocks = bytes.as_chunks::<BLOCK_SIZE>().0;
        for (position, block) in (start.get()..).zip(blocks) {
            contents.blocks.insert(position, Arc::new(*block));
        }
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn grow(&self, blocks: u32) -> Result<()> {
        let wanted = device_bytes(blocks)?;
        let mut contents = self.contents_mut();
        if wanted <= contents.length_bytes {
            return Ok(());
        }
        if blocks > contents.capacity_blocks {
            let needed_blocks = (wanted - contents.length_bytes).div_ceil(BLOCK_SIZE_U64);
            return Err(refused("grow", None, needed_blocks, io::ErrorKind::StorageFull.into()));
        }
        contents.length_bytes = wanted;
        Ok(())
    }

    fn shrink(&self, blocks: u32) -> Result<()> {
        let wanted = device_bytes(blocks)?;
        let mut contents = self.contents_mut();
        if wanted < contents.length_bytes {
            contents.length_bytes = wanted;
            contents.blocks.split_off(&blocks);
        }
        Ok(())
    }

    fn length_bytes(&self) -> Result<u64> {
        Ok(self.contents().length_bytes)
    }

    fn read_beginning(&self, length: usize) -> Result<Vec<u8>> {
        let contents = self.contents();
        let mut bytes = vec![0; fitting(length, contents.length_bytes)];
        for (position, bytes) in (0..).zip(bytes.chunks_mut(BLOCK_SIZE)) {
            if let Some(block) = contents.blocks.get(&position) {
                bytes.copy_from_slice(&block[..bytes.len()]);
            }
        }
        Ok(bytes)
    }
}
