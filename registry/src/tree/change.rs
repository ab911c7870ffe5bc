//! Changes of the working tree: insertion with splits, removal with merges.
//!
//! A change loads and checks every page on the path to a key before it changes the first one. So a
//! failed change leaves the tree unchanged, and no dirty page has keys outside the bounds that its
//! parents state.

use std::sync::Arc;

use ar7_engine::Error as EngineError;
use ar7_engine::format::{DEPTH_MAX, DoubledRef};
use zeroize::Zeroizing;

use super::cursor::{Cursor, PageHandle, load};
use super::division::{Cell, Divide, Division};
use super::page::{CELL_MAX, Child, KEY_MAX, Page, PageExpectation, UNDERFULL};
use super::space::PageSpace;
use super::working::Tree;
use crate::error::Result;

/// The path from the root to a leaf: each dirty page, and the cell chosen in it.
pub(super) type Path = Vec<(u32, usize)>;

impl Tree {
    /// Inserts or replaces an entry. Returns the old value. A failure changes nothing.
    pub fn insert<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        check_size("length of a key in bytes", key.len(), KEY_MAX)?;
        check_size("length of an entry in bytes", key.len() + value.len(), CELL_MAX)?;
        if self.root.is_none() {
            let leaf = filled(self.new_page(0), &[(key, value)]);
            self.root = Some(Child::Dirty(self.add_dirty(leaf)));
            (self.depth, self.entries) = (1, 1);
            return Ok(None);
        }
        if self.depth >= DEPTH_MAX {
            // Only an attacker with the key can make a tree this deep. Pages that are split when
            // full result in far fewer levels.
            let limit = u64::from(DEPTH_MAX);
            return Err(EngineError::Full { what: "the depth of a tree", limit }.into());
        }
        let (descent, before) = self.descend_to(space, key)?;
        let entries = self.entries.checked_add(u64::from(before.is_none()));
        self.entries = entries.ok_or_else(|| self.miscounted())?;
        let mut path = match descent {
            Descent::Dirty(path) => path,
            Descent::Loaded(steps) => self.make_dirty(space, steps),
        };
        let (leaf, cell) = path.pop().expect("a path ends at a leaf");
        match before.as_ref().map(Vec::len) {
            Some(length) if length == value.len() => self.page_mut(leaf).set_value(cell, value),
            Some(_) => {
                self.page_mut(leaf).remove(cell);
                self.insert_cell(leaf, cell, key, value, path);
            }
            None => self.insert_cell(leaf, cell, key, value, path),
        }
        Ok(before)
    }

    /// Returns the path to the leaf where a key is or belongs, and the key's value.
    fn descend_to<S: PageSpace + ?Sized>(
        &self,
        space: &S,
        key: &[u8],
    ) -> Result<(Descent, Option<Vec<u8>>)> {
        if let Some((path, found)) = self.path_in_memory(key) {
            let value = path
                .last()
                .filter(|_| found)
                .map(|&(leaf, cell)| self.page(leaf).value(cell).to_vec());
            return Ok((Descent::Dirty(path), value));
        }
        let cursor = Cursor::locate(self.view(space), key)?;
        let value = cursor.value_of(key).map(<[u8]>::to_vec);
        Ok((Descent::Loaded(steps_of(cursor)), value))
    }

    /// Returns the path to a key if every page on it is dirty, and whether the key exists. In a
    /// series of insertions this nearly always succeeds.
    fn path_in_memory(&self, key: &[u8]) -> Option<(Path, bool)> {
        let mut path = Path::with_capacity(usize::from(self.depth));
        let mut child = self.root?;
        while let Child::Dirty(number) = child {
            let page = self.page(number);
            if !page.is_branch() {
                let place = page.search(key);
                path.push((number, place.unwrap_or_else(|place| place)));
                return Some((path, place.is_ok()));
            }
            let cell = page.child_for(key);
            path.push((number, cell));
            child = page.child(cell);
        }
        None
    }

    /// Removes an entry. Returns its value. A failure changes nothing.
    pub fn remove<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>> {
        let cursor = Cursor::locate(self.view(space), key)?;
        let Some(value) = cursor.value_of(key).map(<[u8]>::to_vec) else { return Ok(None) };
        let steps = steps_of(cursor);
        let last = steps.iter().all(|step| step.alone);
        // The root and the number of entries come from the file. If they contradicted each other
        // after the removal, the tree could not be opened again.
        let entries = self.entries.checked_sub(1).filter(|&left| (left == 0) == last);
        self.entries = entries.ok_or_else(|| self.miscounted())?;
        let path = self.make_dirty(space, steps);
        let &(leaf, cell) = path.last().expect("a path ends at a leaf");
        self.page_mut(leaf).remove(cell);
        self.rebalance(space, path);
        Ok(Some(value))
    }

    /// Copies every sealed page of the path into memory. All of them are loaded, so this cannot
    /// fail.
    pub(super) fn make_dirty<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        steps: Vec<Step>,
    ) -> Path {
        let mut path = Path::with_capacity(steps.len());
        for Step { page, cell, .. } in steps {
            let number = match page {
                Found::Dirty(number) => number,
                Found::Sealed(block, page) => self.copy(space, block, &page, path.last().copied()),
            };
            path.push((number, cell));
        }
        path
    }

    /// Inserts a cell into a page. Splits a full page, and inserts the new page into the parent in
    /// the same way.
    fn insert_cell(&mut self, number: u32, cell: usize, key: &[u8], value: &[u8], path: Path) {
        let page = self.page_mut(number);
        if page.fits(cell, key, value) {
            page.insert(cell, key, value);
            return;
        }
        let (separator, right) = self.split(number, cell, key, value);
        self.insert_child(number, &separator, right, path);
    }

    /// Inserts a page into the parent, to the right of `left`. If `left` is the root, makes a new
    /// root above both.
    fn insert_child(&mut self, left: u32, separator: &[u8], right: Page, mut path: Path) {
        let right = Child::Dirty(self.add_dirty(right)).encode();
        if let Some((parent, place)) = path.pop() {
            self.insert_cell(parent, place + 1, separator, &right, path);
            return;
        }
        let left = Child::Dirty(left).encode();
        let cells: [Cell<'_>; 2] = [(&[], &left), (separator, &right)];
        let root = filled(self.new_page(self.depth), &cells);
        self.root = Some(Child::Dirty(self.add_dirty(root)));
        self.depth += 1;
    }

    /// Splits a page that has no room for a cell. A cell at the end of a page goes alone into the
    /// right page, so that ascending keys leave full pages behind.
    fn split(
        &mut self,
        number: u32,
        cell: usize,
        key: &[u8],
        value: &[u8],
    ) -> (Zeroizing<Vec<u8>>, Page) {
        let page = self.page(number);
        let level = page.level();
        let mut cells = cells_of(page);
        let at_end = cell == cells.len();
        cells.insert(cell, (key, value));
        let middle =
            if at_end { cell } else { Division::new(level, &cells).place(Divide::Balanced) };
        let (left_cells, right_cells) = cells.split_at_mut(middle);
        let separator = separator_of(level, left_cells, right_cells);
        let right = filled(self.new_page(level), right_cells);
        if !at_end {
            *self.page_mut(number) = filled(self.new_page(level), left_cells);
        }
        (separator, right)
    }

    /// Rebalances the pages on a path whose leaf lost a cell: removes empty pages and merges
    /// underfull pages with a neighbour.
    pub(super) fn rebalance<S: PageSpace + ?Sized>(&mut self, space: &mut S, mut path: Path) {
        while let Some((number, _)) = path.pop() {
            let Some(&(parent, place)) = path.last() else {
                return self.rebalance_root(number);
            };
            let page = self.page(number);
            if page.count() == 0 {
                self.take_dirty(number);
                self.remove_child(parent, place);
            } else if page.used() >= UNDERFULL || !self.merge_neighbour(space, &path, number) {
                return;
            }
        }
    }

    /// Removes an empty root. Replaces a root that has one child by that child.
    fn rebalance_root(&mut self, number: u32) {
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
                    self.rebalance_root(child);
                }
            }
            _ => {}
        }
    }

    /// Merges the page below a path with its right neighbour, or with the left one if it is the
    /// last child. Returns whether the parent lost a cell.
    fn merge_neighbour<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        path: &Path,
        number: u32,
    ) -> bool {
        let &(parent, place) = path.last().expect("the root has no neighbours");
        let last = self.page(parent).count() - 1;
        if last == 0 {
            return false;
        }
        let other_place = if place < last { place + 1 } else { place - 1 };
        let Some(other) = self.neighbour(space, path, other_place) else { return false };
        if place < last {
            self.merge(number, other, parent, place, Divide::Balanced)
        } else {
            self.merge(other, number, parent, other_place, Divide::Balanced)
        }
    }

    /// Loads the child at `place` of the last page of a path into memory. If it is unreadable, the
    /// merge is skipped; the damage is reported when that page is needed.
    pub(super) fn neighbour<S: PageSpace + ?Sized>(
        &mut self,
        space: &mut S,
        path: &Path,
        place: usize,
    ) -> Option<u32> {
        let (&(parent, _), grandparents) = path.split_last()?;
        let page = self.page(parent);
        let block = match page.child(place) {
            Child::Dirty(number) => return Some(number),
            Child::Sealed(block) => block,
        };
        let expect = PageExpectation { tree: self.id, level: page.level() - 1 };
        let above = grandparents.iter().copied().chain([(parent, place)]);
        let above = above.map(|(number, cell)| (self.page(number), cell));
        let page = load(space, block, expect, above).ok()?;
        Some(self.copy(space, block, &page, Some((parent, place))))
    }

    /// Merges two neighbours into one page. If their cells do not fit one page, divides them where
    /// `divide` says, provided that the parent has room for the new separator. Returns whether the
    /// parent lost a cell.
    pub(super) fn merge(
        &mut self,
        left: u32,
        right: u32,
        parent: u32,
        left_place: usize,
        divide: Divide,
    ) -> bool {
        let level = self.page(left).level();
        let separator = self.page(parent).key(left_place + 1);
        let mut cells = cells_of(self.page(left));
        let first_right = cells.len();
        cells.append(&mut cells_of(self.page(right)));
        if level > 0 {
            // The first key of a branch is empty. Between two branches, the parent's separator
            // takes its place.
            cells[first_right].0 = separator;
        }
        let division = Division::new(level, &cells);
        if division.is_one_page() {
            *self.page_mut(left) = filled(self.new_page(level), &cells);
            self.take_dirty(right);
            self.remove_child(parent, left_place + 1);
            return true;
        }
        let middle = division.place(divide);
        let (left_cells, right_cells) = cells.split_at_mut(middle);
        let new_separator = separator_of(level, left_cells, right_cells);
        let child = Child::Dirty(right).encode();
        if self.page(parent).fits_key(left_place + 1, &new_separator) {
            let left_page = filled(self.new_page(level), left_cells);
            let right_page = filled(self.new_page(level), right_cells);
            (*self.page_mut(left), *self.page_mut(right)) = (left_page, right_page);
            let page = self.page_mut(parent);
            page.remove(left_place + 1);
            page.insert(left_place + 1, &new_separator, &child);
        }
        false
    }

    /// Removes a child. The key of the first child is always empty.
    fn remove_child(&mut self, parent: u32, place: usize) {
        let page = self.page_mut(parent);
        page.remove(place);
        if place == 0 && page.count() > 0 {
            let child = page.child(0).encode();
            page.remove(0);
            page.insert(0, &[], &child);
        }
    }

    fn new_page(&self, level: u8) -> Page {
        Page::new(self.id, level)
    }
}

