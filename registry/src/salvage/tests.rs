//! A salvage recovers everything that does not lie in a destroyed block, and lists the rest:
//!
//! - content that it calls complete is as it was written;
//! - it needs no meta slot, no root, and, with an exported header, no header;
//! - what was deleted does not come back, and versions of a stream are never mixed.

mod packs;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{BLOCK_SIZE, BLOCK_SIZE_U64, Position, RESERVED_BLOCKS, Timestamp};
use ar7_engine::store::{Access, OpenOptions};

use super::*;
use crate::archive::CreateOptions;
use crate::committed::Snapshot;
use crate::records::{
    Attributes, Device as DeviceNumbers, EntryType, ExtendedAttribute, InodeNumber, Inodes,
    ReadRecords as _,
};

const ROOT: InodeNumber = InodeNumber::ROOT;

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([3; 32]))
}

fn attributes() -> Attributes {
    let modified = Timestamp::default();
    Attributes { mode: 0o640, uid: 7, gid: 8, modified, origin: None }
}

#[derive(Default)]
struct Seen {
    items: Vec<Salvaged>,
}

impl SalvageObserver for Seen {
    fn salvaged(&mut self, item: Salvaged) {
        self.items.push(item);
    }

    fn progress(&mut self, _: SalvageProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// A salvage: the new archive, the summary, and what was told.
struct Outcomes {
    archive: Archive,
    summary: SalvageSummary,
    items: Vec<Salvaged>,
}

impl Outcomes {
    fn of(&self, path: &str) -> Option<Outcome> {
        let mut items = self.items.iter();
        items.find(|item| item.path.as_deref() == Some(path.as_bytes())).map(|item| item.outcome)
    }
}

fn salvage_device(device: &MemoryDevice, exported: Option<&[u8]>) -> Result<Outcomes> {
    let wreck = Wreck::open_device(Box::new(device.clone()), &secret(), exported)?;
    let (new, mut seen) = (MemoryDevice::new(), Seen::default());
    let create = |kind| {
        let options = CreateOptions { kind, ..CreateOptions::default() };
        Archive::create_device(Box::new(new.clone()), &secret(), &options)
    };
    let summary = salvage(wreck, create, &mut seen)?;
    let archive = open(&new)?;
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding), &mut |_| {})?;
    assert!(findings.is_empty(), "{findings:?}");
    Ok(Outcomes { archive, summary, items: seen.items })
}

pub(crate) fn open(device: &MemoryDevice) -> Result<Archive> {
    let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options)
}

/// Returns every path below a directory, with its kind and its content or target.
fn content(archive: &Archive) -> BTreeMap<String, (EntryType, Vec<u8>)> {
    let mut found = BTreeMap::new();
    read_directory(&archive.snapshot(), ROOT, "", &mut found);
    found
}

fn read_directory(
    snapshot: &Snapshot,
    directory: InodeNumber,
    path: &str,
    found: &mut BTreeMap<String, (EntryType, Vec<u8>)>,
) {
    for entry in snapshot.list(directory, None, 10_000).unwrap() {
        let name = String::from_utf8(entry.name).unwrap();
        let path = if path.is_empty() { name } else { format!("{path}/{name}") };
        let inode = snapshot.inode(entry.inode).unwrap().unwrap();
        let bytes = match entry.kind {
            EntryType::Symlink => snapshot.read_target(&inode).unwrap(),
            _ => match snapshot.read_file(&inode).unwrap() {
                Some(stream) => {
                    let mut bytes = vec![0; usize::try_from(stream.len()).unwrap()];
                    stream.read_at(0, &mut bytes).unwrap();
                    bytes
                }
                None => Vec::new(),
            },
        };
        if entry.kind == EntryType::Directory {
            read_directory(snapshot, entry.inode, &path, found);
        }
        found.insert(path, (entry.kind, bytes));
    }
}

fn add(archive: &Archive, directory: InodeNumber, name: &str, bytes: &[u8]) -> InodeNumber {
    let mut stream = archive.new_stream().unwrap();
    stream.append(bytes).unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    archive.names().add_file(directory, name.as_bytes(), attributes(), Some(identity)).unwrap()
}

