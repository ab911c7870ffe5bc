//! Packed content: faults in it are found, and what readers need of it stays.

use std::ops::ControlFlow;

use ar7_engine::device::Device;
use ar7_engine::device::simulated::{DiskFault, EventKind, SimulatedDisk};
use ar7_engine::format::BLOCK_SIZE;
use ar7_engine::{Check, Class, Error as EngineError, PlantedFault, with_planted_fault};

use super::*;
use crate::blocks::PackReader as _;
use crate::error::Error;
use crate::names::Packed;
use crate::packs::testing::noise;
use crate::records::{Frame, Frames, Pack, Packs, ReadRecords, Streams};
use crate::stream::FileContent;
use crate::verify::{Depth, Finding, Subject, VerifySummary};
use crate::working::WorkingTrees;

/// A divisor of the length of a frame of a large file.
const PIECE: usize = 64 << 10;

fn add(archive: &Archive, name: &[u8], bytes: &[u8]) {
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, bytes).unwrap();
    names.add_packed(ROOT, name, ATTRIBUTES, packed).unwrap();
}

fn content(archive: &Archive, name: &[u8]) -> Result<Vec<u8>> {
    let snapshot = archive.snapshot();
    let inode = snapshot.inode(snapshot.lookup(ROOT, name)?.unwrap().inode)?.unwrap();
    let content = snapshot.read_file(&inode)?.unwrap();
    assert!(matches!(content, FileContent::Packed(_)));
    let mut bytes = vec![0; usize::try_from(content.len()).unwrap()];
    // Each piece is in one frame, so this thread reads it, which has the planted fault.
    for (number, piece) in bytes.chunks_mut(PIECE).enumerate() {
        content.read_at((number * PIECE) as u64, piece)?;
    }
    Ok(bytes)
}

fn findings(archive: &Archive) -> usize {
    let (_, findings) = verified(archive, Depth::Content);
    findings.len()
}

fn verified(archive: &Archive, depth: Depth) -> (VerifySummary, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut report = |finding| findings.push(finding);
    let summary = archive.verify_to(depth, &mut report, &mut |_| ControlFlow::Continue(()));
    (summary.unwrap(), findings)
}

/// Makes an archive of two large files, and exchanges the places of their second frames. Returns what reading finds.
fn exchanged() -> (Result<Vec<u8>>, usize) {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    add(&archive, b"a", &vec![1; 400_000]);
    add(&archive, b"b", &vec![2; 400_000]);
    archive.commit().unwrap();
    {
        let mut state = archive.state().unwrap();
        let trees = &mut state.writing().unwrap().trees;
        let second = |trees: &WorkingTrees, after: u64| -> (u64, Frame) {
            trees.ceiling::<Frames>(&(after + 1)).unwrap().unwrap()
        };
        let (a, b) = (second(trees, 0), second(trees, 400_000));
        trees.put::<Frames>(&a.0, &Frame { stored: b.1.stored, ..a.1 }).unwrap();
        trees.put::<Frames>(&b.0, &Frame { stored: a.1.stored, ..b.1 }).unwrap();
    }
    archive.commit().unwrap();
    drop(archive);
    let archive = open(&device, Access::Read);
    (content(&archive, b"a"), findings(&archive))
}

#[test]
fn a_frame_at_the_place_of_another_is_damage() {
    let (read, findings) = exchanged();
    assert!(matches!(read, Err(Error::Engine(_))), "{read:?}");
    assert!(findings > 0);
    let (read, _) = with_planted_fault(PlantedFault::AnyFrame, exchanged);
    assert_ne!(read.unwrap(), vec![1; 400_000], "the planted fault gives other content");
}

/// Deletes most files of a pack, so that the others move. Returns whether everything is as it should be.
fn is_kept_when_packs_die() -> bool {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let bytes = |file: u8| -> Vec<u8> {
        let mut state = u64::from(file) + 1;
        let next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            Some(state.to_be_bytes()[0])
        };
        std::iter::from_fn(next).take(20_000).collect()
    };
    for file in 0..20 {
        add(&archive, &[file + 1], &bytes(file));
    }
    archive.commit().unwrap();
    let before = archive.statistics().unwrap();
    let held = archive.snapshot();
    for file in (0..20).filter(|file| file % 4 != 0) {
        archive.names().remove(ROOT, &[file + 1]).unwrap();
    }
    if archive.reclaim().is_err() {
        return false;
    }
    let after = archive.statistics().unwrap();
    let is_small = after.packed_bytes < before.packed_bytes / 2 && after.packs > 0;
    let are_whole = (0..20_u8)
        .step_by(4)
        .all(|file| content(&archive, &[file + 1]).is_ok_and(|found| found == bytes(file)));
    let inode = held.lookup(ROOT, &[2]).unwrap().unwrap().inode;
    let old = held.read_file(&held.inode(inode).unwrap().unwrap()).unwrap().unwrap();
    let mut found = vec![0; 20_000];
    let is_held = old.read_at(0, &mut found).is_ok() && found == bytes(1);
    is_small && are_whole && is_held && findings(&archive) == 0
}

