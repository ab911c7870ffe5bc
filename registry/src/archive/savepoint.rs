//! Savepoints: points of the open transaction to which it can return.
//!
//! At a savepoint, everything is sealed: the dirty blocks of the streams, and the dirty pages of the
//! trees. The roots then describe the trees, and the engine undoes what was allocated and freed.

use ar7_engine::Class;
use ar7_engine::format::{ROOTS, Root, StoredStream};
use ar7_engine::store;

use super::unfinished::UnfinishedSlices;
use super::{Archive, State};
use crate::error::Result;

/// A point of the open transaction, from [`Archive::savepoint`]. Dropping it forgets it.
#[derive(Debug)]
pub struct Savepoint {
    point: store::Savepoint,
    roots: [Root; ROOTS],
    counters: [u64; 8],
    reserved: [StoredStream; 8],
    metadata: Vec<u8>,
    unfinished: UnfinishedSlices,
    sealed_blocks: u64,
}

impl Archive {
    /// Makes a savepoint of the open transaction as it is. What it costs depends on what changed
    /// since the last one.
    ///
    /// On a full disk it can fail, and the transaction stays as it was.
    pub fn savepoint(&self) -> Result<Savepoint> {
        self.state()?.writing()?.savepoint()
    }

    /// Returns the open transaction to a savepoint: streams, names, metadata and free space are as
    /// they were. Open handles of streams become stale. The savepoint stays; those that were made
    /// after it are gone.
    ///
    /// Fails with [`ar7_engine::Error::NoSavepoint`] if the savepoint is gone, or belongs to another
    /// transaction; then nothing has changed.
    pub fn roll_back_to(&self, point: &Savepoint) -> Result<()> {
        self.state()?.failed_or_writing()?.roll_back_to(point)
    }
}

impl State {
    fn savepoint(&mut self) -> Result<Savepoint> {
        // Blocks that only dropped savepoints named are then sealed in place.
        self.trees.writer().forget_dropped_savepoints();
        self.flush(true)?;
        let flushed = self.trees.flush_all();
        flushed.inspect_err(|error| {
            if error.class() != Class::NoSpace {
                self.fail(error);
            }
        })?;
        Ok(Savepoint {
            point: self.trees.writer().savepoint()?,
            roots: self.trees.roots(),
            counters: self.trees.counters(),
            reserved: self.reserved.clone(),
            metadata: self.metadata.clone(),
            unfinished: self.unfinished.slices.clone(),
            sealed_blocks: self.sealed_blocks,
        })
    }

    fn roll_back_to(&mut self, point: &Savepoint) -> Result<()> {
        self.trees.roll_back_to(&point.point, &point.roots, point.counters)?;
        self.forget_open();
        self.unfinished.slices.clone_from(&point.unfinished);
        self.sealed_blocks = point.sealed_blocks;
        self.reserved.clone_from(&point.reserved);
        self.metadata.clone_from(&point.metadata);
        self.failed = None;
        Ok(())
    }
}
