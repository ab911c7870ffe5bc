//! An archive behaves like a map from streams to byte strings, across commits, rollbacks and
//! reopenings.

pub(crate) mod copies;
mod orphans;
mod overlays;
mod packs;
mod space;

use std::collections::BTreeMap;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::MemoryDevice;
use ar7_engine::format::{ArchiveKind, DATA_SIZE_U64, PENDING_SESSIONS_MAX, Timestamp};
use ar7_engine::store::{Access, NewKey, OpenOptions};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::committed::read_copy;
use crate::records::{Attributes, InodeNumber, ReadRecords};
use crate::tree::PageExpectation;

const ROOT: InodeNumber = InodeNumber::ROOT;

pub(crate) const ATTRIBUTES: Attributes = Attributes {
    mode: 0o644,
    uid: 0,
    gid: 0,
    modified: Timestamp { seconds: 0, nanoseconds: 0 },
    origin: None,
};

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([7; 32]))
}

pub(crate) fn create(kind: ArchiveKind, fixed_streams: u32) -> (MemoryDevice, Archive) {
    let device = MemoryDevice::new();
    let options = CreateOptions { kind, fixed_streams, ..CreateOptions::default() };
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    (device, archive)
}

fn open(device: &MemoryDevice, access: Access) -> Archive {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options).unwrap()
}

