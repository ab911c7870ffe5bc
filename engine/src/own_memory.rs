//! What this process has in memory, also where it owns nothing any more: for tests that ask whether a secret was wiped.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// How many bytes from `address` on are `byte`, of as many as the buffer takes. The buffer is the caller's, made before
/// the memory in question was given back, or it could lie just there.
///
/// # Panics
/// If no memory lies there.
pub(crate) fn count_of(byte: u8, address: usize, buffer: &mut [u8]) -> usize {
    let memory = File::open("/proc/self/mem").expect("the memory of this process");
    let start = u64::try_from(address).expect("an address");
    memory.read_exact_at(buffer, start).expect("memory");
    buffer.iter().map(|&found| usize::from(found == byte)).sum()
}
