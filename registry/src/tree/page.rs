//! A page: sorted cells in the data of one block, searched in place.
//!
//! Cells are packed in order from the end of the page downwards. A directory of their offsets is at
//! the front. Each list of cells has exactly one layout, so a parsed page encodes to the same
//! bytes.

use std::cmp::Ordering;
use std::ops::Range;

use ar7_engine::format::{DATA_SIZE, Data, DoubledRef, Field, OwnedData, Position};
use ar7_engine::{Check, Error as EngineError, Value};

use crate::error::Result;

/// Maximum length of a key in bytes.
pub const KEY_MAX: usize = 300;

/// Maximum length of a key and its value together, in bytes. Four cells fit a page, so every split
/// succeeds.
pub const CELL_MAX: usize = 960;

/// Number of a tree in its archive. Each page contains it, so that no page of another tree is
/// accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeNumber(pub u8);

/// The properties that a parent states of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageExpectation {
    /// The tree of the page.
    pub tree: TreeNumber,
    /// Its level; leaves are level 0.
    pub level: u8,
}

ar7_engine::layout! {
    /// The data of a page.
    pub mod page_layout, 4008 => {
        TAG: 1, "u8: 1 leaf, 2 branch; 0 is invalid";
        TREE: 1, "u8: number of the tree";
        LEVEL: 1, "u8: level, 0 for a leaf";
        RESERVED: 1, "0";
        COUNT: 2, "u16: number of cells, at least 1";
        CELLS: 2, "u16: offset of the lowest byte that a cell uses";
        BODY: 4000, "u16 offset of each cell; zeros; the cells, the first at the end";
    }
}

const LEAF: u8 = 1;
const BRANCH: u8 = 2;

/// Offset of the directory of cells.
const DIRECTORY: usize = page_layout::BODY.offset;

/// Number of bytes that a cell takes in addition to its key and value: its entry in the directory
/// and the key's length.
pub(super) const CELL_OVERHEAD: usize = 4;

/// Number of bytes for cells.
pub(super) const CAPACITY: usize = page_layout::BODY.length;

/// A page that uses fewer bytes is merged with a neighbour.
pub(super) const UNDERFULL: usize = CAPACITY / 4;

/// A bit in the position of a child: set if the child is a dirty page. The other bits are then its
/// number.
const DIRTY_CHILD: u32 = 1 << 31;

/// A child of a branch, or the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    /// A sealed page.
    Sealed(DoubledRef),
    /// A dirty page.
    Dirty(u32),
}

impl Child {
    pub(super) fn encode(self) -> [u8; DoubledRef::SIZE] {
        match self {
            Child::Sealed(block) => DoubledRef::encode(Some(block)),
            Child::Dirty(number) => {
                let mut bytes = [0; DoubledRef::SIZE];
                bytes[..4].copy_from_slice(&(number | DIRTY_CHILD).to_be_bytes());
                bytes
            }
        }
    }
}

/// A page of a tree.
#[derive(Debug, Clone)]
pub struct Page {
    data: OwnedData,
    tree: TreeNumber,
    /// `None` while the page is being changed.
    ends: Option<Ends>,
}

/// The first bytes of a page's first and last key. With them, most searches touch only cells near
/// the target.
#[derive(Debug, Clone, Copy)]
struct Ends {
    /// First bytes of the first key; in a branch, of the second key, since the first is empty.
    least: u64,
    /// First bytes of the last key.
    most: u64,
}

/// A key, and its first eight bytes as a number, which nearly always decide a comparison. A shorter
/// key is padded with zeros: if two numbers differ, the keys are in the same order.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    beginning: u64,
    bytes: &'a [u8],
}

impl Key<'_> {
    pub(super) fn new(bytes: &[u8]) -> Key<'_> {
        Key { beginning: beginning(bytes), bytes }
    }

    fn order(&self, other: &Key<'_>) -> Ordering {
        // Stream identities have 16 bytes.
        let number = |key: &[u8]| key.try_into().map(u128::from_be_bytes);
        let in_full = || match (number(self.bytes), number(other.bytes)) {
            (Ok(this), Ok(other)) => this.cmp(&other),
            _ => self.bytes.cmp(other.bytes),
        };
        self.beginning.cmp(&other.beginning).then_with(in_full)
    }
}

pub(super) fn beginning(key: &[u8]) -> u64 {
    if let Some(beginning) = key.first_chunk() {
        return u64::from_be_bytes(*beginning);
    }
    if let (Some(head), Some(tail)) = (key.first_chunk(), key.last_chunk()) {
        // The first four bytes and the last four, which overlap.
        let (head, tail) = (u32::from_be_bytes(*head), u32::from_be_bytes(*tail));
        return (u64::from(head) << 32) | (u64::from(tail) << (64 - 8 * key.len()));
    }
    key.iter().zip([56, 48, 40]).fold(0, |word, (&byte, shift)| word | (u64::from(byte) << shift))
}

