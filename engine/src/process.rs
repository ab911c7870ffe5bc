//! The identity of this process. A fork copies a handle with its keys and its step, and two processes must not both
//! seal with them.

#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

#[cfg(target_os = "linux")]
use memmap2::MmapMut;
#[cfg(target_os = "linux")]
use rustix::mm::{Advice, madvise};
#[cfg(target_os = "linux")]
use rustix::param::page_size;

/// Returns the id of this process.
///
/// The system call is made once. The kernel clears the page that caches its result in the child of every fork.
pub(crate) fn id() -> u32 {
    static KEPT: OnceLock<Option<&'static AtomicU32>> = OnceLock::new();
    #[cfg(any(test, feature = "testing"))]
    if let Some(id) = PRETENDED.get() {
        return id;
    }
    let Some(kept) = KEPT.get_or_init(|| cleared_by_forks().ok()) else {
        return std::process::id();
    };
    match kept.load(Ordering::Relaxed) {
        0 => {
            let id = std::process::id();
            kept.store(id, Ordering::Relaxed);
            id
        }
        id => id,
    }
}

/// Returns a number that is 0, and becomes 0 again in the child of every fork. Fails if the kernel does not support
/// that.
#[cfg(target_os = "linux")]
fn cleared_by_forks() -> std::io::Result<&'static AtomicU32> {
    let page = Box::leak(Box::new(MmapMut::map_anon(page_size())?));
    let start = page.as_mut_ptr();
    // SAFETY: the range is the whole mapping made above, which stays mapped and which nothing else uses.
    unsafe { madvise(start.cast(), page.len(), Advice::LinuxWipeOnFork) }?;
    // SAFETY: a page is aligned for a `u32`, is longer, stays mapped, and is reached through this reference only.
    Ok(unsafe { AtomicU32::from_ptr(start.cast()) })
}

#[cfg(not(target_os = "linux"))]
fn cleared_by_forks() -> std::io::Result<&'static AtomicU32> {
    Err(std::io::ErrorKind::Unsupported.into())
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static PRETENDED: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Runs `work` as the child of a fork would: with this thread and all memory unchanged, under another process id.
#[cfg(any(test, feature = "testing"))]
pub fn in_forked_process<T>(work: impl FnOnce() -> T) -> T {
    /// Restores the id even if `work` panics.
    struct Back;
    impl Drop for Back {
        fn drop(&mut self) {
            PRETENDED.set(None);
        }
    }
    PRETENDED.set(Some(std::process::id().wrapping_add(1)));
    let _back = Back;
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_child_of_a_real_fork_has_its_own_id() {
        assert_eq!(id(), std::process::id());
        // SAFETY: the child only compares two numbers and exits, and no lock of another thread can block that.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_right = id() == std::process::id();
            // SAFETY: ends the child at once, without running what the parent's exit would run.
            unsafe { libc::_exit(i32::from(!is_right)) };
        }
        let child = rustix::process::Pid::from_raw(child).expect("a fork");
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(child), options).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!(id(), std::process::id());
        assert!(cleared_by_forks().is_ok(), "a kernel since 4.14 clears pages");
    }

    #[test]
    fn the_child_of_a_fork_works_in_a_pool_of_its_own() {
        use rayon::prelude::*;

        let sum = || crate::parallel::in_pool(|| (0..10_000_u64).into_par_iter().sum::<u64>());
        assert_eq!(sum(), 49_995_000);
        // SAFETY: the child computes and exits. The allocator works after a fork, and an alarm ends a child that
        // hangs.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: only requests a signal that ends the child after 20 seconds.
            unsafe { libc::alarm(20) };
            let is_right = sum() == 49_995_000;
            // SAFETY: ends the child at once, without running what the parent's exit would run.
            unsafe { libc::_exit(i32::from(!is_right)) };
        }
        let child = rustix::process::Pid::from_raw(child).expect("a fork");
        let options = rustix::process::WaitOptions::empty();
        let (_, status) = rustix::process::waitpid(Some(child), options).unwrap().unwrap();
        assert_eq!(status.exit_status(), Some(0));
        assert_eq!(sum(), 49_995_000);
    }
}
