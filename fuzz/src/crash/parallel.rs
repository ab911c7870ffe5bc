//! Runs jobs on all cores, one thread for each job.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

/// Runs jobs 0 to `count` on one thread for each core, and returns the first error. A job stays on its thread,
/// including all parallel work of the library, so that its seed reproduces it.
pub(crate) fn on_all_cores<E: Send>(
    count: usize,
    job: impl Fn(usize) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let failed = Mutex::new(None);
    let work = || {
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return;
            }
            if let Err(error) = job(number) {
                is_over.store(true, Ordering::Relaxed);
                failed.lock().expect("no job panicked").get_or_insert(error);
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| single_threaded(work));
        }
    });
    failed.into_inner().expect("no job panicked").map_or(Ok(()), Err)
}

/// Runs work for which rayon uses no other thread.
pub fn single_threaded<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build();
    pool.expect("a pool of one thread").install(work)
}
