//! Verification of a clean archive has no findings. If a block is damaged, verification reports
//! that block and continues.

mod concurrent;
mod packs;
mod planted;

use ar7_engine::crypto::{RawKey, Secret};
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{BLOCK_SIZE, DoubledRef, Position, Run, StreamLayout, Timestamp};
use ar7_engine::store::{Access, OpenOptions};

use ar7_engine::Error as EngineError;
use uuid::Uuid;

use super::*;
use crate::archive::CreateOptions;
use crate::archive::tests::copies::pages_of;
use crate::error::Error;
use crate::records::{Attributes, InodeNumber, TreeId};

const ROOT: InodeNumber = InodeNumber::ROOT;

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([3; 32]))
}

fn attributes() -> Attributes {
    let modified = Timestamp::default();
    Attributes { mode: 0o644, uid: 0, gid: 0, modified, origin: None }
}

/// Makes files `file0` to `file5` and `log`. The long `file2` is removed, so that there are free
/// blocks. `file4` is overwritten in place. `log` is a stream of several runs, longer than one
/// thread opens at a time.
fn fill(archive: &Archive) {
    let names = archive.names();
    let mut identities = Vec::new();
    for at in 0..6_u8 {
        let mut stream = archive.new_stream().unwrap();
        let length = if at == 2 { 800_000 } else { 10_000 + usize::from(at) };
        stream.append(&vec![at; length]).unwrap();
        identities.push(stream.identity());
        let name = format!("file{at}");
        stream.close().unwrap();
        names.add_file(ROOT, name.as_bytes(), attributes(), identities.last().copied()).unwrap();
    }
    let mut log = archive.new_stream().unwrap();
    let log_name = names.add_file(ROOT, b"log", attributes(), Some(log.identity()));
    log.append(&vec![1; 200_000]).unwrap();
    archive.commit().unwrap();
    names.remove(ROOT, b"file2").unwrap();
    log.append(&vec![2; 300_000]).unwrap();
    archive.commit().unwrap();
    log.append(&vec![3; 100_000]).unwrap();
    archive.commit().unwrap();
    log.close().unwrap();
    log_name.unwrap();
    let mut stream = archive.open_stream(identities[4]).unwrap();
    stream.write_at(5000, b"changed").unwrap();
    stream.close().unwrap();
    archive.commit().unwrap();
}

/// Makes an archive that is not closed, so that it has a redo list.
fn sample() -> MemoryDevice {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    fill(&archive);
    device
}

fn open(device: &MemoryDevice, access: Access) -> Result<Archive> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options)
}

fn verify(device: &MemoryDevice) -> Result<(VerifySummary, Vec<Finding>)> {
    let archive = open(device, Access::Read)?;
    let mut findings = Vec::new();
    let summary = archive.verify(&mut |finding| findings.push(finding), &mut |_| {})?;
    assert_eq!(summary.findings, findings.len() as u64);
    Ok((summary, findings))
}

/// Returns a copy of the device with one bit of a block flipped.
fn with_flipped_bit(device: &MemoryDevice, position: Position) -> MemoryDevice {
    with_flipped_bits(device, [position])
}

/// Returns a copy of the device with one bit of each of these blocks flipped.
fn with_flipped_bits(
    device: &MemoryDevice,
    positions: impl IntoIterator<Item = Position>,
) -> MemoryDevice {
    let copy = device.snapshot().to_device();
    for position in positions {
        let mut bytes = [0; BLOCK_SIZE];
        copy.read(position, &mut bytes).unwrap();
        bytes[1000] ^= 1;
        copy.write(position, &bytes).unwrap();
    }
    copy
}

/// Returns a copy of the device with one bit of both copies of a page flipped.
fn without_page(device: &MemoryDevice, page: DoubledRef) -> MemoryDevice {
    with_flipped_bits(device, page.copies().map(|copy| copy.position))
}

#[test]
fn a_clean_archive_has_no_findings() {
    let (summary, findings) = verify(&sample()).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!((summary.streams, summary.names), (6, 6));
    assert_eq!(summary.data_blocks, 5 * 3 + 150);
    assert!(summary.pages >= 5, "{summary:?}");
    let bytes = 600_000 + [0, 1, 3, 4, 5].map(|at| 10_000 + at).iter().sum::<u64>();
    assert_eq!(summary.bytes, bytes);
}

#[test]
fn progress_rises_to_the_total() {
    let archive = open(&sample(), Access::Read).unwrap();
    let mut seen = Vec::new();
    archive.verify(&mut |_| {}, &mut |at| seen.push(at)).unwrap();
    assert!(seen.windows(2).all(|pair| pair[0].blocks <= pair[1].blocks));
    let last = seen.last().unwrap();
    assert_eq!(last.blocks, last.total);
}

