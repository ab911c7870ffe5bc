//! A block of the redo list.

use uuid::Uuid;

use super::reserved::RESERVED_BLOCKS;
use super::units::{Generation, Position};
use super::{DATA_SIZE, Data};
use crate::error::{Check, Error, Result};

crate::layout! {
    /// One entry of the redo list.
    pub mod redo_entry, 20 => {
        HOME: 4, "u32: home location: position of the live block that the commit changed";
        SHADOW: 4, "u32: position of the shadow block, sealed for HOME";
        GENERATION: 12, "generation of the shadow block";
    }
}

crate::layout! {
    /// The data of a block of the redo list.
    pub mod redo_block, 4008 => {
        TAG: 4, "\"redo\"";
        COUNT: 2, "u16: number of entries, at least 1";
        RESERVED: 2, "0";
        ENTRIES: 4000, "the entries, then zeros";
    }
}

/// Largest number of entries in a block of the redo list.
pub const REDO_PER_BLOCK: usize = redo_block::ENTRIES.length / redo_entry::SIZE;

/// The stream UUID in the heads of the redo list's blocks.
pub const REDO_STREAM: Uuid = Uuid::from_u128(0x6172_3700_0000_0000_8000_0000_0000_0102);

const TAG: [u8; 4] = *b"redo";

/// A live block that a commit changed: its home location and its shadow block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RedoEntry {
    /// Home location: the position of the live block.
    pub home: Position,
    /// Position of the shadow block.
    pub shadow: Position,
    /// Generation of the shadow block.
    pub generation: Generation,
}

/// Encodes the data of one block of the list.
///
/// # Panics
/// If `entries` is empty or longer than [`REDO_PER_BLOCK`], a bug of the caller.
pub fn encode_redo(entries: &[RedoEntry]) -> Box<Data> {
    assert!((1..=REDO_PER_BLOCK).contains(&entries.len()), "entries that one block holds");
    let mut data = Box::new([0; DATA_SIZE]);
    redo_block::TAG.put(&mut data[..], &TAG);
    let count = u16::try_from(entries.len()).expect("at most 200");
    redo_block::COUNT.put(&mut data[..], &count.to_be_bytes());
    let slots = redo_block::ENTRIES.of_mut(&mut data[..]).chunks_exact_mut(redo_entry::SIZE);
    for (entry, bytes) in entries.iter().zip(slots) {
        redo_entry::HOME.put(bytes, &entry.home.get().to_be_bytes());
        redo_entry::SHADOW.put(bytes, &entry.shadow.get().to_be_bytes());
        redo_entry::GENERATION.put(bytes, &entry.generation.encode());
    }
    data
}

/// Decodes one block of the list. Home locations and shadow blocks lie below `block_count`, are not reserved, and
/// differ.
pub fn decode_redo(position: Position, data: &Data, block_count: u32) -> Result<Vec<RedoEntry>> {
    let damaged =
        |expected: u64, found: u64| Error::damaged(position, Check::RedoList, expected, found);
    if redo_block::TAG.of(data) != TAG {
        return Err(Error::damaged(position, Check::RedoList, "a redo block", "another tag"));
    }
    let count = usize::from(redo_block::COUNT.u16(data));
    if count == 0 || count > REDO_PER_BLOCK {
        return Err(damaged(REDO_PER_BLOCK as u64, count as u64));
    }
    let (used, unused) = redo_block::ENTRIES.of(data).split_at(count * redo_entry::SIZE);
    if redo_block::RESERVED.u16(data) != 0 || unused.iter().any(|&byte| byte != 0) {
        return Err(Error::damaged(position, Check::Reserved, "zeros", "other bytes"));
    }
    let target = |raw: u32| match Position::new(raw) {
        Some(target) if raw >= RESERVED_BLOCKS && raw < block_count => Ok(target),
        Some(target) if crate::fault!(TrustRedoTargets) => Ok(target),
        _ => Err(damaged(u64::from(block_count), u64::from(raw))),
    };
    let entry = |bytes: &[u8]| {
        let home = target(redo_entry::HOME.u32(bytes))?;
        let shadow = target(redo_entry::SHADOW.u32(bytes))?;
        if home == shadow {
            return Err(Error::damaged(position, Check::RedoList, "another block", home));
        }
        let generation = Generation::decode(redo_entry::GENERATION.array(bytes));
        Ok(RedoEntry { home, shadow, generation })
    };
    used.chunks_exact(redo_entry::SIZE).map(entry).collect()
}
