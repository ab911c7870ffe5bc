//! The claims of a hostile archive do not determine how much memory is allocated. This is a separate process, because
//! the allocator counts all allocations in it.

use ar7_fuzz::tamper::{Victim, VictimKind, named_hostile, random_hostile};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

#[test]
fn hostile_archives_do_not_control_memory_use() {
    let victims = VictimKind::ALL.map(Victim::new);
    ALLOCATOR.reset_peak_usage();
    let before = ALLOCATOR.current_usage();
    for victim in &victims {
        random_hostile(&victim.now().image, 5_000_000, 300);
    }
    let random = ALLOCATOR.peak_usage() - before;
    ALLOCATOR.reset_peak_usage();
    named_hostile(&victims[2].now().image).unwrap();
    let named = ALLOCATOR.peak_usage() - before;
    println!("at most {random} bytes for random archives, {named} bytes for named ones");
    // Records of 2^31 blocks, 2^64 bytes or 4 TiB of key derivation are among them.
    assert!(random.max(named) < 64 << 20, "{random} and {named} bytes");
}