impl Page {
    /// Makes an empty page. The caller fills it before it is stored.
    pub(super) fn new(tree: TreeNumber, level: u8) -> Page {
        let mut data = OwnedData::zeroed();
        let tag = if level == 0 { LEAF } else { BRANCH };
        page_layout::TAG.put(&mut data[..], &[tag]);
        page_layout::TREE.put(&mut data[..], &[tree.0]);
        page_layout::LEVEL.put(&mut data[..], &[level]);
        let mut page = Page { data, tree, ends: None };
        page.set_u16(page_layout::CELLS, DATA_SIZE);
        page
    }

    /// Parses the data of a block as a page. Checks everything that later reads rely on.
    pub fn parse(position: Position, data: &Data, expect: PageExpectation) -> Result<Page> {
        let page = Page { data: OwnedData::copy_of(data), tree: expect.tree, ends: None };
        page.check(expect).map_err(|(check, expected, found)| {
            EngineError::damaged(position, check, expected, found)
        })?;
        Ok(page.settled())
    }

    /// Returns the page as the data of a block.
    pub fn data(&self) -> &Data {
        &self.data
    }

    /// Returns the tree of the page.
    pub fn tree(&self) -> TreeNumber {
        self.tree
    }

    /// Returns the level, 0 for a leaf.
    pub fn level(&self) -> u8 {
        self.data[page_layout::LEVEL.offset]
    }

    /// Returns whether the page has children.
    pub fn is_branch(&self) -> bool {
        self.level() > 0
    }

    /// Returns the number of cells.
    pub fn count(&self) -> usize {
        usize::from(page_layout::COUNT.u16(&self.data[..]))
    }

    /// Returns the key of a cell. The first key of a branch is empty: its child holds all keys
    /// below the second key.
    pub fn key(&self, cell: usize) -> &[u8] {
        let begin = self.offset(cell);
        let length = usize::from(u16::from_be_bytes([self.data[begin], self.data[begin + 1]]));
        &self.data[begin + 2..begin + 2 + length]
    }

    /// Returns the value of a cell; in a branch, its encoded child.
    pub fn value(&self, cell: usize) -> &[u8] {
        self.parts(cell).1
    }

    /// Returns the page that a cell of a branch refers to.
    ///
    /// # Panics
    /// If the page is not a sealed branch.
    pub fn child_block(&self, cell: usize) -> DoubledRef {
        match self.child(cell) {
            Child::Sealed(block) => block,
            Child::Dirty(_) => unreachable!("a sealed branch refers to sealed pages"),
        }
    }

    pub(super) fn child(&self, cell: usize) -> Child {
        let bytes: [u8; DoubledRef::SIZE] =
            self.value(cell).try_into().expect("the value of a branch cell is a child");
        let raw = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        if raw & DIRTY_CHILD != 0 {
            return Child::Dirty(raw & !DIRTY_CHILD);
        }
        let block = DoubledRef::decode(bytes).ok().flatten();
        Child::Sealed(block.expect("children are checked when a page is parsed"))
    }

    pub(super) fn set_child(&mut self, cell: usize, child: Child) {
        self.set_value(cell, &child.encode());
    }

    /// Replaces a value with one of the same length.
    pub(super) fn set_value(&mut self, cell: usize, value: &[u8]) {
        let end = self.cell_end(cell);
        self.data[end - value.len()..end].copy_from_slice(value);
    }

    /// Returns the cell with this key, or the place where it belongs.
    pub(crate) fn search(&self, key: &[u8]) -> std::result::Result<usize, usize> {
        let key = Key::new(key);
        let (mut low, mut high) = (0, self.count());
        let guess = self.guess(key, high);
        let (mut probe, mut reach) = guess.map_or((high / 2, high), |guess| (guess, 1));
        while low < high {
            match Key::new(self.key(probe)).order(&key) {
                Ordering::Equal => return Ok(probe),
                Ordering::Less => {
                    low = probe + 1;
                    probe = (probe + reach).min(low.midpoint(high));
                }
                Ordering::Greater => {
                    high = probe;
                    probe = probe.saturating_sub(reach).max(low.midpoint(high));
                }
            }
            // Probe near the guess first and then in growing steps, which the binary search soon
            // overtakes.
            reach *= 2;
        }
        Err(low)
    }

