//! A compaction that follows a choice of compression packs the files that become smaller, and writes packs again that
//! become smaller. The content of every file stays as it is, also if the compaction ends early.

use std::collections::BTreeSet;

use super::*;
use crate::packs::Encoding;
use crate::packs::testing::noise;
use crate::records::{Inode, Inodes, PACKED_COUNTER};

const ROOT: InodeNumber = InodeNumber::ROOT;

/// The choices of no compression, and of the levels 1 and 9.
const NONE: u64 = 1;
const FAST: u64 = 2;
const HIGH: u64 = 10;

type Files = BTreeMap<&'static str, Vec<u8>>;

fn attributes() -> Attributes {
    Attributes { mode: 0o644, uid: 0, gid: 0, modified: Timestamp::default(), origin: None }
}

fn inode(archive: &Archive, name: &str) -> Inode {
    let number = archive.names().lookup(ROOT, name.as_bytes()).unwrap().unwrap().inode;
    archive.names().inode(number).unwrap().unwrap()
}

/// Destroys a block of a file that has a stream of its own. Returns the archive, opened again.
fn with_bad_block(device: &MemoryDevice, archive: Archive, name: &str, block: u32) -> Archive {
    let stream = inode(&archive, name).stream.unwrap();
    let begin = archive.snapshot().stored(stream).unwrap().unwrap().record.begin.unwrap();
    archive.close().unwrap();
    device.write(Position::at(begin.get() + block), &[0; BLOCK_SIZE]).unwrap();
    open(device)
}

/// Returns a text that a higher level compresses better.
fn text(seed: u64, length: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> =
        (0..400).map(|word| noise(word + 1, 3 + (word % 9) as usize)).collect();
    let mut order = noise(seed, length).into_iter();
    let mut text = Vec::with_capacity(length + 16);
    while text.len() < length {
        let (Some(high), Some(low)) = (order.next(), order.next()) else { break };
        text.extend_from_slice(&words[(usize::from(high) << 8 | usize::from(low)) % words.len()]);
    }
    text.resize(length, b'.');
    text
}

/// Adds a file with a stream of its own.
fn add_plain(archive: &Archive, files: &mut Files, name: &'static str, bytes: Vec<u8>) {
    let mut stream = archive.new_stream().unwrap();
    stream.append(&bytes).unwrap();
    let identity = Some(stream.identity());
    stream.close().unwrap();
    archive.names().add_file(ROOT, name.as_bytes(), attributes(), identity).unwrap();
    files.insert(name, bytes);
}

fn add_packed(archive: &Archive, files: &mut Files, name: &'static str, bytes: Vec<u8>) {
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, &bytes).unwrap();
    names.add_packed(ROOT, name.as_bytes(), attributes(), packed).unwrap();
    files.insert(name, bytes);
}

/// Checks the content of the last commit. Returns the names of the packed files.
fn packed_of(archive: &Archive, files: &Files) -> Vec<&'static str> {
    assert_eq!(findings(archive), [""; 0]);
    let snapshot = archive.snapshot();
    let mut packed = Vec::new();
    for (name, expected) in files {
        let entry = snapshot.lookup(ROOT, name.as_bytes()).unwrap().unwrap();
        let inode = snapshot.inode(entry.inode).unwrap().unwrap();
        assert_eq!(inode.size, expected.len() as u64, "{name}");
        let content = snapshot.read_file(&inode).unwrap().unwrap();
        let mut found = vec![0; expected.len()];
        assert_eq!(content.read_at(0, &mut found).unwrap(), found.len(), "{name}");
        assert!(found == *expected, "other bytes in {name}");
        packed.extend(inode.slice.map(|_| *name));
    }
    packed
}

fn compact_as(archive: &Archive, choice: u64) -> CompactSummary {
    let mut seen = Seen::default();
    let summary = archive.compact_as(Encoding::Choose(choice), Duration::ZERO, &mut seen).unwrap();
    assert_eq!(seen.findings.len(), 0);
    summary
}

fn packed_bytes(archive: &Archive) -> u64 {
    archive.store().current().slot.counters[PACKED_COUNTER]
}

