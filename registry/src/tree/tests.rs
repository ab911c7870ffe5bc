//! The tree agrees with a `BTreeMap` after any operations, flushes and reopenings, at real page
//! sizes. Its pages stay well filled. Invalid pages are rejected. A failed operation changes
//! nothing.

use std::collections::BTreeMap;

use ar7_engine::format::{DATA_SIZE, Data, DoubledRef, Generation, Position, Root};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

use super::page::{Key, beginning};
use super::testing::{HeapSpace, reference};
use super::*;
use crate::error::Result;

const TREE: TreeNumber = TreeNumber(5);

mod failures;
mod hostile;
mod prefix;
mod shape;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

const LAST_KEY: [u8; KEY_MAX] = [0xff; KEY_MAX];

/// Compares the results of every query of a working tree with the model.
fn assert_equal(tree: &Tree, space: &HeapSpace, model: &Model, probes: &[Vec<u8>]) {
    let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
    assert_eq!(tree.entries(), model.len() as u64);
    let forwards = tree.range(space, &[]).unwrap().map(Result::unwrap);
    assert!(forwards.eq(model.iter().map(owned)));
    let backwards = tree.range_back(space, &LAST_KEY).unwrap().map(Result::unwrap);
    assert!(backwards.eq(model.iter().rev().map(owned)));
    for probe in probes {
        assert_eq!(tree.get(space, probe).unwrap(), model.get(probe).cloned());
        let floor = model.range(..=probe.clone()).next_back().map(owned);
        assert_eq!(tree.floor(space, probe).unwrap(), floor);
        let ceiling = model.range(probe.clone()..).next().map(owned);
        assert_eq!(tree.ceiling(space, probe).unwrap(), ceiling);
    }
}

/// Compares the results of every query of a committed tree with the model.
fn assert_committed(root: Root, space: &HeapSpace, model: &Model, probes: &[Vec<u8>]) {
    assert_equal(&Tree::open(TREE, root), space, model, probes);
    let reader = TreeReader::new(TREE, root, space);
    for probe in probes {
        let owned = |(key, value): (&Vec<u8>, &Vec<u8>)| (key.clone(), value.clone());
        assert_eq!(reader.get(probe).unwrap(), model.get(probe).cloned());
        let before = reader.range_back(probe).unwrap().map(Result::unwrap).take(3);
        assert!(before.eq(model.range(..=probe.clone()).rev().map(owned).take(3)));
        assert_eq!(
            reader.floor(probe).unwrap(),
            model.range(..=probe.clone()).next_back().map(owned)
        );
        let after = reader.range(probe).unwrap().map(Result::unwrap).take(3);
        assert!(after.eq(model.range(probe.clone()..).map(owned).take(3)));
        assert_eq!(reader.ceiling(probe).unwrap(), model.range(probe.clone()..).next().map(owned));
    }
}

/// Runs seeded operations with keys from `any_key`, and flushes and reopens the tree now and then.
fn check_against_model(
    seed: u64,
    operations: u32,
    any_key: impl Fn(&mut ChaCha8Rng) -> Vec<u8>,
    value_max: u32,
) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut space, mut model) = (HeapSpace::new(), Model::new());
    let mut tree = Tree::open(TREE, Root::default());
    // The share of removals alternates, so that the tree repeatedly grows and shrinks to nothing.
    for operation in 0..operations {
        let growing = (operation / (operations / 8).max(1)).is_multiple_of(2);
        let removals = if growing { 2 } else { 7 };
        let key = any_key(&mut random);
        if random.next_u32() % 10 < removals {
            assert_eq!(tree.remove(&mut space, &key).unwrap(), model.remove(&key));
        } else {
            let length = random.next_u32() % (value_max + 1);
            let value = vec![random.next_u32().to_le_bytes()[0]; length as usize];
            let before = tree.insert(&mut space, &key, &value).unwrap();
            assert_eq!(before, model.insert(key, value));
        }
        if random.next_u32().is_multiple_of(3_000) {
            let root = tree.flush(&mut space).unwrap();
            space.raise_step();
            tree = Tree::open(TREE, root);
        }
        if operation.is_multiple_of(operations / 10) {
            let probes: Vec<Vec<u8>> = (0..50).map(|_| any_key(&mut random)).collect();
            assert_equal(&tree, &space, &model, &probes);
        }
    }
    let probes: Vec<Vec<u8>> = (0..200).map(|_| any_key(&mut random)).collect();
    let root = tree.flush(&mut space).unwrap();
    assert_committed(root, &space, &model, &probes);
    for key in model.keys() {
        assert!(tree.remove(&mut space, key).unwrap().is_some());
    }
    assert_eq!((tree.entries(), tree.dirty_pages()), (0, 0));
    assert_eq!(space.used(), 0, "an empty tree keeps no page");
}