fn contents(archive: &Archive, identity: Uuid) -> Vec<u8> {
    let stream = archive.read_stream(identity).unwrap();
    let mut bytes = vec![0; usize::try_from(stream.len().unwrap()).unwrap()];
    assert_eq!(stream.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

#[test]
fn committed_streams_are_unchanged_after_reopening() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut expected = BTreeMap::new();
    for length in [0, 1, 4007, 4008, 4009, 3 * 4008, 100_000] {
        let bytes: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let mut stream = archive.new_stream().unwrap();
        stream.append(&bytes).unwrap();
        expected.insert(stream.identity(), bytes);
    }
    archive.commit().unwrap();
    for (&identity, bytes) in &expected {
        assert_eq!(&contents(&archive, identity), bytes);
    }
    archive.close().unwrap();
    let archive = open(&device, Access::Read);
    assert!(archive.store().recovery().is_clean(), "{:?}", archive.store().recovery());
    for (&identity, bytes) in &expected {
        assert_eq!(&contents(&archive, identity), bytes);
    }
    assert_eq!(archive.statistics().unwrap().streams, 7);
}

/// An operation on an archive.
#[derive(Debug, Clone)]
enum Operation {
    New,
    Write { stream: usize, offset: u64, length: usize },
    SetLen { stream: usize, length: u64 },
    Delete { stream: usize },
    Commit,
    Rollback,
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let border = prop_oneof![0..6 * DATA_SIZE_U64, (0_u64..6).prop_map(|at| at * DATA_SIZE_U64)];
    let length = prop_oneof![0_usize..200, Just(4008), 3000_usize..30_000];
    let operation = prop_oneof![
        2 => Just(Operation::New),
        8 => (0_usize..4, border.clone(), length)
            .prop_map(|(stream, offset, length)| Operation::Write { stream, offset, length }),
        2 => (0_usize..4, border).prop_map(|(stream, length)| Operation::SetLen { stream, length }),
        1 => (0_usize..4).prop_map(|stream| Operation::Delete { stream }),
        3 => Just(Operation::Commit),
        1 => Just(Operation::Rollback),
        1 => Just(Operation::Reopen),
    ];
    prop::collection::vec(operation, 1..60)
}

/// The expected streams, in order of creation.
type Model = Vec<(Uuid, Vec<u8>)>;

fn apply(archive: &Archive, model: &mut Model, operation: &Operation, salt: u8) {
    let chosen = |stream: usize, model: &Model| (!model.is_empty()).then(|| stream % model.len());
    match *operation {
        Operation::New => {
            let stream = archive.new_stream().unwrap();
            model.push((stream.identity(), Vec::new()));
        }
        Operation::Write { stream, offset, length } => {
            let Some(at) = chosen(stream, model) else { return };
            let bytes = vec![salt; length];
            archive.open_stream(model[at].0).unwrap().write_at(offset, &bytes).unwrap();
            let offset = usize::try_from(offset).unwrap();
            let expected = &mut model[at].1;
            if length > 0 {
                expected.resize(expected.len().max(offset + length), 0);
                expected[offset..offset + length].copy_from_slice(&bytes);
            }
        }
        Operation::SetLen { stream, length } => {
            let Some(at) = chosen(stream, model) else { return };
            archive.open_stream(model[at].0).unwrap().set_len(length).unwrap();
            model[at].1.resize(usize::try_from(length).unwrap(), 0);
        }
        Operation::Delete { stream } => {
            let Some(at) = chosen(stream, model) else { return };
            assert!(archive.delete_stream(model[at].0).unwrap());
            model.remove(at);
        }
        Operation::Commit | Operation::Rollback | Operation::Reopen => unreachable!(),
    }
}

fn assert_verified(archive: &Archive) {
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    assert_eq!(findings, Vec::<String>::new());
}

fn check_working(archive: &Archive, model: &Model) {
    for (identity, bytes) in model {
        let stream = archive.open_stream(*identity).unwrap();
        let mut found = vec![0; bytes.len() + 10];
        let length = stream.read_at(0, &mut found).unwrap();
        assert_eq!(&found[..length], &bytes[..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// After any operations, the working state equals a map, and the committed state equals the map
    /// at the last commit.
    #[test]
    fn an_archive_agrees_with_a_map(operations in operations()) {
        let (device, mut archive) = create(ArchiveKind::Dynamic, 0);
        let (mut model, mut committed) = (Model::new(), Model::new());
        for (salt, operation) in (1..).zip(&operations) {
            match operation {
                Operation::Commit => {
                    archive.commit().unwrap();
                    committed.clone_from(&model);
                    assert_verified(&archive);
                }
                Operation::Rollback => {
                    archive.rollback().unwrap();
                    model.clone_from(&committed);
                }
                Operation::Reopen => {
                    archive.close().unwrap();
                    model.clone_from(&committed);
                    archive = open(&device, Access::Write);
                }
                other => apply(&archive, &mut model, other, salt),
            }
            check_working(&archive, &model);
            for (identity, bytes) in &committed {
                prop_assert_eq!(&contents(&archive, *identity), bytes);
            }
        }
        archive.commit().unwrap();
        drop(archive);
        let archive = open(&device, Access::Read);
        assert_verified(&archive);
        prop_assert_eq!(archive.streams(None, 1000).unwrap().len(), model.len());
        for (identity, bytes) in &model {
            prop_assert_eq!(&contents(&archive, *identity), bytes);
        }
    }
}

#[test]
fn a_snapshot_lists_the_streams_above_a_given_identity() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let identities: Vec<Uuid> =
        (0..300).map(|_| archive.new_stream().unwrap().identity()).collect();
    archive.commit().unwrap();
    let after = |after| -> Vec<Uuid> {
        let snapshot = archive.snapshot();
        let found = snapshot.streams(after);
        found.map(|stored| stored.unwrap().record.identity).collect()
    };
    assert_eq!(after(None), identities);
    assert_eq!(after(Some(identities[100])), identities[101..]);
    let between = Uuid::from_u128(identities[100].as_u128() + 1);
    assert_eq!(after(Some(between)), identities[101..]);
    assert!(after(identities.last().copied()).is_empty());
    let listed = archive.streams(Some(identities[7]), 5).unwrap();
    let listed: Vec<Uuid> = listed.iter().map(|stored| stored.record.identity).collect();
    assert_eq!(listed, identities[8..13]);
}

#[test]
fn a_list_of_streams_continues_after_a_damaged_page() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let identities: Vec<Uuid> =
        (0..300).map(|_| archive.new_stream().unwrap().identity()).collect();
    archive.commit().unwrap();
    archive.close().unwrap();
    let reader = open(&device, Access::Read);
    let root = reader.snapshot().commit().slot.roots[TreeId::Streams.index()];
    let expect = PageExpectation { tree: TreeId::Streams.number(), level: root.depth - 1 };
    let top = read_copy(reader.store(), root.block.unwrap().copies()[0], expect).unwrap();
    let mut all_lost = 0;
    for cell in 0..top.count() {
        let damaged = device.snapshot().to_device();
        for copy in top.child_block(cell).copies() {
            damaged.write(copy.position, &[0; 4096]).unwrap();
        }
        let snapshot = open(&damaged, Access::Read).snapshot();
        let (found, bad): (Vec<_>, Vec<_>) = snapshot.streams(None).partition(Result::is_ok);
        assert_eq!(bad.len(), 1, "cell {cell}");
        assert!(
            found
                .iter()
                .all(|stored| { identities.contains(&stored.as_ref().unwrap().record.identity) })
        );
        all_lost += identities.len() - found.len();
    }
    assert!(root.depth == 2 && all_lost == 300, "each leaf costs its own records: {all_lost}");
}

#[test]
fn after_a_half_done_change_every_call_fails_until_a_rollback() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut kept = archive.new_stream().unwrap();
    kept.append(b"kept").unwrap();
    archive.commit().unwrap();
    kept.append(b"dropped").unwrap();
    let fail = || {
        let damage = ar7_engine::Error::ReadOnly.into();
        archive.state().unwrap().writing().unwrap().fail(&damage);
    };
    let check_error = |outcome: Result<()>| {
        assert!(matches!(outcome, Err(Error::Engine(ar7_engine::Error::ReadOnly))), "{outcome:?}");
    };
    fail();
    check_error(kept.read_at(0, &mut [0; 4]).map(drop));
    check_error(kept.append(b"more").map(drop));
    check_error(archive.new_stream().map(drop));
    check_error(archive.names().lookup(InodeNumber::ROOT, b"name").map(drop));
    check_error(archive.set_metadata(b"metadata"));
    check_error(archive.clear_redo_list());
    // The last call was a commit, which has rolled back.
    assert_eq!(contents(&archive, kept.identity()), b"kept");
    assert!(matches!(kept.append(b"more"), Err(Error::Stale)));
    archive.new_stream().unwrap();
    fail();
    archive.rollback().unwrap();
    archive.commit().unwrap();
    assert_eq!(archive.statistics().unwrap().streams, 1);
}

#[test]
fn an_error_of_a_dropped_stream_is_returned_by_the_next_call_and_by_the_commit() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[1; 2 * 4008]).unwrap();
    archive.commit().unwrap();
    archive.state().unwrap().writing().unwrap().dirty_blocks_max = 0;
    stream.wind(0).unwrap();
    stream.data_mut().unwrap().unwrap().fill(2);
    // Saving the cursor's block flushes this stream first, for which there is no space.
    let mut other = archive.new_stream().unwrap();
    other.append(&vec![3; 1000 * 4008]).unwrap();
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    drop(stream);
    // There is space again, but the change of the cursor's block is lost.
    device.set_capacity(u32::MAX);
    let check_error = |outcome: Result<()>| {
        let error = outcome.unwrap_err();
        assert_eq!(error.class(), ar7_engine::Class::NoSpace, "{error}");
    };
    check_error(other.append(b"more"));
    check_error(archive.commit());
    // The commit has rolled back.
    archive.commit().unwrap();
    assert_eq!(archive.statistics().unwrap().streams, 1);
}

