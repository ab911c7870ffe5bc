//! The changes to the bytes of an archive that are tried.

use ar7_engine::format::{BLOCK_SIZE, header_layout};
use sha2::{Digest as _, Sha256};

use super::victim::{Part, Victim, block, block_mut, offset};
use crate::Random;

/// The source of foreign blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An earlier state, by number.
    Earlier(usize),
    /// The copy that was written to separately.
    Fork,
    /// Another archive under the same key.
    Stranger,
}

/// The bytes that are appended to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// Zeros.
    Zeros,
    /// Random bytes.
    Garbage,
    /// The end of an earlier state.
    Earlier(usize),
}

/// One change to the bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Case {
    /// One bit is flipped.
    Flip {
        /// The block.
        position: u32,
        /// The byte of the block.
        byte: usize,
        /// The bits to flip.
        mask: u8,
    },
    /// Bits of the header are flipped and its checksum is corrected, which needs no key.
    Header {
        /// The changed copies.
        copies: &'static [u32],
        /// The byte of the header.
        byte: usize,
        /// The bits to flip.
        mask: u8,
    },
    /// Two blocks are swapped.
    Swap(u32, u32),
    /// A block is copied over another.
    Copy {
        /// The source block.
        from: u32,
        /// The overwritten block.
        to: u32,
    },
    /// A block of another origin overwrites any block.
    Splice {
        /// The origin.
        origin: Origin,
        /// The source block.
        from: u32,
        /// The overwritten block.
        to: u32,
    },
    /// Blocks of another origin are put back at their own positions.
    PutBack {
        /// The origin.
        origin: Origin,
        /// The positions.
        positions: Vec<u32>,
    },
    /// Everything except the two copies of the header is replaced by another origin's.
    BodyOf(Origin),
    /// Blocks are overwritten with garbage.
    Destroy(Vec<u32>),
    /// The file is truncated to this many bytes.
    Cut(usize),
    /// The file is extended.
    Extend {
        /// The appended content.
        tail: Tail,
        /// The number of appended bytes.
        bytes: usize,
    },
}

/// Both copies of the header, and each copy alone.
const COPIES: [&[u32]; 3] = [&[0, 7], &[0], &[7]];

/// Returns every case. To limit their number, one bit of each byte is flipped, and pairs of blocks come from one
/// origin.
pub fn cases(victim: &Victim) -> Vec<Case> {
    let mut cases = Vec::new();
    let blocks = victim.blocks();
    for position in 0..blocks {
        for byte in 0..BLOCK_SIZE {
            let bit = (byte + usize::try_from(position).expect("a small archive")) % 8;
            cases.push(Case::Flip { position, byte, mask: 1 << bit });
        }
    }
    for copies in COPIES {
        for byte in 0..header_layout::CHECKSUM.offset {
            cases.extend([0x01, 0x80].map(|mask| Case::Header { copies, byte, mask }));
        }
    }
    for from in 0..blocks {
        for to in 0..blocks {
            if from < to {
                cases.push(Case::Swap(from, to));
            }
            if from != to {
                cases.push(Case::Copy { from, to });
            }
            cases.push(Case::Splice { origin: Origin::Stranger, from, to });
            if from != to {
                cases.push(Case::Splice { origin: Origin::Fork, from, to });
            }
        }
    }
    for origin in origins(victim) {
        put_back(victim, origin, &mut cases);
    }
    for pair in [[0, 7], [1, 3], [2, 4], victim.redo] {
        cases.push(Case::Destroy(pair.to_vec()));
    }
    cases.extend((0..blocks).map(|position| Case::Destroy(vec![position])));
    lengths(victim, &mut cases);
    cases
}

fn origins(victim: &Victim) -> Vec<Origin> {
    let earlier = (0..victim.states.len() - 1).map(Origin::Earlier);
    earlier.chain([Origin::Fork, Origin::Stranger]).collect()
}

/// Adds each single block, every pair, every set of meta slots with and without the headers, and everything except the
/// headers.
fn put_back(victim: &Victim, origin: Origin, cases: &mut Vec<Case>) {
    let image = &origin.image(victim)[..];
    let differing: Vec<u32> = (0..victim.blocks())
        .filter(|&position| {
            let other = block(image, position);
            !other.is_empty() && other != block(&victim.now().image, position)
        })
        .collect();
    for (at, &first) in differing.iter().enumerate() {
        cases.push(Case::PutBack { origin, positions: vec![first] });
        for &second in &differing[at + 1..] {
            cases.push(Case::PutBack { origin, positions: vec![first, second] });
        }
    }
    for set in 1..64_u32 {
        let members = [1, 2, 3, 4, 0, 7].into_iter().enumerate();
        let positions: Vec<u32> =
            members.filter(|(bit, _)| set >> bit & 1 == 1).map(|(_, position)| position).collect();
        if positions.len() > 2 {
            cases.push(Case::PutBack { origin, positions });
        }
    }
    cases.push(Case::BodyOf(origin));
}

