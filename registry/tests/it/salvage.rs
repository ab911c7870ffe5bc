//! What a salvage brings back:
//!
//! - without the first MiB, and with an exported header, every file whose data lies behind it;
//! - in the middle of a rekey, everything, wherever the rekey was stopped.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{
    ArchiveKind, BLOCK_SIZE, BLOCK_SIZE_U64, Position, StreamLayout, THIRD_HEADER, Timestamp,
};
use ar7_engine::store::{Access, RekeyOptions, Wreck};
use ar7_registry::records::{Attributes, InodeNumber};
use ar7_registry::salvage::{SalvageObserver, SalvageProgress, SalvageSummary, Salvaged, salvage};
use ar7_registry::{Archive, CreateOptions};

use crate::common::{assert_verified, create, open, pattern, secret};

const MIB_BLOCKS: u32 = 256;

/// Each file with its path and content.
type Files = BTreeMap<Vec<u8>, Vec<u8>>;

struct Ignored;

impl SalvageObserver for Ignored {
    fn salvaged(&mut self, _: Salvaged) {}

    fn progress(&mut self, _: SalvageProgress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Makes a closed archive with this many files in directories. Every tenth file is longer than 100 KiB.
fn sample(files: usize) -> MemoryDevice {
    let (device, archive) = create(ArchiveKind::Dynamic, 0);
    let names = archive.names();
    let modified = Timestamp::default();
    let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, modified, origin: None };
    let directories: Vec<InodeNumber> = (0..5)
        .map(|number| {
            let name = format!("directory{number}");
            names.make_directory(InodeNumber::ROOT, name.as_bytes(), attributes).unwrap()
        })
        .collect();
    for number in 0..files {
        let mut stream = archive.new_stream().unwrap();
        let length = if number % 10 == 0 { 150_000 } else { 30 * number };
        stream.append(&pattern(length, number)).unwrap();
        let identity = stream.identity();
        stream.close().unwrap();
        let name = format!("file{number}{}", "n".repeat(80));
        let directory = directories[number % directories.len()];
        names.add_file(directory, name.as_bytes(), attributes, Some(identity)).unwrap();
    }
    archive.commit().unwrap();
    archive.close().unwrap();
    device
}

/// Returns every file that `is_wanted` accepts. It receives the first block of its content.
fn files(archive: &Archive, is_wanted: impl Fn(Option<Position>) -> bool) -> Files {
    let names = archive.names();
    let mut files = Files::new();
    for directory in names.list(InodeNumber::ROOT, None, usize::MAX).unwrap() {
        for entry in names.list(directory.inode, None, usize::MAX).unwrap() {
            let inode = names.inode(entry.inode).unwrap().unwrap();
            let identity = inode.stream.unwrap();
            let stored = archive.snapshot().stored(identity).unwrap().unwrap();
            let begin = stored.record.begin;
            // Only the third copies lie within a file.
            let is_one_run = matches!(stored.layout, StreamLayout::OneRun(_));
            assert!(is_one_run || begin < Some(THIRD_HEADER), "files are written at once");
            if !is_wanted(begin) {
                continue;
            }
            let stream = archive.read_stream(identity).unwrap();
            let mut bytes = vec![0; usize::try_from(stream.len().unwrap()).unwrap()];
            stream.read_at(0, &mut bytes).unwrap();
            files.insert([&directory.name[..], b"/", &entry.name].concat(), bytes);
        }
    }
    files
}

fn salvaged(device: &MemoryDevice, header: Option<&[u8]>) -> (Archive, SalvageSummary) {
    let wreck = Wreck::open_device(Box::new(device.clone()), &secret(), header).unwrap();
    let new = MemoryDevice::new();
    let create = |kind| {
        let options = CreateOptions { kind, ..CreateOptions::default() };
        Archive::create_device(Box::new(new.clone()), &secret(), &options)
    };
    let summary = salvage(wreck, create, &mut Ignored).unwrap();
    let archive = open(&new, Access::Read);
    assert_verified(&archive);
    (archive, summary)
}

#[test]
fn without_the_first_mib_every_file_behind_it_is_salvaged() {
    let device = sample(400);
    assert!(device.length_bytes().unwrap() >= 4 << 20);
    let archive = open(&device, Access::Read);
    let header = archive.store().export_header();
    let is_behind = |begin: Option<Position>| begin.is_some_and(|at| at.get() >= MIB_BLOCKS);
    let expected = files(&archive, is_behind);
    assert!(expected.len() > 200 && expected.len() < 390, "{}", expected.len());
    for position in 0..MIB_BLOCKS {
        device.write(Position::at(position), &[0; BLOCK_SIZE]).unwrap();
    }
    // The third copy of the header is enough, and so is an exported one.
    for exported in [None, Some(&header[..])] {
        if exported.is_some() {
            device.write(THIRD_HEADER, &[0; BLOCK_SIZE]).unwrap();
        }
        let (new, _) = salvaged(&device, exported);
        let found = files(&new, |_| true);
        for (path, bytes) in &expected {
            let is_same = found.get(path) == Some(bytes);
            assert!(is_same, "{} is lost", String::from_utf8_lossy(path));
        }
    }
}

#[test]
fn in_the_middle_of_a_rekey_everything_is_salvaged() {
    let device = sample(150);
    let expected = files(&open(&device, Access::Read), |_| true);
    let blocks = device.length_bytes().unwrap() / BLOCK_SIZE_U64;
    let mut stops = 0;
    for stop_at in 1.. {
        let rekeyed = device.snapshot().to_device();
        let opened = || Box::new(rekeyed.clone()) as Box<dyn Device>;
        let options = RekeyOptions::default();
        let mut calls = 0;
        let stopped = Archive::rekey_device(&opened, &secret(), options, &mut |_, _| {
            calls += 1;
            if calls > stop_at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if stopped.is_ok() {
            break;
        }
        let (new, summary) = salvaged(&rekeyed, None);
        assert!(summary.is_complete(), "stopped after {stop_at} of {blocks}: {summary:?}");
        assert_eq!(files(&new, |_| true), expected);
        stops += 1;
    }
    assert!(stops > 3, "{stops}");
}