#[test]
fn deleting_a_stream_frees_the_position_reserved_for_its_last_block() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    archive.state().unwrap().writing().unwrap().dirty_blocks_max = 0;
    let mut stream = archive.new_stream().unwrap();
    for _ in 0..3 {
        stream.append(&[1; 3 * 4008]).unwrap();
    }
    let identity = stream.identity();
    let has_tail = |archive: &Archive| {
        let mut state = archive.state().unwrap();
        let open = state.writing().unwrap().open.get(&identity).map(|open| open.reserved_tail);
        open.flatten().is_some()
    };
    assert!(has_tail(&archive), "the last block waits for the next one");
    drop(stream);
    assert!(archive.delete_stream(identity).unwrap());
    archive.commit().unwrap();
    assert_verified(&archive);
    archive.reclaim().unwrap();
    assert_verified(&archive);
}

#[test]
fn a_next_link_in_the_last_block_is_tampering() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[1; 3 * 4008]).unwrap();
    let identity = stream.identity();
    drop(stream);
    archive.commit().unwrap();
    {
        // An attacker with the key truncates the stream: the record ends before the last block.
        let mut state = archive.state().unwrap();
        let trees = &mut state.writing().unwrap().trees;
        let mut stored = trees.get::<Streams>(&identity).unwrap().unwrap();
        stored.record.count = 2;
        stored.record.length = 2 * DATA_SIZE_U64;
        stored.record.end = stored.record.begin.and_then(Position::following);
        trees.put::<Streams>(&identity, &stored).unwrap();
    }
    archive.commit().unwrap();
    let read = |offset| {
        let stream = archive.read_stream(identity).unwrap();
        stream.read_at(offset, &mut [0; 10])
    };
    assert_eq!(read(0).unwrap(), 10);
    match read(DATA_SIZE_U64) {
        Err(Error::Engine(ar7_engine::Error::Tampered(fault))) => {
            assert_eq!(fault.check, ar7_engine::Check::NextLink);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn snapshots_of_one_commit_share_kept_branches_which_pin_nothing() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    for _ in 0..300 {
        archive.new_stream().unwrap();
    }
    archive.commit().unwrap();
    let identity = archive.streams(None, 1).unwrap()[0].record.identity;
    let (one, two) = (archive.snapshot(), archive.snapshot());
    one.stored(identity).unwrap().unwrap();
    assert!(one.shares_branches_with(&two));
    drop((one, two));
    let reading = archive.read_stream(identity).unwrap();
    archive.set_metadata(b"changed").unwrap();
    let before = archive.snapshot();
    archive.commit().unwrap();
    assert!(!before.shares_branches_with(&archive.snapshot()));
    let is_pinned = || archive.state().unwrap().writing().unwrap().trees.writer().is_pinned();
    assert!(is_pinned().unwrap());
    drop(before);
    assert!(!is_pinned().unwrap(), "an idle handle pins no commit");
    assert_eq!(reading.len().unwrap(), 0);
}

#[test]
fn a_stream_that_cannot_grow_keeps_its_length() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(b"content").unwrap();
    archive.commit().unwrap();
    archive.state().unwrap().writing().unwrap().dirty_blocks_max = 0;
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    // The first step fits in memory; the second needs space in the file.
    let error = stream.set_len(20 << 20).unwrap_err();
    assert_eq!(error.class(), ar7_engine::Class::NoSpace, "{error}");
    assert_eq!(stream.len().unwrap(), 7);
    assert_eq!(stream.count().unwrap(), 1);
    archive.commit().unwrap();
    assert_eq!(contents(&archive, stream.identity()), b"content");
}

