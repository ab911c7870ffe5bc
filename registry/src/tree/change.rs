//! Changes of the working tree: insertion with splitting, removal with merging.

use ar7_engine::{Check, Error as EngineError};

use super::page::{CAPACITY, Child, Page, UNDERFULL, cell_size};
use super::{PageSpace, Tree};
use crate::error::Result;

/// The way down to a leaf: each page in memory, and the cell taken in it.
type Path = Vec<(u32, usize)>;

/// A cell on its way to another page.
type Cell = (Vec<u8>, Vec<u8>);

impl Tree {
    pub(super) fn put<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        if self.root.is_none() {
            let leaf = self.add_dirty(Page::new(self.id, 0));
            self.root = Some(Child::Dirty(leaf));
            self.depth = 1;
        }
        let mut path = self.dirty_path(space, key)?;
        let (leaf, _) = path.pop().expect("a path ends in a leaf");
        let page = self.page_mut(leaf);
        let (cell, before) = match page.search(key) {
            Ok(cell) => {
                let before = page.value(cell).to_vec();
                page.remove(cell);
                (cell, Some(before))
            }
            Err(cell) => (cell, None),
        };
        self.entries += u64::from(before.is_none());
        self.insert_cell(leaf, cell, key, value, path);
        Ok(before)
    }

    /// Removes the entry with this key, which is there.
    pub(super) fn take<S: PageSpace + ?Sized>(&mut self, space: &mut S, key: &[u8]) -> Result<()> {
        let mut path = self.dirty_path(space, key)?;
        let (leaf, _) = path.pop().expect("a path ends in a leaf");
        let page = self.page_mut(leaf);
        let cell = page.search(key).expect("looked up before");
        page.remove(cell);
        // The number comes from the meta slot, which somebody with the key may have made.
        self.entries = self.entries.checked_sub(1).ok_or_else(|| self.miscounted())?;
        self.mend(space, leaf, path)
    }

    /// Copies every page on the way to `key` into memory.
    fn dirty_path<S: PageSpace + ?Sized>(&mut self, space: &mut S, key: &[u8]) -> Result<Path> {
        let mut path = Path::with_capacity(usize::from(self.depth));
        let mut child = self.root.expect("the caller has made a root");
        for level in (0..self.depth).rev() {
            let number = self.make_dirty(space, child, level)?;
            match path.last() {
                Some(&(parent, cell)) => {
                    self.page_mut(parent).set_child(cell, Child::Dirty(number));
                }
                None => self.root = Some(Child::Dirty(number)),
            }
            let page = self.page(number);
            let cell = if level > 0 { page.child_for(key) } else { 0 };
            if level > 0 {
                child = page.child(cell);
            }
            path.push((number, cell));
        }
        Ok(path)
    }

    /// Puts a cell into a page, and splits it if it is full; the new page goes into the parent the same way.
    fn insert_cell(&mut self, number: u32, cell: usize, key: &[u8], value: &[u8], path: Path) {
        let page = self.page_mut(number);
        if page.fits(key, value) {
            page.insert(cell, key, value);
            return;
        }
        let (separator, right) = self.split(number, cell, key, value);
        self.insert_child(number, &separator, right, path);
    }

    /// Puts a page right of `left` into the parent, or over both a new root.
    fn insert_child(&mut self, left: u32, separator: &[u8], right: Page, mut path: Path) {
        let right = Child::Dirty(self.add_dirty(right)).encode();
        if let Some((parent, place)) = path.pop() {
            self.insert_cell(parent, place + 1, separator, &right, path);
            return;
        }
        let mut root = Page::new(self.id, self.depth);
        root.push(&[], &Child::Dirty(left).encode());
        root.push(separator, &right);
        self.root = Some(Child::Dirty(self.add_dirty(root)));
        self.depth += 1;
    }

    /// Splits a page into which a cell does not fit. At the end of a page only the new cell goes right: ascending
    /// keys then leave full pages behind.
    fn split(&mut self, number: u32, cell: usize, key: &[u8], value: &[u8]) -> (Vec<u8>, Page) {
        let page = self.page(number);
        let level = page.level();
        let mut cells = cells_of(page);
        let at_end = cell == cells.len();
        cells.insert(cell, (key.to_vec(), value.to_vec()));
        let middle = if at_end { cells.len() - 1 } else { middle_of(&cells) };
        let mut right_cells = cells.split_off(middle);
        let separator = separator_of(level, &cells, &mut right_cells);
        *self.page_mut(number) = self.filled(level, &cells);
        (separator, self.filled(level, &right_cells))
    }

    /// Mends a page that lost a cell: gone if it is empty, joined with a neighbour if it is nearly so.
    fn mend<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        number: u32,
        mut path: Path,
    ) -> Result<()> {
        let count = self.page(number).count();
        let Some((parent, place)) = path.pop() else {
            self.mend_root(number);
            return Ok(());
        };
        if count == 0 {
            self.take_dirty(number);
            self.remove_child(parent, place);
            return self.mend(space, parent, path);
        }
        if self.page(number).used() >= UNDERFULL || self.page(parent).count() < 2 {
            return Ok(());
        }
        // The right neighbour, or for the last page the left one.
        let left_place = place.min(self.page(parent).count() - 2);
        let other_place = if left_place == place { place + 1 } else { left_place };
        let level = self.page(number).level();
        let other = self.make_dirty(space, self.page(parent).child(other_place), level)?;
        self.page_mut(parent).set_child(other_place, Child::Dirty(other));
        let (left, right) = if left_place == place { (number, other) } else { (other, number) };
        if self.join(left, right, parent, left_place)? {
            return self.mend(space, parent, path);
        }
        Ok(())
    }

    /// An empty root is no root; a root with one child gives way to it.
    fn mend_root(&mut self, number: u32) {
        let page = self.page(number);
        match page.count() {
            0 => {
                self.take_dirty(number);
                self.root = None;
                self.depth = 0;
            }
            1 if page.is_branch() => {
                let child = page.child(0);
                self.take_dirty(number);
                self.root = Some(child);
                self.depth -= 1;
                if let Child::Dirty(child) = child {
                    self.mend_root(child);
                }
            }
            _ => {}
        }
    }

    /// Joins two neighbours in one page, or shares their cells evenly if one does not hold them and the
    /// parent takes the new separator. Returns whether the parent lost a cell.
    fn join(&mut self, left: u32, right: u32, parent: u32, left_place: usize) -> Result<bool> {
        let level = self.page(left).level();
        let separator = self.page(parent).key(left_place + 1).to_vec();
        let mut cells = cells_of(self.page(left));
        let mut others = cells_of(self.page(right));
        if level > 0 {
            // The first key of a branch is empty; between two branches the parent knows it.
            others[0].0.clone_from(&separator);
        }
        cells.append(&mut others);
        if !cells.is_sorted_by(|(before, _), (after, _)| before < after) {
            let expected = "the keys of two neighbours in order";
            return Err(EngineError::damaged(None, Check::KeyOrder, expected, "others").into());
        }
        if size_of(&cells) <= CAPACITY {
            *self.page_mut(left) = self.filled(level, &cells);
            self.take_dirty(right);
            self.remove_child(parent, left_place + 1);
            return Ok(true);
        }
        let mut right_cells = cells.split_off(middle_of(&cells));
        let new_separator = separator_of(level, &cells, &mut right_cells);
        let child = Child::Dirty(right).encode();
        let room = CAPACITY - self.page(parent).used() + cell_size(&separator, &child);
        if cell_size(&new_separator, &child) <= room {
            let page = self.page_mut(parent);
            page.remove(left_place + 1);
            page.insert(left_place + 1, &new_separator, &child);
            *self.page_mut(left) = self.filled(level, &cells);
            *self.page_mut(right) = self.filled(level, &right_cells);
        }
        Ok(false)
    }

    /// Removes a child; whichever becomes the first has the empty key.
    fn remove_child(&mut self, parent: u32, place: usize) {
        let page = self.page_mut(parent);
        page.remove(place);
        if place == 0 && page.count() > 0 {
            let child = page.value(0).to_vec();
            page.remove(0);
            page.insert(0, &[], &child);
        }
    }

    fn filled(&self, level: u8, cells: &[Cell]) -> Page {
        let mut page = Page::new(self.id, level);
        for (key, value) in cells {
            page.push(key, value);
        }
        page
    }
}

fn cells_of(page: &Page) -> Vec<Cell> {
    (0..page.count()).map(|cell| (page.key(cell).to_vec(), page.value(cell).to_vec())).collect()
}

fn size_of(cells: &[Cell]) -> usize {
    cells.iter().map(|(key, value)| cell_size(key, value)).sum()
}

/// Where to divide cells so that both sides take about as many bytes, and neither is empty or too full.
fn middle_of(cells: &[Cell]) -> usize {
    let half = size_of(cells) / 2;
    let mut size = 0;
    let within = |(key, value): &&Cell| {
        size += cell_size(key, value);
        size <= half
    };
    cells.iter().take_while(within).count().clamp(1, cells.len() - 1)
}

/// The key that divides two pages. For leaves the shortest that does; for branches the right side's first,
/// which is not needed there any more.
fn separator_of(level: u8, left: &[Cell], right: &mut [Cell]) -> Vec<u8> {
    let first = &mut right[0].0;
    if level > 0 {
        return std::mem::take(first);
    }
    let last = &left[left.len() - 1].0;
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    first[..=common].to_vec()
}
