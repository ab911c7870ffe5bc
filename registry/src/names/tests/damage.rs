//! A damaged page of the tree of names hides the names that it holds or that lie below it, and no
//! others. Each page is damaged once:
//!
//! - looking up, listing and removing any other name succeeds, also next to the damaged page;
//! - the error for a name of the page has the position, the failed check, the expected and the
//!   found value;
//! - a damaged root is reported when a name is looked up.

use ar7_engine::device::Device;
use ar7_engine::format::{BLOCK_SIZE, DoubledRef};
use ar7_engine::store::{Access, OpenOptions};
use ar7_engine::{Check, Error as EngineError};

use super::*;
use crate::committed::{Snapshot, read_copy};
use crate::records::{NameKey, NameRecords, Record, TreeId};
use crate::tree::PageExpectation;

/// Enough long names for branches under the root.
const FILES: usize = 300;

/// A page of the tree of names, and the names that it holds or that lie below it.
struct DamagedPage {
    at: DoubledRef,
    names: Vec<NameKey>,
}

fn secret() -> Secret {
    Secret::Key(RawKey::from_bytes([1; 32]))
}

/// An archive with three directories of empty files.
fn sample() -> MemoryDevice {
    let device = MemoryDevice::new();
    let options = CreateOptions::default();
    let archive = Archive::create_device(Box::new(device.clone()), &secret(), &options).unwrap();
    let names = archive.names();
    let parents = [b"a", b"b", b"c"].map(|name| names.make_directory(ROOT, name, attributes()));
    for file in 0..FILES {
        let parent = *parents[file % 3].as_ref().unwrap();
        names.add_file(parent, format!("{file:0250}").as_bytes(), attributes(), None).unwrap();
    }
    archive.commit().unwrap();
    archive.close().unwrap();
    device
}

fn open(device: &MemoryDevice, access: Access) -> Result<Archive, Error> {
    let options = OpenOptions { access, ..OpenOptions::default() };
    Archive::open_device(Box::new(device.clone()), &secret(), options)
}

/// Every page below one, itself first.
fn pages(snapshot: &Snapshot, at: DoubledRef, level: u8) -> Vec<DamagedPage> {
    let expect = PageExpectation { tree: TreeId::Names.number(), level };
    let page = read_copy(snapshot.store(), at.copies()[0], expect).unwrap();
    let mut found = vec![DamagedPage { at, names: Vec::new() }];
    for cell in 0..page.count() {
        if page.is_branch() {
            let below = pages(snapshot, page.child_block(cell), level - 1);
            found[0].names.extend(below[0].names.iter().cloned());
            found.extend(below);
        } else {
            found[0].names.push(NameRecords::decode_key(page.key(cell)).unwrap());
        }
    }
    found
}

/// The device with one bit of both copies of a page flipped.
fn with_damage(device: &MemoryDevice, page: DoubledRef) -> MemoryDevice {
    let damaged = device.snapshot().to_device();
    for copy in page.copies() {
        let mut bytes = [0; BLOCK_SIZE];
        damaged.read(copy.position, &mut bytes).unwrap();
        bytes[2000] ^= 1;
        damaged.write(copy.position, &bytes).unwrap();
    }
    damaged
}

/// The error states the damage of the page.
fn assert_damage<T: std::fmt::Debug>(outcome: Result<T, Error>, page: &DamagedPage) {
    let error = outcome.expect_err("the page is damaged");
    let Error::Engine(EngineError::Damaged(fault)) = &error else { panic!("{error}") };
    assert_eq!((fault.position, fault.check), (Some(page.at.position), Check::Tag), "{error}");
    assert_ne!(fault.expected, fault.found, "{error}");
}

/// Each name is found and listed after the one before it, unless the page holds it.
fn assert_only_the_page_is_lost(archive: &Archive, page: &DamagedPage, all: &[NameKey]) {
    let names = archive.names();
    for key in all {
        let found = names.lookup(key.directory, &key.name);
        if page.names.contains(key) {
            assert_damage(found, page);
        } else {
            assert!(found.unwrap().is_some());
        }
    }
    for pair in all.windows(2).filter(|pair| pair[0].directory == pair[1].directory) {
        if page.names.contains(&pair[0]) {
            continue;
        }
        let listed = names.list(pair[0].directory, Some(&pair[0].name), 1);
        if page.names.contains(&pair[1]) {
            assert_damage(listed, page);
        } else {
            assert_eq!(listed.unwrap()[0].name, pair[1].name);
        }
    }
}

