//! The redo list: a chain of sealed blocks. For each live block that a commit changed, it names the home location,
//! the shadow block and its generation.

use std::collections::HashSet;

use super::committed::{Commit, Redirects};
use super::handle::Store;
use super::open_block::{BlockBuffer, read_one};
use super::space::Urgency;
use super::space::run_set::RunSet;
use super::writer::Writer;
use crate::crypto::{KeyKind, SealJob, Sealer};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    Block, BlockHead, BlockIndex, BlockRef, Data, MetaSlot, OwnedData, Position, REDO_PER_BLOCK,
    REDO_STREAM, RedoEntry, Run, decode_redo, encode_redo,
};

/// A redo list, read and checked.
#[derive(Debug, Default)]
pub(super) struct RedoList {
    /// The entries, in the order of the list.
    pub(super) entries: Vec<RedoEntry>,
    /// The blocks of its chain.
    pub(super) chain: Vec<Position>,
}

impl RedoList {
    /// Returns the shadow blocks in which the listed blocks are read.
    pub(super) fn redirects(&self) -> Redirects {
        let entry = |entry: &RedoEntry| (entry.home, (entry.shadow, entry.generation));
        Redirects(self.entries.iter().map(entry).collect())
    }

    /// Reads the list that `slot` names; decoding the slot has bounded its length. The list was durable before the
    /// slot was written, so any fault in it is damage.
    pub(super) fn read(device: &dyn Device, sealer: &Sealer, slot: &MetaSlot) -> Result<RedoList> {
        let mut list = RedoList::default();
        let length = slot.redo_length;
        let Some(head) = slot.redo_head else {
            return Ok(list);
        };
        let mut chain = length.div_ceil(u32::try_from(REDO_PER_BLOCK).expect("a small constant"));
        if crate::fault!(ChainWithoutEnd) {
            chain = u32::MAX;
        }
        let mut previous = None;
        let mut next = Some(head.position);
        for index in 0..chain {
            let expected = Error::damaged(previous, Check::RedoList, chain, index);
            let position = next.ok_or(expected)?;
            let block = BlockRef { position, generation: head.generation };
            let block = read_chain_block(device, sealer, block)?;
            if !crate::fault!(ChainWithoutEnd) {
                check_head(position, block.head, previous, BlockIndex(index))?;
            }
            list.entries.extend(decode_redo(position, &block.data, slot.block_count)?);
            list.chain.push(position);
            previous = Some(position);
            next = block.head.next;
        }
        if next.is_some() || list.entries.len() != usize::try_from(length).unwrap_or(usize::MAX) {
            let found = list.entries.len();
            return Err(Error::damaged(head.position, Check::RedoList, length, found));
        }
        list.blocks()?;
        Ok(list)
    }

    /// Returns every block of the list: its chain and its shadow blocks. Fails if a block occurs twice, or in two
    /// roles: home location, shadow block or block of the chain.
    fn blocks(&self) -> Result<RunSet> {
        let mut blocks: RunSet = self.chain.iter().copied().map(Run::single).collect();
        let mut homes = HashSet::new();
        for entry in &self.entries {
            let shadow = Run::single(entry.shadow);
            if !homes.insert(entry.home) || blocks.intersects(shadow) {
                let expected = "a home location and a shadow block named once";
                return Err(Error::damaged(entry.home, Check::RedoList, expected, entry.shadow));
            }
            blocks.insert(shadow);
        }
        match homes.into_iter().find(|&home| blocks.contains(home)) {
            Some(home) => {
                Err(Error::damaged(home, Check::RedoList, "a data block", "a block of the list"))
            }
            None => Ok(blocks),
        }
    }
}

fn read_chain_block(device: &dyn Device, sealer: &Sealer, block: BlockRef) -> Result<Block> {
    let mut bytes = BlockBuffer::new();
    let none = Redirects::default();
    let opened = read_one(device, sealer, &none, KeyKind::Meta, block, &mut bytes)?;
    Ok(Block { head: opened.head, data: OwnedData::copy_of(opened.data) })
}

fn check_head(
    position: Position,
    head: BlockHead,
    previous: Option<Position>,
    index: BlockIndex,
) -> Result<()> {
    if head.stream != REDO_STREAM {
        return Err(Error::tampered(position, Check::Stream, REDO_STREAM, head.stream));
    }
    if head.index != index {
        return Err(Error::tampered(position, Check::Index, index.get(), head.index.get()));
    }
    if head.previous != previous {
        return Err(Error::tampered(position, Check::PreviousLink, previous, head.previous));
    }
    Ok(())
}

impl Store {
    /// Returns every block of a commit's redo list: its chain and its shadow blocks.
    pub fn redo_blocks(&self, commit: &Commit) -> Result<RunSet> {
        RedoList::read(&*self.device, &self.sealer, &commit.slot)?.blocks()
    }
}

/// A redo list that is written but that no commit names yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WrittenRedoList {
    pub(super) head: Option<BlockRef>,
    pub(super) length: u32,
}

impl Writer {
    /// Writes the redo list of this transaction: the blocks that it changed, and the images of the current commit's
    /// list that are not home yet. Frees the other blocks of that list: the first sync of this commit makes the copies
    /// at their home locations durable. The caller calls it once, before it records the free runs, because it
    /// allocates and frees.
    pub fn write_redo_list(&mut self) -> Result<WrittenRedoList> {
        let superseded = self.transaction.listed().superseded(self.transaction.redirects());
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
        let number = self.store.current().slot.number + 1;
        let entries = self.transaction.redirects().entries();
        if entries.is_empty() {
            return Ok(WrittenRedoList::default());
        }
        let data: Vec<Box<Data>> = entries.chunks(REDO_PER_BLOCK).map(encode_redo).collect();
        let chain = self.allocate_all(data.len(), Urgency::Reserve)?;
        let jobs: Vec<SealJob<'_>> = (0..)
            .zip(chain.iter().zip(&data))
            .map(|(index, (&position, data))| {
                let at = usize::try_from(index).expect("an index of a vector");
                let head = BlockHead {
                    previous: at.checked_sub(1).map(|before| chain[before]),
                    next: chain.get(at + 1).copied(),
                    index: BlockIndex(index),
                    stream: REDO_STREAM,
                };
                SealJob { position, head, data }
            })
            .collect();
        let generation = self.seal_and_write(KeyKind::Meta, &jobs, &chain)?;
        let head = Some(BlockRef { position: chain[0], generation });
        let length = u32::try_from(entries.len()).expect("fewer entries than blocks");
        self.transaction.write_list(chain, &entries, number);
        Ok(WrittenRedoList { head, length })
    }
}