#[test]
fn packs_that_are_mostly_dead_are_deleted_and_what_lives_is_moved() {
    assert!(is_kept_when_packs_die());
    for fault in [PlantedFault::KeepLiveBytes, PlantedFault::MovedFrameStays] {
        assert!(!with_planted_fault(fault, is_kept_when_packs_die), "{fault:?} is missed");
    }
}

/// Raw frames are as long as their addresses. Once they are moved, zeros in place of deleted content take no space.
#[test]
fn raw_frames_that_are_moved_become_shorter_too() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    archive.set_compression(1).unwrap();
    add(&archive, b"deleted", &noise(1, 100_000));
    add(&archive, b"kept", &noise(2, 20_000));
    archive.commit().unwrap();
    assert!(archive.statistics().unwrap().packed_bytes > 120_000);
    archive.names().remove(ROOT, b"deleted").unwrap();
    archive.reclaim().unwrap();
    let found = archive.statistics().unwrap();
    assert!(found.packed_bytes < 25_000 && found.dead_bytes == 0, "{found:?}");
    assert_eq!(content(&archive, b"kept").unwrap(), noise(2, 20_000));
}

/// Without compression, nobody learns from the length of the file how well a file compresses, also if one next to it is
/// deleted.
#[test]
fn raw_frames_that_are_moved_are_not_compressed() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    archive.set_compression(1).unwrap();
    for (name, content) in [(b"a", 1), (b"b", 2), (b"c", 3)] {
        add(&archive, name, &vec![content; 20_000]);
    }
    archive.commit().unwrap();
    for (removed, kept) in [(b"b", 2), (b"a", 1)] {
        archive.names().remove(ROOT, removed).unwrap();
        archive.reclaim().unwrap();
        let found = archive.statistics().unwrap();
        assert_eq!(found.dead_bytes, 0, "{found:?}");
        let least = kept * 20_000;
        assert!((least..least + 200).contains(&found.packed_bytes), "{found:?}");
    }
    assert_eq!(content(&archive, b"c").unwrap(), vec![3; 20_000]);
    assert_eq!(findings(&archive), 0);
}

#[test]
fn compressed_frames_stay_compressed_when_they_are_moved() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    add(&archive, b"deleted", &noise(1, 600_000));
    add(&archive, b"kept", &vec![7; 400_000]);
    archive.commit().unwrap();
    archive.set_compression(1).unwrap();
    archive.names().remove(ROOT, b"deleted").unwrap();
    archive.reclaim().unwrap();
    let found = archive.statistics().unwrap();
    assert!(found.packed_bytes < 10_000 && found.dead_bytes == 0, "{found:?}");
    assert_eq!(content(&archive, b"kept").unwrap(), vec![7; 400_000]);
}

/// A record of a pack that claims more live bytes than its frames have costs no endless loop, and other packs are moved.
#[test]
fn a_pack_that_cannot_be_moved_does_not_hold_up_the_others() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    for name in [b"a", b"b", b"c", b"d"] {
        add(&archive, name, &vec![name[0]; 200_000]);
        archive.commit().unwrap();
        let unfinished = [name[0], b'2'];
        add(&archive, &unfinished, &vec![name[0]; 3000]);
        archive.commit().unwrap();
    }
    {
        let mut state = archive.state().unwrap();
        let trees = &mut state.writing().unwrap().trees;
        let (identity, pack) = trees.ceiling::<Packs>(&Uuid::nil()).unwrap().unwrap();
        let claimed = Pack { used: pack.used + 1_000_000, ..pack };
        trees.put::<Packs>(&identity, &claimed).unwrap();
        *trees.counter_mut(crate::records::PACKED_COUNTER) += 1_000_000;
        let mut frames = Vec::new();
        let mut from = 0;
        while let Some((first, frame)) = trees.ceiling::<Frames>(&from).unwrap() {
            frames.push((first, frame));
            from = first + 1;
        }
        for (first, frame) in frames {
            if frame.stored.is_some_and(|stored| stored.pack == identity) {
                trees.remove::<Frames>(&first).unwrap();
            }
        }
    }
    archive.commit().unwrap();
    archive.reclaim().unwrap();
    assert!(
        archive.wipe_free(&mut |_| {}).is_err_and(|error| matches!(error, Error::DeadBytes { .. }))
    );
}

