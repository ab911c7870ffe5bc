//! The units of the format, each with its own type: positions, block indexes, counts and generations.

use std::fmt;

/// Length of a block in the file, in bytes.
pub const BLOCK_SIZE: usize = 4096;

/// [`BLOCK_SIZE`] as a file length.
pub const BLOCK_SIZE_U64: u64 = 4096;

/// Largest number of blocks in a file: positions are signed 32-bit integers on disk.
pub const BLOCKS_MAX: u32 = 0x7fff_ffff;

/// Distance in blocks of the two copies of a block, where there is room: one bad MiB of the medium destroys only one.
pub const FAR_BLOCKS: u32 = 256;

/// Place of a block in the file, in blocks from its start; at most 2^31 - 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u32);

impl Position {
    /// Creates the position, if it is below [`BLOCKS_MAX`].
    pub const fn new(position: u32) -> Option<Position> {
        if position < BLOCKS_MAX { Some(Position(position)) } else { None }
    }

    /// Creates the position of a block that the program determines, not the file.
    ///
    /// # Panics
    /// If `position` is [`BLOCKS_MAX`] or above.
    pub const fn at(position: u32) -> Position {
        assert!(position < BLOCKS_MAX, "position beyond the last block");
        Position(position)
    }

    /// Returns the position as a number of blocks from the start of the file.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Returns the offset of the block's first byte in the file.
    pub const fn offset(self) -> u64 {
        self.0 as u64 * BLOCK_SIZE_U64
    }

    /// Returns the position `blocks` later, if it is below [`BLOCKS_MAX`].
    pub fn checked_add(self, blocks: u32) -> Option<Position> {
        self.0.checked_add(blocks).and_then(Position::new)
    }

    /// Returns the next position, if it is below [`BLOCKS_MAX`].
    pub fn following(self) -> Option<Position> {
        self.checked_add(1)
    }

    /// Decodes a neighbour link: -1 is `None`; other negative numbers and numbers beyond the last block are `Err`.
    pub const fn from_link(link: i32) -> Result<Option<Position>, i32> {
        if link == -1 {
            return Ok(None);
        }
        if link < 0 || link == i32::MAX {
            return Err(link);
        }
        Ok(Some(Position(link.cast_unsigned())))
    }

    /// Encodes a neighbour link: -1 is `None`.
    pub const fn to_link(link: Option<Position>) -> i32 {
        match link {
            None => -1,
            Some(position) => position.0.cast_signed(),
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Place of a block in its stream, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BlockIndex(pub u32);

impl BlockIndex {
    /// Returns the index as a number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for BlockIndex {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// A run of consecutive blocks of the file. It is never empty and never extends past [`BLOCKS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run {
    start: Position,
    count: u32,
}

impl Run {
    /// Creates the run of `count` blocks from `start`, unless it is empty or exceeds the format's limit.
    pub fn new(start: Position, count: u32) -> Option<Run> {
        let end = start.0.checked_add(count)?;
        (count > 0 && end <= BLOCKS_MAX).then_some(Run { start, count })
    }

    /// Creates a run of one block.
    pub const fn single(position: Position) -> Run {
        Run { start: position, count: 1 }
    }

    /// Returns the first position.
    pub const fn start(self) -> Position {
        self.start
    }

    /// Returns the number of blocks.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// Returns the number of the first block after the run, at most [`BLOCKS_MAX`].
    pub const fn end(self) -> u32 {
        self.start.0 + self.count
    }

    /// Returns whether `position` lies in the run.
    pub const fn contains(self, position: Position) -> bool {
        position.0 >= self.start.0 && position.0 < self.end()
    }

    /// Returns the positions of the run, in order.
    pub fn positions(self) -> impl DoubleEndedIterator<Item = Position> + Clone {
        (self.start.0..self.end()).map(Position)
    }

    /// Splits the run into its first `count` blocks and the rest. A larger `count` takes the whole run.
    pub fn split(self, count: u32) -> (Option<Run>, Option<Run>) {
        let count = count.min(self.count);
        let head = Run::new(self.start, count);
        let tail = Position::new(self.start.0 + count)
            .and_then(|start| Run::new(start, self.count - count));
        (head, tail)
    }
}

/// Groups positions into runs: each maximal sequence of consecutive positions, in the order given, is one run.
pub fn runs_of(positions: &[Position]) -> impl Iterator<Item = Run> + '_ {
    positions.chunk_by(|a, b| a.following() == Some(*b)).map(|chunk| {
        let count = u32::try_from(chunk.len()).expect("fewer positions than blocks");
        Run::new(chunk[0], count).expect("positions in a row are a run")
    })
}

/// Version of a block: the session that sealed it, and the step in that session.
///
/// Twelve bytes on disk, the first half of the block's nonce. Generations sort by session, then by step. The salt
/// only distinguishes two copies of one archive that were written separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Generation {
    /// Number of the writing session; each open for writing increments it durably.
    pub session: u32,
    /// Step within the session; each commit and each rollback increments it.
    pub step: u32,
    /// Random number of the session.
    pub salt: u32,
}

impl Generation {
    /// Length on disk in bytes.
    pub const SIZE: usize = 12;