/// An archive with every kind of entry, fragmented files, a deleted file and bare streams. It is not closed, so that it
/// has a redo list.
pub(crate) fn sample() -> MemoryDevice {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let names = archive.names();
    archive.set_metadata(b"metadata").unwrap();
    let mut reserved = archive.reserved_stream(3).unwrap();
    reserved.append(&[9; 5000]).unwrap();
    reserved.close().unwrap();
    let mut bare = archive.new_stream().unwrap();
    bare.append(b"bare").unwrap();
    bare.close().unwrap();
    let below = names.make_directory(ROOT, b"below", attributes()).unwrap();
    let deep = names.make_directory(below, b"deep", attributes()).unwrap();
    for number in 0..40_u8 {
        add(&archive, below, &format!("file{number}"), &vec![number; 300 * usize::from(number)]);
    }
    let many = names.make_directory(ROOT, b"many", attributes()).unwrap();
    for number in 0..200 {
        let name = format!("{number:0150}");
        names.add_file(many, name.as_bytes(), attributes(), None).unwrap();
    }
    let linked = add(&archive, deep, "linked", &vec![1; 30_000]);
    names.add_link(ROOT, b"hard", linked).unwrap();
    names.add_symlink(deep, b"short", attributes(), b"target").unwrap();
    names.add_symlink(deep, b"long", attributes(), &[b't'; 2000]).unwrap();
    let numbers = Some(DeviceNumbers { major: 1, minor: 3 });
    names.add_special(ROOT, b"null", attributes(), EntryType::CharacterDevice, numbers).unwrap();
    let attribute = |length| ExtendedAttribute::new("user.a", vec![5; length]);
    names.set_extended_attributes(linked, &[attribute(20)]).unwrap();
    names.set_extended_attributes(deep, &[attribute(2000)]).unwrap();
    add(&archive, ROOT, "deleted", &vec![4; 20_000]);
    archive.commit().unwrap();
    names.remove(ROOT, b"deleted").unwrap();
    let log = add(&archive, ROOT, "log", &vec![6; 50_000]);
    let stream = names.inode(log).unwrap().unwrap().stream.unwrap();
    for number in 0..4 {
        archive.commit().unwrap();
        let mut log = archive.open_stream(stream).unwrap();
        log.append(&vec![number; 30_000]).unwrap();
        log.write_at(20_000, b"changed").unwrap();
        log.close().unwrap();
    }
    archive.commit().unwrap();
    device
}

pub(crate) fn zeroed(device: &MemoryDevice, blocks: std::ops::Range<u32>) -> MemoryDevice {
    let copy = device.snapshot().to_device();
    for position in blocks {
        copy.write(Position::at(position), &[0; BLOCK_SIZE]).unwrap();
    }
    copy
}

pub(crate) fn blocks(device: &MemoryDevice) -> u32 {
    u32::try_from(device.length_bytes().unwrap() / BLOCK_SIZE_U64).unwrap()
}

#[test]
fn everything_in_a_whole_archive_is_salvaged() {
    let device = sample();
    let found = salvage_device(&device, None).unwrap();
    assert!(found.summary.is_complete(), "{:?} {:?}", found.summary, found.items);
    let old = open(&device).unwrap();
    assert_eq!(content(&found.archive), content(&old));
    assert_eq!(found.archive.metadata().unwrap(), b"metadata");
    let mut reserved = vec![0; 5000];
    found.archive.reserved_stream(3).unwrap().read_at(0, &mut reserved).unwrap();
    assert_eq!(reserved, vec![9; 5000]);
    let (old, new) = (old.statistics().unwrap(), found.archive.statistics().unwrap());
    assert_eq!((new.streams, new.names, new.inodes), (old.streams, old.names, old.inodes));
    let inode_at = |path: &[u8]| {
        let names = found.archive.names();
        let entry = names.resolve(path).unwrap();
        names.inode(entry.inode).unwrap().unwrap()
    };
    let (linked, deep) = (inode_at(b"hard"), inode_at(b"below/deep"));
    assert_eq!((linked.links, linked.attributes), (2, attributes()));
    for (inode, length) in [(linked, 20), (deep, 2000)] {
        let stored = found.archive.names().extended_attributes(&inode).unwrap();
        assert_eq!(stored, [ExtendedAttribute::new("user.a", vec![5; length])]);
    }
}