#[test]
fn a_tree_agrees_with_a_map_for_colliding_keys_of_eight_bytes() {
    check_against_model(
        1,
        500_000,
        |random| (random.next_u32() % 20_000).to_be_bytes().to_vec(),
        60,
    );
}

#[test]
fn a_tree_agrees_with_a_map_for_colliding_keys_of_any_length() {
    let key = |random: &mut ChaCha8Rng| {
        let length = random.next_u32() % 40;
        (0..length).map(|_| random.next_u32().to_le_bytes()[0] % 3).collect()
    };
    check_against_model(2, 400_000, key, 40);
}

#[test]
fn a_tree_agrees_with_a_map_for_colliding_keys_with_the_longest_cells() {
    let key = |random: &mut ChaCha8Rng| {
        let number = random.next_u32() % 3000;
        let length = 4 + number as usize % (KEY_MAX - 3);
        let mut key = vec![b'k'; length];
        key[length - 4..].copy_from_slice(&number.to_be_bytes());
        key
    };
    check_against_model(3, 150_000, key, u32::try_from(CELL_MAX - KEY_MAX).unwrap());
}

#[test]
fn ascending_insertions_leave_full_pages() {
    let (mut space, mut tree) = (HeapSpace::new(), Tree::open(TREE, Root::default()));
    for number in 0..200_000_u128 {
        tree.insert(&mut space, &(number << 64).to_be_bytes(), &[7; 51]).unwrap();
    }
    let root = tree.flush(&mut space).unwrap();
    // A cell takes 71 bytes, of which most pages store 6 once, so 61 cells fit a page.
    let least = 200_000_usize.div_ceil(61);
    assert!(space.used() <= least + least / 50, "{} pages for {least}", space.used());
    let reader = TreeReader::new(TREE, root, &space);
    for number in 0..200_000_u128 {
        assert!(reader.get(&(number << 64).to_be_bytes()).unwrap().is_some(), "{number} is lost");
    }
}

#[test]
fn a_tree_keeps_200_000_names_inserted_in_random_order() {
    let (mut space, mut tree) = (HeapSpace::new(), Tree::open(TREE, Root::default()));
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut model = Model::new();
    for number in 0..200_000_u32 {
        let mut key = u64::from(random.next_u32() % 5000).to_be_bytes().to_vec();
        key.extend(format!("{number:x}-{:0width$}", 0, width = number as usize % 240).into_bytes());
        let value = [&u64::from(number).to_be_bytes()[..], &[1]].concat();
        assert_eq!(tree.insert(&mut space, &key, &value).unwrap(), None);
        model.insert(key, value);
    }
    let root = tree.flush(&mut space).unwrap();
    let mut tree = Tree::open(TREE, root);
    let entries = tree.range(&space, &[]).unwrap().map(Result::unwrap);
    assert!(entries.eq(model.iter().map(|(key, value)| (key.clone(), value.clone()))));
    for (key, value) in model {
        assert_eq!(tree.remove(&mut space, &key).unwrap(), Some(value));
    }
    assert_eq!(space.used(), 0);
}

#[test]
fn a_key_or_entry_over_the_limit_is_refused() {
    let (mut space, mut tree) = (HeapSpace::new(), Tree::open(TREE, Root::default()));
    assert!(tree.insert(&mut space, &[0; KEY_MAX + 1], &[]).is_err());
    assert!(tree.insert(&mut space, &[0], &[0; CELL_MAX]).is_err());
    assert_eq!(tree.dirty_pages(), 0);
}