#[test]
fn damage_of_every_block_in_use_is_found() {
    let device = sample();
    let (summary, _) = verify(&device).unwrap();
    let mut found = 0;
    for block in 0..summary.blocks {
        let position = Position::at(u32::try_from(block).unwrap());
        let damaged = with_flipped_bit(&device, position);
        let is_noted = |archive: Archive| {
            let found = archive.verify(&mut |_| {}, &mut |_| {}).unwrap().findings;
            // A crash may have torn the third copy of the newest commit.
            let torn = archive.damaged_copies().positions();
            found > 0 || (torn == [position] && THIRD_SLOTS.contains(&position))
        };
        let is_found = open(&damaged, Access::Read).map_or(true, is_noted);
        assert!(is_found || block >= 8, "reserved block {block}");
        found += u64::from(is_found);
    }
    // The content of free blocks does not matter, nor does a home location whose newest version is
    // in a shadow block.
    let redirected = 1;
    assert_eq!(found, summary.blocks - summary.free_blocks - redirected);
}

/// Returns the positions of all blocks of streams.
fn data_positions(device: &MemoryDevice) -> Vec<Position> {
    let archive = open(device, Access::Read).unwrap();
    let snapshot = archive.snapshot();
    let mut positions = Vec::new();
    for stored in archive.streams(None, 100).unwrap() {
        for index in 0..stored.record.count {
            let segment = crate::blocks::locate(&snapshot, &stored, index).unwrap();
            positions.push(segment.position(index));
        }
    }
    positions
}

#[test]
fn each_damaged_block_is_a_separate_finding() {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    fill(&archive);
    archive.close().unwrap();
    let positions = data_positions(&device);
    let stored = open(&device, Access::Read).unwrap().streams(None, 100).unwrap();
    assert!(stored.iter().any(|stored| stored.layout == StreamLayout::Extents));
    // Every third block: within pieces of any length, and at both ends of runs.
    let mut bad: Vec<Position> = positions.iter().copied().step_by(3).collect();
    let mut copy = device;
    for &position in &bad {
        copy = with_flipped_bit(&copy, position);
    }
    let (summary, findings) = verify(&copy).unwrap();
    assert_eq!(summary.data_blocks, positions.len() as u64);
    let mut found = Vec::new();
    for finding in &findings {
        let Subject::Block { position, .. } = finding.subject else { panic!("{finding}") };
        let Error::Engine(EngineError::Damaged(fault)) = &finding.error else {
            panic!("{finding}")
        };
        assert_eq!((fault.position, fault.check), (Some(position), Check::Tag));
        found.push(position);
    }
    bad.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, bad);
}

/// An authentic older version of a block at its home location is tampering with that block only.
#[test]
fn an_older_version_of_a_block_is_tampering() {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    fill(&archive);
    let before = device.snapshot();
    let stream = archive.names().resolve(b"file0").unwrap().inode;
    let stream = archive.names().inode(stream).unwrap().unwrap().stream.unwrap();
    let mut stream = archive.open_stream(stream).unwrap();
    stream.write_at(0, b"newer").unwrap();
    stream.close().unwrap();
    archive.commit().unwrap();
    archive.close().unwrap();
    let first = data_positions(&device)[0];
    let mut old = [0; BLOCK_SIZE];
    before.to_device().read(first, &mut old).unwrap();
    device.write(first, &old).unwrap();
    let (_, findings) = verify(&device).unwrap();
    let [Finding { subject: Subject::Block { position, index: 0, .. }, error }] = &findings[..]
    else {
        panic!("{findings:?}")
    };
    assert_eq!(*position, first);
    let Error::Engine(EngineError::Tampered(fault)) = error else { panic!("{error}") };
    assert_eq!(fault.check, Check::Generation);
}

