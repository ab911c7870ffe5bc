//! A lock that many threads pass at once without sharing a cache line, and that rarely shuts.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks of a gate; threads beyond that many share.
const LANES: usize = 16;

/// A reader-writer lock in lanes: passing takes one lane, shutting takes all.
///
/// A single lock would be written to by every core at every block read.
#[derive(Debug)]
pub(super) struct Gate {
    lanes: [Lane; LANES],
}

/// A lock on cache lines of its own: two, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Lane(RwLock<()>);

impl Gate {
    pub(super) fn new() -> Gate {
        Gate { lanes: std::array::from_fn(|_| Lane::default()) }
    }

    /// Keeps the gate from shutting, as long as the guard lives.
    pub(super) fn pass(&self) -> RwLockReadGuard<'_, ()> {
        self.lanes[lane_of_thread()].0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody is passing and keeps everybody out, as long as the guards live.
    pub(super) fn shut(&self) -> [RwLockWriteGuard<'_, ()>; LANES] {
        self.lanes.each_ref().map(|lane| lane.0.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The lane of the calling thread; threads take them in turn.
fn lane_of_thread() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static LANE: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % LANES);
    }
    LANE.get()
}
