//! The threads that seal and open blocks.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Whether the caller works in a pool of one thread, and wants no other.
pub(crate) fn is_single_threaded() -> bool {
    rayon::current_thread_index().is_some() && rayon::current_num_threads() == 1
}

/// Runs work that is divided among threads, on threads that do nothing else.
///
/// A caller may hold a lock meanwhile. A thread of a pool that waits for its part of the work takes up other work of its pool, and
/// would wait for ever if that wanted the same lock: so the pool is ours alone, and a caller from another pool waits as a
/// thread that takes up nothing.
pub(crate) fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    if is_single_threaded() {
        // In a pool of one thread, the next thing taken up is one's own.
        return work();
    }
    let made = || ThreadPoolBuilder::new().build().ok();
    // Where no threads are to be had, the caller's does it all.
    let Some(pool) = POOL.get_or_init(made) else { return work() };
    if rayon::current_thread_index().is_none() || pool.current_thread_index().is_some() {
        return pool.install(work);
    }
    let work = Mutex::new(Some(work));
    let taken = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run = || pool.install(taken().expect("work that nobody has taken"));
    thread::scope(|scope| match thread::Builder::new().spawn_scoped(scope, run) {
        Ok(waiting) => waiting.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => run(),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rayon::prelude::*;

    use super::in_pool;

    #[test]
    fn a_lock_may_be_held_by_callers_from_a_pool() {
        let sum = Mutex::new(0_u64);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        pool.install(|| {
            (0..200_u64).into_par_iter().for_each(|number| {
                // Other work in the same task, so that there is something to take up while waiting.
                let parts: u64 = (0..64_u64).into_par_iter().map(|part| part * number).sum();
                let mut sum = sum.lock().unwrap();
                let within: u64 = in_pool(|| (0..64_u64).into_par_iter().sum());
                assert_eq!(in_pool(|| in_pool(|| within)), 2016);
                *sum += parts + within;
            });
        });
        assert_eq!(*sum.lock().unwrap(), 200 * 2016 + 2016 * (199 * 200 / 2));
    }
}
