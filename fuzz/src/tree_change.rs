//! Reading and changing of a tree whose pages an attacker with the key has forged.

use ar7_engine::Error as EngineError;
use ar7_engine::format::{DATA_SIZE, Data, DoubledRef, Position, Root};
use ar7_registry::tree::testing::{HeapSpace, reference};
use ar7_registry::tree::{Page, PageExpectation, Range, Tree, TreeNumber, TreeReader, page_layout};
use ar7_registry::{Error, Result};

use crate::unstructured::Unstructured;

const TREE: TreeNumber = TreeNumber(5);

/// Returns a key: there are few, so that they collide, and they are long, so that the tree has three levels.
fn any_key(unstructured: &mut Unstructured<'_>) -> Vec<u8> {
    key(unstructured.word() % 400)
}

fn key(number: usize) -> Vec<u8> {
    format!("{number:0width$}", width = 3 + number * 7 % 250).into_bytes()
}

/// Builds a tree, changes its pages, then reads and changes the tree, all as `bytes` direct. Returns whether no damage
/// was found.
///
/// # Panics
/// If an operation panics or loops, returns keys out of order or an error other than damage, or if it writes invalid
/// pages.
pub fn tree_change(bytes: &[u8]) -> bool {
    let mut unstructured = Unstructured::new(bytes);
    let mut space = HeapSpace::new();
    let root = honest_tree(&mut space, &mut unstructured);
    space.distrust();
    for _ in 0..unstructured.byte() % 5 {
        forge(&mut space, &mut unstructured);
    }
    let root = forged_root(root, &space, &mut unstructured);
    space.raise_step();
    let mut damage = false;
    walk(TreeReader::new(TREE, root, &space).range(&[]), &mut damage);
    let mut tree = Tree::open(TREE, root);
    for _ in 0..unstructured.byte() {
        operate(&mut tree, &mut space, &mut unstructured, &mut damage);
    }
    let flushed = tree.flush(&mut space).expect("space for the pages");
    for block in space.blocks().iter().filter(|block| block.generation.step > 0) {
        let data = space.data(block.position).expect("a page in use");
        let level = data[page_layout::LEVEL.offset];
        let page = Page::parse(block.position, data, PageExpectation { tree: TREE, level });
        assert!(page.is_ok(), "a written page is valid: {page:?}");
    }
    let whole = flushed.block.is_some();
    assert_eq!((flushed.depth > 0, flushed.entries > 0), (whole, whole), "a root that can be read");
    walk(TreeReader::new(TREE, flushed, &space).range_back(&[0xff; 300]), &mut damage);
    !damage
}

fn honest_tree(space: &mut HeapSpace, unstructured: &mut Unstructured<'_>) -> Root {
    let mut tree = Tree::open(TREE, Root::default());
    let (count, step) = (unstructured.word() % 400, 1 + unstructured.byte() % 7 * 2);
    for number in 0..count {
        let value = vec![7; number % 60];
        tree.insert(space, &key(number * step % 400), &value).expect("an honest tree");
    }
    tree.flush(space).expect("space for the pages")
}

/// Changes one page: one byte, all of it, or one of its children.
fn forge(space: &mut HeapSpace, unstructured: &mut Unstructured<'_>) {
    let blocks = space.blocks();
    if blocks.is_empty() {
        return;
    }
    let (to, from) =
        (blocks[unstructured.byte() % blocks.len()], blocks[unstructured.byte() % blocks.len()]);
    let mut data = *space.data(to.position).expect("a page in use");
    let other = *space.data(from.position).expect("a page in use");
    match unstructured.byte() % 4 {
        0 => data[unstructured.word() % DATA_SIZE] = unstructured.byte().to_le_bytes()[0],
        1 => data = other,
        2 => {
            let child = DoubledRef::encode(Some(from));
            set_child(&mut data, unstructured, child);
        }
        _ => {
            if let Some(at) = child_offset(&other, unstructured) {
                let child =
                    other[at..at + DoubledRef::SIZE].try_into().expect("the size of a reference");
                set_child(&mut data, unstructured, child);
            }
        }
    }
    space.forge(to.position, &data);
}

fn set_child(data: &mut Data, unstructured: &mut Unstructured<'_>, child: [u8; DoubledRef::SIZE]) {
    if let Some(at) = child_offset(data, unstructured) {
        data[at..at + DoubledRef::SIZE].copy_from_slice(&child);
    }
}

