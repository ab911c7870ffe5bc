//! Runs work on all cores, in a private pool of threads.

use std::env;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use arc_swap::{ArcSwapOption, Guard};
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::process;

/// The stack in bytes of each thread that is started here or by `ar7`: half of what is usual, because it counts against the
/// address space that a process may have.
const STACK_BYTES: usize = 1 << 20;

/// Returns the stack in bytes of each thread, unless the user has chosen one with `RUST_MIN_STACK`.
fn stack_bytes() -> Option<usize> {
    static IS_CHOSEN: OnceLock<bool> = OnceLock::new();
    let is_chosen = IS_CHOSEN.get_or_init(|| env::var_os("RUST_MIN_STACK").is_some());
    (!is_chosen).then_some(STACK_BYTES)
}

/// Returns the builder of a thread.
pub fn thread_builder() -> thread::Builder {
    let builder = thread::Builder::new();
    match stack_bytes() {
        Some(bytes) => builder.stack_size(bytes),
        None => builder,
    }
}

fn pool_builder() -> ThreadPoolBuilder {
    let builder = ThreadPoolBuilder::new();
    match stack_bytes() {
        Some(bytes) => builder.stack_size(bytes),
        None => builder,
    }
}

/// Returns whether the caller runs in a pool of one thread, so that no other thread can help.
pub(crate) fn is_single_threaded() -> bool {
    rayon::current_thread_index().is_some() && rayon::current_num_threads() == 1
}

/// Runs work that `rayon` divides, on a pool of threads that run nothing else.
///
/// The caller may hold a lock. A pool thread that waits for parts of its work runs other work of the same pool. If
/// that work took the lock, the thread would block forever. So the pool is private, and work in it takes no lock that
/// a caller holds. A caller from another pool waits in a separate thread.
///
/// If the system refuses to start threads, the pool has fewer; if it refuses all, the caller does the work.
pub fn in_pool<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if is_single_threaded() {
        // The only thread of a pool has no other work to steal.
        return work();
    }
    match pool() {
        Some(owned) => run_in(&owned.pool, work),
        None => run_here(work),
    }
}

/// A pool, and the process that started its threads.
struct Owned {
    process: u32,
    pool: ThreadPool,
}

/// Returns the pool, and starts it at the first call. A failure to start threads is not remembered: a later call may
/// succeed.
///
/// The child of a fork has the memory of the pool but none of its threads, so it starts a pool of its own. Nothing
/// here takes a lock, because another thread could have held it at the fork.
fn pool() -> Option<Arc<Owned>> {
    static POOL: ArcSwapOption<Owned> = ArcSwapOption::const_empty();
    let process = process::id();
    let found = POOL.load();
    if let Some(owned) = found.as_ref().filter(|owned| owned.process == process) {
        return Some(Arc::clone(owned));
    }
    let build = |threads| pool_builder().num_threads(threads).build().ok();
    let processors = thread::available_parallelism().map_or(1, usize::from);
    // For 0, `rayon` chooses: one thread per processor, or the number in `RAYON_NUM_THREADS`.
    let pool = build(0).or_else(|| with_fewer(processors, build))?;
    let own = Arc::new(Owned { process, pool });
    let before = Guard::into_inner(POOL.compare_and_swap(&found, Some(Arc::clone(&own))));
    match before {
        // Another thread was first. Everyone uses its pool, and this one ends.
        Some(other) if other.process == process => Some(other),
        // Dropping a pool wakes its threads, and the parent's threads do not exist here.
        Some(parents) => {
            std::mem::forget(parents);
            Some(own)
        }
        None => Some(own),
    }
}

/// Tries `build` with half as many threads, a quarter, and so on down to one.
fn with_fewer<P>(most: usize, build: impl Fn(usize) -> Option<P>) -> Option<P> {
    std::iter::successors(Some(most / 2), |count| Some(count / 2))
        .take_while(|&count| count > 0)
        .find_map(build)
}

fn run_in<T: Send>(pool: &ThreadPool, work: impl FnOnce() -> T + Send) -> T {
    if rayon::current_thread_index().is_none() || pool.current_thread_index().is_some() {
        return pool.install(work);
    }
    let work = Mutex::new(Some(work));
    let taken = || work.lock().unwrap_or_else(PoisonError::into_inner).take();
    let run = || pool.install(taken().expect("work that no thread took"));
    thread::scope(|scope| match thread_builder().spawn_scoped(scope, run) {
        Ok(waiting) => waiting.join().unwrap_or_else(|panic| resume_unwind(panic)),
        // The caller's pool steals work while it waits, so a lock that the caller holds could now block. But that
        // pool has threads, and this process cannot start one more: waiting for one could take forever too.
        Err(_) => run(),
    })
}

/// Runs the work in the calling thread, as the only thread of a pool. Without a pool, `rayon` would start its global
/// one, and panics if it cannot.
fn run_here<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    if rayon::current_thread_index().is_none() {
        let alone = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        // The thread belongs to this pool for the rest of its life. `rayon` leaks such a pool, and so does this.
        std::mem::forget(alone);
    }
    work()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use rayon::prelude::*;

    use super::{in_pool, with_fewer};

    #[test]
    fn a_caller_from_another_pool_may_hold_a_lock() {
        let sum = Mutex::new(0_u64);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
        pool.install(|| {
            (0..200_u64).into_par_iter().for_each(|number| {
                // Other work in the same task gives a waiting thread something to steal.
                let parts: u64 = (0..64_u64).into_par_iter().map(|part| part * number).sum();
                let mut sum = sum.lock().unwrap();
                let within: u64 = in_pool(|| (0..64_u64).into_par_iter().sum());
                assert_eq!(in_pool(|| in_pool(|| within)), 2016);
                *sum += parts + within;
            });
        });
        assert_eq!(*sum.lock().unwrap(), 200 * 2016 + 2016 * (199 * 200 / 2));
    }

    #[test]
    fn a_pool_has_as_many_threads_as_the_system_starts() {
        let up_to = |limit| move |count| (count <= limit).then_some(count);
        assert_eq!(with_fewer(64, up_to(20)), Some(16));
        assert_eq!(with_fewer(64, up_to(1)), Some(1));
        assert_eq!(with_fewer(5, up_to(2)), Some(2));
        assert_eq!(with_fewer(64, up_to(0)), None);
        assert_eq!(with_fewer(1, up_to(1)), None, "no fewer than one thread");
    }
}