    /// Guesses the place of a key among `count` cells. It assumes that keys are spread evenly
    /// between the first and the last, like identities. Each probe touches another cache line, so a
    /// good guess saves a lot of time.
    pub(super) fn guess(&self, key: Key<'_>, count: usize) -> Option<usize> {
        let ends = self.ends.filter(|ends| ends.least < ends.most)?;
        let above = key.beginning.clamp(ends.least, ends.most) - ends.least;
        let first = usize::from(self.is_branch());
        let cells = u128::try_from(count.checked_sub(first + 1)?).ok()?;
        let guess = u128::from(above) * cells / u128::from(ends.most - ends.least);
        Some(first + usize::try_from(guess).ok()?)
    }

    /// Returns the first key that is not empty, and the last key. Returns `None` for a branch with
    /// one child.
    fn first_and_last(&self) -> Option<(&[u8], &[u8])> {
        let first = usize::from(self.is_branch());
        (first < self.count()).then(|| (self.key(first), self.key(self.count() - 1)))
    }

    /// Marks the page as complete and stores the first bytes of its first and last key.
    pub(super) fn settled(mut self) -> Page {
        self.ends = self.first_and_last().map(|(first, last)| Ends {
            least: Key::new(first).beginning,
            most: Key::new(last).beginning,
        });
        self
    }

