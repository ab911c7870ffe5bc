//! A copy has everything that the old archive has, record for record and block for block. Its content lies in the order
//! of the names, in one run for each stream. If anything does not open, there is no copy.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{ArchiveKind, Timestamp};

use super::*;
use crate::archive::CreateOptions;
use crate::blocks::locate;
use crate::error::Error;
use crate::records::{Attributes, NameValue};
use crate::salvage::tests::{blocks, open, sample, zeroed};

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([3; 32]))
}

fn create(kind: ArchiveKind, fixed_streams: u32) -> (MemoryDevice, Archive) {
    let device = MemoryDevice::new();
    let options = CreateOptions { kind, fixed_streams, ..CreateOptions::default() };
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    (device, archive)
}

fn copied(archive: &Archive) -> Result<MemoryDevice> {
    let (device, new) = create(archive.kind(), 0);
    archive.copy_to(&new, &mut |_| ControlFlow::Continue(()))?;
    new.close()?;
    Ok(device)
}

/// Length in bytes, owner and data of all blocks of a stream.
type Content = (u64, Option<NonZeroU64>, Vec<u8>);

/// Everything that a copy must keep.
#[derive(Debug, PartialEq)]
struct Everything {
    kind: ArchiveKind,
    metadata: Vec<u8>,
    highest: u64,
    inodes: Vec<(InodeNumber, Inode)>,
    names: Vec<(Vec<u8>, NameValue)>,
    streams: BTreeMap<Uuid, Content>,
}

fn content_of(snapshot: &Snapshot, stored: &StoredStream) -> Content {
    let mut bytes = vec![0; DATA_SIZE * stored.record.count as usize];
    let reading = Reading::of_committed(snapshot, stored);
    let mut index = 0;
    while index < stored.record.count {
        let rest = &mut bytes[DATA_SIZE * index as usize..];
        let read = read_blocks(&reading, index, u32::MAX, 0, rest).unwrap();
        index += u32::try_from(read / DATA_SIZE).unwrap();
    }
    (stored.record.length, stored.inode, bytes)
}

fn everything(archive: &Archive) -> Everything {
    let from = archive.snapshot();
    let slot = &from.commit().slot;
    let mut all = Everything {
        kind: archive.kind(),
        metadata: slot.metadata.clone(),
        highest: slot.counters[INODE_COUNTER],
        inodes: Vec::new(),
        names: Vec::new(),
        streams: BTreeMap::new(),
    };
    for stored in &slot.reserved_streams {
        all.streams.insert(stored.record.identity, content_of(&from, stored));
    }
    for stored in from.streams(None).map(Result::unwrap) {
        all.streams.insert(stored.record.identity, content_of(&from, &stored));
    }
    let mut number = InodeNumber(0);
    while let Some((found, inode)) = from.ceiling::<Inodes>(&number).unwrap() {
        all.inodes.push((found, inode));
        number = InodeNumber(found.0 + 1);
    }
    let mut key = NameKey { directory: InodeNumber(0), name: Vec::new() };
    while let Some((found, value)) = from.ceiling::<NameRecords>(&key).unwrap() {
        all.names.push((NameRecords::encode_key(&found), value));
        key = after(&found);
    }
    all
}

fn findings(archive: &Archive) -> Vec<String> {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    findings
}

#[test]
fn a_copy_has_everything_and_an_identity_of_its_own() {
    let device = sample();
    let old = open(&device).unwrap();
    let new = open(&copied(&old).unwrap()).unwrap();
    assert_eq!(findings(&new), [""; 0]);
    assert!(everything(&new) == everything(&old));
    assert_ne!(new.id(), old.id());
    assert!(new.store().file_bytes().unwrap() < old.store().file_bytes().unwrap());
}

#[test]
fn archives_of_every_kind_are_copied_with_blocks_beyond_the_length() {
    for (kind, count) in [(ArchiveKind::Single, 0), (ArchiveKind::Fixed, 5)] {
        let (device, archive) = create(kind, count);
        archive.set_metadata(b"metadata").unwrap();
        let identity = match kind {
            ArchiveKind::Single => reserved_identity(0),
            _ => archive.streams(None, 9).unwrap()[2].record.identity,
        };
        let mut stream = archive.open_stream(identity).unwrap();
        stream.append(&[7; 10_000]).unwrap();
        stream.end().unwrap();
        for number in 0..3 {
            let mut block = ar7_engine::format::Block::blank();
            block.data.fill(number);
            stream.push(&block).unwrap();
        }
        stream.close().unwrap();
        archive.commit().unwrap();
        archive.close().unwrap();
        let old = open(&device).unwrap();
        let new = open(&copied(&old).unwrap()).unwrap();
        assert_eq!(findings(&new), [""; 0]);
        let found = everything(&new);
        assert_eq!(found.streams[&identity].2.len(), 6 * DATA_SIZE);
        assert!(found == everything(&old), "{kind:?}");
    }
    // An archive without anything.
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    archive.close().unwrap();
    let old = open(&device).unwrap();
    assert!(everything(&open(&copied(&old).unwrap()).unwrap()) == everything(&old));
}

