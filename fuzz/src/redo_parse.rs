//! Decoding of a block of the redo list from arbitrary data.

use ar7_engine::format::{DATA_SIZE, DoubledRef, Position, RedoBlock};

use crate::bytes::{check_decoded, padded, split};

/// Decodes `bytes` as a number of blocks and the data of a block of the redo list. Returns whether it was accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn redo_parse(bytes: &[u8]) -> bool {
    let (block_count, bytes) = split(bytes);
    let data = padded::<DATA_SIZE>(bytes);
    let block_count = u32::from_be_bytes(block_count);
    let decoded = RedoBlock::decode(Position::at(9), &data, block_count);
    let is_block = |position: Position| (8..block_count).contains(&position.get());
    if let Ok(RedoBlock { next, entries }) = &decoded {
        if let Some(DoubledRef { position, copy, .. }) = *next {
            assert!(is_block(position) && is_block(copy), "the next block is one of the archive");
            assert_ne!(position, copy, "its copies differ");
        }
        for entry in entries {
            let shadow = entry.shadow.map(|shadow| shadow.position);
            assert!(is_block(entry.home) && shadow.is_none_or(is_block), "blocks of the archive");
            assert_ne!(Some(entry.home), shadow, "the shadow block differs from the home location");
        }
    }
    check_decoded(&data[..], decoded.map(|block| block.encode().to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::{BlockRef, Generation, RedoEntry};

    #[test]
    fn any_block_is_accepted_or_rejected() {
        let generation = Generation { session: 1, step: 1, salt: 2 };
        let entry = |number: u32| RedoEntry {
            home: Position::at(100 + number),
            shadow: Some(BlockRef { position: Position::at(500 + number), generation }),
        };
        let (position, copy) = (Position::at(9), Position::at(800));
        let next = Some(DoubledRef { position, copy, generation });
        let block = RedoBlock { next, entries: (0..150).map(entry).collect() };
        let bytes = [&1000_u32.to_be_bytes()[..], &block.encode()[..]].concat();
        check_mutations(&bytes, 0x7265_646f, redo_parse);
    }
}
