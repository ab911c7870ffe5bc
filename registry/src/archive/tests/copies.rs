//! Both copies of index pages: either is enough; a bad one is reported and its page moved; they lie far apart where
//! there is room; and every block of both is accounted for.

use ar7_engine::device::Device;
use ar7_engine::format::{
    BLOCK_SIZE, BLOCKS_MAX, DATA_SIZE, DoubledRef, FAR_BLOCKS, Position, SessionRecord,
};
use ar7_engine::store::FAR_FROM_BLOCKS;
use ar7_engine::{PlantedFault, with_planted_fault};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::*;
use crate::committed::read_copy;
use crate::error::Error;
use crate::records::{Attributes, Sessions, TreeId};
use crate::tree::PageExpectation;
use crate::verify::{Finding, Subject};

/// Returns every page of every tree as of the last commit, parents first.
pub(crate) fn pages_of(archive: &Archive) -> Vec<(TreeId, DoubledRef)> {
    fn below(store: &Store, tree: TreeId, at: DoubledRef, level: u8) -> Vec<(TreeId, DoubledRef)> {
        let expect = PageExpectation { tree: tree.number(), level };
        let read = at.copies().into_iter().find_map(|copy| read_copy(store, copy, expect).ok());
        let page = read.expect("a good copy");
        let children = (0..page.count()).filter(|_| page.is_branch());
        let children =
            children.flat_map(|cell| below(store, tree, page.child_block(cell), level - 1));
        std::iter::once((tree, at)).chain(children).collect()
    }
    let slot = &archive.store().current().slot;
    let root = |tree: TreeId| {
        let root = slot.roots[tree.index()];
        root.block.map_or(Vec::new(), |block| below(archive.store(), tree, block, root.depth - 1))
    };
    TreeId::ALL.into_iter().flat_map(root).collect()
}

fn flip(device: &MemoryDevice, position: Position) {
    let mut bytes = [0; BLOCK_SIZE];
    device.read(position, &mut bytes).unwrap();
    bytes[2000] ^= 1;
    device.write(position, &bytes).unwrap();
}

fn findings(archive: &Archive) -> Vec<Finding> {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding), &mut |_| {}).unwrap();
    findings
}

fn attributes() -> Attributes {
    let modified = ar7_engine::format::Timestamp::default();
    Attributes { mode: 0o644, uid: 0, gid: 0, modified, origin: None }
}

/// Adds streams with names that fill many pages. Returns the number of bytes in all streams.
fn fill(archive: &Archive, files: u32) {
    let attributes = attributes();
    for file in 0..files {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&[1; 3000]).unwrap();
        let identity = Some(stream.identity());
        stream.close().unwrap();
        let name = format!("{:09}{file:090}", archive.statistics().unwrap().names);
        let names = archive.names();
        names.add_file(InodeNumber::ROOT, name.as_bytes(), attributes, identity).unwrap();
    }
    archive.commit().unwrap();
}

/// Reads every name, inode and stream.
fn read_all(archive: &Archive) -> Result<u64> {
    let snapshot = archive.snapshot();
    let mut bytes = 0;
    for entry in archive.names().list(InodeNumber::ROOT, None, usize::MAX)? {
        let inode = archive.names().inode(entry.inode)?;
        let stream = inode.and_then(|inode| inode.stream).expect("a file");
        bytes += snapshot.stored(stream)?.expect("a stream").record.length;
    }
    Ok(bytes)
}

fn sample(files: u32) -> MemoryDevice {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    fill(&archive, files);
    archive.close().unwrap();
    device
}

#[test]
fn either_copy_of_a_page_is_enough_and_a_bad_one_is_reported() {
    let device = sample(200);
    let good = device.snapshot();
    let all = read_all(&open(&device, Access::Read)).unwrap();
    let pages = pages_of(&open(&device, Access::Read));
    assert!(pages.len() > 8, "{pages:?}");
    for (tree, page) in pages {
        for (index, copy) in page.copies().map(|copy| copy.position).into_iter().enumerate() {
            device.restore(&good);
            flip(&device, copy);
            let archive = open(&device, Access::Read);
            assert_eq!(read_all(&archive).unwrap(), all, "{tree:?} without {copy}");
            let needed = matches!(tree, TreeId::Names | TreeId::Inodes | TreeId::Streams);
            let noted: Vec<Position> = (index == 0 && needed).then_some(copy).into_iter().collect();
            assert_eq!(
                archive.damaged_copies().positions(),
                noted,
                "the second copy is read if the first is bad"
            );
            let [Finding { subject, .. }] = &findings(&archive)[..] else {
                panic!("one finding: {:?}", findings(&archive))
            };
            assert_eq!(*subject, Subject::Page { tree, position: copy });
            if needed {
                let read = || read_all(&open(&device, Access::Read));
                let failed = with_planted_fault(PlantedFault::NoSecondCopy, read);
                assert_eq!(failed.is_err(), index == 0, "the planted fault matters");
            }
        }
    }
}

