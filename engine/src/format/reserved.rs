//! The layout of the reserved blocks, and the number of reserved streams.
//!
//! | blocks | content |
//! |---|---|
//! | 0, 7 | the header and its copy |
//! | 1 to 4 | meta slots: 1 and 3 are one pair, 2 and 4 the other |
//! | 5, 6 | blank blocks |
//! | 256 | the third copy of the header |
//! | 257, 258 | the third copies of the meta slots of the last two commits |

use super::{Position, Run};

/// Number of reserved blocks at the start of the file; the block with this number is the first that streams, trees and
/// free runs use.
#[doc(alias = "SPECIAL_BLOCK_COUNT")]
pub const RESERVED_BLOCKS: u32 = 8;

/// The header and its copy. They are authenticated, but not sealed.
pub const HEADERS: [Position; 2] = [Position::at(0), Position::at(7)];

/// The meta slots.
pub const META_SLOTS: [Position; 4] =
    [Position::at(1), Position::at(2), Position::at(3), Position::at(4)];

/// The two pairs of meta slots, each in the order in which its copies are written.
pub const META_SLOT_PAIRS: [[Position; 2]; 2] =
    [[META_SLOTS[0], META_SLOTS[2]], [META_SLOTS[1], META_SLOTS[3]]];

/// The blank blocks: sealed, and all zeros.
pub const BLANK_BLOCKS: [Position; 2] = [Position::at(5), Position::at(6)];

/// The third copy of the header, beyond the first MiB.
pub const THIRD_HEADER: Position = Position::at(256);

/// The third copies of meta slots. The commit with the number n writes the one with the index n modulo 2.
pub const THIRD_SLOTS: [Position; 2] = [Position::at(257), Position::at(258)];

/// The blocks of the third copies. No stream, page, redo block or free run has them, also in an archive that ends before
/// them.
pub const THIRD_COPIES: std::ops::Range<u32> = THIRD_HEADER.get()..THIRD_SLOTS[1].get() + 1;

/// Returns whether a block is reserved.
pub fn is_reserved(position: Position) -> bool {
    position.get() < RESERVED_BLOCKS || THIRD_COPIES.contains(&position.get())
}

/// Returns whether a run has a reserved block.
pub fn has_reserved(run: Run) -> bool {
    let (start, end) = (run.start().get(), run.end());
    start < RESERVED_BLOCKS || (start < THIRD_COPIES.end && end > THIRD_COPIES.start)
}

/// Returns whether commits of an archive of this many blocks have third copies. An archive that ends before them has
/// none.
pub const fn has_third_copies(block_count: u32) -> bool {
    block_count >= THIRD_COPIES.end
}

/// Returns the position of the third copy of a commit's meta slot.
pub fn third_slot(number: u64) -> Position {
    THIRD_SLOTS[usize::from(number % 2 == 1)]
}

/// Number of reserved streams; their UUIDs are 0 to 7.
#[doc(alias = "SPECIAL_STREAM_COUNT")]
pub const RESERVED_STREAMS: usize = 8;

/// Each reserved block has exactly one use.
const _: () = {
    let mut uses = [0; RESERVED_BLOCKS as usize];
    let mut at = 0;
    while at < META_SLOTS.len() {
        uses[META_SLOTS[at].get() as usize] += 1;
        if at < HEADERS.len() {
            uses[HEADERS[at].get() as usize] += 1;
            uses[BLANK_BLOCKS[at].get() as usize] += 1;
        }
        at += 1;
    }
    let mut block = 0;
    while block < uses.len() {
        assert!(uses[block] == 1, "each reserved block has one use");
        block += 1;
    }
};