#[test]
fn without_slots_and_header_nothing_is_lost_if_the_header_was_exported() {
    let device = sample();
    let header = open(&device).unwrap().store().export_header();
    let wreck = zeroed(&device, 0..RESERVED_BLOCKS);
    assert!(salvage_device(&wreck, None).is_err(), "no header");
    let found = salvage_device(&wreck, Some(&header[..])).unwrap();
    let mut expected = content(&open(&device).unwrap());
    let mut salvaged = content(&found.archive);
    salvaged.retain(|path, _| !path.starts_with("lost+found"));
    expected.retain(|path, _| found.of(path) == Some(Outcome::Complete));
    let is_same = salvaged == expected;
    let other = salvaged.iter().find(|(path, found)| expected.get(*path) != Some(*found));
    assert!(is_same, "{:?}", other.map(|(path, _)| path));
    assert_eq!(expected.len(), 249);
}

/// Every block alone: what is called complete is as it was written, and nothing is missing without a word.
#[test]
fn one_destroyed_block_costs_what_it_holds() {
    let device = sample();
    let expected = content(&open(&device).unwrap());
    let total = expected.len();
    for position in RESERVED_BLOCKS..blocks(&device) {
        let found = salvage_device(&zeroed(&device, position..position + 1), None).unwrap();
        let salvaged = content(&found.archive);
        let complete = salvaged
            .iter()
            .filter(|(path, _)| found.of(path) == Some(Outcome::Complete))
            .filter(|(path, _)| !path.starts_with("lost+found"))
            .inspect(|(path, content)| {
                assert_eq!(Some(*content), expected.get(*path), "block {position}: {path}");
            });
        let complete = complete.count();
        assert!(complete <= total);
        if complete < total {
            let missing: Vec<_> = expected.keys().filter(|path| found.of(path).is_none()).collect();
            assert!(!found.summary.is_complete(), "block {position}: {missing:?}");
        }
        let is_page = !found.summary.damaged_trees.is_empty();
        assert!(is_page || complete + 2 >= total, "block {position}: {complete} of {total}");
    }
}

#[test]
fn the_stream_of_a_single_archive_and_the_streams_of_a_fixed_one_are_salvaged() {
    for kind in [ArchiveKind::Single, ArchiveKind::Fixed] {
        let device = MemoryDevice::new();
        let options = CreateOptions { kind, fixed_streams: 3, ..CreateOptions::default() };
        let archive =
            Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
        let mut identities = vec![uuid::Uuid::nil()];
        if kind == ArchiveKind::Fixed {
            let streams = archive.streams(None, 10).unwrap();
            identities = streams.iter().map(|stream| stream.record.identity).collect();
        }
        for identity in &identities {
            let mut stream = archive.open_stream(*identity).unwrap();
            stream.append(&[identity.as_bytes()[15]; 9000]).unwrap();
            stream.close().unwrap();
        }
        archive.commit().unwrap();
        archive.close().unwrap();
        let found = salvage_device(&device, None).unwrap();
        assert!(found.summary.is_complete(), "{kind:?} {:?}", found.items);
        assert_eq!(found.archive.kind(), kind);
        for identity in &identities {
            let stream = found.archive.read_stream(*identity).unwrap();
            let mut bytes = vec![0; 9000];
            assert_eq!(stream.read_at(0, &mut bytes).unwrap(), 9000, "{kind:?} {:?}", found.items);
            assert_eq!((stream.len().unwrap(), bytes), (9000, vec![identity.as_bytes()[15]; 9000]));
        }
    }
}

/// Destroys both copies of the root page of a tree.
fn without_root(device: &MemoryDevice, tree: TreeId) -> MemoryDevice {
    let root = open(device).unwrap().store().current().slot.roots[tree.index()];
    let copy = device.snapshot().to_device();
    for block in root.block.unwrap().copies() {
        copy.write(block.position, &[0; BLOCK_SIZE]).unwrap();
    }
    copy
}

/// Without slots, the newest page of a tree whose root is lost is not taken for the whole tree.
#[test]
fn a_tree_of_which_slots_and_root_are_lost_is_not_whole() {
    let device = sample();
    for tree in [TreeId::Names, TreeId::Inodes] {
        let depth = open(&device).unwrap().store().current().slot.roots[tree.index()].depth;
        assert!(depth > 1, "{tree:?} has one page");
        let wreck = zeroed(&without_root(&device, tree), 1..5);
        let found = salvage_device(&wreck, None).unwrap();
        assert!(found.summary.damaged_trees.contains(&tree), "{:?}", found.summary);
    }
}

