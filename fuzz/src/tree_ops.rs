//! The B+tree compared with `BTreeMap`, with arbitrary operations, commits, crashes and reopenings.

use std::collections::BTreeMap;

use ar7_engine::format::{DoubledRef, Root};
use ar7_registry::tree::{CELL_MAX, Entry, KEY_MAX, Tree, TreeNumber, TreeReader};

use crate::tree_space::ReusedSpace;
use crate::unstructured::Unstructured;

const TREE: TreeNumber = TreeNumber(5);

/// Maximum number of operations.
const OPERATIONS: usize = 300;

/// At or above every key.
const LAST_KEY: [u8; KEY_MAX] = [0xff; KEY_MAX];

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A tree, its expected content, and the root that a crash returns to. That root refers to the space as it is after the
/// crash, not to a copy of the space at the commit.
struct Grove {
    space: ReusedSpace,
    tree: Tree,
    model: Model,
    committed: (Root, Model),
}

/// Applies operations to a tree and to a map as `bytes` direct. Returns the greatest depth of the tree.
///
/// # Panics
/// If they differ, if an operation on the honest tree fails, or if the empty tree keeps a page.
pub fn tree_ops(bytes: &[u8]) -> u8 {
    let mut unstructured = Unstructured::new(bytes);
    let mut grove = Grove::new();
    let mut depth = 0;
    for _ in 0..OPERATIONS {
        if unstructured.is_over() {
            break;
        }
        grove.operate(&mut unstructured);
        depth = depth.max(grove.committed.0.depth);
    }
    grove.check();
    grove.commit();
    depth = depth.max(grove.committed.0.depth);
    grove.check_emptying();
    depth
}

impl Grove {
    fn new() -> Grove {
        let (space, root, model) = (ReusedSpace::default(), Root::default(), Model::new());
        Grove { space, tree: Tree::open(TREE, root), committed: (root, model.clone()), model }
    }

    fn operate(&mut self, unstructured: &mut Unstructured<'_>) {
        let operation = unstructured.byte();
        match operation % 16 {
            0..=3 => self.insert(unstructured),
            4 => self.insert_many(unstructured),
            5..=7 => self.remove(unstructured),
            8 => self.remove_many(unstructured),
            9 | 10 => self.look_up(unstructured),
            11 => self.walk(unstructured),
            12 => self.relocate(unstructured),
            13 if operation / 16 % 4 == 3 => drop(self.flush()),
            13 => self.commit(),
            14 => {
                // Half of the crashes happen after everything except the root was written.
                if operation / 16 % 2 == 1 {
                    self.flush();
                }
                self.crash();
            }
            _ => self.check(),
        }
    }

