//! Packed content is salvaged without any index, and what is lost of it is reported.

use ar7_engine::crypto::KeyKind;
use uuid::Uuid;

use super::*;
use crate::committed::page_stream;
use crate::compact::{CompactObserver, CompactProgress};
use crate::packs::Encoding;
use crate::packs::testing::noise;
use crate::verify::Finding;

struct Undisturbed;

impl CompactObserver for Undisturbed {
    fn damaged(&mut self, finding: Finding) {
        panic!("{finding}");
    }

    fn progress(&mut self, _: CompactProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

fn pack(archive: &Archive, name: &str, bytes: &[u8]) -> InodeNumber {
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, bytes).unwrap();
    names.add_packed(ROOT, name.as_bytes(), attributes(), packed).unwrap()
}

fn replace(archive: &Archive, file: InodeNumber, bytes: &[u8]) {
    let names = archive.names();
    let mut packed = names.begin_packed(Some(file)).unwrap();
    names.append_packed(&mut packed, bytes).unwrap();
    names.replace_with_packed(packed, attributes()).unwrap();
}

/// Returns content that compresses to more than half of its length.
fn text(length: usize) -> Vec<u8> {
    let mut bytes = noise(1, length);
    for byte in &mut bytes {
        *byte &= 0x3F;
    }
    bytes
}

type Files = BTreeMap<String, Vec<u8>>;

const OLD: &[u8] = &[0xAA; 1500];
const NEW: &[u8] = &[0xBB; 1600];

/// Small files, large ones that compress and do not, a replaced file and a deleted one.
fn packed_sample() -> (MemoryDevice, Files) {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let mut files = Files::new();
    for number in 0..12_u8 {
        let length = 2000 + 100 * usize::from(number);
        files.insert(format!("small{number}"), noise(number.into(), length));
    }
    files.insert("large".to_owned(), noise(99, 700_000));
    files.insert("text".to_owned(), b"some text ".repeat(50_000));
    let replaced = pack(&archive, "replaced", OLD);
    for (name, bytes) in &files {
        pack(&archive, name, bytes);
    }
    pack(&archive, "deleted", b"deleted");
    archive.commit().unwrap();
    replace(&archive, replaced, NEW);
    archive.names().remove(ROOT, b"deleted").unwrap();
    archive.commit().unwrap();
    files.insert("replaced".to_owned(), NEW.to_vec());
    (device, files)
}

/// Destroys every block of which `is_lost` says so, by its kind and stream.
fn without(device: &MemoryDevice, is_lost: impl Fn(KeyKind, Uuid) -> bool) -> MemoryDevice {
    let copy = device.snapshot().to_device();
    let mut wreck = Wreck::open_device(Box::new(device.clone()), &secret(), None).unwrap();
    let mut lost = Vec::new();
    let mut add = |block: &ar7_engine::store::FoundBlock| {
        if is_lost(block.kind, block.head.stream) {
            lost.push(block.home);
        }
    };
    wreck.scan(&mut |block| add(&block), &mut |_| true).unwrap();
    assert!(!lost.is_empty());
    for position in lost {
        copy.write(position, &[0; BLOCK_SIZE]).unwrap();
    }
    copy
}

fn without_tree(device: &MemoryDevice, tree: TreeId) -> MemoryDevice {
    without(device, |kind, stream| {
        kind == KeyKind::Registry && stream == page_stream(tree.number())
    })
}

fn salvaged_files(found: &Outcomes) -> Files {
    let files = content(&found.archive).into_iter();
    files
        .filter(|(_, (kind, _))| *kind == EntryType::File)
        .map(|(path, (_, bytes))| (path, bytes))
        .collect()
}

/// Returns the positions of the blocks of packs: nothing else in the sample is a stream.
fn pack_blocks(device: &MemoryDevice) -> Vec<u32> {
    let mut wreck = Wreck::open_device(Box::new(device.clone()), &secret(), None).unwrap();
    let mut blocks = Vec::new();
    let mut add = |block: &ar7_engine::store::FoundBlock| {
        if block.kind == KeyKind::Data {
            blocks.push((block.head.stream, block.head.index, block.home.get()));
        }
    };
    wreck.scan(&mut |block| add(&block), &mut |_| true).unwrap();
    blocks.sort_unstable();
    blocks.into_iter().map(|(_, _, position)| position).collect()
}

#[test]
fn packed_files_of_a_whole_archive_are_complete_and_no_pack_is_written() {
    let (device, files) = packed_sample();
    let found = salvage_device(&device, None).unwrap();
    assert!(found.summary.is_complete(), "{:?} {:?}", found.summary, found.items);
    assert_eq!(salvaged_files(&found), files);
}

#[test]
fn without_slots_packed_files_are_salvaged() {
    let (device, files) = packed_sample();
    let header = open(&device).unwrap().store().export_header();
    let wreck = zeroed(&device, 0..RESERVED_BLOCKS);
    let found = salvage_device(&wreck, Some(&header[..])).unwrap();
    let salvaged = salvaged_files(&found);
    for (name, bytes) in &files {
        assert!(salvaged.get(name) == Some(bytes), "{name}: {:?}", found.of(name));
        assert_eq!(found.of(name), Some(Outcome::Complete), "{name}");
    }
}

/// The tables of frames alone tell which content belongs together.
#[test]
fn without_any_tree_all_packed_content_is_in_lost_and_found() {
    let (device, files) = packed_sample();
    let wreck = zeroed(&without(&device, |kind, _| kind == KeyKind::Registry), 1..5);
    let found = salvage_device(&wreck, None).unwrap();
    let salvaged = salvaged_files(&found);
    let contents: Vec<&Vec<u8>> = salvaged.values().collect();
    for (name, bytes) in &files {
        assert_eq!(contents.iter().filter(|found| **found == bytes).count(), 1, "{name}");
    }
    // What was replaced and what was deleted, each alone, and no pack.
    assert!(contents.iter().any(|found| **found == OLD));
    assert_eq!(salvaged.len(), files.len() + 2, "{:?}", salvaged.keys());
    assert!(salvaged.keys().all(|path| path.starts_with("lost+found/inode-")));
    assert_eq!((found.summary.complete, found.summary.gaps), (0, 0));
}

#[test]
fn without_inodes_names_get_their_only_content_and_never_what_was_replaced() {
    let (device, files) = packed_sample();
    let found = salvage_device(&without_tree(&device, TreeId::Inodes), None).unwrap();
    let salvaged = salvaged_files(&found);
    for (name, bytes) in files.iter().filter(|(name, _)| *name != "replaced") {
        assert!(salvaged.get(name) == Some(bytes), "{name}: {:?}", found.of(name));
        assert_eq!(found.of(name), Some(Outcome::Unproven), "{name}");
    }
    assert_eq!(found.of("replaced"), Some(Outcome::Lost));
    let mut others: Vec<&[u8]> = salvaged
        .iter()
        .filter(|(path, _)| path.starts_with("lost+found/"))
        .map(|(_, bytes)| &bytes[..])
        .collect();
    others.sort_unstable();
    assert_eq!(others, [OLD, NEW], "each version alone, and not what was deleted");
}

/// A compaction writes each pack again in a transaction of its own, and ends a pack with each.
#[test]
fn a_long_file_that_was_moved_is_one_file_without_its_inode() {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    archive.set_compression(1).unwrap();
    let bytes = text(40 << 20);
    pack(&archive, "long", &bytes);
    archive.commit().unwrap();
    archive.compact_as(Encoding::Choose(2), std::time::Duration::ZERO, &mut Undisturbed).unwrap();
    assert!(archive.statistics().unwrap().packs > 1);
    drop(archive);
    let found = salvage_device(&without_tree(&device, TreeId::Inodes), None).unwrap();
    assert_eq!(found.of("long"), Some(Outcome::Unproven));
    assert!(salvaged_files(&found)["long"] == bytes);
}

/// An older page of inodes names the content that the file had before.
#[test]
fn an_old_inode_does_not_bring_replaced_content_back() {
    let (device, _) = packed_sample();
    let found = salvage_device(&without_root(&device, TreeId::Inodes), None).unwrap();
    assert!(found.summary.damaged_trees.contains(&TreeId::Inodes), "{:?}", found.summary);
    let salvaged = salvaged_files(&found);
    assert_ne!(salvaged.get("replaced").map(|bytes| &bytes[..]), Some(OLD));
    assert!(salvaged.values().any(|bytes| bytes == NEW), "{:?}", salvaged.keys());
}

/// A bad block of a pack costs the frames that touch it, and the gaps say which bytes.
#[test]
fn a_bad_block_in_a_pack_costs_the_frames_that_touch_it() {
    let (device, files) = packed_sample();
    let blocks = pack_blocks(&device);
    let trees_gone = without(&device, |kind, stream| {
        kind == KeyKind::Registry
            && [TreeId::Streams, TreeId::Extents, TreeId::Frames, TreeId::Packs]
                .iter()
                .any(|tree| page_stream(tree.number()) == stream)
    });
    let mut damaged = 0;
    for position in blocks.iter().step_by(29).chain(blocks.last()) {
        for device in [&device, &trees_gone] {
            let found = salvage_device(&zeroed(device, *position..position + 1), None).unwrap();
            let salvaged = salvaged_files(&found);
            let mut lost = 0;
            for (name, bytes) in &files {
                let mut items = found.items.iter();
                let item = items.find(|item| item.path.as_deref() == Some(name.as_bytes()));
                let mut expected = bytes.clone();
                for gap in &item.unwrap().gaps {
                    lost += gap.end - gap.start;
                    let range =
                        usize::try_from(gap.start).unwrap()..usize::try_from(gap.end).unwrap();
                    expected[range].fill(0);
                }
                assert!(salvaged[name] == expected, "block {position}: {name}");
                let has_gaps = item.unwrap().outcome == Outcome::Gaps;
                assert_eq!(has_gaps, expected != *bytes, "block {position}: {name}");
            }
            assert!(lost <= 3 * (128 << 10), "block {position}: {lost} bytes");
            damaged += usize::from(lost > 0);
        }
    }
    assert!(damaged > 8, "{damaged} of {} blocks", blocks.len());
}

/// The length of the hole in [`sparse`]: longer than any archive could store as zeros.
const HOLE: u64 = 1 << 40;

/// An archive with a sparse file: noise, a hole, noise.
fn sparse() -> (MemoryDevice, Vec<u8>) {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    pack(&archive, "before", &noise(1, 3000));
    let bytes = noise(2, 150_000);
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, &bytes).unwrap();
    names.append_hole(&mut packed, HOLE).unwrap();
    names.append_packed(&mut packed, &bytes).unwrap();
    names.add_packed(ROOT, b"sparse", attributes(), packed).unwrap();
    archive.commit().unwrap();
    (device, bytes)
}

