//! Pages forged by an attacker with the key: every call ends and returns an answer or reports
//! damage, without a panic. Iteration ascends. Whatever is flushed afterwards is valid.

use ar7_engine::format::{DEPTH_MAX, DoubledRef, Generation, Position, Root};
use ar7_engine::{Check, Error as EngineError, Value};

use super::*;
use crate::error::Error;
use crate::tree::page::Child;

/// Puts a page with these cells at a position.
fn forge(space: &mut HeapSpace, at: u32, level: u8, cells: &[(&[u8], &[u8])]) -> DoubledRef {
    let mut page = Page::new(TREE, level);
    for (key, value) in cells {
        page.push(key, value);
    }
    space.forge(Position::at(at), &page.to_data())
}

fn leaf(space: &mut HeapSpace, at: u32, keys: &[&str]) -> DoubledRef {
    let cells: Vec<(&[u8], &[u8])> = keys.iter().map(|key| (key.as_bytes(), &[7; 5][..])).collect();
    forge(space, at, 0, &cells)
}

fn branch(
    space: &mut HeapSpace,
    at: u32,
    level: u8,
    children: &[(&str, DoubledRef)],
) -> DoubledRef {
    let children: Vec<(&str, [u8; DoubledRef::SIZE])> =
        children.iter().map(|(key, block)| (*key, Child::Sealed(*block).encode())).collect();
    let cells: Vec<(&[u8], &[u8])> =
        children.iter().map(|(key, child)| (key.as_bytes(), &child[..])).collect();
    forge(space, at, level, &cells)
}

fn root(block: DoubledRef, depth: u8, entries: u64) -> Root {
    Root { block: Some(block), depth, entries }
}

/// Records the check that failed. Only damage and exceeded limits are allowed.
fn note<T>(result: Result<T>, checks: &mut Vec<Check>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Engine(EngineError::Damaged(fault))) => {
            checks.push(fault.check);
            None
        }
        Err(Error::Engine(EngineError::Full { .. })) => None,
        Err(other) => panic!("unexpected error: {other}"),
    }
}

/// Iterates in both directions. The keys must be in strict order, so that the iteration ends.
fn walk(space: &HeapSpace, root: Root, checks: &mut Vec<Check>) {
    let reader = TreeReader::new(TREE, root, space);
    for backwards in [false, true] {
        let range = if backwards { reader.range_back(&[0xff; KEY_MAX]) } else { reader.range(&[]) };
        let Some(range) = note(range, checks) else { continue };
        let mut last: Option<Vec<u8>> = None;
        for entry in range {
            let Some((key, _)) = note(entry, checks) else { continue };
            let ascends = last.is_none_or(|last| if backwards { key < last } else { last < key });
            assert!(ascends, "keys are in order");
            last = Some(key);
        }
    }
}

const PROBES: [&str; 12] = ["", "a", "ab", "b", "c", "k", "l", "m", "n", "x", "y", "zz"];

/// Calls every operation of a tree in many orders. Returns the checks that failed.
fn exercise(space: &HeapSpace, root: Root) -> Vec<Check> {
    let mut checks = Vec::new();
    walk(space, root, &mut checks);
    let reader = TreeReader::new(TREE, root, space);
    for probe in PROBES {
        note(reader.get(probe.as_bytes()), &mut checks);
        note(reader.floor(probe.as_bytes()), &mut checks);
        note(reader.ceiling(probe.as_bytes()), &mut checks);
    }
    for seed in 0..100 {
        change(space.clone(), root, seed, &mut checks);
    }
    checks
}

/// Inserts and removes at random, flushes, and checks the flushed pages.
fn change(mut space: HeapSpace, root: Root, seed: u64, checks: &mut Vec<Check>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut tree = Tree::open(TREE, root);
    for _ in 0..60 {
        let probe = PROBES[random.next_u32() as usize % PROBES.len()].as_bytes();
        let length = [0, 5, 600][random.next_u32() as usize % 3];
        if random.next_u32().is_multiple_of(2) {
            note(tree.remove(&mut space, probe), checks);
        } else {
            note(tree.insert(&mut space, probe, &vec![1; length]), checks);
        }
    }
    let flushed = tree.flush(&mut space).unwrap();
    assert!(flushed.depth <= DEPTH_MAX, "the root can be read");
    let some = (flushed.block.is_some(), flushed.depth > 0, flushed.entries > 0);
    assert!(some == (true, true, true) || some == (false, false, false), "{flushed:?}");
    for block in space.blocks().iter().filter(|block| block.generation.step > 0) {
        let data = space.data(block.position).unwrap();
        let level = data[page_layout::LEVEL.offset];
        let page = Page::parse(block.position, data, PageExpectation { tree: TREE, level });
        assert!(page.is_ok(), "a flushed page is valid: {page:?}");
    }
    walk(&space, flushed, &mut Vec::new());
}

