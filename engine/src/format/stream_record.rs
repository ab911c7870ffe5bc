//! The record of a stream: the 38 bytes of the specification, and the additions of this format.

use std::num::NonZeroU64;

use uuid::Uuid;

use super::reserved::is_reserved;
use super::units::{Generation, Position};
use super::{DATA_SIZE_U64, Field};
use crate::error::{Check, Error, Result, Value};

crate::layout! {
    /// The specification's stream record, "!16siiIQH".
    pub mod stream_record_layout, 38 => {
        IDENTITY: 16, "UUID of the stream";
        BEGIN: 4, "i32: position of the first block, -1 if there is none";
        END: 4, "i32: position of the last block, -1 if there is none";
        COUNT: 4, "u32: number of blocks";
        LENGTH: 8, "u64: number of bytes";
        COMPRESSION: 2, "u16: compression, 0 for none; nothing else exists yet";
    }
}

crate::layout! {
    /// A stream record as the registry and the meta slot keep it.
    pub mod stored_stream, 59 => {
        RECORD: stream_record_layout::SIZE, "the stream record";
        FLAGS: 1, "bit 0: one run, contiguous in position, index and generation; other bits 0";
        GENERATION: 12, "generation of every block of a stream of one run; 0 otherwise";
        INODE: 8, "u64: number of the inode that the stream belongs to, 0 for none";
    }
}

/// No compression.
#[doc(alias = "COMP_NONE")]
pub const COMPRESSION_NONE: u16 = 0;

const ONE_RUN: u8 = 1;

/// The stream record of the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
#[doc(alias = "FORMAT")]
#[doc(alias = "SIZE")]
pub struct StreamRecord {
    /// UUID of the stream.
    pub identity: Uuid,
    /// Position of the first block.
    pub begin: Option<Position>,
    /// Position of the last block.
    pub end: Option<Position>,
    /// Number of blocks.
    pub count: u32,
    /// Number of bytes.
    pub length: u64,
    /// Compression of the data.
    pub compression: u16,
}

impl StreamRecord {
    /// Length on disk in bytes.
    pub const SIZE: usize = stream_record_layout::SIZE;

    /// Creates the record of a stream without blocks.
    pub fn empty(identity: Uuid) -> StreamRecord {
        let compression = COMPRESSION_NONE;
        StreamRecord { identity, begin: None, end: None, count: 0, length: 0, compression }
    }

    /// Encodes the record.
    pub fn encode(&self) -> [u8; StreamRecord::SIZE] {
        use stream_record_layout as at;
        let mut bytes = [0; StreamRecord::SIZE];
        at::IDENTITY.put(&mut bytes, self.identity.as_bytes());
        at::BEGIN.put(&mut bytes, &Position::to_link(self.begin).to_be_bytes());
        at::END.put(&mut bytes, &Position::to_link(self.end).to_be_bytes());
        at::COUNT.put(&mut bytes, &self.count.to_be_bytes());
        at::LENGTH.put(&mut bytes, &self.length.to_be_bytes());
        at::COMPRESSION.put(&mut bytes, &self.compression.to_be_bytes());
        bytes
    }

    /// Decodes a record, and checks that its fields agree with each other.
    #[doc(alias = "load_meta")]
    #[doc(alias = "meta_unpack")]
    pub fn decode(bytes: &[u8; StreamRecord::SIZE]) -> Result<StreamRecord> {
        use stream_record_layout as at;
        let record = StreamRecord {
            identity: Uuid::from_bytes(at::IDENTITY.array(bytes)),
            begin: link(at::BEGIN, bytes)?,
            end: link(at::END, bytes)?,
            count: at::COUNT.u32(bytes),
            length: at::LENGTH.u64(bytes),
            compression: at::COMPRESSION.u16(bytes),
        };
        record.check()?;
        Ok(record)
    }