#[test]
fn content_lies_in_the_order_of_the_names_in_one_run_each() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let names = archive.names();
    let modified = Timestamp::default();
    let attributes = Attributes { mode: 0o600, uid: 0, gid: 0, modified, origin: None };
    let directories = ["z", "a", "m"]
        .map(|name| names.make_directory(InodeNumber::ROOT, name.as_bytes(), attributes).unwrap());
    // Neither created in the order of the names, nor in one run: each grows in every commit. All of them fit before the
    // third copies.
    let mut streams = Vec::new();
    for number in (0..20).rev() {
        let stream = archive.new_stream().unwrap();
        let name = format!("{number:02}");
        let directory = directories[number % 3];
        let identity = stream.identity();
        stream.close().unwrap();
        names.add_file(directory, name.as_bytes(), attributes, Some(identity)).unwrap();
        streams.push((["z", "a", "m"][number % 3], name, identity));
    }
    for _ in 0..5 {
        archive.commit().unwrap();
        for (_, _, identity) in &streams {
            let mut stream = archive.open_stream(*identity).unwrap();
            stream.append(&[3; 2 * DATA_SIZE]).unwrap();
            stream.close().unwrap();
        }
    }
    archive.commit().unwrap();
    streams.sort();
    let new = open(&copied(&archive).unwrap()).unwrap();
    let from = new.snapshot();
    let mut end = 0;
    for (directory, name, identity) in streams {
        let stored = from.stored(identity).unwrap().unwrap();
        let segment = locate(&from, &stored, 0).unwrap();
        assert_eq!(segment.run.count(), 10, "{directory}/{name}");
        assert!(segment.run.start().get() >= end, "{directory}/{name}");
        end = segment.run.end();
    }
}

/// One block after another is destroyed alone: there is a copy only if nothing is missing in it.
#[test]
fn a_copy_is_whole_or_fails_with_damage() {
    let device = sample();
    let expected = everything(&open(&device).unwrap());
    let (mut failed, mut copies) = (0, 0);
    for position in (8..blocks(&device)).step_by(5) {
        let Ok(old) = open(&zeroed(&device, position..position + 1)) else { continue };
        match copied(&old) {
            Ok(device) => {
                copies += 1;
                assert!(everything(&open(&device).unwrap()) == expected, "block {position}");
            }
            Err(error) => {
                failed += 1;
                assert_eq!(error.class(), ar7_engine::Class::Damaged, "block {position}: {error}");
            }
        }
    }
    assert!(failed > 10 && copies > 10, "{failed} failed, {copies} copies");
}

#[test]
fn a_stopped_copy_fails() {
    let old = open(&sample()).unwrap();
    let (_, new) = create(ArchiveKind::Dynamic, 0);
    let mut calls = 0;
    let stopped = old.copy_to(&new, &mut |at| {
        calls += 1;
        assert!(at.blocks <= at.total, "{at:?}");
        if calls == 10 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(Error::Engine(EngineError::Stopped))), "{stopped:?}");
    assert_eq!(calls, 10);
}

const ATTRIBUTES: Attributes = Attributes {
    mode: 0o600,
    uid: 0,
    gid: 0,
    modified: Timestamp { seconds: 0, nanoseconds: 0 },
    origin: None,
};

fn add_packed(archive: &Archive, name: &[u8], parts: &[&[u8]]) {
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    for (number, part) in parts.iter().enumerate() {
        if number > 0 {
            names.append_hole(&mut packed, 1 << 30).unwrap();
        }
        names.append_packed(&mut packed, part).unwrap();
    }
    names.add_packed(InodeNumber::ROOT, name, ATTRIBUTES, packed).unwrap();
}

/// Returns the beginning and the end of the content of a file.
fn ends_of(archive: &Archive, name: &[u8], length: usize) -> [Vec<u8>; 2] {
    let snapshot = archive.snapshot();
    let entry = snapshot.lookup(InodeNumber::ROOT, name).unwrap().unwrap();
    let content = snapshot.read_file(&snapshot.inode(entry.inode).unwrap().unwrap()).unwrap();
    let content = content.unwrap();
    [0, content.len() - length as u64].map(|offset| {
        let mut bytes = vec![0; length];
        assert_eq!(content.read_at(offset, &mut bytes).unwrap(), length);
        bytes
    })
}

