//! Compaction keeps all content and gives space back:
//!
//! - after any changes, and next to readers, every stream is as before, the archive verifies, and the file is as short
//!   as a new one with the same content;
//! - blocks that do not open stay, are reported, and cost nothing else;
//! - while an older commit is read, the file neither grows nor is cut;
//! - on a full disk it uses free blocks only.

mod encode;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::simulated::SimulatedDisk;
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{ArchiveKind, BLOCK_SIZE, BLOCK_SIZE_U64, DATA_SIZE, Position, Timestamp};
use ar7_engine::store::{Access, OpenOptions};
use ar7_engine::{PlantedFault, with_planted_fault};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::archive::CreateOptions;
use crate::archive::tests::copies::pages_of;
use crate::blocks::locate;
use crate::committed::Snapshot;
use crate::error::Error;
use crate::records::{Attributes, InodeNumber, TreeId, reserved_identity};
use crate::verify::{Finding, Subject};

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([4; 32]))
}

fn create() -> (MemoryDevice, Archive) {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    (device, archive)
}

fn open(device: &MemoryDevice) -> Archive {
    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options).unwrap()
}

/// What a compaction reported.
#[derive(Default)]
struct Seen {
    findings: Vec<Finding>,
    /// How many calls of `progress` to allow.
    calls: Option<u64>,
}

impl CompactObserver for Seen {
    fn damaged(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    fn progress(&mut self, _: CompactProgress) -> ControlFlow<()> {
        match &mut self.calls {
            Some(0) => ControlFlow::Break(()),
            Some(calls) => {
                *calls -= 1;
                ControlFlow::Continue(())
            }
            None => ControlFlow::Continue(()),
        }
    }
}

fn compact(archive: &Archive) -> (CompactSummary, Vec<Finding>) {
    let mut seen = Seen::default();
    let summary = archive.compact(Duration::ZERO, &mut seen).unwrap();
    (summary, seen.findings)
}

fn findings(archive: &Archive) -> Vec<String> {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    findings
}

type Streams = BTreeMap<Uuid, Vec<u8>>;

fn content_of(archive: &Archive, identity: Uuid) -> Vec<u8> {
    let stream = archive.read_stream(identity).unwrap();
    let mut bytes = vec![0; usize::try_from(stream.len().unwrap()).unwrap()];
    let mut done = 0;
    while done < bytes.len() {
        done += stream.read_at(done as u64, &mut bytes[done..]).unwrap();
    }
    bytes
}

fn content(archive: &Archive) -> Streams {
    let streams = archive.streams(None, usize::MAX).unwrap();
    let content = streams.iter().map(|stored| {
        let identity = stored.record.identity;
        (identity, content_of(archive, identity))
    });
    content.collect()
}

fn add(archive: &Archive, streams: &mut Streams, bytes: Vec<u8>) -> Uuid {
    let mut stream = archive.new_stream().unwrap();
    stream.append(&bytes).unwrap();
    let identity = stream.identity();
    stream.close().unwrap();
    streams.insert(identity, bytes);
    identity
}

fn delete(archive: &Archive, streams: &mut Streams, identity: Uuid) {
    assert!(archive.delete_stream(identity).unwrap());
    streams.remove(&identity);
}

fn pattern(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from((at / 7 + seed * 31) % 251).unwrap()).collect()
}

/// An archive in which nine of ten streams were deleted.
fn mostly_deleted(count: usize, blocks: usize) -> (MemoryDevice, Streams) {
    let (device, archive) = create();
    let mut streams = Streams::new();
    for number in 0..count {
        add(&archive, &mut streams, pattern(number, blocks * DATA_SIZE - 100));
        if number % 50 == 0 {
            archive.commit().unwrap();
        }
    }
    archive.commit().unwrap();
    let gone: Vec<Uuid> = streams.keys().copied().collect();
    for (number, identity) in gone.into_iter().enumerate() {
        if number % 10 != 7 {
            delete(&archive, &mut streams, identity);
        }
    }
    archive.commit().unwrap();
    archive.close().unwrap();
    (device, streams)
}

fn new_with(streams: &Streams) -> u64 {
    let (device, archive) = create();
    let mut copies = Streams::new();
    for bytes in streams.values() {
        add(&archive, &mut copies, bytes.clone());
    }
    archive.commit().unwrap();
    archive.close().unwrap();
    device.length_bytes().unwrap()
}

