//! Reading sealed blocks: copied out of the device first, then authenticated, then compared
//! with what was expected.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use rayon::prelude::*;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Redirects, Store};
use crate::PlantedFault;
use crate::crypto::{BATCH_BLOCKS, KeyKind, Opened, Sealer};
use crate::device::Device;
use crate::error::{Check, Error, Result};
use crate::format::{
    BLOCK_SIZE, Block, BlockHead, BlockRef, DATA_SIZE, Generation, OwnedData, Position,
    RESERVED_BLOCKS, Run, plain, sealed,
};

/// Blocks that one thread reads and opens at a time: 256 KiB stay in its cache.
const CHUNK_BLOCKS: u32 = 64;
const CHUNK_BLOCKS_USIZE: usize = 64;

/// Room for one block on the heap. It holds plaintext once the block is opened, and is wiped when it is dropped.
pub(super) struct BlockBuffer(Box<[u8; BLOCK_SIZE]>);

impl BlockBuffer {
    pub(super) fn new() -> BlockBuffer {
        BlockBuffer(Box::new([0; BLOCK_SIZE]))
    }
}

impl Deref for BlockBuffer {
    type Target = [u8; BLOCK_SIZE];

    fn deref(&self) -> &[u8; BLOCK_SIZE] {
        &self.0
    }
}

impl DerefMut for BlockBuffer {
    fn deref_mut(&mut self) -> &mut [u8; BLOCK_SIZE] {
        &mut self.0
    }
}

impl ZeroizeOnDrop for BlockBuffer {}

impl Drop for BlockBuffer {
    fn drop(&mut self) {
        // As a slice, which is wiped at once and not byte by byte.
        self.0[..].zeroize();
    }
}

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Store {
    /// Opens one version of one block.
    ///
    /// The specification's name is `load_block`.
    #[doc(alias = "load_block")]
    pub fn read_block(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        block: BlockRef,
    ) -> Result<Block> {
        let mut bytes = BlockBuffer::new();
        let opened = self.read_into(redirects, kind, block, &mut bytes)?;
        Ok(Block { head: opened.head, data: OwnedData::copy_of(opened.data) })
    }

    /// Opens one version of one block in a buffer of the caller.
    pub fn read_into<'a>(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        block: BlockRef,
        bytes: &'a mut [u8; BLOCK_SIZE],
    ) -> Result<Opened<'a>> {
        self.check_usable()?;
        read_one(&*self.device, &self.sealer, redirects, kind, block, bytes)
    }

    /// Opens a run of blocks of one generation, in parallel, and puts their data one after another into `data`,
    /// which has room for exactly so many. `check` is given the place in the run and the head of each block.
    pub fn read_run<C>(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        run: Run,
        generation: Generation,
        data: &mut [u8],
        check: C,
    ) -> Result<()>
    where
        C: Fn(u32, &BlockHead) -> Result<()> + Sync,
    {
        self.check_usable()?;
        let mut parts = Vec::new();
        let (mut done, mut left) = (0, Some(run));
        while let Some((Some(part), rest)) = left.map(|left| left.split(CHUNK_BLOCKS)) {
            parts.push((done, part));
            done += part.count();
            left = rest;
        }
        let read = |(part, data): (&(u32, Run), &mut [u8])| {
            let &(before, part) = part;
            let check = |within: u32, head: &BlockHead| check(before + within, head);
            self.read_chunk(redirects, kind, (part, generation), data, &check)
        };
        let chunks = data.chunks_mut(CHUNK_BLOCKS_USIZE * DATA_SIZE);
        if parts.len() <= 1 {
            return parts.iter().zip(chunks).try_for_each(read);
        }
        let chunks = data.par_chunks_mut(CHUNK_BLOCKS_USIZE * DATA_SIZE);
        parts.par_iter().zip(chunks).try_for_each(read)
    }

    fn read_chunk(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        (run, generation): (Run, Generation),
        data: &mut [u8],
        check: &dyn Fn(u32, &BlockHead) -> Result<()>,
    ) -> Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            let needed = data.len() / DATA_SIZE * BLOCK_SIZE;
            if scratch.len() < needed {
                scratch.resize(needed, 0);
            }
            let scratch = &mut scratch[..needed];
            let outcome =
                self.read_into_scratch(redirects, kind, (run, generation), (scratch, data), check);
            // The thread stays when the archive is closed.
            scratch.zeroize();
            outcome
        })
    }

    fn read_into_scratch(
        &self,
        redirects: &Redirects,
        kind: KeyKind,
        (run, generation): (Run, Generation),
        (scratch, data): (&mut [u8], &mut [u8]),
        check: &dyn Fn(u32, &BlockHead) -> Result<()>,
    ) -> Result<()> {
        // A failure to read the whole chunk may be one bad sector: each block is then read by itself.
        let whole = redirects.is_empty() && self.device.read(run.start(), scratch).is_ok();
        let mut blocks = (0..).zip(run.positions());
        let batches = scratch.chunks_mut(BATCH_BLOCKS * BLOCK_SIZE);
        for (bytes, data) in batches.zip(data.chunks_mut(BATCH_BLOCKS * DATA_SIZE)) {
            let mut opened = [false; BATCH_BLOCKS];
            let opened = &mut opened[..bytes.len() / BLOCK_SIZE];
            if whole {
                let positions = blocks.clone().map(|(_, position)| position).take(opened.len());
                self.sealer.open_batch(kind, positions, bytes, opened);
            }
            let (bytes, _) = bytes.as_chunks_mut::<BLOCK_SIZE>();
            let outcomes = bytes.iter_mut().zip(opened).zip(data.chunks_exact_mut(DATA_SIZE));
            // Blocks come last, since `zip` takes from the first before it sees that the second is at its end.
            for (((bytes, opened), data), (within, position)) in outcomes.zip(blocks.by_ref()) {
                let block = BlockRef { position, generation };
                let found = if *opened && generation_in(bytes) == generation {
                    reopened(position, bytes)?
                } else {
                    read_one(&*self.device, &self.sealer, redirects, kind, block, bytes)?
                };
                check(within, &found.head)?;
                data.copy_from_slice(found.data);
            }
        }
        Ok(())
    }
}

