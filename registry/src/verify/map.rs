//! A bitmap of the archive's blocks.

use std::ops::Range;

use ar7_engine::format::{Position, RESERVED_BLOCKS, Run, THIRD_COPIES};

/// The set of blocks that are accounted for. It takes a bit per block, however fragmented the
/// archive is: 32 MiB for each TiB.
pub(crate) struct BlockMap {
    /// A set bit is a block that is accounted for.
    words: Vec<u64>,
    blocks: u32,
    marked: u64,
}

impl BlockMap {
    /// Makes a map for `blocks` blocks, in which only the reserved ones are accounted for.
    pub(crate) fn new(blocks: u32) -> BlockMap {
        let words = usize::try_from(blocks.div_ceil(u64::BITS)).expect("a bit per block");
        let mut map = BlockMap { words: vec![0; words], blocks, marked: 0 };
        for reserved in [0..RESERVED_BLOCKS, THIRD_COPIES] {
            map.mark_range(reserved.start..reserved.end.min(blocks));
        }
        map
    }

    /// Returns the number of blocks that are accounted for.
    pub(crate) fn marked(&self) -> u64 {
        self.marked
    }

    /// Accounts for every block of a run. Fails with the first position that is already accounted
    /// for, or beyond the archive. All other blocks are still marked.
    pub(crate) fn mark(&mut self, run: Run) -> Result<(), Position> {
        let (start, end) = (run.start().get(), run.end());
        let known = self.mark_range(start..end.min(self.blocks));
        let beyond = (end > self.blocks).then_some(start.max(self.blocks));
        known.or(beyond).map_or(Ok(()), |block| Err(Position::at(block)))
    }

    /// Marks blocks of the archive. Returns the first one that was already marked.
    fn mark_range(&mut self, blocks: Range<u32>) -> Option<u32> {
        let mut first_known = None;
        let mut block = blocks.start;
        while block < blocks.end {
            let bit = block % u64::BITS;
            let count = (u64::BITS - bit).min(blocks.end - block);
            let mask = (u64::MAX >> (u64::BITS - count)) << bit;
            let word = &mut self.words[(block / u64::BITS) as usize];
            let known = *word & mask;
            if known != 0 && first_known.is_none() {
                first_known = Some(block - bit + known.trailing_zeros());
            }
            self.marked += u64::from(count - known.count_ones());
            *word |= mask;
            block += count;
        }
        first_known
    }

    /// Returns the runs of blocks that are not accounted for, in order.
    pub(crate) fn missing(&self) -> impl Iterator<Item = Run> + '_ {
        let mut block = 0;
        std::iter::from_fn(move || {
            let start = self.next(block, false);
            block = self.next(start, true);
            // Beyond the last block, nothing is missing.
            let start = Position::new(start)?;
            Run::new(start, block - start.get())
        })
    }

    /// Returns the first block from `block` on that is marked, or that is not; if there is none,
    /// the number of blocks.
    fn next(&self, mut block: u32, is_marked: bool) -> u32 {
        while block < self.blocks {
            let word = self.words[(block / u64::BITS) as usize];
            let sought = if is_marked { word } else { !word } >> (block % u64::BITS);
            if sought != 0 {
                return self.blocks.min(block + sought.trailing_zeros());
            }
            block = (block / u64::BITS + 1) * u64::BITS;
        }
        self.blocks
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
