//! Initial inputs for the targets that decode one structure: the structures of the golden archives.

use ar7_engine::format::{header_layout, key_slot_layout, meta_slot_layout, plain};
use ar7_registry::records::{InodeNumber, TreeId};
use ar7_registry::tree::{Page, PageExpectation, page_layout};

use crate::golden::{Golden, OpenedBlock, Part, goldens};
use crate::name_parse::name_input;

/// Key of the root directory.
const ROOT: [u8; 8] = InodeNumber::ROOT.0.to_be_bytes();

/// Maximum number of inputs of one kind.
const MANY: usize = 4;

/// Returns the bytes without trailing zeros, which the targets add again.
fn trimmed(bytes: &[u8]) -> Vec<u8> {
    let used = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    bytes[..used].to_vec()
}

fn distinct(mut seeds: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    seeds.sort_by_key(Vec::len);
    seeds.dedup();
    let step = seeds.len().div_ceil(MANY).max(1);
    seeds.into_iter().step_by(step).collect()
}

fn of_part(part: Part) -> impl Iterator<Item = (&'static Golden, &'static OpenedBlock)> {
    goldens().iter().flat_map(move |golden| golden.of_part(part).map(move |block| (golden, block)))
}

/// Returns the key and value of each record of a tree.
fn records(tree: TreeId) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    for (_, page) in of_part(Part::Page) {
        let data = page.data();
        let is_leaf = data[page_layout::LEVEL.offset] == 0;
        if usize::from(data[page_layout::TREE.offset]) != tree.index() || !is_leaf {
            continue;
        }
        let expect = PageExpectation { tree: tree.number(), level: 0 };
        let data = data.try_into().expect("the data of a block");
        let page = Page::parse(page.position, data, expect).expect("a good page");
        for cell in 0..page.count() {
            records.push((page.key(cell).to_vec(), page.value(cell).to_vec()));
        }
    }
    records
}

pub(crate) fn blocks() -> Vec<Vec<u8>> {
    let heads = of_part(Part::Data).map(|(_, block)| {
        let head = &block.plaintext[..plain::DATA.offset];
        [&block.position.get().to_be_bytes()[..], head].concat()
    });
    distinct(heads.collect())
}

pub(crate) fn headers() -> Vec<Vec<u8>> {
    let fields = |golden: &Golden| trimmed(&golden.header()[..header_layout::MAC.offset]);
    distinct(goldens().iter().map(fields).collect())
}

pub(crate) fn key_slots() -> Vec<Vec<u8>> {
    let slots = goldens().iter().map(|golden| {
        let header = golden.header();
        trimmed(&header_layout::SLOTS.of(&header)[..key_slot_layout::SIZE])
    });
    distinct(slots.collect())
}

pub(crate) fn meta_slots() -> Vec<Vec<u8>> {
    distinct(of_part(Part::Slot).map(|(_, block)| trimmed(block.data())).collect())
}

pub(crate) fn pages() -> Vec<Vec<u8>> {
    distinct(of_part(Part::Page).map(|(_, block)| block.data().to_vec()).collect())
}

pub(crate) fn redo_blocks() -> Vec<Vec<u8>> {
    let blocks = of_part(Part::Redo).map(|(golden, block)| {
        let newest = golden.of_part(Part::Slot).last().expect("there are slots");
        let count = meta_slot_layout::BLOCK_COUNT.of(newest.data());
        [count, &trimmed(block.data())].concat()
    });
    distinct(blocks.collect())
}

pub(crate) fn stream_records() -> Vec<Vec<u8>> {
    // The key is the identity, with which the record begins elsewhere.
    let streams = records(TreeId::Streams).into_iter();
    distinct(streams.map(|(key, value)| [key, value].concat()).collect())
}

pub(crate) fn extents() -> Vec<Vec<u8>> {
    let extents = records(TreeId::Extents).into_iter();
    distinct(extents.map(|(key, value)| [key, value].concat()).collect())
}

pub(crate) fn inodes() -> Vec<Vec<u8>> {
    // The root is the only directory without a parent, which the target would reject.
    let others = records(TreeId::Inodes).into_iter().filter(|(key, _)| *key != ROOT);
    distinct(others.map(|(_, value)| value).collect())
}

pub(crate) fn names() -> Vec<Vec<u8>> {
    let names = records(TreeId::Names).into_iter();
    distinct(names.map(|(key, value)| name_input(&key, &value)).collect())
}

/// Returns inputs for a tree with forged pages: honest, with a changed byte, with a cell beyond the page, and with
/// swapped pages and children.
pub(crate) fn forged_trees() -> Vec<Vec<u8>> {
    let operations: Vec<u8> = (0..=255).collect();
    let with = |begin: &[u8]| [begin, &operations].concat();
    vec![
        with(&[1, 44, 0, 0, 3, 100]),
        with(&[1, 44, 3, 1, 2, 0, 0, 0, 9, 77, 3, 100]),
        with(&[1, 44, 3, 1, 2, 0, 0, 255, 0, 14, 3, 100]),
        with(&[1, 144, 5, 2, 1, 3, 1, 2, 1, 2, 1, 5, 3, 60]),
    ]
}

#[cfg(test)]
mod tests {
    use crate::{
        extent_parse, header_parse, inode_parse, key_slot_parse, meta_slot_parse, name_parse,
        page_parse, redo_parse, stream_record_parse,
    };

    type Case = (fn() -> Vec<Vec<u8>>, fn(&[u8]) -> bool);

    #[test]
    fn every_structure_of_the_golden_archives_is_accepted() {
        let cases: [Case; 9] = [
            (super::headers, header_parse),
            (super::key_slots, key_slot_parse),
            (super::meta_slots, meta_slot_parse),
            (super::pages, page_parse),
            (super::redo_blocks, redo_parse),
            (super::stream_records, stream_record_parse),
            (super::extents, extent_parse),
            (super::inodes, inode_parse),
            (super::names, name_parse),
        ];
        for (number, (seeds, parse)) in cases.into_iter().enumerate() {
            let seeds = seeds();
            assert!((1..=super::MANY).contains(&seeds.len()), "{} of case {number}", seeds.len());
            assert!(seeds.iter().all(|seed| parse(seed)), "case {number}");
        }
    }
}
