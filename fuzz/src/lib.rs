//! Generators and oracles, shared by property tests on stable and by the fuzz targets.
//!
//! Each oracle accepts arbitrary bytes and panics if the code under test breaks its promise. The targets in
//! `fuzz/fuzz_targets/` pass it inputs from libFuzzer; the tests here pass it inputs from a seeded generator.

mod archive_forged;
mod archive_open;
mod archive_ops;
mod batch_seal;
mod block_parse;
mod bytes;
pub mod campaigns;
mod cli_args;
pub mod corpus;
pub mod crash;
mod cursor_ops;
mod exercise;
mod extent_parse;
mod golden;
mod header_parse;
mod inode_parse;
mod key_slot_parse;
mod meta_slot_parse;
mod meter;
mod name_ops;
mod name_parse;
mod page_parse;
pub mod patches;
mod random;
mod redo_parse;
mod reference;
mod sealed_block_open;
pub mod search;
mod seeds;
mod stream_blocks;
mod stream_file;
mod stream_record_parse;
pub mod tamper;
mod targets;
mod tree_change;
mod tree_ops;
mod tree_space;
mod unstructured;

pub use archive_forged::archive_forged;
pub use archive_open::archive_open;
pub use archive_ops::archive_ops;
pub use batch_seal::batch_seal;
pub use block_parse::block_parse;
pub use bytes::mutate;
pub use cli_args::cli_args;
pub use cursor_ops::cursor_ops;
pub use extent_parse::extent_parse;
pub use header_parse::header_parse;
pub use inode_parse::inode_parse;
pub use key_slot_parse::key_slot_parse;
pub use meta_slot_parse::meta_slot_parse;
pub use name_ops::name_ops;
pub use name_parse::name_parse;
pub use page_parse::page_parse;
pub use random::Random;
pub use redo_parse::redo_parse;
pub use sealed_block_open::sealed_block_open;
pub use stream_file::stream_file;
pub use stream_record_parse::stream_record_parse;
pub use targets::{TARGETS, Target, target};
pub use tree_change::tree_change;
pub use tree_ops::tree_ops;
