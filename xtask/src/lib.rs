//! Shared code of the project's commands: cargo, the built `ar7`, and the comparison of two directory trees.
//!
//! It depends on no other crate of the project, so that `cargo xtask` starts within seconds.

pub mod ar7;
pub mod compare;
pub mod error;
pub mod quantity;
pub mod trees;
pub mod workspace;
