//! Generators and oracles, shared by property tests on stable and by the fuzz targets.
//!
//! Each oracle takes any bytes and panics if the code under test breaks its promise. The targets in
//! `fuzz/targets/` hand them what libFuzzer invents; the tests here, what a seeded generator does.

mod block_parse;
mod random;

pub use block_parse::block_parse;
pub use random::Random;