type Make = fn(&mut HeapSpace) -> Root;

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn hostile_trees_are_damage() {
    let shapes: [(&str, Check, Make); 13] = [
        ("a leaf with two parent cells", Check::KeyOrder, |space| {
            let shared = leaf(space, 9, &["a", "b"]);
            root(branch(space, 8, 1, &[("", shared), ("m", shared)]), 2, 4)
        }),
        ("keys below the separator", Check::KeyOrder, |space| {
            let (left, right) = (leaf(space, 9, &["a", "b"]), leaf(space, 10, &["k", "x"]));
            root(branch(space, 8, 1, &[("", left), ("m", right)]), 2, 4)
        }),
        ("keys above the separator", Check::KeyOrder, |space| {
            let (left, right) = (leaf(space, 9, &["a", "n"]), leaf(space, 10, &["m", "x"]));
            root(branch(space, 8, 1, &[("", left), ("m", right)]), 2, 4)
        }),
        ("a neighbour whose keys are prefixes", Check::KeyOrder, |space| {
            let (left, right) = (leaf(space, 9, &["a", "ab"]), leaf(space, 10, &["a", "x"]));
            root(branch(space, 8, 1, &[("", left), ("m", right)]), 2, 4)
        }),
        ("a branch that refers to itself", Check::Page, |space| {
            let generation = Generation { session: 1, step: 0, salt: 0 };
            let itself = reference(Position::at(8), generation);
            root(branch(space, 8, 1, &[("", itself), ("m", itself)]), 2, 4)
        }),
        ("a branch that refers to its neighbour", Check::Page, |space| {
            let low = leaf(space, 11, &["a"]);
            let right = branch(space, 10, 1, &[("", low)]);
            let left = branch(space, 9, 1, &[("", right)]);
            root(branch(space, 8, 2, &[("", left), ("m", right)]), 3, 2)
        }),
        ("one branch below two cells", Check::KeyOrder, |space| {
            let low = leaf(space, 10, &["a"]);
            let shared = branch(space, 9, 1, &[("", low)]);
            root(branch(space, 8, 2, &[("", shared), ("m", shared)]), 3, 2)
        }),
        ("an older page", Check::Generation, |space| {
            let mut child = leaf(space, 9, &["a"]);
            child.generation.step += 1;
            root(branch(space, 8, 1, &[("", child), ("m", child)]), 2, 2)
        }),
        ("a missing page", Check::Generation, |space| {
            let left = leaf(space, 9, &["a", "b"]);
            let right = DoubledRef { position: Position::at(77), ..left };
            root(branch(space, 8, 1, &[("", left), ("m", right)]), 2, 4)
        }),
        ("a number of entries that is too low", Check::Root, |space| {
            let (left, right) = (leaf(space, 9, &["a", "b"]), leaf(space, 10, &["m", "x"]));
            root(branch(space, 8, 1, &[("", left), ("m", right)]), 2, 1)
        }),
        ("a number of entries that is too high", Check::Root, |space| {
            root(leaf(space, 8, &["a"]), 1, 9)
        }),
        ("a number of entries that overflows", Check::Root, |space| {
            root(leaf(space, 8, &["a"]), 1, u64::MAX)
        }),
        ("a full tree of the maximum depth", Check::Generation, |space| {
            let missing = reference(Position::at(999), space.generation());
            // The last name fills the branch to the last byte.
            let length = |name: u8| if name < 12 { 290 } else { 171 };
            let names: Vec<String> = (0..13)
                .map(|name| format!("{}{}", char::from(b'm' + name), "0".repeat(length(name))))
                .collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let mut block = leaf(space, 9, &[&["a"], &names[..12]].concat());
            for level in 1..DEPTH_MAX {
                let mut children = vec![("", block)];
                children.extend(names.iter().map(|name| (*name, missing)));
                block = branch(space, 9 + u32::from(level), level, &children);
            }
            root(block, DEPTH_MAX, 13)
        }),
    ];
    for (name, check, make) in shapes {
        let mut space = HeapSpace::new();
        let root = make(&mut space);
        space.raise_step();
        let checks = exercise(&space, root);
        assert!(checks.contains(&check), "{name}: {checks:?}");
    }
}