/// An unreadable page hides its own records and no others.
#[test]
fn an_unreadable_page_hides_only_its_own_records() {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    for at in 0..400 {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&[1]).unwrap();
        let name = format!("{at:0200}");
        let identity = Some(stream.identity());
        archive.names().add_file(ROOT, name.as_bytes(), attributes(), identity).unwrap();
        stream.close().unwrap();
    }
    archive.commit().unwrap();
    archive.close().unwrap();
    let (clean, findings) = verify(&device).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let (mut leaves, mut names_left) = (0, 0);
    for (tree, page) in pages_of(&open(&device, Access::Read).unwrap()) {
        let (summary, findings) = verify(&without_page(&device, page)).unwrap();
        let of_copies = page.copies().map(|copy| Subject::Page { tree, position: copy.position });
        let is_found = |copy| findings.iter().any(|finding| finding.subject == copy);
        assert!(of_copies.into_iter().all(is_found), "{findings:?}");
        match tree {
            // A branch also hides the pages below it.
            TreeId::Names if summary.pages == clean.pages - 1 => {
                leaves += 1;
                names_left += summary.names;
                assert_eq!(summary.data_blocks, 400);
            }
            TreeId::Streams if summary.pages == clean.pages - 1 => {
                assert_eq!(summary.names, 400);
                assert!(summary.data_blocks > 200, "{summary:?}");
            }
            _ => {}
        }
    }
    assert!(leaves > 10);
    // Each leaf hides only its own names, so all leaves together hide every name once.
    assert_eq!(names_left, (leaves - 1) * 400);
}

#[test]
fn a_verification_that_progress_stops_fails_and_reports_no_further_finding() {
    let device = sample();
    let (summary, _) = verify(&device).unwrap();
    let archive = open(&device, Access::Read).unwrap();
    for stop_at in 0..summary.blocks {
        let stop = |at: VerifyProgress| {
            if at.blocks > stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let mut findings = Vec::new();
        let stopped = archive.verify_until(&mut |finding| findings.push(finding), &mut { stop });
        let error = stopped.expect_err("stopped before the last block");
        assert!(matches!(error, Error::Engine(EngineError::Stopped)), "{error}");
        assert!(findings.is_empty(), "{findings:?}");
    }
}

/// Streams with even and odd numbers lie apart, so that each page names blocks in several runs.
fn streams_in_two_rows() -> (MemoryDevice, Vec<Uuid>) {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let made: Vec<Uuid> = (0..400).map(|_| archive.new_stream().unwrap().identity()).collect();
    for first in [0, 1] {
        for &identity in made.iter().skip(first).step_by(2) {
            archive.open_stream(identity).unwrap().append(&[1; 100]).unwrap();
        }
        archive.commit().unwrap();
    }
    archive.close().unwrap();
    (device, made)
}

#[test]
fn blocks_named_only_by_an_unreadable_page_are_one_finding() {
    let (device, _) = streams_in_two_rows();
    let (clean, findings) = verify(&device).unwrap();
    assert!(findings.is_empty(), "{findings:?}");
    let mut leaves = 0;
    for (tree, page) in pages_of(&open(&device, Access::Read).unwrap()) {
        let (summary, findings) = verify(&without_page(&device, page)).unwrap();
        // The first two are the copies of the page.
        if let [_, _, rest @ ..] = &findings[..]
            && tree == TreeId::Streams
            && summary.pages == clean.pages - 1
        {
            leaves += 1;
            assert!(matches!(rest, [Finding { subject: Subject::Blocks(_), .. }]), "{rest:?}");
        }
    }
    assert!(leaves > 1);
}

#[test]
fn each_run_of_blocks_that_nothing_names_is_a_finding() {
    let (device, made) = streams_in_two_rows();
    let archive = open(&device, Access::Write).unwrap();
    {
        let mut state = archive.state().unwrap();
        let trees = &mut state.writing().unwrap().trees;
        for stream in [100, 200, 301] {
            trees.remove::<crate::records::Streams>(&made[stream]).unwrap();
        }
    }
    archive.commit().unwrap();
    let mut findings = Vec::new();
    archive.verify(&mut |finding| findings.push(finding), &mut |_| {}).unwrap();
    let runs: Vec<u32> = findings
        .iter()
        .map(|finding| {
            let Subject::Blocks(run) = finding.subject else { panic!("{finding}") };
            run.count()
        })
        .collect();
    assert_eq!(runs, [1, 1, 1]);
}

#[test]
fn a_finding_names_its_subject() {
    let (stream, position) = (Uuid::from_u128(77), Position::at(55));
    for (subject, words) in [
        (Subject::Header(position), &["header", "55"][..]),
        (Subject::MetaSlot(position), &["meta slot", "55"]),
        (Subject::Page { tree: TreeId::Names, position }, &["page", "Names", "55"]),
        (Subject::Tree(TreeId::Inodes), &["tree", "Inodes"]),
        (Subject::Block { stream, index: 66, position }, &[&stream.to_string(), "66", "55"]),
        (Subject::Stream(stream), &["stream", &stream.to_string()]),
        (Subject::Blocks(Run::new(position, 10).unwrap()), &["55", "64"]),
        (Subject::Inode(33), &["inode", "33"]),
        (Subject::Name { directory: 44, name: b"a\n".to_vec() }, &["\"a\\n\"", "44"]),
    ] {
        let text = subject.to_string();
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }
}
