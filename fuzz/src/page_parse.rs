//! Decoding of a registry page from arbitrary data.

use ar7_engine::format::{DATA_SIZE, Position};
use ar7_registry::records::TreeId;
use ar7_registry::tree::{Page, PageExpectation, page_layout};

use crate::bytes::padded;

/// Decodes `bytes` as a page of the tree and level that it states. Returns whether it was accepted.
///
/// # Panics
/// If decoding panics, or if the cells overlap, do not fill the page as far as it states, or are not in ascending
/// order.
pub fn page_parse(bytes: &[u8]) -> bool {
    let data = padded::<DATA_SIZE>(bytes);
    let tree = usize::from(data[page_layout::TREE.offset]) % TreeId::ALL.len();
    let level = data[page_layout::LEVEL.offset];
    let expect = PageExpectation { tree: TreeId::ALL[tree].number(), level };
    let Ok(page) = Page::parse(Position::at(9), &data, expect) else { return false };
    assert_eq!(*page.to_data(), data, "a page equals its bytes");
    let cells: Vec<(&[u8], &[u8])> =
        (0..page.count()).map(|cell| (page.key(cell), page.value(cell))).collect();
    assert!(cells.is_sorted_by(|one, two| one.0 < two.0), "keys ascend");
    let prefix = usize::from(data[page_layout::PREFIX.offset]);
    let rest = |key: &[u8]| key.len() - prefix.min(key.len());
    let used: usize = cells.iter().map(|(key, value)| 2 + rest(key) + value.len()).sum();
    let start = usize::from(page_layout::CELLS.u16(&data[..]));
    assert_eq!(start + used + prefix, DATA_SIZE, "cells are packed at the end of the page");
    for cell in (0..page.count()).filter(|_| page.is_branch()) {
        // This panics if decoding did not check the child.
        page.child_block(cell);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::check_mutations;
    use ar7_engine::format::{DoubledRef, Generation};

    /// Returns a hand-written page of these cells.
    fn page(tag: u8, level: u8, cells: &[(&[u8], Vec<u8>)]) -> Vec<u8> {
        let mut data = vec![0; DATA_SIZE];
        let mut end = DATA_SIZE;
        for (number, (key, value)) in cells.iter().enumerate() {
            let length = u16::try_from(key.len()).unwrap().to_be_bytes();
            let cell = [&length[..], key, value].concat();
            data[end - cell.len()..end].copy_from_slice(&cell);
            end -= cell.len();
            let at = page_layout::BODY.offset + 2 * number;
            data[at..at + 2].copy_from_slice(&u16::try_from(end).unwrap().to_be_bytes());
        }
        page_layout::TAG.put(&mut data, &[tag]);
        page_layout::LEVEL.put(&mut data, &[level]);
        let count = u16::try_from(cells.len()).unwrap();
        page_layout::COUNT.put(&mut data, &count.to_be_bytes());
        page_layout::CELLS.put(&mut data, &u16::try_from(end).unwrap().to_be_bytes());
        data
    }

    #[test]
    fn any_leaf_is_accepted_or_rejected() {
        let keys: Vec<Vec<u8>> = (0..100_u8).map(|number| vec![number, 7, 7]).collect();
        let cells: Vec<(&[u8], Vec<u8>)> = keys.iter().map(|key| (&key[..], vec![9; 30])).collect();
        check_mutations(&page(1, 0, &cells), 0x6c65_6166, page_parse);
    }

    #[test]
    fn any_branch_is_accepted_or_rejected() {
        let generation = Generation { session: 1, step: 2, salt: 3 };
        let child = |number: u8| {
            let position = Position::at(100 + u32::from(number));
            let copy = Position::at(position.get() + 300);
            DoubledRef::encode(Some(DoubledRef { position, copy, generation })).to_vec()
        };
        let keys: Vec<Vec<u8>> = (1..150_u8).map(|number| vec![number]).collect();
        let mut cells: Vec<(&[u8], Vec<u8>)> = vec![(&[], child(0))];
        cells.extend(keys.iter().map(|key| (&key[..], child(key[0]))));
        check_mutations(&page(2, 3, &cells), 0x6272_616e, page_parse);
    }
}