const EXPECT: PageExpectation = PageExpectation { tree: TREE, level: 0 };

fn valid_page(level: u8, count: usize) -> Page {
    let block = reference(Position::at(77), Generation::default());
    let value = if level == 0 { vec![9; 5] } else { DoubledRef::encode(Some(block)).to_vec() };
    let mut page = Page::new(TREE, level);
    for cell in 0..count {
        let key = [u8::try_from(cell).unwrap(), 1];
        page.push(if level > 0 && cell == 0 { &[] } else { &key }, &value);
    }
    page
}

/// Checks that a page that parses can be read completely and encodes to the same bytes. Returns
/// whether it parses.
fn check_parsed(data: &Data, level: u8) -> bool {
    let expect = PageExpectation { level, ..EXPECT };
    let Ok(page) = Page::parse(Position::at(9), data, expect) else { return false };
    let mut again = Page::new(TREE, level);
    for cell in 0..page.count() {
        again.push(page.key(cell), page.value(cell));
        assert_eq!(page.search(page.key(cell)), Ok(cell));
        if page.is_branch() {
            page.child_block(cell);
        }
    }
    assert_eq!(&*again.to_data(), data);
    true
}

proptest! {
    #[test]
    fn any_bytes_parse_or_are_rejected(
        count in 1_usize..60,
        changes in prop::collection::vec((0..DATA_SIZE, any::<u8>()), 0..6),
        level in 0_u8..3,
    ) {
        let mut data: Data = *valid_page(level, count).to_data();
        for (at, byte) in changes {
            data[at] = byte;
        }
        check_parsed(&data, level);
    }
}

/// Flips every bit of a page.
#[test]
fn a_page_with_one_changed_byte_parses_or_is_rejected() {
    for level in [0, 1] {
        let valid = *valid_page(level, 40).to_data();
        assert!(check_parsed(&valid, level));
        let mut accepted = 0;
        for at in 0..DATA_SIZE {
            for change in [0x01, 0x80, 0xff, 0x40] {
                let mut data = valid;
                data[at] ^= change;
                accepted += usize::from(check_parsed(&data, level));
            }
        }
        // Keys and values may change. Everything else is checked.
        let cells: usize =
            (0..40).map(|_| if level == 0 { 5 + 2 } else { DoubledRef::SIZE + 2 }).sum();
        assert!(accepted > 0 && accepted <= cells * 4, "{accepted} accepted");
    }
}

#[test]
fn a_page_of_another_tree_or_level_is_rejected() {
    let data = *valid_page(0, 3).to_data();
    assert!(Page::parse(Position::at(9), &data, EXPECT).is_ok());
    let others = [
        PageExpectation { tree: TreeNumber(TREE.0 + 1), ..EXPECT },
        PageExpectation { level: 1, ..EXPECT },
    ];
    for expect in others {
        assert!(Page::parse(Position::at(9), &data, expect).is_err());
    }
    assert!(Page::parse(Position::at(9), &[0; DATA_SIZE], EXPECT).is_err());
}

#[test]
fn relocation_moves_pages_beyond_a_limit_and_keeps_every_entry() {
    let mut space = HeapSpace::new();
    let mut tree = Tree::open(TREE, Root::default());
    let mut model = Model::new();
    for number in 0..60_000_u64 {
        let key = number.to_be_bytes().to_vec();
        tree.insert(&mut space, &key, &[7; 51]).unwrap();
        model.insert(key, vec![7; 51]);
    }
    let root = tree.flush(&mut space).unwrap();
    assert!(root.depth >= 3);
    space.raise_step();
    let mut tree = Tree::open(TREE, root);
    let pages = space.used();
    let limit = u32::try_from(pages).unwrap() / 2;
    let beyond = pages - usize::try_from(limit).unwrap();
    let is_beyond = |at: DoubledRef| at.position.get() >= limit;
    for _ in 0..2 {
        let moved = tree.relocate(&mut space, &is_beyond, 10, u32::MAX);
        assert_eq!(moved, 10, "no more than requested");
    }
    let moved = 20 + tree.relocate(&mut space, &is_beyond, usize::MAX, u32::MAX);
    // The branches above a moved page move too.
    assert!((beyond..beyond + 10).contains(&moved), "{moved} pages moved of {beyond}");
    tree.flush(&mut space).unwrap();
    assert_eq!(space.used(), pages);
    assert_equal(&tree, &space, &model, &[]);
    let is_far_beyond = |at: DoubledRef| at.position.get() >= limit * 4;
    assert_eq!(tree.relocate(&mut space, &is_far_beyond, 10, u32::MAX), 0);
}

