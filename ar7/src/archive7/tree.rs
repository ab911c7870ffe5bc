//! The trees of an old archive, each in the bytes of a special stream: a header, then pages.

use std::io::{Read, Seek};

use ar7_engine::Check;
use ar7_engine::format::{DATA_SIZE, DATA_SIZE_U64, Position};
use roaring::RoaringBitmap;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::blocks::Blocks;
use super::damaged;
use super::fields::Fields;
use crate::error::Result;

/// Lengths of the header of a tree, and of a page and its head.
const HEADER_BYTES: usize = 21;
const PAGE_BYTES: usize = DATA_SIZE;
const PAGE_HEAD_BYTES: usize = 9;

/// Lengths of a reference to a page, and of an item of a listing.
const REFERENCE_BYTES: usize = 24;
const ITEM_BYTES: usize = 16;

/// The most items in a page.
const ITEMS_MAX: usize = 248;

/// Bytes of a record in a leaf that are not its value: page, key and checksum.
const RECORD_EXTRA_BYTES: usize = 21;

/// What a tree holds: values of a fixed length, or lists of items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Values = b'S' as isize,
    Lists = b'M' as isize,
}

/// The constants of a tree.
pub(super) struct Shape {
    holds: Holds,
    /// Number of records in a leaf, and of references in another page.
    order: usize,
    reference_order: usize,
    value_bytes: usize,
}

pub(super) const INDEX: Shape = shape(Holds::Values, 67, 165, 38);
pub(super) const ENTRIES: Shape = shape(Holds::Values, 9, 157, 396);
pub(super) const PATHS: Shape = shape(Holds::Values, 104, 165, 17);
pub(super) const LISTINGS: Shape = shape(Holds::Lists, 159, 166, 4);

const fn shape(holds: Holds, order: usize, reference_order: usize, value_bytes: usize) -> Shape {
    let shape = Shape { holds, order, reference_order, value_bytes };
    let leaf = order * (RECORD_EXTRA_BYTES + value_bytes);
    assert!(PAGE_HEAD_BYTES + leaf <= PAGE_BYTES);
    assert!(PAGE_HEAD_BYTES + reference_order * REFERENCE_BYTES <= PAGE_BYTES);
    const { assert!(PAGE_HEAD_BYTES + ITEMS_MAX * ITEM_BYTES <= PAGE_BYTES) }
    shape
}

/// A tree whose header was checked.
pub(super) struct Tree<'a> {
    shape: &'static Shape,
    /// The blocks of the special stream, in order.
    places: &'a [Position],
    pages: u32,
    root: i32,
    /// Pages that were read: each has one place in the tree.
    seen: RoaringBitmap,
    last_key: Option<Uuid>,
}

/// A record in a leaf.
pub(super) struct Record<'a> {
    /// The block where its page begins.
    pub(super) position: Position,
    pub(super) key: Uuid,
    pub(super) value: &'a [u8],
    /// The items of a list.
    pub(super) items: Vec<Uuid>,
}

/// A page.
struct Page {
    position: Position,
    letter: u8,
    next: i32,
    count: u32,
    bytes: Zeroizing<Vec<u8>>,
}

