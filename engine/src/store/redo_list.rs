//! Reads the redo list: sealed blocks, newest first. For each live block that a commit changed, they name the home
//! location, the shadow block and its generation. Each block exists twice and is never rewritten.

use std::collections::{HashMap, HashSet};

use super::committed::Redirects;
use super::open_block::{BlockBuffer, read_one};
use super::space::run_set::RunSet;
use crate::crypto::{KeyKind, Sealer};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    Block, BlockHead, BlockRef, DoubledRef, MetaSlot, OwnedData, Position, REDO_STREAM, RedoBlock,
    RedoEntry, Run,
};

/// A redo list, read and checked.
#[derive(Debug, Default)]
pub(super) struct RedoList {
    /// Its blocks, newest first.
    pub(super) chain: Vec<DoubledRef>,
    /// The shadow block of each listed home location.
    pub(super) shadows: HashMap<Position, BlockRef>,
    /// Number of entries, superseded ones included.
    pub(super) length: usize,
    /// Copies that do not open, of blocks whose other copy does.
    pub(super) bad_copies: Vec<Position>,
    /// A block of which no copy opens, and the reason. The blocks after it are unknown.
    pub(super) lost: Option<(DoubledRef, Error)>,
}

impl RedoList {
    /// Reads the list that `slot` names; decoding the slot has bounded its length.
    ///
    /// A block of which no copy opens costs the home locations that only this block and those after it name. Any other
    /// fault was written by someone with the key, and is an error.
    pub(super) fn read(device: &dyn Device, sealer: &Sealer, slot: &MetaSlot) -> Result<RedoList> {
        let mut list = RedoList::default();
        let expected = usize::try_from(slot.redo_length).unwrap_or(usize::MAX);
        let mut removed = HashSet::new();
        let mut next = slot.redo_head;
        let mut index_before = None;
        while let Some(reference) = next {
            let block = match list.read_copy(device, sealer, reference) {
                Ok(block) => block,
                Err(error) => {
                    list.lost = Some((reference, error));
                    break;
                }
            };
            let position = reference.position;
            let decoded = RedoBlock::decode(position, &block.data, slot.block_count)?;
            if !crate::fault!(ChainWithoutEnd) {
                let is_last = decoded.next.is_none();
                check_head(position, block.head, index_before, is_last)?;
            }
            index_before = Some(block.head.index.get());
            list.chain.push(reference);
            list.length += decoded.entries.len();
            if list.length > expected && !crate::fault!(ChainWithoutEnd) {
                return Err(Error::damaged(position, Check::RedoList, expected, list.length));
            }
            list.add(decoded.entries, &mut removed);
            next = decoded.next;
        }
        if list.lost.is_none() && list.length != expected {
            let head = slot.redo_head.map(|head| head.position);
            return Err(Error::damaged(head, Check::RedoList, expected, list.length));
        }
        list.blocks()?;
        Ok(list)
    }

    /// Returns the shadow blocks in which the listed blocks are read.
    pub(super) fn redirects(&self) -> Redirects {
        let lost = self.lost.as_ref().map(|(block, _)| block.position);
        Redirects { shadows: self.shadows.clone(), lost }
    }

    /// Reads a block from its first copy, or else from its second.
    fn read_copy(
        &mut self,
        device: &dyn Device,
        sealer: &Sealer,
        reference: DoubledRef,
    ) -> Result<Block> {
        let [first, second] = reference.copies();
        read_redo_block(device, sealer, first).or_else(|error| {
            let block = read_redo_block(device, sealer, second);
            let block = block.map_err(|other| if other.is_io() { other } else { error })?;
            self.bad_copies.push(first.position);
            Ok(block)
        })
    }

    /// Adds the entries of the next block. Entries of newer blocks, which were added before, take precedence.
    fn add(&mut self, entries: Vec<RedoEntry>, removed: &mut HashSet<Position>) {
        for RedoEntry { home, shadow } in entries {
            let is_known = self.shadows.contains_key(&home) || removed.contains(&home);
            if is_known && !crate::fault!(OldestEntryCounts) {
                continue;
            }
            match shadow {
                Some(shadow) => {
                    self.shadows.insert(home, shadow);
                }
                None => {
                    removed.insert(home);
                }
            }
        }
    }

    /// Returns every block of the list: the copies of its blocks, and the shadow blocks. Fails if a block occurs twice,
    /// or in two roles: home location, shadow block or block of the list.
    pub(super) fn blocks(&self) -> Result<RunSet> {
        let mut blocks = RunSet::default();
        let lost = self.lost.iter().map(|(block, _)| block);
        let copies = self.chain.iter().chain(lost).flat_map(|block| block.copies());
        let copies = copies.map(|copy| copy.position);
        let shadows = self.shadows.values().map(|shadow| shadow.position);
        for position in copies.chain(shadows) {
            if blocks.contains(position) {
                let expected = "a block named once";
                return Err(Error::damaged(position, Check::RedoList, expected, position));
            }
            blocks.insert(Run::single(position));
        }
        match self.shadows.keys().find(|&&home| blocks.contains(home)) {
            Some(&home) => {
                Err(Error::damaged(home, Check::RedoList, "a data block", "a block of the list"))
            }
            None => Ok(blocks),
        }
    }
}

pub(super) fn read_redo_block(
    device: &dyn Device,
    sealer: &Sealer,
    block: BlockRef,
) -> Result<Block> {
    let mut bytes = BlockBuffer::new();
    let none = Redirects::default();
    let opened = read_one(device, sealer, &none, KeyKind::Meta, block, &mut bytes)?;
    Ok(Block { head: opened.head, data: OwnedData::copy_of(opened.data) })
}

/// Checks the head of a block of the list. Its index is the number of blocks after it.
fn check_head(
    position: Position,
    head: BlockHead,
    index_before: Option<u32>,
    is_last: bool,
) -> Result<()> {
    if head.stream != REDO_STREAM {
        return Err(Error::tampered(position, Check::Stream, REDO_STREAM, head.stream));
    }
    let found = head.index.get();
    let follows = index_before.is_none_or(|before| before.checked_sub(1) == Some(found));
    if !follows || is_last != (found == 0) {
        let expected = "the number of blocks after it";
        return Err(Error::tampered(position, Check::Index, expected, found));
    }
    if let Some(found) = head.previous {
        return Err(Error::tampered(position, Check::PreviousLink, None, found));
    }
    if let Some(found) = head.next {
        return Err(Error::tampered(position, Check::NextLink, None, found));
    }
    Ok(())
}
