//! Repair restores each bad copy of an index page from the good one:
//!
//! - every page of every tree, whichever copy is bad; nothing else changes;
//! - a page without a good copy counts as lost, and hides only the pages below it;
//! - it writes no block for a page that claims the page of another tree;
//! - it refuses an archive whose rekey is unfinished.

use std::ops::ControlFlow;

use ar7_engine::Error as EngineError;
use ar7_engine::crypto::RawKey;
use ar7_engine::device::{Device, MemoryDevice};
use ar7_engine::format::{BLOCK_SIZE, Position, ROOTS, Root, Timestamp};
use ar7_engine::store::{Access, OpenOptions, RekeyOptions, SlotUpdate, Store};

use super::*;
use crate::archive::CreateOptions;
use crate::archive::tests::copies::pages_of;
use crate::error::Error;
use crate::records::{Attributes, InodeNumber};

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([4; 32]))
}

/// An archive whose trees have branches and leaves. It is not closed, so that it has a redo list.
fn sample() -> MemoryDevice {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let modified = Timestamp::default();
    let attributes = Attributes { mode: 0o644, uid: 0, gid: 0, modified, origin: None };
    let mut identities = Vec::new();
    for file in 0..120 {
        let mut stream = archive.new_stream().unwrap();
        stream.append(&[1; 3000]).unwrap();
        identities.push(stream.identity());
        stream.close().unwrap();
        let name = format!("{file:0100}");
        let identity = identities.last().copied();
        archive.names().add_file(InodeNumber::ROOT, name.as_bytes(), attributes, identity).unwrap();
    }
    archive.commit().unwrap();
    for &identity in identities.iter().step_by(2) {
        archive.open_stream(identity).unwrap().append(&[2; 9000]).unwrap();
    }
    archive.commit().unwrap();
    archive.open_stream(identities[0]).unwrap().write_at(0, b"changed").unwrap();
    archive.commit().unwrap();
    device.snapshot().to_device()
}

fn open(device: &MemoryDevice) -> Archive {
    let options = OpenOptions { access: Access::Read, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options).unwrap()
}

fn repair(device: &MemoryDevice) -> Result<Repaired> {
    Archive::repair_device(Box::new(device.clone()), &secret())
}

fn findings(device: &MemoryDevice) -> Vec<String> {
    let mut findings = Vec::new();
    open(device).verify(&mut |finding| findings.push(finding.to_string()), &mut |_| {}).unwrap();
    findings
}

fn destroyed(device: &MemoryDevice, positions: &[Position]) -> MemoryDevice {
    let copy = device.snapshot().to_device();
    for &position in positions {
        copy.write(position, &[0; BLOCK_SIZE]).unwrap();
    }
    copy
}

/// Returns the positions of all blocks that differ.
fn differences(one: &MemoryDevice, other: &MemoryDevice) -> Vec<Position> {
    let block_at = |device: &MemoryDevice, position| {
        let mut bytes = [0; BLOCK_SIZE];
        device.read(position, &mut bytes).unwrap();
        bytes
    };
    let count = u32::try_from(one.length_bytes().unwrap() / 4096).unwrap();
    let positions = (0..count).map(Position::at);
    positions.filter(|&at| block_at(one, at) != block_at(other, at)).collect()
}

#[test]
fn each_bad_copy_of_each_page_is_restored_in_its_place() {
    let device = sample();
    assert_eq!(repair(&device).unwrap(), Repaired::default());
    let pages = pages_of(&open(&device));
    let trees: std::collections::BTreeSet<_> = pages.iter().map(|(tree, _)| tree.index()).collect();
    assert!(trees.len() >= 5 && pages.len() > 12, "{pages:?}");
    for (tree, page) in pages {
        for copy in page.copies().map(|copy| copy.position) {
            let damaged = destroyed(&device, &[copy]);
            assert_eq!(findings(&damaged).len(), 1, "{tree:?} without {copy}");
            let repaired = repair(&damaged).unwrap();
            assert_eq!((repaired.healed, repaired.lost), (vec![copy], vec![]), "{tree:?}");
            assert_eq!(findings(&damaged), Vec::<String>::new(), "{tree:?} with {copy} again");
            assert_eq!(differences(&device, &damaged), [copy], "nothing else changed");
        }
    }
}

