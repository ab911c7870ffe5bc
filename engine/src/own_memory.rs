//! Reads this process's memory, including freed memory, so that tests can check that a secret was wiped.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Counts the bytes equal to `byte` in the `buffer.len()` bytes from `address`. The caller allocates the buffer before it
/// frees the memory to inspect; otherwise the allocator could place the buffer there.
///
/// # Panics
/// If the range is not mapped.
pub(crate) fn count_of(byte: u8, address: usize, buffer: &mut [u8]) -> usize {
    let memory = File::open("/proc/self/mem").expect("the memory of this process");
    let start = u64::try_from(address).expect("an address");
    memory.read_exact_at(buffer, start).expect("memory");
    buffer.iter().map(|&found| usize::from(found == byte)).sum()
}
