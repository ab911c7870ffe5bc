//! Encrypted archive: one file, millions of streams.
fn main() {}