fn lengths(victim: &Victim, cases: &mut Vec<Case>) {
    let end = victim.now().image.len();
    for border in (0..=end).step_by(BLOCK_SIZE) {
        for bytes in [border.saturating_sub(1), border, border + 1, border + 512, border + 4095] {
            if bytes < end {
                cases.push(Case::Cut(bytes));
            }
        }
    }
    for bytes in [1, 511, BLOCK_SIZE - 1, BLOCK_SIZE, BLOCK_SIZE + 1, 40 * BLOCK_SIZE] {
        let earlier = (0..victim.states.len()).map(Tail::Earlier);
        for tail in [Tail::Zeros, Tail::Garbage].into_iter().chain(earlier) {
            cases.push(Case::Extend { tail, bytes });
        }
    }
}

impl Origin {
    pub(super) fn image(self, victim: &Victim) -> &Vec<u8> {
        match self {
            Origin::Earlier(state) => &victim.states[state].image,
            Origin::Fork => &victim.fork.image,
            Origin::Stranger => &victim.stranger.image,
        }
    }
}

impl Case {
    /// Returns the bytes of the file after this change.
    pub(super) fn apply(&self, victim: &Victim) -> Vec<u8> {
        let mut image = victim.now().image.clone();
        match self {
            Case::Flip { position, byte, mask } => image[offset(*position) + byte] ^= mask,
            Case::Header { copies, byte, mask } => {
                for &copy in *copies {
                    let header = block_mut(&mut image, copy);
                    header[*byte] ^= mask;
                    let checksum = Sha256::digest(&header[..header_layout::CHECKSUM.offset]);
                    header_layout::CHECKSUM.put(header, &checksum);
                }
            }
            Case::Swap(first, second) => {
                let before = block(&image, *first).to_vec();
                image.copy_within(offset(*second)..offset(*second) + BLOCK_SIZE, offset(*first));
                block_mut(&mut image, *second).copy_from_slice(&before);
            }
            Case::Copy { from, to } => {
                image.copy_within(offset(*from)..offset(*from) + BLOCK_SIZE, offset(*to));
            }
            Case::Splice { origin, from, to } => {
                put(&mut image, *to, block(origin.image(victim), *from));
            }
            Case::PutBack { origin, positions } => {
                for &position in positions {
                    put(&mut image, position, block(origin.image(victim), position));
                }
            }
            Case::BodyOf(origin) => {
                let body = origin.image(victim).clone();
                let ours = std::mem::replace(&mut image, body);
                for position in [0, 7] {
                    put(&mut image, position, block(&ours, position));
                }
            }
            Case::Destroy(positions) => {
                for &position in positions {
                    block_mut(&mut image, position).fill(0xa5);
                }
            }
            Case::Cut(bytes) => image.truncate(*bytes),
            Case::Extend { tail, bytes } => image.extend(tail.bytes(victim, *bytes)),
        }
        image
    }
}

impl Tail {
    fn bytes(self, victim: &Victim, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        match self {
            Tail::Zeros => {}
            Tail::Garbage => Random::new(9).fill(&mut bytes),
            Tail::Earlier(state) => {
                let image = &victim.states[state].image;
                let from = image.len().saturating_sub(count);
                let end = &image[from..];
                bytes[..end.len()].copy_from_slice(end);
            }
        }
        bytes
    }
}

/// Overwrites a block. A position that the other file does not have is skipped.
fn put(image: &mut [u8], position: u32, bytes: &[u8]) {
    if bytes.len() == BLOCK_SIZE && image.len() >= offset(position) + BLOCK_SIZE {
        block_mut(image, position).copy_from_slice(bytes);
    }
}

/// Returns the blocks that a case has changed, out of those that existed before.
pub(super) fn changed(victim: &Victim, image: &[u8]) -> Vec<(u32, Part)> {
    (0..)
        .zip(&victim.parts)
        .filter(|(position, _)| block(image, *position) != block(&victim.now().image, *position))
        .map(|(position, part)| (position, *part))
        .collect()
}
