//! Where to divide the cells of a page that has become too full.

use super::page::{CAPACITY, cell_size, saved_by_prefix};

/// A key and its value, borrowed from their page.
pub(super) type Cell<'a> = (&'a [u8], &'a [u8]);

/// Where to divide cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Divide {
    /// So that the larger page is as small as possible. If there is any place where both sides fit a page, they fit here.
    Balanced,
    /// So that the left page is as full as possible.
    LeftFull,
}

/// Some cells in order, and the sizes of the pages that their division makes.
pub(super) struct Division<'c, 'a> {
    level: u8,
    cells: &'c [Cell<'a>],
    /// For each place, the size of the cells in front of it, with their whole keys.
    sums: Vec<usize>,
}

impl<'c, 'a> Division<'c, 'a> {
    pub(super) fn new(level: u8, cells: &'c [Cell<'a>]) -> Division<'c, 'a> {
        let mut sums = vec![0];
        sums.extend(cells.iter().scan(0, |sum, (key, value)| {
            *sum += cell_size(key, value);
            Some(*sum)
        }));
        Division { level, cells, sums }
    }

    /// Returns whether all cells fit one page.
    pub(super) fn is_one_page(&self) -> bool {
        self.left(self.cells.len()) <= CAPACITY
    }

    /// Returns where to divide the cells, so that both sides have some.
    pub(super) fn place(&self, divide: Divide) -> usize {
        match divide {
            Divide::Balanced => self.balanced(),
            Divide::LeftFull => self.left_full(),
        }
    }

    fn balanced(&self) -> usize {
        let last = self.cells.len() - 1;
        let at = first_place(last, |place| self.left(place) >= self.right(place));
        let larger = |place: usize| self.left(place).max(self.right(place));
        if at > 1 && larger(at - 1) < larger(at) { at - 1 } else { at }
    }

    fn left_full(&self) -> usize {
        let too_full = first_place(self.cells.len(), |place| self.left(place) > CAPACITY);
        (too_full - 1).max(1)
    }

    /// Returns the size of a page of the cells in front of a place.
    fn left(&self, place: usize) -> usize {
        self.sums[place] - saved(self.level, &self.cells[..place])
    }

    /// Returns the size of a page of the cells from a place on. The first key of a branch is left out.
    fn right(&self, place: usize) -> usize {
        let (all, cells) = (self.sums[self.cells.len()] - self.sums[place], &self.cells[place..]);
        let left_out = if self.level > 0 { cells[0].0.len() } else { 0 };
        all - left_out - saved(self.level, cells)
    }
}

/// Returns the first place behind a cell where a condition holds, or `last`. Once it holds, it holds at every later
/// place: a cell takes at least 4 bytes more than a longer prefix can save.
fn first_place(last: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (1, last);
    while low < high {
        let middle = low.midpoint(high);
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}

/// Returns the number of bytes that the prefix of a page of these cells saves.
fn saved(level: u8, cells: &[Cell<'_>]) -> usize {
    saved_by_prefix(level, cells.len(), |cell| cells[cell].0)
}
