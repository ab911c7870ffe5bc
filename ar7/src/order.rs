//! The order of openings, deletions and changes in a transaction, and which of them a return to a
//! savepoint undid.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbers in order. Any thread can take one.
#[derive(Debug, Default)]
pub(crate) struct Order {
    last: AtomicU64,
    returns: AtomicU64,
    /// The numbers that were undone: ascending ranges that do not touch.
    undone: Mutex<Vec<Range<u64>>>,
}

impl Order {
    /// Returns the next number. The first is 1.
    pub(crate) fn next(&self) -> u64 {
        self.last.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// Returns how often the transaction has returned to a savepoint, or begun to.
    pub(crate) fn returns(&self) -> u64 {
        self.returns.load(Ordering::Acquire)
    }

    /// Begins a return to a savepoint.
    pub(crate) fn begin_return(&self) {
        self.returns.fetch_add(1, Ordering::AcqRel);
    }

    /// Undoes this number and all that follow so far.
    pub(crate) fn undo_since(&self, number: u64) {
        let mut undone = self.undone();
        let mut start = number;
        while let Some(last) = undone.pop_if(|last| last.end >= start) {
            start = start.min(last.start);
        }
        undone.push(start..self.next());
    }

    /// Returns whether a number was undone.
    pub(crate) fn is_undone(&self, number: u64) -> bool {
        let undone = self.undone();
        let after = undone.partition_point(|range| range.start <= number);
        after.checked_sub(1).is_some_and(|at| undone[at].contains(&number))
    }

    fn undone(&self) -> MutexGuard<'_, Vec<Range<u64>>> {
        self.undone.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_numbers_since_a_savepoint_are_undone_and_later_ones_are_not() {
        let order = Order::default();
        assert_eq!((order.next(), order.next()), (1, 2));
        let mut undone = BTreeSet::new();
        for taken in 1..50_u64 {
            let numbers: Vec<u64> = (0..taken % 7).map(|_| order.next()).collect();
            assert!(numbers.iter().all(|&number| !order.is_undone(number)));
            let point = order.next();
            let since = point.saturating_sub(taken * taken % 11);
            order.undo_since(since);
            undone.extend(since..=point);
            let found = (0..=point).filter(|&number| order.is_undone(number));
            assert!(found.eq(undone.iter().copied()), "{taken}");
        }
        assert!(order.undone().windows(2).all(|pair| pair[0].end < pair[1].start));
        assert!(order.undone().len() > 10);
    }
}