/// An older page names the stream that the file had before. Its newest stream names the file.
#[test]
fn a_file_of_which_the_newest_inode_is_lost_gets_its_newest_content_and_is_unproven() {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let file = add(&archive, ROOT, "file", &[1; 5000]);
    archive.commit().unwrap();
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[2; 6000]).unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    archive.names().replace_content(file, Some(identity), attributes()).unwrap();
    archive.commit().unwrap();
    let found = salvage_device(&without_root(&device, TreeId::Inodes), None).unwrap();
    assert_eq!(found.of("file"), Some(Outcome::Unproven));
    assert_eq!(content(&found.archive)["file"].1, [2; 6000]);
}

/// The salvage needs `lost+found` before it comes to the directory of this name.
#[test]
fn a_directory_lost_and_found_keeps_its_name() {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let file = add(&archive, ROOT, "file", &[1; 9000]);
    let below = archive.names().make_directory(ROOT, b"lost+found", attributes()).unwrap();
    add(&archive, below, "own", b"own");
    archive.commit().unwrap();
    let stream = archive.names().inode(file).unwrap().unwrap().stream.unwrap();
    let mut stream = archive.open_stream(stream).unwrap();
    stream.set_len(0).unwrap();
    stream.append(&[2; 9000]).unwrap();
    stream.close().unwrap();
    archive.commit().unwrap();
    let found = salvage_device(&without_root(&device, TreeId::Streams), None).unwrap();
    let salvaged = content(&found.archive);
    assert_eq!(salvaged["lost+found/own"].1, b"own");
    let others: Vec<&String> =
        salvaged.keys().filter(|path| path.starts_with("lost+found.1/")).collect();
    assert_eq!(others.len(), 1, "the other version of the file: {:?}", salvaged.keys());
    assert_ne!(found.of("file"), Some(Outcome::Complete));
}

/// Returns the position of the block of a file with this index.
fn block_of(device: &MemoryDevice, path: &[u8], index: u32) -> u32 {
    let archive = open(device).unwrap();
    let entry = archive.names().resolve(path).unwrap();
    let stream = archive.names().inode(entry.inode).unwrap().unwrap().stream.unwrap();
    let stored = archive.snapshot().stored(stream).unwrap().unwrap();
    stored.record.begin.unwrap().get() + index
}

#[test]
fn every_name_of_a_file_is_reported_with_the_gaps_of_its_content() {
    let device = sample();
    let position = block_of(&device, b"hard", 2);
    let found = salvage_device(&zeroed(&device, position..position + 1), None).unwrap();
    let gap = 2 * 4008..3 * 4008;
    for path in ["hard", "below/deep/linked"] {
        let item = found.items.iter().find(|item| item.path.as_deref() == Some(path.as_bytes()));
        let item = item.unwrap();
        assert_eq!((item.outcome, item.length), (Outcome::Gaps, 30_000), "{path}");
        assert_eq!(item.gaps, std::slice::from_ref(&gap), "{path}");
    }
}

/// Two inodes name one stream, as only someone with the key, or an out of date page, can say.
#[test]
fn a_stream_that_two_inodes_name_is_written_once() {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let first = add(&archive, ROOT, "first", &vec![1; 90_000]);
    let stream = archive.names().inode(first).unwrap().unwrap().stream;
    for number in 0..20 {
        let name = format!("other{number}");
        let other = archive.names().add_file(ROOT, name.as_bytes(), attributes(), None).unwrap();
        let mut state = archive.state().unwrap();
        let writing = state.writing().unwrap();
        let mut inode = writing.trees.get::<Inodes>(&other).unwrap().unwrap();
        (inode.stream, inode.size) = (stream, 90_000);
        writing.trees.put::<Inodes>(&other, &inode).unwrap();
    }
    archive.commit().unwrap();
    let found = salvage_device(&device, None).unwrap();
    assert_eq!(found.of("first"), Some(Outcome::Complete));
    assert_eq!(found.of("other7"), Some(Outcome::Unproven));
    assert_eq!(content(&found.archive)["other7"].1, vec![1; 90_000]);
    assert_eq!(found.archive.statistics().unwrap().streams, 1);
}
