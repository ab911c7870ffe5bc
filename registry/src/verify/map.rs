//! A bit for each block of the archive.

use ar7_engine::format::{Position, RESERVED_BLOCKS, Run};

/// Which blocks are accounted for.
pub(super) struct BlockMap {
    words: Vec<u64>,
    blocks: u32,
    marked: u64,
}

impl BlockMap {
    /// A map of so many blocks; the reserved ones are accounted for.
    pub(super) fn new(blocks: u32) -> BlockMap {
        let words = usize::try_from(blocks.div_ceil(64)).expect("a bit for each block fits memory");
        let mut map = BlockMap { words: vec![0; words], blocks, marked: 0 };
        let reserved = Run::new(Position::at(0), RESERVED_BLOCKS).expect("eight blocks");
        map.mark(reserved).expect("an archive has its reserved blocks");
        map
    }

    /// Number of blocks that are accounted for.
    pub(super) fn marked(&self) -> u64 {
        self.marked
    }

    /// Accounts for a run. The first position that is accounted for already, or is not in the archive, is returned
    /// as an error; the others are accounted for all the same.
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

    /// Runs of blocks that are not accounted for.
    pub(super) fn missing(&self) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        for block in 0..self.blocks {
            let (word, bit) = place(block);
            if self.words[word] & bit != 0 {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end() == block => {
                    *run = Run::new(run.start(), run.count() + 1).expect("within the archive");
                }
                _ => runs.push(Run::single(Position::at(block))),
            }
        }
        runs
    }
}

fn place(block: u32) -> (usize, u64) {
    (usize::try_from(block / 64).expect("fits memory"), 1 << (block % 64))
}