#[test]
fn files_that_become_smaller_are_packed_and_others_stay() {
    let (device, archive) = create();
    let mut files = Files::new();
    add_plain(&archive, &mut files, "text", text(1, 900_000));
    add_plain(&archive, &mut files, "noise", noise(1, 300_000));
    add_plain(&archive, &mut files, "small", noise(2, 300));
    let names = archive.names();
    names.add_symlink(ROOT, b"link", attributes(), &[b'a'; 1000]).unwrap();
    names.add_link(ROOT, b"other", names.lookup(ROOT, b"text").unwrap().unwrap().inode).unwrap();
    files.insert("other", files["text"].clone());
    let mut stream = archive.new_stream().unwrap();
    stream.append(&vec![1; 100_000]).unwrap();
    let bare = stream.identity();
    stream.close().unwrap();
    archive.commit().unwrap();
    compact(&archive);
    let before = archive.statistics().unwrap();
    assert_eq!(packed_of(&archive, &files), [""; 0], "without a choice, nothing is packed");
    compact_as(&archive, NONE);
    assert_eq!(packed_of(&archive, &files), [""; 0]);
    assert_eq!(archive.compression().unwrap(), NONE);
    let summary = compact_as(&archive, 0);
    assert_eq!(packed_of(&archive, &files), ["other", "small", "text"]);
    assert_eq!(content_of(&archive, bare), vec![1; 100_000]);
    assert_eq!(archive.compression().unwrap(), 0);
    assert!(summary.bytes_after + 400_000 < before.file_bytes, "{summary:?} {before:?}");
    archive.close().unwrap();
    assert_eq!(packed_of(&open(&device), &files).len(), 3);
}

#[test]
fn by_default_short_files_are_packed_as_new_ones_are() {
    const LONGEST: usize = 16 << 20;
    let (device, archive) = create();
    let mut files = Files::new();
    add_plain(&archive, &mut files, "text", text(1, 900_000));
    add_plain(&archive, &mut files, "longest", vec![b'x'; LONGEST]);
    add_plain(&archive, &mut files, "longer", vec![b'x'; LONGEST + 1]);
    add_plain(&archive, &mut files, "noise", noise(1, 300_000));
    add_plain(&archive, &mut files, "small", noise(2, 300));
    // A higher level makes it smaller, but content that is packed stays as it is.
    add_packed(&archive, &mut files, "packed", text(2, 2_000_000));
    archive.set_compression(NONE).unwrap();
    archive.commit().unwrap();
    let run = || {
        let mut seen = Seen::default();
        archive.compact_as(Encoding::Pack, Duration::ZERO, &mut seen).unwrap()
    };
    assert_eq!(run().encoded, 0);
    assert_eq!(packed_of(&archive, &files), ["packed"], "an archive without compression");
    archive.set_compression(HIGH).unwrap();
    archive.commit().unwrap();
    let before = packed_bytes(&archive);
    let summary = run();
    assert_eq!(packed_of(&archive, &files), ["longest", "packed", "small", "text"]);
    assert_eq!(archive.compression().unwrap(), HIGH);
    assert!(packed_bytes(&archive) > before, "{summary:?}");
    assert!(summary.bytes_after < summary.bytes_before);
    assert_eq!(run().encoded, 0);
    archive.close().unwrap();
    let archive = open(&device);
    let (device, new) = create();
    archive.copy_as(Encoding::Pack, &new, &mut |_| ControlFlow::Continue(())).unwrap();
    new.close().unwrap();
    let new = open(&device);
    assert_eq!(packed_of(&new, &files), ["longest", "packed", "small", "text"]);
    assert_eq!(new.compression().unwrap(), HIGH);
}

/// Packed, it would have one length, and the content of the longer one would be lost.
#[test]
fn a_file_whose_stream_has_another_length_than_its_inode_stays_as_it_is() {
    let (_, archive) = create();
    let mut files = Files::new();
    for (name, size) in [("longer", 5), ("shorter", 90_000)] {
        add_plain(&archive, &mut files, name, text(1, 50_000));
        archive.commit().unwrap();
        let number = archive.names().lookup(ROOT, name.as_bytes()).unwrap().unwrap().inode;
        let forged = Inode { size, ..inode(&archive, name) };
        let mut state = archive.state().unwrap();
        state.writing().unwrap().trees.put::<Inodes>(&number, &forged).unwrap();
    }
    archive.commit().unwrap();
    let (_, new) = create();
    archive.copy_as(Encoding::Pack, &new, &mut |_| ControlFlow::Continue(())).unwrap();
    archive.compact_as(Encoding::Pack, Duration::ZERO, &mut Seen::default()).unwrap();
    for (archive, name) in
        [&archive, &new].into_iter().flat_map(|it| [(it, "longer"), (it, "shorter")])
    {
        let stream = inode(archive, name).stream.expect("its own stream");
        assert_eq!(content_of(archive, stream), text(1, 50_000), "{name}");
    }
}