/// Returns whether a file with a hole reads as it was written, and verifies clean.
fn has_its_hole() -> bool {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, &[1; 100]).unwrap();
    names.append_hole(&mut packed, 1000).unwrap();
    names.append_packed(&mut packed, &[2; 100]).unwrap();
    names.add_packed(ROOT, b"a", ATTRIBUTES, packed).unwrap();
    archive.commit().unwrap();
    let expected = [&[1; 100][..], &[0; 1000], &[2; 100]].concat();
    content(&archive, b"a").is_ok_and(|found| found == expected) && findings(&archive) == 0
}

#[test]
fn a_hole_has_no_data() {
    assert!(has_its_hole());
    assert!(!with_planted_fault(PlantedFault::HoleWithData, has_its_hole));
}

fn first_pack(archive: &Archive) -> (Uuid, Pack) {
    let mut state = archive.state().unwrap();
    let first = state.writing().unwrap().trees.ceiling::<Packs>(&Uuid::nil());
    first.unwrap().unwrap()
}

fn with_a_compressed_file() -> (MemoryDevice, Archive) {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    add(&archive, b"a", &vec![1; 100_000]);
    archive.commit().unwrap();
    (device, archive)
}

#[test]
fn only_a_whole_verification_finds_a_frame_that_does_not_decode() {
    for (fault, expected) in [(None, 0), (Some(PlantedFault::SpoiledFrame), 1)] {
        let (_, archive) = match fault {
            Some(fault) => with_planted_fault(fault, with_a_compressed_file),
            None => with_a_compressed_file(),
        };
        let (quick, found) = verified(&archive, Depth::Blocks);
        assert!(found.is_empty(), "{found:?}");
        let (whole, found) = verified(&archive, Depth::Content);
        assert_eq!(found.len(), expected, "{found:?}");
        assert!(found.iter().all(|finding| matches!(
            (&finding.subject, &finding.error),
            (Subject::Stream(_), Error::Engine(EngineError::Damaged(fault)))
                if fault.check == Check::Frame
        )));
        assert_eq!((quick.frames, whole.blocks), (1, quick.blocks));
    }
}

#[test]
fn reading_damaged_content_does_not_end_the_transaction() {
    let (device, archive) = with_a_compressed_file();
    let (identity, _) = first_pack(&archive);
    let stored = archive.snapshot().get::<Streams>(&identity).unwrap().unwrap();
    device.write(stored.record.begin.unwrap(), &[0; BLOCK_SIZE]).unwrap();
    add(&archive, b"b", b"content");
    let number = archive.names().lookup(ROOT, b"a").unwrap().unwrap().inode;
    let read = archive.names().read_packed(number, 0, &mut [0; 10]);
    assert!(matches!(read, Err(Error::Engine(EngineError::Damaged(_)))), "{read:?}");
    archive.commit().unwrap();
    assert_eq!(content(&archive, b"b").unwrap(), b"content");
}

#[test]
fn a_quick_verification_finds_bad_blocks_and_wrong_counts_of_packs() {
    let (device, archive) = with_a_compressed_file();
    let (identity, pack) = first_pack(&archive);
    let stored = archive.snapshot().get::<Streams>(&identity).unwrap().unwrap();
    let position = stored.record.begin.unwrap();
    let (mut before, mut bytes) = ([0; BLOCK_SIZE], [0; BLOCK_SIZE]);
    device.read(position, &mut before).unwrap();
    bytes.copy_from_slice(&before);
    bytes[1000] ^= 1;
    device.write(position, &bytes).unwrap();
    let (_, found) = verified(&archive, Depth::Blocks);
    assert!(matches!(found[..], [Finding { subject: Subject::Block { .. }, .. }]), "{found:?}");
    device.write(position, &before).unwrap();
    let wrong = Pack { used: pack.used + 1, ..pack };
    archive.state().unwrap().writing().unwrap().trees.put::<Packs>(&identity, &wrong).unwrap();
    archive.commit().unwrap();
    let (_, found) = verified(&archive, Depth::Blocks);
    assert_eq!(found.len(), 2, "the pack and the sum over all packs: {found:?}");
}

