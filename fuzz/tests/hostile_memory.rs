//! The claims of a hostile archive do not determine how much memory is allocated, nor does a deep tree cost more than its
//! depth. This is a separate process, because the allocator counts all allocations in it.

use std::sync::{Mutex, PoisonError};

use ar7_fuzz::tamper::{Victim, VictimKind, named_hostile, random_hostile};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Held by the test that counts.
static COUNTING: Mutex<()> = Mutex::new(());

/// The path of the deepest directory has 250,000 bytes, and those of all directories together 125 MB.
const DEPTH: usize = 1000;
const NAME_BYTES: usize = 249;

#[test]
fn hostile_archives_do_not_control_memory_use() {
    let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
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

#[test]
fn a_walk_keeps_one_path_however_deep_the_tree_is() {
    let _alone = COUNTING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().unwrap();
    let archive = ar7::Archive::create(folder.path().join("a.ar7"), &ar7::Key::from([7; 32]));
    let archive = archive.unwrap();
    let transaction = archive.begin().unwrap();
    transaction.create_directories(vec!["d".repeat(NAME_BYTES); DEPTH].join("/")).unwrap();
    transaction.commit().unwrap();
    let snapshot = archive.snapshot().unwrap();
    // From here on, the index pages are in the cache.
    assert_eq!(snapshot.walk("").unwrap().count(), DEPTH);
    let peak = |work: &dyn Fn() -> usize| {
        ALLOCATOR.reset_peak_usage();
        let before = ALLOCATOR.current_usage();
        assert!(work() >= DEPTH);
        ALLOCATOR.peak_usage() - before
    };
    let walk = peak(&|| snapshot.walk("").unwrap().map(Result::unwrap).count());
    let usage = peak(&|| snapshot.usage("").unwrap().map(Result::unwrap).count());
    println!("{walk} bytes for a walk, {usage} bytes for the space of each directory");
    assert!(walk.max(usage) < 8 << 20, "{walk} and {usage} bytes");
}
