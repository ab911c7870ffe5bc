//! Streams and their extents.

use ar7_engine::format::{BlockIndex, Generation, Position, Run, StoredStream};
use ar7_engine::{Check, Error as EngineError};
use uuid::Uuid;

use super::{Record, TreeId, exactly};
use crate::error::Result;

ar7_engine::layout! {
    /// Key of an extent.
    pub mod extent_key_layout, 20 => {
        STREAM: 16, "UUID of the stream";
        FIRST: 4, "u32: index of the extent's first block";
    }
}

ar7_engine::layout! {
    /// An extent.
    pub mod extent_layout, 20 => {
        START: 4, "u32: position of the first block";
        COUNT: 4, "u32: number of blocks, at least 1";
        GENERATION: 12, "generation of every block of the extent";
    }
}

/// Length in bytes of a stream's key, its UUID.
const KEY_SIZE: usize = 16;

/// Streams: UUID to record.
#[doc(alias = "STREAM_INDEX")]
pub enum Streams {}

impl Record for Streams {
    const TREE: TreeId = TreeId::Streams;
    type Key = Uuid;
    type Value = StoredStream;

    fn encode_key(key: &Uuid) -> Vec<u8> {
        key.as_bytes().to_vec()
    }

    fn with_key<T>(key: &Uuid, work: impl FnOnce(&[u8]) -> T) -> T {
        work(key.as_bytes())
    }

    fn decode_key(bytes: &[u8]) -> Result<Uuid> {
        exactly(bytes).map(Uuid::from_bytes)
    }

    /// The key is the identity, which the value therefore leaves out.
    fn encode_value(value: &StoredStream) -> Vec<u8> {
        value.encode()[KEY_SIZE..].to_vec()
    }

    fn with_value<T>(value: &StoredStream, work: impl FnOnce(&[u8]) -> T) -> T {
        // The value contains no name and no content, so it needs no wiping.
        work(&value.encode()[KEY_SIZE..])
    }

    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<StoredStream> {
        let identity: [u8; KEY_SIZE] = exactly(key)?;
        let value: [u8; StoredStream::SIZE - KEY_SIZE] = exactly(bytes)?;
        let mut whole = [0; StoredStream::SIZE];
        whole[..KEY_SIZE].copy_from_slice(&identity);
        whole[KEY_SIZE..].copy_from_slice(&value);
        Ok(StoredStream::decode(&whole)?)
    }
}

/// Extents of streams with several runs.
pub enum Extents {}

/// Key of an extent: ordered by stream, then by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentKey {
    /// The stream.
    pub stream: Uuid,
    /// Index of the first block.
    pub first: BlockIndex,
}

/// A run of blocks of a stream with one generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Positions of the blocks.
    pub run: Run,
    /// Generation of every block.
    pub generation: Generation,
}

impl Record for Extents {
    const TREE: TreeId = TreeId::Extents;
    type Key = ExtentKey;
    type Value = Extent;

    fn encode_key(key: &ExtentKey) -> Vec<u8> {
        let mut bytes = vec![0; extent_key_layout::SIZE];
        extent_key_layout::STREAM.put(&mut bytes, key.stream.as_bytes());
        extent_key_layout::FIRST.put(&mut bytes, &key.first.get().to_be_bytes());
        bytes
    }

    fn decode_key(bytes: &[u8]) -> Result<ExtentKey> {
        let bytes: [u8; extent_key_layout::SIZE] = exactly(bytes)?;
        Ok(ExtentKey {
            stream: Uuid::from_bytes(extent_key_layout::STREAM.array(&bytes)),
            first: BlockIndex(extent_key_layout::FIRST.u32(&bytes)),
        })
    }

    fn encode_value(value: &Extent) -> Vec<u8> {
        let mut bytes = vec![0; extent_layout::SIZE];
        extent_layout::START.put(&mut bytes, &value.run.start().get().to_be_bytes());
        extent_layout::COUNT.put(&mut bytes, &value.run.count().to_be_bytes());
        extent_layout::GENERATION.put(&mut bytes, &value.generation.encode());
        bytes
    }

    fn decode_value(key: &[u8], bytes: &[u8]) -> Result<Extent> {
        let first = Extents::decode_key(key)?.first;
        let bytes: [u8; extent_layout::SIZE] = exactly(bytes)?;
        let (start, count) = (extent_layout::START.u32(&bytes), extent_layout::COUNT.u32(&bytes));
        let run = Position::new(start).and_then(|start| Run::new(start, count));
        // The index after the last block must not overflow.
        let run = run.filter(|_| first.get().checked_add(count).is_some());
        let run = run.ok_or_else(|| EngineError::damaged(None, Check::Extents, start, count))?;
        let generation = Generation::decode(extent_layout::GENERATION.array(&bytes));
        Ok(Extent { run, generation })
    }
}