#[test]
fn an_iterator_over_blocks_ends_where_a_commit_truncated_the_stream() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[1; 4 * 4008]).unwrap();
    archive.commit().unwrap();
    let mut reading = archive.read_stream(stream.identity()).unwrap();
    let mut blocks = reading.blocks().unwrap();
    assert_eq!(blocks.next().unwrap().unwrap().head.index.get(), 0);
    stream.set_len(4008).unwrap();
    archive.commit().unwrap();
    assert!(blocks.next().is_none());
    // The iterator ignores blocks that a later commit adds there.
    stream.set_len(4 * 4008).unwrap();
    archive.commit().unwrap();
    assert!(blocks.next().is_none());
    assert!(blocks.next_back().is_none());
}

#[test]
fn a_new_stream_gets_no_identity_of_a_stream_or_of_a_pending_deletion() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut state = archive.state().unwrap();
    let writing = state.writing().unwrap();
    let [open, deleted, unused] = [100, 101, 102].map(Uuid::from_u128);
    writing.hold_new(open);
    let stored = StoredStream::empty(deleted);
    writing.trees.put::<crate::records::PendingDeletions>(&deleted, &stored).unwrap();
    let taken = [open, deleted, unused].map(|identity| writing.is_taken(identity).unwrap());
    assert_eq!(taken, [true, true, false]);
}

#[test]
fn an_overwritten_block_reads_the_same_before_its_flush_after_it_and_after_the_commit() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[1; 3 * 4008]).unwrap();
    assert!(stream.is_writable());
    archive.commit().unwrap();
    stream.write_at(5000, &[2; 10]).unwrap();
    let mut expected = vec![1; 3 * 4008];
    expected[5000..5010].fill(2);
    let read = || {
        let mut found = vec![0; 3 * 4008];
        assert_eq!(stream.read_at(0, &mut found).unwrap(), found.len());
        found
    };
    assert_eq!(read(), expected);
    archive.state().unwrap().writing().unwrap().flush(true).unwrap();
    assert_eq!(read(), expected);
    let reading = archive.read_stream(stream.identity()).unwrap();
    assert!(!reading.is_writable());
    assert_eq!(contents(&archive, stream.identity()), [1; 3 * 4008]);
    archive.commit().unwrap();
    assert_eq!(read(), expected);
    assert_eq!(contents(&archive, stream.identity()), expected);
}

#[test]
fn keys_change_only_between_transactions_and_by_the_number_of_their_slot() {
    let (_device, archive) = create(ArchiveKind::Dynamic, 0);
    let second = Secret::Key(RawKey::from_bytes([8; 32]));
    let derivation = CreateOptions::default().derivation;
    let new = NewKey { secret: &second, label: "second", derivation: &derivation };
    let number = archive.add_key(&new).unwrap();
    assert_eq!(number, 1);
    assert_eq!(archive.relabel_key(&second, "other").unwrap(), number);
    assert_eq!(archive.relabel_key(&secret(), "first").unwrap(), 0);
    archive.set_metadata(b"changed").unwrap();
    let refused = archive.relabel_key(&second, "third");
    assert!(matches!(refused, Err(Error::Engine(ar7_engine::Error::Uncommitted))), "{refused:?}");
}