#[test]
fn an_archive_of_which_most_was_deleted_becomes_as_short_as_a_new_one() {
    for (count, blocks) in
        [(10, 1), (40, 3), (100, 10), (300, 20), (2000, 2), (30, 300), (26_000, 1)]
    {
        let (device, streams) = mostly_deleted(count, blocks);
        let before = device.length_bytes().unwrap();
        let archive = open(&device);
        let (summary, found) = compact(&archive);
        assert!(found.is_empty());
        assert_eq!((summary.damaged, summary.oldest_reader), (0, None));
        assert_eq!(findings(&archive), [""; 0]);
        assert_eq!(content(&archive), streams);
        let (copy, copied) = create();
        archive.copy_to(&copied, &mut |_| ControlFlow::Continue(())).unwrap();
        copied.close().unwrap();
        archive.close().unwrap();
        let (after, new) = (device.length_bytes().unwrap(), new_with(&streams));
        assert_eq!(summary.bytes_after, after, "closing changes nothing");
        println!("{count} x {blocks}: {before} -> {after}, new {new}; {summary:?}");
        assert!(after <= new + new / 20 + 65_536, "{count} x {blocks}: {after}, new {new}");
        let copy = copy.length_bytes().unwrap();
        assert!(copy <= new + new / 20 + 65_536, "{count} x {blocks}: copy {copy}, new {new}");
        let again = compact(&open(&device)).0;
        assert_eq!(again.moved, 0, "nothing is left to do");
    }
}

/// Creates an archive of those of the first `all` names for which `first` holds, and removes those for which `kept` does not.
fn names_in(all: u32, kept: fn(u32) -> bool, first: fn(u32) -> bool) -> MemoryDevice {
    let (device, archive) = create();
    let names = archive.names();
    let modified = Timestamp::default();
    let attributes = Attributes { mode: 0o600, uid: 0, gid: 0, modified, origin: None };
    let root = InodeNumber::ROOT;
    let name = |number: u32| format!("a name of some length {number}");
    for number in (0..all).filter(|&number| first(number)) {
        names.add_file(root, name(number).as_bytes(), attributes, None).unwrap();
    }
    archive.commit().unwrap();
    for number in (0..all).filter(|&number| first(number) && !kept(number)) {
        names.remove(root, name(number).as_bytes()).unwrap();
    }
    archive.commit().unwrap();
    archive.close().unwrap();
    device
}

/// An index alone: removals leave most of each leaf unused, and in a small archive there is no free block.
#[test]
fn an_index_of_which_most_was_removed_becomes_as_short_as_a_new_one() {
    let kept = |number: u32| number * number % 101 % 10 == 7;
    for all in [2000, 6000, 12_000, 24_000] {
        let (device, fresh) = (names_in(all, kept, |_| true), names_in(all, |_| true, kept));
        let archive = open(&device);
        let names =
            |archive: &Archive| archive.names().list(InodeNumber::ROOT, None, 25_000).unwrap();
        let before = names(&archive);
        let (summary, found) = compact(&archive);
        assert!(found.is_empty());
        assert_eq!(findings(&archive), [""; 0]);
        assert!(before.len() > 50 && names(&archive) == before);
        archive.close().unwrap();
        let (after, new) = (device.length_bytes().unwrap(), fresh.length_bytes().unwrap());
        println!("{all}: {summary:?}, {after}, new {new}");
        assert!(after <= new + new / 20 + 65_536, "{all}: {after}, new {new}");
    }
}

/// Returns the position of a block of a stream.
fn position_of(archive: &Archive, stream: Uuid, index: u32) -> Position {
    let snapshot = archive.snapshot();
    let stored = snapshot.stored(stream).unwrap().unwrap();
    locate(&snapshot, &stored, index).unwrap().position(index)
}

/// An archive that begins with a free run and ends with a long stream, on a disk.
fn with_long_stream_at_the_end() -> (SimulatedDisk, Streams, Uuid) {
    with_streams(300, 200)
}

/// An archive of two streams with these numbers of blocks, of which the first was deleted.
fn with_streams(deleted: usize, kept: usize) -> (SimulatedDisk, Streams, Uuid) {
    let disk = SimulatedDisk::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(disk.clone()), &secret(), &options).unwrap();
    let mut streams = Streams::new();
    let first = add(&archive, &mut streams, pattern(1, deleted * DATA_SIZE));
    let last = add(&archive, &mut streams, pattern(2, kept * DATA_SIZE));
    archive.commit().unwrap();
    delete(&archive, &mut streams, first);
    archive.commit().unwrap();
    archive.close().unwrap();
    (disk, streams, last)
}

