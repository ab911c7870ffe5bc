//! Writes the redo list of a commit, and reads both copies of it for verification.

use super::committed::Commit;
use super::handle::Store;
use super::listed::{ListChange, WrittenRedoList};
use super::pipeline::Batch;
use super::redo_list::{RedoList, read_redo_block};
use super::space::run_set::RunSet;
use super::writer::Writer;
use crate::crypto::{KeyKind, SealJob};
use crate::error::{Check, Error, Result};
use crate::format::{
    BlockHead, BlockIndex, Data, DoubledRef, Position, REDO_PER_BLOCK, REDO_STREAM, RedoBlock,
    RedoEntry,
};

/// The blocks of a commit's redo list, as verification finds them.
#[derive(Debug)]
pub struct RedoBlocks {
    /// Every block of the list: the copies of its blocks, and the shadow blocks. If a block is lost, the blocks that
    /// only it or those after it name are missing.
    pub blocks: RunSet,
    /// The copies that do not open or that differ from the first, each with the reason.
    pub faults: Vec<(Position, Error)>,
    /// Whether no copy of some block opens.
    pub is_partial: bool,
}

impl Store {
    /// Reads a commit's redo list, with both copies of each block.
    pub fn redo_blocks(&self, commit: &Commit) -> Result<RedoBlocks> {
        let list = RedoList::read(&*self.device, &self.sealer, &commit.slot)?;
        let mut faults = Vec::new();
        let read = |block| read_redo_block(&*self.device, &self.sealer, block);
        for [first, second] in list.chain.iter().map(|block| block.copies()) {
            match (read(first), read(second)) {
                (Ok(first), Ok(found)) if first == found => {}
                (Ok(_), Ok(_)) => {
                    let expected = "the same data in both copies";
                    let error =
                        Error::damaged(second.position, Check::RedoList, expected, "other data");
                    faults.push((second.position, error));
                }
                (first_read, second_read) => {
                    faults.extend(first_read.err().map(|error| (first.position, error)));
                    faults.extend(second_read.err().map(|error| (second.position, error)));
                }
            }
        }
        let is_partial = list.lost.is_some();
        let blocks = list.blocks()?;
        if let Some((block, error)) = list.lost {
            let bad = block.copies().into_iter();
            let bad = bad.filter_map(|copy| read(copy).err().map(|error| (copy.position, error)));
            let before = faults.len();
            faults.extend(bad);
            if faults.len() == before {
                // Both copies open now. The list was read without the block.
                faults.push((block.position, error));
            }
        }
        Ok(RedoBlocks { blocks, faults, is_partial })
    }
}

impl Writer {
    /// Returns the number of blocks that [`Writer::write_redo_list`] allocates at most.
    pub fn redo_list_blocks(&self) -> usize {
        let listed = self.transaction.listed();
        2 * (self.redirects().len() + listed.len()).div_ceil(REDO_PER_BLOCK)
    }

    /// Returns the number of blocks that [`Writer::write_redo_list`] would allocate now, and the number that it would free.
    /// This takes time for each block on the list.
    pub fn redo_list_change(&self) -> (usize, u64) {
        let change = self.transaction.list_change();
        let superseded = self.transaction.listed().superseded(change.extends, self.redirects());
        (2 * change.entries.len().div_ceil(REDO_PER_BLOCK), superseded.blocks())
    }

    /// Writes the redo list of this transaction: the blocks that it changed, and the images of the current commit's
    /// list that are not home yet. Frees the blocks of that list that the new list does not name: the first sync of
    /// this commit makes the copies at their home locations durable. The caller calls it once, before it records the
    /// free runs, because it allocates and frees.
    pub fn write_redo_list(&mut self) -> Result<WrittenRedoList> {
        let change = self.transaction.list_change();
        let superseded = self.transaction.listed().superseded(change.extends, self.redirects());
        if crate::fault!(TrimBeforeClearing)
            && let Some(last) = superseded.iter().last()
        {
            self.store.device.shrink(last.start().get())?;
        }
        for run in superseded.iter() {
            if crate::fault!(ReuseShadowBlocks) {
                self.space.cancel(run);
            } else {
                self.space.free(run);
            }
        }
        let chain = self.write_redo_blocks(&change)?;
        Ok(self.transaction.write_list(&change, chain, self.store.current().slot.number + 1))
    }

    /// Writes both copies of the blocks with the new entries of the list. Returns them, newest first.
    fn write_redo_blocks(&mut self, change: &ListChange) -> Result<Vec<DoubledRef>> {
        let parts: Vec<&[RedoEntry]> = change.entries.chunks(REDO_PER_BLOCK).collect();
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let pairs = self.allocate_twice(parts.len())?;
        let targets: Vec<Position> =
            (0..2).flat_map(|copy| pairs.iter().map(move |pair| pair[copy])).collect();
        let generation = self.generation_for(&targets)?;
        let at = |&[position, copy]: &[Position; 2]| DoubledRef { position, copy, generation };
        let chain: Vec<DoubledRef> = pairs.iter().map(at).collect();
        let before = if change.extends { self.transaction.listed().chain() } else { &[] };
        let next = chain.iter().skip(1).chain(before.first()).copied().map(Some).chain([None]);
        let encode = |(entries, next): (&&[RedoEntry], Option<DoubledRef>)| {
            RedoBlock { next, entries: entries.to_vec() }.encode()
        };
        let data: Vec<Box<Data>> = parts.iter().zip(next).map(encode).collect();
        let blocks = chain.len() + before.len();
        let job = |(at, &position): (usize, &Position)| {
            let index = u32::try_from(blocks - 1 - at % chain.len()).expect("fewer than blocks");
            let index = BlockIndex(index);
            let head = BlockHead { index, stream: REDO_STREAM, ..BlockHead::default() };
            SealJob { position, head, data: &data[at % chain.len()] }
        };
        let mut jobs: Vec<SealJob<'_>> = targets.iter().enumerate().map(job).collect();
        if crate::fault!(OneRedoCopy) {
            jobs.truncate(chain.len());
        }
        let (kind, targets) = (KeyKind::Meta, &targets[..jobs.len()]);
        self.write_now(Batch { kind, generation, jobs: &jobs, targets })?;
        Ok(chain)
    }
}