#[test]
fn two_bad_copies_of_a_page_are_damage() {
    let device = sample(10);
    let page = open(&device, Access::Read).store().current().slot.roots[TreeId::Names.index()];
    for copy in page.block.unwrap().copies() {
        flip(&device, copy.position);
    }
    let archive = open(&device, Access::Read);
    let Err(Error::Engine(ar7_engine::Error::Damaged(fault))) = read_all(&archive) else {
        panic!("no copy opens")
    };
    assert_eq!(fault.position, Some(page.block.unwrap().position));
    assert_eq!(archive.damaged_copies().positions(), [], "no copy was of help");
    let subject = |copy: ar7_engine::format::BlockRef| Subject::Page {
        tree: TreeId::Names,
        position: copy.position,
    };
    let found: Vec<Subject> = findings(&archive).into_iter().map(|found| found.subject).collect();
    assert!(page.block.unwrap().copies().map(subject).iter().all(|copy| found.contains(copy)));
}

#[test]
fn a_page_with_a_bad_copy_is_moved_by_the_next_commit_and_never_written_in_place() {
    let device = sample(100);
    let root = open(&device, Access::Read).store().current().slot.roots[TreeId::Names.index()];
    let bad = root.block.unwrap();
    flip(&device, bad.position);
    let rotten = device.snapshot();
    let archive = open(&device, Access::Write);
    read_all(&archive).unwrap();
    assert_eq!(archive.damaged_copies().positions(), [bad.position]);
    archive.set_metadata(b"changed").unwrap();
    archive.commit().unwrap();
    let mut before = [0; BLOCK_SIZE];
    let mut after = [0; BLOCK_SIZE];
    rotten.to_device().read(bad.position, &mut before).unwrap();
    device.read(bad.position, &mut after).unwrap();
    assert_eq!(before, after, "a reader of an older commit never finds the copy torn");
    assert!(findings(&archive).is_empty(), "{:?}", findings(&archive));
    assert_eq!(archive.damaged_copies().positions(), [bad.position], "it is still reported");
    // An archive that nobody reads is healed on request, whichever copy is bad.
    for index in [0, 1] {
        device.restore(&rotten);
        flip(&device, bad.position);
        flip(&device, bad.copies()[index].position);
        let archive = open(&device, Access::Write);
        archive.heal().unwrap();
        assert!(findings(&archive).is_empty(), "{:?}", findings(&archive));
        assert_eq!(archive.damaged_copies().positions(), [bad.copies()[index].position]);
        archive.close().unwrap();
        assert!(findings(&open(&device, Access::Read)).is_empty());
    }
}

/// Returns the length of the file in blocks.
fn archive_blocks(device: &MemoryDevice) -> u32 {
    u32::try_from(device.length_bytes().unwrap() / 4096).unwrap()
}

#[test]
fn without_room_a_page_with_a_bad_copy_stays_and_the_commit_succeeds() {
    let device = sample(100);
    let root = open(&device, Access::Read).store().current().slot.roots[TreeId::Names.index()];
    flip(&device, root.block.unwrap().position);
    let archive = open(&device, Access::Write);
    device.set_capacity(archive_blocks(&device));
    // Whatever is free is used for data first.
    let mut stream = archive.new_stream().unwrap();
    let filled = (0..10_000).try_for_each(|_| {
        stream.append(&[1; 4008])?;
        archive.state()?.writing()?.flush(false)
    });
    assert_eq!(filled.unwrap_err().class(), ar7_engine::Class::NoSpace);
    drop(stream);
    archive.rollback().unwrap();
    read_all(&archive).unwrap();
    archive.set_metadata(b"changed").unwrap();
    archive.commit().unwrap();
    read_all(&archive).unwrap();
}

#[test]
fn copies_lie_far_apart_once_the_file_is_long_and_nothing_is_lost() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    fill(&archive, 20);
    assert!(archive.statistics().unwrap().near_pages > 0, "a small file stays small");
    for round in 0..30 {
        fill(&archive, 40);
        let statistics = archive.statistics().unwrap();
        let near = pages_of(&archive).iter().filter(|(_, page)| page.is_near()).count();
        assert_eq!(statistics.near_pages, u64::try_from(near).unwrap(), "in round {round}");
        assert!(findings(&archive).is_empty(), "{:?}", findings(&archive));
    }
    let statistics = archive.statistics().unwrap();
    assert!(statistics.blocks > FAR_FROM_BLOCKS);
    assert_eq!(statistics.near_pages, 0, "all were moved");
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    assert_eq!(read_all(&archive).unwrap(), 3000 * (20 + 30 * 40));
    assert!(findings(&archive).is_empty(), "{:?}", findings(&archive));
    let used = u64::from(statistics.blocks) - statistics.free_blocks;
    let spare = archive.statistics().unwrap().file_bytes / 4096 - used;
    assert!(spare < u64::from(3 * FAR_BLOCKS), "{spare} blocks are not used");
}