fn open_disk(disk: &SimulatedDisk, access: Access) -> Archive {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(disk.clone()), &secret(), options).unwrap()
}

#[test]
fn a_block_that_does_not_open_stays_with_its_neighbours_and_costs_nothing_else() {
    let (disk, streams, last) = with_long_stream_at_the_end();
    let archive = open_disk(&disk, Access::Write);
    let before = |index| position_of(&archive, last, index);
    let (bad, around) = (before(150), [before(149), before(150), before(151)]);
    let moved = [before(148), before(152)];
    let mut good = [0; BLOCK_SIZE];
    disk.read(bad, &mut good).unwrap();
    disk.write(bad, &[7; BLOCK_SIZE]).unwrap();
    let (summary, found) = compact(&archive);
    assert_eq!(summary.damaged, 1);
    assert!(
        matches!(
            found[..],
            [Finding { subject: Subject::Block { stream, index: 150, position }, .. }]
                if stream == last && position == bad
        ),
        "{found:?}"
    );
    assert!(summary.moved > 50, "{summary:?}");
    let after = |index| position_of(&archive, last, index);
    assert_eq!([after(149), after(150), after(151)], around);
    assert!(after(148) < moved[0] && after(152) < moved[1]);
    assert_eq!(findings(&archive).len(), 1, "{:?}", findings(&archive));
    assert_eq!(summary.bytes_after, disk.length_bytes().unwrap());
    assert!(summary.bytes_after < summary.bytes_before);
    // Once it can be read again, nothing is wrong: it still names its neighbours.
    disk.write(bad, &good).unwrap();
    assert_eq!(findings(&archive), [""; 0]);
    assert_eq!(content(&archive), streams);
    let (summary, found) = compact(&archive);
    assert!(found.is_empty() && summary.moved > 0, "{summary:?} {found:?}");
    assert_eq!(content(&archive), streams);
}

#[test]
fn an_index_page_that_does_not_open_ends_the_compaction() {
    let (device, archive) = create();
    let mut streams = Streams::new();
    let first = add(&archive, &mut streams, pattern(1, 1200 * DATA_SIZE));
    archive.commit().unwrap();
    for number in 0..300 {
        add(&archive, &mut streams, pattern(number, 100));
    }
    archive.commit().unwrap();
    delete(&archive, &mut streams, first);
    archive.commit().unwrap();
    let pages = pages_of(&archive);
    let (_, leaf) = pages.iter().rfind(|(tree, _)| *tree == TreeId::Streams).unwrap();
    for copy in leaf.copies() {
        device.write(copy.position, &[7; BLOCK_SIZE]).unwrap();
    }
    drop(archive);
    let archive = open(&device);
    let mut seen = Seen { calls: Some(2000), ..Seen::default() };
    let summary = archive.compact(Duration::ZERO, &mut seen).unwrap();
    assert!(seen.calls > Some(0), "{summary:?}");
}

#[test]
fn next_to_a_reader_compaction_changes_nothing() {
    let (disk, streams, _) = with_long_stream_at_the_end();
    let archive = open_disk(&disk, Access::Write);
    let reader = open_disk(&disk, Access::Read);
    let number = reader.statistics().unwrap().commit;
    let before = archive.statistics().unwrap();
    let (summary, _) = compact(&archive);
    assert_eq!((summary.oldest_reader, summary.moved), (Some(number), 0));
    assert_eq!(archive.statistics().unwrap(), before);
    // A reader that comes later, and so reads a later commit, holds it up too.
    drop(reader);
    archive.set_metadata(b"newer").unwrap();
    archive.commit().unwrap();
    let reader = open_disk(&disk, Access::Read);
    let (summary, _) = compact(&archive);
    assert_eq!(summary.oldest_reader, Some(number + 1));
    assert_eq!(content(&reader), streams);
    drop(reader);
    let (summary, _) = compact(&archive);
    assert!(summary.oldest_reader.is_none() && summary.moved > 0);
    assert_eq!(content(&archive), streams);
}

#[test]
fn a_snapshot_of_this_process_ends_the_compaction_after_its_next_commit() {
    let (disk, streams, last) = with_long_stream_at_the_end();
    let archive = open_disk(&disk, Access::Write);
    let held = archive.snapshot();
    let (summary, _) = compact(&archive);
    assert_eq!(summary.oldest_reader, Some(held.commit().slot.number));
    assert_eq!(summary.bytes_after, summary.bytes_before);
    assert_eq!(read(&held, last), streams[&last]);
    drop(held);
    let (summary, _) = compact(&archive);
    assert!(summary.oldest_reader.is_none() && summary.bytes_after < summary.bytes_before);
    assert_eq!(content(&archive), streams);
}

