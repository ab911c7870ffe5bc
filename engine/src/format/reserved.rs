//! The layout of the eight reserved blocks at the start of the file, and the number of reserved streams.
//!
//! | blocks | content |
//! |---|---|
//! | 0, 7 | the header and its copy |
//! | 1 to 4 | meta slots: 1 and 3 are one pair, 2 and 4 the other |
//! | 5, 6 | blank blocks |

use super::Position;

/// Number of reserved blocks; the block with this number is the first that streams, trees and free runs use.
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