/// Returns bytes that a level of Zstandard makes a third shorter.
fn digits(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        b'0' + state.to_be_bytes()[0] % 10
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Packed files, among them a sparse one, of which some are deleted. Frames of a long one are not free yet, nor is the
/// hole of another.
fn with_dead_content() -> Archive {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    archive.set_compression(1).unwrap();
    for number in 0..8_u8 {
        add_packed(&archive, &[b'a' + number], &[&digits(number.into(), 3000)]);
    }
    add_packed(&archive, b"sparse", &[&digits(9, 50_000), &digits(9, 50_000)]);
    add_packed(&archive, b"long", &[&digits(10, 18 << 20), &digits(10, 1000)]);
    archive.commit().unwrap();
    for name in [&b"b"[..], b"d", b"long"] {
        archive.names().remove(InodeNumber::ROOT, name).unwrap();
    }
    archive.commit().unwrap();
    let found = archive.statistics().unwrap();
    assert!(found.dead_bytes > 0 && found.pending_deletions > 0, "{found:?}");
    archive
}

fn check_alive(new: &Archive) -> u64 {
    assert_eq!(findings(new), [""; 0]);
    let found = new.statistics().unwrap();
    assert_eq!((found.dead_bytes, found.pending_deletions, found.packs), (0, 0, 1), "{found:?}");
    for number in [0_u8, 2, 4, 5, 6, 7] {
        let expected = digits(number.into(), 3000);
        assert_eq!(ends_of(new, &[b'a' + number], 3000), [expected.clone(), expected]);
    }
    let expected = digits(9, 50_000);
    assert_eq!(ends_of(new, b"sparse", 50_000), [expected.clone(), expected]);
    found.packed_bytes
}

#[test]
fn a_copy_has_no_dead_content() {
    let old = with_dead_content();
    let new = open(&copied(&old).unwrap()).unwrap();
    let used = check_alive(&new);
    assert!(used < 130_000, "{used}");
    assert_eq!(new.compression().unwrap(), 1);
    assert_eq!(new.snapshot().commit().slot.roots[TreeId::Frames.index()].entries, 3);
}

#[test]
fn a_copy_that_follows_a_choice_encodes_what_becomes_smaller() {
    let old = with_dead_content();
    let mut stream = old.new_stream().unwrap();
    stream.append(&digits(20, 500_000)).unwrap();
    let plain = stream.identity();
    stream.close().unwrap();
    let names = old.names();
    let number = names.add_file(InodeNumber::ROOT, b"plain", ATTRIBUTES, Some(plain)).unwrap();
    names.add_link(InodeNumber::ROOT, b"link", number).unwrap();
    old.commit().unwrap();
    let (device, new) = create(ArchiveKind::Dynamic, 0);
    old.copy_as(Encoding::Choose(10), &new, &mut |_| ControlFlow::Continue(())).unwrap();
    new.close().unwrap();
    let new = open(&device).unwrap();
    let used = check_alive(&new);
    assert!(used < 400_000, "{used}");
    let expected = digits(20, 500_000);
    for name in [&b"plain"[..], b"link"] {
        assert_eq!(ends_of(&new, name, 500_000), [expected.clone(), expected.clone()]);
    }
    assert_eq!(new.snapshot().streams(None).count(), 0);
    assert_eq!(new.compression().unwrap(), 10);
    // What a lower level makes longer stays as it is.
    let (device, again) = create(ArchiveKind::Dynamic, 0);
    new.copy_as(Encoding::Choose(2), &again, &mut |_| ControlFlow::Continue(())).unwrap();
    again.close().unwrap();
    assert!(check_alive(&open(&device).unwrap()) <= used);
}

/// The choice of the old archive is for its own new content.
#[test]
fn a_copy_without_compression_compresses_no_frame_that_loses_content() {
    let (_, old) = create(ArchiveKind::Dynamic, 0);
    old.set_compression(1).unwrap();
    add_packed(&old, b"deleted", &[&digits(1, 2000)]);
    add_packed(&old, b"kept", &[&digits(2, 20_000)]);
    old.commit().unwrap();
    old.set_compression(0).unwrap();
    old.names().remove(InodeNumber::ROOT, b"deleted").unwrap();
    old.commit().unwrap();
    assert!(old.statistics().unwrap().dead_bytes > 0);
    for (choice, range) in [(1, 20_000..20_200), (0, 5000..15_000)] {
        let (device, new) = create(ArchiveKind::Dynamic, 0);
        old.copy_as(Encoding::Choose(choice), &new, &mut |_| ControlFlow::Continue(())).unwrap();
        new.close().unwrap();
        let found = open(&device).unwrap().statistics().unwrap();
        assert!(found.dead_bytes == 0 && range.contains(&found.packed_bytes), "{found:?}");
    }
}