#[test]
fn the_stream_of_a_pack_cannot_be_opened_for_writing_deleted_or_named() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    add(&archive, b"a", b"content");
    archive.commit().unwrap();
    let (pack, _) = first_pack(&archive);
    let is_refused = |error| matches!(error, Error::StreamIsNamed { .. });
    assert!(archive.open_stream(pack).is_err_and(is_refused));
    assert!(archive.delete_stream(pack).is_err_and(is_refused));
    let named = archive.names().add_file(ROOT, b"b", ATTRIBUTES, Some(pack));
    assert!(named.is_err_and(is_refused));
    assert_eq!(content(&archive, b"a").unwrap(), b"content");
}

/// Makes an archive with files of noise, `count` in each of two packs, and removes those of the second pack except one.
fn with_dying_pack(archive: &Archive, count: u8) {
    for pack in [b'a', b'b'] {
        for file in 0..count {
            add(archive, &[pack, file + 1], &noise(u64::from(pack) << 8 | u64::from(file), 20_000));
        }
        archive.commit().unwrap();
    }
    for file in 1..count {
        archive.names().remove(ROOT, &[b'b', file + 1]).unwrap();
    }
}

/// Passes the trees of the open transaction to `forge`.
fn forge(archive: &Archive, forge: impl FnOnce(&mut WorkingTrees)) {
    let mut state = archive.state().unwrap();
    forge(&mut state.writing().unwrap().trees);
}

/// Returns the packs, in the order in which they were made.
fn packs(archive: &Archive) -> Vec<(Uuid, crate::records::Pack)> {
    let (snapshot, mut packs, mut from) = (archive.snapshot(), Vec::new(), Uuid::nil());
    while let Some((identity, pack)) = snapshot.ceiling::<Packs>(&from).unwrap() {
        packs.push((identity, pack));
        from = Uuid::from_u128(identity.as_u128() + 1);
    }
    packs
}

#[test]
fn a_pack_that_claims_more_live_bytes_than_its_frames_have_stays() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    with_dying_pack(&archive, 6);
    let forged = packs(&archive)[1];
    forge(&archive, |trees| {
        let pack = trees.get::<Packs>(&forged.0).unwrap().unwrap();
        let claimed = crate::records::Pack { live: pack.live + 7, ..pack };
        trees.put::<Packs>(&forged.0, &claimed).unwrap();
        *trees.counter_mut(crate::records::LIVE_COUNTER) += 7;
    });
    archive.reclaim().unwrap();
    assert!(packs(&archive).iter().any(|(identity, _)| *identity == forged.0));
    for name in [*b"a\x01", *b"b\x01"] {
        let seed = u64::from(name[0]) << 8;
        assert_eq!(content(&archive, &name).unwrap(), noise(seed, 20_000));
    }
}

#[test]
fn a_frame_with_live_bytes_of_no_file_stays() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    with_dying_pack(&archive, 6);
    let number = archive.names().lookup(ROOT, b"b\x01").unwrap().unwrap().inode;
    // The name goes, and nothing lowers the live bytes.
    forge(&archive, |trees| {
        let inode = trees.get::<crate::records::Inodes>(&number).unwrap().unwrap();
        let empty = crate::records::Inode { slice: None, size: 0, ..inode };
        trees.put::<crate::records::Inodes>(&number, &empty).unwrap();
    });
    let dying = packs(&archive)[1].0;
    archive.reclaim().unwrap();
    assert!(packs(&archive).iter().any(|(identity, _)| *identity == dying));
    assert_eq!(content(&archive, b"a\x01").unwrap(), noise(u64::from(b'a') << 8, 20_000));
    assert!(findings(&archive) > 0);
}

