//! Golden archives in states that a crash leaves, and with a long history: each stage of a change of the master key, a
//! half-changed header, a pending deletion, a redo list of several blocks, many sessions, third copies, and files with
//! holes.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, Range};

use ar7_engine::device::MemoryDevice;
use ar7_engine::device::simulated::{Event, EventKind, Medium, SimulatedDisk};
use ar7_engine::format::{
    ArchiveKind, BLOCK_SIZE, DATA_SIZE, Position, RESERVED_BLOCKS, THIRD_COPIES, is_reserved,
};
use ar7_engine::store::{Access, OpenOptions, RekeyOptions};
use ar7_registry::records::InodeNumber;
use ar7_registry::{Archive, CreateOptions, Result};
use uuid::Uuid;

use super::subject::{Ending, digest, secret};
use crate::Random;
use xtask::error::Error;
use xtask::quantity::base16;

/// An archive in such a state.
pub(super) struct State {
    pub(super) name: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) lines: Vec<String>,
}

/// The names of the states in the order of [`make`], the kinds, and how the second reader sees them. It does not support
/// a header with the record of a change of the master key.
pub(super) const STATES: [(&str, ArchiveKind, Option<Ending>); 12] = [
    ("rekey-header", ArchiveKind::Single, None),
    ("rekey-begun", ArchiveKind::Single, None),
    ("rekey-first", ArchiveKind::Single, None),
    ("rekey-window", ArchiveKind::Single, None),
    ("rekey-done", ArchiveKind::Single, None),
    ("rekey-ending", ArchiveKind::Single, None),
    ("key-change", ArchiveKind::Single, Some(Ending::Closed)),
    ("deletion", ArchiveKind::Dynamic, Some(Ending::KilledDuringDeletion)),
    ("redo-chain", ArchiveKind::Single, Some(Ending::Killed)),
    ("sessions", ArchiveKind::Single, Some(Ending::Closed)),
    ("long", ArchiveKind::Single, Some(Ending::Closed)),
    ("holes", ArchiveKind::Dynamic, Some(Ending::Closed)),
];

/// Blocks of the deleted stream. Every second one is of a later generation, so each is an extent, and one commit frees 64.
const DELETED_BLOCKS: usize = 68;

/// Sessions of the archive with many: more than a meta slot records before a tree does.
const SESSIONS: u8 = 20;

/// Length of a hole in bytes: more than a frame can have.
const HOLE: usize = 1_000_000;

/// The content of the streams.
type Streams = BTreeMap<Uuid, Vec<u8>>;

/// A part of a file: a text, or a hole of this length.
type Part = (Option<Vec<u8>>, usize);

/// Makes every archive.
pub(super) fn make() -> std::result::Result<Vec<State>, Error> {
    let made = all().map_err(|error| Error::Fault(format!("golden archives: {error}")))?;
    Ok(STATES
        .into_iter()
        .zip(made)
        .map(|((name, ..), (bytes, lines))| State { name, bytes, lines })
        .collect())
}

fn all() -> Result<Vec<(Vec<u8>, Vec<String>)>> {
    let mut made = rekeying()?;
    made.extend([
        half_changed_header()?,
        pending_deletion()?,
        redo_chain()?,
        many_sessions()?,
        long()?,
    ]);
    let mut made: Vec<_> =
        made.into_iter().map(|(bytes, streams)| (bytes, lines_of(&streams))).collect();
    made.push(holes()?);
    Ok(made)
}

fn lines_of(streams: &Streams) -> Vec<String> {
    let stored = streams.iter().map(|(identity, content)| {
        format!("stream {identity} {} {}", content.len(), digest(content))
    });
    stored.collect()
}

/// The stages of a change of the master key, in the order of [`STATES`].
fn rekeying() -> Result<Vec<(Vec<u8>, Streams)>> {
    let (disk, streams) = closed(b"rekey")?;
    let (before, start) = (disk.medium(), disk.log().len());
    disk.set_resealing(true);
    let device = || -> Box<dyn ar7_engine::device::Device> { Box::new(disk.clone()) };
    let go_on = &mut |_, _| ControlFlow::Continue(());
    Archive::rekey_device(&device, &secret(false), RekeyOptions::default(), go_on)?;
    let count = open(&disk, Access::Read)?.store().current().slot.block_count;
    let log = &disk.log()[start..];
    let writes = |range: Range<u32>, from: usize| {
        let is_there =
            |event: &Event| matches!(event.kind(), EventKind::Write(at) if range.contains(&at));
        let found: Vec<usize> = (from..log.len()).filter(|&at| is_there(&log[at])).collect();
        found
    };
    let headers = writes(0..1, 0);
    // In between, recovery writes it again.
    let [begun, .., ended] = headers[..] else { panic!("two changes of the header: {headers:?}") };
    let shadows = writes(count..u32::MAX, begun);
    let (first_shadow, last_shadow) = (shadows[0], shadows[shadows.len() - 1]);
    let homes = writes(RESERVED_BLOCKS..count, last_shadow);
    let middle = homes[homes.len() / 2];
    let first_slot = writes(1..5, begun)[0];
    // The event before which, or with which, each stage ends.
    let stages = [begun + 1, first_slot, first_shadow, middle + 1, ended, ended + 1];
    let images = stages.map(|events| after(&before, &log[..events]));
    let mut images: Vec<Vec<u8>> = images.into_iter().map(|bytes| cut(bytes, count)).collect();
    // A block that was being written: half of it is old.
    if let EventKind::Write(home) = log[homes[homes.len() / 2 + 1]].kind() {
        let at = usize::try_from(Position::at(home).offset()).expect("a short file");
        images[3][at..at + BLOCK_SIZE / 2].fill(0);
    }
    Ok(images.into_iter().map(|bytes| (bytes, streams.clone())).collect())
}