/// Returns the offset of one of the children of a branch, or `None` for a leaf.
fn child_offset(data: &Data, unstructured: &mut Unstructured<'_>) -> Option<usize> {
    let count = usize::from(page_layout::COUNT.u16(&data[..]));
    let cell = unstructured.byte().checked_rem(count)?;
    if data[page_layout::LEVEL.offset] == 0 {
        return None;
    }
    let end = match cell.checked_sub(1) {
        None => DATA_SIZE.checked_sub(usize::from(data[page_layout::PREFIX.offset]))?,
        Some(before) => {
            let at = page_layout::BODY.offset + 2 * before;
            usize::from(u16::from_be_bytes(data.get(at..at + 2)?.try_into().ok()?))
        }
    };
    end.checked_sub(DoubledRef::SIZE).filter(|_| end <= DATA_SIZE)
}

/// Returns the root, or one with other fields.
fn forged_root(root: Root, space: &HeapSpace, unstructured: &mut Unstructured<'_>) -> Root {
    let Some(block) = root.block else { return root };
    let blocks = space.blocks();
    let numbers = [0, 1, 2, root.entries + 1, u64::MAX];
    match unstructured.byte() % 8 {
        0 => Root { entries: numbers[1 + unstructured.byte() % 4], ..root },
        1 => {
            let depth = 1 + (unstructured.byte() % 16).to_le_bytes()[0];
            Root { block: Some(blocks[unstructured.byte() % blocks.len()]), depth, ..root }
        }
        2 => {
            let position = Position::new(block.position.get() + 1000);
            Root { block: position.map(|position| reference(position, block.generation)), ..root }
        }
        _ => root,
    }
}

fn operate(
    tree: &mut Tree,
    space: &mut HeapSpace,
    unstructured: &mut Unstructured<'_>,
    damage: &mut bool,
) {
    let operation = unstructured.byte();
    let key = any_key(unstructured);
    match operation % 8 {
        0..=2 => drop(judge(tree.insert(space, &key, &vec![1; operation * 2]), damage)),
        3..=5 => drop(judge(tree.remove(space, &key), damage)),
        6 if operation > 200 => {
            let limit = Position::at(u32::try_from(unstructured.byte()).unwrap_or(0));
            tree.relocate(space, &|at| at.position >= limit, 1 + operation % 5, u32::MAX);
        }
        6 => {
            let found = judge(tree.floor(space, &key), damage).flatten();
            assert!(found.is_none_or(|(found, _)| found <= key), "not above the key");
            let found = judge(tree.ceiling(space, &key), damage).flatten();
            assert!(found.is_none_or(|(found, _)| found >= key), "not below the key");
        }
        _ => walk(tree.range(space, &key), damage),
    }
}

/// Iterates to the end, in either direction.
fn walk(range: Result<Range<'_, HeapSpace>>, damage: &mut bool) {
    let Some(range) = judge(range, damage) else { return };
    let keys: Vec<Vec<u8>> =
        range.filter_map(|entry| judge(entry, damage)).map(|(key, _)| key).collect();
    let ascends = keys.is_sorted_by(|one, two| one < two);
    assert!(ascends || keys.is_sorted_by(|one, two| one > two), "keys in order");
}

/// Records damage. Hostile pages cause no other error, except that the depth cannot grow further.
fn judge<T>(result: Result<T>, damage: &mut bool) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(Error::Engine(EngineError::Damaged(_) | EngineError::Full { .. })) => {
            *damage = true;
            None
        }
        Err(other) => panic!("hostile pages are reported as: {other}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Random;

    #[test]
    fn any_tree_is_read_and_changed_or_rejected() {
        const CASES: u32 = 3000;
        let mut random = Random::new(0x7472_6565);
        let mut whole = 0;
        for _ in 0..CASES {
            let mut bytes = vec![0; 600];
            random.fill(&mut bytes);
            whole += u32::from(tree_change(&bytes));
        }
        assert!(whole > CASES / 100 && whole < CASES * 9 / 10, "{whole} of {CASES} met no damage");
    }

    #[test]
    fn an_honest_tree_is_whole() {
        // 300 entries, nothing forged, the root unchanged, and a hundred operations.
        let mut bytes = vec![1, 44, 0, 0, 3, 100];
        bytes.extend((0..=255).cycle().take(400));
        assert!(tree_change(&bytes));
    }
}