#[test]
fn a_dead_slice_without_frames_prevents_no_commit_and_holds_up_no_other() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    forge(&archive, |trees| {
        *trees.counter_mut(crate::records::ADDRESS_COUNTER) += 1000;
        trees.put::<crate::records::DeadSlices>(&0, &1000).unwrap();
    });
    add(&archive, b"a", b"content");
    add(&archive, b"large", &noise(1, 5 << 20));
    archive.commit().unwrap();
    archive.names().remove(ROOT, b"large").unwrap();
    archive.reclaim().unwrap();
    let statistics = archive.statistics().unwrap();
    assert_eq!((statistics.pending_deletions, statistics.packs), (1, 1), "{statistics:?}");
    assert_eq!(content(&archive, b"a").unwrap(), b"content");
    add(&archive, b"b", b"more");
    archive.commit().unwrap();
    let wiped = archive.wipe_free(&mut |_| {});
    assert!(matches!(wiped, Err(Error::DeadBytes { bytes: 1000 })), "{wiped:?}");
}

/// Forged records: a slice within another one, of which no frame exists, and one that goes on behind it.
#[test]
fn dead_slices_that_overlap_end_every_commit() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    forge(&archive, |trees| {
        for (first, length) in [(100, 1000), (500, 10), (900, 5000)] {
            trees.put::<crate::records::DeadSlices>(&first, &length).unwrap();
        }
    });
    add(&archive, b"a", b"content");
    archive.commit().unwrap();
    archive.reclaim().unwrap();
    let before = archive.statistics().unwrap().commit;
    archive.reclaim().unwrap();
    assert!(archive.statistics().unwrap().commit <= before + 1, "nothing is left to do");
    assert_eq!(content(&archive, b"a").unwrap(), b"content");
}

#[test]
fn a_file_whose_frames_have_no_record_can_be_removed() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    add(&archive, b"a", b"content");
    archive.commit().unwrap();
    forge(&archive, |trees| {
        let (first, _) = trees.ceiling::<Frames>(&0).unwrap().unwrap();
        trees.remove::<Frames>(&first).unwrap();
    });
    archive.names().remove(ROOT, b"a").unwrap();
    archive.commit().unwrap();
    assert_eq!(archive.names().lookup(ROOT, b"a").unwrap(), None);
}

/// Returns the bytes of all packs.
fn packed(archive: &Archive) -> Vec<u8> {
    let snapshot = archive.snapshot();
    let mut all = Vec::new();
    for (identity, _) in packs(archive) {
        let mut bytes = vec![0; 16 << 20];
        let read = snapshot.read_pack(identity, 0, &mut bytes).unwrap();
        all.extend_from_slice(&bytes[..read]);
    }
    all
}

/// Raw frames show what is in them. A wipe moves what lives in a frame, and overwrites the blocks of the old one.
#[test]
fn a_wipe_leaves_no_deleted_content_in_packs_and_no_block_of_the_old_ones() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    archive.set_compression(1).unwrap();
    // Less than what a commit moves.
    let [before, deleted, after] =
        [(1, 30_000), (2, 10_000), (3, 30_000)].map(|(seed, length)| noise(seed, length));
    for (name, bytes) in [(b"a", &before), (b"b", &deleted), (b"c", &after)] {
        add(&archive, name, bytes);
    }
    archive.commit().unwrap();
    let (pack, _) = first_pack(&archive);
    let stored = archive.snapshot().get::<Streams>(&pack).unwrap().unwrap();
    let blocks = |bytes: &[u8]| -> std::collections::HashSet<Vec<u8>> {
        bytes.chunks(BLOCK_SIZE).map(<[u8]>::to_vec).collect()
    };
    let begin = usize::try_from(stored.record.begin.unwrap().offset()).unwrap();
    let length = usize::try_from(stored.record.count).unwrap() * BLOCK_SIZE;
    let theirs = blocks(&device.to_bytes()[begin..begin + length]);
    archive.names().remove(ROOT, b"b").unwrap();
    archive.commit().unwrap();
    let holds = |archive: &Archive, content: &[u8]| {
        let packed = packed(archive);
        content.chunks_exact(1000).any(|part| packed.windows(1000).any(|window| window == part))
    };
    assert!(holds(&archive, &deleted) && holds(&archive, &before));
    archive.wipe_free(&mut |_| {}).unwrap();
    assert!(!holds(&archive, &deleted) && holds(&archive, &before) && holds(&archive, &after));
    assert_eq!(blocks(&device.to_bytes()).intersection(&theirs).count(), 0);
    assert_eq!(content(&archive, b"a").unwrap(), before);
    assert_eq!(content(&archive, b"c").unwrap(), after);
    assert_eq!(findings(&archive), 0);
}

fn on_disk(disk: &SimulatedDisk) -> Archive {
    let device = Box::new(disk.clone());
    Archive::create_device(device, &secret(), &CreateOptions::default()).unwrap()
}