/// Entries are removed at random, so that every leaf keeps a few. Filled leaves are as many as those of a new tree.
#[test]
fn filled_leaves_are_as_few_as_those_of_a_new_tree_with_every_entry() {
    for (step, value) in [(10_u64, 51), (3, 300), (10, 900), (2, 51), (2, 900), (2, 700)] {
        let mut space = HeapSpace::new();
        let mut tree = Tree::open(TREE, Root::default());
        for number in 0..30_000_u64 {
            tree.insert(&mut space, &number.to_be_bytes(), &vec![7; value]).unwrap();
        }
        let root = tree.flush(&mut space).unwrap();
        space.raise_step();
        let (mut tree, mut model) = (Tree::open(TREE, root), Model::new());
        let (mut fresh, mut fresh_space) = (Tree::open(TREE, Root::default()), HeapSpace::new());
        for number in 0..30_000_u64 {
            let key = number.to_be_bytes();
            if number * number % 101 % step == 0 {
                fresh.insert(&mut fresh_space, &key, &vec![7; value]).unwrap();
                model.insert(key.to_vec(), vec![7; value]);
            } else {
                tree.remove(&mut space, &key).unwrap();
            }
        }
        fresh.flush(&mut fresh_space).unwrap();
        let root = tree.flush(&mut space).unwrap();
        let before = space.used();
        for _ in 0..2 {
            space.raise_step();
            tree = Tree::open(TREE, root_of(&tree));
            let mut key = Some(Zeroizing::new(Vec::new()));
            let mut calls = 0;
            while let Some(from) = key {
                key = tree.fill_leaf(&mut space, &from).unwrap();
                calls += 1;
                assert!(calls <= before, "a key comes again");
            }
            tree.flush(&mut space).unwrap();
            assert_equal(&tree, &space, &model, &[]);
        }
        let (after, new) = (space.used(), fresh_space.used());
        println!("every {step}th of {value} bytes: {before} -> {after}, new {new}, was {root:?}");
        assert!(after <= new + new / 20 + 2, "{before} -> {after}, new {new}");
        // Nothing changes any more.
        let mut key = Some(Zeroizing::new(Vec::new()));
        tree = Tree::open(TREE, root_of(&tree));
        while let Some(from) = key {
            key = tree.fill_leaf(&mut space, &from).unwrap();
        }
        assert!(tree.dirty_pages() <= after / 20, "{} of {after}", tree.dirty_pages());
    }
}

fn root_of(tree: &Tree) -> Root {
    assert_eq!(tree.dirty_pages(), 0);
    tree.root()
}

#[test]
fn relocation_reads_a_bounded_number_of_branches() {
    let mut space = HeapSpace::new();
    let mut tree = Tree::open(TREE, Root::default());
    for number in 0..20_000_u64 {
        tree.insert(&mut space, &number.to_be_bytes(), &[7; 51]).unwrap();
    }
    let root = tree.flush(&mut space).unwrap();
    assert_eq!(root.depth, 3);
    let all = space.used();
    // The root, then its first child.
    let moved = [(1, 4), (2, all * 3 / 4)].map(|(branches, at_most)| {
        let mut tree = Tree::open(TREE, root);
        let moved = tree.relocate(&mut space.clone(), &|_| true, usize::MAX, branches);
        assert!(moved <= at_most, "{moved} of {all} pages moved with {branches} branches");
        moved
    });
    assert!(moved[0] > 1 && moved[1] > moved[0], "{moved:?}");
}

