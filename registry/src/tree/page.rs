//! A page: sorted cells with whole keys. They fit the data of one block, in which the bytes that all
//! keys begin with are stored only once.

use std::cmp::Ordering;
use std::fmt;

use ar7_engine::format::DoubledRef;
use zeroize::Zeroizing;

/// Maximum length of a key in bytes.
pub const KEY_MAX: usize = 300;

/// Maximum length of a key and its value together, in bytes. Four cells fit a page. If a page has no
/// room for a cell, some place divides both so that each side fits a page.
pub const CELL_MAX: usize = 960;

/// Maximum length of the prefix of a page in bytes. It bounds the memory that a page takes.
pub(super) const PREFIX_MAX: usize = 64;

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

/// Number of bytes that a cell takes in addition to its key and value: its entry in the directory
/// and the key's length.
pub(super) const CELL_OVERHEAD: usize = 4;

/// Number of bytes for the common beginning of the keys, and for cells.
pub(super) const CAPACITY: usize = 4000;

/// A page that uses fewer bytes is merged with a neighbour.
pub(super) const UNDERFULL: usize = CAPACITY / 4;

/// Maximum number of cells: one key can equal the prefix, and every other one has a byte more.
const CELLS_MAX: usize = CAPACITY / (CELL_OVERHEAD + 1) + 1;

// Offsets in memory have 16 bits. All values together take less than the capacity.
const _: () = assert!(CELLS_MAX * (2 + PREFIX_MAX) + CAPACITY < 1 << 16);

/// Number of bytes by which the memory of a page that is changed grows.
const STEP: usize = 1024;

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
#[derive(Clone, PartialEq, Eq)]
pub struct Page {
    tree: TreeNumber,
    level: u8,
    /// Where each cell begins in `cells`.
    offsets: Vec<u16>,
    /// In order: the length of the key (u16), the key, the value.
    cells: Zeroizing<Vec<u8>>,
    /// `None` while the page is being changed.
    ends: Option<Ends>,
}

