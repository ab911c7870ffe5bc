//! What the project's commands share: `cargo`, the built `ar7`, and the comparison of two directory trees.
//!
//! Depends on no crate of the project, so that `cargo xtask` starts within seconds.

pub mod ar7;
pub mod compare;
pub mod error;
pub mod quantity;
pub mod trees;
pub mod workspace;