#[test]
fn packs_are_written_again_where_that_makes_them_smaller() {
    let (_, archive) = create();
    let mut files = Files::new();
    archive.set_compression(NONE).unwrap();
    for (seed, name) in ["a", "b", "c"].into_iter().enumerate() {
        add_packed(&archive, &mut files, name, text(seed as u64 + 1, 700_000));
        archive.commit().unwrap();
    }
    add_packed(&archive, &mut files, "noise", noise(7, 500_000));
    archive.commit().unwrap();
    let (mut packs, mut bytes) = (archive.statistics().unwrap().packs, packed_bytes(&archive));
    assert!(bytes > 2_600_000 && packs == 4, "{bytes}");
    for choice in [FAST, HIGH] {
        let summary = compact_as(&archive, choice);
        let smaller = packed_bytes(&archive);
        assert!(
            smaller + bytes / 32 < bytes && summary.encoded > 0,
            "{choice}: {smaller} of {bytes}"
        );
        bytes = smaller;
        assert_eq!(packed_of(&archive, &files).len(), 4);
    }
    packs = packs.min(archive.statistics().unwrap().packs);
    assert_eq!(packs, 2, "those that were written again are in one");
    // Neither the same choice nor a lower level makes anything smaller.
    for choice in [HIGH, FAST, NONE] {
        let summary = compact_as(&archive, choice);
        assert_eq!((packed_bytes(&archive), summary.encoded), (bytes, 0), "{choice}");
    }
    assert_eq!(packed_of(&archive, &files).len(), 4);
}

#[test]
fn a_pack_that_is_written_again_loses_its_dead_content() {
    let (_, archive) = create();
    let mut files = Files::new();
    for (seed, name) in ["a", "b", "c", "d", "e", "f"].into_iter().enumerate() {
        add_packed(&archive, &mut files, name, noise(seed as u64 + 1, 100_000));
    }
    archive.commit().unwrap();
    archive.names().remove(ROOT, b"d").unwrap();
    files.remove("d");
    archive.commit().unwrap();
    assert!(archive.statistics().unwrap().dead_bytes > 90_000);
    compact_as(&archive, 0);
    assert_eq!(archive.statistics().unwrap().dead_bytes, 0);
    assert_eq!(packed_of(&archive, &files).len(), 5);
}

#[test]
fn what_does_not_open_or_has_no_room_stays_and_the_rest_is_packed() {
    let (device, archive) = create();
    let mut files = Files::new();
    add_plain(&archive, &mut files, "a", text(1, 20_000));
    add_plain(&archive, &mut files, "damaged", text(2, 50_000));
    add_plain(&archive, &mut files, "long", text(3, 8_000_000));
    add_plain(&archive, &mut files, "z", text(4, 20_000));
    archive.commit().unwrap();
    let archive = with_bad_block(&device, archive, "damaged", 5);
    let blocks = u32::try_from(archive.store().file_bytes().unwrap() / BLOCK_SIZE_U64).unwrap();
    device.set_capacity(blocks + 100);
    let mut seen = Seen::default();
    archive.compact_as(Encoding::Choose(0), Duration::ZERO, &mut seen).unwrap();
    let is_packed = |name| inode(&archive, name).slice.is_some();
    assert_eq!(["a", "damaged", "long", "z"].map(is_packed), [true, false, false, true]);
    device.set_capacity(u32::MAX);
    archive.compact_as(Encoding::Choose(0), Duration::ZERO, &mut seen).unwrap();
    assert_eq!(["a", "damaged", "long", "z"].map(is_packed), [true, false, true, true]);
    files.remove("damaged");
    let snapshot = archive.snapshot();
    for (name, expected) in &files {
        let entry = snapshot.lookup(ROOT, name.as_bytes()).unwrap().unwrap();
        let content = snapshot.read_file(&snapshot.inode(entry.inode).unwrap().unwrap()).unwrap();
        let mut found = vec![0; expected.len()];
        content.unwrap().read_at(0, &mut found).unwrap();
        assert!(found == *expected, "{name}");
    }
}

/// Opens an archive again, on a disk with room for a few more blocks than it has.
fn with_room(device: &MemoryDevice, archive: Archive, room: u32) -> Archive {
    archive.close().unwrap();
    let blocks = u32::try_from(device.length_bytes().unwrap() / BLOCK_SIZE_U64).unwrap();
    device.set_capacity(blocks + room);
    open(device)
}

