//! A bitmap of the archive's blocks.

use ar7_engine::format::{Position, RESERVED_BLOCKS, Run, THIRD_COPIES};
use roaring::RoaringBitmap;

/// The set of blocks that are accounted for. It takes no more than about a bit per block.
pub(crate) struct BlockMap {
    /// The blocks that are not accounted for.
    missing: RoaringBitmap,
    blocks: u32,
}

impl BlockMap {
    /// Makes a map for `blocks` blocks, in which only the reserved ones are accounted for.
    pub(crate) fn new(blocks: u32) -> BlockMap {
        let mut missing = RoaringBitmap::new();
        missing.insert_range(RESERVED_BLOCKS..blocks);
        missing.remove_range(THIRD_COPIES);
        BlockMap { missing, blocks }
    }

    /// Returns the number of blocks that are accounted for.
    pub(crate) fn marked(&self) -> u64 {
        u64::from(self.blocks) - self.missing.len()
    }

    /// Accounts for every block of a run. Fails with the first position that is already accounted
    /// for, or beyond the archive. All other blocks are still marked.
    pub(crate) fn mark(&mut self, run: Run) -> Result<(), Position> {
        let range = run.start().get()..run.end();
        let marked = if self.missing.contains_range(range.clone()) {
            Ok(())
        } else {
            let known = run.positions().find(|position| !self.missing.contains(position.get()));
            known.map_or(Ok(()), Err)
        };
        self.missing.remove_range(range);
        marked
    }

    /// Returns the runs of blocks that are not accounted for, in order.
    pub(crate) fn missing(&self) -> impl Iterator<Item = Run> + '_ {
        let mut blocks = self.missing.iter();
        std::iter::from_fn(move || {
            let range = blocks.next_range()?;
            let count = range.end() - range.start() + 1;
            Run::new(Position::at(*range.start()), count)
        })
    }
}

#[cfg(test)]
mod tests {
    use ar7_engine::format::is_reserved;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The map agrees with a list of flags, for runs at any alignment to the words.
        #[test]
        fn a_block_map_agrees_with_a_list_of_flags(
            blocks in 8_u32..400,
            runs in prop::collection::vec((0_u32..420, 1_u32..90), 0..12),
        ) {
            let mut map = BlockMap::new(blocks);
            let mut flags: Vec<bool> =
                (0..blocks).map(|block| is_reserved(Position::at(block))).collect();
            for (start, count) in runs {
                let taken = |block: u32| flags.get(block as usize).copied().unwrap_or(true);
                let twice = (start..start + count).find(|&block| taken(block));
                let found = map.mark(Run::new(Position::at(start), count).unwrap());
                prop_assert_eq!(found.err().map(Position::get), twice);
                for flag in flags.iter_mut().skip(start as usize).take(count as usize) {
                    *flag = true;
                }
            }
            let marked = flags.iter().filter(|&&flag| flag).count();
            prop_assert_eq!(map.marked(), marked as u64);
            let runs: Vec<Run> = map.missing().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[0].end() < pair[1].start().get()));
            let missing = runs.iter().flat_map(|run| run.positions());
            let expected = (0..blocks).filter(|&block| !flags[block as usize]);
            prop_assert!(missing.map(Position::get).eq(expected));
        }
    }
}
