//! Removals merge and rebalance pages, and free empty ones.

use super::*;
use crate::tree::page::{CAPACITY, Child, cell_size};

/// Number of cells that fill a leaf, which is the number of members of a group.
const MEMBERS: u32 = 5;

/// Returns the key of a member. Four bytes distinguish groups. Members of one group differ only in
/// their last bytes.
fn member(group: u32, member: u32) -> Vec<u8> {
    [&group.to_be_bytes()[..], &[b'm'; 200], &member.to_be_bytes()].concat()
}

/// Adds a group, which fills one leaf.
fn add_group(tree: &mut Tree, space: &mut HeapSpace, group: u32) {
    let least = cell_size(&member(0, 0), &[]);
    let value = vec![7; CAPACITY / MEMBERS as usize - least];
    for number in 0..MEMBERS {
        tree.insert(space, &member(group, number), &value).unwrap();
    }
}

/// Removes all members of a group except one.
fn thin_out(tree: &mut Tree, space: &mut HeapSpace, group: u32) {
    for number in 1..MEMBERS {
        assert!(tree.remove(space, &member(group, number)).unwrap().is_some());
    }
}

/// Returns the dirty root of a tree, and the number of cells of each leaf.
fn root_and_leaves(tree: &Tree) -> (&Page, Vec<usize>) {
    let dirty = |child| match child {
        Child::Dirty(number) => tree.page(number),
        Child::Sealed(block) => panic!("{block:?} is not dirty"),
    };
    let root = dirty(tree.root.expect("a root"));
    assert_eq!(root.level(), 1);
    (root, (0..root.count()).map(|cell| dirty(root.child(cell)).count()).collect())
}

/// Returns the key of a stream.
fn stream(number: u128) -> [u8; 16] {
    (number << 64).to_be_bytes()
}

/// Makes a committed tree of `streams` streams.
fn committed(streams: u128) -> (HeapSpace, Root) {
    let (mut space, mut tree) = (HeapSpace::new(), Tree::open(TREE, Root::default()));
    for number in 0..streams {
        tree.insert(&mut space, &stream(number), &[7; 51]).unwrap();
    }
    let root = tree.flush(&mut space).unwrap();
    (space, root)
}

#[test]
fn an_underfull_leaf_shares_cells_with_a_full_neighbour() {
    for thin in [0, 1] {
        let (mut space, mut tree) = (HeapSpace::new(), Tree::open(TREE, Root::default()));
        add_group(&mut tree, &mut space, 0);
        add_group(&mut tree, &mut space, 1);
        assert_eq!(root_and_leaves(&tree).1, [5, 5]);
        thin_out(&mut tree, &mut space, thin);
        assert_eq!(root_and_leaves(&tree).1, [3, 3]);
        for number in 0..MEMBERS {
            let left = tree.get(&space, &member(1 - thin, number)).unwrap();
            assert!(left.is_some(), "member {number} of group {}", 1 - thin);
        }
    }
}

#[test]
fn neighbours_stay_as_they_are_if_the_parent_has_no_room_for_a_new_separator() {
    let (mut space, mut tree) = (HeapSpace::new(), Tree::open(TREE, Root::default()));
    let mut groups = 0;
    let is_full = |tree: &Tree| {
        let root = root_and_leaves(tree).0;
        CAPACITY - root.used() < member(0, 0).len()
    };
    while groups < 2 || !is_full(&tree) {
        add_group(&mut tree, &mut space, groups);
        groups += 1;
    }
    let mut expected = vec![5; groups as usize];
    assert_eq!(root_and_leaves(&tree).1, expected);
    thin_out(&mut tree, &mut space, 10);
    expected[10] = 1;
    assert_eq!(root_and_leaves(&tree).1, expected);
    let root = tree.flush(&mut space).unwrap();
    let left = TreeReader::new(TREE, root, &space).range(&[]).unwrap();
    let expected: usize = expected.into_iter().sum();
    assert_eq!(left.map(Result::unwrap).count(), expected);
}

#[test]
fn removing_most_entries_merges_pages() {
    let (mut space, root) = committed(60_000);
    let full = space.used();
    let branches_of = |space: &HeapSpace| {
        let level =
            |block: DoubledRef| page_layout::LEVEL.of(&space.data(block.position).unwrap()[..])[0];
        space.blocks().into_iter().filter(|&block| level(block) == 1).count()
    };
    let branches = branches_of(&space);
    assert!(branches >= 7, "{branches} branches");
    let mut tree = Tree::open(TREE, root);
    for number in (0..60_000).filter(|number| number % 20 != 0) {
        assert!(tree.remove(&mut space, &stream(number)).unwrap().is_some());
    }
    tree.flush(&mut space).unwrap();
    // Pages are merged when less than a quarter is used, so a twentieth of the entries takes at
    // most four twentieths of the pages.
    assert!(space.used() <= full / 5 + 4, "{} pages of {full}", space.used());
    assert_eq!(tree.entries(), 3000);
    // The same holds for the branches above them.
    let left = branches_of(&space);
    assert!(left <= branches.div_ceil(2), "{left} branches of {branches}");
}

#[test]
fn a_shrinking_tree_loses_levels() {
    let (mut space, root) = committed(20_000);
    assert_eq!(root.depth, 3);
    let mut tree = Tree::open(TREE, root);
    // Removal from the left empties pages and leaves roots with one child.
    for (left, depth) in [(12_000, 3), (1200, 2), (1, 1)] {
        space.raise_step();
        let gone = 20_000 - u128::from(tree.entries());
        for number in gone..20_000 - left {
            assert!(tree.remove(&mut space, &stream(number)).unwrap().is_some());
        }
        let root = tree.flush(&mut space).unwrap();
        assert_eq!((u128::from(root.entries), root.depth), (left, depth));
        tree = Tree::open(TREE, root);
    }
    assert_eq!(space.used(), 1);
}