/// Otherwise the first child would have no keys, and a merge would seal a page with the same key twice.
#[test]
fn the_second_key_of_a_branch_is_above_the_key_that_leads_to_it() {
    let child = DoubledRef::encode(Some(reference(Position::at(77), Generation::default())));
    let mut page = Page::new(TREE, 1);
    page.push(b"", &child);
    page.push(b"m", &child);
    for page in [page.clone(), page.settled()] {
        let outside = page.key_outside(Some(b"m"), None);
        assert_eq!(outside, Some((&b"m"[..], &b"m"[..])));
        assert_eq!(page.key_outside(Some(b"l"), None), None);
    }
    let mut leaf = Page::new(TREE, 0);
    leaf.push(b"m", &[]);
    assert_eq!(leaf.key_outside(Some(b"m"), None), None);
}

/// Iteration returns the entries before a damaged page, and then the error.
#[test]
fn entries_before_a_damaged_page_are_returned() {
    let mut space = HeapSpace::new();
    let left = leaf(&mut space, 9, &["a", "b"]);
    let right = DoubledRef { position: Position::at(77), ..left };
    let top = branch(&mut space, 8, 1, &[("", left), ("m", right)]);
    let reader = TreeReader::new(TREE, root(top, 2, 4), &space);
    let found: Vec<Option<Vec<u8>>> =
        reader.range(&[]).unwrap().map(|entry| entry.ok().map(|(key, _)| key)).take(10).collect();
    assert_eq!(found, [Some(b"a".to_vec()), Some(b"b".to_vec()), None]);
}

/// Returns the fault that parsing a page reports.
fn fault_of(data: &Data, level: u8) -> (Check, Value, Value) {
    match Page::parse(Position::at(9), data, PageExpectation { level, ..EXPECT }) {
        Err(Error::Engine(EngineError::Damaged(fault))) => {
            (fault.check, fault.expected, fault.found)
        }
        other => panic!("an invalid page parses: {other:?}"),
    }
}

#[test]
fn a_page_with_more_cells_than_fit_is_rejected() {
    let most = DATA_SIZE - page_layout::BODY.offset;
    let mut data: Data = *valid_page(0, 1).to_data();
    for count in [0, most / 2 + 1, most, usize::from(u16::MAX)] {
        page_layout::COUNT.put(&mut data[..], &u16::try_from(count).unwrap().to_be_bytes());
        assert_eq!(fault_of(&data, 0), (Check::Page, (most / 2).into(), count.into()));
    }
    // A directory that fills the page leaves no room for a cell.
    page_layout::COUNT.put(&mut data[..], &u16::try_from(most / 2).unwrap().to_be_bytes());
    assert_eq!(fault_of(&data, 0), (Check::Page, DATA_SIZE.into(), (DATA_SIZE - 9).into()));
}

#[test]
fn a_cell_that_overlaps_the_directory_is_rejected() {
    let directory = page_layout::BODY.offset;
    // The fifth entry of the directory is also the length of the fifth key.
    let begins = [3210, 2412, 1614, 816, directory + 8];
    let mut data: Data = *valid_page(0, 1).to_data();
    data[directory..].fill(0);
    page_layout::COUNT.put(&mut data[..], &5_u16.to_be_bytes());
    for (cell, &begin) in begins.iter().enumerate() {
        data[begin..begin + 2].copy_from_slice(&1_u16.to_be_bytes());
        data[begin + 2] = u8::try_from(cell).unwrap();
        let entry = directory + 2 * cell;
        data[entry..entry + 2].copy_from_slice(&u16::try_from(begin).unwrap().to_be_bytes());
    }
    let start = u16::try_from(begins[4]).unwrap();
    page_layout::CELLS.put(&mut data[..], &start.to_be_bytes());
    assert_eq!(fault_of(&data, 0), (Check::Page, begins[3].into(), start.into()));
}

#[test]
fn a_fault_of_a_cell_states_expected_and_found() {
    let page = |level: u8, cells: &[(&[u8], &[u8])]| {
        let mut page = Page::new(EXPECT.tree, level);
        for (key, value) in cells {
            page.push(key, value);
        }
        *page.to_data()
    };
    let value = [7; CELL_MAX];
    assert!(Page::parse(Position::at(9), &page(0, &[(b"", &value)]), EXPECT).is_ok());
    let too_long = fault_of(&page(0, &[(b"k", &value)]), 0);
    assert_eq!(too_long, (Check::Page, CELL_MAX.into(), (CELL_MAX + 1).into()));
    let keys = |key: &[u8]| Value::Bytes(key.to_vec());
    let out_of_order = fault_of(&page(0, &[(b"a", b""), (b"c", b""), (b"b", b"")]), 0);
    assert_eq!(out_of_order, (Check::KeyOrder, keys(b"c"), keys(b"b")));
    let no_child = fault_of(&page(1, &[(b"", &DoubledRef::encode(None))]), 1);
    assert_eq!(no_child, (Check::Page, "two positions".into(), (-1).into()));
}