    fn insert(&mut self, unstructured: &mut Unstructured<'_>) {
        let key = any_key(unstructured);
        self.put(&key, any_value(unstructured, &key));
    }

    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        let before = self.tree.insert(&mut self.space, key, &value).expect("an honest tree");
        assert_eq!(before, self.model.insert(key.to_vec(), value), "what an insertion replaced");
    }

    /// Inserts keys that ascend or descend by a step.
    fn insert_many(&mut self, unstructured: &mut Unstructured<'_>) {
        let (first, step, count) =
            (unstructured.word(), unstructured.byte() % 5, unstructured.byte());
        let length = unstructured.word() % 500;
        for number in 0..count {
            let ascending = first + number * step;
            let number = if step == 3 { first.saturating_sub(number) } else { ascending };
            let key = key(number);
            let value = vec![7; length.min(CELL_MAX - key.len())];
            self.put(&key, value);
        }
    }

    fn remove(&mut self, unstructured: &mut Unstructured<'_>) {
        let key = match unstructured.byte() % 3 {
            0 => any_key(unstructured),
            // A key that exists.
            _ => match self.model.range(any_key(unstructured)..).next() {
                Some((key, _)) => key.clone(),
                None => return,
            },
        };
        self.take(&key);
    }

    fn take(&mut self, key: &[u8]) {
        let removed = self.tree.remove(&mut self.space, key).expect("an honest tree");
        assert_eq!(removed, self.model.remove(key), "what was removed");
    }

    fn remove_many(&mut self, unstructured: &mut Unstructured<'_>) {
        let from = any_key(unstructured);
        let count = unstructured.byte();
        let keys: Vec<Vec<u8>> =
            self.model.range(from..).take(count).map(|(key, _)| key.clone()).collect();
        for key in &keys {
            self.take(key);
        }
    }

    fn look_up(&self, unstructured: &mut Unstructured<'_>) {
        let key = any_key(unstructured);
        let (tree, space) = (&self.tree, &self.space);
        let found = tree.get(space, &key).expect("an honest tree");
        assert_eq!(found.as_ref(), self.model.get(&key), "the value of a key");
        let floor = self.model.range(..=key.clone()).next_back().map(owned);
        assert_eq!(
            tree.floor(space, &key).expect("an honest tree"),
            floor,
            "the entry at or below"
        );
        let ceiling = self.model.range(key.clone()..).next().map(owned);
        let found = tree.ceiling(space, &key).expect("an honest tree");
        assert_eq!(found, ceiling, "the entry at or above");
    }

    fn walk(&self, unstructured: &mut Unstructured<'_>) {
        let key = any_key(unstructured);
        let most = unstructured.byte();
        let range = self.tree.range(&self.space, &key).expect("an honest tree");
        let found: Vec<Entry> = range.take(most).map(|entry| entry.expect("honest")).collect();
        let expected: Vec<Entry> = self.model.range(key.clone()..).take(most).map(owned).collect();
        assert_eq!(found, expected, "a walk");
        let range = self.tree.range_back(&self.space, &key).expect("an honest tree");
        let found: Vec<Entry> = range.take(most).map(|entry| entry.expect("honest")).collect();
        let expected: Vec<Entry> = self.model.range(..=key).rev().take(most).map(owned).collect();
        assert_eq!(found, expected, "a walk back");
    }

    fn relocate(&mut self, unstructured: &mut Unstructured<'_>) {
        let end = usize::try_from(self.space.end().get()).expect("a small space");
        let limit = u32::try_from(unstructured.word() % (end + 1)).expect("two bytes");
        let most = 1 + unstructured.byte() % 6;
        let is_wanted = |at: DoubledRef| at.position.get() >= limit;
        self.tree.relocate(&mut self.space, &is_wanted, most, u32::MAX);
    }

    /// Writes the changes without committing them.
    fn flush(&mut self) -> Root {
        self.tree.flush(&mut self.space).expect("space for the pages")
    }

    fn commit(&mut self) {
        let root = self.flush();
        self.space.commit();
        self.tree = Tree::open(TREE, root);
        self.committed = (root, self.model.clone());
        let reader = TreeReader::new(TREE, root, &self.space);
        let range = reader.range(&[]).expect("an honest tree");
        let found = range.map(|entry| entry.expect("an honest tree"));
        assert!(found.eq(self.model.iter().map(owned)), "the committed entries");
    }

    /// Returns to the last commit, in a space that also holds everything written since.
    fn crash(&mut self) {
        self.space.crash();
        let (root, model) = self.committed.clone();
        self.model = model;
        self.tree = Tree::open(TREE, root);
        self.check();
    }

    fn check(&self) {
        let expected = u64::try_from(self.model.len()).expect("a small model");
        assert_eq!(self.tree.entries(), expected, "the number of entries");
        let forwards = self.tree.range(&self.space, &[]).expect("an honest tree");
        let forwards = forwards.map(|entry| entry.expect("an honest tree"));
        assert!(forwards.eq(self.model.iter().map(owned)), "the entries");
        let backwards = self.tree.range_back(&self.space, &LAST_KEY).expect("an honest tree");
        let backwards = backwards.map(|entry| entry.expect("an honest tree"));
        assert!(backwards.eq(self.model.iter().rev().map(owned)), "the entries backwards");
    }

    /// Removes all entries and checks that no page remains.
    fn check_emptying(mut self) {
        let keys: Vec<Vec<u8>> = self.model.keys().cloned().collect();
        for key in &keys {
            self.take(key);
        }
        self.commit();
        assert_eq!(self.space.used(), 0, "an empty tree keeps no page");
    }
}

fn owned((key, value): (&Vec<u8>, &Vec<u8>)) -> Entry {
    (key.clone(), value.clone())
}

/// Returns a key: there are few, so that they collide, and they have many different lengths.
fn any_key(unstructured: &mut Unstructured<'_>) -> Vec<u8> {
    key(unstructured.word())
}

fn key(number: usize) -> Vec<u8> {
    let number = number % 700;
    let length = 2 + number * 13 % (KEY_MAX - 2);
    let mut key = vec![b'k'; length];
    // Keys with a long common prefix make long separators, and so a tree of several levels.
    let at = if number.is_multiple_of(4) { 0 } else { length - 2 };
    key[at..at + 2].copy_from_slice(&u16::try_from(number).expect("below 700").to_be_bytes());
    key
}

fn any_value(unstructured: &mut Unstructured<'_>, key: &[u8]) -> Vec<u8> {
    let length = unstructured.word() % (CELL_MAX - key.len() + 1);
    vec![unstructured.octet(); length]
}

/// Returns initial inputs: ascending and descending keys, the longest cells, growth and shrinking.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![4, 0, 0, 1, 79, 1, 0, 13, 15, 14, 9, 0, 40, 11, 0, 7, 30, 8, 0, 0, 255],
        vec![4, 2, 188, 3, 79, 1, 244, 13, 4, 0, 10, 2, 79, 1, 0, 14, 12, 0, 3, 2, 13, 15],
        vec![0, 0, 9, 3, 192, 7, 0, 0, 8, 3, 192, 7, 0, 0, 7, 3, 192, 7, 13, 5, 1, 0, 8, 13],
        // Changes that are written twice (61), then written and lost (30), then repeated and kept.
        vec![
            4, 0, 0, 1, 79, 1, 0, 13, 4, 0, 3, 2, 40, 0, 200, 61, 8, 0, 30, 20, 61, 4, 0, 9, 4, 30,
            1, 9, 30, 4, 0, 3, 2, 40, 0, 200, 13, 8, 0, 0, 60, 30, 15, 13,
        ],
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_operations_match_a_map() {
        let mut random = Random::new(0x6f70_7321);
        let mut deepest = 0;
        for _ in 0..500 {
            let mut bytes = [0; 500];
            random.fill(&mut bytes);
            deepest = deepest.max(tree_ops(&bytes));
        }
        assert!(seeds().iter().all(|seed| tree_ops(seed) > 0));
        assert!(deepest > 2, "no tree is deeper than {deepest}");
    }
}
