//! The state of a disk and of its cache: durable blocks and unsynced writes.

use std::sync::Arc;

use crate::format::{BLOCK_SIZE, BLOCK_SIZE_U64};

/// Bytes that a disk writes entirely or not at all.
const SECTOR_SIZE: usize = 512;

/// The bytes of one version of a block. Contents with the same number have the same bytes.
#[derive(Debug)]
pub(super) struct Content {
    number: u64,
    pub(super) bytes: [u8; BLOCK_SIZE],
}

/// One version of a block; `None` reads as zeros.
pub(super) type Version = Option<Arc<Content>>;

/// A disk and its cache. Writes since the last sync may or may not reach the disk. Until then reads see them in the
/// cache.
#[derive(Debug, Clone)]
pub struct Medium {
    blocks: Vec<Slot>,
    /// The length on disk, in blocks, then every length since the last sync. Reads see the last one.
    lengths: Vec<u32>,
}

/// One block: the version on disk, the versions that may replace it, and the version that reads see.
#[derive(Debug, Clone, Default)]
struct Slot {
    durable: Version,
    unsynced: Vec<Version>,
    seen: Version,
}

/// A block whose content on disk is uncertain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Uncertain {
    /// Its position.
    pub position: u32,
    /// Number of versions that the disk may hold: the one at the last sync, then those written since, in order.
    pub versions: usize,
}

/// The content of an uncertain block after a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The version with this number. 0 is the one at the last sync.
    Whole(usize),
    /// Sectors of two versions. A set bit means the newer one.
    Torn {
        /// Number of the old version.
        older: usize,
        /// Number of the version whose write was interrupted.
        newer: usize,
        /// A bit for each of the eight sectors.
        sectors: u8,
    },
}

/// The outcome of a power cut: a length, and a version of each uncertain block.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cut {
    /// Number of the length, in the order of [`Medium::lengths`].
    pub length: usize,
    /// For each of [`Medium::uncertain`], in the same order.
    pub kept: Vec<Kept>,
}

impl Cut {
    /// Returns the outcome that keeps every write.
    pub fn all_kept(medium: &Medium) -> Cut {
        let kept = medium.uncertain().iter().map(|block| Kept::Whole(block.versions - 1)).collect();
        Cut { length: medium.lengths() - 1, kept }
    }
}

impl Default for Medium {
    fn default() -> Medium {
        Medium { blocks: Vec::new(), lengths: vec![0] }
    }
}

impl Medium {
    /// Returns the blocks whose content on disk is uncertain, in order of position.
    pub fn uncertain(&self) -> Vec<Uncertain> {
        (0..)
            .zip(&self.blocks)
            .filter(|(_, slot)| !slot.unsynced.is_empty())
            .map(|(position, slot)| Uncertain { position, versions: slot.unsynced.len() + 1 })
            .collect()
    }

    /// Returns whether everything that reads see is on disk.
    pub fn is_certain(&self) -> bool {
        let is_certain =
            |slot: &Slot| slot.unsynced.is_empty() && number(&slot.durable) == number(&slot.seen);
        self.lengths.len() == 1 && self.blocks.iter().all(is_certain)
    }

    /// Returns the number of lengths that the file may have on disk: the one at the last sync, then those since.
    pub fn lengths(&self) -> usize {
        self.lengths.len()
    }

    /// Returns the length in blocks that reads see.
    pub fn length(&self) -> u32 {
        *self.lengths.last().expect("there is always a length")
    }