fn syncs(disk: &SimulatedDisk) -> u64 {
    disk.log().iter().filter(|event| event.kind() == EventKind::Sync).count() as u64
}

#[test]
fn a_commit_succeeds_if_the_repacking_after_it_cannot_read() {
    let disk = SimulatedDisk::new();
    let archive = on_disk(&disk);
    with_dying_pack(&archive, 6);
    let snapshot = archive.snapshot();
    let stored = snapshot.stored(packs(&archive)[1].0).unwrap().unwrap();
    disk.make_unreadable(stored.record.begin.unwrap().get());
    let before = archive.statistics().unwrap().commit;
    for name in [b"c", b"d"] {
        archive.commit().unwrap();
        add(&archive, name, b"content");
    }
    archive.commit().unwrap();
    assert_eq!(archive.statistics().unwrap().commit, before + 3);
    assert_eq!(archive.names().lookup(ROOT, b"b\x02").unwrap(), None);
}

#[test]
fn a_commit_succeeds_if_the_repacking_after_it_fails_and_the_next_call_reports_it() {
    let run = |left: Option<u64>| {
        let disk = SimulatedDisk::new();
        let archive = on_disk(&disk);
        with_dying_pack(&archive, 6);
        let before = (archive.statistics().unwrap().commit, syncs(&disk));
        if let Some(left) = left {
            disk.plan(DiskFault::SyncFails, left);
        }
        archive.commit().unwrap();
        (disk, archive, before)
    };
    let (disk, archive, before) = run(None);
    assert_eq!(archive.statistics().unwrap().commit, before.0 + 2, "and one that moves content");
    let of_both = syncs(&disk) - before.1;
    let (disk, archive, before) = run(Some(of_both / 2));
    assert!(disk.all_fired());
    assert!(archive.commit().is_err());
    drop(archive);
    let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    let archive = Archive::open_device(Box::new(disk), &secret(), options).unwrap();
    assert!(archive.statistics().unwrap().commit > before.0);
    assert_eq!(archive.names().lookup(ROOT, b"b\x02").unwrap(), None);
}

/// Packs content for a file that no name gets.
fn unnamed(archive: &Archive, bytes: &[u8]) -> Packed {
    let names = archive.names();
    let mut packed = names.begin_packed(None).unwrap();
    names.append_packed(&mut packed, bytes).unwrap();
    packed
}

fn has_no_content(archive: &Archive) -> bool {
    let statistics = archive.statistics().unwrap();
    findings(archive) == 0 && (statistics.packs, statistics.dead_bytes) == (0, 0)
}

#[test]
fn content_that_no_file_gets_is_freed_with_the_commit() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let names = archive.names();
    names.make_directory(ROOT, b"directory", ATTRIBUTES).unwrap();
    drop(unnamed(&archive, b"dropped"));
    let refused = unnamed(&archive, &noise(1, 300_000));
    let added = names.add_packed(ROOT, b"directory", ATTRIBUTES, refused);
    assert!(matches!(added, Err(Error::EntryExists { .. })), "{added:?}");
    let directory = names.lookup(ROOT, b"directory").unwrap().unwrap().inode;
    let mut replacing = names.begin_packed(Some(directory)).unwrap();
    names.append_packed(&mut replacing, b"refused").unwrap();
    let replaced = names.replace_with_packed(replacing, ATTRIBUTES);
    assert!(matches!(replaced, Err(Error::WrongEntryType { .. })), "{replaced:?}");
    archive.commit().unwrap();
    assert!(has_no_content(&archive));
}

#[test]
fn content_that_no_file_gets_is_freed_once_there_is_room_to_pack_it() {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    archive.names().make_directory(ROOT, b"directory", ATTRIBUTES).unwrap();
    archive.commit().unwrap();
    let kept = archive.names().make_directory(ROOT, b"kept", ATTRIBUTES).unwrap();
    drop([1, 2, 3, 4, 5, 6, 7, 8].map(|seed| unnamed(&archive, &noise(seed, 200_000))));
    archive.state().unwrap().writing().unwrap().dirty_blocks_max = 0;
    let blocks = archive.store().file_bytes().unwrap() / 4096;
    device.set_capacity(u32::try_from(blocks).unwrap());
    for _ in 0..2 {
        let refused = archive.try_commit().unwrap().expect("no room");
        assert_eq!(refused.class(), Class::NoSpace, "{refused}");
        assert_eq!(archive.names().lookup(ROOT, b"kept").unwrap().unwrap().inode, kept);
    }
    device.set_capacity(u32::MAX);
    assert!(archive.try_commit().unwrap().is_none());
    assert!(archive.snapshot().lookup(ROOT, b"kept").unwrap().is_some());
    assert!(has_no_content(&archive));
}