/// Fills more than 200 pages.
fn fill_pages(archive: &Archive) {
    let mut state = archive.state().unwrap();
    let trees = &mut state.writing().unwrap().trees;
    for session in 0..60_000 {
        let record = SessionRecord { session, salt: 1, last_step: 1 };
        trees.put::<Sessions>(&session, &record).unwrap();
    }
    drop(state);
    archive.commit().unwrap();
}

#[test]
fn near_copies_in_a_large_tree_are_all_found_however_little_each_commit_searches() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    with_planted_fault(PlantedFault::CopiesTogether, || {
        fill_pages(&archive);
        let mut stream = archive.new_stream().unwrap();
        stream.append(&vec![1; 400 * DATA_SIZE]).unwrap();
        archive.commit().unwrap();
    });
    let root = archive.store().current().slot.roots[TreeId::Sessions.index()];
    assert!(root.depth >= 3);
    assert!(archive.statistics().unwrap().blocks > FAR_FROM_BLOCKS);
    let near = archive.statistics().unwrap().near_pages;
    // The root and one branch below it.
    archive.state().unwrap().writing().unwrap().trees.search.branches_max = 2;
    let mut commits = 0_u8;
    while archive.statistics().unwrap().near_pages > 0 && commits < 60 {
        commits += 1;
        archive.set_metadata(&[commits]).unwrap();
        archive.commit().unwrap();
    }
    assert_eq!(archive.statistics().unwrap().near_pages, 0, "of {near} after {commits} commits");
    assert!(near > 200 && commits > 3, "{near} pages in {commits} commits");
}

/// Fills, empties and closes an archive in a random order, on a disk that is full most of the time.
fn on_a_full_disk(seed: u64) -> MemoryDevice {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: u32| random.next_u32() % bound;
    let (device, mut archive) = create(ArchiveKind::Dynamic, 0);
    let mut streams = Vec::new();
    for _ in 0..25 {
        match below(6) {
            0 => device.set_capacity(BLOCKS_MAX),
            1 => device.set_capacity(archive_blocks(&device) + below(300)),
            2 if !streams.is_empty() => {
                let identity = streams.swap_remove(below(u32::MAX) as usize % streams.len());
                archive.delete_stream(identity).unwrap();
            }
            3 => {
                let _ = archive.close();
                archive = open(&device, Access::Write);
            }
            4 => {
                let attributes = attributes();
                for file in 0..below(60) {
                    let name = format!("{:09}{file:090}", archive.statistics().unwrap().names);
                    let names = archive.names();
                    let _ = names.add_file(InodeNumber::ROOT, name.as_bytes(), attributes, None);
                }
            }
            _ => {
                let mut stream = archive.new_stream().unwrap();
                if stream.append(&vec![1; below(400) as usize * DATA_SIZE]).is_ok() {
                    streams.push(stream.identity());
                }
                drop(stream);
            }
        }
        if archive.commit().is_err() {
            let _ = archive.rollback();
            streams.retain(|&identity| archive.open_stream(identity).is_ok());
        }
    }
    drop(archive);
    device.set_capacity(BLOCKS_MAX);
    device
}

/// In these archives, the commits of closing add blocks to the end, to move copies apart.
#[test]
fn a_rekey_seals_the_blocks_that_closing_adds_once_the_disk_is_larger() {
    for seed in [32, 68, 80, 300, 340] {
        let device = on_a_full_disk(seed);
        let open_again = || -> Box<dyn Device> { Box::new(device.clone()) };
        let go_on = &mut |_, _| std::ops::ControlFlow::Continue(());
        let options = ar7_engine::store::RekeyOptions::default();
        let rekeyed = Archive::rekey_device(&open_again, &secret(), options, go_on);
        assert!(rekeyed.is_ok(), "seed {seed}: {rekeyed:?}");
        let archive = open(&device, Access::Read);
        assert!(findings(&archive).is_empty(), "seed {seed}: {:?}", findings(&archive));
    }
}

#[test]
fn an_archive_that_is_opened_and_closed_again_and_again_does_not_grow() {
    let device = sample(700);
    let mut lengths = Vec::new();
    for session in 0..12_u8 {
        let archive = open(&device, Access::Write);
        archive.set_metadata(&[session]).unwrap();
        archive.commit().unwrap();
        archive.close().unwrap();
        lengths.push(device.length_bytes().unwrap() / 4096);
        let archive = open(&device, Access::Read);
        assert!(findings(&archive).is_empty(), "{:?}", findings(&archive));
    }
    assert!(lengths[11] <= lengths[2] + 20, "{lengths:?}");
    assert_eq!(open(&device, Access::Read).statistics().unwrap().near_pages, 0);
}

#[test]
fn copies_that_are_placed_together_are_counted() {
    with_planted_fault(PlantedFault::CopiesTogether, || {
        let archive = open(&sample(700), Access::Read);
        assert!(archive.statistics().unwrap().near_pages > 0);
    });
    assert_eq!(open(&sample(700), Access::Read).statistics().unwrap().near_pages, 0);
}

#[test]
fn an_empty_archive_takes_64_kib() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    archive.close().unwrap();
    assert_eq!(device.length_bytes().unwrap(), 64 << 10);
}
