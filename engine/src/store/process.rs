//! Which process this is. A fork copies what a handle has in memory, its place in the step of sealing included.

/// The number of this process, as the system gives it.
pub(super) fn id() -> u32 {
    #[cfg(any(test, feature = "testing"))]
    if let Some(id) = PRETENDED.get() {
        return id;
    }
    std::process::id()
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static PRETENDED: std::cell::Cell<Option<u32>> = const { std::cell::Cell::new(None) };
}

/// Does `work` as the child after a fork would: this thread, and all memory as it is, in another process.
#[cfg(any(test, feature = "testing"))]
pub fn in_forked_process<T>(work: impl FnOnce() -> T) -> T {
    /// Ends it also if the work panics.
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
