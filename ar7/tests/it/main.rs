//! Tests of the public interface. They are one program, so that it is linked once.

mod changes;
mod common;
mod errors;
mod examples;
mod extended;
mod files;
mod maintenance;
mod model;
mod savepoint;
#[cfg(feature = "serde")]
mod serialized;
mod snapshots;
mod sparse;
mod specification;
mod threads;
