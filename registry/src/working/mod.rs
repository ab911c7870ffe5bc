//! The trees of the open transaction: what a writer changes before it commits.
//!
//! From below: the pages of all trees (`pages`), the trees (`trees`), the list of free blocks that one of them holds
//! (`free_list`), and over these the working trees, whose memory is bounded.

mod free_list;
mod pages;
mod purge;
mod shorten;
mod spares;
mod trees;
mod working_trees;

pub(crate) use spares::SpareBlocks;
pub(crate) use working_trees::WorkingTrees;
