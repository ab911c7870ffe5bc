//! A bitmap of the archive's blocks.

use ar7_engine::format::{Position, RESERVED_BLOCKS, Run};

/// The set of blocks that are accounted for.
pub(super) struct BlockMap {
    words: Vec<u64>,
    blocks: u32,
    marked: u64,
}

impl BlockMap {
    /// Makes a map for `blocks` blocks, in which only the reserved ones are accounted for.
    pub(super) fn new(blocks: u32) -> BlockMap {
        let words = usize::try_from(blocks.div_ceil(64)).expect("a bit per block fits in memory");
        let mut map = BlockMap { words: vec![0; words], blocks, marked: 0 };
        let reserved = Run::new(Position::at(0), RESERVED_BLOCKS).expect("eight blocks");
        map.mark(reserved).expect("an archive has its reserved blocks");
        map
    }

    /// Returns the number of blocks that are accounted for.
    pub(super) fn marked(&self) -> u64 {
        self.marked
    }

    /// Accounts for every block of a run. Fails with the first position that is already accounted
    /// for or beyond the archive; all others are still marked.
    pub(super) fn mark(&mut self, run: Run) -> Result<(), Position> {
        let mut twice = None;
        for position in run.positions() {
            let (word, bit) = place(position.get());
            if position.get() >= self.blocks || self.words[word] & bit != 0 {
                twice = twice.or(Some(position));
                if position.get() >= self.blocks {
                    break;
                }
            } else {
                self.words[word] |= bit;
                self.marked += 1;
            }
        }
        twice.map_or(Ok(()), Err)
    }

    /// Returns the runs of blocks that are not accounted for, in order. It is an iterator, because
    /// there may be a run for every second block.
    pub(super) fn missing(&self) -> impl Iterator<Item = Run> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, false)?;
            let end = self.next(start, true).unwrap_or(self.blocks);
            at = end;
            Run::new(Position::at(start), end - start)
        })
    }

    /// Returns the first block from `from` on that is accounted for, or with `marked` false the
    /// first that is not.
    fn next(&self, from: u32, marked: bool) -> Option<u32> {
        let mut at = from;
        while at < self.blocks {
            let (word, _) = place(at);
            let bits = if marked { self.words[word] } else { !self.words[word] };
            let rest = bits >> (at % 64);
            if rest != 0 {
                return Some(at + rest.trailing_zeros()).filter(|&found| found < self.blocks);
            }
            at = (at / 64 + 1).saturating_mul(64);
        }
        None
    }
}

fn place(block: u32) -> (usize, u64) {
    (usize::try_from(block / 64).expect("fits in memory"), 1 << (block % 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The map agrees with a list of flags, for runs at any alignment to the words.
        #[test]
        fn map_equals_a_list_of_flags(
            blocks in 8_u32..400,
            runs in prop::collection::vec((0_u32..420, 1_u32..90), 0..12),
        ) {
            let mut map = BlockMap::new(blocks);
            let mut flags: Vec<bool> = (0..blocks).map(|block| block < RESERVED_BLOCKS).collect();
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
