//! Work with keys wipes the stack that it used.

use std::hint::black_box;

use crate::crypto::stack::{deriving, with_blocks};
use crate::own_memory::count_of;

/// A byte that does not fill memory by chance.
const SECRET: u8 = 0xa7;

/// Leaves `BYTES` secret bytes on the stack.
#[inline(never)]
fn spill<const BYTES: usize>() {
    let mut bytes = [SECRET; BYTES];
    black_box(&mut bytes);
}

/// Counts the secret bytes in the stack below the caller.
#[inline(never)]
fn left(buffer: &mut [u8]) -> usize {
    let here = 0_u8;
    count_of(SECRET, (&raw const here).addr() - buffer.len(), buffer)
}

#[test]
fn the_stack_is_wiped_after_work_with_keys() {
    let mut buffer = vec![0; 64 << 10];
    let mut left = || left(&mut buffer);
    spill::<{ 24 << 10 }>();
    assert!(left() > 16 << 10, "without wiping, the bytes are found");
    deriving(spill::<{ 24 << 10 }>);
    assert!(left() < 256, "after deriving keys");
    spill::<{ 6 << 10 }>();
    assert!(left() > 4 << 10, "without wiping, the bytes are found");
    with_blocks(spill::<{ 6 << 10 }>);
    assert!(left() < 256, "after work with blocks");
}
