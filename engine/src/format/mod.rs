//! What each structure in the file is, byte by byte. Nothing here does I/O.

mod block;
mod layout;
mod units;

pub use block::{
    Block, BlockHead, DATA_SIZE, DATA_SIZE_U64, Data, Digest, PLAIN_SIZE, plain, sealed,
};
pub use layout::Field;
pub use units::{
    BLOCK_SIZE, BLOCK_SIZE_U64, BLOCKS_MAX, BlockIndex, BlockRef, Generation, Position,
    RESERVED_BLOCKS, Run,
};