/// The first bytes of a page's first and last key. With them, most searches touch only cells near
/// the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        let cells = Zeroizing::new(Vec::with_capacity(4 * STEP));
        Page { tree, level, offsets: Vec::new(), cells, ends: None }
    }

    /// Makes a page of checked cells.
    pub(super) fn of_cells(
        expect: PageExpectation,
        offsets: Vec<u16>,
        cells: Zeroizing<Vec<u8>>,
    ) -> Page {
        Page { tree: expect.tree, level: expect.level, offsets, cells, ends: None }.settled()
    }

    /// Returns how many bytes of memory the page takes.
    pub fn memory(&self) -> u64 {
        (size_of::<Page>() + self.cells.capacity() + 2 * self.offsets.capacity()) as u64
    }

    /// Returns the tree of the page.
    pub fn tree(&self) -> TreeNumber {
        self.tree
    }

    /// Returns the level, 0 for a leaf.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Returns whether the page has children.
    pub fn is_branch(&self) -> bool {
        self.level > 0
    }

    /// Returns the number of cells.
    pub fn count(&self) -> usize {
        self.offsets.len()
    }

    /// Returns the key of a cell. The first key of a branch is empty: its child holds all keys
    /// below the second key.
    pub fn key(&self, cell: usize) -> &[u8] {
        let begin = self.begin(cell);
        let length = usize::from(u16::from_be_bytes([self.cells[begin], self.cells[begin + 1]]));
        &self.cells[begin + 2..begin + 2 + length]
    }

    /// Returns the value of a cell; in a branch, its encoded child.
    pub fn value(&self, cell: usize) -> &[u8] {
        &self.cells[self.begin(cell) + 2 + self.key(cell).len()..self.begin(cell + 1)]
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
        let end = self.begin(cell + 1);
        self.cells[end - value.len()..end].copy_from_slice(value);
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

    /// Returns the violated bound and the key outside of it: the first key that is not empty if it is
    /// below `low` (in a branch, not above it), or the last key if it is not below `high`.
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
        // The first child of a branch has the keys from `low` on, so the next one begins above it.
        let is_below = |low: &[u8]| first < low || self.is_branch() && first == low;
        let below = low.filter(|low| is_below(low)).map(|low| (low, first));
        below.or(high.filter(|&high| last >= high).map(|high| (high, last)))
    }

    /// Returns the cell of a branch whose child contains `key`.
    pub(super) fn child_for(&self, key: &[u8]) -> usize {
        match self.search(key) {
            Ok(cell) => cell,
            Err(place) => place.saturating_sub(1),
        }
    }

    /// Returns what all keys begin with, up to a limit; in a branch, all but the first. It is empty if there are fewer than
    /// two of them.
    pub(super) fn prefix(&self) -> &[u8] {
        match self.first_and_last() {
            Some((first, last)) if first != last => &first[..common(first, last)],
            _ => &[],
        }
    }

    /// Returns the number of bytes that prefix and cells take in a block.
    pub(super) fn used(&self) -> usize {
        self.cells.len() + 2 * self.count()
            - saved_by_prefix(self.level, self.count(), |cell| self.key(cell))
    }

    /// Returns whether there is room for a cell at this place.
    pub(super) fn fits(&self, cell: usize, key: &[u8], value: &[u8]) -> bool {
        let keys = |at: usize| match at.cmp(&cell) {
            Ordering::Less => self.key(at),
            Ordering::Equal => key,
            Ordering::Greater => self.key(at - 1),
        };
        let (all, count) = (self.cells.len() + cell_size(key, value), self.count());
        all + 2 * count - saved_by_prefix(self.level, count + 1, keys) <= CAPACITY
    }

    /// Returns whether there is room for another key in place of that of a cell.
    pub(super) fn fits_key(&self, cell: usize, key: &[u8]) -> bool {
        let keys = |at: usize| if at == cell { key } else { self.key(at) };
        let (all, count) = (self.cells.len() + key.len() - self.key(cell).len(), self.count());
        all + 2 * count - saved_by_prefix(self.level, count, keys) <= CAPACITY
    }

    /// Inserts a cell. It must fit.
    pub(super) fn insert(&mut self, cell: usize, key: &[u8], value: &[u8]) {
        assert!(self.fits(cell, key, value), "the caller splits the page first");
        self.ends = None;
        let (begin, size) = (self.begin(cell), 2 + key.len() + value.len());
        self.grow(size);
        let end = self.cells.len();
        self.cells.resize(end + size, 0);
        self.cells.copy_within(begin..end, begin + size);
        let (length, body) = self.cells[begin..begin + size].split_at_mut(2);
        length.copy_from_slice(&of_page(key.len()).to_be_bytes());
        body[..key.len()].copy_from_slice(key);
        body[key.len()..].copy_from_slice(value);
        for offset in &mut self.offsets[cell..] {
            *offset += of_page(size);
        }
        self.offsets.insert(cell, of_page(begin));
    }

    pub(super) fn remove(&mut self, cell: usize) {
        self.ends = None;
        let (begin, end) = (self.begin(cell), self.begin(cell + 1));
        self.cells.drain(begin..end);
        self.offsets.remove(cell);
        for offset in &mut self.offsets[cell..] {
            *offset -= of_page(end - begin);
        }
    }

    /// Appends a cell.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.insert(self.count(), key, value);
    }

    /// Makes room for more bytes of cells. A vector that grows by itself would leave a copy in memory.
    fn grow(&mut self, more: usize) {
        let needed = self.cells.len() + more;
        if needed > self.cells.capacity() {
            let mut cells = Vec::with_capacity(needed.next_multiple_of(STEP));
            cells.extend_from_slice(&self.cells);
            self.cells = Zeroizing::new(cells);
        }
    }

    /// Returns where a cell begins, or where the last one ends.
    fn begin(&self, cell: usize) -> usize {
        self.offsets.get(cell).map_or(self.cells.len(), |&offset| usize::from(offset))
    }
}

impl fmt::Debug for Page {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Page { tree, level, offsets, .. } = self;
        let mut structure = formatter.debug_struct("Page");
        structure.field("tree", tree).field("level", level);
        structure.field("count", &offsets.len()).finish_non_exhaustive()
    }
}

/// Returns an offset or length in a page as it is stored.
pub(super) fn of_page(number: usize) -> u16 {
    u16::try_from(number).expect("at most the size of a page")
}

/// Returns the number of bytes that the prefix saves in a page of `count` cells that have these keys.
pub(super) fn saved_by_prefix<'k>(
    level: u8,
    count: usize,
    key: impl Fn(usize) -> &'k [u8],
) -> usize {
    // The first key of a branch is empty, and has no prefix.
    let first = usize::from(level > 0);
    match count.checked_sub(first + 1) {
        Some(more) if more > 0 => more * common(key(first), key(count - 1)),
        _ => 0,
    }
}

/// Returns the number of bytes that two keys begin with, up to the limit of a prefix.
fn common(first: &[u8], last: &[u8]) -> usize {
    first.iter().zip(last).take(PREFIX_MAX).take_while(|(one, other)| one == other).count()
}

/// Returns the number of bytes that a cell takes in a page, including its entry in the directory.
pub(super) fn cell_size(key: &[u8], value: &[u8]) -> usize {
    CELL_OVERHEAD + key.len() + value.len()
}