/// The path from the root to a leaf.
enum Descent {
    /// All pages are dirty.
    Dirty(Path),
    /// Some pages are sealed.
    Loaded(Vec<Step>),
}

/// A step on the path to a key. It borrows nothing from the tree, so that the tree can be changed.
pub(super) struct Step {
    page: Found,
    cell: usize,
    /// Whether the cell is the page's only one.
    alone: bool,
}

/// A page on the path.
enum Found {
    Sealed(DoubledRef, Arc<Page>),
    Dirty(u32),
}

pub(super) fn steps_of<S: PageSpace + ?Sized>(cursor: Cursor<'_, S>) -> Vec<Step> {
    let step = |(page, cell): (PageHandle<'_>, usize)| Step {
        alone: page.count() == 1,
        page: match page {
            PageHandle::Sealed(block, page) => Found::Sealed(block, page),
            PageHandle::Kept(block, page) => Found::Sealed(block, Arc::clone(page)),
            PageHandle::Dirty(number, _) => Found::Dirty(number),
        },
        cell,
    };
    cursor.path.into_iter().map(step).collect()
}

fn filled(mut page: Page, cells: &[Cell<'_>]) -> Page {
    for (key, value) in cells {
        page.push(key, value);
    }
    page
}

fn cells_of(page: &Page) -> Vec<Cell<'_>> {
    (0..page.count()).map(|cell| (page.key(cell), page.value(cell))).collect()
}

/// Returns the key that separates two pages: the shortest possible one between leaves. Between
/// branches it is the first key of the right page, which that page no longer needs.
fn separator_of(level: u8, left: &[Cell<'_>], right: &mut [Cell<'_>]) -> Zeroizing<Vec<u8>> {
    let first = right[0].0;
    if level > 0 {
        right[0].0 = &[];
        return Zeroizing::new(first.to_vec());
    }
    let last = left[left.len() - 1].0;
    let common = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    Zeroizing::new(first[..=common].to_vec())
}

fn check_size(what: &'static str, found: usize, allowed: usize) -> Result<()> {
    if found > allowed {
        let (found, allowed) = (found.into(), (0..=allowed).into());
        return Err(EngineError::OutOfBounds { what, found, allowed }.into());
    }
    Ok(())
}
