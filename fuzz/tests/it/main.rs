//! The tests of the fuzz crate, in one program. `hostile_memory` is separate, because it counts every allocation.

mod archive7;
mod canaries;
mod corpora;
mod crash;
mod rot;
mod small_commits;
mod tamper;

/// Returns the value, or fails the test with the failure as text, because its debug form would show every byte.
fn check_kept<T>(outcome: Result<T, impl std::fmt::Display>) -> T {
    outcome.unwrap_or_else(|failure| panic!("{failure}"))
}