/// Returns what was reported of the sparse file, and its salvaged bytes: those before the hole and those after it.
fn salvaged_sparse(device: &MemoryDevice, length: usize) -> (Salvaged, Vec<u8>, Vec<u8>) {
    let found = salvage_device(device, None).unwrap();
    let mut items = found.items.iter();
    let item = items.find(|item| item.path.as_deref() == Some(b"sparse")).unwrap();
    assert_eq!(item.length, HOLE + 2 * length as u64);
    let snapshot = found.archive.snapshot();
    let entry = snapshot.lookup(ROOT, b"sparse").unwrap().unwrap();
    let inode = snapshot.inode(entry.inode).unwrap().unwrap();
    assert_eq!(inode.size, item.length);
    let content = snapshot.read_file(&inode).unwrap().unwrap();
    assert_eq!(content.hole_at(length as u64).unwrap(), HOLE);
    let (mut first, mut last) = (vec![1; length], vec![1; length]);
    assert_eq!(content.read_at(0, &mut first).unwrap(), length);
    assert_eq!(content.read_at(HOLE + length as u64, &mut last).unwrap(), length);
    (item.clone(), first, last)
}

#[test]
fn a_hole_is_no_gap() {
    let (device, bytes) = sparse();
    let (item, first, last) = salvaged_sparse(&device, bytes.len());
    assert_eq!((item.outcome, &item.gaps[..]), (Outcome::Complete, &[][..]));
    assert!(first == bytes && last == bytes);
}

#[test]
fn a_bad_block_next_to_a_hole_costs_its_frames_and_not_the_hole() {
    let (device, bytes) = sparse();
    for position in pack_blocks(&device).into_iter().step_by(7) {
        let wreck = zeroed(&device, position..position + 1);
        let (item, first, last) = salvaged_sparse(&wreck, bytes.len());
        let [mut expected, mut end] = [bytes.clone(), bytes.clone()];
        for gap in &item.gaps {
            let index = |at: u64| usize::try_from(at).unwrap();
            let is_before = gap.end <= bytes.len() as u64;
            let (side, begin) =
                if is_before { (&mut expected, 0) } else { (&mut end, HOLE + bytes.len() as u64) };
            side[index(gap.start - begin)..index(gap.end - begin)].fill(0);
        }
        assert!(first == expected && last == end, "block {position}: {:?}", item.gaps);
        let is_whole = item.gaps.is_empty();
        assert_eq!(item.outcome == Outcome::Complete, is_whole, "block {position}");
    }
}
