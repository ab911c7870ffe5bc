//! The savepoints of the open transaction, in order.

use std::sync::{Arc, Weak};

/// A point of the open transaction, from [`super::Writer::savepoint`]. Dropping it forgets it.
#[derive(Debug)]
pub struct Savepoint(Arc<()>);

/// The savepoints in order. The space and the transaction each note, under the same indices, what followed them.
#[derive(Debug, Default)]
pub(super) struct Savepoints(Vec<Weak<()>>);

impl Savepoints {
    /// Adds a savepoint after all others.
    pub(super) fn add(&mut self) -> Savepoint {
        let point = Savepoint(Arc::new(()));
        self.0.push(Arc::downgrade(&point.0));
        point
    }

    /// Returns the index of a savepoint, unless it is gone or belongs to another writer.
    pub(super) fn index_of(&self, point: &Savepoint) -> Option<usize> {
        let is_it = |known: &Weak<()>| std::ptr::eq(known.as_ptr(), Arc::as_ptr(&point.0));
        self.0.iter().rposition(is_it)
    }

    /// Removes the last savepoint that was dropped. Returns the index that it had.
    pub(super) fn take_dropped(&mut self) -> Option<usize> {
        let index = self.0.iter().rposition(|known| known.strong_count() == 0)?;
        self.0.remove(index);
        Some(index)
    }

    /// Forgets the savepoints after an index.
    pub(super) fn forget_after(&mut self, index: usize) {
        self.0.truncate(index + 1);
    }

    /// Forgets all savepoints.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
