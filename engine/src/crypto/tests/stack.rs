//! What work with keys leaves on the stack is wiped.

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;

use crate::crypto::stack::{deriving, with_blocks};

/// A byte that fills no memory by chance.
const SECRET: u8 = 0xa7;

/// Leaves so many secret bytes on the stack.
#[inline(never)]
fn spill<const BYTES: usize>() {
    let mut bytes = [SECRET; BYTES];
    black_box(&mut bytes);
}

/// Number of secret bytes in the stack below the caller.
#[inline(never)]
fn left(memory: &File, bytes: &mut [u8]) -> usize {
    let here = 0_u8;
    let end = (&raw const here).addr();
    let start = u64::try_from(end - bytes.len()).unwrap();
    memory.read_exact_at(bytes, start).unwrap();
    bytes.iter().map(|&byte| usize::from(byte == SECRET)).sum()
}

#[test]
fn the_stack_is_wiped_after_work_with_keys() {
    let memory = File::open("/proc/self/mem").unwrap();
    let mut bytes = vec![0; 64 << 10];
    spill::<{ 24 << 10 }>();
    assert!(left(&memory, &mut bytes) > 16 << 10, "what is not wiped is found");
    deriving(spill::<{ 24 << 10 }>);
    assert!(left(&memory, &mut bytes) < 256, "after deriving keys");
    spill::<{ 6 << 10 }>();
    assert!(left(&memory, &mut bytes) > 4 << 10, "what is not wiped is found");
    with_blocks(spill::<{ 6 << 10 }>);
    assert!(left(&memory, &mut bytes) < 256, "after work with blocks");
}
