//! Generators and oracles, shared by property tests on stable and by the fuzz targets.
//!
//! Each oracle takes any bytes and panics if the code under test breaks its promise. The targets in
//! `fuzz/targets/` hand them what libFuzzer invents; the tests here, what a seeded generator does.

mod block_parse;
mod bytes;
pub mod crash;
mod extent_parse;
mod header_parse;
mod inode_parse;
mod key_slot_parse;
mod meta_slot_parse;
mod name_parse;
mod page_parse;
mod random;
mod redo_parse;
mod stream_record_parse;
pub mod tamper;
mod tree_change;

pub use block_parse::block_parse;
pub use bytes::mutate;
pub use extent_parse::extent_parse;
pub use header_parse::header_parse;
pub use inode_parse::inode_parse;
pub use key_slot_parse::key_slot_parse;
pub use meta_slot_parse::meta_slot_parse;
pub use name_parse::name_parse;
pub use page_parse::page_parse;
pub use random::Random;
pub use redo_parse::redo_parse;
pub use stream_record_parse::stream_record_parse;
pub use tree_change::tree_change;