    /// Returns the bytes of the whole file, as reads see them.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize_of(u64::from(self.length()) * BLOCK_SIZE_U64)];
        for (slot, block) in self.blocks.iter().zip(bytes.chunks_exact_mut(BLOCK_SIZE)) {
            if let Some(content) = &slot.seen {
                block.copy_from_slice(&content.bytes);
            }
        }
        bytes
    }

    /// Returns the medium after a power cut. Nothing is uncertain any more.
    ///
    /// # Panics
    /// If `cut` does not fit the medium.
    #[must_use]
    pub fn after_power_cut(&self, cut: &Cut) -> Medium {
        let length = self.lengths[cut.length];
        let mut kept = cut.kept.iter();
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for slot in &self.blocks {
            let version = slot.kept(&mut kept);
            blocks.push(Slot { durable: version.clone(), unsynced: Vec::new(), seen: version });
        }
        assert!(kept.next().is_none(), "a choice for each uncertain block");
        blocks.truncate(usize_of(length.into()));
        Medium { blocks, lengths: vec![length] }
    }

    /// Returns the medium after a failed sync. The disk holds the versions in `cut`. Reads still see every write, but
    /// the system will not write any of them again. The length stays uncertain.
    ///
    /// # Panics
    /// If `cut` does not fit the medium.
    #[must_use]
    pub fn after_failed_sync(&self, cut: &Cut) -> Medium {
        let mut kept = cut.kept.iter();
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for slot in &self.blocks {
            let durable = slot.kept(&mut kept);
            blocks.push(Slot { durable, unsynced: Vec::new(), seen: slot.seen.clone() });
        }
        assert!(kept.next().is_none(), "a choice for each uncertain block");
        Medium { blocks, lengths: self.lengths.clone() }
    }

    /// Returns the medium with one byte of a block corrupted, on disk and in the cache.
    ///
    /// If the block or byte does not exist.
    #[must_use]
    pub fn with_corruption(&self, position: u32, byte: usize, change: u8) -> Medium {
        let mut corrupted = self.clone();
        let mut bytes = self.seen(position).map_or([0; BLOCK_SIZE], |content| content.bytes);
        bytes[byte] ^= change;
        let version = Some(Arc::new(Content::new(&bytes)));
        *corrupted.slot(position) =
            Slot { durable: version.clone(), unsynced: Vec::new(), seen: version };
        corrupted
    }

    /// Returns a hash of everything that reads see.
    pub fn seen_number(&self) -> u64 {
        let mut sum = mix(u64::from(self.length()), 1);
        for (place, slot) in (2..).zip(&self.blocks) {
            sum = sum.wrapping_add(mix(number(&slot.seen), place));
        }
        sum
    }

    /// Returns a hash of the medium: of everything that reads see or that a crash may leave.
    pub fn number(&self) -> u64 {
        let mut sum = self.seen_number();
        for (place, length) in (1 << 32..).zip(&self.lengths) {
            sum = sum.wrapping_add(mix(u64::from(*length), place));
        }
        for (place, slot) in (1 << 33..).step_by(64).zip(&self.blocks) {
            for (place, version) in (place..).zip([&slot.durable].into_iter().chain(&slot.unsynced))
            {
                sum = sum.wrapping_add(mix(number(version), place));
            }
        }
        sum
    }

    pub(super) fn seen(&self, position: u32) -> Option<&Arc<Content>> {
        self.blocks.get(usize_of(position.into())).and_then(|slot| slot.seen.as_ref())
    }

    pub(super) fn write(&mut self, position: u32, content: &Version) {
        let slot = self.slot(position);
        let is_there = |version: &Version| number(version) == number(content);
        if slot.unsynced.is_empty() && is_there(&slot.durable) && is_there(&slot.seen) {
            // The block stays the same whether or not this write reaches the disk.
            return;
        }
        slot.unsynced.push(content.clone());
        slot.seen.clone_from(content);
    }

    pub(super) fn set_length(&mut self, length: u32) {
        let cut = usize_of(length.into()).min(self.blocks.len());
        for slot in &mut self.blocks[cut..] {
            // If the file grows again, the part that was cut off reads as zeros.
            if slot.seen.is_some() || !slot.unsynced.is_empty() || slot.durable.is_some() {
                slot.unsynced.push(None);
                slot.seen = None;
            }
        }
        self.lengths.push(length);
    }

    pub(super) fn sync(&mut self) {
        for slot in &mut self.blocks {
            if let Some(last) = slot.unsynced.pop() {
                slot.durable = last;
                slot.unsynced.clear();
            }
        }
        let length = self.length();
        self.lengths.clear();
        self.lengths.push(length);
        self.blocks.truncate(usize_of(length.into()));
    }

    fn slot(&mut self, position: u32) -> &mut Slot {
        let at = usize_of(position.into());
        if self.blocks.len() <= at {
            self.blocks.resize_with(at + 1, Slot::default);
        }
        &mut self.blocks[at]
    }
}

impl Slot {
    /// Returns the version that the disk keeps. An uncertain block takes the next choice.
    fn kept<'a>(&self, choices: &mut impl Iterator<Item = &'a Kept>) -> Version {
        if self.unsynced.is_empty() {
            return self.durable.clone();
        }
        match *choices.next().expect("a choice for each uncertain block") {
            Kept::Whole(number) => self.version(number).clone(),
            Kept::Torn { older, newer, sectors } => {
                Some(Arc::new(torn(self.version(older), self.version(newer), sectors)))
            }
        }
    }

    fn version(&self, number: usize) -> &Version {
        match number.checked_sub(1) {
            None => &self.durable,
            Some(at) => &self.unsynced[at],
        }
    }
}

impl Content {
    pub(super) fn new(bytes: &[u8; BLOCK_SIZE]) -> Content {
        let words = bytes
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight bytes")));
        // Four independent sums: with a single one, each word would wait for the one before.
        let mut sums = [1_u64, 2, 3, 4];
        for (at, word) in words.enumerate() {
            let sum = &mut sums[at % 4];
            *sum = (*sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        }
        let number = sums.into_iter().fold(0, mix);
        Content { number, bytes: *bytes }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

fn torn(older: &Version, newer: &Version, sectors: u8) -> Content {
    let zeros = [0; BLOCK_SIZE];
    let mut bytes = older.as_ref().map_or(zeros, |content| content.bytes);
    let newer = newer.as_ref().map_or(&zeros, |content| &content.bytes);
    for sector in (0..BLOCK_SIZE / SECTOR_SIZE).filter(|sector| sectors >> sector & 1 == 1) {
        let within = sector * SECTOR_SIZE..(sector + 1) * SECTOR_SIZE;
        bytes[within.clone()].copy_from_slice(&newer[within]);
    }
    Content::new(&bytes)
}

fn number(version: &Version) -> u64 {
    version.as_ref().map_or(0, |content| content.number)
}

/// Mixes two numbers into one.
const fn mix(first: u64, second: u64) -> u64 {
    let mixed = first.wrapping_add(second.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ (mixed >> 32)
}

fn usize_of(number: u64) -> usize {
    usize::try_from(number).expect("a simulated disk fits in memory")
}
