//! Numbers for what is open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Open files or directories by the number that the kernel has for them.
pub(crate) struct Handles<T>(Mutex<Numbered<T>>);

struct Numbered<T> {
    last: u64,
    open: HashMap<u64, Arc<T>>,
}

impl<T> Handles<T> {
    pub(crate) fn new() -> Handles<T> {
        Handles(Mutex::new(Numbered { last: 0, open: HashMap::new() }))
    }

    pub(crate) fn add(&self, opened: T) -> u64 {
        let mut numbered = lock(&self.0);
        numbered.last += 1;
        let number = numbered.last;
        numbered.open.insert(number, Arc::new(opened));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<T>> {
        lock(&self.0).open.get(&number).cloned()
    }

    pub(crate) fn remove(&self, number: u64) {
        lock(&self.0).open.remove(&number);
    }
}

/// Locks a mutex. What it protects is whole between any two statements that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