/// Lists a directory as far as its pages open. Returns the names, and the number of errors.
fn list_past_damage(snapshot: &Snapshot, directory: InodeNumber) -> (Vec<Vec<u8>>, usize) {
    let (mut names, mut errors) = (Vec::new(), 0);
    let mut from = Some(Vec::new());
    while let Some(name) = from.take() {
        if let Ok(found) = snapshot.list_from(directory, &name, 1) {
            from = found.first().map(|entry| [&entry.name[..], &[0]].concat());
            names.extend(found.into_iter().map(|entry| entry.name));
        } else {
            errors += 1;
            from = snapshot.past_damage(directory, &name);
        }
    }
    (names, errors)
}

#[test]
fn a_list_continues_after_a_damaged_page() {
    let device = sample();
    let reader = open(&device, Access::Read).unwrap();
    let root = reader.snapshot().commit().slot.roots[TreeId::Names.index()];
    let mut pages = pages(&reader.snapshot(), root.block.unwrap(), root.depth - 1).into_iter();
    let all = pages.next().unwrap().names;
    let directories: Vec<InodeNumber> =
        (0..=all[all.len() - 1].directory.0).map(InodeNumber).collect();
    for page in pages {
        let damaged = open(&with_damage(&device, page.at), Access::Read).unwrap();
        for &directory in &directories {
            let (found, errors) = list_past_damage(&damaged.snapshot(), directory);
            let of_directory = |key: &&NameKey| key.directory == directory;
            let left = all.iter().filter(of_directory).filter(|key| !page.names.contains(key));
            assert!(left.map(|key| &key.name).eq(&found), "{directory:?} {:?}", page.at);
            let is_hit = page.names.iter().any(|key| key.directory == directory);
            assert!(errors >= usize::from(is_hit) && errors <= 1, "{directory:?}: {errors}");
        }
    }
}

#[test]
fn a_damaged_page_of_names_costs_only_its_own_names() {
    let device = sample();
    let reader = open(&device, Access::Read).unwrap();
    let root = reader.snapshot().commit().slot.roots[TreeId::Names.index()];
    assert_eq!(root.depth, 3);
    let mut pages = pages(&reader.snapshot(), root.block.unwrap(), root.depth - 1).into_iter();
    let top = pages.next().unwrap();
    let rootless = open(&with_damage(&device, top.at), Access::Read).unwrap();
    assert_damage(rootless.names().lookup(ROOT, b"a"), &top);
    for page in pages {
        let damaged = with_damage(&device, page.at);
        assert_only_the_page_is_lost(&open(&damaged, Access::Read).unwrap(), &page, &top.names);
        let archive = open(&damaged, Access::Write).unwrap();
        assert_only_the_page_is_lost(&archive, &page, &top.names);
        assert_damage(archive.names().remove(page.names[0].directory, &page.names[0].name), &page);
        archive.rollback().unwrap();
        // Every second one, so that pages become underfull next to the damaged one; then the rest.
        let files = top.names.iter().filter(|key| key.directory != ROOT);
        let files: Vec<&NameKey> = files.filter(|key| !page.names.contains(key)).collect();
        let (even, odd) = (files.iter().step_by(2), files.iter().skip(1).step_by(2));
        for key in even.chain(odd) {
            archive.names().remove(key.directory, &key.name).unwrap();
        }
        archive.commit().unwrap();
        archive.close().unwrap();
        let left: Vec<NameKey> =
            top.names.iter().filter(|key| !files.contains(key)).cloned().collect();
        let archive = open(&damaged, Access::Read).unwrap();
        assert_eq!(archive.statistics().unwrap().names, left.len() as u64);
        assert_only_the_page_is_lost(&archive, &page, &left);
    }
}
