//! Tests of the crate's public interface. They are one program, so that it is linked once.
//!
//! Tests that depend on the whole process have separate programs: those of its memory, its
//! allocator, its random source, and a fork.

mod aliases;
mod attributes;
mod buffered;
mod common;
mod full;
mod golden;
mod large;
mod last_block;
mod packs;
mod public_calls;
mod receipt;
mod rekey;
mod reserve;
mod salvage;
mod savepoint;
mod snapshot;
mod specification;
mod specification_archives;
mod specification_files;
mod threads;
mod vectors;
mod wipe;