#[test]
fn only_blocks_whose_commit_had_room_count_as_encoded() {
    let lengths = [("a", 20_000), ("b", 300_000), ("c", 90_000), ("d", 200_000), ("e", 30_000)];
    let (mut is_partly_packed, mut are_smaller) = (false, BTreeSet::new());
    for room in (0..36).step_by(4) {
        let (device, archive) = create();
        let mut files = Files::new();
        for (seed, (name, length)) in (1..).zip(lengths) {
            add_plain(&archive, &mut files, name, text(seed, length));
        }
        archive.commit().unwrap();
        let archive = with_room(&device, archive, room);
        let encoded = compact_as(&archive, 0).encoded;
        let packed = packed_of(&archive, &files);
        let blocks = packed.iter().map(|name| files[name].len().div_ceil(DATA_SIZE) as u64);
        assert_eq!(encoded, blocks.sum::<u64>(), "{packed:?} with room for {room} blocks");
        is_partly_packed |= (1..files.len()).contains(&packed.len());

        let (device, archive) = create();
        let mut files = Files::new();
        archive.set_compression(NONE).unwrap();
        for (seed, name) in (1..).zip(["a", "b", "c"]) {
            add_packed(&archive, &mut files, name, text(seed, 100_000));
            archive.commit().unwrap();
        }
        let archive = with_room(&device, archive, room);
        let before = packed_bytes(&archive);
        let encoded = compact_as(&archive, HIGH).encoded;
        let is_smaller = packed_bytes(&archive) < before;
        assert_eq!(encoded > 0, is_smaller, "{encoded} with room for {room} blocks");
        assert_eq!(packed_of(&archive, &files).len(), 3);
        are_smaller.insert(is_smaller);
    }
    assert!(is_partly_packed, "no disk was full part of the way");
    assert_eq!(are_smaller.len(), 2, "a disk with room for the packs, and one without");
}

/// Files that are not packed come before one that does not open.
#[test]
fn a_damaged_file_behind_files_that_stay_plain_ends_nothing() {
    let (device, archive) = create();
    let mut files = Files::new();
    add_plain(&archive, &mut files, "a", noise(1, 1 << 20));
    add_plain(&archive, &mut files, "damaged", text(2, 2_000_000));
    add_plain(&archive, &mut files, "z", text(4, 200_000));
    archive.commit().unwrap();
    // Behind the beginning, which shows whether the file becomes smaller.
    let archive = with_bad_block(&device, archive, "damaged", 400);
    let mut seen = Seen { calls: Some(1000), ..Seen::default() };
    archive.compact_as(Encoding::Choose(0), Duration::ZERO, &mut seen).unwrap();
    let is_packed = |name| inode(&archive, name).slice.is_some();
    assert_eq!(["a", "damaged", "z"].map(is_packed), [false, false, true]);
}

#[test]
fn a_stopped_compaction_leaves_every_file_as_it_was() {
    let (device, archive) = create();
    let mut files = Files::new();
    archive.set_compression(NONE).unwrap();
    for (seed, name) in ["a", "b", "c", "d"].into_iter().enumerate() {
        add_packed(&archive, &mut files, name, text(seed as u64 + 1, 200_000));
        archive.commit().unwrap();
    }
    for (seed, name) in ["k", "l", "m", "n"].into_iter().enumerate() {
        add_plain(&archive, &mut files, name, text(seed as u64 + 9, 200_000));
    }
    archive.commit().unwrap();
    archive.close().unwrap();
    let mut is_done = false;
    for calls in 0..60 {
        let archive = open(&device);
        let mut seen = Seen { calls: Some(calls), ..Seen::default() };
        let stopped = archive.compact_as(Encoding::Choose(HIGH), Duration::ZERO, &mut seen);
        is_done = stopped.is_ok();
        let is_stopped = matches!(stopped, Err(Error::Engine(EngineError::Stopped)));
        assert!(is_done || is_stopped, "{stopped:?}");
        packed_of(&archive, &files);
        if is_done {
            assert_eq!(packed_of(&archive, &files).len(), 8);
            break;
        }
    }
    assert!(is_done);
}

#[test]
fn next_to_a_reader_nothing_is_encoded() {
    let (_, archive) = create();
    let mut files = Files::new();
    add_plain(&archive, &mut files, "text", text(1, 500_000));
    archive.commit().unwrap();
    let snapshot = archive.snapshot();
    archive.set_metadata(b"later").unwrap();
    archive.commit().unwrap();
    let summary = compact_as(&archive, 0);
    assert!(summary.oldest_reader.is_some());
    assert_eq!(packed_of(&archive, &files), [""; 0]);
    drop(snapshot);
    assert_eq!(compact_as(&archive, 0).oldest_reader, None);
    assert_eq!(packed_of(&archive, &files), ["text"]);
}