#[test]
fn a_commit_that_cannot_free_content_that_no_file_gets_is_rolled_back() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    drop(unnamed(&archive, b"content"));
    archive.savepoint().unwrap();
    {
        // The pack cannot be deleted, after the record of the frame was removed.
        let mut state = archive.state().unwrap();
        let state = state.writing().unwrap();
        let (identity, _) = state.trees.ceiling::<Packs>(&Uuid::nil()).unwrap().unwrap();
        let stored = state.stored(identity).unwrap().unwrap();
        state.hold_as(stored);
    }
    let failed = archive.try_commit();
    assert!(matches!(failed, Err(Error::AlreadyOpen { .. })), "{failed:?}");
    add(&archive, b"a", b"later");
    archive.commit().unwrap();
    assert_eq!(content(&archive, b"a").unwrap(), b"later");
    assert_eq!(findings(&archive), 0);
}

/// A handle is stale although other content has its addresses.
#[test]
fn content_of_an_ended_transaction_is_no_content_of_the_next() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let names = archive.names();
    let end: [&dyn Fn(); 2] = [&|| archive.rollback().unwrap(), &|| archive.commit().unwrap()];
    for end in end {
        let mut ended = unnamed(&archive, b"ended");
        let (discarded, other) = (unnamed(&archive, b"other"), unnamed(&archive, b"other"));
        end();
        drop(unnamed(&archive, b"12345"));
        let is_stale = |error| matches!(error, Error::Stale);
        assert!(names.append_packed(&mut ended, b"more").is_err_and(is_stale));
        assert!(names.append_hole(&mut ended, 10).is_err_and(is_stale));
        assert!(names.add_packed(ROOT, b"a", ATTRIBUTES, ended).is_err_and(is_stale));
        assert!(names.add_packed(ROOT, b"b", ATTRIBUTES, other).is_err_and(is_stale));
        names.discard_packed(discarded).unwrap();
        archive.commit().unwrap();
        assert!(has_no_content(&archive));
    }
}

#[test]
fn a_return_to_a_savepoint_makes_what_was_packed_since_stale() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    let names = archive.names();
    let [mut kept, mut grown] = [b"kept!", b"grown"].map(|bytes| unnamed(&archive, bytes));
    let point = archive.savepoint().unwrap();
    names.append_packed(&mut grown, b"12345").unwrap();
    let mut newer = unnamed(&archive, b"newer");
    archive.roll_back_to(&point).unwrap();
    // Other content takes the addresses of what was undone.
    drop(unnamed(&archive, b"1234567890"));
    let is_stale = |error| matches!(error, Error::Stale);
    assert!(names.append_packed(&mut grown, b"more").is_err_and(is_stale));
    assert!(names.append_packed(&mut newer, b"more").is_err_and(is_stale));
    assert!(names.append_packed(&mut kept, b"more").is_err_and(is_stale), "other content follows");
    names.add_packed(ROOT, b"kept", ATTRIBUTES, kept).unwrap();
    archive.commit().unwrap();
    assert_eq!(content(&archive, b"kept").unwrap(), b"kept!");
    assert_eq!(findings(&archive), 0);
}

#[test]
fn nothing_is_read_beyond_the_end_at_any_offset() {
    let (_, archive) = create(ArchiveKind::Dynamic, 0);
    add(&archive, b"before", b"before");
    add(&archive, b"a", b"content");
    archive.commit().unwrap();
    let snapshot = archive.snapshot();
    let number = snapshot.lookup(ROOT, b"a").unwrap().unwrap().inode;
    let content = snapshot.read_file(&snapshot.inode(number).unwrap().unwrap()).unwrap().unwrap();
    for offset in [7, 8, u64::MAX - 1, u64::MAX] {
        assert_eq!(content.read_at(offset, &mut [0; 10]).unwrap(), 0);
        assert_eq!(archive.names().read_packed(number, offset, &mut [0; 10]).unwrap(), 0);
        assert_eq!(content.hole_at(offset).unwrap(), 0);
    }
}