#[test]
fn a_search_for_pages_continues_where_it_stopped() {
    let mut space = HeapSpace::new();
    let mut tree = Tree::open(TREE, Root::default());
    for number in 0..60_000_u64 {
        tree.insert(&mut space, &number.to_be_bytes(), &[7; 51]).unwrap();
    }
    let root = tree.flush(&mut space).unwrap();
    assert!(root.depth >= 3);
    space.raise_step();
    let all = space.used();
    // Whatever stops a search, the branches that it may read or the pages that it may take, the next one gets further.
    for (most, branches) in [(usize::MAX, 2), (40, 2), (7, u32::MAX), (1, 2)] {
        let (mut space, mut start) = (space.clone(), SearchStart::default());
        let mut tree = Tree::open(TREE, root);
        let (mut searches, mut moved) = (0, 0);
        loop {
            let took = tree.relocate_from(&mut start, &mut space, &|_| true, most, branches);
            moved += took;
            searches += 1;
            assert!(took <= most.saturating_add(3), "{took} pages at once");
            if start == SearchStart::default() && took == 0 {
                break;
            }
            assert!(searches < 3000, "{moved} pages moved in {searches} searches");
        }
        assert_eq!(moved, all, "{most} {branches}");
        assert!(searches > 2, "{searches}");
    }
}

#[test]
fn the_beginning_of_a_key_is_its_first_eight_bytes_padded_with_zeros() {
    for length in 0..12 {
        let key: Vec<u8> = (0xa1..).take(length).collect();
        let mut first = [0; 8];
        first[..length.min(8)].copy_from_slice(&key[..length.min(8)]);
        assert_eq!(beginning(&key), u64::from_be_bytes(first), "{key:?}");
    }
}

#[test]
fn evenly_spread_keys_are_found_at_the_first_guess() {
    let key = |number: u128| (number << 96).to_be_bytes();
    for level in [0, 1] {
        let mut page = Page::new(TREE, level);
        for number in 1..40 {
            let key = if level > 0 && number == 1 { Vec::new() } else { key(number).to_vec() };
            page.push(&key, &[7; DoubledRef::SIZE]);
        }
        assert_eq!(page.guess(Key::new(&key(9)), 39), None, "the page may still be changed");
        let page = page.settled();
        let first = 1 + usize::from(level);
        for number in 0..60_u8 {
            let place = usize::from(number).clamp(first, 39) - 1;
            assert_eq!(page.guess(Key::new(&key(number.into())), 39), Some(place));
        }
    }
    let mut page = Page::new(TREE, 0);
    page.push(&key(1), b"value");
    assert_eq!(page.settled().guess(Key::new(&key(1)), 1), None, "one cell needs no guess");
}

/// Returns keys with common prefixes, with trailing zeros, or that are prefixes of others. Their
/// first bytes hardly distinguish them.
fn any_hard_key() -> impl Strategy<Value = Vec<u8>> {
    let end = prop::collection::vec(prop_oneof![Just(0), Just(1), any::<u8>()], 0..12);
    let beginning = prop_oneof![Just(0), Just(3), Just(7), Just(8), Just(16)];
    (beginning, end).prop_map(|(length, end)| [vec![5; length], end].concat())
}

proptest! {
    /// A page finds every key that it has and the place of every other key, whether or not it knows
    /// its first and last key.
    #[test]
    fn a_search_in_a_page_agrees_with_a_sorted_list(
        keys in prop::collection::btree_set(any_hard_key(), 1..60),
        probes in prop::collection::vec(any_hard_key(), 1..20),
    ) {
        let keys: Vec<Vec<u8>> = keys.into_iter().collect();
        let mut page = Page::new(TREE, 0);
        for key in &keys {
            page.push(key, b"value");
        }
        let settled = page.clone().settled();
        for probe in keys.iter().chain(&probes) {
            let expected = keys.binary_search(probe);
            prop_assert_eq!(page.search(probe), expected);
            prop_assert_eq!(settled.search(probe), expected);
            for (low, high) in [(Some(&probe[..]), None), (None, Some(&probe[..]))] {
                let below = low.filter(|&low| keys[0][..] < *low).map(|low| (low, &keys[0][..]));
                let last = &keys[keys.len() - 1][..];
                let expected = below.or(high.filter(|&high| last >= high).map(|high| (high, last)));
                prop_assert_eq!(page.key_outside(low, high), expected);
                prop_assert_eq!(settled.key_outside(low, high), expected);
            }
        }
    }
}