#[test]
fn compaction_waits_for_readers() {
    let (disk, _, _) = with_long_stream_at_the_end();
    let archive = open_disk(&disk, Access::Write);
    let reader = open_disk(&disk, Access::Read);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            drop(reader);
        });
        let summary = archive.compact(Duration::from_secs(600), &mut Seen::default()).unwrap();
        assert!(summary.oldest_reader.is_none() && summary.moved > 0);
    });
}

#[test]
fn on_a_full_disk_compaction_uses_free_blocks_only() {
    let (disk, streams, _) = with_long_stream_at_the_end();
    let full = disk.medium().length();
    disk.set_capacity(Some(full));
    let archive = open_disk(&disk, Access::Write);
    let (summary, _) = compact(&archive);
    assert!(summary.moved > 0 && summary.bytes_after < u64::from(full) * BLOCK_SIZE_U64 / 2);
    assert_eq!(findings(&archive), [""; 0]);
    assert_eq!(content(&archive), streams);
    archive.close().unwrap();
}

#[test]
fn a_stopped_compaction_continues_where_it_was() {
    let (disk, mut streams, _) = with_long_stream_at_the_end();
    for calls in 0..12 {
        let archive = open_disk(&disk, Access::Write);
        let mut seen = Seen { calls: Some(calls), ..Seen::default() };
        let stopped = archive.compact(Duration::ZERO, &mut seen);
        let is_stopped = matches!(stopped, Err(Error::Engine(EngineError::Stopped)));
        assert!(is_stopped || stopped.is_ok(), "{stopped:?}");
        assert_eq!(content(&archive), streams);
        // The ceiling is lifted: new data that has no room below it is stored, and the archive is closed.
        let more = add(&archive, &mut streams, pattern(3, 400 * DATA_SIZE));
        archive.commit().unwrap();
        delete(&archive, &mut streams, more);
        archive.commit().unwrap();
        archive.close().unwrap();
    }
    let archive = open_disk(&disk, Access::Write);
    compact(&archive);
    assert_eq!(compact(&archive).0.moved, 0);
    assert_eq!(findings(&archive), [""; 0]);
}

#[test]
fn compaction_refuses_open_changes_and_open_streams() {
    let (_, archive) = create();
    archive.new_stream().unwrap().append(b"x").unwrap();
    let refused = archive.compact(Duration::ZERO, &mut Seen::default()).unwrap_err();
    assert!(matches!(refused, Error::Engine(EngineError::Uncommitted)), "{refused:?}");
    archive.commit().unwrap();
    let identity = archive.streams(None, 1).unwrap()[0].record.identity;
    let stream = archive.open_stream(identity).unwrap();
    let refused = archive.compact(Duration::ZERO, &mut Seen::default()).unwrap_err();
    assert!(matches!(refused, Error::Engine(EngineError::Uncommitted)), "{refused:?}");
    drop(stream);
    compact(&archive);
}

/// Single and fixed archives: reserved streams have their records in the meta slot.
#[test]
fn streams_of_single_and_fixed_archives_are_moved() {
    for kind in [ArchiveKind::Single, ArchiveKind::Fixed] {
        let device = MemoryDevice::new();
        let options = CreateOptions { kind, fixed_streams: 3, ..CreateOptions::default() };
        let archive = Archive::create_device(Box::new(device), &secret(), &options).unwrap();
        let streams: Vec<Uuid> = match kind {
            ArchiveKind::Single => (0..3).map(reserved_identity).collect(),
            _ => archive.streams(None, 3).unwrap().iter().map(|s| s.record.identity).collect(),
        };
        for round in 0..4 {
            for (number, &stream) in streams.iter().enumerate() {
                let mut stream = archive.open_stream(stream).unwrap();
                stream.append(&pattern(number + round, 100 * DATA_SIZE - 17)).unwrap();
                drop(stream);
                archive.commit().unwrap();
            }
        }
        let before: Vec<Vec<u8>> = streams.iter().map(|&s| content_of(&archive, s)).collect();
        archive.open_stream(streams[0]).unwrap().set_len(10).unwrap();
        archive.commit().unwrap();
        let (summary, _) = compact(&archive);
        assert!(summary.moved > 100, "{kind:?} {summary:?}");
        assert!(summary.bytes_after < summary.bytes_before * 3 / 4, "{kind:?} {summary:?}");
        assert_eq!(findings(&archive), [""; 0]);
        let after: Vec<Vec<u8>> = streams.iter().map(|&s| content_of(&archive, s)).collect();
        assert_eq!((&after[0][..], &after[1..]), (&before[0][..10], &before[1..]));
    }
}