    fn check(&self) -> Result<()> {
        if self.compression != COMPRESSION_NONE {
            return Err(Error::NewerFormat {
                what: "compression",
                found: self.compression.into(),
                supported: COMPRESSION_NONE.into(),
            });
        }
        let ends = [self.begin, self.end].into_iter().flatten();
        let expected = if self.count == 0 { 0 } else { 2_usize };
        let found = ends.clone().count();
        if found != expected {
            return Err(record_error(expected, found));
        }
        if let Some(found) = ends.clone().find(|end| is_reserved(*end)) {
            return Err(record_error("a block that is not reserved", found));
        }
        // A chain contains no block twice, so only a stream of one block ends where it begins.
        if self.count > 0 && (self.begin == self.end) != (self.count == 1) {
            return Err(record_error(self.begin, self.end));
        }
        let most = u64::from(self.count) * DATA_SIZE_U64;
        if self.length > most {
            return Err(record_error(0..=most, self.length));
        }
        Ok(())
    }
}

/// The location of a stream's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamLayout {
    /// In one run of one generation.
    OneRun(Generation),
    /// In the registry's extents.
    Extents,
}

/// A stream record, the location of the blocks, and the inode whose content they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredStream {
    /// The specification's record.
    pub record: StreamRecord,
    /// The location of the blocks.
    pub layout: StreamLayout,
    /// Number of the inode whose content this is.
    pub inode: Option<NonZeroU64>,
}

impl StoredStream {
    /// Length on disk in bytes.
    pub const SIZE: usize = stored_stream::SIZE;

    /// Creates a stream without blocks.
    pub fn empty(identity: Uuid) -> StoredStream {
        let layout = StreamLayout::OneRun(Generation::default());
        StoredStream { record: StreamRecord::empty(identity), layout, inode: None }
    }

    /// Encodes the record, the layout and the inode.
    pub fn encode(&self) -> [u8; StoredStream::SIZE] {
        let mut bytes = [0; StoredStream::SIZE];
        stored_stream::RECORD.put(&mut bytes, &self.record.encode());
        if let StreamLayout::OneRun(generation) = self.layout {
            stored_stream::FLAGS.put(&mut bytes, &[ONE_RUN]);
            stored_stream::GENERATION.put(&mut bytes, &generation.encode());
        }
        let inode = self.inode.map_or(0, NonZeroU64::get);
        stored_stream::INODE.put(&mut bytes, &inode.to_be_bytes());
        bytes
    }

    /// Decodes a record, its layout and its inode.
    pub fn decode(bytes: &[u8; StoredStream::SIZE]) -> Result<StoredStream> {
        let record = StreamRecord::decode(&stored_stream::RECORD.array(bytes))?;
        let generation = Generation::decode(stored_stream::GENERATION.array(bytes));
        let [flags] = stored_stream::FLAGS.array(bytes);
        let layout = match flags {
            ONE_RUN => StreamLayout::OneRun(generation),
            0 if generation == Generation::default() => StreamLayout::Extents,
            _ => return Err(Error::damaged(None, Check::Reserved, 0_u8, flags)),
        };
        let inode = NonZeroU64::new(stored_stream::INODE.u64(bytes));
        let stored = StoredStream { record, layout, inode };
        stored.check()?;
        Ok(stored)
    }

    fn check(&self) -> Result<()> {
        let record = &self.record;
        match (self.layout, record.begin) {
            (StreamLayout::OneRun(_), Some(begin)) => {
                let expected = begin.checked_add(record.count - 1);
                if expected != record.end {
                    return Err(record_error(expected, record.end));
                }
                Ok(())
            }
            (StreamLayout::OneRun(generation), None) if generation != Generation::default() => {
                Err(Error::damaged(None, Check::Reserved, Generation::default(), generation))
            }
            (StreamLayout::Extents, _) if record.count < 2 => {
                Err(record_error("two blocks or more", record.count))
            }
            _ => Ok(()),
        }
    }
}

fn link(field: Field, bytes: &[u8]) -> Result<Option<Position>> {
    let raw = i32::from_be_bytes(field.array(bytes));
    Position::from_link(raw).map_err(|raw| record_error("-1 or a position", raw))
}

fn record_error(expected: impl Into<Value>, found: impl Into<Value>) -> Error {
    Error::damaged(None, Check::Record, expected, found)
}
