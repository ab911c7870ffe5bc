//! What all keys of a page begin with is stored once.

use super::*;
use crate::error::Error;
use crate::tree::page::{CAPACITY, PREFIX_MAX};
use ar7_engine::{Check, Error as EngineError};

/// Returns a page of as many of these cells as fit.
fn page_of(level: u8, keys: &[Vec<u8>], value: &[u8]) -> Page {
    let mut page = Page::new(TREE, level);
    for key in keys {
        if page.fits(page.count(), key, value) {
            page.push(key, value);
        }
    }
    page
}

fn expect(level: u8) -> PageExpectation {
    PageExpectation { level, ..EXPECT }
}

/// Checks that a page decodes to the same cells, and takes the bytes that it states. Returns the data.
fn check(page: &Page) -> Data {
    let data = *page.to_data();
    let again = Page::parse(Position::at(9), &data, expect(page.level())).unwrap();
    assert_eq!(again.count(), page.count());
    for cell in 0..page.count() {
        assert_eq!((again.key(cell), again.value(cell)), (page.key(cell), page.value(cell)));
    }
    assert_eq!(*again.to_data(), data);
    let lowest = usize::from(page_layout::CELLS.u16(&data));
    assert_eq!(page.used(), DATA_SIZE - lowest + 2 * page.count());
    assert!(page.used() <= CAPACITY);
    data
}

#[test]
fn keys_of_one_directory_take_only_their_rests() {
    let keys: Vec<Vec<u8>> =
        (0..400_u32).map(|number| format!("directory/{number:04}").into_bytes()).collect();
    let page = page_of(0, &keys, b"value");
    // 4 bytes for each cell in addition to the rest of 3 digits and the value.
    assert_eq!(page.count(), (CAPACITY - 11) / (4 + 3 + 5));
    let data = check(&page);
    assert_eq!(page_layout::PREFIX.array(&data), [11]);
    assert_eq!(data[DATA_SIZE - 11..], *b"directory/0");
}

#[test]
fn a_prefix_has_at_most_64_bytes_and_needs_two_keys() {
    let key = |last: u8| [&[b'k'; 200][..], &[last]].concat();
    let page = page_of(0, &[key(1), key(2)], b"");
    assert_eq!(page_layout::PREFIX.array(&check(&page)), [64]);
    assert_eq!(page_layout::PREFIX.array(&check(&page_of(0, &[key(1)], b""))), [0]);
    let child = DoubledRef::encode(Some(reference(Position::at(77), Generation::default())));
    // The first key of a branch is empty.
    let page = page_of(1, &[Vec::new(), key(1), key(2)], &child);
    assert_eq!(page_layout::PREFIX.array(&check(&page)), [64]);
    let page = page_of(1, &[Vec::new(), key(1)], &child);
    assert_eq!(page_layout::PREFIX.array(&check(&page)), [0]);
}

/// Each list of cells has one layout: a page whose prefix is longer or shorter than that is rejected.
#[test]
fn a_page_with_another_prefix_is_rejected() {
    let rejected = |data: &Data| match Page::parse(Position::at(9), data, EXPECT) {
        Err(Error::Engine(EngineError::Damaged(fault))) => fault.check,
        other => panic!("{other:?}"),
    };
    // Two cells without a prefix, although both keys begin with "ab".
    let mut data = [0; DATA_SIZE];
    data[DATA_SIZE - 10..].copy_from_slice(b"\0\x03abd\0\x03abc");
    page_layout::TAG.put(&mut data, &[1]);
    page_layout::TREE.put(&mut data, &[TREE.0]);
    page_layout::COUNT.put(&mut data, &[0, 2]);
    let offsets =
        [DATA_SIZE - 5, DATA_SIZE - 10].map(|at| u16::try_from(at).unwrap().to_be_bytes());
    data[page_layout::BODY.offset..][..4].copy_from_slice(&offsets.concat());
    page_layout::CELLS.put(&mut data, &offsets[1]);
    assert_eq!(rejected(&data), Check::Page);
    let mut data = *page_of(0, &[vec![b'a'; 70], vec![b'a'; 71]], b"").to_data();
    assert_eq!(page_layout::PREFIX.array(&data), [64]);
    for length in 65..=u8::MAX {
        page_layout::PREFIX.put(&mut data, &[length]);
        assert_eq!(rejected(&data), Check::Page, "{length}");
    }
}

proptest! {
    #[test]
    fn any_cells_decode_to_themselves(
        keys in prop::collection::btree_set(any_hard_key(), 1..300),
        more in prop::collection::vec(any_hard_key(), 0..40),
        removed in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        value in 0_usize..40,
    ) {
        let keys: Vec<Vec<u8>> = keys.into_iter().collect();
        let value = vec![7; value];
        let mut page = page_of(0, &keys, &value);
        check(&page);
        for (key, removed) in more.iter().zip(removed) {
            if page.count() > 1 {
                page.remove(removed.index(page.count()));
                check(&page);
            }
            if let Err(place) = page.search(key) && page.fits(place, key, &value) {
                page.insert(place, key, &value);
                check(&page);
                prop_assert_eq!(page.search(key), Ok(place));
            }
        }
    }
}

/// Pages have hundreds of keys with a long prefix. Keys at both ends of a page, which do not begin with it, split it.
#[test]
fn keys_without_the_prefix_of_a_full_page_split_it() {
    let long = |number: u16| [&[b'k'; PREFIX_MAX][..], &number.to_be_bytes()].concat();
    for first in [&b"a"[..], b"z", b"kk", &[b'k'; PREFIX_MAX], &[b'k'; 65], &[b'l'; 300]] {
        let (mut space, mut tree) = (HeapSpace::new(), Tree::open(TREE, Root::default()));
        let mut model = Model::new();
        let numbers = (0..2000).step_by(2).chain([1, 777, 1501, 1999]);
        let keys = numbers.map(long).chain([first.to_vec(), b"b".to_vec(), b"y".to_vec()]);
        for key in keys {
            tree.insert(&mut space, &key, &[]).unwrap();
            model.insert(key, Vec::new());
        }
        let probes: Vec<Vec<u8>> = model.keys().cloned().collect();
        assert_equal(&tree, &space, &model, &probes);
        let root = tree.flush(&mut space).unwrap();
        assert_committed(root, &space, &model, &probes);
        // Each cell takes 6 bytes: 1004 of them, and what the splits left unused.
        assert!(space.used() <= 7, "{} pages", space.used());
        let mut tree = Tree::open(TREE, root);
        for key in model.keys().rev() {
            assert!(tree.remove(&mut space, key).unwrap().is_some());
        }
        assert_eq!(space.used(), 0);
    }
}

/// The same for branches: their keys are what separates leaves.
#[test]
fn branches_with_long_prefixes_are_split_and_merged() {
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let key = move |random: &mut ChaCha8Rng| {
        let beginning = [0, 40, 64, 70][random.next_u32() as usize % 4];
        let number = random.next_u32() % 3000;
        [&vec![b'k'; beginning][..], &number.to_be_bytes()[1..]].concat()
    };
    check_against_model(random.next_u64(), 120_000, key, 200);
}