impl<'a> Tree<'a> {
    /// Opens the tree in a special stream of this length.
    pub(super) fn open<R: Read + Seek>(
        blocks: &mut Blocks<R>,
        shape: &'static Shape,
        places: &'a [Position],
        length: u64,
    ) -> Result<Tree<'a>> {
        let first = places[0];
        let pages = length.checked_sub(HEADER_BYTES as u64).filter(|pages| {
            *pages > 0
                && pages.is_multiple_of(PAGE_BYTES as u64)
                && length <= DATA_SIZE_U64 * places.len() as u64
        });
        let pages = pages.ok_or_else(|| {
            damaged(
                first,
                Check::Length,
                "a tree of whole pages in the blocks of its stream",
                length,
            )
        })?;
        // At most the number of blocks.
        let pages = u32::try_from(pages / PAGE_BYTES as u64).unwrap_or(u32::MAX);
        let mut tree =
            Tree { shape, places, pages, root: -1, seen: RoaringBitmap::new(), last_key: None };
        let block = blocks.open(first)?;
        let mut fields = Fields::new(block.data());
        let [holds] = fields.array();
        tree.root = fields.i32();
        let _free_pages = fields.i32();
        let found = (usize::from(holds), fields.u32(), fields.u32(), fields.u32());
        let expected =
            [shape.holds as usize, shape.order, shape.reference_order, shape.value_bytes];
        let found = [found.0, found.1 as usize, found.2 as usize, found.3 as usize];
        match expected.into_iter().zip(found).find(|(expected, found)| expected != found) {
            Some((expected, found)) => Err(damaged(first, Check::Root, expected, found)),
            None => Ok(tree),
        }
    }

    /// Passes every record to `record`, in ascending order of the keys.
    pub(super) fn each<R: Read + Seek>(
        &mut self,
        blocks: &mut Blocks<R>,
        mut record: impl FnMut(&Blocks<R>, &Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut open = vec![self.enter(self.places[0], self.root)?];
        while let Some(number) = open.pop() {
            let page = self.page(blocks, number)?;
            match page.letter {
                b'S' if number.cast_signed() == self.root => {
                    self.leaf(blocks, &page, &mut record)?;
                }
                b'L' => self.leaf(blocks, &page, &mut record)?,
                b'R' | b'F' => {
                    let children = self.children(&page)?;
                    open.extend(children.into_iter().rev());
                }
                letter => {
                    let expected = "a leaf, a root or a page between them";
                    return Err(damaged(page.position, Check::Page, expected, letter));
                }
            }
        }
        Ok(())
    }

    /// Returns the number of a page that is read for the first time.
    fn enter(&mut self, from: Position, page: i32) -> Result<u32> {
        let number = u32::try_from(page).ok().filter(|number| *number < self.pages);
        let refused = |expected| damaged(from, Check::Page, expected, page);
        let number = number.ok_or_else(|| refused("a page of the tree"))?;
        if self.seen.insert(number) { Ok(number) } else { Err(refused("a page not seen before")) }
    }

    /// Reads a page. It begins in one block and ends in the next one.
    fn page<R: Read + Seek>(&self, blocks: &mut Blocks<R>, number: u32) -> Result<Page> {
        let at = number as usize;
        let mut bytes = Zeroizing::new(Vec::with_capacity(PAGE_BYTES));
        // The length of the tree is at most that of its blocks.
        let position = self.places[at];
        bytes.extend_from_slice(&blocks.open(position)?.data()[HEADER_BYTES..]);
        bytes.extend_from_slice(&blocks.open(self.places[at + 1])?.data()[..HEADER_BYTES]);
        let mut fields = Fields::new(&bytes);
        let [letter] = fields.array();
        let (next, count) = (fields.i32(), fields.u32());
        Ok(Page { position, letter, next, count, bytes })
    }

    fn leaf<R: Read + Seek>(
        &mut self,
        blocks: &mut Blocks<R>,
        page: &Page,
        record: &mut impl FnMut(&Blocks<R>, &Record<'_>) -> Result<()>,
    ) -> Result<()> {
        let value_bytes = self.shape.value_bytes;
        for bytes in page.parts(self.shape.order, RECORD_EXTRA_BYTES + value_bytes)? {
            let (checksum, content) = bytes.split_last().expect("a record has bytes");
            let mut fields = Fields::new(content);
            let (list, key) = (fields.i32(), fields.uuid());
            let summed = &content[size_of::<i32>()..];
            let sum = summed.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
            if sum != *checksum {
                return Err(damaged(page.position, Check::Record, sum, *checksum));
            }
            if self.last_key.is_some_and(|last| last >= key) {
                let expected = "a key above the one before it";
                return Err(damaged(page.position, Check::KeyOrder, expected, key));
            }
            self.last_key = Some(key);
            let value = &content[content.len() - value_bytes..];
            let items = match self.shape.holds {
                Holds::Lists => self.items(blocks, page.position, list, value)?,
                Holds::Values if list == -1 => Vec::new(),
                Holds::Values => return Err(damaged(page.position, Check::Record, -1, list)),
            };
            record(blocks, &Record { position: page.position, key, value, items })?;
        }
        Ok(())
    }

    /// Returns the children of a page: the one before the first key, and the one after each key.
    fn children(&mut self, page: &Page) -> Result<Vec<u32>> {
        let mut children = Vec::new();
        for bytes in page.parts(self.shape.reference_order, REFERENCE_BYTES)? {
            let mut fields = Fields::new(bytes);
            let (before, after) = (fields.i32(), fields.i32());
            if children.is_empty() {
                children.push(self.enter(page.position, before)?);
            }
            children.push(self.enter(page.position, after)?);
        }
        if children.is_empty() {
            return Err(damaged(page.position, Check::Page, "references to pages", 0));
        }
        Ok(children)
    }

    /// Returns the items of a list, which has pages of its own.
    fn items<R: Read + Seek>(
        &mut self,
        blocks: &mut Blocks<R>,
        from: Position,
        first: i32,
        value: &[u8],
    ) -> Result<Vec<Uuid>> {
        let count = Fields::new(value).u32() as usize;
        let (mut items, mut from, mut next) = (Vec::new(), from, first);
        // Each page is entered once, so that a list cannot be longer than the file.
        while items.len() < count {
            let number = self.enter(from, next)?;
            let page = self.page(blocks, number)?;
            if page.letter != b'I' {
                return Err(damaged(page.position, Check::Page, b'I', page.letter));
            }
            let left = count - items.len();
            let parts = page.parts(left.min(ITEMS_MAX), ITEM_BYTES)?;
            items.extend(parts.map(|bytes| Fields::new(bytes).uuid()));
            (from, next) = (page.position, page.next);
        }
        Ok(items)
    }
}

impl Page {
    /// Returns the records, references or items of a page. Fails if there are more than `most`.
    fn parts(&self, most: usize, bytes: usize) -> Result<std::slice::ChunksExact<'_, u8>> {
        let count = self.count as usize;
        if count > most {
            return Err(damaged(self.position, Check::Page, 0..=most, count));
        }
        Ok(self.bytes[PAGE_HEAD_BYTES..PAGE_HEAD_BYTES + count * bytes].chunks_exact(bytes))
    }
}
