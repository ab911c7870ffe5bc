//! A small commit costs the same in a small archive and in a large one, except for the levels of two trees: at most
//! sixteen blocks with 50,000 streams, and two syncs.

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::simulated::{EventKind, SimulatedDisk};
use ar7_registry::{Archive, CreateOptions, Stream};

/// Returns the numbers of blocks written and of syncs for each of several commits, each after appending 100 bytes to a
/// stream.
fn costs(streams: usize) -> Vec<(usize, usize)> {
    let disk = SimulatedDisk::new();
    let secret = Secret::Key(RawKey::from_bytes([3; 32]));
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(disk.clone()), &secret, &options).unwrap();
    for _ in 0..streams {
        archive.new_stream().unwrap().append(&[1; 100]).unwrap();
    }
    let mut log: Stream = archive.new_stream().unwrap();
    log.append(&[2; 100]).unwrap();
    archive.commit().unwrap();
    let append = || {
        let before = disk.log().len();
        log.append(&[3; 100]).unwrap();
        archive.commit().unwrap();
        let events = &disk.log()[before..];
        let count =
            |is: fn(EventKind) -> bool| events.iter().filter(|event| is(event.kind())).count();
        let writes = count(|kind| matches!(kind, EventKind::Write(_)));
        (writes, count(|kind| kind == EventKind::Sync))
    };
    std::iter::repeat_with(append).take(120).collect()
}

#[test]
fn small_commit_costs_a_few_blocks_and_two_syncs_whatever_the_size() {
    for streams in [10, 1000, 50_000] {
        let costs = costs(streams);
        let most = costs.iter().map(|(writes, _)| *writes).max().unwrap();
        let writes: usize = costs.iter().map(|(writes, _)| writes).sum();
        println!("{streams}: {most} at most, {} on average", writes / costs.len());
        assert!(costs.iter().all(|(_, syncs)| *syncs == 2), "{costs:?}");
        // The shadow block and its home location, two copies of the redo list and of the slot, and two copies of a page
        // for each level of two trees: the tree of streams or of extents, and the free list.
        assert!(most <= 16, "{streams} streams: {costs:?}");
    }
}