#[test]
fn opening_records_ended_sessions_once_half_of_their_room_is_used() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    drop(archive);
    let mut pending = Vec::new();
    for _ in 0..2 * PENDING_SESSIONS_MAX {
        let archive = open(&device, Access::Write);
        pending.push(archive.store().current().slot.pending_sessions.len());
    }
    assert_eq!(pending.iter().copied().max(), Some(PENDING_SESSIONS_MAX / 2 - 1), "{pending:?}");
}

#[test]
fn closing_a_file_returns_the_error_of_the_block_that_it_saves() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let mut stream = archive.new_stream().unwrap();
    stream.append(&[1; 2 * 4008]).unwrap();
    archive.commit().unwrap();
    let file = |stream| {
        let mode = crate::stream::Mode::parse("r+").unwrap();
        crate::stream::StreamFile::over(stream, "file".to_owned(), mode).unwrap()
    };
    stream.data_mut().unwrap().unwrap().fill(2);
    let identity = stream.identity();
    let mut flushed = file(stream);
    std::io::Write::flush(&mut flushed).unwrap();
    let mut found = [0; 10];
    flushed.read_at(0, &mut found).unwrap();
    assert_eq!(found, [2; 10]);
    assert!(!flushed.is_empty().unwrap());
    flushed.set_len(0).unwrap();
    assert!(flushed.is_empty().unwrap());
    flushed.set_len(8016).unwrap();
    drop(flushed);
    archive.commit().unwrap();
    archive.state().unwrap().writing().unwrap().dirty_blocks_max = 0;
    let mut stream = archive.open_stream(identity).unwrap();
    stream.data_mut().unwrap().unwrap().fill(3);
    let mut other = archive.new_stream().unwrap();
    other.append(&vec![3; 1000 * 4008]).unwrap();
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    let error = file(stream).close().unwrap_err();
    assert_eq!(error.class(), ar7_engine::Class::NoSpace, "{error}");
}

#[test]
fn a_change_that_readers_hold_back_fails_before_the_commit_and_costs_nothing_else() {
    /// The limit of the redo list in an archive of this size.
    const LIMIT: u64 = 4096;
    let blocks = |count: u64, byte: u8| vec![byte; usize::try_from(count * DATA_SIZE_U64).unwrap()];
    let at = |index: u64| index * DATA_SIZE_U64;
    let is_held = |outcome: Result<()>| {
        matches!(outcome, Err(Error::Engine(ar7_engine::Error::HeldByReaders { .. })))
    };
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let mut large = archive.new_stream().unwrap();
    large.append(&blocks(LIMIT + 8, 1)).unwrap();
    archive.commit().unwrap();
    let snapshot = archive.snapshot();
    large.write_at(0, &blocks(LIMIT - 2, 2)).unwrap();
    archive.commit().unwrap();
    // Room is left for two changed blocks, and for any number of new ones.
    let mut new = archive.new_stream().unwrap();
    new.append(&blocks(2, 3)).unwrap();
    large.write_at(at(LIMIT), &[4]).unwrap();
    assert!(is_held(large.write_at(at(LIMIT + 2), &blocks(3, 5))));
    large.write_at(at(LIMIT + 1), &[6]).unwrap();
    assert!(is_held(large.write_at(at(LIMIT + 2), &[7])));
    assert!(is_held(large.set_len(at(LIMIT + 4))));
    assert!(is_held(large.append(&[8])));
    large.write_at(at(LIMIT) + 1, &[9]).unwrap();
    new.flush().unwrap();
    new.append(&blocks(2, 10)).unwrap();
    archive.commit().unwrap();
    assert_eq!(contents(&archive, new.identity()), [blocks(2, 3), blocks(2, 10)].concat());
    let mut expected = [blocks(LIMIT - 2, 2), blocks(10, 1)].concat();
    for (offset, byte) in [(at(LIMIT), 4), (at(LIMIT + 1), 6), (at(LIMIT) + 1, 9)] {
        expected[usize::try_from(offset).unwrap()] = byte;
    }
    assert!(contents(&archive, large.identity()) == expected);
    drop(snapshot);
    archive.commit().unwrap();
    large.write_at(at(LIMIT + 2), &blocks(3, 5)).unwrap();
    archive.commit().unwrap();
}