#[test]
fn a_page_without_a_good_copy_is_lost_and_the_walk_goes_on() {
    let device = sample();
    let pages = pages_of(&open(&device));
    for &(tree, page) in &pages {
        let [first, second] = page.copies().map(|copy| copy.position);
        // The first copy of every other page is bad too. It is restored, unless the lost page hides it.
        let others = pages.iter().map(|(_, other)| other.position).filter(|&at| at != first);
        let bad: Vec<Position> = [first, second].into_iter().chain(others).collect();
        let damaged = destroyed(&device, &bad);
        let before = damaged.snapshot().to_device();
        let repaired = repair(&damaged).unwrap();
        assert_eq!(repaired.lost, [first], "{tree:?}");
        assert_eq!(differences(&before, &damaged), repaired.healed, "{tree:?}");
        let hidden = pages.len() - 1 - repaired.healed.len();
        let is_root = open(&device).store().current().slot.roots[tree.index()].block == Some(page);
        assert!(is_root || hidden == 0, "{tree:?}: {hidden} pages are hidden");
    }
}

/// Commits roots that a faulty program or an attacker with the key may write.
fn with_roots(device: &MemoryDevice, change: impl FnOnce(&mut [Root; ROOTS])) -> MemoryDevice {
    let copy = device.snapshot().to_device();
    let options = OpenOptions { access: Access::Write, ..OpenOptions::default() };
    let (store, writer) = Store::open_device(Box::new(copy.clone()), &secret(), options).unwrap();
    let (mut writer, slot) = (writer.unwrap(), store.current().slot.clone());
    let mut roots = slot.roots;
    change(&mut roots);
    let redo = writer.write_redo_list().unwrap();
    let update = SlotUpdate {
        roots,
        inline_free: slot.inline_free,
        reserved_streams: slot.reserved_streams,
        counters: slot.counters,
        metadata: slot.metadata,
        sessions_recorded: false,
        redo,
    };
    writer.commit(update).unwrap();
    copy.snapshot().to_device()
}

#[test]
fn a_page_that_claims_the_page_of_another_tree_is_lost_and_nothing_is_written() {
    let device = sample();
    let streams = open(&device).store().current().slot.roots[TreeId::Streams.index()];
    let page = streams.block.unwrap();
    let data = open(&device).streams(None, 1).unwrap()[0].record.begin.unwrap();
    // The second copy is a block of a stream, over which a repair that trusts the root would write the page.
    let block = Some(DoubledRef { copy: data, ..page });
    let hostile = with_roots(&device, |roots| {
        roots[TreeId::Extents.index()] = Root { block, ..streams };
    });
    let before = hostile.snapshot().to_device();
    let repaired = repair(&hostile).unwrap();
    assert_eq!((repaired.healed, repaired.lost), (vec![], vec![page.position]));
    assert!(differences(&before, &hostile).is_empty());
}

/// A later version may have more trees. A writer that does not know them would drop them.
#[test]
fn a_root_of_an_unknown_tree_is_refused_and_repair_keeps_it() {
    let device = sample();
    let root = open(&device).store().current().slot.roots[TreeId::Streams.index()];
    let newer = with_roots(&device, |roots| roots[ROOTS - 1] = root);
    let options = |access| OpenOptions { access, ..OpenOptions::default() };
    for access in [Access::Read, Access::Write] {
        let device = newer.snapshot().to_device();
        let opened = Archive::open_device(Box::new(device), &secret(), options(access));
        let error = opened.map(drop).unwrap_err();
        let is_newer = matches!(error, Error::Engine(EngineError::NewerFormat { .. }));
        assert!(is_newer, "{access:?}: {error}");
    }
    repair(&newer).unwrap();
    let (store, _) = Store::open_device(Box::new(newer), &secret(), options(Access::Read)).unwrap();
    assert_eq!(store.current().slot.roots[ROOTS - 1], root);
}

#[test]
fn an_archive_whose_rekey_is_unfinished_is_refused() {
    let device = sample();
    let opened = || Box::new(device.clone()) as Box<dyn Device>;
    let mut calls = 0;
    let stopped =
        Archive::rekey_device(&opened, &secret(), RekeyOptions::default(), &mut |_, _| {
            calls += 1;
            if calls > 1 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    assert!(matches!(stopped, Err(Error::Engine(EngineError::Stopped))), "{stopped:?}");
    let before = device.snapshot().to_device();
    let refused = repair(&device);
    assert!(matches!(refused, Err(Error::Engine(EngineError::RekeyInProgress))), "{refused:?}");
    assert!(differences(&before, &device).is_empty());
}
