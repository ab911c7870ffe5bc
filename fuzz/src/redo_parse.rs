//! Decoding of a block of the redo list from arbitrary data.

use ar7_engine::format::{DATA_SIZE, Position, decode_redo, encode_redo};

use crate::bytes::{check_decoded, padded, split};

/// Decodes `bytes` as a number of blocks and the data of a block of the redo list. Returns whether it was accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn redo_parse(bytes: &[u8]) -> bool {
    let (block_count, bytes) = split(bytes);
    let data = padded::<DATA_SIZE>(bytes);
    let block_count = u32::from_be_bytes(block_count);
    let decoded = decode_redo(Position::at(9), &data, block_count);
    for entry in decoded.iter().flatten() {
        let ends = [entry.home.get(), entry.shadow.get()];
        assert!(ends.iter().all(|end| (8..block_count).contains(end)), "blocks of the archive");
        assert_ne!(entry.home, entry.shadow, "the shadow block differs from the home location");
    }
    check_decoded(&data[..], decoded.map(|entries| encode_redo(&entries).to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::{Generation, RedoEntry};

    #[test]
    fn any_block_is_accepted_or_rejected() {
        let entry = |number| RedoEntry {
            home: Position::at(100 + number),
            shadow: Position::at(500 + number),
            generation: Generation { session: 1, step: number, salt: 2 },
        };
        let entries: Vec<RedoEntry> = (0..150).map(entry).collect();
        let bytes = [&1000_u32.to_be_bytes()[..], &encode_redo(&entries)[..]].concat();
        check_mutations(&bytes, 0x7265_646f, redo_parse);
    }
}
