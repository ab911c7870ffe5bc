//! Decoding of a meta slot from arbitrary data.

use ar7_engine::format::{
    BlockRef, DATA_SIZE, DoubledRef, Generation, MetaSlot, Position, meta_slot_layout,
};

use crate::bytes::{check_decoded, padded};

/// Decodes `bytes` as the data of a meta slot that was sealed in the generation it states. Returns whether it was
/// accepted.
///
/// # Panics
/// If decoding panics, or the decoded value does not match the bytes.
pub fn meta_slot_parse(bytes: &[u8]) -> bool {
    let data = padded::<DATA_SIZE>(bytes);
    let generation = Generation::decode(meta_slot_layout::GENERATION.array(&data[..]));
    let decoded = MetaSlot::decode(Position::at(1), generation, &data);
    if let Ok(slot) = &decoded {
        check_slot(slot);
    }
    let encoded = decoded.and_then(|slot| slot.encode());
    check_decoded(&data[..], encoded.map(|encoded| encoded.to_vec()))
}

/// Checks that everything a slot refers to is within the archive, and that free runs do not overlap.
fn check_slot(slot: &MetaSlot) {
    let blocks = 8..slot.block_count;
    let mut free_from = blocks.start;
    for run in &slot.inline_free {
        assert!(run.start().get() >= free_from && run.end() <= blocks.end, "free runs: {run:?}");
        free_from = run.end();
    }
    let roots = slot.roots.iter().filter_map(|root| root.block);
    for BlockRef { position, .. } in roots.chain(slot.redo_head).flat_map(DoubledRef::copies) {
        assert!(blocks.contains(&position.get()), "{position:?} is not a block of the archive");
    }
    for stored in &slot.reserved_streams {
        let ends = [stored.record.begin, stored.record.end].into_iter().flatten();
        assert!(ends.into_iter().all(|end| blocks.contains(&end.get())), "{stored:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::{Root, Run, SessionRecord};

    #[test]
    fn any_slot_is_accepted_or_rejected() {
        let generation = Generation { session: 3, step: 9, salt: 0x1234_5678 };
        let mut slot = MetaSlot::first(generation, 1, [5; 32]);
        slot.block_count = 1000;
        let doubled = |at: u32| {
            let [position, copy] = [at, at + 300].map(Position::at);
            Some(DoubledRef { position, copy, generation })
        };
        slot.roots[0] = Root { block: doubled(9), depth: 2, entries: 300 };
        slot.redo_head = doubled(20);
        slot.redo_length = 7;
        slot.inline_free = [(30, 4), (40, 1)]
            .map(|(start, count)| Run::new(Position::at(start), count).expect("a run"))
            .to_vec();
        slot.pending_sessions = vec![SessionRecord { session: 2, salt: 8, last_step: 5 }];
        slot.metadata = b"metadata".to_vec();
        slot.tail = vec![7; 12];
        let data = slot.encode().expect("a slot within its bounds");
        check_mutations(&data[..], 0x6d65_7461, meta_slot_parse);
    }
}