/// A change of the keys that reached only the first copy of the header.
fn half_changed_header() -> Result<(Vec<u8>, Streams)> {
    let (disk, streams) = closed(b"key-change")?;
    let archive = open(&disk, Access::Write)?;
    let (before, start) = (disk.medium(), disk.log().len());
    archive.relabel_key(&secret(false), "changed")?;
    let log = disk.log();
    let log = &log[start..];
    let first = log.iter().position(|event| event.kind() == EventKind::Write(0));
    let first = first.expect("the header is written");
    let count = archive.store().current().slot.block_count;
    Ok((cut(after(&before, &log[..=first]), count), streams))
}

/// A deleted stream that one commit has not freed.
fn pending_deletion() -> Result<(Vec<u8>, Streams)> {
    let disk = SimulatedDisk::new();
    let archive = create(&disk, ArchiveKind::Dynamic)?;
    let kept = content(b"kept", 5000);
    let mut stream = archive.new_stream()?;
    let identity = stream.identity();
    stream.append(&kept)?;
    stream.close()?;
    let mut deleted = archive.new_stream()?;
    deleted.append(&content(b"deleted", DELETED_BLOCKS * DATA_SIZE))?;
    archive.commit()?;
    for block in (0..DELETED_BLOCKS).step_by(2) {
        deleted.write_at(offset_of(block), &[2; DATA_SIZE])?;
    }
    let gone = deleted.identity();
    deleted.close()?;
    archive.commit()?;
    archive.delete_stream(gone)?;
    archive.commit()?;
    let bytes = cut(disk.medium().to_bytes(), archive.store().current().slot.block_count);
    Ok((without_free_blocks(bytes), [(identity, kept)].into()))
}

/// A redo list that grew at its front next to a reader: some of its entries are superseded, and every home location
/// holds an old version.
fn redo_chain() -> Result<(Vec<u8>, Streams)> {
    let (disk, mut streams) = closed(b"redo-chain")?;
    let archive = open(&disk, Access::Write)?;
    let reader = archive.snapshot();
    let (identity, content) =
        streams.first_entry().map(|first| (*first.key(), first.into_mut())).expect("a stream");
    for (round, block) in [0, 1, 2, 3, 1].into_iter().enumerate() {
        let byte = u8::try_from(round).expect("few rounds");
        let change = [byte; 100];
        let at = block * DATA_SIZE;
        content[at..at + change.len()].copy_from_slice(&change);
        let mut stream = archive
            .reserved_stream(usize::try_from(identity.as_u128()).expect("a reserved stream"))?;
        stream.write_at(offset_of(block), &change)?;
        stream.close()?;
        archive.commit()?;
    }
    let bytes = cut(disk.medium().to_bytes(), archive.store().current().slot.block_count);
    drop(reader);
    Ok((bytes, streams))
}

/// An archive that was opened for writing so often that a tree records the sessions.
fn many_sessions() -> Result<(Vec<u8>, Streams)> {
    let (disk, streams) = closed(b"sessions")?;
    for session in 0..SESSIONS {
        let archive = open(&disk, Access::Write)?;
        archive.set_metadata(&[session])?;
        archive.commit()?;
        archive.close()?;
    }
    let count = open(&disk, Access::Read)?.store().current().slot.block_count;
    Ok((cut(disk.medium().to_bytes(), count), streams))
}

/// An archive with third copies, of which most blocks are free.
fn long() -> Result<(Vec<u8>, Streams)> {
    let (disk, mut streams) = closed(b"long")?;
    let archive = open(&disk, Access::Write)?;
    let blocks = usize::try_from(THIRD_COPIES.end).expect("a small number");
    let [filler, end] = [5, 6].map(|number| archive.reserved_stream(number));
    let (mut filler, mut end) = (filler?, end?);
    filler.append(&vec![1; blocks * DATA_SIZE])?;
    archive.commit()?;
    let last = content(b"behind the third copies", 5000);
    end.append(&last)?;
    streams.insert(end.identity(), last);
    archive.commit()?;
    filler.truncate(0)?;
    filler.close()?;
    end.close()?;
    // Closing would cut the free blocks at the end.
    archive.commit()?;
    let count = archive.store().current().slot.block_count;
    Ok((without_free_blocks(cut(disk.medium().to_bytes(), count)), streams))
}

