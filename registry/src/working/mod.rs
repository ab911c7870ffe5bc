//! The trees of the open transaction.
//!
//! In layers, from the bottom: the pages of all trees (`pages`), the trees (`trees`), the free list
//! (`free_list`) with its search (`free_scan`), and the working trees, whose memory is bounded
//! (`working_trees`).

mod free_list;
mod free_scan;
mod moves;
mod page_search;
mod pages;
mod purge;
mod shorten;
mod spares;
mod trees;
mod working_trees;

pub(crate) use spares::SpareBlocks;
pub(crate) use working_trees::{Leaves, WorkingTrees};
