//! Streams, names and free space of an ar7 archive.
//!
//! The engine below keeps sealed blocks; this crate says what they mean.
