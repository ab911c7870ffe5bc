//! A block of the redo list.

use uuid::Uuid;

use super::reserved::{RESERVED_BLOCKS, is_reserved};
use super::units::{BlockRef, DoubledRef, Generation, Position};
use super::{DATA_SIZE, Data};
use crate::error::{Check, Error, Result, Value};

crate::layout! {
    /// One entry of the redo list.
    pub mod redo_entry, 20 => {
        HOME: 4, "u32: home location: position of the live block that the commit changed";
        SHADOW: 16, "position i32 of the shadow block, sealed for HOME, and its generation; -1 and 0 if HOME is not listed any more";
    }
}

crate::layout! {
    /// The data of a block of the redo list.
    pub mod redo_block, 4008 => {
        TAG: 4, "\"redo\"";
        COUNT: 2, "u16: number of entries, at least 1";
        RESERVED: 2, "0";
        NEXT: 20, "both copies of the next block, which is older; positions -1 for none";
        ENTRIES: 3980, "the entries, then zeros";
    }
}

/// Largest number of entries in a block of the redo list.
pub const REDO_PER_BLOCK: usize = redo_block::ENTRIES.length / redo_entry::SIZE;

/// The stream UUID in the heads of the redo list's blocks.
pub const REDO_STREAM: Uuid = Uuid::from_u128(0x6172_3700_0000_0000_8000_0000_0000_0102);

const TAG: [u8; 4] = *b"redo";

/// A change of the redo list. The newest entry of a home location counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedoEntry {
    /// Home location: the position of the live block.
    pub home: Position,
    /// The shadow block with the newest version of the live block. `None` removes the home location from the list.
    pub shadow: Option<BlockRef>,
}

/// A block of the redo list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedoBlock {
    /// The next block, whose entries are older.
    pub next: Option<DoubledRef>,
    /// Its entries, 1 to [`REDO_PER_BLOCK`].
    pub entries: Vec<RedoEntry>,
}

impl RedoBlock {
    /// Encodes the data of the block.
    ///
    /// # Panics
    /// If it has no entry or more than [`REDO_PER_BLOCK`], a bug of the caller.
    pub fn encode(&self) -> Box<Data> {
        let count = self.entries.len();
        assert!((1..=REDO_PER_BLOCK).contains(&count), "entries that one block holds");
        let mut data = Box::new([0; DATA_SIZE]);
        redo_block::TAG.put(&mut data[..], &TAG);
        let count = u16::try_from(count).expect("at most 199");
        redo_block::COUNT.put(&mut data[..], &count.to_be_bytes());
        redo_block::NEXT.put(&mut data[..], &DoubledRef::encode(self.next));
        let slots = redo_block::ENTRIES.of_mut(&mut data[..]).chunks_exact_mut(redo_entry::SIZE);
        for (entry, bytes) in self.entries.iter().zip(slots) {
            redo_entry::HOME.put(bytes, &entry.home.get().to_be_bytes());
            redo_entry::SHADOW.put(bytes, &BlockRef::encode(entry.shadow));
        }
        data
    }

    /// Decodes the data of the block at `position`. Every position in it lies below `block_count` and is not reserved.
    /// The two positions of an entry differ, and so do the two copies of the next block.
    pub fn decode(position: Position, data: &Data, block_count: u32) -> Result<RedoBlock> {
        Decoder { position, data, block_count }.decode()
    }
}

struct Decoder<'a> {
    position: Position,
    data: &'a Data,
    block_count: u32,
}

impl Decoder<'_> {
    fn decode(&self) -> Result<RedoBlock> {
        let Decoder { position, data, .. } = *self;
        if redo_block::TAG.of(data) != TAG {
            return Err(Error::damaged(position, Check::RedoList, "a redo block", "another tag"));
        }
        let count = usize::from(redo_block::COUNT.u16(data));
        if count == 0 || count > REDO_PER_BLOCK {
            return Err(Error::damaged(position, Check::RedoList, 1..=REDO_PER_BLOCK, count));
        }
        let (used, unused) = redo_block::ENTRIES.of(data).split_at(count * redo_entry::SIZE);
        if redo_block::RESERVED.u16(data) != 0 || unused.iter().any(|&byte| byte != 0) {
            return Err(Error::damaged(position, Check::Reserved, "zeros", "other bytes"));
        }
        let next = DoubledRef::decode(redo_block::NEXT.array(data));
        let next = next.map_err(|found| self.not_a_block(found))?;
        for copy in next.into_iter().flat_map(DoubledRef::copies) {
            self.check(copy.position.get())?;
        }
        let entries = used.chunks_exact(redo_entry::SIZE).map(|bytes| self.entry(bytes));
        Ok(RedoBlock { next, entries: entries.collect::<Result<_>>()? })
    }

    fn entry(&self, bytes: &[u8]) -> Result<RedoEntry> {
        let home = self.check(redo_entry::HOME.u32(bytes))?;
        let shadow = BlockRef::decode(redo_entry::SHADOW.array(bytes));
        let shadow = shadow.map_err(|found| self.not_a_block(found))?;
        match shadow {
            Some(shadow) if shadow.position == home => {
                Err(Error::damaged(self.position, Check::RedoList, "another block", home))
            }
            Some(shadow) => {
                self.check(shadow.position.get())?;
                Ok(RedoEntry { home, shadow: Some(shadow) })
            }
            None if redo_entry::SHADOW.of(bytes)[4..] != [0; Generation::SIZE] => {
                Err(Error::damaged(self.position, Check::Reserved, "zeros", "other bytes"))
            }
            None => Ok(RedoEntry { home, shadow: None }),
        }
    }

    /// Checks that a position is one of the archive and not reserved.
    fn check(&self, raw: u32) -> Result<Position> {
        match Position::new(raw) {
            Some(found) if raw < self.block_count && !is_reserved(found) => Ok(found),
            Some(found) if crate::fault!(TrustRedoTargets) => Ok(found),
            _ => Err(self.not_a_block(raw)),
        }
    }

    fn not_a_block(&self, found: impl Into<Value>) -> Error {
        let allowed = RESERVED_BLOCKS..=self.block_count.saturating_sub(1);
        Error::damaged(self.position, Check::RedoList, allowed, found)
    }
}