    /// Returns the violated bound and the key outside of it: the first key if it is below `low`, or
    /// the last key if it is not below `high`.
    pub(super) fn key_outside<'a>(
        &'a self,
        low: Option<&'a [u8]>,
        high: Option<&'a [u8]>,
    ) -> Option<(&'a [u8], &'a [u8])> {
        let is_inside = |ends: &Ends| {
            low.is_none_or(|low| Key::new(low).beginning < ends.least)
                && high.is_none_or(|high| ends.most < Key::new(high).beginning)
        };
        if self.ends.as_ref().is_some_and(is_inside) {
            return None;
        }
        let (first, last) = self.first_and_last()?;
        let below = low.filter(|&low| first < low).map(|low| (low, first));
        below.or(high.filter(|&high| last >= high).map(|high| (high, last)))
    }

    /// Returns the cell of a branch whose child contains `key`.
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(cell) => cell,
            Err(place) => place.saturating_sub(1),
        }
    }

    /// Returns the number of bytes that the cells take.
    pub(super) fn used(&self) -> usize {
        DATA_SIZE - self.cells_start() + 2 * self.count()
    }

    pub(super) fn fits(&self, key: &[u8], value: &[u8]) -> bool {
        self.used() + cell_size(key, value) <= CAPACITY
    }

    /// Inserts a cell. It must fit.
    pub(super) fn insert(&mut self, cell: usize, key: &[u8], value: &[u8]) {
        assert!(self.fits(key, value), "the caller splits the page first");
        self.ends = None;
        let count = self.count();
        let size = cell_size(key, value) - 2;
        let end = self.cell_begin_before(cell);
        let start = self.cells_start();
        self.data.copy_within(start..end, start - size);
        let begin = end - size;
        let key_length = u16::try_from(key.len()).expect("at most KEY_MAX bytes");
        self.data[begin..begin + 2].copy_from_slice(&key_length.to_be_bytes());
        self.data[begin + 2..begin + 2 + key.len()].copy_from_slice(key);
        self.data[begin + 2 + key.len()..end].copy_from_slice(value);
        let directory = DIRECTORY + 2 * cell..DIRECTORY + 2 * count;
        self.data.copy_within(directory.clone(), directory.start + 2);
        self.move_offsets(cell + 1..count + 1, |offset| offset.wrapping_sub(of_page(size)));
        self.set_offset(cell, begin);
        self.set_u16(page_layout::COUNT, count + 1);
        self.set_u16(page_layout::CELLS, start - size);
    }

    pub(super) fn remove(&mut self, cell: usize) {
        self.ends = None;
        let count = self.count();
        let (begin, end) = (self.offset(cell), self.cell_end(cell));
        let size = end - begin;
        let start = self.cells_start();
        self.data.copy_within(start..begin, start + size);
        let directory = DIRECTORY + 2 * (cell + 1)..DIRECTORY + 2 * count;
        self.data.copy_within(directory.clone(), directory.start - 2);
        self.move_offsets(cell..count - 1, |offset| offset.wrapping_add(of_page(size)));
        self.set_offset(count - 1, 0);
        self.data[start..start + size].fill(0);
        self.set_u16(page_layout::COUNT, count - 1);
        self.set_u16(page_layout::CELLS, start + size);
    }

    /// Appends a cell.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.insert(self.count(), key, value);
    }

    fn parts(&self, cell: usize) -> (&[u8], &[u8]) {
        let (begin, end) = (self.offset(cell), self.cell_end(cell));
        let key_length = usize::from(u16::from_be_bytes([self.data[begin], self.data[begin + 1]]));
        self.data[begin + 2..end].split_at(key_length)
    }

    fn offset(&self, cell: usize) -> usize {
        let at = DIRECTORY + 2 * cell;
        usize::from(u16::from_be_bytes([self.data[at], self.data[at + 1]]))
    }

    fn set_offset(&mut self, cell: usize, offset: usize) {
        let at = DIRECTORY + 2 * cell;
        self.data[at..at + 2].copy_from_slice(&of_page(offset).to_be_bytes());
    }

    /// Changes the offsets of a range of cells that move together.
    fn move_offsets(&mut self, cells: Range<usize>, change: impl Fn(u16) -> u16) {
        let directory = &mut self.data[DIRECTORY + 2 * cells.start..DIRECTORY + 2 * cells.end];
        for offset in directory.as_chunks_mut::<2>().0 {
            *offset = change(u16::from_be_bytes(*offset)).to_be_bytes();
        }
    }

    /// Returns the end of a cell, which is the start of the previous one.
    fn cell_end(&self, cell: usize) -> usize {
        self.cell_begin_before(cell)
    }

    fn cell_begin_before(&self, cell: usize) -> usize {
        match cell.checked_sub(1) {
            Some(before) => self.offset(before),
            None => DATA_SIZE,
        }
    }

    fn cells_start(&self) -> usize {
        usize::from(page_layout::CELLS.u16(&self.data[..]))
    }

    fn set_u16(&mut self, field: Field, value: usize) {
        field.put(&mut self.data[..], &of_page(value).to_be_bytes());
    }

    fn check(&self, expect: PageExpectation) -> std::result::Result<(), Fault> {
        let tag = if expect.level == 0 { LEAF } else { BRANCH };
        let frame = [
            (page_layout::TAG, tag),
            (page_layout::TREE, expect.tree.0),
            (page_layout::LEVEL, expect.level),
            (page_layout::RESERVED, 0),
        ];
        for (field, expected) in frame {
            let found = self.data[field.offset];
            if found != expected {
                return Err((Check::Page, expected.into(), found.into()));
            }
        }
        let count = self.count();
        if count == 0 || DIRECTORY + 2 * count > DATA_SIZE {
            return Err((Check::Page, (CAPACITY / 2).into(), count.into()));
        }
        let mut end = DATA_SIZE;
        for cell in 0..count {
            end = self.check_cell(cell, end)?;
        }
        let start = self.cells_start();
        if start != end || start < DIRECTORY + 2 * count {
            return Err((Check::Page, end.into(), start.into()));
        }
        if self.data[DIRECTORY + 2 * count..start].iter().any(|&byte| byte != 0) {
            return Err((Check::Reserved, "zeros".into(), "other bytes".into()));
        }
        Ok(())
    }

    /// Checks a cell that ends at `end`. Returns its start.
    fn check_cell(&self, cell: usize, end: usize) -> std::result::Result<usize, Fault> {
        let begin = self.offset(cell);
        let is_inside = begin >= DIRECTORY && begin + 2 <= end;
        if !is_inside {
            return Err((Check::Page, end.into(), begin.into()));
        }
        let key_length = usize::from(u16::from_be_bytes([self.data[begin], self.data[begin + 1]]));
        let body = end - begin - 2;
        if body > CELL_MAX {
            return Err((Check::Page, CELL_MAX.into(), body.into()));
        }
        if key_length > KEY_MAX.min(body) {
            return Err((Check::Page, KEY_MAX.min(body).into(), key_length.into()));
        }
        let (key, value) = (self.key(cell), self.value(cell));
        let is_above = cell == 0 || self.key(cell - 1) < key;
        if !is_above {
            let (before, key) = (self.key(cell - 1).to_vec(), key.to_vec());
            return Err((Check::KeyOrder, Value::Bytes(before), Value::Bytes(key)));
        }
        if self.is_branch() {
            if cell == 0 && !key.is_empty() {
                return Err((Check::KeyOrder, 0_u8.into(), key.len().into()));
            }
            check_child(value)?;
        }
        Ok(begin)
    }
}

/// Returns an offset or length in a page as it is stored.
fn of_page(number: usize) -> u16 {
    u16::try_from(number).expect("at most the size of a page")
}

type Fault = (Check, Value, Value);

fn check_child(value: &[u8]) -> std::result::Result<(), Fault> {
    let bytes: [u8; DoubledRef::SIZE] =
        value.try_into().map_err(|_| (Check::Page, DoubledRef::SIZE.into(), value.len().into()))?;
    match DoubledRef::decode(bytes) {
        Ok(Some(_)) => Ok(()),
        Ok(None) => Err((Check::Page, "two positions".into(), (-1_i32).into())),
        Err(raw) => Err((Check::Page, "two positions".into(), raw.into())),
    }
}

/// Returns the number of bytes that a cell takes in a page, including its entry in the directory.
pub(super) fn cell_size(key: &[u8], value: &[u8]) -> usize {
    CELL_OVERHEAD + key.len() + value.len()
}
