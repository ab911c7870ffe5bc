//! Benchmarks with criterion, and the same work done by peers.
//!
//! The crate is not among the workspace's default members: a bench needs criterion, and `cargo test`
//! should not wait for it.