impl Store {
    /// Opens one of the reserved blocks 1 to 6: the meta slots, and two blanks. The header and its copy are not
    /// sealed blocks.
    pub fn reserved_block(&self, position: Position) -> Result<Block> {
        self.check_usable()?;
        let kind = match position.get() {
            1..=4 => KeyKind::Meta,
            5 | 6 => KeyKind::Data,
            other => {
                return Err(Error::OutOfBounds {
                    what: "position of a reserved block",
                    found: other.into(),
                    allowed: "1 to 6".into(),
                });
            }
        };
        let mut bytes = BlockBuffer::new();
        self.device.read(position, &mut bytes[..])?;
        let opened = self.sealer.open_in_place(kind, position, &mut bytes)?;
        Ok(Block { head: opened.head, data: OwnedData::copy_of(opened.data) })
    }

    /// Every block that the redo list of a commit takes up: its chain and its spares.
    pub fn redo_blocks(&self, commit: &super::Commit) -> Result<super::RunSet> {
        Ok(super::redo::RedoList::read(&*self.device, &self.sealer, &commit.slot)?.blocks)
    }
}

/// Reads and opens one block. What fails its check is read once more, past the map: a write by this
/// very process may have been under way.
pub(super) fn read_one<'a>(
    device: &dyn Device,
    sealer: &Sealer,
    redirects: &Redirects,
    kind: KeyKind,
    block: BlockRef,
    bytes: &'a mut [u8; BLOCK_SIZE],
) -> Result<Opened<'a>> {
    if block.position.get() < RESERVED_BLOCKS {
        return Err(Error::damaged(
            block.position,
            Check::Root,
            "a block that is not reserved",
            block.position,
        ));
    }
    let source = redirects.source(block.position, block.generation);
    device.read(source, bytes)?;
    let first = sealer
        .open_in_place(kind, block.position, bytes)
        .is_ok_and(|opened| opened.generation == block.generation);
    if first {
        return reopened(block.position, bytes);
    }
    device.read_again(source, bytes)?;
    let opened = sealer.open_in_place(kind, block.position, bytes)?;
    if opened.generation != block.generation && !PlantedFault::IgnoreTheGeneration.is_planted() {
        return Err(Error::tampered(
            block.position,
            Check::Generation,
            block.generation,
            opened.generation,
        ));
    }
    Ok(opened)
}

/// Looks again at a block that was opened in place: its plaintext lies where its ciphertext lay.
fn reopened(position: Position, bytes: &[u8; BLOCK_SIZE]) -> Result<Opened<'_>> {
    let plaintext = sealed::CIPHERTEXT.of(bytes);
    let (head, _) = BlockHead::decode(position, plaintext)?;
    let data = plain::DATA.of(plaintext).try_into().expect("the length of the data field");
    Ok(Opened { generation: generation_in(bytes), head, data })
}

/// Generation of a sealed block: the first part of its nonce, which opening leaves as it is.
fn generation_in(bytes: &[u8; BLOCK_SIZE]) -> Generation {
    let mut generation = [0; Generation::SIZE];
    generation.copy_from_slice(&bytes[..Generation::SIZE]);
    Generation::decode(generation)
}
