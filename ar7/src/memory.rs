//! The memory of a process that holds keys.

/// Forbids core dumps of this process, and forbids other processes of the same user to read its memory. A program that
/// handles keys calls it first. If the call fails, keys still stay out of dumps because their pages are marked.
#[cfg(target_os = "linux")]
pub fn hide_memory() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Forbids core dumps of this process. A program that handles keys calls it first. If the call fails, a dump could contain
/// keys, but the user's own limit applies as before.
#[cfg(not(target_os = "linux"))]
pub fn hide_memory() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
}