/// Every second block of the file is free, so that every moved block has two neighbours that stay, or an extent of its
/// own.
#[test]
fn streams_in_single_blocks_are_moved() {
    let (device, archive) = create();
    let mut streams = Streams::new();
    let long = add(&archive, &mut streams, pattern(1, DATA_SIZE));
    let mut freed = Vec::new();
    for round in 0..900 {
        let gone = add(&archive, &mut streams, pattern(round, DATA_SIZE));
        let bytes = pattern(round + 2, DATA_SIZE);
        archive.open_stream(long).unwrap().append(&bytes).unwrap();
        streams.get_mut(&long).unwrap().extend(bytes);
        archive.commit().unwrap();
        freed.push(gone);
    }
    for gone in freed {
        delete(&archive, &mut streams, gone);
    }
    archive.commit().unwrap();
    let (summary, _) = compact(&archive);
    println!("{summary:?}");
    assert!(summary.moved > 0 && summary.bytes_after < summary.bytes_before);
    assert_eq!(findings(&archive), [""; 0]);
    assert_eq!(content(&archive), streams);
    archive.close().unwrap();
    assert_eq!(content(&open(&device)), streams);
}

fn read(snapshot: &Snapshot, identity: Uuid) -> Vec<u8> {
    let stream = snapshot.read_stream(identity).unwrap();
    let mut bytes = vec![0; usize::try_from(stream.len()).unwrap()];
    let mut done = 0;
    while done < bytes.len() {
        done += stream.read_at(done as u64, &mut bytes[done..]).unwrap();
    }
    bytes
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Create(usize),
    Append(usize, usize),
    Overwrite(usize, usize, usize),
    Truncate(usize, usize),
    Delete(usize),
    DeleteMost,
    Commit,
    Compact(Option<u64>),
    Reopen,
    Close,
    Hold,
    Release,
}

fn change() -> impl Strategy<Value = Change> {
    let length = 0..120_000_usize;
    prop_oneof![
        4 => length.clone().prop_map(Change::Create),
        3 => (0..9_usize, length.clone()).prop_map(|(at, length)| Change::Append(at, length)),
        2 => (0..9_usize, length.clone(), 1..9000_usize).prop_map(|(a, b, c)| Change::Overwrite(a, b, c)),
        1 => (0..9_usize, length).prop_map(|(at, length)| Change::Truncate(at, length)),
        3 => (0..9_usize).prop_map(Change::Delete),
        1 => Just(Change::DeleteMost),
        4 => Just(Change::Commit),
        3 => prop::option::of(0..9_u64).prop_map(Change::Compact),
        1 => Just(Change::Reopen),
        1 => Just(Change::Close),
        1 => Just(Change::Hold),
        1 => Just(Change::Release),
    ]
}

/// An archive with a model of its content.
struct Modelled {
    device: MemoryDevice,
    archive: Archive,
    streams: Streams,
    committed: Streams,
    held: Vec<(Snapshot, Streams)>,
}

impl Modelled {
    fn nth(&self, number: usize) -> Option<Uuid> {
        self.streams.keys().nth(number % self.streams.len().max(1)).copied()
    }

    fn commit(&mut self) {
        self.archive.commit().unwrap();
        self.committed.clone_from(&self.streams);
    }

    fn open_again(&mut self) {
        self.held.clear();
        self.streams.clone_from(&self.committed);
        self.archive = open(&self.device);
    }

    fn compact(&mut self, calls: Option<u64>) {
        self.commit();
        let before = self.device.length_bytes().unwrap();
        let mut seen = Seen { calls, ..Seen::default() };
        let outcome = self.archive.compact(Duration::ZERO, &mut seen);
        match (outcome, calls) {
            (Ok(summary), _) => {
                assert!(seen.findings.is_empty(), "{:?}", seen.findings);
                assert!(!self.held.is_empty() || summary.oldest_reader.is_none());
            }
            (Err(Error::Engine(EngineError::Stopped)), Some(_)) => {}
            (Err(error), _) => panic!("{error}"),
        }
        assert!(self.device.length_bytes().unwrap() <= before, "the file grew");
        assert_eq!(content(&self.archive), self.streams);
    }

