//! Content that is being packed for a file, before the file has it.
//!
//! The state knows each such slice, so that no handle can refer to content of another transaction, and so that a commit
//! frees what no file got.

use std::collections::BTreeMap;

/// A slice that no file has yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct UnfinishedSlice {
    /// The first address, once it has any.
    pub(crate) first: u64,
    pub(crate) length: u64,
}

/// The slices that no file has yet, by their numbers. A number is never used twice.
#[derive(Default)]
pub(super) struct Unfinished {
    pub(super) slices: UnfinishedSlices,
    next: u64,
}

pub(super) type UnfinishedSlices = BTreeMap<u64, UnfinishedSlice>;

impl Unfinished {
    /// Begins a slice. Returns its number.
    pub(super) fn begin(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        self.slices.insert(number, UnfinishedSlice::default());
        number
    }

    /// Returns a slice, if it has this length.
    pub(super) fn get(&self, number: u64, length: u64) -> Option<UnfinishedSlice> {
        self.slices.get(&number).filter(|slice| slice.length == length).copied()
    }
}
