//! The crate's public interface, used as its callers use it. One test program, so that it is linked once.
//!
//! A test has a program of its own where it looks at its whole process: its memory, its allocator, its random source,
//! or a fork of it.

mod aliases;
mod common;
mod full;
mod golden;
mod large;
mod last_block;
mod public_calls;
mod receipt;
mod rekey;
mod specification;
mod specification_archives;
mod specification_files;
mod threads;
mod vectors;
mod wipe;