    fn apply(&mut self, change: Change) {
        match change {
            Change::Create(length) => {
                add(&self.archive, &mut self.streams, pattern(length, length));
            }
            Change::Append(at, length) => {
                let Some(stream) = self.nth(at) else { return };
                let bytes = pattern(at + length, length);
                self.archive.open_stream(stream).unwrap().append(&bytes).unwrap();
                self.streams.get_mut(&stream).unwrap().extend(bytes);
            }
            Change::Overwrite(at, offset, length) => {
                let Some(stream) = self.nth(at) else { return };
                let content = self.streams.get_mut(&stream).unwrap();
                let offset = offset.min(content.len());
                let bytes = pattern(at + offset, length.min(content.len() - offset));
                let mut opened = self.archive.open_stream(stream).unwrap();
                opened.write_at(offset as u64, &bytes).unwrap();
                content[offset..offset + bytes.len()].copy_from_slice(&bytes);
            }
            Change::Truncate(at, length) => {
                let Some(stream) = self.nth(at) else { return };
                let content = self.streams.get_mut(&stream).unwrap();
                content.truncate(length);
                let mut opened = self.archive.open_stream(stream).unwrap();
                opened.set_len(content.len() as u64).unwrap();
            }
            Change::Delete(at) => {
                let Some(stream) = self.nth(at) else { return };
                delete(&self.archive, &mut self.streams, stream);
            }
            Change::DeleteMost => {
                for stream in self.streams.keys().copied().skip(1).collect::<Vec<Uuid>>() {
                    delete(&self.archive, &mut self.streams, stream);
                }
            }
            Change::Commit => self.commit(),
            Change::Compact(calls) => self.compact(calls),
            Change::Reopen => self.open_again(),
            Change::Close => {
                self.held.clear();
                let archive = std::mem::replace(&mut self.archive, create().1);
                archive.close().unwrap();
                self.open_again();
            }
            Change::Hold => self.held.push((self.archive.snapshot(), self.committed.clone())),
            Change::Release => drop(self.held.pop()),
        }
        for (snapshot, streams) in &self.held {
            for (&stream, bytes) in streams {
                assert_eq!(&read(snapshot, stream), bytes, "a pinned snapshot");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn compaction_among_random_changes_keeps_all_content(
        changes in prop::collection::vec(change(), 1..40),
    ) {
        let (device, archive) = create();
        let streams = Streams::new();
        let mut modelled =
            Modelled { device, archive, committed: streams.clone(), streams, held: Vec::new() };
        for change in changes {
            modelled.apply(change);
        }
        modelled.held.clear();
        modelled.compact(None);
        prop_assert_eq!(findings(&modelled.archive), [""; 0]);
        modelled.compact(None);
        let left = modelled.archive.statistics().unwrap().free_blocks;
        prop_assert!(left <= 300, "{} free blocks are left", left);
    }
}

/// Runs a compaction with a planted fault. Returns what is wrong after it.
fn wrong_after(fault: PlantedFault) -> Option<String> {
    // The beginning of the stream stays.
    let (disk, streams, last) = with_streams(100, 300);
    let archive = open_disk(&disk, Access::Write);
    let reader =
        (fault == PlantedFault::CompactUnderReaders).then(|| open_disk(&disk, Access::Read));
    let bad = position_of(&archive, last, 280);
    let mut good = [0; BLOCK_SIZE];
    disk.read(bad, &mut good).unwrap();
    if fault == PlantedFault::MoveNextToDamage {
        disk.write(bad, &[7; BLOCK_SIZE]).unwrap();
    }
    let (summary, _) = with_planted_fault(fault, || compact(&archive));
    if fault == PlantedFault::MoveNextToDamage {
        disk.write(bad, &good).unwrap();
    }
    if reader.is_some() && summary.moved > 0 {
        return Some(format!("{summary:?} next to a reader"));
    }
    match findings(&archive).pop() {
        None if content(&archive) == streams => None,
        found => Some(format!("{found:?}")),
    }
}

/// The crashes of compactions catch `ReuseMovedBlocks`.
#[test]
fn every_planted_fault_in_compaction_is_caught() {
    for fault in PlantedFault::COMPACTION {
        let wrong = wrong_after(fault);
        println!("{fault:?}: {wrong:?}");
        assert_eq!(wrong.is_none(), fault == PlantedFault::ReuseMovedBlocks, "{fault:?}");
    }
}
