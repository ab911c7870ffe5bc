//! What is destroyed, and how.

use std::collections::BTreeSet;
use std::fmt;

use ar7_engine::format::BLOCK_SIZE;

use super::oracle::Oracle;
use super::specimen::Specimen;
use crate::Random;

/// Blocks of an aligned MiB.
const MEBIBYTE_BLOCKS: u32 = 256;

/// How a block is destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is zeros.
    Zeros,
    /// It is random bytes.
    Noise,
    /// It is what was there before, as if its last write had been lost. Other blocks stay.
    Older,
}

/// Blocks that are destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Their positions.
    pub blocks: BTreeSet<u32>,
    /// How they are destroyed.
    pub how: How,
}

impl fmt::Display for Damage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.blocks.first(), self.blocks.last());
        let (first, last) = (first.copied().unwrap_or(0), last.copied().unwrap_or(0));
        match self.blocks.len() {
            1 => write!(formatter, "block {first}: {:?}", self.how),
            2 => write!(formatter, "blocks {first} and {last}: {:?}", self.how),
            _ => write!(formatter, "blocks {first} to {last}: {:?}", self.how),
        }
    }
}

impl Damage {
    /// Destroys the blocks of an image. Returns those that changed.
    pub(super) fn apply(&self, specimen: &Specimen, image: &mut [u8]) -> BTreeSet<u32> {
        let mut changed = BTreeSet::new();
        for &position in &self.blocks {
            let at = position as usize * BLOCK_SIZE;
            let Some(block) = image.get_mut(at..at + BLOCK_SIZE) else { continue };
            let before = block.to_vec();
            match self.how {
                How::Zeros => block.fill(0),
                How::Noise => Random::new(u64::from(position) + 1).fill(block),
                How::Older => {
                    if let Some(older) = specimen.older.get(&position) {
                        block.copy_from_slice(older);
                    }
                }
            }
            if before != block {
                changed.insert(position);
            }
        }
        changed
    }
}

/// Returns all damages of an archive: every block alone in three ways, both copies of each block that has two, each
/// aligned MiB, and `pairs` random pairs of blocks.
pub fn damages(specimen: &Specimen, oracle: &Oracle, pairs: u32, seed: u64) -> Vec<Damage> {
    let mut random = Random::new(seed);
    let blocks = specimen.blocks();
    let mut damages = Vec::new();
    let mut add = |blocks: BTreeSet<u32>, how| damages.push(Damage { blocks, how });
    for position in 0..blocks {
        for how in [How::Zeros, How::Noise, How::Older] {
            if how != How::Older || specimen.older.contains_key(&position) {
                add(BTreeSet::from([position]), how);
            }
        }
    }
    for copies in oracle.doubled() {
        add(copies.into_iter().collect(), How::Zeros);
        add(copies.into_iter().collect(), How::Noise);
    }
    for start in (0..blocks).step_by(MEBIBYTE_BLOCKS as usize) {
        let end = blocks.min(start + MEBIBYTE_BLOCKS);
        add((start..end).collect(), How::Zeros);
    }
    for _ in 0..pairs {
        let mut any = || u32::try_from(random.below(blocks.into())).unwrap_or(0);
        let pair = BTreeSet::from([any(), any()]);
        add(pair, if random.one_in(2) { How::Zeros } else { How::Noise });
    }
    damages
}