/// Packed files with holes: in the middle, at both ends, nothing else, and one that was written to later.
fn holes() -> Result<(Vec<u8>, Vec<String>)> {
    let disk = SimulatedDisk::new();
    let archive = create(&disk, ArchiveKind::Dynamic)?;
    let names = archive.names();
    let attributes = names.inode(InodeNumber::ROOT)?.expect("the root").attributes;
    let text = |name: &str, length| Some(content(name.as_bytes(), length));
    let mut files: [(&str, Vec<Part>); 4] = [
        ("changed", vec![(text("before", 5000), 0), (None, HOLE)]),
        ("ends", vec![(None, HOLE / 2), (text("between", 3000), 0), (None, HOLE)]),
        ("middle", vec![(text("begin", 700), 0), (None, HOLE), (text("end", 900), 0)]),
        ("nothing", vec![(None, HOLE)]),
    ];
    let mut lines = Vec::new();
    for (name, parts) in &mut files {
        let (mut packed, mut all) = (names.begin_packed(None)?, Vec::new());
        for (text, hole) in parts {
            match text {
                Some(text) => names.append_packed(&mut packed, text)?,
                None => names.append_hole(&mut packed, *hole as u64)?,
            }
            all.extend(text.take().unwrap_or_else(|| vec![0; *hole]));
        }
        names.add_packed(InodeNumber::ROOT, name.as_bytes(), attributes, packed)?;
        archive.commit()?;
        if *name == "changed" {
            let (at, change) = (HOLE / 2, content(b"later", 2000));
            let number = names.resolve(name.as_bytes())?.inode;
            assert!(names.write_packed(number, Some(at as u64), &change)?, "it has a hole");
            all[at..at + change.len()].copy_from_slice(&change);
            archive.commit()?;
        }
        lines.push(format!("file {} 1 {} {}", base16(name.as_bytes()), all.len(), digest(&all)));
    }
    archive.close()?;
    let count = open(&disk, Access::Read)?.store().current().slot.block_count;
    Ok((cut(disk.medium().to_bytes(), count), lines))
}

/// Makes a closed archive of one stream.
fn closed(seed: &[u8]) -> Result<(SimulatedDisk, Streams)> {
    let disk = SimulatedDisk::new();
    let archive = create(&disk, ArchiveKind::Single)?;
    let content = content(seed, 4 * DATA_SIZE + 100);
    let mut stream = archive.reserved_stream(0)?;
    stream.append(&content)?;
    stream.close()?;
    archive.commit()?;
    archive.close()?;
    Ok((disk, [(Uuid::nil(), content)].into()))
}

fn create(disk: &SimulatedDisk, kind: ArchiveKind) -> Result<Archive> {
    let options = CreateOptions { kind, ..CreateOptions::default() };
    Archive::create_device(Box::new(disk.clone()), &secret(false), &options)
}

fn open(disk: &SimulatedDisk, access: Access) -> Result<Archive> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(disk.clone()), &secret(false), options)
}

/// Returns content that is the same in every run.
fn content(seed: &[u8], length: usize) -> Vec<u8> {
    let seed = seed.iter().fold(7, |seed: u64, &byte| seed.wrapping_mul(31) + u64::from(byte));
    let mut content = vec![0; length];
    Random::new(seed).fill(&mut content);
    content
}

fn offset_of(block: usize) -> u64 {
    u64::try_from(block * DATA_SIZE).expect("a short stream")
}

/// Returns the file as a kill after these events leaves it.
fn after(before: &Medium, events: &[Event]) -> Vec<u8> {
    let mut medium = before.clone();
    for event in events {
        medium.apply(event);
    }
    medium.to_bytes()
}

/// Cuts zeros from the end of a file, down to its last block in use.
fn cut(mut bytes: Vec<u8>, block_count: u32) -> Vec<u8> {
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    let count = usize::try_from(block_count).expect("a short file");
    bytes.truncate(used.next_multiple_of(BLOCK_SIZE).max(count * BLOCK_SIZE));
    bytes
}

/// Fills every free block with zeros, which take no space where the file is compressed. A block is free if verification
/// does not miss it.
fn without_free_blocks(mut bytes: Vec<u8>) -> Vec<u8> {
    let count = u32::try_from(bytes.len() / BLOCK_SIZE).expect("a short file");
    for position in (RESERVED_BLOCKS..count).map(Position::at).filter(|&at| !is_reserved(at)) {
        let at = usize::try_from(position.offset()).expect("a short file");
        let block = bytes[at..at + BLOCK_SIZE].to_vec();
        bytes[at..at + BLOCK_SIZE].fill(0);
        if !is_whole(&bytes) {
            bytes[at..at + BLOCK_SIZE].copy_from_slice(&block);
        }
    }
    bytes
}

fn is_whole(bytes: &[u8]) -> bool {
    let device = MemoryDevice::from_bytes(bytes);
    let opened = Archive::open_device(Box::new(device), &secret(false), OpenOptions::default());
    let Ok(archive) = opened else { return false };
    let verified = archive.verify(&mut |_| {}, &mut |_| {});
    verified.is_ok_and(|summary| summary.findings == 0)
}