    /// Decodes `session u32 | step u32 | salt u32`, big-endian.
    pub fn decode(bytes: [u8; 12]) -> Generation {
        let word = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        Generation { session: word(0), step: word(4), salt: word(8) }
    }

    /// Encodes `session u32 | step u32 | salt u32`, big-endian.
    pub fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&self.session.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.step.to_be_bytes());
        bytes[8..].copy_from_slice(&self.salt.to_be_bytes());
        bytes
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{:08x}", self.session, self.step, self.salt)
    }
}

/// Identifies one version of one block. Sixteen bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockRef {
    /// The block's position.
    pub position: Position,
    /// The version of the block.
    pub generation: Generation,
}

impl BlockRef {
    /// Length on disk in bytes.
    pub const SIZE: usize = 16;

    /// Decodes `position i32 | generation 12`. Position -1 is `None`; a position out of range is `Err`.
    pub fn decode(bytes: [u8; 16]) -> Result<Option<BlockRef>, i32> {
        let link = i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let mut generation = [0; 12];
        generation.copy_from_slice(&bytes[4..]);
        let generation = Generation::decode(generation);
        Ok(Position::from_link(link)?.map(|position| BlockRef { position, generation }))
    }

    /// Encodes `position i32 | generation 12`; `None` is position -1 and generation 0.
    pub fn encode(reference: Option<BlockRef>) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&Position::to_link(reference.map(|r| r.position)).to_be_bytes());
        if let Some(reference) = reference {
            bytes[4..].copy_from_slice(&reference.generation.encode());
        }
        bytes
    }
}

impl fmt::Display for BlockRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.position, self.generation)
    }
}

/// Refers to a block that exists twice: both copies have the same data and generation, and each is sealed for its own
/// position. Twenty bytes on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DoubledRef {
    /// Position of the first copy.
    pub position: Position,
    /// Position of the second copy, which differs from the first.
    pub copy: Position,
    /// The version of the block.
    pub generation: Generation,
}

impl fmt::Display for DoubledRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} and {}@{}", self.position, self.copy, self.generation)
    }
}

impl DoubledRef {
    /// Length on disk in bytes.
    pub const SIZE: usize = 20;

    /// Returns references to the two copies.
    pub fn copies(self) -> [BlockRef; 2] {
        let generation = self.generation;
        [self.position, self.copy].map(|position| BlockRef { position, generation })
    }

    /// Returns whether the copies are less than [`FAR_BLOCKS`] apart.
    pub fn is_near(self) -> bool {
        self.position.get().abs_diff(self.copy.get()) < FAR_BLOCKS
    }

    /// Decodes `position i32 | copy i32 | generation 12`. Both positions -1 and generation 0 are `None`. Other bytes
    /// that refer to no two positions are `Err`, with the first wrong position.
    pub fn decode(bytes: [u8; 20]) -> Result<Option<DoubledRef>, i32> {
        let link = |at: usize| {
            i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let mut generation = [0; Generation::SIZE];
        generation.copy_from_slice(&bytes[8..]);
        let generation = Generation::decode(generation);
        match (Position::from_link(link(0))?, Position::from_link(link(4))?) {
            (Some(position), Some(copy)) if position != copy => {
                Ok(Some(DoubledRef { position, copy, generation }))
            }
            (None, None) if generation == Generation::default() => Ok(None),
            (None, _) => Err(link(0)),
            (Some(_), _) => Err(link(4)),
        }
    }

    /// Encodes `position i32 | copy i32 | generation 12`; `None` is twice position -1 and generation 0.
    pub fn encode(reference: Option<DoubledRef>) -> [u8; 20] {
        let mut bytes = [0; 20];
        let [position, copy] = match reference {
            Some(reference) => [reference.position, reference.copy].map(Some),
            None => [None; 2],
        };
        bytes[..4].copy_from_slice(&Position::to_link(position).to_be_bytes());
        bytes[4..8].copy_from_slice(&Position::to_link(copy).to_be_bytes());
        if let Some(reference) = reference {
            bytes[8..].copy_from_slice(&reference.generation.encode());
        }
        bytes
    }
}
